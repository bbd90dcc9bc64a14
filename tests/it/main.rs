//! The integration tests, a file per theme.

mod corpus;
mod house;
mod readings;
