//! Requests into prompts, one file a dialect. Owns where in a request's body what costs tokens stands.
//!
//! Reading cannot fail: what has another shape than documented is left out.

mod bedrock;
mod chat;
mod cohere;
mod completions;
mod embeddings;
mod gemini;
mod messages;
mod ollama;
mod parts;
mod responses;
mod shape;

use serde_json::Value;

use super::limit;
use super::prompt::Prompt;
use super::{Subject, Unseen};

/// Reads a request's body. `None` where the endpoint takes no prompt that could be counted.
pub(super) fn read<'a>(subject: &Subject<'_>, request: &'a Value) -> Option<Prompt<'a>> {
    let mut prompt = match subject.endpoint {
        "chat.completions" => chat::read(request),
        "completions" => completions::read(request),
        "embeddings" => embeddings::read(request),
        "responses" => responses::read(request),
        "messages" => messages::read(request),
        "anthropic.complete" => messages::read_completion(request),
        "gemini.generateContent" => gemini::read(request),
        "gemini.embedContent" => gemini::read_embedding(request),
        "gemini.interactions" => gemini::read_interaction(request),
        "ollama.chat" => ollama::read_chat(request),
        "ollama.generate" => ollama::read_generate(request),
        "ollama.embed" => ollama::read_embed(request),
        "bedrock.converse" => bedrock::read_converse(request),
        "bedrock.invoke" => bedrock::read_invoke(subject.model, request),
        "cohere.chat.v1" => cohere::read_v1(request),
        "cohere.chat.v2" => cohere::read_v2(request),
        "cohere.generate.v1" => cohere::read_generate(request),
        "cohere.embed.v1" | "cohere.embed.v2" => cohere::read_embed(request),
        _ => return None,
    };
    // Mistral's agents have instructions of their own.
    if request.get("agent_id").is_some() {
        prompt.lacks(Unseen::History);
    }
    prompt.most = limit::of_request(request);
    prompt.asked = parts::text(request, "model");
    reasoning(request, &mut prompt);
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
    matches!(
        endpoint,
        "chat.completions"
            | "completions"
            | "responses"
            | "messages"
            | "anthropic.complete"
            | "gemini.generateContent"
            | "gemini.interactions"
            | "ollama.chat"
            | "ollama.generate"
            | "bedrock.converse"
            | "bedrock.invoke"
            | "cohere.chat.v1"
            | "cohere.chat.v2"
            | "cohere.generate.v1"
            | "realtime"
    )
}

/// Whether and how much reasoning is asked for: the same few members in every dialect.
fn reasoning<'a>(request: &'a Value, prompt: &mut Prompt<'a>) {
    let additional = request.get("additionalModelRequestFields");
    let thinking = request
        .get("thinking")
        .or_else(|| additional.and_then(|fields| fields.get("thinking")))
        .or_else(|| additional.and_then(|fields| fields.get("reasoning_config")))
        .and_then(|thinking| parts::text(thinking, "type"));
    let reasoning = request.get("reasoning").filter(|value| value.is_object());
    let enabled = reasoning.is_some_and(|value| value.get("enabled") == Some(&Value::Bool(true)));
    let budget = reasoning.is_some_and(|value| value.get("max_tokens").is_some());
    let effort = parts::text(request, "reasoning_effort")
        .or_else(|| reasoning.and_then(|value| parts::text(value, "effort")));
    prompt.effort = match thinking {
        Some("disabled" | "adaptive") => thinking,
        Some("enabled") => effort.or(thinking),
        _ => effort,
    };
    // A name that routers take.
    let named = prompt.asked.is_some_and(|asked| asked.ends_with(":thinking"));
    prompt.thinking = named
        || matches!(thinking, Some("enabled" | "adaptive"))
        || enabled
        || budget
        || effort.is_some_and(|effort| effort != "none");
}
