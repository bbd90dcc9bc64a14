//! One worker: a thread that accepts connections. Owns when nobody is let in any more, and what is done when the
//! system lets nobody in; a connection and its calls stay on the thread that accepted it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::connection::{Arrival, Http, serve};
use super::doors::Doors;
use super::entrance::Entrance;
use super::{Phase, Shared};
use crate::proxy::Worker;

/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One worker: accepts and serves until told to stop.
pub(super) async fn work(
    entrances: Vec<Entrance>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let worker = Rc::new(Worker::new(Arc::clone(&shared.proxy)));
    let http = Rc::new(Http::new(&shared));
    for entrance in entrances {
        let (worker, shared, http) = (Rc::clone(&worker), Arc::clone(&shared), Rc::clone(&http));
        tokio::task::spawn_local(receive(entrance, worker, shared, http, phase.clone()));
    }
    drop(worker);
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// Serves whoever comes in, until nobody is let in any more.
async fn receive(
    entrance: Entrance,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    http: Rc<Http>,
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
        let (worker, shared, http) = (Rc::clone(&worker), Arc::clone(&shared), Rc::clone(&http));
        tokio::task::spawn_local(serve(arrival, worker, shared, http, phase.clone()));
    }
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
