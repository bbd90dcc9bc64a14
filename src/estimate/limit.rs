//! Answers that ended because they came to their limit. Owns where a request states the limit and
//! when it tells how many tokens the answer has, which is exact, hidden reasoning included.
//!
//! Recorded: of 193 answers of 20 providers that ended so, with one choice and a limit, 165 have exactly
//! as many tokens. Gemini's stop one or a few before it, up to 38; OpenAI's reasoning in the Responses API
//! at a multiple of 64; xAI's chats do not count reasoning against it.

use serde_json::Value;

use super::prompt::{Api, Prompt};
use super::{Estimate, Subject, Unseen};
use crate::provider::Generated;

/// What finish reasons say of such an answer, in lower case.
const WORDS: [&str; 4] = ["length", "max_tokens", "max_output_tokens", "max_length"];

/// Where a limit stands, by the objects that it may stand in.
const PLACES: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "max_completion_tokens",
            "max_tokens",
            "max_output_tokens",
            "max_tokens_to_sample",
            "max_gen_len",
        ],
    ),
    ("generationConfig", &["maxOutputTokens"]),
    ("generation_config", &["maxOutputTokens", "max_output_tokens"]),
    ("inferenceConfig", &["maxTokens", "max_new_tokens"]),
    ("textGenerationConfig", &["maxTokenCount"]),
    ("options", &["num_predict"]),
];

/// The limit of legacy completions that state none.
const OF_COMPLETIONS: u64 = 16;

/// Tokens, and a quarter of those that were counted, by which the count may fall short of the limit.
const MARGIN: u64 = 64;

/// The highest limit that a model has that reasons without showing it.
const MAX_HIDDEN: u64 = 131_072;

/// The error that is left, as a share.
const ERROR: f64 = 0.01;

/// The most tokens that the answer may have, where the request says.
pub(super) fn of_request(request: &Value) -> Option<u64> {
    PLACES.iter().find_map(|(place, names)| {
        let object = if place.is_empty() { Some(request) } else { request.get(place) };
        names.iter().find_map(|name| object?.get(name)?.as_u64())
    })
}

/// Puts the limit in place of an estimate, if the answer ended there.
pub(super) fn apply(
    estimate: &mut Estimate,
    subject: &Subject<'_>,
    prompt: &Prompt<'_>,
    generated: &Generated,
    finish_reason: Option<&str>,
) {
    let ended = finish_reason
        .is_some_and(|word| WORDS.iter().any(|limited| word.eq_ignore_ascii_case(limited)));
    let one_choice = generated.segments().iter().all(|segment| segment.choice == 0);
    let outside = subject.provider == "xai" && subject.endpoint == "chat.completions";
    if !ended || !one_choice || outside {
        return;
    }
    let implied = (prompt.api == Api::Completion).then_some(OF_COMPLETIONS);
    let Some(most) = prompt.most.or(implied) else { return };
    // Routers raise a limit that a provider takes for too low; a full context ends an answer with the
    // same word, long before the limit.
    let hides = estimate.unseen.contains(&Unseen::Reasoning);
    let plausible = if hides { MAX_HIDDEN } else { estimate.tokens + estimate.tokens / 4 + MARGIN };
    if (estimate.tokens..=plausible).contains(&most) {
        estimate.tokens = most;
        estimate.error = ERROR;
        estimate.unseen.retain(|unseen| !matches!(unseen, Unseen::Reasoning | Unseen::Length));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimate::answer;
    use crate::provider::Kind;

    #[test]
    fn an_answer_that_came_to_its_limit_has_that_many_tokens() {
        let subject = Subject { provider: "openai", endpoint: "chat.completions", model: "gpt-5" };
        let request = json!({"messages": [], "max_completion_tokens": 500});
        let mut generated = Generated::default();
        generated.push(0, Kind::Content, b"Well", false);
        let tokens = |finish_reason| {
            let estimate = answer(&subject, Some(&request), &generated, finish_reason).unwrap();
            (estimate.tokens == 500, estimate.unseen == [Unseen::Reasoning])
        };
        assert_eq!(tokens(Some("length")), (true, false));
        assert_eq!(tokens(Some("stop")), (false, true));
        assert_eq!(tokens(None), (false, true));
        // No limit at all, and a context that was full.
        let local = Subject { provider: "llamacpp", endpoint: "chat.completions", model: "qwen3" };
        let request = json!({"messages": [], "max_tokens": u64::MAX});
        let full = answer(&local, Some(&request), &generated, Some("length")).unwrap();
        assert!(full.tokens < 20, "{}", full.tokens);
        let request = json!({"messages": [], "max_completion_tokens": 500});
        generated.push(1, Kind::Content, b"Well", false);
        let several = answer(&subject, Some(&request), &generated, Some("length")).unwrap();
        assert!(several.tokens < 500);
    }

    #[test]
    fn limits_stand_in_many_places() {
        for request in [
            json!({"max_tokens": 7}),
            json!({"generationConfig": {"maxOutputTokens": 7}}),
            json!({"inferenceConfig": {"maxTokens": 7}}),
            json!({"options": {"num_predict": 7}}),
        ] {
            assert_eq!(of_request(&request), Some(7), "{request}");
        }
        assert_eq!(of_request(&json!({"max_tokens": null, "options": {"num_predict": -1}})), None);
    }
}
