//! A row as a span. Owns its ids, its status and its attributes; the words come from the profile.
//!
//! Invariant: what a row does not know, its span does not say, and nothing in it can be a prompt, a key
//! or a query.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value as Json;

use super::Server;
use super::names::{self, FETCH, Profile};
use crate::record::{Outcome, Record};
use crate::units::Timestamp;

/// Metadata of a call that its span has at most, and how long their texts may be.
const MAX_METADATA: usize = 32;
const MAX_TEXT: usize = 256;

/// Which span of which trace a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// The client's.
    pub parent_id: Option<[u8; 8]>,
}

/// The client's trace, or one of the call's own, whose id is the call's. The span's id is the latter half
/// of the call's in any case, so that a row leads to its span.
pub fn span_of(record: &Record) -> SpanIds {
    let id = record.id.into_bytes();
    let mut span_id = [0; 8];
    span_id.copy_from_slice(&id[8..]);
    match &record.trace {
        Some(client) => {
            SpanIds { trace_id: client.trace_id, span_id, parent_id: Some(client.parent_id) }
        }
        None => SpanIds { trace_id: id, span_id, parent_id: None },
    }
}

/// Whose calls become spans: where the client has a trace, what it decided, and of the others a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Calls whose chance is below, of 2³².
    below: u64,
}

impl Sampler {
    /// `ratio` from 0 to 1.
    pub fn new(ratio: f64) -> Sampler {
        let whole = f64::from(u32::MAX) + 1.0;
        Sampler { below: (ratio.clamp(0.0, 1.0) * whole).to_u64().unwrap_or(u64::MAX) }
    }

    /// Says the same of a call whenever it is asked: the chance is in the call's id.
    pub fn samples(self, record: &Record) -> bool {
        if let Some(client) = &record.trace {
            return client.sampled;
        }
        // The first bits of an id's latter half are not left to chance, and some after them count.
        let [.., a, b, c, d] = record.id.into_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) < self.below
    }
}

/// What all spans have in common.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) profile: Profile,
    pub(super) servers: HashMap<String, Server>,
    pub(super) scope: InstrumentationScope,
}

impl Spans {
    pub(super) fn span(&self, record: &Record) -> SpanData {
        let ids = span_of(record);
        let state = record.trace.as_ref().and_then(|client| client.state.as_deref());
        let state = state.and_then(|text| text.parse::<TraceState>().ok());
        let start_time = time(record.created_at);
        let took = Duration::from_millis(record.duration_ms.unwrap_or_default());
        let error = error_type(record);
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(ids.trace_id),
                SpanId::from_bytes(ids.span_id),
                TraceFlags::SAMPLED,
                false,
                state.unwrap_or_default(),
            ),
            parent_span_id: ids.parent_id.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: ids.parent_id.is_some(),
            span_kind: SpanKind::Client,
            name: name(record).into(),
            start_time,
            end_time: start_time.checked_add(took).unwrap_or(start_time),
            attributes: self.attributes(record, error.as_deref()),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn attributes(&self, record: &Record, error: Option<&str>) -> Vec<KeyValue> {
        let mut out = Attributes(Vec::with_capacity(40));
        let operation = names::operation(&record.endpoint);
        out.text("gen_ai.operation.name", Some(operation));
        out.text("gen_ai.provider.name", Some(names::provider(&record.provider)));
        out.text("gen_ai.request.model", record.model_requested.as_deref());
        out.text("gen_ai.response.model", record.model.as_deref());
        out.put("gen_ai.request.stream", record.streaming.then_some(true));
        out.text("gen_ai.conversation.id", record.session.as_deref());
        if let Some(reason) = finish_reason(record) {
            let reasons = Array::String(vec![StringValue::from(cut(reason))]);
            out.0.push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(reasons)));
        }
        let first = record.time_to_first_token_ms.map(seconds);
        out.put("gen_ai.response.time_to_first_chunk", first);
        self.usage(record, operation, &mut out);
        if let Some(server) = self.servers.get(&record.upstream) {
            out.text("server.address", Some(&server.address));
            out.put("server.port", Some(i64::from(server.port)));
        }
        out.put("http.response.status_code", record.status.map(i64::from));
        out.text("error.type", error);
        if matches!(record.provider.as_str(), "openai" | "azure") {
            out.text("openai.api.type", names::openai_api(&record.endpoint));
            out.text("openai.response.service_tier", record.service_tier.as_deref());
        }
        out.text("user.id", record.user.as_deref());
        own(record, &mut out);
        out.0
    }

    fn usage(&self, record: &Record, operation: &str, out: &mut Attributes) {
        if operation == FETCH {
            // The conventions forbid it to report tokens. What it is charged for is not to be lost.
            out.count("tokenmeter.fetched.input_tokens", record.input_tokens);
            out.count("tokenmeter.fetched.output_tokens", record.output_tokens);
            return;
        }
        out.count("gen_ai.usage.input_tokens", record.input_tokens);
        out.count("gen_ai.usage.output_tokens", record.output_tokens);
        out.count("gen_ai.usage.cache_read.input_tokens", record.cache_read_tokens);
        for names in self.profile.names() {
            out.count(names.cache_write, record.cache_write_tokens);
        }
        out.count("gen_ai.usage.reasoning.output_tokens", record.reasoning_tokens);
        out.count("gen_ai.usage.audio.input_tokens", record.audio_input_tokens);
        out.count("gen_ai.usage.image.input_tokens", record.image_input_tokens);
        out.count("gen_ai.usage.audio.output_tokens", record.audio_output_tokens);
        out.count("gen_ai.usage.image.output_tokens", record.image_output_tokens);
    }
}

/// What the conventions have no words for.
fn own(record: &Record, out: &mut Attributes) {
    out.text("tokenmeter.call_id", Some(&record.id.to_string()));
    out.text("tokenmeter.upstream", Some(&record.upstream));
    out.text("tokenmeter.endpoint", Some(&record.endpoint));
    out.text("tokenmeter.operation", record.operation.as_deref());
    out.put("tokenmeter.attempt", record.attempt.map(i64::from));
    out.text("tokenmeter.key_id", record.key_id.as_deref());
    out.text("tokenmeter.key_fingerprint", record.key_fingerprint.as_deref());
    out.text("tokenmeter.outcome", Some(record.outcome.as_str()));
    out.text("tokenmeter.usage_source", Some(record.usage_source.as_str()));
    out.text("tokenmeter.cost_source", Some(record.cost_source.as_str()));
    out.put("tokenmeter.retry", record.retry.map(i64::from));
    out.text("tokenmeter.upstream_request_id", record.upstream_request_id.as_deref());
    if let Some(cost) = record.cost_usd {
        out.text("tokenmeter.cost_usd", Some(&cost.to_string()));
        // Vendors' name for it, in the form that they read.
        out.put("gen_ai.usage.cost", cost.decimal().to_f64());
    }
    for (name, value) in record.metadata.iter().flatten().take(MAX_METADATA) {
        let value: Value = match value {
            Json::Null => continue,
            Json::Bool(truth) => (*truth).into(),
            Json::String(text) => cut(text).into(),
            other => match other.as_i64() {
                Some(number) => number.into(),
                None => cut(&other.to_string()).into(),
            },
        };
        out.0.push(KeyValue::new(format!("tokenmeter.metadata.{}", cut(name)), value));
    }
}

/// Attributes of what is known.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, name: &'static str, text: Option<&str>) {
        self.put(name, text.map(cut));
    }

    fn count(&mut self, name: &'static str, count: Option<u64>) {
        self.put(name, count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
    }

    fn put(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| KeyValue::new(name, value)));
    }
}

fn name(record: &Record) -> String {
    let operation = names::operation(&record.endpoint);
    match record.model_requested.as_deref().or(record.model.as_deref()) {
        Some(model) => format!("{operation} {}", cut(model)),
        None => operation.to_owned(),
    }
}

/// What went wrong, if anything did: the provider's word, else the status, else what became of the call.
/// That the client hung up is no failure of the call.
pub(super) fn error_type(record: &Record) -> Option<String> {
    let has_bad_status = record.status.is_some_and(|status| status >= 400);
    let has_failed = match record.outcome {
        Outcome::UpstreamFailed | Outcome::Interrupted | Outcome::Refused => true,
        Outcome::Completed | Outcome::ClientClosed => has_bad_status || record.error.is_some(),
    };
    has_failed.then(|| match (record.outcome, &record.error, record.status) {
        (Outcome::Interrupted, ..) => Outcome::Interrupted.as_str().to_owned(),
        (_, Some(word), _) => cut(word),
        (_, None, Some(status)) if has_bad_status => status.to_string(),
        (outcome, ..) => outcome.as_str().to_owned(),
    })
}

/// The provider's word; `error` for an answer that broke off before there was one.
fn finish_reason(record: &Record) -> Option<&str> {
    let broke = matches!(record.outcome, Outcome::UpstreamFailed | Outcome::Interrupted)
        || record.error.is_some();
    let has_begun = record.streaming && record.status.is_some_and(|status| status < 400);
    let broken = (broke && has_begun).then_some("error");
    record.finish_reason.as_deref().or(broken)
}

pub(super) fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

fn time(moment: Timestamp) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(moment.millis()).unwrap_or_default());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// No longer than a text may be.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otel::tests::call;
    use crate::trace::TraceContext;

    fn spans(profile: Profile) -> Spans {
        let server = Server { address: "api.openai.com".to_owned(), port: 443 };
        let servers = HashMap::from([("openai".to_owned(), server)]);
        Spans { profile, servers, scope: InstrumentationScope::builder("tokenmeter").build() }
    }

    fn value(span: &SpanData, name: &str) -> Option<String> {
        let found = span.attributes.iter().filter(|pair| pair.key.as_str() == name);
        let values: Vec<String> = found.map(|pair| pair.value.to_string()).collect();
        assert!(values.len() < 2, "{name} stands twice");
        values.into_iter().next()
    }

    #[test]
    fn what_a_row_does_not_know_its_span_does_not_say() {
        let mut record = call();
        record.output_tokens = None;
        record.cost_usd = None;
        let span = spans(Profile::Latest).span(&record);
        assert_eq!(span.name, "chat gpt-4o");
        assert_eq!(value(&span, "gen_ai.usage.input_tokens").as_deref(), Some("10"));
        assert_eq!(value(&span, "server.address").as_deref(), Some("api.openai.com"));
        for absent in [
            "gen_ai.usage.output_tokens",
            "gen_ai.conversation.id",
            "gen_ai.response.finish_reasons",
            "gen_ai.usage.cost",
            "error.type",
            "user.id",
        ] {
            assert_eq!(value(&span, absent), None, "{absent}");
        }
        assert_eq!(span.status, Status::Unset);
    }

    #[test]
    fn a_profile_chooses_the_names() {
        let mut record = call();
        record.cache_write_tokens = Some(3);
        let (new, old) =
            ("gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens");
        for (profile, has_new, has_old) in [
            (Profile::Latest, true, false),
            (Profile::Previous, false, true),
            (Profile::Both, true, true),
        ] {
            let span = spans(profile).span(&record);
            assert_eq!(value(&span, new).is_some(), has_new);
            assert_eq!(value(&span, old).is_some(), has_old);
        }
    }

    #[test]
    fn a_fetched_answer_reports_no_tokens() {
        let mut record = call();
        record.endpoint = "responses.retrieve".to_owned();
        let span = spans(Profile::Both).span(&record);
        let usage = |pair: &KeyValue| pair.key.as_str().starts_with("gen_ai.usage.");
        let told: Vec<_> = span.attributes.iter().filter(|pair| usage(pair)).collect();
        assert!(told.iter().all(|pair| pair.key.as_str() == "gen_ai.usage.cost"), "{told:?}");
        assert_eq!(value(&span, "tokenmeter.fetched.input_tokens").as_deref(), Some("10"));
    }

    #[test]
    fn what_failed_says_how() {
        let failed = |change: fn(&mut Record)| {
            let mut record = call();
            change(&mut record);
            (error_type(&record), finish_reason(&record).map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(failed(|_| ()), (None, None));
        assert_eq!(failed(|record| record.status = Some(429)), (some("429"), None));
        assert_eq!(failed(|record| record.outcome = Outcome::ClientClosed), (None, None));
        let broken = failed(|record| {
            record.outcome = Outcome::UpstreamFailed;
            record.error = Some("idle_timeout".to_owned());
            record.streaming = true;
        });
        assert_eq!(broken, (some("idle_timeout"), some("error")));
        let stopped = failed(|record| {
            record.outcome = Outcome::Interrupted;
            record.error = Some("tokenmeter stopped".to_owned());
        });
        assert_eq!(stopped, (some("interrupted"), None));
        let in_stream = failed(|record| {
            record.error = Some("overloaded_error".to_owned());
            record.streaming = true;
        });
        assert_eq!(in_stream, (some("overloaded_error"), some("error")));
    }

    #[test]
    fn metadata_is_bounded() {
        let mut record = call();
        let long = "ä".repeat(500);
        let pairs = (0..100).map(|n| (format!("{n}"), Json::String(long.clone())));
        record.metadata = Some(pairs.collect());
        let span = spans(Profile::Latest).span(&record);
        let metadata =
            span.attributes.iter().filter(|pair| pair.key.as_str().starts_with("tokenmeter.meta"));
        let values: Vec<String> = metadata.map(|pair| pair.value.to_string()).collect();
        assert_eq!(values.len(), MAX_METADATA);
        assert!(values.iter().all(|text| text.len() == MAX_TEXT));
    }

    #[test]
    fn a_share_of_calls_is_sampled_and_the_client_s_word_goes_before_it() {
        let sampled = |ratio: f64| {
            let calls = (0..4000).map(|_| call());
            calls.filter(|record| Sampler::new(ratio).samples(record)).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        let half = sampled(0.5);
        assert!((1800..2200).contains(&half), "{half}");
        let mut record = call();
        for wanted in [true, false] {
            let context =
                TraceContext { trace_id: [1; 16], parent_id: [2; 8], sampled: wanted, state: None };
            record.trace = Some(context);
            assert_eq!(Sampler::new(0.5).samples(&record), wanted);
        }
    }
}
