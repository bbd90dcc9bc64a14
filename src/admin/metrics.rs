//! What Prometheus is told. Owns the names of the series and their meanings; the figures are asked of
//! whoever has them, each time anew.
//!
//! Series are added by another [`Collector`] beside [`LedgerSeries`].

use std::fmt;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::reply;
use crate::ledger::{Health, Ledger, Problem, Recorded, Word};

/// All series begin with this.
const PREFIX: &str = "tokenmeter";

/// The page `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    is_public: bool,
}

impl Metrics {
    /// `calls_open` tells how many calls are open now; `is_public`, whether the page needs no token.
    pub fn new(
        ledger: Ledger,
        calls_open: impl Fn() -> usize + Send + Sync + 'static,
        is_public: bool,
    ) -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let calls_open = Box::new(calls_open);
        registry.register_collector(Box::new(LedgerSeries { ledger, calls_open }));
        Metrics { registry, is_public }
    }

    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }

    pub(super) fn answer(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all");
        reply::metrics(text)
    }
}

/// How the ledger is doing, and how much there is for it to do.
struct LedgerSeries {
    ledger: Ledger,
    calls_open: Box<dyn Fn() -> usize + Send + Sync>,
}

impl fmt::Debug for LedgerSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerSeries")
    }
}

impl Collector for LedgerSeries {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.gauge("up", "Always 1", 1)?;
        page.gauge(
            "calls_open",
            "Calls that have begun and not ended",
            (self.calls_open)() as u64,
        )?;
        let health = self.ledger.health();
        page.recorded(&health.recorded)?;
        page.health(&health)?;
        page.traffic(&health)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// What the ledger has got since the start.
    fn recorded(&mut self, recorded: &Recorded) -> fmt::Result {
        let count = |figure: i128| u64::try_from(figure).unwrap_or_default();
        self.counter("calls", "Calls recorded", count(recorded.requests))?;
        let (name, help) = ("tokens", "Tokens recorded; classes are parts of input and output");
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (class, tokens) in Recorded::CLASSES.iter().zip(recorded.tokens) {
            let metric = ConstCounter::new(count(tokens));
            metric.encode(encoder.encode_family(&[("class", *class)])?)?;
        }
        // Prometheus knows no exact numbers.
        let cost = Decimal::try_from_i128_with_scale(recorded.cost_nanos, 9).unwrap_or_default();
        let cost = ConstCounter::new(cost.to_f64().unwrap_or_default());
        self.put("cost_usd", "What these calls cost, in US dollars", &cost)
    }

    /// What is the matter.
    fn health(&mut self, health: &Health) -> fmt::Result {
        let is_ok = u64::from(health.is_ok());
        self.gauge("ledger_ok", "1 while records are kept and reach the database", is_ok)?;
        let (problems, warnings) = (&health.problems, &health.warnings);
        self.words("ledger_problem", "1 for what keeps records away", &Word::PROBLEMS, problems)?;
        self.words("ledger_warning", "1 for what should be known", &Word::WARNINGS, warnings)?;
        let is_refusing = u64::from(health.is_refusing);
        self.gauge("ledger_refusing", "1 while new calls are refused", is_refusing)?;
        let refused = health.refused_calls;
        self.counter("ledger_refused_calls", "Calls that could not be recorded", refused)?;
        if let Some(free) = health.disk_free_bytes {
            self.gauge("ledger_disk_free_bytes", "Room on the ledger's disk", free)?;
        }
        Ok(())
    }

    /// What passes through the journal into the database.
    fn traffic(&mut self, health: &Health) -> fmt::Result {
        let lag = health.journal_lag_bytes;
        self.gauge("journal_lag_bytes", "Journal that is not in the database", lag)?;
        let lag = ConstGauge::new(health.journal_lag.as_secs_f64());
        self.put("journal_lag_seconds", "How old the oldest of it is", &lag)?;
        let waiting = (health.waiting_lines as u64, health.waiting_bytes as u64);
        self.gauge("journal_waiting_lines", "Lines in memory only", waiting.0)?;
        self.gauge("journal_waiting_bytes", "Bytes of these lines", waiting.1)?;
        let dropped = health.dropped_lines;
        self.counter("journal_dropped_lines", "Lines lost for lack of memory", dropped)?;
        let unreadable = health.unreadable_lines;
        self.counter("journal_unreadable_lines", "Lines that say nothing", unreadable)?;
        self.counter("journal_syncs", "Times it was brought to the disk", health.syncs)?;
        self.counter("ledger_rows", "Rows put into the database", health.rows)?;
        self.counter("ledger_commits", "Transactions for these rows", health.commits)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, &ConstGauge::new(value))
    }

    /// Its name gets `_total` at its end.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, &ConstCounter::new(value))
    }

    fn put(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    /// A series for each word, so that an alert finds it before there is a problem.
    fn words(&mut self, name: &str, help: &str, words: &[Word], there: &[Problem]) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for word in words {
            let is_there = there.iter().any(|problem| problem.word == *word);
            let label = [("word", word.as_str())];
            let metric = ConstGauge::new(u64::from(is_there));
            metric.encode(encoder.encode_family(&label)?)?;
        }
        Ok(())
    }
}
