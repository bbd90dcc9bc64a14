//! The reckoning: what clients had, what the provider was sent, and what is in the ledger.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::calls::{Call, INPUT_NANOS, Kind, OUTPUT_NANOS, figures};

/// What there was of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reckoning {
    pub(crate) rows: usize,
    /// Requests that the provider was sent.
    pub(crate) heads: usize,
    /// Answers that clients had in full.
    pub(crate) full: usize,
    pub(crate) completed: usize,
    pub(crate) interrupted: usize,
    /// Rows of calls that the process had opened and not sent yet when it was killed.
    pub(crate) unsent: usize,
}

impl std::ops::AddAssign for Reckoning {
    fn add_assign(&mut self, other: Reckoning) {
        self.rows += other.rows;
        self.heads += other.heads;
        self.full += other.full;
        self.completed += other.completed;
        self.interrupted += other.interrupted;
        self.unsent += other.unsent;
    }
}

impl fmt::Display for Reckoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reckoning { rows, heads, full, completed, interrupted, unsent } = self;
        write!(
            f,
            "{full} answers had in full, {heads} requests at the provider, {rows} rows: {completed} \
             completed, {interrupted} interrupted ({unsent} of them killed before they were sent)"
        )
    }
}

/// Whether processes were killed in the middle of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All calls came to the end that is theirs.
    Undisturbed,
    /// Calls that their client did not have in full may be interrupted.
    Killed,
}

#[derive(Debug)]
struct Row {
    id: String,
    kind: Kind,
    outcome: String,
    status: Option<i64>,
    source: String,
    tokens: [Option<i64>; 3],
    cost: Option<i64>,
    cost_source: String,
}

/// Holds the rows of a session against what its clients had and what its provider was sent.
pub(crate) fn reckon(
    database: &Path,
    session: &str,
    calls: &[Call],
    heads: &HashMap<u64, u32>,
    rule: Rows,
) -> Reckoning {
    let rows = rows(database, session);
    let mut reckoning = Reckoning { rows: rows.len(), heads: heads.len(), ..Reckoning::default() };
    let calls: HashMap<u64, &Call> = calls.iter().map(|call| (call.number, call)).collect();
    for (number, times) in heads {
        assert_eq!(*times, 1, "call {number} was sent more than once");
        assert!(rows.contains_key(number), "no row: {:?} in {session}", calls.get(number));
    }
    for call in calls.values().filter(|call| call.full) {
        reckoning.full += 1;
        let row = rows.get(&call.number).unwrap_or_else(|| panic!("no row: {call:?} in {session}"));
        assert_eq!(row.outcome, "completed", "{call:?} {row:?}");
        assert!(heads.contains_key(&call.number), "{call:?}");
    }
    for (number, row) in &rows {
        let call = calls.get(number).unwrap_or_else(|| panic!("nobody's row: {row:?}"));
        assert!(call.id.as_ref().is_none_or(|id| *id == row.id), "{call:?} {row:?}");
        assert_eq!(call.kind, row.kind);
        row.check(*number);
        match row.outcome.as_str() {
            "completed" => reckoning.completed += 1,
            "interrupted" => reckoning.interrupted += 1,
            _ => {}
        }
        if rule == Rows::Undisturbed {
            assert_eq!(row.outcome, row.kind.outcome(), "{call:?} {row:?}");
            assert!(call.full || row.outcome != "completed", "{call:?} {row:?}");
        }
        if !heads.contains_key(number) {
            let is_of_a_kill = rule == Rows::Killed && row.outcome == "interrupted";
            assert!(is_of_a_kill && row.status.is_none(), "never sent: {call:?} {row:?}");
            reckoning.unsent += 1;
        }
    }
    assert_eq!(reckoning.rows, reckoning.heads + reckoning.unsent);
    if rule == Rows::Undisturbed {
        assert_eq!(reckoning.rows, calls.len(), "{session}");
    }
    reckoning
}

impl Row {
    fn check(&self, number: u64) {
        let (input, output) = figures(number);
        let reported = [input, output, input + output].map(|count| i64::try_from(count).ok());
        match (self.outcome.as_str(), self.source.as_str()) {
            // The provider's figures or none of them.
            (_, "reported") => assert_eq!(self.tokens, reported, "{self:?}"),
            ("completed", _) if self.kind.reports() => panic!("without its figures: {self:?}"),
            ("completed", "none") => panic!("without an estimate: {self:?}"),
            ("completed", "estimated") => assert!(self.tokens[2] > Some(0), "{self:?}"),
            // Of an answer that broke off before its first word only the prompt is known.
            (_, "estimated") => assert!(self.tokens[0] > Some(0), "{self:?}"),
            (_, "none") => assert_eq!(self.tokens, [None; 3], "{self:?}"),
            _ => panic!("{self:?}"),
        }
        if self.outcome == "completed" {
            assert_eq!((self.status, self.cost_source.as_str()), (Some(200), "priced"), "{self:?}");
        }
        let [input, output, total] = self.tokens;
        if let (Some(input), Some(output)) = (input, output) {
            assert_eq!(total, Some(input + output), "{self:?}");
            let cost = input * INPUT_NANOS + output * OUTPUT_NANOS;
            assert_eq!(self.cost, Some(cost), "{self:?}");
        }
    }
}

fn rows(database: &Path, session: &str) -> HashMap<u64, Row> {
    let connection = open_readonly(database);
    let sql =
        "SELECT operation, id, user, outcome, status, usage_source, input_tokens, output_tokens,
        total_tokens, cost_usd, cost_source FROM token_usage WHERE session = ?";
    let mut statement = connection.prepare(sql).unwrap();
    let read = statement.query_map([session], |row| {
        let number: String = row.get(0)?;
        let kind: String = row.get(2)?;
        let made = Row {
            id: row.get(1)?,
            kind: Kind::named(&kind),
            outcome: row.get(3)?,
            status: row.get(4)?,
            source: row.get(5)?,
            tokens: [row.get(6)?, row.get(7)?, row.get(8)?],
            cost: row.get(9)?,
            cost_source: row.get(10)?,
        };
        Ok((number.parse::<u64>().unwrap(), made))
    });
    let mut rows = HashMap::new();
    for row in read.unwrap() {
        let (number, row) = row.unwrap();
        let twice = rows.insert(number, row);
        assert!(twice.is_none(), "two rows of call {number}: {twice:?}");
    }
    rows
}

pub(crate) fn open_readonly(database: &Path) -> Connection {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = connection.unwrap();
    connection.busy_timeout(super::PATIENCE).unwrap();
    connection
}

/// Asserts that SQLite finds nothing wrong with the database.
pub(crate) fn integrity(database: &Path) {
    let connection = open_readonly(database);
    let found: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

/// All rows with all that is in them, by id.
pub(crate) fn dump(database: &Path) -> Vec<String> {
    let connection = open_readonly(database);
    let mut statement = connection.prepare("SELECT * FROM token_usage ORDER BY id").unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let values = names.iter().map(|name| {
            let value = row.get::<_, rusqlite::types::Value>(name.as_str())?;
            Ok(format!("{name}={value:?}"))
        });
        Ok(values.collect::<rusqlite::Result<Vec<_>>>()?.join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}
