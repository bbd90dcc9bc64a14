//! What is known of a call's usage and what that costs, written into its row. Owns when a provider
//! says nothing, and what an estimate says of itself; knows nothing of how a call ends.
//!
//! Invariant: what is reported and what is paid are those of the same usage, by the price table.

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::models::{Dialect, Model};
use super::random::{Dice, real, whole};
use super::wording::usage_json;
use crate::estimate::{Method, Unseen};
use crate::pricing::{Billable, Cost, CostSource, PriceBook};
use crate::record::{Charge, EstimateNote, EstimatedSide, Record};
use crate::units::{Timestamp, Usd};
use crate::usage::{Usage, UsageSource};

/// Streams of Azure that nobody asked for their usage, of 100,000.
const UNASKED: u32 = 14_000;

/// Bills of `OpenRouter` by another of its routes than the list has, of 100,000.
const OTHER_ROUTE: u32 = 15_000;

/// Who could say what a call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The whole answer was there.
    All,
    /// It broke off.
    Part,
    /// There was none.
    Nothing,
}

/// Writes usage, estimate and cost.
pub(super) fn settle(
    record: &mut Record,
    model: &Model,
    usage: Usage,
    told: Told,
    prices: &PriceBook,
    dice: &mut Dice,
) {
    let is_unasked =
        record.streaming && model.dialect == Dialect::AzureChat && dice.chance(UNASKED);
    // Gemini repeats its figures in every event.
    let is_reported = match told {
        Told::All => !is_unasked,
        Told::Part => model.dialect == Dialect::Gemini,
        Told::Nothing => false,
    };
    let (usage, said) = match told {
        Told::Nothing => (Usage::default(), None),
        _ if is_reported => (usage.clone(), Some(usage)),
        _ => {
            let (usage, said, note) = estimated(&usage, model, dice);
            record.estimate = Some(note);
            (usage, said)
        }
    };
    let mut cost = price(prices, record, model, &usage);
    if let (Dialect::OpenRouter, Some(computed), Some(_)) = (model.dialect, cost.computed, &said) {
        cost.usd = Some(bill(computed, dice));
        cost.source = CostSource::Provider;
    }
    let took_ms = record.duration_ms.unwrap_or_default();
    let text = said.and_then(|said| usage_json(model.dialect, &said, &cost, took_ms, dice));
    let source = match (&record.estimate, &text) {
        (Some(_), _) => UsageSource::Estimated,
        (None, Some(_)) => UsageSource::Reported,
        (None, None) => UsageSource::None,
    };
    record.set_usage(&usage, source);
    record.usage_json = text.and_then(|text| RawValue::from_string(text).ok());
    record.cost_usd = cost.usd.map(Usd::rounded);
    record.computed_cost_usd = cost.computed.map(Usd::rounded);
    record.cost_source = cost.source;
    record.price_id = cost.price_id;
    if model.dialect == Dialect::Responses && source != UsageSource::None {
        note_charge(record, usage, dice);
    }
}

fn price(prices: &PriceBook, record: &Record, model: &Model, usage: &Usage) -> Cost {
    prices.price(&Billable {
        provider: model.provider,
        model: Some(model.served.unwrap_or(model.requested)),
        at: record.created_at,
        service_tier: record.service_tier.as_deref(),
        batch: false,
        usage,
        several_turns: false,
        side: &[],
        reported: None,
    })
}

/// The usage object of an answer to a call that has no row yet.
pub(super) fn stated(
    dialect: Dialect,
    model: &str,
    usage: &Usage,
    took_ms: u64,
    prices: &PriceBook,
    dice: &mut Dice,
) -> Option<String> {
    let cost = prices.price(&Billable {
        // The only one that says what it charges.
        provider: "openrouter",
        model: Some(model),
        at: Timestamp::now(),
        service_tier: None,
        batch: false,
        usage,
        several_turns: false,
        side: &[],
        reported: None,
    });
    usage_json(dialect, usage, &cost, took_ms, dice)
}

/// What `OpenRouter` charges: the list price, or that of another route.
fn bill(computed: Usd, dice: &mut Dice) -> Usd {
    if !dice.chance(OTHER_ROUTE) {
        return computed;
    }
    let percent = Decimal::from(70 + dice.below(60));
    Usd::new(computed.decimal() * percent / Decimal::ONE_HUNDRED)
}

/// What an estimate has of a usage, the part of it that was reported after all, and how it came about.
fn estimated(
    usage: &Usage,
    model: &Model,
    dice: &mut Dice,
) -> (Usage, Option<Usage>, EstimateNote) {
    let side = |method, error| Some(EstimatedSide { method, error });
    let thinks = model.reasoning > 0.0;
    let unseen = if thinks { vec![Unseen::Reasoning] } else { Vec::new() };
    let said = usage.output.unwrap_or_default() - usage.reasoning.unwrap_or_default();
    let total = usage.input.map(|input| input + said);
    let of_output = |error: f64| whole((real(said) * error).ceil());
    if model.dialect == Dialect::Messages {
        // The stream began with the input's figures.
        let begun = Usage { output: Some(1 + dice.below(8)), reasoning: None, ..usage.clone() };
        let counted = Usage { output: Some(said), total, ..begun.clone() };
        let (output, error_tokens) = (side(Method::Ratio, 0.12), of_output(0.12));
        return (counted, Some(begun), EstimateNote { input: None, output, unseen, error_tokens });
    }
    let counted = Usage { input: usage.input, output: Some(said), total, ..Usage::default() };
    let (method, error) = match model.dialect {
        Dialect::Chat | Dialect::AzureChat | Dialect::Responses => (Method::Bpe, 0.02),
        _ => (Method::Ratio, 0.11),
    };
    let error_tokens = whole((real(total.unwrap_or_default()) * error).ceil());
    let [input, output] = [side(method, error), side(method, error)];
    (counted, None, EstimateNote { input, output, unseen, error_tokens })
}

/// Responses can be fetched again by their id.
fn note_charge(record: &mut Record, usage: Usage, dice: &mut Dice) {
    let mut key = String::with_capacity(64);
    key.push_str(&record.upstream);
    key.push_str("/resp_");
    dice.hex(3, &mut key);
    let cost_usd = record.cost_usd;
    record.charges.push(Charge { key, fetched: false, usage, cost_usd });
}
