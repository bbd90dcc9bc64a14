//! How the provider is to answer a call. Whoever calls on the stage says so in a header, which the proxy
//! passes on like any other; for calls without one, a cue is made up.
//!
//! Invariant: a cue that anybody could send keeps the provider busy for no longer than a call may take.

use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::Ask;
use crate::demo::account;
use crate::demo::ending::{finish_reason, request_id};
use crate::demo::models::Dialect;
use crate::demo::random::{Dice, real, whole};
use crate::pricing::PriceBook;
use crate::units::Timestamp;
use crate::usage::Usage;

/// The header that carries a cue, as JSON.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-demo-cue");

/// More is not said in one answer.
const LONGEST_TOKENS: u64 = 100_000;

/// No answer takes longer.
const LONGEST_MS: u64 = 600_000;

/// Of an answer that nobody has scripted: median tokens, milliseconds to the first, tokens a second.
const MADE_UP_TOKENS: f64 = 160.0;
const MADE_UP_FIRST_MS: f64 = 420.0;
const MADE_UP_SPEED: f64 = 90.0;

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    #[default]
    Whole,
    /// It breaks off.
    Torn,
    /// There is none: the connection closes.
    Silent,
}

/// An answer to be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Cue {
    pub(super) status: u16,
    /// The provider's word for what is wrong.
    pub(super) error: Option<String>,
    pub(super) ending: Ending,
    /// When the first piece goes, and the last, after the request has come.
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    /// Tokens of the answer's text.
    pub(super) said: u64,
    /// Where in the passage it begins.
    pub(super) from: u64,
    /// The usage object in the provider's words.
    pub(super) usage: Option<Value>,
    pub(super) finish: Option<String>,
    /// Under which the provider knows the request.
    pub(super) id: Option<String>,
    /// The model that answers; absent: the one that was asked.
    pub(super) model: Option<String>,
    pub(super) tier: Option<String>,
}

impl Cue {
    /// Reads a header's value; nothing where it is none that can be followed.
    pub(super) fn read(header: &[u8]) -> Option<Cue> {
        let cue: Cue = serde_json::from_slice(header).ok()?;
        (matches!(cue.status, 200 | 400..=599)).then(|| Cue {
            said: cue.said.min(LONGEST_TOKENS),
            first_ms: cue.first_ms.min(LONGEST_MS),
            last_ms: cue.last_ms.min(LONGEST_MS).max(cue.first_ms.min(LONGEST_MS)),
            ..cue
        })
    }

    /// A believable answer to a call that nobody has scripted, which has so many tokens.
    pub(super) fn made_up(ask: &Ask, input: u64, prices: &PriceBook, dice: &mut Dice) -> Cue {
        let generates = ask.dialect.generates();
        let most = ask.most_tokens.unwrap_or(LONGEST_TOKENS).clamp(1, LONGEST_TOKENS);
        let wanted = if generates { dice.count(MADE_UP_TOKENS, 0.6) } else { 0 };
        let said = wanted.min(most);
        let usage = Usage {
            input: Some(input),
            cache_read: Some(0),
            output: generates.then_some(said),
            reasoning: Some(0),
            total: Some(input + said),
            ..Usage::default()
        };
        let first_ms = dice.about(MADE_UP_FIRST_MS, 0.3);
        let last_ms = whole(first_ms + real(said) * 1000.0 / MADE_UP_SPEED);
        let usage = account::stated(ask.dialect, &ask.model, &usage, last_ms, prices, dice);
        Cue {
            status: 200,
            first_ms: whole(first_ms),
            last_ms,
            said,
            usage: usage.and_then(|usage| serde_json::from_str(&usage).ok()),
            finish: generates.then(|| finish_reason(ask.dialect, false, wanted > most).to_owned()),
            id: request_id(ask.dialect, Timestamp::now().millis(), dice),
            ..Cue::default()
        }
    }
}

impl Dialect {
    /// Whether answers are text.
    pub(super) fn generates(self) -> bool {
        !matches!(self, Dialect::Embeddings | Dialect::OllamaEmbed | Dialect::Speech)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cue_that_could_not_be_followed_is_none() {
        for text in ["", "nonsense", "[]", "{}", r#"{"status":101}"#, r#"{"status":"200"}"#] {
            assert_eq!(Cue::read(text.as_bytes()), None, "{text}");
        }
        let text = r#"{"status":200,"said":99999999999,"first_ms":9999999,"last_ms":5}"#;
        let cue = Cue::read(text.as_bytes()).unwrap();
        assert_eq!((cue.said, cue.first_ms, cue.last_ms), (100_000, 600_000, 600_000));
    }
}
