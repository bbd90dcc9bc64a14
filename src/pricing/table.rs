//! A price table and which one it is. Owns what tells one table from another; whoever reads the file
//! hands its text over.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::{PriceBook, PriceError, PriceErrors};
use crate::units::Timestamp;

/// Why a file is no price table: displays everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct TableError {
    message: String,
    /// Empty where the file could not be read.
    pub complaints: Vec<PriceError>,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TableError {}

impl TableError {
    pub fn unreadable(file: &Path, error: impl fmt::Display) -> TableError {
        let message = format!("the price table {} cannot be read: {error}", file.display());
        TableError { message, complaints: Vec::new() }
    }

    pub fn broken(file: &Path, errors: &PriceErrors) -> TableError {
        let lines = errors.iter().map(|error| format!("{}: {error}", file.display()));
        let message = lines.collect::<Vec<_>>().join("\n");
        TableError { message, complaints: errors.iter().cloned().collect() }
    }
}

/// A price table, which one it is and since when it has been here.
#[derive(Clone, Debug)]
pub struct PriceTable {
    pub book: Arc<PriceBook>,
    /// Its file as it was named; `None` is the built-in one.
    pub file: Option<PathBuf>,
    /// Of its text, in hexadecimal digits.
    pub sha256: String,
    pub loaded_at: Timestamp,
}

impl PriceTable {
    pub fn builtin() -> PriceTable {
        let sha256 = hash(PriceBook::builtin_text());
        let book = Arc::new(PriceBook::builtin());
        PriceTable { book, file: None, sha256, loaded_at: Timestamp::now() }
    }

    /// From the text of a file; the error holds everything that is wrong with it.
    pub fn of_file(file: PathBuf, text: &str) -> Result<PriceTable, TableError> {
        let book = PriceBook::parse(text).map_err(|errors| TableError::broken(&file, &errors))?;
        let book = Arc::new(book);
        let sha256 = hash(text);
        Ok(PriceTable { book, file: Some(file), sha256, loaded_at: Timestamp::now() })
    }

    /// For people: the file, or that there is none.
    pub fn name(&self) -> String {
        let file = self.file.as_ref();
        file.map_or_else(|| "built in".to_owned(), |file| file.display().to_string())
    }
}

fn hash(text: &str) -> String {
    let whole = digest(&SHA256, text.as_bytes());
    whole.as_ref().iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all");
        digits
    })
}
