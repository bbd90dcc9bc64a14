//! How many clients are connected at a time. Owns the places for connections, the few spare ones beyond,
//! and who has to go when all are taken; knows nothing of calls.
//!
//! Beyond the limit a few more connections are let in, so that nobody is left without an answer: they hear of
//! tokenmeter's own pages, and that it is overloaded. Further ones wait in the kernel's backlog. A connection
//! that nobody uses gives up its place to one that is.
//!
//! Invariant: no more descriptors are taken than [`Doors::new`] was told, tunnels included.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::proxy::Client;

/// A connection without a call for less long is not closed for another: its client may be about to use it.
const IDLE_ENOUGH: Duration = Duration::from_secs(1);

/// Connections that are found to be idle in one look at all.
const FOUND_AT_ONCE: usize = 256;

/// After a look that found none, the next one is not before.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a connection that was let in waits for one that was told to go.
const HANDOVER: Duration = Duration::from_secs(1);

/// The share of spare connections, and their bounds.
const SPARE_SHARE: usize = 8;
const SPARE: std::ops::RangeInclusive<usize> = 8..=128;

/// The places for connections.
#[derive(Debug)]
pub(super) struct Doors {
    /// One for each connection, the spare ones included, and for each worker that waits for one.
    all: Arc<Semaphore>,
    most: usize,
    seated: AtomicUsize,
    regular: Arc<Semaphore>,
    most_regular: usize,
    /// Connections that have a regular place, by when they came.
    guests: Mutex<Guests>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Guests {
    all: BTreeMap<u64, Arc<Client>>,
    /// Those that were idle when it was last looked, the longest idle first.
    idle: VecDeque<(u64, Instant)>,
    looked: Option<Instant>,
}

/// A connection's place, for as long as this exists.
#[derive(Debug)]
pub(super) struct Seat {
    doors: Arc<Doors>,
    number: u64,
    _door: OwnedSemaphorePermit,
    client: Arc<Client>,
    regular: OnceLock<OwnedSemaphorePermit>,
    /// Another connection was told to go for this one.
    is_promised: bool,
}

/// How many connections beyond the limit are let in.
pub(super) fn spare_for(connections: usize) -> usize {
    (connections / SPARE_SHARE).clamp(*SPARE.start(), *SPARE.end())
}

impl Doors {
    pub(super) fn new(connections: usize) -> Arc<Doors> {
        let most_regular = connections.min(Semaphore::MAX_PERMITS / 2);
        let most = most_regular + spare_for(most_regular);
        Arc::new(Doors {
            all: Arc::new(Semaphore::new(most)),
            most,
            seated: AtomicUsize::new(0),
            regular: Arc::new(Semaphore::new(most_regular)),
            most_regular,
            guests: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// The right to accept a connection, as soon as there is one.
    pub(super) async fn open(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(door) => door,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// A place for a connection that has been accepted: a regular one if there is any, or else a spare one,
    /// and the connection that has been idle for longest is told to go.
    pub(super) fn seat(self: &Arc<Self>, door: OwnedSemaphorePermit, client: &Arc<Client>) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.seated.fetch_add(1, Ordering::Relaxed);
        let place = Arc::clone(&self.regular).try_acquire_owned().ok();
        let is_promised = place.is_none() && self.lock().tell_one_to_go();
        let (doors, client) = (Arc::clone(self), Arc::clone(client));
        let regular = OnceLock::new();
        let seat = Seat { doors, number, _door: door, client, regular, is_promised };
        seat.take(place);
        seat
    }

    /// Resolves when no connection is open.
    pub(super) async fn all_closed(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        let _every_one = self.all.acquire_many(all).await;
    }

    /// Connections that are open, and how many there may be; the spare ones are beyond that.
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.seated.load(Ordering::Relaxed), self.most_regular)
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// True if there was one.
    fn tell_one_to_go(&mut self) -> bool {
        let now = Instant::now();
        if self.idle.is_empty() && self.looked.is_none_or(|last| now >= last + LOOK_AGAIN) {
            self.look(now);
        }
        while let Some((number, since)) = self.idle.pop_front() {
            let client = self.all.get(&number);
            if client.is_some_and(|client| client.go_if_idle_since(since)) {
                return true;
            }
        }
        false
    }

    /// Finds those that are idle. With ten thousand connections that takes a millisecond, so it is done for
    /// many newcomers at once.
    fn look(&mut self, now: Instant) {
        let idle = self.all.iter().filter_map(|(number, client)| {
            let since = client.idle_since().filter(|since| *since + IDLE_ENOUGH <= now)?;
            Some((since, *number))
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable();
        idle.truncate(FOUND_AT_ONCE);
        self.looked = Some(now);
        self.idle = idle.into_iter().map(|(since, number)| (number, since)).collect();
    }
}

impl Seat {
    /// A regular place in the place of a spare one, if there is one by now; where it was promised one, it
    /// waits for that. False if not.
    pub(super) async fn become_regular(&self) -> bool {
        let regular = Arc::clone(&self.doors.regular);
        let place = if self.is_promised {
            let place = tokio::time::timeout(HANDOVER, regular.acquire_owned()).await;
            place.ok().and_then(Result::ok)
        } else {
            regular.try_acquire_owned().ok()
        };
        self.take(place);
        self.has_regular()
    }

    /// Whether the connection may make calls.
    pub(super) fn has_regular(&self) -> bool {
        self.regular.get().is_some()
    }

    /// How many regular places there are.
    pub(super) fn of(&self) -> usize {
        self.doors.most_regular
    }

    /// The connection is over, or a tunnel's, and no other gets its place by asking.
    pub(super) fn cannot_be_asked_to_go(&self) {
        self.doors.lock().all.remove(&self.number);
    }

    /// Of two streams of one connection one comes second, and gives the place back.
    fn take(&self, place: Option<OwnedSemaphorePermit>) {
        if let Some(place) = place
            && self.regular.set(place).is_ok()
        {
            self.doors.lock().all.insert(self.number, Arc::clone(&self.client));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cannot_be_asked_to_go();
        self.doors.seated.fetch_sub(1, Ordering::Relaxed);
    }
}
