//! A provider that reads requests as strictly as can be read. Needs nothing but the standard library, so that other
//! test binaries can have it too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A provider that reads as strictly as can be read, answers what is a request and notes what it was.
pub(crate) struct Strict {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What came over one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
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
    pub(crate) fn new() -> Strict {
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

    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn answer_all(mut stream: TcpStream, noting: &Mutex<Vec<Seen>>) {
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
        if let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        } else {
            if !bytes.is_empty() {
                noting.lock().unwrap().push(Seen::Part);
            }
            return;
        }
    }
}

/// The first request of these bytes and its length; nothing while it is not complete.
pub(crate) fn read_one(bytes: &[u8]) -> Result<Option<(Seen, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = latin(&bytes[..end]);
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
    let rest = &bytes[end + 4..];
    let (body, taken) = if chunked {
        match dechunk(rest)? {
            Some(found) => found,
            None => return Ok(None),
        }
    } else {
        let length = length.unwrap_or(0);
        match rest.get(..length) {
            Some(body) => (latin(body), length),
            None => return Ok(None),
        }
    };
    Ok(Some((Seen::Request { target: target.to_owned(), body }, end + 4 + taken)))
}

fn dechunk(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    let (mut body, mut at) = (String::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = latin(&bytes[at..at + end]);
        if size.is_empty() || size.len() > 8 || !size.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(format!("a chunk's size: {size:?}"));
        }
        let size = usize::from_str_radix(&size, 16).map_err(|error| error.to_string())?;
        at += end + 2;
        if size == 0 {
            let rest = &bytes[at..];
            // Trailers, if any, end with an empty line.
            let end = if rest.starts_with(b"\r\n") {
                Some(2)
            } else {
                find(rest, b"\r\n\r\n").map(|at| at + 4)
            };
            return Ok(end.map(|end| (body, at + end)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err(format!("a chunk's end: {:?}", latin(chunk)));
        }
        body.push_str(&latin(&chunk[..size]));
        at += size + 2;
    }
}

/// A character is a byte.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
