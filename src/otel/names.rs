//! The words of OpenTelemetry's conventions for generative AI: what our endpoints and providers are called there, and
//! the names that have changed from one version to the next, a profile each. A further version is a
//! further constant here.
//!
//! Source: open-telemetry/semantic-conventions-genai, `docs/gen-ai/`, as of October 2026 (`LATEST`), and
//! semantic-conventions 1.37 and later as backends and dashboards read them (`PREVIOUS`).

/// Which names are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The newest that this version knows.
    #[default]
    Latest,
    /// Those that most dashboards still read.
    Previous,
    /// Both at once.
    Both,
}

impl Profile {
    pub(super) fn names(self) -> &'static [&'static Names] {
        match self {
            Profile::Latest => &[&LATEST],
            Profile::Previous => &[&PREVIOUS],
            Profile::Both => &[&LATEST, &PREVIOUS],
        }
    }
}

/// What differs between the versions.
#[derive(Debug)]
pub(super) struct Names {
    /// The attribute of a span with the tokens written to a cache.
    pub(super) cache_write: &'static str,
    /// Counters of tokens by class, if there are any.
    pub(super) counters: &'static [(Class, &'static str)],
    pub(super) tokens: TokenHistograms,
    /// Histograms of seconds.
    pub(super) duration: &'static str,
    pub(super) first_chunk: &'static str,
}

/// How tokens of a call are told in histograms.
#[derive(Debug)]
pub(super) enum TokenHistograms {
    /// One, with `gen_ai.token.type`.
    ByType(&'static str),
    /// One each for input and output.
    BySide(&'static str, &'static str),
}

/// A class of tokens that has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    Reasoning,
}

const LATEST: Names = Names {
    cache_write: "gen_ai.usage.cache_write.input_tokens",
    counters: &[
        (Class::Input, "gen_ai.client.inference.usage.input_tokens"),
        (Class::Output, "gen_ai.client.inference.usage.output_tokens"),
        (Class::CacheRead, "gen_ai.client.inference.usage.cache_read.input_tokens"),
        (Class::CacheWrite, "gen_ai.client.inference.usage.cache_write.input_tokens"),
        (Class::Reasoning, "gen_ai.client.inference.usage.reasoning.output_tokens"),
    ],
    tokens: TokenHistograms::BySide(
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
    ),
    duration: "gen_ai.client.inference.duration",
    first_chunk: "gen_ai.client.inference.time_to_first_chunk",
};

const PREVIOUS: Names = Names {
    cache_write: "gen_ai.usage.cache_creation.input_tokens",
    counters: &[],
    tokens: TokenHistograms::ByType("gen_ai.client.token.usage"),
    duration: "gen_ai.client.operation.duration",
    first_chunk: "gen_ai.client.operation.time_to_first_chunk",
};

/// What an answer that is fetched again is called. It reports no tokens: the call that made it did.
pub(super) const FETCH: &str = "fetch_response";

/// `gen_ai.operation.name` of our endpoints.
const OPERATIONS: [(&str, &str); 21] = [
    ("anthropic.complete", "text_completion"),
    ("bedrock.converse", "chat"),
    ("bedrock.invoke", "invoke_model"),
    ("chat.completions", "chat"),
    ("chat.completions.retrieve", FETCH),
    ("cohere.chat.v1", "chat"),
    ("cohere.chat.v2", "chat"),
    ("cohere.embed.v1", "embeddings"),
    ("cohere.embed.v2", "embeddings"),
    ("cohere.generate.v1", "text_completion"),
    ("completions", "text_completion"),
    ("gemini.embedContent", "embeddings"),
    ("gemini.generateContent", "generate_content"),
    ("gemini.interactions", "generate_content"),
    ("gemini.interactions.retrieve", FETCH),
    ("images", "generate_content"),
    ("messages", "chat"),
    ("ollama.chat", "chat"),
    ("ollama.embed", "embeddings"),
    ("ollama.generate", "text_completion"),
    ("responses", "chat"),
];

/// Where the conventions have no word they allow one of one's own: the endpoint's.
pub(super) fn operation(endpoint: &str) -> &str {
    if endpoint == "responses.retrieve" {
        return FETCH;
    }
    let known = OPERATIONS.iter().find(|(ours, _)| *ours == endpoint);
    known.map_or(endpoint, |(_, theirs)| theirs)
}

/// `gen_ai.provider.name` of our providers, where it is another word.
const PROVIDERS: [(&str, &str); 6] = [
    ("azure", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("gemini", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("vertex", "gcp.vertex_ai"),
    ("xai", "x_ai"),
];

pub(super) fn provider(ours: &str) -> &str {
    PROVIDERS.iter().find(|(name, _)| *name == ours).map_or(ours, |(_, theirs)| theirs)
}

/// `openai.api.type`, of the two APIs that have one.
pub(super) fn openai_api(endpoint: &str) -> Option<&'static str> {
    match endpoint {
        "chat.completions" => Some("chat_completions"),
        "responses" | "responses.retrieve" => Some("responses"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::PathFacts;

    #[test]
    fn endpoints_have_the_conventions_words() {
        let cases = [
            ("/v1/chat/completions", "chat"),
            ("/v1/completions", "text_completion"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/responses", "chat"),
            ("/v1/responses/resp_1", "fetch_response"),
            ("/v1/chat/completions/chatcmpl-1", "fetch_response"),
            ("/v1/messages", "chat"),
            ("/v1beta/models/gemini-3-pro:generateContent", "generate_content"),
            ("/v1beta/models/gemini-3-pro:embedContent", "embeddings"),
            ("/model/some.model/converse", "chat"),
            ("/api/generate", "text_completion"),
            ("/api/embed", "embeddings"),
            ("/v1/rerank", "rerank"),
            ("/v1/models", "models"),
            ("/elsewhere", "other"),
        ];
        for (path, name) in cases {
            assert_eq!(operation(PathFacts::of(path).endpoint), name, "{path}");
        }
    }

    #[test]
    fn providers_have_the_conventions_words() {
        let cases = [
            ("openai", "openai"),
            ("azure", "azure.ai.openai"),
            ("bedrock", "aws.bedrock"),
            ("vertex", "gcp.vertex_ai"),
            ("gemini", "gcp.gemini"),
            ("mistral", "mistral_ai"),
            ("xai", "x_ai"),
            ("house", "house"),
        ];
        for (ours, theirs) in cases {
            assert_eq!(provider(ours), theirs);
        }
    }

    #[test]
    fn no_name_is_in_two_profiles_metrics() {
        let metrics = |names: &Names| {
            let mut all = vec![names.duration, names.first_chunk];
            all.extend(names.counters.iter().map(|(_, name)| *name));
            match names.tokens {
                TokenHistograms::ByType(name) => all.push(name),
                TokenHistograms::BySide(input, output) => all.extend([input, output]),
            }
            all
        };
        let previous = metrics(&PREVIOUS);
        assert!(metrics(&LATEST).iter().all(|name| !previous.contains(name)));
    }
}
