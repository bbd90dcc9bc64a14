//! HTTP/1.1 on both sides: what goes up and comes down is what was sent, byte for byte but for what
//! belongs to one connection, and when it was sent.

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Conn, Provider, Proxy, Settings, Unreachable, bytes_of, field, lines_without};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A field of tokenmeter's own, and what names the connection's two ends.
const OURS: [&str; 2] = ["x-tokenmeter-id", "host"];

/// One call: what the provider gets of it, and the whole answer that the client gets.
fn call(proxy: &Proxy, provider: &Provider, request: &str, answer: &str) -> (String, String) {
    let mut client = proxy.connect();
    client.send(bytes_of(request));
    let mut upstream = provider.accept();
    let up = upstream.head();
    upstream.send(bytes_of(answer));
    upstream.close_writing();
    let head = client.head();
    client.close_writing();
    (up, head + &client.rest())
}

/// The lines of a head, sorted by name only: a repeated field keeps its order.
fn sorted(lines: Vec<String>) -> Vec<String> {
    let mut lines = lines;
    let name = |line: &String| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    lines[1..].sort_by_key(name);
    lines
}

fn head_of(message: &str) -> &str {
    &message[..message.find("\r\n\r\n").expect("a head") + 4]
}

fn body_of(message: &str) -> &str {
    &message[message.find("\r\n\r\n").expect("a head") + 4..]
}

/// Sends a request head over a connection of its own; gives what the provider gets.
fn forwarded(proxy: &Proxy, provider: &Provider, request: &str) -> String {
    call(proxy, provider, request, &OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).0
}

#[test]
fn nothing_is_added_and_fields_keep_case_order_count_and_bytes() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let request = "POST /v1/x HTTP/1.1\r\nHost: client.example\r\nX-One: 1\r\nx-TWO: a\r\nx-Two: b\r\n\
                   X-tWO: a\r\nAuthorization: Bearer k\r\nX-Bytes: \u{80}\u{ff}\u{e9} \"q\"\r\nX-Empty:\r\n\
                   X-Space:   a  b\t\r\nCookie: a=1\r\nCookie: b=2\r\nContent-Length: 0\r\n\r\n";
    let answer = "HTTP/1.1 299 Quite so\r\nX-Up: 1\r\nx-up: 2\r\nX-UP: 3\r\nSet-Cookie: a=1\r\n\
                  set-cookie: b=2\r\nX-Bytes: \u{80}\u{ff}\r\nContent-Length: 2\r\n\r\nhi";
    let (up, down) = call(&proxy, &provider, request, answer);
    let expected = request.replace("  a  b\t", "a  b");
    assert_eq!(sorted(lines_without(&up, &OURS)), sorted(lines_without(&expected, &OURS)));
    assert_eq!(field(&up, "host").unwrap(), provider.authority());
    let expected = sorted(lines_without(head_of(answer), &[]));
    assert_eq!(sorted(lines_without(head_of(&down), &OURS)), expected);
    let id = field(&down, "x-tokenmeter-id").unwrap();
    assert_eq!(proxy.rows()[0]["id"], id);
    assert_eq!(body_of(&down), "hi");
}

#[test]
fn every_method_passes() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for method in ["GET", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "x-Custom!"] {
        let up = forwarded(&proxy, &provider, &format!("{method} /a HTTP/1.1\r\nHost: c\r\n\r\n"));
        let expected = format!("{method} /a HTTP/1.1\r\n");
        assert_eq!(lines_without(&up, &OURS), [expected.trim_end()]);
    }
}

#[test]
fn every_status_and_reason_passes_and_no_redirect_is_followed() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let lines = [
        "200 OK",
        "200 Fine",
        "299 x",
        "301 Moved Permanently",
        "307 Temporary Redirect",
        "400 ",
        "418 I'm a teapot",
        "429 Slow down",
        "451 No",
        "529 Overloaded",
        "599 ?",
        "999 Beyond",
    ];
    for line in lines {
        let answer = format!(
            "HTTP/1.1 {line}\r\nLocation: http://elsewhere.example/\r\nContent-Length: 2\r\n\r\nhi"
        );
        let (_, down) = call(&proxy, &provider, "GET / HTTP/1.1\r\nHost: c\r\n\r\n", &answer);
        assert!(down.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{line}: {down}");
        let fields = lines_without(head_of(&down), &OURS);
        assert_eq!(sorted(fields)[1..], sorted(lines_without(head_of(&answer), &[]))[1..]);
        assert_eq!(body_of(&down), "hi");
    }
}

#[test]
fn paths_and_queries_pass_byte_for_byte() {
    let provider = Provider::new();
    let authority = provider.authority();
    let proxy = Settings::to(provider.url())
        .upstream("openrouter", provider.url(), "")
        .upstream("deep", format!("{}/llm", provider.url()), "")
        .start();
    let long = format!("/{}", "a".repeat(30_000));
    let long_query = format!("/q?{}", "b=%20&".repeat(5_000));
    let absolute = format!("http://{authority}/openrouter/api?x=1");
    let cases = [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/a%2Fb%3Ac%2e%2E/%00/%zz", "/a%2Fb%3Ac%2e%2E/%00/%zz"),
        ("//double//slash//", "//double//slash//"),
        ("/a;p=1;q/b,c:d@e!$&'()*+=~", "/a;p=1;q/b,c:d@e!$&'()*+=~"),
        ("/a/../b/./c/..", "/a/../b/./c/.."),
        ("/x?a=b?c=/d#", "/x?a=b?c=/d"),
        ("/x?", "/x?"),
        ("/?", "/?"),
        ("/", "/"),
        ("/trailing/", "/trailing/"),
        ("/\"{}|^\\?`{|}", "/\"{}|^\\?`{|}"),
        ("/v1?q=\u{c3}\u{a9}", "/v1?q=\u{c3}\u{a9}"),
        ("/\u{c3}\u{a9}/", "/\u{c3}\u{a9}/"),
        (&long, &long),
        (&long_query, &long_query),
        ("/openrouter", "/"),
        ("/openrouter/", "/"),
        ("/openrouter?x", "/?x"),
        ("/openrouter/?x", "/?x"),
        ("/openrouter//x", "//x"),
        ("/openrouter/openrouter/x", "/openrouter/x"),
        ("/openrouter/../deep", "/../deep"),
        ("/Openrouter/x", "/Openrouter/x"),
        ("/openrouterx/y", "/openrouterx/y"),
        ("/%6fpenrouter/x", "/%6fpenrouter/x"),
        ("/deep", "/llm"),
        ("/deep?x", "/llm?x"),
        ("/deep/", "/llm/"),
        ("/deep/v1//m?", "/llm/v1//m?"),
        ("/v1/admin", "/v1/admin"),
        ("/Admin", "/Admin"),
        ("/%61dmin/stats", "/%61dmin/stats"),
        ("//admin/stats", "//admin/stats"),
        ("http://elsewhere.example/v1/x?y", "/v1/x?y"),
        ("http://elsewhere.example", "/"),
        (&absolute, "/api?x=1"),
        ("*", "*"),
    ];
    for (asked, expected) in cases {
        let method = if asked == "*" { "OPTIONS" } else { "POST" };
        let request = format!("{method} {asked} HTTP/1.1\r\nHost: c.example\r\n\r\n");
        let up = forwarded(&proxy, &provider, &request);
        let line = up.split("\r\n").next().unwrap();
        assert_eq!(line, format!("{method} {expected} HTTP/1.1"), "{asked}");
        assert_eq!(field(&up, "host").unwrap(), authority);
    }
    assert_eq!(proxy.rows().len(), cases.len());
    assert!(proxy.rows().iter().all(|row| !row["path"].as_str().unwrap().contains('?')));
}

#[test]
fn what_is_not_forwarded_is_answered_in_the_contract_s_shape() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("limits.request_body = 10").start();
    let big = format!("X-User: {}\r\n", "u".repeat(257));
    let cases = [
        (
            "GET /azure/openai/x HTTP/1.1\r\nAuthorization: Bearer k\r\n",
            404,
            "not_found",
            Value::Null,
        ),
        ("CONNECT a.example:443 HTTP/1.1\r\n", 400, "invalid_request", Value::Null),
        ("CONNECT /openrouter/x HTTP/1.1\r\n", 400, "", Value::Null),
        (&format!("GET / HTTP/1.1\r\n{big}"), 400, "invalid_tag", json!("x-user")),
        ("GET / HTTP/1.1\r\nX-Attempt: two\r\n", 400, "invalid_tag", json!("x-attempt")),
        ("GET / HTTP/1.1\r\nX-Metadata: [1]\r\n", 400, "invalid_tag", json!("x-metadata")),
        ("GET / HTTP/1.1\r\nX-Session: \u{ff}\r\n", 400, "invalid_tag", json!("x-session")),
        ("POST / HTTP/1.1\r\nContent-Length: 11\r\n", 413, "payload_too_large", Value::Null),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            400,
            "invalid_request",
            Value::Null,
        ),
    ];
    for (request, status, code, param) in cases {
        let mut client = proxy.connect();
        client.send(bytes_of(&format!("{request}Host: c\r\nConnection: close\r\n\r\n")));
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        if code.is_empty() {
            continue;
        }
        assert_eq!(field(&head, "x-tokenmeter-error"), Some(code), "{request}");
        assert_eq!(field(&head, "date"), None);
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(&client.take(length)).unwrap();
        assert_eq!(body["error"]["type"], "tokenmeter_error");
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["param"], param, "{request}");
        assert!(body["error"]["message"].as_str().unwrap().len() > 10);
    }
    assert!(provider.is_untouched());
    assert_eq!(proxy.rows().len(), 0);
}

#[test]
fn a_body_over_the_limit_is_refused_while_it_streams() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("limits.request_body = 10").start();
    let mut client = proxy.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("9\r\n123456789\r\n");
    client.send("2\r\nab\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(field(&head, "x-tokenmeter-error"), Some("payload_too_large"));
    upstream.expect_closed();
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["status"], &row["error"]), (&json!(413), &json!("payload_too_large")));
}

/// The client had written on, so the kernel reset the connection, which can take the answer with it.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("limits.request_body = 1000000").start();
    let big = vec![b'x'; 8 << 20];
    for by_us in [true, false] {
        let mut client = proxy.connect();
        let length = if by_us { big.len() } else { 900_000 };
        client.send(format!("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n"));
        if !by_us {
            let mut upstream = provider.accept();
            upstream.head();
            upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        }
        // Like most clients: all of the request first, then the answer.
        client.send(&big[..length]);
        let head = client.head();
        let status = if by_us { "HTTP/1.1 413 " } else { "HTTP/1.1 401 " };
        assert!(head.starts_with(status), "{head}");
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        client.take(length);
    }
}

#[test]
fn tags_are_recorded_and_removed() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let up = forwarded(
        &proxy,
        &provider,
        "POST /v1/chat/completions?api_key=k HTTP/1.1\r\nHost: c\r\nX-USER: Zo\u{c3}\u{ab}\r\n\
         X-Session: s\r\nx-operation: rag\r\nX-Attempt: 2\r\nX-Metadata: {\"a\":1}\r\n\
         X-Tag-Subject: maths\r\nX-Stainless-Retry-Count: 1\r\nX-Tagged: kept\r\n\r\n",
    );
    let left = sorted(lines_without(&up, &OURS));
    assert_eq!(left[1..], ["X-Stainless-Retry-Count: 1", "X-Tagged: kept"]);
    let row = &proxy.rows()[0];
    assert_eq!(row["user"], "Zoë");
    assert_eq!((&row["session"], &row["operation"]), (&json!("s"), &json!("rag")));
    assert_eq!((&row["attempt"], &row["retry"]), (&json!(2), &json!(1)));
    assert_eq!(row["metadata"], json!({"a": 1, "subject": "maths"}));
    assert_eq!(row["path"], "/v1/chat/completions");
    assert_eq!((&row["status"], &row["outcome"]), (&json!(200), &json!("completed")));
}

#[test]
fn hop_by_hop_fields_stay_behind_both_ways_and_framing_never_does() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: c\r\nConnection: keep-alive, X-Private, host\r\nX-Private: 1\r\n\
         Connection: Content-Length, authorization-x\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n\
         Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\
         Authorization: Bearer k\r\nContent-Length: 3\r\n\r\nabc",
    );
    let mut upstream = provider.accept();
    let up = upstream.head();
    upstream.expect("abc");
    let left = sorted(lines_without(&up, &OURS));
    assert_eq!(left[1..], ["Authorization: Bearer k", "Content-Length: 3"]);
    assert_eq!(field(&up, "host").unwrap(), provider.authority());
    upstream.send(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop, Content-Length\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=9\r\nProxy-Authenticate: x\r\nX-LeftAlone: 1\r\nContent-Length: 2\r\n\r\nhi",
    );
    let down = client.head();
    client.expect("hi");
    let left = sorted(lines_without(&down, &OURS));
    assert_eq!(left[1..], ["Content-Length: 2", "X-LeftAlone: 1"]);
}

#[test]
fn requests_keep_their_framing() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let form = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\u{e9}\"\r\n\r\n\0\u{ff}\r\n--b--\r\n";
    let multipart = format!(
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}",
        form.chars().count()
    );
    // Method, fields, body as sent, body as received.
    let cases = [
        ("POST", "Content-Length: 5", "hello"),
        ("POST", "Content-Length: 0", ""),
        ("POST", "", ""),
        ("PUT", "", ""),
        ("GET", "", ""),
        ("GET", "Content-Length: 2", "{}"),
        ("DELETE", "Content-Length: 2", "{}"),
        ("POST", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ("GET", "Transfer-Encoding: chunked", "1\r\n!\r\n0\r\n\r\n"),
        ("POST", "Transfer-Encoding: chunked", "0\r\n\r\n"),
        ("POST", multipart.trim_end(), form),
    ];
    for (method, fields, body) in cases {
        let mut client = proxy.connect();
        let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
        client.send(bytes_of(&format!("{method} / HTTP/1.1\r\nHost: c\r\n{fields}\r\n{body}")));
        let mut upstream = provider.accept();
        let up = upstream.head();
        let expected = format!("x\r\n{}", fields.to_ascii_lowercase());
        let got = sorted(lines_without(&up, &OURS)).join("\r\n").to_ascii_lowercase();
        let got = lines_without(&got, &[]);
        assert_eq!(got[1..], sorted(lines_without(&expected, &[]))[1..], "{method} {fields}");
        upstream.expect(body);
        assert!(upstream.is_silent());
        upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        client.head();
    }
}

#[test]
fn answers_without_a_body_keep_their_fields() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let cases = [
        ("HEAD", "200 OK", "Content-Length: 1234\r\nETag: \"e\"\r\n"),
        ("HEAD", "200 OK", "Content-Type: text/plain\r\n"),
        ("GET", "204 No Content", "X-Rate: 1\r\n"),
        ("GET", "304 Not Modified", "ETag: \"e\"\r\n"),
        ("GET", "205 Reset Content", "Content-Length: 0\r\n"),
        ("POST", "200 OK", "Content-Length: 0\r\n"),
    ];
    let mut client = proxy.connect();
    let mut upstream = None;
    for (method, status, fields) in cases {
        client.send(format!("{method} / HTTP/1.1\r\nHost: c\r\n\r\n"));
        let upstream = upstream.get_or_insert_with(|| provider.accept());
        upstream.head();
        upstream.send(format!("HTTP/1.1 {status}\r\n{fields}\r\n"));
        let down = client.head();
        let expected = format!("HTTP/1.1 {status}\r\n{fields}");
        let got = sorted(lines_without(&down, &OURS));
        assert_eq!(got, sorted(lines_without(&expected, &[])), "{method} {status} {fields}");
        assert!(client.is_silent());
    }
    assert_eq!(proxy.rows().len(), cases.len());
}

#[test]
fn answers_of_http_1_0_and_of_unknown_length_end_where_the_provider_ends_them() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for status in ["HTTP/1.0 200 OK\r\n\r\nabc", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"]
    {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send(status);
        let head = client.head();
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
        client.expect("3\r\nabc\r\n");
        upstream.send("defg");
        client.expect("4\r\ndefg\r\n");
        drop(upstream);
        client.expect("0\r\n\r\n");
    }
}

#[test]
fn clients_of_http_1_0_are_served() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab");
    let mut upstream = provider.accept();
    let up = upstream.head();
    assert!(up.starts_with("POST / HTTP/1.1\r\n"), "{up}");
    upstream.expect("ab");
    upstream.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert_eq!(field(&head, "transfer-encoding"), None);
    client.expect("abc");
    upstream.send("1\r\nd\r\n0\r\n\r\n");
    assert_eq!(client.rest(), "d");

    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        upstream.head();
        upstream.send(OK);
        let head = client.head();
        assert_eq!(field(&head, "connection"), Some("keep-alive"), "{head}");
        client.expect("hi");
    }
}

#[test]
fn every_frame_is_passed_on_when_it_comes_in_both_directions_at_once() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    client.send("3\r\nup0\r\n");
    upstream.expect("3\r\nup0\r\n");
    upstream.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    client.head();
    for number in 1..9 {
        let frame = format!("9\r\ndata: {number}\n\n\r\n");
        upstream.send(&frame);
        client.expect(&frame);
        let frame = format!("3\r\nup{number}\r\n");
        client.send(&frame);
        upstream.expect(&frame);
    }
    client.send("0\r\n\r\n");
    upstream.expect("0\r\n\r\n");
    upstream.send("1\r\n.\r\n0\r\n\r\n");
    client.expect("1\r\n.\r\n0\r\n\r\n");
    // The client is free for another call. The provider's connection is not used again: it was given
    // a task of its own, so that neither direction waits for the other.
    client.send("GET /next HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(provider.accept().head().starts_with("GET /next "));
}

#[test]
fn an_answer_is_not_cut_off_by_a_length_beside_its_chunks() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    for length in ["3", "5", "99"] {
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        // Another connection for each: what comes behind such an answer is in doubt.
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        let head = client.head();
        assert_eq!(field(&head, "content-length"), None, "{head}");
        client.expect("5\r\nhello\r\n0\r\n\r\n");
    }
    for row in proxy.wait_for_rows(3) {
        assert_eq!((row["outcome"].as_str(), row["error"].as_str()), (Some("completed"), None));
    }
}

#[test]
fn trailers_pass_both_ways() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: c\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let mut upstream = provider.accept();
    let up = upstream.head();
    assert_eq!(field(&up, "te"), Some("trailers"));
    assert_eq!(field(&up, "connection").map(str::to_ascii_lowercase).as_deref(), Some("te"));
    assert_eq!(field(&up, "trailer"), Some("X-Sum"));
    assert_eq!(
        upstream.read_through("\r\n\r\n").to_lowercase(),
        "2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    upstream.send(
        "HTTP/1.1 200 OK\r\nTrailer: X-Usage\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Usage: 9\r\n\r\n",
    );
    let down = client.head();
    assert_eq!(field(&down, "trailer"), Some("X-Usage"));
    assert_eq!(
        client.read_through("\r\n\r\n").to_lowercase(),
        "2\r\nhi\r\n0\r\nx-usage: 9\r\n\r\n"
    );
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    upstream.head();
}

#[test]
fn a_body_is_asked_for_when_the_provider_asks_for_it() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    let head = "POST / HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.send(head);
    let mut upstream = provider.accept();
    assert_eq!(field(&upstream.head(), "expect"), Some("100-continue"));
    assert!(client.is_silent());
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    upstream.expect("abc");
    upstream.send(OK);
    client.head();
    client.expect("hi");

    // Refused at once: the body is never asked for.
    client.send(head);
    upstream.head();
    upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    let down = client.head();
    assert!(down.starts_with("HTTP/1.1 401 "), "{down}");
    client.expect("no");
    upstream.expect_closed();
    client.expect_closed();

    // A provider that says nothing does not know 100 Continue.
    let mut client = proxy.connect();
    client.send(head);
    let mut upstream = provider.accept();
    upstream.head();
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    upstream.expect("abc");
    upstream.send(OK);
    client.head();
    client.expect("hi");
}

#[test]
fn informational_answers_go_down_before_the_final_one() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    let mut upstream = None;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        let upstream = upstream.get_or_insert_with(|| provider.accept());
        upstream.head();
        upstream.send("HTTP/1.1 102 Processing\r\n\r\n");
        client.expect("HTTP/1.1 102 Processing\r\n\r\n");
        upstream.send(
            "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nlink: <b>\r\nConnection: x-hop\r\nx-hop: 1\r\n\r\n",
        );
        client.expect("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\nlink: <b>\r\n\r\n");
        upstream.send(format!("HTTP/1.1 103 Early Hints\r\nlink: <c>\r\n\r\n{OK}"));
        client.expect("HTTP/1.1 103 Early Hints\r\nlink: <c>\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
        client.expect("hi");
    }
}

#[test]
fn connections_to_the_provider_are_used_again() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut upstream = None;
    for number in 0..3 {
        let mut client = proxy.connect();
        for framing in
            ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n1\r\n!\r\n0\r\n\r\n"]
        {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: c\r\n\r\n"));
            let upstream = upstream.get_or_insert_with(|| provider.accept());
            assert!(upstream.head().starts_with(&format!("GET /{number} ")));
            upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            client.head();
            client.expect(framing.split("\r\n\r\n").nth(1).unwrap());
        }
    }
    assert!(provider.is_untouched());
}

#[test]
fn a_connection_that_cannot_be_trusted_is_not_used_again() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    // How the provider leaves its connection behind.
    let endings: [(&str, &str); 3] = [
        ("closed", OK),
        ("announced", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"),
        (
            "extra bytes",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nX-Foreign: 1\r\nContent-Length: 3\r\n\r\nbad",
        ),
    ];
    for (name, answer) in endings {
        let mut client = proxy.connect();
        client.send("POST /1 HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\n1");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.expect("1");
        upstream.send(answer);
        client.head();
        client.expect("hi");
        if name == "closed" {
            drop(upstream);
        } else {
            upstream.expect_closed();
        }
        client.send("POST /2 HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\n2");
        let mut upstream = provider.accept();
        assert!(upstream.head().starts_with("POST /2 "), "{name}");
        upstream.expect("2");
        upstream.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && field(&head, "x-foreign").is_none());
        client.expect("hi");
        assert!(provider.is_untouched(), "{name}: sent twice");
    }
}

#[test]
fn a_request_that_may_have_been_read_is_never_sent_again() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    let request = "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\nx";
    client.send(request);
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("x");
    upstream.send(OK);
    client.head();
    client.expect("hi");
    client.send(request);
    upstream.head();
    upstream.expect("x");
    drop(upstream);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(field(&head, "x-tokenmeter-error"), Some("upstream_unreachable"));
    assert!(provider.is_untouched());
    let row = &proxy.rows()[1];
    assert_eq!((&row["outcome"], &row["status"]), (&json!("upstream_failed"), &json!(502)));
}

#[test]
fn an_early_answer_to_an_unfinished_upload_spoils_no_other_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send("POST /1 HTTP/1.1\r\nHost: c\r\nContent-Length: 100\r\n\r\nabc");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("abc");
    upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    assert!(client.head().starts_with("HTTP/1.1 401 "));
    client.expect("no");
    upstream.expect_closed();
    let mut client = proxy.connect();
    client.send("GET /2 HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    assert!(upstream.head().starts_with("GET /2 "));
    upstream.send(OK);
    client.head();
    client.expect("hi");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(
        "POST /1 HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\n1GET /2 HTTP/1.1\r\nHost: c\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: c\r\n\r\nGET /3 HTTP/1.1\r\nHost: c\r\n\r\n",
    );
    let mut upstream = provider.accept();
    assert!(upstream.head().starts_with("POST /1 "));
    upstream.expect("1");
    upstream.send("HTTP/1.1 201 1\r\nContent-Length: 1\r\n\r\n1");
    assert!(upstream.head().starts_with("GET /2 "));
    upstream.send("HTTP/1.1 202 2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n");
    assert!(upstream.head().starts_with("GET /3 "));
    upstream.send("HTTP/1.1 203 3\r\nContent-Length: 1\r\n\r\n3");
    assert!(client.head().starts_with("HTTP/1.1 201 1\r\n"));
    client.expect("1");
    assert!(client.head().starts_with("HTTP/1.1 202 2\r\n"));
    client.expect("1\r\n2\r\n0\r\n\r\n");
    let own = client.head();
    client.take(field(&own, "content-length").unwrap().parse().unwrap());
    assert!(client.head().starts_with("HTTP/1.1 203 3\r\n"));
    client.expect("3");
}

#[test]
fn a_body_sent_to_a_page_of_our_own_is_never_taken_for_a_request() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for path in ["/healthz", "/admin/stats", "/azure/x"] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: c\r\n\r\n";
        let mut client = proxy.connect();
        let length = smuggled.len();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n"));
        let head = client.head();
        client.take(field(&head, "content-length").unwrap().parse().unwrap());
        client.send_all_or_fail(smuggled.as_bytes());
        client.close_writing();
        client.expect_closed();
        assert!(provider.is_untouched(), "{path}");
    }
}

#[test]
fn a_body_that_reads_like_an_answer_of_hyper_s_passes() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let body = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        let mut upstream = provider.accept();
        upstream.head();
        let length = body.len();
        upstream.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.head();
        upstream.send(body);
        client.expect(body);
    }
}

#[test]
fn a_broken_answer_is_an_error_and_reaches_nobody() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let broken = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nX-Bad: \0\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ];
    for answer in broken {
        let (_, down) = call(&proxy, &provider, "GET / HTTP/1.1\r\nHost: c\r\n\r\n", answer);
        assert!(down.starts_with("HTTP/1.1 502 "), "{answer:?}: {down}");
        let message = "closed the connection without a valid answer";
        assert!(body_of(&down).contains(message), "{down}");
    }
}

#[test]
fn a_cut_answer_is_cut_for_the_client_too() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for (framing, part) in
        [("Content-Length: 10\r\n", "12345"), ("Transfer-Encoding: chunked\r\n", "5\r\n12345\r\n")]
    {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{part}"));
        client.head();
        client.expect(part);
        drop(upstream);
        client.expect_closed();
    }
    for (row, error) in proxy.wait_for_rows(2).iter().zip(["answer_truncated", "chunks_truncated"])
    {
        assert_eq!((&row["outcome"], &row["error"]), (&json!("upstream_failed"), &json!(error)));
    }
}

#[test]
fn a_reset_is_told_from_a_close() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for framing in ["Content-Length: 20\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n5\r\n12345\r\n"));
        client.head();
        client.expect("5\r\n12345\r\n");
        socket2::SockRef::from(upstream.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(upstream);
        client.expect_closed();
    }
    for row in proxy.wait_for_rows(2) {
        assert_eq!(
            (&row["outcome"], &row["error"]),
            (&json!("upstream_failed"), &json!("upstream_reset"))
        );
    }
}

const MEGABYTE: usize = 1 << 20;

#[test]
fn fifty_megabytes_go_up_and_come_down_whole() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    let total = 50 * MEGABYTE;
    client.send(format!("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: {total}\r\n\r\n"));
    let mut sender = client.other_hand();
    let sending = thread::spawn(move || send_pattern(&mut sender, total));
    let mut upstream = provider.accept();
    upstream.head();
    check_pattern(&mut upstream, total);
    sending.join().unwrap();
    upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
    let sending = thread::spawn(move || send_pattern(&mut upstream, total));
    client.head();
    check_pattern(&mut client, total);
    sending.join().unwrap();
}

/// Bytes that differ from megabyte to megabyte.
fn pattern(number: usize) -> Vec<u8> {
    static FIRST: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0_u32..1 << 18).flat_map(u32::to_be_bytes).collect());
    let mut bytes = FIRST.clone();
    bytes.rotate_left(number * 4);
    bytes
}

fn send_pattern(conn: &mut Conn, total: usize) {
    for number in 0..total / MEGABYTE {
        conn.send(pattern(number));
    }
}

fn check_pattern(conn: &mut Conn, total: usize) {
    for number in 0..total / MEGABYTE {
        assert!(conn.take_bytes(MEGABYTE) == pattern(number), "megabyte {number} differs");
    }
}

/// A side that does not read holds the other side back: what is taken in is bounded by buffers.
#[test]
fn who_does_not_read_holds_the_sender_back() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let limit = 64 * MEGABYTE;

    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    assert!(upstream.send_until_stalled(limit) < limit, "the answer was taken without bound");

    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 1000000000\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    assert!(client.send_until_stalled(limit) < limit, "the request was taken without bound");
}

/// Nobody asks for more of an answer that is not taken, so nobody saw that it stood still.
#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("timeouts.idle = \"300ms\"").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    upstream.send_all_or_fail(&vec![0; 64 * MEGABYTE]);
    upstream.expect_closed();
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "client_closed");
}

#[test]
fn silence_in_the_middle_of_an_answer_cuts_it_off() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("timeouts.idle = \"150ms\"").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    client.head();
    client.expect("1\r\na\r\n");
    client.expect_closed();
    upstream.expect_closed();
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!(
        (&row["outcome"], &row["error"]),
        (&json!("upstream_failed"), &json!("idle_timeout"))
    );
}

/// The provider was blamed for it, after the time that it has for its answer.
#[test]
fn silence_in_the_middle_of_a_request_cuts_it_off() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("timeouts.idle = \"150ms\"").start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\nabc");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("abc");
    upstream.expect_closed();
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "client_closed");
}

#[test]
fn a_provider_that_cannot_be_reached_is_an_error_of_ours() {
    let gone = Provider::new().url();
    let silent = Provider::new();
    let far = Unreachable::new();
    let proxy = Settings::to(silent.url())
        .upstream("gone", gone, "")
        .upstream("far", far.url(), "timeouts.connect = \"100ms\"")
        .with("timeouts.response_head = \"150ms\"")
        .start();
    let cases = [
        ("/gone/x", 502, "upstream_unreachable", "connect_failed"),
        ("/far/x", 504, "upstream_timeout", "connect_timeout"),
        ("/x", 504, "upstream_timeout", "response_timeout"),
    ];
    for (path, status, code, error) in cases {
        let mut client = proxy.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\n{{}}"));
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert_eq!(field(&head, "x-tokenmeter-error"), Some(code));
        assert!(field(&head, "x-tokenmeter-id").is_some());
        let row = proxy.rows().pop().unwrap();
        assert_eq!((&row["outcome"], &row["error"]), (&json!("upstream_failed"), &json!(error)));
    }
}

#[test]
fn the_bytes_of_a_head_are_bounded() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let many = "x-a: 1\r\n".repeat(101);
    let large = format!("x-a: {}\r\n", "a".repeat(1 << 20));
    let target = "a".repeat(1 << 20);
    let request = |target, fields| format!("GET /{target} HTTP/1.1\r\nHost: c\r\n{fields}\r\n");
    let cases = [
        (request("", many.as_str()), "431 ", "head_too_large"),
        (request("", large.as_str()), "431 ", "head_too_large"),
        (request(target.as_str(), ""), "414 ", "uri_too_long"),
        ("GET / HTTP/1.1\r\nHost : c\r\n\r\n".to_owned(), "400 ", "invalid_request"),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), "400 ", "invalid_request"),
    ];
    for (request, status, code) in cases {
        let mut client = proxy.connect();
        client.send_all_or_fail(request.as_bytes());
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(field(&head, "x-tokenmeter-error"), Some(code));
        let body = client.take(field(&head, "content-length").unwrap().parse().unwrap());
        let error = serde_json::from_str::<Value>(&body).unwrap()["error"].take();
        assert_eq!((&error["type"], &error["code"]), (&json!("tokenmeter_error"), &json!(code)));
        client.expect_closed();
    }
    let fitting = format!("GET / HTTP/1.1\r\nHost: c\r\nx-a: {}\r\n\r\n", "a".repeat(40_000));
    assert_eq!(field(&forwarded(&proxy, &provider, &fitting), "x-a").unwrap().len(), 40_000);
}

/// hyper closes a connection on which more of a request is to come than is worth reading. Whoever is not told loses
/// the next call.
#[test]
fn a_refusal_says_whether_the_connection_goes_on() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("limits.request_body = 100\n").start();
    let post = |target: &str, fields: &str, length: usize, sent: &str| {
        let mut client = proxy.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: c\r\n{fields}Content-Length: {length}\r\n\r\n{sent}"
        ));
        let (head, _) = client.answer();
        (client, head)
    };
    for (target, fields, status) in [
        ("/x", "X-Attempt: three\r\n", "400"),
        ("/admin/nothing", "", "401"),
        ("/azure/x", "", "404"),
    ] {
        let (mut client, head) = post(target, fields, 3, "abc");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(field(&head, "connection"), None, "{head}");
        client.send("GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        for fields in [fields.to_owned(), format!("{fields}Expect: 100-continue\r\n")] {
            let (_, head) = post(target, &fields, 30, "abc");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(field(&head, "connection"), Some("close"), "{head}");
        }
    }
    let (_, head) = post("/x", "", 101, "abc");
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
}
