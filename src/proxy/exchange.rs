//! One request with its response, from the journal's opening line to its one row. Owns the moment at
//! which a call is closed: whatever happens, exactly once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::keeping::Keeping;
use super::tags;
use crate::framing::{Coding, Decoder, Framed, Framer, Lines};
use crate::ledger::{Kept, Unrecordable};
use crate::meter::{Meter, Observed, RequestObserver, guarded};
use crate::provider::{Generated, RESPONSE, Reader, Reading, RequestFacts, is_read_header};
use crate::record::{Outcome, Record, StreamUsage};
use crate::respond::ErrorCode;
use crate::telemetry::OpenCall;

/// Headers in which providers name the request, most telling first.
const REQUEST_ID: [HeaderName; 5] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-amzn-requestid"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-generation-id"),
];

/// Longest header value that is recorded.
const MAX_RECORDED_VALUE: usize = 128;

/// Calls that may be read on for their usage at a time, after their clients have left.
const MAX_READ_ON: usize = 1024;

/// The calls that have been opened and not closed.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<CallsInner>);

#[derive(Debug, Default)]
struct CallsInner {
    open: AtomicUsize,
    given_up: AtomicBool,
    /// Open calls whose clients have left.
    read_on: AtomicUsize,
}

impl Calls {
    /// How many are open now.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// Says that tokenmeter stops before its calls have ended: what is dropped from now on was
    /// interrupted, not given up by its client.
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Release);
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Acquire)
    }
}

/// When a byte last moved, either way, and whether the upload went wrong. Shared by the two bodies of
/// a call.
#[derive(Clone, Debug)]
pub(super) struct Progress(Rc<ProgressInner>);

#[derive(Debug)]
struct ProgressInner {
    last: Cell<tokio::time::Instant>,
    upload_fault: Cell<Option<UploadFault>>,
    waits_for_client: Cell<bool>,
    upload_began: Cell<bool>,
    upload_ended: Cell<bool>,
}

/// Why a request's body did not go up whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadFault {
    ClientGone,
    TooLarge,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let last = Cell::new(tokio::time::Instant::now());
        Progress(Rc::new(ProgressInner {
            last,
            upload_fault: Cell::new(None),
            waits_for_client: Cell::new(false),
            upload_began: Cell::new(false),
            upload_ended: Cell::new(false),
        }))
    }

    pub(super) fn touch(&self) {
        self.0.last.set(tokio::time::Instant::now());
    }

    pub(super) fn last(&self) -> tokio::time::Instant {
        self.0.last.get()
    }

    /// Whether the next move is the client's: more of the request's body.
    pub(super) fn set_waits_for_client(&self, waits: bool) {
        self.0.waits_for_client.set(waits);
    }

    pub(super) fn waits_for_client(&self) -> bool {
        self.0.waits_for_client.get()
    }

    /// Part of the request's body has been read.
    pub(super) fn upload_began(&self) {
        self.0.upload_began.set(true);
    }

    /// The request's body is on its way: begun, and not at its end.
    pub(super) fn is_uploading(&self) -> bool {
        self.0.upload_began.get() && !self.0.upload_ended.get()
    }

    /// The request's body has been read to its end, or there is none.
    pub(super) fn has_uploaded(&self) -> bool {
        self.0.upload_ended.get()
    }

    /// The request's body has been read to its end.
    pub(super) fn upload_ended(&self) {
        self.0.upload_ended.set(true);
    }

    pub(super) fn upload_failed(&self, fault: UploadFault) {
        self.0.upload_fault.set(Some(fault));
    }

    pub(super) fn upload_fault(&self) -> Option<UploadFault> {
        self.0.upload_fault.get()
    }
}

/// What the request's body says, read while it streams by.
pub(super) type SharedRequest = Rc<RefCell<RequestObserver>>;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    UpstreamFailed(&'static str),
}

/// A call that somebody else closes, and its place among the open calls.
pub(super) struct Opened {
    pub(super) meter: Arc<Meter>,
    pub(super) calls: Calls,
    pub(super) record: Box<Record>,
    pub(super) started: Instant,
    pub(super) deployed: Option<String>,
    pub(super) live: OpenCall,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.calls.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A call that has been opened. Dropped before it is closed, it closes itself.
pub(super) struct Exchange {
    open: Option<Box<Open>>,
    /// What the end of the answer waits for, once the call is closed.
    keeping: Keeping,
}

struct Open {
    meter: Arc<Meter>,
    calls: Calls,
    record: Box<Record>,
    started: Instant,
    request: SharedRequest,
    /// The model that the configuration names for the deployment in the path.
    deployed: Option<String>,
    /// Reads the answer; `None` while there is none.
    decoder: Option<Decoder<Reader>>,
    /// The answer's encoding broke: what has been read stands, and no more is read.
    is_broken: bool,
    headers: HeaderMap,
    /// When the client left, where the answer is read on without it.
    left: Option<tokio::time::Instant>,
    live: OpenCall,
    /// What of the call's time was tokenmeter's own until it was sent.
    own: Duration,
}

impl Exchange {
    /// Notes in the journal that the call is about to be sent; or says why it must not be.
    pub(super) fn open(
        meter: &Arc<Meter>,
        calls: &Calls,
        record: Box<Record>,
        started: Instant,
        request: SharedRequest,
        deployed: Option<String>,
        live: OpenCall,
    ) -> Result<Exchange, Unrecordable> {
        meter.admit(&record)?;
        calls.0.open.fetch_add(1, Ordering::AcqRel);
        let open = Box::new(Open {
            meter: Arc::clone(meter),
            calls: calls.clone(),
            record,
            started,
            request,
            deployed,
            decoder: None,
            is_broken: false,
            headers: HeaderMap::new(),
            left: None,
            live,
            own: Duration::ZERO,
        });
        Ok(Exchange { open: Some(open), keeping: Keeping::default() })
    }

    /// Notes what of the call's time was tokenmeter's own until now.
    pub(super) fn having_taken(mut self, own: Duration) -> Exchange {
        if let Some(open) = &mut self.open {
            open.own = own;
        }
        self
    }

    /// Resolves when the answer may end.
    pub(super) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keeping.poll(cx)
    }

    /// The same, for an answer without a body.
    pub(super) async fn kept(&mut self) {
        poll_fn(|cx| self.poll_kept(cx)).await;
    }

    /// Notes what was done to make a stream report its usage.
    pub(super) fn note_stream_usage(&mut self, done: Option<StreamUsage>) {
        if let Some(open) = &mut self.open {
            open.record.stream_usage = done;
        }
    }

    /// The request was made to ask for usage, so that the answer has more than the client asked for.
    pub(super) fn has_asked(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.record.stream_usage == Some(StreamUsage::Injected))
    }

    /// The client has left and the answer is to be read on; says when it left. `None` if there is
    /// nothing to be read on for, or too much else is.
    pub(super) fn read_on(&mut self) -> Option<tokio::time::Instant> {
        let open = self.open.as_mut()?;
        if open.left.is_none() {
            let calls = &open.calls.0;
            let busy = calls.read_on.load(Ordering::Acquire) >= MAX_READ_ON;
            if busy || calls.given_up.load(Ordering::Acquire) || open.has_failed() {
                return None;
            }
            calls.read_on.fetch_add(1, Ordering::AcqRel);
            open.left = Some(tokio::time::Instant::now());
        }
        open.left
    }

    /// The call in another hand; what is left here has nothing to close.
    pub(super) fn take(&mut self) -> Exchange {
        Exchange { open: self.open.take(), keeping: mem::take(&mut self.keeping) }
    }

    /// The answer's head has come.
    pub(super) fn answered<B>(&mut self, head: &Response<B>) {
        let Some(open) = &mut self.open else { return };
        open.record.status = Some(head.status().as_u16());
        open.live.answered(head.status().as_u16());
        open.record.time_to_first_byte_ms = Some(millis(open.started.elapsed()));
        open.record.upstream_request_id = REQUEST_ID
            .iter()
            .find_map(|name| text_of(head.headers(), name))
            .filter(|id| id.len() <= MAX_RECORDED_VALUE)
            .map(str::to_owned);
        let coding = text_of(head.headers(), &CONTENT_ENCODING).unwrap_or_default();
        let content_type = text_of(head.headers(), &CONTENT_TYPE);
        let (coding, framer) = match Coding::of_header(coding) {
            // A part of a file may begin anywhere, and is read from its first whole line.
            Some(coding) if head.status() == StatusCode::PARTIAL_CONTENT => {
                (coding, Framer::JsonLines(Lines::new(&RESPONSE)))
            }
            Some(coding) => (coding, Framer::for_content_type(content_type, &RESPONSE)),
            // Not read; but headers may say something yet.
            None => (Coding::Identity, Framer::Opaque),
        };
        open.decoder = Decoder::new(coding, Framed::new(framer, Reader::new())).ok();
        open.headers = usage_headers(head.headers());
    }

    /// Hands the call over to a tunnel, which closes it in its own way.
    pub(super) fn into_tunnel(mut self) -> Option<Opened> {
        let Open { meter, calls, record, started, deployed, live, own, .. } = *self.open.take()?;
        live.took(own);
        Some(Opened { meter, calls, record, started, deployed, live })
    }

    /// Reads a frame of the answer. True when the answer's last event has been seen.
    pub(super) fn observe(&mut self, bytes: &[u8]) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| !open.is_broken) else { return false };
        let Some(decoder) = &mut open.decoder else { return false };
        match guarded(|| decoder.push(bytes)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(id = %open.record.id, %error, "answer's encoding is broken");
                open.is_broken = true;
            }
            None => open.is_broken = true,
        }
        let Some(reading) = decoder.sink().map(Reader::reading) else { return false };
        if reading.generated && open.record.time_to_first_token_ms.is_none() && decoder.is_stream()
        {
            open.record.time_to_first_token_ms = Some(millis(open.started.elapsed()));
        }
        reading.finished
    }

    /// There is no answer: the client gets this status from tokenmeter instead.
    pub(super) fn failed(&mut self, status: StatusCode, error: &'static str) {
        if let Some(open) = self.open.as_mut().filter(|open| open.left.is_none()) {
            open.record.status = Some(status.as_u16());
        }
        self.close(End::UpstreamFailed(error));
    }

    /// The client gets an error of its own making.
    pub(super) fn refused(&mut self, code: ErrorCode) {
        if let Some(open) = &mut self.open {
            open.record.status = Some(code.status().as_u16());
        }
        self.settle(Outcome::Completed, Some(code.as_str()));
    }

    /// The answer has broken off: because of the request's body, or else the provider failed.
    pub(super) fn broke(&mut self, upload: Option<UploadFault>, error: &'static str) {
        match upload {
            Some(UploadFault::ClientGone) => self.settle(Outcome::ClientClosed, None),
            Some(UploadFault::TooLarge) => {
                self.settle(Outcome::Completed, Some(ErrorCode::PayloadTooLarge.as_str()));
            }
            None => self.close(End::UpstreamFailed(error)),
        }
    }

    /// Settles the call. Only the first time counts.
    pub(super) fn close(&mut self, end: End) {
        match end {
            End::Complete => self.settle(Outcome::Completed, None),
            End::UpstreamFailed(error) => self.settle(Outcome::UpstreamFailed, Some(error)),
        }
    }

    fn settle(&mut self, outcome: Outcome, error: Option<&'static str>) {
        if let Some(open) = self.open.take() {
            self.keeping = Keeping::of(open.settle(outcome, error));
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let open = self.open.as_ref();
        if open.is_some_and(|open| open.left.is_some()) {
            // It left long before tokenmeter stopped, or enough was read.
            self.settle(Outcome::ClientClosed, None);
        } else if open.is_some_and(|open| open.calls.0.given_up.load(Ordering::Acquire)) {
            self.settle(Outcome::Interrupted, Some("tokenmeter stopped"));
        } else if open.is_some_and(|open| open.has_failed()) {
            // SDKs hang up at an error without reading on: they have all that there was to have.
            self.settle(Outcome::Completed, None);
        } else {
            self.settle(Outcome::ClientClosed, None);
        }
    }
}

impl Open {
    /// The provider has said that the call failed, by its status or within a stream.
    fn has_failed(&self) -> bool {
        let reading = self.decoder.as_ref().and_then(Decoder::sink).map(Reader::reading);
        self.record.status.is_some_and(|status| status >= 400)
            || reading.is_some_and(|reading| reading.error.is_some())
    }

    fn settle(mut self, outcome: Outcome, error: Option<&'static str>) -> Kept {
        let ended = Instant::now();
        let facts = self.request.borrow().facts();
        let record = &mut self.record;
        record.outcome = if self.left.is_some() { Outcome::ClientClosed } else { outcome };
        record.error = error.map(str::to_owned);
        record.duration_ms = Some(millis(ended.duration_since(self.started)));
        if let (Outcome::UpstreamFailed, Some(how)) = (outcome, error) {
            self.live.failed(how);
        }
        note_request(record, &facts);
        let mut generated = Generated::default();
        if let Some(decoder) = &mut self.decoder {
            record.streaming = decoder.is_stream();
            if let Some(reader) = decoder.sink_mut() {
                reader.read_headers(|name| self.headers.get(name)?.to_str().ok());
                let taken = guarded(|| {
                    reader.ended();
                    reader.take_generated()
                });
                generated = taken.unwrap_or_default();
            }
        }
        let reading = self.decoder.as_ref().and_then(Decoder::sink).map(Reader::reading);
        let nothing = Reading::default();
        let reading = reading.unwrap_or(&nothing);
        // A batch's results have a line for each of its calls, but they are a file, as are parts of one.
        let is_part = record.status == Some(StatusCode::PARTIAL_CONTENT.as_u16());
        record.streaming &= !reading.batch && !is_part;
        let prompt = self.request.borrow_mut().take_prompt();
        let is_sent = self.request.borrow().is_sent();
        let model_behind = self.deployed.as_deref();
        let background = facts.background;
        let observed = Observed { reading, generated, prompt, is_sent, model_behind, background };
        let kept = self.meter.close(self.record, observed);
        if self.left.is_some() {
            self.calls.0.read_on.fetch_sub(1, Ordering::AcqRel);
        }
        self.calls.0.open.fetch_sub(1, Ordering::AcqRel);
        self.live.took(self.own + ended.elapsed());
        kept
    }
}

/// Writes down what the request's body says, as far as it has been seen.
pub(super) fn note_request(record: &mut Record, facts: &RequestFacts) {
    if facts.model.is_some() {
        record.model_requested.clone_from(&facts.model);
    }
    if record.user.is_none() {
        record.user = tags::fallback_user(facts.user.clone());
    }
}

/// The headers that say something about usage.
fn usage_headers(headers: &HeaderMap) -> HeaderMap {
    let carries = |(name, _): &(&HeaderName, &HeaderValue)| is_read_header(name.as_str());
    headers.iter().filter(carries).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
