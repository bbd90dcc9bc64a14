//! What many calls add up to. Owns the meaning of every figure in a total; knows neither how calls
//! are chosen nor how they are grouped.
//!
//! Invariant: sums saturate and never fail, and every total says how much of it was reported, how
//! much estimated, how much is unpriced.

use rusqlite::Row;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;
use serde_json::{Map, Value};

use super::kind::Counts;
use super::rollup::{self, Counted, Sums, SumsRef};
use super::row::expected_error;
use crate::units::{Timestamp, Usd};

/// Durations of a group up to this many are ranked exactly; beyond, to within half a percent.
const EXACT_DURATIONS: usize = 4096;

const SHOWN_PERCENTILES: [u64; 2] = [50, 95];

/// The figures of a set of calls. Sums count what is known; the counts of calls beside them say
/// how much that is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    pub requests: u64,
    /// Calls that did not end well: an outcome other than `completed`, a status of 400 or more, or an
    /// `error`.
    pub errors: u64,
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub audio_input_tokens: u64,
    pub image_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub audio_output_tokens: u64,
    pub image_output_tokens: u64,
    pub total_tokens: u64,
    pub cost_usd: Usd,
    /// Calls whose tokens tokenmeter estimated.
    pub estimated_requests: u64,
    /// The part of `total_tokens` that those calls are.
    pub estimated_tokens: u64,
    /// The error to be expected of `estimated_tokens`, either way: that of each call, added up.
    pub estimate_error_tokens: u64,
    /// The same as a share of `estimated_tokens`; null where nothing is estimated.
    #[serde(with = "rust_decimal::serde::arbitrary_precision_option")]
    pub estimate_error: Option<Decimal>,
    /// Calls whose tokens nobody knows.
    pub unreported_requests: u64,
    /// Calls that had only what another call is charged for.
    pub refetched_requests: u64,
    /// Calls that may well have cost something that `cost_usd` does not hold.
    pub unpriced_requests: u64,
    /// Calls priced by the default entry, for lack of a better one.
    pub default_priced_requests: u64,
    /// The part of the input that came from a cache, 0 to 1; null without input.
    #[serde(with = "rust_decimal::serde::arbitrary_precision_option")]
    pub cache_hit_rate: Option<Decimal>,
    #[serde(with = "rust_decimal::serde::arbitrary_precision_option")]
    pub avg_duration_ms: Option<Decimal>,
    pub p50_duration_ms: Option<u64>,
    pub p95_duration_ms: Option<u64>,
    #[serde(with = "rust_decimal::serde::arbitrary_precision_option")]
    pub avg_time_to_first_token_ms: Option<Decimal>,
}

/// The figures of the calls that have something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common: the name of each key asked for, and its value.
    pub key: Map<String, Value>,
    #[serde(flatten)]
    pub totals: Totals,
}

/// The columns of `calls` that [`Figures::read`] reads, in its order.
pub(super) const FIGURES: &str = "input_tokens, cache_read_tokens, cache_write_tokens, \
    audio_input_tokens, image_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens, \
    image_output_tokens, total_tokens, cost_usd, duration_ms, time_to_first_token_ms, \
    estimate_shape, estimate";

const TOKEN_COLUMNS: usize = 10;

/// What one call adds to a total, besides what its kind says: read from its row, with the meaning that
/// [`Sums`] gives a record's.
#[derive(Debug)]
pub(super) struct Figures {
    figures: [i64; rollup::FIGURES],
    duration: Option<u64>,
}

/// A total in the making.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: Sums,
    errors: i128,
    estimated: i128,
    estimated_tokens: i128,
    unreported: i128,
    refetched: i128,
    unpriced: i128,
    default_priced: i128,
    exact: Exact,
    /// The first and the last call's time, of calls that were added one by one.
    pub(super) window: Option<(i64, i64)>,
}

impl Figures {
    /// Reads a row that has the columns of [`FIGURES`] from `first` on.
    pub(super) fn read(row: &Row<'_>, first: usize, counts: Counts) -> rusqlite::Result<Figures> {
        // A negative count is nothing that tokenmeter ever wrote; it counts as unknown.
        let count = |column: usize| -> rusqlite::Result<Option<i64>> {
            Ok(row.get::<_, Option<i64>>(first + column)?.filter(|count| *count >= 0))
        };
        let mut figures = [0; rollup::FIGURES];
        let [requests, rest @ ..] = &mut figures;
        let (tokens, rest) = rest.split_at_mut(TOKEN_COLUMNS);
        *requests = 1;
        for (column, slot) in tokens.iter_mut().enumerate() {
            *slot = count(column)?.unwrap_or_default();
        }
        let (duration, first_token) = (count(TOKEN_COLUMNS + 1)?, count(TOKEN_COLUMNS + 2)?);
        let note = first + TOKEN_COLUMNS + 3;
        let error = if counts.estimated {
            expected_error(row.get_ref(note)?, row.get_ref(note + 1)?)
        } else {
            0
        };
        let others = [
            row.get::<_, Option<i64>>(first + TOKEN_COLUMNS)?.unwrap_or_default(),
            i64::try_from(error).unwrap_or(i64::MAX),
            duration.is_some().into(),
            duration.unwrap_or_default(),
            first_token.is_some().into(),
            first_token.unwrap_or_default(),
        ];
        rest.copy_from_slice(&others);
        Ok(Figures { figures, duration: duration.map(i64::unsigned_abs) })
    }
}

impl Tally {
    /// For one of few groups, which may have very many calls.
    pub(super) fn wide() -> Tally {
        Tally { sums: Sums::wide(), ..Tally::default() }
    }

    /// Adds the call of a moment, in milliseconds.
    pub(super) fn add(&mut self, at: i64, call: &Figures, counts: Counts) {
        self.sums.add_figures(&call.figures, call.duration);
        self.exact.add(call.duration);
        self.count(1, call.figures[TOKEN_COLUMNS].into(), counts);
        let (first, last) = self.window.unwrap_or((at, at));
        self.window = Some((first.min(at), last.max(at)));
    }

    /// Adds calls of one kind that were added up before; how many that were.
    pub(super) fn add_sums(&mut self, sums: SumsRef<'_>, counts: Counts) -> rusqlite::Result<i128> {
        let total = |sums: &Sums| sums.tokens().last().copied().unwrap_or_default();
        let before = (self.sums.requests(), total(&self.sums));
        sums.add_to(&mut self.sums)?;
        self.exact.give_up();
        let requests = self.sums.requests().wrapping_sub(before.0);
        self.count(requests, total(&self.sums).wrapping_sub(before.1), counts);
        Ok(requests)
    }

    /// Adds the calls of another total, which has none of these.
    pub(super) fn merge(&mut self, other: &Tally) {
        self.sums.merge(&other.sums);
        self.exact.merge(&other.exact);
        self.errors += other.errors;
        self.estimated += other.estimated;
        self.estimated_tokens += other.estimated_tokens;
        self.unreported += other.unreported;
        self.refetched += other.refetched;
        self.unpriced += other.unpriced;
        self.default_priced += other.default_priced;
        let windows = [self.window, other.window].into_iter().flatten();
        self.window = windows.reduce(|one, two| (one.0.min(two.0), one.1.max(two.1)));
    }

    fn count(&mut self, requests: i128, total_tokens: i128, counts: Counts) {
        if counts == Counts::default() {
            return;
        }
        let only = |is: bool, figure: i128| if is { figure } else { 0 };
        self.errors += only(counts.failed, requests);
        self.estimated += only(counts.estimated, requests);
        self.estimated_tokens += only(counts.estimated, total_tokens);
        self.unreported += only(counts.unreported, requests);
        self.refetched += only(counts.refetched, requests);
        self.unpriced += only(counts.unpriced, requests);
        self.default_priced += only(counts.default_priced, requests);
    }

    /// Whether there is nothing in it, as after all of it was taken back.
    pub(super) fn is_empty(&self) -> bool {
        self.sums.requests() == 0
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.window.map(|(first, _)| Timestamp::from_millis(first))
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        self.window.map(|(_, last)| Timestamp::from_millis(last))
    }

    pub(super) fn totals(&self) -> Totals {
        let tokens = |place: usize| whole(self.sums.tokens()[place]);
        let (input, cache_read) = (tokens(0), tokens(1));
        let estimate_error = whole(self.sums.estimate_error_tokens());
        let estimated_tokens = whole(self.estimated_tokens);
        let [p50_duration_ms, p95_duration_ms] = match &self.exact.0 {
            Some(_) => SHOWN_PERCENTILES.map(|percent| self.exact.percentile(percent)),
            None => self.sums.duration_percentiles(SHOWN_PERCENTILES),
        };
        Totals {
            requests: whole(self.sums.requests()),
            errors: whole(self.errors),
            input_tokens: input,
            cache_read_tokens: cache_read,
            cache_write_tokens: tokens(2),
            audio_input_tokens: tokens(3),
            image_input_tokens: tokens(4),
            output_tokens: tokens(5),
            reasoning_tokens: tokens(6),
            audio_output_tokens: tokens(7),
            image_output_tokens: tokens(8),
            total_tokens: tokens(9),
            cost_usd: dollars(self.sums.nanos()),
            estimated_requests: whole(self.estimated),
            estimated_tokens,
            estimate_error_tokens: estimate_error,
            estimate_error: ratio(estimate_error.into(), estimated_tokens, 4),
            unreported_requests: whole(self.unreported),
            refetched_requests: whole(self.refetched),
            unpriced_requests: whole(self.unpriced),
            default_priced_requests: whole(self.default_priced),
            cache_hit_rate: ratio(cache_read.into(), input, 4),
            avg_duration_ms: mean(self.sums.duration()),
            p50_duration_ms,
            p95_duration_ms,
            avg_time_to_first_token_ms: mean(self.sums.first_token()),
        }
    }
}

/// A sum as it is shown: it saturates.
fn whole(sum: i128) -> u64 {
    u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
}

fn mean(counted: Counted) -> Option<Decimal> {
    ratio(counted.sum.max(0).unsigned_abs(), whole(counted.count), 1)
}

fn dollars(nanos: i128) -> Usd {
    match Decimal::try_from_i128_with_scale(nanos, 9) {
        Ok(amount) => Usd::new(amount),
        Err(_) => Usd::new(if nanos < 0 { Decimal::MIN } else { Decimal::MAX }),
    }
}

fn ratio(part: u128, whole: u64, places: u32) -> Option<Decimal> {
    let part = i128::try_from(part).ok().and_then(|p| Decimal::try_from_i128_with_scale(p, 0).ok());
    let ratio = part?.checked_div(Decimal::from(whole))?;
    let rounded = ratio.round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero);
    Some(rounded.normalize())
}

/// Every duration, while they are few.
#[derive(Debug)]
struct Exact(Option<Vec<u64>>);

impl Default for Exact {
    fn default() -> Exact {
        Exact(Some(Vec::new()))
    }
}

impl Exact {
    fn add(&mut self, duration: Option<u64>) {
        if let (Some(durations), Some(duration)) = (&mut self.0, duration) {
            durations.push(duration);
            if durations.len() > EXACT_DURATIONS {
                self.give_up();
            }
        }
    }

    fn merge(&mut self, other: &Exact) {
        match &other.0 {
            Some(durations) => durations.iter().for_each(|duration| self.add(Some(*duration))),
            None => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        self.0 = None;
    }

    /// The smallest value that at least `percent` of all do not exceed; nothing where there is none, or
    /// not every one is known here.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let mut durations = self.0.clone()?;
        let rank = (durations.len() as u64 * percent).div_ceil(100).max(1) - 1;
        let rank = usize::try_from(rank).unwrap_or_default();
        (rank < durations.len()).then(|| *durations.select_nth_unstable(rank).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_set_while_it_is_small() {
        let mut exact = Exact::default();
        assert_eq!(exact.percentile(50), None);
        (1..=10).rev().for_each(|value| exact.add(Some(value * 1000)));
        assert_eq!(exact.percentile(50), Some(5000));
        assert_eq!(exact.percentile(95), Some(10_000));
        (0..5000).for_each(|value| exact.add(Some(value)));
        assert_eq!(exact.percentile(50), None);
    }

    #[test]
    fn money_sums_beyond_any_column() {
        assert_eq!(dollars(i128::from(i64::MAX) * 2).to_string(), "18446744073.709551614");
        assert_eq!(dollars(1), Usd::from_nanos(1));
    }
}
