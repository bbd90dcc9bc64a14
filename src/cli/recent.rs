//! `tokenmeter recent`: what was typed, as a question to the ledger, and the answer as a list of calls.

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::filters::{FilterArgs, WindowArgs};
use super::sheet::{Format, Sheet, about, money};
use super::source::{Report, Source};
use super::{Failure, Query, SourceArgs, push};
use crate::admin::question::ROWS;
use crate::ledger::COLUMNS;
use crate::units::Timestamp;

/// The newest calls
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tokenmeter recent                                   the last twenty
  tokenmeter recent --limit 100 --session s-42
  tokenmeter recent --status 429 --since 2026-11-21   what was refused, and when
  tokenmeter recent --cost-source none --format csv   what has no price, all columns

A `~` marks what is an estimate. A table that is wider than the terminal leaves columns out, and says which.

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct RecentArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// So many calls
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl RecentArgs {
    /// The parameters of `GET /admin/usage`.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        push(&mut query, "limit", Some(self.limit));
        query
    }
}

/// The newest calls, as they are to be printed.
pub(super) fn run(args: &RecentArgs) -> Result<String, Failure> {
    let answer = gather(&Source::of(&args.source)?, &args.query(), args.limit.into())?;
    Ok(match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => all_columns(records(&answer)).csv(),
        Format::Table if records(&answer).is_empty() => "no calls\n".to_owned(),
        Format::Table => format!("{}\n", newest(records(&answer), &args.window.zone()).table()),
    })
}

/// Page by page, because one answer holds only so many.
fn gather(source: &Source, query: &Query, limit: u64) -> Result<Value, Failure> {
    let (mut records, mut cursor) = (Vec::new(), Value::Null);
    let mut left = limit;
    while left > 0 {
        let mut query = query.clone();
        query.retain(|(name, _)| name != "limit");
        push(&mut query, "limit", Some(left.min(*ROWS.end())));
        push(&mut query, "cursor", cursor.as_str());
        let mut page = source.ask(Report::Usage, &query)?;
        let Value::Array(rows) = page["records"].take() else { break };
        left = left.saturating_sub(rows.len() as u64);
        records.extend(rows);
        cursor = page["next_cursor"].take();
        if cursor.is_null() {
            break;
        }
    }
    Ok(json!({"records": records, "next_cursor": cursor}))
}

/// All calls, the oldest first, as a table, and how many there are.
pub(super) fn all(
    source: &Source,
    query: &Query,
    zone: &TimeZone,
) -> Result<(String, u64), Failure> {
    let mut answer = gather(source, query, u64::MAX)?;
    if let Some(records) = answer["records"].as_array_mut() {
        records.reverse();
    }
    let calls = records(&answer);
    Ok((format!("{}\n", newest(calls, zone).table()), calls.len() as u64))
}

fn records(answer: &Value) -> &[Value] {
    answer["records"].as_array().map_or(&[], Vec::as_slice)
}

fn all_columns(records: &[Value]) -> Sheet {
    let mut sheet = Sheet::new(COLUMNS);
    for record in records {
        sheet.push(COLUMNS.map(|column| record[column].clone()));
    }
    sheet
}

/// What a person looks for: the column and its title. Below the time, which is made.
const SHOWN: [(&str, &str); 17] = [
    ("user", "user"),
    ("session", "session"),
    ("operation", "operation"),
    ("provider", "provider"),
    ("model", "model"),
    ("endpoint", "endpoint"),
    ("input_tokens", "input"),
    ("cache_read_tokens", "cache read"),
    ("output_tokens", "output"),
    ("reasoning_tokens", "reasoning"),
    ("cost_usd", "cost"),
    ("status", "status"),
    ("outcome", "outcome"),
    ("finish_reason", "finish"),
    ("error", "error"),
    ("time_to_first_token_ms", "first ms"),
    ("duration_ms", "ms"),
];

/// In the order in which they give way to narrow terminals.
const EXPENDABLE: [&str; 12] = [
    "reasoning",
    "endpoint",
    "cache read",
    "finish",
    "provider",
    "first ms",
    "session",
    "error",
    "outcome",
    "ms",
    "operation",
    "input",
];

fn newest(records: &[Value], zone: &TimeZone) -> Sheet {
    let time = format!("time ({})", zone.iana_name().unwrap_or("UTC"));
    let columns = [time.as_str()].into_iter().chain(SHOWN.map(|(_, title)| title));
    let mut sheet = Sheet::new(columns)
        .one_line(7, EXPENDABLE)
        .keep_whole([time.clone()])
        .alarm("status", |cell| cell.as_u64().is_some_and(|status| status >= 400))
        .alarm("outcome", |cell| cell != "completed")
        .alarm("error", |_| true);
    for record in records {
        let [input, output, cost] = estimated(record);
        let cells = SHOWN.map(|(column, _)| {
            let cell = &record[column];
            match column {
                "model" if cell.is_null() => record["model_requested"].clone(),
                "input_tokens" if input => about(cell),
                "output_tokens" if output => about(cell),
                "cost_usd" if cost => about(&money(cell)),
                "cost_usd" => money(cell),
                _ => cell.clone(),
            }
        });
        sheet.push([local_time(&record["created_at"], zone)].into_iter().chain(cells));
    }
    sheet
}

/// Which of input, output and cost are an estimate, as [`Record::estimated_figures`] tells it.
///
/// [`Record::estimated_figures`]: crate::record::Record::estimated_figures
fn estimated(record: &Value) -> [bool; 3] {
    if record["usage_source"] != "estimated" {
        return [false; 3];
    }
    let [input, output] = ["input", "output"].map(|side| record["estimate"][side].is_object());
    let neither = !(input || output);
    [input || neither, output || neither, record["cost_source"] != "provider"]
}

fn local_time(created_at: &Value, zone: &TimeZone) -> Value {
    let time = created_at.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let shown = time.map(|time| {
        time.calendar().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    });
    shown.map_or_else(|| created_at.clone(), Value::String)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_where_the_reader_is() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let records = [json!({
            "created_at": "2026-11-21T23:30:00.120Z", "user": "ann", "model": null,
            "model_requested": "gpt-4o", "input_tokens": 12345, "status": 200,
        })];
        let table = newest(&records, &berlin).table();
        assert!(table.contains("time (Europe/Berlin)"), "{table}");
        assert!(table.contains("2026-11-22 00:30:00"), "{table}");
        assert!(table.contains("gpt-4o") && table.contains("12,345"), "{table}");
    }

    #[test]
    fn estimated_figures_are_marked_and_no_others() {
        let figures = json!({"input_tokens": 12345, "output_tokens": 67, "cost_usd": 0.5});
        let row = |more: Value| {
            let mut row = figures.clone();
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            newest(&[row], &TimeZone::UTC).table()
        };
        let reported = row(json!({"usage_source": "reported", "cost_source": "priced"}));
        assert!(!reported.contains('~'), "{reported}");
        let output = row(json!({
            "usage_source": "estimated", "cost_source": "priced",
            "estimate": {"output": {"method": "bpe", "error": 0.02}, "error_tokens": 2},
        }));
        assert!(output.contains(" 12,345 ") && output.contains("~67"), "{output}");
        assert!(output.contains("~$0.5"), "{output}");
        let all = row(json!({"usage_source": "estimated", "cost_source": "provider"}));
        assert!(all.contains("~12,345") && all.contains(" $0.5"), "{all}");
    }
}
