//! One user: what they used, with what, for what, when, and what they did last.

use maud::html;

use super::{TOP, all_by, before, groups, overview, top};
use crate::admin::dashboard::address::View;
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::{FEW, Table};
use crate::admin::dashboard::trend::Trend;
use crate::admin::dashboard::{Scene, Shown, calls, cards, show};
use crate::ledger::{Filter, GroupKey, QueryError};

pub(super) fn show(scene: &Scene<'_>, name: &str) -> Result<Shown, QueryError> {
    let (address, filter) = (scene.address, scene.address.scope());
    let all = Filter { user: Some(name.to_owned()), ..Filter::default() };
    let last = scene.reader.usage(&all, 1, None)?.records.pop();
    let (totals, [models, operations]) =
        groups(scene, &filter, [GroupKey::Model, GroupKey::Operation])?;
    if last.is_none() && totals.requests == 0 {
        return Ok(Shown::Unknown(format!("no call belongs to the user `{}`", show::label(name))));
    }
    if address.is_csv {
        return Ok(Shown::Sheet("user", Trend::read(scene, &filter)?.sheet()));
    }
    let title = format!("User {name}");
    let last = html! {
        p.quiet { @if let Some(last) = &last {
            "Last active " (show::moment(last.created_at, &address.zone))
        } @else { "Last active before rows that old were deleted" } }
    };
    if totals.requests == 0 {
        let body = html! { (last) (frame::nothing(scene, false)) };
        return Ok(Shown::Page(Page {
            title,
            body,
            is_scoped: true,
            csv: None,
            is_trouble: false,
        }));
    }
    let newest = scene.reader.usage(&filter, TOP, None)?.records;
    let panel = |caption, key: GroupKey, found: &_| {
        let table = Table {
            caption,
            key: &key,
            groups: &top(found),
            totals: &totals,
            columns: &FEW,
            is_sorted: false,
        };
        frame::panel(address, &table, &all_by(address, key.clone()))
    };
    let all_calls = address.to(View::Calls).with("user", name);
    let sessions = all_by(address, GroupKey::Session);
    let (before, forecast) = (before(scene)?, overview::month(scene)?);
    let body = html! {
        (last)
        (cards::all(address, &totals, before.as_ref()))
        div.panels {
            (cards::by_class(&totals, before.as_ref()))
            (cards::forecast(address, forecast.as_ref()))
        }
        (Trend::read(scene, &filter)?.markup(address, "Over time"))
        div.panels {
            (panel("Models", GroupKey::Model, &models))
            (panel("Operations", GroupKey::Operation, &operations))
        }
        p { a.button href=(sessions.href()) { "Sessions of this user" } }
        section.panel {
            (frame::heading("Newest calls", &all_calls))
            (calls::table(address, &newest, Some(&all_calls.href())))
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}
