//! What many calls add up to. Owns the meaning of every figure in a total; knows neither how calls
//! are chosen nor how they are grouped.
//!
//! Invariant: sums saturate and never fail, and every total says how much of it was reported, how
//! much estimated, how much is unpriced.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::sketch::{bucket, middle};
use crate::units::{Timestamp, Usd};

/// Durations of a group up to this many are ranked exactly; beyond, to within half a percent.
const EXACT_DURATIONS: usize = 4096;

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

/// The columns that [`Tally::add`] reads, in its order.
pub(super) const FIGURES: &str = "created_at, input_tokens, cache_read_tokens, cache_write_tokens, \
    audio_input_tokens, image_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens, \
    image_output_tokens, total_tokens, cost_usd, duration_ms, time_to_first_token_ms, \
    usage_source, cost_source, outcome, status, method, error IS NOT NULL, estimate, \
    charged_by IS NOT NULL";

/// How many columns that is.
pub(super) const FIGURE_COLUMNS: usize = 22;

const TOKEN_COLUMNS: usize = 10;

/// What matters of one call when calls are added up.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) created_at: i64,
    tokens: [Option<u64>; TOKEN_COLUMNS],
    nanos: Option<i64>,
    duration: Option<u64>,
    first_token: Option<u64>,
    estimated: bool,
    estimate_error: u64,
    unreported: bool,
    refetched: bool,
    unpriced: bool,
    default_priced: bool,
    failed: bool,
}

/// A total in the making. Tallies of disjoint sets of calls can be merged into that of their union.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: u64,
    errors: u64,
    tokens: [u64; TOKEN_COLUMNS],
    nanos: i128,
    estimated: u64,
    estimated_tokens: u64,
    estimate_error: u64,
    unreported: u64,
    refetched: u64,
    unpriced: u64,
    default_priced: u64,
    durations: Mean,
    spread: Spread,
    first_token: Mean,
    /// The first and the last call's time.
    pub(super) window: Option<(i64, i64)>,
}

impl Figures {
    /// Reads a row that starts with the columns of [`FIGURES`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Figures> {
        let count = |column: usize| -> rusqlite::Result<Option<u64>> {
            Ok(row.get::<_, Option<i64>>(column)?.and_then(|value| u64::try_from(value).ok()))
        };
        let mut tokens = [None; TOKEN_COLUMNS];
        for (column, slot) in (1..).zip(&mut tokens) {
            *slot = count(column)?;
        }
        let word = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let (usage, cost, outcome, method) = (word(14)?, word(15)?, word(16)?, word(18)?);
        let status: Option<i64> = row.get(17)?;
        let refused_by_provider = status.is_some_and(|status| status >= 400);
        let refetched: bool = row.get(21)?;
        let estimated = usage == "estimated" && !refetched;
        Ok(Figures {
            created_at: row.get(0)?,
            tokens,
            nanos: row.get(11)?,
            duration: count(12)?,
            first_token: count(13)?,
            estimated,
            estimate_error: if estimated { expected_error(row.get_ref(20)?) } else { 0 },
            unreported: usage == "none" && !refetched,
            refetched,
            unpriced: cost == "none"
                && !refetched
                && !(usage == "none"
                    && (refused_by_provider || outcome == "refused" || only_asks(method, status))),
            default_priced: cost == "default",
            failed: refused_by_provider || outcome != "completed" || row.get(19)?,
        })
    }
}

/// The one figure of an estimate's note that can be added up. Read here and not by SQL, so that the
/// many rows without a note cost nothing.
fn expected_error(estimate: ValueRef<'_>) -> u64 {
    #[derive(Deserialize)]
    struct Note {
        error_tokens: u64,
    }
    let ValueRef::Text(text) = estimate else { return 0 };
    serde_json::from_slice::<Note>(text).map_or(0, |note| note.error_tokens)
}

/// Listing models or fetching a file costs nothing; a WebSocket also starts with `GET`, and does.
fn only_asks(method: &str, status: Option<i64>) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE") && status != Some(101)
}

impl Tally {
    pub(super) fn add(&mut self, call: &Figures) {
        self.requests += 1;
        self.errors += u64::from(call.failed);
        for (sum, tokens) in self.tokens.iter_mut().zip(call.tokens) {
            *sum = sum.saturating_add(tokens.unwrap_or_default());
        }
        self.nanos = self.nanos.saturating_add(call.nanos.unwrap_or_default().into());
        if call.estimated {
            self.estimated += 1;
            let [.., total] = call.tokens;
            self.estimated_tokens = self.estimated_tokens.saturating_add(total.unwrap_or_default());
            self.estimate_error = self.estimate_error.saturating_add(call.estimate_error);
        }
        self.unreported += u64::from(call.unreported);
        self.refetched += u64::from(call.refetched);
        self.unpriced += u64::from(call.unpriced);
        self.default_priced += u64::from(call.default_priced);
        self.durations.add(call.duration);
        self.first_token.add(call.first_token);
        if let Some(duration) = call.duration {
            self.spread.add(duration);
        }
        let (first, last) = self.window.unwrap_or((call.created_at, call.created_at));
        self.window = Some((first.min(call.created_at), last.max(call.created_at)));
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.window.map(|(first, _)| Timestamp::from_millis(first))
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        self.window.map(|(_, last)| Timestamp::from_millis(last))
    }

    pub(super) fn totals(&mut self) -> Totals {
        let [input, cache_read, cache_write, audio_input, image_input, rest @ ..] = self.tokens;
        let [output, reasoning, audio_output, image_output, total] = rest;
        Totals {
            requests: self.requests,
            errors: self.errors,
            input_tokens: input,
            cache_read_tokens: cache_read,
            cache_write_tokens: cache_write,
            audio_input_tokens: audio_input,
            image_input_tokens: image_input,
            output_tokens: output,
            reasoning_tokens: reasoning,
            audio_output_tokens: audio_output,
            image_output_tokens: image_output,
            total_tokens: total,
            cost_usd: dollars(self.nanos),
            estimated_requests: self.estimated,
            estimated_tokens: self.estimated_tokens,
            estimate_error_tokens: self.estimate_error,
            estimate_error: ratio(self.estimate_error.into(), self.estimated_tokens, 4),
            unreported_requests: self.unreported,
            refetched_requests: self.refetched,
            unpriced_requests: self.unpriced,
            default_priced_requests: self.default_priced,
            cache_hit_rate: ratio(cache_read.into(), input, 4),
            avg_duration_ms: self.durations.mean(),
            p50_duration_ms: self.spread.percentile(50),
            p95_duration_ms: self.spread.percentile(95),
            avg_time_to_first_token_ms: self.first_token.mean(),
        }
    }
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

#[derive(Debug, Default)]
struct Mean {
    count: u64,
    sum: u128,
}

impl Mean {
    fn add(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.count += 1;
            self.sum += u128::from(value);
        }
    }

    fn mean(&self) -> Option<Decimal> {
        ratio(self.sum, self.count, 1)
    }
}

/// How durations are spread: every one while they are few, then counts in buckets.
#[derive(Debug)]
enum Spread {
    Exact(Vec<u64>),
    Buckets { counts: Vec<u64>, total: u64 },
}

impl Default for Spread {
    fn default() -> Spread {
        Spread::Exact(Vec::new())
    }
}

impl Spread {
    fn add(&mut self, value: u64) {
        match self {
            Spread::Exact(values) if values.len() < EXACT_DURATIONS => values.push(value),
            Spread::Exact(values) => {
                let values = std::mem::take(values);
                *self = Spread::Buckets { counts: Vec::new(), total: 0 };
                values.into_iter().chain([value]).for_each(|value| self.add(value));
            }
            Spread::Buckets { counts, total } => {
                let bucket = bucket(value);
                if counts.len() <= bucket {
                    counts.resize(bucket + 1, 0);
                }
                counts[bucket] += 1;
                *total += 1;
            }
        }
    }

    /// The smallest value that at least `percent` of all do not exceed.
    fn percentile(&mut self, percent: u64) -> Option<u64> {
        match self {
            Spread::Exact(values) if values.is_empty() => None,
            Spread::Exact(values) => {
                let rank = (values.len() as u64 * percent).div_ceil(100).max(1) - 1;
                let rank = usize::try_from(rank).unwrap_or_default();
                Some(*values.select_nth_unstable(rank).1)
            }
            Spread::Buckets { counts, total } => {
                let rank = (*total * percent).div_ceil(100).max(1);
                let mut seen = 0;
                let reached = counts.iter().position(|count| {
                    seen += count;
                    seen >= rank
                });
                reached.map(middle)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_set_while_it_is_small() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(50), None);
        (1..=10).rev().for_each(|value| spread.add(value * 1000));
        assert_eq!(spread.percentile(50), Some(5000));
        assert_eq!(spread.percentile(95), Some(10_000));
    }

    #[test]
    fn percentiles_of_large_sets_are_close() {
        let mut spread = Spread::default();
        (0..100_000).for_each(|value| spread.add(value));
        assert!(matches!(spread, Spread::Buckets { .. }));
        let p95 = spread.percentile(95).unwrap();
        assert!((94_500..95_500).contains(&p95), "{p95}");
    }

    #[test]
    fn money_sums_beyond_any_column() {
        assert_eq!(dollars(i128::from(i64::MAX) * 2).to_string(), "18446744073.709551614");
        assert_eq!(dollars(1), Usd::from_nanos(1));
    }
}
