//! Models of other makers: a ratio to the o200k count.

use crate::estimate::prompt::{Part, Prompt};
use crate::estimate::{Encoding, Estimate, Method, Subject};
use crate::provider::Generated;

/// Tokens that prime the reply.
const PRIMER: u64 = 3;

/// Tokens around each message.
const PER_MESSAGE: u64 = 3;

pub(super) fn input(_subject: &Subject<'_>, prompt: &Prompt<'_>) -> Estimate {
    let mut tokens = PRIMER;
    for message in &prompt.messages {
        tokens += PER_MESSAGE + Encoding::O200k.count(message.role);
        tokens += message.name.map_or(0, |name| 1 + Encoding::O200k.count(name));
        for part in &message.parts {
            if let Part::Text(text) = part {
                tokens += Encoding::O200k.count(text);
            }
        }
    }
    let unseen = prompt.unseen.clone();
    Estimate { tokens, image: 0, audio: 0, error: 0.1, method: Method::Ratio, unseen }
}

pub(super) fn output(_: &Subject<'_>, generated: &Generated) -> Estimate {
    let tokens =
        generated.segments().iter().map(|segment| Encoding::O200k.count(&segment.text())).sum();
    let unseen = Vec::new();
    Estimate { tokens, image: 0, audio: 0, error: 0.1, method: Method::Ratio, unseen }
}
