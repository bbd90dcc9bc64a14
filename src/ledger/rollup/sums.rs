//! What is summed of a call. Owns the figures, their order, and how a record counts in them; knows
//! neither tables nor bytes.
//!
//! Invariant: adding and then removing a record leaves the sums as they were, whatever it holds.

use super::super::sketch::{self, Sketch};
use crate::record::Record;
use crate::units::Usd;
use crate::usage::UsageSource;

/// Figures of [`Sums`], in the order in which they are written.
pub(in crate::ledger) const FIGURES: usize = 17;
pub(super) const REQUESTS: usize = 0;
pub(super) const INPUT: usize = 1;
pub(super) const OUTPUT: usize = 6;
pub(super) const TOTAL: usize = 10;
const NANOS: usize = 11;
const ESTIMATE_ERROR: usize = 12;
pub(super) const DURATIONS: usize = 13;
pub(super) const DURATION_SUM: usize = 14;
pub(super) const FIRST_TOKENS: usize = 15;
const FIRST_TOKEN_SUM: usize = 16;

/// The columns of tokens, in the order of `totals::FIGURES`.
const TOKENS: std::ops::Range<usize> = INPUT..NANOS;

/// What some calls add up to. Differences are sums too, so a figure may be negative. A record gives
/// at most 64 bits to each, which 128 bits do not overflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ledger) struct Sums {
    pub(super) figures: [i128; FIGURES],
    pub(super) sketch: Sketch,
}

/// How many calls have a figure, and its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Counted {
    pub(in crate::ledger) count: i128,
    pub(in crate::ledger) sum: i128,
}

/// What has been recorded: calls, tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub requests: i128,
    /// By class, in the order of [`Recorded::CLASSES`].
    pub tokens: [i128; Recorded::CLASSES.len()],
    /// Nano-dollars.
    pub cost_nanos: i128,
}

impl Recorded {
    /// The columns of tokens without their endings, in the order in which they are summed.
    pub const CLASSES: [&str; 10] = [
        "input",
        "cache_read",
        "cache_write",
        "audio_input",
        "image_input",
        "output",
        "reasoning",
        "audio_output",
        "image_output",
        "total",
    ];

    /// What one call comes to.
    pub fn of(record: &Record) -> Recorded {
        let figures = figures(record);
        let mut tokens = [0; Recorded::CLASSES.len()];
        tokens.copy_from_slice(&figures[TOKENS]);
        Recorded { requests: figures[REQUESTS], tokens, cost_nanos: figures[NANOS] }
    }

    pub fn add(&mut self, other: &Recorded) {
        self.merge(other, i128::wrapping_add);
    }

    /// Takes back what was added.
    pub fn take(&mut self, other: &Recorded) {
        self.merge(other, i128::wrapping_sub);
    }

    /// Raises each figure to at least that of another: what is counted up must not go down because an estimate was
    /// replaced by something smaller.
    pub fn raise(&mut self, other: &Recorded) {
        self.merge(other, i128::max);
    }

    fn merge(&mut self, other: &Recorded, with: impl Fn(i128, i128) -> i128) {
        self.requests = with(self.requests, other.requests);
        for (figure, other) in self.tokens.iter_mut().zip(other.tokens) {
            *figure = with(*figure, other);
        }
        self.cost_nanos = with(self.cost_nanos, other.cost_nanos);
    }
}

impl Sums {
    /// For the sums of very many calls.
    pub(in crate::ledger) fn wide() -> Sums {
        Sums { sketch: Sketch::wide(), ..Sums::default() }
    }

    /// Counts a call.
    pub(in crate::ledger) fn add(&mut self, record: &Record) {
        self.count(record, 1);
    }

    /// Takes back a call that was counted, which must be as it was then.
    pub(in crate::ledger) fn remove(&mut self, record: &Record) {
        self.count(record, -1);
    }

    /// Counts a call whose figures were read from its row.
    pub(in crate::ledger) fn add_figures(&mut self, call: &[i64; FIGURES], duration: Option<u64>) {
        for (sum, figure) in self.figures.iter_mut().zip(call) {
            *sum = sum.wrapping_add(i128::from(*figure));
        }
        if let Some(duration) = duration {
            self.sketch.add(sketch::bucket(duration), 1);
        }
    }

    pub(in crate::ledger) fn merge(&mut self, other: &Sums) {
        for (sum, figure) in self.figures.iter_mut().zip(other.figures) {
            *sum = sum.wrapping_add(figure);
        }
        self.sketch.merge(&other.sketch);
    }

    /// Takes back what was merged.
    pub(super) fn take(&mut self, other: &Sums) {
        for (sum, figure) in self.figures.iter_mut().zip(other.figures) {
            *sum = sum.wrapping_sub(figure);
        }
        other.sketch.counts().for_each(|(bucket, count)| self.sketch.add(bucket, -count));
    }

    /// Whether nothing is left.
    pub(in crate::ledger) fn is_zero(&self) -> bool {
        self.figures == [0; FIGURES] && self.sketch.counts().next().is_none()
    }

    pub(in crate::ledger) fn requests(&self) -> i128 {
        self.figures[REQUESTS]
    }

    /// In the order of `totals::FIGURES`.
    pub(in crate::ledger) fn tokens(&self) -> &[i128] {
        &self.figures[TOKENS]
    }

    /// Nano-dollars.
    pub(in crate::ledger) fn nanos(&self) -> i128 {
        self.figures[NANOS]
    }

    /// Of the calls whose tokens are estimated, and charged to them.
    pub(in crate::ledger) fn estimate_error_tokens(&self) -> i128 {
        self.figures[ESTIMATE_ERROR]
    }

    /// Milliseconds.
    pub(in crate::ledger) fn duration(&self) -> Counted {
        Counted { count: self.figures[DURATIONS], sum: self.figures[DURATION_SUM] }
    }

    /// Milliseconds.
    pub(in crate::ledger) fn first_token(&self) -> Counted {
        Counted { count: self.figures[FIRST_TOKENS], sum: self.figures[FIRST_TOKEN_SUM] }
    }

    /// For each of some percentages, the smallest duration that at least so many of all do not exceed, to
    /// within half a percent.
    pub(in crate::ledger) fn duration_percentiles<const N: usize>(
        &self,
        percents: [u64; N],
    ) -> [Option<u64>; N] {
        self.sketch.percentiles(percents)
    }

    fn count(&mut self, record: &Record, sign: i64) {
        for (sum, figure) in self.figures.iter_mut().zip(figures(record)) {
            *sum = sum.wrapping_add(figure.wrapping_mul(sign.into()));
        }
        if let Some(duration) = record.duration_ms {
            self.sketch.add(sketch::bucket(stored(duration)), sign);
        }
    }
}

fn figures(record: &Record) -> [i128; FIGURES] {
    let count = |value: Option<u64>| i128::from(value.map_or(0, stored));
    let known = |value: Option<u64>| i128::from(value.is_some());
    let is_estimated = record.usage_source == UsageSource::Estimated && record.charged_by.is_none();
    let note = record.estimate.as_ref().filter(|_| is_estimated);
    [
        1,
        count(record.input_tokens),
        count(record.cache_read_tokens),
        count(record.cache_write_tokens),
        count(record.audio_input_tokens),
        count(record.image_input_tokens),
        count(record.output_tokens),
        count(record.reasoning_tokens),
        count(record.audio_output_tokens),
        count(record.image_output_tokens),
        count(record.total_tokens),
        record.cost_usd.map_or(0, Usd::nanos).into(),
        count(note.map(|note| note.error_tokens)),
        known(record.duration_ms),
        count(record.duration_ms),
        known(record.time_to_first_token_ms),
        count(record.time_to_first_token_ms),
    ]
}

/// A count as its column holds it, so that a row read back is the record that was counted.
fn stored(count: u64) -> u64 {
    count.min(i64::MAX.unsigned_abs())
}
