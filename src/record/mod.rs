//! The one row that a call becomes: its tags, its outcome and the [`Record`] itself. Owns the names
//! of the ledger's columns; knows neither where a record is kept nor how it came about.
//!
//! Invariant: a record never holds a prompt, a completion, a key or a query string.

pub mod json;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::estimate::{Method, Unseen};
use crate::pricing::CostSource;
use crate::trace::TraceContext;
use crate::units::{Timestamp, Usd};
use crate::usage::{Usage, UsageSource};

/// The id of a call: a `UUIDv7`, so that ids sort by time. Also the `x-tokenmeter-id` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Uuid);

impl CallId {
    pub fn new() -> CallId {
        CallId(Uuid::now_v7())
    }

    pub fn from_bytes(bytes: [u8; 16]) -> CallId {
        CallId(Uuid::from_bytes(bytes))
    }

    pub fn into_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for CallId {
    fn default() -> CallId {
        CallId::new()
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<CallId, Self::Err> {
        Uuid::parse_str(text).map(CallId)
    }
}

/// What the caller said about a call, in headers or in the body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tags {
    pub user: Option<String>,
    pub session: Option<String>,
    pub operation: Option<String>,
    pub attempt: Option<u32>,
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client had the whole answer, whatever its status.
    Completed,
    /// The client went away before the end.
    ClientClosed,
    /// The provider could not be reached, broke off, or stayed silent too long.
    UpstreamFailed,
    /// tokenmeter stopped or crashed in the middle.
    Interrupted,
    /// A budget refused the call.
    Refused,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::ClientClosed => "client_closed",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::Interrupted => "interrupted",
            Outcome::Refused => "refused",
        }
    }
}

/// How a row's estimate came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EstimateNote {
    /// Of the input, where it was estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<EstimatedSide>,
    /// Of the output, where it was estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<EstimatedSide>,
    /// What could not be seen, and is therefore not in the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// The error to be expected of the row's total, in tokens either way.
    pub error_tokens: u64,
}

/// How one side of a call was estimated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EstimatedSide {
    pub method: Method,
    /// The error to be expected, as a share: 0.05 is 5 %.
    #[serde(deserialize_with = "share")]
    pub error: f64,
}

/// What is not a number has no JSON but null. It must not make a whole record unreadable.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(1.0))
}

/// What tokenmeter did to make a stream report its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// `stream_options.include_usage` was put into the request, and the extra event taken out.
    Injected,
    /// The provider refused the request with it, and got it again as the client had sent it.
    Refused,
}

impl StreamUsage {
    pub fn as_str(self) -> &'static str {
        match self {
            StreamUsage::Injected => "injected",
            StreamUsage::Refused => "refused",
        }
    }
}

/// Usage that providers hand out under an id of theirs, as often as they are asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// The provider's id of the answer: `resp_…`, `run_…`, a batch line's.
    pub key: String,
    /// The call did not make the answer, but fetched it: what was charged before is not charged again.
    #[serde(default)]
    pub fetched: bool,
    /// What is charged under it: that which the row loses if the key was charged before.
    #[serde(default)]
    pub usage: Usage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
}

/// One call, one row. Field names are the ledger's column names; in JSON, absent means unknown.
///
/// When a call opens, its record is written with outcome [`Outcome::Interrupted`] and what is known
/// so far: that is what stands in the ledger should nothing further be heard of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: CallId,
    pub created_at: Timestamp,
    /// The configured upstream's name.
    pub upstream: String,
    pub provider: String,
    /// `chat.completions`, `responses`, `messages`, …; `other` for what is unknown.
    pub endpoint: String,
    pub method: String,
    /// As the client sent it, without the query.
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_requested: Option<String>,
    /// The provider's own word for what answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Which of tokenmeter's own keys the caller used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What stands for the key that the client sent: 12 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    pub usage_source: UsageSource,
    /// How the figures that were not reported came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<EstimateNote>,
    /// What tokenmeter did to make the stream report its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_usage: Option<StreamUsage>,
    /// The usage is charged by another row: this call had the same answer, with less right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_by: Option<CallId>,
    /// What may be fetched again and must be charged once. In the journal only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charges: Vec<Charge>,
    /// The client's place in a trace of its own. In the journal only, and only where somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// The usage object as the provider sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_json: Option<Box<RawValue>>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
    pub cost_source: CostSource,
    /// What the price table says, also where the provider's own figure won.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_cost_usd: Option<Usd>,
    /// Which entry of the price table applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_id: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub streaming: bool,
    /// The provider's own word, of the first choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From `x-stainless-retry-count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_byte_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token_ms: Option<u64>,
}

/// What a row says of a call's cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowCost {
    pub cost_usd: Option<Usd>,
    pub computed_cost_usd: Option<Usd>,
    pub cost_source: CostSource,
    pub price_id: Option<String>,
}

/// Where a histogram of [`Record::seconds_per_output_token`] has its bounds: those that OpenTelemetry advises,
/// and four more for the fast providers.
pub const SECONDS_PER_OUTPUT_TOKEN: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5,
];

impl Record {
    pub fn cost(&self) -> RowCost {
        RowCost {
            cost_usd: self.cost_usd,
            computed_cost_usd: self.computed_cost_usd,
            cost_source: self.cost_source,
            price_id: self.price_id.clone(),
        }
    }

    pub fn set_cost(&mut self, cost: RowCost) {
        self.cost_usd = cost.cost_usd;
        self.computed_cost_usd = cost.computed_cost_usd;
        self.cost_source = cost.cost_source;
        self.price_id = cost.price_id;
    }

    /// The token classes that have a column.
    pub fn usage(&self) -> Usage {
        Usage {
            input: self.input_tokens,
            cache_read: self.cache_read_tokens,
            cache_write: self.cache_write_tokens,
            audio_input: self.audio_input_tokens,
            image_input: self.image_input_tokens,
            output: self.output_tokens,
            reasoning: self.reasoning_tokens,
            audio_output: self.audio_output_tokens,
            image_output: self.image_output_tokens,
            total: self.total_tokens,
            ..Usage::default()
        }
    }

    /// Which of input tokens, output tokens and cost are an estimate, wholly or in part.
    pub fn estimated_figures(&self) -> [bool; 3] {
        if self.usage_source != UsageSource::Estimated {
            return [false; 3];
        }
        let [input, output] = match &self.estimate {
            Some(note) if note.input.is_some() || note.output.is_some() => {
                [note.input.is_some(), note.output.is_some()]
            }
            _ => [true; 2],
        };
        [input, output, self.cost_source != CostSource::Provider]
    }

    /// Seconds for each token after the first one, of a stream that came to its end.
    // A measurement is no account: a double is exact enough.
    #[allow(clippy::cast_precision_loss)]
    pub fn seconds_per_output_token(&self) -> Option<f64> {
        let (first, whole) = (self.time_to_first_token_ms?, self.duration_ms?);
        let further = self.output_tokens?.checked_sub(1).filter(|further| *further > 0)?;
        let is_whole = self.streaming && self.outcome == Outcome::Completed;
        let seconds = whole.saturating_sub(first) as f64 / 1000.0;
        is_whole.then(|| seconds / further as f64)
    }

    /// The same without what may be large and is of use to the ledger only: charges, the usage object.
    pub fn light(&self) -> Record {
        // One by one, because a batch's charges can be megabytes, and are not to be copied first.
        Record {
            id: self.id,
            created_at: self.created_at,
            upstream: self.upstream.clone(),
            provider: self.provider.clone(),
            endpoint: self.endpoint.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            model_requested: self.model_requested.clone(),
            model: self.model.clone(),
            user: self.user.clone(),
            session: self.session.clone(),
            operation: self.operation.clone(),
            attempt: self.attempt,
            metadata: self.metadata.clone(),
            key_id: self.key_id.clone(),
            key_fingerprint: self.key_fingerprint.clone(),
            input_tokens: self.input_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_write_tokens: self.cache_write_tokens,
            audio_input_tokens: self.audio_input_tokens,
            image_input_tokens: self.image_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            audio_output_tokens: self.audio_output_tokens,
            image_output_tokens: self.image_output_tokens,
            total_tokens: self.total_tokens,
            usage_source: self.usage_source,
            estimate: self.estimate.clone(),
            stream_usage: self.stream_usage,
            charged_by: self.charged_by,
            charges: Vec::new(),
            trace: self.trace.clone(),
            usage_json: None,
            cost_usd: self.cost_usd,
            cost_source: self.cost_source,
            computed_cost_usd: self.computed_cost_usd,
            price_id: self.price_id.clone(),
            status: self.status,
            streaming: self.streaming,
            finish_reason: self.finish_reason.clone(),
            outcome: self.outcome,
            error: self.error.clone(),
            retry: self.retry,
            upstream_request_id: self.upstream_request_id.clone(),
            service_tier: self.service_tier.clone(),
            duration_ms: self.duration_ms,
            time_to_first_byte_ms: self.time_to_first_byte_ms,
            time_to_first_token_ms: self.time_to_first_token_ms,
        }
    }

    /// Writes the token classes that have a column.
    pub fn set_usage(&mut self, usage: &Usage, source: UsageSource) {
        self.input_tokens = usage.input;
        self.cache_read_tokens = usage.cache_read;
        self.cache_write_tokens = usage.cache_write;
        self.audio_input_tokens = usage.audio_input;
        self.image_input_tokens = usage.image_input;
        self.output_tokens = usage.output;
        self.reasoning_tokens = usage.reasoning;
        self.audio_output_tokens = usage.audio_output;
        self.image_output_tokens = usage.image_output;
        self.total_tokens = usage.total;
        self.usage_source = source;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) fn record() -> Record {
        let json = r#"{
            "id": "0193543a-0000-7000-8000-000000000001", "created_at": "2026-11-22T12:00:00.000Z",
            "upstream": "openai", "provider": "openai", "endpoint": "chat.completions",
            "method": "POST", "path": "/v1/chat/completions", "model_requested": "gpt-4o",
            "model": "gpt-4o-2024-08-06", "user": "ann", "session": "s", "operation": "o",
            "attempt": 2, "metadata": {"a": 1}, "key_id": "k", "key_fingerprint": "0123456789ab", "input_tokens": 10,
            "cache_read_tokens": 1, "cache_write_tokens": 2, "audio_input_tokens": 3,
            "image_input_tokens": 4, "output_tokens": 5, "reasoning_tokens": 6,
            "audio_output_tokens": 7, "image_output_tokens": 8, "total_tokens": 15,
            "usage_source": "estimated", "stream_usage": "refused",
            "charged_by": "0193543a-0000-7000-8000-000000000002", "cost_usd": 0.5,
            "cost_source": "priced", "computed_cost_usd": 0.25, "price_id": "p", "status": 200,
            "streaming": true, "finish_reason": "stop", "outcome": "completed", "error": "e",
            "retry": 1, "upstream_request_id": "r", "service_tier": "flex", "duration_ms": 1100,
            "time_to_first_byte_ms": 90, "time_to_first_token_ms": 100
        }"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_light_record_lacks_only_what_is_named() {
        let mut record = record();
        record.estimate = Some(EstimateNote::default());
        let all = serde_json::to_string(&record).unwrap();
        record.usage_json = serde_json::from_str("{}").unwrap();
        let (key, usage) = ("resp_1".to_owned(), Usage::default());
        record.charges.push(Charge { key, fetched: false, usage, cost_usd: None });
        assert_eq!(serde_json::to_string(&record.light()).unwrap(), all);
    }

    #[test]
    fn a_stream_that_came_to_its_end_tells_its_pace() {
        let mut record = record();
        record.output_tokens = Some(11);
        assert_eq!(record.seconds_per_output_token(), Some(0.1));
        for other in [
            Record { output_tokens: Some(1), ..record.clone() },
            Record { streaming: false, ..record.clone() },
            Record { outcome: Outcome::ClientClosed, ..record.clone() },
        ] {
            assert_eq!(other.seconds_per_output_token(), None);
        }
    }
}
