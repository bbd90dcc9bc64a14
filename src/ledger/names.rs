//! The numbers by which rows name what repeats: users, sessions, paths, shapes of JSON, kinds. Owns the
//! look-up, and its memory; knows nothing of rows.
//!
//! Invariant: what is remembered was read from the database or written in a transaction that has not
//! failed: after a failure, [`Names::forget`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use ring::digest::{SHA256, digest};
use rusqlite::{OptionalExtension, Transaction, params_from_iter, types::Value as SqlValue};
use serde_json::{Map, Value};

use super::keys::Keys;
use super::kind::{FACTS, FREE, Fact, VALUES, are_alike, encode_class, fact, hash_facts};
use super::packed::{self, Packed, Template};
use crate::record::Record;

/// Names of one sort that are remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 50_000;

/// Kinds that there are before those that further calls make have none of the facts that callers
/// choose: a thousand values of each would else come to a thousand times a thousand kinds.
const KINDS: u32 = 50_000;

/// Paths and shapes that are kept once. Past this many, further ones stand in the rows: nobody can fill
/// the ledger with names that are used a single time and never deleted.
const PATHS: usize = 10_000;
const SHAPES: usize = 10_000;

/// Shapes that are remembered by kind; when there are more, all are forgotten.
const TEMPLATES: usize = 5_000;

/// Records whose kinds are remembered by their facts, without writing these down.
const SEEN: usize = 4_096;

/// What the writer remembers.
#[derive(Debug)]
pub(super) struct Names {
    users: Words,
    sessions: Words,
    paths: Words,
    shapes: Words,
    kinds: HashMap<Box<[u8]>, u32, RandomState>,
    /// The last record of each place, which is some number made of a record's facts, and its kind.
    seen: Vec<Option<(Box<Record>, u32)>>,
    seeing: RandomState,
    /// The shape that the last text of a kind and sort had.
    templates: HashMap<(u32, u8), (Template, i64), RandomState>,
    pub(super) keys: Keys,
    /// The values that each fact has among the kinds; nothing before they have been read.
    values: Option<Vec<HashSet<Box<[u8]>>>>,
    buffer: Vec<u8>,
    /// Changes when another connection has written.
    version: i64,
    /// [`KINDS`], but for tests.
    most_kinds: u32,
}

/// The numbers that a row has in the place of names.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: u32,
    pub(super) user: Option<u32>,
    pub(super) session: Option<i64>,
    pub(super) path: SqlValue,
    /// The facts that the row has itself, as JSON.
    pub(super) own: Option<String>,
}

/// A JSON text as a row has it.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) shape: Option<i64>,
    pub(super) text: Option<String>,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            users: Words::new("users", usize::MAX),
            sessions: Words::new("sessions", usize::MAX),
            paths: Words::new("paths", PATHS),
            shapes: Words::new("shapes", SHAPES),
            kinds: HashMap::default(),
            seen: Vec::new(),
            seeing: RandomState::default(),
            templates: HashMap::default(),
            keys: Keys::default(),
            values: None,
            buffer: Vec::new(),
            version: 0,
            most_kinds: KINDS,
        }
    }
}

impl Names {
    /// The numbers of a record's names, made where they are new.
    pub(super) fn place(
        &mut self,
        transaction: &Transaction<'_>,
        record: &Record,
    ) -> rusqlite::Result<Place> {
        let (kind, own) = self.kind(transaction, record)?;
        let named = |words: &mut Words, name: &Option<String>| match name {
            Some(name) => words.id(transaction, name),
            None => Ok(None),
        };
        let user = named(&mut self.users, &record.user)?;
        let session = named(&mut self.sessions, &record.session)?;
        let path = self.paths.id(transaction, &record.path)?;
        Ok(Place {
            kind,
            user: user.map(|user| u32::try_from(user).unwrap_or(u32::MAX)),
            session,
            path: path.map_or_else(|| SqlValue::Text(record.path.clone()), SqlValue::Integer),
            own,
        })
    }

    /// A JSON text, taken apart where its shape is one of those that are kept. Texts of one kind and sort
    /// are expected to have one shape, mostly.
    pub(super) fn text(
        &mut self,
        transaction: &Transaction<'_>,
        sort: (u32, u8),
        text: Option<&str>,
    ) -> rusqlite::Result<Text> {
        let Some(text) = text else { return Ok(Text::default()) };
        if let Some((template, shape)) = self.templates.get(&sort)
            && let Some(numbers) = template.numbers(text)
        {
            return Ok(Text { shape: Some(*shape), text: Some(numbers) });
        }
        if let Some(Packed { shape, numbers }) = packed::pack(text)
            && let Some(id) = self.shapes.id(transaction, &shape)?
        {
            if self.templates.len() >= TEMPLATES {
                self.templates.clear();
            }
            self.templates.insert(sort, (Template::of(&shape), id));
            return Ok(Text { shape: Some(id), text: Some(numbers) });
        }
        Ok(Text { shape: None, text: Some(text.to_owned()) })
    }

    /// For the beginning of a transaction: whoever else has written may have deleted sessions that had
    /// no rows any more. Nothing else is ever deleted.
    pub(super) fn refresh(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut version = transaction.prepare_cached("PRAGMA data_version")?;
        let version = version.query_row([], |row| row.get(0))?;
        if self.version != version {
            self.forget_sessions();
            self.keys.forget();
            self.version = version;
        }
        Ok(())
    }

    /// For when this connection has deleted sessions.
    pub(super) fn forget_sessions(&mut self) {
        self.sessions.known.clear();
    }

    /// For after a transaction that failed: its numbers do not exist.
    pub(super) fn forget(&mut self) {
        *self = Names { most_kinds: self.most_kinds, ..Names::default() };
    }

    fn kind(
        &mut self,
        transaction: &Transaction<'_>,
        record: &Record,
    ) -> rusqlite::Result<(u32, Option<String>)> {
        let mut hasher = self.seeing.build_hasher();
        hash_facts(record, &mut hasher);
        let place = usize::try_from(hasher.finish() % SEEN as u64).unwrap_or_default();
        if let Some(Some((seen, kind))) = self.seen.get(place)
            && are_alike(seen, record)
        {
            return Ok((*kind, None));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        encode(record, 0, &mut buffer);
        let found = match self.kinds.get(buffer.as_slice()) {
            Some(kind) => {
                self.seen.resize_with(SEEN, || None);
                self.seen[place] = Some((Box::new(record.light()), *kind));
                Ok((*kind, None))
            }
            None => self.other_kind(transaction, record, &mut buffer),
        };
        self.buffer = buffer;
        found
    }

    /// A kind that is not remembered, or not of this record's facts alone.
    fn other_kind(
        &mut self,
        transaction: &Transaction<'_>,
        record: &Record,
        buffer: &mut Vec<u8>,
    ) -> rusqlite::Result<(u32, Option<String>)> {
        let mut values = match self.values.take() {
            Some(values) => values,
            None => known_values(transaction)?,
        };
        let (mut varied, mut own) = (0_u32, Map::new());
        for (place, values) in values.iter_mut().enumerate() {
            let fact = Fact::of(record, place);
            let mut encoded = Vec::new();
            fact.encode(&mut encoded);
            if values.len() < VALUES {
                values.insert(encoded.into());
            } else if !values.contains(encoded.as_slice()) {
                varied |= 1 << place;
                own.insert(FACTS[place].to_owned(), json(fact));
            }
        }
        self.values = Some(values);
        encode(record, varied, buffer);
        if let Some(kind) = self.known_kind(transaction, buffer)? {
            return Ok((kind, text(varied, own)));
        }
        if self.is_crowded(transaction)? {
            for place in (0..FACTS.len()).filter(|place| FREE & !varied & 1 << place != 0) {
                own.insert(FACTS[place].to_owned(), json(Fact::of(record, place)));
            }
            varied |= FREE;
            encode(record, varied, buffer);
        }
        let kind = match self.known_kind(transaction, buffer)? {
            Some(kind) => kind,
            None => new_kind(transaction, record, varied, buffer)?,
        };
        self.remember(buffer, kind);
        Ok((kind, text(varied, own)))
    }

    fn known_kind(
        &mut self,
        transaction: &Transaction<'_>,
        encoded: &[u8],
    ) -> rusqlite::Result<Option<u32>> {
        if let Some(kind) = self.kinds.get(encoded) {
            return Ok(Some(*kind));
        }
        let mut find = transaction.prepare_cached("SELECT id FROM kinds WHERE digest = ?")?;
        let kind = find.query_row([half_digest(encoded)], |row| row.get(0)).optional()?;
        if let Some(kind) = kind {
            self.remember(encoded, kind);
        }
        Ok(kind)
    }

    fn remember(&mut self, encoded: &[u8], kind: u32) {
        if self.kinds.len() >= REMEMBERED {
            self.kinds.clear();
        }
        self.kinds.insert(encoded.into(), kind);
    }

    /// Whether there are as many kinds as questions can be expected to hold in memory.
    fn is_crowded(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let mut last = transaction.prepare_cached("SELECT coalesce(max(id), 0) FROM kinds")?;
        last.query_row([], |row| Ok(row.get::<_, u32>(0)? >= self.most_kinds))
    }
}

fn text(varied: u32, own: Map<String, Value>) -> Option<String> {
    (varied != 0).then(|| Value::Object(own).to_string())
}

fn half_digest(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref()[..16].to_vec()
}

/// All that makes a record's kind, but for the facts that are `varied`.
fn encode(record: &Record, varied: u32, to: &mut Vec<u8>) {
    to.clear();
    to.extend(varied.to_le_bytes());
    to.push(record.charged_by.is_some().into());
    // Kinds that were made before there were fingerprints are those of calls without one.
    let is_there =
        |place: &usize| *place != fact::KEY_FINGERPRINT || record.key_fingerprint.is_some();
    let known = (0..FACTS.len()).filter(|place| varied & 1 << place == 0);
    for place in known.filter(is_there) {
        Fact::encode_of(record, place, to);
    }
}

fn json(fact: Fact<'_>) -> Value {
    match fact {
        Fact::Absent => Value::Null,
        Fact::Number(number) => number.into(),
        Fact::Text(text) => text.into(),
    }
}

fn new_kind(
    transaction: &Transaction<'_>,
    record: &Record,
    varied: u32,
    encoded: &[u8],
) -> rusqlite::Result<u32> {
    let places = vec!["?"; FACTS.len() + 4].join(", ");
    let names = FACTS.join(", ");
    // The first of a class gives it the number that it is about to get itself.
    let sql = format!(
        "INSERT INTO kinds ({names}, charged, varied, digest, class_digest, class)
         VALUES ({places}, coalesce(
            (SELECT class FROM kinds WHERE class_digest = ?{} LIMIT 1),
            (SELECT coalesce(max(id), 0) + 1 FROM kinds))) RETURNING id",
        FACTS.len() + 4
    );
    let facts = (0..FACTS.len()).map(|place| match Fact::of(record, place) {
        _ if varied & 1 << place != 0 => SqlValue::Null,
        Fact::Absent => SqlValue::Null,
        Fact::Number(number) => SqlValue::Integer(number),
        Fact::Text(text) => SqlValue::Text(text.into_owned()),
    });
    let rest = [
        SqlValue::Integer(record.charged_by.is_some().into()),
        SqlValue::Integer(varied.into()),
        SqlValue::Blob(half_digest(encoded)),
        SqlValue::Blob(half_digest(&encode_class(record, varied))),
    ];
    let mut insert = transaction.prepare_cached(&sql)?;
    insert.query_row(params_from_iter(facts.chain(rest)), |row| row.get(0))
}

/// The values that each fact has among the kinds of the database.
fn known_values(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<HashSet<Box<[u8]>>>> {
    let mut values = vec![HashSet::new(); FACTS.len()];
    for (place, values) in values.iter_mut().enumerate() {
        let name = FACTS[place];
        let sql = format!("SELECT DISTINCT {name} FROM kinds WHERE varied >> {place} & 1 = 0");
        let mut statement = transaction.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let fact = match row.get(0)? {
                SqlValue::Integer(number) => Fact::Number(number),
                SqlValue::Text(text) => Fact::Text(text.into()),
                _ => Fact::Absent,
            };
            let mut encoded = Vec::new();
            fact.encode(&mut encoded);
            values.insert(encoded.into_boxed_slice());
        }
    }
    Ok(values)
}

/// Texts of one sort and their numbers.
#[derive(Debug)]
struct Words {
    table: &'static str,
    limit: usize,
    known: HashMap<Box<str>, i64, RandomState>,
    /// The largest number, once it is known; 0 is none.
    last: Option<i64>,
}

impl Words {
    fn new(table: &'static str, limit: usize) -> Words {
        Words { table, limit, known: HashMap::default(), last: None }
    }

    /// Whether no more are kept.
    fn is_full(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        if self.limit == usize::MAX {
            return Ok(false);
        }
        let sql = format!("SELECT coalesce(max(id), 0) FROM {}", self.table);
        let ask = || transaction.query_row(&sql, [], |row| row.get(0));
        let last = self.last.map_or_else(ask, Ok)?;
        self.last = Some(last);
        Ok(usize::try_from(last).unwrap_or(usize::MAX) >= self.limit)
    }

    /// The number of a text, made where it is new; nothing where there are too many already.
    fn id(&mut self, transaction: &Transaction<'_>, text: &str) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.known.get(text) {
            return Ok(Some(*id));
        }
        let id = if self.limit == usize::MAX {
            self.add_or_find(transaction, text)?
        } else {
            match self.find(transaction, text)? {
                Some(id) => id,
                None if self.is_full(transaction)? => return Ok(None),
                None => self.add_or_find(transaction, text)?,
            }
        };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(text.into(), id);
        Ok(Some(id))
    }

    /// A name that is not remembered is most often a new one, so that is tried first.
    fn add_or_find(&mut self, transaction: &Transaction<'_>, text: &str) -> rusqlite::Result<i64> {
        let table = self.table;
        let sql = format!("INSERT INTO {table} (name) VALUES (?) ON CONFLICT (name) DO NOTHING");
        if transaction.prepare_cached(&sql)?.execute([text])? == 1 {
            let id = transaction.last_insert_rowid();
            self.last = Some(id);
            return Ok(id);
        }
        let found = self.find(transaction, text)?;
        found.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn find(&self, transaction: &Transaction<'_>, text: &str) -> rusqlite::Result<Option<i64>> {
        let sql = format!("SELECT id FROM {} WHERE name = ?", self.table);
        transaction.prepare_cached(&sql)?.query_row([text], |row| row.get(0)).optional()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::row::tests::{any_record, call};
    use crate::ledger::rows::Rows;
    use crate::ledger::schema;

    proptest! {
        #[test]
        fn records_are_alike_where_all_that_makes_a_kind_is_the_same(
            one in any_record(),
            other in any_record(),
            taken in 0..FACTS.len() + 1,
        ) {
            // But for one fact.
            let mut mixed = serde_json::to_value(&one).unwrap();
            let from = serde_json::to_value(&other).unwrap();
            let name = FACTS.get(taken).copied().unwrap_or("charged_by");
            mixed[name] = from.get(name).cloned().unwrap_or_default();
            let mixed: Record = serde_json::from_value(mixed).unwrap();
            let facts = |record: &Record| {
                let mut facts = Vec::new();
                encode(record, 0, &mut facts);
                facts
            };
            for (one, other) in [(&one, &other), (&one, &mixed), (&mixed, &other)] {
                // What is nested is not looked at so closely.
                let metadata = one.metadata.iter().flat_map(|metadata| metadata.values());
                let is_plain = metadata.clone().all(|value| !value.is_array() && !value.is_object());
                let is_one = is_plain && facts(one) == facts(other);
                prop_assert_eq!(are_alike(one, other), is_one, "{}", name);
            }
        }
    }

    #[test]
    fn metadata_in_another_order_are_another_kind() {
        let with = |metadata: &str| {
            let metadata = serde_json::from_str(metadata).unwrap();
            Record { metadata, ..call(1) }
        };
        let one = with(r#"{"a":"1","b":2}"#);
        assert!(are_alike(&one, &with(r#"{"a":"1","b":2}"#)));
        for other in [r#"{"b":2,"a":"1"}"#, r#"{"a":1,"b":2}"#, r#"{"a":"1"}"#, "null"] {
            assert!(!are_alike(&one, &with(other)), "{other}");
        }
        // What is within could be in another order.
        let deep = r#"{"a":{"x":1,"y":2}}"#;
        assert!(!are_alike(&with(deep), &with(deep)));
    }

    #[test]
    fn callers_cannot_make_kinds_without_end() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        schema::create(&connection).unwrap();
        let mut names = Names { most_kinds: 10, ..Names::default() };
        let transaction = connection.transaction().unwrap();
        let mut rows = Rows::new(&transaction, &mut names).unwrap();
        for at in 0..900 {
            let mut record = call(at);
            record.operation = Some(format!("job {}", at / 30));
            record.attempt = Some(u32::try_from(at % 30).unwrap());
            rows.insert(&record).unwrap();
        }
        rows.finish().unwrap();
        let count = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM kinds"), 11);
        let all = "SELECT count(DISTINCT operation || ':' || attempt) FROM token_usage";
        assert_eq!(count(all), 900);
    }
}
