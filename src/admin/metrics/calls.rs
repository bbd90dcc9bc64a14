//! Calls as the ledger has them: how many, what they used, what that cost, how long they took. Owns the names of
//! these series.

use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::page::{Labels, Page};
use crate::ledger::Recorded;
use crate::telemetry::{Calls, Histogram, Latency, Told};

/// The classes that every series of tokens has; others only where there are some.
const ALWAYS: [&str; 3] = ["input", "output", "total"];

pub(super) fn write(page: &mut Page<'_>, calls: &Calls) -> fmt::Result {
    let names: Vec<&str> = calls.labels().collect();
    let sets: Vec<(Labels<'_>, Told)> =
        calls.sets().map(|(values, figures)| (labels(&names, values), figures.told())).collect();
    ended(page, calls, &names)?;
    of_kind(page, &sets)?;
    tokens(page, &sets)?;
    // Prometheus knows no exact numbers.
    let cost = |told: &Told| {
        let exact = Decimal::try_from_i128_with_scale(told.recorded.cost_nanos, 9);
        exact.unwrap_or_default().to_f64().unwrap_or_default()
    };
    let costs = sets.iter().map(|(labels, told)| (labels.clone(), cost(told)));
    page.counters_of("cost_usd", "What recorded calls cost, in US dollars", costs)?;
    page.gauge(
        "label_sets",
        "Combinations of labels that calls are told apart by",
        count(sets.len()),
    )?;
    let help = "Calls counted under `other`, because there are too many combinations";
    page.counter("label_sets_overflowed_calls", help, calls.overflowed())?;
    let help = "The same of their durations, of which fewer combinations are kept";
    page.counter("latency_sets_overflowed_calls", help, calls.latency_overflowed())?;
    durations(page, calls)
}

/// By how they ended.
fn ended(page: &mut Page<'_>, calls: &Calls, names: &[&str]) -> fmt::Result {
    let each = calls.sets().flat_map(|(values, figures)| {
        figures.ended.iter().map(move |(outcome, status, count)| {
            let mut labels = labels(names, values);
            labels.extend([("outcome", outcome.as_str()), ("status", *status)]);
            (labels, *count)
        })
    });
    page.counters("calls", "Calls recorded, by how they ended", each)
}

/// How far figures can be trusted.
fn of_kind(page: &mut Page<'_>, sets: &[(Labels<'_>, Told)]) -> fmt::Result {
    type Figure = fn(&Told) -> u64;
    let kinds: [(&str, &str, Figure); 5] = [
        ("calls_failed", "Recorded calls that did not end well", |told| told.failed),
        ("calls_estimated", "Recorded calls whose tokens are estimated", |told| told.estimated),
        ("calls_unreported", "Recorded calls whose tokens nobody knows", |told| told.unreported),
        ("calls_unpriced", "Recorded calls that may have cost what no figure holds", |told| {
            told.unpriced
        }),
        ("calls_default_priced", "Recorded calls priced by the default entry", |told| {
            told.default_priced
        }),
    ];
    for (name, help, figure) in kinds {
        let each = sets.iter().map(|(labels, told)| (labels.clone(), figure(told)));
        page.counters(name, help, each)?;
    }
    Ok(())
}

fn tokens(page: &mut Page<'_>, sets: &[(Labels<'_>, Told)]) -> fmt::Result {
    let each = sets.iter().flat_map(|(labels, told)| {
        let classes = Recorded::CLASSES.into_iter().zip(told.recorded.tokens);
        let shown = classes.filter(|(class, tokens)| *tokens > 0 || ALWAYS.contains(class));
        shown.map(|(class, tokens)| {
            let mut labels = labels.clone();
            labels.push(("class", class));
            (labels, u64::try_from(tokens).unwrap_or_default())
        })
    });
    let help = "Tokens recorded; total is input and output, other classes are parts of these";
    page.counters("tokens", help, each)
}

fn durations(page: &mut Page<'_>, calls: &Calls) -> fmt::Result {
    type Part = fn(&Latency) -> &Histogram;
    let names: Vec<&str> = calls.latency_labels().collect();
    let parts: [(&str, &str, Part); 4] = [
        ("call_duration_seconds", "From a request's head to the end of its answer", |latency| {
            &latency.duration
        }),
        ("time_to_first_byte_seconds", "From a request's head to its answer's", |latency| {
            &latency.first_byte
        }),
        ("time_to_first_token_seconds", "The same to the first token of a stream", |latency| {
            &latency.first_token
        }),
        ("time_per_output_token_seconds", "Of each token of a stream after the first", |latency| {
            &latency.per_token
        }),
    ];
    for (name, help, part) in parts {
        let each = calls.latency().map(|(values, latency)| (labels(&names, values), part(latency)));
        page.histograms(name, help, each.filter(|(_, histogram)| histogram.count() > 0))?;
    }
    Ok(())
}

fn labels<'l>(names: &[&'l str], values: &'l [String]) -> Labels<'l> {
    names.iter().copied().zip(values.iter().map(String::as_str)).collect()
}

fn count(many: usize) -> u64 {
    many as u64
}
