//! Requests that two readers could read differently: whatever comes in, what goes up is one message that
//! can be read in one way only, or nothing.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::rig::{Proxy, Settings, bytes_of, latin1};

/// What must never be taken for a request of its own.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: c\r\n\r\n";

/// A provider that reads as strictly as can be read, answers what is a request and notes what it was.
struct Strict {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What came over one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request {
        target: String,
        body: String,
    },
    /// Two readers could differ about it.
    Ambiguous(String),
    /// It was cut off.
    Part,
}

impl Strict {
    fn new() -> Strict {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let noting = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let noting = Arc::clone(&noting);
                thread::spawn(move || answer_all(stream.unwrap(), &noting));
            }
        });
        Strict { address, seen }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn answer_all(mut stream: TcpStream, noting: &Mutex<Vec<Seen>>) {
    use std::io::Write;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read_one(&bytes) {
            Ok(Some((seen, length))) => {
                bytes.drain(..length);
                noting.lock().unwrap().push(seen);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").is_err() {
                    return;
                }
                continue;
            }
            Err(why) => {
                noting.lock().unwrap().push(Seen::Ambiguous(why));
                return;
            }
            Ok(None) => {}
        }
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            _ => {
                if !bytes.is_empty() {
                    noting.lock().unwrap().push(Seen::Part);
                }
                return;
            }
        }
    }
}

/// The first request of these bytes and its length; nothing while it is not complete.
fn read_one(bytes: &[u8]) -> Result<Option<(Seen, usize)>, String> {
    let text = latin1(bytes);
    let Some(end) = text.find("\r\n\r\n") else { return Ok(None) };
    let head = &text[..end];
    let wrong = |why: &str| Err(format!("{why}: {head:?}"));
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return wrong("a lone CR, LF or NUL");
    }
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [_, target, "HTTP/1.1"] = first[..] else { return wrong("the first line") };
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return wrong("no colon") };
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return wrong("a field's name");
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                if length.is_some()
                    || value.is_empty()
                    || !value.chars().all(|c| c.is_ascii_digit())
                {
                    return wrong("the length");
                }
                length = Some(value.parse::<usize>().map_err(|error| error.to_string())?);
            }
            "transfer-encoding" if chunked || !value.eq_ignore_ascii_case("chunked") => {
                return wrong("the transfer coding");
            }
            "transfer-encoding" => chunked = true,
            "host" => hosts += 1,
            _ => {}
        }
    }
    if hosts != 1 || (chunked && length.is_some()) {
        return wrong("hosts, or two framings");
    }
    let rest = &text[end + 4..];
    let (body, taken) = if chunked {
        match dechunk(rest)? {
            Some(found) => found,
            None => return Ok(None),
        }
    } else {
        let length = length.unwrap_or(0);
        match rest.get(..length) {
            Some(body) if bytes.len() >= end + 4 + length => (body.to_owned(), length),
            _ => return Ok(None),
        }
    };
    Ok(Some((Seen::Request { target: target.to_owned(), body }, end + 4 + taken)))
}

fn dechunk(text: &str) -> Result<Option<(String, usize)>, String> {
    let (mut body, mut at) = (String::new(), 0);
    loop {
        let Some(end) = text[at..].find("\r\n") else { return Ok(None) };
        let size = &text[at..at + end];
        if size.is_empty() || size.len() > 8 || !size.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("a chunk's size: {size:?}"));
        }
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        at += end + 2;
        if size == 0 {
            let rest = &text[at..];
            // Trailers, if any, end with an empty line.
            let end = if rest.starts_with("\r\n") {
                Some(2)
            } else {
                rest.find("\r\n\r\n").map(|at| at + 4)
            };
            return Ok(end.map(|end| (body, at + end)));
        }
        let Some(chunk) = text.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with("\r\n") {
            return Err(format!("a chunk's end: {chunk:?}"));
        }
        body.push_str(&chunk[..size]);
        at += size + 2;
    }
}

/// What is to come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// An error of 4xx or 5xx for the client, nothing for the provider.
    Refused,
    /// One request with this body.
    Passes(&'static str),
    /// Refused, or cut off before it was whole: the provider never has it as a message.
    NeverWhole,
}
use Fate::{NeverWhole, Passes, Refused};

/// Heads that say in several ways, or in an odd way, how long the body is.
fn framings() -> Vec<(String, Fate)> {
    let post =
        |fields: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: c\r\n{fields}\r\n{body}");
    let mut cases = Vec::new();
    let mut case = |fields: &str, body: &str, fate| cases.push((post(fields, body), fate));
    let hidden_chunks = format!("0\r\n\r\n{HIDDEN}");
    // Both framings, in either order: the length goes, or all is refused.
    case(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Passes("hello"),
    );
    case(
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Passes("hello"),
    );
    case("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX", Passes(""));
    // Transfer codings that are not exactly `chunked`.
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "identity, chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunked\u{a0}",
        "chu\u{0}nked",
        "chunkedchunked",
        "[chunked]",
        "x: chunked",
        "deflate",
        "cow",
        "chunk",
        "",
        "chunked chunked",
        "chunked\0",
        "'chunked'",
        "ch\tunked",
        "CHUNKED; a",
    ] {
        case(&format!("Transfer-Encoding: {coding}\r\n"), &hidden_chunks, NeverWhole);
        case(&format!("Content-Length: 3\r\nTransfer-Encoding: {coding}\r\n"), "abc", NeverWhole);
    }
    for coding in ["Chunked", "CHUNKED", " chunked", "chunked ", "chunked\t", "\tchunked"] {
        case(&format!("Transfer-Encoding:{coding}\r\n"), "1\r\na\r\n0\r\n\r\n", Passes("a"));
    }
    case("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", &hidden_chunks, NeverWhole);
    case("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &hidden_chunks, NeverWhole);
    case(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        &hidden_chunks,
        NeverWhole,
    );
    // Names that are nearly the ones that frame.
    for name in
        ["Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "\tTransfer-Encoding"]
    {
        case(&format!("{name}: chunked\r\n"), &hidden_chunks, Refused);
        case(&format!("Content-Length: 5\r\n{name}: chunked\r\n"), &hidden_chunks, Refused);
    }
    case("Transfer\u{0}Encoding: chunked\r\n", &hidden_chunks, Refused);
    case("Transfer Encoding: chunked\r\n", &hidden_chunks, Refused);
    // Lengths that are not one number.
    for length in [
        "+5",
        "-5",
        "-0",
        "0x5",
        "5,5",
        "5, 6",
        "5 5",
        "5;5",
        "1_0",
        "5.0",
        "5e0",
        "\u{b}5",
        "5\u{c}",
        "\"5\"",
        "five",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{d9}\u{a2}",
        "5\0",
        "0b101",
        "- 5",
        "5-5",
        "05a",
        "0,5",
        ",5",
        "5,",
    ] {
        case(&format!("Content-Length: {length}\r\n"), "hello", Refused);
    }
    case("Content-Length:\r\n", HIDDEN, Refused);
    case("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", Refused);
    case("Content-Length: 0\r\nContent-Length: 5\r\n", "hello", Refused);
    case("Content-Length: 5\r\ncontent-length: 5\r\n", "hello", Passes("hello"));
    case("Content-Length: 005\r\n", "hello", Passes("hello"));
    for name in [
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "Content Length",
        "Content\0Length",
    ] {
        case(&format!("{name}: 5\r\n"), "hello", Refused);
    }
    cases
}

/// Chunked bodies that are not as they should be.
fn chunks() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |body: &str, fate| {
        let head = "POST /x HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n";
        cases.push((format!("{head}{body}"), fate));
    };
    for size in [
        "0x5",
        "+5",
        "-5",
        "5_0",
        " 5 5",
        "5 5",
        "g",
        "",
        "5h",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000005",
        "0x",
        "\u{b}5",
        "5\0",
        "5\u{c}",
        "\"5\"",
        "5,",
        "\u{d9}\u{a5}",
        "5\r",
        "5.",
        "#5",
    ] {
        case(&format!("{size}\r\nhello\r\n0\r\n\r\n"), NeverWhole);
    }
    case("5\nhello\n0\n\n", NeverWhole);
    case("5\r\nhello\n0\r\n\r\n", NeverWhole);
    case("5\r\nhelloX\r\n0\r\n\r\n", NeverWhole);
    case("5\r\nhello0\r\n\r\n", NeverWhole);
    case("5\rhello\r0\r\r", NeverWhole);
    case("5;a\nb\r\nhello\r\n0\r\n\r\n", NeverWhole);
    case("5;a\rb\r\nhello\r\n0\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n0\r\nX\u{0}: y\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n0\r\nno colon\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n", NeverWhole);
    case("5\r\nhel", NeverWhole);
    case("5;name=value\r\nhello\r\n0;x\r\n\r\n", Passes("hello"));
    case("5;name=\"a;b\"\r\nhello\r\n0\r\n\r\n", Passes("hello"));
    case("00000005\r\nhello\r\n000\r\n\r\n", Passes("hello"));
    case("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Passes("hello"));
    case("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Passes("01234567890123456789"));
    cases
}

/// Lines that are none, and names and values that cannot be.
fn lines() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |text: &str, fate| cases.push((text.to_owned(), fate));
    for fields in [
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X : a\r\n",
        "X\t: a\r\n",
        ": a\r\n",
        "X a\r\n",
        "X\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X(: a\r\n",
        "X\u{e9}: a\r\n",
        "X,Y: a\r\n",
        "\u{0}X: a\r\n",
        "X\"Y\": a\r\n",
        "X@: a\r\n",
        "X/: a\r\n",
        "X[]: a\r\n",
        "X{}: a\r\n",
        "X: a\r\r\n",
        "\rX: a\r\n",
        "X: \u{7f}\r\n",
        "X: a\u{1}b\r\n",
    ] {
        case(&format!("GET /x HTTP/1.1\r\nHost: c\r\n{fields}\r\n"), Refused);
        case(&format!("GET /x HTTP/1.1\r\n{fields}Host: c\r\n\r\n"), Refused);
    }
    for first in [
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x",
        "GET /x HTTP/1.1 ",
        " GET /x HTTP/1.1",
        "GET /x HTTP/1.2",
        "GET /x HTTP/2.0",
        "GET /x HTTP/0.9",
        "GET /x HTTP/1.10",
        "GET /x HTTP/11",
        "GET /x http/1.1",
        "GET /x HTTP/1,1",
        "GET /x HTTP/ 1.1",
        "GET /x HTTP/1.1\0",
        "GET /a b HTTP/1.1",
        "GET x HTTP/1.1",
        "G(T /x HTTP/1.1",
        "GET /\0x HTTP/1.1",
        "GET /x\u{b}HTTP/1.1",
        "",
        "GET",
        "GET /x HTTP/1.1\r",
        "GET /\u{1}x HTTP/1.1",
        "\0GET /x HTTP/1.1",
        "GET",
        "HTTP/1.1 200 OK",
        "GET * HTTP/1.1",
        "GET admin HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET /x ICAP/1.1",
    ] {
        if !first.is_empty() {
            case(&format!("{first}\r\nHost: c\r\n\r\n"), Refused);
        }
    }
    // Lines that end with LF alone are read; what goes up has CRLF.
    case("GET /x HTTP/1.1\nHost: c\n\n", Passes(""));
    case("GET /x HTTP/1.1\r\nHost: c\nX: y\r\n\r\n", Passes(""));
    case("\r\nGET /x HTTP/1.1\r\nHost: c\r\n\r\n", Passes(""));
    case("GET /x HTTP/1.1\r\nHost: c\r\nX:\r\nY: \t \r\n\r\n", Passes(""));
    cases
}

/// Hosts and targets.
fn hosts() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |text: String, fate| cases.push((text, fate));
    let get = |fields: &str| format!("GET /x HTTP/1.1\r\n{fields}\r\n");
    case(get(""), Refused);
    case(get("Host: a\r\nHost: b\r\n"), Refused);
    case(get("Host: a\r\nhost: a\r\n"), Refused);
    for host in [
        "a/b", "a?b", "a#b", "u@a", "a b", "a,b", "a:b", "a:", "[::1", "a\\b", "a%2fb", "a\u{e9}",
        "a:99999", "<a>", "a;b",
    ] {
        let fate = match host {
            "a:" | "a;b" | "a,b" => Passes(""),
            _ => Refused,
        };
        case(get(&format!("Host: {host}\r\n")), fate);
    }
    case(get("Host:\r\n"), Passes(""));
    case(get("Host: 127.0.0.1:4100\r\n"), Passes(""));
    case(get("Host: [::1]:4100\r\n"), Passes(""));
    case("GET /x HTTP/1.0\r\n\r\n".to_owned(), Passes(""));
    case("CONNECT c:443 HTTP/1.1\r\nHost: c:443\r\n\r\n".to_owned(), Refused);
    case("CONNECT / HTTP/1.1\r\nHost: c\r\n\r\n".to_owned(), Refused);
    case(
        "GET http://elsewhere.example/x HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".to_owned(),
        Passes(""),
    );
    case("GET ftp://elsewhere.example/x HTTP/1.1\r\nHost: c\r\n\r\n".to_owned(), Passes(""));
    case("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), NeverWhole);
    cases
}

/// Sends a request and gives what the client heard until the end, and what the provider saw.
fn outcome(text: &str) -> (String, Vec<Seen>) {
    thread_local!(static PAIR: (Strict, Proxy) = {
        let strict = Strict::new();
        let quick = "timeouts.request_head = \"150ms\"\ntimeouts.keep_alive = \"150ms\"\ntimeouts.idle = \"300ms\"\n";
        let proxy = Settings::to(format!("http://{}", strict.address)).with(quick).start();
        (strict, proxy)
    });
    PAIR.with(|(strict, proxy)| {
        let mut client = proxy.connect();
        client.send_all_or_fail(&bytes_of(text));
        let heard = client.rest();
        (heard, strict.take())
    })
}

fn judge(text: &str, fate: Fate) -> Result<(), String> {
    let (heard, seen) = outcome(text);
    let wrong =
        |why: &str| Err(format!("{why} ({fate:?}): {text:?}\n  heard {heard:?}\n  seen {seen:?}"));
    if seen.iter().any(|seen| matches!(seen, Seen::Ambiguous(_))) {
        return wrong("ambiguous");
    }
    let whole: Vec<&str> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Request { target, .. } if target == "/hidden" => Some("(hidden)"),
            Seen::Request { body, .. } => Some(body.as_str()),
            _ => None,
        })
        .collect();
    let status = heard.split(' ').nth(1).unwrap_or_default();
    match fate {
        Passes(body) if whole == [body] && status == "200" => Ok(()),
        Passes(_) => wrong("does not pass"),
        Refused if !seen.is_empty() => wrong("is seen"),
        Refused if !status.starts_with('4') && !status.starts_with('5') => wrong("is not refused"),
        NeverWhole if !whole.is_empty() => wrong("is whole"),
        NeverWhole if status.starts_with('2') => wrong("is answered"),
        _ => Ok(()),
    }
}

/// Judges all cases, several at a time.
fn judge_all(cases: Vec<(String, Fate)>) {
    let (send, faults) = mpsc::channel();
    let cases = Arc::new(Mutex::new(cases));
    let judging: Vec<_> = (0..8)
        .map(|_| {
            let (send, cases) = (send.clone(), Arc::clone(&cases));
            thread::spawn(move || {
                loop {
                    let Some((text, fate)) = cases.lock().unwrap().pop() else { return };
                    if let Err(fault) = judge(&text, fate) {
                        send.send(fault).unwrap();
                    }
                }
            })
        })
        .collect();
    drop(send);
    let faults: Vec<String> = faults.iter().collect();
    judging.into_iter().for_each(|one| one.join().unwrap());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_body_has_one_length_or_none_goes_up() {
    judge_all(framings());
}

#[test]
fn chunks_are_chunks_or_no_message_goes_up() {
    judge_all(chunks());
}

#[test]
fn lines_are_lines_or_nothing_goes_up() {
    judge_all(lines());
}

#[test]
fn a_host_is_one_and_leads_nowhere() {
    judge_all(hosts());
}
