//! The members of requests and responses that are read at all. Everything else passes the scanner
//! without a byte of it being kept. Texts that a model generated are shown as they pass, to be counted
//! should the provider not count them.

use super::texts::slot;
use crate::framing::Keep::{Json, Members, Presence, Scalar, Text, TextOrMembers, Whole};
use crate::framing::Selection;

/// Of a request's JSON body.
pub static REQUEST: Selection = Selection(&[
    ("model", Scalar),
    ("stream", Scalar),
    ("background", Scalar),
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
    ("delta", TextOrMembers(slot::DELTA, &DELTA)),
    ("service_tier", Scalar),
    ("response", TextOrMembers(slot::CONTENT, &NESTED)),
    ("message", Members(&MESSAGE)),
    ("content", TextOrMembers(slot::TOP_TEXT, &BLOCK)),
    ("content_block", Members(&BLOCK_START)),
    ("output", Members(&OUTPUT)),
    // mistral.rs: what its Responses thought, beside the output.
    ("reasoning", Text(slot::REASONING)),
    ("item", Members(&ITEM)),
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
    ("steps", Members(&OUTPUT)),
    ("step", Members(&STEP)),
    // Ollama
    ("done", Scalar),
    ("done_reason", Scalar),
    ("thinking", Text(slot::REASONING)),
    ("prompt_eval_count", Scalar),
    ("eval_count", Scalar),
    ("total_duration", Scalar),
    ("load_duration", Scalar),
    ("prompt_eval_duration", Scalar),
    ("eval_duration", Scalar),
    // Cohere
    ("meta", Members(&COHERE_META)),
    ("is_finished", Scalar),
    ("text", Text(slot::TOP_TEXT)),
    ("tool_calls", Members(&TOOL_CALL)),
    ("generations", Members(&PLAIN)),
    // Bedrock
    ("stopReason", Scalar),
    ("contentBlockIndex", Scalar),
    ("amazon-bedrock-invocationMetrics", Whole),
    ("inputTextTokenCount", Scalar),
    (
        "results",
        Members(&Selection(&[("tokenCount", Scalar), ("outputText", Text(slot::CONTENT))])),
    ),
    ("outputText", Text(slot::CONTENT)),
    ("start", Members(&Selection(&[("toolUse", Members(&TOOL_USE))]))),
    ("contentBlockStart", Members(&NOVA_EVENT)),
    ("contentBlockDelta", Members(&NOVA_EVENT)),
    ("prompt_token_count", Scalar),
    ("generation_token_count", Scalar),
    ("generation", Text(slot::CONTENT)),
    ("completion", Text(slot::CONTENT)),
    ("outputs", Members(&PLAIN)),
    ("completions", Members(&Selection(&[("data", Members(&PLAIN))]))),
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
    ("text", Text(slot::CONTENT_TOO)),
    ("delta", Members(&CHOICE_DELTA)),
    ("message", Members(&CHOICE_MESSAGE)),
    ("error", Members(&ERROR)),
]);

static CHOICE_DELTA: Selection = Selection(&[
    ("content", TextOrMembers(slot::CONTENT, &BLOCK)),
    ("reasoning_content", Text(slot::REASONING)),
    ("reasoning", Text(slot::REASONING_TOO)),
    ("reasoning_details", Members(&Selection(&[("text", Text(slot::REASONING_BLOCK))]))),
    ("tool_calls", Members(&TOOL_CALL)),
    ("function_call", Members(&TOOL_CALL)),
    ("refusal", Text(slot::REFUSAL)),
    ("audio", Members(&AUDIO)),
]);

/// The same of a whole answer. Perplexity sends it beside `delta`, as the text so far.
static CHOICE_MESSAGE: Selection = Selection(&[
    ("content", TextOrMembers(slot::WHOLE | slot::CONTENT, &BLOCK)),
    ("reasoning_content", Text(slot::WHOLE | slot::REASONING)),
    ("reasoning", Text(slot::WHOLE | slot::REASONING_TOO)),
    (
        "reasoning_details",
        Members(&Selection(&[("text", Text(slot::WHOLE | slot::REASONING_BLOCK))])),
    ),
    ("tool_calls", Members(&TOOL_CALL)),
    ("function_call", Members(&TOOL_CALL)),
    ("refusal", Text(slot::WHOLE | slot::REFUSAL)),
    ("audio", Members(&AUDIO)),
]);

/// Spoken answers: what was said. The audio itself counts tokens that its text does not tell.
static AUDIO: Selection =
    Selection(&[("id", Presence), ("data", Presence), ("transcript", Text(slot::CONTENT))]);

/// A call of a tool, by every name that providers have for its arguments.
static TOOL_CALL: Selection = Selection(&[
    ("name", Text(slot::TOOL_NAME)),
    ("arguments", Json(slot::TOOL_ARGUMENTS)),
    ("parameters", Json(slot::TOOL_ARGUMENTS)),
    ("function", Members(&FUNCTION)),
    ("custom", Members(&FUNCTION)),
]);

static FUNCTION: Selection = Selection(&[
    ("name", Text(slot::TOOL_NAME)),
    ("arguments", Json(slot::TOOL_ARGUMENTS)),
    ("input", Json(slot::TOOL_ARGUMENTS)),
]);

/// A block of content: Anthropic's, Cohere's, Mistral's, Bedrock's.
static BLOCK: Selection = Selection(&[
    ("text", Text(slot::CONTENT)),
    ("thinking", TextOrMembers(slot::REASONING, &THOUGHT)),
    ("name", Text(slot::TOOL_NAME)),
    ("input", Json(slot::TOOL_ARGUMENTS)),
    ("toolUse", Members(&TOOL_USE)),
    ("reasoningContent", Members(&Selection(&[("reasoningText", Members(&THOUGHT))]))),
    ("citationsContent", Members(&Selection(&[("content", Members(&PLAIN))]))),
]);

static THOUGHT: Selection = Selection(&[("text", Text(slot::REASONING))]);

/// A block at its beginning in a stream: its input is empty and comes in deltas.
static BLOCK_START: Selection =
    Selection(&[("text", Text(slot::CONTENT)), ("name", Text(slot::TOOL_NAME))]);

static TOOL_USE: Selection =
    Selection(&[("name", Text(slot::TOOL_NAME)), ("input", Json(slot::TOOL_ARGUMENTS))]);

static NOVA_EVENT: Selection = Selection(&[
    ("start", Members(&Selection(&[("toolUse", Members(&TOOL_USE))]))),
    ("delta", Members(&DELTA)),
]);

/// Texts that have no more to them (Mistral's, Cohere's and AI21's models on Bedrock).
static PLAIN: Selection = Selection(&[("text", Text(slot::CONTENT))]);

/// `output` of a Responses object, `steps` of a Gemini interaction: a list of items. That of Bedrock's
/// Converse is an object with a message.
static OUTPUT: Selection = Selection(&[
    ("type", Scalar),
    ("name", Text(slot::TOOL_NAME)),
    ("arguments", Json(slot::TOOL_ARGUMENTS)),
    ("input", Json(slot::TOOL_ARGUMENTS)),
    ("content", Members(&ITEM_PART)),
    ("summary", Members(&Selection(&[("text", Text(slot::SUMMARY))]))),
    ("message", Members(&Selection(&[("content", Members(&BLOCK))]))),
]);

static ITEM_PART: Selection =
    Selection(&[("text", Text(slot::ITEM_TEXT)), ("refusal", Text(slot::REFUSAL))]);

/// An output item as a Responses event shows it: at its beginning, and whole at its end.
pub(super) static ITEM: Selection = Selection(&[("type", Scalar), ("name", Text(slot::ITEM_NAME))]);

static STEP: Selection = Selection(&[("type", Scalar), ("name", Text(slot::TOOL_NAME))]);

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

/// `message` of Anthropic's `message_start`, of a batch result, of Ollama, of Cohere.
static MESSAGE: Selection = Selection(&[
    ("id", Scalar),
    ("type", Scalar),
    ("model", Scalar),
    ("stop_reason", Scalar),
    ("usage", Whole),
    ("content", TextOrMembers(slot::CONTENT, &BLOCK)),
    ("thinking", Text(slot::REASONING)),
    ("tool_plan", Text(slot::CONTENT)),
    ("tool_calls", Members(&TOOL_CALL)),
]);

/// `delta` of Anthropic's, Cohere's, Bedrock's, Assistants' and Gemini interactions' events. That of
/// a Responses event is a text.
static DELTA: Selection = Selection(&[
    ("type", Scalar),
    ("stop_reason", Scalar),
    ("finish_reason", Scalar),
    ("usage", Whole),
    ("error", Presence),
    ("error_type", Scalar),
    ("text", Text(slot::CONTENT)),
    ("thinking", Text(slot::REASONING)),
    ("partial_json", Text(slot::TOOL_ARGUMENTS)),
    ("toolUse", Members(&TOOL_USE)),
    ("reasoningContent", Members(&THOUGHT)),
    ("message", Members(&COHERE_DELTA)),
    ("content", Members(&DELTA_PART)),
    ("name", Text(slot::TOOL_NAME)),
    ("arguments", Json(slot::TOOL_ARGUMENTS)),
]);

static COHERE_DELTA: Selection = Selection(&[
    ("content", Members(&BLOCK)),
    ("tool_plan", Text(slot::CONTENT)),
    ("tool_calls", Members(&TOOL_CALL)),
]);

/// Of Gemini interactions a summary of thoughts, of Assistants a text with a value.
static DELTA_PART: Selection = Selection(&[(
    "text",
    TextOrMembers(slot::SUMMARY, &Selection(&[("value", Text(slot::CONTENT))])),
)]);

static CANDIDATE: Selection = Selection(&[
    ("index", Scalar),
    ("finishReason", Scalar),
    ("content", Members(&Selection(&[("parts", Members(&PART))]))),
]);

static PART: Selection = Selection(&[
    ("text", Text(slot::PART)),
    ("thought", Scalar),
    ("functionCall", Members(&FUNCTION_CALL)),
    ("executableCode", Members(&Selection(&[("code", Text(slot::CONTENT))]))),
    ("inlineData", Presence),
]);

pub(super) static FUNCTION_CALL: Selection =
    Selection(&[("name", Text(slot::TOOL_NAME)), ("args", Json(slot::TOOL_ARGUMENTS))]);

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
