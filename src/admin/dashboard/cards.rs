//! The figures of a window at a glance, each with how it was before. Owns which figures those are.

use maud::{Markup, html};
use rust_decimal::Decimal;

use super::address::{Address, View};
use super::{show, table};
use crate::figures::{self, Forecast};
use crate::ledger::{GroupKey, Totals};

/// The classes that input and output are made of, each a part of nothing else in the list.
#[derive(Debug)]
struct Class {
    name: &'static str,
    tokens: u64,
}

fn classes(totals: &Totals) -> [Class; 5] {
    let cached = totals.cache_read_tokens + totals.cache_write_tokens;
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
    let whole: u64 = classes.iter().map(|class| class.tokens).sum();
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
                @if now.audio_input_tokens + now.audio_output_tokens > 0 { div {
                    dt { "of these audio" }
                    dd { (show::count(now.audio_input_tokens + now.audio_output_tokens)) }
                } }
                @if now.image_input_tokens + now.image_output_tokens > 0 { div {
                    dt { "of these images" }
                    dd { (show::count(now.image_input_tokens + now.image_output_tokens)) }
                } }
            }
        }
    }
}

/// What the month will come to.
pub(super) fn forecast(address: &Address, forecast: Option<&Forecast>) -> Markup {
    let month = super::window::local(&address.zone, address.now);
    let title = format!("{}, to its end", month.strftime("%B"));
    let days = address.to(View::By(GroupKey::Day));
    html! {
        section.panel.forecast {
            (super::frame::heading(&title, &days))
            @match forecast {
                None => p.quiet { "A forecast needs three whole days of calls." },
                Some(found) => {
                    p.figure { (show::money(found.expected, true)) }
                    p {
                        "Four of five times between " strong { (show::money(found.low, false)) }
                        " and " strong { (show::money(found.high, false)) } "."
                    }
                    (show::bar(figures::share(found.spent.decimal(), found.expected.decimal())))
                    p.quiet {
                        (show::money(found.spent, false)) " spent so far. From "
                        (found.days) " whole days: a day to come is expected to cost what its weekday did."
                    }
                }
            }
        }
    }
}
