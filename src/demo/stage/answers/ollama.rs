//! Ollama's chat, whose figures stand among the members of the last document.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::{Form, Play, Stream};
use super::super::text;
use super::{model, usage};
use crate::units::Timestamp;

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    if !ask.is_stream {
        return Play::whole(cue, &last(ask, cue, &text::text(cue.from, cue.said)));
    }
    let mut stream = Stream::new(cue, Form::Lines);
    stream.texts(|stream, at, piece| stream.say(at, None, &document(ask, cue, piece, false)));
    if stream.is_whole() {
        stream.say(cue.last_ms, None, &last(ask, cue, ""));
    }
    stream.play()
}

fn last(ask: &Ask, cue: &Cue, text: &str) -> Value {
    let mut document = document(ask, cue, text, true);
    document["done_reason"] = cue.finish.as_deref().into();
    let mut figures = usage(cue);
    if let (Some(document), Some(figures)) = (document.as_object_mut(), figures.as_object_mut()) {
        document.append(figures);
    }
    document
}

fn document(ask: &Ask, cue: &Cue, text: &str, done: bool) -> Value {
    json!({
        "model": model(ask, cue),
        "created_at": Timestamp::now().to_string(),
        "message": {"role": "assistant", "content": text},
        "done": done,
    })
}
