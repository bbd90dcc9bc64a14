//! HTTP/1.1 to an upstream, driven by the call itself. hyper's client connection is never spawned:
//! whoever waits for the head or polls the body polls the connection first. A call is one task, and
//! what arrives in one read leaves in one write.
//!
//! Invariant: a connection goes back to the pool only when hyper says that it is ready for another
//! request, which it is not after any doubtful end.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use super::patient::{Allowance, PatientIo};
use super::{Answer, AnswerBody, Failure, Io, Pool, Stage, Target, Unanswered};
use crate::proxy::body::RequestBody;

pub(super) type Sender = http1::SendRequest<RequestBody>;
pub(super) type Driver = http1::Connection<TokioIo<PatientIo>, RequestBody>;

/// A connection that carries one request at a time.
pub(super) struct Connection {
    sender: Sender,
    /// `None` once the connection is over. Boxed, as it is large and moves from call to call.
    driver: Option<Box<Driver>>,
    allowance: Allowance,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("h1::Connection")
    }
}

/// Where a connection goes back to.
pub(super) struct Home {
    pub(super) pool: Rc<Pool>,
    pub(super) target: Arc<Target>,
}

/// Speaks HTTP/1.1 over a stream: who sends, who drives it, and how much may come before an answer.
pub(super) async fn open(io: Io) -> Result<(Sender, Driver, Allowance), Failure> {
    let allowance = Allowance::new();
    let (sender, driver) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(PatientIo::new(io, &allowance)))
        .await
        .map_err(|error| Failure::new(Stage::Connect, error))?;
    Ok((sender, driver, allowance))
}

impl Connection {
    pub(super) async fn new(io: Io) -> Result<Connection, Failure> {
        let (sender, driver, allowance) = open(io).await?;
        Ok(Connection { sender, driver: Some(Box::new(driver)), allowance })
    }

    /// Looks whether an idle connection still stands, by polling it once.
    pub(super) fn is_alive(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    pub(super) async fn send(
        mut self,
        mut request: Request<RequestBody>,
        home: Home,
    ) -> Result<Answer, Unanswered> {
        frame(&mut request);
        let progress = request.body().progress.clone();
        let may_switch = request.headers().contains_key(UPGRADE);
        self.allowance.head_is_awaited();
        let mut response = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            response.as_mut().poll(cx)
        })
        .await;
        self.allowance.head_has_come();
        match answer {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch => {
                Err((Failure::new(Stage::Head, "it switched to another protocol unasked"), None))
            }
            Ok(answer) if has_other_coding(answer.headers()) => Err((other_coding(), None)),
            Ok(answer) if progress.is_uploading() && self.driver.is_some() => {
                Ok(answer.map(|incoming| AnswerBody::Detached(DetachedBody::new(self, incoming))))
            }
            Ok(answer) => {
                let (parts, incoming) = answer.into_parts();
                let is_clear = !is_framed_twice(&parts.headers);
                let carrier = Some((self, home));
                let mut body = DrivenBody { incoming, carrier, is_clear, next: None };
                if body.incoming.is_end_stream() {
                    poll_fn(|cx| {
                        body.release(cx);
                        Poll::Ready(())
                    })
                    .await;
                }
                Ok(Answer::from_parts(parts, AnswerBody::H1(body)))
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Box::new);
                Err((Failure::new(Stage::Head, error.into_error()), unsent))
            }
        }
    }
}

/// Says that a body of unknown length comes in chunks: hyper takes a GET without a word for one without
/// a body.
fn frame(request: &mut Request<RequestBody>) {
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// True if the answer is coded in a way that the client would not be told of, since the field that names it
/// stays behind.
pub(super) fn has_other_coding(headers: &HeaderMap) -> bool {
    headers.get_all(TRANSFER_ENCODING).iter().any(|value| {
        let coding = value.as_bytes().trim_ascii();
        !coding.eq_ignore_ascii_case(b"chunked") && !coding.eq_ignore_ascii_case(b"identity")
    })
}

pub(super) fn other_coding() -> Failure {
    Failure::new(Stage::Head, "its transfer coding is not `chunked`")
}

/// True if a length is stated beside chunks (RFC 9112, 6.3): where the answer ends is a matter of who reads it, and
/// what comes behind may be meant to be read as another.
fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// A body that came before the request's had gone up. The upload must go on while the client takes
/// nothing of the answer, when nobody polls its body: so the connection has a task of its own. It
/// ends with the answer, and carries no other call.
pub(in crate::proxy) struct DetachedBody {
    incoming: Incoming,
    driver: Option<JoinHandle<()>>,
}

impl DetachedBody {
    fn new(connection: Connection, incoming: Incoming) -> DetachedBody {
        let driver = connection.driver.map(|driver| {
            tokio::task::spawn_local(async move {
                // What ends it, the body says too.
                let _ = driver.await;
            })
        });
        DetachedBody { incoming, driver }
    }

    fn end(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}

impl Drop for DetachedBody {
    fn drop(&mut self) {
        self.end();
    }
}

impl Body for DetachedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let polled = std::task::ready!(Pin::new(&mut body.incoming).poll_frame(cx));
        let is_last = !matches!(&polled, Some(Ok(frame)) if !frame.is_trailers());
        if is_last || body.incoming.is_end_stream() {
            body.end();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A frame of fewer bytes is joined with those behind it that are there already.
const SMALL_FRAME: usize = 4 * 1024;

/// Bytes that are joined at most, but for the frame that goes beyond.
const MAX_JOINED: usize = 16 * 1024;

/// A body that drives the connection it comes by.
///
/// Events that a provider writes one by one come as chunks, and hyper gives a frame for each; those that
/// came in one read leave as one, so that they are metered, framed and written at once.
pub(in crate::proxy) struct DrivenBody {
    incoming: Incoming,
    /// `None` once the body is complete and the connection given back.
    carrier: Option<(Connection, Home)>,
    /// There is no doubt where it ends.
    is_clear: bool,
    /// What came behind the frames that were joined and is none of them.
    next: Option<Polled>,
}

type Polled = Option<Result<Frame<Bytes>, hyper::Error>>;

impl DrivenBody {
    /// Gives the connection back, if it can carry another request.
    fn release(&mut self, cx: &mut Context<'_>) {
        let Some((mut connection, home)) = self.carrier.take() else { return };
        connection.drive(cx);
        if self.is_clear && connection.driver.is_some() && connection.sender.is_ready() {
            home.pool.put_back(&home.target, connection);
        }
    }

    /// What the connection has read already is taken first; only then the connection is polled.
    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some((connection, _)) = &mut self.carrier
        {
            connection.drive(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        let over = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.incoming.is_end_stream(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) => {
                self.carrier = None;
                false
            }
            Poll::Pending => false,
        };
        if over {
            self.release(cx);
        }
        polled
    }

    /// A first frame with those behind it that are there already.
    fn join(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut joined = None;
        let mut length = first.len();
        while length < MAX_JOINED && !self.incoming.is_end_stream() {
            match self.poll_one(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let Ok(data) = frame.into_data() else { break };
                    let all = joined.get_or_insert_with(|| {
                        let mut all = BytesMut::with_capacity(SMALL_FRAME.max(2 * length));
                        all.extend_from_slice(&first);
                        all
                    });
                    all.extend_from_slice(&data);
                    length = all.len();
                }
                Poll::Ready(other) => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        joined.map_or(first, BytesMut::freeze)
    }
}

impl Body for DrivenBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        let body = self.get_mut();
        if let Some(next) = body.next.take() {
            return Poll::Ready(next);
        }
        match body.poll_one(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) if data.len() < SMALL_FRAME => Frame::data(body.join(data, cx)),
                Ok(data) => Frame::data(data),
                Err(trailers) => trailers,
            }))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.next {
            Some(next) => next.is_none(),
            None => self.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
