//! What stands in front of tokenmeter, with the configurations that `deploy/` hands out: nginx and Caddy pass events
//! as they come, uploads as they go, web sockets both ways, and the news that a client has left.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::prometheus::{Running, TOKEN, repository, tokenmeter};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What providers take in one upload.
const UPLOAD: usize = 100_000_000;

/// Begins an upload, and is to arrive before the rest is sent.
const FIRST: usize = 200_000;

/// The provider's side of one call: its connection, and the request's head.
struct Call {
    stream: BufReader<TcpStream>,
    head: String,
}

/// Hands on each request that arrives, when its head is whole.
fn provider() -> (String, Receiver<Call>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (calls, arriving) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let calls: Sender<Call> = calls.clone();
            thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut stream = BufReader::new(stream);
                let head = head(&mut stream);
                if !head.is_empty() {
                    let _ = calls.send(Call { stream, head });
                }
            });
        }
    });
    (url, arriving)
}

fn head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            break;
        }
    }
    head
}

fn connect(front: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// Reads until these words have come.
fn expect(stream: &mut impl Read, words: &str) {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(words.as_bytes()) {
        let found = stream.read(&mut byte).unwrap_or_else(|error| panic!("{words}: {error}"));
        assert_eq!(found, 1, "{words}: {}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
}

fn send(stream: &mut BufReader<TcpStream>, text: &str) {
    stream.get_mut().write_all(text.as_bytes()).unwrap();
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
     X-Accel-Redirect: /metrics\r\n\r\n";

const ASK: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: llm.example.com\r\n\
     Content-Type: application/json\r\nX_User: ann\r\nX-Session: s-1\r\nContent-Length: 18\r\n\r\n\
     {\"model\":\"gpt-4o\"}";

fn begin(front: &str, calls: &Receiver<Call>) -> (BufReader<TcpStream>, Call) {
    let mut client = connect(front);
    send(&mut client, ASK);
    let mut call = calls.recv_timeout(PATIENCE).expect("the call arrives");
    let mut body = [0; 18];
    call.stream.read_exact(&mut body).unwrap();
    send(&mut call.stream, STREAM);
    send(&mut call.stream, &chunk("data: {\"choices\":[]}\n\n"));
    let head = head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-tokenmeter-id: "), "{head}");
    // The provider says no more until this one has come.
    expect(&mut client, "data: {\"choices\":[]}\n\n");
    (client, call)
}

fn events_come_one_by_one(front: &str, calls: &Receiver<Call>) {
    let (mut client, mut call) = begin(front, calls);
    assert!(!call.head.to_ascii_lowercase().contains("x-session"), "{}", call.head);
    send(&mut call.stream, &chunk("data: second\n\n"));
    expect(&mut client, "data: second\n\n");
    send(&mut call.stream, &format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n")));
    expect(&mut client, "0\r\n\r\n");
}

fn a_client_that_leaves_ends_the_call(front: &str, calls: &Receiver<Call>) {
    let (client, mut call) = begin(front, calls);
    drop(client);
    // Also where a front only finds out when it has something to hand on.
    let deadline = Instant::now() + PATIENCE;
    let mut sent = Ok(());
    while sent.is_ok() && Instant::now() < deadline {
        sent = call.stream.get_mut().write_all(chunk("data: more\n\n").as_bytes());
        call.stream.get_mut().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if let Ok(0) = call.stream.read(&mut [0]) {
            return;
        }
    }
    assert!(sent.is_err(), "the provider was not told that the client has left");
}

fn an_upload_goes_on_as_it_comes(front: &str, calls: &Receiver<Call>) {
    let mut client = connect(front);
    send(
        &mut client,
        &format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: llm.example.com\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {UPLOAD}\r\n\r\n"
        ),
    );
    let mut hand = client.get_ref().try_clone().unwrap();
    let (arrived, may_go_on) = mpsc::channel::<()>();
    let uploading = thread::spawn(move || {
        hand.write_all(&vec![b'a'; FIRST]).unwrap();
        may_go_on.recv_timeout(PATIENCE).expect("the beginning arrives before the end is sent");
        hand.write_all(&vec![b'b'; UPLOAD - FIRST]).unwrap();
    });
    let mut call = calls.recv_timeout(PATIENCE).expect("the call arrives");
    let mut first = vec![0; FIRST];
    call.stream.read_exact(&mut first).unwrap();
    arrived.send(()).unwrap();
    let mut rest = vec![0; UPLOAD - FIRST];
    call.stream.read_exact(&mut rest).unwrap();
    assert!(rest.iter().all(|byte| *byte == b'b'));
    uploading.join().unwrap();
    send(&mut call.stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    assert!(head(&mut client).starts_with("HTTP/1.1 200"));
    expect(&mut client, "done");
}

fn a_websocket_passes(front: &str, calls: &Receiver<Call>) {
    let mut client = connect(front);
    send(
        &mut client,
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: llm.example.com\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let mut call = calls.recv_timeout(PATIENCE).expect("the call arrives");
    send(
        &mut call.stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    assert!(head(&mut client).starts_with("HTTP/1.1 101"));
    // A masked text message of a client, and an unmasked one of a server.
    send(&mut client, "\u{1}");
    expect(&mut call.stream, "\u{1}");
    send(&mut call.stream, "\u{1}\u{2}hi");
    expect(&mut client, "\u{1}\u{2}hi");
}

fn own_pages_answer(front: &str, path: &str) -> String {
    let mut client = connect(front);
    send(
        &mut client,
        &format!(
            "GET {path} HTTP/1.1\r\nHost: llm.example.com\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\n\r\n"
        ),
    );
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn try_all(front: &str, calls: &Receiver<Call>) {
    events_come_one_by_one(front, calls);
    a_client_that_leaves_ends_the_call(front, calls);
    an_upload_goes_on_as_it_comes(front, calls);
    a_websocket_passes(front, calls);
    own_pages_answer(front, "/healthz");
    let deadline = Instant::now() + PATIENCE;
    let counted = |answer: &str| {
        let rows = answer.matches("\"outcome\":\"completed\"").count();
        (rows, answer.matches("\"outcome\":\"client_closed\"").count())
    };
    loop {
        let rows = own_pages_answer(front, "/admin/usage");
        // The stream and the upload; the call that was left. How the tunnel ends is not asked here.
        let (completed, left) = counted(&rows);
        if completed >= 2 && left >= 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{rows}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A port that nobody has at the moment.
pub(super) fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Once it takes connections.
pub(super) fn wait(mut process: Child, front: &str) -> Running {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(front).is_err() {
        assert!(Instant::now() < deadline, "{front} does not listen");
        assert!(process.try_wait().unwrap().is_none(), "the program has ended");
        thread::sleep(Duration::from_millis(50));
    }
    Running(process)
}

fn shipped(name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(repository().join("deploy").join(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no `{from}`");
        text = text.replace(from, to);
    }
    text
}

fn nginx(directory: &Path, target: &str) -> (Running, String) {
    let front = free();
    let server = shipped(
        "nginx.conf",
        &[
            ("127.0.0.1:4100", target),
            ("listen 443 ssl http2;", &format!("listen {front};")),
            ("ssl_certificate ", "#"),
            ("ssl_certificate_key ", "#"),
        ],
    );
    let at = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let whole = format!(
        "pid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, whole).unwrap();
    let process = Command::new("nginx")
        .args(["-g", "daemon off; master_process off;", "-p"])
        .arg(directory)
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed");
    let running = wait(process, &front);
    (running, front)
}

fn caddy(directory: &Path, target: &str) -> (Running, String) {
    let front = free();
    let site = shipped(
        "Caddyfile",
        &[("127.0.0.1:4100", target), ("llm.example.com {", &format!("http://{front} {{"))],
    );
    // Any host, since it is asked for by its address.
    let site = site.replace(&format!("http://{front}"), &format!("http://:{}", port(&front)));
    let file = directory.join("Caddyfile");
    fs::write(
        &file,
        format!("{{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}}\n{site}"),
    )
    .unwrap();
    let process = Command::new("caddy")
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&file)
        .env("HOME", directory)
        .env("XDG_DATA_HOME", directory)
        .env("XDG_CONFIG_HOME", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("caddy is installed");
    let running = wait(process, &front);
    (running, front)
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

fn stage() -> (TempDir, TempDir, String, Receiver<Call>) {
    let (url, calls) = provider();
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), url, calls)
}

#[test]
fn nginx_in_front_leaves_calls_as_they_are() {
    let (home, place, url, calls) = stage();
    let (_serving, address) = tokenmeter(home.path(), &url);
    let (_nginx, front) = nginx(place.path(), &address);
    try_all(&front, &calls);
}

#[test]
fn caddy_in_front_leaves_calls_as_they_are() {
    let (home, place, url, calls) = stage();
    let (_serving, address) = tokenmeter(home.path(), &url);
    let (_caddy, front) = caddy(place.path(), &address);
    try_all(&front, &calls);
}
