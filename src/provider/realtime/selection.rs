//! The members of a session's messages that are read at all. Owns what is read of each side; refuses
//! all else, which passes without a byte of it being kept.

use crate::framing::Keep::{Members, Presence, Scalar, Whole};
use crate::framing::Selection;

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
    ("session", Members(&SESSION)),
    ("usage", Whole),
    ("error", Members(&ERROR)),
    ("code", Scalar),
    // Gemini
    ("serverContent", Members(&SERVER_CONTENT)),
    ("toolCall", Presence),
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
    ("modelTurn", Presence),
    ("outputTranscription", Presence),
    ("turnComplete", Scalar),
    ("interrupted", Scalar),
]);
