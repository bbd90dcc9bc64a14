//! Models side by side for the same work: what one call takes, costs, waits and fails. Owns the figures per
//! call.

use std::collections::HashMap;

use maud::{Markup, html};
use rust_decimal::Decimal;
use serde_json::Value;

use super::{groups, listed};
use crate::admin::dashboard::address::{Address, View};
use crate::admin::dashboard::chart::{Chart, Series, Shape};
use crate::admin::dashboard::csv::{self, Sheet};
use crate::admin::dashboard::frame::{self, Page};
use crate::admin::dashboard::table::{linked, value_of};
use crate::admin::dashboard::{Scene, Shown, show};
use crate::figures;
use crate::ledger::{Group, GroupKey, QueryError, Totals};
use crate::pricing::CostSource;
use crate::units::Usd;

/// Models on the page.
const MODELS: usize = 40;

/// Operations that are offered.
const OPERATIONS: usize = 60;

/// A model's calls: of how many the cost is known, and how many were not the first try; nothing where that
/// would take more groups than can be listed.
struct Model {
    group: Group,
    priced: Option<u64>,
    repeated: Option<u64>,
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

    /// Of the tokens of calls that have any of their own: what failed before there were some, and what was
    /// only fetched again, would make calls look small.
    fn tokens_per_call(&self, tokens: u64) -> Option<Decimal> {
        let totals = &self.group.totals;
        let without = totals.unreported_requests.saturating_add(totals.refetched_requests);
        let calls = totals.requests.saturating_sub(without);
        Decimal::from(tokens).checked_div(calls.into())
    }

    /// Of calls whose cost is known: unpriced ones, failed ones and those charged elsewhere have none, and
    /// would make a model look cheap.
    fn cost_per_call(&self) -> Option<Usd> {
        let totals = &self.group.totals;
        if !self.is_used() {
            return None;
        }
        let cost = totals.cost_usd.decimal().checked_div(self.priced?.into())?;
        Some(Usd::new(cost.round_dp(12)))
    }

    fn failed(&self) -> Option<Decimal> {
        self.per_call(self.group.totals.errors.into())
    }
}

pub(super) fn show(scene: &Scene<'_>) -> Result<Shown, QueryError> {
    let address = scene.address;
    if address.is_csv {
        return Ok(Shown::Sheet("models", sheet(&read(scene)?)));
    }
    let models = match read(scene) {
        Err(QueryError::TooManyGroups(_)) => None,
        models => Some(models?),
    };
    let title = "Models compared".to_owned();
    let (totals, [operations]) =
        listed(scene, &address.without_operation(), [vec![GroupKey::Operation]])?;
    if totals.requests == 0 {
        return scene.nothing(title);
    }
    let body = html! {
        section.panel {
            h2 { "For which operation" }
            (choice(address, operations.as_deref().unwrap_or_default()))
            @if operations.is_none() { p.quiet { (frame::TOO_MANY) } }
            @if address.condition("operation").is_none() {
                p.quiet { "These are all calls. Figures say more of calls with the same work: choose one." }
            }
        }
        @match &models {
            None => (frame::too_many("Per call")),
            Some(models) if models.is_empty() => (frame::nothing(scene, false)),
            Some(models) => (compared(address, models)),
        }
    };
    let csv = Some(address.as_csv().href());
    Ok(Shown::Page(Page { title, body, is_scoped: true, csv, is_trouble: false }))
}

fn compared(address: &Address, models: &[Model]) -> Markup {
    html! {
        section.panel {
            h2 { "Per call" }
            (table(address, models))
        }
        @if models.len() > 1 { section.panel {
            h2 { "Cost and latency of a call" }
            (chart(address, models).markup("models"))
        } }
    }
}

/// The models by the number of their calls.
fn read(scene: &Scene<'_>) -> Result<Vec<Model>, QueryError> {
    use GroupKey::{Attempt, CostSource, Retry};
    let scope = scene.address.scope();
    let (_, [models]) = groups(scene, &scope, [GroupKey::Model])?;
    let groupings = [vec![GroupKey::Model, CostSource], vec![GroupKey::Model, Retry, Attempt]];
    let (_, [costs, tries]) = listed(scene, &scope, groupings)?;
    let priced = costs.map(|costs| calls_by_model(&costs, is_priced));
    let repeated = tries.map(|tries| calls_by_model(&tries, is_repeated));
    let of = |group: Group| {
        let name = value_of(&GroupKey::Model, &group.key);
        let count = |known: &Option<HashMap<_, u64>>| {
            known.as_ref().map(|known| known.get(&name).copied().unwrap_or_default())
        };
        Model { priced: count(&priced), repeated: count(&repeated), group }
    };
    let mut models: Vec<Model> = models.into_iter().map(of).collect();
    models.sort_by_key(|model| std::cmp::Reverse(model.group.totals.requests));
    Ok(models)
}

fn is_priced(group: &Group) -> bool {
    value_of(&GroupKey::CostSource, &group.key)
        .is_some_and(|source| source != CostSource::None.as_str())
}

fn is_repeated(group: &Group) -> bool {
    let is_over = |key: &str, first: u64| {
        group.key.get(key).and_then(Value::as_u64).is_some_and(|number| number > first)
    };
    is_over("retry", 0) || is_over("attempt", 1)
}

/// How many calls each model has in the groups that are counted.
fn calls_by_model(
    groups: &[Group],
    is_counted: fn(&Group) -> bool,
) -> HashMap<Option<String>, u64> {
    let mut calls: HashMap<Option<String>, u64> = HashMap::new();
    for group in groups.iter().filter(|group| is_counted(group)) {
        let calls = calls.entry(value_of(&GroupKey::Model, &group.key)).or_default();
        *calls = calls.saturating_add(group.totals.requests);
    }
    calls
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
                    td.n { (mean(model.tokens_per_call(totals.input_tokens))) }
                    td.n { (show::percent(totals.cache_hit_rate)) }
                    td.n { (mean(model.tokens_per_call(totals.output_tokens))) }
                    td.n { (mean(model.tokens_per_call(totals.reasoning_tokens))) }
                    td.n { (show::span(totals.p50_duration_ms)) }
                    td.n { (show::span(totals.p95_duration_ms)) }
                    td.n { (show::mean_span(totals.avg_time_to_first_token_ms)) }
                    td.n { (show::percent(model.failed())) }
                    td.n { (show::percent(model.repeated.and_then(|repeated| model.per_call(repeated.into())))) }
                    td.n { (show::cost(totals)) }
                }
            } }
        } }
        p.quiet {
            "Cost per call is that of calls whose cost is known, tokens those of calls that have any of their own: \
            neither counts calls that failed before there were some. Failed and repeated are shares of all calls; \
            repeated are retries of a client's own, and attempts after the first."
        }
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
            model.repeated.map_or(Value::Null, Value::from),
            number(model.cost_per_call().map(Usd::decimal)),
            number(model.failed().map(|share| share.round_dp(6).normalize())),
        ];
        sheet.push(own.into_iter().chain(csv::values(&model.group.totals)));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_model_that_fails_half_its_calls_is_not_half_as_dear() {
        let Value::Object(key) = json!({"model": "m"}) else { panic!() };
        let totals = Totals {
            requests: 10,
            errors: 5,
            input_tokens: 500,
            total_tokens: 500,
            unreported_requests: 4,
            refetched_requests: 1,
            cost_usd: "1".parse().unwrap(),
            ..Totals::default()
        };
        let group = Group { key, totals };
        let model = Model { group, priced: Some(5), repeated: Some(0) };
        assert_eq!(model.cost_per_call(), "0.2".parse().ok());
        assert_eq!(model.tokens_per_call(500), Some(Decimal::ONE_HUNDRED));
        assert_eq!(model.failed(), Some(Decimal::new(5, 1)));
    }

    #[test]
    fn calls_without_a_cost_are_not_priced() {
        let group = |source: &str, requests| {
            let key = json!({"model": "m", "cost_source": source});
            let Value::Object(key) = key else { panic!() };
            Group { key, totals: Totals { requests, ..Totals::default() } }
        };
        let groups = [group("none", 5), group("priced", 3), group("default", 1), group("free", 2)];
        let counted = calls_by_model(&groups, is_priced);
        assert_eq!(counted.get(&Some("m".to_owned())), Some(&6));
    }
}
