//! One user: what they used, with what, for what, when, and what they did last.

use maud::html;

use super::{TOP, all_by, before, listed, overview, panel};
use crate::admin::dashboard::address::View;
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::trend::Trend;
use crate::admin::dashboard::{Scene, Shown, calls, cards, show};
use crate::ledger::{Filter, GroupKey, QueryError};

pub(super) fn show(scene: &Scene<'_>, name: &str) -> Result<Shown, QueryError> {
    let (address, filter) = (scene.address, scene.address.scope());
    let all = Filter { user: Some(name.to_owned()), ..Filter::default() };
    let last = scene.reader.usage(&all, 1, None)?.records.pop();
    let keys = [GroupKey::Model, GroupKey::Operation];
    let (totals, [models, operations]) = listed(scene, &filter, keys.clone().map(|key| vec![key]))?;
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
    let [model, operation] = &keys;
    let all_calls = address.to(View::Calls).with("user", name);
    let sessions = all_by(address, GroupKey::Session);
    let (before, month) = (before(scene)?, overview::month(scene)?);
    let body = html! {
        (last)
        (cards::all(address, &totals, before.as_ref()))
        div.panels {
            (cards::by_class(&totals, before.as_ref()))
            (cards::forecast(address, &month))
        }
        (Trend::read(scene, &filter)?.markup(address, "Over time"))
        div.panels {
            (panel(address, "Models", model, &models, &totals))
            (panel(address, "Operations", operation, &operations, &totals))
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
