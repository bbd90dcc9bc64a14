//! The price table in force, as questions and answers. Owns what may be asked of it, which the command line
//! asks too, and the shapes of the answers; whoever keeps the table reads the file.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::params::{BadParameter, Pairs, Params};
use crate::pricing::{ListedPrice, PriceTable, TableDifference, TableError, Wanted};
use crate::units::Timestamp;

/// Entries in one answer; `next_offset` tells when there are more.
pub(super) const ENTRIES: RangeInclusive<u64> = 1..=10_000;

pub(super) const DEFAULT_ENTRIES: usize = 1_000;

/// Whoever keeps the prices in force.
pub trait PriceKeeper: fmt::Debug + Send + Sync {
    /// What calls are priced by now.
    fn table(&self) -> Arc<PriceTable>;

    /// Reads the file again and puts it in force, if it is right. Blocks.
    fn reload(&self) -> Result<Reloaded, TableError>;

    /// How the public price lists were read last; null where they are not.
    fn updates(&self) -> Value;
}

/// What reading the file again has brought.
#[derive(Clone, Debug)]
pub struct Reloaded {
    pub table: Arc<PriceTable>,
    /// Nothing where the table is built in: there is no file.
    pub difference: Option<TableDifference>,
}

/// What is asked of the price table, checked.
#[derive(Clone, Debug)]
pub struct PricesQuestion {
    wanted: Wanted,
    model: Option<String>,
    at: Timestamp,
    limit: usize,
    offset: u64,
}

impl PricesQuestion {
    pub fn new(pairs: &Pairs, now: Timestamp) -> Result<PricesQuestion, BadParameter> {
        let mut params = Params::new(pairs)?;
        let zone = params.zone()?;
        let at = params.time("at", &zone)?.unwrap_or(now);
        let wanted = Wanted {
            provider: params.text("provider")?.map(str::to_owned),
            name: params.text("name")?.map(str::to_owned),
        };
        let model = params.text("model")?.map(str::to_owned);
        let limit = params.count("limit", ENTRIES)?.unwrap_or(DEFAULT_ENTRIES);
        let offset = params.number("offset", 0..=u64::MAX)?.unwrap_or_default();
        params.finish()?;
        Ok(PricesQuestion { wanted, model, at, limit, offset })
    }

    /// The same without pages, for whoever has the table at hand.
    pub fn whole(self) -> PricesQuestion {
        PricesQuestion { limit: usize::MAX, ..self }
    }

    /// The table, and of its entries those that were asked for.
    pub fn answer(&self, table: &PriceTable, updates: Value) -> Value {
        let provider = self.wanted.provider.as_deref();
        let (applies, similar, all) = match &self.model {
            None => (Value::Null, Value::Null, table.book.list(&self.wanted, self.at)),
            Some(model) => {
                let (applied, entries) = table.book.applied(provider, model, self.at);
                let similar = match applied.iter().any(crate::pricing::AppliedPrice::is_known) {
                    true => Vec::new(),
                    false => table.book.similar(provider, model),
                };
                let shown = entries.into_iter().filter(|entry| self.wanted.takes(entry));
                (json_of(applied), json_of(similar), shown.collect())
            }
        };
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let shown: Vec<&ListedPrice> = all.iter().skip(offset).take(self.limit).collect();
        let end = offset.saturating_add(shown.len());
        json!({
            "table": table_of(table),
            "updates": updates,
            "at": self.at,
            "providers": table.book.list_providers(provider),
            "applies": applies,
            "similar": similar,
            "prices": shown,
            "next_offset": (end < all.len()).then_some(end),
        })
    }
}

/// Which table it is.
pub fn table_of(table: &PriceTable) -> Value {
    json!({
        "file": table.file.as_ref().map(|file| file.display().to_string()),
        "sha256": table.sha256,
        "loaded_at": table.loaded_at,
        "entries": table.book.len(),
    })
}

/// Has the file read again, and says what changed.
pub(super) fn reload(keeper: &dyn PriceKeeper) -> Result<Value, TableError> {
    let Reloaded { table, difference } = keeper.reload()?;
    let message = match &difference {
        Some(_) => "the file was read again and is in force",
        None => "the prices are built in: there is no file to be read again",
    };
    Ok(json!({
        "reloaded": difference.is_some(),
        "message": message,
        "table": table_of(&table),
        "changes": difference,
    }))
}

fn json_of(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
