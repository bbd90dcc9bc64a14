//! Which figures of a call have to be estimated, and their estimate. Owns the decision; the counting
//! is that of the room `estimate`.
//!
//! Nothing is estimated of a call that the provider refused, of one whose figures come later (background,
//! batches) and of one whose request was not sent whole.

use super::Observed;
use super::capture::Prompt;
use crate::estimate::{self, Estimate, Method, Side, Subject, Unseen};
use crate::provider::Generated;
use crate::record::{EstimateNote, EstimatedSide, Outcome, Record};
use crate::usage::Usage;

/// Bytes of JSON that make about one token, where nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;

/// What is left of an estimate that was made by bytes alone: it may be off by as much again.
const ERROR_BY_BYTES: f64 = 1.0;

/// The error to be expected where part of a prompt was not kept.
const ERROR_OF_THE_REST: f64 = 0.5;

/// Tokens that a byte makes at most, where the tokens of bytes that were not kept are guessed.
const MAX_TOKENS_PER_BYTE: f64 = 0.4;

/// The answer is not there yet: its figures come with a later call.
const PENDING: [&str; 2] = ["queued", "in_progress"];

/// The status of a session over a WebSocket, and the endpoints of those whose texts are read.
const SESSION: u16 = 101;
const SESSIONS: [&str; 2] = ["realtime", "responses"];

/// Answers without a body (RFC 9110, 15.3.5 and 15.3.6): nothing was generated.
const EMPTY: [u16; 2] = [204, 205];

/// What Ollama calls an answer that loaded or unloaded a model and generated nothing.
const NO_ANSWER: [&str; 2] = ["load", "unload"];

/// The error to be expected at least of an answer that was cut off: what was generated and billed goes
/// a little further than what was sent.
const ERROR_OF_A_CUT: f64 = 0.05;

/// The figures that nobody reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) input: bool,
    pub(super) output: bool,
    /// What was generated is not known: the answer never came, or cannot be read.
    pub(super) answer: bool,
    /// The answer was cut off.
    pub(super) cut: bool,
    /// The prompt is a session's history, which is not known.
    pub(super) history: bool,
}

/// What is missing and can be estimated; `None` if nothing is.
pub(super) fn missing(record: &Record, observed: &Observed<'_>) -> Option<Missing> {
    if record.status == Some(SESSION) && record.method == "GET" {
        return missing_of_turn(record, observed);
    }
    let Observed { reading, generated, .. } = observed;
    let later = reading.batch || observed.background;
    if record.method != "POST" || later || !estimate::covers(&record.endpoint) {
        return None;
    }
    let finish_reason = reading.finish_reason.as_deref();
    let none = |words: &[&str]| finish_reason.is_some_and(|word| words.contains(&word));
    let failed = reading.error.is_some() && generated.is_empty() && reading.usage_json.is_none();
    if failed || none(&PENDING) || none(&NO_ANSWER) {
        return None;
    }
    // A client may have left and the answer been read to its end all the same.
    let came_to_its_end = record.outcome == Outcome::Completed || finish_reason.is_some();
    let is_whole = came_to_its_end && reading.error.is_none();
    let generates = estimate::generates(&record.endpoint);
    let answer = match record.status {
        Some(status) if !(200..300).contains(&status) || EMPTY.contains(&status) => return None,
        // An answer that says nothing may have been empty; one that did not come to its end, or could
        // not be read, was not.
        Some(_) => generates && generated.is_empty() && !(is_whole && finish_reason.is_some()),
        // The client left while the provider was at work, which most bill all the same.
        None if record.outcome == Outcome::ClientClosed
            && record.error.is_none()
            && observed.is_sent =>
        {
            true
        }
        None => return None,
    };
    let usage = &reading.usage;
    let known = reading.usage_json.is_some() && usage.total.is_some();
    let input = !known && usage.input.is_none() && observed.prompt.is_some() && observed.is_sent;
    let output = !known && usage.output.is_none() && !answer && generates;
    let missing = Missing { input, output, answer, cut: !is_whole, history: false };
    (missing.input || missing.output).then_some(missing)
}

/// The same of a response of a session: what was seen is estimated, and nothing where nothing was. An
/// answer that was only spoken shows no text.
fn missing_of_turn(record: &Record, observed: &Observed<'_>) -> Option<Missing> {
    let is_read = SESSIONS.contains(&record.endpoint.as_str());
    let is_known = observed.reading.usage_json.is_some();
    let has_prompt = observed.prompt.is_some();
    (is_read && !is_known && !observed.generated.is_empty()).then_some(Missing {
        input: has_prompt,
        output: true,
        answer: false,
        cut: record.outcome != Outcome::Completed,
        history: !has_prompt,
    })
}

/// The estimates of a call's two sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Estimates {
    pub(super) input: Option<Estimate>,
    pub(super) output: Option<Estimate>,
}

/// By the number of bytes: at once, and only to stand in for a better one.
pub(super) fn by_bytes(
    missing: Missing,
    prompt: Option<&Prompt>,
    generated: &Generated,
) -> Estimates {
    Estimates {
        input: missing.input.then(|| prompt.map(|prompt| of_bytes(prompt.len()))).flatten(),
        output: missing.output.then(|| of_bytes(generated.bytes())),
    }
}

fn of_bytes(bytes: u64) -> Estimate {
    Estimate {
        tokens: bytes.div_ceil(BYTES_PER_TOKEN),
        image: 0,
        audio: 0,
        error: ERROR_BY_BYTES,
        method: Method::Bytes,
        unseen: Vec::new(),
    }
}

/// As well as is possible. Takes time: 1 MB of text 12 to 60 ms.
pub(super) fn estimates(
    subject: &Subject<'_>,
    missing: Missing,
    mut prompt: Option<Prompt>,
    generated: &Generated,
    finish_reason: Option<&str>,
) -> Estimates {
    let read = prompt.as_mut().and_then(|prompt| {
        let beyond = prompt.beyond();
        estimate::body::read(&prompt.bytes(), beyond)
    });
    let request = read.as_ref().map(|body| &body.request);
    let input = || {
        if let Some(body) = &read {
            let estimate = estimate::input(subject, &body.request)?;
            return Some(with_the_rest(estimate, body.read, body.beyond));
        }
        // In a coding that is not read, with text that is none, or not kept at all: its length is all
        // that there is.
        let prompt = prompt.as_ref().filter(|prompt| prompt.len() > 0)?;
        let unseen = if prompt.beyond() > 0 { Unseen::Length } else { Unseen::Request };
        Some(Estimate { unseen: vec![unseen], ..of_bytes(prompt.len()) })
    };
    let input = missing.input.then(input).flatten();
    let answer = || {
        let mut estimate = estimate::answer(subject, request, generated, finish_reason)?;
        if missing.cut {
            estimate.error = estimate.error.max(ERROR_OF_A_CUT);
            estimate.unseen.push(Unseen::Rest);
        }
        Some(estimate)
    };
    let output = missing.output.then(answer).flatten();
    Estimates { input, output }
}

/// What was not kept is taken to be like what was.
fn with_the_rest(mut estimate: Estimate, read: u64, beyond: u64) -> Estimate {
    if beyond == 0 {
        return estimate;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rest = {
        let per_byte = match estimate.tokens {
            0 => 1.0 / BYTES_PER_TOKEN as f64,
            tokens => tokens as f64 / read.max(1) as f64,
        };
        (per_byte.min(MAX_TOKENS_PER_BYTE) * beyond as f64) as u64
    };
    estimate.tokens = estimate.tokens.saturating_add(rest);
    estimate.error = estimate.error.max(ERROR_OF_THE_REST);
    estimate.unseen.push(Unseen::Length);
    estimate
}

/// Puts estimates where figures are missing, and says in the row what was done.
pub(super) fn apply(
    usage: &mut Usage,
    missing: Missing,
    estimates: &Estimates,
) -> Option<EstimateNote> {
    let mut note = EstimateNote::default();
    let mut off = 0.0;
    for side in [Side::Input, Side::Output] {
        let (estimate, figure, noted) = match side {
            Side::Input => (&estimates.input, &mut usage.input, &mut note.input),
            Side::Output => (&estimates.output, &mut usage.output, &mut note.output),
        };
        let Some(estimate) = estimate else { continue };
        *figure = Some(estimate.tokens);
        *noted = Some(EstimatedSide { method: estimate.method, error: rounded(estimate.error) });
        note.unseen.extend(&estimate.unseen);
        #[expect(clippy::cast_precision_loss)]
        let tokens = estimate.tokens as f64;
        off += tokens * estimate.error;
    }
    if note.input.is_none() && note.output.is_none() {
        return None;
    }
    if missing.history {
        note.unseen.push(Unseen::History);
    }
    if missing.answer {
        note.unseen.push(Unseen::Answer);
    } else {
        // What generates nothing (embeddings) has no output to be added.
        let output = if missing.output { usage.output } else { Some(usage.output.unwrap_or(0)) };
        usage.total = usage.input.zip(output).map(|(input, output)| input.saturating_add(output));
    }
    note.unseen.sort_unstable();
    note.unseen.dedup();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let error_tokens = off.ceil() as u64;
    note.error_tokens = error_tokens;
    Some(note)
}

/// Three digits after the point are more than an error is known to.
fn rounded(error: f64) -> f64 {
    (error * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::framing::{Scanner, Sink};
    use crate::pricing::CostSource;
    use crate::provider::{RESPONSE, Reader, Reading};
    use crate::record::CallId;
    use crate::units::Timestamp;
    use crate::usage::UsageSource;

    fn generated() -> Generated {
        let mut reader = Reader::new();
        let sink: &mut dyn Sink = &mut reader;
        Scanner::new(&RESPONSE).push(br#"{"type":"response.output_text.delta","delta":"a"}"#, sink);
        reader.take_generated()
    }

    fn session(endpoint: &str) -> Record {
        let row = json!({"id": CallId::new(), "created_at": Timestamp::now(), "upstream": "u",
            "provider": "p", "endpoint": endpoint, "method": "GET", "path": "/", "status": SESSION,
            "usage_source": UsageSource::None, "cost_source": CostSource::None, "streaming": true,
            "outcome": Outcome::Completed});
        serde_json::from_str(&row.to_string()).unwrap()
    }

    fn seen(reading: &Reading, generated: Generated, has_prompt: bool) -> Observed<'_> {
        let prompt = has_prompt.then(|| Prompt::new(&std::sync::Arc::default()));
        Observed {
            reading,
            generated,
            prompt,
            is_sent: true,
            model_behind: None,
            background: false,
        }
    }

    #[test]
    fn a_response_of_a_session_is_estimated_if_nothing_was_reported_and_something_was_generated() {
        let nothing = Reading::default();
        let reported =
            Reading { usage_json: Some(json!({"output_tokens": 1}).into()), ..Reading::default() };
        let of_turn = |has_prompt| Missing {
            input: has_prompt,
            output: true,
            history: !has_prompt,
            ..Missing::default()
        };
        for (endpoint, has_prompt) in
            [("realtime", false), ("responses", false), ("responses", true)]
        {
            let row = session(endpoint);
            let found = missing(&row, &seen(&nothing, generated(), has_prompt));
            assert_eq!(found, Some(of_turn(has_prompt)));
            assert_eq!(missing(&row, &seen(&reported, generated(), has_prompt)), None);
            // An upgrade without a response, or one of which nothing came.
            assert_eq!(missing(&row, &seen(&nothing, Generated::default(), has_prompt)), None);
        }
        for row in [
            session("audio.transcriptions"),
            Record { status: Some(200), ..session("responses") },
            Record { status: None, outcome: Outcome::ClientClosed, ..session("responses") },
        ] {
            assert_eq!(missing(&row, &seen(&nothing, generated(), true)), None);
        }
    }

    #[test]
    fn a_request_that_no_connection_took_is_not_estimated() {
        let row = Record {
            method: "POST".to_owned(),
            status: None,
            outcome: Outcome::ClientClosed,
            ..session("chat.completions")
        };
        let nothing = Reading::default();
        let left = || seen(&nothing, Generated::default(), true);
        assert!(missing(&row, &left()).is_some_and(|missing| missing.input && missing.answer));
        assert_eq!(missing(&row, &Observed { is_sent: false, ..left() }), None);
        let failed = Record { error: Some("connect_failed".to_owned()), ..row };
        assert_eq!(missing(&failed, &left()), None);
    }

    #[test]
    fn a_prompt_of_which_nothing_could_be_kept_is_counted_by_its_length() {
        let budget = std::sync::Arc::default();
        let prompt = || Some(Prompt::whole(&budget, &bytes::Bytes::new(), 4000));
        let subject = Subject { provider: "openai", endpoint: "embeddings", model: "m" };
        let both = Missing { input: true, ..Missing::default() };
        let input = estimates(&subject, both, prompt(), &Generated::default(), None).input.unwrap();
        assert_eq!((input.tokens, input.method), (1000, Method::Bytes));
        assert_eq!(input.unseen, [Unseen::Length]);
    }

    #[test]
    fn where_the_prompt_is_a_session_s_history_the_total_stays_unknown() {
        let missing = Missing { output: true, history: true, ..Missing::default() };
        let mut usage = Usage::default();
        let note = apply(&mut usage, missing, &by_bytes(missing, None, &generated())).unwrap();
        assert_eq!((usage.input, usage.output, usage.total), (None, Some(1), None));
        assert_eq!(note.unseen, [Unseen::History]);
    }
}
