//! Which HTTP a client speaks: its first bytes tell. Owns the looking; what was looked at is read again.
//!
//! Source: RFC 9113, section 3.4: HTTP/2 begins with 24 bytes that begin no request of HTTP/1.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::client::ClientIo;

const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
    /// It has closed the connection.
    Nothing,
}

/// Waits for a client's first bytes, as many as it takes to tell. Only the very first may be those of HTTP/2
/// (`is_first`). Not to be called again when it was dropped.
pub async fn spoken<T: AsyncRead + Unpin>(
    io: &mut ClientIo<T>,
    is_first: bool,
) -> io::Result<Spoken> {
    let (mut first, mut length) = ([0; HTTP2.len()], 0);
    let is_http2 = loop {
        let came = io.read(&mut first[length..]).await?;
        length += came;
        let begins = is_first && HTTP2.starts_with(&first[..length]);
        if came == 0 || !begins || length == HTTP2.len() {
            break begins && length == HTTP2.len();
        }
    };
    io.put_back(Bytes::copy_from_slice(&first[..length]));
    Ok(match length {
        0 => Spoken::Nothing,
        _ if is_http2 => Spoken::Http2,
        _ => Spoken::Http1,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::proxy::Client;

    /// What is said of bytes that come one by one before the client leaves, and what is read afterwards.
    async fn said(bytes: &[u8], is_first: bool) -> (Spoken, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let sending = async move { client.write_all(&bytes).await };
        let reading = async move {
            let mut io = ClientIo::new(server, &Client::new());
            let spoken = spoken(&mut io, is_first).await.unwrap();
            let mut read = Vec::new();
            io.read_to_end(&mut read).await.unwrap();
            (spoken, read)
        };
        let (sent, said) = tokio::join!(sending, reading);
        sent.unwrap();
        said
    }

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_read_again() {
        let whole = [&HTTP2[..], b"more"].concat();
        for (bytes, spoken) in [
            (&b""[..], Spoken::Nothing),
            (b"GET / HTTP/1.1\r\n", Spoken::Http1),
            (b"PRI", Spoken::Http1),
            (b"PRINT / HTTP/1.1\r\n", Spoken::Http1),
            (b"\r\nGET /", Spoken::Http1),
            (HTTP2, Spoken::Http2),
            (&whole, Spoken::Http2),
        ] {
            assert_eq!(said(bytes, true).await, (spoken, bytes.to_vec()), "{bytes:?}");
            let later = if bytes.is_empty() { Spoken::Nothing } else { Spoken::Http1 };
            assert_eq!(said(bytes, false).await, (later, bytes.to_vec()), "{bytes:?}");
        }
    }
}
