//! Amazon Bedrock: Converse, which is one shape for all models, and Invoke, which takes the model's
//! own (<https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html>).

use std::borrow::Cow;

use serde_json::Value;

use super::parts::{elements as list, text};
use super::shape::{json, media};
use super::{chat, cohere, messages};
use crate::estimate::Unseen;
use crate::estimate::prompt::{
    Api, Document, Message, Part, Prompt, Schema, Tool, ToolCall, ToolChoice,
};

/// Converse. Nova takes the same members through Invoke.
pub(super) fn read_converse(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt::default();
    let system = list(request, "system");
    if !system.is_empty() {
        blocks("system", system, &mut prompt);
    }
    for message in list(request, "messages") {
        let role = text(message, "role").unwrap_or("user");
        blocks(role, list(message, "content"), &mut prompt);
    }
    if let Some(config) = request.get("toolConfig") {
        tools(config, &mut prompt);
    }
    prompt.schema = schema(request);
    if request.get("guardrailConfig").is_some() {
        prompt.lacks(Unseen::ServerTools);
    }
    prompt
}

/// Invoke: the model's own body, known by its members.
pub(super) fn read_invoke<'a>(model: &str, request: &'a Value) -> Prompt<'a> {
    if request.get("messages").is_some() {
        let inference = request.get("inferenceConfig").or_else(|| request.get("schemaVersion"));
        if request.get("anthropic_version").is_some() || model.contains("claude") {
            return messages::read(request);
        }
        if inference.is_some() || model.contains("nova") {
            return read_converse(request);
        }
        return chat::read(request);
    }
    if request.get("message").is_some() {
        return cohere::read_v1(request);
    }
    let mut prompt = Prompt { api: Api::Completion, ..Prompt::default() };
    if request.get("inputText").is_some() && model.contains("embed") {
        prompt.api = Api::Embedding;
    }
    let one = ["prompt", "inputText"].into_iter().filter_map(|name| text(request, name));
    let many = list(request, "texts").iter().filter_map(Value::as_str);
    if !list(request, "texts").is_empty() {
        prompt.api = Api::Embedding;
    }
    prompt.messages.extend(one.chain(many).map(|words| Message {
        role: "user",
        parts: vec![Part::Text(Cow::Borrowed(words))],
        ..Message::default()
    }));
    prompt
}

fn tools<'a>(config: &'a Value, prompt: &mut Prompt<'a>) {
    for tool in list(config, "tools") {
        let Some(tool) = tool.get("toolSpec") else {
            if tool.get("cachePoint").is_none() {
                prompt.lacks(Unseen::ServerTools);
            }
            continue;
        };
        prompt.tools.push(Tool {
            name: text(tool, "name").unwrap_or_default(),
            description: text(tool, "description"),
            parameters: tool.get("inputSchema").and_then(|schema| schema.get("json")),
        });
    }
    let choice = config.get("toolChoice");
    prompt.tool_choice = match choice {
        Some(choice) if choice.get("any").is_some() => ToolChoice::Any,
        Some(choice) if choice.get("tool").is_some() => ToolChoice::Named,
        _ => ToolChoice::Auto,
    };
}

fn blocks<'a>(role: &'a str, content: &'a [Value], prompt: &mut Prompt<'a>) {
    let mut message = Message { role, ..Message::default() };
    for block in content {
        if let Some(call) = block.get("toolUse") {
            message.tool_calls.push(ToolCall {
                name: text(call, "name").unwrap_or_default(),
                arguments: call.get("input").map_or(Cow::Borrowed("{}"), json),
            });
        } else if let Some(result) = block.get("toolResult") {
            let mut answer = Message { role: "tool", is_tool_result: true, ..Message::default() };
            let parts = list(result, "content").iter();
            parts.for_each(|block| part(block, &mut answer, &mut prompt.unseen));
            prompt.messages.push(answer);
        } else {
            part(block, &mut message, &mut prompt.unseen);
        }
    }
    if !message.parts.is_empty() || !message.tool_calls.is_empty() {
        prompt.messages.push(message);
    }
}

fn part<'a>(block: &'a Value, message: &mut Message<'a>, unseen: &mut Vec<Unseen>) {
    // A mark for the cache stands in a block of its own or beside what it follows.
    let mut members = block.as_object().into_iter().flatten();
    let Some((kind, value)) = members.find(|(kind, _)| *kind != "cachePoint") else {
        return;
    };
    let found = match (kind.as_str(), value) {
        ("text", Value::String(words)) => Part::Text(Cow::Borrowed(words)),
        ("json", value) => Part::Text(json(value)),
        ("reasoningContent", value) => {
            match value.get("reasoningText").and_then(|value| text(value, "text")) {
                Some(words) => Part::Reasoning(words),
                None => return unseen.push(Unseen::Reasoning),
            }
        }
        ("image" | "document" | "video", value) => match held(kind, value) {
            Some(part) => part,
            None => return unseen.push(Unseen::Media),
        },
        _ => return unseen.push(Unseen::ServerTools),
    };
    message.parts.push(found);
}

/// An image or document whose bytes stand in the request.
fn held<'a>(kind: &str, value: &'a Value) -> Option<Part<'a>> {
    let source = value.get("source")?;
    // Formats are named like the end of a file's name: `pdf`, `txt`.
    let format = text(value, "format").unwrap_or_default();
    let format = if format == "txt" || format == "md" { "text/plain" } else { format };
    let data = text(source, "bytes").or_else(|| text(source, "text"))?;
    if kind == "image" {
        return Some(media("image", data));
    }
    if kind == "document" && source.get("text").is_some() {
        let text = Some(Cow::Borrowed(data));
        let bytes = data.len() as u64;
        return Some(Part::Document(Document { bytes, pages: None, text }));
    }
    Some(match (kind, media(format, data)) {
        ("document", Part::Document(document)) => Part::Document(document),
        _ => return None,
    })
}

/// The schema that Converse's answer has to follow stands as text within the request.
fn schema(request: &Value) -> Option<Schema<'_>> {
    let format = request.get("outputConfig")?.get("textFormat")?;
    let schema = format.get("structure")?.get("jsonSchema")?.get("schema")?;
    Some(Schema { name: None, description: None, schema })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn converse_blocks_become_messages() {
        let request = json!({
            "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
            "messages": [
                {"role": "user", "content": [{"cachePoint": {"type": "default"}, "text": "Hi"}]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "t", "name": "now", "input": {"zone": "UTC"}}}]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "t", "content": [{"json": {"time": "noon"}}]}}]}],
            "toolConfig": {"tools": [{"toolSpec": {"name": "now", "inputSchema": {"json": {}}}}],
                           "toolChoice": {"any": {}}}});
        let prompt = read_converse(&request);
        let roles: Vec<&str> = prompt.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!((prompt.tools.len(), prompt.tool_choice), (1, ToolChoice::Any));
        assert_eq!(prompt.unseen, []);
    }

    #[test]
    fn invoke_takes_the_shape_of_its_model() {
        let claude = json!({"anthropic_version": "bedrock-2023-05-31", "system": "S",
                            "messages": [{"role": "user", "content": "Hi"}]});
        assert_eq!(read_invoke("anthropic.claude-3-haiku", &claude).messages.len(), 2);
        let nova = json!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]});
        assert_eq!(read_invoke("amazon.nova-lite-v1:0", &nova).messages[0].parts.len(), 1);
        let titan = json!({"inputText": "Hi"});
        assert_eq!(read_invoke("amazon.titan-text-lite-v1", &titan).api, Api::Completion);
        assert_eq!(read_invoke("amazon.titan-embed-text-v2", &titan).api, Api::Embedding);
        let cohere = json!({"texts": ["a", "b"], "input_type": "search_document"});
        assert_eq!(read_invoke("cohere.embed-english-v3", &cohere).messages.len(), 2);
    }
}
