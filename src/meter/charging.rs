//! What a call costs, and under which of the provider's ids that is charged. Owns which names a call
//! is priced by and which answers can be fetched again; the prices are those of the price table.
//!
//! Invariant: what can be fetched again has a key, so that the ledger charges it once.

use crate::pricing::{Billable, Cost, CostSource, PriceBook};
use crate::provider::Reading;
use crate::record::{Charge, Record, RowCost};
use crate::units::Usd;
use crate::usage::{Usage, UsageSource};

/// Endpoints whose answers can be asked for again by the id that the provider gave them.
pub(super) const FETCHED_AGAIN: [&str; 5] = [
    "responses",
    "responses.retrieve",
    "assistants.runs",
    "gemini.interactions",
    "gemini.interactions.retrieve",
];

/// An endpoint that only repeats what a call had before it: there is no other way to make one.
pub(super) const REPEATS: &str = "chat.completions.retrieve";

/// Prices a call and notes what may be fetched again.
///
/// `usage` is the call's usage, estimates included.
pub(super) fn charge(
    prices: &PriceBook,
    record: &mut Record,
    reading: &Reading,
    usage: &Usage,
    model_behind: Option<&str>,
) {
    record.charges.clear();
    if record.endpoint == REPEATS {
        record.set_usage(&Usage::default(), UsageSource::None);
        return;
    }
    if reading.lines.is_empty() {
        let cost = price(prices, record, reading, usage, model_behind);
        put(record, cost);
        let id = reading.usage_id.as_ref().or(reading.id.as_ref());
        if record.usage_source != UsageSource::None
            && FETCHED_AGAIN.contains(&record.endpoint.as_str())
            && let Some(id) = id
        {
            let (key, usage) = (key(record, id), usage.clone());
            let (fetched, cost_usd) = (is_fetched(record), record.cost_usd);
            record.charges.push(Charge { key, fetched, usage, cost_usd });
        }
    } else {
        charge_lines(prices, record, reading, model_behind);
    }
}

/// Each line is a call, and priced as one: together they would be taken for one long prompt.
fn charge_lines(
    prices: &PriceBook,
    record: &mut Record,
    reading: &Reading,
    model_behind: Option<&str>,
) {
    let mut whole: Option<Cost> = None;
    let mut is_priced = true;
    let mut charges = Vec::with_capacity(reading.lines.len());
    for line in &reading.lines {
        let one = Reading {
            model: line.model.clone(),
            side: line.side.clone(),
            service_tier: reading.service_tier.clone(),
            batch: true,
            ..Reading::default()
        };
        let cost = price(prices, record, &one, &line.usage, model_behind);
        let cost_usd = cost.usd.map(Usd::rounded);
        let (key, usage) = (key(record, &line.id), line.usage.clone());
        charges.push(Charge { key, fetched: true, usage, cost_usd });
        is_priced &= cost_usd.is_some();
        match &mut whole {
            None => whole = Some(Cost { usd: cost_usd, computed: cost_usd, ..cost }),
            Some(whole) => {
                whole.usd = whole.usd.zip(cost_usd).map(|(sum, usd)| sum + usd);
                whole.computed = whole.usd;
            }
        }
    }
    // The price of a part would pass for that of the whole.
    if let Some(cost) = whole.filter(|_| is_priced) {
        put(record, cost);
    } else {
        record.cost_source = CostSource::None;
    }
    record.charges = charges;
}

fn put(record: &mut Record, cost: Cost) {
    record.set_cost(row_cost(cost));
}

/// A cost as the ledger keeps it.
pub(super) fn row_cost(cost: Cost) -> RowCost {
    RowCost {
        cost_usd: cost.usd.map(Usd::rounded),
        computed_cost_usd: cost.computed.map(Usd::rounded),
        cost_source: cost.source,
        price_id: cost.price_id,
    }
}

/// True unless the call made the answer, as those over a WebSocket (101) do.
fn is_fetched(record: &Record) -> bool {
    record.method != "POST" && record.status != Some(101)
        || record.path.trim_end_matches('/').ends_with("/cancel")
}

/// Ids are the provider's own: another upstream may give the same.
fn key(record: &Record, id: &str) -> String {
    format!("{}/{id}", record.upstream)
}

/// The model is the one that answered. Where the table does not know its name, the names by which it
/// was asked for may say more (routers and clouds answer with names of their own).
pub(super) fn price(
    prices: &PriceBook,
    record: &Record,
    reading: &Reading,
    usage: &Usage,
    model_behind: Option<&str>,
) -> Cost {
    let tier = reading.speed.as_deref().or(record.service_tier.as_deref());
    let priced_as = |model| {
        prices.price(&Billable {
            provider: &record.provider,
            model,
            at: record.created_at,
            service_tier: tier,
            batch: reading.batch,
            usage,
            several_turns: reading.several_turns,
            side: &reading.side,
            reported: reading.cost,
        })
    };
    let names = [reading.model.as_deref(), model_behind, record.model_requested.as_deref()];
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
    cost
}

/// True if the table has a price of the model's own.
fn is_known(cost: &Cost) -> bool {
    cost.price_id.as_deref().is_some_and(|id| !id.starts_with("default"))
}
