//! What being watched costs: tokenmeters of which one is left alone, one scraped every second, one
//! scraped and telling a collector of every call (spans and metrics), and one that logs every call as
//! JSON as well. Ratios are to the one left alone. Besides, what it takes to count a row and a call, which
//! every tokenmeter does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tokenmeter::record::Record;
use tokenmeter::telemetry::{self, Telemetry};

use crate::LOADS;
use crate::provider::runtime;
use crate::rounds::{Plan, measure};
use crate::sheet::Sheet;
use crate::targets::{Target, start_self, start_tokenmeter};

/// Long enough for what comes once a second.
const ROUND: Duration = Duration::from_secs(4);

const LEFT_ALONE: &str = "tokenmeter";

pub(crate) fn compare(plan: Plan) {
    // Scrapes go on between rounds, where they are no round's.
    let plan = Plan { length: ROUND, counts_pauses: false, ..plan };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut provider, collector) = (start_self("provider", &[]), start_self("collector", &[]));
    let upstream = provider.address.clone();
    let endpoint = format!("http://{}", collector.address);
    let public = ("TOKENMETER_METRICS_PUBLIC", "true");
    let otlp =
        [("TOKENMETER_OTLP_ENDPOINT", endpoint.as_str()), ("TOKENMETER_OTLP_INTERVAL", "1s")];
    let log = [("TOKENMETER_LOG_CALLS", "true"), ("TOKENMETER_LOG_FORMAT", "json")];
    let told = [&otlp[..], &[public]].concat();
    let logged = [&told[..], &log].concat();
    let start = |name, env: &[(&str, &str)]| start_tokenmeter(name, folder.path(), &upstream, env);
    let mut targets = [
        Target::direct(&provider),
        start(LEFT_ALONE, &[]),
        start("scraped", &[public]),
        start("and told", &told),
        start("and logged", &logged),
    ];
    let scraped: Vec<String> = targets[2..].iter().map(|one| one.address.clone()).collect();
    thread::spawn(move || {
        loop {
            for address in &scraped {
                scrape(address);
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let (runtime, mut sheet) = (runtime(), Sheet::default());
    let process = provider.process.as_mut().expect("a process");
    for load in LOADS.into_iter().filter(|load| ["chat-16", "stream-8"].contains(&load.name)) {
        let outcome = measure(load, plan, &runtime, process, &mut targets);
        sheet.load(&outcome, LEFT_ALONE, plan.rounds);
    }
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

/// Takes whatever it is told. A process of its own.
pub(crate) fn collector() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("a bound socket"));
    for connection in listener.incoming() {
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
