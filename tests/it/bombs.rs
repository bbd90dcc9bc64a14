//! Content that is larger than it looks, or is not what it should be: bodies that unpack to a gigabyte, events
//! without an end, nesting without a bottom, bytes that are no text, figures that nobody can have counted. All of
//! it passes byte for byte, the process grows little, a neighbour is served meanwhile, and the row is there.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::rig::field;
use super::siege::{Asked, Siege, length_of};
use crate::support::{Coding, encode};

const MIB: usize = 1 << 20;

/// What the process may grow by, whatever comes: the largest part is a request's body that is held until it is
/// known whether its tokens must be counted, 16 MiB at most.
const BOUND: u64 = 24 << 20;

/// Bytes, each part so many times: a gigabyte takes no room.
#[derive(Clone, Debug, Default)]
struct Matter(Vec<(Vec<u8>, usize)>);

impl Matter {
    fn of(bytes: impl Into<Vec<u8>>) -> Matter {
        Matter::default().and(bytes)
    }

    fn and(self, bytes: impl Into<Vec<u8>>) -> Matter {
        self.times(bytes, 1)
    }

    fn times(mut self, bytes: impl Into<Vec<u8>>, times: usize) -> Matter {
        self.0.push((bytes.into(), times));
        self
    }

    fn length(&self) -> usize {
        self.0.iter().map(|(bytes, times)| bytes.len() * times).sum()
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (bytes, times) in &self.0 {
            // Small parts go together.
            let at_once = (64 * 1024 / bytes.len().max(1)).clamp(1, (*times).max(1));
            let several = bytes.repeat(at_once);
            for _ in 0..times / at_once {
                out.write_all(&several)?;
            }
            out.write_all(&bytes.repeat(times % at_once))?;
        }
        Ok(())
    }

    fn hash(&self) -> String {
        let mut hashing = Hashing(Context::new(&SHA256));
        self.write(&mut hashing).unwrap();
        hashing.end()
    }

    /// Compressed, without ever being there as a whole: what an encoder makes of a part for the third time it
    /// makes of it ever after.
    fn packed(self, coding: Coding) -> Matter {
        let mut packed = Matter::default();
        let mut pieces: Vec<&[u8]> = Vec::new();
        for (bytes, times) in &self.0 {
            pieces.extend(std::iter::repeat_n(&bytes[..], (*times).min(4)));
        }
        let (encoded, begins) = encode(coding, &pieces);
        let piece = |at: usize| {
            let end = begins.get(at + 1).copied().unwrap_or(encoded.len());
            encoded[begins[at]..end].to_vec()
        };
        let mut at = 0;
        // What an encoder writes before its first piece.
        packed.0.push((encoded[..begins[0]].to_vec(), 1));
        for (_, times) in &self.0 {
            for part in 0..(*times).min(4) {
                let more = if part == 2 && *times > 4 { times - 3 } else { 1 };
                packed.0.push((piece(at), more));
                at += 1;
            }
            if *times > 4 {
                let last = packed.0.len() - 1;
                assert_eq!(
                    packed.0[last].0,
                    packed.0[last - 1].0,
                    "{coding:?}: not the same again"
                );
            }
        }
        packed
    }
}

struct Hashing(Context);

impl Hashing {
    fn end(self) -> String {
        self.0.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A call: what is sent, and what is answered.
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    path: String,
    /// Fields besides the length.
    fields: String,
    request: Matter,
    answer_fields: Vec<u8>,
    answer: Matter,
}

const ASKED: &str = r#"{"model":"trial-1","messages":[{"role":"user","content":"Hi"}]}"#;
const SAID: &str = r#"{"model":"trial-1","choices":[{"message":{"content":"Hi."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;

impl Case {
    fn new(name: &'static str) -> Case {
        let word: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        Case {
            name,
            path: format!("/{word}/v1/chat/completions"),
            fields: "Content-Type: application/json\r\n".into(),
            request: Matter::of(ASKED),
            answer_fields: b"Content-Type: application/json\r\n".to_vec(),
            answer: Matter::of(SAID),
        }
    }

    fn answered(name: &'static str, fields: &str, answer: Matter) -> Case {
        let answer_fields = format!("{fields}\r\n").into_bytes();
        Case { answer_fields, answer, ..Case::new(name) }
    }

    fn asked(name: &'static str, fields: &str, request: Matter) -> Case {
        Case { fields: format!("{fields}\r\n"), request, ..Case::new(name) }
    }
}

/// Answers as the case with this path says, and says what it was sent.
fn answer(cases: &HashMap<String, Case>, asked: &mut Asked<'_>) -> io::Result<bool> {
    let case = &cases[asked.target];
    let mut hashing = Hashing(Context::new(&SHA256));
    let mut body = asked.body.take(length_of(asked.head).unwrap() as u64);
    io::copy(&mut body, &mut hashing)?;
    let (length, sent) = (case.answer.length(), hashing.end());
    let mut out = asked.stream;
    out.write_all(b"HTTP/1.1 200 OK\r\n")?;
    out.write_all(&case.answer_fields)?;
    write!(out, "Content-Length: {length}\r\nX-Sent: {sent}\r\n\r\n")?;
    case.answer.write(&mut out)?;
    Ok(true)
}

/// The hash of what the provider was sent, and of what the client got.
fn call(address: SocketAddr, case: &Case) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: c\r\n{}Content-Length: {}\r\n\r\n",
        case.path,
        case.fields,
        case.request.length()
    );
    let request = case.request.clone();
    let sending = thread::spawn(move || {
        stream.write_all(head.as_bytes()).unwrap();
        request.write(&mut stream).unwrap();
        stream
    });
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(reader.read_until(b'\n', &mut head).unwrap() > 0, "no answer");
    }
    let head = super::rig::latin1(&head);
    assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", case.name);
    let length = length_of(&head).unwrap();
    let mut hashing = Hashing(Context::new(&SHA256));
    let got = io::copy(&mut reader.take(length as u64), &mut hashing).unwrap();
    assert_eq!(got, length as u64, "{}", case.name);
    drop(sending.join().unwrap());
    (field(&head, "x-sent").unwrap().to_owned(), hashing.end())
}

/// Every case passes as it is, within bounds; answers its rows by the cases' names.
fn bear(cases: &[Case]) -> HashMap<&'static str, Value> {
    let by_path: HashMap<_, _> =
        cases.iter().map(|case| (case.path.clone(), case.clone())).collect();
    assert_eq!(by_path.len(), cases.len());
    let siege = Siege::with("", move |asked| answer(&by_path, asked));
    let mut rows = HashMap::new();
    for case in cases {
        println!("{}:", case.name);
        let hashes = siege.bear(BOUND, || call(siege.address(), case));
        assert_eq!(hashes, (case.request.hash(), case.answer.hash()), "{}", case.name);
        let [row] = <[Value; 1]>::try_from(siege.reckon(&case.path)).expect("one row");
        assert_eq!((&row["outcome"], &row["status"]), (&json!("completed"), &json!(200)), "{row}");
        println!("  {} {}", row["usage_source"], row["usage_json"]);
        rows.insert(case.name, row);
    }
    rows
}

/// An answer of a gigabyte of text, as a document and as an event.
fn gigabyte(lead: &str) -> Matter {
    Matter::of(format!("{lead}{{\"model\":\"trial-1\",\"choices\":[{{\"message\":{{\"content\":\""))
        .times("a".repeat(MIB), 1024)
        .and("\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n")
}

/// A document or an event that unpacks to a gigabyte, and a request that does.
fn unpacking(document: (Coding, [&'static str; 2]), event: (Coding, [&'static str; 2])) {
    let mut cases = Vec::new();
    for ((coding, [answer, request]), kind) in
        [(document, "application/json"), (event, "text/event-stream")]
    {
        let fields =
            format!("Content-Type: {kind}\r\nContent-Encoding: {}", coding.name().unwrap());
        let lead = if kind == "text/event-stream" { "data: " } else { "" };
        cases.push(Case::answered(answer, &fields, gigabyte(lead).packed(coding)));
        cases.push(Case::asked(request, &fields, gigabyte("").packed(coding)));
    }
    for case in &cases {
        assert!(case.answer.length() + case.request.length() < 11 * MIB, "{}", case.name);
    }
    for (name, row) in bear(&cases) {
        // Nobody unpacks all of it in order to find what stands at its end.
        let source = if name.ends_with("request") { "reported" } else { "estimated" };
        assert_eq!(row["usage_source"], source, "{name}: {row}");
    }
}

#[test]
fn bodies_that_unpack_to_a_gigabyte_pass() {
    unpacking((Coding::Gzip, ["gzip", "gzip request"]), (Coding::Zstd, ["zstd", "zstd request"]));
}

#[test]
fn bodies_that_unpack_to_a_gigabyte_by_other_codings_pass() {
    unpacking(
        (Coding::Brotli, ["br", "br request"]),
        (Coding::Zlib, ["deflate", "deflate request"]),
    );
}

#[test]
fn codings_upon_codings_pass() {
    let twice = |inner, outer| {
        let (mut once, part) = (Vec::new(), gigabyte("").packed(inner));
        part.write(&mut once).unwrap();
        Matter::of(encode(outer, &[&once]).0)
    };
    let fields =
        |codings: &str| format!("Content-Type: application/json\r\nContent-Encoding: {codings}");
    let (gzip, brotli) = (Coding::Gzip, Coding::Brotli);
    bear(&[
        Case::answered("gzip in gzip", &fields("gzip, gzip"), twice(gzip, gzip)),
        Case::answered("br in gzip", &fields("br, gzip"), twice(brotli, gzip)),
        Case::answered("a thousand", &fields(&vec!["gzip"; 1_000].join(",")), twice(gzip, gzip)),
        Case::answered("not what it says", &fields("br"), Matter::of(SAID)),
        Case::answered("of no known kind", &fields("rot13"), Matter::of(SAID)),
    ]);
}

#[test]
fn lines_strings_and_nesting_without_an_end_pass() {
    const DEEP: usize = 1_000_000;
    let json = "Content-Type: application/json";
    let events = "Content-Type: text/event-stream";
    let large = || "x".repeat(MIB);
    let usage = r#","usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
    let nested = |open: &str, close: &str| {
        Matter::of("{\"a\":").times(open, DEEP).and("1").times(close, DEEP).and(usage)
    };
    let string = || Matter::of("{\"a\":\"").times(large(), 50).and("\"").and(usage);
    let name = || Matter::of("{\"").times(large(), 50).and("\":1").and(usage);
    let rows = bear(&[
        Case::answered("a line without an end", events, Matter::of("data: ").times(large(), 50)),
        Case::answered("no line at all", events, Matter::default().times(large(), 50)),
        Case::answered("a field without an end", events, Matter::of("event: ").times(large(), 50)),
        Case::answered(
            "an event of a million lines",
            events,
            Matter::default().times("data: x\n", 1_000_000),
        ),
        Case::answered("a string", json, string()),
        Case::answered("a name", json, name()),
        Case::answered("arrays", json, nested("[", "]")),
        Case::answered("objects", json, nested("{\"a\":", "}")),
        Case::answered("an open end", json, Matter::default().times("[", DEEP)),
        Case::asked("a string asked", json, string()),
        Case::asked("a name asked", json, name()),
        Case::asked("arrays asked", json, nested("[", "]")),
        Case::asked("messages asked", json, Matter::of("{\"messages\":").times("[", DEEP)),
    ]);
    for name in ["a string", "a name", "arrays", "objects"] {
        assert_eq!(rows[name]["usage_source"], "reported", "{name}: {}", rows[name]);
        assert_eq!(rows[name]["input_tokens"], 9, "{name}: {}", rows[name]);
    }
}

#[test]
fn bytes_that_are_no_text_pass() {
    // No text has this byte.
    let bad = |text: &str| -> Vec<u8> {
        text.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect()
    };
    let matter = |text: &str| Matter::of(bad(text));
    let json = "Content-Type: application/json";
    let said = SAID.replace("Hi.", "~").replace("stop", "~").replace("trial-1", "~");
    let event = format!("event: ~\nid: ~\n~: ~\ndata: {said}\n\ndata: ~\n\n");
    let mut in_head = Case::answered("a field answered", json, Matter::of(SAID));
    in_head.answer_fields.extend(bad("X-Request-Id: ~\r\nX-Odd: ~~\r\n"));
    let rows = bear(&[
        Case::answered("a document", json, matter(&said)),
        Case::answered("events", "Content-Type: text/event-stream", matter(&event)),
        Case::answered("nothing but", json, Matter::default().times([0xff, 0xc0, 0x80], 10_000)),
        Case::answered("names", json, matter(&SAID.replace("usage", "us~age"))),
        Case::asked(
            "a document asked",
            json,
            matter(&ASKED.replace("trial-1", "~").replace("Hi", "~")),
        ),
        Case::asked("names asked", json, matter(&ASKED.replace("model", "mod~el"))),
        in_head,
    ]);
    assert_eq!(rows["a document"]["input_tokens"], 9, "{}", rows["a document"]);
    assert_eq!(rows["events"]["input_tokens"], 9, "{}", rows["events"]);
}

#[test]
fn a_recording_of_a_hundred_megabytes_goes_up_whole() {
    let mut random = crate::support::Random::seeded("a recording");
    let noise: Vec<u8> = (0..MIB / 8).flat_map(|_| random.next().to_ne_bytes()).collect();
    let body = Matter::of(
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n",
    )
    .times(noise, 100)
    .and("\r\n--b--\r\n");
    assert!(body.length() > 100 * MIB);
    let mut case =
        Case::asked("a recording", "Content-Type: multipart/form-data; boundary=b", body);
    case.path = "/x/v1/audio/transcriptions".to_owned();
    bear(&[case]);
}

/// Figures that nobody can have counted are no number of tokens. What was said stands in the row.
#[test]
fn absurd_figures_are_unknown_and_what_was_said_is_kept() {
    let deep = "{\"a\":".repeat(50) + "1" + &"}".repeat(50);
    let figures = [
        ("negative", "-5"),
        ("fractional", "1.5"),
        ("text", "\"12\""),
        ("infinite", "1e400"),
        ("beyond 64 bits", "18446744073709551616"),
        ("the largest", "9223372036854775807"),
        ("true", "true"),
        ("an object", "{\"x\":1}"),
        ("a deep object", &deep),
        ("an array", "[1,2]"),
        ("a long one", &"9".repeat(60)),
    ];
    let mut cases = Vec::new();
    for (name, figure) in figures {
        let said = SAID.replace(":9,", &format!(":{figure},"));
        cases.push(Case::answered(name, "Content-Type: application/json", Matter::of(said)));
    }
    for (name, figure) in
        [("all text", "\"12\""), ("all true", "true"), ("all objects", "{\"x\":1}")]
    {
        let said =
            SAID.replace(":9,", &format!(":{figure},")).replace(":2}", &format!(":{figure}}}"));
        cases.push(Case::answered(name, "Content-Type: application/json", Matter::of(said)));
    }
    for (name, row) in bear(&cases) {
        let input = &row["input_tokens"];
        let is_sane = input.as_u64().is_none_or(|input| input < 1_000_000);
        assert!(is_sane, "{name}: {row}");
        assert!(row["usage_json"].is_object(), "{name}: {row}");
    }
}
