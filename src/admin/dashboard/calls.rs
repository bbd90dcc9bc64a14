//! Calls one by one, as rows of a table. Owns what is said of a call in a row; the page about one call says
//! all of it.

use maud::{Markup, html};

use super::address::{Address, View};
use super::show;
use crate::pricing::CostSource;
use crate::record::{Outcome, Record};
use crate::usage::UsageSource;

/// The table. `live` is where its newest rows are to be had again, for the script.
pub(super) fn table(address: &Address, records: &[Record], live: Option<&str>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Calls" {
            table.calls data-live=[live] {
                caption.sr { "Calls, newest first" }
                thead { tr {
                    @for title in ["Time", "User", "Operation", "Model"] { th scope="col" { (title) } }
                    @for title in ["Input", "Output", "Cost"] { th.n scope="col" { (title) } }
                    th scope="col" { "Outcome" }
                    @for title in ["Duration", "First token"] { th.n scope="col" { (title) } }
                    @if has_session(address) { th scope="col" { "Session" } }
                } }
                tbody { @for record in records { (row(address, record)) } }
            }
        }
    }
}

/// A session's page need not say on each row which session it is.
fn has_session(address: &Address) -> bool {
    !matches!(address.view, View::Session(_))
}

fn row(address: &Address, record: &Record) -> Markup {
    let [input, output, _] = record.estimated_figures();
    let model = record.model.as_deref().or(record.model_requested.as_deref());
    html! {
        tr data-id=(record.id) {
            th scope="row" { a href=(address.to(View::Call(record.id)).href()) {
                (show::short_moment(record.created_at, &address.zone))
            } }
            td { (tagged(address, record.user.as_deref(), View::User)) }
            td { (show::name_or(record.operation.as_deref(), "–")) }
            td { (show::name_or(model, "–")) }
            td.n { (tokens(record.input_tokens, input)) }
            td.n { (tokens(record.output_tokens, output)) }
            td.n { (cost(record)) }
            td { (short_outcome(record)) }
            td.n { (show::span(record.duration_ms)) }
            td.n { (show::span(record.time_to_first_token_ms)) }
            @if has_session(address) { td { (tagged(address, record.session.as_deref(), View::Session)) } }
        }
    }
}

fn tagged(address: &Address, name: Option<&str>, view: fn(String) -> View) -> Markup {
    html! {
        @match name.filter(|name| !name.is_empty()) {
            Some(text) => a href=(address.to(view(text.to_owned())).href()) { (show::name(text)) },
            None => (show::name_or(name, "–")),
        }
    }
}

pub(super) fn tokens(count: Option<u64>, is_estimated: bool) -> Markup {
    html! {
        @match count {
            Some(count) => { @if is_estimated { (show::about()) } (show::count(count)) }
            None => span.none title="unknown" { "–" },
        }
    }
}

/// What a call cost, or why that is not said.
pub(super) fn cost(record: &Record) -> Markup {
    let [.., is_estimated] = record.estimated_figures();
    html! {
        @match (record.cost_usd, record.cost_source) {
            (Some(cost), source) => {
                (show::money(cost, is_estimated))
                @if source == CostSource::Default { " " span.flag title="by the default price" { "default" } }
            }
            (None, _) if record.charged_by.is_some() => span.none { "charged elsewhere" },
            (None, _) if record.usage_source == UsageSource::None && has_failed(record) => span.none { "–" },
            (None, _) => span.flag { "unpriced" },
        }
    }
}

fn has_failed(record: &Record) -> bool {
    record.outcome == Outcome::Refused || record.status.is_some_and(|status| status >= 400)
}

/// How a call ended: its status where there is nothing else to say.
fn short_outcome(record: &Record) -> Markup {
    match (record.outcome, record.status) {
        (Outcome::Completed, Some(status)) => ended(record, &status.to_string()),
        _ => outcome(record),
    }
}

/// How a call ended, in words.
pub(super) fn outcome(record: &Record) -> Markup {
    let words = record.outcome.as_str().replace('_', " ");
    match record.status {
        Some(status) => ended(record, &format!("{status} {words}")),
        None => ended(record, &words),
    }
}

/// In a colour for those who see it.
fn ended(record: &Record, words: &str) -> Markup {
    let is_well = record.outcome == Outcome::Completed
        && record.error.is_none()
        && record.status.is_none_or(|status| status < 400);
    html! {
        span.outcome.bad[!is_well] title=[record.error.as_deref().map(show::label)] { (words) }
    }
}
