//! Texts that clients and providers wrote, as a terminal may show them. Owns what is escaped and how a
//! long name is shortened; knows nothing of tables.
//!
//! Invariant: what comes out has no control character, nothing that turns the direction of writing, and
//! nothing that takes no room; two names that differ look different.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What stands for the part of a name that is left out.
const GAP: &str = "…";

/// Parts of one character as it is seen; a family of emoji has eleven. More are a tower of accents that
/// reaches into other lines.
const MOST_PARTS: usize = 16;

/// Joins what stands on its two sides into one picture.
const JOINER: char = '\u{200d}';

/// Letters and marks by name that show nothing.
const BLANK: [char; 9] = [
    '\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{180e}', '\u{2800}', '\u{3164}',
    '\u{ffa0}',
];

/// The text with everything escaped that is not seen as it is: `\n`, `\u{202e}`.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(pieces(text).collect())
}

/// How many columns of a terminal a visible text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The visible text in so many columns at most: of a longer one the beginning and the end, because names
/// of models differ at both.
pub(super) fn shortened(text: &str, room: usize) -> Cow<'_, str> {
    let whole = visible(text);
    if width(&whole) <= room {
        return whole;
    }
    let pieces: Vec<Cow<'_, str>> = pieces(text).collect();
    let room = room.saturating_sub(width(GAP));
    let end_room = room / 3;
    let mut end = Vec::new();
    let mut taken = 0;
    for piece in pieces.iter().rev() {
        taken += width(piece);
        if taken > end_room {
            break;
        }
        end.push(piece.as_ref());
    }
    let end: String = end.into_iter().rev().collect();
    let start_room = room.saturating_sub(width(&end));
    let mut start = String::new();
    for piece in &pieces {
        if width(&start) + width(piece) > start_room {
            break;
        }
        start.push_str(piece);
    }
    Cow::Owned(format!("{start}{GAP}{end}"))
}

/// What is shown or cut as one: characters as they are seen, and escapes.
fn pieces(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.graphemes(true).flat_map(|seen| {
        let parts = if is_seen(seen) {
            vec![Cow::Borrowed(seen)]
        } else {
            seen.chars().map(|part| Cow::Owned(escaped(part))).collect()
        };
        parts.into_iter()
    })
}

fn is_seen(seen: &str) -> bool {
    let mut parts = seen.chars();
    let is_joined = !seen.ends_with(JOINER) && !seen.starts_with(JOINER);
    parts.next().is_some_and(is_seen_alone)
        && parts.all(|part| is_seen_within(part) || (part == JOINER && is_joined))
        && seen.chars().count() <= MOST_PARTS
}

/// By the standard library's tables of what can be printed, which know accents that would stand alone.
fn is_seen_alone(part: char) -> bool {
    match part {
        '\'' | '"' | '\\' | '\u{3000}' => true,
        _ if BLANK.contains(&part) => false,
        _ => part.escape_debug().len() == 1,
    }
}

/// The same of an accent or a variation of what stands before it.
fn is_seen_within(part: char) -> bool {
    match part {
        '\u{fe00}'..='\u{fe0d}' | '\u{e0100}'..='\u{e01ef}' => false,
        _ if BLANK.contains(&part) => false,
        _ => is_seen_alone(part) || format!("x{part}").escape_debug().nth(1) == Some(part),
    }
}

fn escaped(part: char) -> String {
    if is_seen_alone(part) {
        part.to_string()
    } else if BLANK.contains(&part) {
        part.escape_unicode().to_string()
    } else {
        part.escape_debug().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_or_deceive_is_seen() {
        let cases = [
            ("ann", "ann"),
            ("it's \"C:\\x\"", "it's \"C:\\x\""),
            ("a\u{1b}[31mb\nc\td\u{9b}0m\u{7f}", "a\\u{1b}[31mb\\nc\\td\\u{9b}0m\\u{7f}"),
            ("ann\u{202e}txt.exe\u{2066}", "ann\\u{202e}txt.exe\\u{2066}"),
            ("a\u{200b}b\u{feff}c\u{ad}d\u{a0}e", "a\\u{200b}b\\u{feff}c\\u{ad}d\\u{a0}e"),
            ("a\u{200d}b\u{200d}", "a\\u{200d}b\\u{200d}"),
            ("\u{301}a", "\\u{301}a"),
            ("\u{3164}\u{2800}", "\\u{3164}\\u{2800}"),
            ("山田　太郎", "山田　太郎"),
            ("e\u{301}té שלום मान्छे", "e\u{301}té שלום मान्छे"),
            ("👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}", "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}"),
        ];
        for (text, expected) in cases {
            assert_eq!(visible(text), expected, "{text:?}");
        }
        let tower = format!("a{}b", "\u{301}".repeat(40));
        assert!(visible(&tower).starts_with("a\\u{301}"), "{}", visible(&tower));
    }

    #[test]
    fn names_are_shortened_to_their_room_between_characters() {
        assert_eq!(shortened("claude-sonnet-4-5-20250929", 16), "claude-son…50929");
        assert_eq!(shortened("山田太郎山田太郎", 9), "山田太…郎");
        assert_eq!(
            shortened("👩\u{200d}👩\u{200d}👧👩\u{200d}👩\u{200d}👧👩\u{200d}👩\u{200d}👧", 5),
            "👩\u{200d}👩\u{200d}👧👩\u{200d}👩\u{200d}👧…"
        );
        assert_eq!(shortened("ab\u{202e}cd", 8), "ab…cd");
        for room in 1..40 {
            for text in [
                "claude-sonnet-4-5-20250929",
                "山田太郎山田太郎",
                "a\u{1b}[31m\u{202e}e\u{301}e\u{301}",
            ] {
                let shown = shortened(text, room);
                assert!(width(&shown) <= room, "{shown} in {room}");
            }
        }
    }
}
