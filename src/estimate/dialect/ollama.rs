//! Ollama's own API (<https://github.com/ollama/ollama/blob/main/docs/api.md>): chat, generate, embed.

use std::borrow::Cow;

use serde_json::Value;

use super::parts::{elements as list, text};
use super::shape::{json, media};
use crate::estimate::prompt::{Api, Message, Part, Prompt, Schema, Tool, ToolCall};

pub(super) fn read_chat(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    prompt.messages.extend(list(request, "messages").iter().map(message));
    prompt.tools.extend(list(request, "tools").iter().filter_map(|tool| tool.get("function")).map(
        |function| Tool {
            name: text(function, "name").unwrap_or_default(),
            description: text(function, "description"),
            parameters: function.get("parameters"),
        },
    ));
    format(request, &mut prompt);
    prompt
}

pub(super) fn read_generate(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    // `raw` goes to the model without its template.
    if request.get("raw") == Some(&Value::Bool(true)) {
        prompt.api = Api::Completion;
    }
    if let Some(system) = text(request, "system").filter(|system| !system.is_empty()) {
        let parts = vec![Part::Text(Cow::Borrowed(system))];
        prompt.messages.push(Message { role: "system", parts, ..Message::default() });
    }
    let mut message = Message { role: "user", ..Message::default() };
    let words = ["prompt", "suffix"].iter().filter_map(|name| text(request, name));
    message.parts.extend(words.map(|words| Part::Text(Cow::Borrowed(words))));
    images(request, &mut message);
    prompt.messages.push(message);
    if list(request, "context").is_empty() {
        format(request, &mut prompt);
    } else {
        // The tokens of earlier turns.
        prompt.token_ids = list(request, "context").len() as u64;
    }
    prompt
}

/// `embed` takes `input`, one or many; the older `embeddings` takes `prompt`.
pub(super) fn read_embed(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt { api: Api::Embedding, ..Prompt::default() };
    let one = ["input", "prompt"].into_iter().filter_map(|name| text(request, name));
    let many = list(request, "input").iter().filter_map(Value::as_str);
    prompt.messages.extend(one.chain(many).map(|words| Message {
        role: "user",
        parts: vec![Part::Text(Cow::Borrowed(words))],
        ..Message::default()
    }));
    prompt
}

fn message(message: &Value) -> Message<'_> {
    let role = text(message, "role").unwrap_or("user");
    let mut read = Message { role, is_tool_result: role == "tool", ..Message::default() };
    if let Some(words) = text(message, "thinking").filter(|words| !words.is_empty()) {
        read.parts.push(Part::Reasoning(words));
    }
    if let Some(words) = text(message, "content").filter(|words| !words.is_empty()) {
        read.parts.push(Part::Text(Cow::Borrowed(words)));
    }
    images(message, &mut read);
    let calls = list(message, "tool_calls").iter().filter_map(|call| call.get("function"));
    read.tool_calls.extend(calls.map(|function| ToolCall {
        name: text(function, "name").unwrap_or_default(),
        arguments: function.get("arguments").map_or(Cow::Borrowed("{}"), json),
    }));
    read
}

fn images<'a>(holder: &'a Value, message: &mut Message<'a>) {
    let images = list(holder, "images").iter().filter_map(Value::as_str);
    message.parts.extend(images.map(|data| media("image", data)));
}

fn format<'a>(request: &'a Value, prompt: &mut Prompt<'a>) {
    match request.get("format") {
        Some(Value::String(format)) => prompt.json_object = format == "json",
        Some(schema @ Value::Object(_)) => {
            prompt.schema = Some(Schema { name: None, description: None, schema });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chat_generate_and_embed_are_read() {
        let chat = json!({"messages": [
            {"role": "user", "content": "Hi", "images": ["aGVsbG8="]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "now", "arguments": {"zone": "UTC"}}}]},
            {"role": "tool", "content": "noon"}],
            "tools": [{"type": "function", "function": {"name": "now"}}]});
        let prompt = read_chat(&chat);
        assert_eq!(prompt.messages[0].parts.len(), 2);
        assert_eq!(prompt.messages[1].tool_calls[0].arguments, r#"{"zone":"UTC"}"#);
        assert!(prompt.messages[2].is_tool_result);
        assert_eq!(prompt.tools.len(), 1);
        let generate = json!({"prompt": "Hi", "system": "Be brief.", "context": [1, 2, 3]});
        let prompt = read_generate(&generate);
        assert_eq!((prompt.messages.len(), prompt.token_ids), (2, 3));
        assert_eq!(read_embed(&json!({"input": ["a", "b"]})).messages.len(), 2);
        assert_eq!(read_embed(&json!({"prompt": "a"})).messages.len(), 1);
    }
}
