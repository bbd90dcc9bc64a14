//! The one row that a call becomes: its tags, its outcome and the [`Record`] itself. Owns the names
//! of the ledger's columns; knows neither where a record is kept nor how it came about.
//!
//! Invariant: a record never holds a prompt, a completion, a key or a query string.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::pricing::CostSource;
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

impl Record {
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
