//! Who is told of calls: the collector, the log. Owns that they are started before the ledger and stopped
//! after it, so that they hear of every row.

use std::collections::HashMap;
use std::time::Duration;

use super::StartError;
use crate::config::Config;
use crate::ledger::Watcher;
use crate::otel::{CallLog, Health, Otel, Server};
use crate::proxy::tls_config;

/// How long the last spans and metrics may take to be sent.
const OTLP_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Telling {
    otel: Option<Otel>,
    /// Calls are logged.
    has_log: bool,
    /// Calls have spans.
    has_spans: bool,
}

impl Telling {
    pub(super) fn start(config: &Config) -> Result<Telling, StartError> {
        let has_spans = config.otlp.as_ref().is_some_and(|otlp| otlp.settings.traces);
        let otel = config.otlp.as_ref().map(|otlp| {
            let failed = |error: &dyn std::fmt::Display| StartError::new("otlp", error);
            let extra = otlp.extra_roots.as_ref().map(|extra| extra.certificates.as_slice());
            let tls = tls_config(extra.unwrap_or_default()).map_err(|error| failed(&error))?;
            let servers = config.upstreams.values().map(|upstream| {
                let url = &upstream.base_url;
                let server = Server { address: url.host.clone(), port: url.port };
                (upstream.name.clone(), server)
            });
            let servers: HashMap<String, Server> = servers.collect();
            Otel::start(&otlp.settings, servers, tls.as_ref().clone())
                .map_err(|error| failed(&error))
        });
        Ok(Telling { otel: otel.transpose()?, has_log: config.log_calls, has_spans })
    }

    /// Those who watch the ledger.
    pub(super) fn watchers(&self) -> Vec<Box<dyn Watcher>> {
        let otel = self.otel.as_ref().map(Otel::watcher);
        let log = CallLog { is_traced: self.has_spans };
        let log = self.has_log.then(|| Box::new(log) as _);
        otel.into_iter().chain(log).collect()
    }

    /// How the sending to a collector goes, where there is one.
    pub(super) fn health(&self) -> Option<Box<dyn Fn() -> Health + Send + Sync>> {
        self.otel.as_ref().map(|otel| Box::new(otel.health()) as _)
    }

    /// Whether calls' own traces are of interest.
    pub(super) fn wants_traces(&self) -> bool {
        self.has_spans || self.has_log
    }

    /// Sends what is left. The ledger tells of nothing any more.
    pub(super) fn finish(&self) {
        if let Some(otel) = &self.otel
            && !otel.shutdown(OTLP_GRACE)
        {
            let health = otel.health()();
            tracing::warn!(
                spans = health.queued,
                "the OpenTelemetry collector was too slow for the last spans and metrics"
            );
        }
    }
}
