//! Where the members of a JSON object stand in its bytes. Owns finding them, so that one can be put in
//! or taken out and every other byte stay as it is; knows no member's meaning.
//!
//! Invariant: what is not one whole and valid JSON object has no members, so nothing is ever cut out
//! of what is not understood.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where its value stands; of a name that stands more than once, the last one's.
    pub value: Range<usize>,
    /// How often the name stands in the object.
    pub times: usize,
    /// Where the value before it ends; `None` for the first member.
    after: Option<usize>,
}

impl Member {
    /// What goes when the member goes: its name, its value and exactly one comma, if there is one.
    pub fn with_comma(&self, json: &[u8]) -> Range<usize> {
        if let Some(after) = self.after {
            return after..self.value.end;
        }
        let begin = skip_blanks(json, behind_brace(json).unwrap_or_default());
        let end = skip_blanks(json, self.value.end);
        if json.get(end) == Some(&b',') {
            return begin..skip_blanks(json, end + 1);
        }
        begin..self.value.end
    }
}

/// The members of these names in the object that the bytes are; `None` if they are no object.
pub fn members<const N: usize>(json: &[u8], names: [&str; N]) -> Option<[Option<Member>; N]> {
    behind_brace(json)?;
    let mut json_reader = serde_json::Deserializer::from_slice(json);
    let walk = Walk { base: json.as_ptr().addr(), names };
    let found = walk.deserialize(&mut json_reader).ok()?;
    json_reader.end().ok()?;
    Some(found)
}

/// The place behind an object's opening brace.
pub fn behind_brace(json: &[u8]) -> Option<usize> {
    let brace = skip_blanks(json, 0);
    (json.get(brace) == Some(&b'{')).then_some(brace + 1)
}

/// True if an array or an object has nothing in it.
pub fn is_empty(value: &[u8]) -> bool {
    matches!(value.get(skip_blanks(value, 1)), Some(b']' | b'}'))
}

fn skip_blanks(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Goes through an object and notes places. Values are skipped, not built.
struct Walk<'n, const N: usize> {
    /// Where the bytes begin in memory: a value is borrowed from them, so that its place is known.
    base: usize,
    names: [&'n str; N],
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, const N: usize> DeserializeSeed<'de> for Walk<'_, N> {
    type Value = [Option<Member>; N];

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Walk<'_, N> {
    type Value = [Option<Member>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        let mut after = None;
        while let Some(Name(name)) = map.next_key()? {
            let raw: &'de RawValue = map.next_value()?;
            let begin = raw.get().as_ptr().addr() - self.base;
            let value = begin..begin + raw.get().len();
            let end = value.end;
            if let Some(at) = self.names.iter().position(|wanted| *wanted == name) {
                let times = found[at].as_ref().map_or(0, |member: &Member| member.times) + 1;
                found[at] = Some(Member { value, times, after });
            }
            after = Some(end);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(json: &str) -> String {
        let [member] = members(json.as_bytes(), ["x"]).unwrap();
        let cut = member.unwrap().with_comma(json.as_bytes());
        format!("{}{}", &json[..cut.start], &json[cut.end..])
    }

    #[test]
    fn a_member_goes_with_exactly_one_comma() {
        for (json, left) in [
            (r#"{"x":null}"#, r"{}"),
            (r#" { "x" : null } "#, r" {  } "),
            (r#"{"x":null,"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"x":null}"#, r#"{"a":1}"#),
            (r#"{"a":1,"x":null,"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a": 1, "x": null, "b": 2}"#, r#"{"a": 1, "b": 2}"#),
            (r#"{"x": null, "b": 2}"#, r#"{"b": 2}"#),
            (
                r#"{"a":"\",\"x\":null,","x":{"x":[1,"}"]},"b":2}"#,
                r#"{"a":"\",\"x\":null,","b":2}"#,
            ),
        ] {
            assert_eq!(without(json), left, "{json}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts_and_names_may_be_escaped() {
        let json = br#"{"x":1,"\u0078":{"a":"\\"} ,"y":true}"#;
        let [x, y, z] = members(json, ["x", "y", "z"]).unwrap();
        let x = x.unwrap();
        assert_eq!((&json[x.value], x.times), (&br#"{"a":"\\"}"#[..], 2));
        assert_eq!(&json[y.unwrap().value], b"true");
        assert_eq!(z, None);
    }

    #[test]
    fn what_is_no_whole_object_has_no_members() {
        for json in ["", "[]", "1", "null", r#"{"x":1"#, r#"{"x":1}}"#, r#"{"x":1,}"#, "\u{feff}{}"]
        {
            assert!(members(json.as_bytes(), ["x"]).is_none(), "{json}");
        }
        assert!(members(b"{\"x\":\"\xff\"}", ["x"]).is_none());
        let deep = format!(r#"{{"a":{}{},"x":1}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(members(deep.as_bytes(), ["x"]).is_some());
    }

    #[test]
    fn empty_values_are_told_from_others() {
        assert!(is_empty(b"[]") && is_empty(b"[ \n]") && is_empty(b"{}"));
        assert!(!is_empty(b"[1]") && !is_empty(b"{\"a\":1}"));
    }
}
