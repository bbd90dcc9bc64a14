//! How calls end, and in whose words. Facts only: rates, statuses, errors, finish reasons, ids.

use super::models::Dialect;
use super::random::Dice;
use crate::record::Outcome;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// The provider's own errors: too many calls, a fault, a request that makes no sense.
    Limited,
    Broken,
    Wrong,
    /// The provider could not be reached, or said nothing.
    Unreachable,
    Silent,
    /// The client leaves, the provider breaks off, tokenmeter stops.
    Left,
    Torn,
    Stopped,
}

/// How many of 100,000 calls end how.
pub(super) const FATES: [(u64, Fate); 9] = [
    (97_200, Fate::Answered),
    (900, Fate::Limited),
    (380, Fate::Broken),
    (420, Fate::Wrong),
    (30, Fate::Unreachable),
    (40, Fate::Silent),
    (930, Fate::Left),
    (90, Fate::Torn),
    (10, Fate::Stopped),
];

impl Fate {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Fate::Answered | Fate::Limited | Fate::Broken | Fate::Wrong => Outcome::Completed,
            Fate::Unreachable | Fate::Silent | Fate::Torn => Outcome::UpstreamFailed,
            Fate::Left => Outcome::ClientClosed,
            Fate::Stopped => Outcome::Interrupted,
        }
    }

    /// True if the provider said that it would not.
    pub(super) fn is_refusal(self) -> bool {
        matches!(self, Fate::Limited | Fate::Broken | Fate::Wrong)
    }

    /// Status and error of a call; `has_begun`: a stream of an answer was on its way.
    pub(super) fn words(
        self,
        dialect: Dialect,
        has_begun: bool,
        dice: &mut Dice,
    ) -> (Option<u16>, Option<&'static str>) {
        match self {
            Fate::Answered => (Some(200), None),
            Fate::Limited | Fate::Broken | Fate::Wrong => {
                let (status, error) = refusal(dialect, self);
                (Some(status), Some(error))
            }
            Fate::Unreachable => (Some(502), Some("connect_failed")),
            Fate::Silent => (Some(504), Some("response_timeout")),
            Fate::Left => (has_begun.then_some(200), None),
            Fate::Torn if has_begun => {
                const ERRORS: [&str; 3] = ["upstream_reset", "chunks_truncated", "idle_timeout"];
                (Some(200), Some(ERRORS[dice.index(ERRORS.len())]))
            }
            Fate::Torn => (Some(502), Some("no_response")),
            Fate::Stopped => (None, None),
        }
    }
}

/// What a provider answers when it is asked too often, has a fault, or does not understand.
fn refusal(dialect: Dialect, fate: Fate) -> (u16, &'static str) {
    let [limited, broken, wrong] = match dialect {
        Dialect::Chat | Dialect::Responses | Dialect::Embeddings | Dialect::Speech => {
            [(429, "rate_limit_exceeded"), (500, "server_error"), (400, "context_length_exceeded")]
        }
        Dialect::AzureChat => {
            [(429, "RateLimitReached"), (500, "InternalServerError"), (400, "content_filter")]
        }
        Dialect::Messages => {
            [(429, "rate_limit_error"), (529, "overloaded_error"), (400, "invalid_request_error")]
        }
        Dialect::OpenRouter => [(429, "429"), (502, "502"), (400, "400")],
        Dialect::Gemini => {
            [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE"), (400, "INVALID_ARGUMENT")]
        }
        Dialect::Ollama | Dialect::OllamaEmbed => [(503, "error"), (500, "error"), (404, "error")],
    };
    match fate {
        Fate::Limited => limited,
        Fate::Broken => broken,
        _ => wrong,
    }
}

/// The provider's word for why a model stopped: it was done, wanted a tool, or had no more room.
pub(super) fn finish_reason(dialect: Dialect, wants_tool: bool, is_long: bool) -> &'static str {
    let [done, tool, long] = match dialect {
        Dialect::Responses => ["completed", "completed", "max_output_tokens"],
        Dialect::Messages => ["end_turn", "tool_use", "max_tokens"],
        Dialect::Gemini => ["STOP", "STOP", "MAX_TOKENS"],
        Dialect::Ollama => ["stop", "stop", "length"],
        _ => ["stop", "tool_calls", "length"],
    };
    match (is_long, wants_tool) {
        (true, _) => long,
        (false, true) => tool,
        (false, false) => done,
    }
}

/// The id under which a provider knows a request; Ollama gives none.
pub(super) fn request_id(dialect: Dialect, at_ms: i64, dice: &mut Dice) -> Option<String> {
    let mut id = String::with_capacity(36);
    match dialect {
        Dialect::Chat | Dialect::Responses | Dialect::Embeddings | Dialect::Speech => {
            id.push_str("req_");
            dice.hex(2, &mut id);
        }
        Dialect::AzureChat => return Some(dice.uuid()),
        Dialect::Messages => {
            id.push_str("req_011C");
            dice.alphanumeric(20, &mut id);
        }
        Dialect::OpenRouter => {
            id.push_str("gen-");
            id.push_str(&(at_ms / 1000).to_string());
            id.push('-');
            dice.alphanumeric(20, &mut id);
        }
        Dialect::Gemini => dice.alphanumeric(22, &mut id),
        Dialect::Ollama | Dialect::OllamaEmbed => return None,
    }
    Some(id)
}
