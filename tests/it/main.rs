//! The integration tests, a file per theme.

// Every line here belongs to a test, where to unwrap is to assert.
#![allow(clippy::unwrap_used)]

mod corpus;
mod endings;
mod house;
mod laws;
mod readings;
mod replay;
mod support;
