//! What Prometheus is told. Owns the names of the series and the words that explain them; the figures are
//! asked of whoever has them, each time anew.
//!
//! | file | owns |
//! | --- | --- |
//! | `page` | how a series is written |
//! | `calls` | calls, tokens, cost and durations, as the ledger has them |
//! | `live` | open calls, upstreams, our own time |
//! | `otlp` | what is sent to a collector |
//! | `ledger` | journal, database, estimates that wait |
//! | `process` | what every process tells of itself |
//! | `classic` | the same in the older text format |

mod calls;
mod classic;
mod ledger;
mod live;
mod otlp;
mod page;
mod process;

use std::fmt;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Response};
use http_body_util::Full;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

use super::reply;
use crate::ledger::Ledger;
use crate::otel;
use crate::telemetry::Telemetry;
use page::Page;

/// All series begin with this, but for those of the process.
const PREFIX: &str = "tokenmeter";

/// The name of the format, and what answers in either say of themselves.
const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who has the figures.
pub struct Sources {
    pub ledger: Ledger,
    pub telemetry: Telemetry,
    /// How full it is.
    pub occupancy: Box<dyn Fn() -> Occupancy + Send + Sync>,
    /// Estimates that wait, and how many were left rough since the start.
    pub estimates: Box<dyn Fn() -> (usize, u64) + Send + Sync>,
    /// How the sending to a collector goes, where calls are sent to one.
    pub otlp: Option<Box<dyn Fn() -> otel::Health + Send + Sync>>,
}

/// How many there are of what is limited, each with its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections of clients; beyond the limit are a few that are only told so.
    pub connections: (usize, usize),
    /// Calls that are let in.
    pub calls: (usize, usize),
    /// Calls that wait for their turn.
    pub waiting: (usize, usize),
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The page `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Registry,
    is_public: bool,
}

impl Metrics {
    /// `is_public`: the page needs no token.
    pub fn new(sources: Sources, is_public: bool) -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(sources));
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process));
        Metrics { registry, process, is_public }
    }

    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }

    /// As `OpenMetrics` to whoever takes that, else in the older format. With many label sets that takes
    /// milliseconds: not for runtime threads.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text));
        written.expect("a String takes all");
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if accepted.into_iter().any(|value| value.contains(OPENMETRICS)) {
            return reply::metrics(text, OPENMETRICS_TYPE);
        }
        reply::metrics(classic::of(&text), CLASSIC_TYPE)
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        page.gauge("up", "Always 1", 1)?;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("build_info", "Always 1; which version runs", [(version, 1)])?;
        calls::write(&mut page, &self.telemetry.calls())?;
        let Occupancy { connections, calls, waiting } = (self.occupancy)();
        page.gauge("client_connections", "Connections of clients, open now", connections.0 as u64)?;
        page.gauge("client_connections_max", "How many there may be", connections.1 as u64)?;
        page.gauge("client_calls", "Calls that are let in", calls.0 as u64)?;
        page.gauge("client_calls_max", "How many there may be", calls.1 as u64)?;
        page.gauge("queued_calls", "Calls that wait to be let in", waiting.0 as u64)?;
        page.gauge("queued_calls_max", "How many may wait", waiting.1 as u64)?;
        live::write(&mut page, &self.telemetry.live())?;
        let (waiting, left_rough) = (self.estimates)();
        page.gauge("estimates_waiting", "Estimates to be made", waiting as u64)?;
        let help = "Estimates left rough, because too many waited";
        page.counter("estimates_left_rough", help, left_rough)?;
        if let Some(health) = &self.otlp {
            otlp::write(&mut page, &health())?;
        }
        ledger::write(&mut page, &self.ledger.health())
    }
}
