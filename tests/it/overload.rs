//! More calls and connections than tokenmeter takes at a time: who waits, who is sent away and how, and
//! that all is as before when it is over.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::rig::{Conn, Provider, Proxy, Settings, eventually, field};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const OPEN: &str = "metrics_public = true\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n")
}

fn proxy(provider: &Provider, limits: &str) -> Proxy {
    Settings::to(provider.url()).with(&format!("{OPEN}{limits}")).start()
}

/// A client that has asked.
fn asking(address: SocketAddr, path: &str) -> Conn {
    let mut client = Conn::new(TcpStream::connect(address).unwrap());
    client.send(get(path));
    client
}

/// The head and the body of an answer of known length.
fn answer(client: &mut Conn) -> (String, String) {
    let head = client.head();
    let length = field(&head, "content-length").unwrap().parse().unwrap();
    (head, client.take(length))
}

/// A figure of `/metrics`; nothing where there is none yet.
fn metric(address: SocketAddr, name: &str) -> u64 {
    let (_, text) = answer(&mut asking(address, "/metrics"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |figure| figure.parse().unwrap())
}

fn expect_answered(client: &mut Conn) {
    let (head, body) = answer(client);
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "hi", "{head}{body}");
}

/// The message of an answer that sends the client away.
fn expect_shed(client: &mut Conn) -> String {
    let (head, body) = answer(client);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}{body}");
    assert_eq!(field(&head, "x-tokenmeter-error"), Some("overloaded"));
    assert_eq!(field(&head, "retry-after"), Some("1"));
    assert_eq!(field(&head, "x-should-retry"), Some("true"));
    let error = serde_json::from_str::<Value>(&body).unwrap()["error"].take();
    assert_eq!(error["type"], "tokenmeter_error");
    assert_eq!(error["code"], "overloaded");
    error["message"].as_str().unwrap().to_owned()
}

/// The provider's side of a call to this path.
fn reached(provider: &Provider, path: &str) -> Conn {
    let mut upstream = provider.accept();
    let head = upstream.head();
    assert!(head.starts_with(&format!("GET {path} ")), "{head}");
    upstream
}

fn pass(address: SocketAddr, provider: &Provider, path: &str) {
    let mut client = asking(address, path);
    reached(provider, path).send(ANSWER.replace("Content", "Connection: close\r\nContent"));
    expect_answered(&mut client);
}

#[test]
fn calls_wait_their_turn_first_come_first_served_and_others_are_sent_away() {
    let provider = Provider::new();
    let limits = "limits.calls = 1\nlimits.queue = 2\nlimits.queue_wait = \"60s\"";
    let proxy = proxy(&provider, limits);
    let mut first = asking(proxy.address, "/1");
    let mut upstream = reached(&provider, "/1");
    let mut second = asking(proxy.address, "/2");
    eventually("one waits", || metric(proxy.address, "tokenmeter_queued_calls") == 1);
    let mut third = asking(proxy.address, "/3");
    eventually("two wait", || metric(proxy.address, "tokenmeter_queued_calls") == 2);
    let mut fourth = asking(proxy.address, "/4");
    let message = expect_shed(&mut fourth);
    assert!(message.contains("limits.queue") && message.contains("was not sent"), "{message}");
    // It may come again over the same connection, and those who look after tokenmeter are not sent away.
    fourth.send(get("/healthz"));
    assert!(fourth.head().starts_with("HTTP/1.1 200 "));
    assert_eq!(metric(proxy.address, "tokenmeter_client_calls"), 1);
    assert!(provider.is_untouched());
    for (client, next) in [(&mut first, "/2"), (&mut second, "/3")] {
        upstream.send(ANSWER);
        expect_answered(client);
        // The connection to the provider is used again.
        let head = upstream.head();
        assert!(head.starts_with(&format!("GET {next} ")), "{head}");
    }
    upstream.send(ANSWER);
    expect_answered(&mut third);
    eventually("all is over", || metric(proxy.address, "tokenmeter_client_calls") == 0);
    assert_eq!(metric(proxy.address, "tokenmeter_errors_total{code=\"overloaded\"}"), 1);
    let rows = proxy.wait_for_rows(3);
    assert!(rows.iter().all(|row| row["outcome"] == "completed"), "{rows:?}");
    assert_eq!(proxy.opened().len(), 3);
}

#[test]
fn who_leaves_the_queue_is_not_sent() {
    let provider = Provider::new();
    let limits = "limits.calls = 1\nlimits.queue_wait = \"60s\"";
    let proxy = proxy(&provider, limits);
    let mut first = asking(proxy.address, "/1");
    let mut upstream = reached(&provider, "/1");
    let second = asking(proxy.address, "/2");
    eventually("one waits", || metric(proxy.address, "tokenmeter_queued_calls") == 1);
    let mut third = asking(proxy.address, "/3");
    eventually("two wait", || metric(proxy.address, "tokenmeter_queued_calls") == 2);
    drop(second);
    eventually("one has left", || metric(proxy.address, "tokenmeter_queued_calls") == 1);
    upstream.send(ANSWER);
    expect_answered(&mut first);
    let head = upstream.head();
    assert!(head.starts_with("GET /3 "), "{head}");
    upstream.send(ANSWER);
    expect_answered(&mut third);
    proxy.wait_for_rows(2);
}

#[test]
fn a_provider_that_hangs_keeps_nobody_waiting_for_long() {
    let provider = Provider::new();
    let limits = "limits.calls = 2\nlimits.queue = 3\nlimits.queue_wait = \"50ms\"";
    let proxy = proxy(&provider, limits);
    let mut stuck: Vec<Conn> = (0..2).map(|_| asking(proxy.address, "/stuck")).collect();
    let mut upstreams: Vec<Conn> = (0..2).map(|_| reached(&provider, "/stuck")).collect();
    let mut others: Vec<Conn> = (0..30).map(|_| asking(proxy.address, "/more")).collect();
    let said: Vec<String> = others.iter_mut().map(expect_shed).collect();
    assert!(said.iter().any(|message| message.contains("limits.queue_wait")), "{said:?}");
    assert!(provider.is_untouched());
    assert!(asking(proxy.address, "/healthz").head().starts_with("HTTP/1.1 200 "));
    for (client, upstream) in stuck.iter_mut().zip(&mut upstreams) {
        upstream.send(ANSWER);
        expect_answered(client);
    }
    // At once its old self: the same clients, over the same connections.
    for client in &mut others[..2] {
        client.send(get("/again"));
    }
    for upstream in &mut upstreams {
        assert!(upstream.head().starts_with("GET /again "));
        upstream.send(ANSWER);
    }
    others[..2].iter_mut().for_each(expect_answered);
    proxy.wait_for_rows(4);
}

#[test]
fn beyond_its_connections_it_says_so_and_answers_for_itself() {
    let provider = Provider::new();
    let proxy = proxy(&provider, "limits.connections = 1");
    let mut first = asking(proxy.address, "/1");
    let mut upstream = reached(&provider, "/1");
    for path in ["/healthz", "/metrics"] {
        let mut watching = asking(proxy.address, path);
        let (head, _) = answer(&mut watching);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "connection"), Some("close"));
        watching.expect_closed();
    }
    let mut second = asking(proxy.address, "/2");
    let message = expect_shed(&mut second);
    assert!(message.contains("limits.connections"), "{message}");
    second.expect_closed();
    upstream.send(ANSWER);
    expect_answered(&mut first);
    drop((first, upstream));
    eventually("its place is free", || {
        let mut client = asking(proxy.address, "/3");
        let mut upstream = None;
        eventually("an answer of either", || {
            upstream = upstream.take().or_else(|| provider.try_accept());
            upstream.is_some() || !client.is_silent()
        });
        let Some(mut upstream) = upstream else { return false };
        upstream.head();
        upstream.send(ANSWER);
        expect_answered(&mut client);
        true
    });
    proxy.wait_for_rows(2);
}

#[test]
fn a_connection_without_a_call_goes_when_another_wants_its_place() {
    let provider = Provider::new();
    let proxy = proxy(&provider, "limits.connections = 2");
    let mut used = asking(proxy.address, "/used");
    let mut upstream = reached(&provider, "/used");
    upstream.send(ANSWER);
    expect_answered(&mut used);
    let mut busy = asking(proxy.address, "/busy");
    let head = upstream.head();
    assert!(head.starts_with("GET /busy "), "{head}");
    // It is not closed the moment its call is over: a client may be about to use it again.
    let mut newcomer = None;
    eventually("a newcomer is served", || {
        let mut client = asking(proxy.address, "/new");
        let mut upstream = None;
        eventually("an answer of either", || {
            upstream = upstream.take().or_else(|| provider.try_accept());
            upstream.is_some() || !client.is_silent()
        });
        newcomer = upstream.map(|upstream| (client, upstream));
        newcomer.is_some()
    });
    used.expect_closed();
    let (mut client, mut answering) = newcomer.unwrap();
    answering.head();
    answering.send(ANSWER);
    let (head, _) = answer(&mut client);
    // It has a place of its own now.
    assert_eq!(field(&head, "connection"), None, "{head}");
    upstream.send(ANSWER);
    expect_answered(&mut busy);
    client.send(get("/healthz"));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_tunnel_keeps_its_places_while_it_stands() {
    let provider = Provider::new();
    let limits = "limits.connections = 1\nlimits.calls = 1\nlimits.queue = 0";
    let proxy = proxy(&provider, limits);
    let mut client = proxy.connect();
    client.send(
        "GET /v1/realtime HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhl\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let mut upstream = reached(&provider, "/v1/realtime");
    upstream.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pP\r\n\r\n",
    );
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    upstream.send("\u{1}");
    client.take_bytes(1);
    expect_shed(&mut asking(proxy.address, "/1"));
    assert_eq!(metric(proxy.address, "tokenmeter_client_calls"), 1);
    drop((client, upstream));
    eventually("both places are free", || {
        let (head, text) = answer(&mut asking(proxy.address, "/metrics"));
        text.contains("tokenmeter_client_calls 0\n") && field(&head, "connection").is_none()
    });
    pass(proxy.address, &provider, "/2");
}

/// Clients that come all at once, each with a call over a connection of its own.
struct Flood {
    clients: Vec<JoinHandle<bool>>,
    shed: Arc<AtomicUsize>,
}

impl Flood {
    fn of(count: usize, address: SocketAddr) -> Flood {
        let (start, shed) = (Arc::new(Barrier::new(count)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..count).map(|_| {
            let (start, shed) = (Arc::clone(&start), Arc::clone(&shed));
            thread::spawn(move || {
                start.wait();
                let mut client = asking(address, "/flood");
                let (head, _) = answer(&mut client);
                let is_shed = field(&head, "x-tokenmeter-error") == Some("overloaded");
                assert!(is_shed || head.starts_with("HTTP/1.1 200 "), "{head}");
                shed.fetch_add(usize::from(is_shed), Ordering::SeqCst);
                !is_shed
            })
        });
        Flood { clients: clients.collect(), shed }
    }

    fn shed(&self) -> usize {
        self.shed.load(Ordering::SeqCst)
    }

    /// How many had their answer.
    fn served(self) -> usize {
        self.clients.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    }
}

/// Answers every call, but none before it is let go.
struct Slow {
    provider: Arc<Provider>,
    is_let_go: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    answering: Option<JoinHandle<usize>>,
}

impl Slow {
    fn new() -> Slow {
        let provider = Arc::new(Provider::new());
        let (is_let_go, is_over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (accepting, let_go, over) =
            (Arc::clone(&provider), Arc::clone(&is_let_go), Arc::clone(&is_over));
        let answering = thread::spawn(move || {
            let (mut waiting, mut count) = (Vec::new(), 0);
            while !over.load(Ordering::SeqCst) {
                while let Some(upstream) = accepting.try_accept() {
                    waiting.push(upstream);
                    count += 1;
                }
                if let_go.load(Ordering::SeqCst) {
                    for mut upstream in waiting.drain(..) {
                        upstream.head();
                        let closing = ANSWER.replace("Content", "Connection: close\r\nContent");
                        upstream.send(closing);
                    }
                }
                thread::park_timeout(std::time::Duration::from_millis(1));
            }
            count
        });
        Slow { provider, is_let_go, is_over, answering: Some(answering) }
    }

    fn let_go(&self) {
        self.is_let_go.store(true, Ordering::SeqCst);
    }

    /// How many connections there were.
    fn end(mut self) -> usize {
        self.is_over.store(true, Ordering::SeqCst);
        self.answering.take().unwrap().join().unwrap()
    }
}

#[test]
fn of_a_flood_as_many_are_served_as_there_are_places_and_all_are_answered() {
    let slow = Slow::new();
    let proxy = proxy(&slow.provider, "limits.connections = 3");
    let flood = Flood::of(200, proxy.address);
    // Nobody hangs in the backlog for as long as the provider does.
    eventually("the others know", || flood.shed() == 197);
    slow.let_go();
    assert_eq!(flood.served(), 3);
    let mut next = asking(proxy.address, "/next");
    expect_answered(&mut next);
    assert_eq!(slow.end(), 4);
    proxy.wait_for_rows(4);
}

/// Where the program with few descriptors may send calls.
#[cfg(target_os = "linux")]
const UPSTREAMS: [&str; 6] =
    ["OPENAI", "OPENROUTER", "ANTHROPIC", "TOGETHER", "CEREBRAS", "OLLAMA"];

/// The program with few descriptors.
#[cfg(target_os = "linux")]
struct Narrow {
    child: Child,
    address: SocketAddr,
    _home: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl Narrow {
    fn start(url: &str, descriptors: &str) -> Narrow {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit {descriptors}; exec \"$0\" serve")])
            .arg(env!("CARGO_BIN_EXE_tokenmeter"))
            .current_dir(home.path())
            .env("TOKENMETER_LISTEN", "127.0.0.1:0")
            .env("TOKENMETER_WORKERS", "2")
            .env("TOKENMETER_LIMITS_QUEUE", "4")
            .env("TOKENMETER_LIMITS_QUEUE_WAIT", "50ms")
            .env("TOKENMETER_METRICS_PUBLIC", "true")
            .envs(UPSTREAMS.map(|name| (format!("TOKENMETER_UPSTREAMS_{name}_BASE_URL"), url)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = banner.next().unwrap().unwrap();
        let address = first.rsplit('/').next().unwrap().parse().unwrap();
        Narrow { child, address, _home: home }
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Ends it, and gives its log.
    fn log(mut self) -> String {
        let stop = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(stop.unwrap().success());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text
    }
}

#[test]
#[cfg(target_os = "linux")]
fn it_takes_no_more_than_its_descriptors_allow() {
    let slow = Slow::new();
    let narrow = Narrow::start(&slow.provider.url(), "-n 160");
    let (calls, connections) = (
        usize::try_from(metric(narrow.address, "tokenmeter_client_calls_max")).unwrap(),
        metric(narrow.address, "tokenmeter_client_connections_max"),
    );
    assert!(calls >= 20 && connections >= 20, "{calls} {connections}");
    let flood = Flood::of(400, narrow.address);
    let served = calls.min(usize::try_from(connections).unwrap());
    eventually("those who find no room know", || flood.shed() >= 400 - served);
    assert!(narrow.descriptors() <= 160, "{}", narrow.descriptors());
    slow.let_go();
    assert!(flood.served() <= served);
    expect_answered(&mut asking(narrow.address, "/next"));
    slow.end();
    let log = narrow.log();
    let warnings = log.lines().filter(|line| line.contains("need 20228 file descriptors"));
    assert_eq!(warnings.count(), 1, "{log}");
    assert!(!log.contains("os error 24") && !log.contains("Too many open files"), "{log}");
}

#[test]
#[cfg(target_os = "linux")]
fn idle_connections_to_upstreams_make_way_for_calls() {
    let provider = Provider::new();
    let narrow = Narrow::start(&provider.url(), "-n 160");
    let mut clients: Vec<Conn> =
        (0..20).map(|_| Conn::new(TcpStream::connect(narrow.address).unwrap())).collect();
    let mut idle = Vec::new();
    for name in UPSTREAMS.map(str::to_lowercase) {
        for client in &mut clients {
            client.send(get(&format!("/{name}/v1/models")));
        }
        for _ in &clients {
            let mut upstream = provider.accept();
            upstream.head();
            upstream.send(ANSWER);
            idle.push(upstream);
        }
        clients.iter_mut().for_each(expect_answered);
        assert!(narrow.descriptors() <= 160);
    }
    assert!(narrow.descriptors() < 40 + idle.len());
    narrow.log();
}

#[test]
#[cfg(target_os = "linux")]
fn it_asks_for_all_the_descriptors_that_it_may_have() {
    let provider = Provider::new();
    let narrow = Narrow::start(&provider.url(), "-S -n 160");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", narrow.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let figures: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(figures[0], figures[1], "{line}");
    assert_ne!(figures[0], "160", "{line}");
    narrow.log();
}
