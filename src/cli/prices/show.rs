//! `tokenmeter prices show`: which entry applies to a model, why, and all that it says.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::super::sheet::{Format, Sheet, for_people};
use super::super::{Failure, Query, push};
use super::{TableArgs, figure};

/// What a model costs, by which entry and why
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The model's name, as calls have it
    #[arg(value_name = "MODEL")]
    pub model: String,

    #[command(flatten)]
    pub table: TableArgs,

    /// At this provider [default: every provider whose own table has it]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,

    /// What held or will hold at this time: 2026-11-01 or 2026-11-01T09:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl ShowArgs {
    fn query(&self) -> Query {
        let mut query = Query::new();
        push(&mut query, "model", Some(&self.model));
        push(&mut query, "provider", self.provider.as_ref());
        push(&mut query, "at", self.at.as_ref());
        query
    }
}

pub(super) fn run(args: &ShowArgs) -> Result<String, Failure> {
    let answer = args.table.ask(&args.query())?;
    let applies = answer["applies"].as_array().map_or(&[][..], Vec::as_slice);
    if applies.is_empty() {
        let near = similar(&answer);
        let model = &args.model;
        return Err(Failure::Failed(format!(
            "no provider's table has `{model}`{near}; --provider says what it costs there anyway"
        )));
    }
    Ok(match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => csv(applies).csv(),
        Format::Table => {
            let parts: Vec<String> = applies.iter().map(|one| account(one, &answer)).collect();
            parts.join("\n")
        }
    })
}

fn similar(answer: &Value) -> String {
    let names = answer["similar"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

/// All of it in words.
fn account(applied: &Value, answer: &Value) -> String {
    let text = |value: &Value| for_people(value);
    let mut out = format!("{} at {}\n", text(&applied["model"]), text(&applied["provider"]));
    let mut fact = |name: &str, said: &str| {
        if !said.is_empty() {
            writeln!(out, "  {name:<9} {said}").expect("a String takes all");
        }
    };
    let source = applied["cost_source"].as_str().unwrap_or_default();
    fact(
        "price",
        &match source {
            "none" if applied["entry"].is_null() => {
                "unknown: calls are recorded without a cost".to_owned()
            }
            "none" => format!(
                "{}, by what calls do not tell: they are recorded without a cost",
                text(&applied["price_id"])
            ),
            "free" => "free".to_owned(),
            _ => text(&applied["price_id"]),
        },
    );
    fact("because", &text(&applied["reason"]));
    let entry = answer["prices"].as_array().into_iter().flatten();
    let entry = entry.into_iter().find(|entry| entry["id"] == applied["entry"]);
    if let Some(entry) = entry {
        let line = entry["line"].as_u64().map_or_else(String::new, |line| format!(", line {line}"));
        fact("stands in", &format!("{}{line}", text(&entry["source"])));
        let aliases = entry["aliases"].as_array().into_iter().flatten().map(text);
        fact("also", &aliases.collect::<Vec<_>>().join(", "));
        if let Some(seconds) = entry["min_audio_seconds"].as_u64() {
            fact("audio", &format!("charged for {seconds} s at least"));
        }
    }
    if !applied["multiplier"].is_null() {
        fact("times", &format!("{} (multiplier of the provider)", text(&applied["multiplier"])));
    }
    let example = &applied["example"];
    if !example["cost_usd"].is_null() {
        fact(
            "example",
            &format!(
                "{} input and {} output tokens cost ${}",
                text(&example["input_tokens"]),
                text(&example["output_tokens"]),
                example["cost_usd"]
            ),
        );
    }
    if source == "default" || applied["entry"].is_null() {
        fact("similar", similar(answer).trim_start_matches("; "));
    }
    if let Some(entry) = entry {
        writeln!(out, "\n{}", sets(entry).table()).expect("a String takes all");
    }
    out
}

/// A line for each condition, a column for each rate.
fn sets(entry: &Value) -> Sheet {
    let mut keys: Vec<&String> = Vec::new();
    let mut lines: Vec<(String, String, &Value)> = Vec::new();
    for set in entry["sets"].as_array().into_iter().flatten() {
        let holds = set["since"] == entry["since"];
        let since = set["since"].as_str().unwrap_or("the beginning");
        let since = if holds { format!("{since} (holds)") } else { since.to_owned() };
        add(set, &since, &mut lines);
    }
    for (_, _, rates) in &lines {
        for key in rates.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    // Where nothing has a date, none is told.
    let is_dated = entry["sets"].as_array().is_some_and(|sets| sets.len() > 1);
    let words = if is_dated { vec!["since", "for"] } else { vec!["for"] };
    let columns = words.iter().map(|word| (*word).to_owned());
    let mut sheet = Sheet::new(columns.chain(keys.iter().map(|key| (*key).clone())));
    for (since, condition, rates) in &lines {
        let mut cells = vec![json!(since), json!(condition)];
        cells.drain(..cells.len() - words.len());
        cells.extend(keys.iter().map(|key| match &rates[key.as_str()] {
            sizes @ Value::Object(_) => json!(figure(sizes)),
            rate => rate.clone(),
        }));
        sheet.push(cells);
    }
    sheet
}

/// The plain rates of a set and those under each condition.
fn add<'v>(set: &'v Value, since: &str, lines: &mut Vec<(String, String, &'v Value)>) {
    let mut line = |condition: String, rates: &'v Value| {
        let since = if condition == "all" { since } else { "" };
        lines.push((since.to_owned(), condition, rates));
    };
    let list = |of: &'v Value, name: &str| of[name].as_array().into_iter().flatten();
    let more_than =
        |above: &Value| format!("over {} input tokens", for_people(&above["input_tokens"]));
    line("all".to_owned(), &set["rates"]);
    for hours in list(set, "daily") {
        line(format!("{} UTC", for_people(&hours["hours"])), &hours["rates"]);
    }
    for above in list(set, "above") {
        line(more_than(above), &above["rates"]);
    }
    for tier in list(set, "tiers") {
        let name = format!("tier {}", for_people(&tier["tier"]));
        line(name.clone(), &tier["rates"]);
        for above in list(tier, "above") {
            line(format!("{name}, {}", more_than(above)), &above["rates"]);
        }
    }
}

/// A line for each provider.
fn csv(applies: &[Value]) -> Sheet {
    let columns = ["provider", "model", "at", "cost_source", "price_id", "reason", "multiplier"];
    let mut keys: Vec<String> = Vec::new();
    for one in applies {
        for key in one["rates"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    let names = columns.iter().map(|name| (*name).to_owned());
    let mut sheet = Sheet::new(names.chain(["example_cost_usd".to_owned()]).chain(keys.clone()));
    for one in applies {
        let mut cells: Vec<Value> = columns.iter().map(|name| one[*name].clone()).collect();
        cells.push(one["example"]["cost_usd"].clone());
        cells.extend(keys.iter().map(|key| match &one["rates"][key.as_str()] {
            sizes @ Value::Object(_) => json!(figure(sizes)),
            rate => rate.clone(),
        }));
        sheet.push(cells);
    }
    sheet
}
