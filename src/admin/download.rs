//! An export as the body of an answer. Owns the thread that reads the ledger and the few pieces between
//! it and the client; knows no format.
//!
//! The thread writes pieces into a queue of four and waits while it is full, so that memory is constant
//! and the reading goes as fast as the client takes it. It ends when the client leaves, or takes nothing
//! for two minutes: it holds one moment of the database, and the write-ahead log grows meanwhile.
//!
//! Invariant: the body ends as whole only after the thread has said so. Whatever else happens breaks it.

use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::FRESHNESS;
use super::export::{Export, ExportError};
use super::reply::Refusal;
use crate::ledger::{Ledger, Reader};

/// Pieces that wait for the client, each of some 64 KiB.
const PIECES: usize = 4;

/// How long a client may take no piece.
const DAWDLE: Duration = Duration::from_mins(2);

/// An answer's body that is read from the ledger while it goes down.
#[derive(Debug)]
pub struct Download {
    first: Option<Piece>,
    pieces: mpsc::Receiver<Piece>,
    /// The one who fills the queue, and sleeps while it is full.
    reader: Option<Thread>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// All went well.
    End,
    Broken(ExportError),
}

/// The answer is not whole.
#[derive(Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the export broke off: {}", self.0)
    }
}

impl std::error::Error for Broken {}

impl Download {
    /// What `HEAD` is about.
    pub(super) fn of_nothing() -> Download {
        Download { first: Some(Piece::End), pieces: mpsc::channel(1).1, reader: None }
    }

    /// Starts reading, and waits for the first piece. The turn is kept until the reading is over.
    pub(super) async fn begin(
        export: Export,
        ledger: Ledger,
        turn: OwnedSemaphorePermit,
    ) -> Result<Download, Refusal> {
        let (to, pieces) = mpsc::channel(PIECES);
        let reading = thread::Builder::new().name("export".into()).spawn(move || {
            let _turn = turn;
            ledger.sync(FRESHNESS);
            let reader = ledger.reader();
            drop(ledger);
            read(&export, &reader, to, DAWDLE);
        });
        let reading = reading.map_err(|error| {
            tracing::warn!(%error, "no thread for an export");
            Refusal::Busy
        })?;
        let reader = Some(reading.thread().clone());
        let mut download = Download { first: None, pieces, reader };
        match download.pieces.recv().await {
            Some(Piece::Broken(ExportError::Query(error))) => Err(Refusal::Query(error)),
            Some(Piece::Broken(ExportError::Write(_))) | None => Err(Refusal::Failed),
            first => {
                download.first = first;
                Ok(download)
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        self.wake();
        Poll::Ready(piece)
    }

    fn wake(&self) {
        if let Some(reader) = &self.reader {
            reader.unpark();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(match ready!(self.get_mut().poll_piece(cx)) {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => None,
            Some(Piece::Broken(error)) => Some(Err(Broken(error.to_string()))),
            None => Some(Err(Broken("its reader stopped".to_owned()))),
        })
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.pieces.close();
        self.wake();
    }
}

fn read(export: &Export, reader: &Reader, to: mpsc::Sender<Piece>, patience: Duration) {
    let mut queue = Queue { to, patience, is_over: false };
    let last = match export.write(reader, &mut queue, || {}) {
        Ok(_) => Piece::End,
        Err(error) => Piece::Broken(error),
    };
    match &last {
        // Nobody is there to be told.
        Piece::Broken(ExportError::Write(error)) if queue.is_over => {
            tracing::debug!(%error, "an export was not taken to its end");
        }
        Piece::Broken(error) => tracing::warn!(%error, "an export broke off"),
        _ => {}
    }
    let _ = queue.send(last);
}

/// The thread's end of the queue.
struct Queue {
    to: mpsc::Sender<Piece>,
    patience: Duration,
    /// The client has left, or was given up.
    is_over: bool,
}

impl Queue {
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        let sent = !self.is_over && self.wait_to_send(piece);
        self.is_over = !sent;
        if sent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    /// False when the client has left, or has had its time.
    fn wait_to_send(&self, mut piece: Piece) -> bool {
        let deadline = Instant::now() + self.patience;
        loop {
            piece = match self.to.try_send(piece) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(piece)) => piece,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Piece::Bytes(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;
    use crate::archive::Format;
    use crate::ledger::{Filter, Loader};
    use crate::record::Record;

    /// A ledger whose export is many pieces long.
    fn reader(home: &tempfile::TempDir) -> Reader {
        let database = home.path().join("some.db");
        let mut loader = Loader::open(&database).unwrap();
        for _ in 0..200 {
            let usage = "x".repeat(5000);
            let record = format!(
                r#"{{"id":"{}","created_at":"2026-11-21T00:00:00Z","upstream":"u","provider":"p",
                "endpoint":"e","method":"POST","path":"/","usage_source":"none","cost_source":"none",
                "streaming":false,"outcome":"completed","usage_json":{{"x":"{usage}"}}}}"#,
                crate::record::CallId::new(),
            );
            loader.add(serde_json::from_str::<Record>(&record).unwrap()).unwrap();
        }
        loader.finish().unwrap();
        Reader::open(&database).unwrap()
    }

    fn begun(home: &tempfile::TempDir, patience: Duration) -> (Download, thread::JoinHandle<()>) {
        let export = Export { format: Format::Jsonl, filter: Filter::default() };
        let (to, pieces) = mpsc::channel(PIECES);
        let reader = reader(home);
        let reading = thread::spawn(move || read(&export, &reader, to, patience));
        let reader = Some(reading.thread().clone());
        (Download { first: None, pieces, reader }, reading)
    }

    fn next(download: &mut Download) -> Option<Result<Frame<Bytes>, Broken>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(poll_fn(|cx| pin!(&mut *download).poll_frame(cx)))
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_and_finds_no_clean_end() {
        let home = tempfile::tempdir().unwrap();
        let (mut download, reading) = begun(&home, Duration::from_millis(20));
        // The thread ends by itself, with all that it had not sent.
        reading.join().unwrap();
        let pieces = std::iter::from_fn(|| next(&mut download)).take_while(Result::is_ok).count();
        assert_eq!(pieces, PIECES);
    }

    #[test]
    fn a_client_that_leaves_ends_the_reading() {
        let home = tempfile::tempdir().unwrap();
        let (mut download, reading) = begun(&home, Duration::from_hours(1));
        assert!(next(&mut download).unwrap().is_ok());
        drop(download);
        reading.join().unwrap();
    }

    #[test]
    fn a_client_that_takes_all_gets_all_and_an_end() {
        let home = tempfile::tempdir().unwrap();
        let (mut download, reading) = begun(&home, Duration::from_hours(1));
        let mut lines = 0;
        while let Some(frame) = next(&mut download) {
            let bytes = frame.unwrap().into_data().unwrap();
            assert!(bytes.len() <= (128 << 10));
            lines += memchr::memchr_iter(b'\n', &bytes).count();
        }
        assert_eq!(lines, 200);
        reading.join().unwrap();
    }
}
