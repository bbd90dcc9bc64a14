//! One session: its attempts side by side, and its calls.

use maud::{Markup, html};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::admin::dashboard::chart::{Chart, Series, Shape};
use crate::admin::dashboard::csv::{self, Sheet};
use crate::admin::dashboard::frame::Page;
use crate::admin::dashboard::{Scene, Shown, calls, show, table};
use crate::figures;
use crate::ledger::{AttemptTotals, Filter, QueryError, SessionReport, Totals};

/// Attempts that stand side by side; the CSV has all.
const ATTEMPTS: usize = 40;

/// Calls on the page.
const CALLS: usize = 200;

pub(super) fn show(scene: &Scene<'_>, name: &str) -> Result<Shown, QueryError> {
    let address = scene.address;
    let Some(report) = scene.reader.session(name)? else {
        let message = format!("no call belongs to the session `{}`", show::label(name));
        return Ok(Shown::Unknown(message));
    };
    if address.is_csv {
        return Ok(Shown::Sheet("session", sheet(&report)));
    }
    let filter = Filter { session: Some(name.to_owned()), ..Filter::default() };
    let found = scene.reader.usage(&filter, CALLS, None)?;
    let shown = &report.attempts[..report.attempts.len().min(ATTEMPTS)];
    let body = html! {
        p.quiet {
            (show::moment(report.first_call, &address.zone)) " – "
            (show::moment(report.last_call, &address.zone)) ", "
            (figures::exact(report.totals.requests)) " calls"
            @if let Some(since) = report.rows_since { "; rows before " (since) " have been deleted" }
        }
        section.panel {
            h2 { "Attempts side by side" }
            @if shown.len() < report.attempts.len() {
                p.quiet { "The first " (ATTEMPTS) " of " (report.attempts.len()) "; the CSV has all." }
            }
            (attempts(scene, shown, &report.totals))
            @if shown.len() > 1 { (chart(shown).markup("attempts")) }
        }
        section.panel {
            h2 { "Calls" }
            @if found.next_cursor.is_some() { p.quiet { "The newest " (CALLS) "." } }
            (calls::table(address, &found.records, None))
        }
    };
    let title = format!("Session {name}");
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: false, csv, is_trouble: false }))
}

fn name_of(attempt: &AttemptTotals) -> String {
    attempt.attempt.map_or_else(|| "No number".to_owned(), |number| format!("Attempt {number}"))
}

/// One line of the table: what it says of each attempt, and of the session.
type Line = (&'static str, fn(&Totals) -> Markup);

const LINES: [Line; 9] = [
    ("Calls", |totals| show::count(totals.requests)),
    ("Errors", |totals| show::count(totals.errors)),
    ("Input tokens", |totals| show::count(totals.input_tokens)),
    ("of these cached", |totals| show::count(totals.cache_read_tokens)),
    ("Output tokens", |totals| show::count(totals.output_tokens)),
    ("of these reasoning", |totals| show::count(totals.reasoning_tokens)),
    ("Cost", show::cost),
    ("Duration of the calls", |totals| html! { (show::span(duration(totals))) }),
    ("First token, mean", |totals| html! { (show::mean_span(totals.avg_time_to_first_token_ms)) }),
];

/// The calls' durations added up.
fn duration(totals: &Totals) -> Option<u64> {
    let sum = totals.avg_duration_ms?.checked_mul(Decimal::from(totals.requests))?;
    u64::try_from(sum.round()).ok()
}

fn attempts(scene: &Scene<'_>, attempts: &[AttemptTotals], all: &Totals) -> Markup {
    let zone = &scene.address.zone;
    let words = |words: &[String]| {
        html! {
            @if words.is_empty() { span.none { "–" } }
            @for word in words { div { (show::name(word)) } }
        }
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Attempts side by side" { table.attempts {
            caption.sr { "Attempts side by side" }
            thead { tr {
                td {}
                @for attempt in attempts { th.n scope="col" { (name_of(attempt)) } }
                th.n scope="col" { "All" }
            } }
            tbody {
                tr {
                    th scope="row" { "Model" }
                    @for attempt in attempts { td.n { (words(&attempt.models)) } }
                    td {}
                }
                @for (title, cell) in LINES { tr {
                    th scope="row" { (title) }
                    @for attempt in attempts { td.n { (cell(&attempt.totals)) } }
                    td.n { (cell(all)) }
                } }
                tr {
                    th scope="row" { "Finish reason" }
                    @for attempt in attempts { td.n { (words(&attempt.finish_reasons)) } }
                    td {}
                }
                tr {
                    th scope="row" { "First call" }
                    @for attempt in attempts { td.n { (show::short_moment(attempt.first_call, zone)) } }
                    td {}
                }
            }
        } }
        @if all.estimated_requests > 0 {
            p.quiet { "Tokens of " (table::tokens(all)) " in all; " (figures::exact(all.estimated_requests)) " calls are estimated." }
        }
    }
}

fn chart(attempts: &[AttemptTotals]) -> Chart {
    let series = |name: &str, figure: fn(&Totals) -> u64| Series {
        name: name.to_owned(),
        values: attempts.iter().map(|one| figures::plotted(figure(&one.totals).into())).collect(),
        shown: attempts.iter().map(|one| figures::exact(figure(&one.totals))).collect(),
        x: Vec::new(),
        links: Vec::new(),
    };
    Chart {
        shape: Shape::Beside,
        about: "Tokens of each attempt; the table above has the same figures".to_owned(),
        unit: "",
        x_title: String::new(),
        y_title: "tokens".to_owned(),
        x: attempts.iter().map(name_of).collect(),
        totals: Vec::new(),
        links: Vec::new(),
        series: vec![
            series("input", |totals| totals.input_tokens),
            series("cached", |totals| totals.cache_read_tokens),
            series("output", |totals| totals.output_tokens),
            series("reasoning", |totals| totals.reasoning_tokens),
        ],
    }
}

fn sheet(report: &SessionReport) -> Sheet {
    let names = csv::figures(&Totals::default()).0;
    let own = ["attempt", "first_call", "last_call", "models", "finish_reasons"];
    let mut sheet = Sheet::new(own.into_iter().chain(names.iter().map(String::as_str)));
    for attempt in &report.attempts {
        let own: [Value; 5] = [
            attempt.attempt.into(),
            attempt.first_call.to_string().into(),
            attempt.last_call.to_string().into(),
            attempt.models.join(" ").into(),
            attempt.finish_reasons.join(" ").into(),
        ];
        sheet.push(own.into_iter().chain(csv::values(&attempt.totals)));
    }
    sheet
}
