//! HTTP/2 to an upstream: a connection shared by several calls, driven by a task of its own.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HOST};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioTimer;

use super::{Answer, AnswerBody, Failure, Io, Stage, Unanswered};
use crate::proxy::body::RequestBody;
use crate::proxy::headers;

/// Calls on one connection. RFC 9113 recommends that servers allow no fewer; a connection that is
/// full is joined by another.
const MAX_STREAMS: usize = 100;

/// Bytes that the head of an answer may have: hyper allows as much over HTTP/1.1, and much less over
/// HTTP/2 unless told.
const MAX_HEAD: u32 = 400 * 1024;

/// How often a connection with calls on it is asked whether it still stands, and how long it has to
/// answer: a connection that died in silence would take every further call with it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

#[derive(Clone)]
pub(super) struct Connection {
    sender: http2::SendRequest<RequestBody>,
    load: Rc<Load>,
    max_idle: Duration,
}

/// How a connection is used.
struct Load {
    streams: Cell<usize>,
    /// How many the server takes; what it says comes after the connection has been made.
    max_streams: Cell<usize>,
    last: Cell<Instant>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("h2::Connection")
            .field("streams", &self.load.streams.get())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// `max_idle`: how long it is kept without a call.
    pub(super) async fn new(io: Io, max_idle: Duration) -> Result<Connection, Failure> {
        let (sender, mut driver) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(MAX_HEAD)
            // Until the server has said how many it takes, so that no call waits behind another.
            .initial_max_send_streams(1)
            .handshake(io.into_hyper())
            .await
            .map_err(|error| Failure::new(Stage::Connect, error))?;
        let load = Rc::new(Load {
            streams: Cell::new(0),
            max_streams: Cell::new(driver.current_max_send_streams()),
            last: Cell::new(Instant::now()),
        });
        let told = Rc::clone(&load);
        tokio::task::spawn_local(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut driver).poll(cx);
                told.max_streams.set(driver.current_max_send_streams());
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
        });
        Ok(Connection { sender, load, max_idle })
    }

    /// False once it is closed or has been without a call for too long. It closes when it is dropped.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let is_idle =
            self.load.streams.get() == 0 && self.load.last.get().elapsed() >= self.max_idle;
        !self.sender.is_closed() && !is_idle
    }

    pub(super) fn has_room(&self) -> bool {
        let most = self.load.max_streams.get().min(MAX_STREAMS);
        self.load.streams.get() < most && self.sender.is_ready()
    }

    pub(super) async fn send(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Unanswered> {
        let counted = Counted::new(&self.load);
        // The authority says it, and nothing is named by a connection.
        headers::retain(request.headers_mut(), |name| name != HOST && name != CONNECTION);
        match self.sender.try_send_request(request).await {
            Ok(answer) => {
                Ok(answer
                    .map(|incoming| AnswerBody::H2(CountedBody { incoming, _counted: counted })))
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Box::new);
                Err((Failure::new(Stage::Head, error.into_error()), unsent))
            }
        }
    }
}

/// Counts a stream for as long as it lives.
struct Counted(Rc<Load>);

impl Counted {
    fn new(load: &Rc<Load>) -> Counted {
        load.streams.set(load.streams.get() + 1);
        Counted(Rc::clone(load))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.last.set(Instant::now());
    }
}

pub(in crate::proxy) struct CountedBody {
    incoming: Incoming,
    _counted: Counted,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
