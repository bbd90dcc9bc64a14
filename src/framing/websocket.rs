//! WebSocket messages (RFC 6455), one direction of a connection, compressed or not (RFC 7692). Owns
//! frames, masks, fragments and inflating; knows no provider, and never touches the bytes that travel.
//!
//! Invariant: bounded memory, whatever comes: a frame's head, one piece of inflated text and the
//! window of the inflater. What breaks the rules ends the reading for good, and nothing else.

use std::io::Cursor;

use flate2::{Decompress, FlushDecompress, Status};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::json::Scanner;
use super::{Selection, Sink};

/// Bytes unmasked or inflated at a time.
const PIECE: usize = 4096;

/// Longest head of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;

/// Longest payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

/// Inflated bytes read of one message: four times what the largest providers take as one message, and
/// far below what a compression bomb would cost.
const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

/// What a compressed message lacks at its end (RFC 7692, 7.2.2).
const DEFLATE_TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Whose messages these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

/// Which extensions the server agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extensions {
    #[default]
    None,
    /// `permessage-deflate`: whether each side starts every message with an empty window.
    Deflate { client_starts_anew: bool, server_starts_anew: bool },
    /// One that is not known here: its messages cannot be read.
    Unknown,
}

impl Extensions {
    /// Reads the values of the answer's `Sec-WebSocket-Extensions`.
    pub fn of_headers<'a>(values: impl IntoIterator<Item = &'a str>) -> Extensions {
        let mut agreed = Extensions::None;
        for extension in values.into_iter().flat_map(|value| value.split(',')) {
            let mut parameters = extension.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            if !name.eq_ignore_ascii_case("permessage-deflate") || agreed != Extensions::None {
                return Extensions::Unknown;
            }
            // A smaller window than the largest is one that the largest can read.
            let (mut client_starts_anew, mut server_starts_anew) = (false, false);
            for parameter in parameters {
                client_starts_anew |= parameter.eq_ignore_ascii_case("client_no_context_takeover");
                server_starts_anew |= parameter.eq_ignore_ascii_case("server_no_context_takeover");
            }
            agreed = Extensions::Deflate { client_starts_anew, server_starts_anew };
        }
        agreed
    }
}

/// Why nothing more is read of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

/// The push parser of one direction. Each JSON object that is a message goes to the sink.
#[derive(Debug)]
pub struct WebSocket {
    scanner: Scanner,
    inflater: Option<Inflater>,
    /// The head of the next frame, as far as it has come.
    head: Vec<u8>,
    frame: Option<Frame>,
    /// The message at hand, which may have several frames.
    message: Option<Message>,
    closing: Option<Closing>,
    is_broken: bool,
}

/// A frame whose payload is not all there.
#[derive(Clone, Copy, Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
    is_final: bool,
    kind: FrameKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    /// Part of a message.
    Data,
    Close,
    /// Ping or pong.
    Beat,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    is_compressed: bool,
}

/// A close frame, and its code as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Closing {
    bytes: [u8; 2],
    seen: usize,
}

impl WebSocket {
    /// A parser for what `sender` sends. `None`: the extensions make it unreadable.
    pub fn new(
        sender: Sender,
        extensions: Extensions,
        selection: &'static Selection,
    ) -> Option<WebSocket> {
        let inflater = match (extensions, sender) {
            (Extensions::Unknown, _) => return None,
            (Extensions::None, _) => None,
            (Extensions::Deflate { client_starts_anew: starts_anew, .. }, Sender::Client)
            | (Extensions::Deflate { server_starts_anew: starts_anew, .. }, Sender::Server) => {
                Some(Inflater::new(starts_anew))
            }
        };
        Some(WebSocket {
            scanner: Scanner::new(selection),
            inflater,
            head: Vec::with_capacity(MAX_HEAD),
            frame: None,
            message: None,
            closing: None,
            is_broken: false,
        })
    }

    /// True if the rules were broken, so that nothing more is read.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// True if the sender has said that it closes.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// The code that the sender's close frame gave.
    pub fn close_code(&self) -> Option<u16> {
        self.closing.filter(|closing| closing.seen == 2).map(|it| u16::from_be_bytes(it.bytes))
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_broken {
            match self.step(rest, sink) {
                Ok(taken) => rest = &rest[taken..],
                Err(Broken) => self.is_broken = true,
            }
        }
    }

    /// Takes at least one byte of `bytes`, which is not empty, and says how many.
    fn step(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<usize, Broken> {
        let Some(mut frame) = self.frame.take() else { return self.head(bytes, sink) };
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
        self.payload(&bytes[..length], frame, sink)?;
        frame.left -= length as u64;
        frame.mask.rotate_left(length % 4);
        self.begin_or_end(frame, sink)?;
        Ok(length)
    }

    /// Part of a frame's head, of which no byte is payload.
    fn head(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<usize, Broken> {
        let before = self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(MAX_HEAD - before)]);
        let mut cursor = Cursor::new(self.head.as_slice());
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Broken)? else {
            return Ok(self.head.len() - before);
        };
        let taken = usize::try_from(cursor.position()).map_err(|_| Broken)? - before;
        self.head.clear();
        let kind = self.kind_of(&header, length)?;
        let mask = header.mask.unwrap_or_default();
        self.begin_or_end(Frame { left: length, mask, is_final: header.is_final, kind }, sink)?;
        Ok(taken)
    }

    /// Checks a frame against the message at hand, and begins one where none is.
    fn kind_of(&mut self, header: &FrameHeader, length: u64) -> Result<FrameKind, Broken> {
        let is_allowed = match header.opcode {
            OpCode::Data(Data::Text | Data::Binary) => {
                let is_first = self.message.is_none();
                self.message = Some(Message { is_compressed: header.rsv1 });
                is_first && (!header.rsv1 || self.inflater.is_some())
            }
            OpCode::Data(_) => self.message.is_some() && !header.rsv1,
            OpCode::Control(_) => header.is_final && length <= MAX_CONTROL && !header.rsv1,
        };
        if !is_allowed || header.rsv2 || header.rsv3 {
            return Err(Broken);
        }
        Ok(match header.opcode {
            OpCode::Data(_) => FrameKind::Data,
            OpCode::Control(Control::Close) => {
                self.closing = Some(Closing::default());
                FrameKind::Close
            }
            OpCode::Control(_) => FrameKind::Beat,
        })
    }

    /// Keeps a frame of which something is to come; ends its message if it was the last.
    fn begin_or_end(&mut self, frame: Frame, sink: &mut dyn Sink) -> Result<(), Broken> {
        if frame.left > 0 {
            self.frame = Some(frame);
            return Ok(());
        }
        if frame.kind != FrameKind::Data || !frame.is_final {
            return Ok(());
        }
        let message = self.message.take();
        if message.is_some_and(|message| message.is_compressed)
            && let Some(inflater) = &mut self.inflater
        {
            inflater.end_message(|piece| self.scanner.push(piece, sink))?;
        }
        // A message that is no JSON does not harm the next.
        self.scanner.reset();
        sink.end_of_message();
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8], frame: Frame, sink: &mut dyn Sink) -> Result<(), Broken> {
        if frame.mask == [0; 4] {
            return self.unmasked(bytes, frame.kind, sink);
        }
        let mut piece = [0; PIECE];
        // A piece's length is a multiple of the mask's.
        for masked in bytes.chunks(PIECE) {
            let piece = &mut piece[..masked.len()];
            unmask(piece, masked, frame.mask);
            self.unmasked(piece, frame.kind, sink)?;
        }
        Ok(())
    }

    fn unmasked(
        &mut self,
        bytes: &[u8],
        kind: FrameKind,
        sink: &mut dyn Sink,
    ) -> Result<(), Broken> {
        match (kind, &mut self.inflater, self.message) {
            (FrameKind::Close, _, _) => {
                if let Some(closing) = &mut self.closing {
                    closing.push(bytes);
                }
            }
            (FrameKind::Data, Some(inflater), Some(Message { is_compressed: true })) => {
                inflater.push(bytes, |piece| self.scanner.push(piece, sink))?;
            }
            (FrameKind::Data, _, _) => self.scanner.push(bytes, sink),
            (FrameKind::Beat, _, _) => {}
        }
        Ok(())
    }
}

/// Four bytes at a time, which the compiler turns into vector instructions.
fn unmask(plain: &mut [u8], masked: &[u8], mask: [u8; 4]) {
    let (plain, plain_rest) = plain.as_chunks_mut::<4>();
    let (masked, masked_rest) = masked.as_chunks::<4>();
    let word = u32::from_ne_bytes(mask);
    for (plain, masked) in plain.iter_mut().zip(masked) {
        *plain = (u32::from_ne_bytes(*masked) ^ word).to_ne_bytes();
    }
    for ((plain, masked), mask) in plain_rest.iter_mut().zip(masked_rest).zip(mask) {
        *plain = masked ^ mask;
    }
}

impl Closing {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(2 - self.seen) {
            self.bytes[self.seen] = *byte;
            self.seen += 1;
        }
    }
}

/// The decompressor of one direction.
#[derive(Debug)]
struct Inflater {
    decompress: Decompress,
    starts_anew: bool,
    /// Inflated bytes of the message at hand.
    message: u64,
}

impl Inflater {
    fn new(starts_anew: bool) -> Inflater {
        Inflater { decompress: Decompress::new(false), starts_anew, message: 0 }
    }

    fn push(&mut self, bytes: &[u8], mut give: impl FnMut(&[u8])) -> Result<(), Broken> {
        let (mut rest, mut piece) = (bytes, [0; PIECE]);
        loop {
            let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(rest, &mut piece, FlushDecompress::Sync);
            let read = usize::try_from(self.decompress.total_in() - read).map_err(|_| Broken)?;
            let written = self.decompress.total_out() - written;
            self.message = self.message.saturating_add(written);
            if self.message > MAX_MESSAGE {
                return Err(Broken);
            }
            let written = usize::try_from(written).map_err(|_| Broken)?;
            // What came before a break is as good as if it had come by itself.
            give(&piece[..written]);
            let status = status.map_err(|_| Broken)?;
            rest = &rest[read..];
            if status == Status::StreamEnd {
                // A block may say that it is the last (RFC 7692, 7.2.3.4); the message goes on.
                self.decompress.reset(false);
            }
            let is_stuck = read == 0 && written == 0;
            if rest.is_empty() && written < PIECE || is_stuck {
                return if rest.is_empty() { Ok(()) } else { Err(Broken) };
            }
        }
    }

    fn end_message(&mut self, give: impl FnMut(&[u8])) -> Result<(), Broken> {
        self.push(&DEFLATE_TAIL, give)?;
        self.message = 0;
        if self.starts_anew {
            self.decompress.reset(false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Keep;
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    static ASKED: Selection = Selection(&[("n", Keep::Scalar)]);

    const TEXT: u8 = 1;
    const BINARY: u8 = 2;
    const CONTINUATION: u8 = 0;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const FIN: u8 = 0x80;
    const COMPRESSED: u8 = 0x40;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Sink for Seen {
        fn document(&mut self, json: &[u8]) {
            self.0.push(String::from_utf8(json.to_vec()).unwrap());
        }
    }

    fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        let masked = if mask.is_some() { 0x80 } else { 0 };
        match payload.len() {
            length @ 0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                bytes.push(masked | 0x7E);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(masked | 0x7F);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.into_iter().flatten());
        let mask = mask.unwrap_or_default();
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    const FRESH: Extensions =
        Extensions::Deflate { client_starts_anew: true, server_starts_anew: true };
    const KEPT: Extensions =
        Extensions::Deflate { client_starts_anew: false, server_starts_anew: false };

    fn parser(extensions: Extensions) -> WebSocket {
        WebSocket::new(Sender::Client, extensions, &ASKED).unwrap()
    }

    /// What is read of the bytes, which must be the same for every way of cutting them in two, and
    /// byte by byte.
    fn read(extensions: Extensions, bytes: &[u8]) -> (Vec<String>, bool, Option<u16>) {
        let cut_in = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut parser, mut seen) = (parser(extensions), Seen::default());
            pieces.for_each(|piece| parser.push(piece, &mut seen));
            (seen.0, parser.is_broken(), parser.close_code())
        };
        let whole = cut_in(&mut [bytes].into_iter());
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(cut_in(&mut [a, b].into_iter()), whole, "cut at {cut}");
        }
        assert_eq!(cut_in(&mut bytes.chunks(1)), whole, "byte by byte");
        whole
    }

    /// One compressor for all messages, as with context takeover.
    fn deflated(compress: &mut Compress, text: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 64);
        compress.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
        assert_eq!(out.split_off(out.len() - 4), DEFLATE_TAIL);
        out
    }

    #[test]
    fn messages_may_be_masked_fragmented_and_of_any_length() {
        let mask = Some([1, 0xFF, 7, 0]);
        let long = format!(r#"{{"x":"{}","n":4}}"#, "y".repeat(300));
        let bytes = [
            frame(FIN | TEXT, None, br#"{"n":1}"#),
            frame(FIN | BINARY, mask, br#"{"n":2}"#),
            frame(TEXT, mask, br#"{"n""#),
            frame(FIN | PING, mask, b"{\"n\":0}"),
            frame(CONTINUATION, mask, b""),
            frame(CONTINUATION, None, b":"),
            frame(FIN | CONTINUATION, mask, b"3}"),
            frame(FIN | TEXT, mask, b"no {json"),
            frame(FIN | TEXT, mask, b""),
            frame(FIN | TEXT, mask, long.as_bytes()),
            frame(FIN | CLOSE, mask, &[0x03, 0xF3, b'w', b'h', b'y']),
        ]
        .concat();
        let (documents, is_broken, code) = read(Extensions::None, &bytes);
        assert_eq!(documents, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#]);
        assert!(!is_broken);
        assert_eq!(code, Some(1011));
    }

    #[test]
    fn a_message_of_64_bits_length_is_read() {
        let long = format!(r#"{{"x":"{}","n":4}}"#, "y".repeat(0x1_0000));
        let (mut parser, mut seen) = (parser(Extensions::None), Seen::default());
        for piece in frame(FIN | TEXT, Some([9, 8, 7, 6]), long.as_bytes()).chunks(4099) {
            parser.push(piece, &mut seen);
        }
        assert_eq!(seen.0, [r#"{"n":4}"#]);
    }

    #[test]
    fn compressed_messages_are_inflated_with_the_window_kept_or_not() {
        for extensions in [FRESH, KEPT] {
            let mut compress = Compress::new(Compression::best(), false);
            let mut bytes = Vec::new();
            for n in 0..4 {
                let text = format!(r#"{{"same text each time":"{}","n":{n}}}"#, "z".repeat(40));
                let payload = deflated(&mut compress, &text);
                let (a, b) = payload.split_at(payload.len() / 2);
                bytes.extend(frame(COMPRESSED | TEXT, Some([5, 6, 7, 8]), a));
                bytes.extend(frame(FIN | PING, None, b""));
                bytes.extend(frame(FIN | CONTINUATION, Some([1, 2, 3, 4]), b));
                // Between them one that was not worth compressing.
                bytes.extend(frame(FIN | TEXT, None, br#"{"n":"-"}"#));
                if extensions == FRESH {
                    compress.reset();
                }
            }
            let (documents, is_broken, _) = read(extensions, &bytes);
            let plain = r#"{"n":"-"}"#.to_owned();
            let all: Vec<String> =
                (0..4).flat_map(|n| [format!(r#"{{"n":{n}}}"#), plain.clone()]).collect();
            assert_eq!((documents, is_broken), (all, false), "{extensions:?}");
        }
    }

    #[test]
    fn a_last_block_does_not_end_the_connection_s_messages() {
        let mut compress = Compress::new(Compression::default(), false);
        let mut payload = Vec::with_capacity(64);
        compress.compress_vec(br#"{"n":1}"#, &mut payload, FlushCompress::Finish).unwrap();
        payload.push(0);
        let bytes = frame(FIN | COMPRESSED | TEXT, None, &payload).repeat(2);
        assert_eq!(read(FRESH, &bytes).0, [r#"{"n":1}"#; 2]);
    }

    #[test]
    fn what_breaks_the_rules_ends_the_reading() {
        let good = frame(FIN | TEXT, None, br#"{"n":1}"#);
        let cases: [(&str, Vec<u8>); 8] = [
            ("no such opcode", frame(FIN | 3, None, b"")),
            ("nothing to continue", frame(FIN | CONTINUATION, None, b"")),
            ("a second message within one", [frame(TEXT, None, b"1"), good.clone()].concat()),
            ("a control frame in parts", frame(PING, None, b"")),
            ("a long control frame", frame(FIN | PING, None, &[0; 126])),
            ("compressed, though nobody agreed", frame(FIN | COMPRESSED | TEXT, None, b"{}")),
            ("another extension's bit", frame(FIN | 0x20 | TEXT, None, b"{}")),
            ("another extension's bit", frame(FIN | 0x10 | TEXT, None, b"{}")),
        ];
        for (why, bad) in cases {
            let bytes = [good.as_slice(), &bad, &good].concat();
            let (documents, is_broken, _) = read(Extensions::None, &bytes);
            assert_eq!((documents.len(), is_broken), (1, true), "{why}");
        }
        let bad = frame(FIN | COMPRESSED | TEXT, None, b"\xFF\xFF\xFF");
        assert!(read(FRESH, &bad).1);
        assert!(read(FRESH, &frame(FIN | COMPRESSED | PING, None, b"")).1);
    }

    #[test]
    fn what_came_before_a_break_is_given_however_it_comes() {
        let mut compress = Compress::new(Compression::best(), false);
        let mut payload = deflated(&mut compress, r#"{"n":1}"#);
        payload.extend(DEFLATE_TAIL);
        // A block of a kind that there is not.
        payload.extend([0xFF; 40]);
        let (documents, is_broken, _) = read(KEPT, &frame(FIN | COMPRESSED | TEXT, None, &payload));
        assert_eq!(documents, [r#"{"n":1}"#]);
        assert!(is_broken);
    }

    #[test]
    fn a_compression_bomb_is_given_up() {
        let mut compress = Compress::new(Compression::best(), false);
        let megabyte = " ".repeat(1 << 20);
        let (mut parser, mut seen) = (parser(KEPT), Seen::default());
        let mut first = COMPRESSED | TEXT;
        for _ in 0..70 {
            let mut payload = Vec::with_capacity(1 << 14);
            let sync = FlushCompress::Sync;
            compress.compress_vec(megabyte.as_bytes(), &mut payload, sync).unwrap();
            parser.push(&frame(first, None, &payload), &mut seen);
            first = CONTINUATION;
        }
        assert!(parser.is_broken());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 500,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Whatever comes, it is read alike for every way of cutting it, and without a panic.
        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            frames in vec(
                (
                    select(vec![0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x88, 0xC1, 0x41, 0x83]),
                    proptest::option::of(any::<[u8; 4]>()),
                    prop_oneof![
                        Just(br#"{"n":1}"#.to_vec()),
                        Just(br#"{"n""#.to_vec()),
                        Just(b":2}".to_vec()),
                        vec(any::<u8>(), 0..200),
                    ],
                ),
                0..8,
            ),
            noise in vec(any::<u8>(), 0..20),
            extensions in select(vec![Extensions::None, FRESH, KEPT]),
        ) {
            let frames = frames.iter().flat_map(|(first, mask, it)| frame(*first, *mask, it));
            let bytes: Vec<u8> = frames.chain(noise).collect();
            read(extensions, &bytes);
        }
    }

    #[test]
    fn extensions_are_read_as_agreed() {
        let of = |values: &[&'static str]| Extensions::of_headers(values.iter().copied());
        let deflate = |client_starts_anew, server_starts_anew| Extensions::Deflate {
            client_starts_anew,
            server_starts_anew,
        };
        assert_eq!(of(&[]), Extensions::None);
        assert_eq!(of(&[""]), Extensions::None);
        assert_eq!(of(&["permessage-deflate"]), deflate(false, false));
        let both = "Permessage-Deflate; server_no_context_takeover; client_max_window_bits=12;\
                    client_no_context_takeover";
        assert_eq!(of(&[both]), deflate(true, true));
        assert_eq!(of(&["permessage-deflate; server_no_context_takeover"]), deflate(false, true));
        assert_eq!(of(&["permessage-deflate, x-other"]), Extensions::Unknown);
        assert_eq!(of(&["x-webkit-deflate-frame"]), Extensions::Unknown);
        assert_eq!(of(&["permessage-deflate", "permessage-deflate"]), Extensions::Unknown);
    }
}
