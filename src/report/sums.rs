//! The figures of a set of calls, as an answer to a question for totals has them. Owns reading them and
//! taking one set from another; knows nothing of how they are shown.
//!
//! Invariant: a sum is exact, and what is taken from a whole leaves exactly the rest.

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;

use crate::units::Usd;

/// The figures of calls that have something in common. What an answer does not have is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Sums {
    pub requests: u64,
    pub errors: u64,
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub total_tokens: u64,
    pub cost_usd: Usd,
    pub estimated_requests: u64,
    pub estimated_tokens: u64,
    pub estimate_error_tokens: u64,
    pub unreported_requests: u64,
    pub refetched_requests: u64,
    pub unpriced_requests: u64,
    pub default_priced_requests: u64,
    pub p50_duration_ms: Option<u64>,
    pub p95_duration_ms: Option<u64>,
    #[serde(with = "rust_decimal::serde::arbitrary_precision_option")]
    pub avg_time_to_first_token_ms: Option<Decimal>,
}

/// Something that calls have in common, and their figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Nothing where the calls do not say.
    pub name: Option<String>,
    pub sums: Sums,
}

impl Sums {
    /// The figures of an object of an answer.
    pub fn read(object: &Value) -> Result<Sums, serde_json::Error> {
        Sums::deserialize(object)
    }

    /// What is left of these when `part` of them is taken out. Percentiles are not sums.
    pub fn less(&self, part: &Sums) -> Sums {
        Sums {
            requests: self.requests.saturating_sub(part.requests),
            errors: self.errors.saturating_sub(part.errors),
            input_tokens: self.input_tokens.saturating_sub(part.input_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_sub(part.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_sub(part.cache_write_tokens),
            output_tokens: self.output_tokens.saturating_sub(part.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_sub(part.reasoning_tokens),
            total_tokens: self.total_tokens.saturating_sub(part.total_tokens),
            cost_usd: self.cost_usd - part.cost_usd,
            estimated_requests: self.estimated_requests.saturating_sub(part.estimated_requests),
            estimated_tokens: self.estimated_tokens.saturating_sub(part.estimated_tokens),
            estimate_error_tokens: self
                .estimate_error_tokens
                .saturating_sub(part.estimate_error_tokens),
            unreported_requests: self.unreported_requests.saturating_sub(part.unreported_requests),
            refetched_requests: self.refetched_requests.saturating_sub(part.refetched_requests),
            unpriced_requests: self.unpriced_requests.saturating_sub(part.unpriced_requests),
            default_priced_requests: self
                .default_priced_requests
                .saturating_sub(part.default_priced_requests),
            p50_duration_ms: None,
            p95_duration_ms: None,
            avg_time_to_first_token_ms: None,
        }
    }

    /// Calls whose figures are their provider's own.
    pub fn reported_requests(&self) -> u64 {
        let others = [self.estimated_requests, self.unreported_requests, self.refetched_requests];
        others.into_iter().fold(self.requests, u64::saturating_sub)
    }

    /// Output besides reasoning, which some providers count with another tokenizer.
    pub fn plain_output_tokens(&self) -> u64 {
        self.output_tokens.saturating_sub(self.reasoning_tokens)
    }

    /// `part` of all calls.
    pub fn share_of_requests(&self, part: u64) -> Option<Decimal> {
        Decimal::from(part).checked_div(Decimal::from(self.requests))
    }

    /// The part of the input that came from a cache.
    pub fn cache_hit_rate(&self) -> Option<Decimal> {
        Decimal::from(self.cache_read_tokens).checked_div(Decimal::from(self.input_tokens))
    }
}

impl Group {
    /// A group of an answer that is grouped by `key`.
    pub fn read(group: &Value, key: &str) -> Result<Group, serde_json::Error> {
        let name = match &group["key"][key] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Ok(Group { name, sums: Sums::read(group)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_is_read_to_the_last_digit() {
        let text = r#"{"key": {"attempt": 2}, "requests": 3, "cost_usd": 123456789.123456789,
            "cache_hit_rate": null, "avg_time_to_first_token_ms": 1.5, "some_later_figure": []}"#;
        let group = Group::read(&serde_json::from_str(text).unwrap(), "attempt").unwrap();
        assert_eq!(group.name.as_deref(), Some("2"));
        assert_eq!(group.sums.cost_usd.to_string(), "123456789.123456789");
        assert_eq!(group.sums.avg_time_to_first_token_ms, Some(Decimal::new(15, 1)));
        assert_eq!(group.sums.total_tokens, 0);
    }

    #[test]
    fn a_part_and_the_rest_are_the_whole() {
        let sums = |requests, cost: &str| Sums {
            requests,
            cost_usd: cost.parse().unwrap(),
            p50_duration_ms: Some(5),
            ..Sums::default()
        };
        let rest = sums(10, "1.000000001").less(&sums(3, "0.25"));
        assert_eq!((rest.requests, rest.cost_usd.to_string()), (7, "0.750000001".to_owned()));
        assert_eq!(rest.p50_duration_ms, None);
    }
}
