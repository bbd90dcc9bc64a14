//! A client that writes requests as bytes and reads answers as bytes, over one connection.

use std::net::{SocketAddr, TcpStream};

use super::http1::{Delimited, Ending, Fields, Message, Wire};
use super::upstream::Seen;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    /// All fields but the ones that frame the body.
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) upload: Upload,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// There is none.
    None,
    Length,
    /// In chunks of this size.
    Chunked(usize),
}

impl Ask {
    pub(crate) fn get(target: &str) -> Ask {
        let fields = Fields(vec![("Host".to_owned(), "proxy".to_owned())]);
        let (method, target) = ("GET".to_owned(), target.to_owned());
        Ask { method, target, fields, body: Vec::new(), upload: Upload::None }
    }

    pub(crate) fn post(target: &str, body: &[u8]) -> Ask {
        let mut ask = Ask::get(target);
        ask.fields.0.push(("Content-Type".to_owned(), "application/json".to_owned()));
        Ask { method: "POST".to_owned(), body: body.to_owned(), upload: Upload::Length, ..ask }
    }

    /// All fields as they are sent.
    pub(crate) fn sent_fields(&self) -> Fields {
        let mut fields = self.fields.clone();
        match self.upload {
            Upload::None => {}
            Upload::Length => {
                fields.0.push(("Content-Length".to_owned(), self.body.len().to_string()));
            }
            Upload::Chunked(_) => {
                fields.0.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            }
        }
        fields
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        self.sent_fields().write(&mut bytes);
        match self.upload {
            Upload::None => {}
            Upload::Length => bytes.extend_from_slice(&self.body),
            Upload::Chunked(size) => {
                for chunk in self.body.chunks(size) {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// A connection to the proxy. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
    method: String,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client { wire: Wire::new(TcpStream::connect(address).unwrap()), method: String::new() }
    }

    pub(crate) fn send(&mut self, ask: &Ask) {
        self.method.clone_from(&ask.method);
        self.wire.write(&ask.bytes()).unwrap();
    }

    /// Sends the head and this many bytes of what follows it.
    pub(crate) fn send_part(&mut self, ask: &Ask, bytes: usize) {
        let whole = ask.bytes();
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        self.wire.write(&whole[..body + bytes]).unwrap();
    }

    /// The answer, whole or as far as it came; nothing if the connection was closed instead.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        self.receive_until(&Seen::default(), |_| false)
    }

    /// The answer, telling `seen` of each byte of its body.
    pub(crate) fn receive_seen(&mut self, seen: &Seen) -> Option<Message> {
        self.receive_until(seen, |_| false)
    }

    /// The answer until its body so far is `enough`. What ends a chunked message may be left unread.
    pub(crate) fn receive_until(
        &mut self,
        seen: &Seen,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Option<Message> {
        let (start, fields) = self.wire.head()?;
        let status = start.split(' ').nth(1).unwrap().parse().unwrap();
        let delimited = Delimited::of_response(status, &self.method, &fields);
        let (body, ending) = self.wire.body(delimited, &mut |body| {
            seen.set(body.len());
            enough(body)
        });
        Some(Message { start, fields, body, ending })
    }

    /// Sends a request and reads its whole answer.
    pub(crate) fn exchange(&mut self, ask: &Ask) -> Message {
        self.send(ask);
        let answer = self.receive().expect("an answer");
        assert_eq!(answer.ending, Ending::Whole);
        answer
    }

    /// The connection is closed by the proxy, without a further byte of a message.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.wire.head().is_none()
    }
}
