//! The overview: what a window came to, how that was before, over time, and by whom and what. Owns which
//! questions that takes, few as they are.

use jiff::ToSpan;
use jiff::civil::Date;
use maud::html;

use super::{TOP, before, groups, listed, panel};
use crate::admin::dashboard::address::View;
use crate::admin::dashboard::cards::Month;
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::value_of;
use crate::admin::dashboard::trend::Trend;
use crate::admin::dashboard::window::{local, of};
use crate::admin::dashboard::{Scene, Shown, calls, cards, sums};
use crate::admin::params::Window;
use crate::figures::{Spent, forecast};
use crate::ledger::{Group, GroupKey, QueryError, Totals};

/// Days that a forecast looks back on.
const DAYS: i64 = 36;

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    let (address, filter) = (scene.address, scene.address.scope());
    if address.is_csv {
        return Ok(Shown::Sheet("overview", Trend::read(scene, &filter)?.sheet()));
    }
    let title = "Overview".to_owned();
    let keys = [GroupKey::User, GroupKey::Model, GroupKey::Operation, GroupKey::Provider];
    let (totals, found) = listed(scene, &filter, keys.clone().map(|key| vec![key]))?;
    if totals.requests == 0 {
        return scene.nothing(title);
    }
    let trend = Trend::read(scene, &filter)?;
    let newest = scene.reader.usage(&filter, TOP, None)?.records;
    let captions = ["Users", "Models", "Operations", "Providers"];
    let all_calls = address.to(View::Calls);
    let compare = address.to(View::Compare);
    let (before, month) = (before(scene)?, month(scene)?);
    let body = html! {
        (cards::all(address, &totals, before.as_ref()))
        div.panels {
            (cards::by_class(&totals, before.as_ref()))
            (cards::forecast(address, &month))
        }
        @if address.condition("operation").is_some() {
            p { a.button href=(compare.href()) { "Compare models for this operation" } }
        }
        (trend.markup(address, "Over time"))
        div.panels { @for ((caption, key), found) in captions.into_iter().zip(&keys).zip(&found) {
            (panel(address, caption, key, found, &totals))
        } }
        section.panel {
            (frame::heading("Newest calls", &all_calls))
            (calls::table(address, &newest, Some(&all_calls.href())))
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

/// What the month will come to, from the days before, whatever the window.
pub(super) fn month(scene: &Scene<'_>) -> Result<Month, QueryError> {
    let address = scene.address;
    let now = local(&address.zone, address.now);
    let start = now.checked_sub(DAYS.days()).and_then(|then| then.start_of_day()).ok();
    let since = start.map_or(address.now, of);
    let filter = address.within(Window { since: Some(since), until: None });
    let (_, [days]) = groups(scene, &filter, [GroupKey::Day])?;
    let (today, first) = (now.date(), now.date().first_of_month());
    let of_day =
        |group: &Group| -> Option<Date> { value_of(&GroupKey::Day, &group.key)?.parse().ok() };
    let days: Vec<_> =
        days.iter().filter_map(|group| Some((of_day(group)?, &group.totals))).collect();
    let spent = |(day, totals): &(Date, &Totals)| Spent { day: *day, cost: totals.cost_usd };
    let spent: Vec<_> = days.iter().map(spent).collect();
    let is_of_month = |day: Date| day >= first && day <= today;
    let of_month = days.iter().filter(|(day, _)| is_of_month(*day));
    Ok(Month {
        forecast: forecast(&spent, &now),
        seen: sums::of(days.iter().map(|(_, totals)| *totals)),
        spent: sums::of(of_month.map(|(_, totals)| *totals)),
    })
}
