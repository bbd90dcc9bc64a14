//! How far figures can be trusted: what is estimated, priced by default or not at all, what failed, and
//! what can be done about each.

use maud::{Markup, html};
use rust_decimal::Decimal;

use super::call::{price_source, token_source};
use super::{List, listed};
use crate::admin::dashboard::address::{Address, View};
use crate::admin::dashboard::cards::card;
use crate::admin::dashboard::csv::Sheet;
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::{linked, title, tokens, value_of};
use crate::admin::dashboard::{Scene, Shown, show};
use crate::estimate::Calibration;
use crate::figures;
use crate::ledger::{Group, GroupKey, QueryError, Totals};
use crate::pricing::CostSource;
use crate::usage::UsageSource;

/// Rows of each table; the CSV has all.
const ROWS: usize = 25;

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    use GroupKey::{CostSource, Error, Model, Outcome, Provider, Status, Upstream, UsageSource};
    let (address, filter) = (scene.address, scene.address.scope());
    let zone = &address.zone;
    if address.is_csv {
        let keys = vec![UsageSource, CostSource, Outcome, Upstream, Provider, Model];
        let found = scene.reader.breakdowns(&filter, std::slice::from_ref(&keys), zone)?;
        let groups = found.groupings.into_iter().next().unwrap_or_default();
        return Ok(Shown::Sheet("quality", Sheet::of_groups(&keys, &groups)));
    }
    let groupings = [
        vec![UsageSource],
        vec![CostSource],
        vec![CostSource, Provider, Model],
        vec![UsageSource, Upstream, Model],
        vec![Outcome, Status],
        vec![Error],
    ];
    let (totals, [usage, costs, prices, sources, outcomes, errors]) =
        listed(scene, &filter, groupings)?;
    let name = "Quality of the figures".to_owned();
    if totals.requests == 0 {
        return scene.nothing(name);
    }
    let learned = scene.reader.calibrations()?;
    let of = |groups: &List, figure: fn(&Totals) -> u64| {
        groups.clone().map(|groups| most(groups, figure))
    };
    let unpriced = of(&prices, |totals| totals.unpriced_requests);
    let by_default = of(&prices, |totals| totals.default_priced_requests);
    let estimated = of(&sources, |totals| totals.estimated_requests);
    let unknown = of(&sources, |totals| totals.unreported_requests);
    let failed = of(&outcomes, |totals| totals.errors);
    let is_told = |group: &Group| value_of(&Error, &group.key).is_some();
    let errors = errors
        .map(|errors| most(errors.into_iter().filter(is_told).collect(), |totals| totals.requests));
    let groups_of = |keys: &[GroupKey], found: &List, figure| Listed {
        table: found.as_deref().map(|groups| groups_of(address, keys, groups, figure)),
        is_empty: found.as_ref().is_some_and(Vec::is_empty),
    };
    let body = html! {
        (cards(&totals))
        (others(address))
        div.panels {
            section.panel { h2 { "Where tokens come from" } (sources_of(address, &UsageSource, &usage.unwrap_or_default(), &totals)) }
            section.panel { h2 { "Where cost comes from" } (sources_of(address, &CostSource, &costs.unwrap_or_default(), &totals)) }
        }
        (section("Unpriced", "No entry of the price table applies, or nothing is known to price. Their cost is in \
            no total. Add an entry for the model to pricing.toml, then run tokenmeter reprice.",
            &groups_of(&[Provider, Model], &unpriced, |totals| totals.unpriced_requests)))
        (section("Priced by default", "The table does not know the model, so the provider's default entry applied. An \
            entry of its own makes the cost right; tokenmeter reprice does it for calls that are past.",
            &groups_of(&[Provider, Model], &by_default, |totals| totals.default_priced_requests)))
        (section("Estimated", "The provider did not report usage: a stream without it, a call that was cut off, a \
            server that never says. With stream_usage = \"inject\" on the upstream, streams of the OpenAI dialect do.",
            &groups_of(&[Upstream, Model], &estimated, |totals| totals.estimated_requests)))
        (section("Without usage", "Calls whose tokens nobody knows, most of them refused or failed before there were any.",
            &groups_of(&[Upstream, Model], &unknown, |totals| totals.unreported_requests)))
        (section("Not ended well", "By outcome and status.",
            &groups_of(&[Outcome, Status], &failed, |totals| totals.errors)))
        (section("Errors", "What was said of calls that failed.",
            &groups_of(&[Error], &errors, |totals| totals.requests)))
        (section("What reported usage has taught", "A small sample of calls is estimated although usage is reported, to \
            learn how far off estimates of a model are.", &Listed { table: Some(calibrations(&learned)), is_empty: learned.is_empty() }))
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title: name, body, is_scoped: true, csv, is_trouble: false }))
}

/// The groups that have most of a figure.
fn most(mut groups: Vec<Group>, figure: fn(&Totals) -> u64) -> Vec<Group> {
    groups.retain(|group| figure(&group.totals) > 0);
    groups.sort_by_key(|group| std::cmp::Reverse(figure(&group.totals)));
    groups.truncate(ROWS);
    groups
}

/// Tables by what has no place among the views.
fn others(address: &Address) -> Markup {
    let keys = [
        GroupKey::PriceId,
        GroupKey::Outcome,
        GroupKey::Status,
        GroupKey::FinishReason,
        GroupKey::Error,
        GroupKey::Attempt,
        GroupKey::Retry,
    ];
    html! {
        p { "All figures by " @for (index, key) in keys.into_iter().enumerate() {
            @if index > 0 { " · " }
            a href=(address.to(View::By(key.clone())).href()) { (title(&key).to_lowercase()) }
        } }
    }
}

fn cards(totals: &Totals) -> Markup {
    let share =
        |count: u64| figures::percent(figures::share(Decimal::from(count), totals.requests.into()));
    let of = |title: &str, count: u64, beneath: &str| {
        card(
            title,
            &html! { (show::count(count)) },
            &html! {
                span.quiet { (share(count)) " of calls" }
                @if !beneath.is_empty() { span.quiet { (beneath) } }
            },
        )
    };
    let error = totals.estimate_error.map(|error| format!("tokens ± {}", figures::percent(error)));
    html! {
        div.cards.six {
            (of("Estimated", totals.estimated_requests, error.as_deref().unwrap_or_default()))
            (of("Without usage", totals.unreported_requests, ""))
            (of("Unpriced", totals.unpriced_requests, "cost unknown"))
            (of("Default price", totals.default_priced_requests, ""))
            (of("Fetched again", totals.refetched_requests, "charged once"))
            (of("Not ended well", totals.errors, ""))
        }
    }
}

/// A table, unless it would be too long.
struct Listed {
    table: Option<Markup>,
    is_empty: bool,
}

fn section(title: &str, why: &str, listed: &Listed) -> Markup {
    html! {
        section.panel {
            h2 { (title) }
            @if listed.is_empty { p.quiet { "None in this window." } } @else {
                p.quiet { (why) }
                @match &listed.table {
                    Some(table) => (table),
                    None => p.quiet { (frame::TOO_MANY) },
                }
            }
        }
    }
}

/// Groups by source, each with what it means.
fn sources_of(address: &Address, key: &GroupKey, groups: &[Group], totals: &Totals) -> Markup {
    let meaning = |group: &Group| {
        let word = value_of(key, &group.key).unwrap_or_default();
        let usages = [UsageSource::Reported, UsageSource::Estimated, UsageSource::None];
        let costs = [
            CostSource::Provider,
            CostSource::Priced,
            CostSource::Default,
            CostSource::Free,
            CostSource::None,
        ];
        match key {
            GroupKey::UsageSource => {
                usages.into_iter().find(|one| one.as_str() == word).map(token_source)
            }
            _ => costs.into_iter().find(|one| one.as_str() == word).map(price_source),
        }
    };
    html! {
        div.scroll { table {
            caption.sr { "Calls by source" }
            thead { tr {
                th scope="col" { "Source" } th.n scope="col" { "Calls" } th scope="col" { span.sr { "Share" } }
                th.n scope="col" { "Cost" }
            } }
            tbody { @for group in groups { tr {
                th scope="row" {
                    (linked(address, key, &group.key))
                    div.quiet { (meaning(group).unwrap_or_default()) }
                }
                td.n { (show::count(group.totals.requests)) }
                td.share { div { (show::bar(figures::share(group.totals.requests.into(), totals.requests.into()))) } }
                td.n { (show::cost(&group.totals)) }
            } } }
        } }
    }
}

/// Groups by several keys, with the figure that the table is about, and the calls behind each.
fn groups_of(
    address: &Address,
    keys: &[GroupKey],
    groups: &[Group],
    figure: fn(&Totals) -> u64,
) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Calls by what they have in common" { table {
            caption.sr { "Calls by what they have in common" }
            thead { tr {
                @for key in keys { th scope="col" { (title(key)) } }
                th.n scope="col" { "Calls" } th.n scope="col" { "Tokens" } th.n scope="col" { "Cost" }
                th scope="col" { span.sr { "Look" } }
            } }
            tbody { @for group in groups { tr {
                @for (index, key) in keys.iter().enumerate() {
                    @if index == 0 { th scope="row" { (named(key, group)) } } @else { td { (named(key, group)) } }
                }
                td.n { (show::count(figure(&group.totals))) }
                td.n { (tokens(&group.totals)) }
                td.n { (show::cost(&group.totals)) }
                td { a href=(calls(address, group).href()) { "calls" } }
            } } }
        } }
    }
}

fn named(key: &GroupKey, group: &Group) -> Markup {
    show::name_or(value_of(key, &group.key).as_deref(), "–")
}

/// The calls of a group, as far as conditions can say which.
fn calls(address: &Address, group: &Group) -> Address {
    group.key.iter().fold(address.to(View::Calls), |link, (name, value)| match value {
        serde_json::Value::String(text) if !text.is_empty() => link.with(name, text),
        serde_json::Value::Number(number) => link.with(name, &number.to_string()),
        _ => link,
    })
}

fn calibrations(learned: &[Calibration]) -> Markup {
    let share = |share: f64| {
        let share = Decimal::from_f64_retain(share).unwrap_or_default();
        figures::percent(share.round_dp(4))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Estimates compared with reports" { table {
            caption.sr { "Estimates compared with reports" }
            thead { tr {
                @for title in ["Provider", "Model", "Side"] { th scope="col" { (title) } }
                @for title in ["Compared", "Too low by", "Still off by"] { th.n scope="col" { (title) } }
            } }
            tbody { @for one in learned.iter().take(ROWS * 4) { tr {
                th scope="row" { (show::name(&one.provider)) }
                td { (show::name(&one.model)) }
                td { (one.side.as_str()) }
                td.n { (show::count(one.samples)) }
                td.n { (share(one.bias)) }
                td.n { (share(one.error)) }
            } } }
        } }
    }
}
