//! The views, one file each. Owns which view shows what an address asks for.

mod by;
mod call;
mod calls;
mod compare;
mod overview;
mod quality;
mod session;
mod user;

use maud::Markup;

use super::address::{Address, View};
use super::table::{FEW, Table};
use super::{Scene, Shown, frame};
use crate::ledger::{Filter, Group, GroupKey, QueryError, Totals};

/// Rows of a table among others.
const TOP: usize = 8;

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    match &scene.address.view {
        View::Overview => overview::show(scene),
        View::By(key) => by::show(scene, key),
        View::User(name) => user::show(scene, name),
        View::Session(name) => session::show(scene, name),
        View::Compare => compare::show(scene),
        View::Calls => calls::show(scene),
        View::Call(id) => call::show(scene, *id),
        View::Quality => quality::show(scene),
    }
}

/// The groups that cost most, or used most where nothing cost anything.
fn top(groups: &[Group]) -> Vec<Group> {
    let mut groups = groups.to_vec();
    groups.sort_by(|one, other| {
        let figures = |group: &Group| (group.totals.cost_usd, group.totals.total_tokens);
        figures(other).cmp(&figures(one))
    });
    groups.truncate(TOP);
    groups
}

/// Several groupings of the same calls, and their totals.
fn groups<const N: usize>(
    scene: &Scene<'_>,
    filter: &Filter,
    keys: [GroupKey; N],
) -> Result<(Totals, [Vec<Group>; N]), QueryError> {
    let groupings = keys.map(|key| vec![key]);
    let found = scene.reader.breakdowns(filter, &groupings, &scene.address.zone)?;
    let mut groups = found.groupings.into_iter();
    Ok((found.totals, std::array::from_fn(|_| groups.next().unwrap_or_default())))
}

/// Groups, or nothing where there are more than can be listed.
type List = Option<Vec<Group>>;

/// Several groupings of the same calls, and their totals. One that has too many groups is no reason to show
/// none of the others.
fn listed<const N: usize>(
    scene: &Scene<'_>,
    filter: &Filter,
    groupings: [Vec<GroupKey>; N],
) -> Result<(Totals, [List; N]), QueryError> {
    let ask = |groupings: &[Vec<GroupKey>]| {
        scene.reader.breakdowns(filter, groupings, &scene.address.zone)
    };
    // All at once is quicker, and nearly always enough.
    match ask(&groupings) {
        Err(QueryError::TooManyGroups(_)) => {}
        found => {
            let found = found?;
            let mut groups = found.groupings.into_iter();
            return Ok((found.totals, std::array::from_fn(|_| groups.next())));
        }
    }
    let mut lists = std::array::from_fn(|_| None);
    for (list, keys) in lists.iter_mut().zip(groupings) {
        *list = match ask(&[keys]) {
            Err(QueryError::TooManyGroups(_)) => None,
            found => found?.groupings.pop(),
        };
    }
    Ok((ask(&[])?.totals, lists))
}

/// The largest groups by a key, among others on a page.
fn panel(
    address: &Address,
    caption: &str,
    key: &GroupKey,
    found: &List,
    totals: &Totals,
) -> Markup {
    let Some(found) = found else { return frame::too_many(caption) };
    let groups = &top(found);
    let table = Table { caption, key, groups, totals, columns: &FEW, is_sorted: false };
    frame::panel(address, &table, &all_by(address, key.clone()))
}

/// The totals of the window before, if there is one.
fn before(scene: &Scene<'_>) -> Result<Option<Totals>, QueryError> {
    let Some(window) = scene.address.before() else { return Ok(None) };
    let filter = scene.address.within(window);
    let found = scene.reader.breakdowns(&filter, &[], &scene.address.zone)?;
    Ok(Some(found.totals))
}

/// The page of all groups by a key, for the calls that a page is about.
fn all_by(address: &Address, key: GroupKey) -> Address {
    match &address.view {
        View::User(name) => address.to(View::By(key)).with("user", name),
        _ => address.to(View::By(key)),
    }
}
