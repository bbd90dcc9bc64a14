//! One call of a session: how long it takes, how it ends, and the row that it becomes. Knows nothing of
//! when calls come.
//!
//! Invariant: a call that did not get through says nothing of a usage.

use super::account::{Told, settle};
use super::ending::{FATES, Fate, finish_reason, request_id};
use super::models::{Dialect, Model};
use super::random::{Dice, real, whole};
use super::session::Session;
use crate::pricing::{CostSource, PriceBook};
use crate::record::{CallId, Outcome, Record, StreamUsage};
use crate::units::Timestamp;
use crate::usage::{Usage, UsageSource};

/// Streams of OpenAI that were made to report their usage, of 100,000.
const INJECTED: u32 = 38_000;

/// Answers that are longer than they may be, of 100,000.
const TOO_LONG: u32 = 1_500;

/// Steps of an agent that call a tool, of 100,000.
const TOOL_CALLS: u32 = 82_000;

/// `timeouts.response_head`, by default.
const RESPONSE_HEAD_MS: u64 = 600_000;

/// Tokens of a prompt that are read in a second.
const READING_SPEED: f64 = 18_000.0;

/// The next call of a session, begun at `at`.
pub(super) fn call(
    id: CallId,
    at: i64,
    session: &mut Session,
    prices: &PriceBook,
    dice: &mut Dice,
) -> Record {
    let mut usage = session.next_usage(dice);
    let model = session.model;
    let fate = *dice.weighted(&FATES);
    let generates = usage.output.is_some();
    let is_stream = generates && dice.chance(session.operation.streamed);
    let mut record = opened(id, at, session, is_stream);
    if fate == Fate::Stopped {
        return record;
    }
    // Errors are no streams.
    record.streaming = is_stream && matches!(fate, Fate::Answered | Fate::Left | Fate::Torn);
    let is_part = fate != Fate::Answered && record.streaming;
    if is_part {
        cut(&mut usage, dice);
    }
    record.outcome = fate.outcome();
    let (status, error) = fate.words(model.dialect, record.streaming, dice);
    record.status = status;
    record.error = error.map(str::to_owned);
    time(&mut record, model, &usage, fate, dice);
    if record.time_to_first_byte_ms.is_some() {
        record.upstream_request_id = request_id(model.dialect, at, dice);
    }
    let told = match fate {
        Fate::Answered => Told::All,
        _ if is_part => Told::Part,
        _ => Told::Nothing,
    };
    if told == Told::Nothing {
        session.retry += 1;
    } else {
        record.model = model.served.map(str::to_owned);
        session.answered(&usage, dice);
    }
    if told == Told::All {
        finish(&mut record, session, generates, dice);
    }
    settle(&mut record, model, usage, told, prices, dice);
    record
}

/// What is known when a call begins: the row of one that never ends.
fn opened(id: CallId, at: i64, session: &Session, is_stream: bool) -> Record {
    let (operation, model) = (session.operation, session.model);
    let is_sdk = !matches!(
        model.dialect,
        Dialect::Gemini | Dialect::Ollama | Dialect::OllamaEmbed | Dialect::Speech
    );
    Record {
        id,
        created_at: Timestamp::from_millis(at),
        upstream: model.upstream.to_owned(),
        provider: model.provider.to_owned(),
        endpoint: model.endpoint.to_owned(),
        method: "POST".to_owned(),
        path: path(model, is_stream),
        model_requested: Some(model.requested.to_owned()),
        model: None,
        user: session.user.clone(),
        session: session.name.clone(),
        operation: Some(operation.name.to_owned()),
        attempt: operation.numbers_attempts.then_some(session.attempt),
        metadata: session.metadata.clone(),
        key_id: None,
        key_fingerprint: None,
        input_tokens: None,
        cache_read_tokens: None,
        cache_write_tokens: None,
        audio_input_tokens: None,
        image_input_tokens: None,
        output_tokens: None,
        reasoning_tokens: None,
        audio_output_tokens: None,
        image_output_tokens: None,
        total_tokens: None,
        usage_source: UsageSource::None,
        estimate: None,
        stream_usage: None,
        charged_by: None,
        charges: Vec::new(),
        trace: None,
        usage_json: None,
        cost_usd: None,
        cost_source: CostSource::None,
        computed_cost_usd: None,
        price_id: None,
        status: None,
        streaming: false,
        finish_reason: None,
        outcome: Outcome::Interrupted,
        error: None,
        retry: is_sdk.then_some(session.retry),
        upstream_request_id: None,
        service_tier: None,
        duration_ms: None,
        time_to_first_byte_ms: None,
        time_to_first_token_ms: None,
    }
}

/// Google's paths end in a method.
fn path(model: &Model, is_stream: bool) -> String {
    let method = match (model.dialect, is_stream) {
        (Dialect::Gemini, true) => ":streamGenerateContent",
        (Dialect::Gemini, false) => ":generateContent",
        _ => "",
    };
    [model.path, method].concat()
}

/// Leaves a part of the output: the rest never came.
fn cut(usage: &mut Usage, dice: &mut Dice) {
    let share = dice.share();
    for class in [&mut usage.output, &mut usage.reasoning, &mut usage.audio_output] {
        *class = class.map(|tokens| whole(real(tokens) * share));
    }
    // Each is rounded by itself.
    usage.reasoning = usage.reasoning.min(usage.output);
    usage.total = usage.input.zip(usage.output).map(|(input, output)| input + output);
}

/// How long it took. Reasoning comes before the first token, and a long prompt takes its time.
fn time(record: &mut Record, model: &Model, usage: &Usage, fate: Fate, dice: &mut Dice) {
    let quick = match fate {
        Fate::Limited | Fate::Wrong => Some(dice.count(160.0, 0.5)),
        Fate::Broken => Some(dice.count(1900.0, 0.7)),
        Fate::Unreachable => Some(dice.count(4.0, 0.5)),
        Fate::Silent => Some(RESPONSE_HEAD_MS + dice.below(20)),
        _ => None,
    };
    if quick.is_some() {
        record.duration_ms = quick;
        record.time_to_first_byte_ms = quick.filter(|_| fate.is_refusal());
        return;
    }
    let tokens = |count: Option<u64>| real(count.unwrap_or_default());
    let before =
        tokens(usage.reasoning) / model.tokens_a_second + tokens(usage.input) / READING_SPEED;
    let first = dice.about(model.first_token_ms, 0.4) + before * 1000.0;
    let said = tokens(usage.output) - tokens(usage.reasoning);
    let speed = dice.about(model.tokens_a_second, 0.25);
    let duration = whole(first + said * 1000.0 / speed).max(1);
    record.duration_ms = Some(duration);
    if record.streaming {
        let first = whole(first).min(duration);
        record.time_to_first_byte_ms = Some(first - first / 8);
        record.time_to_first_token_ms = Some(first);
    } else if fate == Fate::Answered {
        record.time_to_first_byte_ms = Some(duration - dice.below(3).min(duration - 1));
    }
}

/// What an answer says that came to its end.
fn finish(record: &mut Record, session: &Session, generates: bool, dice: &mut Dice) {
    let model = session.model;
    record.service_tier = model.tier.map(str::to_owned);
    if generates {
        let is_agent = session.operation.calls.0 >= 8 && session.operation.has_session;
        let wants_tool = is_agent && dice.chance(TOOL_CALLS);
        let reason = finish_reason(model.dialect, wants_tool, dice.chance(TOO_LONG));
        record.finish_reason = Some(reason.to_owned());
    }
    if record.streaming && model.dialect == Dialect::Chat && dice.chance(INJECTED) {
        record.stream_usage = Some(StreamUsage::Injected);
    }
}
