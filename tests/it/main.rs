//! The integration tests, a file per theme.

mod corpus;
mod endings;
mod readings;
mod replay;
mod support;
