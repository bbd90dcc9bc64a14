//! The price table: which entry applies to a call, and what its usage costs. Owns `pricing.toml`'s
//! form; knows neither HTTP nor the ledger.
//!
//! From the file to a cost: `parse` reads what was typed, `build` checks what it means together,
//! `book` looks up the entry (with `names` and `glob`), `rates` says which of its prices
//! hold, `charge` multiplies. For readers: `listing` says what an entry holds, `lookup` why it applies,
//! `difference` what another table changes, `doubts` what may be a slip; `table` is a book and which one.
//! From public lists: `lists` reads them, `update` says what they would change, `belief` what
//! of it is too odd to be taken, `amend` writes it down with a `mark`.
//!
//! Invariant: a cost is the exact sum of its parts, and unknown is never 0.

mod amend;
mod belief;
mod book;
mod build;
mod charge;
mod difference;
mod doubts;
mod errors;
mod glob;
mod listing;
mod lists;
mod lookup;
mod mark;
mod names;
mod parse;
mod rates;
mod table;
mod update;

use serde::{Deserialize, Serialize};

use crate::units::{Timestamp, Usd};
use crate::usage::Usage;

pub use amend::{OVER_BUILTIN, amended};
pub use book::PriceBook;
pub use difference::{ChangedEntry, TableDifference};
pub use errors::{PriceError, PriceErrors};
pub use listing::{
    ListedAbove, ListedHours, ListedPrice, ListedProvider, ListedRates, ListedSet, ListedTier,
    Wanted,
};
pub use lists::PriceList;
pub use lookup::{AppliedPrice, PricedExample};
pub use names::entry_name;
pub use table::{PriceTable, TableError};
pub use update::{ListError, ListUpdate, PriceUpdate, RateChange, SkippedUpdate, UpdateOptions};

/// What is known of a call when it is to be priced.
#[derive(Clone, Copy, Debug)]
pub struct Billable<'a> {
    /// Whose price list: `openai`, `azure`, … or any other word.
    pub provider: &'a str,
    /// The model that answered, or else the one asked for.
    pub model: Option<&'a str>,
    /// When the call was made: it is priced by the price of that moment.
    pub at: Timestamp,
    /// The tier that served it, in the provider's word.
    pub service_tier: Option<&'a str>,
    /// Part of a batch.
    pub batch: bool,
    pub usage: &'a Usage,
    /// `usage` adds up several turns (Anthropic's compaction): none of them need have been long.
    pub several_turns: bool,
    /// Passes of other models that `usage` does not count (Anthropic's advisor), by model.
    pub side: &'a [(String, Usage)],
    /// What the provider says that it charged.
    pub reported: Option<Usd>,
}

/// What a call costs and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The provider's own figure, or else the computed one.
    pub usd: Option<Usd>,
    pub source: CostSource,
    /// What the price table says: the exact sum of `parts`.
    pub computed: Option<Usd>,
    /// Which entry applied and how: `openai/gpt-4o`, `openai/o3@2025-06-10`, `openai/gpt-5.5+flex`,
    /// `anthropic/claude-sonnet-4-5*>200000`; `default`; `free`. Side passes follow after commas.
    pub price_id: Option<String>,
    pub parts: Vec<CostPart>,
}

/// What one class of a usage costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostPart {
    /// The key in the price table, or the unit: `input`, `cached_input`, `output`, `audio_ms`, …
    pub class: &'static str,
    /// Tokens, calls or milliseconds.
    pub quantity: u64,
    pub usd: Usd,
}

/// Where a call's cost comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The provider said what it charged.
    Provider,
    /// Computed from an entry of the price table.
    Priced,
    /// Computed from the default entry, because the table does not know the model.
    Default,
    /// The provider costs nothing (a local server, a `:free` model).
    Free,
    /// Unpriced.
    #[default]
    None,
}

impl CostSource {
    pub fn as_str(self) -> &'static str {
        match self {
            CostSource::Provider => "provider",
            CostSource::Priced => "priced",
            CostSource::Default => "default",
            CostSource::Free => "free",
            CostSource::None => "none",
        }
    }
}

#[cfg(test)]
mod tests;
