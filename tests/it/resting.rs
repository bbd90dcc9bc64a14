//! Connections between calls: they rest, take next to no memory, and go on as if they had not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::listener_tls::{Authority, TlsConn};
use super::rig::{Conn, PATIENCE, Provider, Proxy, Settings};
use super::siege::Siege;

/// More than it takes a connection to come to rest. Were it less, the trials would pass and show nothing.
const A_WHILE: Duration = Duration::from_millis(300);

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: c\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn answer(upstream: &mut Conn) {
    assert!(upstream.head().starts_with("GET /v1/x "));
    upstream.send(ANSWER);
}

fn expect_answer(client: &mut Conn) {
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("hi");
}

#[test]
fn a_connection_goes_on_after_a_rest() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    answer(&mut upstream);
    expect_answer(&mut client);
    for _ in 0..3 {
        thread::sleep(A_WHILE);
        client.send(GET);
        answer(&mut upstream);
        expect_answer(&mut client);
    }
    // What cannot be read is answered clearly after a rest as before.
    thread::sleep(A_WHILE);
    client.send("GET /v1/x HTTP/1.1\r\nHost : c\r\n\r\n");
    assert!(client.head().contains("x-tokenmeter-error: invalid_request"));
}

#[test]
fn what_came_before_the_rest_of_a_head_is_kept() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for split in [1, 3, 24, GET.len() - 1] {
        let mut client = proxy.connect();
        // In one piece, so that the second head's beginning is read with the first one's end.
        client.send([GET, &GET[..split]].concat());
        let mut upstream = provider.accept();
        answer(&mut upstream);
        expect_answer(&mut client);
        thread::sleep(A_WHILE);
        client.send(&GET[split..]);
        answer(&mut upstream);
        expect_answer(&mut client);
    }
}

#[test]
fn the_rest_of_a_head_is_waited_for_no_longer_than_a_head() {
    let provider = Provider::new();
    let limits = "timeouts.request_head = \"1s\"\ntimeouts.keep_alive = \"600s\"\n";
    let proxy = Settings::to(provider.url()).with(limits).start();
    for split in [1, 30] {
        let mut client = proxy.connect();
        client.send([GET, &GET[..split]].concat());
        let mut upstream = provider.accept();
        answer(&mut upstream);
        expect_answer(&mut client);
        client.expect_closed();
    }
}

/// HTTP/2 begins a connection, or is none.
#[test]
fn nobody_changes_to_http2_after_a_rest() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    answer(&mut upstream);
    expect_answer(&mut client);
    thread::sleep(A_WHILE);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let said = client.rest();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said:?}");
}

#[test]
fn a_connection_rests_no_longer_than_it_may_be_idle() {
    let provider = Provider::new();
    let limits = "timeouts.keep_alive = \"1s\"\n";
    let proxy = Settings::to(provider.url()).with(limits).start();
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    answer(&mut upstream);
    expect_answer(&mut client);
    let since = Instant::now();
    client.expect_closed();
    assert!(since.elapsed() > A_WHILE, "{:?}", since.elapsed());
}

#[test]
fn a_connection_at_rest_does_not_hold_up_the_end() {
    let provider = Provider::new();
    let mut proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    answer(&mut upstream);
    expect_answer(&mut client);
    thread::sleep(A_WHILE);
    proxy.stop();
    client.expect_closed();
    proxy.join();
}

#[test]
fn a_connection_over_tls_rests_too_and_says_goodbye() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let mut proxy = Settings::to(provider.url()).with(&authority.keys()).start();
    let mut client: TlsConn = authority.connect(proxy.address);
    let mut upstream: Option<Conn> = None;
    for _ in 0..2 {
        client.send(GET);
        answer(upstream.get_or_insert_with(|| provider.accept()));
        assert_eq!(client.answer().1, "hi");
        thread::sleep(A_WHILE);
    }
    proxy.stop();
    assert!(client.is_closed_in_good_order());
    proxy.join();
}

/// A thousand, each after a call. Before they rested they took some 30 kB each.
#[test]
fn a_connection_at_rest_takes_little_memory() {
    const CONNECTIONS: u64 = 1_000;
    let siege = Siege::with("", |asked| {
        let mut out = asked.stream;
        write!(out, "{ANSWER}").map(|()| true)
    });
    let ask = |stream: &mut TcpStream| {
        let request = format!("GET /rest/{} HTTP/1.1\r\nHost: c\r\n\r\n", fastrand::u64(..));
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhi") {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..count]);
        }
    };
    let open = |count| -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = TcpStream::connect(siege.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            ask(&mut stream);
            stream
        };
        (0..count).map(connect).collect()
    };
    // As many calls over one, so that what a process takes for calls as such is taken, and for no connection.
    let mut one = open(1);
    for _ in 1..CONNECTIONS {
        ask(&mut one[0]);
    }
    siege.settle();
    let before = siege.memory().now;
    let connections = open(CONNECTIONS);
    siege.settle();
    let each = siege.memory().now.saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes a connection");
    assert!(each < 20_000, "{each} bytes a connection");
    drop(connections);
    assert_eq!(siege.reckon("/rest/").len(), 2 * usize::try_from(CONNECTIONS).unwrap());
}
