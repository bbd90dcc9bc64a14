//! What a client would send: a request whose prompt is as long as its row says, in the words of the
//! provider's API.

use serde_json::{Value, json};

use super::text;
use crate::demo::models::{Dialect, Model};
use crate::record::{Record, StreamUsage};

/// Tokens of a prompt that no row tells the length of.
const USUAL_PROMPT: u64 = 300;

/// Anthropic's clients have to say how long an answer may be.
const MAX_TOKENS: u64 = 8_192;

/// The query of a path, where there is one.
pub(super) fn query(dialect: Dialect, record: &Record) -> &'static str {
    match dialect {
        Dialect::AzureChat => "?api-version=2024-10-21",
        Dialect::Gemini if record.path.ends_with(":streamGenerateContent") => "?alt=sse",
        _ => "",
    }
}

/// The body of a call whose row is planned; its prompt begins with so many tokens that are always the
/// same.
pub(super) fn body(model: &Model, record: &Record, system: u64, from: u64) -> Value {
    let prompt = record.input_tokens.unwrap_or(USUAL_PROMPT + system);
    let system = text::text(0, system.min(prompt));
    let asked = text::text(from, prompt.saturating_sub(text_tokens(&system)).max(1));
    match model.dialect {
        Dialect::Chat | Dialect::AzureChat | Dialect::OpenRouter => {
            let mut body = json!({"model": model.requested,
                                  "messages": messages(&system, &asked)});
            if record.streaming {
                body["stream"] = true.into();
                let is_told = record.usage_json.is_some() || record.output_tokens.is_none();
                if is_told && record.stream_usage != Some(StreamUsage::Injected) {
                    body["stream_options"] = json!({"include_usage": true});
                }
            }
            body
        }
        Dialect::Responses => {
            let mut body = json!({"model": model.requested, "instructions": system,
                                  "input": asked, "stream": record.streaming});
            if let Some(tier) = model.tier.filter(|tier| *tier != "default") {
                body["service_tier"] = tier.into();
            }
            body
        }
        Dialect::Messages => json!({
            "model": model.requested,
            "max_tokens": MAX_TOKENS,
            "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": asked}],
            "stream": record.streaming,
        }),
        Dialect::Gemini => json!({
            "systemInstruction": {"parts": [{"text": system}]},
            "contents": [{"role": "user", "parts": [{"text": asked}]}],
        }),
        Dialect::Ollama => json!({"model": model.requested, "stream": record.streaming,
                                  "messages": messages(&system, &asked)}),
        Dialect::Embeddings | Dialect::OllamaEmbed => {
            json!({"model": model.requested, "input": asked})
        }
        Dialect::Speech => json!({"model": model.requested, "voice": "alloy", "input": asked}),
    }
}

fn messages(system: &str, asked: &str) -> Value {
    json!([{"role": "system", "content": system}, {"role": "user", "content": asked}])
}

/// The tokens of a text of ours, back from its length.
fn text_tokens(text: &str) -> u64 {
    text.split_inclusive([' ', '.', ',', ';']).count() as u64
}
