//! The bytes of requests and answers, made from a call's plan: so that each side knows what the other must have
//! sent. Knows no socket.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::plan::{Framing, Kind, Plan, Provider};

/// Prices of the models, in nano-dollars a token.
pub(super) const INPUT_NANOS: u64 = 150;
pub(super) const OUTPUT_NANOS: u64 = 600;

const UPLOAD: usize = 300_000;

/// An answer as the provider means it. `wire` is what it would send if nothing were at fault.
pub(super) struct Answer {
    pub(super) status: u16,
    /// What the client is to get of the body.
    pub(super) body: Vec<u8>,
    pub(super) head: Vec<u8>,
    /// The body, framed.
    pub(super) wire: Vec<u8>,
}

/// Tokens in and out.
pub(super) fn figures(number: u64) -> (u64, u64) {
    (1000 + number % 977, 1 + number % 89)
}

/// Method, target, and the tags that go with a call.
pub(super) fn target(plan: &Plan) -> (&'static str, &'static str) {
    match plan.kind {
        Kind::Models => ("GET", "/up/v1/models"),
        Kind::Messages | Kind::MessagesStream => ("POST", "/anthropic/v1/messages"),
        Kind::Embeddings | Kind::Large => ("POST", "/up/v1/embeddings"),
        Kind::Drained => ("POST", "/drained/v1/chat/completions"),
        _ => ("POST", "/up/v1/chat/completions"),
    }
}

pub(super) fn tags(number: u64) -> [(&'static str, String); 4] {
    [
        ("X-User", user(number)),
        ("X-Session", session(number)),
        ("X-Metadata", format!("{{\"call\":{number}}}")),
        ("X-Operation", format!("work-{}", number % 7)),
    ]
}

pub(super) fn user(number: u64) -> String {
    format!("user-{}", number % 50)
}

pub(super) fn session(number: u64) -> String {
    format!("session-{}", number / 100)
}

pub(super) fn request(plan: &Plan) -> Vec<u8> {
    let number = plan.number;
    let stream = plan.kind.streams();
    let mut said = format!("Say {number}. ").repeat(1 + plan.lots("prompt").usize(..40));
    if plan.is_upload() {
        said = said.repeat(UPLOAD / said.len() + 1);
    }
    let text = match plan.kind {
        Kind::Models => String::new(),
        Kind::Embeddings | Kind::Large => {
            format!(r#"{{"model":"chaos-1","input":"{said}"}}"#)
        }
        _ => format!(
            r#"{{"model":"chaos-1","max_tokens":99,"stream":{stream},"messages":[{{"role":"user","content":"{said}"}}]}}"#
        ),
    };
    text.into_bytes()
}

pub(super) fn answer(plan: &Plan) -> Answer {
    let status = match plan.kind {
        Kind::Failing => [500, 503, 429][plan.lots("status").usize(..3)],
        _ => 200,
    };
    let mut body = if plan.kind.streams() { stream(plan) } else { document(plan) }.into_bytes();
    let packed = plan.kind == Kind::Gzip;
    if packed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).expect("memory takes all");
        body = encoder.finish().expect("memory takes all");
        if plan.provider == Provider::TruncatedGzip {
            body.truncate(plan.lots("gzip").usize(1..body.len()));
        }
    }
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let content_type = if plan.kind.streams() { "text/event-stream" } else { "application/json" };
    let _ = write!(head, "Content-Type: {content_type}\r\nX-Request-Id: req-{}\r\n", plan.number);
    if packed {
        head += "Content-Encoding: gzip\r\n";
    }
    if matches!(status, 429 | 503) {
        head += "Retry-After: 1\r\n";
    }
    let wire = match plan.framing {
        Framing::Length => {
            let mut announced = body.len();
            let mut wire = body.clone();
            if plan.provider == Provider::Surplus {
                announced -= plan.lots("surplus").usize(1..announced.min(90));
                body.truncate(announced);
                wire.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus");
            }
            let _ = write!(head, "Content-Length: {announced}\r\n");
            wire
        }
        Framing::Close => {
            head += "Connection: close\r\n";
            body.clone()
        }
        Framing::Chunked => {
            head += "Transfer-Encoding: chunked\r\n";
            chunked(plan, &body)
        }
    };
    head += "\r\n";
    Answer { status, body, head: head.into_bytes(), wire }
}

/// In chunks of random lengths.
pub(super) fn chunked(plan: &Plan, mut body: &[u8]) -> Vec<u8> {
    let (mut lots, mut wire) = (plan.lots("chunks"), Vec::with_capacity(body.len() + 99));
    let longest = if body.len() > 100_000 { 30_000 } else { 700 };
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(lots.usize(1..=longest).min(body.len()));
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
        body = rest;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

fn words(plan: &Plan) -> usize {
    plan.lots("words").usize(5..60)
}

fn document(plan: &Plan) -> String {
    let number = plan.number;
    let (input, output) = figures(number);
    let usage = match (plan.provider, plan.kind) {
        (Provider::AbsurdUsage, _) => absurd(plan),
        (_, Kind::Unreported) => String::new(),
        _ => format!(
            r#","usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
            input + output
        ),
    };
    match plan.kind {
        Kind::Models => {
            r#"{"object":"list","data":[{"id":"chaos-1","object":"model"}]}"#.to_owned()
        }
        Kind::Failing => {
            r#"{"error":{"message":"not now","type":"server_error","code":"overloaded"}}"#
                .to_owned()
        }
        Kind::Messages => format!(
            r#"{{"id":"msg_{number}","type":"message","role":"assistant","model":"chaos-1","content":[{{"type":"text","text":"{}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#,
            "word ".repeat(words(plan))
        ),
        Kind::Embeddings | Kind::Large => {
            let count = if plan.kind == Kind::Large { 150_000 } else { 300 };
            format!(
                r#"{{"object":"list","model":"chaos-1","data":[{{"object":"embedding","index":0,"embedding":[{}0.5]}}],"usage":{{"prompt_tokens":{input},"total_tokens":{input}}}}}"#,
                "0.123456,".repeat(count)
            )
        }
        _ => format!(
            r#"{{"id":"chatcmpl-{number}","object":"chat.completion","model":"chaos-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}]{usage}}}"#,
            "word ".repeat(words(plan))
        ),
    }
}

fn absurd(plan: &Plan) -> String {
    let figure = || {
        let odd = ["-7", "1.5", "1e400", "99999999999999999999999", "\"12\"", "null", "[]", "{}"];
        odd[plan.lots("absurd").usize(..odd.len())]
    };
    format!(r#","usage":{{"prompt_tokens":{},"completion_tokens":{}}}"#, figure(), figure())
}

fn stream(plan: &Plan) -> String {
    let number = plan.number;
    let (input, output) = figures(number);
    let mut text = String::new();
    if plan.kind == Kind::MessagesStream {
        let mut event = |name: &str, rest: &str| {
            let _ = write!(text, "event: {name}\ndata: {{\"type\":\"{name}\",{rest}}}\n\n");
        };
        event(
            "message_start",
            &format!(
                r#""message":{{"id":"msg_{number}","model":"chaos-1","usage":{{"input_tokens":{input},"output_tokens":1}}}}"#
            ),
        );
        for _ in 0..words(plan) {
            event(
                "content_block_delta",
                r#""index":0,"delta":{"type":"text_delta","text":" word"}"#,
            );
        }
        event(
            "message_delta",
            &format!(
                r#""delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":{output}}}"#
            ),
        );
        event("message_stop", r#""x":0"#);
        return text;
    }
    let mut chunk = |rest: &str| {
        let _ = write!(
            text,
            "data: {{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion.chunk\",\
             \"model\":\"chaos-1\",{rest}}}\n\n"
        );
    };
    for _ in 0..words(plan) {
        chunk(r#""choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]"#);
    }
    chunk(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
    if plan.kind == Kind::Stream {
        chunk(&format!(
            r#""choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
            input + output
        ));
    }
    text + "data: [DONE]\n\n"
}
