//! The figures of a window at a glance, each with how it was before. Owns which figures those are.

use maud::{Markup, html};
use rust_decimal::Decimal;

use super::address::{Address, View};
use super::{show, table};
use crate::figures::{self, Forecast};
use crate::ledger::{GroupKey, Totals};
use crate::units::Usd;

/// The classes that input and output are made of, each a part of nothing else in the list.
#[derive(Debug)]
struct Class {
    name: &'static str,
    tokens: u64,
}

fn classes(totals: &Totals) -> [Class; 5] {
    let cached = totals.cache_read_tokens.saturating_add(totals.cache_write_tokens);
    let class = |name, tokens| Class { name, tokens };
    [
        class("Fresh input", totals.input_tokens.saturating_sub(cached)),
        class("Cache read", totals.cache_read_tokens),
        class("Cache write", totals.cache_write_tokens),
        class("Reasoning", totals.reasoning_tokens),
        class("Other output", totals.output_tokens.saturating_sub(totals.reasoning_tokens)),
    ]
}

/// All cards. `before` are the totals of the window that this one is compared with.
pub(super) fn all(address: &Address, now: &Totals, before: Option<&Totals>) -> Markup {
    let was = |figure: fn(&Totals) -> u64| before.map(|before| Decimal::from(figure(before)));
    let change = |figure: fn(&Totals) -> u64| show::change(figure(now).into(), was(figure));
    let spans = |figure: fn(&Totals) -> Option<u64>| {
        let [now, before] = [figure(now), before.and_then(figure)];
        compared(now.map(Decimal::from), before.map(Decimal::from))
    };
    let first_token = |totals: &Totals| totals.avg_time_to_first_token_ms;
    html! {
        div.cards {
            (card("Cost", &show::sum(now), &html! {
                (show::change(now.cost_usd.decimal(), before.map(|before| before.cost_usd.decimal())))
                @if now.unpriced_requests > 0 { (line(address, "unpriced", now.unpriced_requests)) }
                @if now.default_priced_requests > 0 {
                    (line(address, "by the default price", now.default_priced_requests))
                }
            }))
            (card("Tokens", &table::tokens(now), &html! {
                (change(|totals| totals.total_tokens))
                @if let (true, Some(error)) = (now.estimated_tokens > 0, now.estimate_error) {
                    span.quiet { (figures::short(now.estimated_tokens)) " estimated, ± " (figures::percent(error)) }
                }
            }))
            (card("Calls", &show::count(now.requests), &html! {
                (change(|totals| totals.requests))
                @if now.estimated_requests > 0 { (line(address, "estimated", now.estimated_requests)) }
                @if now.unreported_requests > 0 { (line(address, "without usage", now.unreported_requests)) }
            }))
            (card("Errors", &html! {
                (show::count(now.errors)) " " small { (figures::percent(rate(now).unwrap_or_default())) }
            }, &html! { (show::points(rate(now), before.and_then(rate))) }))
            (card("Cache hit rate", &html! { (show::percent(now.cache_hit_rate)) }, &html! {
                (show::points(now.cache_hit_rate, before.and_then(|before| before.cache_hit_rate)))
                span.quiet { (figures::short(now.cache_read_tokens)) " tokens read" }
            }))
            (card("Latency p50", &html! { (show::span(now.p50_duration_ms)) },
                &spans(|totals| totals.p50_duration_ms)))
            (card("Latency p95", &html! { (show::span(now.p95_duration_ms)) },
                &spans(|totals| totals.p95_duration_ms)))
            (card("First token", &html! { (show::mean_span(now.avg_time_to_first_token_ms)) }, &html! {
                (compared(first_token(now), before.and_then(first_token)))
                span.quiet { "mean of streams" }
            }))
        }
    }
}

/// Where one is unknown there is nothing to compare.
fn compared(now: Option<Decimal>, before: Option<Decimal>) -> Markup {
    now.filter(|_| before.is_some()).map_or_else(Markup::default, |now| show::change(now, before))
}

fn rate(totals: &Totals) -> Option<Decimal> {
    Decimal::from(totals.errors).checked_div(totals.requests.into())
}

fn line(address: &Address, what: &str, count: u64) -> Markup {
    let user = match &address.view {
        View::User(name) => address.to(View::Quality).with("user", name),
        _ => address.to(View::Quality),
    };
    html! { a.flag href=(user.href()) { (figures::short(count)) " " (what) } }
}

pub(super) fn card(title: &str, figure: &Markup, beneath: &Markup) -> Markup {
    html! {
        section.card {
            h2 { (title) }
            p.figure { (figure) }
            div.beneath { (beneath) }
        }
    }
}

/// Tokens by class: a bar, and the figures.
pub(super) fn by_class(now: &Totals, before: Option<&Totals>) -> Markup {
    let classes = classes(now);
    let were = before.map(self::classes);
    let whole = classes.iter().fold(0_u64, |sum, class| sum.saturating_add(class.tokens));
    let audio = now.audio_input_tokens.saturating_add(now.audio_output_tokens);
    let images = now.image_input_tokens.saturating_add(now.image_output_tokens);
    let share = |tokens: u64| figures::share(tokens.into(), whole.into());
    let mut at = Decimal::ZERO;
    let mut parts = Vec::new();
    for class in &classes {
        let width = share(class.tokens) * Decimal::ONE_HUNDRED;
        parts.push((at.round_dp(2), width.round_dp(2)));
        at += width;
    }
    html! {
        section.panel.classes {
            h2 { "Tokens by class" }
            svg.stack viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                @for (index, (x, width)) in parts.iter().enumerate() {
                    rect class=(format!("c{index}")) x=(x) width=(width) height="6" {}
                }
            }
            dl {
                @for (index, class) in classes.iter().enumerate() { div {
                    dt { span class=(format!("dot c{index}")) aria-hidden="true" {} (class.name) }
                    dd {
                        (show::count(class.tokens)) " "
                        span.quiet { (figures::percent(share(class.tokens))) } " "
                        (show::change(
                            class.tokens.into(),
                            were.as_ref().map(|were| were[index].tokens.into()),
                        ))
                    }
                } }
                @if audio > 0 { div {
                    dt { "of these audio" }
                    dd { (show::count(audio)) }
                } }
                @if images > 0 { div {
                    dt { "of these images" }
                    dd { (show::count(images)) }
                } }
            }
        }
    }
}

/// What is known of a month that is not over.
#[derive(Debug)]
pub(super) struct Month {
    pub(super) forecast: Option<Forecast>,
    /// The calls that the forecast is made from: what of them is unknown or estimated, it does not know better.
    pub(super) seen: Totals,
    /// Those of the month itself.
    pub(super) spent: Totals,
}

/// What the month will come to.
pub(super) fn forecast(address: &Address, month: &Month) -> Markup {
    let now = super::window::local(&address.zone, address.now);
    let title = format!("{}, to its end", now.strftime("%B"));
    let days = address.to(View::By(GroupKey::Day));
    html! {
        section.panel.forecast {
            (super::frame::heading(&title, &days))
            @match &month.forecast {
                None => p.quiet { "A forecast needs three whole days after that of the first call." },
                Some(found) => (expected(month, found)),
            }
        }
    }
}

fn expected(month: &Month, found: &Forecast) -> Markup {
    let Month { seen, spent, .. } = month;
    let is_estimated = seen.estimated_requests > 0;
    let sum = Totals { cost_usd: found.expected, ..seen.clone() };
    // Of calls none of which has a known cost there is no range either.
    let is_known = found.expected != Usd::ZERO || !show::is_cost_unknown(&sum);
    html! {
        p.figure { (show::cost(&sum)) }
        @if is_known {
            p {
                "Four of five times between " strong { (show::money(found.low, is_estimated)) }
                " and " strong { (show::money(found.high, is_estimated)) } "."
            }
            (show::bar(figures::share(found.spent.decimal(), found.expected.decimal())))
        }
        p.quiet {
            (show::cost(spent)) " spent so far. From " (found.days) " whole days: a day to come is expected to cost \
            what its weekday did, or the usual day where few of those are known."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timestamp;

    fn said(seen: &Totals, spent: &Totals) -> String {
        let address = Address::home(Timestamp::from_millis(1_795_253_400_000));
        let [low, high] = [spent.cost_usd, seen.cost_usd];
        let forecast = Forecast { spent: low, expected: high, low, high, days: 9 };
        let month = Month { forecast: Some(forecast), seen: seen.clone(), spent: spent.clone() };
        super::forecast(&address, &month).into_string()
    }

    fn totals(cost: &str, unpriced: u64, estimated: u64) -> Totals {
        Totals {
            requests: 9,
            total_tokens: 9,
            cost_usd: cost.parse().unwrap(),
            unpriced_requests: unpriced,
            estimated_requests: estimated,
            ..Totals::default()
        }
    }

    #[test]
    fn a_forecast_of_what_has_no_price_is_not_nothing() {
        let none = said(&totals("0", 9, 0), &totals("0", 4, 0));
        assert!(none.matches("unpriced").count() >= 2 && !none.contains('$'), "{none}");
        let some = said(&totals("5", 2, 0), &totals("3", 1, 0));
        assert_eq!(some.matches("+?").count(), 2, "{some}");
        assert!(said(&totals("0", 0, 0), &totals("0", 0, 0)).contains("$0.00"));
    }

    #[test]
    fn a_forecast_is_marked_where_it_holds_estimates_and_only_there() {
        assert!(!said(&totals("5", 0, 0), &totals("3", 0, 0)).contains('~'));
        assert_eq!(said(&totals("5", 0, 3), &totals("3", 0, 1)).matches('~').count(), 4);
        assert_eq!(said(&totals("5", 0, 3), &totals("3", 0, 0)).matches('~').count(), 3);
    }

    #[test]
    fn tokens_of_a_crafted_ledger_add_up_to_the_largest_number() {
        let all = Totals {
            requests: 1,
            input_tokens: u64::MAX,
            cache_read_tokens: u64::MAX,
            cache_write_tokens: u64::MAX,
            audio_input_tokens: u64::MAX,
            audio_output_tokens: u64::MAX,
            image_input_tokens: u64::MAX,
            image_output_tokens: u64::MAX,
            output_tokens: u64::MAX,
            ..Totals::default()
        };
        assert!(by_class(&all, Some(&all)).into_string().contains("of these audio"));
    }
}
