//! The way to the collector: one request a batch, by the SDK's exporters. Owns what is told of its state:
//! counts for `Health`, and a line in the log when it changes.
//!
//! Invariant: our own headers go out and no others, and what they say is never logged, nor told in `Health`,
//! not even where a collector repeats it.

use std::cmp::Reverse;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use reqwest::blocking::Client;
use reqwest::redirect;

use super::{Health, Settings};

/// Of a collector's answer; what it says is a few bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Of a collector's words, in the log.
const MAX_WORDS: usize = 200;

/// What is sent besides our own headers.
const SENT: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT];

/// How the sending goes. Shared by all who send.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Rows that wait to be looked at.
    pub(super) rows: AtomicUsize,
    /// Spans that wait to be sent, or are on their way.
    pub(super) spans: AtomicUsize,
    pub(super) dropped: AtomicU64,
    exported: AtomicU64,
    rejected: AtomicU64,
    lost: AtomicU64,
    failed_exports: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Counts {
    pub(super) fn health(&self) -> Health {
        Health {
            queued: self.rows.load(Ordering::Relaxed) + self.spans.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            exported: self.exported.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            failed_exports: self.failed_exports.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Signal {
    Traces,
    Metrics,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        })
    }
}

/// The client of one signal's exporter, and what became of its last batch.
#[derive(Debug)]
struct Line {
    signal: Signal,
    client: Client,
    headers: HeaderMap,
    counts: Arc<Counts>,
    is_failing: AtomicBool,
    /// What went wrong last, in our words.
    problem: Mutex<Option<String>>,
    /// Spans or points of the last batch that the collector did not take.
    rejected: AtomicU64,
}

/// The exporters, of the signals that are sent.
pub(super) fn exporters(
    settings: &Settings,
    tls: rustls::ClientConfig,
    counts: &Arc<Counts>,
) -> Result<(Option<Spans>, Option<Metrics>), String> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        // As everywhere in the program: what is configured is where it goes.
        .no_proxy()
        .timeout(settings.timeout)
        .build()
        .map_err(explain)?;
    let line = |signal| {
        Arc::new(Line {
            signal,
            client: client.clone(),
            headers: settings.headers.clone(),
            counts: Arc::clone(counts),
            is_failing: AtomicBool::new(false),
            problem: Mutex::new(None),
            rejected: AtomicU64::new(0),
        })
    };
    let spans = settings.traces.then(|| Spans::new(settings, line(Signal::Traces)));
    let metrics = settings.metrics.then(|| Metrics::new(settings, line(Signal::Metrics)));
    let wrong = |error: ExporterBuildError| error.to_string();
    Ok((spans.transpose().map_err(wrong)?, metrics.transpose().map_err(wrong)?))
}

impl Line {
    fn post(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let fields = request.headers_mut();
        let mut ours = HeaderMap::new();
        // The SDK adds what its own environment variables say, which may be meant for another address.
        for name in SENT {
            ours.extend(fields.remove(&name).map(|value| (name, value)));
        }
        ours.extend(self.headers.clone());
        *fields = ours;
        let answer = self.client.execute(request.try_into()?);
        let answer = answer.map_err(|error| self.note(explain(error)))?;
        let status = answer.status();
        let retry_after = answer.headers().get(http::header::RETRY_AFTER).cloned();
        let mut body = Vec::new();
        answer
            .take(MAX_ANSWER + 1)
            .read_to_end(&mut body)
            .map_err(|error| self.note(format!("its answer broke off: {error}")))?;
        if body.len() as u64 > MAX_ANSWER {
            self.note("its answer is too long".to_owned());
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        if status.is_success() {
            self.read_success(&body);
        } else {
            self.note(format!("it answers {status}"));
        }
        let mut response = Response::builder().status(status).body(Bytes::from(body))?;
        if let Some(value) = retry_after {
            response.headers_mut().insert(http::header::RETRY_AFTER, value);
        }
        Ok(response)
    }

    /// A collector may take a part of a batch.
    fn read_success(&self, body: &[u8]) {
        let partly = match self.signal {
            Signal::Traces => ExportTraceServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|part| (part.rejected_spans, part.error_message)),
            Signal::Metrics => ExportMetricsServiceResponse::decode(body)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|part| (part.rejected_data_points, part.error_message)),
        };
        let Some((rejected, words)) = partly else { return };
        let rejected = u64::try_from(rejected).unwrap_or_default();
        if rejected > 0 {
            self.rejected.store(rejected, Ordering::Relaxed);
            let words = harmless(&words, &self.headers);
            self.note(format!("it rejects {rejected} {} of a batch: {words}", self.signal));
        }
    }

    /// Keeps what went wrong, and gives it as an error to those who want one.
    fn note(&self, problem: String) -> HttpError {
        let error = problem.clone().into();
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        error
    }

    /// A batch has gone, or been given up. Says how many of it were not taken.
    fn ended(&self, result: &OTelSdkResult) -> u64 {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rejected = self.rejected.swap(0, Ordering::Relaxed);
        let is_bad = result.is_err() || rejected > 0;
        if result.is_err() {
            self.counts.failed_exports.fetch_add(1, Ordering::Relaxed);
        }
        let signal = self.signal;
        if is_bad {
            let problem = problem.unwrap_or_else(|| "the batch could not be made".to_owned());
            if !self.is_failing.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %signal,
                    %problem,
                    "the OpenTelemetry collector does not take what it is sent; calls are not \
                     affected, and this is not said again until it changes"
                );
            }
            let mut last = self.counts.last_error.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(format!("{signal}: {problem}"));
        } else if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(%signal, "the OpenTelemetry collector takes what it is sent again");
        }
        rejected
    }
}

/// What a collector says, without our secrets, on one line, and not too long.
fn harmless(words: &str, headers: &HeaderMap) -> String {
    let mut secrets: Vec<String> = headers.values().flat_map(secrets_of).collect();
    // One may be a part of another.
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let mut words = words.to_owned();
    for secret in secrets {
        words = words.replace(&secret, "…");
    }
    words = words.replace(char::is_control, " ");
    let mut short: String = words.chars().take(MAX_WORDS).collect();
    if short.len() < words.len() {
        short.push('…');
    }
    short
}

/// A header's value, the key behind its scheme (`Bearer`, `Basic`), and the name and password in that.
fn secrets_of(value: &HeaderValue) -> Vec<String> {
    let whole = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    let key = whole.split_once(' ').map(|(_, key)| key.trim().to_owned());
    let pair = key.as_ref().and_then(|key| String::from_utf8(STANDARD.decode(key).ok()?).ok());
    let password = pair.as_ref().and_then(|pair| Some(pair.split_once(':')?.1.to_owned()));
    let all = [Some(whole), key, pair, password];
    all.into_iter().flatten().filter(|secret| !secret.is_empty()).collect()
}

/// The whole chain, without the URL.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// The client in the SDK's hands.
#[derive(Debug)]
struct Poster(Arc<Line>);

impl HttpClient for Poster {
    /// Blocks its thread, which is an exporter's own.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.0.post(request) })
    }
}

/// Sends spans, and counts them.
#[derive(Debug)]
pub(super) struct Spans {
    inner: SpanExporter,
    line: Arc<Line>,
}

impl Spans {
    fn new(settings: &Settings, line: Arc<Line>) -> Result<Spans, ExporterBuildError> {
        let builder = SpanExporter::builder().with_http();
        let builder = builder
            .with_http_client(Poster(Arc::clone(&line)))
            .with_compression(Compression::Gzip)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .with_endpoint(format!("{}/v1/traces", settings.endpoint));
        Ok(Spans { inner: builder.build()?, line })
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        let rejected = self.line.ended(&result);
        let counts = &self.line.counts;
        counts.spans.fetch_sub(count, Ordering::Relaxed);
        let count = count as u64;
        if result.is_ok() {
            let rejected = rejected.min(count);
            counts.exported.fetch_add(count - rejected, Ordering::Relaxed);
            counts.rejected.fetch_add(rejected, Ordering::Relaxed);
        } else {
            counts.lost.fetch_add(count, Ordering::Relaxed);
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    inner: MetricExporter,
    line: Arc<Line>,
}

impl Metrics {
    fn new(settings: &Settings, line: Arc<Line>) -> Result<Metrics, ExporterBuildError> {
        let builder = MetricExporter::builder().with_http();
        let builder = builder
            .with_http_client(Poster(Arc::clone(&line)))
            .with_compression(Compression::Gzip)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .with_temporality(Temporality::Cumulative)
            .with_endpoint(format!("{}/v1/metrics", settings.endpoint));
        Ok(Metrics { inner: builder.build()?, line })
    }
}

impl PushMetricExporter for Metrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.line.ended(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_repeated_a_key_and_it_was_in_the_log() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("api-key", "c4nary"),
            ("x-longer", "c4nary-and-more"),
            ("authorization", "Bearer t0ken"),
            // ann:swordfish
            ("proxy-authorization", "Basic YW5uOnN3b3JkZmlzaA=="),
            ("x-empty", ""),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let said = "key c4nary-and-more (c4nary, t0ken, YW5uOnN3b3JkZmlzaA==) of ann:swordfish, \
                    swordfish,\r\nmay\u{1b}[31m not \u{9b}write";
        assert_eq!(harmless(said, &headers), "key … (…, …, …) of …, …,  may [31m not  write");
        let long = format!("{}c4nary", "é".repeat(MAX_WORDS - 3));
        assert_eq!(harmless(&long, &headers), format!("{}…", "é".repeat(MAX_WORDS - 3)));
        let longer = harmless(&"é".repeat(MAX_WORDS + 1), &headers);
        assert_eq!(longer.chars().count(), MAX_WORDS + 1);
    }
}
