//! Answers of the ledger as `top` shows them. Owns which of their figures are read; knows nothing of who
//! asks or draws.

use rust_decimal::Decimal;
use serde_json::Value;

use crate::units::{Timestamp, Usd, parse_decimal};

/// The figures of a group of calls, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) tokens: u64,
    pub(super) cost: Usd,
    /// Calls whose tokens are an estimate.
    pub(super) estimated: u64,
    /// Calls that may have cost something that `cost` does not hold.
    pub(super) unpriced: u64,
    pub(super) p50_ms: Option<u64>,
}

impl Figures {
    pub(super) fn of(answer: &Value) -> Figures {
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        Figures {
            calls: count("requests"),
            errors: count("errors"),
            input: count("input_tokens"),
            output: count("output_tokens"),
            tokens: count("total_tokens"),
            cost: usd(&answer["cost_usd"]).unwrap_or(Usd::ZERO),
            estimated: count("estimated_requests"),
            unpriced: count("unpriced_requests"),
            p50_ms: answer["p50_duration_ms"].as_u64(),
        }
    }
}

/// Calls that have the same under a key; nothing where they do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) key: Option<String>,
    pub(super) figures: Figures,
}

impl Group {
    pub(super) fn of(by: &str, answer: &Value) -> Group {
        let key = match &answer["key"][by] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Group { key, figures: Figures::of(answer) }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) at: Timestamp,
    pub(super) user: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) model: Option<String>,
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cost: Option<Usd>,
    pub(super) is_estimated: bool,
    pub(super) status: Option<u64>,
    pub(super) outcome: String,
    pub(super) is_failed: bool,
    pub(super) duration_ms: Option<u64>,
}

impl Call {
    pub(super) fn of(row: &Value) -> Option<Call> {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let status = row["status"].as_u64();
        let outcome = text("outcome").unwrap_or_default();
        // As the sums count it.
        let is_failed = outcome != "completed"
            || status.is_some_and(|status| status >= 400)
            || !row["error"].is_null();
        Some(Call {
            at: row["created_at"].as_str()?.parse().ok()?,
            user: text("user"),
            operation: text("operation"),
            model: text("model").or_else(|| text("model_requested")),
            input: row["input_tokens"].as_u64(),
            output: row["output_tokens"].as_u64(),
            cost: usd(&row["cost_usd"]),
            is_estimated: row["usage_source"] == "estimated",
            status,
            outcome,
            is_failed,
            duration_ms: row["duration_ms"].as_u64(),
        })
    }
}

/// A sum for so many milliseconds as one for an hour.
pub(super) fn per_hour(amount: Usd, millis: i64) -> Usd {
    per(amount.decimal(), millis, 3_600_000).map_or(Usd::ZERO, Usd::new)
}

/// A count for so many milliseconds as one for a minute.
pub(super) fn per_minute(count: u64, millis: i64) -> Decimal {
    per(Decimal::from(count), millis, 60_000).unwrap_or_default()
}

fn per(amount: Decimal, millis: i64, unit: i64) -> Option<Decimal> {
    amount.checked_mul(Decimal::from(unit))?.checked_div(Decimal::from(millis))
}

fn usd(value: &Value) -> Option<Usd> {
    let number = value.is_number().then(|| value.to_string())?;
    parse_decimal(&number).ok().map(Usd::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_are_exact() {
        let cents: Usd = "0.25".parse().unwrap();
        assert_eq!(per_hour(cents, 60_000), "15".parse().unwrap());
        assert_eq!(per_hour(cents, 0), Usd::ZERO);
        assert_eq!(per_minute(30, 300_000), Decimal::from(6));
    }

    #[test]
    fn what_a_call_does_not_say_is_unknown() {
        let row = json!({
            "created_at": "2026-11-21T09:30:00.000Z", "model": null, "model_requested": "gpt-4o",
            "status": 429, "outcome": "completed", "cost_usd": null,
        });
        let call = Call::of(&row).unwrap();
        assert_eq!((call.model.as_deref(), call.cost, call.input), (Some("gpt-4o"), None, None));
        assert!(call.is_failed && !call.is_estimated);
        assert_eq!(Call::of(&json!({})), None);
        assert_eq!(
            Group::of("status", &json!({"key": {"status": 200}})).key.as_deref(),
            Some("200")
        );
    }
}
