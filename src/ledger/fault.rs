//! What can keep rows from arriving in the database. Owns the names of these faults; what is done about
//! them is the writer's affair.

use std::fmt;
use std::io;

/// Why nothing more arrives in the database for now.
#[derive(Debug)]
pub(super) enum FeedError {
    Database(rusqlite::Error),
    Journal(io::Error),
    /// The database file was removed or replaced while it was in use.
    Replaced,
    /// There is more in the journal than the time given was enough for.
    Unfinished,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Database(error) => write!(f, "database: {error}"),
            FeedError::Journal(error) => write!(f, "reading the journal: {error}"),
            FeedError::Replaced => f.write_str("the database file was removed or replaced"),
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
