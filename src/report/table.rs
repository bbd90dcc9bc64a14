//! Groups of calls as rows of figures. Owns what a row shows and how estimates and missing prices are
//! marked in it; knows nothing of pages.
//!
//! Invariant: a sum that holds estimates has a `~` before it, and a cost that is not known is never shown
//! as nothing.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::gather::Breakdown;
use super::sums::Sums;
use super::window::Bucket;
use super::{Figure, Row, RowKind, Table};
use crate::figures::{self, UNKNOWN};
use crate::units::Timestamp;

/// What calls that do not say are listed under.
const ABSENT: &str = "(none)";

/// What a table's shares are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShareOf {
    Cost,
    Tokens,
}

impl ShareOf {
    /// Cost, unless nothing has cost anything.
    pub(super) fn of(whole: &Sums) -> ShareOf {
        if whole.cost_usd.decimal().is_zero() { ShareOf::Tokens } else { ShareOf::Cost }
    }

    fn name(self) -> &'static str {
        match self {
            ShareOf::Cost => "Share of cost",
            ShareOf::Tokens => "Share of tokens",
        }
    }

    fn share(self, part: &Sums, whole: &Sums) -> Decimal {
        match self {
            ShareOf::Cost => figures::share(part.cost_usd.decimal(), whole.cost_usd.decimal()),
            ShareOf::Tokens => figures::share(part.total_tokens.into(), whole.total_tokens.into()),
        }
    }
}

/// The table of a breakdown.
pub(super) fn of_breakdown(breakdown: &Breakdown) -> Table {
    let Breakdown { key, whole, groups, others, is_whole: _, failed } = breakdown;
    let about = failed.as_ref().map(|why| format!("Not shown: {why}."));
    let share_of = ShareOf::of(whole);
    let mut rows: Vec<Row> = groups
        .iter()
        .map(|group| {
            let (kind, name) = match &group.name {
                None => (RowKind::Absent, ABSENT),
                Some(name) if name.is_empty() => (RowKind::Absent, "(empty)"),
                Some(name) => (RowKind::Group, name.as_str()),
            };
            row(kind, name, &group.sums, whole, share_of)
        })
        .collect();
    if let Some(others) = others {
        let more = if others.and_more { "more than " } else { "" };
        let name = format!("{more}{} others", figures::exact(others.count as u64));
        rows.push(row(RowKind::Others, &name, &others.sums, whole, share_of));
    }
    if !rows.is_empty() {
        rows.push(row(RowKind::Total, "Total", whole, whole, share_of));
    }
    let (caption, of) = titles(key);
    Table { caption, of, share_of: share_of.name(), rows, about }
}

/// The table of a trend, as far as it has come.
pub(super) fn of_trend(
    trend: &[(Bucket, Sums)],
    whole: &Sums,
    key: &str,
    made: Timestamp,
) -> Table {
    let share_of = ShareOf::of(whole);
    let passed = trend.iter().filter(|(bucket, sums)| bucket.since <= made || sums.requests > 0);
    let mut rows: Vec<Row> = passed
        .map(|(bucket, sums)| row(RowKind::Group, &bucket.name, sums, whole, share_of))
        .collect();
    rows.push(row(RowKind::Total, "Total", whole, whole, share_of));
    let (caption, of) = titles(key);
    Table { caption, of, share_of: share_of.name(), rows, about: None }
}

/// The caption and the name of the first column.
fn titles(key: &str) -> (String, String) {
    let name = key.strip_prefix("metadata.").unwrap_or(key).replace('_', " ");
    let mut letters = name.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let of: String = first.chain(letters).collect();
    let caption = match key {
        "session" => "The most expensive sessions".to_owned(),
        _ => format!("By {name}"),
    };
    (caption, of)
}

fn row(kind: RowKind, name: &str, sums: &Sums, whole: &Sums, share_of: ShareOf) -> Row {
    let share = share_of.share(sums, whole);
    let thousandths = (share * Decimal::ONE_THOUSAND).round().to_u32();
    Row {
        kind,
        name: name.replace(char::is_control, "\u{fffd}"),
        cost: cost(sums),
        share: figures::percent(share),
        share_thousandths: thousandths.unwrap_or_default(),
        calls: count(sums.requests),
        errors: errors(sums),
        input: tokens(sums.input_tokens, sums),
        cached: tokens(sums.cache_read_tokens, sums),
        output: tokens(sums.output_tokens, sums),
        duration: duration(sums.p50_duration_ms),
    }
}

/// What calls cost, as far as that is known.
pub(super) fn cost(sums: &Sums) -> Figure {
    let known = sums.cost_usd;
    let unpriced = figures::exact(sums.unpriced_requests);
    let exact = figures::dollars(known);
    let shown = format!("{}{}", about(!known.decimal().is_zero(), sums), figures::cents(known));
    // Calls that failed are free as a rule: beside them alone, nothing is known.
    let others = sums.requests.saturating_sub(sums.errors);
    match sums.unpriced_requests {
        0 => Figure { shown, exact, note: None },
        all if all >= others && known.decimal().is_zero() => Figure {
            shown: "not known".to_owned(),
            exact: UNKNOWN.to_owned(),
            note: Some(format!("{unpriced} unpriced")),
        },
        _ => Figure { shown, exact, note: Some(format!("+ {unpriced} unpriced")) },
    }
}

/// Tokens of one class.
pub(super) fn tokens(tokens: u64, sums: &Sums) -> Figure {
    let shown = format!("{}{}", about(tokens > 0, sums), figures::short(tokens));
    Figure { shown, exact: figures::exact(tokens), note: None }
}

/// A count that nobody estimates.
pub(super) fn count(count: u64) -> Figure {
    let exact = figures::exact(count);
    Figure { shown: exact.clone(), exact, note: None }
}

fn errors(sums: &Sums) -> Figure {
    let share =
        sums.share_of_requests(sums.errors).map_or_else(|| UNKNOWN.to_owned(), figures::percent);
    let shown = if sums.errors == 0 { "0".to_owned() } else { share };
    Figure { shown, exact: format!("{} calls", figures::exact(sums.errors)), note: None }
}

/// A span of time, where it is known.
pub(super) fn duration(millis: Option<u64>) -> Figure {
    let exact = |millis| format!("{} ms", figures::exact(millis));
    Figure {
        shown: millis.map_or_else(|| UNKNOWN.to_owned(), figures::span),
        exact: millis.map_or_else(|| UNKNOWN.to_owned(), exact),
        note: None,
    }
}

/// What stands before a sum that holds estimates.
fn about(is_something: bool, sums: &Sums) -> &'static str {
    if is_something && sums.estimated_requests > 0 { "~" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(cost: &str, unpriced: u64, estimated: u64) -> Sums {
        Sums {
            requests: 1000,
            cost_usd: cost.parse().unwrap(),
            unpriced_requests: unpriced,
            estimated_requests: estimated,
            ..Sums::default()
        }
    }

    #[test]
    fn what_is_unpriced_is_never_nothing() {
        let shown = |cost: &str, unpriced, estimated| {
            let figure = super::cost(&sums(cost, unpriced, estimated));
            (figure.shown, figure.note.unwrap_or_default())
        };
        let is = |shown: &str, note: &str| (shown.to_owned(), note.to_owned());
        assert_eq!(shown("0", 0, 3), is("$0.00", ""));
        assert_eq!(shown("0", 1000, 0), is("not known", "1,000 unpriced"));
        assert_eq!(shown("0", 999, 0), is("$0.00", "+ 999 unpriced"));
        assert_eq!(shown("12.345", 0, 0), is("$12.35", ""));
        assert_eq!(shown("12.345", 7, 1), is("~$12.35", "+ 7 unpriced"));
    }

    #[test]
    fn tables_have_titles() {
        let is = |caption: &str, of: &str| (caption.to_owned(), of.to_owned());
        assert_eq!(titles("metadata.cost_center"), is("By cost center", "Cost center"));
        assert_eq!(titles("session"), is("The most expensive sessions", "Session"));
        assert_eq!(titles("metadata.é"), is("By é", "É"));
    }
}
