//! A line in the log for each call. Owns which facts of a row it has.
//!
//! Written on a thread of its own, because whoever reads the log may be slow: the ledger is not to wait.
//! Texts are given to the log as strings, which it escapes, so that no tag can forge a line.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{MAX_WAITING, light, span_of};
use crate::ledger::Watcher;
use crate::record::Record;
use crate::trace::hex;

/// The log of calls, as those see it who start and stop it.
#[derive(Debug)]
pub struct CallLog {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
    done: Mutex<Receiver<()>>,
}

#[derive(Debug)]
enum Line {
    Call(Box<Record>),
    Stop,
}

impl CallLog {
    /// `traced`: calls without a client's trace have one of their own.
    pub fn start(traced: bool) -> io::Result<CallLog> {
        let (lines, written) = sync_channel(MAX_WAITING);
        let (done, is_done): (Sender<()>, _) = channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name("call-log".to_owned()).spawn(move || {
            while let Ok(Line::Call(record)) = written.recv() {
                write(&record, traced);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(calls = lost, "the log was too slow to have every call");
                }
            }
            drop(done);
        })?;
        Ok(CallLog { lines, dropped, done: Mutex::new(is_done) })
    }

    /// What is to watch the ledger.
    pub fn watcher(&self) -> Box<dyn Watcher> {
        Box::new(Writing { lines: self.lines.clone(), dropped: Arc::clone(&self.dropped) })
    }

    /// Writes what waits, for as long as that may take.
    pub fn shutdown(&self, grace: Duration) {
        if self.lines.try_send(Line::Stop).is_ok() {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing is ever sent: it ends when the thread does.
            let _ = done.recv_timeout(grace);
        }
    }
}

#[derive(Debug)]
struct Writing {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Watcher for Writing {
    fn recorded(&mut self, record: &Record) {
        if self.lines.try_send(Line::Call(Box::new(light(record)))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call has one line, of what was known when it got its row.
    fn corrected(&mut self, _before: &Record, _after: &Record) {}
}

fn write(record: &Record, traced: bool) {
    let is_known = traced || record.trace.is_some();
    let trace_id = is_known.then(|| hex(&span_of(record).trace_id));
    tracing::info!(
        target: "tokenmeter::calls",
        id = record.id.to_string(),
        created_at = record.created_at.to_string(),
        user = record.user.as_deref(),
        session = record.session.as_deref(),
        operation = record.operation.as_deref(),
        attempt = record.attempt,
        upstream = record.upstream.as_str(),
        provider = record.provider.as_str(),
        endpoint = record.endpoint.as_str(),
        model = record.model.as_deref().or(record.model_requested.as_deref()),
        input_tokens = record.input_tokens,
        cache_read_tokens = record.cache_read_tokens,
        cache_write_tokens = record.cache_write_tokens,
        output_tokens = record.output_tokens,
        reasoning_tokens = record.reasoning_tokens,
        cost_usd = record.cost_usd.map(|cost| cost.to_string()),
        cost_source = record.cost_source.as_str(),
        usage_source = record.usage_source.as_str(),
        outcome = record.outcome.as_str(),
        status = record.status,
        error = record.error.as_deref(),
        streaming = record.streaming,
        finish_reason = record.finish_reason.as_deref(),
        duration_ms = record.duration_ms,
        time_to_first_token_ms = record.time_to_first_token_ms,
        trace_id,
        "call"
    );
}
