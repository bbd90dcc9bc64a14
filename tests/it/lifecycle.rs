//! Beginnings and ends: clients that leave, clients that dawdle, and a proxy that stops.

use std::time::{Duration, Instant};

use serde_json::json;

use super::rig::{Conn, PATIENCE, Provider, Proxy, Settings, eventually, field};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: c\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";

/// A call whose answer has begun: the client's end and the provider's.
fn streaming(proxy: &Proxy, provider: &Provider) -> (Conn, Conn) {
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(STREAM);
    client.head();
    client.expect("1\r\na\r\n");
    (client, upstream)
}

/// A call that is over, on a connection that stays open.
fn served(proxy: &Proxy, provider: &Provider) -> (Conn, Conn) {
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(OK);
    client.head();
    client.expect("hi");
    (client, upstream)
}

#[test]
fn a_client_that_leaves_before_the_answer_cancels_the_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for reset in [false, true] {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\n{}");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.expect("{}");
        if reset {
            socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        upstream.expect_closed();
    }
    for row in proxy.wait_for_rows(2) {
        assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(null)));
    }
}

#[test]
fn a_client_that_leaves_during_its_upload_cancels_the_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 20\r\n\r\n{}");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("{}");
    drop(client);
    upstream.expect_closed();
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "client_closed");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_answer_cancels_the_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let (client, mut upstream) = streaming(&proxy, &provider);
    drop(client);
    upstream.expect_closed();
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!((&row["outcome"], &row["status"]), (&json!("client_closed"), &json!(200)));
}

#[test]
fn a_stop_lets_what_is_in_flight_finish() {
    let provider = Provider::new();
    let mut proxy = Proxy::to(&provider);
    let (mut client, mut upstream) = streaming(&proxy, &provider);
    let (mut idle, _pooled) = served(&proxy, &provider);
    let mut fresh = proxy.connect();
    proxy.stop();
    idle.expect_closed();
    fresh.expect_closed();
    let address = proxy.address;
    eventually("no new connections", || std::net::TcpStream::connect(address).is_err());
    upstream.send("1\r\nb\r\n");
    client.expect("1\r\nb\r\n");
    assert!(proxy.is_running());
    upstream.send("0\r\n\r\n");
    client.expect("0\r\n\r\n");
    client.expect_closed();
    proxy.join();
    assert!(proxy.rows().iter().all(|row| row["outcome"] == "completed"));
}

#[test]
fn a_call_that_begins_while_stopping_closes_its_connection() {
    let provider = Provider::new();
    let mut proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send(GET);
    let mut upstream = provider.accept();
    upstream.head();
    proxy.stop();
    let address = proxy.address;
    eventually("no new connections", || std::net::TcpStream::connect(address).is_err());
    upstream.send(OK);
    let head = client.head();
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    client.expect("hi");
    client.expect_closed();
    proxy.join();
}

#[test]
fn a_stop_cuts_off_what_outlasts_the_grace() {
    let provider = Provider::new();
    let mut proxy = Settings::to(provider.url()).with("shutdown_grace = \"100ms\"").start();
    let (mut client, mut upstream) = streaming(&proxy, &provider);
    proxy.stop();
    client.expect_closed();
    upstream.expect_closed();
    proxy.join();
    assert_eq!(proxy.rows()[0]["outcome"], "interrupted");
}

#[test]
fn a_second_stop_does_not_wait() {
    let provider = Provider::new();
    let mut proxy = Settings::to(provider.url()).with("shutdown_grace = \"1h\"").start();
    let (mut client, _upstream) = streaming(&proxy, &provider);
    proxy.stop();
    let address = proxy.address;
    eventually("no new connections", || std::net::TcpStream::connect(address).is_err());
    proxy.stop();
    client.expect_closed();
    proxy.join();
}

/// hyper counts the time of a head from the end of the call before, so that a connection could be
/// idle no longer than a head may take.
#[test]
fn an_idle_connection_outlasts_the_time_for_a_head() {
    let provider = Provider::new();
    let times = "timeouts.request_head = \"20ms\"\ntimeouts.keep_alive = \"600ms\"";
    let proxy = Settings::to(provider.url()).with(times).start();
    let mut fresh = proxy.connect();
    let (mut client, _upstream) = served(&proxy, &provider);
    let since = Instant::now();
    client.expect_closed();
    assert!(since.elapsed() > Duration::from_millis(500), "{:?}", since.elapsed());
    fresh.expect_closed();
    assert!(since.elapsed() < PATIENCE);
}

/// A byte now and then must not prolong it, and a connection that has said too little to tell which
/// HTTP it speaks had no limit at all.
#[test]
fn a_head_that_trickles_is_cut_off() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("timeouts.request_head = \"200ms\"").start();
    let (used, _upstream) = served(&proxy, &provider);
    for (mut client, beginning) in [
        (proxy.connect(), "P"),
        (proxy.connect(), "PRI * HTTP/2.0\r\n\r\nSM\r\n"),
        (proxy.connect(), "GET / HTTP/1.1\r\nHost: c\r\n"),
        (used, "GET / HTTP/1.1\r\nHost: c\r\n"),
    ] {
        client.send(beginning);
        let mut hand = client.other_hand();
        let since = Instant::now();
        let trickling = std::thread::spawn(move || {
            while hand.stream().peek(&mut [0]).is_err() && since.elapsed() < PATIENCE {
                hand.send_all_or_fail(b"x");
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        client.rest();
        assert!(since.elapsed() < PATIENCE);
        trickling.join().unwrap();
    }
    assert_eq!(proxy.rows().len(), 1);
}

#[test]
fn neither_clock_runs_during_a_call() {
    let provider = Provider::new();
    let times = "timeouts.request_head = \"20ms\"\ntimeouts.keep_alive = \"20ms\"";
    let proxy = Settings::to(provider.url()).with(times).start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\na");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.expect("a");
    // Others come and go meanwhile: both limits have passed.
    proxy.connect().expect_closed();
    client.send("b");
    upstream.expect("b");
    proxy.connect().expect_closed();
    upstream.send(STREAM);
    client.head();
    client.expect("1\r\na\r\n");
    proxy.connect().expect_closed();
    upstream.send("0\r\n\r\n");
    client.expect("0\r\n\r\n");
    client.expect_closed();
}

#[test]
fn a_connection_to_the_provider_that_idles_too_long_is_closed() {
    let provider = Provider::new();
    let proxy = Settings::default()
        .upstream("up", provider.url(), "timeouts.pool_idle = \"100ms\"")
        .start();
    let (_client, mut upstream) = served(&proxy, &provider);
    upstream.expect_closed();
}
