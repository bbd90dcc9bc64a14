//! Groups of calls as a table: which figures, in which order, with a bar for the share of the whole and a
//! link into each group. Owns the columns; the figures come from the questions that the API answers too.

use maud::{Markup, html};
use rust_decimal::Decimal;
use serde_json::Value;

use super::address::{Address, View};
use super::show;
use crate::figures;
use crate::ledger::{Group, GroupKey, Order, SortKey, Totals};
use crate::units::Usd;

/// A figure of each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Calls,
    Errors,
    Input,
    CacheRate,
    Output,
    Reasoning,
    Tokens,
    Cost,
    Median,
    Slow,
    FirstToken,
    Estimated,
}

/// The columns of a whole table, and of one among others.
pub(super) const ALL: [Column; 12] = [
    Column::Cost,
    Column::Calls,
    Column::Errors,
    Column::Tokens,
    Column::Input,
    Column::CacheRate,
    Column::Output,
    Column::Reasoning,
    Column::Median,
    Column::Slow,
    Column::FirstToken,
    Column::Estimated,
];
pub(super) const FEW: [Column; 3] = [Column::Cost, Column::Tokens, Column::Calls];

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Calls => "Calls",
            Column::Errors => "Errors",
            Column::Input => "Input",
            Column::CacheRate => "Cached",
            Column::Output => "Output",
            Column::Reasoning => "Reasoning",
            Column::Tokens => "Tokens",
            Column::Cost => "Cost",
            Column::Median => "p50",
            Column::Slow => "p95",
            Column::FirstToken => "First token",
            Column::Estimated => "Estimated",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Column::Calls => "Calls, whatever became of them",
            Column::Errors => "Calls that did not end well, and their share",
            Column::Input => "Input tokens, cached ones included",
            Column::CacheRate => "The part of the input that came from a cache",
            Column::Output => "Output tokens, reasoning included",
            Column::Reasoning => "Reasoning tokens, a part of the output",
            Column::Tokens => "Input and output tokens",
            Column::Cost => "Cost in US dollars",
            Column::Median => "Half of the calls took no longer",
            Column::Slow => "95 of 100 calls took no longer",
            Column::FirstToken => "Mean time to the first token of streams",
            Column::Estimated => "Calls whose tokens are an estimate",
        }
    }

    /// What the API sorts by it under.
    fn word(self) -> &'static str {
        match self {
            Column::Calls => "requests",
            Column::Errors => "errors",
            Column::Input => "input_tokens",
            Column::CacheRate => "cache_hit_rate",
            Column::Output => "output_tokens",
            Column::Reasoning => "reasoning_tokens",
            Column::Tokens => "total_tokens",
            Column::Cost => "cost_usd",
            Column::Median => "p50_duration_ms",
            Column::Slow => "p95_duration_ms",
            Column::FirstToken => "avg_time_to_first_token_ms",
            Column::Estimated => "estimated_requests",
        }
    }

    pub(super) fn cell(self, totals: &Totals) -> Markup {
        match self {
            Column::Calls => show::count(totals.requests),
            Column::Errors => html! {
                (show::count(totals.errors))
                @if totals.errors > 0 { " " span.quiet { (failed(totals)) } }
            },
            Column::Input => show::count(totals.input_tokens),
            Column::CacheRate => html! { (show::percent(totals.cache_hit_rate)) },
            Column::Output => show::count(totals.output_tokens),
            Column::Reasoning => show::count(totals.reasoning_tokens),
            Column::Tokens => tokens(totals),
            Column::Cost => show::cost(totals),
            Column::Median => html! { (show::span(totals.p50_duration_ms)) },
            Column::Slow => html! { (show::span(totals.p95_duration_ms)) },
            Column::FirstToken => html! { (show::mean_span(totals.avg_time_to_first_token_ms)) },
            Column::Estimated => html! {
                (show::count(totals.estimated_requests))
                @if let Some(error) = totals.estimate_error { " " span.quiet { "± " (figures::percent(error)) } }
            },
        }
    }
}

/// Tokens, marked where some are an estimate, and where some are unknown.
pub(super) fn tokens(totals: &Totals) -> Markup {
    html! {
        @if totals.requests > 0 && show::is_unused(totals) {
            span.none title="unknown" { (show::unknown()) }
        } @else {
            @if totals.estimated_requests > 0 { (show::about()) }
            (show::count(totals.total_tokens))
        }
    }
}

fn failed(totals: &Totals) -> String {
    figures::percent(figures::share(totals.errors.into(), totals.requests.into()))
}

/// Groups by one key.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) caption: &'a str,
    pub(super) key: &'a GroupKey,
    pub(super) groups: &'a [Group],
    /// Of all groups, for shares.
    pub(super) totals: &'a Totals,
    pub(super) columns: &'a [Column],
    /// Whether headings sort.
    pub(super) is_sorted: bool,
}

impl Table<'_> {
    pub(super) fn markup(&self, address: &Address) -> Markup {
        let shared = self.shared(address);
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.caption) {
                table {
                    caption.sr { (self.caption) }
                    thead { tr {
                        (self.heading(address, "key", &self.key_title(), "", false))
                        th.share scope="col" title=(format!("Share of the {}", shared.title().to_lowercase())) {
                            "Share" span.sr { " of the " (shared.title().to_lowercase()) }
                        }
                        @for column in self.columns {
                            (self.heading(address, column.word(), column.title(), column.meaning(), true))
                        }
                    } }
                    tbody { @for group in self.groups { tr {
                        th scope="row" { (linked(address, self.key, &group.key)) }
                        td.share { (share_of(shared, &group.totals, self.totals)) }
                        @for column in self.columns { td.n { (column.cell(&group.totals)) } }
                    } } }
                }
            }
        }
    }

    fn key_title(&self) -> String {
        title(self.key)
    }

    /// What the bars are the share of: what is sorted by, if that can be shared.
    fn shared(&self, address: &Address) -> Column {
        match address.sort.filter(|_| self.is_sorted) {
            Some(SortKey::Requests) => Column::Calls,
            Some(SortKey::Errors) => Column::Errors,
            Some(SortKey::InputTokens) => Column::Input,
            Some(SortKey::OutputTokens) => Column::Output,
            Some(SortKey::ReasoningTokens) => Column::Reasoning,
            Some(SortKey::TotalTokens) => Column::Tokens,
            _ if self.totals.cost_usd == Usd::ZERO => Column::Tokens,
            _ => Column::Cost,
        }
    }

    fn heading(
        &self,
        address: &Address,
        word: &str,
        title: &str,
        meaning: &str,
        is_number: bool,
    ) -> Markup {
        let is_now = self.is_sorted && sort_of(address) == word.parse().ok();
        let is_key = word == "key";
        let ascends = address.order.map_or(is_key, |order| order == Order::Ascending);
        let order = (is_now && ascends == is_key).then_some(if is_key {
            Order::Descending
        } else {
            Order::Ascending
        });
        let state = is_now.then_some(if ascends { "ascending" } else { "descending" });
        html! {
            th.n[is_number] scope="col" aria-sort=[state] title=[(!meaning.is_empty()).then_some(meaning)] {
                @if self.is_sorted {
                    a.sort href=(address.sorted(word, order).href()) {
                        (title)
                        @if is_now { span.arrow aria-hidden="true" { @if ascends { " ▲" } @else { " ▼" } } }
                    }
                } @else { (title) }
            }
        }
    }
}

/// What a page of groups is sorted by, by cost where it does not say.
pub(super) fn sort_of(address: &Address) -> Option<SortKey> {
    address.sort.or(Some(match &address.view {
        View::By(key) if key.is_time() => SortKey::Key,
        _ => SortKey::CostUsd,
    }))
}

fn share_of(column: Column, part: &Totals, whole: &Totals) -> Markup {
    let figure = |totals: &Totals| -> Decimal {
        match column {
            Column::Calls => totals.requests.into(),
            Column::Errors => totals.errors.into(),
            Column::Input => totals.input_tokens.into(),
            Column::Output => totals.output_tokens.into(),
            Column::Reasoning => totals.reasoning_tokens.into(),
            Column::Tokens => totals.total_tokens.into(),
            _ => totals.cost_usd.decimal(),
        }
    };
    let share = figures::share(figure(part), figure(whole));
    html! { div { (show::bar(share)) span.quiet { (figures::percent(share)) } } }
}

/// What a page of groups is called.
pub(super) fn plural(key: &GroupKey) -> String {
    let known = match key {
        GroupKey::User => "Users",
        GroupKey::Session => "Sessions",
        GroupKey::Operation => "Operations",
        GroupKey::Model => "Models",
        GroupKey::Provider => "Providers",
        GroupKey::Upstream => "Upstreams",
        GroupKey::Endpoint => "Endpoints",
        other => return format!("By {}", title(other).to_lowercase()),
    };
    known.to_owned()
}

/// A key as people call it.
pub(super) fn title(key: &GroupKey) -> String {
    let word = key.to_string();
    match key {
        GroupKey::Metadata(name) => show::visible(name),
        GroupKey::PriceId => "Price entry".to_owned(),
        _ => {
            let mut words = word.replace('_', " ");
            if let Some(first) = words.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            words
        }
    }
}

/// The value of a key in a group, as text; nothing where its calls have none.
pub(super) fn value_of(key: &GroupKey, values: &serde_json::Map<String, Value>) -> Option<String> {
    match values.get(&key.to_string()) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    }
}

/// A group's name, with the way into it where there is one.
pub(super) fn linked(
    address: &Address,
    key: &GroupKey,
    values: &serde_json::Map<String, Value>,
) -> Markup {
    let value = value_of(key, values);
    let shown = show::name_or(value.as_deref(), &format!("no {}", title(key).to_lowercase()));
    match value.as_deref().and_then(|value| into(address, key, value)) {
        Some(link) => html! { a href=(link.href()) { (shown) } },
        None => shown,
    }
}

/// The page about one group; nothing where no address says it.
pub(super) fn into(address: &Address, key: &GroupKey, value: &str) -> Option<Address> {
    // An empty parameter says nothing.
    if value.is_empty() {
        return None;
    }
    let user = match &address.view {
        View::User(name) => Some(name.clone()),
        _ => None,
    };
    let kept = |link: Address| match &user {
        Some(user) => link.with("user", user),
        None => link,
    };
    match key {
        GroupKey::User => Some(address.to(View::User(value.to_owned()))),
        GroupKey::Session => Some(address.to(View::Session(value.to_owned()))),
        GroupKey::Attempt | GroupKey::Retry => None,
        key if key.is_time() => None,
        key => Some(kept(address.to(View::Overview)).with(&key.to_string(), value)),
    }
}
