//! Cohere's own API (<https://docs.cohere.com/reference>): chat in both versions, generate, embed.

use std::borrow::Cow;

use serde_json::Value;

use super::chat;
use super::parts::{elements as list, text};
use crate::estimate::Unseen;
use crate::estimate::prompt::{Api, Message, Part, Prompt, Schema, Tool, ToolChoice};

/// v2's messages and tools are those of chat completions.
pub(super) fn read_v2(request: &Value) -> Prompt<'_> {
    let mut prompt = chat::read(request);
    if text(request, "tool_choice") == Some("REQUIRED") {
        prompt.tool_choice = ToolChoice::Any;
    }
    if text(request, "tool_choice") == Some("NONE") {
        prompt.tool_choice = ToolChoice::None;
    }
    prompt.messages.extend(list(request, "documents").iter().map(document));
    if prompt.schema.is_none() {
        let format = request.get("response_format").unwrap_or(&Value::Null);
        let schema = format.get("json_schema").or_else(|| format.get("schema"));
        let schema = schema.filter(|schema| schema.is_object());
        prompt.schema = schema.map(|schema| Schema { name: None, description: None, schema });
    }
    prompt
}

pub(super) fn read_v1(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    prompt.messages.extend(say("system", text(request, "preamble")));
    for turn in list(request, "chat_history") {
        let role = match text(turn, "role") {
            Some("CHATBOT") => "assistant",
            Some("SYSTEM") => "system",
            _ => "user",
        };
        prompt.messages.extend(say(role, text(turn, "message")));
    }
    prompt.messages.extend(say("user", text(request, "message")));
    prompt.tools.extend(list(request, "tools").iter().map(|tool| Tool {
        name: text(tool, "name").unwrap_or_default(),
        description: text(tool, "description"),
        parameters: tool.get("parameter_definitions"),
    }));
    prompt.messages.extend(list(request, "documents").iter().map(document));
    let held = ["connectors", "tool_results"];
    if held.iter().any(|name| !list(request, name).is_empty()) {
        prompt.lacks(Unseen::ServerTools);
    }
    if request.get("conversation_id").is_some_and(|id| !id.is_null()) {
        prompt.lacks(Unseen::History);
    }
    prompt
}

pub(super) fn read_generate(request: &Value) -> Prompt<'_> {
    texts(Api::Completion, text(request, "prompt"))
}

pub(super) fn read_embed(request: &Value) -> Prompt<'_> {
    let inputs = list(request, "inputs").iter().flat_map(|input| list(input, "content"));
    let inputs = inputs.filter_map(|content| text(content, "text"));
    let mut prompt = texts(
        Api::Embedding,
        list(request, "texts").iter().filter_map(Value::as_str).chain(inputs),
    );
    if !list(request, "images").is_empty() {
        prompt.lacks(Unseen::Media);
    }
    prompt
}

/// A document to answer from, as a text or an object. The template that it is pasted into is not
/// public.
fn document(document: &Value) -> Message<'_> {
    let words = document.as_str().map_or_else(|| Cow::Owned(document.to_string()), Cow::Borrowed);
    Message { role: "document", parts: vec![Part::Text(words)], ..Message::default() }
}

/// A message, unless it is empty.
fn say<'a>(role: &'a str, words: Option<&'a str>) -> Option<Message<'a>> {
    let parts = vec![Part::Text(Cow::Borrowed(words.filter(|words| !words.is_empty())?))];
    Some(Message { role, parts, ..Message::default() })
}

fn texts<'a>(api: Api, words: impl IntoIterator<Item = &'a str>) -> Prompt<'a> {
    let messages = words.into_iter().map(|words| Message {
        role: "user",
        parts: vec![Part::Text(Cow::Borrowed(words))],
        ..Message::default()
    });
    Prompt { api, messages: messages.collect(), ..Prompt::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_version_has_a_history_and_a_message() {
        let request = json!({"preamble": "Be brief.", "message": "And now?",
            "chat_history": [{"role": "USER", "message": "Hi"}, {"role": "CHATBOT", "message": "Ho"}],
            "documents": [{"text": "…"}]});
        let prompt = read_v1(&request);
        let roles: Vec<&str> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "document"]);
        assert!(prompt.unseen.is_empty());
    }

    #[test]
    fn texts_to_embed_stand_in_two_places() {
        assert_eq!(read_embed(&json!({"texts": ["a", "b"]})).messages.len(), 2);
        let inputs = json!({"inputs": [{"content": [{"type": "text", "text": "a"}]}]});
        assert_eq!(read_embed(&inputs).messages.len(), 1);
    }
}
