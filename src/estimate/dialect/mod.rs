//! Requests into prompts, one file a dialect. Owns where in a request's body what costs tokens stands.
//!
//! Reading cannot fail: what has another shape than documented is left out.

mod chat;

use serde_json::Value;

use super::prompt::Prompt;

/// Reads a request's body. `None` where the endpoint takes no prompt that could be counted.
pub(super) fn read<'a>(endpoint: &str, request: &'a Value) -> Option<Prompt<'a>> {
    match endpoint {
        "chat.completions" => Some(chat::read(request)),
        _ => None,
    }
}

/// True if the endpoint's requests are read.
pub(super) fn covers(endpoint: &str) -> bool {
    matches!(
        endpoint,
        "chat.completions"
            | "completions"
            | "responses"
            | "messages"
            | "embeddings"
            | "gemini.generateContent"
            | "gemini.interactions"
            | "gemini.embedContent"
            | "ollama.chat"
            | "ollama.generate"
            | "ollama.embed"
            | "bedrock.converse"
            | "bedrock.invoke"
            | "cohere.chat.v1"
            | "cohere.chat.v2"
            | "cohere.generate.v1"
            | "cohere.embed.v1"
            | "cohere.embed.v2"
            | "anthropic.complete"
    )
}

/// True if the endpoint's answers hold generated text.
pub(super) fn generates(endpoint: &str) -> bool {
    matches!(endpoint, "chat.completions" | "completions" | "responses" | "messages")
}
