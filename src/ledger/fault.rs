//! What can keep rows from arriving in the database. Owns the names of these faults; what is done about
//! them is the writer's affair.

use std::fmt;
use std::io;

use rusqlite::ErrorCode;

use super::OpenError;
use super::health::{Problem, Word};

/// Why nothing more arrives in the database for now.
#[derive(Debug)]
pub(super) enum FeedError {
    Database(rusqlite::Error),
    Journal(io::Error),
    /// The database file was removed or replaced while it was in use.
    Replaced,
    /// And cannot be made anew.
    NotReopened(OpenError),
    /// There is more in the journal than the time given was enough for.
    Unfinished,
}

impl FeedError {
    pub(super) fn word(&self) -> Word {
        match self {
            FeedError::Database(error) => word(error),
            FeedError::NotReopened(OpenError::Database { source, .. }) => word(source),
            FeedError::NotReopened(OpenError::Corrupt { .. } | OpenError::Foreign { .. }) => {
                Word::DatabaseCorrupt
            }
            FeedError::Journal(_) => Word::JournalUnreadable,
            FeedError::Replaced | FeedError::NotReopened(_) => Word::DatabaseMissing,
            FeedError::Unfinished => Word::CatchingUp,
        }
    }

    pub(super) fn problem(&self) -> Problem {
        let word = self.word();
        let meaning = match word {
            Word::DatabaseLocked => "another process has locked the database",
            Word::DatabaseFull => "the database's disk is full",
            Word::DatabaseReadonly => "the database cannot be written",
            Word::DatabaseCorrupt => "the database is damaged",
            Word::DatabaseFailed => "the database fails",
            Word::CatchingUp => return Problem::new(word, format_args!("{self}")),
            _ => return Problem::new(word, format_args!("{self}; records wait in the journal")),
        };
        Problem::new(word, format_args!("{meaning} ({self}); records wait in the journal"))
    }
}

fn word(error: &rusqlite::Error) -> Word {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return Word::DatabaseFailed };
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Word::DatabaseLocked,
        ErrorCode::DiskFull => Word::DatabaseFull,
        ErrorCode::ReadOnly if failure.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED => {
            Word::DatabaseMissing
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Word::DatabaseReadonly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Word::DatabaseCorrupt,
        ErrorCode::CannotOpen => Word::DatabaseMissing,
        _ => Word::DatabaseFailed,
    }
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Database(error) => write!(f, "database: {error}"),
            FeedError::Journal(error) => write!(f, "reading the journal: {error}"),
            FeedError::Replaced => f.write_str("the database file was removed or replaced"),
            FeedError::NotReopened(error) => {
                write!(f, "the database file was removed or replaced: {error}")
            }
            FeedError::Unfinished => f.write_str("still reading what the journal holds"),
        }
    }
}

impl From<rusqlite::Error> for FeedError {
    fn from(error: rusqlite::Error) -> FeedError {
        FeedError::Database(error)
    }
}

impl From<io::Error> for FeedError {
    fn from(error: io::Error) -> FeedError {
        FeedError::Journal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlite_says_has_a_word() {
        let words = [
            (rusqlite::ffi::SQLITE_BUSY, Word::DatabaseLocked),
            (rusqlite::ffi::SQLITE_FULL, Word::DatabaseFull),
            (rusqlite::ffi::SQLITE_READONLY, Word::DatabaseReadonly),
            (rusqlite::ffi::SQLITE_READONLY_DBMOVED, Word::DatabaseMissing),
            (rusqlite::ffi::SQLITE_CORRUPT, Word::DatabaseCorrupt),
            (rusqlite::ffi::SQLITE_IOERR, Word::DatabaseFailed),
        ];
        for (code, word) in words {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let problem = FeedError::Database(error).problem();
            assert_eq!(problem.word, word, "{}", problem.message);
            assert!(
                problem.message.ends_with("records wait in the journal"),
                "{}",
                problem.message
            );
        }
    }
}
