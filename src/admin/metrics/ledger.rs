//! How the ledger is doing. Owns the names of these series.

use std::fmt;

use super::page::{Labels, Page};
use crate::ledger::{Health, Problem, Word};

pub(super) fn write(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    matter(page, health)?;
    traffic(page, health)
}

/// What is the matter.
fn matter(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    let is_ok = u64::from(health.is_ok());
    page.gauge("ledger_ok", "1 while records are kept and reach the database", is_ok)?;
    let (problems, warnings) = (&health.problems, &health.warnings);
    let words = |words: &'static [Word], there| words.iter().map(move |word| one(*word, there));
    let help = "1 for what keeps records away";
    page.gauges("ledger_problem", help, words(&Word::PROBLEMS, problems))?;
    let help = "1 for what should be known";
    page.gauges("ledger_warning", help, words(&Word::WARNINGS, warnings))?;
    let is_refusing = u64::from(health.is_refusing);
    page.gauge("ledger_refusing", "1 while new calls are refused", is_refusing)?;
    let refused = health.refused_calls;
    page.counter("ledger_refused_calls", "Calls that could not be recorded", refused)?;
    if let Some(free) = health.disk_free_bytes {
        page.gauge("ledger_disk_free_bytes", "Room on the ledger's disk", free)?;
    }
    Ok(())
}

/// A series for each word, so that an alert finds it before there is a problem.
fn one(word: Word, there: &[Problem]) -> (Labels<'static>, u64) {
    let is_there = there.iter().any(|problem| problem.word == word);
    (vec![("word", word.as_str())], is_there.into())
}

/// What passes through the journal into the database.
fn traffic(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    let lag = health.journal_lag_bytes;
    page.gauge("journal_lag_bytes", "Journal that is not in the database", lag)?;
    let lag = health.journal_lag.as_secs_f64();
    page.gauge_of("journal_lag_seconds", "How old the oldest of it is", lag)?;
    let waiting = (health.waiting_lines as u64, health.waiting_bytes as u64);
    page.gauge("journal_waiting_lines", "Lines in memory only", waiting.0)?;
    page.gauge("journal_waiting_bytes", "Bytes of these lines", waiting.1)?;
    let dropped = health.dropped_lines;
    page.counter("journal_dropped_lines", "Lines lost for lack of memory", dropped)?;
    let unreadable = health.unreadable_lines;
    page.counter("journal_unreadable_lines", "Lines that say nothing", unreadable)?;
    page.counter("journal_syncs", "Times it was brought to the disk", health.syncs)?;
    page.counter("ledger_rows", "Rows put into the database", health.rows)?;
    page.counter("ledger_commits", "Transactions for these rows", health.commits)
}
