//! Figures over time: by hour, day, week or month of the viewer, each bar whole or by what it is made of.
//! Owns how high bars are; knows nothing of how they are drawn.

use std::collections::HashMap;
use std::str::FromStr;

use jiff::tz::TimeZone;
use maud::{Markup, html};
use rust_decimal::Decimal;

use super::Scene;
use super::address::{Address, STACKS, Stack, View};
use super::calendar::{Page, STEPS, Step, Unknown, beginning_of, pages};
use super::chart::{Chart, Series, Shape};
use super::csv::Sheet;
use super::table::{self, Column};
use super::window::{Span, local};
use super::{show, sums};
use crate::admin::params::Window;
use crate::figures;
use crate::ledger::{Filter, Group, GroupKey, QueryError, Totals};
use crate::units::{Timestamp, Usd};

/// Bars of one chart. More would be thinner than a pixel, so longer steps are taken.
const BARS: i64 = 1500;

/// Colours that can be told apart; what is left is one series more.
const SERIES: usize = 8;

/// Rows of the table that says the same as the chart.
const ROWS: usize = 100;

/// How high it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Measure {
    #[default]
    Cost,
    Tokens,
    Calls,
    Errors,
}

const MEASURES: [Measure; 4] = [Measure::Cost, Measure::Tokens, Measure::Calls, Measure::Errors];

impl Measure {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Measure::Cost => "cost",
            Measure::Tokens => "tokens",
            Measure::Calls => "calls",
            Measure::Errors => "errors",
        }
    }

    fn of(self, totals: &Totals) -> Decimal {
        match self {
            Measure::Cost => totals.cost_usd.decimal(),
            Measure::Tokens => totals.total_tokens.into(),
            Measure::Calls => totals.requests.into(),
            Measure::Errors => totals.errors.into(),
        }
    }

    fn shown(self, value: Decimal) -> String {
        match self {
            Measure::Cost => figures::dollars(Usd::new(value)),
            _ => figures::grouped(&value.normalize().to_string()),
        }
    }
}

impl FromStr for Measure {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Measure, Unknown> {
        let unknown =
            || Unknown { text: text.to_owned(), possible: "cost, tokens, calls and errors" };
        MEASURES.into_iter().find(|measure| measure.as_str() == text).ok_or_else(unknown)
    }
}

/// What a window's pages hold.
#[derive(Debug)]
pub(super) struct Trend {
    step: Step,
    keys: Vec<GroupKey>,
    groups: Vec<Group>,
    pages: Vec<Page>,
    /// What the figures are of. The first and the last page may reach beyond it.
    window: Window,
}

impl Trend {
    pub(super) fn read(scene: &Scene<'_>, filter: &Filter) -> Result<Trend, QueryError> {
        let address = scene.address;
        let (now, zone) = (address.now, &address.zone);
        let window = Window { since: filter.since, until: filter.until };
        let is_long = |step: Step, since: Timestamp, until: Timestamp| {
            until.millis().saturating_sub(since.millis()) / step.least_ms() > BARS
        };
        let asked = first_step(address.step, window, now);
        let (mut step, mut stack) = (asked, address.stacked_by());
        loop {
            // There is nothing of what is to come, however far the window reaches.
            let is_too_long =
                window.since.is_some_and(|since| is_long(step, since, end(window, now)));
            if let (Some(coarser), true) = (step.coarser(), is_too_long) {
                step = coarser;
                continue;
            }
            let keys: Vec<_> = [step.key()].into_iter().chain(stack.clone()).collect();
            let found = match scene.reader.breakdowns(filter, std::slice::from_ref(&keys), zone) {
                Err(QueryError::TooManyGroups(_)) if step.coarser().is_some() => {
                    step = step.coarser().unwrap_or(step);
                    continue;
                }
                // Better whole bars than none.
                Err(QueryError::TooManyGroups(_)) if stack.take().is_some() => {
                    step = asked;
                    continue;
                }
                found => found?,
            };
            let groups = found.groupings.into_iter().next().unwrap_or_default();
            let (since, until) = ends(step, zone, window, &groups, now);
            if let (Some(coarser), true) = (step.coarser(), is_long(step, since, until)) {
                step = coarser;
                continue;
            }
            let pages = pages(step, zone, since, until);
            return Ok(Trend { step, keys, groups, pages, window });
        }
    }

    pub(super) fn sheet(&self) -> Sheet {
        Sheet::of_groups(&self.keys, &self.groups)
    }

    /// The chart, what can be chosen about it, and the same as a table.
    pub(super) fn markup(&self, address: &Address, title: &str) -> Markup {
        let measure = address.measure;
        html! {
            section.panel aria-labelledby="trend-title" {
                div.panel-head {
                    h2 #trend-title { (title) }
                    (self.choices(address))
                }
                (self.chart(address, measure).markup("trend"))
                (self.table(address))
            }
        }
    }

    fn choices(&self, address: &Address) -> Markup {
        let link = |link: Address, is_now: bool, text: &str| {
            html! { a href=(link.href()) aria-current=[is_now.then_some("true")] { (text) } }
        };
        let stack = self.keys.get(1);
        html! {
            div.choices {
                div.choice role="group" aria-label="Figure" { @for measure in MEASURES {
                    (link(address.measuring(measure), measure == address.measure, measure.as_str()))
                } }
                div.choice role="group" aria-label="Step" { @for step in STEPS {
                    (link(address.by_step(Some(step)), step == self.step, step.as_str()))
                } }
                div.choice role="group" aria-label="Bars by" {
                    (link(address.stacking(Some(Stack::Nothing)), stack.is_none(), "whole"))
                    @for key in STACKS {
                        (link(
                            address.stacking((key != GroupKey::Model).then(|| Stack::Key(key.clone()))),
                            stack == Some(&key),
                            &format!("by {}", key.to_string().replace('_', " ")),
                        ))
                    }
                }
            }
        }
    }

    fn chart(&self, address: &Address, measure: Measure) -> Chart {
        let all = self.series(measure);
        let whole = |at: usize| {
            all.iter().map(|(_, values)| values[at]).fold(Decimal::ZERO, Decimal::saturating_add)
        };
        let is_whole = all.len() < 2;
        let totals =
            (0..self.pages.len()).filter(|_| !is_whole).map(|at| shown(measure, whole(at)));
        let totals = totals.collect();
        let series = all.into_iter().map(|(name, values)| Series {
            name,
            shown: values.iter().map(|value| shown(measure, *value)).collect(),
            values: values.into_iter().map(figures::plotted).collect(),
            x: Vec::new(),
            links: Vec::new(),
        });
        let what = measure.as_str();
        Chart {
            shape: Shape::Stack,
            about: format!(
                "{what} by {}; the table below has the same figures",
                self.step.as_str()
            ),
            unit: if measure == Measure::Cost { "$" } else { "" },
            x_title: String::new(),
            y_title: String::new(),
            x: self.pages.iter().map(|page| page.label.clone()).collect(),
            totals,
            links: self.pages.iter().map(|page| self.behind(address, page).href()).collect(),
            series: series.collect(),
        }
    }

    /// What bars are made of, the largest part first; what there are no colours for is one part. Names are
    /// summed before any has values for each page: a ledger may hold very many of both.
    fn series(&self, measure: Measure) -> Vec<(String, Vec<Decimal>)> {
        let parts = self.parts(measure);
        let mut sums: HashMap<Option<&str>, Decimal> = HashMap::new();
        for (_, name, value) in &parts {
            let sum = sums.entry(name.as_deref()).or_default();
            *sum = sum.saturating_add(*value);
        }
        let mut ranked: Vec<_> = sums.into_iter().collect();
        ranked.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let others = ranked.len().saturating_sub(SERIES);
        ranked.truncate(SERIES);
        let mut all: Vec<(String, Vec<Decimal>)> = Vec::new();
        let names = ranked.iter().map(|(name, _)| self.name(*name, measure));
        for name in names.chain((others > 0).then(|| format!("{others} others"))) {
            all.push((name, vec![Decimal::ZERO; self.pages.len()]));
        }
        let places: HashMap<_, usize> =
            ranked.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
        for (page, name, value) in &parts {
            let at = places.get(&name.as_deref()).copied().unwrap_or(SERIES);
            let sum = &mut all[at].1[*page];
            *sum = sum.saturating_add(*value);
        }
        all
    }

    /// Of each group the place of its page, what it is a part by, and how high it is.
    fn parts(&self, measure: Measure) -> Vec<(usize, Option<String>, Decimal)> {
        let places: HashMap<&str, usize> =
            self.pages.iter().enumerate().map(|(at, page)| (page.key.as_str(), at)).collect();
        let time = self.step.key();
        let part = |group: &Group| {
            let place = places.get(table::value_of(&time, &group.key)?.as_str())?;
            let name = self.keys.get(1).and_then(|key| table::value_of(key, &group.key));
            Some((*place, name, measure.of(&group.totals)))
        };
        self.groups.iter().filter_map(part).collect()
    }

    fn name(&self, name: Option<&str>, measure: Measure) -> String {
        match (name, self.keys.get(1)) {
            (Some(name), _) => show::label(name),
            (None, Some(key)) => format!("no {}", key.to_string().replace('_', " ")),
            (None, None) => measure.as_str().to_owned(),
        }
    }

    /// The page about one bar: the same one for that time, or the calls of an hour. Of a bar that the window
    /// cuts, it is about what the bar shows.
    fn behind(&self, address: &Address, page: &Page) -> Address {
        let is_hour = self.step == Step::Hour;
        let said = |at: Timestamp, is_cut: bool| {
            let date = || local(&address.zone, at).date().to_string();
            Some(if is_cut || is_hour { at.to_string() } else { date() })
        };
        let since = self.window.since.filter(|since| *since > page.start);
        let until = self.window.until.filter(|until| *until < page.end);
        let span = Span::Custom {
            since: said(since.unwrap_or(page.start), since.is_some()),
            until: said(until.unwrap_or(page.end), until.is_some()),
            window: Window { since: None, until: None },
        };
        if !is_hour {
            return address.spanning(span).by_step(None);
        }
        let calls = address.to(View::Calls).spanning(span);
        match &address.view {
            View::User(user) => calls.with("user", user),
            _ => calls,
        }
    }

    fn table(&self, address: &Address) -> Markup {
        let time = self.step.key();
        let mut sums: HashMap<String, Totals> = HashMap::new();
        for group in &self.groups {
            let page = table::value_of(&time, &group.key).unwrap_or_default();
            sums::add(sums.entry(page).or_default(), &group.totals);
        }
        let with_calls: Vec<_> =
            self.pages.iter().rev().filter_map(|page| Some((page, sums.get(&page.key)?))).collect();
        let columns = [Column::Cost, Column::Calls, Column::Errors, Column::Tokens];
        html! {
            details {
                summary { "The same as a table" }
                @if with_calls.len() > ROWS {
                    p.quiet { "The newest " (ROWS) " of " (with_calls.len()) "; the CSV has all." }
                }
                div.scroll tabindex="0" role="region" aria-label="Figures over time" { table {
                    caption.sr { "Figures over time" }
                    thead { tr {
                        th scope="col" { (table::title(&time)) }
                        @for title in ["Cost", "Calls", "Errors", "Tokens"] { th.n scope="col" { (title) } }
                    } }
                    tbody { @for (page, totals) in with_calls.into_iter().take(ROWS) { tr {
                        th scope="row" { a href=(self.behind(address, page).href()) { (page.label) } }
                        @for column in columns { td.n { (column.cell(totals)) } }
                    } } }
                } }
            }
        }
    }
}

fn shown(measure: Measure, value: Decimal) -> String {
    if value.is_zero() { String::new() } else { measure.shown(value) }
}

/// The step that is asked for, or else what suits the window.
fn first_step(asked: Option<Step>, window: Window, now: Timestamp) -> Step {
    let suits =
        |since: Timestamp| Step::of(end(window, now).millis().saturating_sub(since.millis()));
    asked.or_else(|| window.since.map(suits)).unwrap_or(Step::Day)
}

/// The end of a window as far as anything can have happened.
fn end(window: Window, now: Timestamp) -> Timestamp {
    window.until.map_or(now, |until| until.min(now))
}

/// From where to where there are pages. Where the window has no beginning, the first call is one; the same
/// goes for months, than which no step is coarser, so that a window of centuries shows those with calls.
/// The last is that of this moment, or of a call that a clock has put after it.
fn ends(
    step: Step,
    zone: &TimeZone,
    window: Window,
    groups: &[Group],
    now: Timestamp,
) -> (Timestamp, Timestamp) {
    let first = groups.first().and_then(|group| beginning_of(step, zone, group));
    let last = groups.last().and_then(|group| beginning_of(step, zone, group));
    let since = match (window.since, first) {
        (Some(since), Some(first)) if step.coarser().is_none() => since.max(first),
        (since, first) => since.or(first).unwrap_or(now),
    };
    // The moment after its beginning is enough for a page to be there.
    let after = |last: Timestamp| Timestamp::from_millis(last.millis().saturating_add(1));
    let until = last.map_or(now, |last| after(last).max(now));
    (since, window.until.map_or(until, |window| window.min(until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn group(key: serde_json::Value, requests: u64) -> Group {
        let serde_json::Value::Object(key) = key else { panic!() };
        Group { key, totals: Totals { requests, ..Totals::default() } }
    }

    fn read(query: &str) -> Address {
        let pairs = crate::admin::params::pairs(query).unwrap();
        Address::read(&pairs, Some("Europe/Berlin"), at("2026-11-21T09:30:00Z")).unwrap()
    }

    /// The pages of some months' calls, in a window.
    fn months(since: Option<&str>, until: Option<&str>, named: &[&str]) -> Vec<String> {
        let groups: Vec<_> = named.iter().map(|month| group(json!({"month": month}), 1)).collect();
        let window = Window { since: since.map(at), until: until.map(at) };
        let now = at("2026-11-21T09:30:00Z");
        let (since, until) = ends(Step::Month, &TimeZone::UTC, window, &groups, now);
        let pages = pages(Step::Month, &TimeZone::UTC, since, until);
        pages.into_iter().map(|page| page.key).collect()
    }

    #[test]
    fn a_window_of_centuries_shows_the_months_that_have_calls() {
        let since = Some("0026-11-01T00:00:00Z");
        assert_eq!(months(since, None, &["2026-10"]), ["2026-10", "2026-11"]);
        let until = Some("9999-01-01T00:00:00Z");
        assert_eq!(months(None, until, &["2026-10"]), ["2026-10", "2026-11"]);
        // A clock was ahead.
        let ahead = ["2026-11", "2027-01"];
        assert_eq!(months(since, until, &ahead), ["2026-11", "2026-12", "2027-01"]);
        let until = Some("2026-10-15T00:00:00Z");
        assert_eq!(months(since, until, &["2026-10"]), ["2026-10"]);
        assert!(months(None, None, &[]).len() <= 1);
        let window = Window { since: since.map(at), until: None };
        assert_eq!(first_step(None, window, at("2026-11-21T09:30:00Z")), Step::Month);
        let window = Window {
            since: Some(at("2026-11-01T00:00:00Z")),
            until: Some(at("9999-01-01T00:00:00Z")),
        };
        assert_eq!(first_step(None, window, at("2026-11-21T09:30:00Z")), Step::Day);
    }

    #[test]
    fn very_many_names_are_eight_series_and_one_for_the_others() {
        let window = Window { since: None, until: None };
        let zone = &TimeZone::UTC;
        let pages = pages(Step::Hour, zone, at("2026-10-01T00:00:00Z"), at("2026-11-20T00:00:00Z"));
        let hour = |name: u64| pages[usize::try_from(name).unwrap() % pages.len()].key.clone();
        // Without the mend some 400 MB.
        let groups = (0..20_000_u64).map(|name| {
            group(json!({"hour": hour(name), "model": format!("m{name:05}")}), name + 1)
        });
        let keys = vec![GroupKey::Hour, GroupKey::Model];
        let groups = groups.collect();
        let trend = Trend { step: Step::Hour, keys, groups, pages: pages.clone(), window };
        let series = trend.series(Measure::Calls);
        let names: Vec<_> = series.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names[0], names[7], names[8]), ("m19999", "m19992", "19992 others"));
        assert_eq!(series.len(), 9);
        let all: Decimal = series.iter().flat_map(|(_, values)| values).sum();
        assert_eq!(all, Decimal::from(20_000_u64 * 20_001 / 2));
    }

    #[test]
    fn bars_that_the_window_cuts_lead_to_what_they_show() {
        let address = read("since=2026-11-19T12:00:00Z&until=2026-11-21T08:15:00Z");
        let window = address.window();
        let pages = pages(Step::Day, &address.zone, window.since.unwrap(), window.until.unwrap());
        let trend = Trend {
            step: Step::Day,
            keys: vec![GroupKey::Day],
            groups: Vec::new(),
            pages: pages.clone(),
            window,
        };
        let links: Vec<_> = pages.iter().map(|page| trend.behind(&address, page).href()).collect();
        assert_eq!(
            links,
            [
                "?since=2026-11-19T12:00:00.000Z&until=2026-11-20&tz=Europe/Berlin",
                "?since=2026-11-20&until=2026-11-21&tz=Europe/Berlin",
                "?since=2026-11-21&until=2026-11-21T08:15:00.000Z&tz=Europe/Berlin",
            ]
        );
    }
}
