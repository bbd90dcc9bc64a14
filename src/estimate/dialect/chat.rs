//! Chat completions of the OpenAI dialect (<https://platform.openai.com/docs/api-reference/chat>).

use std::borrow::Cow;

use serde_json::Value;

use crate::estimate::prompt::{Message, Part, Prompt};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let messages = request.get("messages").and_then(Value::as_array).map_or(&[][..], |list| list);
    Prompt { messages: messages.iter().map(message).collect(), ..Prompt::default() }
}

fn message(message: &Value) -> Message<'_> {
    let parts = match message.get("content") {
        Some(Value::String(text)) => vec![Part::Text(Cow::Borrowed(text))],
        _ => Vec::new(),
    };
    Message {
        role: message.get("role").and_then(Value::as_str).unwrap_or_default(),
        name: message.get("name").and_then(Value::as_str),
        parts,
        ..Message::default()
    }
}
