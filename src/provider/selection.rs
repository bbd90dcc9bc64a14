//! The members of requests and responses that are read at all. Everything else, above all every
//! prompt and completion, passes the scanner without a byte of it being kept.

use crate::framing::Keep::{Members, Presence, Scalar, Whole};
use crate::framing::Selection;

/// Of a request's JSON body.
pub static REQUEST: Selection = Selection(&[
    ("model", Scalar),
    ("stream", Scalar),
    ("user", Scalar),
    ("safety_identifier", Scalar),
    ("metadata", Members(&Selection(&[("user_id", Scalar)]))),
]);

/// Of a response's documents: the whole body, an event's data, a line, an element of a top-level
/// array.
pub static RESPONSE: Selection = Selection(&[
    ("choices", Members(&CHOICE)),
    ("usage", Whole),
    ("model", Scalar),
    ("id", Scalar),
    ("object", Scalar),
    ("type", Scalar),
    ("delta", Members(&DELTA)),
    ("service_tier", Scalar),
    ("response", Members(&NESTED)),
    ("message", Members(&MESSAGE)),
    ("error", Members(&ERROR)),
    ("code", Scalar),
    ("status", Scalar),
    ("incomplete_details", Members(&REASON)),
    ("x_groq", Members(&X_GROQ)),
    ("stop_reason", Scalar),
    ("finish_reason", Scalar),
    // Gemini
    ("candidates", Members(&CANDIDATE)),
    ("usageMetadata", Whole),
    ("modelVersion", Scalar),
    ("responseId", Scalar),
    ("promptFeedback", Members(&Selection(&[("blockReason", Scalar)]))),
    ("event_type", Scalar),
    ("interaction", Members(&NESTED)),
    // Ollama
    ("done", Scalar),
    ("done_reason", Scalar),
    ("prompt_eval_count", Scalar),
    ("eval_count", Scalar),
    ("total_duration", Scalar),
    ("load_duration", Scalar),
    ("prompt_eval_duration", Scalar),
    ("eval_duration", Scalar),
    // Cohere
    ("meta", Members(&COHERE_META)),
    ("is_finished", Scalar),
    ("text", Presence),
    // Bedrock
    ("stopReason", Scalar),
    ("contentBlockIndex", Scalar),
    ("amazon-bedrock-invocationMetrics", Whole),
    ("inputTextTokenCount", Scalar),
    ("results", Members(&Selection(&[("tokenCount", Scalar)]))),
    ("prompt_token_count", Scalar),
    ("generation_token_count", Scalar),
    ("generation", Presence),
    // LM Studio
    ("stats", Whole),
    ("model_instance_id", Scalar),
    // batch output files
    ("custom_id", Scalar),
    ("result", Members(&BATCH_RESULT)),
]);

static CHOICE: Selection = Selection(&[
    ("index", Scalar),
    ("finish_reason", Scalar),
    ("text", Presence),
    ("delta", Members(&CHOICE_DELTA)),
    ("error", Members(&ERROR)),
]);

static CHOICE_DELTA: Selection = Selection(&[
    ("content", Presence),
    ("reasoning_content", Presence),
    ("reasoning", Presence),
    ("tool_calls", Presence),
    ("function_call", Presence),
    ("refusal", Presence),
    ("audio", Presence),
]);

/// An error's machine-readable words. Of its message only that there is one: providers quote prompts
/// and keys.
static ERROR: Selection =
    Selection(&[("type", Scalar), ("code", Scalar), ("status", Scalar), ("message", Presence)]);

static REASON: Selection = Selection(&[("reason", Scalar)]);

static X_GROQ: Selection = Selection(&[("usage", Whole), ("id", Scalar)]);

/// `response` of a Responses event, of Cohere's `stream-end`, of a batch line; `interaction` of a
/// Gemini interactions event. Ollama's `response` is a text.
static NESTED: Selection = Selection(&[
    ("id", Scalar),
    ("model", Scalar),
    ("status", Scalar),
    ("usage", Whole),
    ("service_tier", Scalar),
    ("incomplete_details", Members(&REASON)),
    ("error", Members(&ERROR)),
    ("meta", Members(&COHERE_META)),
    ("finish_reason", Scalar),
    ("body", Members(&BATCH_BODY)),
]);

/// `message` of Anthropic's `message_start`, of a batch result, of Ollama.
static MESSAGE: Selection = Selection(&[
    ("id", Scalar),
    ("type", Scalar),
    ("model", Scalar),
    ("stop_reason", Scalar),
    ("usage", Whole),
    ("content", Presence),
    ("thinking", Presence),
    ("tool_calls", Presence),
]);

/// `delta` of Anthropic's and Cohere's events. That of a Responses event is a text.
static DELTA: Selection = Selection(&[
    ("type", Scalar),
    ("stop_reason", Scalar),
    ("finish_reason", Scalar),
    ("usage", Whole),
    ("error", Presence),
    ("error_type", Scalar),
]);

static CANDIDATE: Selection = Selection(&[
    ("index", Scalar),
    ("finishReason", Scalar),
    ("content", Members(&Selection(&[("parts", Presence)]))),
]);

static COHERE_META: Selection =
    Selection(&[("tokens", Whole), ("billed_units", Whole), ("cached_tokens", Scalar)]);

static BATCH_RESULT: Selection = Selection(&[
    ("type", Scalar),
    ("message", Members(&MESSAGE)),
    ("model_instance_id", Scalar),
    ("stats", Whole),
]);

static BATCH_BODY: Selection = Selection(&[
    ("id", Scalar),
    ("object", Scalar),
    ("model", Scalar),
    ("usage", Whole),
    ("choices", Members(&Selection(&[("index", Scalar)]))),
]);
