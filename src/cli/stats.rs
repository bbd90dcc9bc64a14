//! `tokenmeter stats`: what was typed, as a question to the ledger, and the answer as totals or groups.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::filters::{FilterArgs, WindowArgs};
use super::sheet::{Format, Sheet, for_people, money};
use super::source::{Report, Source};
use super::{Failure, Query, SourceArgs, complain, push};

/// Totals and breakdowns
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tokenmeter stats                                    the last seven days
  tokenmeter stats --by day --days 30 --tz Europe/Berlin
  tokenmeter stats --by week --since 2026-01-01       and month, hour, session, …
  tokenmeter stats --by user,model --sort cost_usd --limit 20
  tokenmeter stats --by metadata.team --outcome completed --format csv
  tokenmeter stats --url https://meter.example.org --user ann --format json

A table that is wider than the terminal leaves columns out, and says which.

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
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
                finish_reason, usage_source, cost_source, price_id, key_fingerprint, outcome, status, error, retry, \
                hour, day, week, month, metadata.NAME"
    )]
    pub by: Vec<String>,

    #[arg(
        long,
        value_name = "COLUMN",
        help = "Sort the groups by key or by a figure, such as cost_usd, requests, errors or total_tokens \
                [default: key where it is a time, else total_tokens]"
    )]
    pub sort: Option<String>,

    /// Which way to sort [default: keys up, figures down]
    #[arg(long, value_name = "ORDER", value_enum)]
    pub order: Option<Order>,

    /// At most so many groups [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// Leave out so many groups before the first one
    #[arg(long, value_name = "N")]
    pub offset: Option<u64>,

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
        push(&mut query, "offset", self.offset);
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
const COLUMNS: [(&str, &str); 12] = [
    ("requests", "calls"),
    ("errors", "errors"),
    ("input_tokens", "input"),
    ("cache_read_tokens", "cache read"),
    ("cache_write_tokens", "cache write"),
    ("output_tokens", "output"),
    ("total_tokens", "total"),
    ("cost_usd", "cost"),
    ("p50_duration_ms", "p50 ms"),
    ("estimated_requests", "estimated"),
    ("unreported_requests", "no usage"),
    ("unpriced_requests", "unpriced"),
];

/// In the order in which they give way to narrow terminals. What they say about the whole stands below.
const EXPENDABLE: [&str; 10] = [
    "cache write",
    "p50 ms",
    "cache read",
    "no usage",
    "estimated",
    "unpriced",
    "total",
    "errors",
    "output",
    "input",
];

fn breakdown(args: &StatsArgs, answer: &Value) -> String {
    if groups(answer).is_empty() {
        return totals(answer);
    }
    let mut out = format!("{}\n\n", sheet(args, answer).table());
    if let Some(next) = answer["next_offset"].as_u64() {
        let next = format!("There are more groups: --offset {next} goes on.\n\n");
        out.push_str(&next);
    }
    for (name, value) in facts(answer) {
        // The others stand in the line of totals.
        if TOLD_BELOW.contains(&name) {
            writeln!(out, "{name:<14} {value}").expect("a String takes all");
        }
    }
    out
}

/// What a table says of the whole beneath its totals.
const TOLD_BELOW: [&str; 4] = ["window", "usage", "prices", "estimated"];

fn sheet(args: &StatsArgs, answer: &Value) -> Sheet {
    let is_some = |cell: &Value| cell.as_u64().is_some_and(|count| count > 0);
    let names = keys(args).count();
    let mut sheet = Sheet::new(keys(args).chain(COLUMNS.map(|(_, title)| title)))
        .one_line(names, EXPENDABLE)
        .keep_whole(["hour", "day", "week", "month"])
        .alarm("errors", is_some)
        .doubt("estimated", is_some)
        .doubt("no usage", is_some)
        .doubt("unpriced", is_some);
    let figures = |figures: &Value| {
        COLUMNS.map(|(figure, _)| match figure {
            "cost_usd" => money(&figures[figure]),
            _ => figures[figure].clone(),
        })
    };
    for group in groups(answer) {
        let key = keys(args).map(|key| match key {
            "hour" => short_hour(&group["key"][key]),
            _ => group["key"][key].clone(),
        });
        sheet.push(key.chain(figures(group)));
    }
    let all = (0..names).map(|at| Value::from(if at == 0 { "total" } else { "" }));
    sheet.set_total(all.chain(figures(&answer["totals"])));
    sheet
}

/// `2026-11-21 09:00`, with its offset where that is another than UTC's.
fn short_hour(hour: &Value) -> Value {
    let Some((date, time)) = hour.as_str().and_then(|text| text.split_once('T')) else {
        return hour.clone();
    };
    let (Some(minutes), Some(offset)) = (time.get(.."09:00".len()), time.get("09:00:00".len()..))
    else {
        return hour.clone();
    };
    match offset {
        "Z" | "+00:00" => Value::from(format!("{date} {minutes}")),
        offset => Value::from(format!("{date} {minutes} {offset}")),
    }
}

/// The totals as a list, with how far they can be trusted.
fn totals(answer: &Value) -> String {
    let mut out = String::new();
    for (name, value) in facts(answer) {
        writeln!(out, "{name:<14} {value}").expect("a String takes all");
    }
    out
}

fn facts(answer: &Value) -> Vec<(&'static str, String)> {
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
    facts
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
    fn hours_are_short_and_unambiguous() {
        let cases = [
            ("2026-11-21T09:00:00Z", "2026-11-21 09:00"),
            ("2026-11-21T09:00:00+00:00", "2026-11-21 09:00"),
            ("2026-10-25T02:00:00+02:00", "2026-10-25 02:00 +02:00"),
            ("2026", "2026"),
        ];
        for (hour, shown) in cases {
            assert_eq!(short_hour(&json!(hour)), json!(shown));
        }
        assert_eq!(short_hour(&Value::Null), Value::Null);
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
