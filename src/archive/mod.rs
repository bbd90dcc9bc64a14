//! Records as files and back: CSV for spreadsheets, JSON lines for programs. Owns both forms and what
//! keeps the way back open; knows neither which records are asked for nor where they go.
//!
//! | file | owns |
//! | --- | --- |
//! | `cell` | a value as a cell of CSV and back; texts that a spreadsheet would run |
//! | `write` | records into a file |
//! | `read` | a file's rows and lines, recognised by what it holds |
//!
//! Invariant: what is written reads back as the record that it was, and written again gives the same
//! bytes.

mod cell;
mod read;
mod write;

use std::fmt;
use std::str::FromStr;

pub use cell::inert;
pub use read::{Entry, OpenError, Reader, Unreadable, place};
pub use write::Writer;

/// The form of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// With a header; a line for each row.
    #[default]
    Csv,
    /// A JSON object on each line.
    Jsonl,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Jsonl => "application/jsonl",
        }
    }
}

/// A word that is no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(String);

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no format `{}`; possible are csv and jsonl", self.0)
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        let found = [Format::Csv, Format::Jsonl].into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}
