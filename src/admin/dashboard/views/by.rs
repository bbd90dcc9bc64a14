//! Calls by one key: all groups, in the order that is asked for, a page at a time.

use maud::html;

use crate::admin::dashboard::csv::Sheet;
use crate::admin::dashboard::frame::Page;
use crate::admin::dashboard::table::{self, ALL, Table};
use crate::admin::dashboard::{Scene, Shown};
use crate::figures;
use crate::ledger::{GroupKey, QueryError, StatsQuery};

/// Groups on a page.
const PAGE: usize = 50;

pub(super) fn show(scene: &Scene<'_>, key: &GroupKey) -> Result<Shown, QueryError> {
    let address = scene.address;
    let stats = scene.reader.stats(&StatsQuery {
        filter: address.scope(),
        group_by: vec![key.clone()],
        zone: address.zone.clone(),
        sort: table::sort_of(address),
        order: address.order,
        limit: (!address.is_csv).then_some(PAGE),
        offset: address.offset,
    })?;
    if address.is_csv {
        let sheet = Sheet::of_groups(std::slice::from_ref(key), &stats.groups);
        return Ok(Shown::Sheet("groups", sheet));
    }
    let title = table::plural(key);
    if stats.totals.requests == 0 {
        return scene.nothing(title);
    }
    let table = Table {
        caption: &title,
        key,
        groups: &stats.groups,
        totals: &stats.totals,
        columns: &ALL,
        is_sorted: true,
    };
    let shown = address.offset + stats.groups.len();
    let body = html! {
        section.panel {
            p.quiet {
                @if let Some(since) = stats.rows_since {
                    "Older rows have been deleted; this counts calls from " (since) " on. "
                }
                @if stats.groups.is_empty() { "There are no more." } @else {
                    (figures::exact(to_u64(address.offset + 1))) " – " (figures::exact(to_u64(shown)))
                    @if stats.next_offset.is_none() { " of " (figures::exact(to_u64(shown))) }
                    ", "
                    (figures::exact(stats.totals.requests)) " calls in all"
                }
            }
            (table.markup(address))
            nav.pages aria-label="Pages" {
                @if address.offset > 0 {
                    a rel="prev" href=(address.from(address.offset.saturating_sub(PAGE)).href()) { "← Before" }
                }
                @if let Some(next) = stats.next_offset {
                    a rel="next" href=(address.from(next).href()) { "Next →" }
                }
            }
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
