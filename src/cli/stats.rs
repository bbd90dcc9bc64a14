//! `tokenmeter stats`: what was typed, as a question to the ledger, and the answer as totals or groups.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::filters::{FilterArgs, WindowArgs};
use super::sheet::{Format, Sheet, for_people};
use super::source::{Report, Source};
use super::{Failure, Query, SourceArgs, complain, push};

/// Totals and breakdowns
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        help = "Break down by: user, session, operation, attempt, model, provider, upstream, endpoint, \
                finish_reason, usage_source, cost_source, price_id, outcome, status, error, retry, \
                hour, day, week, month, metadata.NAME"
    )]
    pub by: Vec<String>,

    /// Sort the groups by this column
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,

    /// Which way to sort
    #[arg(long, value_name = "ORDER", value_enum)]
    pub order: Option<Order>,

    /// At most so many groups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    Asc,
    Desc,
}

impl StatsArgs {
    /// The parameters of `GET /admin/stats`.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        push(&mut query, "group_by", (!self.by.is_empty()).then(|| self.by.join(",")));
        push(&mut query, "sort", self.sort.as_ref());
        let order = self.order.map(|order| match order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        });
        push(&mut query, "order", order);
        push(&mut query, "limit", self.limit);
        query
    }
}

/// The report, as it is to be printed.
pub(super) fn run(args: &StatsArgs) -> Result<String, Failure> {
    let answer = Source::of(&args.source)?.ask(Report::Stats, &args.query())?;
    if let Some(since) = answer["rows_since"].as_str() {
        complain(&format!(
            "rows before {since} have been deleted (retention_days), and this report would need some"
        ));
    }
    Ok(match args.format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => exact(args, &answer).csv(),
        Format::Table if args.by.is_empty() => totals(&answer),
        Format::Table => breakdown(args, &answer),
    })
}

/// Every figure of every group, or of the whole.
fn exact(args: &StatsArgs, answer: &Value) -> Sheet {
    let empty = serde_json::Map::new();
    let all = answer["totals"].as_object().unwrap_or(&empty);
    let figures: Vec<&str> = all.keys().map(String::as_str).collect();
    let mut sheet = Sheet::new(keys(args).chain(figures.iter().copied()));
    let row = |group: &Value| {
        let key = keys(args).map(|key| group["key"][key].clone());
        let figures = figures.iter().map(|figure| group[figure].clone());
        key.chain(figures).collect::<Vec<_>>()
    };
    if args.by.is_empty() {
        sheet.push(row(&answer["totals"]));
    }
    for group in groups(answer) {
        sheet.push(row(group));
    }
    sheet
}

/// The columns of a breakdown: the figure, and what it is called where there is little room.
const COLUMNS: [(&str, &str); 9] = [
    ("requests", "calls"),
    ("errors", "errors"),
    ("input_tokens", "input"),
    ("output_tokens", "output"),
    ("total_tokens", "total"),
    ("cost_usd", "cost_usd"),
    ("estimated_requests", "estimated"),
    ("unreported_requests", "no usage"),
    ("unpriced_requests", "unpriced"),
];

fn breakdown(args: &StatsArgs, answer: &Value) -> String {
    let mut sheet = Sheet::new(keys(args).chain(COLUMNS.map(|(_, title)| title)));
    for group in groups(answer) {
        let key = keys(args).map(|key| group["key"][key].clone());
        sheet.push(key.chain(COLUMNS.map(|(figure, _)| group[figure].clone())));
    }
    let mut out = if groups(answer).is_empty() { String::new() } else { sheet.table() + "\n\n" };
    if !answer["next_offset"].is_null() {
        out.push_str("There are more groups; --limit shows them.\n\n");
    }
    out + &totals(answer)
}

/// The totals as a list, with how far they can be trusted.
fn totals(answer: &Value) -> String {
    let (window, totals) = (&answer["window"], &answer["totals"]);
    let figure = |name: &str| for_people(&totals[name]);
    let count = |name: &str| totals[name].as_u64().unwrap_or_default();
    let unsure = ["estimated_requests", "unreported_requests", "refetched_requests"].map(count);
    let unsure: u64 = unsure.iter().sum();
    let reported = Value::from(count("requests").saturating_sub(unsure));
    let since = window["since"].as_str().unwrap_or("the first call");
    let until = window["until"].as_str().unwrap_or("now");
    let mut facts = vec![
        ("window", format!("{since} to {until}")),
        ("calls", format!("{} ({} with errors)", figure("requests"), figure("errors"))),
        (
            "input tokens",
            format!("{} ({} cached)", figure("input_tokens"), figure("cache_read_tokens")),
        ),
        (
            "output tokens",
            format!("{} ({} reasoning)", figure("output_tokens"), figure("reasoning_tokens")),
        ),
        ("total tokens", figure("total_tokens")),
        ("cost, USD", figure("cost_usd")),
        (
            "duration, ms",
            format!("{} median, {} p95", figure("p50_duration_ms"), figure("p95_duration_ms")),
        ),
        (
            "usage",
            format!(
                "{} calls reported, {} estimated, {} without, {} fetched again",
                for_people(&reported),
                figure("estimated_requests"),
                figure("unreported_requests"),
                figure("refetched_requests")
            ),
        ),
        (
            "prices",
            format!(
                "{} calls unpriced, {} by the default price",
                figure("unpriced_requests"),
                figure("default_priced_requests")
            ),
        ),
    ];
    if count("estimated_requests") > 0 {
        facts.push(("estimated", estimated(totals)));
    }
    let mut out = String::new();
    for (name, value) in facts {
        writeln!(out, "{name:<14} {value}").expect("a String takes all");
    }
    out
}

/// How much of the whole is an estimate, and how good a one.
fn estimated(totals: &Value) -> String {
    let figure = |name: &str| for_people(&totals[name]);
    let share = totals["estimate_error"].as_f64();
    let error = share.map_or_else(String::new, |share| {
        let digits = usize::from(share < 0.1);
        format!(" ± {:.digits$} %", share * 100.0)
    });
    let (calls, of) = (figure("estimated_requests"), figure("requests"));
    format!("{calls} of {of} calls, {} tokens{error}", figure("estimated_tokens"))
}

fn keys(args: &StatsArgs) -> impl Iterator<Item = &str> {
    args.by.iter().map(|key| key.trim())
}

fn groups(answer: &Value) -> &[Value] {
    answer["groups"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches, Subcommand};
    use serde_json::json;

    fn args(line: &str) -> StatsArgs {
        let command = crate::cli::Command::augment_subcommands(clap::Command::new("tokenmeter"));
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        match crate::cli::Command::from_arg_matches(&matches).unwrap() {
            crate::cli::Command::Stats(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn answer() -> Value {
        let cost: Value = serde_json::from_str("0.000028500").unwrap();
        json!({
            "window": {"since": null, "until": "2026-11-21T00:00:00.000Z"},
            "totals": {"requests": 1500, "unreported_requests": 2, "cost_usd": cost},
            "groups": [{"key": {"user": null}, "requests": 1500, "cost_usd": cost}],
            "next_offset": 1,
        })
    }

    #[test]
    fn totals_say_how_far_they_can_be_trusted() {
        let text = totals(&answer());
        assert!(text.contains("the first call to 2026-11-21"), "{text}");
        assert!(text.contains("1,498 calls reported, - estimated, 2 without"), "{text}");
        assert!(!text.contains('±'), "{text}");
        assert!(text.contains("0.000028500"), "{text}");
    }

    #[test]
    fn estimates_say_how_good_they_are() {
        let mut answer = answer();
        answer["totals"] = json!({
            "requests": 40, "estimated_requests": 12, "estimated_tokens": 81_234,
            "estimate_error": 0.0412, "unreported_requests": 1, "refetched_requests": 3,
        });
        let text = totals(&answer);
        assert!(text.contains("24 calls reported, 12 estimated, 1 without, 3 fetched"), "{text}");
        assert!(text.contains("12 of 40 calls, 81,234 tokens ± 4.1 %"), "{text}");
    }

    #[test]
    fn groups_stand_under_their_keys_in_both_forms() {
        let args = args("tokenmeter stats --by user");
        let table = breakdown(&args, &answer());
        assert!(table.contains("There are more groups"), "{table}");
        assert_eq!(
            exact(&args, &answer()).csv(),
            "user,requests,unreported_requests,cost_usd\r\n,1500,,0.000028500\r\n"
        );
    }
}
