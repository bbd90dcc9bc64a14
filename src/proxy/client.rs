//! A client's connection, as far as hyper leaves it to us. Owns how long a client may take for a
//! request's head, how long it may stay without a call, when it is at rest, and that a client which is still
//! sending when it is answered gets the answer.

use std::any::Any;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::bare;
use super::interim::Interim;
use super::streams;
use crate::respond::ErrorCode;

/// How long the rest of a request that was answered early is read and thrown away. To close before
/// would make the kernel reset the connection, and the client might never see the answer.
const LINGER: Duration = Duration::from_secs(5);

/// How long a connection is without a call until it is at rest. Clients that call again and again are not to pay for
/// it, and those that have just stopped are few.
const REST: Duration = Duration::from_millis(50);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's head, from its first byte to its last.
    pub request_head: Duration,
    /// Between two calls, and before the first.
    pub keep_alive: Duration,
    /// Without taking a byte of an answer that waits for it.
    pub stalled: Duration,
}

/// What a connection's clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The client has taken too long, or has to go.
    Close,
    /// There is nothing to keep room for: no call, and nothing on its way up or down.
    Rest,
}

/// What one client's stream, its calls and its clock know in common.
#[derive(Debug)]
pub struct Client {
    pub(super) interim: Interim,
    clock: Mutex<Clock>,
    /// A request's body has not been read to its end (HTTP/1).
    has_unread: AtomicBool,
    /// Bytes of an answer are on their way down.
    has_unwritten: AtomicBool,
}

#[derive(Debug)]
struct Clock {
    /// Answers that have not gone down whole.
    calls: usize,
    /// Since when there is no call.
    idle_since: Instant,
    /// When the first byte of a head came that is not complete.
    head_since: Option<Instant>,
    /// Its first line is complete.
    has_target: bool,
    /// What goes over the connection may be another protocol's than HTTP/1.
    may_be_tunnel: bool,
    /// Frames come and go between calls, so that a byte does not mean a head.
    is_http2: bool,
    /// The connection has room for heads and answers.
    is_awake: bool,
    /// Whoever looks at the clock: calls may end in other tasks than its own, and others may want its place.
    watcher: Option<Waker>,
    /// It is to close when it is without a call.
    is_to_go: bool,
    /// Why its last request could not be read.
    refusal: Option<ErrorCode>,
}

impl Client {
    pub fn new() -> Arc<Client> {
        let clock = Clock {
            calls: 0,
            idle_since: Instant::now(),
            head_since: None,
            has_target: false,
            may_be_tunnel: false,
            is_http2: false,
            is_awake: false,
            watcher: None,
            is_to_go: false,
            refusal: None,
        };
        Arc::new(Client {
            interim: Interim::default(),
            clock: Mutex::new(clock),
            has_unread: AtomicBool::new(false),
            has_unwritten: AtomicBool::new(false),
        })
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is complete. Its call lasts until what is returned is dropped.
    pub fn begin(self: &Arc<Self>, request: &Request<Incoming>) -> OnCall {
        let is_http2 = request.version() == Version::HTTP_2;
        let mut clock = self.clock();
        clock.calls += 1;
        clock.head_since = None;
        clock.has_target = false;
        clock.may_be_tunnel |= request.headers().contains_key(UPGRADE);
        clock.is_http2 = is_http2;
        drop(clock);
        self.has_unread.store(!is_http2 && !request.body().is_end_stream(), Ordering::Relaxed);
        OnCall(Arc::clone(self))
    }

    pub fn is_on_a_call(&self) -> bool {
        self.clock().calls > 0
    }

    /// Known from its first call on.
    pub(super) fn speaks_http2(&self) -> bool {
        self.clock().is_http2
    }

    /// Since when it has been without a call; `None` during one, or while the next one's head comes.
    pub fn idle_since(&self) -> Option<Instant> {
        self.clock().idle()
    }

    /// Why the last request on a connection that is over could not be read, if that is why it is over.
    pub fn refusal(&self) -> Option<ErrorCode> {
        self.clock().refusal
    }

    /// Closes the connection in good order, if nothing has happened on it since it became idle then. False
    /// if something has.
    pub fn go_if_idle_since(&self, since: Instant) -> bool {
        let mut clock = self.clock();
        if clock.is_to_go || clock.idle() != Some(since) {
            return false;
        }
        clock.is_to_go = true;
        let watcher = clock.watcher.take();
        drop(clock);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
        true
    }

    /// HTTP is spoken from now on, and there is room for it.
    pub fn wakes(&self) {
        self.clock().is_awake = true;
    }

    /// There is none any more.
    pub fn rests(&self) {
        self.clock().is_awake = false;
    }

    /// Whether more of a request may come that has been answered (HTTP/1).
    pub fn may_be_sending(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }

    /// Closes the connection in good order when its calls are over.
    pub fn go_when_idle(&self) {
        self.clock().is_to_go = true;
    }

    /// The client has taken bytes. Those of TLS itself, which it can ask for at will, are nothing to wait
    /// for.
    pub(super) fn bytes_went(&self) {
        if self.has_unwritten.load(Ordering::Relaxed) {
            self.clock().bytes_went();
        }
    }

    /// The request's body has been read to its end.
    pub fn has_sent_all(&self) {
        self.has_unread.store(false, Ordering::Relaxed);
    }

    /// Resolves when something is due. To be awaited by the task that drives the connection: what happens
    /// there makes it look at the clock again.
    pub async fn due(&self, patience: Patience) -> Due {
        let mut sleep = pin!(sleep(patience.keep_alive));
        std::future::poll_fn(|cx| {
            loop {
                let is_quiet = !self.has_unread.load(Ordering::Relaxed)
                    && !self.has_unwritten.load(Ordering::Relaxed);
                let Some((deadline, due)) = self.clock().deadline(patience, is_quiet, cx) else {
                    return Poll::Pending;
                };
                // A timer that fires too early is cheaper than one that is moved with every call.
                if sleep.is_elapsed() || sleep.deadline() > deadline {
                    sleep.as_mut().reset(deadline);
                }
                ready!(sleep.as_mut().poll(cx));
                if deadline <= Instant::now() {
                    return Poll::Ready(due);
                }
            }
        })
        .await
    }
}

impl Clock {
    /// What is due next, and when; `None` during a call. `is_quiet`: no byte of a call is on its way.
    fn deadline(
        &mut self,
        patience: Patience,
        is_quiet: bool,
        cx: &Context<'_>,
    ) -> Option<(Instant, Due)> {
        if self.watcher.as_ref().is_none_or(|watcher| !watcher.will_wake(cx.waker())) {
            self.watcher = Some(cx.waker().clone());
        }
        if self.calls > 0 {
            return None;
        }
        let may_rest = self.is_awake && is_quiet && !self.is_http2 && !self.may_be_tunnel;
        Some(match self.head_since {
            Some(since) => (since + patience.request_head, Due::Close),
            None if self.is_to_go => (self.idle_since, Due::Close),
            None if may_rest && REST < patience.keep_alive => (self.idle_since + REST, Due::Rest),
            None => (self.idle_since + patience.keep_alive, Due::Close),
        })
    }

    fn idle(&self) -> Option<Instant> {
        (self.calls == 0 && self.head_since.is_none()).then_some(self.idle_since)
    }

    fn came(&mut self, bytes: &[u8]) {
        if self.calls == 0 && !self.is_http2 {
            self.head_since.get_or_insert_with(Instant::now);
            self.has_target = self.has_target || memchr::memchr(b'\n', bytes).is_some();
        }
    }

    /// The end of an answer goes down after its call has ended, as fast as the client reads.
    fn bytes_went(&mut self) {
        if self.calls == 0 && !self.is_http2 {
            self.idle_since = Instant::now();
        }
    }
}

/// A call of a client's, while it lasts.
#[derive(Debug)]
pub struct OnCall(Arc<Client>);

/// What a call holds for as long as it lasts.
#[derive(Debug)]
pub enum CallPlace {
    Own(OwnedSemaphorePermit),
    /// Of a call that may become a tunnel, which holds it too.
    Shared(Tenure),
}

/// Places that a tunnel keeps while it stands, of no meaning here. Found among its request's extensions.
#[derive(Clone, Debug)]
pub struct Tenure(pub Arc<dyn Any + Send + Sync>);

impl Drop for OnCall {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        clock.calls -= 1;
        if clock.calls > 0 {
            return;
        }
        clock.idle_since = Instant::now();
        // The calls of HTTP/1 end in the task that looks at the clock.
        let watcher = if clock.is_http2 { clock.watcher.take() } else { None };
        drop(clock);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

/// An answer's body, with the call that it ends.
#[derive(Debug)]
pub struct CallBody<B> {
    body: B,
    _on_call: OnCall,
    _place: Option<CallPlace>,
}

impl<B> CallBody<B> {
    pub fn new(body: B, on_call: OnCall, place: Option<CallPlace>) -> CallBody<B> {
        CallBody { body, _on_call: on_call, _place: place }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CallBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        streams::asked();
        let polled = Pin::new(&mut self.get_mut().body).poll_frame(cx);
        if polled.is_ready() {
            streams::handed_on();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's stream.
#[derive(Debug)]
pub struct ClientIo<T> {
    io: T,
    client: Arc<Client>,
    /// Was read before, and is to be read again.
    ahead: Bytes,
    /// Set while the rest of a request is thrown away.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<T> ClientIo<T> {
    pub fn new(io: T, client: &Arc<Client>) -> ClientIo<T> {
        ClientIo { io, client: Arc::clone(client), ahead: Bytes::new(), lingering: None }
    }

    /// What was read is read again, before all else.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.ahead = match (bytes.is_empty(), self.ahead.is_empty()) {
            // Without a byte it would still keep the buffer that it was cut from.
            (true, true) => Bytes::new(),
            (true, false) => return,
            (false, true) => bytes,
            (false, false) => [bytes, std::mem::take(&mut self.ahead)].concat().into(),
        };
    }

    /// hyper is about to write.
    fn begin_to_write(&self) {
        self.client.interim.message_begins();
        self.client.has_unwritten.store(true, Ordering::Relaxed);
    }

    /// Says something better than hyper does of a request that it cannot read, when it flushes; how much of
    /// hyper's own that stands for.
    fn say_clearly(&self, bytes: &[u8]) -> Option<usize> {
        if !bare::may_be_hypers(bytes) {
            return None;
        }
        let mut clock = self.client.clock();
        // While a head comes there is no answer of anybody else's that these could be bytes of.
        let nobody_answers = clock.calls == 0 && clock.head_since.is_some();
        if !nobody_answers || clock.is_http2 || clock.may_be_tunnel {
            return None;
        }
        let (code, instead) = bare::instead_of(bytes, clock.has_target)?;
        clock.refusal = Some(code);
        drop(clock);
        self.client.interim.send_last(&instead);
        // What else was sent is read before the connection closes, or a reset might overtake the answer.
        self.client.has_unread.store(true, Ordering::Relaxed);
        Some(bytes.len())
    }
}

impl<T: AsyncRead + Unpin> ClientIo<T> {
    /// Ready when the client has sent all, or has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 8 * 1024];
        loop {
            let mut thrown_away = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut thrown_away) {
                Poll::Ready(Ok(())) if !thrown_away.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let limit = || Box::pin(sleep_until(Instant::now() + LINGER));
        self.lingering.get_or_insert_with(limit).as_mut().poll(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(length));
        }
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.client.clock().came(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_to_write();
        ready!(this.client.interim.poll_write_to(&mut this.io, cx))?;
        if let Some(length) = this.say_clearly(bytes) {
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    /// hyper flushes when its own buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.client.interim.poll_write_to(&mut this.io, cx))?;
        this.client.interim.all_is_written();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.client.has_unwritten.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Who is closing does not rest: over TLS a last word goes down.
        this.client.has_unwritten.store(true, Ordering::Relaxed);
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if this.client.has_unread.load(Ordering::Relaxed) {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_to_write();
        ready!(this.client.interim.poll_write_to(&mut this.io, cx))?;
        if let Some(length) = slices.first().and_then(|first| this.say_clearly(first)) {
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    const PATIENCE: Patience = Patience {
        request_head: Duration::from_secs(1),
        keep_alive: Duration::from_secs(2),
        stalled: Duration::from_secs(3),
    };

    #[test]
    fn only_a_connection_with_nothing_on_its_way_rests() {
        let due = |change: &dyn Fn(&mut Clock), is_quiet| {
            let client = Client::new();
            let mut clock = client.clock();
            clock.is_awake = true;
            change(&mut clock);
            let cx = Context::from_waker(Waker::noop());
            clock.deadline(PATIENCE, is_quiet, &cx).map(|(_, due)| due)
        };
        assert_eq!(due(&|_| {}, true), Some(Due::Rest));
        assert_eq!(due(&|_| {}, false), Some(Due::Close));
        assert_eq!(due(&|clock| clock.calls = 1, true), None);
        let changes: [&dyn Fn(&mut Clock); 5] = [
            &|clock| clock.is_awake = false,
            &|clock| clock.head_since = Some(Instant::now()),
            &|clock| clock.is_to_go = true,
            &|clock| clock.may_be_tunnel = true,
            &|clock| clock.is_http2 = true,
        ];
        for change in changes {
            assert_eq!(due(change, true), Some(Due::Close));
        }
    }

    /// An answer must not be lost because another one before it has not gone down.
    #[test]
    fn what_waits_behind_an_informational_answer_is_on_its_way() {
        let (_slow, server) = tokio::io::duplex(8);
        let client = Client::new();
        let mut io = ClientIo::new(server, &client);
        client.interim.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
        let mut cx = Context::from_waker(Waker::noop());
        let is_quiet = || !client.has_unwritten.load(Ordering::Relaxed);
        assert!(is_quiet());
        assert!(Pin::new(&mut io).poll_write(&mut cx, b"HTTP/1.1 204 None").is_pending());
        assert!(!is_quiet());
    }

    #[test]
    fn a_connection_that_is_closing_does_not_rest() {
        let (_slow, server) = tokio::io::duplex(8);
        let client = Client::new();
        let mut io = ClientIo::new(server, &client);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_shutdown(&mut cx).is_ready());
        assert!(client.has_unwritten.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_put_back_comes_before_what_was() {
        let (_other, server) = tokio::io::duplex(8);
        let mut io = ClientIo::new(server, &Client::new());
        for bytes in ["tail", "", "head "] {
            io.put_back(Bytes::from_static(bytes.as_bytes()));
        }
        assert_eq!(io.ahead, "head tail");
    }
}
