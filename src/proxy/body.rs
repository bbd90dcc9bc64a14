//! The two bodies of a call. Owns what is done to a frame on its way: it is looked at and handed on
//! as it is. What ends the answer waits until the call is closed.
//!
//! Invariant: `is_end_stream` and `size_hint` are those of the body within, so that the message is
//! framed as it came.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::framing::EventFilter;
use crate::meter::guarded;

use super::client::Client;
use super::drain::{self, DrainLimits};
use super::edit::Edit;
use super::exchange::{End, Exchange, Progress, SharedRequest, UploadFault};
use super::upstream::AnswerBody;

/// How long a client that expects `100 Continue` is left waiting for a silent provider (RFC 9110,
/// 10.1.1, wants it bounded; curl waits as long).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a body that nobody wants which are read, so that the connection can be used again.
const MOST_UNWANTED: usize = 256 * 1024;

/// The request's body on its way up. Boxed, because a request is moved from hand to hand before it is sent.
pub(super) type RequestBody = Box<Upload>;

/// See [`RequestBody`].
pub(super) struct Upload {
    /// `None` once it has been read to its end ahead of time.
    pub(super) incoming: Option<Incoming>,
    /// What [`Upload::fetch_first`] has found.
    pub(super) first: Option<Result<Frame<Bytes>, RequestBodyError>>,
    /// What was held (`held`) and goes up before the rest.
    pub(super) queued: VecDeque<Frame<Bytes>>,
    pub(super) request: SharedRequest,
    pub(super) progress: Progress,
    pub(super) client: Arc<Client>,
    /// Bytes that may still come; `None`: any number.
    pub(super) left: Option<u64>,
    /// Closed until the provider wants the body.
    pub(super) gate: Option<WaitingGate>,
}

/// Why a request's body broke.
#[derive(Debug)]
pub(super) enum RequestBodyError {
    Client(hyper::Error),
    TooLarge,
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestBodyError::Client(error) => write!(f, "the client's request broke off: {error}"),
            RequestBodyError::TooLarge => f.write_str("the request's body is too large"),
        }
    }
}

impl std::error::Error for RequestBodyError {}

/// Reads a request's body that nobody wants, as far as it is there already and not too large; whether that was all.
pub async fn has_come(mut body: Incoming) -> bool {
    let (mut has_yielded, mut left) = (false, MOST_UNWANTED);
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(length) else { return Poll::Ready(false) };
                    left = rest;
                }
                // hyper reads a body when it is asked for, and then this task has its turn once.
                Poll::Pending if !has_yielded => {
                    has_yielded = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
            }
        }
    })
    .await
}

impl Upload {
    /// Takes the first frame if it is there already, as it is for most calls: their bodies come with
    /// their heads. So the journal's opening line can say whose call it is and for which model.
    pub(super) async fn fetch_first(&mut self) {
        if self.gate.is_some() || self.is_end_stream() {
            return;
        }
        let mut has_yielded = false;
        poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(first) => {
                self.first = first;
                Poll::Ready(())
            }
            // hyper reads a body when it is asked for, and then this task has its turn once.
            Poll::Pending if !has_yielded => {
                has_yielded = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(()),
        })
        .await;
    }

    /// The next frame, whoever asks for it.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(first) = self.first.take().or_else(|| self.queued.pop_front().map(Ok)) {
            return Poll::Ready(Some(first));
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        if let Some(gate) = &mut self.gate {
            std::task::ready!(gate.poll_open(cx));
            self.gate = None;
        }
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        self.progress.set_waits_for_client(polled.is_pending());
        let polled = std::task::ready!(polled);
        let ends_with_trailers = matches!(&polled, Some(Ok(frame)) if frame.is_trailers());
        let ends = polled.is_none() || ends_with_trailers || has_ended(incoming);
        if ends {
            self.client.has_sent_all();
            self.progress.upload_ended();
        }
        Poll::Ready(polled.map(|result| match result {
            Ok(frame) => self.frame(&frame).map(|()| frame),
            Err(error) => {
                self.progress.upload_failed(UploadFault::ClientGone);
                Err(RequestBodyError::Client(error))
            }
        }))
    }

    fn frame(&mut self, frame: &Frame<Bytes>) -> Result<(), RequestBodyError> {
        self.progress.touch();
        let Some(bytes) = frame.data_ref() else { return Ok(()) };
        if let Some(left) = &mut self.left {
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                self.progress.upload_failed(UploadFault::TooLarge);
                return Err(RequestBodyError::TooLarge);
            };
            *left = rest;
        }
        self.progress.upload_began();
        let read = guarded(|| self.request.borrow_mut().push(bytes));
        if read.is_none() {
            self.request.borrow_mut().give_up();
        }
        Ok(())
    }
}

/// True if nothing more comes. An HTTP/2 client may mark the end of a body of known length with an empty
/// frame of its own, which nobody asks for any more.
fn has_ended(incoming: &Incoming) -> bool {
    incoming.is_end_stream() || incoming.size_hint().exact() == Some(0)
}

impl Body for Upload {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let body = self.get_mut();
        let polled = body.poll_next(cx);
        // A connection asks: what it is given, it sends.
        let is_over = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => {
                body.first.is_none()
                    && body.queued.is_empty()
                    && body.incoming.as_ref().is_none_or(has_ended)
            }
            _ => false,
        };
        if is_over {
            body.request.borrow_mut().sent();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self.queued.is_empty()
            && self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let first = self.first.iter().filter_map(|first| first.as_ref().ok());
        longer(hint, first.chain(&self.queued))
    }
}

/// The hint of a body from which these frames were taken ahead of time.
fn longer<'a>(mut hint: SizeHint, taken: impl Iterator<Item = &'a Frame<Bytes>>) -> SizeHint {
    let taken: u64 = taken.filter_map(Frame::data_ref).map(|bytes| bytes.len() as u64).sum();
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + taken);
    }
    hint.set_lower(hint.lower() + taken);
    hint
}

/// Opens when the provider answers `100 Continue`.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A gate and the longest wait for it.
pub(super) struct WaitingGate {
    gate: Arc<Gate>,
    limit: Pin<Box<Sleep>>,
}

impl WaitingGate {
    pub(super) fn new(gate: Arc<Gate>) -> WaitingGate {
        WaitingGate { gate, limit: Box::pin(sleep(CONTINUE_WAIT)) }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = self.gate.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(cx.waker().clone());
        drop(waker);
        if self.gate.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.limit.as_mut().poll(cx)
    }
}

/// Why an answer's body broke.
#[derive(Debug)]
pub enum BodyError {
    Upstream(hyper::Error),
    /// The provider was silent for too long.
    Idle,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Upstream(error) => write!(f, "the upstream's answer broke off: {error}"),
            BodyError::Idle => f.write_str("the upstream was silent for too long"),
        }
    }
}

/// How an answer broke off, for its row.
fn break_of(error: &hyper::Error, has_length: bool) -> &'static str {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof if has_length => "answer_truncated",
                io::ErrorKind::UnexpectedEof => "chunks_truncated",
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => "answer_invalid",
                _ => "upstream_reset",
            };
        }
        cause = error.source();
    }
    // Of HTTP/2: the stream or its connection was reset.
    "upstream_reset"
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Upstream(error) => Some(error),
            BodyError::Idle => None,
        }
    }
}

/// What a body gives when it is asked.
type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// The answer's body on its way down.
pub struct MeteredBody {
    answer: AnswerBody,
    exchange: Exchange,
    silence: Silence,
    /// How the answer broke, held back for one poll: when a body fails, hyper drops what it has not
    /// written yet; when it pends, hyper writes. So what came before the break goes down.
    broken: Option<BodyError>,
    /// What ends the answer, until the call's record is as safe as it is to be.
    last: Option<Polled>,
    edit: Option<Box<Edit>>,
    /// The answer is read on when the client leaves.
    drain: Option<DrainLimits>,
}

impl MeteredBody {
    pub(super) fn new(answer: AnswerBody, mut exchange: Exchange, silence: Silence) -> MeteredBody {
        if answer.is_end_stream() {
            exchange.close(End::Complete);
        }
        MeteredBody { answer, exchange, silence, broken: None, last: None, edit: None, drain: None }
    }

    /// Takes events out, or parts of them, behind what is metered.
    pub(super) fn edited(&mut self, filter: Option<EventFilter>) {
        self.edit = filter.map(|filter| Box::new(Edit::new(filter)));
    }

    /// Reads on when the client leaves.
    pub(super) fn drained(&mut self, limits: Option<DrainLimits>) {
        self.drain = limits;
    }

    /// Resolves when the call, should it be over already, is recorded.
    pub(super) async fn kept(&mut self) {
        self.exchange.kept().await;
    }

    /// Looks at a frame and closes the call if it is the last, or holds the stream's last event.
    fn frame(&mut self, frame: &Frame<Bytes>) {
        self.silence.progress.touch();
        let finished = frame.data_ref().is_some_and(|bytes| self.exchange.observe(bytes));
        if finished || frame.is_trailers() || self.answer.is_end_stream() {
            self.exchange.close(End::Complete);
        }
    }

    /// The next frame as it came, metered. The one that ends the answer comes when the call is recorded.
    fn poll_metered(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let polled = match self.last.take() {
            Some(last) => last,
            None => std::task::ready!(self.poll_answer(cx)),
        };
        if self.exchange.poll_kept(cx).is_pending() {
            self.last = Some(polled);
            return Poll::Pending;
        }
        Poll::Ready(polled)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(&mut self.answer).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.frame(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let how = break_of(&error, self.answer.size_hint().upper().is_some());
                self.exchange.broke(self.silence.progress.upload_fault(), how);
                self.broken = Some(BodyError::Upstream(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.exchange.close(End::Complete);
                Poll::Ready(None)
            }
            Poll::Pending => {
                std::task::ready!(self.silence.poll_too_long(cx));
                let waits = self.silence.progress.waits_for_client();
                self.exchange.broke(waits.then_some(UploadFault::ClientGone), "idle_timeout");
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
        }
    }

    /// The next frame with the events taken out that go.
    fn poll_edited(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        loop {
            if let Some(waiting) = self.edit.as_mut().and_then(|edit| edit.waiting(cx)) {
                return waiting;
            }
            let polled = std::task::ready!(self.poll_metered(cx));
            let Some(edit) = &mut self.edit else { return Poll::Ready(polled) };
            if let Some(passed) = edit.pass(polled) {
                return Poll::Ready(Some(Ok(passed)));
            }
        }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        if body.edit.is_some() { body.poll_edited(cx) } else { body.poll_metered(cx) }
    }

    fn is_end_stream(&self) -> bool {
        let waits = self.edit.as_ref().is_some_and(|edit| edit.holds());
        let is_kept_back = self.broken.is_some() || self.last.is_some();
        !is_kept_back && !waits && self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.edit.is_some() {
            return SizeHint::default();
        }
        let last = self.last.as_ref().and_then(|last| last.as_ref()?.as_ref().ok());
        longer(self.answer.size_hint(), last.into_iter())
    }
}

impl Drop for MeteredBody {
    /// The client has left, or has all.
    fn drop(&mut self) {
        let Some(limits) = self.drain.take() else { return };
        if self.broken.is_some() || !self.silence.progress.has_uploaded() {
            return;
        }
        let Some(left) = self.exchange.read_on() else { return };
        let answer = std::mem::replace(&mut self.answer, AnswerBody::Over);
        let silence = Silence::new(self.silence.progress.clone(), self.silence.limit);
        drain::read_on(MeteredBody::new(answer, self.exchange.take(), silence), left, limits);
    }
}

impl fmt::Debug for MeteredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeteredBody")
    }
}

/// Measures how long no byte has moved. The timer is set once and moved on when it fires, so that a
/// frame costs no more than a look at the clock.
pub(super) struct Silence {
    progress: Progress,
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(super) fn new(progress: Progress, limit: Duration) -> Silence {
        Silence { progress, limit, sleep: None }
    }

    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Ready when nothing has moved for the limit.
    pub(super) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.progress.last() + self.limit;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            // Whoever has always more to say uses up the turn that tokio gives a task, and a timer that keeps
            // to turns would never be looked at.
            std::task::ready!(Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
