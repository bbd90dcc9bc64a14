//! A client's socket beneath all that is known of its bytes: a stream, which is TCP's as a rule, or TLS over it. Owns
//! the handshake with its limit of time, and that a client which takes nothing is noticed; knows no HTTP.
//!
//! Invariant: a handshake goes on only while the connection asks for its first bytes. So it holds a place, and
//! the clock runs, as with a connection that has said nothing yet; nobody who accepts waits for it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::{FallibleAccept, TlsStream};

use super::client::{Client, Patience};
use crate::telemetry::Live;

/// The word under which handshakes that come to nothing are counted.
const FAILED: &str = "tls_handshake";

/// The socket.
#[derive(Debug)]
pub struct Wire<S>(State<S>);

#[derive(Debug)]
enum State<S> {
    Plain(Beneath<S>),
    Handshake(Box<Handshake<S>>),
    Tls(Box<TlsStream<Beneath<S>>>),
    /// The handshake has failed.
    Broken,
}

struct Handshake<S> {
    accept: FallibleAccept<Beneath<S>>,
    limit: Pin<Box<Sleep>>,
    live: Arc<Live>,
}

impl<S> std::fmt::Debug for Handshake<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn plain(stream: S, client: &Arc<Client>, patience: Patience) -> Wire<S> {
        Wire(State::Plain(Beneath::new(stream, client, patience)))
    }

    /// The client has as long for its handshake as for a request's head.
    pub fn tls(
        stream: S,
        client: &Arc<Client>,
        patience: Patience,
        config: Arc<ServerConfig>,
        live: Arc<Live>,
    ) -> Wire<S> {
        let accept = TlsAcceptor::from(config).accept(Beneath::new(stream, client, patience));
        let limit = Box::pin(sleep(patience.request_head));
        let handshake = Handshake { accept: accept.into_fallible(), limit, live };
        Wire(State::Handshake(Box::new(handshake)))
    }

    /// Ready when bytes of HTTP can be read and written.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Handshake(handshake) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let shaken = ready!(handshake.poll(cx));
        let (state, outcome) = match shaken {
            Ok(stream) => (State::Tls(Box::new(stream)), Ok(())),
            Err(error) => (State::Broken, Err(error)),
        };
        self.0 = state;
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TlsStream<Beneath<S>>>> {
        let (error, has_said_something) = match Pin::new(&mut self.accept).poll(cx) {
            Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
            Poll::Ready(Err((error, tcp))) => (error, tcp.has_said_something),
            Poll::Pending => {
                ready!(self.limit.as_mut().poll(cx));
                (io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"), true)
            }
        };
        tracing::debug!(%error, "no TLS handshake");
        // Whoever looks only whether somebody listens, as load balancers do, has not failed.
        if has_said_something {
            self.live.refused(FAILED);
        }
        Poll::Ready(Err(error))
    }
}

fn broken() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_open(cx))?;
        match &mut this.0 {
            State::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            State::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
            State::Handshake(_) | State::Broken => Poll::Ready(Err(broken())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_open(cx))?;
        match &mut this.0 {
            State::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            State::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
            State::Handshake(_) | State::Broken => Poll::Ready(Err(broken())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            State::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            State::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            State::Handshake(_) | State::Broken => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            State::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            State::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            State::Handshake(_) | State::Broken => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_open(cx))?;
        match &mut this.0 {
            State::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            State::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, slices),
            State::Handshake(_) | State::Broken => Poll::Ready(Err(broken())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// What lies beneath TLS, if there is TLS: only here can be seen whether a client takes bytes.
#[derive(Debug)]
struct Beneath<S> {
    stream: S,
    client: Arc<Client>,
    has_said_something: bool,
    max_stall: Duration,
    /// Set while the client takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Beneath<S> {
    fn new(stream: S, client: &Arc<Client>, patience: Patience) -> Beneath<S> {
        let (client, max_stall) = (Arc::clone(client), patience.stalled);
        Beneath { stream, client, has_said_something: false, max_stall, stalled: None }
    }

    /// What a write came to. While a client takes no bytes, hyper asks for no more of the answer, so
    /// that nobody else would notice.
    fn note_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            let limit = self.max_stall;
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
            return stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        self.stalled = None;
        self.client.bytes_went();
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beneath<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.has_said_something |= !buf.filled().is_empty();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beneath<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.note_written(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.note_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
