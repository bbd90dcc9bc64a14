//! Who has failed to get in too often. Owns the count of failures by address, which forgets; knows neither
//! tokens nor pages.
//!
//! Invariant: its memory is bounded, and what one address does shuts out no other.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that an address has at once, and how often it gets another one: slow enough that nobody guesses
/// 16 characters, fast enough that a scrape with an old token every 15 seconds never gets there.
const BURST: u32 = 20;
const AGAIN: Duration = Duration::from_secs(2);

/// Addresses that are remembered; beyond, the one whose last failure is longest ago is forgotten.
const ADDRESSES: usize = 1024;

/// Failures by address.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// When all failures of each will be forgotten.
    clean: Mutex<HashMap<IpAddr, Instant>>,
}

impl Guard {
    /// Nothing, or how long an address has to wait before it may try again.
    pub(super) fn wait(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let clean = self.clean.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = clean.get(&network(from))?.saturating_duration_since(now);
        let wait = (owed + AGAIN).saturating_sub(AGAIN * BURST);
        (!wait.is_zero()).then_some(wait)
    }

    /// An address has failed once more.
    pub(super) fn failed(&self, from: IpAddr, now: Instant) {
        let from = network(from);
        let mut clean = self.clean.lock().unwrap_or_else(PoisonError::into_inner);
        if clean.len() >= ADDRESSES && !clean.contains_key(&from) {
            clean.retain(|_, when| *when > now);
            let first = clean.iter().min_by_key(|(_, when)| **when).map(|(address, _)| *address);
            if let Some(first) = first.filter(|_| clean.len() >= ADDRESSES) {
                clean.remove(&first);
            }
        }
        let when = clean.entry(from).or_insert(now);
        *when = (*when).max(now) + AGAIN;
    }
}

/// Whoever has one address of IPv6 has the other 2^64 of its network too.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fails_often_waits_and_nobody_else_does() {
        let guard = Guard::default();
        let (now, us) = (Instant::now(), address("10.0.0.1"));
        for _ in 0..BURST {
            assert_eq!(guard.wait(us, now), None);
            guard.failed(us, now);
        }
        assert_eq!(guard.wait(us, now), Some(AGAIN));
        assert_eq!(guard.wait(address("::ffff:10.0.0.1"), now), Some(AGAIN));
        assert_eq!(guard.wait(address("10.0.0.2"), now), None);
        let later = now + AGAIN;
        assert_eq!(guard.wait(us, later), None);
        guard.failed(us, later);
        assert_eq!(guard.wait(us, later), Some(AGAIN));
        assert_eq!(guard.wait(us, later + AGAIN * BURST), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let (guard, now) = (Guard::default(), Instant::now());
        for last in 0..BURST {
            guard.failed(address(&format!("2001:db8:1:2::{last:x}")), now);
        }
        assert!(guard.wait(address("2001:db8:1:2:ffff::9"), now).is_some());
        assert_eq!(guard.wait(address("2001:db8:1:3::1"), now), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_are_kept() {
        let (guard, now) = (Guard::default(), Instant::now());
        let worst = address("10.0.0.1");
        for _ in 0..BURST {
            guard.failed(worst, now);
        }
        for number in 0..100_000_u32 {
            guard.failed(IpAddr::from(number.wrapping_mul(7919).to_be_bytes()), now);
        }
        assert!(guard.clean.lock().unwrap().len() <= ADDRESSES);
        assert!(guard.wait(worst, now).is_some());
        guard.failed(address("10.0.0.2"), now + Duration::from_hours(1));
        assert_eq!(guard.clean.lock().unwrap().len(), 1);
    }
}
