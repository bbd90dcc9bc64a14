//! Upgraded connections (WebSocket), raw on both sides.

use serde_json::json;

use super::rig::{Conn, Provider, Proxy, Settings, field};

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
