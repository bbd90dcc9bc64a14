//! Totals and groups of the calls that pass a filter: from sums where they tell, from rows where they
//! do not. Owns that choice; knows neither how sums are kept nor what is done with the groups.
//!
//! Rows are read for the ends of a window that begin or end within a half hour, for half hours in which
//! a page of the calendar turns, for what kinds do not tell, and where the calls are so few that exact
//! percentiles are cheap.
//!
//! Invariant: each call counts once, from one moment of the database.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use rusqlite::{Connection, OptionalExtension};

use super::filter::{Filter, Match, Selection};
use super::group::{Fold, GroupKey, Groups, Place};
use super::kind::{CLASS, Kinds};
use super::layout::KEY_BITS;
use super::query::QueryError;
use super::retention;
use super::rollup::{self, Grain, SLOT_MS, SumsRef, Users};
use super::scan::{Scan, Way};
use crate::units::Timestamp;

/// Groupings of the calls that pass a filter.
pub(super) struct Breakdown<'a> {
    pub(super) connection: &'a Connection,
    pub(super) kinds: &'a Kinds,
    pub(super) filter: &'a Filter,
    pub(super) groupings: &'a [Vec<GroupKey>],
    pub(super) zone: &'a TimeZone,
    /// Up to how many calls are read from rows in any case, for exact percentiles.
    pub(super) few: usize,
}

/// The groups of each grouping.
pub(super) struct Broken {
    pub(super) groups: Vec<Groups>,
    /// Set where rows before this moment would have been needed, and are gone.
    pub(super) rows_since: Option<Timestamp>,
}

/// A window in half hours, and what sticks out of them.
#[derive(Debug, PartialEq, Eq)]
struct Slots {
    whole: Range<i64>,
    /// In milliseconds.
    ends: [Range<i64>; 2],
}

/// A part of the calls on their way into groups.
struct Adding<'k> {
    fold: Fold<'k>,
    calls: i128,
}

impl Adding<'_> {
    /// Calls of one kind that were added up before.
    fn add(&mut self, at: i64, user: u32, kind: u32, sums: SumsRef<'_>) -> Result<(), QueryError> {
        let place = Place { at, kind, user, session: 0, own: None };
        let mut added = Ok(0);
        self.fold.add(&place, |tally, counts| added = tally.add_sums(sums, counts))?;
        self.calls += added?;
        Ok(())
    }
}

impl Breakdown<'_> {
    pub(super) fn read(&self) -> Result<Broken, QueryError> {
        let fold = self.fold();
        let Some(selection) = self.filter.select(self.connection, self.kinds)? else {
            return self.finish([fold], None);
        };
        let kept = retention::rows_since(self.connection)?;
        let is_kept = kept.is_none_or(|kept| selection.window.start >= kept.millis());
        let is_told = self.is_told_by_sums(&selection);
        if !is_told && (is_kept || !self.is_filtered_by_sums(&selection)) {
            let fold = self.by_rows(&selection, Way::Time)?;
            return self.finish([fold], kept.filter(|_| !is_kept));
        }
        let (folds, calls) = self.by_sums(&selection, kept)?;
        if !is_told {
            // Better all calls, some of them under no value, than the newest only.
            return self.finish(folds, kept);
        }
        let is_few = usize::try_from(calls).is_ok_and(|calls| calls <= self.few);
        if is_kept && is_few {
            // Without a filter, all of the window passes.
            let is_all = selection.user.is_none() && selection.has_all_kinds();
            let way = if is_all { Way::Time } else { Way::Kinds };
            return self.finish([self.by_rows(&selection, way)?], None);
        }
        let is_exact = kept.is_none_or(|kept| is_told_to_the_half_hour(&selection, kept));
        self.finish(folds, kept.filter(|_| !is_exact))
    }

    fn fold(&self) -> Fold<'_> {
        Fold::new(self.groupings, self.zone.clone(), self.kinds)
    }

    /// The groups of folds that have parts of the calls each.
    fn finish<'f>(
        &self,
        folds: impl IntoIterator<Item = Fold<'f>>,
        rows_since: Option<Timestamp>,
    ) -> Result<Broken, QueryError> {
        let mut groups: Vec<Groups> = self.groupings.iter().map(|_| Groups::default()).collect();
        for fold in folds {
            for (all, part) in groups.iter_mut().zip(fold.finish(self.connection)?) {
                if all.is_empty() {
                    *all = part;
                    continue;
                }
                for (key, tally) in part {
                    match all.entry(key) {
                        Entry::Occupied(mut there) => there.get_mut().merge(&tally),
                        Entry::Vacant(place) => drop(place.insert(tally)),
                    }
                }
            }
        }
        // Sums of calls that were all taken back are left as nothing.
        for groups in &mut groups {
            groups.retain(|_, tally| !tally.is_empty());
        }
        Ok(Broken { groups, rows_since })
    }

    /// Whether sums tell which calls pass, if not in which groups.
    fn is_filtered_by_sums(&self, selection: &Selection<'_>) -> bool {
        let mut keys = self.groupings.iter().flatten();
        selection.session.is_none()
            && selection.is_decided()
            && keys.all(|key| *key != GroupKey::Session)
    }

    fn is_told_by_sums(&self, selection: &Selection<'_>) -> bool {
        let keys = || self.groupings.iter().flatten();
        let facts = keys().fold(0, |facts, key| facts | key.facts());
        let mut passing = self.kinds.iter().filter(|(id, _)| selection.of(*id) != Match::No);
        self.is_filtered_by_sums(selection) && !passing.any(|(_, kind)| kind.is_varied(facts))
    }

    fn by_rows(&self, selection: &Selection<'_>, way: Way) -> Result<Fold<'_>, QueryError> {
        let mut fold = self.fold();
        self.add_rows(&mut fold, selection, selection.window.clone(), way)?;
        Ok(fold)
    }

    /// Also answers how many calls that are.
    fn by_sums(
        &self,
        selection: &Selection<'_>,
        kept: Option<Timestamp>,
    ) -> Result<([Fold<'_>; 2], i128), QueryError> {
        // Sums may reach further than the rows that are left.
        let retired = kept.map(|kept| kept.millis() - 1);
        let newest = newest(self.connection)?.max(retired);
        let slots = Slots::of(&selection.window, newest, kept);
        let keys = || self.groupings.iter().flatten();
        let users = match selection.user {
            Some(user) => Users::One(user),
            None if keys().any(|key| *key == GroupKey::User) => Users::Each,
            None => Users::Together,
        };
        let is_timed = keys().any(GroupKey::is_time);
        let has_hours = keys().any(|key| *key == GroupKey::Hour);
        let is_utc = *self.zone == TimeZone::UTC;
        let grain = match (is_timed, has_hours) {
            (false, _) => Grain::Any,
            (true, false) if is_utc => Grain::Day,
            _ => Grain::Slot,
        };
        let by_class =
            selection.is_told_by_classes() && keys().all(|key| key.facts() & !CLASS == 0);
        let kinds = |kind| selection.of(kind) == Match::Yes;
        let failure = Mutex::new(None);
        // Ends the scan; the failure itself is told below.
        let go_on = |done: Result<(), QueryError>| {
            done.map_err(|error| {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                rusqlite::Error::QueryReturnedNoRows
            })
        };
        let mut adding = [(); 2].map(|()| Adding { fold: self.fold(), calls: 0 });
        let mut turning = BTreeSet::new();
        let scanned = if (users, grain) == (Users::Each, Grain::Any) {
            let add = |adding: &mut Adding<'_>, user, kind, sums: SumsRef<'_>| {
                go_on(adding.add(0, user, kind, sums))
            };
            rollup::scan_each(self.connection, slots.whole, by_class, &kinds, &mut adding, &add)
        } else {
            let [adding, _] = &mut adding;
            let mut add = |slot: i64, user, kind, sums: SumsRef<'_>| {
                let at = slot.saturating_mul(SLOT_MS);
                // Where rows are gone, a half hour counts where it begins.
                let has_rows = kept.is_none_or(|kept| at >= kept.millis());
                if grain == Grain::Slot
                    && has_rows
                    && adding.fold.turns_within(at..at.saturating_add(SLOT_MS))
                {
                    turning.insert(slot);
                    return Ok(());
                }
                go_on(adding.add(at, user, kind, sums))
            };
            let slots = slots.whole;
            rollup::scan(self.connection, slots, users, grain, by_class, &kinds, &mut add)
        };
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        scanned.map_err(|error| failure.unwrap_or_else(|| error.into()))?;
        let mut calls = adding.iter().map(|adding| adding.calls).sum();
        let mut folds = adding.map(|adding| adding.fold);
        let turning = turning.into_iter().map(|slot| slot * SLOT_MS..(slot + 1) * SLOT_MS);
        for window in slots.ends.into_iter().chain(turning) {
            calls += self.add_rows(&mut folds[0], selection, window, Way::Time)?;
        }
        Ok((folds, calls))
    }

    fn add_rows(
        &self,
        fold: &mut Fold<'_>,
        selection: &Selection<'_>,
        window: Range<i64>,
        way: Way,
    ) -> Result<i128, QueryError> {
        let scan = Scan { connection: self.connection, kinds: self.kinds, selection };
        let keys = window.start << KEY_BITS..window.end << KEY_BITS;
        let mut calls = 0;
        scan.figures(&keys, way, &mut |place, figures| {
            calls += 1;
            fold.add(place, |tally, counts| tally.add(place.at, figures, counts))
        })?;
        Ok(calls)
    }
}

impl Slots {
    /// A window that reaches beyond the newest call ends with a whole half hour: there is nothing to
    /// leave out. Where rows are gone, it begins and ends with whole half hours too.
    fn of(window: &Range<i64>, newest: Option<i64>, kept: Option<Timestamp>) -> Slots {
        let beyond = newest.map_or(0, |newest| rollup::slot_of(newest) + 1);
        let end = window.end.min(beyond.saturating_mul(SLOT_MS)).max(window.start);
        let first = if kept.is_some_and(|kept| window.start < kept.millis()) {
            rollup::slot_of(window.start)
        } else {
            rollup::slot_of(window.start.saturating_add(SLOT_MS - 1))
        };
        let is_gone = |at: i64| kept.is_some_and(|kept| at < kept.millis());
        let last = if newest.is_none_or(|newest| end > newest) {
            beyond.max(first)
        } else if is_gone(end) {
            rollup::slot_of(end.saturating_add(SLOT_MS - 1)).max(first)
        } else {
            rollup::slot_of(end)
        };
        if first >= last {
            return Slots { whole: 0..0, ends: [window.start..end, 0..0] };
        }
        let head = window.start..(first * SLOT_MS).max(window.start);
        let tail = if is_gone(end) { 0..0 } else { (last * SLOT_MS).min(end)..end };
        Slots { whole: first..last, ends: [head, tail] }
    }
}

/// Whether the ends of a window that are older than rows are kept are those of half hours.
fn is_told_to_the_half_hour(selection: &Selection<'_>, kept: Timestamp) -> bool {
    let Range { start, end } = selection.window;
    let is_told = |at: i64| at >= kept.millis() || at.rem_euclid(SLOT_MS) == 0;
    is_told(start) && is_told(end)
}

/// The newest call's time.
fn newest(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut newest = connection.prepare_cached("SELECT max(key) FROM calls")?;
    let key: Option<i64> = newest.query_row([], |row| row.get(0)).optional()?.flatten();
    Ok(key.map(|key| key >> KEY_BITS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_is_covered_once(
            start in 0..20 * SLOT_MS,
            length in 0..10 * SLOT_MS,
            newest in proptest::option::of(0..25 * SLOT_MS),
            call in 0..25 * SLOT_MS,
        ) {
            let window = start..start + length;
            let slots = Slots::of(&window, newest, None);
            let in_slots = slots.whole.contains(&rollup::slot_of(call));
            let times = usize::from(in_slots)
                + slots.ends.iter().filter(|end| end.contains(&call)).count();
            if newest.is_some_and(|newest| call <= newest) {
                prop_assert_eq!(times, usize::from(window.contains(&call)), "{:?}", slots);
            } else {
                prop_assert!(times <= 1);
            }
        }
    }
}
