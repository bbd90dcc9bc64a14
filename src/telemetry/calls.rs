//! Figures of the calls that are in the ledger. Owns what is counted of a call; the meaning of each figure is
//! that of the ledger's totals.
//!
//! Invariant: what is counted up never goes down, whatever rows are amended to.

use super::histogram::{Buckets, Histogram};
use super::label::Label;
use super::sets::Sets;
use crate::ledger::{Counts, Recorded};
use crate::record::{Outcome, Record};

/// Sets of durations at most: each is some fifty lines of metrics.
const LATENCY_SETS: usize = 200;

/// Statuses that are told apart; of others only the first digit is shown.
const STATUSES: [u16; 33] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408,
    409, 413, 415, 422, 424, 429, 431, 499, 500, 501, 502, 503, 504, 529,
];

/// All figures.
#[derive(Clone, Debug)]
pub struct Calls {
    figures: Sets<CallFigures>,
    latency: Sets<Latency>,
}

/// Of calls with the same labels.
#[derive(Clone, Debug, Default)]
pub struct CallFigures {
    /// By outcome and status.
    pub ended: Vec<(Outcome, &'static str, u64)>,
    sums: Sums,
    /// The most that the sums have been.
    shown: Sums,
}

/// What rows add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    recorded: Recorded,
    counts: [i64; 5],
}

/// What is shown of calls with the same labels.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub recorded: Recorded,
    pub failed: u64,
    pub estimated: u64,
    pub unreported: u64,
    pub unpriced: u64,
    pub default_priced: u64,
}

/// How long calls took.
#[derive(Clone, Debug)]
pub struct Latency {
    pub duration: Histogram,
    pub first_byte: Histogram,
    pub first_token: Histogram,
    pub per_token: Histogram,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            duration: Histogram::new(Buckets::Duration),
            first_byte: Histogram::new(Buckets::First),
            first_token: Histogram::new(Buckets::First),
            per_token: Histogram::new(Buckets::PerToken),
        }
    }
}

impl Calls {
    pub(super) fn new(labels: Vec<Label>, most: usize) -> Calls {
        let of_latency = labels.iter().filter(|label| label.is_of_latency()).cloned().collect();
        let latency = Sets::new(of_latency, LATENCY_SETS);
        Calls { figures: Sets::new(labels, most), latency }
    }

    pub(super) fn recorded(&mut self, record: &Record) {
        let figures = self.figures.of_new(record);
        figures.ended(record);
        figures.sums.add(&Sums::of(record));
        figures.shown.raise(&figures.sums);
        self.latency.of_new(record).observe(record);
    }

    pub(super) fn corrected(&mut self, before: &Record, after: &Record) {
        self.figures.of(before).sums.take(&Sums::of(before));
        let figures = self.figures.of(after);
        figures.sums.add(&Sums::of(after));
        figures.shown.raise(&figures.sums);
    }

    /// The names of the labels of [`Calls::sets`].
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.figures.labels.iter().map(Label::name)
    }

    /// Each set's values, in the order of the labels, and its figures.
    pub fn sets(&self) -> impl Iterator<Item = (&[String], &CallFigures)> {
        self.figures.known.iter().map(|(values, figures)| (values.as_slice(), figures))
    }

    /// The names of the labels of [`Calls::latency`].
    pub fn latency_labels(&self) -> impl Iterator<Item = &str> {
        self.latency.labels.iter().map(Label::name)
    }

    /// The same for durations.
    pub fn latency(&self) -> impl Iterator<Item = (&[String], &Latency)> {
        self.latency.known.iter().map(|(values, latency)| (values.as_slice(), latency))
    }

    /// Calls that were counted under `other`, because there were too many label sets.
    pub fn overflowed(&self) -> u64 {
        self.figures.overflowed
    }

    /// The same of their durations.
    pub fn latency_overflowed(&self) -> u64 {
        self.latency.overflowed
    }
}

impl CallFigures {
    /// What they add up to.
    pub fn told(&self) -> Told {
        let [failed, estimated, unreported, unpriced, default_priced] =
            self.shown.counts.map(|count| u64::try_from(count).unwrap_or_default());
        let recorded = self.shown.recorded;
        Told { recorded, failed, estimated, unreported, unpriced, default_priced }
    }

    fn ended(&mut self, record: &Record) {
        let (outcome, status) = (record.outcome, status(record.status));
        let known = self.ended.iter_mut();
        match known.into_iter().find(|(o, s, _)| (*o, *s) == (outcome, status)) {
            Some((.., count)) => *count += 1,
            None => self.ended.push((outcome, status, 1)),
        }
    }
}

impl Sums {
    fn of(record: &Record) -> Sums {
        let Counts { failed, estimated, unreported, unpriced, default_priced, .. } =
            Counts::of_record(record);
        let counts = [failed, estimated, unreported, unpriced, default_priced].map(i64::from);
        Sums { recorded: Recorded::of(record), counts }
    }

    fn add(&mut self, other: &Sums) {
        self.recorded.add(&other.recorded);
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count += other;
        }
    }

    fn take(&mut self, other: &Sums) {
        self.recorded.take(&other.recorded);
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count -= other;
        }
    }

    fn raise(&mut self, other: &Sums) {
        self.recorded.raise(&other.recorded);
        for (count, other) in self.counts.iter_mut().zip(other.counts) {
            *count = (*count).max(other);
        }
    }
}

impl Latency {
    fn observe(&mut self, record: &Record) {
        if let Some(millis) = record.duration_ms {
            self.duration.observe(seconds(millis));
        }
        if let Some(millis) = record.time_to_first_byte_ms {
            self.first_byte.observe(seconds(millis));
        }
        if let Some(millis) = record.time_to_first_token_ms {
            self.first_token.observe(seconds(millis));
        }
        if let Some(seconds) = record.seconds_per_output_token() {
            self.per_token.observe(seconds);
        }
    }
}

fn seconds(millis: u64) -> f64 {
    rounded(millis) / 1000.0
}

/// Measurements are no accounts: a double is exact enough.
#[allow(clippy::cast_precision_loss)]
fn rounded(count: u64) -> f64 {
    count as f64
}

/// A status as a label.
fn status(status: Option<u16>) -> &'static str {
    const NAMES: [&str; 33] = [
        "101", "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400",
        "401", "402", "403", "404", "405", "408", "409", "413", "415", "422", "424", "429", "431",
        "499", "500", "501", "502", "503", "504", "529",
    ];
    let Some(status) = status else { return "" };
    match STATUSES.iter().position(|known| *known == status) {
        Some(place) => NAMES[place],
        None => match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(fields: &Value) -> Record {
        let mut record = json!({
            "id": crate::record::CallId::new(), "created_at": "2026-11-22T00:00:00Z",
            "upstream": "up", "provider": "openai", "endpoint": "chat.completions",
            "method": "POST", "path": "/", "usage_source": "none", "cost_source": "none",
            "streaming": true, "outcome": "completed", "status": 200,
        });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        // By way of text, because money cannot be read from a value.
        serde_json::from_str(&record.to_string()).unwrap()
    }

    fn totals(calls: &Calls) -> Vec<(&str, i128, u64)> {
        let each = calls.sets().map(|(values, figures)| {
            let told = figures.told();
            (values[0].as_str(), told.recorded.tokens[0], told.estimated)
        });
        each.collect()
    }

    #[test]
    fn what_is_counted_up_never_goes_down() {
        let mut calls = Calls::new(vec![Label::Model], 10);
        let rough = json!({"model": "m", "input_tokens": 100, "usage_source": "estimated"});
        let better = json!({"model": "m", "input_tokens": 70, "usage_source": "estimated"});
        calls.recorded(&record(&rough));
        calls.corrected(&record(&rough), &record(&better));
        assert_eq!(totals(&calls), [("m", 100, 1)]);
        // Others make up for it.
        calls.recorded(&record(&json!({"model": "m", "input_tokens": 50})));
        assert_eq!(totals(&calls), [("m", 120, 1)]);
        assert_eq!(calls.sets().next().unwrap().1.ended, [(Outcome::Completed, "200", 2)]);
    }

    #[test]
    fn a_model_is_the_one_that_answered_and_long_names_are_cut() {
        let mut calls = Calls::new(vec![Label::Model], 10);
        calls.recorded(&record(&json!({"model_requested": "a", "model": "b"})));
        calls.recorded(&record(&json!({"model_requested": "a"})));
        calls.recorded(&record(&json!({"model": "é".repeat(100)})));
        let models: Vec<&str> = totals(&calls).iter().map(|(model, ..)| *model).collect();
        assert_eq!(models, ["b", "a", &"é".repeat(64)]);
    }

    #[test]
    fn whoever_is_not_let_in_chooses_no_labels() {
        let mut calls = Calls::new(vec![Label::Model, Label::Upstream], 10);
        for at in 0..100 {
            let junk = json!({"model_requested": format!("junk-{at}"), "status": 401});
            calls.recorded(&record(&junk));
        }
        calls.recorded(&record(&json!({"model_requested": "busy", "status": 429})));
        let sets: Vec<&[String]> = calls.sets().map(|(values, _)| values).collect();
        assert_eq!(sets, [["", "up"], ["busy", "up"]]);
        assert_eq!((calls.latency().count(), calls.overflowed()), (2, 0));
    }

    #[test]
    fn an_amended_call_is_late_once() {
        let mut calls = Calls::new(vec![Label::Model], 1);
        calls.recorded(&record(&json!({"model": "a"})));
        let late = record(&json!({"model": "b", "input_tokens": 3}));
        calls.recorded(&late);
        calls.corrected(&late, &record(&json!({"model": "b", "input_tokens": 4})));
        assert_eq!(calls.overflowed(), 1);
        assert_eq!(totals(&calls), [("a", 0, 0), ("other", 4, 0)]);
    }

    #[test]
    fn values_that_stand_together_differently_are_different() {
        let mut calls = Calls::new(vec![Label::User, Label::Operation], 10);
        calls.recorded(&record(&json!({"user": "a", "operation": ""})));
        calls.recorded(&record(&json!({"user": "", "operation": "a"})));
        assert_eq!(calls.sets().count(), 2);
    }

    #[test]
    fn durations_go_where_they_belong() {
        let mut calls = Calls::new(vec![Label::Upstream, Label::User], 10);
        calls.recorded(&record(&json!({
            "user": "ann", "duration_ms": 2100, "time_to_first_byte_ms": 90,
            "time_to_first_token_ms": 100, "output_tokens": 41,
        })));
        calls.recorded(&record(&json!({"user": "bob", "duration_ms": 5, "streaming": false})));
        assert_eq!(calls.latency_labels().collect::<Vec<_>>(), ["upstream"]);
        let latency: Vec<_> = calls.latency().collect();
        let [(values, latency)] = latency[..] else { panic!("{latency:?}") };
        assert_eq!(values, ["up"]);
        let of = |histogram: &Histogram| -> Vec<(f64, u64)> {
            histogram.counted().filter(|(_, count)| *count > 0).collect()
        };
        assert_eq!(of(&latency.duration), [(0.01, 1), (2.56, 1)]);
        assert_eq!(of(&latency.first_byte), [(0.1, 1)]);
        assert_eq!(of(&latency.first_token), [(0.1, 1)]);
        // 2 s for 40 tokens.
        assert_eq!(of(&latency.per_token), [(0.05, 1)]);
    }

    #[test]
    fn a_status_that_nobody_knows_is_one_of_its_class() {
        assert_eq!(
            [Some(529), Some(418), Some(999), None].map(status),
            ["529", "4xx", "other", ""]
        );
        let named = STATUSES.map(|code| status(Some(code)).parse::<u16>().unwrap());
        assert_eq!(named, STATUSES);
    }
}
