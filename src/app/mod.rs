//! The whole put together: build, run, drain. Owns the listener, the worker threads and the order in
//! which things stop; decides nothing about a single call.
//!
//! Each worker is a thread with a runtime of its own: a call stays on the thread that accepted its
//! connection, and so do its upstream connections.

mod certificates;
mod changes;
mod connection;
mod descriptors;
mod doors;
mod entrance;
mod exposure;
mod parlour;
mod price_lists;
mod price_updates;
mod prices;
mod telling;
mod turns;
mod upstreams;
mod worker;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;

use certificates::{Certificates, reload_certificates};
use descriptors::Room;
use doors::Doors;
use entrance::{Entrance, OPERATORS, Serves};
pub use exposure::exposed_files;
#[doc(hidden)]
pub use parlour::Parlour;
pub use price_lists::{PriceFile, fetch_list};
use price_updates::Updating;
use prices::PriceDesk;
use prices::reload_prices;
pub use prices::{price_table, read_table};
use telling::Telling;
use turns::Turns;
use upstreams::{routes, upstreams};
use worker::work;

use crate::admin::{Access, Admin, Metrics, Occupancy, Sources};
use crate::config::Config;
use crate::fingerprint::Fingerprints;
use crate::ledger::{self, Ledger};
use crate::meter::Meter;
use crate::pricing::PriceTable;
use crate::proxy::{Calls, Clients, Patience, Proxy, Routes, TagHeaders, Upstream};
use crate::telemetry::{self, Telemetry};

/// What this tokenmeter is known by where others of its kind are: a word of its own, made with its secret.
const INSTANCE: &[u8] = b"tokenmeter's instance";

/// How long the ledger is given to take in the last rows.
const LEDGER_GRACE: Duration = Duration::from_secs(10);

/// How often a stop looks whether the last tunnels have closed.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

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
    /// The first one is for calls.
    entrances: Vec<Entrance>,
    shared: Arc<Shared>,
    ledger: Ledger,
    telling: Telling,
    meter: Arc<Meter>,
    prices: Arc<PriceDesk>,
    updating: Option<Updating>,
    workers: NonZeroUsize,
    grace: Duration,
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    routes: Routes,
    proxy: Arc<Proxy>,
    admin: Admin,
    /// Of all entrances.
    doors: Vec<Arc<Doors>>,
    /// The port that calls come in at, where the operator's pages are elsewhere.
    calls_port: Option<u16>,
    turns: Arc<Turns>,
    patience: Patience,
    /// `None`: clients are spoken to in plain HTTP.
    certificates: Option<Arc<Certificates>>,
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

/// Says what would keep `serve` from starting with a configuration, short of opening anything; the
/// prices that it would begin with, if nothing does.
pub fn check(config: &Config) -> Result<PriceTable, StartError> {
    routes(config, upstreams(config)?)?;
    price_table(config.pricing.as_ref())
}

impl App {
    /// Opens the ledger, reads the prices, binds the address.
    pub fn build(config: &Config) -> Result<App, StartError> {
        App::before(config, upstreams(config)?)
    }

    /// The same, before upstreams that are there already.
    fn before(config: &Config, upstreams: Vec<Arc<Upstream>>) -> Result<App, StartError> {
        let prices = price_table(config.pricing.as_ref())?;
        let telemetry = Telemetry::new(telemetry::Settings {
            labels: config.metrics_labels.clone(),
            sets: config.metrics_series,
            upstreams: upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
        });
        let telling = Telling::start(config)?;
        let settings = ledger::Settings {
            database: config.database.clone(),
            journal_days: config.journal_days,
            retention_days: config.retention_days,
            journal_sync: config.journal_sync,
            on_failure: config.on_ledger_failure,
        };
        let watchers = telling.watchers().into_iter().chain([telemetry.watcher()]).collect();
        let ledger =
            Ledger::watched(&settings, watchers).map_err(|error| StartError(error.to_string()))?;
        let fingerprints = Fingerprints::load(ledger.database())
            .map_err(|error| StartError::new("the secret of fingerprints", error))?;
        let instance = fingerprints.of(INSTANCE).to_string();
        let access = Access::load(config.admin_token.clone(), ledger.database(), &instance)
            .map_err(|error| StartError::new("admin token", error))?;
        let meter = Arc::new(Meter::new(ledger.clone(), Arc::clone(&prices.book)));
        let prices = Arc::new(PriceDesk::new(Arc::clone(&meter), prices));
        let pool_idle = upstreams.iter().map(|upstream| upstream.target.pool_idle);
        let proxy = Arc::new(Proxy {
            tags: TagHeaders {
                user: config.tags.user.clone(),
                session: config.tags.session.clone(),
                operation: config.tags.operation.clone(),
            },
            meter: Arc::clone(&meter),
            calls: Calls::default(),
            clients: Clients::new(config.clients.networks.clone(), config.clients.keys.clone()),
            fingerprints,
            max_request_body: config.limits.request_body,
            upstreams: upstreams.len(),
            shortest_pool_idle: pool_idle.min().unwrap_or(Duration::MAX),
            traces: telling.wants_traces(),
            telemetry: telemetry.clone(),
        });
        let limits = config.limits;
        let room = Room { connections: limits.connections, calls: limits.calls };
        let others = config.admin_listen.map_or(0, |_| entrance::descriptors_of_operators());
        let room = descriptors::fit(room, others);
        let doors = Doors::new(room.connections);
        let turns = Arc::new(Turns::new(room.calls, limits.queue, limits.queue_wait));
        let estimating = Arc::clone(&meter);
        let sources = Sources {
            ledger: ledger.clone(),
            telemetry,
            occupancy: Box::new(occupancy(&doors, &turns)),
            estimates: Box::new(move || estimating.estimates()),
            otlp: telling.health(),
        };
        let metrics = Metrics::new(sources, config.metrics_public);
        let idle = config.upstreams.values().map(|upstream| upstream.timeouts.idle);
        let entrances = entrances(config, doors)?;
        let calls_port = match &entrances[..] {
            [calls, _] => calls.address().ok().map(|address| address.port()),
            _ => None,
        };
        let shared = Shared {
            routes: routes(config, upstreams)?,
            proxy,
            admin: Admin::new(ledger.clone(), access, metrics, Arc::clone(&prices) as _),
            doors: entrances.iter().map(|entrance| Arc::clone(&entrance.doors)).collect(),
            calls_port,
            turns,
            patience: Patience {
                request_head: config.client_timeouts.request_head,
                keep_alive: config.client_timeouts.keep_alive,
                stalled: idle.max().unwrap_or(Duration::MAX),
            },
            certificates: config.tls.as_ref().map(|tls| Arc::new(Certificates::new(tls))),
            request_head_bytes: limits.request_head,
            request_headers: limits.request_headers,
        };
        let updating = price_updates::begin(config, &prices)
            .map_err(|error| StartError::new("price updates", error))?;
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(App {
            entrances,
            shared: Arc::new(shared),
            ledger,
            telling,
            meter,
            prices,
            updating,
            workers: config.workers.unwrap_or(cores),
            grace: config.shutdown_grace,
        })
    }

    /// The address that is listened on for calls.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.entrances[0].address()
    }

    /// The address of the admin API: the same, unless it has one of its own.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.entrances[self.entrances.len() - 1].address()
    }

    /// Where clients connect, without a slash at the end.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("{}://{}", self.scheme(), self.address()?))
    }

    /// Where the admin API is.
    pub fn admin_url(&self) -> io::Result<String> {
        Ok(format!("{}://{}", self.scheme(), self.admin_address()?))
    }

    /// A link that logs a browser in, once.
    pub fn login_link(&self) -> io::Result<String> {
        Ok(format!("{}{}", self.admin_url()?, self.shared.admin.login_path()))
    }

    fn scheme(&self) -> &'static str {
        if self.shared.certificates.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop` resolves; then lets calls in flight finish within the grace period, or
    /// until `stop` resolves again, and writes out the ledger.
    pub async fn run<S, F>(self, stop: S) -> io::Result<()>
    where
        S: Fn() -> F,
        F: Future<Output = ()>,
    {
        let (calls, admin) = (self.url()?, self.admin_url()?);
        if calls == admin {
            tracing::info!("listening on {calls}");
        } else {
            tracing::info!("listening on {calls}, and for its operator on {admin}");
        }
        let (phase, watched) = watch::channel(Phase::Running);
        let workers = self.start_workers(&watched)?;
        drop(self.entrances);
        let prices = reload_prices(Arc::clone(&self.prices));
        let certificates = reload_certificates(self.shared.certificates.clone());
        tokio::select! {
            () = stop() => {}
            () = prices => {}
            () = certificates => {}
        }
        drop(self.updating);
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
        self.meter.finish();
        if !self.ledger.shutdown(LEDGER_GRACE) {
            tracing::warn!("the database is behind; the journal has the rest for the next start");
        }
        self.telling.finish();
        Ok(())
    }

    fn start_workers(&self, phase: &watch::Receiver<Phase>) -> io::Result<Vec<JoinHandle<()>>> {
        (0..self.workers.get())
            .map(|index| {
                let entrances = self.entrances.iter().map(Entrance::again);
                let entrances = entrances.collect::<io::Result<Vec<_>>>()?;
                let (shared, phase) = (Arc::clone(&self.shared), phase.clone());
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                    let local = LocalSet::new();
                    local.block_on(&runtime, work(entrances, shared, phase));
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
        for doors in &self.doors {
            doors.all_closed().await;
        }
        while self.proxy.calls.open() > 0 {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }
}

/// Where calls come in, and where the operator looks, if that is elsewhere.
fn entrances(config: &Config, doors: Arc<Doors>) -> Result<Vec<Entrance>, StartError> {
    let open = |address, doors, serves| {
        Entrance::open(address, doors, serves)
            .map_err(|error| StartError::new(format_args!("listen on {address}"), error))
    };
    let Some(admin) = config.admin_listen else {
        return Ok(vec![open(config.listen, doors, Serves::All)?]);
    };
    Ok(vec![
        open(config.listen, doors, Serves::Calls)?,
        open(admin, Doors::new(OPERATORS), Serves::Own)?,
    ])
}

/// What tells how full it is.
fn occupancy(
    doors: &Arc<Doors>,
    turns: &Arc<Turns>,
) -> impl Fn() -> Occupancy + Send + Sync + use<> {
    let (doors, turns) = (Arc::clone(doors), Arc::clone(turns));
    move || Occupancy { connections: doors.taken(), calls: turns.taken(), waiting: turns.waiting() }
}
