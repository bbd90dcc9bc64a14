//! What a call feels of an estimate that is made beside it.
//!
//! `cargo bench --bench beside` sends small calls, one after another over one connection, through a
//! tokenmeter with one worker thread: alone; while another client sends prompts of 10 MB whose usage
//! the provider reports; and while it sends the same prompts and the provider reports nothing, so that
//! they are estimated. The rounds are interleaved; of each the median and the 99th percentile of the
//! small calls' latency is printed, and the ratio of the third to the second.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokenmeter::app::App;
use tokenmeter::config::{Config, Flags};
use tokio::sync::watch;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

/// A large prompt goes out every so often: the estimate of each takes most of the time until the next.
const INTERVAL: Duration = Duration::from_millis(1300);

const LARGE: usize = 10 * 1024 * 1024;

const SAID: &str = r#""choices":[{"index":0,"message":{"role":"assistant","content":"Yes."},"finish_reason":"stop"}]"#;

fn main() {
    let provider = provider();
    let directory = tempfile::tempdir().unwrap();
    let (stop, asked) = watch::channel(false);
    let app = App::build(&config(provider, &directory.path().join("tokenmeter.db"))).unwrap();
    let proxy = app.address().unwrap();
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let calls = Cell::new(0);
        runtime.block_on(app.run(|| {
            calls.set(calls.get() + 1);
            let mut asked = asked.clone();
            async move {
                asked.wait_for(|asked| *asked).await.unwrap();
            }
        }))
    });
    let mut measured: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    let loads = ["alone", "beside 10 MB prompts, reported", "beside 10 MB prompts, estimated"];
    for _ in 0..ROUNDS {
        for load in 0..loads.len() {
            measured.entry(load).or_default().extend(round(proxy, load));
        }
    }
    let mut seen = Vec::new();
    for (load, latencies) in &mut measured {
        latencies.sort_unstable();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000];
        let name = loads[*load];
        println!(
            "{name:<34} {:>6} calls  p50 {:>9.1?}  p99 {:>9.1?}",
            latencies.len(),
            at(500),
            at(990)
        );
        seen.push((at(500), at(990)));
    }
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "estimated / reported: p50 {:.2}, p99 {:.2}",
        ratio(seen[2].0, seen[1].0),
        ratio(seen[2].1, seen[1].1)
    );
    stop.send_replace(true);
    serving.join().unwrap().unwrap();
}

/// The latencies of small calls under a load.
fn round(proxy: SocketAddr, load: usize) -> Vec<Duration> {
    let over = Arc::new(AtomicBool::new(false));
    let beside = (load > 0).then(|| {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            let words = "The quick brown fox jumps over the lazy dog and runs on. ";
            let prompt = words.repeat(LARGE / words.len());
            let path = if load == 1 { "reported" } else { "silent" };
            let body = format!(
                r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{prompt}"}}]}}"#
            );
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                call(&mut TcpStream::connect(proxy).unwrap(), path, &body);
                thread::sleep(INTERVAL.saturating_sub(began.elapsed()));
            }
        })
    });
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Is it?"}]}"#;
    let mut connection = TcpStream::connect(proxy).unwrap();
    connection.set_nodelay(true).unwrap();
    let began = Instant::now();
    let mut latencies = Vec::new();
    while began.elapsed() < ROUND {
        let sent = Instant::now();
        call(&mut connection, "reported", body);
        latencies.push(sent.elapsed());
        thread::sleep(Duration::from_micros(500));
    }
    over.store(true, Ordering::Relaxed);
    if let Some(beside) = beside {
        beside.join().unwrap();
    }
    latencies
}

/// One call over an open connection.
fn call(connection: &mut TcpStream, path: &str, body: &str) {
    let head = format!(
        "POST /{path}/v1/chat/completions HTTP/1.1\r\nhost: proxy\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body.as_bytes()).unwrap();
    read_message(&mut BufReader::new(&mut *connection)).expect("an answer");
}

/// Reads a message with a length; nothing if the connection has ended.
fn read_message(reader: &mut impl BufRead) -> Option<String> {
    let (mut start, mut length) = (String::new(), 0);
    reader.read_line(&mut start).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
    Some(start)
}

/// A provider that reads what it is sent and answers, with or without usage.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                connection.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                while let Some(start) = read_message(&mut reader) {
                    let usage = if start.contains("/silent/") {
                        ""
                    } else {
                        r#","usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}"#
                    };
                    let body = format!(r#"{{"model":"gpt-4o-2024-08-06",{SAID}{usage}}}"#);
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    connection.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

fn config(provider: SocketAddr, database: &Path) -> Config {
    let upstream = |name: &str| {
        format!(
            "[upstreams.{name}]\nbase_url = \"http://{provider}/{name}\"\nprovider = \"openai\"\n"
        )
    };
    let toml = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 1\ndatabase = {:?}\n{}{}",
        database.display().to_string(),
        upstream("reported"),
        upstream("silent")
    );
    let flags = Flags { config: Some("bench.toml".into()), ..Flags::default() };
    let files = |path: &Path| match path.to_str() {
        Some("bench.toml") => Ok(toml.clone().into_bytes()),
        _ => std::fs::read(path),
    };
    Config::from_sources(&flags, &BTreeMap::new(), &files).unwrap()
}
