//! A tokenmeter whose connections are brought to it and whose upstreams are played, all within one thread: for
//! whoever has streams in memory, such as the fuzz target of whole exchanges. Owns how they come in; all that is
//! done with them is done by the code of a worker.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::connection::{Arrival, Http, serve};
use super::entrance::Serves;
use super::upstreams::{played, upstreams};
use super::{App, Phase, StartError};
use crate::config::Config;
use crate::proxy::{Playing, Worker};

/// One worker, without a listener.
#[doc(hidden)]
#[derive(Debug)]
pub struct Parlour {
    worker: Rc<Worker>,
    http: Rc<Http>,
    phase: watch::Sender<Phase>,
}

impl App {
    /// As [`App::build`] does, with upstreams that are played within this process.
    #[doc(hidden)]
    pub fn played(config: &Config, within: &Playing) -> Result<App, StartError> {
        App::before(config, played(upstreams(config)?, within))
    }

    /// Must be called within a `LocalSet` on the thread that is to serve.
    #[doc(hidden)]
    pub fn parlour(&self) -> Parlour {
        let worker = Rc::new(Worker::new(Arc::clone(&self.shared.proxy)));
        let http = Rc::new(Http::new(&self.shared));
        Parlour { worker, http, phase: watch::channel(Phase::Running).0 }
    }

    /// Calls that are open, and connections that have a place.
    #[doc(hidden)]
    pub fn occupied(&self) -> (usize, usize) {
        (self.shared.proxy.calls.open(), self.entrances[0].doors.taken().0)
    }
}

impl Parlour {
    /// Serves a client until its connection closes.
    pub async fn serve<S>(&self, app: &App, stream: S, from: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let doors = Arc::clone(&app.entrances[0].doors);
        let door = doors.open().await;
        let arrival = Arrival { stream, from, door, doors, serves: Serves::All };
        let (worker, shared, http) =
            (Rc::clone(&self.worker), Arc::clone(&app.shared), Rc::clone(&self.http));
        serve(arrival, worker, shared, http, self.phase.subscribe()).await;
    }
}
