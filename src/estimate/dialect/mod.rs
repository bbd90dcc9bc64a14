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
    match endpoint {
        "chat.completions" => Some(chat::read(request)),
        "completions" => Some(completions::read(request)),
        "embeddings" => Some(embeddings::read(request)),
        "responses" => Some(responses::read(request)),
        _ => None,
    }
}

/// True if the endpoint's answers hold generated text.
pub(super) fn generates(endpoint: &str) -> bool {
    matches!(endpoint, "chat.completions" | "completions" | "responses" | "messages")
}
