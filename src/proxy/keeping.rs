//! The wait of an answer's end for its record: where it is configured so, the closing line must be on
//! the disk first. Owns how long that may take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::ledger::Kept;

/// A disk that takes longer is not waited for: a client that hangs for ever is the greater harm.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing to wait for, or the record of a call that has closed.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    kept: Kept,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Keeping {
    pub(super) fn of(kept: Kept) -> Keeping {
        Keeping { kept, limit: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.kept.is_safe() {
            return Poll::Ready(());
        }
        if self.kept.poll(cx).is_pending() {
            std::task::ready!(
                self.limit.get_or_insert_with(|| Box::pin(sleep(PATIENCE))).as_mut().poll(cx)
            );
            tracing::error!("an answer's end waited for the disk in vain and goes down without");
        }
        *self = Keeping::default();
        Poll::Ready(())
    }
}
