//! `tokenmeter prices check`: whether a price table is right, what in it may be a slip, and which of the
//! calls of the last month it did not know.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::sheet::{Format, Sheet};
use super::super::source::{Report, Source};
use super::super::{Failure, Query, SourceArgs, push};
use super::failed;
use crate::app;
use crate::config::{self, Flags, keys};
use crate::pricing::{PriceError, PriceTable, TableError};

/// How far back calls are looked at.
const DAYS: u32 = 30;

/// Say what is wrong with the prices: exit code 1 if anything is
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The price table [default: --pricing, else the configured one, else the one built in]
    #[arg(value_name = "FILE", conflicts_with = "pricing")]
    pub file: Option<PathBuf>,

    /// Price table
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,

    #[command(flatten)]
    pub source: SourceArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What was found.
struct Findings {
    table: String,
    entries: usize,
    errors: Vec<PriceError>,
    /// The file cannot be read.
    unreadable: Option<String>,
    warnings: Vec<PriceError>,
    /// Models that were guessed or not priced; `None` where there is no ledger.
    unknown: Option<Vec<Value>>,
}

pub(super) fn run(args: &CheckArgs) -> Result<String, Failure> {
    let file = match &args.file {
        Some(file) => Some(file.clone()),
        None => {
            let config = args.source.config.clone();
            let flags = Flags { config, pricing: args.pricing.clone(), ..Flags::default() };
            config::books(&flags).map_err(failed)?.pricing
        }
    };
    let found = look(args, file.as_ref())?;
    let said = match args.format {
        Format::Json => format!("{:#}\n", found.json()),
        Format::Csv => found.csv(),
        Format::Table => found.words(),
    };
    let is_right = found.errors.is_empty() && found.unreadable.is_none();
    if is_right { Ok(said) } else { Err(Failure::Found(said)) }
}

fn look(args: &CheckArgs, file: Option<&PathBuf>) -> Result<Findings, Failure> {
    let read = match file {
        None => Ok(PriceTable::builtin()),
        Some(file) => app::read_table(file),
    };
    let mut found = Findings {
        table: file.map_or_else(|| "built in".to_owned(), |file| file.display().to_string()),
        entries: 0,
        errors: Vec::new(),
        unreadable: None,
        warnings: Vec::new(),
        unknown: unknown(args)?,
    };
    match read {
        Ok(table) => {
            found.entries = table.book.len();
            found.warnings = table.book.doubts();
        }
        Err(error) => found.broken(error),
    }
    Ok(found)
}

/// The models that the table in force did not know, with calls and tokens.
fn unknown(args: &CheckArgs) -> Result<Option<Vec<Value>>, Failure> {
    let is_here = args.source.url.is_none() && config::variable(keys::ENV_URL).is_none();
    if is_here && args.source.database.is_none() {
        // Prices can be looked at where nothing has been recorded yet.
        let database = config::database(&args.source.flags()).map_err(failed)?;
        if !database.exists() {
            return Ok(None);
        }
    }
    let source = Source::of(&args.source)?;
    let mut query = Query::new();
    push(&mut query, "days", Some(DAYS));
    push(&mut query, "group_by", Some("provider,model,cost_source"));
    push(&mut query, "sort", Some("requests"));
    let answer = source.ask(Report::Stats, &query)?;
    let groups = answer["groups"].as_array().into_iter().flatten();
    let is_unknown = |group: &&Value| {
        let counts = ["unpriced_requests", "default_priced_requests"];
        counts.iter().any(|count| group[*count].as_u64().is_some_and(|calls| calls > 0))
    };
    let line = |group: &Value| {
        let calls = ["unpriced_requests", "default_priced_requests"]
            .iter()
            .filter_map(|count| group[*count].as_u64())
            .max();
        json!({
            "provider": group["key"]["provider"], "model": group["key"]["model"],
            "cost_source": group["key"]["cost_source"], "requests": calls,
            "total_tokens": group["total_tokens"],
        })
    };
    Ok(Some(groups.filter(is_unknown).map(line).collect()))
}

impl Findings {
    fn broken(&mut self, error: TableError) {
        if error.complaints.is_empty() {
            self.unreadable = Some(error.to_string());
        }
        self.errors = error.complaints;
    }

    fn json(&self) -> Value {
        let list = |all: &[PriceError]| -> Vec<Value> {
            all.iter().map(|one| json!({"line": one.line, "message": one.message})).collect()
        };
        let unreadable =
            self.unreadable.iter().map(|message| json!({"line": null, "message": message}));
        let errors: Vec<Value> = unreadable.chain(list(&self.errors)).collect();
        json!({
            "table": self.table, "entries": self.entries, "errors": errors,
            "warnings": list(&self.warnings), "days": DAYS, "unknown_models": self.unknown,
        })
    }

    fn csv(&self) -> String {
        let mut sheet = Sheet::new([
            "kind",
            "line",
            "message",
            "provider",
            "model",
            "requests",
            "total_tokens",
        ]);
        if let Some(message) = &self.unreadable {
            sheet.push([json!("error"), Value::Null, json!(message)]);
        }
        for (kind, all) in [("error", &self.errors), ("warning", &self.warnings)] {
            for one in all {
                sheet.push([json!(kind), json!(one.line), json!(one.message)]);
            }
        }
        for one in self.unknown.iter().flatten() {
            let source = one["cost_source"].as_str();
            let kind = if source == Some("default") { "default_priced" } else { "unpriced" };
            let mut cells = vec![json!(kind), Value::Null, Value::Null];
            cells.extend(
                ["provider", "model", "requests", "total_tokens"].map(|key| one[key].clone()),
            );
            sheet.push(cells);
        }
        sheet.csv()
    }

    fn words(&self) -> String {
        let mut out = String::new();
        if let Some(message) = &self.unreadable {
            out.push_str(&format!("error: {message}\n"));
        }
        for (kind, all) in [("error", &self.errors), ("warning", &self.warnings)] {
            for one in all {
                out.push_str(&format!("{}:{}: {kind}: {}\n", self.table, one.line, one.message));
            }
        }
        let warnings = match self.warnings.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            count => format!(", {count} warnings"),
        };
        match self.errors.len() + usize::from(self.unreadable.is_some()) {
            0 => out.push_str(&format!(
                "{}: {} prices, nothing wrong{warnings}\n",
                self.table, self.entries
            )),
            1 => out.push_str(&format!("{}: 1 error\n", self.table)),
            errors => out.push_str(&format!("{}: {errors} errors\n", self.table)),
        }
        match self.unknown.as_deref() {
            None => {}
            Some([]) => {
                out.push_str(&format!(
                    "Every call of the last {DAYS} days was priced by its own model\n"
                ));
            }
            Some(unknown) => {
                out.push_str(&format!(
                    "\nNot priced by their own model in the last {DAYS} days:\n\n"
                ));
                let mut sheet = Sheet::new(["provider", "model", "priced", "calls", "tokens"]);
                for one in unknown {
                    let source = one["cost_source"].as_str();
                    let how = if source == Some("default") { "by default" } else { "not at all" };
                    sheet.push([
                        one["provider"].clone(),
                        one["model"].clone(),
                        json!(how),
                        one["requests"].clone(),
                        one["total_tokens"].clone(),
                    ]);
                }
                out.push_str(&format!("{}\n", sheet.table()));
            }
        }
        out
    }
}
