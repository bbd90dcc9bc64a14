//! What repricing comes to: by model, in all, and why calls were left as they are. Owns the sums and how
//! they are shown; knows neither prices nor the ledger.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::sheet::{Sheet, for_people};
use crate::meter::LeftAlone;
use crate::record::{Record, RowCost};
use crate::units::Usd;

/// Models that are told apart; what a client called a model may be anything.
const MODELS: usize = 1_000;

/// The models beyond these.
const OTHERS: &str = "(others)";

/// Collects what became of calls, in memory that does not grow with their number.
#[derive(Debug, Default)]
pub(super) struct Difference {
    looked_at: u64,
    unchanged: u64,
    changed: Line,
    models: HashMap<Option<String>, Line>,
    kept: BTreeMap<LeftAlone, u64>,
}

/// Calls whose cost changes.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    requests: u64,
    before: Usd,
    after: Usd,
    newly_priced: u64,
    newly_unpriced: u64,
}

impl Line {
    fn add(&mut self, before: Option<Usd>, after: Option<Usd>) {
        self.requests += 1;
        self.before += before.unwrap_or_default();
        self.after += after.unwrap_or_default();
        self.newly_priced += u64::from(before.is_none() && after.is_some());
        self.newly_unpriced += u64::from(before.is_some() && after.is_none());
    }

    fn difference(&self) -> Usd {
        self.after - self.before
    }

    /// By their names.
    fn figures(&self) -> [(&'static str, Value); 6] {
        [
            ("requests", self.requests.into()),
            ("cost_before", money(self.before)),
            ("cost_after", money(self.after)),
            ("difference", money(self.difference())),
            ("newly_priced", self.newly_priced.into()),
            ("newly_unpriced", self.newly_unpriced.into()),
        ]
    }

    fn json(&self) -> Value {
        Value::Object(
            self.figures().map(|(name, figure)| (name.to_owned(), figure)).into_iter().collect(),
        )
    }
}

/// Without the zeros that a sum ends in.
pub(super) fn money(usd: Usd) -> Value {
    serde_json::to_value(Usd::new(usd.decimal())).unwrap_or_default()
}

impl Difference {
    /// Takes a call as it was, and what was found for it.
    pub(super) fn add(&mut self, record: &Record, found: &Result<RowCost, LeftAlone>) {
        self.looked_at += 1;
        match found {
            Err(kept) => *self.kept.entry(*kept).or_default() += 1,
            Ok(cost) if *cost == record.cost() => self.unchanged += 1,
            Ok(cost) => {
                self.changed.add(record.cost_usd, cost.cost_usd);
                self.model(record).add(record.cost_usd, cost.cost_usd);
            }
        }
    }

    fn model(&mut self, record: &Record) -> &mut Line {
        let mut model = record.model.as_ref().or(record.model_requested.as_ref()).cloned();
        if self.models.len() >= MODELS && !self.models.contains_key(&model) {
            model = Some(OTHERS.to_owned());
        }
        self.models.entry(model).or_default()
    }

    /// The models, that with the largest difference first.
    fn models(&self) -> Vec<(&Option<String>, &Line)> {
        let mut models: Vec<_> = self.models.iter().collect();
        let size = |line: &Line| line.difference().max(Usd::ZERO - line.difference());
        models.sort_by(|(name, line), (other_name, other)| {
            size(other).cmp(&size(line)).then_with(|| name.cmp(other_name))
        });
        models
    }

    pub(super) fn json(&self) -> Value {
        let model = |(name, line): (&Option<String>, &Line)| {
            let mut figures = serde_json::Map::from_iter([("model".to_owned(), json!(name))]);
            figures.extend(line.figures().map(|(name, figure)| (name.to_owned(), figure)));
            Value::Object(figures)
        };
        let kept = |(kept, requests): (&LeftAlone, &u64)| json!({"reason": kept.as_str(), "requests": requests});
        json!({
            "looked_at": self.looked_at,
            "unchanged": self.unchanged,
            "changed": self.changed.json(),
            "models": self.models().into_iter().map(model).collect::<Vec<_>>(),
            "kept": self.kept.iter().map(kept).collect::<Vec<_>>(),
        })
    }

    pub(super) fn csv(&self) -> String {
        self.sheet(false).csv()
    }

    pub(super) fn table(&self) -> String {
        let count = |requests: u64| for_people(&requests.into());
        let mut out = String::new();
        if self.changed.requests > 0 {
            out.push_str(&self.sheet(true).table());
            out.push_str("\n\n");
        }
        let (looked_at, changed) = (count(self.looked_at), count(self.changed.requests));
        let unchanged = count(self.unchanged);
        writeln!(
            out,
            "{looked_at} calls looked at: {changed} with another cost, {unchanged} with the same"
        )
        .expect("a String takes all");
        for (kept, requests) in &self.kept {
            writeln!(out, "{} left as they are: {}", count(*requests), kept.reason())
                .expect("a String takes all");
        }
        out
    }

    fn sheet(&self, with_total: bool) -> Sheet {
        let columns = Line::default().figures().map(|(name, _)| name);
        let mut sheet = Sheet::new(["model"].into_iter().chain(columns));
        let cells = |name: Value, line: &Line| {
            [name].into_iter().chain(line.figures().map(|(_, figure)| figure)).collect::<Vec<_>>()
        };
        for (name, line) in self.models() {
            sheet.push(cells(json!(name), line));
        }
        if with_total {
            sheet.push(cells("total".into(), &self.changed));
        }
        sheet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CallId;

    fn call(model: Option<&str>, cost: Option<&str>) -> Record {
        let row = json!({"id": CallId::new(), "created_at": "2026-01-02T00:00:00Z", "upstream": "u",
            "provider": "p", "endpoint": "e", "method": "POST", "path": "/",
            "usage_source": "reported", "cost_source": "none", "streaming": false,
            "outcome": "completed"});
        let record: Record = serde_json::from_str(&row.to_string()).unwrap();
        let cost_usd = cost.map(|cost| cost.parse().unwrap());
        Record { model: model.map(str::to_owned), cost_usd, ..record }
    }

    fn now(cost: Option<&str>) -> RowCost {
        let cost_usd = cost.map(|cost| cost.parse().unwrap());
        RowCost { cost_usd, ..RowCost::default() }
    }

    #[test]
    fn what_changes_is_summed_by_model_and_in_all() {
        let mut difference = Difference::default();
        difference.add(&call(Some("a"), Some("1")), &Ok(now(Some("1.5"))));
        difference.add(&call(Some("a"), None), &Ok(now(Some("0.25"))));
        difference.add(&call(Some("b"), Some("3")), &Ok(now(None)));
        difference.add(&call(Some("b"), Some("7")), &Ok(now(Some("7"))));
        difference.add(&call(None, None), &Err(LeftAlone::NoUsage));
        let json = difference.json();
        assert_eq!((&json["looked_at"], &json["unchanged"]), (&json!(5), &json!(1)));
        assert_eq!(json["changed"]["requests"], 3);
        assert_eq!(json["changed"]["difference"].to_string(), "-2.25");
        assert_eq!(json["kept"], json!([{"reason": "no_usage", "requests": 1}]));
        assert_eq!(
            difference.csv(),
            "model,requests,cost_before,cost_after,difference,newly_priced,newly_unpriced\r\n\
             b,1,3,0,-3,0,1\r\na,2,1,1.75,0.75,1,0\r\n"
        );
        let table = difference.table();
        assert!(
            table.contains("5 calls looked at: 3 with another cost, 1 with the same"),
            "{table}"
        );
        assert!(table.contains("1 left as they are: no usage is known"), "{table}");
        assert!(
            table
                .lines()
                .any(|line| line.trim_start().starts_with("total") && line.contains("-2.25"))
        );
    }

    #[test]
    fn ever_new_models_take_no_more_memory() {
        let mut difference = Difference::default();
        for model in 0..MODELS + 50 {
            difference.add(&call(Some(&format!("m{model}")), None), &Ok(now(Some("1"))));
        }
        assert_eq!(difference.models.len(), MODELS + 1);
        assert_eq!(difference.models[&Some(OTHERS.to_owned())].requests, 50);
    }
}
