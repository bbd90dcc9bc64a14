//! The price table's file: read at the start, and again when it changes or SIGHUP asks for it. Owns when
//! that is; a broken file never replaces a table that works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StartError;
use crate::meter::Meter;
use crate::pricing::PriceBook;

/// How often the price table's file is looked at.
const PRICES_INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn read_prices(file: Option<&PathBuf>) -> Result<PriceBook, StartError> {
    let Some(file) = file else { return Ok(PriceBook::builtin()) };
    let path = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| StartError(format!("the price table {path} cannot be read: {error}")))?;
    PriceBook::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{path}: {error}")).collect();
        StartError(lines.join("\n"))
    })
}

/// Puts a changed price table in force, on SIGHUP and whenever its file has changed. A broken one is
/// named in the log and the old one stays. Never resolves.
pub(super) async fn reload_prices(file: Option<PathBuf>, meter: Arc<Meter>) {
    let mut hangup = Hangup::new();
    let Some(file) = file else {
        loop {
            hangup.recv().await;
            tracing::info!("SIGHUP: prices are built in; there is no file to be read again");
        }
    };
    let mut seen = fingerprint(&file);
    loop {
        let asked = tokio::select! {
            () = hangup.recv() => true,
            () = tokio::time::sleep(PRICES_INTERVAL) => false,
        };
        let now = fingerprint(&file);
        if !asked && now == seen {
            continue;
        }
        seen = now;
        match read_prices(Some(&file)) {
            Ok(prices) => {
                tracing::info!(file = %file.display(), entries = prices.len(), "prices read again");
                meter.set_prices(prices);
            }
            Err(error) => tracing::error!(%error, "the old prices stay in force"),
        }
    }
}

/// What tells one state of a file from another.
fn fingerprint(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
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
