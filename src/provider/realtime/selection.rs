//! The members of a session's messages that are read at all. Owns what is read of each side; refuses
//! all else, which passes without a byte of it being kept. What is generated, and what a response is
//! asked with, is shown as it passes, to be counted should the provider not count it.

use super::asked::member;
use crate::framing::Keep::{Json, Members, Presence, Scalar, Text, Whole};
use crate::framing::Selection;
use crate::provider::selection::{FUNCTION_CALL, ITEM};
use crate::provider::texts::slot;

/// Of a client's messages.
pub static FROM_CLIENT: Selection = Selection(&[
    ("type", Scalar),
    ("event_id", Scalar),
    ("stream_id", Scalar),
    ("model", Scalar),
    ("user", Scalar),
    ("safety_identifier", Scalar),
    ("response", Members(&ASKED)),
    ("session", Members(&SESSION)),
    ("setup", Members(&Selection(&[("model", Scalar)]))),
    ("clientContent", Members(&CLIENT_CONTENT)),
    ("client_content", Members(&CLIENT_CONTENT)),
    ("toolResponse", Presence),
    ("tool_response", Presence),
    // Responses
    ("previous_response_id", Presence),
    ("conversation", Presence),
    ("input", Json(member::INPUT)),
    ("instructions", Json(member::INSTRUCTIONS)),
    ("tools", Json(member::TOOLS)),
    ("tool_choice", Json(member::TOOL_CHOICE)),
    ("text", Json(member::TEXT)),
    ("reasoning", Json(member::REASONING)),
    ("prompt", Json(member::PROMPT)),
]);

static ASKED: Selection =
    Selection(&[("model", Scalar), ("user", Scalar), ("safety_identifier", Scalar)]);

static CLIENT_CONTENT: Selection =
    Selection(&[("turnComplete", Scalar), ("turn_complete", Scalar)]);

/// Of a provider's messages.
pub static FROM_PROVIDER: Selection = Selection(&[
    ("type", Scalar),
    ("response_id", Scalar),
    ("stream_id", Scalar),
    ("item_id", Scalar),
    ("response", Members(&RESPONSE)),
    ("delta", Text(slot::DELTA)),
    ("item", Members(&ITEM)),
    ("session", Members(&SESSION)),
    ("usage", Whole),
    ("error", Members(&ERROR)),
    ("code", Scalar),
    // Gemini
    ("serverContent", Members(&SERVER_CONTENT)),
    ("toolCall", Members(&Selection(&[("functionCalls", Members(&FUNCTION_CALL))]))),
    ("usageMetadata", Whole),
    ("modelVersion", Scalar),
]);

static RESPONSE: Selection = Selection(&[
    ("id", Scalar),
    ("model", Scalar),
    ("status", Scalar),
    ("status_details", Members(&STATUS_DETAILS)),
    ("incomplete_details", Members(&Selection(&[("reason", Scalar)]))),
    ("service_tier", Scalar),
    ("usage", Whole),
    ("error", Members(&ERROR)),
]);

static STATUS_DETAILS: Selection =
    Selection(&[("type", Scalar), ("reason", Scalar), ("error", Members(&ERROR))]);

/// As elsewhere, never the message: providers quote prompts and keys.
static ERROR: Selection = Selection(&[("type", Scalar), ("code", Scalar), ("event_id", Scalar)]);

static SESSION: Selection = Selection(&[
    ("model", Scalar),
    ("input_audio_transcription", Members(&MODEL)),
    ("audio", Members(&AUDIO)),
]);

static AUDIO: Selection =
    Selection(&[("input", Members(&Selection(&[("transcription", Members(&MODEL))])))]);

static MODEL: Selection = Selection(&[("model", Scalar)]);

static SERVER_CONTENT: Selection = Selection(&[
    ("modelTurn", Members(&Selection(&[("parts", Members(&PART))]))),
    ("outputTranscription", Members(&Selection(&[("text", Text(slot::CONTENT))]))),
    ("turnComplete", Scalar),
    ("interrupted", Scalar),
]);

static PART: Selection = Selection(&[
    ("text", Text(slot::LIVE_PART)),
    ("thought", Scalar),
    ("executableCode", Members(&Selection(&[("code", Text(slot::CONTENT))]))),
    ("inlineData", Presence),
]);
