//! Who hears of calls once they are in the ledger. Owns the telling; knows nothing of what is made of it.
//!
//! Invariant: nobody is told of a row that is not in the database, and whoever panics over one harms
//! neither rows nor others who watch.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::rows::Replaced;
use super::store::Added;
use crate::record::Record;

/// Hears of each call when it has its row: on the ledger's thread, after the transaction, in the order of the
/// journal. What is read a second time, because another database took the place of the first, is not told
/// again; what the process before left in the journal is.
///
/// Rows wait while a watcher looks, so it must be quick, and never wait for anything.
pub trait Watcher: fmt::Debug + Send {
    /// A call has its row.
    fn recorded(&mut self, record: &Record);

    /// A row says something else than before: an estimate came late, or another call is charged. `after` has neither
    /// charges nor the usage object.
    fn corrected(&mut self, before: &Record, after: &Record);
}

/// All who watch. They outlive the database that was there when they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers(Arc<Mutex<Vec<Box<dyn Watcher>>>>);

impl Watchers {
    pub(super) fn new(watchers: Vec<Box<dyn Watcher>>) -> Watchers {
        Watchers(Arc::new(Mutex::new(watchers)))
    }

    /// Tells of a transaction's rows.
    pub(super) fn tell(&self, added: &[Added<'_>], replaced: &[Replaced]) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter_mut() {
            let told = catch_unwind(AssertUnwindSafe(|| {
                for record in added {
                    watcher.recorded(record);
                }
                for row in replaced {
                    watcher.corrected(&row.before, &row.after);
                }
            }));
            if told.is_err() {
                tracing::error!("what watches the ledger has panicked; it lacks some calls");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{empty, once};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::ledger::row::tests::call;
    use crate::ledger::{Ledger, Settings};
    use crate::record::Charge;
    use crate::trace::TraceContext;
    use crate::usage::Usage;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[derive(Debug)]
    struct Diary(mpsc::Sender<String>);

    impl Watcher for Diary {
        fn recorded(&mut self, record: &Record) {
            self.0.send(format!("{:?}", record.input_tokens)).unwrap();
            assert_ne!(record.input_tokens, Some(13), "on purpose, in a test");
        }

        fn corrected(&mut self, before: &Record, after: &Record) {
            assert!(after.charges.is_empty() && after.trace.is_some(), "{after:?}");
            let figures = (before.input_tokens, after.input_tokens);
            self.0.send(format!("{figures:?}")).unwrap();
        }
    }

    #[test]
    fn each_row_is_told_once_and_a_panic_harms_nobody() {
        let home = tempfile::tempdir().unwrap();
        let settings = Settings::of(home.path().join("tokenmeter.db"));
        let (diary, heard) = mpsc::channel();
        let watchers: Vec<Box<dyn Watcher>> = vec![Box::new(Diary(diary))];
        let ledger = Ledger::watched(&settings, watchers).unwrap();
        let sync = || assert!(ledger.sync(Duration::from_secs(10)));
        let mut record = call(1);
        record.input_tokens = Some(13);
        ledger.closed(&record);
        sync();
        ledger.closed(&record);
        sync();
        record.input_tokens = Some(14);
        record.trace = TraceContext::read(once(PARENT.as_bytes()), empty());
        assert!(record.trace.is_some());
        let usage = Usage { input: Some(14), ..Usage::default() };
        let key = "resp_1".to_owned();
        record.charges.push(Charge { key, fetched: false, usage, cost_usd: None });
        ledger.amended(&record);
        sync();
        assert!(ledger.shutdown(Duration::from_secs(10)));
        drop(ledger);
        let told: Vec<String> = heard.iter().collect();
        assert_eq!(told, ["Some(13)", "(Some(13), Some(14))"]);
    }
}
