//! What the dialects share in reading JSON: members in either spelling and base64 media.
//! Owns no dialect's knowledge.

use std::borrow::Cow;

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
    Part::Document(Document { mime: Some(mime), bytes, pages: None, text: None })
}
