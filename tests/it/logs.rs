//! The log of the real program: as text, as JSON, with a line for each call. What callers say cannot
//! forge a line, and what is secret is not in it.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::collector::{Answer, Collector};
use super::rig::{Conn, Provider, eventually};

const ANSWER: &str = r#"{"id":"x","object":"chat.completion","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":0,"total_tokens":1000}}"#;

/// The program, serving.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(home: &Path, provider: &Provider, env: &[(&str, String)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
        command
            .arg("serve")
            .current_dir(home)
            .env_clear()
            .env("TOKENMETER_LISTEN", "127.0.0.1:0")
            .env("TOKENMETER_WORKERS", "1")
            .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", provider.url())
            .env("TOKENMETER_LOG_CALLS", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in env {
            command.env(name, value);
        }
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let (_, address) = first.trim().split_once("http://").expect("a banner");
        Program { child, address: address.to_owned() }
    }

    /// A call that asks for that model, and is answered by another.
    fn call(&self, provider: &Provider, model: &str, fields: &str) {
        self.answered(provider, model, fields, ANSWER);
    }

    fn answered(&self, provider: &Provider, model: &str, fields: &str, answer: &str) {
        let body = serde_json::json!({"model": model, "messages": []}).to_string();
        let mut client = Conn::new(TcpStream::connect(&self.address).unwrap());
        client.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n\
             Authorization: Bearer sk-s3cret\r\nContent-Length: {}\r\nConnection: close\r\n{fields}\r\n{body}",
            body.len()
        ));
        let mut upstream = provider.accept();
        upstream.head();
        upstream.take(body.len());
        upstream.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        ));
        client.rest();
    }

    fn ask_to_stop(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
    }

    /// Stops it as a service manager does; gives its log.
    fn stop(mut self) -> String {
        self.ask_to_stop();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success());
        log
    }
}

const FORGED: &str = "gpt\n2026-11-22T00:00:00Z ERROR forged\u{1b}[31m";

#[test]
fn a_call_is_an_object_of_the_json_log() {
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let program =
        Program::start(home.path(), &provider, &[("TOKENMETER_LOG_FORMAT", "json".to_owned())]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    program.call(&provider, "gpt-4o", &format!("X-User: ann\r\ntraceparent: {parent}\r\n"));
    program.call(&provider, FORGED, "");
    let log = program.stop();
    assert!(!log.contains("s3cret"));
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let calls: Vec<&Value> =
        lines.iter().filter(|line| line["target"] == "tokenmeter::calls").collect();
    let [first, second] = calls.as_slice() else { panic!("{log}") };
    for name in ["timestamp", "level", "id", "created_at", "duration_ms"] {
        assert!(!first[name].is_null(), "{name}: {first}");
    }
    for (name, value) in [
        ("message", "call"),
        ("user", "ann"),
        ("upstream", "openai"),
        ("endpoint", "chat.completions"),
        ("model", "gpt-4o"),
        ("usage_source", "reported"),
        ("outcome", "completed"),
        ("cost_usd", "0.0025"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    assert_eq!((&first["input_tokens"], &first["status"]), (&1000.into(), &200.into()));
    assert!(first.get("session").is_none() && second.get("trace_id").is_none());
}

#[test]
fn what_a_caller_says_cannot_forge_a_line_of_the_text_log() {
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let program = Program::start(home.path(), &provider, &[]);
    let nameless = ANSWER.replace("\"model\":\"gpt-4o\",", "");
    assert!(!nameless.contains("gpt-4o"));
    program.answered(&provider, FORGED, "X-Operation: a \" b=c\r\n", &nameless);
    let log = program.stop();
    assert!(log.contains(r#"model="gpt\n2026-11-22T00:00:00Z ERROR forged"#), "{log}");
    assert!(!log.contains("\nforged") && !log.contains('\u{1b}'), "{log:?}");
    assert!(log.lines().all(|line| line.contains(" tokenmeter")), "{log}");
    assert!(log.contains(r#"operation="a \" b=c""#), "{log}");
}

#[test]
fn a_collector_that_fails_is_told_of_once_and_its_keys_never() {
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let collector = Collector::that(Answer::Refuses("401 Unauthorized", ""));
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20c4nary".to_owned()),
        ("TOKENMETER_OTLP_METRICS", "false".to_owned()),
        ("TOKENMETER_LOG", "trace".to_owned()),
    ];
    let program = Program::start(home.path(), &provider, &env);
    for count in 1..=3 {
        program.call(&provider, "gpt-4o", "");
        eventually("a batch", || collector.got("/v1/traces").len() == count);
    }
    let log = program.stop();
    let told = log.lines().filter(|line| line.contains("collector does not take")).count();
    assert_eq!(told, 1, "{log}");
    assert!(log.contains("401 Unauthorized"), "{log}");
    assert!(!log.contains("c4nary") && !log.contains("s3cret"), "{log}");
    assert!(collector.got("/v1/traces")[0].head.contains("authorization: bearer c4nary"));
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_call_and_no_stop() {
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = [
        ("TOKENMETER_WORKERS", "2".to_owned()),
        ("TOKENMETER_UPSTREAMS_NOBODY_BASE_URL", format!("http://{nobody}")),
    ];
    let mut program = Program::start(home.path(), &provider, &env);
    let user = format!("X-User: {}\r\n", "ann".repeat(40));
    // A pipe holds 64 KiB.
    for _ in 0..250 {
        program.call(&provider, "gpt-4o", &user);
    }
    for _ in 0..10 {
        let mut client = Conn::new(TcpStream::connect(&program.address).unwrap());
        client.send("GET /nobody/v1/models HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
        assert!(client.rest().starts_with("HTTP/1.1 502 "));
    }
    for _ in 0..10 {
        program.call(&provider, "gpt-4o", "");
    }
    program.ask_to_stop();
    let child = &mut program.child;
    eventually("an end", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.len() > 50_000, "the pipe was full: {}", log.len());
}

#[test]
fn a_stop_loses_no_line() {
    const MANY: usize = 300;
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let program = Program::start(home.path(), &provider, &[]);
    for _ in 0..MANY {
        program.call(&provider, "gpt-4o", "");
    }
    let log = program.stop();
    let calls = log.lines().filter(|line| line.contains(" tokenmeter::calls: call "));
    assert_eq!(calls.count(), MANY, "{}", log.len());
    assert!(!log.contains("missing here"));
}

#[test]
fn what_a_start_warns_of_is_there_before_what_ends_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.arg("serve").current_dir(home.path()).env_clear();
    command.env("TOKENMETER_LISTEN", taken.local_addr().unwrap().to_string());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "no address");
    let done = command.output().unwrap();
    let log = String::from_utf8(done.stderr).unwrap();
    let (warned, failed) = (log.find("WARN"), log.find("listen on"));
    assert!(warned.is_some() && warned < failed, "{log}");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_proxy_of_the_environment_is_none_of_the_collector_s() {
    let (home, provider) = (tempfile::tempdir().unwrap(), Provider::new());
    let (collector, wrong) = (Collector::new(), Collector::that(Answer::Refuses("502 No", "")));
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("TOKENMETER_OTLP_METRICS", "false".to_owned()),
        ("HTTP_PROXY", wrong.url()),
        ("http_proxy", wrong.url()),
        ("ALL_PROXY", wrong.url()),
    ];
    let program = Program::start(home.path(), &provider, &env);
    program.call(&provider, "gpt-4o", "");
    program.stop();
    assert_eq!(collector.spans().len(), 1);
}
