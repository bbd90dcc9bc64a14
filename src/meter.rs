//! What was observed of a call becomes its row: usage, cost, record, ledger. Owns how they come
//! together; refuses to fail: what cannot be known stays unknown in the row.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::value::to_raw_value;

use crate::ledger::Ledger;
use crate::pricing::{Billable, Cost, PriceBook};
use crate::provider::Reading;
use crate::record::Record;
use crate::units::Usd;
use crate::usage::UsageSource;

/// Shared by all calls.
#[derive(Debug)]
pub struct Meter {
    ledger: Ledger,
    prices: ArcSwap<PriceBook>,
}

impl Meter {
    pub fn new(ledger: Ledger, prices: PriceBook) -> Meter {
        Meter { ledger, prices: ArcSwap::from_pointee(prices) }
    }

    /// Puts another price table in force, at once and as a whole.
    pub fn set_prices(&self, prices: PriceBook) {
        self.prices.store(Arc::new(prices));
    }

    /// Notes that a call is about to be sent to its provider.
    pub fn open(&self, record: &Record) {
        self.ledger.opened(record);
    }

    /// Settles a call that has ended, however it ended. When this returns, the journal has it.
    ///
    /// `model_behind` is the model that the path or the configuration names, for where the answer
    /// names none.
    pub fn close(&self, record: &mut Record, reading: &Reading, model_behind: Option<&str>) {
        if guarded(|| self.fill(record, reading, model_behind)).is_none() {
            tracing::error!(id = %record.id, "a call could not be metered; its row lacks figures");
        }
        self.ledger.closed(record);
    }

    fn fill(&self, record: &mut Record, reading: &Reading, model_behind: Option<&str>) {
        let source = if reading.usage_json.is_some() {
            UsageSource::Reported
        } else {
            // Where an estimate will stand: nothing was reported, and nothing is invented.
            UsageSource::None
        };
        record.set_usage(&reading.usage, source);
        record.usage_json = reading.usage_json.as_ref().and_then(|raw| to_raw_value(raw).ok());
        record.model.clone_from(&reading.model);
        record.finish_reason.clone_from(&reading.finish_reason);
        record.service_tier.clone_from(&reading.service_tier);
        if record.error.is_none() {
            record.error.clone_from(&reading.error);
        }
        if record.upstream_request_id.is_none() {
            record.upstream_request_id.clone_from(&reading.id);
        }
        self.price(record, reading, model_behind);
    }

    /// The model is the one that answered. Where the table does not know its name, the names by which
    /// it was asked for may say more (routers and clouds answer with names of their own).
    fn price(&self, record: &mut Record, reading: &Reading, model_behind: Option<&str>) {
        let prices = self.prices.load();
        let tier = reading.speed.as_deref().or(record.service_tier.as_deref());
        let priced_as = |model| {
            prices.price(&Billable {
                provider: &record.provider,
                model,
                at: record.created_at,
                service_tier: tier,
                batch: reading.batch,
                usage: &reading.usage,
                several_turns: reading.several_turns,
                side: &reading.side,
                reported: reading.cost,
            })
        };
        let names = [record.model.as_deref(), model_behind, record.model_requested.as_deref()];
        let mut names = names.into_iter().flatten();
        let mut cost = priced_as(names.next());
        while !is_known(&cost)
            && let Some(name) = names.next()
        {
            let other = priced_as(Some(name));
            if is_known(&other) {
                cost = other;
            }
        }
        record.cost_usd = cost.usd.map(Usd::rounded);
        record.computed_cost_usd = cost.computed.map(Usd::rounded);
        record.cost_source = cost.source;
        record.price_id = cost.price_id;
    }
}

/// Runs what looks at a call. Should it panic, against all intent, the call and its row go on without
/// it: `None`.
pub fn guarded<T>(look: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(look)).ok()
}

/// True if the table has a price of the model's own.
fn is_known(cost: &Cost) -> bool {
    cost.price_id.as_deref().is_some_and(|id| !id.starts_with("default"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_while_it_looks_says_nothing_and_harms_nothing() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u32 { panic!("on purpose, in a test") }), None);
    }
}
