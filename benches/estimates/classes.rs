//! What can be expected of an estimate, judged from a recorded exchange by itself: nothing here asks
//! the estimator. Owns the classes and the families of models.

use std::fmt;

use serde_json::Value;
use tokenmeter::provider::{Generated, Kind};

use crate::corpus::Recording;

/// A class of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Plain text or the client's own tools; no hidden reasoning, nothing held by the provider.
    Plain,
    /// The same with pictures that the request holds.
    Images,
    Other(&'static str),
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Plain => f.write_str("plain"),
            Class::Images => f.write_str("images"),
            Class::Other(reason) => write!(f, "other: {reason}"),
        }
    }
}

const HISTORY: Class = Class::Other("history at the provider");
const SERVER_TOOLS: Class = Class::Other("the provider's tools");
const REASONING: Class = Class::Other("hidden reasoning");
const EARLIER: Class = Class::Other("hidden reasoning of earlier turns");
const SOUND: Class = Class::Other("sound, video");
const FILES: Class = Class::Other("files");
const BY_URL: Class = Class::Other("media by URL");
const REPLACED: Class = Class::Other("text replaced by a guardrail");
const PREDICTION: Class = Class::Other("predicted output");
const COMPACTED: Class = Class::Other("history that was compacted");
const CITED: Class = Class::Other("citations by the provider");
const CUT: Class = Class::Other("a body that was not kept whole");
const INVENTED: Class = Class::Other("written by hand");

pub(crate) fn class(
    recording: &Recording,
    request: &Value,
    model: &str,
    generated: &Generated,
) -> Class {
    let mut found: Vec<Class> = Vec::new();
    let is_pro = request.get("reasoning").and_then(|r| r.get("mode")).is_some_and(|m| m == "pro");
    if is_pro || is_online(model) || has_server_tools(request) {
        found.push(SERVER_TOOLS);
    }
    let names = [
        "previous_response_id",
        "conversation",
        "prompt_id",
        "cachedContent",
        "container",
        "agent_id",
    ];
    let stored = request.get("prompt").is_some_and(|prompt| prompt.get("id").is_some());
    let kept = ["messages", "input", "prompt", "contents", "inputs", "message", "text", "texts"];
    let is_there = |name: &&str| request.get(name).is_some();
    let absent = recording.api == "chat.completions" && !kept.iter().any(is_there);
    if absent || stored || names.iter().any(|name| request.get(name).is_some_and(|v| !v.is_null()))
    {
        found.push(HISTORY);
    }
    if request.get("prediction").is_some_and(Value::is_object) {
        found.push(PREDICTION);
    }
    let is_audible = |list: &Value| list.as_array().is_some_and(|l| l.iter().any(|m| m == "audio"));
    if request.get("modalities").is_some_and(is_audible) {
        found.push(SOUND);
    }
    // What is shown is not what was generated and counted; the guardrail's own trace says so.
    let body = recording.response.body();
    let word = br#""action":"ANONYMIZED""#;
    if body.windows(word.len()).any(|window| window == word) {
        found.push(REPLACED);
    }
    if reasons_hidden(recording, request, model, generated) {
        found.push(REASONING);
    }
    if is_compacted(request, recording) {
        found.push(COMPACTED);
    }
    // A citing answer holds marks that its client never sees, and its prompt says how to set them.
    if holds(recording, &["citationsContent"]) {
        found.push(CITED);
    }
    if is_cut(recording) {
        found.push(CUT);
    }
    if is_invented(recording) {
        found.push(INVENTED);
    }
    walk(request, &mut found);
    // The weightiest reason: pictures last.
    let other = found.iter().find(|class| matches!(class, Class::Other(_)));
    other.or(found.first()).copied().unwrap_or(Class::Plain)
}

/// Models that search before they answer, or answer by way of other models.
fn is_online(model: &str) -> bool {
    ["search", "sonar", "compound", ":online", "deep-research"]
        .iter()
        .any(|word| model.contains(word))
}

fn has_server_tools(request: &Value) -> bool {
    let names =
        ["plugins", "web_search_options", "search_parameters", "data_sources", "connectors"];
    let is_set = |name: &&str| request.get(name).is_some_and(|value| !value.is_null());
    let tools = request.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    names.iter().any(is_set) || tools.iter().any(|tool| !is_client_tool(tool))
}

fn is_client_tool(tool: &Value) -> bool {
    let named = ["name", "function", "functionDeclarations", "function_declarations", "toolSpec"];
    match tool.get("type").and_then(Value::as_str) {
        Some("function" | "custom") => true,
        Some(_) => false,
        // Google's tools are members of one object.
        None => tool.as_object().is_some_and(|members| {
            named.iter().any(|name| members.contains_key(*name))
                && !members.keys().any(|name| name.to_lowercase().contains("search"))
        }),
    }
}

fn holds(recording: &Recording, texts: &[&str]) -> bool {
    let body = recording.response.body();
    texts.iter().any(|text| body.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Anthropic sums up a history that grew too long: a call of its own, billed with this one, which reads
/// everything once more.
fn is_compacted(request: &Value, recording: &Recording) -> bool {
    let edits =
        request.get("context_management").and_then(|edited| edited.get("edits")?.as_array());
    let compacts = |edit: &Value| {
        edit.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("compact"))
    };
    let is_asked = edits.is_some_and(|edits| edits.iter().any(compacts));
    is_asked && holds(recording, &[r#""type":"compaction""#, r#""type": "compaction""#])
}

/// No vocabulary makes more tokens than bytes, and no provider adds as many as 2,000 to a prompt: what
/// was cached at the provider stood in a body of which the recording keeps a part.
fn is_cut(recording: &Recording) -> bool {
    let reported = &recording.expected.normalized;
    let bytes = recording.request.body().len() as u64;
    let cached = [reported.cache_write, reported.cache_read];
    cached.iter().flatten().map(|count| count.0).sum::<u64>() > bytes + 2_000
}

/// A model asks for tools and does not answer for them: an answer with a tool's result was made up.
fn is_invented(recording: &Recording) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(&recording.response.body()) else {
        return false;
    };
    let blocks = answer.pointer("/output/message/content").and_then(Value::as_array);
    blocks.is_some_and(|blocks| blocks.iter().any(|block| block.get("toolResult").is_some()))
}

/// Reasoning that is billed and not shown as it was billed.
fn reasons_hidden(
    recording: &Recording,
    request: &Value,
    model: &str,
    generated: &Generated,
) -> bool {
    // Converse passes on what it does not know; routers ask by `reasoning`.
    let passed_on = request.get("additionalModelRequestFields").and_then(|f| f.get("thinking"));
    let thinking = request.get("thinking").or(passed_on).and_then(|thinking| thinking.get("type"));
    let effort = request.get("reasoning").and_then(|reasoning| reasoning.get("effort"));
    if family(model) == "Claude"
        && (thinking.is_some_and(|kind| kind != "disabled") || effort.is_some_and(|e| e != "none"))
    {
        return true;
    }
    // What Gemini thought is sealed and handed out, whether or not its tokens are reported apart.
    if family(model) == "Gemini"
        && holds(
            recording,
            &["\"thoughtSignature\"", "\"thought_signature\"", "\"encrypted_content\""],
        )
    {
        return true;
    }
    // An item for it stands in the answer, whatever the figures say (recorded: 40 tokens more, and 0
    // of reasoning reported).
    if family(model) == "OpenAI"
        && holds(recording, &[r#""type":"reasoning""#, r#""type": "reasoning""#])
    {
        return true;
    }
    let reported = recording.expected.normalized.reasoning.is_some_and(|count| count.0 > 0);
    let shown = generated.segments().iter().any(|segment| segment.kind == Kind::Reasoning);
    let summarised = ["OpenAI", "Claude", "Gemini", "Grok"].contains(&family(model));
    if shown && family(model) == "Claude" {
        return true;
    }
    reported && (summarised || !shown)
}

/// Everything in a request, without recursion.
fn walk(request: &Value, found: &mut Vec<Class>) {
    let mut left = vec![request];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(elements) => left.extend(elements),
            Value::Object(members) => {
                found.extend(part(value));
                // Schemas speak of types too.
                let skipped = ["parameters", "input_schema", "schema", "responseSchema"];
                let rest = members.iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
                left.extend(rest.map(|(_, value)| value));
            }
            _ => {}
        }
    }
}

/// What one object in a request says.
fn part(object: &Value) -> Option<Class> {
    let has = |name: &str| object.get(name).is_some_and(|value| !value.is_null());
    let mime = ["mimeType", "mime_type", "media_type"].iter().find_map(|n| object.get(n)?.as_str());
    match mime.and_then(|mime| mime.split('/').next()) {
        Some("image") if has("data") => return Some(Class::Images),
        Some("image") => return Some(BY_URL),
        Some("audio" | "video") => return Some(SOUND),
        Some("application") => return Some(FILES),
        _ => {}
    }
    // Nova's own tools.
    if has("systemTool") {
        return Some(SERVER_TOOLS);
    }
    if has("reasoning_details") || has("encrypted_content") {
        return Some(EARLIER);
    }
    if has("thoughtSignature") || has("thought_signature") {
        return Some(EARLIER);
    }
    if object.get("images").and_then(Value::as_array).is_some_and(|images| !images.is_empty()) {
        return Some(Class::Images);
    }
    match object.get("type").and_then(Value::as_str) {
        Some("image_url" | "input_image") => {
            let holder = object.get("image_url").or_else(|| object.get("imageUrl"))?;
            let url = holder.as_str().or_else(|| holder.get("url")?.as_str()).unwrap_or_default();
            Some(if url.starts_with("data:") { Class::Images } else { BY_URL })
        }
        Some("url") if has("url") => Some(BY_URL),
        Some("input_audio" | "audio" | "video") => Some(SOUND),
        Some("file" | "input_file" | "document" | "document_url" | "container_upload") => {
            Some(FILES)
        }
        Some("item_reference" | "compaction") => Some(HISTORY),
        Some("reasoning" | "thinking" | "redacted_thinking") => Some(EARLIER),
        Some("additional_tools" | "tool_search_call" | "tool_search_output") => Some(SERVER_TOOLS),
        Some(kind) if kind.ends_with("_call") && kind != "function_call" => {
            (kind != "custom_tool_call").then_some(SERVER_TOOLS)
        }
        Some("server_tool_use" | "web_search_tool_result" | "mcp_tool_use") => Some(SERVER_TOOLS),
        _ => {
            let source = |name: &str| object.get(name)?.get("source").map(|_| ());
            match () {
                () if source("image").is_some() => Some(Class::Images),
                () if source("document").is_some() => Some(FILES),
                () if source("video").or_else(|| source("audio")).is_some() => Some(SOUND),
                () => None,
            }
        }
    }
}

/// Whose model it is, by its name.
pub(crate) fn family(model: &str) -> &'static str {
    let name = model.to_ascii_lowercase();
    let last = name.rsplit('/').next().unwrap_or_default();
    let last = last.strip_prefix("openai.").unwrap_or(last);
    let families = [
        ("claude", "Claude"),
        ("gemini", "Gemini"),
        ("gpt-oss", "gpt-oss"),
        ("deepseek", "DeepSeek"),
        ("llama", "Llama"),
        ("mistral", "Mistral"),
        ("mixtral", "Mistral"),
        ("ministral", "Mistral"),
        ("codestral", "Mistral"),
        ("devstral", "Mistral"),
        ("magistral", "Mistral"),
        ("pixtral", "Mistral"),
        ("qwen", "Qwen"),
        ("qwq", "Qwen"),
        ("grok", "Grok"),
        ("glm", "GLM"),
        ("kimi", "Kimi"),
        ("command", "Cohere"),
        ("cohere", "Cohere"),
        ("embed-english", "Cohere"),
        ("embed-multilingual", "Cohere"),
        ("nova", "Nova"),
        ("titan", "Titan"),
        ("gemma", "Gemma"),
        ("voyage", "Voyage"),
    ];
    if let Some((_, family)) = families.iter().find(|(word, _)| name.contains(word)) {
        return family;
    }
    let openai = [
        "gpt",
        "chatgpt",
        "o1",
        "o3",
        "o4",
        "codex",
        "computer-use",
        "text-embedding-3",
        "text-embedding-ada",
        "text-davinci",
        "davinci",
        "babbage",
        "curie",
        "ada",
    ];
    if openai.iter().any(|start| last.starts_with(start)) { "OpenAI" } else { "others" }
}
