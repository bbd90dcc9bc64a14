//! One call: all that is known of it, and where each figure comes from.

use maud::{Markup, html};
use serde_json::Value;

use crate::admin::dashboard::address::{Address, View};
use crate::admin::dashboard::frame::Page;
use crate::admin::dashboard::{Scene, Shown, calls, cards, show};
use crate::admin::question;
use crate::archive::{Format, Writer};
use crate::estimate::{Method, Unseen};
use crate::figures;
use crate::ledger::QueryError;
use crate::pricing::CostSource;
use crate::record::{CallId, EstimateNote, Record};
use crate::usage::UsageSource;

pub(super) fn show(scene: &Scene<'_>, id: CallId) -> Result<Shown, QueryError> {
    let address = scene.address;
    let Some(record) = scene.reader.one(&id)? else {
        return Ok(Shown::Unknown(format!("there is no call {id}")));
    };
    if address.is_csv {
        return Ok(Shown::File("call", file(&record)));
    }
    let [.., cost_is_estimated] = record.estimated_figures();
    let body = html! {
        p.quiet { code { (record.id) } " · " (show::moment(record.created_at, &address.zone)) }
        div.cards {
            (cards::card("Cost", &html! {
                @match record.cost_usd {
                    Some(cost) => (show::money(cost, cost_is_estimated)),
                    None => (calls::cost(&record)),
                }
            }, &html! { span.quiet { (price_source(record.cost_source)) } }))
            (cards::card("Tokens", &calls::tokens(record.total_tokens,
                record.usage_source == UsageSource::Estimated),
                &html! { span.quiet { (token_source(record.usage_source)) } }))
            (cards::card("Outcome", &calls::outcome(&record), &html! {
                @if let Some(reason) = &record.finish_reason { span.quiet { "finished: " (show::name(reason)) } }
            }))
            (cards::card("Duration", &html! { (show::span(record.duration_ms)) }, &html! {
                span.quiet { "first byte " (show::span(record.time_to_first_byte_ms)) }
                span.quiet { "first token " (show::span(record.time_to_first_token_ms)) }
            }))
        }
        @if let Some(error) = &record.error {
            section.panel { h2 { "Error" } p.bad { (show::name(error)) } }
        }
        div.panels {
            div.stacked {
                section.panel { h2 { "Tokens" } (tokens(&record)) }
                @if let Some(note) = &record.estimate {
                    section.panel { h2 { "How it was estimated" } (estimate(note)) }
                }
            }
            div.stacked {
                section.panel { h2 { "Cost" } (cost(&record)) }
                section.panel { h2 { "Who and what" } (who(address, &record)) }
            }
        }
        @if let Some(usage) = &record.usage_json {
            section.panel { h2 { "Usage as the provider reported it" } pre tabindex="0" { (pretty(usage.get())) } }
        }
        section.panel { details {
            summary { "All columns" }
            (columns(&record))
        } }
    };
    let title = "Call".to_owned();
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: false, csv, is_trouble: false }))
}

fn file(record: &Record) -> Vec<u8> {
    let write = || {
        let mut out = Writer::new(Format::Csv, Vec::new())?;
        out.write(record)?;
        out.finish()
    };
    // Memory takes everything.
    write().unwrap_or_default()
}

fn tokens(record: &Record) -> Markup {
    let [input, output, _] = record.estimated_figures();
    let whole = record.total_tokens.unwrap_or_default();
    let rows = [
        ("Input", record.input_tokens, input, false),
        ("read from a cache", record.cache_read_tokens, input, true),
        ("written to a cache", record.cache_write_tokens, input, true),
        ("audio", record.audio_input_tokens, input, true),
        ("images", record.image_input_tokens, input, true),
        ("Output", record.output_tokens, output, false),
        ("reasoning", record.reasoning_tokens, output, true),
        ("audio", record.audio_output_tokens, output, true),
        ("images", record.image_output_tokens, output, true),
        ("Total", record.total_tokens, input || output, false),
    ];
    html! {
        div.scroll { table {
            caption.sr { "Tokens by class" }
            thead { tr { th scope="col" { "Class" } th.n scope="col" { "Tokens" } th scope="col" { span.sr { "Share" } } } }
            tbody { @for (name, count, is_estimated, is_part) in rows {
                @if !is_part || count.is_some() { tr {
                    th.part[is_part] scope="row" { @if is_part { "of these " } (name) }
                    td.n {
                        @match count {
                            Some(count) => { @if is_estimated { (show::about()) } (figures::exact(count)) }
                            None => span.none { "unknown" },
                        }
                    }
                    td.share { div { (show::bar(figures::share(count.unwrap_or_default().into(), whole.into()))) } }
                } }
            } }
        } }
    }
}

fn cost(record: &Record) -> Markup {
    let exact = |cost: Option<crate::units::Usd>| cost.map_or_else(show::unknown, figures::dollars);
    html! {
        dl.facts {
            div { dt { "Cost" } dd { (exact(record.cost_usd)) } }
            div { dt { "Comes from" } dd { code { (record.cost_source.as_str()) } ": " (price_source(record.cost_source)) } }
            div { dt { "By the price table" } dd { (exact(record.computed_cost_usd)) } }
            div { dt { "Price entry" } dd { (show::name_or(record.price_id.as_deref(), "none applied")) } }
            div { dt { "Service tier" } dd { (show::name_or(record.service_tier.as_deref(), "–")) } }
            @if let Some(other) = record.charged_by {
                div { dt { "Charged by" } dd { code { (other) } ", which had the same answer" } }
            }
        }
    }
}

fn who(address: &Address, record: &Record) -> Markup {
    let user = record.user.as_deref();
    let session = record.session.as_deref();
    html! {
        dl.facts {
            div { dt { "User" } dd { @match user.filter(|name| !name.is_empty()) {
                Some(name) => a href=(address.to(View::User(name.to_owned())).href()) { (show::name(name)) },
                None => (show::name_or(user, "not said")),
            } } }
            div { dt { "Session" } dd { @match session.filter(|name| !name.is_empty()) {
                Some(name) => a href=(address.to(View::Session(name.to_owned())).href()) { (show::name(name)) },
                None => (show::name_or(session, "not said")),
            } } }
            div { dt { "Operation" } dd { (show::name_or(record.operation.as_deref(), "not said")) } }
            div { dt { "Attempt" } dd { @match record.attempt { Some(attempt) => (attempt), None => span.none { "not said" } } } }
            @if let Some(metadata) = &record.metadata { @for (name, value) in metadata {
                div { dt { (show::name(name)) } dd { (show::name(&plain(value))) } }
            } }
            div { dt { "Model asked for" } dd { (show::name_or(record.model_requested.as_deref(), "unknown")) } }
            div { dt { "Model that answered" } dd { (show::name_or(record.model.as_deref(), "not said")) } }
            div { dt { "Provider, upstream" } dd { (show::name(&record.provider)) ", " (show::name(&record.upstream)) } }
            div { dt { "Endpoint" } dd { (show::name(&record.endpoint)) } }
            div { dt { "Request" } dd { (show::name(&record.method)) " " (show::name(&record.path)) @if record.streaming { ", streamed" } } }
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn estimate(note: &EstimateNote) -> Markup {
    let method = |method: Method| match method {
        Method::Bpe => "counted by the model's own vocabulary",
        Method::Ratio => "counted by another vocabulary, times a known ratio",
        Method::Bytes => "by the number of bytes",
    };
    html! {
        dl.facts {
            @for (name, side) in [("Input", &note.input), ("Output", &note.output)] {
                div { dt { (name) } dd {
                    @match side {
                        Some(side) => { (method(side.method)) ", ± " (figures::percent(share(side.error))) },
                        None => "reported",
                    }
                } }
            }
            div { dt { "To be expected" } dd { "± " (figures::exact(note.error_tokens)) " tokens" } }
            @if !note.unseen.is_empty() { div { dt { "Not in the figures" } dd {
                ul { @for unseen in &note.unseen { li { (unseen_words(*unseen)) } } }
            } } }
        }
    }
}

/// An error that no decimal holds is more than anyone can use.
fn share(error: f64) -> rust_decimal::Decimal {
    rust_decimal::Decimal::from_f64_retain(error).unwrap_or(rust_decimal::Decimal::ONE)
}

fn unseen_words(unseen: Unseen) -> &'static str {
    match unseen {
        Unseen::Reasoning => "reasoning that is billed and not shown",
        Unseen::History => "history that the provider holds",
        Unseen::ServerTools => "what the provider's own tools read and wrote",
        Unseen::Media => "files or media named by an id or a URL",
        Unseen::Length => "what lies beyond the length that is looked at",
        Unseen::Request => "a part of the request that could not be read",
        Unseen::Rest => "what was generated after the call was cut off",
        Unseen::Answer => "what was generated: it was not seen",
    }
}

/// What a source of tokens means.
pub(super) fn token_source(source: UsageSource) -> &'static str {
    match source {
        UsageSource::Reported => "as the provider reported them",
        UsageSource::Estimated => "estimated, because the provider did not report them",
        UsageSource::None => "nobody knows them, or there were none",
    }
}

/// What a source of cost means.
pub(super) fn price_source(source: CostSource) -> &'static str {
    match source {
        CostSource::Provider => "the provider's own figure",
        CostSource::Priced => "computed by an entry of the price table",
        CostSource::Default => "computed by the default entry, for lack of a better one",
        CostSource::Free => "costs nothing: a local server, or a free model",
        CostSource::None => "unpriced: no entry applies, or nothing is known to price",
    }
}

fn pretty(json: &str) -> String {
    let value: Option<Value> = serde_json::from_str(json).ok();
    let text = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = text.unwrap_or_else(|| json.to_owned());
    text.lines().map(show::visible).collect::<Vec<_>>().join("\n")
}

fn columns(record: &Record) -> Markup {
    let Value::Object(row) = question::row(record) else { return html! {} };
    html! {
        div.scroll tabindex="0" role="region" aria-label="All columns" { table.columns {
            caption.sr { "All columns of the ledger" }
            tbody { @for (name, value) in row { tr {
                th scope="row" { code { (name) } }
                td { @if value.is_null() { span.none { "unknown" } } @else { (show::name(&plain(&value))) } }
            } } }
        } }
    }
}
