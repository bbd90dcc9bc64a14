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

/// The known word most like a mistyped one, if any is close enough to be what was meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).max(2);
    let measured = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    measured.filter(|&(far, _)| far <= allowed).min_by_key(|&(far, _)| far).map(|(_, near)| near)
}

/// Levenshtein's: how many characters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_must_be_near() {
        let known = ["input", "cached_input", "output"];
        assert_eq!(nearest("inptu", known), Some("input"));
        assert_eq!(nearest("cache_input", known), Some("cached_input"));
        assert_eq!(nearest("sunshine", known), None);
    }
}
