//! What a request to the scripted provider asks for. Owns which path speaks which dialect; of a body it
//! reads what changes the form of the answer.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::demo::models::Dialect;

/// Bytes of a text that are about a token.
const BYTES_A_TOKEN: usize = 4;

/// Vectors in one answer.
const MOST_VECTORS: usize = 2_048;

/// A request as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) is_stream: bool,
    /// A stream of Gemini as events; otherwise it is one JSON array.
    pub(super) as_events: bool,
    /// Whether a stream is to end with its usage, where that has to be asked for.
    pub(super) wants_usage: bool,
    pub(super) most_tokens: Option<u64>,
    /// Texts to be embedded.
    pub(super) texts: usize,
}

/// The members of all dialects that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    /// Reads a request whose path begins with the upstream that is played; nothing where nothing is known
    /// to answer it.
    pub(super) fn read(path: &str, query: Option<&str>, body: &[u8]) -> Option<Ask> {
        let (dialect, method) = dialect(path)?;
        let body: Body<'_> = serde_json::from_slice(body).ok()?;
        let in_path = match method {
            Some((before, _)) => before.rsplit('/').next(),
            None => behind_deployment(path),
        };
        let is_stream = match (dialect, method) {
            (Dialect::Gemini, Some((_, method))) => method == "streamGenerateContent",
            // Ollama streams unless it is told not to.
            (Dialect::Ollama, _) => body.stream.unwrap_or(true),
            _ => dialect.generates() && body.stream.unwrap_or(false),
        };
        let most = [body.max_completion_tokens, body.max_output_tokens, body.max_tokens];
        Some(Ask {
            dialect,
            model: body.model.or(in_path.map(str::to_owned)).unwrap_or_else(|| "demo".to_owned()),
            is_stream,
            as_events: query.is_some_and(|query| query.split('&').any(|part| part == "alt=sse")),
            wants_usage: body.stream_options.is_some_and(|it| it.include_usage == Some(true)),
            most_tokens: most.into_iter().flatten().next(),
            texts: body.input.map_or(1, texts),
        })
    }
}

/// The dialect of a path, and what stands before and behind a colon at its end.
fn dialect(path: &str) -> Option<(Dialect, Option<(&str, &str)>)> {
    let path = path.trim_end_matches('/');
    let (upstream, _) = path.strip_prefix('/')?.split_once('/')?;
    let method = path.rsplit_once(':').filter(|(_, method)| method.ends_with("enerateContent"));
    let is = |end: &str| path.ends_with(end);
    let dialect = match upstream {
        _ if method.is_some() => Dialect::Gemini,
        "ollama" if is("/api/chat") => Dialect::Ollama,
        "ollama" if is("/api/embed") => Dialect::OllamaEmbed,
        "azure" if is("/chat/completions") => Dialect::AzureChat,
        "openrouter" if is("/chat/completions") => Dialect::OpenRouter,
        _ if is("/chat/completions") => Dialect::Chat,
        _ if is("/responses") => Dialect::Responses,
        _ if is("/messages") => Dialect::Messages,
        _ if is("/embeddings") => Dialect::Embeddings,
        _ if is("/audio/speech") => Dialect::Speech,
        _ => return None,
    };
    Some((dialect, method))
}

/// The model behind the deployment that a path of Azure names.
fn behind_deployment(path: &str) -> Option<&str> {
    let name = path.split_once("/deployments/")?.1.split('/').next()?;
    let known = super::DEPLOYMENTS.iter().find(|(deployment, _)| *deployment == name);
    Some(known.map_or(name, |(_, model)| model))
}

/// About how many tokens a request has: those of its texts.
pub(super) fn input_tokens(body: &[u8]) -> u64 {
    fn bytes(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(elements) => elements.iter().map(bytes).sum(),
            Value::Object(members) => members.values().map(bytes).sum(),
            _ => 0,
        }
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    (bytes(&body) / BYTES_A_TOKEN).max(1) as u64
}

/// How many texts are to be embedded: the elements of a list of texts.
fn texts(input: &RawValue) -> usize {
    let many = serde_json::from_str::<Vec<&RawValue>>(input.get()).unwrap_or_default();
    let is_list = many.first().is_some_and(|one| one.get().starts_with(['"', '[']));
    if is_list { many.len().min(MOST_VECTORS) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, body: &str) -> Ask {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask::read(path, Some(query), body.as_bytes()).unwrap_or_else(|| panic!("{path} {body}"))
    }

    #[test]
    fn the_path_says_the_dialect() {
        for (path, dialect) in [
            ("/openai/v1/chat/completions", Dialect::Chat),
            ("/groq/openai/v1/chat/completions", Dialect::Chat),
            ("/azure/openai/deployments/prod-chat/chat/completions", Dialect::AzureChat),
            ("/openrouter/api/v1/chat/completions", Dialect::OpenRouter),
            ("/openai/v1/responses", Dialect::Responses),
            ("/anthropic/v1/messages", Dialect::Messages),
            ("/openai/v1/embeddings", Dialect::Embeddings),
            ("/openai/v1/audio/speech", Dialect::Speech),
            ("/gemini/v1beta/models/gemini-2.5-flash:generateContent", Dialect::Gemini),
            ("/ollama/api/chat", Dialect::Ollama),
            ("/ollama/api/embed", Dialect::OllamaEmbed),
        ] {
            assert_eq!(read(path, "{}").dialect, dialect, "{path}");
        }
        for path in ["/openai/v1/models", "/openai", "/", "/openai/v1/chat"] {
            assert_eq!(Ask::read(path, None, b"{}"), None, "{path}");
        }
        assert_eq!(Ask::read("/openai/v1/responses", None, b"no JSON"), None);
    }

    #[test]
    fn the_body_says_the_form() {
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},
            "max_tokens":7,"messages":[{"role":"user","content":"Hi"}],"unknown":{"a":[1]}}"#;
        let ask = read("/openai/v1/chat/completions", body);
        assert!(ask.is_stream && ask.wants_usage);
        assert_eq!((ask.model.as_str(), ask.most_tokens), ("m", Some(7)));
        assert_eq!(input_tokens(body.as_bytes()), 1);
        let azure =
            |name| read(&format!("/azure/openai/deployments/{name}/chat/completions"), "{}");
        assert_eq!(["prod-chat", "mine"].map(|name| azure(name).model), ["gpt-4o", "mine"]);
        assert!(read("/ollama/api/chat", "{}").is_stream);
        assert!(!read("/ollama/api/chat", r#"{"stream":false}"#).is_stream);
        let gemini = read("/gemini/v1beta/models/g-1:streamGenerateContent?alt=sse", "{}");
        assert!(gemini.is_stream && gemini.as_events);
        assert_eq!(gemini.model, "g-1");
        let texts = |input: &str| {
            read("/openai/v1/embeddings", &format!(r#"{{"input":{input},"stream":true}}"#)).texts
        };
        assert_eq!([r#""a""#, r#"["a","b"]"#, "[1,2,3]", "[[1],[2]]"].map(texts), [1, 2, 1, 2]);
    }
}
