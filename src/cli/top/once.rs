//! One picture as a result: a table, CSV, or what the admin API answered. For scripts, and for pipes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::Failure;
use super::super::sheet::{Format, Sheet, about, money};
use super::super::source::Source;
use super::TopArgs;
use super::ask::{MINUTE_MS, Seen, look};
use super::figures::{Figures, per_hour};
use super::state::State;
use crate::figures::{cents, short};
use crate::units::{Timestamp, Usd};

pub(super) fn run(args: &TopArgs, source: &Source) -> Result<String, Failure> {
    let now = Timestamp::now();
    let state = args.state(now);
    let seen = look(&state.wish(), now, |report, query| source.ask(report, query))?;
    Ok(match args.format {
        Format::Json => format!("{:#}\n", answer(seen)),
        Format::Csv => sheet(&state, &seen, false).csv(),
        Format::Table => table(&state, &seen),
    })
}

/// The groups with all of their figures, the last minute, and the newest calls.
fn answer(seen: Seen) -> Value {
    let [mut groups, mut minute, mut calls] = seen.answers;
    if let Some(newest) = calls["records"].as_array_mut() {
        newest.truncate(NEWEST);
    }
    json!({
        "window": groups["window"].take(),
        "totals": groups["totals"].take(),
        "last_minute": minute["totals"].take(),
        "groups": groups["groups"].take(),
        "records": calls["records"].take(),
    })
}

/// Calls in the answer for scripts.
const NEWEST: usize = 20;

fn table(state: &State, seen: &Seen) -> String {
    let mut out = String::new();
    if !seen.groups.is_empty() {
        let _ = writeln!(out, "{}\n", sheet(state, seen, true).table());
    }
    let minute = &seen.minute;
    let _ = writeln!(
        out,
        "the last minute: {} calls, {} tokens, {} an hour",
        short(minute.calls),
        short(minute.tokens),
        cents(per_hour(minute.cost, MINUTE_MS))
    );
    out
}

/// For people, or exact.
fn sheet(state: &State, seen: &Seen, is_for_people: bool) -> Sheet {
    let cost = |amount: Usd| {
        let exact = serde_json::from_str(&amount.to_string()).unwrap_or_default();
        if is_for_people { money(&exact) } else { exact }
    };
    let figures = |figures: &Figures| {
        let sum = cost(figures.cost);
        vec![
            json!(figures.calls),
            json!(figures.errors),
            json!(figures.input),
            json!(figures.output),
            if is_for_people && figures.estimated > 0 { about(&sum) } else { sum },
            cost(per_hour(figures.cost, state.window_ms()).rounded()),
            json!(figures.p50_ms),
        ]
    };
    let titles = if is_for_people {
        ["calls", "errors", "input", "output", "cost", "cost/h", "p50 ms"]
    } else {
        [
            "requests",
            "errors",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "cost_usd_per_hour",
            "p50_duration_ms",
        ]
    };
    let is_some = |cell: &Value| cell.as_u64().is_some_and(|count| count > 0);
    let mut sheet = Sheet::new([state.by.as_str()].into_iter().chain(titles))
        .one_line(1, ["p50 ms", "output", "input", "errors", "cost/h"])
        .alarm("errors", is_some);
    for group in &seen.groups {
        let key = group.key.as_ref().map_or(Value::Null, |key| Value::from(key.as_str()));
        sheet.push([key].into_iter().chain(figures(&group.figures)));
    }
    sheet.set_total([Value::from("total")].into_iter().chain(figures(&seen.totals)));
    sheet
}
