//! OpenAI's own models, whose vocabularies are public.

use crate::estimate::prompt::{Part, Prompt};
use crate::estimate::{Encoding, Estimate, Method, Subject};
use crate::provider::Generated;

/// Tokens that prime the reply.
const PRIMER: u64 = 3;

/// Tokens around each message.
const PER_MESSAGE: u64 = 3;

pub(super) fn input(_subject: &Subject<'_>, encoding: Encoding, prompt: &Prompt<'_>) -> Estimate {
    let mut tokens = PRIMER;
    for message in &prompt.messages {
        tokens += PER_MESSAGE + encoding.count(message.role);
        tokens += message.name.map_or(0, |name| 1 + encoding.count(name));
        for part in &message.parts {
            if let Part::Text(text) = part {
                tokens += encoding.count(text);
            }
        }
    }
    let unseen = prompt.unseen.clone();
    Estimate { tokens, image: 0, audio: 0, error: 0.01, method: Method::Bpe, unseen }
}

pub(super) fn output(_: &Subject<'_>, encoding: Encoding, generated: &Generated) -> Estimate {
    let tokens = generated.segments().iter().map(|segment| encoding.count(&segment.text())).sum();
    let unseen = Vec::new();
    Estimate { tokens, image: 0, audio: 0, error: 0.01, method: Method::Bpe, unseen }
}
