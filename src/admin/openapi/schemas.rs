//! What is answered, as the description has it. Owns the types of figures and columns; their names come from
//! the answers' own types.

use serde_json::{Map, Value, json};

use crate::admin::params::{COST_SOURCES, OUTCOMES, USAGE_SOURCES};
use crate::ledger::{COLUMNS, Totals, Word};
use crate::pricing::CostSource;
use crate::record::Outcome;
use crate::respond::ErrorCode;
use crate::usage::UsageSource;

/// Every shape of an answer, by name.
pub(super) fn all() -> Value {
    let totals = totals();
    let group = with(
        &totals,
        json!({"key": {"type": "object", "additionalProperties": any_value(),
        "description": "What the calls have in common; null where they do not say"}}),
    );
    let user_in_list = with(&totals, json!({"user": text_or_null()}));
    let attempt = with(
        &totals,
        json!({
            "attempt": {"type": ["integer", "null"]}, "first_call": time(), "last_call": time(),
            "models": list(json!({"type": "string"})), "finish_reasons": list(json!({"type": "string"})),
        }),
    );
    let mut all = json!({
        "Totals": totals, "Group": group, "UserTotals": user_in_list, "Attempt": attempt,
        "Window": object(json!({"since": or_null(time()), "until": or_null(time())})),
        "Stats": optional(json!({"window": of("Window"), "totals": of("Totals"), "groups": list(of("Group")),
            "next_offset": whole_or_null()}), json!({"rows_since": time()})),
        "Users": object(json!({"window": of("Window"), "totals": of("Totals"),
            "users": list(of("UserTotals")), "next_offset": whole_or_null()})),
        "User": optional(json!({"user": {"type": "string"}, "window": of("Window"), "totals": of("Totals"),
            "by_model": list(of("Group")), "by_operation": list(of("Group")), "by_day": list(of("Group")),
            "last_activity": or_null(time())}), json!({"rows_since": time()})),
        "Session": optional(json!({"session": {"type": "string"}, "totals": of("Totals"),
            "by_model": list(of("Group")), "by_operation": list(of("Group")),
            "attempts": list(of("Attempt")), "first_call": time(), "last_call": time()}),
            json!({"rows_since": time()})),
        "Calls": object(json!({"records": list(of("Call")), "next_cursor": text_or_null()})),
        "Call": row(),
        "Estimates": object(json!({"estimates": list(object(json!({
            "provider": {"type": "string"}, "model": {"type": "string"},
            "side": {"type": "string", "enum": ["input", "output"]}, "samples": whole(),
            "bias": {"type": ["number", "null"]}, "error": {"type": ["number", "null"]}})))})),
        "Live": object(json!({"now": time(), "open_calls": whole(), "calls": list(object(json!({
            "id": {"type": "string", "format": "uuid"}, "created_at": time(), "age_ms": whole(),
            "upstream": {"type": "string"}, "provider": {"type": "string"},
            "endpoint": {"type": "string"}, "model_requested": text_or_null(),
            "user": text_or_null(), "session": text_or_null(), "operation": text_or_null(),
            "attempt": whole_or_null(), "metadata": {"type": ["object", "null"]}})))})),
        "Alive": object(json!({"status": {"type": "string", "const": "ok"}})),
        "Readiness": readiness(),
        "Error": error(&json!({})),
        "PricesError": error(&json!({"complaints": list(of("Complaint"))})),
        "Complaint": object(json!({"line": whole(), "message": {"type": "string"}})),
        "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
        "TimeZone": {"type": "string", "enum": zones()},
    });
    if let (Some(all), Value::Object(prices)) = (all.as_object_mut(), prices()) {
        all.extend(prices);
    }
    all
}

/// The price table.
fn prices() -> Value {
    let rates = of("Rates");
    let above = object(json!({"input_tokens": whole(), "rates": rates}));
    json!({
        "Rates": {"type": "object", "description": "By the keys of the price table: dollars for 1,000,000 \
            tokens, or for what a key that begins with `per_` says",
            "additionalProperties": {"anyOf": [money(),
                {"type": "object", "additionalProperties": money()}]}},
        "PriceSet": object(json!({
            "since": text_or_null(), "rates": rates, "above": list(above.clone()),
            "tiers": list(object(json!({"tier": {"type": "string"}, "rates": rates,
                "above": list(above)}))),
            "daily": list(object(json!({"hours": {"type": "string"}, "rates": rates}))),
        })),
        "Price": object(json!({
            "id": {"type": "string"}, "provider": text_or_null(), "name": {"type": "string"},
            "is_pattern": {"type": "boolean"}, "is_default": {"type": "boolean"},
            "is_free": {"type": "boolean"}, "aliases": list(json!({"type": "string"})),
            "source": {"type": "string"}, "line": whole_or_null(), "since": text_or_null(),
            "rates": rates, "sets": list(of("PriceSet")), "min_audio_seconds": whole_or_null(),
        })),
        "PriceTable": object(json!({"file": text_or_null(), "sha256": {"type": "string"},
            "loaded_at": time(), "entries": whole()})),
        "AppliedPrice": object(json!({
            "provider": {"type": "string"}, "model": {"type": "string"}, "at": time(),
            "cost_source": words(&COST_SOURCES, CostSource::as_str), "price_id": text_or_null(),
            "reason": {"type": "string"}, "multiplier": {"type": ["number", "null"]}, "rates": rates,
            "entry": text_or_null(), "example": object(json!({"input_tokens": whole(),
                "output_tokens": whole(), "cost_usd": or_null(money())})),
        })),
        "PriceProvider": object(json!({
            "provider": {"type": "string"}, "also": list(json!({"type": "string"})),
            "is_free": {"type": "boolean"}, "multiplier": {"type": ["number", "null"]},
            "same_as": list(json!({"type": "string"})), "prices": whole(),
        })),
        "Prices": object(json!({
            "table": of("PriceTable"), "updates": or_null(of("PriceUpdates")), "at": time(),
            "providers": list(of("PriceProvider")), "applies": or_null(list(of("AppliedPrice"))),
            "similar": or_null(list(json!({"type": "string"}))), "prices": list(of("Price")),
            "next_offset": whole_or_null(),
        })),
        "PriceUpdates": object(json!({
            "every_seconds": whole(), "write": {"type": "boolean"},
            "next_at": or_null(time()), "lists": list(of("PriceUpdate")),
        })),
        "PriceUpdate": object(json!({
            "list": {"type": "string"}, "at": or_null(time()),
            "result": {"type": "string", "enum": ["waiting", "done", "failed"]},
            "message": text_or_null(), "models": whole_or_null(), "new": whole_or_null(),
            "changed": whole_or_null(), "gone": whole_or_null(), "skipped": whole_or_null(),
            "unchanged": whole_or_null(), "written": {"type": "boolean"},
        })),
        "Reloaded": object(json!({
            "reloaded": {"type": "boolean"}, "message": {"type": "string"}, "table": of("PriceTable"),
            "changes": or_null(object(json!({
                "new": list(json!({"type": "string"})), "gone": list(json!({"type": "string"})),
                "unchanged": whole(), "changed": list(object(json!({
                    "id": {"type": "string"}, "old": rates, "new": rates}))),
            }))),
        })),
    })
}

/// The names of the figures of totals.
pub(super) fn figures() -> Vec<String> {
    match serde_json::to_value(Totals::default()) {
        Ok(Value::Object(totals)) => totals.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

fn totals() -> Value {
    let figure = |name: String| {
        let schema = match name.as_str() {
            "cost_usd" => money(),
            "estimate_error" | "cache_hit_rate" => {
                json!({"type": ["number", "null"], "minimum": 0})
            }
            name if name.starts_with("avg_") => json!({"type": ["number", "null"], "minimum": 0}),
            name if name.ends_with("_ms") => whole_or_null(),
            _ => whole(),
        };
        (name, schema)
    };
    object(Value::Object(figures().into_iter().map(figure).collect()))
}

/// Every column of the ledger.
fn row() -> Value {
    let column = |name: &str| (name.to_owned(), column(name));
    object(Value::Object(COLUMNS.into_iter().map(column).collect()))
}

fn column(name: &str) -> Value {
    match name {
        "id" => json!({"type": "string", "format": "uuid"}),
        "charged_by" => json!({"type": ["string", "null"]}),
        "created_at" => time(),
        "upstream" | "provider" | "endpoint" | "method" | "path" => json!({"type": "string"}),
        "metadata" | "usage_json" | "estimate" => json!({"type": ["object", "null"]}),
        "usage_source" => words(&USAGE_SOURCES, UsageSource::as_str),
        "cost_source" => words(&COST_SOURCES, CostSource::as_str),
        "outcome" => words(&OUTCOMES, Outcome::as_str),
        "streaming" => json!({"type": "boolean"}),
        "cost_usd" | "computed_cost_usd" => or_null(money()),
        "stream_usage" => {
            json!({"type": ["string", "null"], "enum": ["injected", "refused", null]})
        }
        "attempt" | "status" | "retry" => whole_or_null(),
        name if name.ends_with("_tokens") || name.ends_with("_ms") => whole_or_null(),
        _ => text_or_null(),
    }
}

fn readiness() -> Value {
    let problem = |all: &[Word]| {
        let words: Vec<&str> = all.iter().map(|word| word.as_str()).collect();
        list(object(
            json!({"word": {"type": "string", "enum": words}, "message": {"type": "string"}}),
        ))
    };
    object(json!({
        "status": {"type": "string", "enum": ["ready", "not_ready"]}, "problem": text_or_null(),
        "problems": problem(&Word::PROBLEMS), "warnings": problem(&Word::WARNINGS),
        "refusing_calls": {"type": "boolean"}, "journal_lag_bytes": whole(), "journal_lag_ms": whole(),
        "waiting_lines": whole(), "waiting_bytes": whole(), "dropped_lines": whole(),
        "unreadable_lines": whole(), "disk_free_bytes": whole_or_null(),
    }))
}

fn error(more: &Value) -> Value {
    let mut fields = json!({
        "message": {"type": "string"}, "type": {"type": "string", "const": "tokenmeter_error"},
        "code": error_codes(), "param": text_or_null(),
    });
    if let (Some(fields), Some(more)) = (fields.as_object_mut(), more.as_object()) {
        fields.extend(more.clone());
    }
    object(json!({"error": object(fields)}))
}

/// What errors of this API are called.
pub(super) fn error_codes() -> Value {
    let codes = [
        ErrorCode::BadParameter,
        ErrorCode::BadPrices,
        ErrorCode::Unauthorized,
        ErrorCode::TooManyAttempts,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::Unavailable,
    ];
    json!({"type": "string", "enum": codes.map(ErrorCode::as_str)})
}

/// The time zones that this machine knows.
fn zones() -> Vec<String> {
    let mut zones: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    zones.sort_unstable();
    zones
}

fn of(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// An object that has all of these fields and no others.
fn object(fields: Value) -> Value {
    optional(fields, json!({}))
}

/// The same with fields that it may have.
fn optional(fields: Value, more: Value) -> Value {
    let (Value::Object(mut fields), Value::Object(more)) = (fields, more) else { return json!({}) };
    let required: Vec<String> = fields.keys().cloned().collect();
    fields.extend(more);
    json!({"type": "object", "properties": fields, "required": required, "additionalProperties": false})
}

/// An object with the fields of another and these.
fn with(schema: &Value, fields: Value) -> Value {
    let mut all: Map<String, Value> = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    all.extend(schema["properties"].as_object().cloned().unwrap_or_default());
    object(Value::Object(all))
}

#[expect(clippy::needless_pass_by_value)] // reads better where it is written
fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

#[expect(clippy::needless_pass_by_value)] // reads better where it is written
fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn any_value() -> Value {
    json!({"type": ["string", "number", "boolean", "null"]})
}

fn text_or_null() -> Value {
    json!({"type": ["string", "null"]})
}

fn whole() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn whole_or_null() -> Value {
    json!({"type": ["integer", "null"], "minimum": 0})
}

/// US dollars, every digit.
fn money() -> Value {
    json!({"type": "number"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Value {
    let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
    json!({"type": "string", "enum": words})
}
