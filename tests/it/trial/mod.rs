//! Trials of the whole program: `tokenmeter` as a process of its own on a ledger of its own, a provider
//! that keeps count, clients that know what they had, and the reckoning between the three.
//!
//! Invariant: whatever a trial starts is gone when it ends, however it ends.

mod calls;
mod home;
mod provider;
mod reckoning;
mod traffic;

pub(crate) use calls::{Call, Kind};
pub(crate) use home::{Home, Running, Setup, TOKEN};
pub(crate) use provider::Provider;
pub(crate) use reckoning::{Reckoning, Rows, dump, integrity, open_readonly, reckon};
pub(crate) use traffic::{EVERYTHING, Lane, Traffic, ask};

use std::time::{Duration, Instant};

/// Longer than anything takes that is not broken, on a busy machine and without optimisation.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Waits for something that has no event to wait for; answers how long it took.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    since.elapsed()
}

/// A whole number from the environment.
pub(crate) fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is not a whole number: {text}"))
    })
}
