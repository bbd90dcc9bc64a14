//! The price table's file: read at the start, and again when it changes or SIGHUP asks for it. Owns when
//! that is; a broken file never replaces a table that works.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::StartError;
use super::changes::Changes;
use crate::admin::{PriceKeeper, Reloaded};
use crate::meter::Meter;
use crate::pricing::{PriceTable, TableError};

/// Reads a price table, or takes the built-in one.
pub fn price_table(file: Option<&PathBuf>) -> Result<PriceTable, StartError> {
    let Some(file) = file else { return Ok(PriceTable::builtin()) };
    read_table(file).map_err(|error| StartError(error.to_string()))
}

/// Reads a price table from its file; the error has every complaint.
pub fn read_table(file: &Path) -> Result<PriceTable, TableError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| TableError::unreadable(file, error))?;
    PriceTable::of_file(file.to_owned(), &text)
}

/// The prices in force: the meter's and what is said of them are changed together.
#[derive(Debug)]
pub(super) struct PriceDesk {
    meter: Arc<Meter>,
    table: ArcSwap<PriceTable>,
    /// Held while another table is put in force.
    turn: Mutex<()>,
    updates: Mutex<Value>,
}

impl PriceDesk {
    /// Keeps a table that the meter has already.
    pub(super) fn new(meter: Arc<Meter>, table: PriceTable) -> PriceDesk {
        let table = ArcSwap::from_pointee(table);
        PriceDesk { meter, table, turn: Mutex::default(), updates: Mutex::default() }
    }

    /// What is said of the public price lists.
    pub(super) fn set_updates(&self, state: Value) {
        *self.updates.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl PriceKeeper for PriceDesk {
    fn table(&self) -> Arc<PriceTable> {
        self.table.load_full()
    }

    fn reload(&self) -> Result<Reloaded, TableError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.table();
        let Some(file) = &old.file else { return Ok(Reloaded { table: old, difference: None }) };
        let table = Arc::new(read_table(file)?);
        let difference = table.book.difference(&old.book, table.loaded_at);
        self.meter.set_prices(Arc::clone(&table.book));
        self.table.store(Arc::clone(&table));
        tracing::info!(
            file = %file.display(),
            entries = table.book.len(),
            new = difference.new.len(),
            changed = difference.changed.len(),
            gone = difference.gone.len(),
            "prices read again"
        );
        Ok(Reloaded { table, difference: Some(difference) })
    }

    fn updates(&self) -> Value {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts a changed price table in force, on SIGHUP and whenever its file has changed. A broken one is
/// named in the log and the old one stays. Never resolves.
pub(super) async fn reload_prices(desk: Arc<PriceDesk>) {
    let file = desk.table().file.clone();
    let is_built_in = file.is_none();
    let mut changes = Changes::of(file.into_iter().collect());
    loop {
        changes.next().await;
        if is_built_in {
            tracing::info!("SIGHUP: prices are built in; there is no file to be read again");
        } else if let Err(error) = desk.reload() {
            tracing::error!(%error, "the old prices stay in force");
        }
    }
}
