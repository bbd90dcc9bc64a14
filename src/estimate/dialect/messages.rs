//! Anthropic's Messages (<https://docs.anthropic.com/en/api/messages>), wherever they are spoken:
//! Bedrock's invoke and Vertex's rawPredict take the same body. And the old text completions.

use std::borrow::Cow;

use serde_json::Value;

use super::parts::{elements as list, text};
use super::shape::{json, media};
use crate::estimate::Unseen;
use crate::estimate::prompt::{
    Api, Document, Image, Message, Part, Prompt, Schema, Tool, ToolCall, ToolChoice,
};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    if let Some(system) = request.get("system") {
        blocks("system", system, &mut prompt);
    }
    for message in list(request, "messages") {
        if let Some(content) = message.get("content") {
            blocks(text(message, "role").unwrap_or("user"), content, &mut prompt);
        }
    }
    for tool in list(request, "tools") {
        read_tool(tool, &mut prompt);
    }
    let held = ["mcp_servers", "container", "context_management"];
    if held.iter().any(|name| request.get(name).is_some_and(|value| !value.is_null())) {
        prompt.lacks(Unseen::ServerTools);
    }
    let choice = request.get("tool_choice").and_then(|choice| text(choice, "type"));
    prompt.tool_choice = match choice {
        Some("any") => ToolChoice::Any,
        Some("tool") => ToolChoice::Named,
        Some("none") => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    // `output_format` was the beta's name.
    let format = request
        .get("output_format")
        .or_else(|| request.get("output_config").and_then(|config| config.get("format")));
    prompt.schema = format.and_then(|format| format.get("schema")).map(|schema| Schema {
        name: None,
        description: None,
        schema,
    });
    prompt
}

/// `/v1/complete`: one text with `\n\nHuman:` in it.
pub(super) fn read_completion(request: &Value) -> Prompt<'_> {
    let prompt = text(request, "prompt").unwrap_or_default();
    let parts = vec![Part::Text(Cow::Borrowed(prompt))];
    let message = Message { role: "user", parts, ..Message::default() };
    Prompt { api: Api::Completion, messages: vec![message], ..Prompt::default() }
}

fn read_tool<'a>(tool: &'a Value, prompt: &mut Prompt<'a>) {
    // Anthropic's own tools have a dated type and no schema.
    match tool.get("input_schema") {
        Some(parameters) => prompt.tools.push(Tool {
            name: text(tool, "name").unwrap_or_default(),
            description: text(tool, "description"),
            parameters: Some(parameters),
        }),
        None => prompt.lacks(Unseen::ServerTools),
    }
}

/// A message's blocks. Each tool result becomes a message of its own, as in the other dialects.
fn blocks<'a>(role: &'a str, content: &'a Value, prompt: &mut Prompt<'a>) {
    let mut message = Message { role, ..Message::default() };
    let content = match content {
        Value::String(text) => {
            message.parts.push(Part::Text(Cow::Borrowed(text)));
            prompt.messages.push(message);
            return;
        }
        other => other.as_array().map_or(&[][..], Vec::as_slice),
    };
    for block in content {
        match text(block, "type") {
            Some("tool_use") => message.tool_calls.push(ToolCall {
                name: text(block, "name").unwrap_or_default(),
                arguments: block.get("input").map_or(Cow::Borrowed("{}"), json),
            }),
            Some("tool_result") => prompt.messages.push(result(block)),
            _ => part(block, &mut message, &mut prompt.unseen),
        }
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        prompt.messages.push(message);
    }
}

fn result(block: &Value) -> Message<'_> {
    let mut message = Message { role: "tool", is_tool_result: true, ..Message::default() };
    match block.get("content") {
        Some(Value::String(text)) => message.parts.push(Part::Text(Cow::Borrowed(text))),
        Some(Value::Array(content)) => {
            let mut unseen = Vec::new();
            for block in content {
                part(block, &mut message, &mut unseen);
            }
        }
        _ => {}
    }
    message
}

/// A block that is content. What is not known is noted as not seen.
fn part<'a>(block: &'a Value, message: &mut Message<'a>, unseen: &mut Vec<Unseen>) {
    let found = match text(block, "type") {
        Some("text") => text(block, "text").map(|text| Part::Text(Cow::Borrowed(text))),
        Some("thinking") => text(block, "thinking").map(Part::Reasoning),
        Some("image" | "document") => block.get("source").and_then(source),
        Some("redacted_thinking") => {
            unseen.push(Unseen::Reasoning);
            return;
        }
        Some(kind) if kind.contains("tool") || kind == "container_upload" => {
            unseen.push(Unseen::ServerTools);
            return;
        }
        _ => None,
    };
    match found {
        Some(found) => message.parts.push(found),
        None => unseen.push(Unseen::Media),
    }
}

/// The source of an image or a document. `None` for what is held elsewhere.
fn source(source: &Value) -> Option<Part<'_>> {
    let mime = text(source, "media_type").unwrap_or("application/pdf");
    match (text(source, "type"), text(source, "data")) {
        (Some("text"), Some(data)) => Some(Part::Document(Document {
            bytes: data.len() as u64,
            pages: None,
            text: Some(Cow::Borrowed(data)),
        })),
        (_, Some(data)) => Some(match media(mime, data) {
            // An image type that is not known is still an image to the model.
            Part::Audio { .. } => Part::Image(Image::default()),
            part => part,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn system_calls_results_and_tools_find_their_places() {
        let request = json!({
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Look it up.", "signature": "xx"},
                    {"type": "tool_use", "id": "t", "name": "now", "input": {"zone": "UTC"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "noon"}]}]},
            ],
            "tools": [
                {"name": "now", "description": "The time", "input_schema": {"type": "object"}},
                {"type": "web_search_20250305", "name": "web_search"}],
            "tool_choice": {"type": "any"},
        });
        let prompt = read(&request);
        let roles: Vec<&str> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        let call = &prompt.messages[2].tool_calls[0];
        assert_eq!((call.name, call.arguments.as_ref()), ("now", r#"{"zone":"UTC"}"#));
        assert!(matches!(prompt.messages[2].parts[0], Part::Reasoning("Look it up.")));
        assert!(prompt.messages[3].is_tool_result);
        assert_eq!(prompt.tools.len(), 1);
        assert_eq!(prompt.unseen, [Unseen::ServerTools]);
        assert_eq!(prompt.tool_choice, ToolChoice::Any);
    }

    #[test]
    fn media_held_elsewhere_is_not_seen() {
        let request = json!({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "document", "source": {"type": "file", "file_id": "f"}}]}]});
        assert_eq!(read(&request).unseen, [Unseen::Media, Unseen::Media]);
    }
}
