//! The whole put together: build, run, drain. Owns the listener, the worker threads and the order in
//! which things stop; decides nothing about a single call.
//!
//! Each worker is a thread with a runtime of its own: a call stays on the thread that accepted its
//! connection, and so do its upstream connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::LocalSet;

use crate::admin::{Access, Admin};
use crate::config::{self, Config};
use crate::ledger::{self, Ledger};
use crate::meter::Meter;
use crate::pricing::PriceBook;
use crate::proxy::{
    CallBody, Calls, Client, ClientIo, Http2, LocalExecutor, Origin, Patience, Proxy, ProxyBody,
    Route, Routes, TagHeaders, Target, Upstream, Worker, tls_config,
};
use crate::respond::{self, ErrorCode};

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: i32 = 1024;

/// How long the ledger is given to take in the last rows.
const LEDGER_GRACE: Duration = Duration::from_secs(10);

/// How often the price table's file is looked at.
const PRICES_INTERVAL: Duration = Duration::from_secs(2);

/// How often an HTTP/2 client is asked whether it still stands, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a stop looks whether the last tunnels have closed.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// How long a connection that is over may take to say so: HTTP/2 does it with frames.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why tokenmeter does not start. Displays what is wrong and where.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn new(what: impl fmt::Display, error: impl fmt::Display) -> StartError {
        StartError(format!("{what}: {error}"))
    }
}

/// tokenmeter, ready to run: it listens already.
#[derive(Debug)]
pub struct App {
    listener: StdListener,
    shared: Arc<Shared>,
    ledger: Ledger,
    meter: Arc<Meter>,
    prices: Option<PathBuf>,
    workers: NonZeroUsize,
    grace: Duration,
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    routes: Routes,
    proxy: Arc<Proxy>,
    admin: Admin,
    connections: Arc<Semaphore>,
    max_connections: usize,
    patience: Patience,
    request_head_bytes: usize,
    request_headers: usize,
}

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new connections; calls in flight go on.
    Draining,
    /// What is still open is cut off.
    Over,
}

impl App {
    /// Opens the ledger, reads the prices, binds the address.
    pub fn build(config: &Config) -> Result<App, StartError> {
        let prices = read_prices(config.pricing.as_ref())?;
        let ledger = Ledger::open(&ledger::Settings {
            database: config.database.clone(),
            journal_days: config.journal_days,
        })
        .map_err(|error| StartError(error.to_string()))?;
        let access = Access::load(config.admin_token.clone(), ledger.database())
            .map_err(|error| StartError::new("admin token", error))?;
        let meter = Arc::new(Meter::new(ledger.clone(), prices));
        let upstreams = upstreams(config)?;
        let pool_idle = upstreams.iter().map(|upstream| upstream.target.pool_idle);
        let proxy = Arc::new(Proxy {
            tags: TagHeaders {
                user: config.tags.user.clone(),
                session: config.tags.session.clone(),
                operation: config.tags.operation.clone(),
            },
            meter: Arc::clone(&meter),
            calls: Calls::default(),
            max_request_body: config.limits.request_body,
            upstreams: upstreams.len(),
            shortest_pool_idle: pool_idle.min().unwrap_or(Duration::MAX),
        });
        let idle = config.upstreams.values().map(|upstream| upstream.timeouts.idle);
        let shared = Shared {
            routes: routes(config, upstreams)?,
            proxy,
            admin: Admin::new(ledger.clone(), access),
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            max_connections: config.limits.connections,
            patience: Patience {
                request_head: config.client_timeouts.request_head,
                keep_alive: config.client_timeouts.keep_alive,
                stalled: idle.max().unwrap_or(Duration::MAX),
            },
            request_head_bytes: config.limits.request_head,
            request_headers: config.limits.request_headers,
        };
        let listener = bind(config.listen)
            .map_err(|error| StartError::new(format_args!("listen on {}", config.listen), error))?;
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(App {
            listener,
            shared: Arc::new(shared),
            ledger,
            meter,
            prices: config.pricing.clone(),
            workers: config.workers.unwrap_or(cores),
            grace: config.shutdown_grace,
        })
    }

    /// The address that is listened on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The path of a link that logs a browser in, once.
    pub fn login_path(&self) -> String {
        self.shared.admin.login_path()
    }

    /// Serves until `stop` resolves; then lets calls in flight finish within the grace period, or
    /// until `stop` resolves again, and writes out the ledger.
    pub async fn run<S, F>(self, stop: S) -> io::Result<()>
    where
        S: Fn() -> F,
        F: Future<Output = ()>,
    {
        let (phase, watched) = watch::channel(Phase::Running);
        let workers = self.start_workers(&watched)?;
        drop(self.listener);
        let reloading = reload_prices(self.prices, self.meter);
        tokio::select! {
            () = stop() => {}
            () = reloading => {}
        }
        let calls = &self.shared.proxy.calls;
        tracing::info!(calls = calls.open(), "stopping: letting calls in flight finish");
        phase.send_replace(Phase::Draining);
        tokio::select! {
            () = self.shared.drained() => {}
            () = tokio::time::sleep(self.grace) => {}
            () = stop() => {}
        }
        if calls.open() > 0 {
            tracing::warn!(calls = calls.open(), "cutting off calls that have not finished");
        }
        calls.give_up();
        phase.send_replace(Phase::Over);
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
        if !self.ledger.shutdown(LEDGER_GRACE) {
            tracing::warn!("the database is behind; the journal has the rest for the next start");
        }
        Ok(())
    }

    fn start_workers(&self, phase: &watch::Receiver<Phase>) -> io::Result<Vec<JoinHandle<()>>> {
        (0..self.workers.get())
            .map(|index| {
                let listener = self.listener.try_clone()?;
                let (shared, phase) = (Arc::clone(&self.shared), phase.clone());
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                    let local = LocalSet::new();
                    local.block_on(&runtime, work(listener, shared, phase));
                    // Tasks that are left are dropped here, and close their calls. A name that is
                    // still being looked up is not waited for.
                    drop(local);
                    runtime.shutdown_background();
                })
            })
            .collect()
    }
}

impl Shared {
    /// Resolves when no connection is open and no tunnel.
    async fn drained(&self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let _every_permit = self.connections.acquire_many(all).await;
        while self.proxy.calls.open() > 0 {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }
}

/// One worker: accepts and serves until told to stop.
async fn work(listener: StdListener, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
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

/// One request: tokenmeter's own, or forwarded.
async fn answer(
    request: Request<Incoming>,
    worker: &Worker,
    shared: &Shared,
    client: &Arc<Client>,
) -> Response<ProxyBody> {
    match shared.routes.find(request.uri().path()) {
        Route::Forward { upstream, skip } => worker.forward(request, &upstream, skip, client).await,
        Route::Own => {
            let (head, _) = request.into_parts();
            shared.admin.respond(&head).await.map(Either::Left)
        }
        Route::Unconfigured(message) => {
            let answer: Response<Full<Bytes>> = respond::error(ErrorCode::NotFound, &message, None);
            answer.map(Either::Left)
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Every upstream of the configuration, as the proxy wants it.
fn upstreams(config: &Config) -> Result<Vec<Arc<Upstream>>, StartError> {
    let usual = tls_config(&[]).map_err(|error| StartError::new("TLS", error))?;
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for upstream in config.upstreams.values() {
        let base = &upstream.base_url;
        let wrong = |error: &dyn fmt::Display| {
            StartError(format!("upstream `{}`, base_url {base}: {error}", upstream.name))
        };
        if upstream.api_key.is_some() {
            let missing = "api_key_env needs keys of tokenmeter's own for the clients, which this \
                           version does not have; let the clients' own keys pass through";
            return Err(StartError(format!("upstream `{}`: {missing}", upstream.name)));
        }
        let authority: Authority = base.authority.parse().map_err(|error| wrong(&error))?;
        let origin = if base.is_tls() {
            let tls = match &upstream.extra_roots {
                None => Arc::clone(&usual),
                Some(extra) => tls_config(&extra.certificates).map_err(|error| wrong(&error))?,
            };
            Origin::https(authority, &base.host, &tls)
        } else {
            Origin::http(authority)
        };
        let target = Target {
            index: upstreams.len(),
            origin: origin.map_err(|error| wrong(&error))?,
            http2: match upstream.http2 {
                config::Http2::Auto => Http2::Auto,
                config::Http2::Never => Http2::Never,
                config::Http2::Always => Http2::Always,
            },
            connect_timeout: upstream.timeouts.connect,
            pool_idle: upstream.timeouts.pool_idle,
        };
        upstreams.push(Arc::new(Upstream {
            name: upstream.name.clone(),
            provider: upstream.provider.clone(),
            target: Arc::new(target),
            prefix: base.prefix.clone(),
            deployments: upstream.deployments.clone().into_iter().collect(),
            head_timeout: upstream.timeouts.response_head,
            idle_timeout: upstream.timeouts.idle,
        }));
    }
    Ok(upstreams)
}

fn routes(config: &Config, upstreams: Vec<Arc<Upstream>>) -> Result<Routes, StartError> {
    let default = upstreams.iter().find(|upstream| upstream.name == config.default_upstream);
    let default = default.cloned().ok_or_else(|| {
        StartError(format!("default_upstream `{}` is not configured", config.default_upstream))
    })?;
    let unconfigured: HashMap<String, String> = config::known::KNOWN
        .iter()
        .filter_map(|known| {
            Some((known.name.to_owned(), Config::known_but_unconfigured(known.name)?))
        })
        .collect();
    Ok(Routes::new(upstreams, unconfigured, default))
}

fn read_prices(file: Option<&PathBuf>) -> Result<PriceBook, StartError> {
    let Some(file) = file else { return Ok(PriceBook::builtin()) };
    let wrong = |error: &dyn fmt::Display| StartError(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    PriceBook::parse(&text).map_err(|errors| wrong(&errors))
}

/// Puts a changed price table in force, on SIGHUP and whenever its file has changed. A broken one is
/// named in the log and the old one stays. Never resolves.
async fn reload_prices(file: Option<PathBuf>, meter: Arc<Meter>) {
    let mut hangup = Hangup::new();
    let Some(file) = file else {
        loop {
            hangup.recv().await;
            tracing::info!("SIGHUP: prices are built in; there is no file to be read again");
        }
    };
    let mut seen = fingerprint(&file);
    loop {
        let asked = tokio::select! {
            () = hangup.recv() => true,
            () = tokio::time::sleep(PRICES_INTERVAL) => false,
        };
        let now = fingerprint(&file);
        if !asked && now == seen {
            continue;
        }
        seen = now;
        match read_prices(Some(&file)) {
            Ok(prices) => {
                tracing::info!(file = %file.display(), entries = prices.len(), "prices read again");
                meter.set_prices(prices);
            }
            Err(error) => tracing::error!(%error, "the old prices stay in force"),
        }
    }
}

/// What tells one state of a file from another.
fn fingerprint(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// SIGHUP, where there is such a thing.
struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    fn new() -> Hangup {
        #[cfg(unix)]
        {
            let kind = tokio::signal::unix::SignalKind::hangup();
            Hangup(tokio::signal::unix::signal(kind).ok())
        }
        #[cfg(not(unix))]
        Hangup()
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
