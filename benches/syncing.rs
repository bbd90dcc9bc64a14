//! What it costs to have the journal on the disk: `journal_sync` in its three settings, side by side.
//!
//! `cargo bench --bench syncing` starts a provider that answers from memory and a tokenmeter with one
//! worker for each setting, each a process of its own, and sends the same calls through them in
//! interleaved rounds. It prints, as medians over the rounds, calls a second, the median time of a call,
//! the CPU time of the process for each, how often the disk was asked a second, and for how many calls at
//! once. Before that: how long the disk takes for one line. The journals are in the system's directory for
//! temporary files; set `TMPDIR` to measure another disk.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const MODES: [&str; 3] = ["none", "interval", "call"];
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// How long a round lasts.
const ROUND: Duration = Duration::from_secs(2);

/// What a call's two lines are long together.
const LINES_BYTES: usize = 1_500;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("provider") {
        return provider();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("one line to the disk: {:.2} ms (median)", disk(folder.path()) * 1e3);
    let program = std::env::current_exe().expect("the benchmark's own path");
    let provider = start(Command::new(program).arg("provider"));
    let targets = MODES.map(|mode| tokenmeter(&folder.path().join(mode), mode, &provider.address));
    for connections in CONNECTIONS {
        println!("\n{connections} connections ({ROUNDS} rounds of {} s)", ROUND.as_secs());
        println!(
            "{:<10} {:>9} {:>12} {:>13} {:>9} {:>12}",
            "", "calls/s", "median µs", "CPU µs/call", "syncs/s", "calls/sync"
        );
        let mut rounds = MODES.map(|_| Vec::new());
        for round in 0..=ROUNDS {
            for (target, rounds) in targets.iter().zip(&mut rounds) {
                let figures = measure(target, connections);
                // The first round warms up.
                if round > 0 {
                    rounds.push(figures);
                }
            }
        }
        for (mode, rounds) in MODES.iter().zip(&rounds) {
            let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure).collect());
            println!(
                "{mode:<10} {:>9.0} {:>12.0} {:>13.1} {:>9.0} {:>12.1}",
                of(|f| f.rate),
                of(|f| f.latency * 1e6),
                of(|f| f.cpu * 1e6),
                of(|f| f.syncs),
                of(|f| if f.syncs > 0.0 { f.rate / f.syncs } else { 0.0 }),
            );
        }
    }
}

/// One round: seconds, and numbers a second.
struct Figures {
    rate: f64,
    latency: f64,
    cpu: f64,
    syncs: f64,
}

fn measure(target: &Target, connections: usize) -> Figures {
    let (cpu, syncs, started) = (target.cpu_time(), target.syncs(), Instant::now());
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let address = target.address.clone();
            thread::spawn(move || calls(&address, started + ROUND))
        })
        .collect();
    let times = clients.into_iter().flat_map(|c| c.join().expect("every call succeeds"));
    let times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    let elapsed = started.elapsed().as_secs_f64();
    let calls = f64::from(u32::try_from(times.len()).expect("a small load"));
    let cpu = target.cpu_time().saturating_sub(cpu).as_secs_f64();
    let syncs = target.syncs() - syncs;
    Figures {
        rate: calls / elapsed,
        latency: median(times),
        cpu: cpu / calls,
        syncs: syncs / elapsed,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long the disk takes for the lines of one call.
fn disk(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("probe")).expect("a file");
    let lines = [b'x'; LINES_BYTES];
    let one = |_| {
        let started = Instant::now();
        file.write_all(&lines).and_then(|()| file.sync_data()).expect("a disk");
        started.elapsed().as_secs_f64()
    };
    median((0..200).map(one).collect())
}

// --- load ---

fn calls(address: &str, until: Instant) -> Vec<Duration> {
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"What is it?"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nX-User: bench\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("the target listens");
    stream.set_nodelay(true).expect("an open socket");
    let (mut times, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while Instant::now() < until {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).expect("the target reads");
        let mut last = *b"  ";
        while last != *b"}\n" {
            let read = stream.read(&mut buffer).expect("the target answers");
            assert!(read > 1, "the target closed the connection");
            last.copy_from_slice(&buffer[read - 2..read]);
        }
        times.push(started.elapsed());
    }
    times
}

// --- the processes ---

struct Target {
    address: String,
    process: Child,
}

impl Target {
    /// The CPU time that all threads of the process have used.
    fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let nanos = threads.expect("a Linux /proc").filter_map(|thread| {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// How often the disk was asked so far.
    fn syncs(&self) -> f64 {
        let mut stream = TcpStream::connect(&self.address).expect("the target listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("the target reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the target answers");
        let syncs = text.lines().find_map(|l| l.strip_prefix("tokenmeter_journal_syncs_total "));
        syncs.expect("a figure").parse().expect("a number")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tokenmeter(folder: &Path, mode: &str, upstream: &str) -> Target {
    std::fs::create_dir(folder).expect("a new folder");
    start(
        Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database"])
            .arg(folder.join("bench.db"))
            .current_dir(folder)
            .env("TOKENMETER_WORKERS", "1")
            .env("TOKENMETER_JOURNAL_SYNC", mode)
            .env("TOKENMETER_METRICS_PUBLIC", "true")
            .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", format!("http://{upstream}")),
    )
}

/// Starts a process, and reads its address from the first line that it prints.
fn start(command: &mut Command) -> Target {
    let mut process = command.stdout(Stdio::piped()).spawn().expect("the process starts");
    let stdout = process.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("the process says where it listens");
    let address = line.trim().rsplit(['/', ' ']).next().unwrap_or_default().to_owned();
    Target { address, process }
}

/// Answers every request from memory.
fn provider() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("a bound socket"));
    let body = concat!(
        r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"#,
        r#""index":0,"message":{"role":"assistant","content":"It is."},"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":18,"completion_tokens":3,"total_tokens":21}}"#,
        "\n"
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for connection in listener.incoming() {
        let (mut connection, answer) = (connection.expect("a connection"), answer.clone());
        thread::spawn(move || {
            let _ = connection.set_nodelay(true);
            let (mut buffer, mut last) = (vec![0; 64 * 1024], Vec::new());
            while let Ok(read @ 1..) = connection.read(&mut buffer) {
                last.extend_from_slice(&buffer[..read]);
                // The request's body ends so, and nothing else in it does.
                if last.ends_with(b"}]}") {
                    last.clear();
                    if connection.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
    }
}
