//! The one row that a call becomes: its tags, its outcome and the [`Record`] itself. Owns the names
//! of the ledger's columns; knows neither where a record is kept nor how it came about.
//!
//! Invariant: a record never holds a prompt, a completion, a key or a query string.

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
