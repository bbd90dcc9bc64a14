//! Forwarding. Owns a call's way from the client to its provider and back; knows neither prices nor
//! how a call is recorded.
//!
//! Invariant: metering cannot fail a call. What it is shown it can only look at.

mod bare;
mod body;
mod client;
mod clients;
mod drain;
mod edit;
mod exchange;
mod headers;
mod held;
mod inject;
mod interim;
mod keeping;
mod preface;
mod route;
mod streams;
mod tags;
mod trace_headers;
mod tunnel;
mod upstream;
mod wire;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;

pub use body::{BodyError, MeteredBody, has_come};
pub use client::{CallBody, CallPlace, Client, ClientIo, Due, OnCall, Patience, Tenure};
pub use clients::Clients;
pub use drain::DrainLimits;
pub use exchange::Calls;
pub use inject::Injection;
pub use preface::{Spoken, spoken};
pub use route::{Route, Routes};
pub(crate) use streams::StreamExecutor;
pub use tags::{InvalidTag, TagHeaders};
pub use trace_headers::TraceHeaders;
pub use upstream::{Http2, Origin, Playing, Target, TlsError, tls_config};
pub use wire::Wire;

use crate::fingerprint::Fingerprints;
use crate::ledger::Unrecordable;
use crate::meter::Meter;
use crate::pricing::CostSource;
use crate::provider::PathFacts;
use crate::record::{CallId, Outcome, Record, StreamUsage, Tags};
use crate::respond::{self, ErrorCode, X_SHOULD_RETRY};
use crate::telemetry::{Live, Telemetry};
use crate::units::Timestamp;
use crate::usage::UsageSource;
use body::{Gate, RequestBody, Silence, Upload, WaitingGate};
use exchange::{End, Exchange, Progress, SharedRequest, UploadFault};
use upstream::{Answer, Failure, Pool, Stage};

/// What is done to a request's head on its way, one step after the other: for whoever has no connection to send
/// one over, such as the fuzz targets.
#[doc(hidden)]
pub mod steps {
    pub use super::headers::for_upstream;
    pub use super::trace_headers::{read as read_trace, write as write_trace};
    pub use super::{forwardable, new_record};
}

const X_TOKENMETER_ID: HeaderName = HeaderName::from_static("x-tokenmeter-id");
const X_STAINLESS_RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// Seconds after which a client may ask whether its calls can be recorded again. The ledger finds out
/// within one; people take longer.
const RETRY_AFTER_FAULT: &str = "5";

/// How often a worker looks for pooled connections that have died or been idle too long.
const SWEEP_INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(10);

/// A configured provider endpoint.
#[derive(Debug)]
pub struct Upstream {
    pub name: String,
    pub provider: String,
    pub target: Arc<Target>,
    /// What stands before the path of every request, without a slash at its end.
    pub prefix: String,
    /// Deployment name to model, for where the answer does not tell.
    pub deployments: HashMap<String, String>,
    /// The longest wait for an answer's head, counted from the last byte sent.
    pub head_timeout: Duration,
    /// The longest silence within an answer.
    pub idle_timeout: Duration,
    /// Its streams are made to report their usage.
    pub injection: Option<Injection>,
    /// Its answers are read on when the client leaves; `None`: given up at once.
    pub drain: Option<DrainLimits>,
    /// What it hears of the trace that a call is part of.
    pub trace: TraceHeaders,
}

/// What all workers share.
#[derive(Debug)]
pub struct Proxy {
    pub tags: TagHeaders,
    pub meter: Arc<Meter>,
    pub calls: Calls,
    /// Whose calls are let in.
    pub clients: Clients,
    pub fingerprints: Fingerprints,
    /// Bytes that a request's body may have.
    pub max_request_body: Option<u64>,
    /// How many upstreams there are; the index of each one's target is below it.
    pub upstreams: usize,
    /// The least time for which one of them keeps its idle connections.
    pub shortest_pool_idle: Duration,
    /// Somebody wants to know of which traces calls are part.
    pub traces: bool,
    /// Where workers count what they do.
    pub telemetry: Telemetry,
}

/// An answer to a client: tokenmeter's own or a provider's.
/// The latter is boxed, because an answer is moved from hand to hand before it goes down.
pub type ProxyBody = Either<Full<Bytes>, Box<MeteredBody>>;

/// The proxy on one worker thread, with its own connections to the providers.
#[derive(Debug)]
pub struct Worker {
    proxy: Arc<Proxy>,
    pool: Rc<Pool>,
    live: Arc<Live>,
}

impl Worker {
    /// Must be called on the worker's thread, within its runtime.
    pub fn new(proxy: Arc<Proxy>) -> Worker {
        let live = proxy.telemetry.worker();
        let pool = Pool::new(proxy.upstreams, Arc::clone(&live));
        let swept = Rc::downgrade(&pool);
        let interval =
            proxy.shortest_pool_idle.clamp(*SWEEP_INTERVAL.start(), *SWEEP_INTERVAL.end());
        tokio::task::spawn_local(async move {
            while let Some(pool) = swept.upgrade() {
                pool.sweep();
                drop(pool);
                tokio::time::sleep(interval).await;
            }
        });
        Worker { proxy, pool, live }
    }

    /// What this worker counts in.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Nothing, or the answer to a client whose calls are not let in.
    pub fn refuse<B>(&self, request: &Request<B>, from: IpAddr) -> Option<Response<Full<Bytes>>> {
        let Proxy { clients, fingerprints, .. } = self.proxy.as_ref();
        let keys = if clients.asks_for_keys() {
            fingerprints.of_all(request.headers(), request.uri().query())
        } else {
            Vec::new()
        };
        clients.refuse(from, &keys)
    }

    /// What is to be forwarded of a request for an upstream, without the first `skip` bytes of its path; or the
    /// answer to one that is not forwarded.
    pub fn order(
        &self,
        request: &Request<Incoming>,
        upstream: &Upstream,
        skip: usize,
    ) -> Result<Order, Box<Response<Full<Bytes>>>> {
        let started = Instant::now();
        let tags = self.proxy.tags.read(request.headers());
        let tags = tags.map_err(|invalid| Box::new(refuse_tag(&invalid)))?;
        let path = forwardable(request, upstream, skip, self.proxy.max_request_body)
            .map_err(|(code, message)| Box::new(respond::error(code, &message, None)))?;
        Ok(Order { tags, path, took: started.elapsed() })
    }

    /// Forwards a request to an upstream, and answers with what comes back, or with an error of tokenmeter's
    /// own if nothing does.
    pub async fn forward(
        &self,
        mut request: Request<Incoming>,
        order: Order,
        upstream: &Arc<Upstream>,
        client: &Arc<Client>,
    ) -> Response<ProxyBody> {
        let started = Instant::now();
        let Order { tags, path, took } = order;
        let max_body = self.proxy.max_request_body;
        let facts = PathFacts::of_target(request.uri().path(), request.uri().query());
        let body_reader: SharedRequest = Rc::new(RefCell::new(self.proxy.meter.observe(
            facts.endpoint,
            header_text(request.headers(), &CONTENT_TYPE).unwrap_or_default(),
            header_text(request.headers(), &CONTENT_ENCODING).unwrap_or_default(),
        )));
        let model = facts.model.or_else(|| facts.deployment.clone());
        let deployed =
            facts.deployment.map(|name| upstream.deployments.get(&name).cloned().unwrap_or(name));
        let mut record = new_record(upstream, &request, tags, facts.endpoint, model);
        let (headers, query) = (request.headers(), request.uri().query());
        let fingerprint = self.proxy.fingerprints.of_request(headers, query);
        record.key_fingerprint = fingerprint.map(|fingerprint| fingerprint.to_string());
        let id = record.id;
        if self.proxy.traces {
            record.trace = trace_headers::read(request.headers());
        }
        trace_headers::write(request.headers_mut(), upstream.trace, &record);
        let is_head = request.method() == Method::HEAD;
        let injection = upstream.injection.as_ref();
        let asks = injection.is_some_and(|injection| inject::may_ask(&request, &path, injection));
        let call = Call { upstream, path, client, request: body_reader, max_body, is_head, asks };
        let protocol = headers::upgrade_of(request.headers());
        let progress = Progress::new();
        let mut request = call.prepare(request, &self.proxy.tags, &progress);
        let prepared = took + started.elapsed();
        request.body_mut().fetch_first().await;
        let resumed = Instant::now();
        exchange::note_request(&mut record, &call.request.borrow().facts());
        let opened = Exchange::open(
            &self.proxy.meter,
            &self.proxy.calls,
            record,
            started,
            Rc::clone(&call.request),
            deployed,
            self.live.open(upstream.target.index),
        );
        let exchange = match opened {
            Ok(exchange) => exchange.having_taken(prepared + resumed.elapsed()),
            Err(why) => {
                let mut answer = unrecordable(&why);
                call.announce_close(&mut answer, &progress);
                return answer;
            }
        };
        // What few calls do is boxed: every connection has room for the largest of its futures.
        let mut response = match (protocol, upstream.drain) {
            (Some(protocol), _) => {
                Box::pin(tunnel::upgrade(request, call, exchange, protocol, progress)).await
            }
            (None, None) => {
                let answered = call.send(&self.pool, request, &progress).await;
                call.conclude(answered, exchange, progress).await
            }
            (None, Some(limits)) => {
                let pool = Rc::clone(&self.pool);
                Box::pin(drain::exchange(pool, request, call, exchange, progress, limits)).await
            }
        };
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(X_TOKENMETER_ID, id);
        }
        response
    }
}

/// The path that a request is forwarded to, or why it is not forwarded.
#[doc(hidden)]
pub fn forwardable<B: Body>(
    request: &Request<B>,
    upstream: &Upstream,
    skip: usize,
    max_body: Option<u64>,
) -> Result<PathAndQuery, (ErrorCode, String)> {
    if request.method() == Method::CONNECT {
        let message = "tokenmeter forwards to its configured upstreams only; it is no tunnel";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    if let Some(limit) = max_body
        && request.body().size_hint().lower() > limit
    {
        return Err((ErrorCode::PayloadTooLarge, too_large(limit)));
    }
    let path = &request.uri().path()[skip..];
    forwarded_path(upstream, path, request.uri().query()).ok_or_else(|| {
        (ErrorCode::InvalidRequest, "the request's path cannot be forwarded".to_owned())
    })
}

/// The answer to a request that somebody before or behind could read differently; nothing for nearly all.
/// What stands behind it on its connection is in doubt, so that the connection closes.
pub fn refuse_doubtful<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let objection = headers::objection(request)?;
    let mut answer = respond::error(ErrorCode::InvalidRequest, objection, None);
    if request.version() < Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Some(answer)
}

/// What a request asks to be forwarded, in order.
#[derive(Debug)]
pub struct Order {
    tags: Tags,
    path: PathAndQuery,
    /// How long it took to find out.
    took: Duration,
}

/// A call on its way.
struct Call<'a> {
    upstream: &'a Arc<Upstream>,
    path: PathAndQuery,
    client: &'a Arc<Client>,
    request: SharedRequest,
    max_body: Option<u64>,
    is_head: bool,
    /// Its request may be made to ask for its stream's usage.
    asks: bool,
}

/// An answer, and what was done to make it report its usage.
type Answered = Result<(Answer, Option<StreamUsage>), Failure>;

impl Call<'_> {
    /// The request as it goes up: without its tags and what belongs to the client's connection, its body
    /// looked at as it streams by.
    fn prepare(
        &self,
        request: Request<Incoming>,
        tags: &TagHeaders,
        progress: &Progress,
    ) -> Request<RequestBody> {
        let (mut head, incoming) = request.into_parts();
        headers::for_upstream(&mut head.headers, head.version, tags);
        let gate = expects_continue(&head.headers).then(Arc::<Gate>::default);
        if incoming.is_end_stream() {
            progress.upload_ended();
        }
        let body = Box::new(Upload {
            incoming: Some(incoming),
            first: None,
            queued: VecDeque::new(),
            request: Rc::clone(&self.request),
            progress: progress.clone(),
            client: Arc::clone(self.client),
            left: self.max_body,
            gate: gate.clone().map(WaitingGate::new),
        });
        let is_http_11 = head.version == Version::HTTP_11;
        let mut request = Request::from_parts(head, body);
        let client = is_http_11.then(|| Arc::clone(self.client));
        hyper::ext::on_informational(&mut request, move |answer| {
            match (answer.status(), &gate, &client) {
                // hyper itself tells the client to continue, when the open gate lets the body be read.
                (StatusCode::CONTINUE, Some(gate), _) => gate.open(),
                (StatusCode::CONTINUE, None, _) | (_, _, None) => {}
                (status, _, Some(client)) => client.interim.send(status, answer.headers()),
            }
        });
        request
    }

    /// Sends the request and waits for the answer's head.
    async fn send(
        &self,
        pool: &Rc<Pool>,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Answered {
        if let Some(injection) = self.upstream.injection.as_ref().filter(|_| self.asks) {
            let sent = Box::pin(inject::send(pool, self, injection, request));
            return within(sent, progress, self.upstream).await;
        }
        let sent = pool.send(&self.upstream.target, request, self.path.clone());
        within(sent, progress, self.upstream).await.map(|answer| (answer, None))
    }

    /// What goes down, in any case.
    async fn conclude(
        &self,
        answered: Answered,
        mut exchange: Exchange,
        progress: Progress,
    ) -> Response<ProxyBody> {
        match answered {
            Ok((answer, stream_usage)) => {
                exchange.note_stream_usage(stream_usage);
                exchange.answered(&answer);
                self.pass_on(answer, exchange, progress).await
            }
            Err(failure) => self.failed(&failure, exchange, &progress).await,
        }
    }

    /// The answer as it goes down.
    async fn pass_on(
        &self,
        answer: Answer,
        mut exchange: Exchange,
        progress: Progress,
    ) -> Response<ProxyBody> {
        let (mut head, body) = answer.into_parts();
        headers::for_client(&mut head.headers);
        head.version = Version::HTTP_11;
        if head.status.canonical_reason().is_none()
            && head.extensions.get::<ReasonPhrase>().is_none()
        {
            // Of an answer over HTTP/2, which has none; hyper would make one up.
            head.extensions.insert(ReasonPhrase::from_static(b""));
        }
        let has_no_body = self.is_head
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_no_body {
            // Nobody will read to the end of what ends here.
            exchange.close(End::Complete);
        }
        let has_asked = exchange.has_asked();
        let silence = Silence::new(progress, self.upstream.idle_timeout);
        let mut body = Box::new(MeteredBody::new(body, exchange, silence));
        body.drained(self.upstream.drain);
        // Only where there is nothing to come: the head is the answer's end.
        body.kept().await;
        if has_asked {
            body.edited(inject::filter(&mut head.headers));
        }
        Response::from_parts(head, Either::Right(body))
    }

    /// There is no answer.
    async fn failed(
        &self,
        failure: &Failure,
        mut exchange: Exchange,
        progress: &Progress,
    ) -> Response<ProxyBody> {
        let code = match progress.upload_fault() {
            // Nobody is left to read an answer: the exchange, dropped, says that the client left.
            Some(UploadFault::ClientGone) => {
                return own_error(ErrorCode::InvalidRequest, "the request was cut off", None);
            }
            Some(UploadFault::TooLarge) => {
                exchange.refused(ErrorCode::PayloadTooLarge);
                exchange.kept().await;
                let message = too_large(self.max_body.unwrap_or_default());
                let mut answer = own_error(ErrorCode::PayloadTooLarge, &message, None);
                self.announce_close(&mut answer, progress);
                return answer;
            }
            None if failure.stage.is_timeout() => ErrorCode::UpstreamTimeout,
            None => ErrorCode::UpstreamUnreachable,
        };
        let Upstream { name, target, .. } = self.upstream.as_ref();
        tracing::warn!(upstream = %name, origin = ?target.origin, %failure, "no answer");
        exchange.failed(code.status(), failure.stage.as_str());
        exchange.kept().await;
        let message = format!("upstream `{name}`: {}", failure.stage.explanation());
        let mut answer = own_error(code, &message, None);
        if failure.stage == Stage::HeadTimeout {
            // The provider has the request and may have worked on it all the time, and billed it.
            answer.headers_mut().insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        self.announce_close(&mut answer, progress);
        answer
    }

    /// A connection on which a request is still coming closes after the answer. A client that did not know
    /// would lose its next call.
    fn announce_close(&self, answer: &mut Response<ProxyBody>, progress: &Progress) {
        if !progress.has_uploaded() && !self.client.speaks_http2() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Waits for an answer's head, as long as bytes move or the timeout has not passed: one for the
/// provider's answer, another for more of the request while the client owes it.
async fn within<T>(
    sent: impl Future<Output = Result<T, Failure>>,
    progress: &Progress,
    upstream: &Upstream,
) -> Result<T, Failure> {
    let mut sent = pin!(sent);
    let mut silence = Silence::new(progress.clone(), upstream.head_timeout);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        let waits_for_client = progress.waits_for_client();
        silence.set_limit(if waits_for_client {
            upstream.idle_timeout
        } else {
            upstream.head_timeout
        });
        std::task::ready!(silence.poll_too_long(cx));
        if waits_for_client {
            progress.upload_failed(UploadFault::ClientGone);
        }
        Poll::Ready(Err(Failure::timeout(Stage::HeadTimeout)))
    })
    .await
}

/// The upstream's prefix, the path and the query, byte for byte.
fn forwarded_path(upstream: &Upstream, path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    if path == "*" {
        // The server as a whole is meant (RFC 9112, 3.2.4), so the prefix is not.
        return Some(PathAndQuery::from_static("*"));
    }
    let mut text = String::with_capacity(upstream.prefix.len() + path.len() + 64);
    text.push_str(&upstream.prefix);
    text.push_str(path);
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
}

/// What is known of a call before it is sent.
#[doc(hidden)]
pub fn new_record<B>(
    upstream: &Upstream,
    request: &Request<B>,
    tags: Tags,
    endpoint: &str,
    model: Option<String>,
) -> Box<Record> {
    let retry = header_text(request.headers(), &X_STAINLESS_RETRY_COUNT);
    Box::new(Record {
        id: CallId::new(),
        created_at: Timestamp::now(),
        upstream: upstream.name.clone(),
        provider: upstream.provider.clone(),
        endpoint: endpoint.to_owned(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        model_requested: model,
        model: None,
        user: tags.user,
        session: tags.session,
        operation: tags.operation,
        attempt: tags.attempt,
        metadata: tags.metadata,
        key_id: None,
        key_fingerprint: None,
        input_tokens: None,
        cache_read_tokens: None,
        cache_write_tokens: None,
        audio_input_tokens: None,
        image_input_tokens: None,
        output_tokens: None,
        reasoning_tokens: None,
        audio_output_tokens: None,
        image_output_tokens: None,
        total_tokens: None,
        usage_source: UsageSource::None,
        estimate: None,
        stream_usage: None,
        charged_by: None,
        charges: Vec::new(),
        trace: None,
        usage_json: None,
        cost_usd: None,
        cost_source: CostSource::None,
        computed_cost_usd: None,
        price_id: None,
        status: None,
        streaming: false,
        finish_reason: None,
        outcome: Outcome::Interrupted,
        error: None,
        retry: retry.and_then(|count| count.parse().ok()),
        upstream_request_id: None,
        service_tier: None,
        duration_ms: None,
        time_to_first_byte_ms: None,
        time_to_first_token_ms: None,
    })
}

fn refuse_tag(invalid: &InvalidTag) -> Response<Full<Bytes>> {
    let message = format!("header `{}` {}", invalid.header, invalid.reason);
    respond::error(ErrorCode::InvalidTag, &message, Some(&invalid.header))
}

/// The client is told what is wrong, and whoever runs tokenmeter where to look.
fn unrecordable(why: &Unrecordable) -> Response<ProxyBody> {
    let message = format!(
        "the call was not sent, because tokenmeter could not record it: {why}. Calls pass again as soon \
         as that is repaired; try again later. GET /readyz and the log of tokenmeter say more"
    );
    let mut answer = own_error(ErrorCode::LedgerUnavailable, &message, None);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_FAULT));
    answer
}

fn own_error(code: ErrorCode, message: &str, param: Option<&str>) -> Response<ProxyBody> {
    respond::error(code, message, param).map(Either::Left)
}

fn too_large(limit: u64) -> String {
    format!("the request's body is larger than the limit of {limit} bytes (limits.request_body)")
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
