//! The demo as a play: a scripted provider, and a company that keeps calling it through the proxy. Owns
//! the thread on which both run, and how the play ends; a call of theirs is to the proxy a call like any
//! other.
//!
//! | file | owns |
//! | --- | --- |
//! | `company` | which call comes next, and when |
//! | `caller`, `request` | sending it; its body |
//! | `cue` | how it is to be answered: a header that the proxy passes on |
//! | `provider`, `ask` | answering; what a request asks for |
//! | `answers`, `play`, `text` | what is answered, in each provider's words; when each piece goes; what is said |
//!
//! Invariant: nobody on the stage speaks to another machine. The provider and the proxy share nothing but
//! the wire.

mod answers;
mod ask;
mod caller;
mod company;
mod cue;
mod play;
mod provider;
mod request;
mod text;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;
use tokio::task::LocalSet;

use company::Company;
use provider::Provider;

use crate::config::{BaseUrl, Config, Http2, StreamUsage, TagHeaders, Upstream, known};
use crate::pricing::PriceBook;

/// Deployments of Azure that the company uses, and the models behind them.
const DEPLOYMENTS: [(&str, &str); 2] = [("prod-chat", "gpt-4o"), ("prod-mini", "gpt-5-mini")];

/// A provider that listens, and does not answer yet.
#[derive(Debug)]
pub struct Stage {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the company needs to know of the proxy that it calls.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Where the proxy is.
    pub proxy: SocketAddr,
    pub tags: TagHeaders,
    pub default_upstream: String,
    /// By which the month before was priced.
    pub prices: Arc<PriceBook>,
    /// How many people there are.
    pub users: usize,
    pub seed: u64,
}

/// A play under way. Dropped, it is over: nobody calls and nobody answers any more.
#[derive(Debug)]
pub struct Playing {
    phase: watch::Sender<Phase>,
    thread: Option<JoinHandle<()>>,
}

/// How far the play is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Playing,
    /// No more calls; answers under way come to their end without a pause.
    Ending,
    Over,
}

impl Stage {
    /// Takes a free port of this machine, which no other can reach.
    pub fn new() -> io::Result<Stage> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Stage { listener, address })
    }

    /// Has every upstream played by the scripted provider: those that are configured, and all that are
    /// known by name. Providers keep their names, so that prices apply; keys are left out.
    pub fn direct(&self, config: &mut Config) {
        let Some(any) = config.upstreams.values().next().cloned() else { return };
        for known in known::KNOWN {
            let name = known.name.to_owned();
            let upstream = Upstream {
                provider: name.clone(),
                name: name.clone(),
                deployments: BTreeMap::new(),
                stream_usage: StreamUsage::Off,
                drain: None,
                configured: false,
                ..any.clone()
            };
            config.upstreams.insert(name, upstream);
        }
        for upstream in config.upstreams.values_mut() {
            upstream.base_url = self.base_url(&upstream.name);
            (upstream.api_key, upstream.extra_roots) = (None, None);
            upstream.http2 = Http2::Never;
        }
        if let Some(openai) = config.upstreams.get_mut("openai") {
            openai.stream_usage = StreamUsage::Inject;
        }
        if let Some(azure) = config.upstreams.get_mut("azure") {
            let deployments = DEPLOYMENTS.map(|(name, model)| (name.to_owned(), model.to_owned()));
            azure.deployments = deployments.into();
        }
    }

    /// The path says which provider is played.
    fn base_url(&self, upstream: &str) -> BaseUrl {
        let url = format!("http://{}/{upstream}", self.address);
        url.parse().expect("an address and a word make a URL")
    }

    /// Lets the provider answer and the company call.
    pub fn begin(self, scene: Scene) -> io::Result<Playing> {
        let scene = Scene { proxy: reachable(scene.proxy), ..scene };
        let (phase, watched) = watch::channel(Phase::Playing);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("demo".to_owned());
        let thread = thread.spawn(move || {
            LocalSet::new().block_on(&runtime, play(self.listener, scene, watched));
        })?;
        Ok(Playing { phase, thread: Some(thread) })
    }
}

impl Playing {
    /// No more calls; those under way come to their end at once. For when the proxy is about to stop.
    pub fn hurry(&self) {
        self.phase.send_replace(Phase::Ending);
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Over);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the demo's thread panicked");
        }
    }
}

async fn play(listener: TcpListener, scene: Scene, mut phase: watch::Receiver<Phase>) {
    let prices = Arc::clone(&scene.prices);
    let company = Company::new(scene.users, Arc::clone(&prices), scene.seed);
    let provider = Provider::new(prices, scene.seed, phase.clone());
    tokio::task::spawn_local(caller::send(scene, company, phase.clone()));
    tokio::select! {
        served = provider.serve(listener) => if let Err(error) = served {
            tracing::error!(%error, "the demo's provider cannot listen");
        },
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

/// Where somebody on this machine reaches what listens at an address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::demo::cast::{JOBS, PEOPLE};

    /// A key that is at hand must not be sent to a stage either.
    #[test]
    fn every_upstream_is_played_and_none_gets_a_key() {
        let toml = "default_upstream = \"house\"\n\
                    [upstreams.house]\nbase_url = \"https://h.example\"\nprovider = \"vllm\"\n\
                    http2 = \"always\"\n\
                    [upstreams.openai]\napi_key_env = \"K\"\nprovider = \"other\"\n";
        let env = BTreeMap::from([("K".to_owned(), "sk-real".to_owned())]);
        let files = |_: &std::path::Path| Ok(toml.as_bytes().to_vec());
        let mut config = Config::from_sources(&Flags::default(), &env, &files).unwrap();
        let stage = Stage::new().unwrap();
        stage.direct(&mut config);
        assert_eq!(config.upstreams.len(), known::KNOWN.len() + 1);
        for (name, upstream) in &config.upstreams {
            let url = format!("http://{}/{name}", stage.address);
            assert_eq!(upstream.base_url.to_string(), url);
            assert!(upstream.base_url.is_local() && upstream.api_key.is_none());
            assert_eq!(upstream.http2, Http2::Never);
            let provider = if name == "house" { "vllm" } else { name };
            assert_eq!(upstream.provider, provider);
        }
        for (_, operation) in PEOPLE.iter().chain(&JOBS) {
            for (_, model) in operation.models {
                assert_eq!(config.upstreams[model.upstream].provider, model.provider);
            }
        }
        crate::app::check(&config).unwrap();
    }

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        for (listens, reached) in [
            ("0.0.0.0:4100", "127.0.0.1:4100"),
            ("[::]:4100", "[::1]:4100"),
            ("127.0.0.1:5", "127.0.0.1:5"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
