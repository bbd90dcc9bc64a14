//! Looking at what passes through a tunnel. Owns which side ended it, and that looking never changes,
//! fails or holds up what passes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::rows::{Ended, Rows};
use crate::framing::{Extensions, Sender, WebSocket};
use crate::meter::guarded;
use crate::provider::realtime::{FROM_CLIENT, FROM_PROVIDER, Session};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Provider,
}

/// What has been seen of a tunnel, and the rows that come of it.
pub(super) struct Watch {
    /// `None`: not readable.
    client: Option<WebSocket>,
    provider: Option<WebSocket>,
    session: Session,
    rows: Rows,
    /// The first end: of either side's bytes, or its word that it closes.
    ended: Option<(Side, bool)>,
}

impl Watch {
    pub(super) fn new(extensions: Extensions, rows: Rows) -> Watch {
        Watch {
            client: WebSocket::new(Sender::Client, extensions, &FROM_CLIENT),
            provider: WebSocket::new(Sender::Server, extensions, &FROM_PROVIDER),
            session: Session::new(),
            rows,
            ended: None,
        }
    }

    /// Bytes have come from this side; none means that no more will.
    fn saw(&mut self, side: Side, bytes: &[u8]) {
        if bytes.is_empty() {
            self.ended.get_or_insert((side, false));
        } else if guarded(|| self.read(side, bytes)).is_none() {
            self.give_up_reading();
        }
    }

    fn read(&mut self, side: Side, bytes: &[u8]) {
        let socket = match side {
            Side::Client => &mut self.client,
            Side::Provider => &mut self.provider,
        };
        let Some(socket) = socket else { return };
        match side {
            Side::Client => socket.push(bytes, &mut self.session.client()),
            Side::Provider => socket.push(bytes, &mut self.session.provider()),
        }
        let (is_broken, is_closing) = (socket.is_broken(), socket.is_closing());
        for change in self.session.take_changes() {
            self.rows.apply(change);
        }
        if is_closing {
            self.ended.get_or_insert((side, false));
        }
        // What the provider says tells the rest, should the client's messages be unreadable.
        if is_broken && side == Side::Client {
            self.client = None;
        } else if is_broken {
            self.give_up_reading();
        }
    }

    fn give_up_reading(&mut self) {
        tracing::debug!("a tunnel's messages cannot be read any longer");
        (self.client, self.provider) = (None, None);
        self.hand_over();
        self.rows.unreadable();
    }

    /// What was seen of the responses that have not ended goes into their rows.
    fn hand_over(&mut self) {
        for (turn, seen) in self.session.take_open() {
            self.rows.saw(turn, seen);
        }
    }

    /// Resolves when what has come from the provider may go down.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.rows.poll_kept(cx)
    }

    /// This side's connection has failed.
    pub(super) fn broke(&mut self, side: Side) {
        self.ended.get_or_insert((side, true));
    }

    /// The tunnel is over.
    pub(super) fn finish(&mut self) {
        self.hand_over();
        let close_code = self.provider.as_ref().and_then(WebSocket::close_code);
        let is_closed = self.provider.as_ref().is_some_and(WebSocket::is_closing);
        self.rows.finish(match self.ended {
            None => Ended::Well,
            Some((Side::Client, _)) => Ended::ByClient { close_code },
            Some((Side::Provider, broke)) => {
                Ended::ByProvider { is_closed, is_reset: broke, close_code }
            }
        });
    }
}

/// A tunnel that is given up is not finished, and its rows close themselves.
impl Drop for Watch {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// One side's connection, read and written as it is.
pub(super) struct Watched<S> {
    io: S,
    side: Side,
    watch: Rc<RefCell<Watch>>,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S, side: Side, watch: Rc<RefCell<Watch>>) -> Watched<S> {
        Watched { io, side, watch }
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.watch.borrow_mut().broke(self.side);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if result.is_ok() {
            self.watch.borrow_mut().saw(self.side, &buf.filled()[before..]);
        }
        Poll::Ready(self.note(result))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.side == Side::Client {
            std::task::ready!(self.watch.borrow_mut().poll_kept(cx));
        }
        let result = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        Poll::Ready(self.note(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = std::task::ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(self.note(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
