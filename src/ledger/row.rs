//! A [`Record`] as a row of `token_usage` and back. Owns the order of the columns; knows neither
//! which rows are asked for nor when they are written.
//!
//! Invariant: what is written is read back equal, field by field.

use std::sync::LazyLock;

use rusqlite::types::{FromSql, ToSql, ValueRef};
use rusqlite::{Row, Statement, Transaction};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::names::{Names, Place, Text};
use super::packed::unpack;
use crate::record::{CallId, Record};
use crate::units::{Timestamp, Usd};

/// How many columns [`read`] reads: those of [`COLUMNS`], of which two are read as two.
pub(super) const WIDTH: usize = COLUMNS.len() + 2;

/// Every column of `token_usage`, in the order in which `read` reads them.
pub const COLUMNS: [&str; 46] = [
    "id",
    "created_at",
    "upstream",
    "provider",
    "endpoint",
    "method",
    "path",
    "model_requested",
    "model",
    "user",
    "session",
    "operation",
    "attempt",
    "metadata",
    "key_id",
    "key_fingerprint",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "total_tokens",
    "usage_source",
    "cost_usd",
    "cost_source",
    "computed_cost_usd",
    "price_id",
    "status",
    "streaming",
    "finish_reason",
    "outcome",
    "error",
    "retry",
    "upstream_request_id",
    "service_tier",
    "duration_ms",
    "time_to_first_byte_ms",
    "time_to_first_token_ms",
    "usage_json",
    "estimate",
    "stream_usage",
    "charged_by",
];

/// The columns of the table `calls`, in the order in which `bind` writes them.
const WRITTEN: [&str; 28] = [
    "key",
    "id",
    "kind",
    "user",
    "session",
    "path",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "total_tokens",
    "cost_usd",
    "computed_cost_usd",
    "upstream_request_id",
    "duration_ms",
    "time_to_first_byte_ms",
    "time_to_first_token_ms",
    "usage_shape",
    "usage",
    "estimate_shape",
    "estimate",
    "charged_by",
    "own",
];

/// The statement that adds a row to `calls`, unless its id is there. `ON CONFLICT (id)` and not `OR
/// IGNORE`, which would swallow every other kind of failure too.
pub(super) fn insert_sql() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let places = vec!["?"; WRITTEN.len()].join(", ");
        let names = WRITTEN.join(", ");
        format!("INSERT INTO calls ({names}) VALUES ({places}) ON CONFLICT (id) DO NOTHING")
    });
    &SQL
}

/// Binds a record, with the numbers of its names, to the statement of [`insert_sql`].
pub(super) fn bind(
    statement: &mut Statement<'_>,
    key: i64,
    record: &Record,
    place: &Place,
    texts: &Texts,
) -> rusqlite::Result<()> {
    // What is unknown, as most of a row is, need not be bound one by one.
    statement.clear_bindings();
    let mut to = Binder { statement, column: 0 };
    to.put(key)?;
    to.put(record.id.into_bytes())?;
    to.put(place.kind)?;
    to.maybe(place.user)?;
    to.maybe(place.session)?;
    to.put(&place.path)?;
    to.count(record.input_tokens)?;
    to.count(record.cache_read_tokens)?;
    to.count(record.cache_write_tokens)?;
    to.count(record.audio_input_tokens)?;
    to.count(record.image_input_tokens)?;
    to.count(record.output_tokens)?;
    to.count(record.reasoning_tokens)?;
    to.count(record.audio_output_tokens)?;
    to.count(record.image_output_tokens)?;
    to.count(record.total_tokens)?;
    to.maybe(record.cost_usd.map(Usd::nanos))?;
    to.maybe(record.computed_cost_usd.map(Usd::nanos))?;
    to.maybe(record.upstream_request_id.as_deref())?;
    to.count(record.duration_ms)?;
    to.count(record.time_to_first_byte_ms)?;
    to.count(record.time_to_first_token_ms)?;
    to.maybe(texts.usage.shape)?;
    to.maybe(texts.usage.text.as_deref())?;
    to.maybe(texts.estimate.shape)?;
    to.maybe(texts.estimate.text.as_deref())?;
    to.maybe(record.charged_by.map(CallId::into_bytes))?;
    to.maybe(place.own.as_deref())
}

/// The JSON texts of a record, as a row has them.
#[derive(Debug)]
pub(super) struct Texts {
    usage: Text,
    estimate: Text,
}

impl Texts {
    /// Calls of one `kind` mostly have texts of one shape.
    pub(super) fn of(
        record: &Record,
        kind: u32,
        names: &mut Names,
        transaction: &Transaction<'_>,
    ) -> rusqlite::Result<Texts> {
        let estimate = record.estimate.as_ref().map(json).transpose()?;
        let usage = record.usage_json.as_deref().map(RawValue::get);
        Ok(Texts {
            usage: names.text(transaction, (kind, 0), usage)?,
            estimate: names.text(transaction, (kind, 1), estimate.as_deref())?,
        })
    }
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// Reads the row of a query that selects [`super::layout::columns`] first. Ids may also be texts.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let mut from = Reading { row, column: 0 };
    // A struct's fields are evaluated in the order in which they are written: that of `COLUMNS`.
    Ok(Record {
        id: from.id()?.ok_or_else(no_id)?,
        created_at: Timestamp::from_millis(from.next()?),
        upstream: from.next()?,
        provider: from.next()?,
        endpoint: from.next()?,
        method: from.next()?,
        path: from.next()?,
        model_requested: from.next()?,
        model: from.next()?,
        user: from.next()?,
        session: from.next()?,
        operation: from.next()?,
        attempt: from.next()?,
        metadata: from.maybe_parsed(|text| serde_json::from_str(text))?,
        key_id: from.next()?,
        key_fingerprint: from.next()?,
        input_tokens: from.count()?,
        cache_read_tokens: from.count()?,
        cache_write_tokens: from.count()?,
        audio_input_tokens: from.count()?,
        image_input_tokens: from.count()?,
        output_tokens: from.count()?,
        reasoning_tokens: from.count()?,
        audio_output_tokens: from.count()?,
        image_output_tokens: from.count()?,
        total_tokens: from.count()?,
        usage_source: from.parsed(word)?,
        cost_usd: from.next::<Option<i64>>()?.map(Usd::from_nanos),
        cost_source: from.parsed(word)?,
        computed_cost_usd: from.next::<Option<i64>>()?.map(Usd::from_nanos),
        price_id: from.next()?,
        status: from.next()?,
        streaming: from.next()?,
        finish_reason: from.next()?,
        outcome: from.parsed(word)?,
        error: from.next()?,
        retry: from.next()?,
        upstream_request_id: from.next()?,
        service_tier: from.next()?,
        duration_ms: from.count()?,
        time_to_first_byte_ms: from.count()?,
        time_to_first_token_ms: from.count()?,
        usage_json: from.unpacked(RawValue::from_string)?,
        estimate: from.unpacked(|text| serde_json::from_str(&text))?,
        stream_usage: from.maybe_parsed(word)?,
        charged_by: from.id()?,
        charges: Vec::new(),
        trace: None,
    })
}

/// Binds value after value, counting the columns.
struct Binder<'a, 'c> {
    statement: &'a mut Statement<'c>,
    column: usize,
}

impl Binder<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.column += 1;
        self.statement.raw_bind_parameter(self.column, value)
    }

    fn maybe(&mut self, value: Option<impl ToSql>) -> rusqlite::Result<()> {
        if let Some(value) = value {
            return self.put(value);
        }
        self.column += 1;
        Ok(())
    }

    /// A count or a time span; what no database integer holds is kept as the largest.
    fn count(&mut self, value: Option<u64>) -> rusqlite::Result<()> {
        self.maybe(value.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

/// Reads value after value, counting the columns.
struct Reading<'a, 'r> {
    row: &'a Row<'r>,
    column: usize,
}

impl Reading<'_, '_> {
    fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.column += 1;
        self.row.get(self.column - 1)
    }

    /// A negative count is nothing that tokenmeter ever wrote; it counts as unknown.
    fn count(&mut self) -> rusqlite::Result<Option<u64>> {
        Ok(self.next::<Option<i64>>()?.and_then(|count| u64::try_from(count).ok()))
    }

    fn id(&mut self) -> rusqlite::Result<Option<CallId>> {
        let column = self.column;
        self.column += 1;
        match self.row.get_ref(column)? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(bytes) => {
                let bytes = bytes.try_into().map_err(|e| unreadable(column, e))?;
                Ok(Some(CallId::from_bytes(bytes)))
            }
            text => text.as_str()?.parse().map(Some).map_err(|e| unreadable(column, e)),
        }
    }

    /// A JSON text that is kept as a shape and numbers, or without a shape as it is.
    fn unpacked<T>(
        &mut self,
        parse: impl Fn(String) -> serde_json::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let column = self.column;
        let (shape, text): (Option<String>, Option<String>) = (self.next()?, self.next()?);
        let text = match (shape, text) {
            (Some(shape), Some(numbers)) => unpack(&shape, &numbers).unwrap_or_default(),
            (None, Some(text)) => text,
            (_, None) => return Ok(None),
        };
        parse(text).map(Some).map_err(|e| unreadable(column, e))
    }

    fn parsed<T, E>(&mut self, parse: impl Fn(&str) -> Result<T, E>) -> rusqlite::Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let column = self.column;
        let text: String = self.next()?;
        parse(&text).map_err(|e| unreadable(column, e))
    }

    fn maybe_parsed<T, E>(
        &mut self,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> rusqlite::Result<Option<T>>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let column = self.column;
        let text: Option<String> = self.next()?;
        text.map(|text| parse(&text).map_err(|e| unreadable(column, e))).transpose()
    }
}

/// The error to be expected of an estimate, from the columns `estimate_shape` and `estimate`. It is
/// read here and not by SQL, so that the many rows without a note cost nothing.
pub(super) fn expected_error(shape: ValueRef<'_>, estimate: ValueRef<'_>) -> u64 {
    #[derive(Deserialize)]
    struct Note {
        error_tokens: u64,
    }
    let ValueRef::Text(text) = estimate else { return 0 };
    if shape == ValueRef::Null {
        return serde_json::from_slice::<Note>(text).map_or(0, |note| note.error_tokens);
    }
    // The last number of the note, because it is its last member.
    let numbers = std::str::from_utf8(text).unwrap_or_default();
    let last = numbers.rsplit([',', '[']).next().unwrap_or_default();
    last.trim_matches([']', '"']).parse().unwrap_or_default()
}

/// Reads an enum from the word that serde writes for it.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, WordError> {
    let deserializer: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(deserializer)
}

fn no_id() -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(0, "id".to_owned(), rusqlite::types::Type::Null)
}

fn unreadable<E>(column: usize, error: E) -> rusqlite::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let error = Box::new(error);
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::estimate::{Method, Unseen};
    use crate::ledger::layout;
    use crate::pricing::CostSource;
    use crate::record::{CallId, EstimateNote, EstimatedSide, Outcome, StreamUsage};
    use crate::usage::UsageSource;

    /// A plain finished call, for tests to vary.
    pub(in crate::ledger) fn call(created_at: i64) -> Record {
        let json = format!(
            r#"{{"id":"{}","created_at":"{}","upstream":"openai","provider":"openai",
            "endpoint":"chat.completions","method":"POST","path":"/v1/chat/completions",
            "usage_source":"none","cost_source":"none","streaming":false,"outcome":"completed"}}"#,
            CallId::new(),
            Timestamp::from_millis(created_at)
        );
        serde_json::from_str(&json).unwrap()
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(".{0,12}")
    }

    /// Counts as the database can hold them.
    fn count() -> impl Strategy<Value = Option<u64>> {
        proptest::option::of(0..=i64::MAX.unsigned_abs())
    }

    fn money() -> impl Strategy<Value = Option<Usd>> {
        proptest::option::of(any::<i64>().prop_map(Usd::from_nanos))
    }

    fn metadata() -> impl Strategy<Value = Option<serde_json::Map<String, serde_json::Value>>> {
        let value = prop_oneof![
            ".{0,8}".prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            Just(serde_json::json!({"deep": [1.50, null]})),
        ];
        let map = proptest::collection::vec((".{1,5}", value), 0..4);
        proptest::option::of(map.prop_map(|pairs| pairs.into_iter().collect()))
    }

    fn estimate() -> impl Strategy<Value = Option<EstimateNote>> {
        let side = proptest::option::of((0..3_usize, 0..40_u8).prop_map(|(method, error)| {
            let method = [Method::Bpe, Method::Ratio, Method::Bytes][method];
            EstimatedSide { method, error: f64::from(error) / 8.0 }
        }));
        let unseen = proptest::collection::vec(Just(Unseen::History), 0..2);
        let note = (side.clone(), side, unseen, any::<u64>()).prop_map(
            |(input, output, unseen, error_tokens)| EstimateNote {
                input,
                output,
                unseen,
                error_tokens,
            },
        );
        proptest::option::of(note)
    }

    prop_compose! {
        /// Any record at all.
        pub(in crate::ledger) fn any_record()(
            texts in proptest::array::uniform14(text()),
            counts in proptest::array::uniform13(count()),
            money in proptest::array::uniform2(money()),
            metadata in metadata(),
            numbers in any::<(Option<u32>, Option<u32>, Option<u16>, bool)>(),
            created_at in 0..4_000_000_000_000_i64,
            usage_json in proptest::option::of(Just(r#"{"a": 1.50,"b" :[2]}"#)),
            words in (0..3_usize, 0..5_usize, 0..5_usize),
            estimated in (estimate(), 0..3_usize, any::<bool>()),
        ) -> Record {
            let [upstream, path, model_requested, model, user, session, operation, key_id, price_id,
                finish_reason, error, upstream_request_id, service_tier, provider] = texts;
            Record {
                upstream: upstream.unwrap_or_default(), path: path.unwrap_or_default(),
                provider: provider.unwrap_or_default(),
                model_requested, model, user, session, operation, key_id, key_fingerprint: price_id.clone(), price_id, finish_reason,
                error, upstream_request_id, service_tier, metadata,
                attempt: numbers.0, retry: numbers.1, status: numbers.2, streaming: numbers.3,
                input_tokens: counts[0], cache_read_tokens: counts[1],
                cache_write_tokens: counts[2], audio_input_tokens: counts[3],
                image_input_tokens: counts[4], output_tokens: counts[5],
                reasoning_tokens: counts[6], audio_output_tokens: counts[7],
                image_output_tokens: counts[8], total_tokens: counts[9], duration_ms: counts[10],
                time_to_first_byte_ms: counts[11], time_to_first_token_ms: counts[12],
                cost_usd: money[0], computed_cost_usd: money[1],
                usage_source:
                    [UsageSource::Reported, UsageSource::Estimated, UsageSource::None][words.0],
                cost_source: [CostSource::Provider, CostSource::Priced, CostSource::Default,
                    CostSource::Free, CostSource::None][words.1],
                outcome: [Outcome::Completed, Outcome::ClientClosed, Outcome::UpstreamFailed,
                    Outcome::Interrupted, Outcome::Refused][words.2],
                estimate: estimated.0,
                stream_usage:
                    [None, Some(StreamUsage::Injected), Some(StreamUsage::Refused)][estimated.1],
                charged_by: estimated.2.then(CallId::new),
                charges: Vec::new(),
                trace: None,
                usage_json: usage_json.map(|t| RawValue::from_string(t.to_owned()).unwrap()),
                ..call(created_at)
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_the_record_it_was(record in any_record()) {
            let mut connection = rusqlite::Connection::open_in_memory().unwrap();
            crate::ledger::schema::create(&connection).unwrap();
            let mut names = Names::default();
            let transaction = connection.transaction().unwrap();
            let mut rows = crate::ledger::rows::Rows::new(&transaction, &mut names).unwrap();
            prop_assert!(rows.insert(&record).unwrap());
            rows.finish().unwrap();
            transaction.commit().unwrap();
            // As it is read here, and as any SQL client sees it.
            let texts = |column| match column {
                "usage_json" | "estimate" => format!("NULL, {column}"),
                column => column.to_owned(),
            };
            let queries = [
                format!("SELECT {} {}", layout::columns(), layout::FROM_CALLS),
                format!("SELECT {} FROM token_usage", COLUMNS.map(texts).join(", ")),
            ];
            for sql in queries {
                let back = connection.query_row(&sql, [], read).unwrap();
                prop_assert_eq!(
                    serde_json::to_string(&back).unwrap(),
                    serde_json::to_string(&record).unwrap()
                );
            }
        }
    }
}
