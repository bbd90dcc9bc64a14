//! WebSocket frames as bytes, plain, masked, in parts and compressed.

use flate2::{Compress, Compression, FlushCompress};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

use super::Random;

/// One side of a connection, which writes its messages in one way.
pub(crate) struct Speaker {
    mask: Option<[u8; 4]>,
    compress: Option<Compress>,
    /// Whether each message begins with an empty window.
    starts_anew: bool,
    in_parts: bool,
}

impl Speaker {
    pub(crate) fn client() -> Speaker {
        Speaker { mask: Some([0x9A, 0, 0xFF, 0x31]), ..Speaker::server() }
    }

    pub(crate) fn server() -> Speaker {
        Speaker { mask: None, compress: None, starts_anew: false, in_parts: false }
    }

    pub(crate) fn compressed(mut self, starts_anew: bool) -> Speaker {
        self.compress = Some(Compress::new(Compression::default(), false));
        self.starts_anew = starts_anew;
        self
    }

    pub(crate) fn in_parts(mut self) -> Speaker {
        self.in_parts = true;
        self
    }

    fn frame(&self, is_final: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        let header =
            FrameHeader { is_final, rsv1, opcode, mask: self.mask, ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
        bytes
    }

    /// A message in the frames that it takes.
    pub(crate) fn message(&mut self, kind: Data, text: &str, random: &mut Random) -> Vec<u8> {
        let rsv1 = self.compress.is_some();
        let payload = self.payload(text);
        if !self.in_parts {
            return self.frame(true, rsv1, OpCode::Data(kind), &payload);
        }
        let (first, rest) = payload.split_at(random.below(payload.len() + 1));
        let (second, third) = rest.split_at(random.below(rest.len() + 1));
        let next = OpCode::Data(Data::Continue);
        [
            self.frame(false, rsv1, OpCode::Data(kind), first),
            self.frame(true, false, OpCode::Control(Control::Ping), b"are you there?"),
            self.frame(false, false, next, second),
            self.frame(true, false, OpCode::Control(Control::Pong), b""),
            self.frame(true, false, next, third),
        ]
        .concat()
    }

    fn payload(&mut self, text: &str) -> Vec<u8> {
        let Some(compress) = &mut self.compress else { return text.into() };
        let mut payload = Vec::with_capacity(text.len() + 64);
        compress.compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync).unwrap();
        if self.starts_anew {
            compress.reset();
        }
        assert_eq!(payload.split_off(payload.len() - 4), [0, 0, 0xFF, 0xFF]);
        payload
    }

    /// A text message in one frame.
    pub(crate) fn text(&self, text: &str) -> Vec<u8> {
        self.frame(true, false, OpCode::Data(Data::Text), text.as_bytes())
    }

    pub(crate) fn close(&self, code: u16) -> Vec<u8> {
        self.frame(true, false, OpCode::Control(Control::Close), &code.to_be_bytes())
    }
}
