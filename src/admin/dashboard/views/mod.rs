//! The views, one file each. Owns which view shows what an address asks for.

mod by;
mod call;
mod calls;
mod compare;
mod overview;
mod quality;
mod session;
mod user;

use super::address::{Address, View};
use super::{Scene, Shown};
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
