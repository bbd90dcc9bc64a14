//! Content encodings. Owns the choice of decoder for a `content-encoding`; the decoders are those of
//! flate2, brotli and zstd, and write what they decode straight into the framer, so that no decoded
//! body is ever held. The client gets the encoded bytes; only a look at them is decoded.
//!
//! Memory: the codec's window (32 KiB for gzip and deflate, what the stream declares for br and zstd,
//! the latter capped at 8 MiB as RFC 9659 does for HTTP).

use std::fmt;
use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::{Framed, Sink};

/// Input and output buffer of the brotli decoder.
const BROTLI_BUFFER: usize = 4096;

/// Largest zstd window, as a power of two: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A content encoding that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    /// Zlib, or raw deflate as some servers send: the first byte tells.
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Reads a `content-encoding` value. `None`: unknown, or several codings one on another.
    pub fn of_header(value: &str) -> Option<Coding> {
        let mut codings =
            value.split(',').map(str::trim).filter(|c| !c.is_empty() && *c != "identity");
        let Some(coding) = codings.next() else { return Some(Coding::Identity) };
        if codings.next().is_some() {
            return None;
        }
        match coding.to_ascii_lowercase().as_str() {
            "identity" => Some(Coding::Identity),
            "gzip" | "x-gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            "br" => Some(Coding::Brotli),
            "zstd" => Some(Coding::Zstd),
            _ => None,
        }
    }
}

/// Decodes a body into its framer. After an error in the encoding the rest is ignored.
pub enum Decoder<S: Sink> {
    Identity(Framed<S>),
    Gzip(MultiGzDecoder<Framed<S>>),
    /// Deflate before its first byte.
    Deflate(Option<Framed<S>>),
    Zlib(ZlibDecoder<Framed<S>>),
    RawDeflate(DeflateDecoder<Framed<S>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Framed<S>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Framed<S>>>),
}

impl<S: Sink> Decoder<S> {
    pub fn new(coding: Coding, framed: Framed<S>) -> io::Result<Decoder<S>> {
        Ok(match coding {
            Coding::Identity => Decoder::Identity(framed),
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(framed)),
            Coding::Deflate => Decoder::Deflate(Some(framed)),
            Coding::Brotli => Decoder::Brotli(Box::new(
                brotli_decompressor::DecompressorWriter::new(framed, BROTLI_BUFFER),
            )),
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(framed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Decoder::Zstd(Box::new(decoder))
            }
        })
    }

    /// Feeds the next bytes of the body and passes on all that they decode to.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Decoder::Deflate(waiting) = self
            && let Some(framed) = waiting.take()
        {
            // RFC 1950: the low half of zlib's first byte is 8. A raw deflate stream that began so
            // would be a stored block with a broken length.
            *self = if bytes[0] & 0x0F == 8 {
                Decoder::Zlib(ZlibDecoder::new(framed))
            } else {
                Decoder::RawDeflate(DeflateDecoder::new(framed))
            };
        }
        match self {
            Decoder::Identity(framed) => {
                framed.push(bytes);
                Ok(())
            }
            Decoder::Gzip(decoder) => decode(decoder, bytes),
            Decoder::Zlib(decoder) => decode(decoder, bytes),
            Decoder::RawDeflate(decoder) => decode(decoder, bytes),
            Decoder::Brotli(decoder) => decode(decoder, bytes),
            Decoder::Zstd(decoder) => decode(decoder, bytes),
            Decoder::Deflate(_) => Ok(()),
        }
    }

    /// True if the body comes event by event, line by line or element by element.
    pub fn is_stream(&self) -> bool {
        self.framed().is_some_and(Framed::is_stream)
    }

    pub fn sink(&self) -> Option<&S> {
        self.framed().map(|framed| &framed.sink)
    }

    pub fn sink_mut(&mut self) -> Option<&mut S> {
        let framed = match self {
            Decoder::Identity(framed) => Some(framed),
            Decoder::Gzip(decoder) => Some(decoder.get_mut()),
            Decoder::Deflate(waiting) => waiting.as_mut(),
            Decoder::Zlib(decoder) => Some(decoder.get_mut()),
            Decoder::RawDeflate(decoder) => Some(decoder.get_mut()),
            Decoder::Brotli(decoder) => Some(decoder.get_mut()),
            Decoder::Zstd(decoder) => Some(decoder.get_mut()),
        };
        framed.map(|framed| &mut framed.sink)
    }

    fn framed(&self) -> Option<&Framed<S>> {
        match self {
            Decoder::Identity(framed) => Some(framed),
            Decoder::Gzip(decoder) => Some(decoder.get_ref()),
            Decoder::Deflate(waiting) => waiting.as_ref(),
            Decoder::Zlib(decoder) => Some(decoder.get_ref()),
            Decoder::RawDeflate(decoder) => Some(decoder.get_ref()),
            Decoder::Brotli(decoder) => Some(decoder.get_ref()),
            Decoder::Zstd(decoder) => Some(decoder.get_ref()),
        }
    }
}

/// Decoders hold back decoded bytes until they are flushed.
fn decode(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

impl<S: Sink> fmt::Debug for Decoder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Framer, Keep, Scanner, Selection};

    static ASKED: Selection = Selection(&[("n", Keep::Scalar)]);

    #[derive(Default)]
    struct Count(usize);

    impl Sink for Count {
        fn document(&mut self, _json: &[u8]) {
            self.0 += 1;
        }
    }

    fn decoder(coding: Coding) -> Decoder<Count> {
        let framed = Framed::new(Framer::Json(Scanner::new(&ASKED)), Count::default());
        Decoder::new(coding, framed).unwrap()
    }

    fn deflated(text: &[u8], zlib: bool) -> Vec<u8> {
        let level = flate2::Compression::default();
        if zlib {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        } else {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
    }

    #[test]
    fn deflate_is_read_with_and_without_zlib_s_frame() {
        for zlib in [true, false] {
            let mut decoder = decoder(Coding::Deflate);
            for byte in deflated(br#"{"n":1}{"n":2}"#, zlib) {
                decoder.push(&[byte]).unwrap();
            }
            assert_eq!(decoder.sink().unwrap().0, 2, "zlib: {zlib}");
        }
    }

    #[test]
    fn a_broken_encoding_is_an_error_and_keeps_what_was_read() {
        let mut bytes = zstd::encode_all(&br#"{"n":1}"#[..], 0).unwrap();
        bytes.extend_from_slice(b"no frame at all");
        let mut decoder = decoder(Coding::Zstd);
        assert!(decoder.push(&bytes).is_err());
        assert_eq!(decoder.sink().unwrap().0, 1);
    }

    #[test]
    fn a_bomb_is_given_up() {
        let megabyte = vec![b' '; 1 << 20];
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        for _ in 0..300 {
            encoder.write_all(&megabyte).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(decoder(Coding::Zstd).push(&bomb).is_err());
    }

    #[test]
    fn headers_name_codings() {
        assert_eq!(Coding::of_header(""), Some(Coding::Identity));
        assert_eq!(Coding::of_header("identity"), Some(Coding::Identity));
        assert_eq!(Coding::of_header(" GZIP "), Some(Coding::Gzip));
        assert_eq!(Coding::of_header("br, gzip"), None);
        assert_eq!(Coding::of_header("zip"), None);
    }
}
