//! A [`Record`] as a row of `token_usage` and back. Owns the order of the columns; knows neither
//! which rows are asked for nor when they are written.
//!
//! Invariant: what is written is read back equal, field by field.

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Row, Statement};
use serde::Serialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::value::RawValue;

use crate::record::{Record, StreamUsage};
use crate::units::{Timestamp, Usd};

/// Every column, in the order in which `bind` writes and `read` reads them. `usage_json` stands
/// behind the figures because it is the longest and the least often read. What stands behind it is
/// null in most rows, and a null is known without going there.
pub const COLUMNS: [&str; 45] = [
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

/// The statement that adds a row, unless its id is there already. `ON CONFLICT (id)` and not `OR
/// IGNORE`, which would swallow every other kind of failure too.
pub(super) fn insert_sql() -> String {
    let places = vec!["?"; COLUMNS.len()].join(", ");
    let names = COLUMNS.join(", ");
    format!("INSERT INTO token_usage ({names}) VALUES ({places}) ON CONFLICT (id) DO NOTHING")
}

/// The statement that adds a row, or puts another in the place of the one with its id.
pub(super) fn replace_sql() -> String {
    let places = vec!["?"; COLUMNS.len()].join(", ");
    let names = COLUMNS.join(", ");
    let set = COLUMNS.iter().filter(|name| **name != "id");
    let set: Vec<String> = set.map(|name| format!("{name} = excluded.{name}")).collect();
    let set = set.join(", ");
    format!(
        "INSERT INTO token_usage ({names}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {set}"
    )
}

/// Binds a record to the statement of [`insert_sql`] or [`replace_sql`].
pub(super) fn bind(statement: &mut Statement<'_>, record: &Record) -> rusqlite::Result<()> {
    let metadata = record.metadata.as_ref().map(json).transpose()?;
    let estimate = record.estimate.as_ref().map(json).transpose()?;
    let mut to = Binder { statement, column: 0 };
    to.put(record.id.to_string())?;
    to.put(record.created_at.millis())?;
    to.put(&record.upstream)?;
    to.put(&record.provider)?;
    to.put(&record.endpoint)?;
    to.put(&record.method)?;
    to.put(&record.path)?;
    to.put(&record.model_requested)?;
    to.put(&record.model)?;
    to.put(&record.user)?;
    to.put(&record.session)?;
    to.put(&record.operation)?;
    to.put(record.attempt)?;
    to.put(&metadata)?;
    to.put(&record.key_id)?;
    bind_figures(&mut to, record)?;
    to.put(record.status)?;
    to.put(record.streaming)?;
    to.put(&record.finish_reason)?;
    to.put(record.outcome.as_str())?;
    to.put(&record.error)?;
    to.put(record.retry)?;
    to.put(&record.upstream_request_id)?;
    to.put(&record.service_tier)?;
    to.count(record.duration_ms)?;
    to.count(record.time_to_first_byte_ms)?;
    to.count(record.time_to_first_token_ms)?;
    to.put(record.usage_json.as_deref().map(RawValue::get))?;
    to.put(&estimate)?;
    to.put(record.stream_usage.map(StreamUsage::as_str))?;
    to.put(record.charged_by.map(|id| id.to_string()))
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn bind_figures(to: &mut Binder<'_, '_>, record: &Record) -> rusqlite::Result<()> {
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
    to.put(record.usage_source.as_str())?;
    to.put(record.cost_usd.map(Usd::nanos))?;
    to.put(record.cost_source.as_str())?;
    to.put(record.computed_cost_usd.map(Usd::nanos))?;
    to.put(&record.price_id)
}

/// Reads the row of a query that selects exactly [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let mut from = Reading { row, column: 0 };
    // A struct's fields are evaluated in the order in which they are written: that of `COLUMNS`.
    Ok(Record {
        id: from.parsed(|text: &str| text.parse())?,
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
        usage_json: from.maybe_parsed(|text| RawValue::from_string(text.to_owned()))?,
        estimate: from.maybe_parsed(|text| serde_json::from_str(text))?,
        stream_usage: from.maybe_parsed(word)?,
        charged_by: from.maybe_parsed(str::parse)?,
        charges: Vec::new(),
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

    /// A count or a time span; what no database integer holds is kept as the largest.
    fn count(&mut self, value: Option<u64>) -> rusqlite::Result<()> {
        self.put(value.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
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

/// Reads an enum from the word that serde writes for it.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, WordError> {
    let deserializer: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(deserializer)
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
    use crate::pricing::CostSource;
    use crate::record::{CallId, EstimateNote, EstimatedSide, Outcome};
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
                model_requested, model, user, session, operation, key_id, price_id, finish_reason,
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
                usage_json: usage_json.map(|t| RawValue::from_string(t.to_owned()).unwrap()),
                ..call(created_at)
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_the_record_it_was(record in any_record()) {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            crate::ledger::schema::migrate(&connection).unwrap();
            let mut insert = connection.prepare(&insert_sql()).unwrap();
            bind(&mut insert, &record).unwrap();
            prop_assert_eq!(insert.raw_execute().unwrap(), 1);
            let sql = format!("SELECT {} FROM token_usage", COLUMNS.join(", "));
            let back = connection.query_row(&sql, [], read).unwrap();
            prop_assert_eq!(
                serde_json::to_string(&back).unwrap(),
                serde_json::to_string(&record).unwrap()
            );
        }
    }
}
