//! The tasks of a client's HTTP/2 streams. Owns that one whose answer is not taken does not stand for ever: a
//! client whose window is shut takes no byte, while its connection goes on; knows neither windows nor frames.
//!
//! Invariant: an answer's body is asked for its next frame when the one before has found room. A stream that does
//! not ask for as long as an answer may be stalled is given up: its call ends, the client sees a reset.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// Of the stream whose task is at work.
    static TAKING: Rc<Taking>;
}

/// Runs hyper's tasks for a client's connection on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamExecutor {
    /// How long an answer may wait for its client.
    pub(crate) stalled: Duration,
}

/// Whether a client takes what it is given.
#[derive(Debug, Default)]
struct Taking {
    /// When a frame was handed on after which no other has been asked for.
    handed_on: Cell<Option<Instant>>,
}

/// The answer is asked for its next frame.
pub(super) fn asked() {
    let _ = TAKING.try_with(|taking| taking.handed_on.take());
}

/// It has given one.
pub(super) fn handed_on() {
    let _ = TAKING.try_with(|taking| taking.handed_on.set(Some(Instant::now())));
}

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let stalled = self.stalled;
        tokio::task::spawn_local(async move {
            let taking = Rc::new(Taking::default());
            let serving = TAKING.scope(Rc::clone(&taking), future);
            tokio::select! {
                biased;
                _ = serving => {}
                () = taking.stalled_for(stalled) => {}
            }
        });
    }
}

impl Taking {
    /// Resolves when nothing has been asked for after a frame for so long. To be polled whenever the stream's
    /// task has been.
    async fn stalled_for(&self, most: Duration) {
        let mut sleep = pin!(None);
        poll_fn(|cx| {
            loop {
                let Some(since) = self.handed_on.get() else {
                    sleep.set(None);
                    return Poll::Pending;
                };
                let Some(deadline) = since.checked_add(most) else { return Poll::Pending };
                if sleep.is_none() {
                    sleep.set(Some(sleep_until(deadline)));
                }
                let Some(timer) = sleep.as_mut().as_pin_mut() else { return Poll::Pending };
                std::task::ready!(timer.poll(cx));
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                sleep.set(None);
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    const LIMIT: Duration = Duration::from_millis(200);

    /// Whether a stream's task comes to its end.
    fn ends(task: impl Future<Output = ()> + 'static) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ended, end) = oneshot::channel();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            StreamExecutor { stalled: LIMIT }.execute(async move {
                task.await;
                let _ = ended.send(());
            });
            end.await.is_ok()
        })
    }

    #[test]
    fn a_stream_that_asks_for_no_more_is_given_up() {
        let begun = Instant::now();
        assert!(!ends(async {
            asked();
            handed_on();
            std::future::pending::<()>().await;
        }));
        assert!(begun.elapsed() >= LIMIT);
    }

    #[test]
    fn a_slow_provider_is_waited_for() {
        assert!(ends(async {
            for _ in 0..3 {
                asked();
                tokio::time::sleep(LIMIT * 2).await;
                handed_on();
            }
        }));
    }
}
