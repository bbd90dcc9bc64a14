//! Which rows are of a kind, a user, a session: lists of keys, so that questions about few calls need not read
//! all. Owns the tables `posting_…`; knows nothing of what is asked, nor what a number stands for.
//!
//! An index of `SQLite`'s is brought up to date row by row, each time on another page: three of them cost more
//! than the rows themselves. Here a transaction only appends what its rows are to `posting_new`. Once there is
//! enough for a block, that is sorted once by kind, once by user and once by session, and written in order. A
//! block is never changed again. Whoever looks for calls looks into each block of the time in question, which is
//! one place each, and through what is not in a block yet.
//!
//! | file | owns |
//! | --- | --- |
//! | `chunk` | postings as bytes |
//! | `block` | writing: what is new, blocks, all of it anew |
//! | `find` | the keys of a kind, a user, a session |
//! | `sessions` | names of sessions that no row has any more |
//! | `check` | whether each row can be found |
//!
//! Invariant: a row whose key is not in `posting_loose` has its posting, written in the transaction that wrote
//! the row. A posting need not have a row that is as it says: rows are deleted and replaced. So whoever finds a
//! key looks whether its row is what was wanted.

mod block;
mod check;
mod chunk;
mod find;
mod sessions;
#[cfg(test)]
mod tests;

pub(super) use block::{add, drop_before, rebuild, tidy};
pub(super) use check::examine;
pub(super) use find::{By, Finder};
pub(super) use sessions::forget as forget_sessions;

/// The tables. A chunk's place is made of its block, what it is sorted by, and its first value, so that blocks
/// are written behind each other. The trigger is for changes by hand; rows of ours are never changed so.
pub(super) const TABLES: &str = "CREATE TABLE posting_new (
        id INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        postings BLOB NOT NULL
    ) STRICT;
    CREATE TABLE posting_block (
        id INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE posting_chunk (
        place INTEGER PRIMARY KEY,
        chunk BLOB NOT NULL
    ) STRICT;
    CREATE TABLE posting_loose (key INTEGER PRIMARY KEY) STRICT;
    CREATE TRIGGER calls_loosened AFTER UPDATE OF key, kind, user, session ON calls BEGIN
        INSERT OR IGNORE INTO posting_loose VALUES (NEW.key);
    END;";

/// The tables that can be made again from the rows.
pub(super) const NAMES: [&str; 4] =
    ["posting_new", "posting_block", "posting_chunk", "posting_loose"];

/// What a row can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Posting {
    pub(super) key: i64,
    pub(super) kind: u32,
    /// 0 is none.
    pub(super) user: u32,
    /// 0 is none.
    pub(super) session: i64,
}

/// What a chunk is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Kind,
    /// And then by kind.
    User,
    Session,
}

impl Sort {
    const ALL: [Sort; 3] = [Sort::Kind, Sort::User, Sort::Session];

    /// What a posting is sorted by, with its key last; nothing where it has none of that.
    fn entry(self, posting: &Posting) -> Option<Entry> {
        let (value, kind) = match self {
            Sort::Kind => (u64::from(posting.kind), 0),
            Sort::User => (u64::from(posting.user), posting.kind),
            Sort::Session => (posting.session.unsigned_abs(), 0),
        };
        (value != 0 || self == Sort::Kind).then_some((value, kind, posting.key))
    }
}

/// A value, a user's kind, a key.
type Entry = (u64, u32, i64);
