//! Informational answers (102, 103) on their way down. Owns the one thing that hyper's server cannot
//! do: write a head before the final one. The connection's stream is wrapped; the bytes go out when
//! hyper has nothing of its own left to write.
//!
//! Invariant: never between two bytes of a message: what cannot go out in time is left out, which
//! HTTP allows.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use http::header::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::headers;

/// Bytes of informational answers that wait at most.
const MAX_WAITING: usize = 16 * 1024;

/// What waits to be written to one client.
#[derive(Debug)]
pub struct Interim {
    /// hyper has written all it had: a message may begin.
    drained: AtomicBool,
    has_waiting: AtomicBool,
    waiting: Mutex<Vec<u8>>,
}

impl Interim {
    /// Queues an informational answer for the request at hand.
    pub(super) fn send(&self, status: StatusCode, fields: &HeaderMap) {
        if !self.drained.load(Ordering::Relaxed) {
            return;
        }
        let mut fields = fields.clone();
        headers::remove_hop_by_hop(&mut fields);
        let reason = status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
        for (name, value) in &fields {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() + head.len() <= MAX_WAITING {
            waiting.extend_from_slice(&head);
            self.has_waiting.store(true, Ordering::Relaxed);
        }
    }
}

/// A client's connection that informational answers can be written to.
#[derive(Debug)]
pub struct InterimIo<T> {
    io: T,
    interim: Arc<Interim>,
}

impl<T> InterimIo<T> {
    pub fn new(io: T) -> (InterimIo<T>, Arc<Interim>) {
        let interim = Arc::new(Interim {
            drained: AtomicBool::new(true),
            has_waiting: AtomicBool::new(false),
            waiting: Mutex::default(),
        });
        (InterimIo { io, interim: Arc::clone(&interim) }, interim)
    }
}

impl<T: AsyncWrite + Unpin> InterimIo<T> {
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.interim.has_waiting.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.interim.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !waiting.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, &waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waiting.drain(..written);
        }
        self.interim.has_waiting.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for InterimIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InterimIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_waiting(cx))?;
        this.interim.drained.store(false, Ordering::Relaxed);
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    /// hyper flushes when its own buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_waiting(cx))?;
        this.interim.drained.store(true, Ordering::Relaxed);
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_waiting(cx))?;
        this.interim.drained.store(false, Ordering::Relaxed);
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
