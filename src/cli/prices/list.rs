//! `tokenmeter prices list`: every price, a line each.

use clap::Args;
use serde_json::{Value, json};

use super::super::sheet::{Format, Sheet};
use super::super::{Failure, Query, push};
use super::{TableArgs, others};

/// Every price of the table
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub table: TableArgs,

    /// Prices of this provider
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,

    /// Prices of models with this name; * stands for any text
    #[arg(long, value_name = "GLOB")]
    pub model: Option<String>,

    /// What holds at this time: 2026-11-01 or 2026-11-01T09:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl ListArgs {
    fn query(&self) -> Query {
        let mut query = Query::new();
        push(&mut query, "provider", self.provider.as_ref());
        push(&mut query, "name", self.model.as_ref());
        push(&mut query, "at", self.at.as_ref());
        query
    }
}

pub(super) fn run(args: &ListArgs) -> Result<String, Failure> {
    let answer = args.table.ask(&args.query())?;
    let prices = answer["prices"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => whole(prices).csv(),
        Format::Table => {
            let table = &answer["table"];
            let name = table["file"].as_str().unwrap_or("built in");
            let free: Vec<&str> = answer["providers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|one| one["is_free"] == true)
                .filter_map(|one| one["provider"].as_str())
                .collect();
            let mut out = match prices {
                [] => String::new(),
                prices => format!("{}\n\n", short(prices).table()),
            };
            out.push_str(&format!(
                "{} prices of the table {name}, in dollars for 1,000,000 tokens unless it says per\n",
                prices.len()
            ));
            if !free.is_empty() {
                out.push_str(&format!("Free, whatever the model: {}\n", free.join(", ")));
            }
            out
        }
    })
}

/// What a person looks for.
fn short(prices: &[Value]) -> Sheet {
    let columns = ["provider", "model", "input", "cached", "output", "since", "more"];
    let mut sheet = Sheet::new(columns);
    for price in prices {
        let rates = &price["rates"];
        let rate = |key: &str| rates[key].clone();
        let more = [others(rates), conditions(price)];
        let more: Vec<String> = more.into_iter().filter(|text| !text.is_empty()).collect();
        sheet.push([
            price["provider"].clone(),
            price["name"].clone(),
            rate("input"),
            rate("cached_input"),
            rate("output"),
            price["since"].clone(),
            json!(more.join("; ")),
        ]);
    }
    sheet
}

/// The conditions under which something else holds, in few words.
fn conditions(price: &Value) -> String {
    let sets = price["sets"].as_array().map_or(&[][..], Vec::as_slice);
    let set = sets.iter().find(|set| set["since"] == price["since"]);
    let names = |list: &str, key: &str, sign: &str| -> Vec<String> {
        let list = set.and_then(|set| set[list].as_array()).into_iter().flatten();
        let text =
            |one: &Value| one[key].as_str().map_or_else(|| one[key].to_string(), str::to_owned);
        list.map(|one| format!("{sign}{}", text(one))).collect()
    };
    let mut all = names("above", "input_tokens", ">");
    all.extend(names("tiers", "tier", "+"));
    all.extend(names("daily", "hours", "~"));
    all.join(" ")
}

/// Every set of every entry, a line each, with one column for each rate.
fn whole(prices: &[Value]) -> Sheet {
    let mut keys: Vec<String> = Vec::new();
    let mut lines: Vec<(Vec<Value>, Value)> = Vec::new();
    for price in prices {
        for set in price["sets"].as_array().into_iter().flatten() {
            let mut line = |condition: String, rates: &Value| {
                for key in rates.as_object().into_iter().flat_map(serde_json::Map::keys) {
                    if !keys.contains(key) {
                        keys.push(key.clone());
                    }
                }
                let cells = ["provider", "name", "source", "line"].map(|key| price[key].clone());
                let mut cells = cells.to_vec();
                cells.push(set["since"].clone());
                cells.push(json!(Some(condition).filter(|said| !said.is_empty())));
                lines.push((cells, rates.clone()));
            };
            line(String::new(), &set["rates"]);
            let list = |name: &str| set[name].as_array().cloned().unwrap_or_default();
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for hours in list("daily") {
                line(format!("{} UTC", word(&hours["hours"])), &hours["rates"]);
            }
            for above in list("above") {
                line(format!("above {}", above["input_tokens"]), &above["rates"]);
            }
            for tier in list("tiers") {
                let name = word(&tier["tier"]);
                line(format!("tier {name}"), &tier["rates"]);
                for above in tier["above"].as_array().into_iter().flatten() {
                    line(format!("tier {name} above {}", above["input_tokens"]), &above["rates"]);
                }
            }
        }
    }
    let columns = ["provider", "model", "source", "line", "since", "condition"].map(str::to_owned);
    let mut sheet = Sheet::new(columns.into_iter().chain(keys.iter().cloned()));
    for (mut cells, rates) in lines {
        cells.extend(keys.iter().map(|key| match &rates[key] {
            Value::Object(sizes) => json!(super::figure(&Value::Object(sizes.clone()))),
            rate => rate.clone(),
        }));
        sheet.push(cells);
    }
    sheet
}
