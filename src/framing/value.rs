//! A JSON value that has been read: what a document says, member by member. Owns reading one from text and
//! writing it as text; knows neither selections nor what members mean.
//!
//! Documents are small and asked for a few dozen members each, most of which they do not have. So members
//! stand in the order of the text and are compared one by one, which takes less than to hash a name, and
//! names and short texts are kept in place.

use std::fmt;

use compact_str::CompactString;

/// Nesting that is read; a text that goes deeper is no value.
const MAX_DEPTH: usize = 128;

/// Room that is made at once for a value's text.
const JSON_GUESS: usize = 256;

/// A JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    /// As it was written.
    Number(CompactString),
    String(CompactString),
    Array(Vec<Value>),
    /// As they were written. Of members with the same name the last counts.
    Object(Members),
}

/// The members of an object, in the order of the text.
pub type Members = Vec<(CompactString, Value)>;

impl Value {
    /// Reads a JSON text; `None` if it is not one.
    pub fn parse(json: &[u8]) -> Option<Value> {
        let mut parser = Parser { text: std::str::from_utf8(json).ok()?, at: 0 };
        parser.blanks();
        let value = parser.value(MAX_DEPTH)?;
        parser.blanks();
        (parser.at == parser.text.len()).then_some(value)
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Value::Object(members) = self else { return None };
        members.iter().rev().find(|(own, _)| own.as_str() == name).map(|(_, value)| value)
    }

    /// An element of an array.
    pub fn at(&self, index: usize) -> Option<&Value> {
        self.as_array()?.get(index)
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(elements) = self { Some(elements) } else { None }
    }

    pub fn as_object(&self) -> Option<&Members> {
        if let Value::Object(members) = self { Some(members) } else { None }
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }

    pub fn is_array(&self) -> bool {
        matches!(self, Value::Array(_))
    }

    /// As JSON without blanks, numbers as they were read.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(JSON_GUESS);
        self.write(&mut out);
        String::from_utf8(out).expect("texts were put together with ASCII")
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => out.extend_from_slice(number.as_bytes()),
            Value::String(text) => quote(text, out),
            Value::Array(elements) => {
                let mut before = b'[';
                for element in elements {
                    out.push(std::mem::replace(&mut before, b','));
                    element.write(out);
                }
                out.extend_from_slice(if elements.is_empty() { b"[]" } else { b"]" });
            }
            Value::Object(members) => {
                let mut before = b'{';
                for (name, value) in members {
                    out.push(std::mem::replace(&mut before, b','));
                    quote(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
            }
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }
}

/// Puts a member in the place of the one with its name, or behind all others.
pub fn put(members: &mut Members, name: &str, value: Value) {
    match members.iter_mut().rev().find(|(own, _)| own == name) {
        Some((_, present)) => *present = value,
        None => members.push((CompactString::new(name), value)),
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(compact_str::format_compact!("{number}"))
    }
}

/// For tests, which write values as they like best.
#[cfg(test)]
impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Value {
        Value::parse(value.to_string().as_bytes()).unwrap()
    }
}

/// As [`Value::to_json`].
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

/// Appends a text as a JSON string, with the escapes that `serde_json` writes.
pub fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Nearly all need none, which a loop without branches tells of several bytes at a time.
    if text.bytes().fold(false, |found, byte| found | needs_escape(byte)) {
        let mut from = 0;
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| needs_escape(*byte)) {
            out.extend_from_slice(&text.as_bytes()[from..at]);
            escape(byte, out);
            from = at + 1;
        }
        out.extend_from_slice(&text.as_bytes()[from..]);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Reads one text, front to back.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes a byte if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        let comes = self.peek() == Some(byte);
        self.at += usize::from(comes);
        comes
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.peek()? {
            b'"' => self.string().map(Value::String),
            b'{' if depth > 0 => self.object(depth - 1),
            b'[' if depth > 0 => self.array(depth - 1),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        let comes = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        comes.then_some(value)
    }

    fn number(&mut self) -> Option<Value> {
        let begins = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Value::Number(CompactString::new(&self.text[begins..self.at])))
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let begins = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > begins).then_some(())
    }

    fn string(&mut self) -> Option<CompactString> {
        let begins = self.at + 1;
        let rest = &self.text.as_bytes()[begins..];
        let length = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20))?;
        self.at = begins + length;
        let plain = &self.text[begins..self.at];
        match self.peek()? {
            b'"' => {
                self.at += 1;
                Some(CompactString::new(plain))
            }
            b'\\' => self.escaped(begins),
            _ => None,
        }
    }

    /// A string with escapes in it, which are rare: a library knows them all.
    fn escaped(&mut self, begins: usize) -> Option<CompactString> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text: String = serde_json::from_slice(&bytes[begins - 1..self.at]).ok()?;
        Some(text.into())
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut elements = Vec::new();
        self.blanks();
        if self.takes(b']') {
            return Some(Value::Array(elements));
        }
        loop {
            self.blanks();
            elements.push(self.value(depth)?);
            self.blanks();
            if self.takes(b']') {
                return Some(Value::Array(elements));
            }
            self.takes(b',').then_some(())?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut members = Members::new();
        self.blanks();
        if self.takes(b'}') {
            return Some(Value::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return None;
            }
            let name = self.string()?;
            self.blanks();
            self.takes(b':').then_some(())?;
            self.blanks();
            members.push((name, self.value(depth)?));
            self.blanks();
            if self.takes(b'}') {
                return Some(Value::Object(members));
            }
            self.takes(b',').then_some(())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(json: &str) -> Option<Value> {
        Value::parse(json.as_bytes())
    }

    #[test]
    fn what_is_no_json_is_no_value() {
        for json in [
            "",
            " ",
            "{",
            "[1",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nul",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "1 2",
            "{a:1}",
            "\"\\ud800\"",
            "'a'",
            "[1}",
            "\"\\",
        ] {
            assert_eq!(parsed(json), None, "{json}");
            assert!(serde_json::from_str::<serde_json::Value>(json).is_err(), "{json}");
        }
        assert_eq!(Value::parse(b"\"\xFF\""), None);
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parsed(&deep(MAX_DEPTH)).is_some());
        assert_eq!(parsed(&deep(MAX_DEPTH + 1)), None);
    }

    #[test]
    fn members_and_elements_are_found() {
        let value =
            parsed(r#" {"a" : [1, {"b":"c\u00e9"}], "n":-1.50e+3, "a2":null,"n":2} "#).unwrap();
        let b = value.get("a").and_then(|a| a.at(1)).and_then(|one| one.get("b"));
        assert_eq!(b.and_then(Value::as_str), Some("cé"));
        assert_eq!(value.get("n"), Some(&Value::Number("2".into())));
        assert_eq!(value.get("a2"), Some(&Value::Null));
        assert_eq!((value.get("b"), value.at(0)), (None, None));
        assert_eq!(value.to_string(), r#"{"a":[1,{"b":"cé"}],"n":-1.50e+3,"a2":null,"n":2}"#);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(Into::into),
            "[\\x00-\\x7f]{0,40}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_read_and_written_as_a_library_does(json in any_json()) {
            let (compact, pretty) = (json.to_string(), serde_json::to_string_pretty(&json).unwrap());
            let value = parsed(&compact).unwrap();
            prop_assert_eq!(value.to_string(), compact);
            prop_assert_eq!(parsed(&pretty).unwrap(), value);
        }

        #[test]
        fn whatever_is_fed_is_taken_or_refused_as_a_library_does(json in r#"[\[\]{}:,"\\ 0-9a-fnrtul.eE+-]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&json);
            prop_assert_eq!(parsed(&json).is_some(), theirs.is_ok(), "{}", json);
        }
    }
}
