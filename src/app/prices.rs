//! The price table's file: read at the start, and again when it changes or SIGHUP asks for it. Owns when
//! that is; a broken file never replaces a table that works.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};

use super::StartError;
use crate::meter::Meter;
use crate::pricing::PriceBook;

/// How often the price table's file is looked at.
const PRICES_INTERVAL: Duration = Duration::from_secs(2);

/// A price table and which one it is.
#[derive(Debug)]
pub struct PriceTable {
    pub book: PriceBook,
    /// Its file as it was named; `None` is the built-in one.
    pub file: Option<PathBuf>,
    /// Of its text, in hexadecimal digits.
    pub sha256: String,
}

/// Reads a price table, or takes the built-in one.
pub fn price_table(file: Option<&PathBuf>) -> Result<PriceTable, StartError> {
    let Some(file) = file else {
        let sha256 = hash(PriceBook::builtin_text());
        return Ok(PriceTable { book: PriceBook::builtin(), file: None, sha256 });
    };
    let path = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| StartError(format!("the price table {path} cannot be read: {error}")))?;
    let book = PriceBook::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{path}: {error}")).collect();
        StartError(lines.join("\n"))
    })?;
    Ok(PriceTable { book, file: Some(file.clone()), sha256: hash(&text) })
}

fn hash(text: &str) -> String {
    let whole = digest(&SHA256, text.as_bytes());
    whole.as_ref().iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all");
        digits
    })
}

pub(super) fn read_prices(file: Option<&PathBuf>) -> Result<PriceBook, StartError> {
    price_table(file).map(|table| table.book)
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
