//! HTTP/1.1 as bytes: heads with their fields as they stand, bodies taken out of their framing. Owns
//! reading for both ends; nothing is normalised, since what the proxy changed must show.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::STUCK;

/// The fields of a head in their order, names in their case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Without the fields of these names.
    pub(crate) fn without(&self, names: &[&str]) -> Fields {
        let dropped = |name: &str| names.iter().any(|drop| drop.eq_ignore_ascii_case(name));
        Fields(self.0.iter().filter(|(name, _)| !dropped(name)).cloned().collect())
    }

    /// Ordered by name; the order among fields of one name means something and stays.
    pub(crate) fn sorted(mut self) -> Fields {
        self.0.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        self
    }

    pub(crate) fn write(&self, head: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
    }
}

/// How a body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As its framing announced.
    Whole,
    /// The connection went before.
    Cut,
}

/// A request or a response.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
}

impl Message {
    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// How the body behind a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delimited {
    Length(usize),
    Chunked,
    ByClose,
}

impl Delimited {
    /// Of a request.
    pub(crate) fn of_request(fields: &Fields) -> Delimited {
        Delimited::announced(fields).unwrap_or(Delimited::Length(0))
    }

    /// Of a response to a request with this method.
    pub(crate) fn of_response(status: u16, method: &str, fields: &Fields) -> Delimited {
        if method == "HEAD" || status == 204 || status == 304 {
            return Delimited::Length(0);
        }
        Delimited::announced(fields).unwrap_or(Delimited::ByClose)
    }

    fn announced(fields: &Fields) -> Option<Delimited> {
        if fields.get("transfer-encoding").is_some() {
            return Some(Delimited::Chunked);
        }
        Some(Delimited::Length(fields.get("content-length")?.parse().unwrap()))
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(STUCK)).unwrap();
        stream.set_write_timeout(Some(STUCK)).unwrap();
        Wire { stream, buffer: Vec::new(), at: 0 }
    }

    /// One write, as long as the other side is there.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for a byte, for as long as it takes; false if there will be none.
    pub(crate) fn is_used_again(&mut self) -> bool {
        self.stream.set_read_timeout(None).unwrap();
        let more = self.at < self.buffer.len() || self.fill();
        self.stream.set_read_timeout(Some(STUCK)).unwrap();
        more
    }

    /// More bytes into the buffer; false if there will be none.
    fn fill(&mut self) -> bool {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        let mut piece = [0_u8; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if is_timeout(&error) => panic!("stuck: not a byte for {STUCK:?}"),
            Err(_) => false,
        }
    }

    /// The start line and the fields; nothing if the connection ended before their first byte.
    pub(crate) fn head(&mut self) -> Option<(String, Fields)> {
        let mut looked = self.at;
        let end = loop {
            let found = self.buffer[looked..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(found) = found {
                break looked + found;
            }
            let length = self.buffer.len();
            let before = (length - self.at).saturating_sub(3);
            if !self.fill() {
                assert_eq!(self.at, self.buffer.len(), "the connection ended within a head");
                return None;
            }
            looked = self.at + before;
        };
        let text = String::from_utf8(self.buffer[self.at..end].to_vec()).unwrap();
        self.at = end + 4;
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        Some((start, Fields(lines.map(field).collect())))
    }

    /// The body, piece by piece; `each` is shown what there is so far and may stop the reading.
    pub(crate) fn body(
        &mut self,
        delimited: Delimited,
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> (Vec<u8>, Ending) {
        let mut body = Vec::new();
        let ending = match delimited {
            Delimited::Length(length) => self.length(length, &mut body, each),
            Delimited::Chunked => self.chunks(&mut body, each),
            Delimited::ByClose => {
                while self.some(usize::MAX, &mut body) {
                    if each(&body) {
                        break;
                    }
                }
                Some(())
            }
        };
        (body, if ending.is_some() { Ending::Whole } else { Ending::Cut })
    }

    fn length(
        &mut self,
        length: usize,
        body: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Option<()> {
        let end = body.len() + length;
        while body.len() < end {
            if !self.some(end - body.len(), body) {
                return None;
            }
            if each(body) {
                break;
            }
        }
        Some(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>, each: &mut dyn FnMut(&[u8]) -> bool) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(());
            }
            let mut stopped = false;
            self.length(size, body, &mut |body| {
                stopped = each(body);
                stopped
            })?;
            if stopped {
                return Some(());
            }
            assert_eq!(self.line()?, "", "a chunk longer than announced");
        }
    }

    /// Up to `most` bytes of what is at hand; false if there is nothing more.
    fn some(&mut self, most: usize, body: &mut Vec<u8>) -> bool {
        if self.at == self.buffer.len() && !self.fill() {
            return false;
        }
        let taken = most.min(self.buffer.len() - self.at);
        body.extend_from_slice(&self.buffer[self.at..self.at + taken]);
        self.at += taken;
        true
    }

    fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.at += end + 2;
                return Some(line);
            }
            // A line is short, so looking at it again from its start costs nothing.
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads until the other side is gone.
    pub(crate) fn until_closed(&mut self) {
        while self.fill() {
            self.at = self.buffer.len();
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
