//! Clients that leave before the end where `on_disconnect` is `drain`: the answer is read on for its
//! usage. What happens otherwise, and by default, is in `lifecycle.rs` and `http2.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use super::http2::Server;
use super::rig::{Conn, Provider, Proxy, Settings, eventually};

const BODY: &str = r#"{"stream":true}"#;

const FIRST: &str =
    "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";

const REST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n";

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn draining(provider: &Provider, keys: &str) -> Settings {
    let keys = format!("on_disconnect = \"drain\"\n{keys}");
    Settings::default().upstream("up", provider.url(), &keys)
}

fn ask(client: &mut Conn) {
    let length = BODY.len();
    let target = "POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\n";
    client.send(format!("{target}Content-Length: {length}\r\n\r\n{BODY}"));
}

/// A call that waits for its answer's head: the client's end and the provider's.
fn waiting(proxy: &Proxy, provider: &Provider) -> (Conn, Conn) {
    let mut client = proxy.connect();
    ask(&mut client);
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect(BODY);
    (client, upstream)
}

/// A call whose answer has begun.
fn streaming(proxy: &Proxy, provider: &Provider) -> (Conn, Conn) {
    let (mut client, mut upstream) = waiting(proxy, provider);
    upstream.send(HEAD);
    chunk(&mut upstream, FIRST);
    client.head();
    client.read_through("Hi");
    (client, upstream)
}

fn chunk(conn: &mut Conn, text: &str) {
    conn.send(format!("{:x}\r\n{text}\r\n", text.len()));
}

#[track_caller]
fn assert_read_on(row: &Value) {
    assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(200)), "{row}");
    assert_eq!((&row["usage_source"], &row["error"]), (&json!("reported"), &json!(null)));
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(9), &json!(2)));
    assert_eq!(row["finish_reason"], "stop");
}

#[test]
fn an_answer_is_read_on_for_its_usage() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").start();
    let (client, mut upstream) = streaming(&proxy, &provider);
    drop(client);
    chunk(&mut upstream, REST);
    upstream.send("0\r\n\r\n");
    assert_read_on(&proxy.wait_for_rows(1)[0]);

    // The connection is as good as ever.
    let mut client = proxy.connect();
    ask(&mut client);
    upstream.head();
    upstream.expect(BODY);
    drop(client);
    let json = format!(
        "{{\"choices\":[{{\"index\":0,\"finish_reason\":\"stop\"}}],{}",
        &REST[REST.find("\"usage\"").unwrap()..REST.find("\n\ndata: [").unwrap()]
    );
    upstream.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    ));
    assert_read_on(&proxy.wait_for_rows(2)[1]);
}

#[test]
fn a_call_whose_client_stays_is_as_ever() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").start();
    let (mut client, mut upstream) = streaming(&proxy, &provider);
    chunk(&mut upstream, REST);
    upstream.send("0\r\n\r\n");
    client.read_through("0\r\n\r\n");
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "completed");
    ask(&mut client);
    upstream.head();
    upstream.expect(BODY);
    drop(upstream);
    let down = client.head();
    assert!(down.starts_with("HTTP/1.1 502 "), "{down}");
    assert_eq!(proxy.wait_for_rows(2)[1]["outcome"], "upstream_failed");
}

#[test]
fn an_answer_is_read_on_over_http2_too() {
    let server = Server::new(None, 200);
    let url = format!("http://{}", server.address);
    let keys = "http2 = \"always\"\non_disconnect = \"drain\"";
    let proxy = Settings::default().upstream("up", url, keys).start();
    for before_the_head in [true, false] {
        let mut client = proxy.connect();
        ask(&mut client);
        let arrived = server.next();
        let feed = if before_the_head {
            drop(client);
            arrived.answer_events()
        } else {
            let feed = arrived.answer_events();
            feed.data(FIRST);
            client.read_through("Hi");
            drop(client);
            feed
        };
        feed.data(REST).end();
    }
    for row in proxy.wait_for_rows(2) {
        assert_read_on(&row);
    }
}

#[test]
fn no_more_is_read_than_may_be() {
    let provider = Provider::new();
    let proxy = draining(&provider, "drain_bytes = \"1KiB\"").start();
    let (client, mut upstream) = streaming(&proxy, &provider);
    drop(client);
    let mut hand = upstream.other_hand();
    hand.send_all_or_fail(format!("401\r\n{}\r\n", ":".repeat(1025)).as_bytes());
    upstream.expect_closed();
    let row = &proxy.wait_for_rows(1)[0];
    let how = (&row["outcome"], &row["usage_source"]);
    assert_eq!(how, (&json!("client_closed"), &json!("estimated")));
}

#[test]
fn nothing_is_waited_for_longer_than_may_be() {
    let provider = Provider::new();
    let proxy = draining(&provider, "drain_seconds = 1").start();
    let (client, mut begun) = streaming(&proxy, &provider);
    drop(client);
    let (client, mut waiting) = waiting(&proxy, &provider);
    drop(client);
    begun.expect_closed();
    waiting.expect_closed();
    let mut statuses: Vec<Value> = proxy
        .wait_for_rows(2)
        .iter()
        .map(|row| {
            assert_eq!((&row["outcome"], &row["error"]), (&json!("client_closed"), &json!(null)));
            assert!(row["duration_ms"].as_u64() >= Some(900), "{row}");
            row["status"].clone()
        })
        .collect();
    statuses.sort_by_key(Value::is_null);
    assert_eq!(statuses, [json!(200), json!(null)]);
}

#[test]
fn an_upload_that_breaks_off_is_not_taken_for_a_whole_one() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").start();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\n";
    for part in
        ["Content-Length: 9\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        for reset in [false, true] {
            let mut client = proxy.connect();
            client.send(format!("{head}{part}"));
            let mut upstream = provider.accept();
            upstream.head();
            upstream.read_through("hello");
            if reset {
                socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            let rest = upstream.rest();
            assert!(!rest.contains('0'), "{rest:?}");
        }
    }
    for row in proxy.wait_for_rows(4) {
        assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(null)));
    }
}

#[test]
fn what_fails_after_the_client_has_left_says_so() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").start();
    let (client, upstream) = streaming(&proxy, &provider);
    drop(client);
    drop(upstream);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!(
        (&row["outcome"], &row["error"]),
        (&json!("client_closed"), &json!("chunks_truncated"))
    );
    assert_eq!(row["status"], 200);
    let (client, upstream) = waiting(&proxy, &provider);
    drop(client);
    // It has left for the proxy too once another client is served on the only worker.
    served(&proxy, &provider);
    drop(upstream);
    let row = &proxy.wait_for_rows(3)[2];
    assert_eq!((&row["outcome"], &row["error"]), (&json!("client_closed"), &json!("no_response")));
    assert_eq!(row["status"], json!(null));
}

/// A call from its beginning to its end.
fn served(proxy: &Proxy, provider: &Provider) {
    let (mut client, mut upstream) = streaming(proxy, provider);
    chunk(&mut upstream, REST);
    upstream.send("0\r\n\r\n");
    client.read_through("0\r\n\r\n");
}

#[test]
fn an_error_of_the_provider_s_is_not_read_on() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").start();
    let (mut client, mut upstream) = waiting(&proxy, &provider);
    upstream.send("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 100\r\n\r\n{");
    client.head();
    client.expect("{");
    drop(client);
    upstream.expect_closed();
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "completed");
}

#[test]
fn who_is_read_on_holds_no_connection_s_place() {
    let provider = Provider::new();
    let proxy = draining(&provider, "").with("limits.connections = 1").start();
    let (client, mut upstream) = streaming(&proxy, &provider);
    drop(client);
    served(&proxy, &provider);
    chunk(&mut upstream, REST);
    assert_read_on(&proxy.wait_for_rows(2)[1]);
}

#[test]
fn a_stop_waits_for_what_is_read_on_as_for_any_call() {
    let provider = Provider::new();
    let mut proxy = draining(&provider, "").start();
    let (client, mut upstream) = streaming(&proxy, &provider);
    drop(client);
    served(&proxy, &provider);
    proxy.stop();
    chunk(&mut upstream, REST);
    upstream.send("0\r\n\r\n");
    proxy.join();
    assert_read_on(&proxy.rows()[1]);

    // Or cuts it off: its client had left before.
    let mut proxy = draining(&provider, "").start();
    let (client, mut begun) = streaming(&proxy, &provider);
    drop(client);
    let (client, mut waiting) = waiting(&proxy, &provider);
    drop(client);
    served(&proxy, &provider);
    proxy.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(proxy.address).is_err());
    assert!(proxy.is_running());
    proxy.stop();
    proxy.join();
    begun.expect_closed();
    waiting.expect_closed();
    let rows = proxy.rows();
    assert_eq!(rows.len(), 3);
    for row in &rows[1..] {
        assert_eq!((&row["outcome"], &row["error"]), (&json!("client_closed"), &json!(null)));
    }
}
