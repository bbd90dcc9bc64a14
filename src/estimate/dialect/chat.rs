//! Chat completions of the OpenAI dialect (<https://platform.openai.com/docs/api-reference/chat>).

use std::borrow::Cow;

use serde_json::Value;

use super::parts::{content, elements, note, text};
use crate::estimate::Unseen;
use crate::estimate::prompt::{Message, Part, Prompt, Schema, Tool, ToolCall, ToolChoice};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let mut unseen = Vec::new();
    let messages =
        elements(request, "messages").iter().map(|one| message(one, &mut unseen)).collect();
    // Prompts that are kept at a gateway.
    if request.get("messages").is_none() {
        note(&mut unseen, Unseen::History);
    }
    let mut tools = Vec::new();
    for offered in elements(request, "tools") {
        match tool(offered.get("function").unwrap_or(offered)) {
            Some(tool) if is_function(offered) => tools.push(tool),
            _ => note(&mut unseen, Unseen::ServerTools),
        }
    }
    // The shape before `tools`.
    tools.extend(elements(request, "functions").iter().filter_map(tool));
    if request.get("web_search_options").is_some() {
        note(&mut unseen, Unseen::ServerTools);
    }
    let (tool_choice, chosen) =
        choice(request.get("tool_choice").or_else(|| request.get("function_call")));
    let format = request.get("response_format").unwrap_or(&Value::Null);
    Prompt {
        messages,
        tools,
        tool_choice,
        chosen,
        schema: format.get("json_schema").and_then(schema),
        json_object: text(format, "type") == Some("json_object"),
        thinking: request.get("reasoning_effort").is_some() || request.get("reasoning").is_some(),
        // Not this dialect's word for it: xAI takes it and shows no tools (six models recorded).
        tools_unseen: request.get("tool_choice").and_then(|choice| text(choice, "type"))
            == Some("tool"),
        bare: request
            .get("venice_parameters")
            .and_then(|own| own.get("include_venice_system_prompt"))
            .is_some_and(|included| included == false),
        unseen,
        ..Prompt::default()
    }
}

fn message<'a>(message: &'a Value, unseen: &mut Vec<Unseen>) -> Message<'a> {
    let role = text(message, "role").unwrap_or_default();
    // Reasoning that an open model showed: DeepSeek's name, and OpenRouter's.
    let reasoning = ["reasoning_content", "reasoning"].iter().find_map(|name| text(message, name));
    let mut parts: Vec<_> = reasoning.map(Part::Reasoning).into_iter().collect();
    parts.extend(content(message.get("content").unwrap_or(&Value::Null), unseen));
    if let Some(refusal) = text(message, "refusal") {
        parts.push(Part::Text(Cow::Borrowed(refusal)));
    }
    // What routers pass on of reasoning models.
    if message.get("reasoning_details").is_some_and(Value::is_array) {
        note(unseen, Unseen::Reasoning);
    }
    if message.get("audio").is_some_and(Value::is_object) {
        note(unseen, Unseen::Media);
    }
    let calls = elements(message, "tool_calls").iter().filter_map(|call| call.get("function"));
    let calls = calls.chain(message.get("function_call")).filter_map(call);
    Message {
        role,
        name: text(message, "name"),
        parts,
        tool_calls: calls.collect(),
        is_tool_result: matches!(role, "tool" | "function"),
    }
}

fn call(function: &Value) -> Option<ToolCall<'_>> {
    let name = text(function, "name")?;
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(value @ Value::Object(_)) => Cow::Owned(value.to_string()),
        _ => Cow::Borrowed(""),
    };
    Some(ToolCall { name, arguments })
}

fn is_function(tool: &Value) -> bool {
    matches!(text(tool, "type"), None | Some("function"))
}

/// A function as it is offered: `name`, `description`, `parameters`.
pub(super) fn tool(function: &Value) -> Option<Tool<'_>> {
    Some(Tool {
        name: text(function, "name")?,
        description: text(function, "description"),
        parameters: function.get("parameters").filter(|parameters| parameters.is_object()),
    })
}

/// Which tool has to be called, and its name where the request gives it.
pub(super) fn choice(choice: Option<&Value>) -> (ToolChoice, Option<&str>) {
    match choice {
        Some(Value::String(word)) if word == "none" => (ToolChoice::None, None),
        Some(Value::String(word)) if word == "required" || word == "any" => (ToolChoice::Any, None),
        Some(value @ Value::Object(_)) => {
            let name = text(value.get("function").unwrap_or(value), "name");
            name.map_or_else(Default::default, |name| (ToolChoice::Named, Some(name)))
        }
        _ => (ToolChoice::Auto, None),
    }
}

/// A structured answer: `name`, `description`, `schema`.
pub(super) fn schema(format: &Value) -> Option<Schema<'_>> {
    Some(Schema {
        name: text(format, "name"),
        description: text(format, "description"),
        schema: format.get("schema").filter(|schema| schema.is_object())?,
    })
}
