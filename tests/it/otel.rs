//! Calls as a collector hears of them: spans, metrics, the trace context, and a collector that does not
//! behave.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use tokenmeter::ledger::Watcher;
use tokenmeter::otel::{self, Otel, Profile, Sampler};
use tokenmeter::proxy::tls_config;
use tokenmeter::record::{CallId, Outcome, Record};
use tokenmeter::telemetry::Buckets;
use tokenmeter::trace::hex;

use super::collector::{Answer, Collector, attribute};
use super::rig::{PATIENCE, Provider, Proxy, Settings, Unreachable, eventually, field};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

const CHAT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":400}}}"#;
const VECTORS: &str = r#"{"object":"list","model":"text-embedding-3-small","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;
const LIMITED: &str =
    r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
const FETCHED: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-4o","output":[],"usage":{"input_tokens":30,"output_tokens":20,"total_tokens":50}}"#;
const STREAM: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"}}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"total_tokens\":15}}\n\ndata: [DONE]\n\n";

/// A proxy between a client and a provider that is played call by call.
struct Stage {
    provider: Provider,
    proxy: Proxy,
}

impl Stage {
    fn new(collector: &Collector, more: &str) -> Stage {
        Stage::with(collector, more, "")
    }

    fn with(collector: &Collector, otlp: &str, upstream: &str) -> Stage {
        let provider = Provider::new();
        let keys = format!("provider = \"openai\"\n{upstream}");
        let settings = Settings::default().upstream("up", provider.url(), &keys);
        let proxy = settings.with(&collector.section(otlp)).start();
        Stage { provider, proxy }
    }

    /// A call; gives the head that the provider saw.
    fn call(&self, method: &str, path: &str, fields: &str, status: &str, answer: &str) -> String {
        let body =
            if method == "GET" { "" } else { r#"{"model":"gpt-4o","messages":[],"input":"x"}"# };
        let mut client = self.proxy.connect();
        let length = body.len();
        client.send(format!(
            "{method} {path}?key=s3cret HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer sk-s3cret\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\
             {fields}\r\n{body}"
        ));
        let mut upstream = self.provider.accept();
        let head = upstream.head();
        upstream.expect(body);
        let kind =
            if answer.starts_with("data:") { "text/event-stream" } else { "application/json" };
        upstream.send(format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        ));
        assert!(client.rest().ends_with(answer));
        head
    }

    fn chat(&self, fields: &str) -> String {
        self.call("POST", "/v1/chat/completions", fields, "200 OK", CHAT)
    }

    /// Stops, which sends what there is, and gives the rows by their id.
    fn end(mut self) -> HashMap<String, Value> {
        self.proxy.stop();
        self.proxy.join();
        let rows = self.proxy.rows().into_iter();
        rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
    }
}

fn told(span: &Span, name: &str) -> Option<String> {
    attribute(&span.attributes, name)
}

fn id_of(span: &Span) -> CallId {
    told(span, "tokenmeter.call_id").unwrap().parse().unwrap()
}

#[test]
fn a_call_is_a_span_whose_ids_are_the_row_s() {
    let collector = Collector::new();
    let more = "service_name = \"gate\"\n[otlp.headers]\nx-key = \"c4nary\"\n[otlp.resource]\nteam = \"a\"";
    let stage = Stage::new(&collector, more);
    stage.chat("X-User: ann\r\nX-Session: s-1\r\nX-Operation: rag\r\nX-Attempt: 2\r\nX-Tag-Subject: maths\r\n");
    let rows = stage.end();
    let spans = collector.spans();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    let id = id_of(span);
    let row = &rows[&id.to_string()];
    assert_eq!(span.trace_id, id.into_bytes());
    assert_eq!(span.span_id, id.into_bytes()[8..]);
    assert!(span.parent_span_id.is_empty());
    assert_eq!((span.name.as_str(), span.kind()), ("chat gpt-4o", SpanKind::Client));
    let duration = u128::from(span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000;
    assert_eq!(duration, u128::from(row["duration_ms"].as_u64().unwrap()));
    let cost = row["cost_usd"].to_string();
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.response.model", "gpt-4o-2024-08-06"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.conversation.id", "s-1"),
        ("gen_ai.usage.input_tokens", "1000"),
        ("gen_ai.usage.output_tokens", "50"),
        ("gen_ai.usage.cache_read.input_tokens", "400"),
        ("gen_ai.usage.cost", &cost),
        ("server.address", "127.0.0.1"),
        ("http.response.status_code", "200"),
        ("openai.api.type", "chat_completions"),
        ("user.id", "ann"),
        ("tokenmeter.operation", "rag"),
        ("tokenmeter.attempt", "2"),
        ("tokenmeter.metadata.subject", "maths"),
        ("tokenmeter.outcome", "completed"),
        ("tokenmeter.usage_source", "reported"),
        ("tokenmeter.cost_usd", &cost),
        ("tokenmeter.cost_source", "priced"),
        ("tokenmeter.upstream", "up"),
    ] {
        assert_eq!(told(span, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(told(span, "error.type"), None);
    let resource = collector.resource();
    assert_eq!(attribute(&resource, "service.name").as_deref(), Some("gate"));
    assert_eq!(attribute(&resource, "team").as_deref(), Some("a"));
    assert!(attribute(&resource, "service.instance.id").is_some());
    for request in collector.got("/v1/traces").iter().chain(&collector.got("/v1/metrics")) {
        assert_eq!(field(&request.head, "x-key"), Some("c4nary"));
        assert_eq!(field(&request.head, "content-encoding"), Some("gzip"));
        assert_eq!(field(&request.head, "content-type"), Some("application/x-protobuf"));
        assert!(!String::from_utf8_lossy(&request.body).contains("s3cret"));
    }
}

#[test]
fn a_client_s_trace_goes_on_and_its_fields_pass_as_they_are() {
    let collector = Collector::new();
    let stage = Stage::new(&collector, "sample_ratio = 0");
    let fields = format!("Traceparent: {PARENT}\r\ntracestate: a=1,\r\ntracestate:  b=2\r\n");
    let head = stage.chat(&fields).to_lowercase();
    assert!(head.contains(&format!("\r\ntraceparent: {PARENT}\r\n")), "{head}");
    assert!(head.contains("\r\ntracestate: a=1,\r\n") && head.contains("\r\ntracestate: b=2\r\n"));
    // Not sampled there, and by the ratio: no spans.
    stage.chat(&format!("traceparent: {}00\r\n", &PARENT[..53]));
    let head = stage.chat("traceparent: nonsense\r\n");
    assert!(head.contains("traceparent: nonsense\r\n"), "{head}");
    stage.chat("");
    assert_eq!(stage.end().len(), 4);
    let spans = collector.spans();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
    assert_eq!(span.span_id, id_of(span).into_bytes()[8..]);
    assert_eq!(span.trace_state, "a=1,b=2");
    // Metrics know of all.
    assert_eq!(collector.metrics().count("gen_ai.client.inference.duration"), 4);
}

#[test]
fn an_upstream_of_one_s_own_hears_of_our_span() {
    let collector = Collector::new();
    let stage = Stage::with(&collector, "", "trace_context = \"own\"");
    let with = stage.chat(&format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n"));
    let without = stage.chat("traceparent: nonsense\r\ntracestate: a=1\r\n");
    let not_sampled = stage.chat(&format!("traceparent: {}00\r\n", &PARENT[..53]));
    stage.end();
    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    let parent = |head: &str| {
        let value = field(head, "traceparent").unwrap();
        let parts: Vec<String> = value.split('-').map(str::to_owned).collect();
        assert_eq!((parts.len(), parts[0].as_str()), (4, "00"));
        (parts[1].clone(), parts[2].clone(), parts[3].clone())
    };
    for (head, span, state) in [(&with, &spans[0], Some("a=1")), (&without, &spans[1], None)] {
        let wanted = (hex(&span.trace_id), hex(&span.span_id), "01".to_owned());
        assert_eq!(parent(head), wanted);
        assert_eq!(field(head, "tracestate"), state);
    }
    let (trace, span, flags) = parent(&not_sampled);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    assert_ne!(span, "b7ad6b7169203331");
}

#[test]
fn an_upstream_may_hear_of_no_trace() {
    let collector = Collector::new();
    let stage = Stage::with(&collector, "", "trace_context = \"drop\"");
    let head = stage.chat(&format!("traceparent: {PARENT}\r\ntracestate: a=1\r\nx-kept: 1\r\n"));
    assert_eq!((field(&head, "traceparent"), field(&head, "tracestate")), (None, None));
    assert_eq!(field(&head, "x-kept"), Some("1"));
    stage.end();
    assert_eq!(hex(&collector.spans()[0].trace_id), TRACE);
}

/// One of each kind.
fn play(stage: &Stage) {
    stage.chat("");
    stage.call("POST", "/v1/chat/completions", "", "200 OK", STREAM);
    stage.call("POST", "/v1/embeddings", "", "200 OK", VECTORS);
    stage.call("POST", "/v1/chat/completions", "", "429 Too Many Requests", LIMITED);
    stage.call("GET", "/v1/responses/resp_1", "", "200 OK", FETCHED);
}

#[test]
fn streams_errors_and_fetched_answers_are_told_by_the_conventions() {
    let collector = Collector::new();
    let stage = Stage::new(&collector, "");
    play(&stage);
    stage.end();
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let model = "gpt-4o";
    assert_eq!(
        names,
        [
            format!("chat {model}"),
            format!("chat {model}"),
            format!("embeddings {model}"),
            format!("chat {model}"),
            format!("fetch_response {model}"),
        ]
    );
    let [_, stream, vectors, limited, fetched] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(told(stream, "gen_ai.request.stream").as_deref(), Some("true"));
    assert!(told(stream, "gen_ai.response.time_to_first_chunk").is_some());
    assert_eq!(told(stream, "gen_ai.usage.output_tokens").as_deref(), Some("3"));
    assert_eq!(told(vectors, "gen_ai.usage.input_tokens").as_deref(), Some("7"));
    assert_eq!(told(vectors, "gen_ai.response.time_to_first_chunk"), None);
    assert_eq!(limited.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(told(limited, "error.type").as_deref(), Some("rate_limit_exceeded"));
    assert_eq!(told(limited, "gen_ai.usage.input_tokens"), None);
    assert_eq!(told(fetched, "gen_ai.usage.input_tokens"), None);
    assert_eq!(told(fetched, "tokenmeter.fetched.input_tokens").as_deref(), Some("30"));
}

#[test]
fn a_stream_that_breaks_off_ends_in_an_error() {
    let collector = Collector::new();
    let stage = Stage::new(&collector, "");
    let mut client = stage.proxy.connect();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nContent-Length: 18\r\n\r\n{\"model\":\"gpt-4o\"}");
    let mut upstream = stage.provider.accept();
    upstream.head();
    upstream.expect("{\"model\":\"gpt-4o\"}");
    let (part, _) = STREAM.split_once("\n\n").unwrap();
    upstream.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n{part}\n\n"
    ));
    drop(upstream);
    client.rest();
    stage.end();
    let span = &collector.spans()[0];
    assert_eq!(told(span, "gen_ai.response.finish_reasons").as_deref(), Some("error"));
    assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(told(span, "tokenmeter.outcome").as_deref(), Some("upstream_failed"));
}

#[test]
#[allow(clippy::float_cmp, clippy::cast_precision_loss)]
fn metrics_add_up_to_the_ledger_in_both_profiles() {
    let collector = Collector::new();
    let stage = Stage::new(&collector, "profile = \"both\"\ntraces = false");
    play(&stage);
    let rows = stage.end();
    assert!(collector.got("/v1/traces").is_empty());
    let metrics = collector.metrics();
    let made = |row: &&Value| row["endpoint"] != "responses.retrieve";
    let sum = |column: &str| {
        rows.values().filter(made).filter_map(|row| row[column].as_u64()).sum::<u64>() as f64
    };
    assert_eq!(sum("input_tokens"), 1019.0);
    for (new, column) in [
        ("input_tokens", "input_tokens"),
        ("output_tokens", "output_tokens"),
        ("cache_read.input_tokens", "cache_read_tokens"),
    ] {
        let name = format!("gen_ai.client.inference.usage.{new}");
        assert_eq!(metrics.sum(&name, &[]), sum(column), "{name}");
    }
    for side in ["input", "output"] {
        let old = metrics.sum("gen_ai.client.token.usage", &[("gen_ai.token.type", side)]);
        let new = metrics.sum(&format!("gen_ai.client.inference.operation.{side}_tokens"), &[]);
        assert_eq!((old, new), (sum(&format!("{side}_tokens")), old), "{side}");
    }
    let cost: f64 = rows.values().filter_map(|row| row["cost_usd"].as_f64()).sum();
    assert!((metrics.sum("tokenmeter.cost", &[]) - cost).abs() < 1e-9);
    for name in ["gen_ai.client.inference.duration", "gen_ai.client.operation.duration"] {
        assert_eq!(metrics.count(name), 5, "{name}");
        let failed = metrics.points(name).into_iter();
        let failed = failed.filter(|point| attribute(&point.attributes, "error.type").is_some());
        assert_eq!(failed.map(|point| point.count).sum::<u64>(), 1);
        assert_eq!(metrics.points(name)[0].bounds[..3], [0.01, 0.02, 0.04]);
    }
    for name in [
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.operation.time_to_first_chunk",
    ] {
        assert_eq!(metrics.count(name), 1, "{name}");
    }
    let fetched = [("gen_ai.operation.name", "fetch_response")];
    assert_eq!(metrics.sum("gen_ai.client.token.usage", &fetched), 0.0);
    assert!(metrics.sum("tokenmeter.cost", &fetched) > 0.0);
}

#[test]
fn one_profile_has_its_names_alone() {
    for (profile, has, lacks) in [
        ("latest", "gen_ai.client.inference.duration", "gen_ai.client.operation.duration"),
        ("previous", "gen_ai.client.operation.duration", "gen_ai.client.inference.duration"),
    ] {
        let collector = Collector::new();
        let stage = Stage::new(&collector, &format!("profile = \"{profile}\""));
        stage.chat("");
        stage.end();
        let metrics = collector.metrics();
        assert!(metrics.names().contains(&has) && !metrics.names().contains(&lacks), "{metrics:?}");
    }
}

#[test]
fn calls_do_not_notice_a_collector_that_is_not_there() {
    let nobody = Unreachable::new();
    let provider = Provider::new();
    let otlp = format!("[otlp]\nendpoint = \"{}\"", nobody.url());
    let settings = Settings::to(provider.url()).with(&otlp);
    let stage = Stage { proxy: settings.start(), provider };
    for _ in 0..20 {
        stage.chat("");
    }
    let began = Instant::now();
    assert_eq!(stage.end().len(), 20);
    // The stop is bounded, however long the collector takes.
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// The sending alone, without a proxy before it.
fn sending(collector: &Collector, change: impl FnOnce(&mut otel::Settings)) -> Otel {
    let mut settings = otel::Settings {
        endpoint: collector.url(),
        headers: http::HeaderMap::new(),
        traces: true,
        metrics: false,
        interval: Duration::from_hours(1),
        sampler: Sampler::new(1.0),
        profile: Profile::Latest,
        resource: vec![("service.name".to_owned(), "tokenmeter".to_owned())],
        timeout: Duration::from_secs(2),
    };
    change(&mut settings);
    Otel::start(&settings, HashMap::new(), tls_config(&[]).unwrap().as_ref().clone()).unwrap()
}

fn call(model: &str) -> Record {
    let json = json!({
        "id": CallId::new(), "created_at": "2026-11-22T12:00:00.000Z", "upstream": "openai",
        "provider": "openai", "endpoint": "chat.completions", "method": "POST", "path": "/",
        "model_requested": model, "usage_source": "reported", "input_tokens": 1, "output_tokens": 1,
        "cost_source": "none", "status": 200, "streaming": false, "outcome": "completed",
        "duration_ms": 1,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_a_collector_does_not_take_is_counted() {
    let collector = Collector::that(Answer::Refuses("400 Bad Request", ""));
    let sending = sending(&collector, |settings| {
        settings.headers.insert("api-key", "c4nary".parse().unwrap());
    });
    let (mut watcher, health) = (sending.watcher(), sending.health());
    watcher.recorded(&call("a"));
    eventually("a batch that is given up", || health().lost == 1);
    assert_eq!((health().failed_exports, health().exported, health().queued), (1, 0, 0));
    assert_eq!(health().last_error.as_deref(), Some("traces: it answers 400 Bad Request"));
    // A part is taken.
    collector.answers(Answer::Rejects(1, "too\nmany for key c4nary"));
    watcher.recorded(&call("a"));
    eventually("a batch that is taken", || health().rejected == 1);
    assert!(health().last_error.unwrap().ends_with("too many for key …"));
    collector.answers(Answer::Takes);
    watcher.recorded(&call("a"));
    eventually("a batch that is taken", || health().exported == 1);
    assert!(sending.shutdown(PATIENCE));
}

#[test]
fn a_collector_that_asks_for_patience_is_asked_again() {
    let collector =
        Collector::that(Answer::Refuses("503 Service Unavailable", "Retry-After: 1\r\n"));
    let sending = sending(&collector, |settings| settings.timeout = PATIENCE);
    let (mut watcher, health) = (sending.watcher(), sending.health());
    watcher.recorded(&call("a"));
    eventually("a first try", || !collector.got("/v1/traces").is_empty());
    collector.answers(Answer::Takes);
    eventually("a try that is taken", || health().exported == 1);
    let tries = collector.got("/v1/traces");
    assert!(tries.len() > 1 && tries.iter().all(|got| got.body == tries[0].body));
    assert_eq!(health().failed_exports, 0);
    assert!(sending.shutdown(PATIENCE));
}

#[test]
fn a_collector_that_says_nothing_fills_no_memory_and_holds_up_no_stop() {
    const MANY: usize = 30_000;
    let collector = Collector::that(Answer::Silence);
    let sending = sending(&collector, |settings| settings.timeout = PATIENCE);
    let (mut watcher, health) = (sending.watcher(), sending.health());
    for _ in 0..MANY {
        watcher.recorded(&call("a"));
    }
    eventually("room found or not", || {
        let health = health();
        health.queued <= 8192 && health.queued + usize::try_from(health.dropped).unwrap() == MANY
    });
    let began = Instant::now();
    assert!(!sending.shutdown(Duration::from_millis(200)));
    assert!(began.elapsed() < Duration::from_secs(5));
    collector.answers(Answer::Takes);
}

#[test]
#[allow(clippy::float_cmp)]
fn ten_thousand_models_take_the_room_of_two() {
    const MODELS: u32 = 10_000;
    let collector = Collector::new();
    let sending = sending(&collector, |settings| {
        (settings.traces, settings.metrics) = (false, true);
    });
    let (mut watcher, health) = (sending.watcher(), sending.health());
    for model in 0..MODELS {
        watcher.recorded(&call(&format!("model-{model}")));
        if model % 1000 == 0 {
            eventually("room", || health().queued == 0);
        }
    }
    assert!(sending.shutdown(PATIENCE));
    assert_eq!(health().dropped, 0);
    let metrics = collector.metrics();
    let name = "gen_ai.client.inference.usage.input_tokens";
    let points = metrics.points(name);
    assert!(points.len() <= 2001, "{}", points.len());
    assert_eq!(metrics.sum(name, &[]), f64::from(MODELS));
    assert!(metrics.sum(name, &[("otel.metric.overflow", "true")]) > 7000.0);
}

/// What two counters of tokens say after some rows.
fn counted(watch: impl FnOnce(&mut dyn Watcher)) -> (f64, f64, f64) {
    let collector = Collector::new();
    let sending = sending(&collector, |settings| {
        (settings.traces, settings.metrics) = (false, true);
    });
    watch(sending.watcher().as_mut());
    assert!(sending.shutdown(PATIENCE));
    let metrics = collector.metrics();
    let sum =
        |side: &str| metrics.sum(&format!("gen_ai.client.inference.usage.{side}_tokens"), &[]);
    (sum("input"), sum("output"), metrics.sum("tokenmeter.cost", &[]))
}

#[test]
fn rows_that_were_corrected_to_less_left_counters_too_high_for_good() {
    let row = |input, output, cost: &str| {
        let cost_usd = Some(cost.parse().unwrap());
        Record { input_tokens: Some(input), output_tokens: output, cost_usd, ..call("a") }
    };
    let (rough, better) = (row(100, Some(1), "0.5"), row(130, None, "0.25"));
    let told = counted(|watcher| {
        watcher.recorded(&rough);
        watcher.corrected(&rough, &better);
        watcher.corrected(&better, &rough);
    });
    // A counter does not go back: 30 more, but 1 no second time.
    assert_eq!(told, (130.0, 1.0, 0.5));
    let told = counted(|watcher| {
        watcher.recorded(&better);
        watcher.corrected(&better, &rough);
        watcher.corrected(&rough, &row(70, Some(3), "0.25"));
        // Other models owe nothing.
        watcher.recorded(&Record { model_requested: Some("b".to_owned()), ..call("b") });
        watcher.recorded(&row(40, Some(1), "0.25"));
        watcher.recorded(&row(40, Some(1), "0.25"));
    });
    assert_eq!(told, (151.0, 6.0, 0.75));
}

#[test]
#[allow(clippy::float_cmp)]
fn the_pace_is_that_of_streams_that_came_to_their_end() {
    let collector = Collector::new();
    let sending = sending(&collector, |settings| {
        (settings.traces, settings.metrics) = (false, true);
    });
    let mut watcher = sending.watcher();
    let stream = Record {
        streaming: true,
        output_tokens: Some(11),
        duration_ms: Some(1100),
        time_to_first_token_ms: Some(100),
        ..call("a")
    };
    watcher.recorded(&stream);
    // Its client hung up, which is no error.
    watcher.recorded(&Record { outcome: Outcome::ClientClosed, ..stream });
    assert!(sending.shutdown(PATIENCE));
    let points = collector.metrics().points("tokenmeter.time_per_output_token");
    let [point] = points.as_slice() else { panic!("{points:?}") };
    assert_eq!((point.count, point.sum), (1, 0.1));
    assert_eq!(point.bounds, Buckets::PerToken.bounds());
}
