//! Calls, newest first, under any conditions, a page at a time; new ones as they come.

use maud::{Markup, html};

use crate::admin::dashboard::address::{Address, CONDITIONS};
use crate::admin::dashboard::frame::Page;
use crate::admin::dashboard::{Scene, Shown, calls, show};
use crate::ledger::QueryError;

/// Calls on a page.
const PAGE: usize = 50;

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    let address = scene.address;
    if address.is_csv {
        // All of them, which may be millions: a download of its own.
        return Ok(Shown::Elsewhere(address.export_href()));
    }
    let found = scene.reader.usage(&address.scope(), PAGE, address.cursor.as_ref())?;
    let title = "Calls".to_owned();
    if found.records.is_empty() && address.cursor.is_none() {
        return scene.nothing(title);
    }
    // Only the first page changes.
    let live = address.cursor.is_none().then(|| address.href());
    let body = html! {
        (conditions(address))
        section.panel {
            div.panel-head {
                p.quiet #live role="status" { "Newest first" }
                div.live-controls {
                    button #fresh type="button" hidden="hidden" {}
                    button #pause type="button" hidden="hidden" aria-pressed="false" { "Pause" }
                }
            }
            @if found.records.is_empty() { p { "There are no more." } } @else {
                (calls::table(address, &found.records, live.as_deref()))
            }
            nav.pages aria-label="Pages" {
                @if address.cursor.is_some() {
                    a href=(address.after(None).href()) { "← Newest" }
                }
                @if let Some(next) = found.next_cursor {
                    a rel="next" href=(address.after(Some(next)).href()) { "Older →" }
                }
            }
        }
    };
    let csv = Some(address.export_href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

/// All conditions at once, as a form.
fn conditions(address: &Address) -> Markup {
    let kept = address.without_conditions().pairs();
    let metadata =
        address.conditions().iter().filter(|(name, _)| !CONDITIONS.contains(&name.as_str()));
    let words = |name: &str| -> &'static [&'static str] {
        match name {
            "usage_source" => &["reported", "estimated", "none"],
            "cost_source" => &["provider", "priced", "default", "free", "none"],
            "outcome" => {
                &["completed", "client_closed", "upstream_failed", "interrupted", "refused"]
            }
            _ => &[],
        }
    };
    html! {
        details.panel.conditions {
            summary { "Conditions" }
            form method="get" {
                @for (name, text) in kept { input type="hidden" name=(name) value=(text); }
                @for (name, text) in metadata { input type="hidden" name=(name) value=(text); }
                div.fields { @for name in CONDITIONS {
                    label {
                        span { (name.replace('_', " ")) }
                        @if words(name).is_empty() {
                            input name=(name) value=[address.condition(name)] autocomplete="off";
                        } @else {
                            select name=(name) {
                                option value="" { "any" }
                                @for word in words(name) {
                                    option value=(word) selected[address.condition(name) == Some(word)] {
                                        (show::label(&word.replace('_', " ")))
                                    }
                                }
                            }
                        }
                    }
                } }
                button type="submit" { "Show" }
            }
        }
    }
}
