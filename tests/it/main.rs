//! The integration tests, a file per theme.

// What plays the peers stands outside of test functions.
#![allow(clippy::unwrap_used)]

mod corpus;
mod http2;
mod lifecycle;
mod readings;
mod rig;
mod tls;
mod tunnel;
mod wire;
