//! What a prompt and an answer cost, one file a family of models. Owns the rules and ratios; each
//! states where it was learnt and how far it is off.

mod claude;
mod gemini;
mod open;
mod openai;
mod printed;
mod template;

use super::model::{Family, family_at};
use super::prompt::Prompt;
use super::{Estimate, Subject};
use crate::provider::Generated;

pub(super) fn input(subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    match family_at(subject.provider, subject.model) {
        Family::OpenAi(encoding) => openai::input(subject, encoding, prompt),
        Family::Claude => claude::input(subject, prompt),
        Family::Gemini => gemini::input(subject, prompt),
        Family::Open => open::input(subject, prompt),
    }
}

pub(super) fn output(
    subject: &Subject<'_>,
    prompt: Option<&Prompt<'_>>,
    generated: &Generated,
) -> Estimate {
    let mut estimate = match family_at(subject.provider, subject.model) {
        Family::OpenAi(encoding) => {
            return openai::output(subject, encoding, prompt, generated);
        }
        Family::Claude => claude::output(subject, prompt, generated),
        Family::Gemini => gemini::output(subject, prompt, generated),
        Family::Open => open::output(subject, prompt, generated),
    };
    // An answer that came to its limit has exactly that many; one that is far longer tells that the
    // limit was not for all of it.
    if let Some(most) = prompt.and_then(|prompt| prompt.most).filter(|most| *most > 0) {
        let choices = generated.segments().iter().map(|segment| u64::from(segment.choice) + 1);
        let most = most.saturating_mul(choices.max().unwrap_or(1));
        if estimate.tokens <= most.saturating_mul(2).saturating_add(16) {
            estimate.tokens = estimate.tokens.min(most);
        }
    }
    estimate
}

/// True if the open model's template is known.
pub(super) fn is_listed(model: &str) -> bool {
    template::is_listed(model)
}

/// An error as a share, of which a token and a half is the least: so many lie in rounding and in what
/// ends an answer.
fn at_least(error: f64, tokens: f64) -> f64 {
    error.max(1.5 / tokens.max(1.5))
}

/// A sum of fractions as a number of tokens; a sum below nothing is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the sum is not below 0"
)]
fn round(tokens: f64) -> u64 {
    tokens.max(0.0).round() as u64
}
