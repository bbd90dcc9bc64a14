//! The integration tests, a file per theme.

mod corpus;
mod http2;
mod lifecycle;
mod readings;
mod rig;
mod tls;
mod tunnel;
mod wire;
