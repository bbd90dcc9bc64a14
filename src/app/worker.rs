//! One worker: accepts connections and serves them. Owns how a client's connection is run and where a
//! request goes; a call stays on the thread that accepted its connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::doors::{Doors, Seat};
use super::entrance::{Entrance, Serves};
use super::turns::Turn;
use super::{Phase, Shared};
use crate::admin::{AdminBody, Visitor};
use crate::proxy::{
    self, CallBody, CallPlace, Client, ClientIo, LocalExecutor, Patience, ProxyBody, Route, Tenure,
    Wire, Worker,
};
use crate::respond::{self, ErrorCode};

/// How often an HTTP/2 client is asked whether it still stands, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection that is over may take to say so: HTTP/2 does it with frames.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a connection beyond the limit may take to say what it wants.
const SPARE_PATIENCE: Duration = Duration::from_secs(5);

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One worker: accepts and serves until told to stop.
pub(super) async fn work(
    entrances: Vec<Entrance>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let worker = Rc::new(Worker::new(Arc::clone(&shared.proxy)));
    for entrance in entrances {
        let (worker, shared) = (Rc::clone(&worker), Arc::clone(&shared));
        tokio::task::spawn_local(receive(entrance, worker, shared, phase.clone()));
    }
    drop(worker);
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// Serves whoever comes in, until nobody is let in any more.
async fn receive(
    entrance: Entrance,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let Entrance { listener, doors, serves } = entrance;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    loop {
        let (stream, from, door) = tokio::select! {
            accepted = accept(&listener, &doors) => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let arrival = Arrival { stream, from, door, doors: Arc::clone(&doors), serves };
        let serving = serve(arrival, Rc::clone(&worker), Arc::clone(&shared), phase.clone());
        tokio::task::spawn_local(serving);
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

/// The next connection, with a door that it came through. Out of descriptors, it waits instead of spinning.
async fn accept(
    listener: &TcpListener,
    doors: &Doors,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let door = doors.open().await;
    let mut is_said = false;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, from, door),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if !is_said {
                    tracing::error!(%error, "cannot accept connections; they wait");
                }
                is_said = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// True if only the connection that was to be accepted is affected.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
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
pub(super) async fn serve<S>(
    arrival: Arrival<S>,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    let connection = Rc::new(Connection {
        worker,
        shared: Arc::clone(&shared),
        client: Arc::clone(&client),
        seat: Arc::clone(&seat),
        serves,
        visitor: Visitor {
            address: from.ip(),
            is_encrypted: shared.certificates.is_some(),
            calls_port: shared.calls_port,
        },
    });
    let service = service_fn(move |request| {
        let connection = Rc::clone(&connection);
        async move { Ok::<_, Infallible>(connection.serve(request).await) }
    });
    let mut builder = auto::Builder::new(LocalExecutor);
    builder
        .http1()
        .auto_date_header(false)
        .preserve_header_case(true)
        // hyper's covers neither the time before it knows which HTTP is spoken nor idle connections
        // apart from slow ones.
        .header_read_timeout(None)
        .max_headers(shared.request_headers)
        .max_buf_size(shared.request_head_bytes);
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(u32::try_from(shared.request_head_bytes).unwrap_or(u32::MAX));
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut too_long = pin!(client.out_of_patience(patience));
    let mut is_draining = false;
    let served = loop {
        tokio::select! {
            biased;
            served = connection.as_mut() => break served,
            () = too_long.as_mut() => {
                connection.as_mut().graceful_shutdown();
                break say_goodbye(connection, &client).await;
            }
            _ = phase.wait_for(|phase| *phase != Phase::Running), if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    seat.cannot_be_asked_to_go();
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
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

/// What goes down: tokenmeter's own, or what came of forwarding.
type AnswerBody = Either<AdminBody, ProxyBody>;

impl Connection {
    /// One request.
    async fn serve(&self, request: Request<Incoming>) -> Response<CallBody<AnswerBody>> {
        let on_call = self.client.begin(&request);
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
        if let Some(refusal) = proxy::refuse_doubtful(&request) {
            return (own(refusal), None);
        }
        let route = self.shared.routes.find(request.uri().path());
        if let Some(answer) = self.turn_away(&route, &request) {
            return (own(answer), None);
        }
        match route {
            Route::Forward { upstream, skip } => match self.admit().await {
                Ok(turn) => {
                    let place = self.place(turn, &mut request);
                    let answer = self.worker.forward(request, &upstream, skip, &self.client);
                    (answer.await.map(Either::Right), Some(place))
                }
                Err(overloaded) => (own(overloaded), None),
            },
            Route::Own | Route::Operator => {
                let (head, _) = request.into_parts();
                // Boxed, so that connections need no room for it.
                let answer = Box::pin(self.shared.admin.respond(&head, &self.visitor));
                (answer.await.map(Either::Left), None)
            }
            Route::Unconfigured(message) => {
                (own(respond::error(ErrorCode::NotFound, &message, None)), None)
            }
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

fn own(answer: Response<Full<Bytes>>) -> Response<AnswerBody> {
    answer.map(|body| Either::Left(Either::Left(body)))
}

/// Who stands where many want to stand has less time.
fn for_a_spare_place(patience: Patience) -> Patience {
    Patience {
        request_head: patience.request_head.min(SPARE_PATIENCE),
        keep_alive: patience.keep_alive.min(SPARE_PATIENCE),
        ..patience
    }
}
