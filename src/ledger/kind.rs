//! What most calls have in common with many others: who answered which model's call, for what, and how
//! that ended. Owns the list of these facts and what follows from them; a call's row names its kind by
//! a number, and sums are kept by kind.
//!
//! A fact that takes very many values (an operation with an id in its name) would make every call a
//! kind of its own. Past [`VALUES`] of them, further values stand in the rows: the kind's `varied` says
//! for which facts.
//!
//! Invariant: kinds are added and never changed, so whoever has read one may keep it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::hash::Hasher;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde_json::{Map, Value};

use super::group::KeyValue;
use crate::record::{Record, StreamUsage};

/// Values of one fact that make kinds.
pub(super) const VALUES: usize = 1000;

/// The facts, by the names of their columns.
pub(super) const FACTS: [&str; 22] = [
    "upstream",
    "provider",
    "endpoint",
    "method",
    "model_requested",
    "model",
    "operation",
    "attempt",
    "metadata",
    "key_id",
    "usage_source",
    "cost_source",
    "price_id",
    "status",
    "streaming",
    "finish_reason",
    "outcome",
    "error",
    "retry",
    "service_tier",
    "stream_usage",
    "key_fingerprint",
];

/// The places of those facts that something follows from.
pub(super) mod fact {
    pub(in crate::ledger) const UPSTREAM: usize = 0;
    pub(in crate::ledger) const PROVIDER: usize = 1;
    pub(in crate::ledger) const ENDPOINT: usize = 2;
    pub(in crate::ledger) const METHOD: usize = 3;
    pub(in crate::ledger) const MODEL_REQUESTED: usize = 4;
    pub(in crate::ledger) const MODEL: usize = 5;
    pub(in crate::ledger) const OPERATION: usize = 6;
    pub(in crate::ledger) const ATTEMPT: usize = 7;
    pub(in crate::ledger) const METADATA: usize = 8;
    pub(in crate::ledger) const KEY_ID: usize = 9;
    pub(in crate::ledger) const USAGE_SOURCE: usize = 10;
    pub(in crate::ledger) const COST_SOURCE: usize = 11;
    pub(in crate::ledger) const PRICE_ID: usize = 12;
    pub(in crate::ledger) const STATUS: usize = 13;
    pub(in crate::ledger) const STREAMING: usize = 14;
    pub(in crate::ledger) const FINISH_REASON: usize = 15;
    pub(in crate::ledger) const OUTCOME: usize = 16;
    pub(in crate::ledger) const ERROR: usize = 17;
    pub(in crate::ledger) const RETRY: usize = 18;
    pub(in crate::ledger) const SERVICE_TIER: usize = 19;
    pub(in crate::ledger) const STREAM_USAGE: usize = 20;
    pub(in crate::ledger) const KEY_FINGERPRINT: usize = 21;
}

/// The facts that make a class, a bit each: those that totals are mostly asked by. Kinds of one class are
/// also counted alike. A class goes by the number of the first of its kinds.
pub(super) const CLASS: u32 = 1 << fact::UPSTREAM
    | 1 << fact::PROVIDER
    | 1 << fact::ENDPOINT
    | 1 << fact::MODEL_REQUESTED
    | 1 << fact::MODEL
    | 1 << fact::OPERATION
    | 1 << fact::METADATA
    | 1 << fact::USAGE_SOURCE;

/// The facts that callers and their requests choose, a bit each.
pub(super) const FREE: u32 = 1 << fact::METHOD
    | 1 << fact::MODEL_REQUESTED
    | 1 << fact::MODEL
    | 1 << fact::OPERATION
    | 1 << fact::ATTEMPT
    | 1 << fact::METADATA
    | 1 << fact::FINISH_REASON
    | 1 << fact::ERROR
    | 1 << fact::RETRY
    | 1 << fact::KEY_FINGERPRINT;

/// A fact of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact<'a> {
    Absent,
    Number(i64),
    Text(Cow<'a, str>),
}

impl<'a> Fact<'a> {
    fn text(text: &'a str) -> Fact<'a> {
        Fact::Text(Cow::Borrowed(text))
    }

    fn maybe(text: Option<&'a str>) -> Fact<'a> {
        text.map_or(Fact::Absent, Fact::text)
    }

    fn number(number: Option<impl Into<i64>>) -> Fact<'a> {
        number.map_or(Fact::Absent, |number| Fact::Number(number.into()))
    }

    /// The fact at a place of [`FACTS`]. By the place and not by the name, because each row asks for all.
    pub(super) fn of(record: &'a Record, place: usize) -> Fact<'a> {
        match place {
            fact::UPSTREAM => Fact::text(&record.upstream),
            fact::PROVIDER => Fact::text(&record.provider),
            fact::ENDPOINT => Fact::text(&record.endpoint),
            fact::METHOD => Fact::text(&record.method),
            fact::MODEL_REQUESTED => Fact::maybe(record.model_requested.as_deref()),
            fact::MODEL => Fact::maybe(record.model.as_deref()),
            fact::OPERATION => Fact::maybe(record.operation.as_deref()),
            fact::ATTEMPT => Fact::number(record.attempt),
            fact::METADATA => record.metadata.as_ref().map_or(Fact::Absent, |metadata| {
                // A map with texts for keys has a JSON.
                Fact::Text(serde_json::to_string(metadata).unwrap_or_default().into())
            }),
            fact::KEY_ID => Fact::maybe(record.key_id.as_deref()),
            fact::USAGE_SOURCE => Fact::text(record.usage_source.as_str()),
            fact::COST_SOURCE => Fact::text(record.cost_source.as_str()),
            fact::PRICE_ID => Fact::maybe(record.price_id.as_deref()),
            fact::STATUS => Fact::number(record.status),
            fact::STREAMING => Fact::Number(record.streaming.into()),
            fact::FINISH_REASON => Fact::maybe(record.finish_reason.as_deref()),
            fact::OUTCOME => Fact::text(record.outcome.as_str()),
            fact::ERROR => Fact::maybe(record.error.as_deref()),
            fact::RETRY => Fact::number(record.retry),
            fact::SERVICE_TIER => Fact::maybe(record.service_tier.as_deref()),
            fact::STREAM_USAGE => Fact::maybe(record.stream_usage.map(StreamUsage::as_str)),
            _ => Fact::maybe(record.key_fingerprint.as_deref()),
        }
    }

    /// The same as [`Fact::encode`] of the fact at a place, with no text made on the way.
    pub(super) fn encode_of(record: &Record, place: usize, to: &mut Vec<u8>) {
        let metadata = record.metadata.as_ref().filter(|_| place == fact::METADATA);
        let Some(metadata) = metadata else { return Fact::of(record, place).encode(to) };
        to.push(2);
        let length = to.len()..to.len() + size_of::<usize>();
        to.resize(length.end, 0);
        // A map with texts for keys has a JSON, and a vector takes it.
        let _ = serde_json::to_writer(&mut *to, metadata);
        let text = to.len() - length.end;
        to[length].copy_from_slice(&text.to_le_bytes());
    }

    /// Bytes that differ when facts do, whatever stands beside them.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Fact::Absent => to.push(0),
            Fact::Number(number) => {
                to.push(1);
                to.extend(number.to_le_bytes());
            }
            Fact::Text(text) => {
                to.push(2);
                to.extend(text.len().to_le_bytes());
                to.extend(text.as_bytes());
            }
        }
    }
}

impl From<Fact<'_>> for KeyValue {
    fn from(fact: Fact<'_>) -> KeyValue {
        match fact {
            Fact::Absent => KeyValue::Absent,
            Fact::Number(number) => KeyValue::Number(number),
            Fact::Text(text) => KeyValue::Text(text.into_owned()),
        }
    }
}

/// A number that is mostly another one where the facts of two records differ.
pub(super) fn hash_facts(record: &Record, hasher: &mut impl Hasher) {
    let texts = [&record.upstream, &record.provider, &record.endpoint, &record.method];
    for text in texts {
        hasher.write(text.as_bytes());
    }
    let texts = [
        &record.model_requested,
        &record.model,
        &record.operation,
        &record.key_id,
        &record.key_fingerprint,
        &record.price_id,
        &record.finish_reason,
        &record.error,
        &record.service_tier,
    ];
    for text in texts.into_iter().flatten() {
        hasher.write(text.as_bytes());
    }
    let words = [
        record.usage_source as u64,
        record.cost_source as u64,
        record.outcome as u64,
        record.streaming.into(),
        record.charged_by.is_some().into(),
        record.status.map_or(0, u64::from),
        record.attempt.map_or(0, u64::from),
        record.retry.map_or(0, u64::from),
        record.stream_usage.map_or(0, |usage| 1 + usage as u64),
    ];
    let word = words.into_iter().fold(0_u64, |all, word| all.rotate_left(7) ^ word);
    hasher.write_u64(word);
    for value in record.metadata.iter().flat_map(|metadata| metadata.values()) {
        match value {
            Value::String(text) => hasher.write(text.as_bytes()),
            Value::Number(number) => hasher.write(number.as_str().as_bytes()),
            other => hasher.write_u8(other.is_object().into()),
        }
    }
}

/// Whether two records are of one kind for certain: all facts are the same, and written the same.
pub(super) fn are_alike(one: &Record, other: &Record) -> bool {
    let facts = |record: &'_ Record| {
        (
            (record.usage_source, record.cost_source, record.outcome, record.streaming),
            (record.status, record.attempt, record.retry, record.stream_usage),
            record.charged_by.is_some(),
        )
    };
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    let metadata = match (&one.metadata, &other.metadata) {
        (None, None) => true,
        // Maps that are equal may be in another order.
        (Some(one), Some(other)) => one.iter().eq(other) && one.values().all(is_plain),
        _ => false,
    };
    metadata
        && facts(one) == facts(other)
        && one.upstream == other.upstream
        && one.provider == other.provider
        && one.endpoint == other.endpoint
        && one.method == other.method
        && one.model_requested == other.model_requested
        && one.model == other.model
        && one.operation == other.operation
        && one.key_id == other.key_id
        && one.key_fingerprint == other.key_fingerprint
        && one.price_id == other.price_id
        && one.finish_reason == other.finish_reason
        && one.error == other.error
        && one.service_tier == other.service_tier
}

/// All that makes the class of a record's kind, where some facts stand in the row.
pub(super) fn encode_class(record: &Record, varied: u32) -> Vec<u8> {
    let is_known = |place: usize| varied & 1 << place == 0;
    let facts = std::array::from_fn(|place| {
        if is_known(place) { Fact::of(record, place).into() } else { KeyValue::Absent }
    });
    let counts = Counts::of(&facts, varied, record.charged_by.is_some());
    let mut encoded = (varied & CLASS).to_le_bytes().to_vec();
    let Counts { failed, estimated, unreported, refetched, unpriced, default_priced } = counts;
    let flags = [failed, estimated, unreported, refetched, unpriced, default_priced];
    encoded.extend(flags.map(u8::from));
    // Calls are asked for by the model that they are counted under.
    let model = match facts[fact::MODEL] {
        KeyValue::Absent => fact::MODEL_REQUESTED,
        _ => fact::MODEL,
    };
    let is_of_class = |place: &usize| CLASS & 1 << place != 0;
    let others = (0..FACTS.len()).filter(is_of_class);
    let others = others.filter(|place| ![fact::MODEL, fact::MODEL_REQUESTED].contains(place));
    for place in others.chain([model]).filter(|place| is_known(*place)) {
        Fact::of(record, place).encode(&mut encoded);
    }
    encoded
}

/// A kind of calls, as it is read.
#[derive(Debug)]
pub(super) struct Kind {
    facts: [KeyValue; FACTS.len()],
    /// A bit for each fact that stands in the rows instead.
    varied: u32,
    pub(super) counts: Counts,
}

/// What a call, or each call of a kind, is counted as in totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// It did not end well.
    pub failed: bool,
    /// Its tokens are estimated.
    pub estimated: bool,
    /// Nobody knows its tokens.
    pub unreported: bool,
    /// It had only what another call is charged for.
    pub refetched: bool,
    /// It may well have cost something that nobody knows.
    pub unpriced: bool,
    /// It was priced by the default entry.
    pub default_priced: bool,
}

/// What counts are told from.
struct Said<'a> {
    usage: &'a str,
    cost: &'a str,
    outcome: &'a str,
    method: &'a str,
    status: Option<i64>,
    has_error: bool,
    refetched: bool,
}

impl Kind {
    /// Reads a row that has the columns of [`FACTS`] from `first` on, and then `charged` and `varied`.
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Kind> {
        let mut facts = [const { KeyValue::Absent }; FACTS.len()];
        for (column, fact) in (first..).zip(&mut facts) {
            *fact = match row.get_ref(column)? {
                ValueRef::Integer(number) => KeyValue::Number(number),
                value @ ValueRef::Text(_) => KeyValue::Text(value.as_str()?.to_owned()),
                _ => KeyValue::Absent,
            };
        }
        let charged = row.get(first + FACTS.len())?;
        let varied = row.get(first + FACTS.len() + 1)?;
        let counts = Counts::of(&facts, varied, charged);
        Ok(Kind { facts, varied, counts })
    }

    /// The fact at a place; nothing where the rows have it.
    pub(super) fn fact(&self, place: usize) -> Option<&KeyValue> {
        (self.varied & 1 << place == 0).then_some(&self.facts[place])
    }

    /// The fact of a row of this kind: `own` is what the row has of its own.
    pub(super) fn fact_of(&self, place: usize, own: Option<&Map<String, Value>>) -> KeyValue {
        if self.varied & 1 << place == 0 {
            return self.facts[place].clone();
        }
        match own.and_then(|own| own.get(FACTS[place])) {
            Some(Value::String(text)) => KeyValue::Text(text.clone()),
            Some(Value::Number(number)) => {
                number.as_i64().map_or(KeyValue::Absent, KeyValue::Number)
            }
            _ => KeyValue::Absent,
        }
    }

    /// Whether rows of this kind have any of these facts themselves.
    pub(super) fn is_varied(&self, places: u32) -> bool {
        self.varied & places != 0
    }
}

impl Counts {
    fn of(facts: &[KeyValue; FACTS.len()], varied: u32, refetched: bool) -> Counts {
        let word = |place: usize| match &facts[place] {
            KeyValue::Text(text) => text.as_str(),
            _ => "",
        };
        let status = match facts[fact::STATUS] {
            KeyValue::Number(status) => Some(status),
            _ => None,
        };
        Counts::told(&Said {
            usage: word(fact::USAGE_SOURCE),
            cost: word(fact::COST_SOURCE),
            outcome: word(fact::OUTCOME),
            method: word(fact::METHOD),
            status,
            has_error: facts[fact::ERROR] != KeyValue::Absent || varied & 1 << fact::ERROR != 0,
            refetched,
        })
    }

    /// What a call is counted as.
    pub fn of_record(record: &Record) -> Counts {
        Counts::told(&Said {
            usage: record.usage_source.as_str(),
            cost: record.cost_source.as_str(),
            outcome: record.outcome.as_str(),
            method: &record.method,
            status: record.status.map(i64::from),
            has_error: record.error.is_some(),
            refetched: record.charged_by.is_some(),
        })
    }

    fn told(said: &Said<'_>) -> Counts {
        let Said { usage, cost, outcome, method, status, has_error, refetched } = *said;
        let refused_by_provider = status.is_some_and(|status| status >= 400);
        let used_nothing = usage == "none"
            && (refused_by_provider || outcome == "refused" || only_asks(method, status));
        Counts {
            failed: refused_by_provider || outcome != "completed" || has_error,
            estimated: usage == "estimated" && !refetched,
            unreported: usage == "none" && !refetched,
            refetched,
            unpriced: cost == "none" && !refetched && !used_nothing,
            default_priced: cost == "default",
        }
    }
}

/// Listing models or fetching a file costs nothing; a WebSocket also starts with `GET`, and does.
fn only_asks(method: &str, status: Option<i64>) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE") && status != Some(101)
}

/// Beyond any number that a ledger comes to: a damaged one must not fill the memory.
const MOST: u32 = 1 << 24;

/// All kinds of a ledger, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kinds: Vec<Option<Kind>>,
}

impl Kinds {
    /// Reads the kinds that have come since the last reading.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = format!(
            "SELECT id, {}, charged, varied FROM kinds WHERE id >= ? ORDER BY id",
            FACTS.join(", ")
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let known = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        let mut rows = statement.query([known])?;
        while let Some(row) = rows.next()? {
            let id = usize::try_from(row.get::<_, u32>(0)?.min(MOST)).unwrap_or_default();
            self.kinds.resize_with(id, || None);
            self.kinds.push(Some(Kind::read(row, 1)?));
        }
        Ok(())
    }

    pub(super) fn get(&self, id: u32) -> Option<&Kind> {
        self.kinds.get(usize::try_from(id).ok()?)?.as_ref()
    }

    /// The names that metadata have, in order: of those that kinds tell, and so many at most.
    pub(super) fn metadata_names(&self, most: usize) -> BTreeSet<String> {
        let texts = self.iter().filter_map(|(_, kind)| match kind.fact(fact::METADATA) {
            Some(KeyValue::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        let mut names = BTreeSet::new();
        for text in texts.collect::<HashSet<_>>() {
            let members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            for (name, _) in members {
                if names.len() < most || names.contains(&name) {
                    names.insert(name);
                }
            }
        }
        names
    }

    /// Every kind with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Kind)> {
        (0..).zip(&self.kinds).filter_map(|(id, kind)| Some((id, kind.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::row::tests::call;

    #[test]
    fn each_fact_stands_at_the_place_of_its_name() {
        let mut said = serde_json::to_value(call(5)).unwrap();
        let texts = ["usage_source", "cost_source", "outcome"];
        for (place, name) in FACTS.into_iter().enumerate().filter(|(_, name)| !texts.contains(name))
        {
            said[name] = match name {
                "attempt" | "status" | "retry" => place.into(),
                "streaming" => true.into(),
                "metadata" => serde_json::json!({"n": place}),
                "stream_usage" => "injected".into(),
                name => name.into(),
            };
        }
        let record: Record = serde_json::from_value(said.clone()).unwrap();
        for (place, name) in FACTS.into_iter().enumerate() {
            let expected = match &said[name] {
                Value::Number(number) => Fact::Number(number.as_i64().unwrap()),
                Value::Bool(is) => Fact::Number((*is).into()),
                Value::String(text) => Fact::text(text),
                other => Fact::Text(other.to_string().into()),
            };
            assert_eq!(Fact::of(&record, place), expected, "{name}");
            let (mut one, mut other) = (vec![7], vec![7]);
            expected.encode(&mut one);
            Fact::encode_of(&record, place, &mut other);
            assert_eq!(one, other, "{name}");
        }
    }
}
