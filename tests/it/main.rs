//! The integration tests, a file per theme.

mod corpus;
mod readings;
mod replay;
mod support;
