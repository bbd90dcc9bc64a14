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
