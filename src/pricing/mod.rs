//! The price table: which entry applies to a call, and what its usage costs. Owns `pricing.toml`'s
//! form; knows neither HTTP nor the ledger.

use serde::{Deserialize, Serialize};

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
use crate::units::{Timestamp, Usd};
use crate::usage::Usage;
#[derive(Debug)]
pub struct PriceBook;
#[derive(Debug)]
pub struct Billable<'a> {
    pub provider: &'a str,
    pub model: Option<&'a str>,
    pub at: Timestamp,
    pub service_tier: Option<&'a str>,
    pub batch: bool,
    pub usage: &'a Usage,
    pub side: &'a [(String, Usage)],
    pub reported: Option<Usd>,
}
#[derive(Debug)]
pub struct Cost {
    pub usd: Option<Usd>,
    pub source: CostSource,
    pub computed: Option<Usd>,
    pub price_id: Option<String>,
}
impl PriceBook {
    pub fn price(&self, _: &Billable<'_>) -> Cost {
        Cost { usd: None, source: CostSource::None, computed: None, price_id: None }
    }
}
