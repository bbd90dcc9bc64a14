//! Google's `generateContent`, `embedContent` and interactions
//! (<https://ai.google.dev/api/generate-content>), in both spellings that Google takes.

use std::borrow::Cow;

use serde_json::Value;

use super::parts::{elements as list, text};
use super::shape::{any, json, media};
use crate::estimate::Unseen;
use crate::estimate::prompt::{Api, Message, Part, Prompt, Schema, Tool, ToolCall, ToolChoice};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    // `countTokens` wraps the request that it counts.
    let request = request.get("generateContentRequest").unwrap_or(request);
    let mut prompt = Prompt::default();
    if let Some(system) = any(request, &["systemInstruction", "system_instruction"]) {
        content(Some("system"), system, &mut prompt);
    }
    match request.get("contents") {
        Some(Value::Array(contents)) => {
            for each in contents {
                content(None, each, &mut prompt);
            }
        }
        Some(one) => content(None, one, &mut prompt),
        None => {}
    }
    for tool in list(request, "tools") {
        read_tool(tool, &mut prompt);
    }
    if any(request, &["cachedContent", "cached_content"]).is_some() {
        prompt.lacks(Unseen::History);
    }
    let mode = any(request, &["toolConfig", "tool_config"])
        .and_then(|config| any(config, &["functionCallingConfig", "function_calling_config"]))
        .and_then(|config| text(config, "mode"));
    prompt.tool_choice = match mode {
        Some("ANY" | "any") => ToolChoice::Any,
        Some("NONE" | "none") => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    if let Some(config) = any(request, &["generationConfig", "generation_config"]) {
        configured(config, &mut prompt);
    }
    prompt
}

/// `embedContent` and `batchEmbedContents`.
pub(super) fn read_embedding(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt { api: Api::Embedding, ..Prompt::default() };
    let one = request.get("content").into_iter();
    let many = list(request, "requests").iter().filter_map(|each| each.get("content"));
    one.chain(many).for_each(|each| content(None, each, &mut prompt));
    prompt
}

/// `interactions`: an input that is a text, a list of contents, or turns.
pub(super) fn read_interaction(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    if let Some(system) = request.get("system_instruction") {
        content(Some("system"), system, &mut prompt);
    }
    match request.get("input") {
        Some(Value::Array(inputs)) => inputs.iter().for_each(|each| step(each, &mut prompt)),
        Some(one) => step(one, &mut prompt),
        None => {}
    }
    for tool in list(request, "tools") {
        if text(tool, "type") == Some("function") {
            prompt.tools.push(declaration(tool));
        } else {
            prompt.lacks(Unseen::ServerTools);
        }
    }
    if request.get("previous_interaction_id").is_some_and(|id| !id.is_null()) {
        prompt.lacks(Unseen::History);
    }
    if request.get("agent").is_some_and(|agent| !agent.is_null()) {
        prompt.lacks(Unseen::ServerTools);
    }
    prompt
}

fn configured<'a>(config: &'a Value, prompt: &mut Prompt<'a>) {
    let names = ["responseSchema", "responseJsonSchema", "response_schema", "response_json_schema"];
    prompt.schema =
        any(config, &names).map(|schema| Schema { name: None, description: None, schema });
    let mime = any(config, &["responseMimeType", "response_mime_type"]).and_then(Value::as_str);
    prompt.json_object = mime == Some("application/json");
    let Some(detail) = any(config, &["mediaResolution", "media_resolution"]) else { return };
    for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
        if let Part::Image(image) = part {
            image.detail = detail.as_str();
        }
    }
}

fn read_tool<'a>(tool: &'a Value, prompt: &mut Prompt<'a>) {
    let Some(members) = tool.as_object() else { return };
    for (name, value) in members {
        match (name.as_str(), value.as_array()) {
            ("functionDeclarations" | "function_declarations", Some(list)) => {
                prompt.tools.extend(list.iter().map(declaration));
            }
            _ => prompt.lacks(Unseen::ServerTools),
        }
    }
}

fn declaration(function: &Value) -> Tool<'_> {
    let names = ["parameters", "parametersJsonSchema", "parameters_json_schema"];
    Tool {
        name: text(function, "name").unwrap_or_default(),
        description: text(function, "description"),
        parameters: any(function, &names),
    }
}

/// One content: a text, or parts with a role.
fn content<'a>(role: Option<&'a str>, content: &'a Value, prompt: &mut Prompt<'a>) {
    let role = role.unwrap_or(match text(content, "role") {
        Some("model") => "assistant",
        _ => "user",
    });
    let mut message = Message { role, ..Message::default() };
    match (content, content.get("parts")) {
        (Value::String(text), _) => message.parts.push(Part::Text(Cow::Borrowed(text))),
        (_, Some(Value::Array(parts))) => {
            for each in parts {
                part(each, &mut message, prompt);
            }
        }
        (_, Some(one)) => part(one, &mut message, prompt),
        _ => part(content, &mut message, prompt),
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        prompt.messages.push(message);
    }
}

fn part<'a>(part: &'a Value, message: &mut Message<'a>, prompt: &mut Prompt<'a>) {
    if let Some(signature) = any(part, &["thoughtSignature", "thought_signature"]) {
        let bytes = signature.as_str().map_or(0, str::len) as u64;
        message.parts.push(Part::Signature { bytes });
    }
    if let Some(words) = text(part, "text") {
        message.parts.push(match part.get("thought") {
            Some(Value::Bool(true)) => Part::Reasoning(words),
            _ => Part::Text(Cow::Borrowed(words)),
        });
    } else if let Some(call) = any(part, &["functionCall", "function_call"]) {
        message.tool_calls.push(ToolCall {
            name: text(call, "name").unwrap_or_default(),
            arguments: call.get("args").map_or(Cow::Borrowed("{}"), json),
        });
    } else if let Some(response) = any(part, &["functionResponse", "function_response"]) {
        prompt.messages.push(Message {
            role: "tool",
            name: text(response, "name"),
            parts: response
                .get("response")
                .map(|json_| Part::Text(json(json_)))
                .into_iter()
                .collect(),
            is_tool_result: true,
            ..Message::default()
        });
    } else if let Some(blob) = any(part, &["inlineData", "inline_data"]) {
        let mime = any(blob, &["mimeType", "mime_type"]).and_then(Value::as_str);
        let mime = mime.unwrap_or_default();
        if mime.starts_with("video") {
            return prompt.lacks(Unseen::Media);
        }
        message.parts.push(media(mime, text(blob, "data").unwrap_or_default()));
    } else if any(part, &["fileData", "file_data"]).is_some() {
        prompt.lacks(Unseen::Media);
    } else if part.as_object().is_some_and(|members| members.len() > 1) {
        // Code that Google ran, its own tools' calls and results.
        prompt.lacks(Unseen::ServerTools);
    }
}

/// One input of an interaction: a text, a content, or a turn that holds contents.
fn step<'a>(input: &'a Value, prompt: &mut Prompt<'a>) {
    if let Value::String(words) = input {
        let parts = vec![Part::Text(Cow::Borrowed(words.as_str()))];
        return prompt.messages.push(Message { role: "user", parts, ..Message::default() });
    }
    let role = match (text(input, "role"), text(input, "type")) {
        (Some("model"), _) | (_, Some("model_output")) => "assistant",
        _ => "user",
    };
    let mut message = Message { role, ..Message::default() };
    match input.get("content") {
        Some(Value::String(words)) => message.parts.push(Part::Text(Cow::Borrowed(words))),
        Some(Value::Array(contents)) => {
            for each in contents {
                item(each, &mut message, prompt);
            }
        }
        _ => item(input, &mut message, prompt),
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        prompt.messages.push(message);
    }
}

fn item<'a>(item: &'a Value, message: &mut Message<'a>, prompt: &mut Prompt<'a>) {
    match text(item, "type") {
        Some("text") => {
            let words = text(item, "text").unwrap_or_default();
            message.parts.push(Part::Text(Cow::Borrowed(words)));
        }
        Some("function_call") => message.tool_calls.push(ToolCall {
            name: text(item, "name").unwrap_or_default(),
            arguments: item.get("arguments").map_or(Cow::Borrowed("{}"), json),
        }),
        Some("function_result") => prompt.messages.push(Message {
            role: "tool",
            parts: item.get("result").map(|result| Part::Text(json(result))).into_iter().collect(),
            is_tool_result: true,
            ..Message::default()
        }),
        Some("image" | "audio" | "document" | "video") => match text(item, "data") {
            Some(data) => {
                let mime = text(item, "mime_type").unwrap_or("image/png");
                message.parts.push(media(mime, data));
            }
            None => prompt.lacks(Unseen::Media),
        },
        Some("thought") => {
            let bytes = text(item, "signature").map_or(0, str::len) as u64;
            message.parts.push(Part::Signature { bytes });
        }
        _ => prompt.lacks(Unseen::ServerTools),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contents_calls_and_declarations_are_read_in_both_spellings() {
        let request = json!({
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [
                    {"functionCall": {"name": "now", "args": {"zone": "UTC"}}, "thoughtSignature": "abcd"}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "now", "response": {"result": "noon"}}}]},
            ],
            "tools": [{"function_declarations": [{"name": "now", "parameters": {"type": "OBJECT"}}]},
                      {"googleSearch": {}}],
            "generationConfig": {"responseMimeType": "application/json"},
        });
        let prompt = read(&request);
        let roles: Vec<&str> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert!(matches!(prompt.messages[2].parts[0], Part::Signature { bytes: 4 }));
        assert_eq!(prompt.messages[2].tool_calls[0].arguments, r#"{"zone":"UTC"}"#);
        assert_eq!(prompt.tools.len(), 1);
        assert!(prompt.json_object);
        assert_eq!(prompt.unseen, [Unseen::ServerTools]);
    }

    #[test]
    fn embeddings_of_one_and_of_many_are_read() {
        let one = json!({"content": {"parts": [{"text": "a"}]}});
        let many = json!({"requests": [{"content": {"parts": [{"text": "a"}]}},
                                        {"content": {"parts": [{"text": "b"}]}}]});
        assert_eq!(read_embedding(&one).messages.len(), 1);
        assert_eq!(read_embedding(&many).messages.len(), 2);
    }

    #[test]
    fn interactions_take_a_text_and_turns() {
        assert_eq!(read_interaction(&json!({"input": "Hi"})).messages.len(), 1);
        let turns = json!({"input": [
            {"role": "user", "content": "Hi"},
            {"role": "model", "content": [{"type": "text", "text": "Hello"}]},
            {"type": "function_result", "name": "now", "result": {"time": "noon"}}]});
        let prompt = read_interaction(&turns);
        let roles: Vec<&str> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, ["user", "assistant", "tool"]);
    }
}
