//! Streams that are made to report their usage: the provider gets one splice more, the client gets the
//! bytes that it would have got without tokenmeter.

use std::thread;

use serde_json::{Value, json};
use tokenmeter::framing::EventFilter;
use tokenmeter::provider::stream_usage::{judge, reports_unasked};

use super::corpus::recordings;
use super::rig::{Conn, Provider, Settings, field, lines_without};

const ASKED: &str = r#""stream_options":{"include_usage":true},"#;

const REST: &str =
    r#""model":"gpt-4o-mini", "stream":true,"messages":[{"role":"user","content":"a\u00e4 ä"}]}"#;

const USAGE: &str = r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}"#;

const DONE: &str = "data: [DONE]\n\n";

const REFUSAL: &str = r#"{"error":{"message":"Unknown parameter: 'stream_options'.","type":"invalid_request_error","code":"unknown_parameter"}}"#;

/// What a provider streams, with the option or without.
fn events(asked: bool) -> String {
    let null = if asked { r#","usage":null"# } else { "" };
    let chunk = |rest: &str| {
        format!("data: {{\"id\":\"c\",\"model\":\"gpt-4o-mini-2024-07-18\",{rest}\n\n")
    };
    let mut text = String::from(": hello\n\n");
    text += &chunk(&format!(
        r#""choices":[{{"index":0,"delta":{{"content":"\"usage\":null, ä"}},"finish_reason":null}}]{null},"obfuscation":"x"}}"#
    ));
    text += &chunk(&format!(
        r#""choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]{null}}}"#
    ));
    if asked {
        text += &chunk(&format!(r#""choices":[],"usage":{USAGE}}}"#));
    }
    text + DONE
}

fn plain_body() -> String {
    format!("{{{REST}")
}

fn asked_body() -> String {
    format!("{{{ASKED}{REST}")
}

fn injecting(provider: &Provider) -> Settings {
    Settings::default().upstream("up", provider.url(), "stream_usage = \"inject\"")
}

fn post(target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn chat(body: &str) -> String {
    post("/v1/chat/completions", "", body)
}

/// A request at the provider: its head and its body.
fn request(upstream: &mut Conn) -> (String, String) {
    let head = upstream.head();
    let length = field(&head, "content-length").map(|length| length.parse().unwrap());
    let body = match length {
        Some(length) => upstream.take_bytes(length),
        None => dechunked(upstream),
    };
    (head, String::from_utf8(body).unwrap())
}

fn dechunked(conn: &mut Conn) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(conn.read_through("\r\n").trim(), 16).unwrap();
        body.extend(conn.take_bytes(size));
        conn.expect("\r\n");
        if size == 0 {
            return body;
        }
    }
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Request-Id: r1\r\nTransfer-Encoding: chunked\r\n\r\n";

fn send_stream(upstream: &mut Conn, text: &str) {
    upstream.send(STREAM_HEAD);
    upstream.send(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()));
}

fn send_json(upstream: &mut Conn, status: &str, body: &str) {
    let length = body.len();
    upstream.send(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
}

/// The answer at the client: its head and its body.
fn answer(client: &mut Conn) -> (String, String) {
    let (head, body) = request(client);
    (head, body)
}

#[track_caller]
fn assert_reported(row: &Value) {
    assert_eq!(row["usage_source"], "reported", "{row}");
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(9), &json!(2)));
}

#[test]
fn the_client_sees_what_it_would_have_seen_and_the_row_has_the_usage() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    let fields = "Accept-Encoding: gzip, br\r\nX-LeftAlone: 1\r\n";
    client.send(post("/v1/chat/completions?a=%2F", fields, &plain_body()));
    let mut upstream = provider.accept();
    let (head, body) = request(&mut upstream);
    assert_eq!(body, asked_body());
    assert_eq!(
        lines_without(&head, &["host"]),
        [
            "POST /v1/chat/completions?a=%2F HTTP/1.1".to_owned(),
            "Content-Type: application/json".to_owned(),
            "Accept-Encoding: identity".to_owned(),
            "X-LeftAlone: 1".to_owned(),
            format!("Content-Length: {}", body.len()),
        ]
    );
    send_stream(&mut upstream, &events(true));
    let (head, body) = answer(&mut client);
    assert_eq!(body, events(false));
    assert_eq!(
        lines_without(&head, &["x-tokenmeter-id", "transfer-encoding"]),
        lines_without(STREAM_HEAD, &["transfer-encoding"])
    );
    let row = &proxy.wait_for_rows(1)[0];
    assert_reported(row);
    assert_eq!((&row["stream_usage"], &row["outcome"]), (&json!("injected"), &json!("completed")));
    assert_eq!((&row["finish_reason"], &row["streaming"]), (&json!("stop"), &json!(true)));
}

#[test]
fn every_frame_may_be_cut_anywhere() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let (mut client, mut upstream) = (proxy.connect(), None);
    for (line_end, step) in [("\n", 1), ("\r\n", 7), ("\r", 11)] {
        let (long, short) = (events(true), events(false));
        let (long, short) = (long.replace('\n', line_end), short.replace('\n', line_end));
        for cut in (1..long.len()).step_by(step) {
            // A character may be cut, too.
            let (first, second) = long.as_bytes().split_at(cut);
            client.send(chat(&plain_body()));
            let upstream = upstream.get_or_insert_with(|| provider.accept());
            request(upstream);
            upstream.send(STREAM_HEAD);
            for piece in [first, second] {
                upstream.send(format!("{:x}\r\n", piece.len()));
                upstream.send(piece);
                upstream.send("\r\n");
            }
            upstream.send("0\r\n\r\n");
            assert_eq!(answer(&mut client).1, short, "{line_end:?} cut at {cut}");
        }
    }
    for row in proxy.rows() {
        assert_reported(&row);
    }
}

#[test]
fn what_cannot_be_the_extra_event_passes_at_once_and_the_call_is_closed_before_the_last() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    client.send(chat(&plain_body()));
    let mut upstream = provider.accept();
    request(&mut upstream);
    upstream.send(STREAM_HEAD);
    client.head();
    let mut chunk = |text: &str, passes: &str| {
        upstream.send(format!("{:x}\r\n{text}\r\n", text.len()));
        if !passes.is_empty() {
            client.expect(&format!("{:x}\r\n{passes}\r\n", passes.len()));
        }
    };
    chunk(": wai", ": wai");
    chunk("t\n\n", "t\n\n");
    chunk("data: {\"choices\":[{}],\"usa", "");
    chunk("ge\":null}\n\n", "data: {\"choices\":[{}]}\n\n");
    chunk(
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
    );
    let extra = format!("data: {{\"choices\":[],\"usage\":{USAGE}}}\n\n");
    chunk(&extra, "");
    assert_eq!(proxy.rows().len(), 0);
    chunk("data: [", "data: [");
    chunk("DONE]", "DONE]");
    // The client has the last event, so the journal has the call.
    assert_reported(&proxy.rows()[0]);
    drop(client);
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "completed");
}

#[test]
fn a_provider_that_ignores_the_option_streams_as_ever() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    client.send(chat(&plain_body()));
    let mut upstream = provider.accept();
    assert_eq!(request(&mut upstream).1, asked_body());
    send_stream(&mut upstream, &events(false));
    assert_eq!(answer(&mut client).1, events(false));

    // A whole answer instead of a stream is left alone, its length included.
    client.send(chat(&plain_body()));
    request(&mut upstream);
    let whole = format!("{{\"choices\":[],\"usage\":{USAGE}}}");
    send_json(&mut upstream, "200 OK", &whole);
    let (head, body) = answer(&mut client);
    assert_eq!((field(&head, "content-length"), body), (Some("82"), whole));
    let rows = proxy.wait_for_rows(2);
    assert_eq!(rows[0]["usage_source"], "estimated");
    assert_reported(&rows[1]);
}

#[test]
fn a_provider_that_refuses_the_option_gets_the_request_as_it_was_and_is_not_asked_again() {
    for status in ["400 Bad Request", "422 Unprocessable Entity"] {
        let provider = Provider::new();
        let proxy = injecting(&provider).start();
        let mut client = proxy.connect();
        let fields = "Accept-Encoding: gzip\r\n";
        let ask = post("/v1/chat/completions?v=1", fields, &plain_body());
        client.send(&ask);
        let mut first = provider.accept();
        assert_eq!(request(&mut first).1, asked_body());
        send_json(&mut first, status, REFUSAL);
        let mut second = provider.accept();
        let (head, body) = request(&mut second);
        assert_eq!((body, field(&head, "accept-encoding")), (plain_body(), Some("gzip")));
        assert_eq!(field(&head, "content-length"), Some(&*plain_body().len().to_string()));
        send_stream(&mut second, &events(false));
        let (head, body) = answer(&mut client);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, events(false));

        client.send(&ask);
        assert_eq!(request(&mut second).1, plain_body());
        send_stream(&mut second, &events(false));
        assert_eq!(answer(&mut client).1, events(false));

        // Another query is another place.
        client.send(post("/v1/chat/completions?v=2", "", &plain_body()));
        assert_eq!(request(&mut second).1, asked_body());
        send_stream(&mut second, &events(true));
        assert_eq!(answer(&mut client).1, events(false));
        let done: Vec<Value> =
            proxy.wait_for_rows(3).iter().map(|row| row["stream_usage"].clone()).collect();
        assert_eq!(done, [json!("refused"), json!(null), json!("injected")]);
    }
}

#[test]
fn a_request_that_is_wrong_either_way_is_answered_once_and_nothing_is_remembered() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    let mut upstream = provider.accept_for(&mut client, &chat(&plain_body()));
    for number in 0..2 {
        if number > 0 {
            client.send(chat(&plain_body()));
        }
        assert_eq!(request(&mut upstream).1, asked_body());
        send_json(&mut upstream, "400 Bad Request", r#"{"error":{"code":"one"}}"#);
        upstream = provider.accept();
        assert_eq!(request(&mut upstream).1, plain_body());
        let last = r#"{"error":{"message":"no such model","code":"two"}}"#;
        send_json(&mut upstream, "400 Bad Request", last);
        let (head, body) = answer(&mut client);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert_eq!(body, last);
    }
    for row in proxy.wait_for_rows(2) {
        assert_eq!((&row["status"], &row["error"]), (&json!(400), &json!("two")));
        assert_eq!(row["stream_usage"], "refused");
    }
}

#[test]
fn only_streams_that_do_not_say_are_asked() {
    let provider = Provider::new();
    let proxy = injecting(&provider)
        .upstream("groq", provider.url(), "stream_usage = \"inject\"")
        .upstream("off", provider.url(), "")
        .start();
    let (mut client, mut upstream) = (proxy.connect(), None);
    let plain = plain_body();
    let cases = [
        ("/v1/chat/completions", "", r#"{"stream":true,"stream_options":{"include_usage":false}}"#),
        ("/v1/chat/completions", "", r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ("/v1/chat/completions", "", r#"{"stream":false}"#),
        ("/v1/chat/completions", "", r#"{"stream":true"#),
        ("/v1/chat/completions", "Content-Encoding: gzip\r\n", &plain),
        ("/v1/chat/completions", "Content-MD5: x\r\n", &plain),
        ("/v1/responses", "", &plain),
        ("/groq/openai/v1/chat/completions", "", &plain),
        ("/off/v1/chat/completions", "", &plain),
    ];
    for (target, fields, body) in cases {
        client.send(post(target, fields, body));
        let upstream = upstream.get_or_insert_with(|| provider.accept());
        // Each upstream has connections of its own.
        if target.starts_with("/groq") || target.starts_with("/off") {
            *upstream = provider.accept();
        }
        assert_eq!(request(upstream).1, body, "{target} {fields}");
        send_stream(upstream, &events(true));
        assert_eq!(answer(&mut client).1, events(true));
    }
    for row in proxy.wait_for_rows(cases.len()) {
        assert_eq!(row["stream_usage"], json!(null));
    }
}

#[test]
fn chunked_uploads_are_asked_and_go_up_chunked() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    client.send("POST /v1/completions HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in plain_body().as_bytes().chunks(10) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    assert!(provider.is_untouched());
    client.send("0\r\n\r\n");
    let mut upstream = provider.accept();
    let (head, body) = request(&mut upstream);
    assert_eq!((field(&head, "transfer-encoding"), body), (Some("chunked"), asked_body()));
    send_stream(&mut upstream, &events(true));
    assert_eq!(answer(&mut client).1, events(false));
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    let whole = post("/v1/chat/completions", "Expect: 100-continue\r\n", &plain_body());
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    client.send(format!("{head}\r\n\r\n"));
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body);
    let mut upstream = provider.accept();
    assert_eq!(request(&mut upstream).1, asked_body());
    send_stream(&mut upstream, &events(true));
    assert_eq!(answer(&mut client).1, events(false));
}

/// 33 MiB are more than are held.
#[test]
fn a_request_too_long_to_be_held_goes_on_as_it_came() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let body = format!("{{\"stream\":true,\"a\":\"{}\"}}", "x".repeat(33 << 20));
    for chunked in [false, true] {
        let mut client = proxy.connect();
        let (mut hand, body_too) = (client.other_hand(), body.clone());
        let uploading = thread::spawn(move || {
            if chunked {
                hand.send("POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n");
                hand.send(format!("{:x}\r\n{body_too}\r\n0\r\n\r\n", body_too.len()));
            } else {
                hand.send(chat(&body_too));
            }
        });
        let mut upstream = provider.accept();
        assert!(request(&mut upstream).1 == body);
        uploading.join().unwrap();
        send_stream(&mut upstream, &events(false));
        assert_eq!(answer(&mut client).1, events(false));
    }
}

#[test]
fn an_encoded_answer_passes_untouched_and_a_length_goes_where_bytes_may_go() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    client.send(chat(&plain_body()));
    let mut upstream = provider.accept();
    request(&mut upstream);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    upstream.send(format!("{head}Content-Encoding: x\r\nContent-Length: 6\r\n\r\ndata: "));
    let (down, body) = answer(&mut client);
    assert_eq!((field(&down, "content-length"), &*body), (Some("6"), "data: "));

    client.send(chat(&plain_body()));
    request(&mut upstream);
    let text = events(true);
    upstream.send(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()));
    let (down, body) = answer(&mut client);
    assert_eq!((field(&down, "content-length"), body), (None, events(false)));
    assert_reported(&proxy.wait_for_rows(2)[1]);
}

#[test]
fn a_stream_that_breaks_off_breaks_off_for_the_client_with_all_that_came() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    client.send(chat(&plain_body()));
    let mut upstream = provider.accept();
    request(&mut upstream);
    upstream.send(STREAM_HEAD);
    upstream.send("a\r\ndata: {\"a\"\r\n");
    drop(upstream);
    client.head();
    assert_eq!(client.rest(), "A\r\ndata: {\"a\"\r\n");
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!(
        (&row["outcome"], &row["error"]),
        (&json!("upstream_failed"), &json!("chunks_truncated"))
    );
}

#[test]
fn a_client_that_leaves_while_its_request_is_held_has_closed() {
    let provider = Provider::new();
    let proxy = injecting(&provider).start();
    let mut client = proxy.connect();
    let whole = chat(&plain_body());
    client.send(&whole[..whole.len() - 20]);
    drop(client);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(null)));
    assert!(provider.is_untouched());
}

#[test]
fn a_client_that_stalls_while_its_request_is_held_is_cut_off() {
    let provider = Provider::new();
    let proxy = injecting(&provider).with("timeouts.idle = \"80ms\"").start();
    let mut client = proxy.connect();
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nContent-Length: 20\r\n\r\n{}");
    client.rest();
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(null)));
    assert!(provider.is_untouched());
}

#[test]
fn a_body_over_the_limit_is_refused_though_it_is_held() {
    let provider = Provider::new();
    let proxy = injecting(&provider).with("limits.request_body = \"64B\"").start();
    let mut client = proxy.connect();
    client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    client.send(format!("41\r\n{}\r\n", " ".repeat(65)));
    let down = client.head();
    assert!(down.starts_with("HTTP/1.1 413 "), "{down}");
    assert_eq!(proxy.wait_for_rows(1)[0]["error"], "payload_too_large");
    assert!(provider.is_untouched());
}

impl Provider {
    fn accept_for(&self, client: &mut Conn, request: &str) -> Conn {
        client.send(request);
        self.accept()
    }
}

/// The recorded streams of those who report only when asked, and what is left of them: by the text of
/// their events, which is all that needs to be known of theirs.
#[test]
fn recorded_streams_lose_the_extra_event_and_the_nulls_and_nothing_else() {
    let (mut streams, mut extra, mut nulls) = (0, 0, 0);
    for recording in recordings() {
        let body = recording.response.body();
        let Ok(text) = String::from_utf8(body) else { continue };
        let is_ours = text.starts_with("data: {") && text.contains("\"choices\"");
        if !is_ours || text.contains('\r') || reports_unasked(&recording.provider) {
            continue;
        }
        streams += 1;
        let mut expected = String::new();
        for event in text.split_inclusive("\n\n") {
            let data = event.strip_prefix("data: ").unwrap_or_default();
            let data: Value = serde_json::from_str(data).unwrap_or_default();
            match data.get("usage") {
                Some(Value::Object(_)) if data["choices"] == json!([]) => extra += 1,
                Some(Value::Null) => {
                    nulls += 1;
                    let null = [",\"usage\":null", ", \"usage\": null"];
                    let (at, null) =
                        null.iter().find_map(|null| Some((event.rfind(null)?, null))).unwrap();
                    expected += &event[..at];
                    expected += &event[at + null.len()..];
                }
                _ => expected += event,
            }
        }
        for cut in [usize::MAX, 1] {
            let mut filter = EventFilter::new(judge);
            let pieces = text.as_bytes().chunks(cut.min(text.len()));
            let mut out: Vec<u8> = pieces.flat_map(|piece| filter.push(piece)).collect();
            out.extend(filter.finish());
            assert!(out == expected.as_bytes(), "{}", recording.id);
        }
    }
    println!("{streams} streams, {extra} extra events, {nulls} nulls");
    assert!(streams >= 30 && extra >= 20 && nulls >= 200, "{streams} {extra} {nulls}");
}
