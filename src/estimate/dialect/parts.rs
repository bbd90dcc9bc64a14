//! Content of messages in OpenAI's shapes, for chat completions and the Responses API. Owns the kinds
//! of parts and where their text or data stands; a medium's size is read from its first bytes, and
//! what is only named (a URL, a file's id) is noted as unseen.

use std::borrow::Cow;

use serde_json::Value;

use crate::estimate::prompt::{Document, Image, Part};
use crate::estimate::{Unseen, audio, image};

/// A message's `content`: a string, or a list of parts.
pub(super) fn content<'a>(content: &'a Value, unseen: &mut Vec<Unseen>) -> Vec<Part<'a>> {
    match content {
        Value::String(text) => vec![Part::Text(Cow::Borrowed(text))],
        Value::Array(parts) => parts.iter().filter_map(|part| read(part, unseen)).collect(),
        _ => Vec::new(),
    }
}

/// Notes once what cannot be seen.
pub(super) fn note(unseen: &mut Vec<Unseen>, what: Unseen) {
    if !unseen.contains(&what) {
        unseen.push(what);
    }
}

pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

pub(super) fn elements<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn read<'a>(part: &'a Value, unseen: &mut Vec<Unseen>) -> Option<Part<'a>> {
    if let Value::String(text) = part {
        return Some(Part::Text(Cow::Borrowed(text)));
    }
    match text(part, "type").unwrap_or("text") {
        "text" | "input_text" | "output_text" | "summary_text" => {
            text(part, "text").map(|text| Part::Text(Cow::Borrowed(text)))
        }
        "refusal" => text(part, "refusal").map(|text| Part::Text(Cow::Borrowed(text))),
        "image_url" | "input_image" => Some(picture(part, unseen)),
        "input_audio" => Some(sound(part, unseen)),
        // Mistral's models that reason.
        "thinking" => {
            elements(part, "thinking").iter().find_map(|one| text(one, "text")).map(Part::Reasoning)
        }
        "file" | "input_file" => file(part.get("file").unwrap_or(part), unseen),
        _ => {
            note(unseen, Unseen::Media);
            None
        }
    }
}

/// Chat completions wrap URL and detail (`image_url.url`), the Responses API does not.
fn picture<'a>(part: &'a Value, unseen: &mut Vec<Unseen>) -> Part<'a> {
    let holder = part.get("image_url").filter(|holder| holder.is_object());
    let url = holder.map_or_else(|| text(part, "image_url"), |holder| text(holder, "url"));
    let size = url.and_then(image::size_of_url);
    let detail = text(holder.unwrap_or(part), "detail");
    if size.is_none() {
        note(unseen, Unseen::Media);
    }
    Part::Image(Image { size, detail })
}

fn sound<'a>(part: &'a Value, unseen: &mut Vec<Unseen>) -> Part<'a> {
    let data = part.get("input_audio").and_then(|audio| text(audio, "data")).unwrap_or_default();
    let seconds = audio::seconds_of_base64(data);
    if seconds.is_none() {
        note(unseen, Unseen::Media);
    }
    Part::Audio { seconds, bytes: data.len() as u64 / 4 * 3 }
}

/// A file is a data URL, or named by an id or URL.
fn file<'a>(file: &'a Value, unseen: &mut Vec<Unseen>) -> Option<Part<'a>> {
    note(unseen, Unseen::Media);
    let data = text(file, "file_data")?;
    let data =
        data.strip_prefix("data:").and_then(|rest| rest.split_once(',')).map_or(data, |it| it.1);
    let bytes = data.len() as u64 / 4 * 3;
    Some(Part::Document(Document { bytes, pages: None, text: None }))
}
