//! What the dialects share in reading JSON: members in either spelling and base64 media.
//! Owns no dialect's knowledge.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::estimate::prompt::{Document, Image, Part};
use crate::estimate::{audio, image};

/// A member by the first of its names that is there and not null.
pub(super) fn any<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().filter_map(|name| value.get(*name)).find(|found| !found.is_null())
}

/// JSON as the caller's text: a string stands for itself.
pub(super) fn json(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Media given as base64, by its kind.
pub(super) fn media<'a>(mime: &'a str, data: &str) -> Part<'a> {
    // Base64 has four characters for three bytes.
    let bytes = data.len() as u64 / 4 * 3;
    if mime.starts_with("image") {
        return Part::Image(Image { size: image::size_of_base64(data), detail: None });
    }
    if mime.starts_with("audio") {
        return Part::Audio { seconds: audio::seconds_of_base64(data), bytes };
    }
    let pages = if mime.contains("pdf") { pages(data) } else { None };
    let text = if mime.starts_with("text/") { decoded_text(data) } else { None };
    Part::Document(Document { bytes, pages, text })
}

/// A text file's text.
fn decoded_text<'a>(data: &str) -> Option<Cow<'a, str>> {
    let bytes = STANDARD.decode(data).ok()?;
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The pages of a PDF: its page objects, unless they are packed into streams.
fn pages(data: &str) -> Option<u32> {
    let bytes = STANDARD.decode(data).ok()?;
    let found = memchr::memmem::find_iter(&bytes, b"/Type").filter(|at| {
        let rest = bytes[at + 5..].trim_ascii_start();
        rest.strip_prefix(b"/Page").is_some_and(|rest| !rest.starts_with(b"s"))
    });
    u32::try_from(found.count()).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_texts_read() {
        let pdf = STANDARD.encode("<</Type /Pages>> <</Type/Page>> <</Type  /Page /X 1>>");
        assert!(matches!(
            media("application/pdf", &pdf),
            Part::Document(Document { pages: Some(2), .. })
        ));
        let Part::Document(found) = media("text/plain", "aGVsbG8=") else { panic!("a document") };
        assert_eq!(found.text.as_deref(), Some("hello"));
    }
}
