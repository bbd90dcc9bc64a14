//! The log of `serve`, on stderr. Owns how lines get there: by a thread that does nothing else, because
//! whoever reads them may be slow, or not read at all.
//!
//! Invariant: to log never waits. What waits to be written is bounded; what finds no room is counted, and a
//! line says how much that was.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Dispatch;
use tracing::dispatcher;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Lines that wait to be written; most have some hundred bytes.
const MAX_WAITING: usize = 8192;

/// How long the last lines may take to be written.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is told that lines are lost, while they are.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The log, as it sees it who starts and ends it. What waits is written when it is dropped.
#[derive(Debug)]
pub(super) struct Log {
    lines: Arc<Lines>,
    guard: Option<WorkerGuard>,
}

/// What became of lines.
#[derive(Debug, Default)]
struct Lines {
    /// All that were logged.
    logged: AtomicUsize,
    /// Those that were handed to the reader, or could not be.
    written: AtomicUsize,
    /// How many lines without room have been told of.
    told: AtomicUsize,
    /// What counts those without room, and where to tell of them.
    losing: OnceLock<(ErrorCounter, Dispatch)>,
}

impl Log {
    /// Makes stderr the log of the whole process.
    pub(super) fn to_stderr(filter: &str, format: LogFormat) -> Log {
        let is_terminal = io::stderr().is_terminal();
        let (log, dispatch) = Log::to(io::stderr(), MAX_WAITING, filter, format, is_terminal);
        dispatch.init();
        log
    }

    fn to(
        out: impl Write + Send + 'static,
        most: usize,
        filter: &str,
        format: LogFormat,
        has_colours: bool,
    ) -> (Log, Dispatch) {
        let lines = Arc::new(Lines::default());
        let out = Out { to: out, lines: Arc::clone(&lines), told_at: None };
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(most);
        let (queue, guard) = builder.thread_name("log").finish(out);
        let counter = queue.error_counter();
        let logged = Arc::clone(&lines);
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || In { queue: queue.clone(), lines: Arc::clone(&logged) })
            // It would complain to stderr that it cannot be written, and panic over that.
            .log_internal_errors(false);
        let dispatch: Dispatch = match format {
            LogFormat::Text => log.with_ansi(has_colours).into(),
            LogFormat::Json => log
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_ansi(false)
                .into(),
        };
        let _ = lines.losing.set((counter, dispatch.clone()));
        (Log { lines, guard: Some(guard) }, dispatch)
    }

    /// Writes what waits; whether there was time enough. Nothing that is logged afterwards is written.
    pub(super) fn finish(mut self) -> bool {
        self.write_out()
    }

    fn write_out(&mut self) -> bool {
        let Some(guard) = self.guard.take() else { return true };
        let deadline = Instant::now() + GRACE;
        loop {
            if self.lines.are_written() {
                if !self.lines.tell_lost() {
                    return true;
                }
            } else if Instant::now() >= deadline {
                // It would wait longer, and say so on stdout.
                mem::forget(guard);
                return false;
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.write_out();
    }
}

impl Lines {
    fn lost(&self) -> usize {
        self.losing.get().map_or(0, |(counter, _)| counter.dropped_lines())
    }

    fn are_written(&self) -> bool {
        // In this order: it may only grow what is compared with it.
        let logged = self.logged.load(Ordering::Acquire);
        self.written.load(Ordering::Acquire) + self.lost() >= logged
    }

    /// Says how many lines have found no room since it was last said; whether there were any. That line may
    /// find none either, so it has all since the start, too.
    fn tell_lost(&self) -> bool {
        let Some((counter, dispatch)) = self.losing.get() else { return false };
        let lost = counter.dropped_lines();
        let told = self.told.fetch_max(lost, Ordering::Relaxed);
        if lost <= told {
            return false;
        }
        dispatcher::with_default(dispatch, || {
            tracing::warn!(
                lines = lost - told,
                since_start = lost,
                "lines are missing here: whoever reads the log was too slow for them"
            );
        });
        true
    }
}

/// Where a line is logged.
struct In {
    queue: NonBlocking,
    lines: Arc<Lines>,
}

impl Write for In {
    /// A whole line, always.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.logged.fetch_add(1, Ordering::Release);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the thread writes it.
struct Out<W> {
    to: W,
    lines: Arc<Lines>,
    told_at: Option<Instant>,
}

impl<W: Write> Out<W> {
    fn tell_lost(&mut self) {
        if self.lines.tell_lost() {
            self.told_at = Some(Instant::now());
        }
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line);
        self.lines.written.fetch_add(1, Ordering::Release);
        // Not in the place of every line that has found room.
        if self.told_at.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.tell_lost();
        }
        written
    }

    /// Nothing waits at the moment.
    fn flush(&mut self) -> io::Result<()> {
        self.tell_lost();
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A reader that begins to read when it is told to.
    struct Slow {
        begin: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that it has been told.
            let _ = self.begin.recv();
            self.read.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_without_room_are_counted_and_told() {
        const MANY: usize = 50;
        let (gate, begin) = channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow { begin, read: Arc::clone(&read) };
        let (log, dispatch) = Log::to(slow, 4, "info", LogFormat::Text, false);
        dispatcher::with_default(&dispatch, || {
            for number in 0..MANY {
                tracing::info!(number, "a line");
            }
        });
        drop(gate);
        assert!(log.finish());
        let text = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        let there = text.lines().filter(|line| line.contains("a line")).count();
        assert!((4..=5).contains(&there), "{text}");
        let last = text.lines().last().unwrap();
        let (_, told) = last.rsplit_once("since_start=").unwrap();
        // What was to be said of them may have found no room itself, once or twice.
        let missing = MANY - there;
        assert!((missing..=missing + 2).contains(&told.parse().unwrap()), "{text}");
    }

    #[test]
    fn a_reader_that_never_reads_holds_up_neither_lines_nor_the_end() {
        let (gate, begin) = channel();
        let slow = Slow { begin, read: Arc::default() };
        let (log, dispatch) = Log::to(slow, 4, "info", LogFormat::Json, false);
        dispatcher::with_default(&dispatch, || {
            for number in 0..50 {
                tracing::info!(number, "a line");
            }
        });
        let start = Instant::now();
        assert!(!log.finish());
        assert!(start.elapsed() < GRACE * 5);
        drop(gate);
    }
}
