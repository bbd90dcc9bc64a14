//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>).

use std::borrow::Cow;

use serde_json::Value;

use super::chat::{choice, schema, tool};
use super::parts::{content, elements, note, text};
use crate::estimate::Unseen;
use crate::estimate::prompt::{Api, Message, Part, Prompt, ToolCall};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let mut unseen = Vec::new();
    let mut messages = Vec::new();
    let instructions = request.get("instructions");
    if let Some(instructions) = instructions.filter(|text| !text.is_null() && *text != "") {
        let parts = content(instructions, &mut unseen);
        messages.push(Message { role: "system", parts, ..Message::default() });
    }
    match request.get("input") {
        Some(Value::Array(items)) => {
            for item in items {
                read_item(item, &mut messages, &mut unseen);
            }
        }
        Some(input) => {
            let parts = content(input, &mut unseen);
            messages.push(Message { role: "user", parts, ..Message::default() });
        }
        None => {}
    }
    if ["previous_response_id", "conversation", "prompt"].iter().any(|name| is_set(request, name)) {
        note(&mut unseen, Unseen::History);
    }
    // It asks the model several times and adds up (recorded: 1,500 tokens for a question of 18).
    let reasoning = request.get("reasoning").unwrap_or(&Value::Null);
    if text(reasoning, "mode") == Some("pro") {
        note(&mut unseen, Unseen::ServerTools);
    }
    let mut tools = Vec::new();
    for offered in elements(request, "tools") {
        // Description and parameters stand beside the type: what is wrapped in `function`, as in chat
        // completions, is not shown to the model (recorded).
        match tool(offered) {
            Some(tool) if text(offered, "type") == Some("function") => tools.push(tool),
            _ => note(&mut unseen, Unseen::ServerTools),
        }
    }
    let (tool_choice, chosen) = choice(request.get("tool_choice"));
    let format = request.get("text").and_then(|text| text.get("format")).unwrap_or(&Value::Null);
    Prompt {
        api: Api::Responses,
        messages,
        tools,
        tool_choice,
        chosen,
        schema: schema(format),
        json_object: text(format, "type") == Some("json_object"),
        thinking: is_set(request, "reasoning"),
        unseen,
        ..Prompt::default()
    }
}

fn is_set(request: &Value, name: &str) -> bool {
    request.get(name).is_some_and(|value| !value.is_null())
}

fn read_item<'a>(item: &'a Value, messages: &mut Vec<Message<'a>>, unseen: &mut Vec<Unseen>) {
    match text(item, "type").unwrap_or("message") {
        "message" => messages.push(Message {
            role: text(item, "role").unwrap_or("user"),
            parts: content(item.get("content").unwrap_or(&Value::Null), unseen),
            ..Message::default()
        }),
        "function_call" => push_call(item, "arguments", messages),
        "custom_tool_call" => push_call(item, "input", messages),
        "function_call_output" | "custom_tool_call_output" => messages.push(Message {
            role: "tool",
            parts: content(item.get("output").unwrap_or(&Value::Null), unseen),
            is_tool_result: true,
            ..Message::default()
        }),
        "reasoning" => {
            let shown = elements(item, "content").iter().filter_map(|part| text(part, "text"));
            let parts: Vec<_> = shown.map(Part::Reasoning).collect();
            // Encrypted, or named by an id: the provider reads it, nobody else can.
            if parts.is_empty() {
                note(unseen, Unseen::Reasoning);
            } else {
                messages.push(Message { role: "assistant", parts, ..Message::default() });
            }
        }
        "item_reference" | "compaction" | "compaction_summary" => note(unseen, Unseen::History),
        _ => note(unseen, Unseen::ServerTools),
    }
}

fn push_call<'a>(item: &'a Value, arguments: &str, messages: &mut Vec<Message<'a>>) {
    let Some(name) = text(item, "name") else { return };
    let arguments = Cow::Borrowed(text(item, arguments).unwrap_or_default());
    // Calls that were made at once follow each other.
    if let Some(last) = messages.last_mut().filter(|last| !last.tool_calls.is_empty()) {
        last.tool_calls.push(ToolCall { name, arguments });
        return;
    }
    let tool_calls = vec![ToolCall { name, arguments }];
    messages.push(Message { role: "assistant", tool_calls, ..Message::default() });
}
