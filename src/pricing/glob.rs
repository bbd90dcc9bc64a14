//! Names with `*` in them. Owns matching a model's name and telling whether two patterns can match
//! the same one; knows no prices. Patterns and names are lower case already.

/// A pattern in which every `*` stands for any text, the empty one included.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    text: Box<str>,
    /// The literal pieces between the stars; the first and last are anchored.
    pieces: Box<[Box<str>]>,
    literal: usize,
}

impl Glob {
    pub(super) fn is_glob(name: &str) -> bool {
        name.contains('*')
    }

    pub(super) fn new(pattern: &str) -> Glob {
        let pieces: Box<[Box<str>]> = pattern.split('*').map(Box::from).collect();
        let literal = pieces.iter().map(|piece| piece.len()).sum();
        Glob { text: pattern.into(), pieces, literal }
    }

    /// How many literal characters the pattern demands: more is more specific.
    pub(super) fn literal_len(&self) -> usize {
        self.literal
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let [first, middle @ .., last] = &*self.pieces else { return *self.text == *name };
        let Some(mut rest) = name.strip_prefix(&**first) else { return false };
        for piece in middle {
            let Some(at) = rest.find(&**piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(&**last)
    }

    /// Whether this pattern matches all that another does: each star of the other stands for itself, which no
    /// literal is.
    pub(super) fn covers(&self, other: &str) -> bool {
        self.matches(other)
    }

    /// Whether some name exists that both patterns match.
    pub(super) fn overlaps(&self, other: &Glob) -> bool {
        let (a, b) = (self.text.as_bytes(), other.text.as_bytes());
        // `below[j]`: whether what is left of `a` and of `b` from `j` on can match the same text.
        let mut below = vec![false; b.len() + 1];
        for i in (0..=a.len()).rev() {
            let mut row = vec![false; b.len() + 1];
            for j in (0..=b.len()).rev() {
                row[j] = match (a.get(i), b.get(j)) {
                    (None, None) => true,
                    (Some(b'*'), Some(b'*')) => below[j] || row[j + 1],
                    (Some(b'*'), next) => below[j] || (next.is_some() && row[j + 1]),
                    (next, Some(b'*')) => row[j + 1] || (next.is_some() && below[j]),
                    (Some(x), Some(y)) => x == y && below[j + 1],
                    (None, Some(_)) | (Some(_), None) => false,
                };
            }
            below = row;
        }
        below[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("gpt-4o*", "gpt-4o", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "gpt-4", false),
            ("*opus", "claude-opus", true),
            ("*opus", "claude-opus-4", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*d*", "abcde", true),
            ("*d*b*", "abcde", false),
            ("*", "", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn overlap_is_told_from_the_patterns_alone() {
        for (a, b, expected) in [
            ("gpt-4o*", "gpt-4.*", false),
            ("gpt-4*", "gpt-4o*", true),
            ("gpt-4o*", "*-audio", true),
            ("*lite*", "*nano*", true),
            ("a*c", "b*c", false),
            ("a*b", "a*c", false),
        ] {
            assert_eq!(Glob::new(a).overlaps(&Glob::new(b)), expected, "{a} {b}");
            assert_eq!(Glob::new(b).overlaps(&Glob::new(a)), expected, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn patterns_that_match_one_name_overlap(
            a in "[ab*]{0,5}", b in "[ab*]{0,5}", name in "[ab]{0,5}",
        ) {
            let (a, b) = (Glob::new(&a), Glob::new(&b));
            if a.matches(&name) && b.matches(&name) {
                prop_assert!(a.overlaps(&b));
            }
        }
    }
}
