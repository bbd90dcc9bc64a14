//! The way to the providers. Owns connections, their pools and what a call does when there is none;
//! the only room that names the HTTP client. A pool belongs to one worker thread and is never locked.
//!
//! An HTTP/1.1 connection has no task of its own: whoever waits for the response head or polls the
//! body drives it (`h1`). What arrives together then leaves together, and one call is one task. An
//! HTTP/2 connection is shared by its calls and has a task (`h2`).

mod connect;
mod h1;
mod h2;
mod patient;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use rustix::io::Errno;
use tokio::time::Instant;

use connect::Io;
pub use connect::{Origin, Playing, TlsError, tls_config};

use super::body::RequestBody;
use crate::telemetry::Live;

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Where TLS negotiates it.
    #[default]
    Auto,
    Never,
    /// Always, without asking: also over cleartext.
    Always,
}

/// Idle HTTP/1.1 connections kept for one upstream and worker.
const MAX_IDLE: usize = 1024;

/// Why there is no answer. Displays the whole chain, for the log; `stage` is short, for the client.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    ConnectTimeout,
    Tls,
    /// The request was on its way, or the answer's head was awaited.
    Head,
    HeadTimeout,
}

impl Stage {
    /// For the row and the client.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stage::Connect => "connect_failed",
            Stage::ConnectTimeout => "connect_timeout",
            Stage::Tls => "tls_failed",
            Stage::Head => "no_response",
            Stage::HeadTimeout => "response_timeout",
        }
    }

    /// For the client: what happened and what to look at.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Stage::Connect => "it could not be connected to; is its base_url right, does it run?",
            Stage::ConnectTimeout => "no connection within its connect timeout",
            Stage::Tls => "no TLS session; is its certificate trusted (ca_file)?",
            Stage::Head => "it closed the connection without a valid answer",
            Stage::HeadTimeout => "no answer within its response_head timeout",
        }
    }

    pub(super) fn is_timeout(self) -> bool {
        matches!(self, Stage::ConnectTimeout | Stage::HeadTimeout)
    }
}

impl Failure {
    pub(super) fn new(
        stage: Stage,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Failure {
        Failure { stage, cause: Some(cause.into()) }
    }

    pub(super) fn timeout(stage: Stage) -> Failure {
        Failure { stage, cause: None }
    }

    /// The process, or the system, has no file descriptor left.
    fn lacks_descriptors(&self) -> bool {
        self.causes().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| {
            let code = error.raw_os_error();
            code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
        })
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        let first = self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
        std::iter::successors(first, |cause| cause.source())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage.as_str())?;
        self.causes().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// Where an upstream is and how it is spoken to.
#[derive(Debug)]
pub struct Target {
    /// Which of the pool's places is this target's: from 0, without gaps.
    pub index: usize,
    pub origin: Origin,
    pub http2: Http2,
    pub connect_timeout: Duration,
    pub pool_idle: Duration,
}

/// The connections of one worker thread.
#[derive(Debug)]
pub(super) struct Pool {
    by_target: Vec<RefCell<Connections>>,
    live: Arc<Live>,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Idle>,
    shared: Vec<h2::Connection>,
}

#[derive(Debug)]
struct Idle {
    connection: h1::Connection,
    until: Instant,
}

// Moved a few times a call; a box would be an allocation a call.
#[allow(clippy::large_enum_variant)]
enum Connection {
    H1(h1::Connection),
    H2(h2::Connection),
}

/// A request that did not get an answer; with it the request itself, if not a byte of it was written.
type Unanswered = (Failure, Option<Box<Request<RequestBody>>>);

/// An upstream's answer: its body drives its connection.
pub(super) type Answer = Response<AnswerBody>;

impl Pool {
    /// A pool with a place for each target.
    pub(super) fn new(targets: usize, live: Arc<Live>) -> Rc<Pool> {
        Rc::new(Pool { by_target: (0..targets).map(|_| RefCell::default()).collect(), live })
    }

    /// Sends a request and waits for the answer's head. `path` is the request's path and query.
    ///
    /// A pooled connection that turns out to be closed before a byte of the request was written is
    /// replaced; a request that may have reached the provider is never sent again.
    pub(super) async fn send(
        self: &Rc<Self>,
        target: &Arc<Target>,
        mut request: Request<RequestBody>,
        path: PathAndQuery,
    ) -> Result<Answer, Failure> {
        loop {
            let pooled = self.take(target);
            let is_fresh = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                // Boxed: every call would carry the room that opening a connection takes.
                None => Box::pin(self.connect(target)).await?,
            };
            let sent = match connection {
                Connection::H1(connection) => {
                    *request.version_mut() = Version::HTTP_11;
                    *request.uri_mut() = Uri::from(path.clone());
                    request.headers_mut().insert(HOST, target.origin.host.clone());
                    connection
                        .send(
                            request,
                            h1::Home { pool: Rc::clone(self), target: Arc::clone(target) },
                        )
                        .await
                }
                Connection::H2(connection) => {
                    *request.version_mut() = Version::HTTP_2;
                    // hyper does not tell of informational answers over HTTP/2.
                    request.body_mut().gate = None;
                    *request.uri_mut() = target.origin.absolute(&path);
                    Box::pin(connection.send(request)).await
                }
            };
            match sent {
                Ok(answer) => return Ok(answer),
                Err((_, Some(unsent))) if !is_fresh => request = *unsent,
                Err((failure, _)) => return Err(failure),
            }
        }
    }

    fn take(&self, target: &Arc<Target>) -> Option<Connection> {
        let mut connections = self.by_target[target.index].borrow_mut();
        connections.shared.retain(h2::Connection::is_worth_keeping);
        if let Some(shared) = connections.shared.iter().find(|shared| shared.has_room()) {
            return Some(Connection::H2(shared.clone()));
        }
        while let Some(mut idle) = connections.idle.pop() {
            if Instant::now() < idle.until && idle.connection.is_alive() {
                return Some(Connection::H1(idle.connection));
            }
        }
        None
    }

    async fn connect(&self, target: &Arc<Target>) -> Result<Connection, Failure> {
        let io = match connect::connect(target, target.http2).await {
            Err(failure) if failure.lacks_descriptors() && self.close_idle() => {
                connect::connect(target, target.http2).await
            }
            opened => opened,
        }?;
        self.live.connected(target.index);
        let http2 = io.speaks_http2(target.http2);
        if !http2 {
            return h1::Connection::new(io).await.map(Connection::H1);
        }
        let connection = h2::Connection::new(io, target.pool_idle).await?;
        self.by_target[target.index].borrow_mut().shared.push(connection.clone());
        Ok(Connection::H2(connection))
    }

    /// Closes what nobody uses, whichever upstream it leads to; false if there is nothing.
    fn close_idle(&self) -> bool {
        let mut closed = 0;
        for connections in &self.by_target {
            closed += std::mem::take(&mut connections.borrow_mut().idle).len();
        }
        closed > 0
    }

    fn put_back(&self, target: &Arc<Target>, connection: h1::Connection) {
        let mut connections = self.by_target[target.index].borrow_mut();
        if connections.idle.len() < MAX_IDLE {
            connections.idle.push(Idle { connection, until: Instant::now() + target.pool_idle });
        }
    }

    /// Closes connections that have been idle too long or that the provider has closed. To be called
    /// now and then: an idle connection has no task that would notice.
    pub(super) fn sweep(&self) {
        for connections in &self.by_target {
            let mut connections = connections.borrow_mut();
            connections.shared.retain(h2::Connection::is_worth_keeping);
            let now = Instant::now();
            connections.idle.retain_mut(|idle| now < idle.until && idle.connection.is_alive());
        }
    }
}

/// Sends a request for an upgrade over a connection of its own, which becomes the tunnel's if the
/// answer is 101.
pub(super) async fn send_upgrade(
    target: &Target,
    mut request: Request<RequestBody>,
    path: PathAndQuery,
) -> Result<Answer, Failure> {
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(HOST, target.origin.host.clone());
    let io = connect::connect(target, Http2::Never).await?;
    let (mut sender, connection, allowance) = h1::open(io).await?;
    tokio::task::spawn_local(connection.with_upgrades());
    allowance.head_is_awaited();
    let answer = sender.send_request(request).await;
    allowance.head_has_come();
    match answer {
        Ok(answer) if h1::has_other_coding(answer.headers()) => Err(h1::other_coding()),
        Ok(answer) => Ok(answer.map(AnswerBody::Spawned)),
        Err(error) => Err(Failure::new(Stage::Head, error)),
    }
}

/// The body of an answer. Not boxed: that would be an allocation a call.
#[allow(clippy::large_enum_variant)]
pub(super) enum AnswerBody {
    H1(h1::DrivenBody),
    Detached(h1::DetachedBody),
    H2(h2::CountedBody),
    /// Of a connection with a task of its own.
    Spawned(Incoming),
    /// Handed on to somebody else.
    Over,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            AnswerBody::H1(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::Detached(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::H2(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::Spawned(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::H1(body) => body.is_end_stream(),
            AnswerBody::Detached(body) => body.is_end_stream(),
            AnswerBody::H2(body) => body.is_end_stream(),
            AnswerBody::Spawned(body) => body.is_end_stream(),
            AnswerBody::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::H1(body) => body.size_hint(),
            AnswerBody::Detached(body) => body.size_hint(),
            AnswerBody::H2(body) => body.size_hint(),
            AnswerBody::Spawned(body) => body.size_hint(),
            AnswerBody::Over => SizeHint::with_exact(0),
        }
    }
}
