//! What a person in a terminal and a script see: every table and answer of a fixed ledger, narrow and wide,
//! with names that are wide or mean harm. The pictures are beside this file, in `snapshots/`.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test it terminal`, and look at the diff.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::rig::Settings;

/// Every call is between these.
const WINDOW: [&str; 4] = ["--since", "2026-11-18", "--until", "2026-11-22"];

/// Names that are wide, long, turn the direction of writing, steer terminals, or are not seen.
const USERS: [Option<&str>; 9] = [
    Some("ann"),
    Some("山田太郎"),
    Some("👩\u{200d}👩\u{200d}👧 family"),
    Some("שרה"),
    Some("evil\u{1b}[31m\u{1b}]0;owned\u{7}\nroot"),
    Some("ann\u{202e}nimda"),
    Some("an\u{200b}n"),
    Some("=HYPERLINK(\"http://evil.example\",\"x\")"),
    None,
];

const MODELS: [&str; 3] =
    ["gpt-4o-mini", "claude-sonnet-4-5-20250929", "meta-llama/Llama-3.3-70B-Instruct-Turbo"];

const CALLS: usize = 40;

/// The same calls always.
fn calls() -> String {
    let line = |at: usize| {
        let (input, output) = (at * 137 + 1_000, at * 31 + 7);
        let is_estimated = at % 8 == 3;
        let is_failed = at % 9 == 4;
        let row = json!({
            "id": format!("019a9c00-0000-7000-8000-{at:012x}"),
            "created_at": format!("2026-11-{:02}T{:02}:{:02}:00.000Z", 18 + at % 4, at % 24, at % 60),
            "upstream": "openai", "provider": (["openai", "anthropic", "together"][at % 3]),
            "endpoint": "chat.completions", "method": "POST", "path": "/v1/chat/completions",
            "model_requested": MODELS[at % 3], "model": MODELS[at % 3],
            "user": USERS[at % USERS.len()], "session": format!("s-{}", at % 5),
            "operation": (["rag_answer", "embedding", "数据分析"][at % 3]),
            "metadata": {"team": (["red", "blue"][at % 2])},
            "input_tokens": input, "cache_read_tokens": input / 2, "output_tokens": output,
            "reasoning_tokens": output / 3, "total_tokens": input + output,
            "usage_source": if is_estimated { "estimated" } else { "reported" },
            "cost_usd": format!("0.{:09}", at * 1_234_567 + 28_500).parse::<serde_json::Number>().unwrap(),
            "cost_source": "priced", "price_id": "openai/gpt-4o-mini",
            "status": if is_failed { 429 } else { 200 }, "streaming": at.is_multiple_of(2),
            "finish_reason": "stop", "outcome": if at % 11 == 10 { "client_closed" } else { "completed" },
            "error": is_failed.then_some("rate\u{1b}[5m limited"),
            "duration_ms": at * 90 + 300, "time_to_first_byte_ms": at * 9 + 100,
            "time_to_first_token_ms": at * 10 + 120,
        });
        row.to_string() + "\n"
    };
    (0..CALLS).map(line).collect()
}

fn tokenmeter(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.args(arguments).current_dir(directory).env_clear();
    command.envs(environment.iter().copied()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn import(directory: &Path, database: &Path) {
    fs::write(directory.join("calls.jsonl"), calls()).unwrap();
    let database = database.to_str().unwrap();
    let done = tokenmeter(directory, &[], &["import", "calls.jsonl", "--database", database]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn ledger() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    import(directory.path(), &directory.path().join("tokenmeter.db"));
    directory
}

/// Each report with the name of its picture.
const REPORTS: [(&str, &[&str]); 8] = [
    ("stats", &["stats"]),
    ("by_user", &["stats", "--by", "user"]),
    ("by_user_and_model", &["stats", "--by", "user,model", "--sort", "cost_usd", "--limit", "12"]),
    ("by_day", &["stats", "--by", "day", "--tz", "Asia/Kolkata"]),
    ("by_hour", &["stats", "--by", "hour", "--tz", "Europe/Berlin", "--user", "ann"]),
    ("by_week", &["stats", "--by", "week"]),
    ("by_error", &["stats", "--by", "error,metadata.team"]),
    ("recent", &["recent", "--limit", "12"]),
];

/// What a terminal would do something about, line feeds aside.
fn steers(c: char) -> bool {
    let hidden = ['\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}'];
    (c.is_control() && c != '\n') || hidden.contains(&c)
}

#[test]
fn every_table_is_as_it_was_narrow_and_wide() {
    let directory = ledger();
    for (name, report) in REPORTS {
        for columns in ["80", "200"] {
            let arguments = [report, &WINDOW].concat();
            let table = text(&tokenmeter(directory.path(), &[("COLUMNS", columns)], &arguments));
            assert!(!table.contains(steers), "{table:?}");
            let most: usize = columns.parse().unwrap();
            for line in table.lines() {
                assert!(unicode_width::UnicodeWidthStr::width(line) <= most, "{name}: {line}");
            }
            insta::assert_snapshot!(format!("{name}_{columns}"), table);
        }
    }
}

#[test]
fn every_answer_for_programs_is_as_it_was_and_has_all_digits() {
    let directory = ledger();
    for (name, report) in REPORTS {
        if !matches!(name, "stats" | "by_user" | "recent") {
            continue;
        }
        for format in ["json", "csv"] {
            let arguments = [report, &WINDOW, &["--format", format]].concat();
            // However wide the terminal is.
            let answer = text(&tokenmeter(directory.path(), &[("COLUMNS", "80")], &arguments));
            if format == "json" {
                answer.parse::<Value>().unwrap();
            }
            insta::assert_snapshot!(format!("{name}_{format}"), answer);
        }
    }
}

#[test]
fn a_pipe_gets_every_column_and_whole_names() {
    let directory = ledger();
    let arguments = [&["recent", "--limit", "40"], &WINDOW[..]].concat();
    let table = text(&tokenmeter(directory.path(), &[], &arguments));
    for whole in ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "reasoning", "endpoint", "first ms"] {
        assert!(table.contains(whole), "{whole} in {table}");
    }
    assert!(!table.contains('…') && !table.contains("More columns"), "{table}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let directory = ledger();
    let report = [&["stats", "--by", "user"], &WINDOW[..]].concat();
    let has_colours = |environment: &[(&str, &str)], more: &[&str]| {
        text(&tokenmeter(directory.path(), environment, &[&report, more].concat()))
            .contains("\u{1b}[")
    };
    assert!(!has_colours(&[], &[]));
    assert!(has_colours(&[], &["--color", "always"]));
    assert!(has_colours(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!has_colours(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
    assert!(!has_colours(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]));
    assert!(!has_colours(&[], &["--color", "always", "--format", "json"]));
    assert!(!has_colours(&[], &["--color", "always", "--format", "csv", "--user", "ann"]));
}

#[test]
fn each_filter_is_a_flag_and_narrows() {
    let directory = ledger();
    let count = |filters: &[&str]| {
        let arguments = [&["stats", "--format", "json"], &WINDOW[..], filters].concat();
        let answer = text(&tokenmeter(directory.path(), &[], &arguments));
        answer.parse::<Value>().unwrap()["totals"]["requests"].as_u64().unwrap()
    };
    assert_eq!(count(&[]), CALLS as u64);
    let filters: [&[&str]; 15] = [
        &["--user", "ann"],
        &["--session", "s-2"],
        &["--operation", "rag_answer"],
        &["--provider", "openai"],
        &["--model", "gpt-4o-mini"],
        &["--usage-source", "estimated"],
        &["--outcome", "client_closed"],
        &["--status", "429"],
        &["--error", "rate\u{1b}[5m limited"],
        &["--metadata", "team=red"],
        &["--cost-source", "free"],
        &["--price-id", "other"],
        &["--finish-reason", "length"],
        &["--upstream", "azure"],
        &["--endpoint", "messages"],
    ];
    for filter in filters {
        assert!(count(filter) < CALLS as u64, "{filter:?}");
    }
    for all in [["--cost-source", "priced"], ["--upstream", "openai"], ["--finish-reason", "stop"]]
    {
        assert_eq!(count(&all), CALLS as u64, "{all:?}");
    }
    assert_eq!(count(&["--user", "ann", "--status", "200"]), 5);
}

#[test]
fn a_report_on_another_machine_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::to("http://127.0.0.1:1");
    let proxy = settings.start_on(|database| import(directory.path(), database));
    let url = format!("http://{}", proxy.address);
    let token = proxy.token();
    let database = proxy.database();
    for (name, report) in REPORTS {
        for format in ["table", "json", "csv"] {
            let ask = |from: &[&str]| {
                let arguments = [report, &WINDOW, from, &["--format", format]].concat();
                text(&tokenmeter(directory.path(), &[("COLUMNS", "120")], &arguments))
            };
            let here = ask(&["--database", database.to_str().unwrap()]);
            assert_eq!(ask(&["--url", &url, "--token", &token]), here, "{name} {format}");
        }
    }
}

#[test]
fn top_prints_one_picture_for_scripts_and_draws_nowhere_but_on_a_terminal() {
    let directory = ledger();
    let top = |more: &[&str]| {
        let always = ["top", "--once", "--days", "36500", "--by", "user"];
        text(&tokenmeter(directory.path(), &[("COLUMNS", "80")], &[&always, more].concat()))
    };
    let table = top(&[]);
    assert!(
        table.contains("cost/h") && table.contains("total") && table.contains("山田太郎"),
        "{table}"
    );
    assert!(table.contains("the last minute: 0 calls"), "{table}");
    assert!(!table.contains(steers), "{table:?}");
    let answer: Value = top(&["--format", "json", "--user", "ann"]).parse().unwrap();
    assert_eq!(answer["totals"]["requests"], 5);
    assert_eq!(answer["groups"][0]["key"]["user"], "ann");
    assert_eq!(answer["records"].as_array().unwrap().len(), 5);
    assert_eq!(answer["last_minute"]["requests"], 0);
    let lines = top(&["--format", "csv", "--user", "ann"]);
    assert!(lines.starts_with("user,requests,errors,"), "{lines}");

    let drawn = tokenmeter(directory.path(), &[], &["top"]);
    assert_eq!(drawn.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&drawn.stderr).contains("--once"));
    assert!(drawn.stdout.is_empty());
}

#[test]
fn help_has_examples_and_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["stats", "recent", "top", "export"] {
        let help = text(&tokenmeter(directory.path(), &[], &[command, "--help"]));
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
}
