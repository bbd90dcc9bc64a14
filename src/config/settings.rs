//! The checked configuration as plain data. Owns its shape; knows nothing of files, variables or how it
//! was typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use super::base_url::BaseUrl;
use super::tls::Tls;
use crate::fingerprint::Fingerprint;
use crate::ledger::{JournalSync, OnFailure};
use crate::otel;
use crate::pricing::PriceList;
use crate::secret::Secret;
use crate::telemetry::Label;

/// Everything that was configured, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub database: PathBuf,
    /// `None`: the table built into the binary.
    pub pricing: Option<PathBuf>,
    /// `None`: public price lists are not read.
    pub price_updates: Option<PriceUpdates>,
    /// The name of one of `upstreams`.
    pub default_upstream: String,
    /// All upstreams that can be reached, configured and built-in, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    pub tags: TagHeaders,
    pub client_timeouts: ClientTimeouts,
    pub limits: Limits,
    pub journal_days: u32,
    /// `None`: for ever.
    pub retention_days: Option<u32>,
    pub journal_sync: JournalSync,
    pub on_ledger_failure: OnFailure,
    pub shutdown_grace: Duration,
    /// `None`: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// A filter in the form of `tracing_subscriber::EnvFilter`, checked.
    pub log: String,
    pub log_format: LogFormat,
    /// Whether each call is a line of the log.
    pub log_calls: bool,
    pub admin_token: Option<Secret>,
    /// `None`: what is tokenmeter's own is at `listen`.
    pub admin_listen: Option<SocketAddr>,
    pub clients: Clients,
    pub metrics_public: bool,
    /// `None`: clients are spoken to in plain HTTP.
    pub tls: Option<Tls>,
    /// `None`: nothing is sent to a collector.
    pub otlp: Option<Otlp>,
    /// By what calls are told apart there; none stands twice.
    pub metrics_labels: Vec<Label>,
    /// Combinations of their values at most.
    pub metrics_series: usize,
    /// The file that was read, if any.
    pub source: Option<PathBuf>,
    /// Files that were read and hold a secret of tokenmeter's own.
    pub secret_files: Vec<PathBuf>,
    /// Odd but legal things, for the log.
    pub warnings: Vec<String>,
}

/// How public price lists are read while tokenmeter serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceUpdates {
    /// More than zero.
    pub every: Duration,
    /// Whether prices are written into the price table, which is a file then.
    pub write: bool,
    /// At least one.
    pub lists: Vec<PriceList>,
}

/// A provider endpoint that calls go to.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    /// Whose price list applies.
    pub provider: String,
    pub base_url: BaseUrl,
    /// The provider's key, where tokenmeter puts it in; visible ASCII, fit for a header.
    pub api_key: Option<Secret>,
    /// Deployment name to model.
    pub deployments: BTreeMap<String, String>,
    pub http2: Http2,
    pub stream_usage: StreamUsage,
    /// `None`: a call whose client leaves is given up at once.
    pub drain: Option<Drain>,
    pub trace_context: TraceTo,
    pub extra_roots: Option<Arc<ExtraRoots>>,
    pub timeouts: UpstreamTimeouts,
    /// Whether anything was said about it, as opposed to a built-in one left as it is.
    pub configured: bool,
}

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// As ALPN negotiates over https; HTTP/1.1 over http.
    #[default]
    Auto,
    Never,
    /// Offered alone over https; with prior knowledge over http.
    Always,
}

/// Whether streams are made to report their usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamUsage {
    #[default]
    Off,
    /// Where the provider does not report it unasked.
    Inject,
}

/// What an upstream hears of the trace that a call is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceTo {
    /// What the client says.
    #[default]
    Pass,
    /// tokenmeter's span as the parent, where there are spans.
    Own,
    /// Nothing.
    Drop,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// A collector and what it is sent.
#[derive(Clone, Debug)]
pub struct Otlp {
    pub settings: otel::Settings,
    pub extra_roots: Option<Arc<ExtraRoots>>,
}

/// How far an answer is read on after its client has left. Both more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    pub time: Duration,
    pub bytes: u64,
}

/// Certificates to trust besides the usual ones; at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtraRoots {
    pub file: PathBuf,
    pub certificates: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for ExtraRoots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExtraRoots({}: {})", self.file.display(), self.certificates.len())
    }
}

/// How long an upstream may take. All more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Name, TCP and TLS.
    pub connect: Duration,
    /// From the end of the request to the answer's head.
    pub response_head: Duration,
    /// Silence in the middle of a body, up or down.
    pub idle: Duration,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
}

/// How long a client may take. All more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    pub request_head: Duration,
    pub keep_alive: Duration,
}

/// What clients may ask for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    /// Calls at a time, over all connections.
    pub calls: usize,
    /// Calls that wait for their turn; may be 0.
    pub queue: usize,
    /// How long one may wait.
    pub queue_wait: Duration,
    /// Bytes; at least 8192, hyper's own least.
    pub request_head: usize,
    pub request_headers: usize,
    /// Bytes; `None`: no limit.
    pub request_body: Option<u64>,
}

/// Whose calls are let in. What is there must match; nothing matches an empty list, and there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    pub networks: Option<Vec<IpNet>>,
    pub keys: Option<Vec<Fingerprint>>,
}

/// Which headers carry which tag; the first one present wins. No header stands twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagHeaders {
    pub user: Vec<HeaderName>,
    pub session: Vec<HeaderName>,
    pub operation: Vec<HeaderName>,
}
