//! Messages of HTTP/1.1 as they are read on both sides, and sockets. Owns no call.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than anything takes that does not hang.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// What announces a body, and what is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    Length(usize),
    Chunked,
    UntilClosed,
}

pub(super) struct Head {
    pub(super) start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Nothing where the other side has closed the connection before its first byte.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut start = String::new();
        if reader.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
            let Some((name, value)) = line.split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Head { start, fields }))
    }

    /// An answer's, without those before it that only tell of progress.
    pub(super) fn of_answer(reader: &mut impl BufRead) -> io::Result<Head> {
        loop {
            let head = Head::read(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if head.status().is_some_and(|status| status >= 200) {
                return Ok(head);
            }
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }

    /// How an answer is framed.
    pub(super) fn framed(&self) -> Framed {
        if self.field("transfer-encoding").is_some() {
            return Framed::Chunked;
        }
        let length = self.field("content-length").and_then(|length| length.parse().ok());
        length.map_or(Framed::UntilClosed, Framed::Length)
    }
}

/// Appends to `body` what comes, until its end; an error where it breaks off.
pub(super) fn read_body(
    reader: &mut impl BufRead,
    framed: Framed,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    match framed {
        Framed::Length(length) => exactly(reader, length, body),
        Framed::UntilClosed => reader.read_to_end(body).map(drop),
        Framed::Chunked => loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = usize::from_str_radix(line, 16).map_err(io::Error::other)?;
            exactly(reader, size, body)?;
            let mut end = [0; 2];
            reader.read_exact(&mut end)?;
            if size == 0 {
                return Ok(());
            }
        },
    }
}

fn exactly(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(length as u64).read_to_end(body)?;
    if read < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// A connection that does not wait for ever.
pub(super) fn ready(stream: TcpStream) -> io::Result<BufReader<TcpStream>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Closes with a reset.
pub(super) fn reset(stream: &TcpStream) {
    // Where it is closed already, that was that.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
