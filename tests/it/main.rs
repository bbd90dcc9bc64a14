//! The integration tests, a file per theme.

// Every line here belongs to a test, where to unwrap is to assert.
#![allow(clippy::unwrap_used)]

mod corpus;
mod doctor;
mod endings;
mod estimates;
mod house;
mod http2;
mod injection;
mod laws;
mod leaving;
mod lifecycle;
mod readings;
mod recovery;
mod replay;
mod rig;
mod sessions;
mod support;
mod tls;
mod tunnel;
mod unreported;
mod wire;
