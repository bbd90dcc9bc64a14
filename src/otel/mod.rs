//! What observability backends hear of calls: a span each and metrics over OTLP, and a line each in the
//! log. Owns the way from a row to the collector; knows neither the proxy nor what was configured where.
//!
//! The ledger's thread tells of a row and goes on. A thread of ours makes spans and metrics of it with
//! OpenTelemetry's SDK, whose own threads send them: one batches spans, one sends metrics from time to time.
//!
//! Invariant: nobody waits for a collector, and what waits for one is bounded. What does not fit is dropped
//! and counted.

mod calls;
mod metrics;
mod names;
mod send;
mod spans;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor};
use uuid::Uuid;

pub use calls::CallLog;
pub use names::Profile;
pub use spans::{Sampler, SpanIds, span_of};

use crate::ledger::Watcher;
use crate::record::Record;
use metrics::Metrics;
use send::Counts;
use spans::Spans;

/// Rows that wait to be looked at; a few kilobytes each.
const MAX_WAITING: usize = 4096;

/// Spans that wait to be sent, and how many go together.
const MAX_SPANS: usize = 8192;
const BATCH: usize = 512;

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// Where calls are told to, and in which words.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Without a slash at its end: `http://localhost:4318`.
    pub endpoint: String,
    /// Sent with every request; their values are secrets.
    pub headers: HeaderMap,
    pub traces: bool,
    pub metrics: bool,
    /// From one sending of metrics to the next.
    pub interval: Duration,
    pub sampler: Sampler,
    pub profile: Profile,
    /// What the process is, `service.name` among it.
    pub resource: Vec<(String, String)>,
    /// For a batch, tries again included.
    pub timeout: Duration,
}

/// Where an upstream really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: String,
    pub port: u16,
}

/// How the sending goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Calls and spans that wait.
    pub queued: usize,
    /// Calls and spans that found no room to wait.
    pub dropped: u64,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that the collector did not want.
    pub rejected: u64,
    /// Spans that were given up after several tries.
    pub lost: u64,
    /// Batches of spans or metrics that were given up.
    pub failed_exports: u64,
    /// What went wrong last, in words without secrets.
    pub last_error: Option<String>,
}

/// What the ledger's thread hands over.
enum Told {
    Recorded(Box<Record>),
    Corrected(Box<(Record, Record)>),
    /// No more comes: send what there is, and say so.
    Stop(Sender<()>),
}

/// The sending, as those see it who start and stop it.
#[derive(Debug)]
pub struct Otel {
    told: SyncSender<Told>,
    counts: Arc<Counts>,
}

impl Otel {
    /// Begins, without a connection to anywhere. `servers` has the upstreams by name.
    pub fn start(
        settings: &Settings,
        servers: HashMap<String, Server>,
        tls: rustls::ClientConfig,
    ) -> Result<Otel, StartError> {
        let counts = Arc::new(Counts::default());
        // The blocking client must not be made where a runtime runs.
        let exporters = thread::scope(|scope| {
            let made = scope.spawn(|| send::exporters(settings, tls, &counts)).join();
            made.unwrap_or_else(|_| Err("its client cannot be made".to_owned()))
        });
        let (spans, metrics) = exporters.map_err(StartError)?;
        let resource = resource(settings);
        let processor = spans.map(|exporter| {
            let batches = BatchConfigBuilder::default()
                .with_max_queue_size(MAX_SPANS)
                .with_max_export_batch_size(BATCH)
                .with_scheduled_delay(DELAY);
            let mut processor =
                BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
            processor.set_resource(&resource);
            processor
        });
        let provider = metrics.map(|exporter| {
            let reader = PeriodicReader::builder(exporter).with_interval(settings.interval);
            let builder = SdkMeterProvider::builder().with_resource(resource);
            builder.with_reader(reader.build()).build()
        });
        let scope = InstrumentationScope::builder("tokenmeter")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let instruments = provider.as_ref().map(|provider| {
            let meter = provider.meter_with_scope(scope.clone());
            Metrics::new(&meter, settings.profile, servers.clone())
        });
        let maker = Maker {
            counts: Arc::clone(&counts),
            sampler: settings.sampler,
            spans: Spans { profile: settings.profile, servers, scope },
            processor,
            provider,
            metrics: instruments,
        };
        let (told, telling) = sync_channel(MAX_WAITING);
        let begun =
            thread::Builder::new().name("otel".to_owned()).spawn(move || maker.run(&telling));
        begun.map_err(|error: io::Error| StartError(error.to_string()))?;
        Ok(Otel { told, counts })
    }

    /// What is to watch the ledger.
    pub fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Telling { told: self.told.clone(), counts: Arc::clone(&self.counts) })
    }

    /// How it goes, now and later.
    pub fn health(&self) -> impl Fn() -> Health + Send + Sync + 'static {
        let counts = Arc::clone(&self.counts);
        move || counts.health()
    }

    /// Sends what there is, for as long as that may take; whether all was sent or given up in time.
    /// Nothing may be told afterwards.
    pub fn shutdown(&self, grace: Duration) -> bool {
        let (done, is_done) = channel();
        let mut stop = Told::Stop(done);
        let deadline = std::time::Instant::now() + grace;
        // A full queue is being worked on, without waiting for anything.
        while let Err(refused) = self.told.try_send(stop) {
            let TrySendError::Full(again) = refused else { return false };
            if std::time::Instant::now() >= deadline {
                return false;
            }
            stop = again;
            thread::sleep(Duration::from_millis(1));
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        is_done.recv_timeout(left).is_ok()
    }
}

/// Why nothing can be sent. Displays what is wrong.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// What the process is: what was said, and what tells it from others of its kind.
fn resource(settings: &Settings) -> Resource {
    let said =
        settings.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::now_v7().to_string()))
        .with_attributes(said)
        .build()
}

/// Hears of rows on the ledger's thread.
#[derive(Debug)]
struct Telling {
    told: SyncSender<Told>,
    counts: Arc<Counts>,
}

impl Telling {
    fn tell(&self, told: Told) {
        self.counts.rows.fetch_add(1, Ordering::Relaxed);
        if self.told.try_send(told).is_err() {
            self.counts.rows.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Watcher for Telling {
    fn recorded(&mut self, record: &Record) {
        self.tell(Told::Recorded(Box::new(light(record))));
    }

    fn corrected(&mut self, before: &Record, after: &Record) {
        self.tell(Told::Corrected(Box::new((light(before), light(after)))));
    }
}

/// A record without what is large and not told.
fn light(record: &Record) -> Record {
    // One by one, because a batch's charges can be megabytes, and are not to be copied first.
    Record {
        id: record.id,
        created_at: record.created_at,
        upstream: record.upstream.clone(),
        provider: record.provider.clone(),
        endpoint: record.endpoint.clone(),
        method: record.method.clone(),
        path: String::new(),
        model_requested: record.model_requested.clone(),
        model: record.model.clone(),
        user: record.user.clone(),
        session: record.session.clone(),
        operation: record.operation.clone(),
        attempt: record.attempt,
        metadata: record.metadata.clone(),
        key_id: record.key_id.clone(),
        input_tokens: record.input_tokens,
        cache_read_tokens: record.cache_read_tokens,
        cache_write_tokens: record.cache_write_tokens,
        audio_input_tokens: record.audio_input_tokens,
        image_input_tokens: record.image_input_tokens,
        output_tokens: record.output_tokens,
        reasoning_tokens: record.reasoning_tokens,
        audio_output_tokens: record.audio_output_tokens,
        image_output_tokens: record.image_output_tokens,
        total_tokens: record.total_tokens,
        usage_source: record.usage_source,
        estimate: None,
        stream_usage: None,
        charged_by: record.charged_by,
        charges: Vec::new(),
        trace: record.trace.clone(),
        usage_json: None,
        cost_usd: record.cost_usd,
        cost_source: record.cost_source,
        computed_cost_usd: None,
        price_id: None,
        status: record.status,
        streaming: record.streaming,
        finish_reason: record.finish_reason.clone(),
        outcome: record.outcome,
        error: record.error.clone(),
        retry: record.retry,
        upstream_request_id: record.upstream_request_id.clone(),
        service_tier: record.service_tier.clone(),
        duration_ms: record.duration_ms,
        time_to_first_byte_ms: record.time_to_first_byte_ms,
        time_to_first_token_ms: record.time_to_first_token_ms,
    }
}

/// Makes spans and metrics of rows, on a thread of its own that waits for nothing else.
struct Maker {
    counts: Arc<Counts>,
    sampler: Sampler,
    spans: Spans,
    processor: Option<BatchSpanProcessor>,
    provider: Option<SdkMeterProvider>,
    metrics: Option<Metrics>,
}

impl Maker {
    fn run(self, telling: &Receiver<Told>) {
        for told in telling {
            match told {
                Told::Recorded(record) => self.recorded(&record),
                Told::Corrected(rows) => self.corrected(&rows.0, &rows.1),
                Told::Stop(done) => {
                    self.stop();
                    // Who asked may have gone.
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn recorded(&self, record: &Record) {
        if let Some(metrics) = &self.metrics {
            metrics.record(record);
        }
        if let Some(processor) = &self.processor
            && self.sampler.samples(record)
        {
            // More than fit are ours to drop, because the SDK would not say so.
            if self.counts.spans.load(Ordering::Relaxed) < MAX_SPANS {
                self.counts.spans.fetch_add(1, Ordering::Relaxed);
                processor.on_end(self.spans.span(record));
            } else {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.counts.rows.fetch_sub(1, Ordering::Relaxed);
    }

    fn corrected(&self, before: &Record, after: &Record) {
        if let Some(metrics) = &self.metrics {
            metrics.correct(before, after);
        }
        self.counts.rows.fetch_sub(1, Ordering::Relaxed);
    }

    /// Both at once, so that neither waits for the other's collector.
    fn stop(&self) {
        thread::scope(|scope| {
            if let Some(provider) = &self.provider {
                scope.spawn(|| provider.shutdown());
            }
            if let Some(processor) = &self.processor {
                // Those who wait for this have their own limit.
                let _ = processor.shutdown_with_timeout(Duration::from_mins(1));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CallId, Outcome};

    /// A chat that went well.
    pub(super) fn call() -> Record {
        let json = serde_json::json!({
            "id": CallId::new(),
            "created_at": "2026-11-22T12:00:00.000Z",
            "upstream": "openai",
            "provider": "openai",
            "endpoint": "chat.completions",
            "method": "POST",
            "path": "/v1/chat/completions",
            "model_requested": "gpt-4o",
            "model": "gpt-4o-2024-08-06",
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "usage_source": "reported",
            "cost_usd": 0.000_075,
            "cost_source": "priced",
            "status": 200,
            "streaming": false,
            "outcome": Outcome::Completed,
            "duration_ms": 500,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_told_lacks_only_what_is_named() {
        let record = call();
        let mut json = serde_json::to_value(&record).unwrap();
        json["path"] = "".into();
        assert_eq!(serde_json::to_value(light(&record)).unwrap(), json);
    }
}
