//! Keys, tokens and texts are in nothing that tokenmeter writes: the real program, at log level `trace`, is sent a
//! canary in every place where one can stand, and all that it has written and answered is searched.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokenmeter::config::{Config, Flags};

use super::collector::Collector;
use super::rig::{Conn, field};

/// In every secret, and nowhere else: a time zone has the English word.
const CANARY: &str = "kanarie";
const TOKEN: &str = "kanarie-admin-token-0123456789";

/// Where clients put keys, a canary in each.
const FIELDS: [&str; 9] = [
    "Authorization: Bearer kanarie-bearer",
    "Authorization: Basic kanarie-basic",
    "api-key: kanarie-azure",
    "x-api-key: kanarie-anthropic",
    "x-goog-api-key: kanarie-google",
    "Cookie: session=kanarie-cookie",
    "Proxy-Authorization: Bearer kanarie-proxy",
    "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.kanarie-websocket",
    "X-Amz-Security-Token: kanarie-amazon",
];

/// A provider that says a key back, as providers do when it is wrong, and what it was asked.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut conn = Conn::new(stream.unwrap());
                let head = conn.head();
                let length = field(&head, "content-length").map_or(0, |text| text.parse().unwrap());
                conn.take(length);
                let (status, body) = if head.contains("/refused") {
                    (
                        "401 Unauthorized",
                        r#"{"error":{"message":"Incorrect API key provided: kanarie-echoed","code":"invalid_api_key"}}"#,
                    )
                } else {
                    (
                        "200 OK",
                        r#"{"id":"x","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"kanarie-completion"},"finish_reason":"stop"}]}"#,
                    )
                };
                conn.send(format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nSet-Cookie: kanarie-set\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            });
        }
    });
    address
}

struct Program {
    child: Child,
    address: SocketAddr,
    banner: JoinHandle<String>,
    log: JoinHandle<String>,
}

fn reading(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        from.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn environment(provider: SocketAddr, collector: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("LISTEN", "127.0.0.1:0".to_owned()),
        ("WORKERS", "1".to_owned()),
        ("LOG", "trace".to_owned()),
        ("LOG_CALLS", "true".to_owned()),
        ("ADMIN_TOKEN", TOKEN.to_owned()),
        ("OTLP_ENDPOINT", collector.to_owned()),
        ("OTLP_HEADERS", "authorization=Bearer kanarie-otlp".to_owned()),
        ("OTLP_INTERVAL", "1s".to_owned()),
        ("UPSTREAMS_OPENAI_BASE_URL", format!("http://{provider}")),
        // Nobody listens there.
        ("UPSTREAMS_GONE_BASE_URL", "http://127.0.0.1:1".to_owned()),
    ];
    pairs.map(|(name, text)| (format!("TOKENMETER_{name}"), text)).into()
}

impl Program {
    fn start(home: &Path, env: &BTreeMap<String, String>) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .arg("serve")
            .current_dir(home)
            .env_clear()
            .envs(env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = reading(child.stderr.take().unwrap());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let address = first.trim().split_once("http://").expect("a banner").1.parse().unwrap();
        Program { child, address, banner: reading(out), log }
    }

    /// What is answered to these bytes.
    fn say(&self, bytes: &str) -> String {
        let mut client = Conn::new(TcpStream::connect(self.address).unwrap());
        client.send(bytes);
        client.rest()
    }

    fn get(&self, path: &str, fields: &str) -> String {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n{fields}\r\n"))
    }

    fn call(&self, path: &str, fields: &str) -> String {
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"kanarie-prompt"}]}"#;
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        ))
    }

    /// The same over HTTP/2, whose libraries have words of their own.
    fn call_over_http2(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            let driven = tokio::spawn(connection);
            let request =
                Request::get(format!("http://{}/v1/models?key=kanarie-query", self.address))
                    .header("authorization", "Bearer kanarie-bearer")
                    .header("x-api-key", "kanarie-anthropic")
                    .body(Empty::<bytes::Bytes>::new())
                    .unwrap();
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
            driven.abort();
        });
    }

    /// What it has said, after an orderly stop.
    fn stop(mut self) -> (String, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        (self.banner.join().unwrap(), self.log.join().unwrap())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Fails with what stands around the kanarie.
fn expect_none(what: &str, bytes: impl AsRef<[u8]>) {
    let text = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    if let Some(at) = text.to_ascii_lowercase().find(CANARY) {
        let start = text[..at].char_indices().rev().nth(200).map_or(0, |(start, _)| start);
        let around: String = text[start..].chars().take(400).collect();
        panic!("a canary in {what}: …{around}…");
    }
}

#[test]
fn no_key_token_or_text_is_in_anything_that_is_written() {
    let home = tempfile::tempdir().unwrap();
    let collector = Collector::new();
    let env = environment(provider(), &collector.url());
    let program = Program::start(home.path(), &env);
    let gone = |answer: String, what: &str| expect_none(what, answer);
    for fields in FIELDS {
        let fields = format!("{fields}\r\n");
        for path in
            ["/v1/chat/completions", "/v1/refused", "/v1/x?key=kanarie-query&api_key=kanarie-q"]
        {
            assert!(program.call(path, &fields).contains(CANARY), "the provider's own words pass");
        }
        // What tokenmeter answers itself.
        gone(program.call("/gone/v1/x?key=kanarie-query", &fields), "the answer of no provider");
        gone(
            program.call("/azure/v1/x?key=kanarie-query", &fields),
            "the answer of none configured",
        );
        let bad = format!("{fields}X-Attempt: many\r\n");
        gone(program.call("/v1/x?key=kanarie-query", &bad), "the answer to a bad tag");
        gone(program.get("/admin/stats?key=kanarie-query", &fields), "the admin API's refusal");
        gone(program.get("/admin/login?code=kanarie-code", &fields), "the refusal of a login link");
        gone(program.get("/healthz?key=kanarie-query", &fields), "health");
    }
    let malformed = "GET /v1/x?key=kanarie-query HTTP/1.1\r\nAuthorization: Bearer kanarie\r\nbad field\r\n\r\n";
    gone(program.say(malformed), "the answer to no HTTP");
    gone(
        program.say("CONNECT kanarie:kanarie@c:1 HTTP/1.1\r\nHost: c\r\n\r\n"),
        "the answer to CONNECT",
    );
    program.call_over_http2();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in [
        "/metrics",
        "/admin/",
        "/admin/?view=calls",
        "/admin/stats?group_by=model,endpoint",
        "/admin/stats?key=kanarie-query",
        "/admin/usage?limit=1000",
        "/admin/export?format=jsonl",
        "/admin/export?format=csv",
        "/admin/live",
        "/admin/prices?limit=1",
        "/admin/openapi.json",
        "/readyz",
    ] {
        // A parameter that is wrong is named; what it says is not repeated.
        gone(program.get(path, &token), path);
    }
    let rows = program.get("/admin/usage?limit=1000", &token);
    assert!(rows.matches("\"path\"").count() >= 3 * FIELDS.len(), "{rows}");
    let (banner, log) = program.stop();
    // What was to be searched is there.
    assert!(log.contains("TRACE") && log.contains("gpt-4o"), "{}", log.len());
    expect_none("the log", log);
    expect_none("the banner", banner);
    let files = files(home.path());
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        expect_none(&file.display().to_string(), std::fs::read(&file).unwrap());
    }
}

#[test]
fn no_secret_of_the_configuration_is_in_what_is_said_of_it() {
    let mut env = environment("127.0.0.1:9".parse().unwrap(), "http://127.0.0.1:9");
    let nothing = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let config = Config::from_sources(&Flags::default(), &env, &nothing).unwrap();
    expect_none("the configuration as it is debugged", format!("{config:?} {config:#?}"));
    for (name, text) in [
        ("UPSTREAMS_A_BASE_URL", "https://ann:kanarie@host.example"),
        ("UPSTREAMS_B_BASE_URL", "https://host.example/?key=kanarie"),
        ("UPSTREAMS_C_API_KEY_ENV", "sk-kanarie"),
        ("OTLP_ENDPOINT", "http://kanarie@127.0.0.1:9"),
        ("OTLP_HEADERS", "kanarie"),
        ("CLIENTS_KEYS", "sk-kanarie"),
        ("DATABASE", "postgres://me:kanarie@db/x"),
        ("ADMIN_TOKEN", "kanarie kanarie"),
    ] {
        env.insert(format!("TOKENMETER_{name}"), text.to_owned());
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
        let output = command.arg("check").current_dir(home.path()).env_clear().envs(&env).output();
        let output = output.unwrap();
        assert!(!output.status.success(), "{name}");
        expect_none(name, output.stderr);
        expect_none(name, output.stdout);
    }
}
