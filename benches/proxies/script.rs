//! What is said: requests as SDKs send them, and the answers that the provider gives to them. Owns both,
//! so that whoever reads an answer knows every byte of it beforehand. Knows no socket.
//!
//! Answers of one kind differ from each other (in their words, ids and token counts), as real ones do,
//! so that nothing is gained by remembering the last one. An event carries the time at which it was
//! sent, where the model's word stands: what differs from event to event in reality too.

use std::io::Write as _;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;

/// How many different answers there are of each kind, and how many different requests.
const ANSWERS: usize = 16;
const REQUESTS: usize = 24;

/// Digits of the time in an event: nanoseconds of the monotonic clock.
pub(crate) const DIGITS: usize = 18;

const TIME: &str = "000000000000000000";

/// The header by which a request says what it is to get, one that SDKs send.
const CUE: &str = "OpenAI-Project";

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// 1 KB of JSON.
    Chat,
    /// The same, gzip-encoded.
    Gzip,
    /// 16 KB before gzip, and chunked.
    LargeGzip,
    /// 30 KB of JSON.
    Embeddings,
    /// Events of 290 bytes, one each so many milliseconds.
    Stream { events: usize, gap_ms: u64 },
}

/// What goes out with one write.
pub(crate) struct Piece {
    pub bytes: Vec<u8>,
    /// Where the time goes.
    pub time: Option<usize>,
}

/// One answer, on the wire and as it is to be understood.
pub(crate) struct Answer {
    pub pieces: Vec<Piece>,
    /// The body without its framing, times as zeros.
    pub body: Vec<u8>,
    /// Where times stand in it.
    pub times: Vec<usize>,
    pub events: usize,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A kind's requests and answers.
pub(crate) struct Script {
    pub kind: Kind,
    pub requests: Vec<Vec<u8>>,
    pub answers: Vec<Answer>,
}

impl Kind {
    fn cue(self) -> String {
        match self {
            Kind::Chat => "proj-chat".to_owned(),
            Kind::Gzip => "proj-gzip".to_owned(),
            Kind::LargeGzip => "proj-large".to_owned(),
            Kind::Embeddings => "proj-embeddings".to_owned(),
            Kind::Stream { events, gap_ms } => format!("proj-{events}-{gap_ms}"),
        }
    }

    fn of_cue(cue: &str) -> Option<Kind> {
        match cue.strip_prefix("proj-")? {
            "chat" => Some(Kind::Chat),
            "gzip" => Some(Kind::Gzip),
            "large" => Some(Kind::LargeGzip),
            "embeddings" => Some(Kind::Embeddings),
            stream => {
                let (events, gap) = stream.split_once('-')?;
                Some(Kind::Stream { events: events.parse().ok()?, gap_ms: gap.parse().ok()? })
            }
        }
    }

    /// What the request with these headers is to get.
    pub(crate) fn asked(head: &[u8]) -> Option<Kind> {
        header(head, CUE.as_bytes()).and_then(|cue| Kind::of_cue(str::from_utf8(cue).ok()?))
    }
}

impl Script {
    pub(crate) fn new(kind: Kind) -> Script {
        let mut rng = Rng::with_seed(7);
        let requests = (0..REQUESTS).map(|turn| request(kind, turn, &mut rng)).collect();
        let answers = (0..ANSWERS).map(|turn| answer(kind, turn, &mut rng)).collect();
        Script { kind, requests, answers }
    }

    /// The answer that begins with this head.
    pub(crate) fn answer(&self, head: &[u8]) -> Option<&Answer> {
        let id = str::from_utf8(header(head, b"x-request-id")?).ok()?;
        self.answers.get(id.strip_prefix("req_bench_")?.parse::<usize>().ok()?)
    }
}

/// A header's value.
pub(crate) fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].trim_ascii_end();
        if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name) {
            return Some(line[name.len() + 1..].trim_ascii());
        }
        rest = &rest[end + 1..];
    }
    None
}

// --- requests ---

fn request(kind: Kind, turn: usize, rng: &mut Rng) -> Vec<u8> {
    let (path, body) = match kind {
        Kind::Embeddings => {
            let text = words(700, rng);
            let body = format!(
                r#"{{"input":"{text}","model":"text-embedding-3-small","encoding_format":"float"}}"#
            );
            ("/v1/embeddings", body)
        }
        _ => ("/v1/chat/completions", chat_request(kind, rng)),
    };
    let user = turn % 12;
    let operation = ["rag_answer", "summarise", "classify", "tutor"][turn % 4];
    let cue = kind.cue();
    format!(
        "POST {path} HTTP/1.1\r\nHost: api.openai.com\r\nAccept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\n\
         X-Stainless-Package-Version: 2.8.1\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n\
         X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.5\r\n\
         X-Stainless-Async: async:asyncio\r\nx-stainless-retry-count: 0\r\n\
         x-stainless-read-timeout: 600\r\n\
         Authorization: Bearer sk-bench-0123456789abcdefghijklmnopqrstuvwxyz0123456789\r\n\
         {CUE}: {cue}\r\nX-User: user-{user:04}\r\nX-Operation: {operation}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chat_request(kind: Kind, rng: &mut Rng) -> String {
    let (system, question) = (words(180, rng), words(420, rng));
    let stream = if matches!(kind, Kind::Stream { .. }) {
        r#","stream":true,"stream_options":{"include_usage":true}"#
    } else {
        ""
    };
    format!(
        r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}],"model":"gpt-4o","max_completion_tokens":1024,"temperature":0.2{stream}}}"#
    )
}

/// So many bytes of text, about.
fn words(bytes: usize, rng: &mut Rng) -> String {
    const SYLLABLES: [&str; 24] = [
        "the", "re", "con", "ti", "mo", "al", "ver", "in", "ble", "sta", "per", "na", "or", "ex",
        "du", "pro", "li", "ce", "mar", "to", "be", "fi", "gen", "un",
    ];
    let mut text = String::new();
    while text.len() < bytes {
        for _ in 0..rng.usize(1..4) {
            text.push_str(SYLLABLES[rng.usize(..SYLLABLES.len())]);
        }
        text.push_str([" ", " ", " ", " ", ", ", ". "][rng.usize(..6)]);
    }
    text
}

// --- answers ---

fn answer(kind: Kind, turn: usize, rng: &mut Rng) -> Answer {
    let (input, output) = (rng.u64(120..240), rng.u64(90..320));
    match kind {
        Kind::Chat => whole(turn, chat(380, input, output, rng).into_bytes(), None, input, output),
        Kind::Gzip => {
            let body = gzipped(chat(380, input, output, rng).as_bytes());
            whole(turn, body, Some(Framing::Sized), input, output)
        }
        Kind::LargeGzip => {
            let body = gzipped(chat(15_600, input, output, rng).as_bytes());
            whole(turn, body, Some(Framing::Chunked), input, output)
        }
        Kind::Embeddings => whole(turn, embeddings(input, rng).into_bytes(), None, input, 0),
        Kind::Stream { events, .. } => stream(turn, events, input, output),
    }
}

/// Of an encoded answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sized,
    Chunked,
}

/// The head of an answer, as a large provider sends it.
fn head(turn: usize, content_type: &str, rest: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: {content_type}\r\n\
         Connection: keep-alive\r\nServer: cloudflare\r\naccess-control-expose-headers: X-Request-ID\r\n\
         openai-organization: org-bench\r\nopenai-processing-ms: 412\r\nopenai-version: 2020-10-01\r\n\
         x-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\n\
         x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 1999800\r\n\
         x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 5ms\r\n\
         x-request-id: req_bench_{turn:04}\r\ncf-cache-status: DYNAMIC\r\n\
         X-Content-Type-Options: nosniff\r\nCF-RAY: 9a1b2c3d4e5f6789-FRA\r\n{rest}\r\n"
    )
}

/// `encoded` says of a gzip-encoded body how it is framed.
fn whole(
    turn: usize,
    body: Vec<u8>,
    encoded: Option<Framing>,
    input_tokens: u64,
    output_tokens: u64,
) -> Answer {
    let encoding = if encoded.is_some() { "Content-Encoding: gzip\r\n" } else { "" };
    let is_chunked = encoded == Some(Framing::Chunked);
    let framing = if is_chunked {
        "Transfer-Encoding: chunked\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let mut bytes = head(turn, "application/json", &(encoding.to_owned() + &framing)).into_bytes();
    if is_chunked {
        bytes.extend(chunk(&body));
        bytes.extend(b"0\r\n\r\n");
    } else {
        bytes.extend(&body);
    }
    let pieces = vec![Piece { bytes, time: None }];
    Answer { pieces, body, times: Vec::new(), events: 0, input_tokens, output_tokens }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend(data);
    bytes.extend(b"\r\n");
    bytes
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("a Vec takes all")
}

fn usage(input: u64, output: u64) -> String {
    format!(
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        input + output
    )
}

fn chat(text: usize, input: u64, output: u64, rng: &mut Rng) -> String {
    let (id, text, usage) = (rng.u64(..), words(text, rng), usage(input, output));
    format!(
        r#"{{"id":"chatcmpl-{id:024x}","object":"chat.completion","created":1787000000,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_a288987b44"}}{}"#,
        "\n"
    )
}

fn embeddings(input: u64, rng: &mut Rng) -> String {
    let numbers: Vec<String> =
        (0..1536).map(|_| format!("        {:.9}", rng.f64() / 10.0 - 0.05)).collect();
    format!(
        "{{\n  \"object\": \"list\",\n  \"data\": [\n    {{\n      \"object\": \"embedding\",\n      \"index\": 0,\n      \"embedding\": [\n{}\n      ]\n    }}\n  ],\n  \"model\": \"text-embedding-3-small\",\n  \"usage\": {{\n    \"prompt_tokens\": {input},\n    \"total_tokens\": {input}\n  }}\n}}\n",
        numbers.join(",\n")
    )
}

/// The first event names the role, the last three are the reason for the end, the usage, the end.
fn stream(turn: usize, events: usize, input: u64, output: u64) -> Answer {
    let event = |choices: &str, usage: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-Cg{turn:05}dPq7ZkLw2XvRbNyEsHtJmF","object":"chat.completion.chunk","created":1787000000,"model":"gpt-4o-2024-08-06","system_fingerprint":"fp_a288987b44","choices":[{choices}],"usage":{usage}}}{}"#,
            "\n\n"
        )
    };
    let delta = |delta: &str, reason: &str| {
        format!(r#"{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{reason}}}"#)
    };
    let word = delta(&format!(r#""content":" {TIME}""#), "null");
    let role = delta(&format!(r#""role":"assistant","content":"{TIME}""#), "null");
    let mut said = vec![event(&role, "null")];
    said.extend((4..events).map(|_| event(&word, "null")));
    said.push(event(&delta("", r#""stop""#), "null"));
    said.push(event("", &usage(input, output)));
    said.push("data: [DONE]\n\n".to_owned());
    let rest = "Transfer-Encoding: chunked\r\n";
    let head = head(turn, "text/event-stream; charset=utf-8", rest).into_bytes();
    let mut pieces = vec![Piece { bytes: head, time: None }];
    let (mut body, mut times) = (Vec::new(), Vec::new());
    for event in said {
        let bytes = chunk(event.as_bytes());
        // An id with that many zeros would be taken for it, and differ from event to event.
        assert!(event.matches(TIME).count() <= 1, "the time's place is not the only one: {event}");
        times.extend(event.find(TIME).map(|at| body.len() + at));
        body.extend(event.as_bytes());
        pieces.push(Piece { time: memchr::memmem::find(&bytes, TIME.as_bytes()), bytes });
    }
    pieces.push(Piece { bytes: b"0\r\n\r\n".to_vec(), time: None });
    Answer { pieces, body, times, events, input_tokens: input, output_tokens: output }
}
