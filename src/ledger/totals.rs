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
use super::row::expected_error;
use crate::units::{Timestamp, Usd};

/// Durations of a group up to this many are ranked exactly; beyond, to within half a percent.
const EXACT_DURATIONS: usize = 4096;

/// Buckets per power of two: a bucket is at most 1/128 as wide as its values are large.
const SUB_BUCKETS_LOG2: u32 = 7;

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

/// What one call adds to a total, besides what its kind says.
#[derive(Debug)]
pub(super) struct Figures {
    tokens: [Option<u64>; TOKEN_COLUMNS],
    nanos: Option<i64>,
    duration: Option<u64>,
    first_token: Option<u64>,
    estimate_error: u64,
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
    /// Reads a row that has the columns of [`FIGURES`] from `first` on.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Figures> {
        let count = |column: usize| -> rusqlite::Result<Option<u64>> {
            let count = row.get::<_, Option<i64>>(first + column)?;
            Ok(count.and_then(|value| u64::try_from(value).ok()))
        };
        let mut tokens = [None; TOKEN_COLUMNS];
        for (column, slot) in tokens.iter_mut().enumerate() {
            *slot = count(column)?;
        }
        let note = first + TOKEN_COLUMNS + 3;
        Ok(Figures {
            tokens,
            nanos: row.get(first + TOKEN_COLUMNS)?,
            duration: count(TOKEN_COLUMNS + 1)?,
            first_token: count(TOKEN_COLUMNS + 2)?,
            estimate_error: expected_error(row.get_ref(note)?, row.get_ref(note + 1)?),
        })
    }
}

impl Tally {
    /// Adds the call of a moment, in milliseconds.
    pub(super) fn add(&mut self, at: i64, call: &Figures, counts: &Counts) {
        self.requests += 1;
        self.errors += u64::from(counts.failed);
        for (sum, tokens) in self.tokens.iter_mut().zip(call.tokens) {
            *sum = sum.saturating_add(tokens.unwrap_or_default());
        }
        self.nanos = self.nanos.saturating_add(call.nanos.unwrap_or_default().into());
        if counts.estimated {
            self.estimated += 1;
            let [.., total] = call.tokens;
            self.estimated_tokens = self.estimated_tokens.saturating_add(total.unwrap_or_default());
            self.estimate_error = self.estimate_error.saturating_add(call.estimate_error);
        }
        self.unreported += u64::from(counts.unreported);
        self.refetched += u64::from(counts.refetched);
        self.unpriced += u64::from(counts.unpriced);
        self.default_priced += u64::from(counts.default_priced);
        self.durations.add(call.duration);
        self.first_token.add(call.first_token);
        if let Some(duration) = call.duration {
            self.spread.add(duration);
        }
        let (first, last) = self.window.unwrap_or((at, at));
        self.window = Some((first.min(at), last.max(at)));
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

/// The bucket of a value: values below 256 have one each, above there are 128 to a power of two.
fn bucket(value: u64) -> usize {
    let shift = value.checked_ilog2().unwrap_or_default().saturating_sub(SUB_BUCKETS_LOG2);
    // At most 57 × 128 + 255.
    usize::try_from((u64::from(shift) << SUB_BUCKETS_LOG2) + (value >> shift)).unwrap_or_default()
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> SUB_BUCKETS_LOG2).saturating_sub(1);
    let lowest = (bucket - (shift << SUB_BUCKETS_LOG2)) << shift;
    lowest + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_bucket_is_within_half_a_percent(value in any::<u64>()) {
            let middle = middle(bucket(value));
            prop_assert!(middle.abs_diff(value) <= value / 250, "{value} -> {middle}");
        }
    }

    #[test]
    fn money_sums_beyond_any_column() {
        assert_eq!(dollars(i128::from(i64::MAX) * 2).to_string(), "18446744073.709551614");
        assert_eq!(dollars(1), Usd::from_nanos(1));
    }
}
