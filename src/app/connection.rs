//! One client's connection: which HTTP is spoken over it, for how long, and where its requests go.
//!
//! A connection at rest has no more than its socket and its clock. hyper's buffers, and the room for a call, are
//! made when its client begins to speak and given back soon after it has stopped: clients keep connections for
//! minutes between calls, and there may be thousands of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::doors::{Doors, Seat};
use super::entrance::Serves;
use super::turns::Turn;
use super::{Phase, Shared};
use crate::admin::{AdminBody, Visitor};
use crate::proxy::{
    self, CallBody, CallPlace, Client, ClientIo, Due, OnCall, Order, Patience, ProxyBody, Route,
    Spoken, StreamExecutor, Tenure, Upstream, Wire, Worker,
};
use crate::respond::{self, ErrorCode};

/// How often an HTTP/2 client is asked whether it still stands, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls at a time over one HTTP/2 connection. Agents ask for some dozens at once; RFC 9113 recommends no fewer
/// than 100.
const STREAMS: u32 = 200;

/// With so much of one stream's answer waiting in memory for a client that has opened its window and does not read,
/// no more is taken; what the last read has brought, 400 KB at most, comes on top. With hyper's 400 KiB it is twice
/// as much.
const STREAM_BUFFER: usize = 64 * 1024;

/// Streams that a client has reset before they were looked at, and ones that it has made us reset by breaking the
/// protocol: with one more the connection is closed. h2's and hyper's own figures, held to here because they keep
/// floods of resets cheap (CVE-2023-44487, CVE-2025-8671).
const RESET_UNSEEN: usize = 20;
const RESET_BY_US: usize = 1024;

/// How long a connection that is over may take to say so: HTTP/2 and TLS do.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a connection beyond the limit may take to say what it wants.
const SPARE_PATIENCE: Duration = Duration::from_secs(5);

/// How HTTP is spoken with clients.
#[derive(Debug)]
pub(super) struct Http {
    one: http1::Builder,
    two: http2::Builder<StreamExecutor>,
}

impl Http {
    pub(super) fn new(shared: &Shared) -> Http {
        let streams = StreamExecutor { stalled: shared.patience.stalled };
        let (mut one, mut two) = (http1::Builder::new(), http2::Builder::new(streams));
        one.auto_date_header(false)
            .preserve_header_case(true)
            // hyper's covers neither the time before its first byte nor idle connections apart from slow ones.
            .header_read_timeout(None)
            .max_headers(shared.request_headers)
            .max_buf_size(shared.request_head_bytes);
        two.auto_date_header(false)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            .max_pending_accept_reset_streams(RESET_UNSEEN)
            .max_local_error_reset_streams(RESET_BY_US)
            .max_header_list_size(u32::try_from(shared.request_head_bytes).unwrap_or(u32::MAX));
        Http { one, two }
    }
}

/// A connection that has just come in.
pub(super) struct Arrival<S> {
    pub(super) stream: S,
    pub(super) from: SocketAddr,
    pub(super) door: OwnedSemaphorePermit,
    pub(super) doors: Arc<Doors>,
    pub(super) serves: Serves,
}

/// What the requests of one connection have in common.
struct Connection {
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    client: Arc<Client>,
    seat: Arc<Seat>,
    serves: Serves,
    visitor: Visitor,
}

/// One client's connection, until it closes or tokenmeter stops.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    arrival: Arrival<S>,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    http: Rc<Http>,
    phase: watch::Receiver<Phase>,
) {
    let Arrival { stream, from, door, doors, serves } = arrival;
    let client = Client::new();
    let wire = match &shared.certificates {
        None => Wire::plain(stream, &client, shared.patience),
        Some(certificates) => {
            let live = Arc::clone(worker.live());
            Wire::tls(stream, &client, shared.patience, certificates.current(), live)
        }
    };
    let io = ClientIo::new(wire, &client);
    let seat = Arc::new(doors.seat(door, &client));
    let patience =
        if seat.has_regular() { shared.patience } else { for_a_spare_place(shared.patience) };
    let visitor = Visitor {
        address: from.ip(),
        is_encrypted: shared.certificates.is_some(),
        calls_port: shared.calls_port,
    };
    let terms = Terms { client: Arc::clone(&client), patience, phase };
    let connection =
        Connection { worker, shared, client, seat: Arc::clone(&seat), serves, visitor };
    converse(Rc::new(connection), &http, io, terms).await;
    seat.cannot_be_asked_to_go();
}

/// On what terms a connection may stay.
struct Terms {
    client: Arc<Client>,
    patience: Patience,
    phase: watch::Receiver<Phase>,
}

impl Terms {
    /// Resolves when a connection without calls has to go.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.client.due(self.patience) => {}
            () = stopping(&mut self.phase) => {}
        }
    }
}

async fn stopping(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}

/// Speaks what the client speaks, whenever it does.
async fn converse<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: Rc<Connection>,
    http: &Http,
    mut io: ClientIo<T>,
    mut terms: Terms,
) {
    let mut is_first = true;
    loop {
        let spoken = tokio::select! {
            biased;
            spoken = proxy::spoken(&mut io, is_first) => spoken.unwrap_or(Spoken::Nothing),
            () = terms.end() => Spoken::Nothing,
        };
        match spoken {
            Spoken::Http1 => {
                let Some(at_rest) = over_http1(&connection, &http.one, io, &mut terms).await else {
                    return;
                };
                (io, is_first) = (at_rest, false);
            }
            Spoken::Http2 => return Box::pin(over_http2(&connection, &http.two, io, terms)).await,
            Spoken::Nothing => {
                // Nobody is left to whom it would matter that this failed.
                let _ = tokio::time::timeout(GOODBYE, io.shutdown()).await;
                return;
            }
        }
    }
}

/// Until the connection is over, or at rest: then it is handed back.
async fn over_http1<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connection: &Rc<Connection>,
    http: &http1::Builder,
    io: ClientIo<T>,
    terms: &mut Terms,
) -> Option<ClientIo<T>> {
    let mut served = http.serve_connection(TokioIo::new(io), service(connection)).with_upgrades();
    connection.client.wakes();
    let ended =
        drive(Pin::new(&mut served), http1::UpgradeableConnection::graceful_shutdown, terms).await;
    connection.client.rests();
    if let Some(code) = connection.client.refusal() {
        connection.worker.live().refused(code.as_str());
    }
    let parts = served.into_parts().filter(|_| ended == Ended::AtRest)?;
    let mut io = parts.io.into_inner();
    // Something, where a client has sent a part of its next request together with the last one.
    io.put_back(parts.read_buf);
    Some(io)
}

async fn over_http2<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    connection: &Rc<Connection>,
    http: &http2::Builder<StreamExecutor>,
    io: ClientIo<T>,
    mut terms: Terms,
) {
    let served = pin!(http.serve_connection(TokioIo::new(io), service(connection)));
    drive(served, http2::Connection::graceful_shutdown, &mut terms).await;
}

/// How it came that a connection is not driven any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Over,
    AtRest,
}

/// Drives a connection on its terms. `wind_up` makes it end after the calls that it has.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut served: Pin<&mut C>,
    wind_up: impl Fn(Pin<&mut C>),
    terms: &mut Terms,
) -> Ended {
    let Terms { client, patience, phase } = terms;
    let mut due = pin!(client.due(*patience));
    let mut is_winding_up = false;
    let over = loop {
        tokio::select! {
            biased;
            over = served.as_mut() => break over,
            due = due.as_mut() => match due {
                Due::Rest => return Ended::AtRest,
                Due::Close => {
                    wind_up(served.as_mut());
                    break say_goodbye(served, client).await;
                }
            },
            () = stopping(phase), if !is_winding_up => {
                is_winding_up = true;
                wind_up(served.as_mut());
            }
        }
    };
    if let Err(error) = over {
        tracing::debug!(%error, "connection ended");
    }
    Ended::Over
}

/// Lets a connection without a call close in good order. A call that has come at the last moment is
/// still served.
async fn say_goodbye<E>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
    client: &Client,
) -> Result<(), E> {
    loop {
        match tokio::time::timeout(GOODBYE, connection.as_mut()).await {
            Ok(served) => return served,
            Err(_) if client.is_on_a_call() => {}
            Err(_) => return Ok(()),
        }
    }
}

/// What hyper asks for each request.
fn service(
    connection: &Rc<Connection>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<CallBody<AnswerBody>>,
    Error = Infallible,
    Future: 'static,
> + Unpin
+ use<> {
    let connection = Rc::clone(connection);
    service_fn(move |request| {
        let connection = Rc::clone(&connection);
        // At once: a connection that has a request is not at rest, whether or not its turn has come.
        let on_call = connection.client.begin(&request);
        async move { Ok::<_, Infallible>(connection.serve(request, on_call).await) }
    })
}

/// What goes down: tokenmeter's own, or what came of forwarding.
type AnswerBody = Either<AdminBody, ProxyBody>;

impl Connection {
    /// One request.
    async fn serve(
        &self,
        request: Request<Incoming>,
        on_call: OnCall,
    ) -> Response<CallBody<AnswerBody>> {
        let is_http1 = request.version() < Version::HTTP_2;
        let (mut answer, place) = self.answer(request).await;
        if let Some(code) = answer.extensions().get::<ErrorCode>() {
            self.worker.live().refused(code.as_str());
        }
        if !self.seat.has_regular() {
            // There are few spare places, and others want to hear as much.
            self.client.go_when_idle();
            if is_http1 {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        answer.map(|body| CallBody::new(body, on_call, place))
    }

    /// tokenmeter's own answer, or what came of forwarding, with what the call holds meanwhile.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> (Response<AnswerBody>, Option<CallPlace>) {
        let own = match self.way(&request) {
            Way::Forward(upstream, order) => match self.admit().await {
                Ok(turn) => {
                    let place = self.place(turn, &mut request);
                    let answer = self.worker.forward(request, order, &upstream, &self.client);
                    return (answer.await.map(Either::Right), Some(place));
                }
                Err(overloaded) => overloaded.map(Either::Left),
            },
            Way::Said(answer) => answer.map(Either::Left),
            Way::Page => {
                let (head, body) = request.into_parts();
                // Boxed, so that connections need no room for it.
                let mut answer = Box::pin(self.shared.admin.respond(&head, &self.visitor)).await;
                self.part_with(&head.headers, body, answer.headers_mut()).await;
                return (answer.map(Either::Left), None);
            }
        };
        let (head, body) = request.into_parts();
        let mut answer = own.map(Either::Left);
        self.part_with(&head.headers, body, answer.headers_mut()).await;
        (answer, None)
    }

    /// Where a request goes, and as what; or who answers it instead.
    fn way(&self, request: &Request<Incoming>) -> Way {
        if let Some(refusal) = proxy::refuse_doubtful(request) {
            return Way::Said(refusal);
        }
        let route = self.shared.routes.find(request.uri().path());
        if let Some(answer) = self.turn_away(&route, request) {
            return Way::Said(answer);
        }
        match route {
            Route::Forward { upstream, skip } => {
                match self.worker.order(request, &upstream, skip) {
                    Ok(order) => Way::Forward(upstream, order),
                    Err(refusal) => Way::Said(*refusal),
                }
            }
            Route::Own | Route::Operator => Way::Page,
            Route::Unconfigured(message) => {
                Way::Said(respond::error(ErrorCode::NotFound, &message, None))
            }
        }
    }

    /// Behind an answer of our own hyper closes the connection where more of the request is to come. A client
    /// that was not told would lose its next call.
    async fn part_with(&self, asked: &HeaderMap, body: Incoming, answer: &mut HeaderMap) {
        if !self.client.may_be_sending() {
            return;
        }
        // To look at a body is to ask for it.
        if !asked.contains_key(EXPECT) && proxy::has_come(body).await {
            self.client.has_sent_all();
        } else {
            answer.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Nothing, or the answer to whoever is in the wrong place or not let in.
    fn turn_away(
        &self,
        route: &Route,
        request: &Request<Incoming>,
    ) -> Option<Response<Full<Bytes>>> {
        let elsewhere = |why| Some(respond::error(ErrorCode::NotFound, why, None));
        match (route, self.serves) {
            (Route::Own, _) | (Route::Operator, Serves::All | Serves::Own) => None,
            (Route::Operator, Serves::Calls) => elsewhere("there is no such page at this address"),
            (_, Serves::Own) => elsewhere("no calls are taken at this address"),
            (_, _) => self.worker.refuse(request, self.visitor.address),
        }
    }

    /// Lets a call in, at once or when its turn comes; or says that it must come again.
    async fn admit(&self) -> Result<Turn, Response<Full<Bytes>>> {
        // What few calls do is boxed, for the same reason.
        if !self.seat.has_regular() && !Box::pin(self.seat.become_regular()).await {
            let most = self.seat.of();
            let why = format_args!("{most} connections are open (limits.connections)");
            return Err(respond::overloaded(why));
        }
        match self.shared.turns.take_one() {
            Some(turn) => Ok(turn),
            None => Box::pin(self.shared.turns.wait()).await.map_err(respond::overloaded),
        }
    }

    /// A call gives its turn back with the end of its answer; a tunnel, which outlives that and its
    /// connection as we know it, keeps both.
    fn place(&self, turn: Turn, request: &mut Request<Incoming>) -> CallPlace {
        if !request.headers().contains_key(UPGRADE) {
            return CallPlace::Own(turn);
        }
        let tenure = Tenure(Arc::new((turn, Arc::clone(&self.seat))));
        request.extensions_mut().insert(tenure.clone());
        CallPlace::Shared(tenure)
    }
}

/// Where a request goes.
enum Way {
    Forward(Arc<Upstream>, Order),
    /// Nowhere: this is the answer.
    Said(Response<Full<Bytes>>),
    /// One of tokenmeter's own pages is asked for.
    Page,
}

/// Who stands where many want to stand has less time.
fn for_a_spare_place(patience: Patience) -> Patience {
    Patience {
        request_head: patience.request_head.min(SPARE_PATIENCE),
        keep_alive: patience.keep_alive.min(SPARE_PATIENCE),
        ..patience
    }
}
