//! Informational answers (102, 103) on their way down. Owns the one thing that hyper's server cannot
//! do: write a head before the final one. The connection's stream is wrapped (`client`); the bytes go
//! out when hyper has nothing of its own left to write.
//!
//! Invariant: never between two bytes of a message: what cannot go out in time is left out, which
//! HTTP allows.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use http::header::HeaderMap;
use tokio::io::AsyncWrite;

use super::headers;

/// Bytes of informational answers that wait at most.
const MAX_WAITING: usize = 16 * 1024;

/// What waits to be written to one client.
#[derive(Debug, Default)]
pub(super) struct Interim {
    /// hyper has bytes of a message that it has not written.
    within_message: AtomicBool,
    has_waiting: AtomicBool,
    waiting: Mutex<Vec<u8>>,
}

impl Interim {
    /// Queues an informational answer for the request at hand.
    pub(super) fn send(&self, status: StatusCode, fields: &HeaderMap) {
        if self.within_message.load(Ordering::Relaxed) {
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

    /// Queues what closes the connection.
    pub(super) fn send_last(&self, message: &[u8]) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(message);
        self.has_waiting.store(true, Ordering::Relaxed);
    }

    pub(super) fn message_begins(&self) {
        self.within_message.store(true, Ordering::Relaxed);
    }

    pub(super) fn all_is_written(&self) {
        self.within_message.store(false, Ordering::Relaxed);
    }

    /// Writes what waits.
    pub(super) fn poll_write_to<T: AsyncWrite + Unpin>(
        &self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_waiting.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !waiting.is_empty() {
            let written = std::task::ready!(Pin::new(&mut *io).poll_write(cx, &waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waiting.drain(..written);
        }
        self.has_waiting.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}
