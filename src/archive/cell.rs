//! A value as a cell of CSV and back. Owns what a cell of each column looks like, and the mark that
//! keeps spreadsheets from running a text.
//!
//! The mark is a `'` before the text. Texts that begin with what a spreadsheet runs get it, and so do
//! those that begin with `'` themselves and the empty text, which would else be a cell of nothing. So a
//! cell that begins with `'` always has the mark, and the way back is to take one `'` away. Numbers and
//! booleans never have it.
//!
//! Invariant: [`json`] undoes [`cell`], whatever the value.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// What spreadsheets take for the beginning of a formula: OWASP's list, the wide forms that Japanese
/// ones accept among it. And the mark.
const MARKED: [char; 12] =
    ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', MARK];

const MARK: char = '\'';

/// What a column's cells hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Boolean,
    /// JSON as text.
    Json,
}

impl Kind {
    fn of(column: &str) -> Kind {
        let is_figure = |name: &str| {
            ["_tokens", "_usd", "_ms"].iter().any(|unit| name.ends_with(unit))
                || ["attempt", "status", "retry"].contains(&name)
        };
        match column {
            "metadata" | "usage_json" | "estimate" => Kind::Json,
            "streaming" => Kind::Boolean,
            name if is_figure(name) => Kind::Number,
            _ => Kind::Text,
        }
    }
}

/// A text that a spreadsheet only shows, and from which the original can be told.
pub fn inert(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.starts_with(MARKED) {
        Cow::Owned(format!("{MARK}{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The cell of a value, given as JSON.
pub(super) fn cell<'a>(column: &str, value: &'a RawValue) -> serde_json::Result<Cow<'a, str>> {
    let json = value.get();
    match Kind::of(column) {
        Kind::Json => Ok(inert(json)),
        _ if json.starts_with('"') => {
            let text: String = serde_json::from_str(json)?;
            Ok(Cow::Owned(inert(&text).into_owned()))
        }
        _ => Ok(Cow::Borrowed(json)),
    }
}

/// The value of a cell as JSON; nothing where it is unknown.
pub(super) fn json(column: &str, cell: &str) -> Result<Option<String>, &'static str> {
    if cell.is_empty() {
        return Ok(None);
    }
    let text = cell.strip_prefix(MARK).unwrap_or(cell);
    match Kind::of(column) {
        Kind::Text => Ok(Some(serde_json::Value::from(text).to_string())),
        Kind::Json => {
            // One value and no more: what stands here goes into an object as it is.
            let value: Result<&RawValue, _> = serde_json::from_str(text);
            value.map(|_| Some(text.to_owned())).map_err(|_| "this is not JSON")
        }
        Kind::Number => {
            let is_plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            let is_number = cell.bytes().all(is_plain);
            is_number.then(|| Some(cell.to_owned())).ok_or("this is not a number")
        }
        // Spreadsheets write them in capitals.
        Kind::Boolean => match cell.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => Ok(Some(word.to_owned())),
            _ => Err("this is neither true nor false"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_spreadsheet_runs_nothing_that_a_client_wrote() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "'", ""]
        {
            let value = raw(&serde_json::Value::from(text).to_string());
            assert_eq!(cell("user", &value).unwrap(), format!("'{text}"));
        }
        for text in ["ann", "a=1", "\u{202e}=1", " =1"] {
            let value = raw(&serde_json::Value::from(text).to_string());
            assert_eq!(cell("user", &value).unwrap(), text);
        }
        assert_eq!(cell("cost_usd", &raw("-0.000000001")).unwrap(), "-0.000000001");
        assert_eq!(cell("usage_json", &raw("-1")).unwrap(), "'-1");
    }

    #[test]
    fn a_cell_cannot_say_more_than_its_own_value() {
        for cell in ["1,\"user\":\"eve\"", "{}}", "{", "1 2", "\"a\",\"b\""] {
            assert!(json("usage_json", cell).is_err(), "{cell}");
            assert!(json("attempt", cell).is_err(), "{cell}");
            assert!(json("streaming", cell).is_err(), "{cell}");
        }
        assert_eq!(json("user", "a\",\"b").unwrap().unwrap(), r#""a\",\"b""#);
        assert_eq!(json("streaming", "TRUE"), Ok(Some("true".to_owned())));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "['=+@\\-\\PC\\r\\n\\t]{0,9}") {
            let value = raw(&serde_json::Value::from(text).to_string());
            let cell = cell("user", &value).unwrap();
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
            let back = json("user", &cell).unwrap();
            prop_assert_eq!(back.as_deref(), Some(value.get()));
        }
    }
}
