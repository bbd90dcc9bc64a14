//! One worker: accepts connections and serves them. Owns how a client's connection is run and where a
//! request goes; a call stays on the thread that accepted its connection.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Phase, Shared};
use crate::admin::AdminBody;
use crate::proxy::{CallBody, Client, ClientIo, LocalExecutor, ProxyBody, Route, Worker};
use crate::respond::{self, ErrorCode};

/// How often an HTTP/2 client is asked whether it still stands, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection that is over may take to say so: HTTP/2 does it with frames.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One worker: accepts and serves until told to stop.
pub(super) async fn work(
    listener: StdListener,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    let worker = Rc::new(Worker::new(Arc::clone(&shared.proxy)));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &shared.connections) => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Running) => break,
        };
        let (stream, permit) = accepted;
        let serving = serve(stream, Rc::clone(&worker), Arc::clone(&shared), phase.clone());
        tokio::task::spawn_local(async move {
            serving.await;
            drop(permit);
        });
    }
    drop((listener, worker));
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// The next connection, with a permit for it. Out of descriptors, it waits instead of spinning.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(connections).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
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

/// One client's connection, until it closes or tokenmeter stops.
async fn serve(
    stream: TcpStream,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let (io, client) = ClientIo::new(stream, shared.patience);
    let service = service_fn(|request| {
        let (worker, shared, client) =
            (Rc::clone(&worker), Arc::clone(&shared), Arc::clone(&client));
        async move {
            let on_call = client.begin(&request);
            let answer = answer(request, &worker, &shared, &client).await;
            if let Some(code) = answer.extensions().get::<ErrorCode>() {
                worker.live().refused(code.as_str());
            }
            Ok::<_, Infallible>(answer.map(|body| CallBody::new(body, on_call)))
        }
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
    let mut too_long = pin!(client.out_of_patience(shared.patience));
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

/// One request: tokenmeter's own, or forwarded.
async fn answer(
    request: Request<Incoming>,
    worker: &Worker,
    shared: &Shared,
    client: &Arc<Client>,
) -> Response<AnswerBody> {
    match shared.routes.find(request.uri().path()) {
        Route::Forward { upstream, skip } => {
            worker.forward(request, &upstream, skip, client).await.map(Either::Right)
        }
        Route::Own => {
            let (head, _) = request.into_parts();
            // Boxed, so that connections need no room for it.
            Box::pin(shared.admin.respond(&head)).await.map(Either::Left)
        }
        Route::Unconfigured(message) => {
            let answer: Response<Full<Bytes>> = respond::error(ErrorCode::NotFound, &message, None);
            answer.map(|body| Either::Left(Either::Left(body)))
        }
    }
}
