//! An answer as a script: its head, its framing, and how it is cut.

use super::http1::Fields;
use super::upstream::{Script, Seen, Step};

/// How an answer's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    /// A chunk for each piece.
    Chunked,
    ByClose,
}

/// Whether a piece waits until the client has all that went before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Every piece arrives on its own: should the proxy hold anything back, the test is stuck.
    Step,
    /// Each piece is a write, and arrives with what happens to have been written.
    Free,
}

/// What a provider answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status and reason.
    pub(crate) status: String,
    /// All fields but the ones that frame the body.
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
}

impl Answer {
    pub(crate) fn ok(content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        let fields = Fields(vec![("Content-Type".to_owned(), content_type.to_owned())]);
        let (status, body) = ("200 OK".to_owned(), body.as_ref().to_vec());
        Answer { status, fields, body, framing: Framing::Length }
    }

    pub(crate) fn framed(self, framing: Framing) -> Answer {
        Answer { framing, ..self }
    }

    /// All fields as they are sent.
    pub(crate) fn sent_fields(&self) -> Fields {
        let mut fields = self.fields.clone();
        match self.framing {
            Framing::Length => {
                fields.0.push(("Content-Length".to_owned(), self.body.len().to_string()));
            }
            Framing::Chunked => {
                fields.0.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            }
            Framing::ByClose => {}
        }
        fields
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        self.sent_fields().write(&mut head);
        head
    }

    /// A piece of the body as it stands on the wire.
    pub(crate) fn piece(&self, piece: &[u8]) -> Vec<u8> {
        if self.framing != Framing::Chunked {
            return piece.to_vec();
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        chunk
    }

    /// Everything in one write.
    pub(crate) fn whole(&self) -> Script {
        let mut bytes = self.head();
        if !self.body.is_empty() {
            bytes.extend_from_slice(&self.piece(&self.body));
        }
        let mut script = vec![];
        if self.framing == Framing::Chunked {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        script.push(Step::Send(bytes));
        script.extend((self.framing == Framing::ByClose).then_some(Step::Close));
        script
    }

    /// The head, then the body in pieces that begin at these places.
    pub(crate) fn cut(
        &self,
        pieces: impl IntoIterator<Item = (usize, Pace)>,
        seen: &Seen,
    ) -> Script {
        let mut script = vec![Step::Send(self.head())];
        let mut pieces = pieces.into_iter().peekable();
        while let Some((begin, pace)) = pieces.next() {
            let end = pieces.peek().map_or(self.body.len(), |(next, _)| *next);
            if begin == end {
                continue;
            }
            if pace == Pace::Step {
                script.push(Step::Await(seen.clone(), begin));
            }
            script.push(Step::Send(self.piece(&self.body[begin..end])));
        }
        match self.framing {
            Framing::Length => {}
            Framing::Chunked => script.push(Step::Send(b"0\r\n\r\n".to_vec())),
            Framing::ByClose => script.push(Step::Close),
        }
        script
    }
}
