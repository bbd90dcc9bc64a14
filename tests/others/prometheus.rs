//! Prometheus itself reads `/metrics`, and every query of the Grafana board and every alert gets an answer from
//! it that agrees with the admin API.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::Value;
use tempfile::TempDir;

pub(super) const TOKEN: &str = "a-token-for-tests";

/// Until Prometheus has scraped often enough for a rate.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process that ends with the test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What goes to the provider, by turns.
const BODIES: [&str; 6] = ["chat", "streamed", "cached", "estimated", "limited", "broken"];

/// A provider that answers as the request's body asks it to.
fn provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || while answer(&stream).is_some() {});
        }
    });
    format!("http://{address}")
}

fn answer(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body);
    let asked = BODIES.into_iter().find(|kind| body.contains(&format!("\"{kind}\"")))?;
    let usage = r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,
        "prompt_tokens_details":{"cached_tokens":400}}"#;
    let (status, kind, text) = match asked {
        "chat" | "cached" => {
            ("200 OK", "application/json", format!(r#"{{"model":"gpt-4o","usage":{usage}}}"#))
        }
        "streamed" => {
            let piece = r#"data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"Hi"}}]}"#;
            let usage = usage.replace('\n', "");
            let end = format!(r#"data: {{"model":"gpt-4o-mini","choices":[],"usage":{usage}}}"#);
            let text = format!("{piece}\n\n{piece}\n\n{end}\n\ndata: [DONE]\n\n");
            ("200 OK", "text/event-stream", text)
        }
        "estimated" => {
            let text = r#"{"model":"gpt-4o","choices":[{"message":{"content":"Hello"}}]}"#;
            ("200 OK", "application/json", text.to_owned())
        }
        "limited" => ("429 Too Many Requests", "application/json", "{\"error\":{}}".to_owned()),
        _ => return None,
    };
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    // A stream takes a moment.
    let (first, rest) = text.split_at(text.find("\n\n").map_or(0, |end| end + 2));
    stream.write_all(first.as_bytes()).ok()?;
    if !rest.is_empty() && !first.is_empty() {
        thread::sleep(Duration::from_millis(30));
    }
    stream.write_all(rest.as_bytes()).ok()
}

/// The real program, and where it listens.
pub(super) fn tokenmeter(directory: &Path, provider: &str) -> (Running, String) {
    let config = format!(
        "default_upstream = \"up\"\n[upstreams.up]\nbase_url = \"{provider}\"\nprovider = \"openai\"\n"
    );
    fs::write(directory.join("tokenmeter.toml"), config).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .current_dir(directory)
        .env_clear()
        .env("TOKENMETER_ADMIN_TOKEN", TOKEN)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = said.find_map(|line| Some(line.split_once("listens on http://")?.1.to_owned()));
    thread::spawn(move || said.for_each(drop));
    (Running(process), address.expect("an address"))
}

/// Prometheus with the rules of `config/`, scraping every second, and where it listens.
fn prometheus(directory: &Path, target: &str) -> (Running, String) {
    let rules = repository().join("config/prometheus/alerts.yml");
    let token = directory.join("token");
    fs::write(&token, TOKEN).unwrap();
    let own = fs::read_to_string(repository().join("config/prometheus/prometheus.yml")).unwrap();
    let config = own
        .replace("15s", "1s")
        .replace("alerts.yml", rules.to_str().unwrap())
        .replace("tokenmeter.token", token.to_str().unwrap())
        .replace("127.0.0.1:4100", target);
    assert!(config.contains(target) && config.contains("1s"), "{config}");
    let file = directory.join("prometheus.yml");
    fs::write(&file, config).unwrap();
    run("promtool", &["check", "config", file.to_str().unwrap()], "");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let process = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
        .arg(format!("--web.listen-address={free}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus is installed");
    (Running(process), format!("http://{free}"))
}

pub(super) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program that must be content with what it is given.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Calls of all kinds, until told to stop.
fn traffic(client: &Client, address: &str, stop: &AtomicBool) {
    for at in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let kind = BODIES[at % BODIES.len()];
        let body = format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{kind}"}}],"stream":{}}}"#,
            kind == "streamed"
        );
        let attempt = if at % 10 == 9 { "none" } else { "1" };
        let sent = client
            .post(format!("http://{address}/v1/chat/completions"))
            .header("content-type", "application/json")
            .header("x-operation", ["ask", "sum up"][at % 2])
            .header("x-attempt", attempt)
            .body(body)
            .send();
        sent.and_then(reqwest::blocking::Response::bytes).ok();
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask(client: &Client, base: &str, path: &str, query: &[(&str, &str)]) -> Option<Value> {
    let answer = client.get(format!("{base}{path}")).query(query).send().ok()?;
    serde_json::from_str(&answer.text().ok()?).ok()
}

/// The answer to a query, once there is one.
fn answered(client: &Client, prometheus: &str, query: &str) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = None;
    while Instant::now() < deadline {
        said = ask(client, prometheus, "/api/v1/query", &[("query", query)]);
        if let Some(answer) = &said {
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            let series = answer["data"]["result"].as_array().unwrap();
            // A share of nothing is not a number.
            if series.iter().any(|one| one["value"][1] != "NaN") {
                return series.clone();
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
    panic!("no data for {query}: {said:?}")
}

/// The queries of the board, as Grafana would send them.
fn queries(board: &Value) -> Vec<String> {
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| {
        let query = target["expr"].as_str().unwrap();
        let query = query.replace("$__rate_interval", "10s").replace("$__range", "1m");
        ["$upstream", "$model", "$operation"]
            .iter()
            .fold(query, |query, variable| query.replace(variable, ".*"))
    });
    queries.collect()
}

#[test]
fn prometheus_reads_the_metrics_and_the_board_shows_them() {
    let directory = TempDir::new().unwrap();
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let (_proxy, address) = tokenmeter(directory.path(), &provider());
    let (_prometheus, prometheus) = prometheus(directory.path(), &address);
    let stop = Arc::new(AtomicBool::new(false));
    let calling = thread::spawn({
        let (client, address, stop) = (client.clone(), address.clone(), Arc::clone(&stop));
        move || traffic(&client, &address, &stop)
    });

    let board = fs::read_to_string(repository().join("config/grafana/tokenmeter.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let queries = queries(&board);
    assert!(queries.len() >= 35, "{}", queries.len());
    for query in &queries {
        assert!(!query.contains('$'), "{query}");
        answered(&client, &prometheus, query);
    }
    for variable in board["templating"]["list"].as_array().unwrap().iter().skip(1) {
        let query = variable["definition"].as_str().unwrap();
        let (series, label) = query
            .strip_prefix("label_values(")
            .unwrap()
            .trim_end_matches(')')
            .split_once(", ")
            .unwrap();
        let path = format!("/api/v1/label/{label}/values");
        let values = ask(&client, &prometheus, &path, &[("match[]", series)]).unwrap();
        assert!(!values["data"].as_array().unwrap().is_empty(), "{query}: {values}");
    }

    stop.store(true, Ordering::Relaxed);
    calling.join().unwrap();
    agree(&client, &address, &prometheus);
    every_series_is_known(&client, &address, &prometheus);

    let rules = ask(&client, &prometheus, "/api/v1/rules", &[]).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 11, "{rules:?}");
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
    let targets = ask(&client, &prometheus, "/api/v1/targets", &[]).unwrap();
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
}

/// What Prometheus has last scraped is what the admin API says.
fn agree(client: &Client, address: &str, prometheus: &str) {
    let base = format!("http://{address}");
    let stats = client.get(format!("{base}/admin/stats")).bearer_auth(TOKEN).send().unwrap();
    let totals: Value = serde_json::from_str(&stats.text().unwrap()).unwrap();
    let totals = &totals["totals"];
    let figures = [
        ("requests", "sum(tokenmeter_calls_total)"),
        ("errors", "sum(tokenmeter_calls_failed_total)"),
        ("cache_read_tokens", "sum(tokenmeter_tokens_total{class=\"cache_read\"})"),
        ("estimated_requests", "sum(tokenmeter_calls_estimated_total)"),
        ("unpriced_requests", "sum(tokenmeter_calls_unpriced_total)"),
    ];
    for (figure, query) in figures {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = &answered(client, prometheus, query)[0]["value"][1];
            let counted: f64 = answer.as_str().unwrap().parse().unwrap();
            let reported: f64 = totals[figure].to_string().parse().unwrap();
            if (counted - reported).abs() < 0.5 {
                break;
            }
            assert!(Instant::now() < deadline, "{figure}: {counted} {reported}");
            thread::sleep(Duration::from_millis(300));
        }
    }
}

/// promtool finds nothing to say about the page, and Prometheus knows every series of it with its type.
fn every_series_is_known(client: &Client, address: &str, prometheus: &str) {
    let page = client.get(format!("http://{address}/metrics")).bearer_auth(TOKEN).send().unwrap();
    let page = page.text().unwrap();
    run("promtool", &["check", "metrics"], &page);
    let types: BTreeSet<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let known = ask(client, prometheus, "/api/v1/metadata", &[]).unwrap();
    for (name, kind) in types {
        // As it was scraped, a counter's name has no ending.
        let scraped = name.strip_suffix("_total").unwrap_or(name);
        let about = [name, scraped].into_iter().find_map(|name| known["data"].get(name));
        assert_eq!(about.unwrap_or(&Value::Null)[0]["type"], kind, "{name}");
    }
}
