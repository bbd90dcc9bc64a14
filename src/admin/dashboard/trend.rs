//! Figures over time: by hour, day, week or month of the viewer, each bar whole or by what it is made of.
//! Owns how high bars are; knows nothing of how they are drawn.

use std::collections::HashMap;
use std::str::FromStr;

use maud::{Markup, html};
use rust_decimal::Decimal;

use super::Scene;
use super::address::{Address, STACKS, Stack, View};
use super::calendar::{Page, STEPS, Step, Unknown, first, pages};
use super::chart::{Chart, Series, Shape};
use super::csv::Sheet;
use super::table;
use super::window::{Span, local};
use super::{show, table::Column};
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
}

impl Trend {
    pub(super) fn read(scene: &Scene<'_>, filter: &Filter) -> Result<Trend, QueryError> {
        let address = scene.address;
        let (now, zone) = (address.now, &address.zone);
        let length =
            |since: Timestamp| filter.until.unwrap_or(now).millis().saturating_sub(since.millis());
        let mut step = match (address.step, filter.since) {
            (Some(step), _) => step,
            (None, Some(since)) => Step::of(length(since)),
            (None, None) => Step::Day,
        };
        let mut stack = address.stacked_by();
        loop {
            let coarser = STEPS.into_iter().skip_while(|known| *known != step).nth(1);
            let is_long = |since| length(since) / step.least_ms() > BARS;
            if let (Some(coarser), Some(true)) = (coarser, filter.since.map(is_long)) {
                step = coarser;
                continue;
            }
            let keys: Vec<_> = [step.key()].into_iter().chain(stack.clone()).collect();
            let found = scene.reader.breakdowns(filter, std::slice::from_ref(&keys), zone);
            let mut found = match found {
                // Better whole bars than none.
                Err(QueryError::TooManyGroups(_)) if stack.take().is_some() => continue,
                found => found?,
            };
            let groups = found.groupings.pop().unwrap_or_default();
            // Where the window has no beginning, the first call is one.
            let since = filter.since.or_else(|| first(step, zone, &groups)).unwrap_or(now);
            if let (Some(coarser), true) = (coarser, is_long(since)) {
                step = coarser;
                continue;
            }
            let pages = pages(step, zone, since, filter.until.unwrap_or(now));
            return Ok(Trend { step, keys, groups, pages });
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
        let places: HashMap<&str, usize> =
            self.pages.iter().enumerate().map(|(at, page)| (page.key.as_str(), at)).collect();
        let mut series: Vec<(Option<String>, Vec<Decimal>, Decimal)> = Vec::new();
        let mut known: HashMap<Option<String>, usize> = HashMap::new();
        let time = self.step.key();
        for group in &self.groups {
            let page = table::value_of(&time, &group.key).unwrap_or_default();
            let Some(place) = places.get(page.as_str()) else { continue };
            let name = self.keys.get(1).and_then(|key| table::value_of(key, &group.key));
            let at = *known.entry(name.clone()).or_insert_with(|| {
                series.push((name, vec![Decimal::ZERO; self.pages.len()], Decimal::ZERO));
                series.len() - 1
            });
            let value = measure.of(&group.totals);
            series[at].1[*place] += value;
            series[at].2 += value;
        }
        series.sort_by(|one, other| other.2.cmp(&one.2).then_with(|| one.0.cmp(&other.0)));
        let rest = if series.len() > SERIES { series.split_off(SERIES) } else { Vec::new() };
        let named = |(name, values, _): (Option<String>, Vec<Decimal>, Decimal)| {
            let key = self.keys.get(1);
            let name = match (&name, key) {
                (Some(name), _) => show::label(name),
                (None, Some(key)) => format!("no {}", key.to_string().replace('_', " ")),
                (None, None) => measure.as_str().to_owned(),
            };
            (name, values)
        };
        let mut all: Vec<_> = series.into_iter().map(named).collect();
        if !rest.is_empty() {
            let mut others = vec![Decimal::ZERO; self.pages.len()];
            for (_, values, _) in &rest {
                others.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            all.push((format!("{} others", rest.len()), others));
        }
        let whole = |at: usize| all.iter().map(|(_, values)| values[at]).sum::<Decimal>();
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
            links: self.pages.iter().map(|page| self.into(address, page).href()).collect(),
            series: series.collect(),
        }
    }

    /// The page about one bar: the same one for that time, or the calls of an hour.
    fn into(&self, address: &Address, page: &Page) -> Address {
        let date = |at: Timestamp| local(&address.zone, at).date().to_string();
        if self.step == Step::Hour {
            let [since, until] = [page.start, page.end].map(|time| Some(time.to_string()));
            let window = super::super::params::Window { since: None, until: None };
            let user = match &address.view {
                View::User(name) => Some(name.clone()),
                _ => None,
            };
            let calls = address.to(View::Calls).spanning(Span::Custom { since, until, window });
            return match user {
                Some(user) => calls.with("user", &user),
                None => calls,
            };
        }
        let [since, until] = [page.start, page.end].map(|time| Some(date(time)));
        let window = super::super::params::Window { since: None, until: None };
        address.spanning(Span::Custom { since, until, window }).by_step(None)
    }

    fn table(&self, address: &Address) -> Markup {
        let time = self.step.key();
        let mut sums: HashMap<String, Totals> = HashMap::new();
        for group in &self.groups {
            let page = table::value_of(&time, &group.key).unwrap_or_default();
            add(sums.entry(page).or_default(), &group.totals);
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
                        th scope="row" { a href=(self.into(address, page).href()) { (page.label) } }
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

/// Sums that can be added up; means and percentiles cannot.
fn add(sum: &mut Totals, other: &Totals) {
    sum.requests += other.requests;
    sum.errors += other.errors;
    sum.total_tokens += other.total_tokens;
    sum.cost_usd += other.cost_usd;
    sum.estimated_requests += other.estimated_requests;
    sum.unpriced_requests += other.unpriced_requests;
}
