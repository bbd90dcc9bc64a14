//! What happens around the calls: pages of its own are asked for all the while, prices reloaded, the provider's address
//! refused. Counts what was asked and what was wrong about the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Shared;
use super::provider::Provider;

/// Each asked for in turn, one each half second.
const PAGES: [&str; 7] = [
    "/admin/stats",
    "/metrics",
    "/admin/usage?limit=50",
    "/admin/stats?days=1&group_by=model,operation",
    "/admin/live",
    "/healthz",
    "/readyz",
];
const BETWEEN: Duration = Duration::from_millis(500);

/// Looks, of half a second each.
const REFUSE_EVERY: u64 = 15;
const HANG_UP_EVERY: u64 = 61;
const PRICES_EVERY: u64 = 37;
const BROKEN_PRICES_EVERY: u64 = 181;

#[derive(Default)]
pub(super) struct Asked {
    pub(super) questions: AtomicU64,
    pub(super) wrong: AtomicU64,
    /// Milliseconds.
    pub(super) longest: AtomicU64,
    pub(super) reloads: AtomicU64,
    pub(super) broken_prices: AtomicU64,
    pub(super) refusals: AtomicU64,
}

pub(super) fn run(shared: &Arc<Shared>, provider: &Provider) {
    let asked = &shared.asked;
    for turn in 1.. {
        thread::sleep(BETWEEN);
        if shared.is_over() {
            return;
        }
        ask(shared, "GET", PAGES[usize::try_from(turn).unwrap() % PAGES.len()], &[200]);
        if turn % REFUSE_EVERY == 0 {
            asked.refusals.fetch_add(1, Ordering::SeqCst);
            provider.refuse();
        }
        if turn % HANG_UP_EVERY == 0 {
            shared.subject.change_prices(true);
            shared.subject.hang_up();
            asked.reloads.fetch_add(1, Ordering::SeqCst);
        }
        if turn % PRICES_EVERY == 0 {
            shared.subject.change_prices(true);
            ask(shared, "POST", "/admin/prices/reload", &[200]);
            asked.reloads.fetch_add(1, Ordering::SeqCst);
        }
        if turn % BROKEN_PRICES_EVERY == 0 {
            shared.subject.change_prices(false);
            ask(shared, "POST", "/admin/prices/reload", &[400, 409, 422, 500]);
            shared.subject.change_prices(true);
            asked.broken_prices.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn ask(shared: &Shared, method: &str, path: &str, right: &[u16]) {
    let (asked, since) = (&shared.asked, Instant::now());
    let kills = shared.kills();
    let said = shared.subject.ask(method, path);
    asked.questions.fetch_add(1, Ordering::SeqCst);
    let took = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Nobody answers while it is being killed.
    if kills % 2 == 1 || kills != shared.kills() {
        return;
    }
    asked.longest.fetch_max(took, Ordering::SeqCst);
    let is_right = said.as_ref().is_ok_and(|(status, _)| right.contains(status));
    if !is_right {
        asked.wrong.fetch_add(1, Ordering::SeqCst);
        println!("BROKEN {method} {path}: {said:?}");
    }
}
