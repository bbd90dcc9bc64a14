//! When files that were read at the start are to be read again: when they have changed, or SIGHUP asks for it.
//! Owns the looking; what is in them is none of its business.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Some files, looked at every now and then.
pub(super) struct Changes {
    files: Vec<PathBuf>,
    seen: Vec<Option<State>>,
    hangup: Hangup,
}

/// What tells one state of a file from another: when it was written, its length, which file it is.
type State = (SystemTime, u64, u64);

impl Changes {
    /// Of files as they are now. Without any, only SIGHUP counts.
    pub(super) fn of(files: Vec<PathBuf>) -> Changes {
        let seen = look_at(&files);
        Changes { files, seen, hangup: Hangup::new() }
    }

    /// Resolves when the files are to be read again. What changes from then on counts for the next time.
    pub(super) async fn next(&mut self) {
        loop {
            let is_asked_for = tokio::select! {
                () = self.hangup.recv() => true,
                () = tokio::time::sleep(INTERVAL), if !self.files.is_empty() => false,
            };
            let now = look_at(&self.files);
            let has_changed = now != self.seen;
            self.seen = now;
            if is_asked_for || has_changed {
                return;
            }
        }
    }
}

fn look_at(files: &[PathBuf]) -> Vec<Option<State>> {
    files.iter().map(|file| state_of(file)).collect()
}

fn state_of(file: &Path) -> Option<State> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// SIGHUP, where there is such a thing.
struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    fn new() -> Hangup {
        #[cfg(unix)]
        {
            let kind = tokio::signal::unix::SignalKind::hangup();
            Hangup(tokio::signal::unix::signal(kind).ok())
        }
        #[cfg(not(unix))]
        Hangup()
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
