//! Bodies in the content encodings that providers and their front ends use.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Gzip,
    /// `deflate` as the standard has it.
    Zlib,
    /// `deflate` as some servers send it.
    RawDeflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The `Content-Encoding`.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Coding::Plain => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zlib | Coding::RawDeflate => Some("deflate"),
            Coding::Brotli => Some("br"),
            Coding::Zstd => Some("zstd"),
        }
    }
}

/// The encoded body, and where in it each piece begins. As servers do that compress a stream, the
/// encoder is flushed after each piece, so that it can be decoded as soon as it arrives.
pub(crate) fn encode(coding: Coding, pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut begins = Vec::new();
    let out = Vec::new();
    let encoded = match coding {
        Coding::Plain => flushed(out, pieces, &mut begins, Vec::len, |out| out),
        Coding::Gzip => {
            let encoder = GzEncoder::new(out, Compression::fast());
            let length = |e: &GzEncoder<Vec<u8>>| e.get_ref().len();
            flushed(encoder, pieces, &mut begins, length, |e| e.finish().unwrap())
        }
        Coding::Zlib => {
            let encoder = ZlibEncoder::new(out, Compression::fast());
            let length = |e: &ZlibEncoder<Vec<u8>>| e.get_ref().len();
            flushed(encoder, pieces, &mut begins, length, |e| e.finish().unwrap())
        }
        Coding::RawDeflate => {
            let encoder = DeflateEncoder::new(out, Compression::fast());
            let length = |e: &DeflateEncoder<Vec<u8>>| e.get_ref().len();
            flushed(encoder, pieces, &mut begins, length, |e| e.finish().unwrap())
        }
        Coding::Brotli => {
            let encoder = brotli::CompressorWriter::new(out, 4096, 1, 18);
            let length = |e: &brotli::CompressorWriter<Vec<u8>>| e.get_ref().len();
            flushed(encoder, pieces, &mut begins, length, brotli::CompressorWriter::into_inner)
        }
        Coding::Zstd => {
            let encoder = zstd::stream::write::Encoder::new(out, 1).unwrap();
            let length = |e: &zstd::stream::write::Encoder<'_, Vec<u8>>| e.get_ref().len();
            flushed(encoder, pieces, &mut begins, length, |e| e.finish().unwrap())
        }
    };
    (encoded, begins)
}

fn flushed<W: Write>(
    mut encoder: W,
    pieces: &[&[u8]],
    begins: &mut Vec<usize>,
    length: impl Fn(&W) -> usize,
    finish: impl FnOnce(W) -> Vec<u8>,
) -> Vec<u8> {
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            encoder.flush().unwrap();
        }
        begins.push(length(&encoder));
        encoder.write_all(piece).unwrap();
    }
    finish(encoder)
}
