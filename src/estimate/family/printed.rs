//! A tool as chat templates show it to the model. Owns the printing; counts nothing.
//!
//! Templates print JSON as Python does, with a blank behind each colon and comma: recorded counts
//! agree with that form to the token (Qwen, Kimi, Mistral).

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use crate::estimate::prompt::Tool;

/// The tool within its wrapping, as chat completions send it.
pub(super) fn printed_tool(tool: &Tool<'_>) -> String {
    let mut out = String::from(r#"{"type": "function", "function": {"name": "#);
    quoted(tool.name, &mut out);
    if let Some(description) = tool.description {
        out.push_str(r#", "description": "#);
        quoted(description, &mut out);
    }
    if let Some(parameters) = tool.parameters {
        out.push_str(r#", "parameters": "#);
        print(parameters, &mut out);
    }
    out.push_str("}}");
    out
}

/// JSON with a blank behind each colon and comma. The nesting of what was parsed is bounded by the
/// parser.
pub(super) fn print(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                quoted(name, out);
                out.push_str(": ");
                print(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                print(item, out);
            }
            out.push(']');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// A call's arguments without the blanks that some providers print between them.
pub(super) fn compact(arguments: &str) -> Cow<'_, str> {
    let parsed: Result<Value, _> = serde_json::from_str(arguments);
    parsed.map_or(Cow::Borrowed(arguments), |value| Cow::Owned(value.to_string()))
}

/// All descriptions within a schema, one after the other.
pub(super) fn descriptions(schema: &Value) -> String {
    let mut text = String::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(description)) = members.get("description") {
                    text.push_str(description);
                    text.push('\n');
                }
                open.extend(members.values().filter(|value| !value.is_string()));
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    text
}

fn quoted(text: &str, out: &mut String) {
    let _ = write!(out, "{}", Value::from(text));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_lose_their_blanks_and_broken_ones_stay() {
        assert_eq!(compact("{ \"a\" :  1 }"), r#"{"a":1}"#);
        assert_eq!(compact("{ \"a\""), "{ \"a\"");
    }

    #[test]
    fn a_tool_is_printed_as_templates_do() {
        let parameters = json!({"type": "object", "required": ["a", "b"], "max": 1.0});
        let tool =
            Tool { name: "now", description: Some("The \"time\""), parameters: Some(&parameters) };
        let expected = concat!(
            r#"{"type": "function", "function": {"name": "now", "description": "The \"time\"", "#,
            r#""parameters": {"type": "object", "required": ["a", "b"], "max": 1.0}}}"#
        );
        assert_eq!(printed_tool(&tool), expected);
    }
}
