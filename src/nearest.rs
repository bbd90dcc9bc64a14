//! The known name that a mistyped one was meant to be. Owns how near is near enough; knows nothing of
//! what is named.

/// The candidate that `typed` was most likely meant to be, if any is near enough to be one slip away.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 3).max(1);
    let scored = candidates.into_iter().filter_map(|candidate| {
        let score = distance(typed, candidate);
        let near = score <= limit || extends(typed, candidate) || extends(candidate, typed);
        near.then_some((score, candidate))
    });
    scored.min().map(|(_, candidate)| candidate)
}

/// Whether one name is another with more words: `listen_address`, `listen`.
fn extends(longer: &str, shorter: &str) -> bool {
    let rest = longer.strip_prefix(shorter).filter(|_| !shorter.is_empty());
    rest.is_some_and(|rest| rest.starts_with(['_', '-']))
}

/// Edits between two words: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let words = ["listen", "database", "pricing", "journal_days"];
        assert_eq!(nearest("lisetn", words), Some("listen"));
        assert_eq!(nearest("databse", words), Some("database"));
        assert_eq!(nearest("journal_day", words), Some("journal_days"));
        assert_eq!(nearest("listen_address", words), Some("listen"));
        assert_eq!(nearest("journal", words), Some("journal_days"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
    }
}
