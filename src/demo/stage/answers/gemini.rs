//! Gemini's generateContent. The figures stand in every document of a stream, as far as they are known.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::{Form, Play, Stream};
use super::super::text;
use super::{model, usage};

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    if !ask.is_stream {
        let text = text::text(cue.from, cue.said);
        return Play::whole(cue, &document(ask, cue, &text, cue.finish.as_deref()));
    }
    let form = if ask.as_events { Form::Events } else { Form::Array };
    let mut stream = Stream::new(cue, form);
    stream.texts(|stream, at, piece| stream.say(at, None, &document(ask, cue, piece, None)));
    if stream.is_whole() {
        let end = document(ask, cue, "", cue.finish.as_deref());
        stream.say(cue.last_ms, None, &end);
    }
    stream.play()
}

fn document(ask: &Ask, cue: &Cue, text: &str, reason: Option<&str>) -> Value {
    let content = json!({"parts": [{"text": text}], "role": "model"});
    let mut candidate = json!({"content": content, "index": 0});
    if let Some(reason) = reason {
        candidate["finishReason"] = reason.into();
    }
    let mut document = json!({"candidates": [candidate]});
    let usage = usage(cue);
    if !usage.is_null() {
        document["usageMetadata"] = usage;
    }
    document["modelVersion"] = model(ask, cue).into();
    if let Some(id) = &cue.id {
        document["responseId"] = id.as_str().into();
    }
    document
}
