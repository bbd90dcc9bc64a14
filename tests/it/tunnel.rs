//! Upgraded connections (WebSocket), raw on both sides.

use serde_json::json;

use super::rig::{Conn, Provider, Proxy, Settings, eventually, field};
use super::support::Speaker;

const ASK: &str = "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Protocol: realtime\r\nX-User: u\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pP\r\n\r\n";

/// An open tunnel; `early` goes out right behind the request and right behind the 101.
fn tunnel(proxy: &Proxy, provider: &Provider, early: &str) -> (Conn, Conn) {
    let mut client = proxy.connect();
    client.send(format!("{ASK}{early}"));
    let mut upstream = provider.accept();
    let up = upstream.head();
    assert!(up.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"), "{up}");
    assert_eq!(field(&up, "upgrade"), Some("websocket"));
    assert_eq!(field(&up, "connection"), Some("Upgrade"));
    assert_eq!(field(&up, "sec-websocket-key"), Some("dGhl"));
    assert_eq!(field(&up, "sec-websocket-protocol"), Some("realtime"));
    assert_eq!(field(&up, "x-user"), None);
    upstream.send(format!("{AGREE}{early}"));
    let down = client.head();
    assert!(down.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{down}");
    assert_eq!(field(&down, "upgrade"), Some("websocket"));
    assert_eq!(field(&down, "connection"), Some("Upgrade"));
    assert_eq!(field(&down, "sec-websocket-accept"), Some("s3pP"));
    assert!(field(&down, "x-tokenmeter-id").is_some());
    client.expect(early);
    upstream.expect(early);
    (client, upstream)
}

#[test]
fn bytes_pass_both_ways_also_those_right_behind_the_heads() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for early in ["", "\u{1}early"] {
        let (mut client, mut upstream) = tunnel(&proxy, &provider, early);
        for _ in 0..3 {
            client.send(b"\x81\x00GET / HTTP/1.1\r\n\r\n");
            upstream.expect("\u{81}\0GET / HTTP/1.1\r\n\r\n");
            upstream.send(b"\x82\xff\r\n\r\n");
            client.expect("\u{82}\u{ff}\r\n\r\n");
        }
        drop(upstream);
        client.expect_closed();
    }
}

#[test]
fn informational_answers_without_an_end_open_no_tunnel() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(ASK);
    let mut upstream = provider.accept();
    upstream.head();
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000);
    // Until nobody takes them any more.
    while upstream.send_or_hear(flood.as_bytes()) {}
    let mut down = client.head();
    while down.starts_with("HTTP/1.1 103 ") {
        down = client.head();
    }
    assert!(down.starts_with("HTTP/1.1 502 "), "{down}");
    assert_eq!(proxy.wait_for_rows(1)[0]["error"], json!("no_response"));
}

#[test]
fn a_tunnel_leaves_one_row_when_it_closes() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let (client, mut upstream) = tunnel(&proxy, &provider, "");
    assert_eq!(proxy.rows().len(), 0);
    drop(client);
    upstream.expect_closed();
    drop(upstream);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["status"], &row["endpoint"]), (&json!(101), &json!("realtime")));
    assert_eq!((&row["outcome"], &row["user"]), (&json!("completed"), &json!("u")));
}

#[test]
fn each_side_may_end_its_half_first() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let (mut client, mut upstream) = tunnel(&proxy, &provider, "");
    client.close_writing();
    upstream.expect_closed();
    upstream.send("last words");
    client.expect("last words");
    drop(upstream);
    client.expect_closed();
    proxy.wait_for_rows(1);
}

#[test]
fn a_refusal_is_passed_on_and_the_connection_serves_on() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    for (status, framing) in [
        ("403 Forbidden", "Content-Length: 4\r\n\r\nno\r\n"),
        ("400 Bad Request", "Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"),
        ("426 Upgrade Required", "Content-Length: 0\r\n\r\n"),
    ] {
        client.send(ASK);
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 {status}\r\nX-Why: x\r\n{framing}"));
        let down = client.head();
        assert!(down.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{down}");
        assert_eq!(field(&down, "x-why"), Some("x"));
        client.expect(framing.split_once("\r\n\r\n").unwrap().1);
    }
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    let statuses: Vec<_> = proxy.rows().iter().map(|row| row["status"].clone()).collect();
    assert_eq!(statuses, [403, 400, 426, 200]);
}

#[test]
fn a_provider_that_is_gone_is_an_error_of_ours() {
    let gone = Provider::new().url();
    let proxy = Settings::to(gone).start();
    let mut client = proxy.connect();
    client.send(ASK);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(field(&head, "x-tokenmeter-error"), Some("upstream_unreachable"));
    assert_eq!(field(&head, "upgrade"), None);
}

#[test]
fn a_client_that_leaves_before_the_switch_cancels_the_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(ASK);
    let mut upstream = provider.accept();
    upstream.head();
    drop(client);
    upstream.expect_closed();
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "client_closed");
}

#[test]
fn a_stop_ends_an_open_tunnel_after_the_grace() {
    let provider = Provider::new();
    let mut proxy = Settings::to(provider.url()).with("shutdown_grace = \"100ms\"").start();
    let (mut client, mut upstream) = tunnel(&proxy, &provider, "");
    proxy.stop();
    client.expect_closed();
    upstream.expect_closed();
    proxy.join();
    let row = &proxy.rows()[0];
    assert_eq!((&row["outcome"], &row["status"]), (&json!("interrupted"), &json!(101)));
}

#[test]
fn a_stop_lets_an_open_tunnel_finish() {
    let provider = Provider::new();
    let mut proxy = Proxy::to(&provider);
    let (mut client, mut upstream) = tunnel(&proxy, &provider, "");
    proxy.stop();
    client.send("more");
    upstream.expect("more");
    drop(upstream);
    client.expect_closed();
    drop(client);
    proxy.join();
    assert_eq!(proxy.rows()[0]["outcome"], "completed");
}

const ASKED: &str = r#">{"type":"response.create"}"#;
const CREATED: &str = r#"<{"type":"response.created","response":{"id":"resp_1"}}"#;
const DELTA: &str = r#"<{"type":"response.output_text.delta","response_id":"resp_1","delta":"x"}"#;
const DONE: &str = r#"<{"type":"response.done","response":{"id":"resp_1","status":"completed",
    "usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}}"#;

/// A tunnel in which these messages have passed: `>` before the client's, `<` before the provider's.
fn session(proxy: &Proxy, provider: &Provider, messages: &[&str]) -> (Conn, Conn) {
    let (mut client, mut upstream) = tunnel(proxy, provider, "");
    play(&mut client, &mut upstream, messages);
    (client, upstream)
}

fn play(client: &mut Conn, upstream: &mut Conn, messages: &[&str]) {
    for message in messages {
        let (from, to, speaker) = match message.split_at(1) {
            (">", _) => (&mut *client, &mut *upstream, Speaker::client()),
            _ => (&mut *upstream, &mut *client, Speaker::server()),
        };
        let bytes = speaker.text(&message[1..]);
        from.send(&bytes);
        assert_eq!(to.take_bytes(bytes.len()), bytes);
    }
}

/// The rows that are left when the tunnel has ended in this way, after these messages.
fn left_by(messages: &[&str], end: impl FnOnce(Conn, Conn)) -> Vec<serde_json::Value> {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let (client, upstream) = session(&proxy, &provider, messages);
    end(client, upstream);
    let rows = proxy.wait_for_rows(proxy.opened().len());
    let is_whole = |row: &serde_json::Value| row["status"] == 101 && row["user"] == "u";
    assert!(rows.iter().all(is_whole), "{rows:?}");
    rows
}

fn client_leaves(client: Conn, mut upstream: Conn) {
    drop(client);
    upstream.expect_closed();
}

fn provider_leaves(mut client: Conn, upstream: Conn) {
    drop(upstream);
    client.expect_closed();
}

fn provider_closes(code: u16) -> impl FnOnce(Conn, Conn) {
    move |mut client, mut upstream| {
        let bytes = Speaker::server().close(code);
        upstream.send(&bytes);
        assert_eq!(client.take_bytes(bytes.len()), bytes);
        client.send(Speaker::client().close(code));
        drop(client);
        upstream.rest();
    }
}

fn provider_resets(mut client: Conn, upstream: Conn) {
    socket2::SockRef::from(upstream.stream()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(upstream);
    client.expect_closed();
}

#[test]
fn a_tunnel_that_ends_within_a_response_says_which_side_ended_it() {
    let begun = [ASKED, CREATED, DELTA];
    let only = |rows: Vec<serde_json::Value>| {
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        (row["outcome"].clone(), row["error"].clone())
    };
    for messages in [&begun[..1], &begun] {
        assert_eq!(only(left_by(messages, client_leaves)), (json!("client_closed"), json!(null)));
        let failed = |error: &str| (json!("upstream_failed"), json!(error));
        assert_eq!(only(left_by(messages, provider_leaves)), failed("tunnel_reset"));
        assert_eq!(only(left_by(messages, provider_resets)), failed("tunnel_reset"));
        assert_eq!(only(left_by(messages, provider_closes(1000))), failed("tunnel_closed"));
        assert_eq!(only(left_by(messages, provider_closes(1011))), failed("close_1011"));
    }
    let rows = left_by(&begun, client_leaves);
    assert!(rows[0]["time_to_first_token_ms"].is_u64());
    assert_eq!(rows[0]["usage_source"], "estimated");
    assert_eq!(left_by(&begun[..2], client_leaves)[0]["usage_source"], "none");
}

/// The row of the one response of a session at this path, with the best estimate of what it used.
fn estimated(
    path: &str,
    messages: &[&str],
    end: impl FnOnce(&mut Proxy, Conn, Conn),
) -> serde_json::Value {
    let provider = Provider::new();
    let mut proxy = Settings::to(provider.url()).with("shutdown_grace = \"100ms\"").start();
    let mut client = proxy.connect();
    client.send(ASK.replace("/v1/realtime?model=gpt-realtime", path));
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(AGREE);
    client.head();
    play(&mut client, &mut upstream, messages);
    end(&mut proxy, client, upstream);
    let provisional = proxy.wait_for_rows(1).remove(0);
    assert_eq!(
        (&provisional["usage_source"], &provisional["status"]),
        (&json!("estimated"), &json!(101))
    );
    let mut amended = Vec::new();
    eventually("the better estimate", || {
        amended = proxy.amended();
        !amended.is_empty()
    });
    let [row] = amended.as_slice() else { panic!("{amended:?}") };
    assert_eq!((&row["id"], &row["outcome"]), (&provisional["id"], &provisional["outcome"]));
    assert!(!row.to_string().contains("secret"));
    row.clone()
}

#[test]
fn a_realtime_response_that_is_cut_off_is_estimated_by_what_was_said() {
    let said = |text: &str| {
        let event = json!({"type": "response.output_audio_transcript.delta", "response_id": "resp_1",
            "delta": text});
        format!("<{event}")
    };
    let audio = r#"<{"type":"response.output_audio.delta","response_id":"resp_1","delta":"AAAA"}"#;
    let begun = [
        r#"<{"type":"session.created","session":{"model":"gpt-realtime"}}"#,
        r#">{"type":"response.create","response":{"instructions":"secret"}}"#,
        r#"<{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}"#,
        &said("A secret about the weather"),
        audio,
        audio,
        &said(" in Paris."),
        &said(" It is sunny."),
    ];
    let done =
        r#"<{"type":"response.done","response":{"id":"resp_1","status":"cancelled","usage":null}}"#;
    let client: fn(&mut Proxy, Conn, Conn) = |_, client, upstream| client_leaves(client, upstream);
    let provider: fn(&mut Proxy, Conn, Conn) =
        |_, client, upstream| provider_leaves(client, upstream);
    let stop: fn(&mut Proxy, Conn, Conn) = |proxy, mut client, _upstream| {
        proxy.stop();
        client.expect_closed();
        proxy.join();
    };
    for (end, outcome, is_done) in [
        (client, "client_closed", false),
        (provider, "upstream_failed", false),
        (stop, "interrupted", false),
        (client, "completed", true),
    ] {
        let messages: Vec<&str> = begun.into_iter().chain(is_done.then_some(done)).collect();
        let row = estimated("/v1/realtime?model=gpt-realtime", &messages, end);
        assert_eq!(row["outcome"], outcome);
        let finish_reason = if is_done { json!("cancelled") } else { json!(null) };
        assert_eq!((&row["finish_reason"], &row["endpoint"]), (&finish_reason, &json!("realtime")));
        assert_eq!(
            (&row["model"], &row["upstream_request_id"]),
            (&json!("gpt-realtime"), &json!("resp_1"))
        );
        // 12 tokens of text, and what may stand around them.
        assert!((12..=14).contains(&row["output_tokens"].as_u64().unwrap()), "{row}");
        assert_eq!((&row["input_tokens"], &row["total_tokens"]), (&json!(null), &json!(null)));
        let rest = (!is_done).then_some("rest");
        let unseen: Vec<&str> = ["history", "media"].into_iter().chain(rest).collect();
        assert_eq!(row["estimate"]["unseen"], json!(unseen));
        assert_eq!(row["estimate"]["output"]["method"], "bpe");
        assert_eq!(row["estimate"]["input"], json!(null));
    }
}

#[test]
fn a_response_over_a_websocket_that_is_cut_off_is_estimated_with_its_prompt() {
    let ask = |previous: Option<&str>| {
        let mut asked = json!({"type": "response.create", "model": "gpt-4o",
            "input": "What's the secret in Paris?", "store": false});
        if let Some(id) = previous {
            asked["previous_response_id"] = json!(id);
        }
        format!(">{asked}")
    };
    let answer = [
        r#"<{"type":"response.created","response":{"id":"resp_1","model":"gpt-4o-2024-08-06","status":"in_progress"}}"#,
        r#"<{"type":"response.output_text.delta","delta":"The secret in Paris"}"#,
        r#"<{"type":"response.output_text.delta","delta":" is sunny."}"#,
    ];
    let leave = |_: &mut Proxy, client, upstream| client_leaves(client, upstream);
    let row = estimated("/v1/responses", &[&[ask(None).as_str()], &answer[..]].concat(), leave);
    assert_eq!((&row["endpoint"], &row["outcome"]), (&json!("responses"), &json!("client_closed")));
    assert_eq!((&row["model"], &row["finish_reason"]), (&json!("gpt-4o-2024-08-06"), &json!(null)));
    let (input, output) =
        (row["input_tokens"].as_u64().unwrap(), row["output_tokens"].as_u64().unwrap());
    // 6 and 7 tokens of text, and what stands around them.
    assert!((12..=14).contains(&input) && (7..=9).contains(&output), "{input} and {output}");
    assert_eq!(row["total_tokens"], input + output);
    assert!(row["cost_usd"].is_number(), "{row}");
    assert_eq!(row["estimate"]["unseen"], json!(["rest"]));

    let row =
        estimated("/v1/responses", &[&[ask(Some("resp_0")).as_str()], &answer[..]].concat(), leave);
    assert_eq!((&row["input_tokens"], &row["total_tokens"]), (&json!(null), &json!(null)));
    assert_eq!(row["output_tokens"], output);
    assert_eq!(row["estimate"]["unseen"], json!(["history", "rest"]));
}

#[test]
fn a_turn_of_gemini_live_that_is_cut_off_is_estimated_by_what_was_said() {
    let messages = [
        r#">{"setup":{"model":"models/gemini-2.0-flash-live-001"}}"#,
        r#">{"clientContent":{"turns":[{"parts":[{"text":"secret"}]}],"turnComplete":true}}"#,
        r#"<{"serverContent":{"modelTurn":{"parts":[{"text":"The secret in"}]}}}"#,
        r#"<{"serverContent":{"modelTurn":{"parts":[{"text":" Paris is"}]}}}"#,
        r#"<{"serverContent":{"modelTurn":{"parts":[{"text":" sunny."}]}}}"#,
    ];
    let row = estimated(
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
        &messages,
        |_, client, upstream| provider_resets(client, upstream),
    );
    assert_eq!(
        (&row["endpoint"], &row["outcome"]),
        (&json!("realtime"), &json!("upstream_failed"))
    );
    assert_eq!(row["model_requested"], "gemini-2.0-flash-live-001");
    assert!((6..=8).contains(&row["output_tokens"].as_u64().unwrap()), "{row}");
    assert_eq!((&row["input_tokens"], &row["total_tokens"]), (&json!(null), &json!(null)));
    assert_eq!(row["estimate"]["unseen"], json!(["history", "rest"]));
    assert_eq!(row["estimate"]["output"]["method"], "ratio");
    assert!(row["cost_usd"].is_number(), "{row}");
}

#[test]
fn a_session_without_a_response_leaves_the_row_of_its_upgrade() {
    let refused = r#"<{"type":"error","error":{"code":"invalid_api_key"}}"#;
    for (messages, end, outcome, error) in [
        (vec![], Box::new(client_leaves) as Box<dyn FnOnce(Conn, Conn)>, "completed", json!(null)),
        (vec![], Box::new(provider_leaves), "completed", json!(null)),
        (vec![], Box::new(provider_resets), "upstream_failed", json!("tunnel_reset")),
        (vec![], Box::new(provider_closes(1008)), "completed", json!("close_1008")),
        (vec![refused], Box::new(client_leaves), "completed", json!("invalid_api_key")),
    ] {
        let rows = left_by(&messages, end);
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0]["outcome"], &rows[0]["error"]), (&json!(outcome), &error));
        assert_eq!(rows[0]["endpoint"], "realtime");
    }
}

#[test]
fn a_session_ends_well_after_its_last_response_whoever_ends_it() {
    let messages = [ASKED, CREATED, DONE];
    for end in [client_leaves, provider_leaves, provider_resets] {
        let rows = left_by(&messages, end);
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0]["outcome"], &rows[0]["error"]), (&json!("completed"), &json!(null)));
        assert_eq!(rows[0]["total_tokens"], 4);
        assert_eq!(rows[0]["upstream_request_id"], "resp_1");
        assert_eq!(rows[0]["model_requested"], "gpt-realtime");
    }
}

#[test]
fn each_response_is_opened_in_the_journal_when_it_begins() {
    let provider = Provider::new();
    let mut proxy = Settings::to(provider.url()).with("shutdown_grace = \"100ms\"").start();
    let (mut client, _upstream) = session(&proxy, &provider, &[ASKED, CREATED, DONE, ASKED]);
    // The first response is that of the upgrade. The second would be found by a restart.
    assert_eq!((proxy.opened().len(), proxy.rows().len()), (2, 1));
    proxy.stop();
    client.expect_closed();
    proxy.join();
    let rows = proxy.rows();
    assert_eq!(
        (&rows[0]["outcome"], &rows[1]["outcome"]),
        (&json!("completed"), &json!("interrupted"))
    );
    assert_eq!(rows[1]["id"], proxy.opened()[1]["id"]);
    assert_ne!(rows[0]["id"], rows[1]["id"]);
}

#[test]
fn a_deployment_in_the_query_is_priced_as_the_model_behind_it() {
    let provider = Provider::new();
    let keys = "provider = \"azure\"\n[upstreams.up.deployments]\n\"gpt-realtime\" = \"gpt-4o\"";
    let proxy = Settings::default().upstream("up", provider.url(), keys).start();
    let (client, upstream) = session(&proxy, &provider, &[ASKED, CREATED, DONE]);
    client_leaves(client, upstream);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["model"], &row["model_requested"]), (&json!(null), &json!("gpt-realtime")));
    assert!(row["price_id"].as_str().is_some_and(|id| id.contains("gpt-4o")), "{row}");
}

#[test]
fn responses_over_a_websocket_are_calls_to_responses() {
    const PATH: &str = "/v1/responses";
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(ASK.replace("/v1/realtime?model=gpt-realtime", PATH));
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(AGREE);
    client.head();
    for (id, input) in [("resp_1", 5), ("resp_2", 7)] {
        let asked = json!({"type": "response.create", "model": "gpt-4o", "input": "secret"});
        let asked = Speaker::client().text(&asked.to_string());
        client.send(&asked);
        assert_eq!(upstream.take_bytes(asked.len()), asked);
        let completed = json!({"type": "response.completed", "response": {"id": id,
            "model": "gpt-4o-2024-08-06", "status": "completed", "service_tier": "default",
            "usage": {"input_tokens": input, "output_tokens": 1, "total_tokens": input + 1}}});
        let completed = Speaker::server().text(&completed.to_string());
        upstream.send(&completed);
        client.take_bytes(completed.len());
    }
    let rows = proxy.rows();
    assert_eq!(rows.len(), 2);
    for (row, (id, input)) in rows.iter().zip([("resp_1", 5), ("resp_2", 7)]) {
        assert_eq!((&row["endpoint"], &row["path"]), (&json!("responses"), &json!(PATH)));
        assert_eq!(
            (&row["input_tokens"], &row["model_requested"]),
            (&json!(input), &json!("gpt-4o"))
        );
        assert_eq!(
            (&row["model"], &row["service_tier"]),
            (&json!("gpt-4o-2024-08-06"), &json!("default"))
        );
        // Should it be fetched again by its id, this row has charged it.
        assert_eq!(row["charges"][0]["key"], format!("up/{id}"));
        assert_eq!(row["charges"][0]["fetched"], false);
        assert!(!row.to_string().contains("secret"));
    }
}

#[test]
fn messages_that_cannot_be_read_pass_and_leave_what_is_known() {
    let rows = left_by(&[ASKED, CREATED], |mut client, mut upstream| {
        upstream.send(b"\xFF\xFFno frame");
        client.expect("\u{FF}\u{FF}no frame");
        let done = Speaker::server().text(&DONE[1..]);
        upstream.send(&done);
        assert_eq!(client.take_bytes(done.len()), done);
        client_leaves(client, upstream);
    });
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["error"], &rows[0]["usage_source"]),
        (&json!("unreadable_messages"), &json!("none"))
    );
}
