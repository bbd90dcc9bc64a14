//! What a check is called and what it found. Owns the words for it.

use std::fmt;

use serde::Serialize;

/// Examples that are kept of one check: enough to see what it is about.
const EXAMPLES: usize = 5;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// `SQLite`'s own check of its pages, and with `--deep` of its indexes.
    File,
    /// Version, marks, tables, indexes, the view.
    Schema,
    /// Kinds, and the state of the ledger, can be read.
    Kinds,
    /// What a row names by a number exists.
    Numbers,
    /// Every row is a record.
    Rows,
    /// Every row has an id of its own and a key that is its time.
    Ids,
    /// The sums of a half hour are those of its rows.
    Sums,
    /// Sums that say the same do say the same.
    Packs,
    /// Every row is found by its kind, user and session.
    Postings,
    /// A closed call of the journal has its row, with these figures.
    Journal,
    /// How far each file of the journal has been read is somewhere in it.
    Progress,
    /// An open call is known, until it has a row.
    OpenCalls,
    /// A call that is charged for others exists.
    Charged,
}

impl Check {
    /// What it asks, for people.
    pub fn about(self) -> &'static str {
        match self {
            Check::File => "the file is a sound database",
            Check::Schema => "it has the tables and marks of a ledger",
            Check::Kinds => "kinds of calls can be read",
            Check::Numbers => "what rows name by a number exists",
            Check::Rows => "every row can be read",
            Check::Ids => "every row has its own id, and a key",
            Check::Sums => "sums are those of the rows",
            Check::Packs => "sums agree with each other",
            Check::Postings => "calls are found by user, session and kind",
            Check::Journal => "calls of the journal are in the rows",
            Check::Progress => "the journal's progress is in its files",
            Check::OpenCalls => "open calls are known until they end",
            Check::Charged => "calls that are charged for others exist",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::File => "file",
            Check::Schema => "schema",
            Check::Kinds => "kinds",
            Check::Numbers => "numbers",
            Check::Rows => "rows",
            Check::Ids => "ids",
            Check::Sums => "sums",
            Check::Packs => "packs",
            Check::Postings => "postings",
            Check::Journal => "journal",
            Check::Progress => "progress",
            Check::OpenCalls => "open_calls",
            Check::Charged => "charged",
        })
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: Check,
    /// How often; 0 where all is well.
    pub count: u64,
    /// A few of them, in words.
    pub examples: Vec<String>,
}

impl Finding {
    pub(in crate::ledger) fn new(check: Check) -> Finding {
        Finding { check, count: 0, examples: Vec::new() }
    }

    /// Notes one more; the words are only made where they are kept.
    pub(in crate::ledger) fn note(&mut self, words: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(words());
        }
    }

    /// A check that could not be made is a fault of its own.
    pub(in crate::ledger) fn failed(&mut self, error: &dyn fmt::Display) {
        self.note(|| format!("the check ended early: {error}"));
    }
}
