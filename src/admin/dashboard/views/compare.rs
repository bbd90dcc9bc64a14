//! Models side by side for the same work: what one call takes, costs, waits and fails. Owns the figures per
//! call.

use std::collections::HashMap;

use maud::{Markup, html};
use rust_decimal::Decimal;
use serde_json::Value;

use super::groups;
use crate::admin::dashboard::address::{Address, View};
use crate::admin::dashboard::chart::{Chart, Series, Shape};
use crate::admin::dashboard::csv::{self, Sheet};
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::{linked, value_of};
use crate::admin::dashboard::{Scene, Shown, show};
use crate::figures;
use crate::ledger::{Group, GroupKey, QueryError, Totals};
use crate::units::Usd;

/// Models on the page.
const MODELS: usize = 40;

/// Operations that are offered.
const OPERATIONS: usize = 60;

/// A model's calls, and how many of them were not the first try.
struct Model {
    group: Group,
    repeated: u64,
}

impl Model {
    fn per_call(&self, figure: Decimal) -> Option<Decimal> {
        figure.checked_div(self.group.totals.requests.into())
    }

    /// Whether any call came to something: a model whose calls all failed is not a cheap one.
    fn is_used(&self) -> bool {
        let totals = &self.group.totals;
        totals.total_tokens > 0 || totals.cost_usd != Usd::ZERO
    }

    /// Of calls that have a price: what has none would make a model look cheap.
    fn cost_per_call(&self) -> Option<Usd> {
        let totals = &self.group.totals;
        if !self.is_used() {
            return None;
        }
        let priced = totals.requests.checked_sub(totals.unpriced_requests)?;
        let cost = totals.cost_usd.decimal().checked_div(priced.into())?;
        Some(Usd::new(cost.round_dp(12)))
    }

    fn failed(&self) -> Option<Decimal> {
        self.per_call(self.group.totals.errors.into())
    }
}

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    let address = scene.address;
    let models = read(scene)?;
    if address.is_csv {
        return Ok(Shown::Sheet("models", sheet(&models)));
    }
    let title = "Models compared".to_owned();
    let (totals, [operations]) =
        groups(scene, &address.without_operation(), [GroupKey::Operation])?;
    if totals.requests == 0 {
        return scene.nothing(title);
    }
    let body = html! {
        section.panel {
            h2 { "For which operation" }
            (choice(address, &operations))
            @if address.condition("operation").is_none() {
                p.quiet { "These are all calls. Figures say more of calls with the same work: choose one." }
            }
        }
        @if models.is_empty() { (frame::nothing(scene, false)) } @else {
            section.panel {
                h2 { "Per call" }
                (table(address, &models))
            }
            @if models.len() > 1 { section.panel {
                h2 { "Cost and latency of a call" }
                (chart(address, &models).markup("models"))
            } }
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

/// The models by the number of their calls.
fn read(scene: &Scene<'_>) -> Result<Vec<Model>, QueryError> {
    let address = scene.address;
    let groupings =
        [vec![GroupKey::Model], vec![GroupKey::Model, GroupKey::Retry, GroupKey::Attempt]];
    let found = scene.reader.breakdowns(&address.scope(), &groupings, &address.zone)?;
    let [models, tries] = groupings_of(found.groupings);
    let mut repeated: HashMap<Option<String>, u64> = HashMap::new();
    for group in &tries {
        let is_over = |key: &str, first: u64| {
            group.key.get(key).and_then(Value::as_u64).is_some_and(|number| number > first)
        };
        if is_over("retry", 0) || is_over("attempt", 1) {
            let model = value_of(&GroupKey::Model, &group.key);
            *repeated.entry(model).or_default() += group.totals.requests;
        }
    }
    let of = |group: Group| {
        let name = value_of(&GroupKey::Model, &group.key);
        Model { repeated: repeated.get(&name).copied().unwrap_or_default(), group }
    };
    let mut models: Vec<Model> = models.into_iter().map(of).collect();
    models.sort_by_key(|model| std::cmp::Reverse(model.group.totals.requests));
    Ok(models)
}

fn groupings_of(found: Vec<Vec<Group>>) -> [Vec<Group>; 2] {
    let mut found = found.into_iter();
    std::array::from_fn(|_| found.next().unwrap_or_default())
}

fn choice(address: &Address, operations: &[Group]) -> Markup {
    let now = address.condition("operation");
    html! {
        ul.choices.wrap {
            li { a href=(address.without("operation").href()) aria-current=[now.is_none().then_some("true")] { "all" } }
            @for group in operations.iter().take(OPERATIONS) {
                @if let Some(name) = value_of(&GroupKey::Operation, &group.key).filter(|name| !name.is_empty()) {
                    li { a href=(address.with("operation", &name).href())
                        aria-current=[(now == Some(&name)).then_some("true")] { (show::name(&name)) } }
                }
            }
        }
    }
}

fn table(address: &Address, models: &[Model]) -> Markup {
    let mean = |figure: Option<Decimal>| {
        let Some(figure) = figure else { return html! { (show::unknown()) } };
        let whole = u64::try_from(figure.round()).unwrap_or(u64::MAX);
        html! { data title=(figures::mean(figure)) { (figures::short(whole)) } }
    };
    let least = models.iter().filter_map(Model::cost_per_call).min();
    html! {
        @if models.len() > MODELS { p.quiet { "The " (MODELS) " with most calls; the CSV has all." } }
        div.scroll tabindex="0" role="region" aria-label="Models per call" { table {
            caption.sr { "What one call takes, by model" }
            thead { tr {
                th scope="col" { "Model" }
                @for title in ["Calls", "Cost per call", "Input", "Cached", "Output", "Reasoning", "p50", "p95",
                    "First token", "Failed", "Repeated", "Cost in all"] { th.n scope="col" { (title) } }
            } }
            tbody { @for model in models.iter().take(MODELS) {
                @let totals = &model.group.totals;
                tr {
                    th scope="row" { (linked(address, &GroupKey::Model, &model.group.key)) }
                    td.n { (show::count(totals.requests)) }
                    td.n {
                        @match model.cost_per_call() {
                            Some(cost) => {
                                (show::money(cost, totals.estimated_requests > 0))
                                @if models.len() > 1 && Some(cost) == least { " " span.best { "least" } }
                            }
                            None if totals.unpriced_requests > 0 => span.none { "unpriced" },
                            None => { (show::unknown()) }
                        }
                    }
                    td.n { (mean(model.per_call(totals.input_tokens.into()))) }
                    td.n { (show::percent(totals.cache_hit_rate)) }
                    td.n { (mean(model.per_call(totals.output_tokens.into()))) }
                    td.n { (mean(model.per_call(totals.reasoning_tokens.into()))) }
                    td.n { (show::span(totals.p50_duration_ms)) }
                    td.n { (show::span(totals.p95_duration_ms)) }
                    td.n { (show::mean_span(totals.avg_time_to_first_token_ms)) }
                    td.n { (show::percent(model.failed())) }
                    td.n { (show::percent(model.per_call(model.repeated.into()))) }
                    td.n { (show::cost(totals)) }
                }
            } }
        } }
        p.quiet { "Cost per call is that of calls with a price. Repeated: retries of a client's own, and attempts after the first." }
    }
}

fn chart(address: &Address, models: &[Model]) -> Chart {
    let point = |model: &Model| {
        let cost = model.cost_per_call()?;
        let p50 = model.group.totals.p50_duration_ms?;
        let name = value_of(&GroupKey::Model, &model.group.key)?;
        let link = address.to(View::Overview).with("model", &name).href();
        let calls = figures::exact(model.group.totals.requests);
        let said =
            format!("{} a call, p50 {}, {calls} calls", figures::cents(cost), figures::span(p50));
        Some(Series {
            name: show::label(&name),
            values: vec![figures::plotted(cost.decimal())],
            shown: vec![said],
            x: vec![figures::plotted(Decimal::from(p50) / Decimal::ONE_THOUSAND)],
            links: vec![link],
        })
    };
    Chart {
        shape: Shape::Points,
        about: "Cost of a call over its median duration, by model; the table has the same figures"
            .to_owned(),
        unit: "$",
        x_title: "median duration, seconds".to_owned(),
        y_title: "cost of a call".to_owned(),
        x: Vec::new(),
        totals: Vec::new(),
        links: Vec::new(),
        series: models.iter().take(MODELS).filter_map(point).collect(),
    }
}

fn sheet(models: &[Model]) -> Sheet {
    let names = csv::figures(&Totals::default()).0;
    let own = ["model", "repeated_requests", "cost_usd_per_call", "failure_rate"];
    let mut sheet = Sheet::new(own.into_iter().chain(names.iter().map(String::as_str)));
    for model in models {
        let number = |value: Option<Decimal>| match value {
            Some(value) => value.to_string().parse().map_or(Value::Null, Value::Number),
            None => Value::Null,
        };
        let own = [
            value_of(&GroupKey::Model, &model.group.key).map_or(Value::Null, Value::String),
            model.repeated.into(),
            number(model.cost_per_call().map(Usd::decimal)),
            number(model.failed().map(|share| share.round_dp(6).normalize())),
        ];
        sheet.push(own.into_iter().chain(csv::values(&model.group.totals)));
    }
    sheet
}
