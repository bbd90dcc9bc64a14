//! What may be asked, as the description has it: types, words and limits, from where the reader of
//! parameters has them. Owns nothing that the reader does not check.

use serde_json::{Map, Value, json};

use crate::admin::params::{COST_SOURCES, DAYS, METADATA, OUTCOMES, STATUSES, USAGE_SOURCES};
use crate::admin::prices::ENTRIES;
use crate::admin::question::{GROUPS, ROWS};
use crate::archive::Format;
use crate::pricing::CostSource;
use crate::record::Outcome;
use crate::usage::UsageSource;

/// What calls can be grouped by, besides `metadata.NAME`.
pub(super) const GROUP_KEYS: [&str; 21] = [
    "user",
    "model",
    "operation",
    "session",
    "attempt",
    "provider",
    "upstream",
    "endpoint",
    "finish_reason",
    "usage_source",
    "cost_source",
    "price_id",
    "key_fingerprint",
    "outcome",
    "status",
    "error",
    "retry",
    "hour",
    "day",
    "week",
    "month",
];

/// The filters that take any text.
const TEXTS: [&str; 11] = [
    "user",
    "session",
    "operation",
    "provider",
    "upstream",
    "model",
    "endpoint",
    "price_id",
    "key_fingerprint",
    "finish_reason",
    "error",
];

/// The filters with a form of their own.
const WORDS: [&str; 5] = ["usage_source", "cost_source", "outcome", "status", "metadata"];

/// A parameter of the query, by its name among the components.
pub(super) fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// A parameter of the path.
#[expect(clippy::needless_pass_by_value)] // reads better where it is written
pub(super) fn path(name: &str, about: &str, schema: Value) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
}

pub(super) fn window() -> Vec<Value> {
    ["days", "since", "until", "tz"].map(named).to_vec()
}

pub(super) fn filters() -> Vec<Value> {
    TEXTS.iter().chain(&WORDS).map(|name| named(name)).collect()
}

pub(super) fn filters_but_user() -> Vec<Value> {
    filters().into_iter().filter(|one| *one != named("user")).collect()
}

pub(super) fn paged(limit: &str) -> Vec<Value> {
    vec![named(limit), named("offset")]
}

pub(super) fn user_totals() -> Vec<Value> {
    [window(), filters(), vec![named("sort"), named("order")], paged("GroupsLimit")].concat()
}

pub(super) fn totals() -> Vec<Value> {
    [vec![named("group_by")], user_totals()].concat()
}

pub(super) fn calls() -> Vec<Value> {
    [window(), filters(), vec![named("RowsLimit"), named("cursor")]].concat()
}

/// All parameters of queries, by the names that [`named`] takes.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    let mut put = |key: &str, name: &str, about: &str, schema: Value| {
        let parameter =
            json!({"name": name, "in": "query", "description": about, "schema": schema});
        all.insert(key.to_owned(), parameter);
    };
    for name in TEXTS {
        put(name, name, "Calls with exactly this value", text());
    }
    let moment = "A date, which is its midnight in `tz`, or a time with its offset";
    let limits = |range: &std::ops::RangeInclusive<u64>| json!({"type": "integer", "minimum": range.start(), "maximum": range.end()});
    put(
        "days",
        "days",
        "The last so many times 24 hours; together with `since` or `until` a 400 with `param` \"days\"",
        limits(&DAYS),
    );
    put("since", "since", moment, time());
    let until = "not included; not later than `since` is a 400 with `param` \"until\"";
    put("until", "until", &format!("{moment}; {until}"), time());
    put("tz", "tz", "For dates, and for hours, days, weeks and months; default UTC", zone());
    put("at", "at", "What holds at this time; default now", time());
    put(
        "usage_source",
        "usage_source",
        "Where the figures come from",
        words(&USAGE_SOURCES, UsageSource::as_str),
    );
    put(
        "cost_source",
        "cost_source",
        "Where the cost comes from",
        words(&COST_SOURCES, CostSource::as_str),
    );
    put("outcome", "outcome", "How the call ended", words(&OUTCOMES, Outcome::as_str));
    put("status", "status", "Calls answered with this status", limits(&STATUSES));
    put("sort", "sort", "A figure, or `key`", json!({"type": "string", "enum": sorts()}));
    put(
        "order",
        "order",
        "Default: keys ascend, figures descend",
        json!({"type": "string", "enum": ["asc", "desc"]}),
    );
    put("RowsLimit", "limit", "So many calls; default 20", limits(&ROWS));
    put("GroupsLimit", "limit", "So many groups; default all that fit", limits(&GROUPS));
    put("PricesLimit", "limit", "So many prices; default 1000", limits(&ENTRIES));
    put(
        "offset",
        "offset",
        "The `next_offset` of the answer before",
        json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
    );
    put(
        "cursor",
        "cursor",
        "The `next_cursor` of the answer before",
        json!({"type": "string",
        "pattern": "^[0-9]{1,15}\\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"}),
    );
    put("format", "format", "Default csv", words(&[Format::Csv, Format::Jsonl], Format::as_str));
    put("name", "name", "Entries with this name or alias; * stands for any text", text());
    put("PricesProvider", "provider", "This provider, by any of its names", text());
    put("model", "model", "What applies to this model, or calls of it", text());
    let group_by = json!({
        "name": "group_by", "in": "query", "style": "form", "explode": false,
        "description": "What groups have in common, in this order",
        "schema": {"type": "array", "minItems": 1, "uniqueItems": true, "items": {"anyOf": [
            {"type": "string", "enum": GROUP_KEYS},
            {"type": "string", "pattern": format!("^{}[^,]*[^,\\s]$", METADATA.replace('.', "\\."))},
        ]}},
    });
    let metadata = json!({
        "name": "metadata", "in": "query", "style": "form", "explode": true,
        "description": "`metadata.NAME`: calls whose metadata has this value under NAME",
        "schema": {"type": "object", "additionalProperties": false,
            "patternProperties": {format!("^{}[\\s\\S]+$", METADATA.replace('.', "\\.")): {"type": "string"}}},
        "example": {"metadata.team": "red"},
    });
    all.insert("group_by".to_owned(), group_by);
    all.insert("metadata".to_owned(), metadata);
    Value::Object(all)
}

/// An empty text could mean two things, and is refused.
fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn time() -> Value {
    json!({"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]})
}

fn zone() -> Value {
    json!({"$ref": "#/components/schemas/TimeZone"})
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Value {
    let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
    json!({"type": "string", "enum": words})
}

/// What groups can be sorted by: every figure of totals, and their key.
pub(super) fn sorts() -> Vec<String> {
    std::iter::once("key".to_owned()).chain(super::schemas::figures()).collect()
}
