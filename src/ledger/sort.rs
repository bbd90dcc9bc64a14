//! The order of groups. Owns what they can be sorted by; knows neither how they came about nor how
//! many are shown.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use super::group::{Groups, KeyValue};
use super::totals::Totals;

/// What groups are sorted by; ties are in the order of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    Key,
    Requests,
    Errors,
    InputTokens,
    CacheReadTokens,
    CacheWriteTokens,
    AudioInputTokens,
    ImageInputTokens,
    OutputTokens,
    ReasoningTokens,
    AudioOutputTokens,
    ImageOutputTokens,
    TotalTokens,
    CostUsd,
    EstimatedRequests,
    EstimatedTokens,
    EstimateErrorTokens,
    EstimateError,
    UnreportedRequests,
    RefetchedRequests,
    UnpricedRequests,
    DefaultPricedRequests,
    CacheHitRate,
    AvgDurationMs,
    P50DurationMs,
    P95DurationMs,
    AvgTimeToFirstTokenMs,
}

const SORT_KEYS: [(SortKey, &str); 27] = [
    (SortKey::Key, "key"),
    (SortKey::Requests, "requests"),
    (SortKey::Errors, "errors"),
    (SortKey::InputTokens, "input_tokens"),
    (SortKey::CacheReadTokens, "cache_read_tokens"),
    (SortKey::CacheWriteTokens, "cache_write_tokens"),
    (SortKey::OutputTokens, "output_tokens"),
    (SortKey::ReasoningTokens, "reasoning_tokens"),
    (SortKey::AudioOutputTokens, "audio_output_tokens"),
    (SortKey::TotalTokens, "total_tokens"),
    (SortKey::CostUsd, "cost_usd"),
    (SortKey::EstimatedRequests, "estimated_requests"),
    (SortKey::EstimatedTokens, "estimated_tokens"),
    (SortKey::EstimateErrorTokens, "estimate_error_tokens"),
    (SortKey::EstimateError, "estimate_error"),
    (SortKey::UnreportedRequests, "unreported_requests"),
    (SortKey::AudioInputTokens, "audio_input_tokens"),
    (SortKey::ImageInputTokens, "image_input_tokens"),
    (SortKey::ImageOutputTokens, "image_output_tokens"),
    (SortKey::RefetchedRequests, "refetched_requests"),
    (SortKey::UnpricedRequests, "unpriced_requests"),
    (SortKey::DefaultPricedRequests, "default_priced_requests"),
    (SortKey::CacheHitRate, "cache_hit_rate"),
    (SortKey::AvgDurationMs, "avg_duration_ms"),
    (SortKey::P50DurationMs, "p50_duration_ms"),
    (SortKey::P95DurationMs, "p95_duration_ms"),
    (SortKey::AvgTimeToFirstTokenMs, "avg_time_to_first_token_ms"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Puts groups in order; without `order`, keys ascend and figures descend.
pub(super) fn sorted(
    groups: Groups,
    sort: SortKey,
    order: Option<Order>,
) -> Vec<(Vec<KeyValue>, Totals)> {
    let default = if sort == SortKey::Key { Order::Ascending } else { Order::Descending };
    let order = order.unwrap_or(default);
    let totals = groups.into_iter().map(|(key, tally)| (key, tally.totals()));
    let mut groups: Vec<_> =
        totals.map(|(key, totals)| (sort.figure(&totals), key, totals)).collect();
    groups.sort_by(|one, other| match (sort, order) {
        (SortKey::Key, Order::Ascending) => one.1.cmp(&other.1),
        (SortKey::Key, Order::Descending) => other.1.cmp(&one.1),
        (_, Order::Ascending) => one.0.cmp(&other.0).then_with(|| one.1.cmp(&other.1)),
        (_, Order::Descending) => other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)),
    });
    groups.into_iter().map(|(_, key, totals)| (key, totals)).collect()
}

impl SortKey {
    /// Unknown is less than any figure.
    fn figure(self, totals: &Totals) -> Option<Decimal> {
        let count = |count: u64| Some(Decimal::from(count));
        match self {
            SortKey::Key => None,
            SortKey::Requests => count(totals.requests),
            SortKey::Errors => count(totals.errors),
            SortKey::InputTokens => count(totals.input_tokens),
            SortKey::CacheReadTokens => count(totals.cache_read_tokens),
            SortKey::CacheWriteTokens => count(totals.cache_write_tokens),
            SortKey::AudioInputTokens => count(totals.audio_input_tokens),
            SortKey::ImageInputTokens => count(totals.image_input_tokens),
            SortKey::OutputTokens => count(totals.output_tokens),
            SortKey::ReasoningTokens => count(totals.reasoning_tokens),
            SortKey::AudioOutputTokens => count(totals.audio_output_tokens),
            SortKey::ImageOutputTokens => count(totals.image_output_tokens),
            SortKey::TotalTokens => count(totals.total_tokens),
            SortKey::CostUsd => Some(totals.cost_usd.decimal()),
            SortKey::EstimatedRequests => count(totals.estimated_requests),
            SortKey::EstimatedTokens => count(totals.estimated_tokens),
            SortKey::EstimateErrorTokens => count(totals.estimate_error_tokens),
            SortKey::EstimateError => totals.estimate_error,
            SortKey::UnreportedRequests => count(totals.unreported_requests),
            SortKey::RefetchedRequests => count(totals.refetched_requests),
            SortKey::UnpricedRequests => count(totals.unpriced_requests),
            SortKey::DefaultPricedRequests => count(totals.default_priced_requests),
            SortKey::CacheHitRate => totals.cache_hit_rate,
            SortKey::AvgDurationMs => totals.avg_duration_ms,
            SortKey::P50DurationMs => totals.p50_duration_ms.map(Decimal::from),
            SortKey::P95DurationMs => totals.p95_duration_ms.map(Decimal::from),
            SortKey::AvgTimeToFirstTokenMs => totals.avg_time_to_first_token_ms,
        }
    }
}

/// A word that is no [`SortKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSort(String);

impl fmt::Display for UnknownSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = SORT_KEYS.map(|(_, name)| name).join(", ");
        write!(f, "cannot sort by `{}`; possible are {names}", self.0)
    }
}

impl std::error::Error for UnknownSort {}

impl FromStr for SortKey {
    type Err = UnknownSort;

    fn from_str(text: &str) -> Result<SortKey, UnknownSort> {
        let found = SORT_KEYS.iter().find(|(_, name)| *name == text);
        found.map(|(key, _)| *key).ok_or_else(|| UnknownSort(text.to_owned()))
    }
}
