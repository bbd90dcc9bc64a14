//! What was found, in words: the title, the headline figures and their changes, and how far all of it can
//! be trusted. Owns the wording; knows neither pages nor where figures come from.
//!
//! Invariant: what is estimated, unpriced, without figures or deleted is said before the tables are read.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::gather::{Found, Wish};
use super::sums::Sums;
use super::window::Before;
use super::{Card, Change, Figure, Filter, Report, chart, table};
use crate::figures::{self, Forecast, UNKNOWN};

/// What the report is called, if not by another name.
const TITLE: &str = "LLM usage and cost";

const DAY_MS: i64 = 86_400_000;

/// Puts into words what was found.
pub fn say(wish: &Wish, found: &Found, title: Option<&str>) -> Report {
    let Wish { window, filters, made, .. } = wish;
    let step = window.step();
    let cards = cards(&found.whole, found.before.as_ref(), days(wish));
    let mut report = Report {
        title: clean(title.unwrap_or(TITLE)),
        window: window.name(),
        zone: window.zone_name().to_owned(),
        made: window.zoned(*made).strftime("%-d %B %Y %H:%M").to_string(),
        before: compared(found.before.as_ref()),
        filters: filters.iter().map(filter).collect(),
        notes: notes(wish, found),
        cards,
        trust: trust(&found.whole),
        forecast: found.forecast.as_ref().map(|forecast| ahead(forecast, wish, &found.whole)),
        charts: Vec::new(),
        tables: Vec::new(),
    };
    if found.whole.requests > 0 {
        report.charts = chart::charts(&found.trend, step.key());
        report.tables = found.breakdowns.iter().map(table::of_breakdown).collect();
        report.tables.push(table::of_trend(&found.trend, &found.whole, step.key(), *made));
    }
    report
}

/// Texts of others, without what could steer a terminal or a page.
fn clean(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn filter((name, value): &(String, String)) -> Filter {
    let name = name.strip_prefix("metadata.").unwrap_or(name).replace('_', " ");
    Filter { name: clean(&name), value: clean(value) }
}

fn compared(before: Option<&(Before, Sums)>) -> Option<String> {
    before.filter(|(_, sums)| sums.requests > 0).map(|(before, _)| before.name.clone())
}

fn notes(wish: &Wish, found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    if wish.made < wish.window.until {
        let now = wish.window.zoned(wish.made).strftime("%-d %B %Y %H:%M");
        notes.push(format!("This window is not over: the figures are those up to {now}."));
    }
    if found.whole.requests == 0 {
        notes.push("No call was recorded in this window that meets the conditions.".to_owned());
    } else if found.before.as_ref().is_some_and(|(_, sums)| sums.requests == 0) {
        notes.push("There were no calls in the window before to compare these with.".to_owned());
    }
    for (what, since) in &found.rows_since {
        notes.push(format!(
            "Calls before {since} have been deleted from the ledger, and {what} would have needed them: \
             they are of the calls since then."
        ));
    }
    if found.is_uneven {
        notes.push(
            "Calls were still being recorded while this was made, so totals of one table may differ \
             from those of another by the last few."
                .to_owned(),
        );
    }
    notes
}

/// How much is known from where: sentences that people can rely on.
fn trust(sums: &Sums) -> Vec<String> {
    let of = |calls: u64| {
        let share =
            sums.share_of_requests(calls).map_or_else(|| UNKNOWN.to_owned(), figures::percent);
        let verb = if calls == 1 { "call" } else { "calls" };
        format!("{} {verb} ({share})", figures::exact(calls))
    };
    if sums.requests == 0 {
        return Vec::new();
    }
    let mut said = vec![format!(
        "The tokens of {} are those that the provider reported.",
        of(sums.reported_requests())
    )];
    if sums.estimated_requests > 0 {
        let error = Decimal::from(sums.estimate_error_tokens)
            .checked_div(Decimal::from(sums.estimated_tokens))
            .map_or_else(String::new, |share| {
                format!(", give or take {}", figures::percent(share))
            });
        let part = figures::share(sums.estimated_tokens.into(), sums.total_tokens.into());
        said.push(format!(
            "Of {} the provider did not report them, and tokenmeter estimated them: {} tokens{error}, \
             {} of all. Sums that hold estimates have a ~ before them.",
            of(sums.estimated_requests),
            figures::short(sums.estimated_tokens),
            figures::percent(part),
        ));
    }
    if sums.unreported_requests > 0 {
        said.push(format!(
            "Of {} nobody knows the tokens; they are counted as calls, and add none.",
            of(sums.unreported_requests)
        ));
    }
    if sums.refetched_requests > 0 {
        said.push(format!(
            "{} fetched again what another call is charged for, and add nothing.",
            of(sums.refetched_requests)
        ));
    }
    if sums.unpriced_requests > 0 {
        said.push(format!(
            "{} have no price: what they cost is in no sum, and comes on top.",
            of(sums.unpriced_requests)
        ));
    } else {
        said.push("Every call that may have cost something has a price.".to_owned());
    }
    if sums.default_priced_requests > 0 {
        said.push(format!(
            "{} are priced by the default price, for lack of a better one.",
            of(sums.default_priced_requests)
        ));
    }
    said
}

fn ahead(forecast: &Forecast, wish: &Wish, sums: &Sums) -> String {
    let Forecast { spent, expected, low, high, days } = forecast;
    let so_far = table::cost(&Sums { cost_usd: *spent, ..sums.clone() }).shown;
    let unpriced = if sums.unpriced_requests > 0 { " Unpriced calls come on top." } else { "" };
    format!(
        "By the end of {} it will be about {}, four times in five between {} and {}, judging by the \
         last {days} whole days. So far it is {}.{unpriced}",
        wish.window.name(),
        figures::cents(*expected),
        figures::cents(*low),
        figures::cents(*high),
        so_far,
    )
}

/// How many days of the window have passed.
fn days(wish: &Wish) -> Decimal {
    let passed = wish.window.until.min(wish.made).millis() - wish.window.since.millis();
    Decimal::from(passed) / Decimal::from(DAY_MS)
}

/// The headline.
fn cards(sums: &Sums, before: Option<&(Before, Sums)>, days: Decimal) -> Vec<Card> {
    let before = before.map(|(_, sums)| sums).filter(|sums| sums.requests > 0);
    let calls = Decimal::from(sums.requests);
    let tokens = |name, of: fn(&Sums) -> u64, about: String| Card {
        name,
        figure: table::tokens(of(sums), sums),
        about,
        change: by_share(
            of(sums).into(),
            before.map(|before| (of(before).into(), table::tokens(of(before), before))),
        ),
    };
    let per = |many: Decimal, of: Decimal, one: &str| {
        let mean = many.checked_div(of).and_then(|mean| mean.round().to_u64());
        mean.map_or_else(String::new, |mean| format!("{} {one}", figures::short(mean)))
    };
    let cost_each = sums.cost_usd.decimal().checked_div(calls);
    let cost_each = cost_each.map(|mean| figures::cents(crate::units::Usd::new(mean.round_dp(9))));
    let plain =
        |sums: &Sums| format!("{} read from caches", figures::short(sums.cache_read_tokens));
    let failed = sums.share_of_requests(sums.errors);
    vec![
        Card {
            name: "Cost",
            figure: table::cost(sums),
            about: cost_each.map_or_else(String::new, |mean| format!("{mean} a call")),
            change: by_share(
                sums.cost_usd.decimal(),
                before.map(|before| (before.cost_usd.decimal(), table::cost(before))),
            ),
        },
        Card {
            name: "Calls",
            figure: table::count(sums.requests),
            about: per(calls, days, "a day"),
            change: by_share(
                calls,
                before.map(|before| (before.requests.into(), table::count(before.requests))),
            ),
        },
        Card {
            name: "Errors",
            figure: table::count(sums.errors),
            about: failed
                .map_or_else(String::new, |share| format!("{} of calls", figures::percent(share))),
            change: by_points(
                failed,
                before.and_then(|before| before.share_of_requests(before.errors)),
            ),
        },
        Card {
            name: "Median duration",
            figure: table::duration(sums.p50_duration_ms),
            about: format!("95 % within {}", table::duration(sums.p95_duration_ms).shown),
            change: before.and_then(|before| {
                let (now, was) = (sums.p50_duration_ms?, before.p50_duration_ms?);
                by_share(now.into(), Some((was.into(), table::duration(Some(was)))))
            }),
        },
        tokens("Tokens", |sums| sums.total_tokens, per(sums.total_tokens.into(), calls, "a call")),
        tokens("Input tokens", |sums| sums.input_tokens, plain(sums)),
        tokens(
            "Output tokens",
            |sums| sums.output_tokens,
            format!("{} for reasoning", figures::short(sums.reasoning_tokens)),
        ),
        Card {
            name: "Cache hit rate",
            figure: rate(sums.cache_hit_rate()),
            about: "of the input came from caches".to_owned(),
            change: by_points(sums.cache_hit_rate(), before.and_then(Sums::cache_hit_rate)),
        },
    ]
}

fn rate(share: Option<Decimal>) -> Figure {
    let shown = share.map_or_else(|| UNKNOWN.to_owned(), figures::percent);
    let exact = share.map_or_else(
        || UNKNOWN.to_owned(),
        |share| format!("{} %", (share * Decimal::ONE_HUNDRED).round_dp(4).normalize()),
    );
    Figure { shown, exact, note: None }
}

/// How much more or less, as a share of what was.
fn by_share(now: Decimal, before: Option<(Decimal, Figure)>) -> Option<Change> {
    let (before, was) = before?;
    let change = figures::change(now, before)?;
    Some(Change { shown: signed(change, &figures::percent(change.abs())), was: was.shown })
}

/// How many percentage points more or less: a share of a share misleads.
fn by_points(now: Option<Decimal>, before: Option<Decimal>) -> Option<Change> {
    let (now, before) = (now?, before?);
    let change = ((now - before) * Decimal::ONE_HUNDRED).round_dp(1);
    let shown = format!("{} points", figures::mean(change.abs()));
    Some(Change { shown: signed(change, &shown), was: figures::percent(before) })
}

/// With a sign that is as wide as the other.
fn signed(change: Decimal, shown: &str) -> String {
    match change {
        none if none.is_zero() => "unchanged".to_owned(),
        less if less.is_sign_negative() => format!("\u{2212}{shown}"),
        _ => format!("+{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_signs() {
        let change = |now: i64, before: i64| {
            let before = Some((Decimal::from(before), table::count(0)));
            by_share(Decimal::from(now), before).map(|change| change.shown)
        };
        assert_eq!(change(150, 100).as_deref(), Some("+50 %"));
        assert_eq!(change(50, 100).as_deref(), Some("\u{2212}50 %"));
        assert_eq!(change(100, 100).as_deref(), Some("unchanged"));
        assert_eq!(change(100, 0), None);
        let points = by_points(Some(Decimal::new(25, 3)), Some(Decimal::new(4, 2))).unwrap();
        assert_eq!((points.shown.as_str(), points.was.as_str()), ("\u{2212}1.5 points", "4 %"));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let sums = Sums {
            requests: 1000,
            total_tokens: 10_000,
            estimated_requests: 50,
            estimated_tokens: 500,
            estimate_error_tokens: 20,
            unreported_requests: 1,
            unpriced_requests: 30,
            default_priced_requests: 2,
            ..Sums::default()
        };
        let said = trust(&sums).join(" ");
        for part in [
            "949 calls (94.9 %) are those that the provider reported",
            "Of 50 calls (5 %) the provider did not",
            "500 tokens, give or take 4 %, 5 % of all",
            "Of 1 call (0.1 %) nobody knows",
            "30 calls (3 %) have no price",
            "2 calls (0.2 %) are priced by the default price",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let all = trust(&Sums { requests: 2, ..Sums::default() }).join(" ");
        assert!(all.contains("2 calls (100 %)") && all.contains("has a price"), "{all}");
        assert!(!all.contains('~'), "{all}");
    }
}
