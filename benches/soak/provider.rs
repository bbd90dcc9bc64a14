//! The provider: answers each request as its `x-kind` header says, from memory. Counts the requests that it has
//! read; a thread for each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::load::Kind;

const EVENTS: usize = 50;
const SLOW_EVENTS: usize = 10;
const BETWEEN: Duration = Duration::from_millis(30);

/// Threads only read and write.
const STACK: usize = 128 * 1024;

pub(crate) struct Provider {
    address: SocketAddr,
    pub(crate) heads: Arc<AtomicU64>,
}

impl Provider {
    pub(crate) fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, heads) = (stream.unwrap(), Arc::clone(&counted));
                let serving = move || {
                    // Whoever has left needs no answer.
                    let _ = serve(&stream, &heads);
                };
                thread::Builder::new().stack_size(STACK).spawn(serving).unwrap();
            }
        });
        Provider { address, heads }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(stream: &TcpStream, heads: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut out) = (BufReader::new(stream), stream);
    loop {
        let (mut length, mut kind, mut line) = (0, Kind::Chat, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if let Some(value) = lower.strip_prefix("x-kind:") {
                kind = Kind::named(value.trim());
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        heads.fetch_add(1, Ordering::SeqCst);
        match kind {
            Kind::Chat => out.write_all(json("200 OK", &chat(true)).as_bytes())?,
            Kind::Unreported => out.write_all(json("200 OK", &chat(false)).as_bytes())?,
            Kind::Failing => out.write_all(json("500 Internal Server Error", ERROR).as_bytes())?,
            Kind::Stream => events(out, EVENTS, None)?,
            Kind::Slow | Kind::HangUp => events(out, SLOW_EVENTS, Some(BETWEEN))?,
            Kind::Cut => {
                let whole = json("200 OK", &chat(true));
                return out.write_all(&whole.as_bytes()[..whole.len() - 40]);
            }
        }
    }
}

const ERROR: &str =
    r#"{"error":{"message":"try again","type":"server_error","code":"overloaded"}}"#;

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn chat(reports: bool) -> String {
    let usage = r#","usage":{"prompt_tokens":30,"completion_tokens":160,"total_tokens":190}"#;
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}]{}}}"#,
        "word ".repeat(160),
        if reports { usage } else { "" }
    )
}

fn events(mut out: &TcpStream, count: usize, between: Option<Duration>) -> std::io::Result<()> {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let event = |rest: &str| {
        chunk(&format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\
             \"model\":\"gpt-4o-2024-08-06\",{rest}}}\n\n"
        ))
    };
    let word = event(r#""choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]"#);
    let usage = event(
        r#""choices":[],"usage":{"prompt_tokens":30,"completion_tokens":50,"total_tokens":80}"#,
    );
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for _ in 0..count {
        out.write_all(word.as_bytes())?;
        between.into_iter().for_each(thread::sleep);
    }
    out.write_all(format!("{usage}{}0\r\n\r\n", chunk("data: [DONE]\n\n")).as_bytes())
}
