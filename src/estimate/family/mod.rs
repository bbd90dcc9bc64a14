//! What a prompt and an answer cost, one file a family of models. Owns the rules and ratios; each
//! states where it was learnt and how far it is off.

mod open;
mod openai;

use super::model::{Family, family};
use super::prompt::Prompt;
use super::{Estimate, Subject};
use crate::provider::Generated;

pub(super) fn input(subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    match family(subject.model) {
        Family::OpenAi(encoding) => openai::input(subject, encoding, prompt),
        Family::Claude | Family::Gemini | Family::Open => open::input(subject, prompt),
    }
}

pub(super) fn output(subject: &Subject<'_>, generated: &Generated) -> Estimate {
    match family(subject.model) {
        Family::OpenAi(encoding) => openai::output(subject, encoding, None, generated),
        Family::Claude | Family::Gemini | Family::Open => open::output(subject, generated),
    }
}

/// Like [`output`], of an answer whose request is at hand.
pub(super) fn answer(
    subject: &Subject<'_>,
    prompt: &Prompt<'_>,
    generated: &Generated,
) -> Estimate {
    match family(subject.model) {
        Family::OpenAi(encoding) => openai::output(subject, encoding, Some(prompt), generated),
        _ => output(subject, generated),
    }
}
