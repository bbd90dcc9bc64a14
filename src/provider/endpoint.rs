//! What a path asks for. Owns the names of endpoints and what a path itself says about model and
//! deployment; decides nothing about how an answer is read.
//!
//! Sources: the providers' API references. Paths are looked at leniently (double slashes, `%3A` for
//! a colon), because clients produce such; they are forwarded as they came.

use percent_encoding::percent_decode_str;

/// The name of an endpoint as the ledger shows it.
pub type Endpoint = &'static str;

/// What the path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFacts {
    pub endpoint: Endpoint,
    /// The model that the path names (Gemini, Bedrock).
    pub model: Option<String>,
    /// The deployment that the path names (Azure).
    pub deployment: Option<String>,
}

/// The name for what is not known.
const OTHER: Endpoint = "other";

/// By the last two segments of a path.
const BY_TWO: [(&str, &str, Endpoint); 27] = [
    ("chat", "completions", "chat.completions"),
    ("agents", "completions", "chat.completions"),
    ("responses", "compact", "responses.compact"),
    ("responses", "input_tokens", "responses.inputTokens"),
    ("messages", "count_tokens", "messages.countTokens"),
    ("messages", "batches", "batches"),
    ("v1", "complete", "anthropic.complete"),
    ("api", "chat", "ollama.chat"),
    ("api", "generate", "ollama.generate"),
    ("api", "embed", "ollama.embed"),
    ("v1", "chat", "cohere.chat.v1"),
    ("v2", "chat", "cohere.chat.v2"),
    ("v1", "embed", "cohere.embed.v1"),
    ("v2", "embed", "cohere.embed.v2"),
    ("v1", "generate", "cohere.generate.v1"),
    ("v1", "rerank", "rerank"),
    ("v2", "rerank", "rerank"),
    ("images", "generations", "images"),
    ("images", "edits", "images"),
    ("images", "variations", "images"),
    ("audio", "speech", "audio.speech"),
    ("audio", "transcriptions", "audio.transcriptions"),
    ("audio", "translations", "audio.translations"),
    ("threads", "runs", "assistants.runs"),
    ("v1beta", "interactions", "gemini.interactions"),
    ("files", "content", "files"),
    ("input_tokens", "count", "responses.inputTokens"),
];

/// By the last segment of a path.
const BY_ONE: [(&str, Endpoint); 13] = [
    ("completions", "completions"),
    ("completion", "completions"),
    ("embeddings", "embeddings"),
    ("responses", "responses"),
    ("messages", "messages"),
    ("moderations", "moderations"),
    ("rerank", "rerank"),
    ("models", "models"),
    ("batches", "batches"),
    ("files", "files"),
    ("realtime", "realtime"),
    ("interactions", "gemini.interactions"),
    ("ocr", "ocr"),
];

/// By the method behind the colon (Google).
const BY_METHOD: [(&str, Endpoint); 9] = [
    ("generateContent", "gemini.generateContent"),
    ("streamGenerateContent", "gemini.generateContent"),
    ("countTokens", "gemini.countTokens"),
    ("embedContent", "gemini.embedContent"),
    ("batchEmbedContents", "gemini.embedContent"),
    ("predict", "vertex.predict"),
    ("rawPredict", "messages"),
    ("streamRawPredict", "messages"),
    ("BidiGenerateContent", "realtime"),
];

/// By the last segment behind `/model/{id}` (Bedrock).
const BY_BEDROCK: [(&str, Endpoint); 5] = [
    ("converse", "bedrock.converse"),
    ("converse-stream", "bedrock.converse"),
    ("invoke", "bedrock.invoke"),
    ("invoke-with-response-stream", "bedrock.invoke"),
    ("count-tokens", "bedrock.countTokens"),
];

/// Collections whose members are the collection's endpoint too: `/models/gpt-5`, `/files/file-1`.
const BY_COLLECTION: [(&str, Endpoint); 7] = [
    ("completions", "chat.completions.retrieve"),
    ("interactions", "gemini.interactions.retrieve"),
    ("responses", "responses.retrieve"),
    ("models", "models"),
    ("batches", "batches"),
    // Mistral: /v1/batch/jobs/{id}
    ("batch", "batches"),
    ("files", "files"),
];

impl PathFacts {
    /// Reads a path (without the query).
    pub fn of(path: &str) -> PathFacts {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let after = |name: &str| {
            let at = segments.iter().position(|segment| *segment == name)?;
            segments.get(at + 1).map(|segment| decoded(segment))
        };
        let google = segments.last().and_then(|last| google_method(last));
        if let Some((model, endpoint)) = google {
            return PathFacts { endpoint, model: Some(model), deployment: None };
        }
        if let Some(endpoint) = bedrock_endpoint(&segments) {
            return PathFacts { endpoint, model: after("model"), deployment: None };
        }
        PathFacts {
            endpoint: endpoint_of(&segments),
            model: None,
            deployment: after("deployments"),
        }
    }
}

fn google_method(segment: &str) -> Option<(String, Endpoint)> {
    let segment = decoded(segment);
    let (model, method) = segment.rsplit_once([':', '.'])?;
    let (_, endpoint) = BY_METHOD.iter().find(|(name, _)| *name == method)?;
    Some((model.to_owned(), endpoint))
}

fn bedrock_endpoint(segments: &[&str]) -> Option<Endpoint> {
    let [.., "model", _, last] = segments else { return None };
    BY_BEDROCK.iter().find(|(name, _)| name == last).map(|(_, endpoint)| *endpoint)
}

fn endpoint_of(segments: &[&str]) -> Endpoint {
    let Some((last, before)) = segments.split_last() else { return OTHER };
    // Everything of the Assistants API, whose messages are no Messages.
    if segments.contains(&"threads") {
        let runs = segments.contains(&"runs");
        return if runs { "assistants.runs" } else { "assistants" };
    }
    if let Some(parent) = before.last() {
        let by_two = BY_TWO.iter().find(|(first, second, _)| first == parent && second == last);
        if let Some((_, _, endpoint)) = by_two {
            return endpoint;
        }
    }
    if let Some((_, endpoint)) = BY_ONE.iter().find(|(name, _)| name == last) {
        return endpoint;
    }
    let collection = before.iter().rev().take(2);
    collection
        .filter_map(|segment| BY_COLLECTION.iter().find(|(name, _)| name == segment))
        .map(|(_, endpoint)| *endpoint)
        .next()
        .unwrap_or(OTHER)
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_endpoints() {
        let cases = [
            ("/v1/chat/completions", "chat.completions"),
            ("/api/v1/chat/completions", "chat.completions"),
            ("//openai/deployments/prod/chat/completions", "chat.completions"),
            ("/v1/completions", "completions"),
            ("/v1/responses", "responses"),
            ("/v1/responses/resp_1", "responses.retrieve"),
            ("/v1/responses/resp_1/cancel", "responses.retrieve"),
            ("/v1/chat/completions/chatcmpl-1", "chat.completions.retrieve"),
            ("/v1beta/interactions/v1_x", "gemini.interactions.retrieve"),
            ("/v1/messages", "messages"),
            ("/v1/messages/count_tokens", "messages.countTokens"),
            ("/v1/threads/t/messages", "assistants"),
            ("/v1/threads/t/runs/r", "assistants.runs"),
            ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini.generateContent"),
            ("/v1beta/models/gemini-2.5-pro%3AstreamGenerateContent", "gemini.generateContent"),
            ("/model/anthropic.claude-v2%3A1/invoke", "bedrock.invoke"),
            ("/v1/models/gpt-5", "models"),
            ("/v1/files/file-1/content", "files"),
            ("/v1/batch/jobs", "batches"),
            ("/v1/batch/jobs/1", "batches"),
            ("/something/new", OTHER),
            ("/", OTHER),
        ];
        for (path, endpoint) in cases {
            assert_eq!(PathFacts::of(path).endpoint, endpoint, "{path}");
        }
    }

    #[test]
    fn paths_name_models_and_deployments() {
        let of = PathFacts::of;
        assert_eq!(
            of("/model/anthropic.claude-v2%3A1/invoke").model.as_deref(),
            Some("anthropic.claude-v2:1")
        );
        assert_eq!(
            of("/v1beta/models/gemini-2.5-pro:generateContent").model.as_deref(),
            Some("gemini-2.5-pro")
        );
        assert_eq!(
            of("/openai/deployments/prod-chat/chat/completions").deployment.as_deref(),
            Some("prod-chat")
        );
    }
}
