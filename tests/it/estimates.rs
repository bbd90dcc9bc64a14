//! Estimates whose answer is known: OpenAI's cookbook, encodings, pictures. Every kind says how many
//! cases it ran; what other families cost is compared by the benchmark.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokenmeter::estimate::{self, Encoding, Estimate, Subject};

#[derive(Deserialize)]
struct Known {
    fixtures: Value,
    cases: Vec<Case>,
}

/// One case; its kind says which members it has.
#[derive(Deserialize)]
struct Case {
    id: String,
    kind: String,
    expected: Value,
    #[serde(default)]
    model: String,
    #[serde(default)]
    request: Value,
    #[serde(default)]
    encoding: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    detail: Option<String>,
    #[serde(default)]
    tolerance: f64,
}

fn known() -> Known {
    serde_json::from_str(include_str!("../estimates/estimate_cases.json")).unwrap()
}

fn of_kind(kind: &str) -> impl Iterator<Item = Case> {
    known().cases.into_iter().filter(move |case| case.kind == kind)
}

fn input(endpoint: &str, model: &str, request: &Value) -> Estimate {
    estimate::input(&Subject { provider: "openai", endpoint, model }, request).unwrap()
}

fn chat(model: &str, request: &Value) -> u64 {
    input("chat.completions", model, request).tokens
}

/// Requests name fixtures as `@name`.
fn filled(request: &Value, fixtures: &Value) -> Value {
    let members = request.as_object().unwrap().iter().map(|(name, value)| {
        let fixture = value.as_str().and_then(|text| text.strip_prefix('@'));
        let value = fixture.map_or_else(|| value.clone(), |fixture| fixtures[fixture].clone());
        (name.clone(), value)
    });
    Value::Object(members.collect())
}

#[test]
fn what_openais_cookbook_counts_comes_out_exactly() {
    let fixtures = known().fixtures;
    let mut ran = 0;
    for case in of_kind("chat_prompt_tokens") {
        let request = filled(&case.request, &fixtures);
        assert_eq!(json!(chat(&case.model, &request)), case.expected, "{}", case.id);
        ran += 1;
    }
    assert_eq!(ran, 9);
}

#[test]
fn texts_are_encoded_as_published() {
    let mut ran = 0;
    for case in of_kind("encode") {
        let encoding = match case.encoding.as_str() {
            "cl100k_base" => Encoding::Cl100k,
            _ => Encoding::O200k,
        };
        assert_eq!(json!(encoding.encode(&case.text)), case.expected, "{}", case.id);
        ran += 1;
    }
    assert_eq!(ran, 8);
}

/// A PNG of this size as a data URL: the header is all that is read.
fn picture(width: u32, height: u32) -> String {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.extend(b"\x08\x02\0\0\0\0\0\0\0");
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

#[test]
fn pictures_cost_what_was_billed() {
    let mut ran = 0;
    let cases = of_kind("image_tokens")
        .filter(|case| ["gpt", "o3", "o4"].iter().any(|start| case.model.starts_with(start)));
    for case in cases {
        let url = picture(case.width, case.height);
        let part = json!({"type": "image_url", "image_url": {"url": url, "detail": case.detail}});
        let request = json!({"messages": [{"role": "user", "content": [part]}]});
        let estimate = input("chat.completions", &case.model, &request);
        let expected = case.expected.as_f64().unwrap();
        #[allow(clippy::cast_precision_loss)]
        let off = (estimate.image as f64 - expected).abs();
        assert!(off <= case.tolerance, "{}: {} for {expected}", case.id, estimate.image);
        ran += 1;
    }
    assert_eq!(ran, 20);
}

#[test]
fn legacy_prompts_of_every_shape_are_counted() {
    let completions = |prompt: Value| {
        let request = json!({"prompt": prompt, "best_of": 3, "n": 2});
        input("completions", "gpt-3.5-turbo-instruct", &request).tokens
    };
    let one = completions(json!("Hello world"));
    assert_eq!(one, 2);
    assert_eq!(completions(json!(["Hello world", "Hello world"])), 2 * one);
    assert_eq!(completions(json!([9906, 1917, 0])), 3);
    assert_eq!(completions(json!([[9906, 1917], [9906]])), 3);
    let request = json!({"input": ["Hello world", [1, 2, 3]]});
    assert_eq!(input("embeddings", "text-embedding-3-small", &request).tokens, 5);
}

#[test]
fn what_an_estimate_cannot_see_it_says() {
    let unseen = |endpoint: &str, request: Value| {
        let estimate = input(endpoint, "gpt-4o", &request);
        (json!(estimate.unseen), estimate.error >= 0.3)
    };
    let cases = [
        ("responses", json!({"input": "x", "previous_response_id": "resp_1"}), json!(["history"])),
        (
            "responses",
            json!({"input": "x", "tools": [{"type": "web_search"}]}),
            json!(["server_tools"]),
        ),
        (
            "responses",
            json!({"input": [{"type": "reasoning", "id": "rs_1"}]}),
            json!(["reasoning"]),
        ),
        (
            "chat.completions",
            json!({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]}),
            json!(["media"]),
        ),
    ];
    for (endpoint, request, expected) in cases {
        assert_eq!(unseen(endpoint, request), (expected, true));
    }
    assert_eq!(unseen("responses", json!({"input": "x"})), (json!([]), false));
}

/// A client may send anything, and nothing panics.
#[test]
fn requests_of_any_shape_are_counted() {
    let requests = [
        json!({"messages": 1, "tools": {"a": 1}, "response_format": [], "tool_choice": {}}),
        json!({"messages": [1, null, {"role": 1, "content": {"a": []}, "tool_calls": [1, {}]}]}),
        with_tools(&json!([null, 1, {"function": 1}, {"type": "function", "function": {}}])),
    ];
    for request in &requests {
        for endpoint in ["chat.completions", "responses", "completions", "embeddings"] {
            input(endpoint, "gpt-5", request);
        }
    }
}

fn with_tools(tools: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": "Hi"}], "tools": tools})
}

/// A request whose only tool has this schema.
fn with_schema(schema: &Value) -> Value {
    let function = json!({"name": "f", "parameters": schema});
    with_tools(&json!([{"type": "function", "function": function}]))
}

/// Properties of these names, all alike.
fn properties(times: usize, one: &Value) -> Value {
    (0..times).map(|n| (format!("p{n}"), one.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Requests that ask for more work than their length, of about so many kilobytes.
fn hostile(kilobytes: usize) -> Vec<(&'static str, Value)> {
    let size = kilobytes * 1024;
    let reference = json!({"$ref": "#/$defs/a"});
    let refer = |target: Value, times: usize| json!({"properties": properties(times, &reference), "$defs": {"a": target}});
    let unwritten = json!({"items": {"properties": properties(size / 30, &json!({}))}});
    let unwritten = json!({"properties": {"x": unwritten}});
    let itself = json!({"anyOf": vec![reference.clone(); size / 30]});
    let path = format!("#/{}", "x".repeat(size / 2));
    let far = json!({"properties": {"x": {"$ref": path}}});
    let blank = json!({"properties": {"x": {"description": " ".repeat(size / 2)}}});
    let mut deep = json!({"type": "string"});
    for _ in 0..14 {
        let beside = properties(size / 14 / 30, &json!({}));
        deep = json!({"properties": {"a": deep, "b": {"properties": beside}}});
    }
    let words: Vec<_> = (0..size / 10).map(|n| format!("v{n}")).collect();
    let names: Vec<_> = (0..size / 30).rev().map(|n| format!("p{n}")).collect();
    let wide = json!({"properties": properties(size / 30, &json!({})), "required": names});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let long = "a".repeat(size);
    vec![
        ("references to what is not written", with_schema(&refer(unwritten, size / 60))),
        ("references to themselves", with_schema(&refer(itself, size / 60))),
        ("references that are long", with_schema(&refer(far, size / 60))),
        ("references to blanks", with_schema(&refer(blank, size / 60))),
        ("deep", with_schema(&deep)),
        ("wide", with_schema(&wide)),
        ("a long enum", with_schema(&json!({"properties": {"a": {"enum": words}}}))),
        ("many tools", with_tools(&json!(vec![tool; size / 60]))),
        (
            "many calls",
            json!({"messages": [{"role": "assistant", "tool_calls":
            vec![call; size / 60]}]}),
        ),
        (
            "many messages",
            json!({"messages": vec![json!({"role": "user", "content": "a"});
            size / 30]}),
        ),
        ("a long word", json!({"messages": [{"role": "user", "content": long}]})),
        (
            "a long picture",
            json!({"messages": [{"role": "user", "content": [{"type": "image_url",
            "image_url": {"url": format!("data:image/png;base64,{long}")}},
            {"type": "input_audio", "input_audio": {"data": long}}]}]}),
        ),
    ]
}

/// Of this thread, since it began: what else the machine does is not in it.
fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.try_into().unwrap()
}

/// Four times the input may take six times as long, and something quadratic takes sixteen.
#[test]
fn hostile_requests_are_counted_in_linear_time() {
    let took = |model: &str, request: &Value| {
        let begun = cpu_time();
        input("chat.completions", model, request);
        cpu_time().saturating_sub(begun)
    };
    let (small, large) = (hostile(100), hostile(400));
    let mut cases = 0;
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        for model in ["gpt-5", "claude-sonnet-4-5", "gemini-2.5-flash", "qwen3-32b"] {
            let (mut quick, mut slow) = (Duration::MAX, Duration::MAX);
            // The first may pay for what all need.
            let is_linear = (0..6).any(|_| {
                quick = quick.min(took(model, small));
                slow = slow.min(took(model, large));
                slow < quick * 6 + Duration::from_millis(5)
            });
            assert!(is_linear, "{name}, {model}: {quick:?}, and of four times that {slow:?}");
            cases += 1;
        }
    }
    assert_eq!(cases, 12 * 4);
}
