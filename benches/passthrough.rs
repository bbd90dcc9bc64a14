//! What metering costs: tokenmeter, with reading, pricing and recording on, beside proxies that only
//! forward, in interleaved rounds of one run.
//!
//! `cargo bench --bench passthrough` starts, each as a process of its own on the loopback address: a
//! provider that answers from memory; `bare`, a pass-through of hyper's server and hyper-util's pooled
//! client, one thread; nginx as a plain reverse proxy, one worker, if it is installed; tokenmeter, one
//! worker. The machine is shared, so the figure that counts is the CPU time of the proxy's process
//! per call or event, and its ratio to `bare` in the same round; the median over the rounds is printed.
//!
//! `cargo bench --bench passthrough -- watched` tells what being watched costs: tokenmeters of which one is
//! left alone, one scraped every second, one scraped and telling a collector of every call (spans and
//! metrics), and one that logs every call as JSON as well. Ratios are to the one left alone. Besides, what it
//! takes to count a row and a call, which every tokenmeter does.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokenmeter::record::Record;
use tokenmeter::telemetry::{self, Telemetry};

const ROUNDS: usize = 7;
const CHAT_CALLS: usize = 6_000;
const STREAMS: usize = 60;
const EVENTS: usize = 200;
const LONE_CALLS: usize = 1_500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("provider") => provider(),
        Some("bare") => bare(&arguments[2]),
        Some("collector") => collector(),
        Some("watched") => compare_watched(),
        _ => compare_proxies(),
    }
}

// --- the comparison ---

struct Target {
    name: &'static str,
    address: String,
    /// `None` for the provider itself.
    process: Option<Child>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One load: what is asked for, how often, over how many connections.
struct Load {
    name: &'static str,
    path: &'static str,
    connections: usize,
    calls: usize,
    /// Things to divide the CPU time by, per call.
    units: usize,
    unit: &'static str,
}

const LOADS: [Load; 3] = [
    Load {
        name: "chat, 16 connections",
        path: "/v1/chat/completions",
        connections: 16,
        calls: CHAT_CALLS,
        units: 1,
        unit: "call",
    },
    Load {
        name: "stream at full speed, 8 connections",
        path: "/v1/stream",
        connections: 8,
        calls: STREAMS,
        units: EVENTS,
        unit: "event",
    },
    Load {
        name: "chat, 1 connection",
        path: "/v1/chat/completions",
        connections: 1,
        calls: LONE_CALLS,
        units: 1,
        unit: "call",
    },
];

/// Long enough for what comes once a second.
const WATCHED: [Load; 2] =
    [Load { calls: 8 * CHAT_CALLS, ..LOADS[0] }, Load { calls: 8 * STREAMS, ..LOADS[1] }];

fn compare_proxies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let provider = start_self("provider", &[]);
    let upstream = provider.address.clone();
    let mut targets = vec![start_self("bare", &[&upstream])];
    targets.extend(start_nginx(folder.path(), &upstream));
    targets.push(start_tokenmeter("tokenmeter", folder.path(), &upstream, &[]));
    compare(&provider, &targets, &LOADS);
}

fn compare_watched() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (provider, collector) = (start_self("provider", &[]), start_self("collector", &[]));
    let upstream = provider.address.clone();
    let endpoint = format!("http://{}", collector.address);
    let public = ("TOKENMETER_METRICS_PUBLIC", "true");
    let otlp =
        [("TOKENMETER_OTLP_ENDPOINT", endpoint.as_str()), ("TOKENMETER_OTLP_INTERVAL", "1s")];
    let log = [("TOKENMETER_LOG_CALLS", "true"), ("TOKENMETER_LOG_FORMAT", "json")];
    let told = [&otlp[..], &[public]].concat();
    let logged = [&told[..], &log].concat();
    let start = |name, env: &[(&str, &str)]| start_tokenmeter(name, folder.path(), &upstream, env);
    let targets = [
        start("alone", &[]),
        start("scraped", &[public]),
        start("and told", &told),
        start("and logged", &logged),
    ];
    let scraped: Vec<String> = targets[1..].iter().map(|one| one.address.clone()).collect();
    thread::spawn(move || {
        loop {
            for address in &scraped {
                scrape(address);
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    compare(&provider, &targets, &WATCHED);
    counting();
}

fn scrape(address: &str) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    let mut page = String::new();
    let read = asked.and_then(|()| stream.read_to_string(&mut page));
    assert!(read.is_err() || page.contains("tokenmeter_up 1"), "{page}");
}

/// What it takes to count, by itself.
fn counting() {
    const TIMES: u32 = 200_000;
    let settings = telemetry::Settings {
        labels: ["upstream", "provider", "endpoint", "model", "operation"]
            .map(|label| label.parse().expect("a label"))
            .to_vec(),
        sets: 1000,
        upstreams: vec!["openai".to_owned()],
    };
    let telemetry = Telemetry::new(settings);
    let (mut watcher, worker) = (telemetry.watcher(), telemetry.worker());
    let record: Record = serde_json::from_str(RECORD).expect("a record");
    let nanos = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..TIMES).for_each(|_| work());
        started.elapsed().as_nanos() / u128::from(TIMES)
    };
    let row = nanos(&mut || watcher.recorded(&record));
    let call = nanos(&mut || {
        let open = worker.open(0);
        open.answered(200);
        open.took(Duration::from_micros(20));
    });
    println!(
        "\ncounting a row {row} ns, on the ledger's thread; a call {call} ns, on its worker's"
    );
}

const RECORD: &str = r#"{"id":"01a2035d-475c-746c-890a-ad05033eae34","created_at":"2026-11-22T12:00:00Z",
    "upstream":"openai","provider":"openai","endpoint":"chat.completions","method":"POST",
    "path":"/v1/chat/completions","model":"gpt-4o","user":"ann","operation":"ask","input_tokens":180,
    "output_tokens":190,"total_tokens":370,"usage_source":"reported","cost_usd":0.002,
    "cost_source":"priced","status":200,"streaming":true,"outcome":"completed","duration_ms":700,
    "time_to_first_byte_ms":300,"time_to_first_token_ms":310}"#;

fn compare(provider: &Target, targets: &[Target], loads: &[Load]) {
    for load in loads {
        let mut cpu = vec![Vec::new(); targets.len()];
        let mut added = vec![Vec::new(); targets.len()];
        for round in 0..=ROUNDS {
            let direct = run(&provider.address, load);
            let order: Vec<usize> = if round % 2 == 0 {
                (0..targets.len()).collect()
            } else {
                (0..targets.len()).rev().collect()
            };
            for at in order {
                let id = targets[at].process.as_ref().map_or(0, Child::id);
                let before = cpu_time(id);
                let median = run(&targets[at].address, load);
                let used = cpu_time(id).saturating_sub(before);
                // The first round warms up.
                if round > 0 {
                    let units =
                        f64::from(u32::try_from(load.calls * load.units).expect("a small load"));
                    cpu[at].push(used.as_secs_f64() * 1e6 / units);
                    added[at].push((median.as_secs_f64() - direct.as_secs_f64()) * 1e6);
                }
            }
        }
        report(load, targets, &cpu, &added);
    }
}

fn report(load: &Load, targets: &[Target], cpu: &[Vec<f64>], added: &[Vec<f64>]) {
    println!("\n{} ({} rounds of {} calls)", load.name, ROUNDS, load.calls);
    println!("{:<12} {:>16} {:>10} {:>18}", "", "CPU µs", "ratio", "added p50 µs");
    for (at, target) in targets.iter().enumerate() {
        let ratios = cpu[at].iter().zip(&cpu[0]).map(|(own, bare)| own / bare).collect();
        println!(
            "{:<12} {:>9.2} /{:<6} {:>10.2} {:>18.0}",
            target.name,
            median(cpu[at].clone()),
            load.unit,
            median(ratios),
            least(&added[at]),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of latencies the least disturbed round counts.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The CPU time that all threads of a process have used.
fn cpu_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a Linux /proc");
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

// --- load ---

/// Makes the load's calls and gives the median time of one.
fn run(address: &str, load: &Load) -> Duration {
    let per_connection = load.calls / load.connections;
    let connections: Vec<_> = (0..load.connections)
        .map(|_| {
            let (address, path) = (address.to_owned(), load.path);
            thread::spawn(move || calls(&address, path, per_connection))
        })
        .collect();
    let mut times: Vec<Duration> =
        connections.into_iter().flat_map(|c| c.join().expect("every call succeeds")).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn calls(address: &str, path: &str, count: usize) -> Vec<Duration> {
    let prompt = "x".repeat(700);
    let body = format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{prompt}"}}],"stream":{}}}"#,
        path == "/v1/stream"
    );
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer sk-bench\r\nX-User: bench\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("the target listens");
    stream.set_nodelay(true).expect("an open socket");
    let mut buffer = vec![0; 64 * 1024];
    (0..count)
        .map(|_| {
            let started = Instant::now();
            stream.write_all(request.as_bytes()).expect("the target reads");
            read_answer(&mut stream, &mut buffer);
            started.elapsed()
        })
        .collect()
}

/// Reads one answer: the last bytes of both kinds are known.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut tail = Vec::new();
    loop {
        let read = stream.read(buffer).expect("the target answers");
        assert!(read > 0, "the target closed the connection");
        tail.extend_from_slice(&buffer[..read]);
        if tail.ends_with(b"}}\n") || tail.ends_with(b"\r\n0\r\n\r\n") {
            return;
        }
        let keep = tail.len().saturating_sub(8);
        tail.drain(..keep);
    }
}

// --- the provider ---

fn provider() {
    let (listener, chat, stream) = (listen(), vec![chat_answer()], stream_answer());
    for connection in listener.incoming() {
        let (connection, chat, stream) =
            (connection.expect("a connection"), chat.clone(), stream.clone());
        thread::spawn(move || answer(connection, &chat, &stream));
    }
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("a bound socket"));
    listener
}

fn answer(connection: TcpStream, chat: &[Vec<u8>], stream: &[Vec<u8>]) {
    let _ = connection.set_nodelay(true);
    let mut writer = connection.try_clone().expect("an open socket");
    let mut reader = BufReader::new(connection);
    loop {
        let (mut length, mut is_stream, mut line) = (0, false, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            is_stream |= line.starts_with("POST /v1/stream");
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        if reader.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        let pieces = if is_stream { stream } else { chat };
        for piece in pieces {
            if writer.write_all(piece).is_err() {
                return;
            }
        }
    }
}

fn chat_answer() -> Vec<u8> {
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":180,"completion_tokens":190,"total_tokens":370}}}}{}"#,
        "word ".repeat(160),
        "\n"
    );
    let mut answer = String::new();
    write!(
        answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a String takes all");
    answer.into_bytes()
}

fn stream_answer() -> Vec<Vec<u8>> {
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    let event = |rest: &str| {
        let pad = "p".repeat(120);
        chunk(format!(
            r#"data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1787000000,"model":"gpt-4o-2024-08-06",{rest},"obfuscation":"{pad}"}}{}"#,
            "\n\n"
        ))
    };
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.as_bytes().to_vec()];
    for _ in 2..EVENTS {
        pieces.push(event(
            r#""choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]"#,
        ));
    }
    pieces.push(event(
        r#""choices":[],"usage":{"prompt_tokens":180,"completion_tokens":198,"total_tokens":378}"#,
    ));
    pieces.push(chunk("data: [DONE]\n\n".to_owned()));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// Takes whatever it is told.
fn collector() {
    for connection in listen().incoming() {
        let connection = connection.expect("a connection");
        thread::spawn(move || take(connection));
    }
}

fn take(connection: TcpStream) {
    let mut writer = connection.try_clone().expect("an open socket");
    let mut reader = BufReader::new(connection);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let taken = reader.read_exact(&mut vec![0; length]);
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        if taken.and_then(|()| writer.write_all(answer.as_bytes())).is_err() {
            return;
        }
    }
}

// --- the proxies ---

fn start_self(name: &'static str, arguments: &[&str]) -> Target {
    let program = std::env::current_exe().expect("the benchmark's own path");
    let mut command = Command::new(program);
    let process = command.arg(name).args(arguments).stdout(Stdio::piped()).spawn();
    started(name, process.expect("the benchmark starts itself"))
}

/// Reads the address from the first line that the process prints.
fn started(name: &'static str, mut process: Child) -> Target {
    let stdout = process.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("the process says where it listens");
    let address = line.trim().rsplit(['/', ' ']).next().unwrap_or_default().to_owned();
    Target { name, address, process: Some(process) }
}

fn start_tokenmeter(
    name: &'static str,
    folder: &Path,
    upstream: &str,
    env: &[(&str, &str)],
) -> Target {
    let home = folder.join(name);
    std::fs::create_dir(&home).expect("a new folder");
    let process = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(home.join("bench.db"))
        .current_dir(&home)
        .env("TOKENMETER_WORKERS", "1")
        .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", format!("http://{upstream}"))
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    started(name, process.expect("tokenmeter starts"))
}

/// nginx with keep-alive to the provider and no buffering, in the foreground so that its one process
/// is the one that is measured.
fn start_nginx(folder: &Path, upstream: &str) -> Option<Target> {
    let address = {
        let probe = TcpListener::bind("127.0.0.1:0").ok()?;
        probe.local_addr().ok()?.to_string()
    };
    let home = folder.display();
    let configuration = format!(
        "daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         keepalive_requests 1000000;\n\
         upstream provider {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://provider;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;\n\
         proxy_request_buffering off; }} }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration).ok()?;
    let process = Command::new("nginx").arg("-c").arg(&file).stderr(Stdio::null()).spawn();
    let Ok(process) = process else {
        println!("nginx is not installed; compared without it");
        return None;
    };
    let target = Target { name: "nginx", address, process: Some(process) };
    for _ in 0..100 {
        if TcpStream::connect(&target.address).is_ok() {
            return Some(target);
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!("nginx did not start; compared without it");
    None
}

/// The usual way to build a pass-through: hyper's server, hyper-util's pooled client, no more.
fn bare(upstream: &str) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = listen();
    listener.set_nonblocking(true).expect("a bound socket");
    let upstream = upstream.to_owned();
    runtime.block_on(async move {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Client<_, BoxBody<Bytes, hyper::Error>> =
            Client::builder(TokioExecutor::new()).build(connector);
        let listener = tokio::net::TcpListener::from_std(listener).expect("a bound socket");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (client, upstream) = (client.clone(), upstream.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (client, upstream) = (client.clone(), upstream.clone());
                async move {
                    let (mut head, body) = request.into_parts();
                    let path = head.uri.path();
                    head.uri = format!("http://{upstream}{path}").parse::<Uri>().expect("a URI");
                    let answer = client.request(Request::from_parts(head, body.boxed())).await;
                    Ok::<_, Infallible>(answer.expect("the provider answers"))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}
