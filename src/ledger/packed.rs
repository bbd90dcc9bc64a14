//! JSON texts that differ in their numbers only, kept as a shape and the numbers. Owns the form of
//! both; knows nothing of what the texts mean.
//!
//! A provider's usage object is some 250 bytes, of which 20 are news. The shape is a format of
//! `SQLite`'s `printf` with a `%s` for each number, so that a view can put the text together again.
//!
//! Invariant: the text that is put together is the one that was taken apart, byte for byte.

use std::fmt::Write as _;

/// Numbers that are taken out of one text; what comes after stays in the shape.
pub(super) const NUMBERS: usize = 32;

/// Longer texts are kept as they are: they are rare, and so would their shapes be.
const LONGEST: usize = 4096;

/// A text taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// A `printf` format with `%s` for each number.
    pub(super) shape: String,
    /// A JSON array: integers as numbers, all others as strings, which keep their digits.
    pub(super) numbers: String,
}

/// A shape that texts can be held against, which is cheaper than taking them apart: most texts are of the shape
/// that the one before was of.
#[derive(Debug)]
pub(super) struct Template {
    /// What stands before the first number, between the numbers, and behind the last.
    literals: Vec<Box<str>>,
}

impl Template {
    /// Of a shape that [`pack`] made.
    pub(super) fn of(shape: &str) -> Template {
        let (mut literals, mut literal, mut rest) = (Vec::new(), String::new(), shape);
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            match rest.as_bytes().get(at + 1) {
                Some(b's') => literals.push(std::mem::take(&mut literal).into()),
                _ => literal.push('%'),
            }
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        literal.push_str(rest);
        literals.push(literal.into());
        Template { literals }
    }

    /// The numbers of a text, as [`pack`] would write them, if it is of this shape.
    pub(super) fn numbers(&self, text: &str) -> Option<String> {
        let (first, others) = self.literals.split_first()?;
        if text.len() > LONGEST || others.is_empty() {
            return None;
        }
        let mut rest = text.strip_prefix(&**first)?;
        let mut numbers = String::with_capacity(text.len() / 2);
        for (at, literal) in others.iter().enumerate() {
            if !matches!(rest.as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
                return None;
            }
            let (number, behind) = rest.split_at(end_of_number(rest.as_bytes(), 0));
            put_number(&mut numbers, at, number);
            rest = behind.strip_prefix(&**literal)?;
        }
        numbers.push(']');
        rest.is_empty().then_some(numbers)
    }
}

/// Takes a JSON text apart; nothing where that would not pay.
pub(super) fn pack(text: &str) -> Option<Packed> {
    if text.len() > LONGEST || text.contains('\0') {
        return None;
    }
    let mut shape = String::with_capacity(text.len());
    let mut numbers = String::new();
    let (mut count, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at);
                push_literally(&mut shape, &text[start..at]);
            }
            b'-' | b'0'..=b'9' if count < NUMBERS => {
                at = end_of_number(bytes, at);
                put_number(&mut numbers, count, &text[start..at]);
                shape.push_str("%s");
                count += 1;
            }
            _ => {
                at += 1;
                while at < bytes.len() && !matches!(bytes[at], b'"' | b'-' | b'0'..=b'9') {
                    at += 1;
                }
                push_literally(&mut shape, &text[start..at]);
            }
        }
    }
    if count == 0 {
        return None;
    }
    numbers.push(']');
    Some(Packed { shape, numbers })
}

/// Puts a text together again; nothing where shape and numbers do not belong together.
pub(super) fn unpack(shape: &str, numbers: &str) -> Option<String> {
    let inner = numbers.strip_prefix('[')?.strip_suffix(']')?;
    // No number has a comma.
    let mut numbers = inner.split(',').map(|number| number.trim_matches('"'));
    let mut text = String::with_capacity(shape.len() + inner.len());
    let mut rest = shape;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        match rest.as_bytes().get(at + 1)? {
            b's' => text.push_str(numbers.next()?),
            b'%' => text.push('%'),
            _ => return None,
        }
        rest = &rest[at + 2..];
    }
    text.push_str(rest);
    Some(text)
}

/// The SQL that puts a text together again, given the SQL of its shape and of its numbers.
pub(super) fn unpack_sql(shape: &str, numbers: &str) -> String {
    let mut sql = format!("printf({shape}");
    for at in 0..NUMBERS {
        let _ = write!(sql, ", json_extract({numbers}, '$[{at}]')");
    }
    sql.push(')');
    sql
}

/// Adds the number that comes after so many others.
fn put_number(numbers: &mut String, at: usize, number: &str) {
    numbers.push(if at == 0 { '[' } else { ',' });
    if is_plain(number) {
        numbers.push_str(number);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(numbers, "\"{number}\"");
    }
}

fn push_literally(shape: &mut String, text: &str) {
    for (at, part) in text.split('%').enumerate() {
        if at > 0 {
            shape.push_str("%%");
        }
        shape.push_str(part);
    }
}

/// Behind the closing quote, or the end of the text.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    start + bytes[start..].iter().take_while(|byte| is_part(byte)).count()
}

/// Whether a number's text is what `SQLite` prints for it: an integer of at most 18 digits, without
/// a sign or digits that say nothing.
fn is_plain(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_canonical = number == "0" || !digits.starts_with('0');
    is_canonical && (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    fn through(text: &str) -> Option<String> {
        let packed = pack(text)?;
        let connection = Connection::open_in_memory().unwrap();
        let sql = format!("SELECT {}", unpack_sql("?1", "?2"));
        Some(connection.query_row(&sql, [packed.shape, packed.numbers], |row| row.get(0)).unwrap())
    }

    #[test]
    fn usage_objects_come_back_as_they_were() {
        let texts = [
            r#"{"prompt_tokens":19,"completion_tokens":10,"cost":0.00014250,"x":1e-05}"#,
            r#"{"a": -0, "b":[-12,007], "100%": "5% \" 7", "n":12345678901234567890,"d":%s}"#,
            r#"{"é":"ü1", "z":999999999999999999,"y":1000000000000000000,"w":-5}"#,
        ];
        for text in texts {
            assert_eq!(through(text).as_deref(), Some(text));
        }
        let many = format!("[{}]", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        assert_eq!(through(&many).as_deref(), Some(&*many));
    }

    #[test]
    fn objects_that_differ_in_numbers_share_a_shape() {
        let one = pack(r#"{"input_tokens":1,"details":{"cached":0}}"#).unwrap();
        let other = pack(r#"{"input_tokens":12345,"details":{"cached":77}}"#).unwrap();
        assert_eq!(one.shape, other.shape);
        assert_eq!(other.numbers, "[12345,77]");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in r#"[ -~é\n]{0,40}|([{}\[\]",:%sd\\0-9.eE+-]){0,60}"#) {
            if let Some(back) = through(&text) {
                prop_assert_eq!(back, text);
            }
        }

        #[test]
        fn a_template_says_what_taking_apart_would(
            one in r#"([{}\[\]",:%sd\\0-9.eE+-]){0,30}"#,
            other in r#"([{}\[\]",:%sd\\0-9.eE+-]){0,30}"#,
            digits in proptest::collection::vec("[0-9]{1,3}", 40),
        ) {
            let mut digits = digits.iter();
            let renumbered: String = one
                .split_inclusive(|c: char| c.is_ascii_digit())
                .map(|part| part.replace(|c: char| c.is_ascii_digit(), digits.next().unwrap()))
                .collect();
            let Some(packed) = pack(&one) else { return Ok(()) };
            let template = Template::of(&packed.shape);
            prop_assert_eq!(template.numbers(&one), Some(packed.numbers.clone()));
            for text in [&other, &renumbered] {
                let apart = pack(text).filter(|apart| apart.shape == packed.shape);
                prop_assert_eq!(template.numbers(text), apart.map(|apart| apart.numbers));
            }
        }
    }
}
