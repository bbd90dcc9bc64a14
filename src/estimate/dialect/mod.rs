//! Requests into prompts, one file a dialect. Owns where in a request's body what costs tokens stands.
//!
//! Reading cannot fail: what has another shape than documented is left out.

mod chat;
mod completions;
mod embeddings;
mod parts;
mod responses;

use serde_json::Value;

use super::prompt::Prompt;

/// Reads a request's body. `None` where the endpoint takes no prompt that could be counted.
pub(super) fn read<'a>(endpoint: &str, request: &'a Value) -> Option<Prompt<'a>> {
    let mut prompt = match endpoint {
        "chat.completions" => chat::read(request),
        "completions" => completions::read(request),
        "embeddings" => embeddings::read(request),
        "responses" => responses::read(request),
        _ => return None,
    };
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    prompt.most = limits.iter().find_map(|name| request.get(name)?.as_u64());
    Some(prompt)
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
