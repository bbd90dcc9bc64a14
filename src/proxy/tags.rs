//! The tag headers. Owns their names and what is a good value; a bad one is refused, because a call
//! filed under the wrong name is worse than one refused in development.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::record::Tags;

/// Bytes that a tag's value may have.
const MAX_VALUE: usize = 256;

/// Bytes that `X-Metadata` may have.
const MAX_METADATA: usize = 4096;

/// How deep its values may be nested. The journal's readers give up at 128, its own levels counted.
const MAX_DEPTH: usize = 64;

const X_ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
const X_METADATA: HeaderName = HeaderName::from_static("x-metadata");
const X_TAG: &str = "x-tag-";

/// Which headers carry which tag, first present wins.
#[derive(Clone, Debug)]
pub struct TagHeaders {
    pub user: Vec<HeaderName>,
    pub session: Vec<HeaderName>,
    pub operation: Vec<HeaderName>,
}

impl Default for TagHeaders {
    fn default() -> TagHeaders {
        TagHeaders {
            user: vec![HeaderName::from_static("x-user")],
            session: vec![HeaderName::from_static("x-session")],
            operation: vec![HeaderName::from_static("x-operation")],
        }
    }
}

/// A tag header that cannot be taken. Displays which and why.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidTag {
    pub header: String,
    pub reason: String,
}

impl TagHeaders {
    /// Reads the tags of a request's headers. None of those that [`TagHeaders::names`] is to go on, also not
    /// those that a tag found before made superfluous.
    pub fn read(&self, headers: &HeaderMap) -> Result<Tags, InvalidTag> {
        let user = first(headers, &self.user);
        let session = first(headers, &self.session);
        let operation = first(headers, &self.operation);
        let attempt = first(headers, &[X_ATTEMPT]);
        let metadata = first(headers, &[X_METADATA]);
        let named = named(headers);
        let single = [&user, &session, &operation, &attempt, &metadata].into_iter().flatten();
        if let Some((name, _)) =
            single.chain(&named).find(|(name, _)| is_given_twice(headers, name))
        {
            let reason = "is given more than once, with different values".to_owned();
            return Err(InvalidTag { header: name.as_str().to_owned(), reason });
        }
        Ok(Tags {
            user: user.map(checked_text).transpose()?.flatten(),
            session: session.map(checked_text).transpose()?.flatten(),
            operation: operation.map(checked_text).transpose()?.flatten(),
            attempt: attempt.map(checked_attempt).transpose()?,
            metadata: checked_metadata(metadata, named)?,
        })
    }

    /// True for headers that carry tags.
    pub fn names(&self, name: &HeaderName) -> bool {
        let of_a_tag = [&self.user, &self.session, &self.operation];
        of_a_tag.into_iter().any(|names| names.contains(name))
            || name == X_ATTEMPT
            || name == X_METADATA
            || name.as_str().starts_with(X_TAG)
    }
}

type Field = (HeaderName, HeaderValue);

fn first(headers: &HeaderMap, names: &[HeaderName]) -> Option<Field> {
    names.iter().find_map(|name| Some((name.clone(), headers.get(name)?.clone())))
}

fn is_given_twice(headers: &HeaderMap, name: &HeaderName) -> bool {
    if headers.keys_len() == headers.len() {
        return false;
    }
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.any(|value| Some(value) != first)
}

fn named(headers: &HeaderMap) -> Vec<Field> {
    let is_named = |name: &&HeaderName| name.as_str().starts_with(X_TAG);
    let names = headers.keys().filter(is_named);
    names.filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

/// What is wrong with a text as a tag's value.
pub(super) fn objection(value: &[u8], max: usize) -> Option<String> {
    if value.len() > max {
        return Some(format!("is {} bytes long; at most {max} are allowed", value.len()));
    }
    match std::str::from_utf8(value) {
        Err(_) => Some("is not UTF-8".to_owned()),
        Ok(text) if text.chars().any(char::is_control) => {
            Some("holds a control character".to_owned())
        }
        Ok(_) => None,
    }
}

/// Checks a user that the body names. A bad one is left out, since it was not meant as a tag.
pub(super) fn fallback_user(user: Option<String>) -> Option<String> {
    user.filter(|user| objection(user.as_bytes(), MAX_VALUE).is_none())
}

fn checked((name, value): Field, max: usize) -> Result<(HeaderName, String), InvalidTag> {
    if let Some(reason) = objection(value.as_bytes(), max) {
        return Err(InvalidTag { header: name.as_str().to_owned(), reason });
    }
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok((name, text))
}

/// `None` for an empty value, which says as much as an absent header.
fn checked_text(field: Field) -> Result<Option<String>, InvalidTag> {
    let (_, text) = checked(field, MAX_VALUE)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn checked_attempt(field: Field) -> Result<u32, InvalidTag> {
    let (name, text) = checked(field, MAX_VALUE)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| InvalidTag {
        header: name.as_str().to_owned(),
        reason: format!("is {text:?}; it must be a whole number from 0 to {}", u32::MAX),
    })
}

fn checked_metadata(
    metadata: Option<Field>,
    named: Vec<Field>,
) -> Result<Option<Map<String, Value>>, InvalidTag> {
    let (mut members, mut last) = (Map::new(), None);
    if let Some(field) = metadata {
        let (name, text) = checked(field, MAX_METADATA)?;
        members = serde_json::from_str(&text).map_err(|error| InvalidTag {
            header: name.as_str().to_owned(),
            reason: format!("is no JSON object: {error}"),
        })?;
        if !members.values().all(|value| is_within(value, MAX_DEPTH)) {
            let reason = format!("is nested deeper than {MAX_DEPTH} levels");
            return Err(InvalidTag { header: name.as_str().to_owned(), reason });
        }
    }
    for field in named {
        let member = field.0.as_str()[X_TAG.len()..].to_owned();
        let (name, text) = checked(field, MAX_VALUE)?;
        if member.is_empty() {
            let reason = "has no name behind `x-tag-`".to_owned();
            return Err(InvalidTag { header: name.as_str().to_owned(), reason });
        }
        let value = Value::String(text);
        if members.get(&member).is_some_and(|given| *given != value) {
            let reason = format!("says otherwise than `{member}` in {X_METADATA}");
            return Err(InvalidTag { header: name.as_str().to_owned(), reason });
        }
        members.insert(member, value);
        last = Some(name);
    }
    if let Some(name) = last
        && serde_json::to_string(&members).is_ok_and(|text| text.len() > MAX_METADATA)
    {
        let reason = format!("makes the metadata longer than {MAX_METADATA} bytes in all");
        return Err(InvalidTag { header: name.as_str().to_owned(), reason });
    }
    Ok((!members.is_empty()).then_some(members))
}

/// Whether a value has no more levels than so many.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(elements) => {
            levels > 0 && elements.iter().all(|one| is_within(one, levels - 1))
        }
        Value::Object(members) => {
            levels > 0 && members.values().all(|one| is_within(one, levels - 1))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(fields: &[(&'static str, &[u8])]) -> (Result<Tags, InvalidTag>, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let tags = TagHeaders::default();
        let read = tags.read(&headers);
        super::super::headers::retain(&mut headers, |name| !tags.names(name));
        (read, headers)
    }

    #[test]
    fn tags_are_read_and_removed() {
        let (tags, left) = take(&[
            ("x-user", "Zoë".as_bytes()),
            ("x-session", b"s1"),
            ("x-operation", b"rag_answer"),
            ("x-attempt", b"2"),
            ("x-metadata", br#"{"team":"a","n":1}"#),
            ("x-tag-subject", b"maths"),
            ("authorization", b"Bearer k"),
        ]);
        let tags = tags.unwrap();
        assert_eq!(tags.user.as_deref(), Some("Zoë"));
        assert_eq!(tags.attempt, Some(2));
        let metadata = serde_json::to_string(&tags.metadata).unwrap();
        assert_eq!(metadata, r#"{"team":"a","n":1,"subject":"maths"}"#);
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn bad_tags_say_which_and_why() {
        for (name, value, reason) in [
            ("x-user", &b"a\xFF"[..], "not UTF-8"),
            ("x-user", &[b'a'; 257][..], "257 bytes"),
            ("x-session", "a\u{85}b".as_bytes(), "control character"),
            ("x-attempt", b"two", "whole number"),
            ("x-attempt", b"-1", "whole number"),
            ("x-attempt", b"99999999999", "whole number"),
            ("x-metadata", b"[1]", "JSON object"),
        ] {
            let error = take(&[(name, value)]).0.unwrap_err();
            assert_eq!(error.header, name);
            assert!(error.reason.contains(reason), "{error:?}");
        }
    }

    #[test]
    fn metadata_can_be_read_again_from_the_journal() {
        let metadata = |levels| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let (deep, deeper) = (metadata(MAX_DEPTH), metadata(MAX_DEPTH + 1));
        assert!(take(&[("x-metadata", deep.as_bytes())]).0.is_ok());
        let error = take(&[("x-metadata", deeper.as_bytes())]).0.unwrap_err();
        assert!(error.reason.contains("64 levels"), "{error:?}");
    }

    #[test]
    fn tags_that_contradict_each_other_are_refused() {
        for fields in [
            [("x-user", &b"a"[..]), ("x-user", b"b")],
            [("x-tag-subject", b"a"), ("x-tag-subject", b"b")],
            [("x-metadata", br#"{"subject":"a"}"#), ("x-tag-subject", b"b")],
        ] {
            assert!(take(&fields).0.is_err(), "{fields:?}");
        }
        assert!(take(&[("x-user", b"a"), ("x-user", b"a")]).0.is_ok());
        let many: Vec<(&'static str, &[u8])> = ["x-tag-a", "x-tag-b", "x-tag-c", "x-tag-d"]
            .into_iter()
            .map(|name| (name, &[b'v'; 250][..]))
            .chain([("x-metadata", &br#"{"long":""#[..])])
            .collect();
        assert!(take(&many[..4]).0.is_ok());
        let long = format!(r#"{{"long":"{}"}}"#, "v".repeat(3900));
        let mut too_many = many[..4].to_vec();
        too_many.push(("x-metadata", long.as_bytes()));
        assert!(take(&too_many).0.unwrap_err().reason.contains("in all"));
    }
}
