//! tokenmeter as other people's programs see it: a terminal (tmux), Prometheus, a fuzzer of API descriptions, nginx
//! and Caddy, systemd; and what came along with it.
//!
//! `cargo test --test others` needs `tmux`, `promtool`, `prometheus`, `nginx`, `caddy`, `systemd-analyze` and, in
//! `SCHEMATHESIS`, the place of schemathesis; `cargo test` leaves it out, and `.ci/run` installs them.

// Every line here belongs to a test, where to unwrap is to assert.
#![allow(clippy::unwrap_used)]

#[path = "../it/smuggling/cases.rs"]
mod cases;
mod dependencies;
mod deploying;
mod front;
mod peers;
mod prometheus;
mod schemathesis;
#[path = "../it/smuggling/strict.rs"]
mod strict;
mod terminal;
mod tmux;
