//! The overview: what a window came to, how that was before, over time, and by whom and what. Owns which
//! questions that takes, few as they are.

use jiff::ToSpan;
use maud::html;

use super::{TOP, all_by, before, groups, top};
use crate::admin::dashboard::address::View;
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::{FEW, Table, value_of};
use crate::admin::dashboard::trend::Trend;
use crate::admin::dashboard::window::{local, of};
use crate::admin::dashboard::{Scene, Shown, calls, cards};
use crate::admin::params::Window;
use crate::figures::{Forecast, Spent, forecast};
use crate::ledger::{GroupKey, QueryError};

/// Days that a forecast looks back on.
const DAYS: i64 = 36;

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    let (address, filter) = (scene.address, scene.address.scope());
    if address.is_csv {
        return Ok(Shown::Sheet("overview", Trend::read(scene, &filter)?.sheet()));
    }
    let title = "Overview".to_owned();
    let (totals, [models, operations, providers]) =
        groups(scene, &filter, [GroupKey::Model, GroupKey::Operation, GroupKey::Provider])?;
    if totals.requests == 0 {
        return scene.nothing(title);
    }
    let users = match groups(scene, &filter, [GroupKey::User]) {
        // More than can be listed are no reason to show nothing else.
        Err(QueryError::TooManyGroups(_)) => None,
        found => Some(found?.1),
    };
    let trend = Trend::read(scene, &filter)?;
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
    let all_calls = address.to(View::Calls);
    let compare = address.to(View::Compare);
    let (before, forecast) = (before(scene)?, month(scene)?);
    let body = html! {
        (cards::all(address, &totals, before.as_ref()))
        div.panels {
            (cards::by_class(&totals, before.as_ref()))
            (cards::forecast(address, forecast.as_ref()))
        }
        @if address.condition("operation").is_some() {
            p { a.button href=(compare.href()) { "Compare models for this operation" } }
        }
        (trend.markup(address, "Over time"))
        div.panels {
            @match &users {
                Some([users]) => (panel("Users", GroupKey::User, users)),
                None => section.panel { h2 { "Users" } p.quiet { "Too many to list; narrow the window." } },
            }
            (panel("Models", GroupKey::Model, &models))
            (panel("Operations", GroupKey::Operation, &operations))
            (panel("Providers", GroupKey::Provider, &providers))
        }
        section.panel {
            (frame::heading("Newest calls", &all_calls))
            (calls::table(address, &newest, Some(&all_calls.href())))
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

/// What the month will come to, from the days before, whatever the window.
pub(super) fn month(scene: &Scene<'_>) -> Result<Option<Forecast>, QueryError> {
    let address = scene.address;
    let now = local(&address.zone, address.now);
    let start = now.checked_sub(DAYS.days()).and_then(|then| then.start_of_day());
    let Ok(start) = start else { return Ok(None) };
    let filter = address.within(Window { since: Some(of(start)), until: None });
    let (_, [days]) = groups(scene, &filter, [GroupKey::Day])?;
    let spent = days.iter().filter_map(|group| {
        let day = value_of(&GroupKey::Day, &group.key)?.parse().ok()?;
        Some(Spent { day, cost: group.totals.cost_usd })
    });
    Ok(forecast(&spent.collect::<Vec<_>>(), &now))
}
