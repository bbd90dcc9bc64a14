//! How the ledger is doing. Owns the words for machines and the sentences for people; decides nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Less room than this on the ledger's disk is worth a warning.
pub(super) const LOW_DISK: u64 = 64 << 20;

/// How the ledger is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// What is wrong; nothing while records are kept and reach the database.
    pub problems: Vec<Problem>,
    /// What does not keep records from arriving, but somebody should know.
    pub warnings: Vec<Problem>,
    /// New calls are refused, because they could not be recorded and it is configured so.
    pub is_refusing: bool,
    /// Calls that were refused for that, since the start.
    pub refused_calls: u64,
    /// Bytes of the journal that are not in the database yet.
    pub journal_lag_bytes: u64,
    /// How long ago the oldest of them was written, a second more at most. Of what a former process
    /// left: how long this one has been at it.
    pub journal_lag: Duration,
    /// Lines in memory because the journal cannot be written.
    pub waiting_lines: usize,
    pub waiting_bytes: usize,
    /// Lines lost because that memory was full, since the start.
    pub dropped_lines: u64,
    /// Journal lines that could not be read (torn ones, mostly), since the start.
    pub unreadable_lines: u64,
    /// Rows put into the database and transactions that took, since the start.
    pub rows: u64,
    pub commits: u64,
    /// How often the journal was brought to the disk, since the start.
    pub syncs: u64,
    /// Bytes that the journal and the database may still take; the smaller of the two, if they are on
    /// different disks. Nothing where the platform does not tell.
    pub disk_free_bytes: Option<u64>,
}

impl Health {
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first problem's sentence.
    pub fn problem(&self) -> Option<&str> {
        self.problems.first().map(|problem| problem.message.as_str())
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub word: Word,
    /// A sentence, without a full stop.
    pub message: String,
}

/// The kinds of problems, and of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The journal's file, or its disk, takes nothing: lines wait in memory.
    JournalUnwritable,
    /// The journal is written and cannot be read back.
    JournalUnreadable,
    DatabaseLocked,
    DatabaseFull,
    DatabaseReadonly,
    DatabaseCorrupt,
    /// Removed or replaced while in use.
    DatabaseMissing,
    /// It fails in another way.
    DatabaseFailed,
    /// What the journal holds is still being read.
    CatchingUp,
    /// A fault of tokenmeter's own.
    LedgerFailed,
    LedgerStopped,
    /// A warning: lines have been dropped.
    LinesLost,
    /// A warning: rows that the database refused are in the journal only.
    RowsRefused,
    /// A warning: little room is left.
    DiskLow,
}

impl Word {
    /// What can keep records from arriving.
    pub const PROBLEMS: [Word; 11] = [
        Word::JournalUnwritable,
        Word::JournalUnreadable,
        Word::DatabaseLocked,
        Word::DatabaseFull,
        Word::DatabaseReadonly,
        Word::DatabaseCorrupt,
        Word::DatabaseMissing,
        Word::DatabaseFailed,
        Word::CatchingUp,
        Word::LedgerFailed,
        Word::LedgerStopped,
    ];

    /// What is worth a warning.
    pub const WARNINGS: [Word; 3] = [Word::LinesLost, Word::RowsRefused, Word::DiskLow];

    pub fn as_str(self) -> &'static str {
        match self {
            Word::JournalUnwritable => "journal_unwritable",
            Word::JournalUnreadable => "journal_unreadable",
            Word::DatabaseLocked => "database_locked",
            Word::DatabaseFull => "database_full",
            Word::DatabaseReadonly => "database_readonly",
            Word::DatabaseCorrupt => "database_corrupt",
            Word::DatabaseMissing => "database_missing",
            Word::DatabaseFailed => "database_failed",
            Word::CatchingUp => "catching_up",
            Word::LedgerFailed => "ledger_failed",
            Word::LedgerStopped => "ledger_stopped",
            Word::LinesLost => "lines_lost",
            Word::RowsRefused => "rows_refused",
            Word::DiskLow => "disk_low",
        }
    }
}

impl Problem {
    pub(super) fn new(word: Word, message: impl fmt::Display) -> Problem {
        Problem { word, message: message.to_string() }
    }

    pub(super) fn journal(error: &str, is_refusing: bool) -> Problem {
        let so = if is_refusing { "new calls are refused" } else { "records wait in memory" };
        let message = format_args!("the journal cannot be written: {error}; {so}");
        Problem::new(Word::JournalUnwritable, message)
    }
}

/// What should be known although records arrive.
pub(super) fn warnings(
    dropped_lines: u64,
    refused: &BTreeSet<String>,
    disk_free_bytes: Option<u64>,
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    if !refused.is_empty() {
        let files: Vec<&str> = refused.iter().map(String::as_str).collect();
        let message = format!(
            "the database has refused rows that only the journal has ({}); see the log, and `tokenmeter \
             doctor --repair` once the cause is gone",
            files.join(", ")
        );
        warnings.push(Problem::new(Word::RowsRefused, message));
    }
    if dropped_lines > 0 {
        let message = format!("{dropped_lines} lines have been lost since the start; see the log");
        warnings.push(Problem::new(Word::LinesLost, message));
    }
    if let Some(free) = disk_free_bytes.filter(|free| *free < LOW_DISK) {
        let message = format!("{} MiB are left on the ledger's disk", free >> 20);
        warnings.push(Problem::new(Word::DiskLow, message));
    }
    warnings
}
