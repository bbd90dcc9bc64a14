//! The integration tests, a file per theme.

mod corpus;
mod endings;
mod laws;
mod readings;
mod replay;
mod support;
