//! How many calls go on at a time, over all connections. Owns the places, the queue before them and how
//! long a call may stand in it; knows nothing of connections.
//!
//! Invariant: who came first is served first, and who leaves gives up its place. Where no call waits, a turn
//! is taken and given back without waiting for anybody.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for calls, and the queue.
#[derive(Debug)]
pub(super) struct Turns {
    places: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
    patience: Duration,
}

/// A call's place; given back when dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// Why a call gets no turn. Displays what a client should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// As many wait as may.
    QueueFull {
        calls: usize,
        waiting: usize,
    },
    WaitedTooLong {
        calls: usize,
        waited: Duration,
    },
}

impl Turns {
    pub(super) fn new(most: usize, most_waiting: usize, patience: Duration) -> Turns {
        let most = most.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        Turns { places, most, waiting: AtomicUsize::new(0), most_waiting, patience }
    }

    /// A place, if there is one: while others wait there is none, for what is given back goes to them.
    pub(super) fn take_one(&self) -> Option<Turn> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place after those who came before.
    pub(super) async fn wait(&self) -> Result<Turn, NoTurn> {
        let Some(_waiting) = Waiting::join(self) else {
            return Err(NoTurn::QueueFull { calls: self.most, waiting: self.most_waiting });
        };
        let turn = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(self.patience, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(NoTurn::WaitedTooLong { calls: self.most, waited: self.patience }),
        }
    }

    /// Calls that have a place, and how many there are.
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.most.saturating_sub(self.places.available_permits()), self.most)
    }

    /// Calls that wait, and how many may.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.load(Ordering::Relaxed), self.most_waiting)
    }
}

/// A call in the queue, for as long as this exists.
struct Waiting<'a>(&'a Turns);

impl Waiting<'_> {
    /// `None` if the queue is full.
    fn join(turns: &Turns) -> Option<Waiting<'_>> {
        let before = turns.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(turns);
        (before < turns.most_waiting).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for NoTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoTurn::QueueFull { calls, waiting } => write!(
                f,
                "{calls} calls are in flight (limits.calls) and {waiting} wait (limits.queue)"
            ),
            NoTurn::WaitedTooLong { calls, waited } => write!(
                f,
                "{calls} calls are in flight (limits.calls), and none ended within {waited:?} \
                 (limits.queue_wait)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn who_came_first_is_first_and_who_leaves_is_not_waited_for() {
        let turns = Turns::new(1, 3, LONG);
        let held = turns.take_one().unwrap();
        let (mut first, mut third) = (pin!(turns.wait()), pin!(turns.wait()));
        assert!(poll(first.as_mut()).is_pending());
        {
            let mut second = pin!(turns.wait());
            assert!(poll(second.as_mut()).is_pending());
            assert!(poll(third.as_mut()).is_pending());
            assert_eq!((turns.taken(), turns.waiting()), ((1, 1), (3, 3)));
            let full = NoTurn::QueueFull { calls: 1, waiting: 3 };
            assert_eq!(turns.wait().await.unwrap_err(), full);
        }
        assert_eq!(turns.waiting().0, 2);
        drop(held);
        assert!(turns.take_one().is_none());
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(Ok(turn)) = poll(first.as_mut()) else { panic!("its turn has come") };
        assert!(poll(third.as_mut()).is_pending());
        drop(turn);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))));
        assert_eq!((turns.taken(), turns.waiting()), ((0, 1), (0, 3)));
    }

    #[tokio::test]
    async fn waiting_ends() {
        let turns = Turns::new(1, 3, Duration::from_millis(1));
        let _held = turns.take_one().unwrap();
        let NoTurn::WaitedTooLong { .. } = turns.wait().await.unwrap_err() else { panic!() };
        assert_eq!(turns.waiting().0, 0);
    }

    #[tokio::test]
    async fn without_a_queue_nobody_waits() {
        let turns = Turns::new(1, 0, LONG);
        let _held = turns.take_one().unwrap();
        assert_eq!(turns.wait().await.unwrap_err(), NoTurn::QueueFull { calls: 1, waiting: 0 });
    }
}
