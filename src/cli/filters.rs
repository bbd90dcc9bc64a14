//! Which calls a report is about: the window of time and the filters. Owns how they are typed; what
//! they mean is decided by the reader of the admin API's parameters, which takes the same.

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::{Query, push};

/// A span of time. Nothing given: the admin API's own default.
#[derive(Args, Clone, Debug, Default)]
pub struct WindowArgs {
    /// The last N days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
          conflicts_with_all = ["since", "until"], help_heading = "Window")]
    pub days: Option<u32>,

    /// From this time on: 2026-11-01 or 2026-11-01T09:30:00Z
    #[arg(long, value_name = "TIME", help_heading = "Window")]
    pub since: Option<String>,

    /// Up to this time, which is not included
    #[arg(long, value_name = "TIME", help_heading = "Window")]
    pub until: Option<String>,

    /// Time zone of days, weeks and months, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", help_heading = "Window")]
    pub tz: Option<String>,
}

impl WindowArgs {
    /// The zone whose clock is shown; a question with what is none is refused.
    pub(super) fn zone(&self) -> TimeZone {
        let zone = self.tz.as_deref().and_then(|name| TimeZone::get(name).ok());
        zone.unwrap_or(TimeZone::UTC)
    }

    pub fn add_to(&self, query: &mut Query) {
        push(query, "days", self.days);
        push(query, "since", self.since.as_ref());
        push(query, "until", self.until.as_ref());
        push(query, "tz", self.tz.as_ref());
    }
}

/// Where the figures of a call come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageSourceArg {
    Reported,
    Estimated,
    None,
}

/// Where the cost of a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CostSourceArg {
    /// The provider's own figure
    Provider,
    /// An entry of the price table
    Priced,
    /// The price for what has no entry
    Default,
    /// Calls that cost nothing
    Free,
    /// Not known
    None,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum OutcomeArg {
    Completed,
    /// The client left
    ClientClosed,
    /// The provider broke off, or was not reached
    UpstreamFailed,
    /// Tokenmeter stopped or crashed
    Interrupted,
    /// By a budget
    Refused,
}

/// Only calls that match all of these.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Calls of this user
    #[arg(long, value_name = "USER", help_heading = "Filters")]
    pub user: Option<String>,

    /// Calls of this session
    #[arg(long, value_name = "SESSION", help_heading = "Filters")]
    pub session: Option<String>,

    /// Calls with this operation tag
    #[arg(long, value_name = "OPERATION", help_heading = "Filters")]
    pub operation: Option<String>,

    /// Calls to this provider
    #[arg(long, value_name = "PROVIDER", help_heading = "Filters")]
    pub provider: Option<String>,

    /// Calls through this configured upstream
    #[arg(long, value_name = "UPSTREAM", help_heading = "Filters")]
    pub upstream: Option<String>,

    /// Calls that this model answered
    #[arg(long, value_name = "MODEL", help_heading = "Filters")]
    pub model: Option<String>,

    /// Calls of this endpoint, such as chat.completions
    #[arg(long, value_name = "ENDPOINT", help_heading = "Filters")]
    pub endpoint: Option<String>,

    /// Calls whose usage comes from there
    #[arg(long, value_name = "SOURCE", value_enum, help_heading = "Filters")]
    pub usage_source: Option<UsageSourceArg>,

    /// Calls whose cost comes from there
    #[arg(long, value_name = "SOURCE", value_enum, help_heading = "Filters")]
    pub cost_source: Option<CostSourceArg>,

    /// Calls that ended so
    #[arg(long, value_name = "OUTCOME", value_enum, help_heading = "Filters")]
    pub outcome: Option<OutcomeArg>,

    /// Calls answered with this HTTP status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(100..=999),
          help_heading = "Filters")]
    pub status: Option<u16>,

    /// Calls with this finish reason, in the provider's own words, such as length
    #[arg(long, value_name = "REASON", help_heading = "Filters")]
    pub finish_reason: Option<String>,

    /// Calls with this error
    #[arg(long, value_name = "ERROR", help_heading = "Filters")]
    pub error: Option<String>,

    /// Calls charged by this entry of the price table
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    pub price_id: Option<String>,

    /// Calls with the key of this fingerprint, such as key:0123456789ab
    #[arg(long, value_name = "FINGERPRINT", help_heading = "Filters")]
    pub key_fingerprint: Option<String>,

    /// Calls with this metadata; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value, help_heading = "Filters")]
    pub metadata: Vec<(String, String)>,
}

impl FilterArgs {
    pub fn add_to(&self, query: &mut Query) {
        push(query, "user", self.user.as_ref());
        push(query, "session", self.session.as_ref());
        push(query, "operation", self.operation.as_ref());
        push(query, "provider", self.provider.as_ref());
        push(query, "upstream", self.upstream.as_ref());
        push(query, "model", self.model.as_ref());
        push(query, "endpoint", self.endpoint.as_ref());
        push(query, "usage_source", self.usage_source.and_then(word));
        push(query, "cost_source", self.cost_source.and_then(word));
        push(query, "outcome", self.outcome.and_then(word));
        push(query, "status", self.status);
        push(query, "finish_reason", self.finish_reason.as_ref());
        push(query, "error", self.error.as_ref());
        push(query, "price_id", self.price_id.as_ref());
        push(query, "key_fingerprint", self.key_fingerprint.as_ref());
        for (name, value) in &self.metadata {
            push(query, &format!("metadata.{name}"), Some(value));
        }
    }
}

/// As it is typed.
#[expect(clippy::needless_pass_by_value)] // for `and_then`
fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}
