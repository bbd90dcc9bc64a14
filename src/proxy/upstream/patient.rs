//! A connection to an upstream while an answer's head is awaited. Owns how much may come before it: hyper reads
//! informational answers (1xx) on and on, for as long as there are any, and in one turn of the worker's.
//!
//! Invariant: what comes behind the head is not limited, and a head that hyper would take (of 408 KB) is not cut
//! unless 600 KB of informational answers came before it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;

/// Bytes before and of an answer's head. hyper takes heads of 408 KB; informational answers are few.
const MAX_BEFORE: u64 = 1024 * 1024;

/// What is left of it; without a limit while no head is awaited.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    pub(super) fn new() -> Allowance {
        Allowance(Arc::new(AtomicU64::new(u64::MAX)))
    }

    pub(super) fn head_is_awaited(&self) {
        self.0.store(MAX_BEFORE, Ordering::Relaxed);
    }

    pub(super) fn head_has_come(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// So much has come; nothing more may be read where that was all.
    fn take(&self, bytes: usize) {
        let left = self.0.load(Ordering::Relaxed);
        if left != u64::MAX {
            self.0.store(left.saturating_sub(bytes as u64), Ordering::Relaxed);
        }
    }
}

/// The stream, with what may still be read of it.
pub(super) struct PatientIo {
    io: Io,
    allowance: Allowance,
}

impl PatientIo {
    pub(super) fn new(io: Io, allowance: &Allowance) -> PatientIo {
        PatientIo { io, allowance: allowance.clone() }
    }
}

impl AsyncRead for PatientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.allowance.0.load(Ordering::Relaxed) == 0 {
            let why = "too much came before its answer";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.allowance.take(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PatientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
