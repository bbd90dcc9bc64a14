//! The models that answer, where and how they are reached. Facts only.
//!
//! They are real, so that the price table knows most of them; figures of speed are of the kind that
//! their providers show.

/// How an answer states its usage, which a provider does in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    AzureChat,
    Responses,
    Embeddings,
    Speech,
    Messages,
    OpenRouter,
    Gemini,
    Ollama,
    OllamaEmbed,
}

/// What a prompt has besides text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Text,
    Audio,
    Images,
}

/// A model where it is reached.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) upstream: &'static str,
    pub(super) provider: &'static str,
    pub(super) endpoint: &'static str,
    /// For Gemini without the method.
    pub(super) path: &'static str,
    pub(super) dialect: Dialect,
    pub(super) requested: &'static str,
    /// What the answer says; `None` where it does not name the model.
    pub(super) served: Option<&'static str>,
    /// Median milliseconds to the first token (to the end, where there is only one piece).
    pub(super) first_token_ms: f64,
    pub(super) tokens_a_second: f64,
    /// Median tokens of reasoning; 0 where it does not.
    pub(super) reasoning: f64,
    pub(super) hears: Hears,
    pub(super) tier: Option<&'static str>,
}

const CHAT: Model = Model {
    upstream: "openai",
    provider: "openai",
    endpoint: "chat.completions",
    path: "/v1/chat/completions",
    dialect: Dialect::Chat,
    requested: "gpt-4o-mini",
    served: Some("gpt-4o-mini-2024-07-18"),
    first_token_ms: 480.0,
    tokens_a_second: 85.0,
    reasoning: 0.0,
    hears: Hears::Text,
    tier: Some("default"),
};

const CLAUDE: Model = Model {
    upstream: "anthropic",
    provider: "anthropic",
    endpoint: "messages",
    path: "/anthropic/v1/messages",
    dialect: Dialect::Messages,
    requested: "claude-sonnet-4-6",
    served: Some("claude-sonnet-4-6"),
    first_token_ms: 1150.0,
    tokens_a_second: 68.0,
    tier: Some("standard"),
    ..CHAT
};

const OPENROUTER: Model = Model {
    upstream: "openrouter",
    provider: "openrouter",
    path: "/openrouter/api/v1/chat/completions",
    dialect: Dialect::OpenRouter,
    first_token_ms: 900.0,
    tokens_a_second: 55.0,
    tier: None,
    ..CHAT
};

const GEMINI: Model = Model {
    upstream: "gemini",
    provider: "gemini",
    endpoint: "gemini.generateContent",
    dialect: Dialect::Gemini,
    first_token_ms: 620.0,
    tokens_a_second: 170.0,
    reasoning: 240.0,
    tier: Some("standard"),
    ..CHAT
};

const OLLAMA: Model = Model {
    upstream: "ollama",
    provider: "ollama",
    endpoint: "ollama.chat",
    path: "/ollama/api/chat",
    dialect: Dialect::Ollama,
    first_token_ms: 260.0,
    tokens_a_second: 42.0,
    tier: None,
    ..CHAT
};

pub(super) static GPT_4O_MINI: Model = CHAT;
pub(super) static GPT_5_4_MINI: Model = Model {
    requested: "gpt-5.4-mini",
    served: Some("gpt-5.4-mini-2026-03-17"),
    first_token_ms: 610.0,
    tokens_a_second: 120.0,
    reasoning: 90.0,
    ..CHAT
};
pub(super) static GPT_5_4: Model = Model {
    endpoint: "responses",
    path: "/v1/responses",
    dialect: Dialect::Responses,
    requested: "gpt-5.4",
    served: Some("gpt-5.4-2026-03-05"),
    first_token_ms: 1400.0,
    tokens_a_second: 75.0,
    reasoning: 700.0,
    ..CHAT
};
pub(super) static GPT_5_4_FLEX: Model =
    Model { tier: Some("flex"), first_token_ms: 5200.0, ..GPT_5_4 };
/// A fine-tuned one: no price table knows it.
pub(super) static TUNED: Model = Model {
    requested: "ft:gpt-5.4-mini-2026-03-17:northwind:tickets:C9dLq2Xz",
    served: Some("ft:gpt-5.4-mini-2026-03-17:northwind:tickets:C9dLq2Xz"),
    ..GPT_4O_MINI
};
pub(super) static GPT_AUDIO_MINI: Model = Model {
    requested: "gpt-audio-mini",
    served: Some("gpt-audio-mini-2025-10-06"),
    first_token_ms: 820.0,
    tokens_a_second: 60.0,
    hears: Hears::Audio,
    ..CHAT
};
/// Reads aloud for a price by the character, which no usage states.
pub(super) static TTS: Model = Model {
    endpoint: "audio.speech",
    path: "/v1/audio/speech",
    dialect: Dialect::Speech,
    requested: "tts-1",
    served: None,
    first_token_ms: 2600.0,
    tier: None,
    ..CHAT
};
pub(super) static EMBEDDING: Model = Model {
    endpoint: "embeddings",
    path: "/v1/embeddings",
    dialect: Dialect::Embeddings,
    requested: "text-embedding-3-large",
    served: Some("text-embedding-3-large"),
    first_token_ms: 210.0,
    tier: None,
    ..CHAT
};
pub(super) static CLAUDE_SONNET: Model = CLAUDE;
pub(super) static CLAUDE_HAIKU: Model = Model {
    requested: "claude-haiku-4-5",
    served: Some("claude-haiku-4-5-20251001"),
    first_token_ms: 640.0,
    tokens_a_second: 140.0,
    ..CLAUDE
};
pub(super) static CLAUDE_OPUS: Model = Model {
    requested: "claude-opus-5",
    served: Some("claude-opus-5"),
    first_token_ms: 1700.0,
    tokens_a_second: 52.0,
    reasoning: 350.0,
    ..CLAUDE
};
pub(super) static AZURE_GPT_4O: Model = Model {
    upstream: "azure",
    provider: "azure",
    path: "/azure/openai/deployments/prod-chat/chat/completions",
    dialect: Dialect::AzureChat,
    requested: "gpt-4o",
    served: Some("gpt-4o-2024-11-20"),
    first_token_ms: 420.0,
    tokens_a_second: 95.0,
    tier: None,
    ..CHAT
};
pub(super) static AZURE_GPT_5_MINI: Model = Model {
    upstream: "azure",
    provider: "azure",
    path: "/azure/openai/deployments/prod-mini/chat/completions",
    dialect: Dialect::AzureChat,
    requested: "gpt-5-mini",
    served: Some("gpt-5-mini-2025-08-07"),
    reasoning: 180.0,
    tier: None,
    ..CHAT
};
pub(super) static DEEPSEEK: Model = Model {
    requested: "deepseek/deepseek-v3.2",
    served: Some("deepseek/deepseek-v3.2"),
    ..OPENROUTER
};
pub(super) static KIMI: Model = Model {
    requested: "moonshotai/kimi-k2.6",
    served: Some("moonshotai/kimi-k2.6"),
    reasoning: 420.0,
    ..OPENROUTER
};
pub(super) static LLAMA_FREE: Model = Model {
    requested: "meta-llama/llama-3.3-70b-instruct:free",
    served: Some("meta-llama/llama-3.3-70b-instruct:free"),
    ..OPENROUTER
};
pub(super) static GEMINI_FLASH: Model = Model {
    path: "/gemini/v1beta/models/gemini-3.6-flash",
    requested: "gemini-3.6-flash",
    served: Some("gemini-3.6-flash"),
    hears: Hears::Images,
    ..GEMINI
};
pub(super) static GEMINI_AUDIO: Model = Model {
    path: "/gemini/v1beta/models/gemini-2.5-flash",
    requested: "gemini-2.5-flash",
    served: Some("gemini-2.5-flash"),
    hears: Hears::Audio,
    ..GEMINI
};
pub(super) static QWEN: Model = Model { requested: "qwen3:4b", served: Some("qwen3:4b"), ..OLLAMA };
pub(super) static NOMIC: Model = Model {
    endpoint: "ollama.embed",
    path: "/ollama/api/embed",
    dialect: Dialect::OllamaEmbed,
    requested: "nomic-embed-text",
    served: Some("nomic-embed-text"),
    first_token_ms: 45.0,
    ..OLLAMA
};
