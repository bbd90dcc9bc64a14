//! Answers in the words of each provider, one file a dialect. Owns what stands in their bodies and
//! headers; when pieces go is `play`'s.
//!
//! Invariant: read by `provider`, an answer gives the usage, model, finish reason and error of its cue.

mod chat;
mod gemini;
mod messages;
mod ollama;
mod responses;
#[cfg(test)]
mod tests;
mod vectors;

use serde_json::{Value, json};

use super::ask::Ask;
use super::cue::{Cue, Ending};
use super::play::{Beat, Play};
use crate::demo::models::Dialect;

/// Bytes of a second of speech, as MP3.
const SPEECH_BYTES: usize = 16_000;

/// The answer that a cue asks for.
pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    let mut play = match ask.dialect {
        // Without a stream there is no part of an answer.
        _ if cue.ending != Ending::Whole && !ask.is_stream => nothing(cue),
        _ if cue.status != 200 => Play::whole(cue, &error(ask.dialect, cue)),
        Dialect::Chat | Dialect::AzureChat | Dialect::OpenRouter => chat::answer(ask, cue),
        Dialect::Responses => responses::answer(ask, cue),
        Dialect::Messages => messages::answer(ask, cue),
        Dialect::Gemini => gemini::answer(ask, cue),
        Dialect::Ollama => ollama::answer(ask, cue),
        Dialect::Embeddings | Dialect::OllamaEmbed => vectors::answer(ask, cue),
        Dialect::Speech => speech(cue),
    };
    play.headers.extend(headers(ask.dialect, cue));
    play
}

/// What a request is told that no dialect is known for.
pub(super) fn unknown(path: &str) -> Play {
    let message = format!(
        "the scripted provider of the demo has no answer for {path}; it knows chat completions, \
         responses, embeddings, speech, messages, Gemini's generateContent and Ollama's chat and embed"
    );
    let cue = Cue { status: 404, error: Some("not_found".to_owned()), ..Cue::default() };
    let error = json!({"message": message, "type": "invalid_request_error", "param": null,
                       "code": "not_found"});
    Play::whole(&cue, &json!({"error": error}))
}

fn nothing(cue: &Cue) -> Play {
    Play { beats: Vec::new(), ending: Ending::Silent, ..Play::whole(cue, &Value::Null) }
}

fn headers(dialect: Dialect, cue: &Cue) -> Vec<(&'static str, String)> {
    let name = match dialect {
        Dialect::Messages => "request-id",
        Dialect::AzureChat => "apim-request-id",
        // These say it in the body, or not at all.
        Dialect::OpenRouter | Dialect::Gemini | Dialect::Ollama | Dialect::OllamaEmbed => "",
        _ => "x-request-id",
    };
    let id = cue.id.clone().filter(|_| !name.is_empty());
    let mut headers: Vec<_> = id.map(|id| (name, id)).into_iter().collect();
    if cue.status == 429 {
        headers.push(("retry-after", "1".to_owned()));
    }
    headers
}

/// A refusal: the word where each provider has it.
fn error(dialect: Dialect, cue: &Cue) -> Value {
    let word = cue.error.as_deref().unwrap_or("error");
    let message = match cue.status {
        429 => "Too many requests; try again in a moment.",
        500.. => "Something went wrong here; try again in a moment.",
        _ => "This request cannot be answered.",
    };
    let error = match dialect {
        Dialect::Messages => {
            return json!({"type": "error", "error": {"type": word, "message": message}});
        }
        Dialect::Ollama | Dialect::OllamaEmbed => return json!({"error": message}),
        Dialect::Gemini => json!({"code": cue.status, "message": message, "status": word}),
        Dialect::OpenRouter => json!({"message": message, "code": cue.status}),
        _ => json!({"message": message, "type": word, "param": null, "code": word}),
    };
    json!({"error": error})
}

/// Silence, which is short in any language.
fn speech(cue: &Cue) -> Play {
    let beat = Beat { at_ms: cue.last_ms, bytes: vec![0; SPEECH_BYTES].into() };
    Play { content_type: "audio/mpeg", beats: vec![beat], ..Play::whole(cue, &Value::Null) }
}

/// The model that answers.
fn model(ask: &Ask, cue: &Cue) -> String {
    cue.model.clone().unwrap_or_else(|| ask.model.clone())
}

/// An id of the answer itself, made of the request's.
fn id(prefix: &str, cue: &Cue) -> String {
    let id = cue.id.as_deref().unwrap_or("demo");
    let letters = id.chars().filter(char::is_ascii_alphanumeric);
    prefix.chars().chain(letters.skip(3)).collect()
}

/// The usage object, if it is told.
fn usage(cue: &Cue) -> Value {
    cue.usage.clone().unwrap_or(Value::Null)
}
