//! What is wrong with a price table, all of it at once, each with its line.

use std::fmt;

/// One fault: where it stands, what it is and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Every fault of a price table, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceErrors(Vec<PriceError>);

impl PriceErrors {
    pub(super) fn new(mut errors: Vec<PriceError>) -> PriceErrors {
        errors.sort_by_key(|error| error.line);
        PriceErrors(errors)
    }

    pub fn iter(&self) -> impl Iterator<Item = &PriceError> {
        self.0.iter()
    }
}

impl fmt::Display for PriceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PriceErrors {}
