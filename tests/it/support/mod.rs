//! What the tests on a wire stand on: a real proxy in this process, a raw client before it, a scripted
//! raw upstream behind it. All three are plain threads and blocking sockets, so that a test says in
//! which order bytes move.
//!
//! No test waits for time to pass. What must come after something else waits for that: a piece of an
//! answer for the client to have the one before ([`Seen`]), a row for the proxy to have stopped.

mod answer;
mod client;
mod coding;
mod http1;
mod proxy;
mod random;
mod upstream;
mod websocket;

pub(crate) use answer::{Answer, Framing, Pace};
pub(crate) use client::{Ask, Client, Upload};
pub(crate) use coding::{Coding, encode};
pub(crate) use http1::{Ending, Fields, Message};
pub(crate) use proxy::{Proxy, Rows, Setup};
pub(crate) use random::Random;
pub(crate) use upstream::{Script, Seen, Step, Upstream};
pub(crate) use websocket::Speaker;

use std::time::Duration;

/// After this long without a byte a test is stuck, and says so instead of hanging.
pub(crate) const STUCK: Duration = Duration::from_secs(30);
