//! Token counts of what nobody counted. Owns how a request's and an answer's tokens are estimated
//! where the provider reports none; knows neither prices nor rows, and reads no network.
//!
//! A request is read by its dialect into a `Prompt`, and counted by the rules of its
//! model's family. Text is counted by BPE, exactly for OpenAI's models; for others by a ratio to that
//! count. An estimate says how far off it may be and what it could not see.
//!
//! Invariant: time and memory are linear in the size of what is counted, whatever it holds.

mod audio;
pub mod body;
mod calibration;
mod dialect;
mod family;
mod image;
mod limit;
mod measure;
mod model;
mod prompt;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::provider::Generated;

pub use calibration::{Calibration, Corrections, Side};
pub use text::Encoding;

/// The error to be expected of the text of an answer that has audio or images too. Of what is spoken,
/// the text has up to as many tokens again around it as its transcript (recorded).
const ERROR_BESIDE_MEDIA: f64 = 0.5;

/// Tokens that an estimate of one side may come to, as reported counts may.
const MAX_TOKENS: u64 = 1_000_000_000_000;

/// The error to be expected where part of an answer was not kept, and was counted by its length.
const ERROR_OF_THE_REST: f64 = 0.3;

/// The least error to be expected of an answer of which some texts were not looked at.
const ERROR_OF_LEFT_OUT: f64 = 0.1;

/// Whose call it is that is estimated.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The provider, as the ledger names it: `openai`, `azure`, `groq`.
    pub provider: &'a str,
    /// The endpoint, as the ledger names it: `chat.completions`, `messages`.
    pub endpoint: &'a str,
    /// The model that answered or, where that is not known, the one that was asked for.
    pub model: &'a str,
}

/// What an estimate could not see, and is therefore not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// The model reasons, and bills for reasoning that it does not show.
    Reasoning,
    /// History that the provider holds: `previous_response_id`, `conversation`, threads.
    History,
    /// What the provider's own tools read and wrote.
    ServerTools,
    /// Files or media named by an id or a URL, or of a kind that is not known. A picture by URL may be
    /// counted as one of common size.
    Media,
    /// The body was longer than what is kept of one, and the rest was counted by its length; or an answer
    /// had more texts than are looked at.
    Length,
    /// Part of the request could not be read.
    Request,
    /// What was generated after the call was cut off.
    Rest,
    /// What was generated: the client left before it, or it cannot be read.
    Answer,
}

/// How the tokens were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the model's own vocabulary.
    Bpe,
    /// By a ratio to another vocabulary's count.
    Ratio,
    /// By the number of bytes.
    Bytes,
}

/// An estimate of one side of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    pub tokens: u64,
    /// The part of `tokens` that stands for images.
    pub image: u64,
    /// The part of `tokens` that stands for audio.
    pub audio: u64,
    /// The error to be expected, as a share of `tokens`: 0.05 is 5 %.
    pub error: f64,
    pub method: Method,
    /// In order, each once.
    pub unseen: Vec<Unseen>,
}

impl Estimate {
    /// No real call has more than [`MAX_TOKENS`]; hostile ones can be made to look so.
    fn bounded(mut self) -> Estimate {
        for tokens in [&mut self.tokens, &mut self.image, &mut self.audio] {
            *tokens = (*tokens).min(MAX_TOKENS);
        }
        self.error = if self.error.is_finite() { self.error.clamp(0.0, 1.0) } else { 1.0 };
        self
    }
}

/// True if calls of this endpoint can be estimated.
pub fn covers(endpoint: &str) -> bool {
    dialect::covers(endpoint)
}

/// True if answers of this endpoint hold generated text.
pub fn generates(endpoint: &str) -> bool {
    dialect::generates(endpoint)
}

/// Reads the vocabularies, which the first estimate would have to wait for.
pub fn warm_up() {
    for encoding in [Encoding::O200k, Encoding::Cl100k] {
        encoding.count("");
    }
}

/// True if the model's name tells how it counts.
pub fn knows(model: &str) -> bool {
    model::family(model) != model::Family::Open || family::is_listed(model)
}

/// Estimates the prompt tokens of a request's JSON body. `None` where the endpoint takes no prompt
/// that could be counted.
pub fn input(subject: &Subject<'_>, request: &Value) -> Option<Estimate> {
    let prompt = dialect::read(subject, request)?;
    Some(family::input(subject, &prompt).bounded())
}

/// Estimates the completion tokens of what was seen of an answer. `None` where the endpoint generates
/// no text.
pub fn output(subject: &Subject<'_>, generated: &Generated) -> Option<Estimate> {
    answer(subject, None, generated, None)
}

/// The same, where request and finish reason may be known: what the request offers, demands and
/// forbids says which tokens the answer has besides its text, a few that matter where answers are
/// short; and an answer that came to its limit has as many as that.
pub fn answer(
    subject: &Subject<'_>,
    request: Option<&Value>,
    generated: &Generated,
    finish_reason: Option<&str>,
) -> Option<Estimate> {
    if !dialect::generates(subject.endpoint) {
        return None;
    }
    let prompt = request.and_then(|request| dialect::read(subject, request));
    let mut estimate = family::output(subject, prompt.as_ref(), generated);
    if let Some(prompt) = &prompt {
        limit::apply(&mut estimate, subject, prompt, generated, finish_reason);
    }
    if generated.segments().iter().any(|segment| segment.beyond > 0) {
        estimate.error = estimate.error.max(ERROR_OF_THE_REST);
    }
    if generated.has_media() {
        estimate.error = estimate.error.max(ERROR_BESIDE_MEDIA);
        estimate.unseen.push(Unseen::Media);
    }
    if generated.has_left_out() {
        estimate.error = estimate.error.max(ERROR_OF_LEFT_OUT);
        estimate.unseen.push(Unseen::Length);
    }
    estimate.unseen.sort_unstable();
    estimate.unseen.dedup();
    Some(estimate.bounded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framer, Scanner};
    use crate::provider::{RESPONSE, Reader};

    #[test]
    fn a_batch_of_200_prompts_was_estimated_as_128_without_a_word() {
        let subject = Subject { provider: "openai", endpoint: "completions", model: "davinci-002" };
        for (choices, is_partial) in [(128, false), (200, true)] {
            let choices = vec![r#"{"text":"a"}"#; choices].join(",");
            let body = format!(r#"{{"choices":[{choices}]}}"#);
            let mut reader = Reader::new();
            Framer::Json(Scanner::new(&RESPONSE)).push(body.as_bytes(), &mut reader);
            let estimate = output(&subject, reader.generated()).unwrap();
            assert_eq!(estimate.unseen.contains(&Unseen::Length), is_partial);
            assert_eq!(estimate.error >= ERROR_OF_LEFT_OUT, is_partial);
        }
    }
}
