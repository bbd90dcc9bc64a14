//! A report as a page: one file that loads nothing, runs nothing, and prints well. Owns the page's
//! structure; its looks are in `style.css`.
//!
//! Invariant: a text of others is only ever text. `maud` escapes it, and `bdi` keeps its direction within.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Card, Chart, Figure, Report, Row, RowKind, Table};
use crate::figures::UNKNOWN;

const STYLE: &str = include_str!("style.css");

/// What pages may do that have no need of anything: show their own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
pub fn html(report: &Report) -> String {
    let Report { title, window, notes, trust, forecast, charts, tables, .. } = report;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="tokenmeter";
                title { (title) ": " (window) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    @for note in notes { p.note role="note" { (note) } }
                    @if !tables.is_empty() {
                        (cards(report))
                        section.trust {
                            h2 { "How far this can be trusted" }
                            ul { @for sentence in trust { li { (sentence) } } }
                        }
                        @if let Some(forecast) = forecast {
                            section { h2 { "What the month will come to" } p { (forecast) } }
                        }
                        @for chart in charts { (drawing(chart)) }
                        @for table in tables { (sheet(table)) }
                    }
                    footer {
                        p {
                            "Made by tokenmeter on " (report.made) " (" (report.zone) "). "
                            "Money in US dollars. Point at a figure for all of its digits."
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    html! {
        header {
            h1 { bdi { (report.title) } }
            p.window { (report.window) " " span.zone { "(" (report.zone) ")" } }
            @if !report.filters.is_empty() {
                p.filters {
                    "Only calls with "
                    @for (at, filter) in report.filters.iter().enumerate() {
                        @if at > 0 { " and " }
                        bdi { (filter.name) } " " strong { bdi { (filter.value) } }
                    }
                }
            }
        }
    }
}

fn cards(report: &Report) -> Markup {
    html! {
        section.cards aria-label="Totals" {
            @for Card { name, figure, about, change } in &report.cards {
                div.card {
                    h2 { (name) }
                    p.figure { (shown(figure)) }
                    p.about { (about) }
                    @if let Some(change) = change {
                        p.change { (change.shown) " " span.was { "from " (change.was) } }
                    }
                }
            }
        }
        @if let Some(before) = &report.before { p.before { "Changes are from " (before) "." } }
    }
}

fn drawing(chart: &Chart) -> Markup {
    // What names its own language need not say where that is defined; a page should name no address.
    let svg = chart.svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let svg = svg.replacen("<svg ", "<svg role=\"img\" aria-hidden=\"true\" ", 1);
    html! {
        figure {
            figcaption { h2 { (chart.title) } p { (chart.about) } }
            (PreEscaped(svg))
        }
    }
}

fn sheet(table: &Table) -> Markup {
    html! {
        section.sheet {
            table {
                caption { (table.caption) }
                @if !table.rows.is_empty() {
                    thead {
                        tr {
                            th scope="col" { (table.of) }
                            @for column in ["Cost", table.share_of, "Calls", "Errors", "Input", "Cached", "Output", "Median"] {
                                th.number scope="col" { (column) }
                            }
                        }
                    }
                    tbody { @for row in &table.rows { (line(row)) } }
                }
            }
            @if let Some(about) = &table.about { p.note { (about) } }
        }
    }
}

fn line(row: &Row) -> Markup {
    let class = match row.kind {
        RowKind::Group => None,
        RowKind::Absent => Some("absent"),
        RowKind::Others => Some("others"),
        RowKind::Total => Some("total"),
    };
    let width = format!("{}", row.share_thousandths);
    html! {
        tr class=[class] {
            th scope="row" { bdi { (row.name) } }
            (cell(&row.cost))
            td.number.share {
                @if row.kind != RowKind::Total {
                    svg.bar viewBox="0 0 1000 60" preserveAspectRatio="none" aria-hidden="true" {
                        rect width=(width) height="60" {}
                    }
                }
                span.percent { (row.share) }
            }
            @for figure in [&row.calls, &row.errors, &row.input, &row.cached, &row.output, &row.duration] {
                (cell(figure))
            }
        }
    }
}

fn cell(figure: &Figure) -> Markup {
    html! { td.number { (shown(figure)) } }
}

fn shown(figure: &Figure) -> Markup {
    let says_more = figure.exact != figure.shown && figure.exact != UNKNOWN;
    html! {
        span title=[says_more.then_some(&figure.exact)] { (figure.shown) }
        @if let Some(note) = &figure.note { " " small { (note) } }
    }
}
