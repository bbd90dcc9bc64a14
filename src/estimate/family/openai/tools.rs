//! Tools as OpenAI's models see them: a namespace of functions in TypeScript. Owns the rendering of
//! JSON Schema; the form was learnt by comparing its tokens with the reported counts of some 150
//! recorded calls, nearly all of them exact. What surrounds the text is in `generation.rs`.
//!
//! Invariant: time and output are linear in the schema. References are followed only while little has
//! been written, and nesting is cut.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::estimate::prompt::Tool;

/// Levels of a schema that are rendered; deeper ones read `any`.
const MAX_DEPTH: usize = 16;

/// Bytes written, and schemas and descriptions looked at, beyond which references are no longer followed.
const MAX_EXPANDED: usize = 64 * 1024;

/// Bytes of a reference that is followed.
const MAX_REFERENCE: usize = 1024;

/// The text that stands for a request's tools.
pub(in crate::estimate::family) fn render(tools: &[Tool<'_>]) -> String {
    let mut text = String::from("namespace functions {\n\n");
    for tool in tools {
        let none = Value::Null;
        let root = tool.parameters.unwrap_or(&none);
        comment(&mut text, tool.description);
        if let Some(title) = word(root, "title") {
            let _ = write!(text, "// {title}\n//\n");
        }
        comment(&mut text, word(root, "description"));
        let mut writer = Writer { text, root, visited: 0 };
        writer.function(tool.name);
        text = writer.text;
    }
    text.push_str("} // namespace functions");
    text
}

struct Writer<'a> {
    text: String,
    /// Where references lead.
    root: &'a Value,
    /// What was looked at, in schemas and bytes of descriptions, whether it was written or not.
    visited: usize,
}

impl<'a> Writer<'a> {
    fn function(&mut self, name: &str) {
        let _ = write!(self.text, "type {name} = (");
        if properties(self.root).is_some() {
            self.text.push_str("_: ");
            self.object(self.root, 0);
        }
        self.text.push_str(") => any;\n\n");
    }

    /// On one line, unless a property has something to be said above it.
    fn object(&mut self, schema: &'a Value, depth: usize) {
        let Some(properties) = properties(schema) else {
            self.text.push_str("object");
            return;
        };
        let required = schema.get("required").and_then(Value::as_array);
        let lines = has_notes(schema, depth, &mut self.visited);
        self.text.push_str(if lines { "{\n" } else { "{ " });
        for (at, (name, property)) in properties.iter().enumerate() {
            if lines {
                self.visited += word(property, "description").map_or(0, str::len);
                notes(&mut self.text, property);
            } else if at > 0 {
                self.text.push_str(", ");
            }
            self.text.push_str(name);
            let is_required = required.is_some_and(|names| {
                // Long lists of required names would make this quadratic.
                names.get(at).is_some_and(|one| one == name)
                    || names.iter().take(256).any(|one| one == name)
            });
            self.text.push_str(if is_required { ": " } else { "?: " });
            self.kind(property, depth + 1);
            if lines {
                self.text.push(',');
                if let Some(default) = property.get("default") {
                    let _ = match default {
                        Value::String(text) => write!(self.text, " // default: {text}"),
                        other => write!(self.text, " // default: {other}"),
                    };
                }
                self.text.push('\n');
            }
        }
        self.text.push_str(if lines { "}" } else { " }" });
    }

    fn kind(&mut self, schema: &'a Value, depth: usize) {
        self.visited += 1;
        if depth > MAX_DEPTH {
            self.text.push_str("any");
        } else if let Some(reference) = word(schema, "$ref") {
            self.reference(reference, depth);
        } else if let Some(values) = list(schema, "enum") {
            self.union(values, |writer, value| {
                let _ = write!(writer.text, "{value}");
            });
        } else if let Some(value) = schema.get("const") {
            let _ = write!(self.text, "{value}");
        } else if let Some(kinds) = list(schema, "anyOf").or_else(|| list(schema, "oneOf")) {
            self.union(kinds, |writer, kind| writer.kind(kind, depth + 1));
        } else if let Some([kind]) = list(schema, "allOf").map(Vec::as_slice) {
            self.kind(kind, depth + 1);
        } else if let Some(kinds) = list(schema, "type") {
            self.union(kinds, |writer, kind| {
                writer.named(kind.as_str().unwrap_or_default(), schema, depth);
            });
        } else {
            self.named(word(schema, "type").unwrap_or_default(), schema, depth);
        }
    }

    fn named(&mut self, kind: &str, schema: &'a Value, depth: usize) {
        match kind {
            "string" | "boolean" | "null" => self.text.push_str(kind),
            "integer" | "number" => self.text.push_str("number"),
            "array" => self.array(schema.get("items"), depth),
            "object" => self.object(schema, depth),
            _ if properties(schema).is_some() => self.object(schema, depth),
            _ => self.text.push_str("any"),
        }
    }

    fn array(&mut self, items: Option<&'a Value>, depth: usize) {
        let Some(items) = items else {
            self.text.push_str("any[]");
            return;
        };
        let start = self.text.len();
        self.kind(items, depth + 1);
        let text = &self.text[start..];
        if !text.starts_with('{') && text.contains(" | ") {
            self.text.insert(start, '(');
            self.text.push(')');
        }
        self.text.push_str("[]");
    }

    fn union(&mut self, kinds: &'a [Value], mut write: impl FnMut(&mut Self, &'a Value)) {
        for (at, kind) in kinds.iter().enumerate() {
            if at > 0 {
                self.text.push_str(" | ");
            }
            write(self, kind);
        }
    }

    fn reference(&mut self, reference: &str, depth: usize) {
        let path = reference.strip_prefix('#').unwrap_or_default();
        let few = self.visited < MAX_EXPANDED && self.text.len() < MAX_EXPANDED;
        let is_followed = few && (1..=MAX_REFERENCE).contains(&path.len());
        match is_followed.then(|| self.root.pointer(path)).flatten() {
            Some(schema) => self.kind(schema, depth + 1),
            None => self.text.push_str("any"),
        }
    }
}

/// What stands above a property.
fn notes(text: &mut String, property: &Value) {
    if let Some(title) = word(property, "title") {
        let _ = writeln!(text, "// {title}");
        if word(property, "description").is_some() {
            text.push_str("//\n");
        }
    }
    comment(text, word(property, "description"));
    for bound in ["minimum", "maximum"] {
        if let Some(value) = property.get(bound) {
            let _ = writeln!(text, "// {bound}: {value}");
        }
    }
}

/// True if a property, at any level, has something above it. Counts what it looks at.
fn has_notes(schema: &Value, depth: usize, visited: &mut usize) -> bool {
    *visited += 1;
    depth <= MAX_DEPTH
        && properties(schema).is_some_and(|properties| {
            properties.values().any(|property| {
                ["title", "description"].iter().any(|name| word(property, name).is_some())
                    || ["minimum", "maximum", "default"].iter().any(|n| property.get(n).is_some())
                    || has_notes(property, depth + 1, visited)
                    || property
                        .get("items")
                        .is_some_and(|items| has_notes(items, depth + 1, visited))
            })
        })
}

/// A description's lines lose what they are indented by, and are not marked as comments after the
/// first (recorded: a token less for each indented line, none more for each further line).
fn comment(text: &mut String, description: Option<&str>) {
    let Some(description) = description.map(str::trim).filter(|text| !text.is_empty()) else {
        return;
    };
    text.push_str("// ");
    for line in description.lines() {
        text.push_str(line.trim());
        text.push('\n');
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object).filter(|map| !map.is_empty())
}

fn word<'a>(schema: &'a Value, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn list<'a>(schema: &'a Value, name: &str) -> Option<&'a Vec<Value>> {
    schema.get(name).and_then(Value::as_array)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(parameters: &str, description: &str) -> String {
        let parameters: Value = serde_json::from_str(parameters).unwrap();
        let tool =
            Tool { name: "f", description: Some(description), parameters: Some(&parameters) };
        let text = render(&[tool]);
        let text = text.strip_prefix("namespace functions {\n\n").unwrap();
        text.strip_suffix("\n\n} // namespace functions").unwrap().to_owned()
    }

    #[test]
    fn a_tool_without_remarks_is_one_line() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},
            "b":{"enum":["x","y"]},"c":{"type":"array","items":{"type":["string","null"]}}},
            "required":["a"]}"#;
        let expected =
            r#"type f = (_: { a: number, b?: "x" | "y", c?: (string | null)[] }) => any;"#;
        assert_eq!(rendered(schema, ""), expected);
        assert_eq!(rendered("{}", " Does it. "), "// Does it.\ntype f = () => any;");
    }

    #[test]
    fn remarks_stand_above_what_they_are_about() {
        let schema = r#"{"properties":{"a":{"type":"string","description":"One\n    two",
            "default":"x"},"b":{"type":"object","properties":{"c":{"type":"number","minimum":1}}}}}"#;
        let expected = "type f = (_: {\n// One\ntwo\na?: string, // default: x\n\
            b?: {\n// minimum: 1\nc?: number,\n},\n}) => any;";
        assert_eq!(rendered(schema, ""), expected);
    }

    #[test]
    fn schemas_that_refer_to_themselves_end() {
        let schema = r##"{"properties":{"a":{"$ref":"#/$defs/a"},"b":{"$ref":"#/nowhere"}},
            "$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}}}"##;
        let text = rendered(schema, "");
        assert!(text.ends_with("b?: any }) => any;"), "{text}");
        assert!(text.len() < 3 * MAX_EXPANDED);
    }

    /// Whether a schema has notes is asked of all of it, each time that it is referred to.
    #[test]
    fn references_to_what_is_never_written_took_quadratic_time() {
        let unseen: Vec<_> = (0..3000).map(|n| format!(r#""p{n}":{{}}"#)).collect();
        let big = format!(
            r#"{{"type":"object","properties":{{"x":{{"items":{{"properties":{{{}}}}}}}}}}}"#,
            unseen.join(",")
        );
        let refer: Vec<_> = (0..2000).map(|n| format!(r##""a{n}":{{"$ref":"#/d"}}"##)).collect();
        let schema = format!(r#"{{"properties":{{{}}},"d":{big}}}"#, refer.join(","));
        let text = rendered(&schema, "");
        let expanded = text.matches("{ x?: any }").count();
        assert!((1..100).contains(&expanded), "{expanded}");
        assert!(text.contains("a1999?: any"));
    }

    #[test]
    fn a_reference_of_any_length_was_walked_each_time() {
        let long = "x".repeat(MAX_REFERENCE);
        let schema =
            format!(r##"{{"properties":{{"a":{{"$ref":"#/{long}"}}}},"{long}":{{"const":1}}}}"##);
        assert_eq!(rendered(&schema, ""), "type f = (_: { a?: any }) => any;");
    }
}
