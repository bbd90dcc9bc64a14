//! A ledger of made-up calls, from the command line.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokenmeter::demo::{self, Demo};
use tokenmeter::ledger::{Filter, Ledger, Settings};
use tokenmeter::pricing::PriceBook;
use tokenmeter::units::Timestamp;

fn tokenmeter(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.args(arguments).current_dir(directory).env_clear().output().unwrap()
}

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(said).unwrap()
}

fn totals(directory: &Path) -> Value {
    let ask = ["stats", "--database", "d.db", "--since", "2026-10-01", "--format", "json"];
    let stats = tokenmeter(directory, &ask);
    assert!(stats.status.success(), "{}", said(&stats));
    serde_json::from_slice::<Value>(&stats.stdout).unwrap()["totals"].take()
}

const DEMO: [&str; 11] = [
    "demo",
    "--database",
    "d.db",
    "--calls",
    "2000",
    "--days",
    "30",
    "--until",
    "2026-11-20",
    "--seed",
    "7",
];

#[test]
fn a_ledger_of_made_up_calls_can_be_asked_and_is_not_mixed_with_another() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let made = tokenmeter(directory, &DEMO);
    assert!(made.status.success(), "{}", said(&made));
    // No terminal, no progress bar.
    assert!(made.stderr.is_empty(), "{}", said(&made));
    let text = said(&made);
    assert!(text.contains("2000 calls") && text.contains("--seed 7"), "{text}");
    assert!(text.contains("tokenmeter serve --database d.db"), "{text}");
    let first = totals(directory);
    assert_eq!(first["requests"], 2000);
    assert!(first["cost_usd"].as_f64().unwrap() > 1.0, "{first}");

    let again = tokenmeter(directory, &DEMO);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("d.db has calls already"), "{}", said(&again));
    assert_eq!(totals(directory), first);

    // The same calls are there once, whoever asks for them twice.
    let added = tokenmeter(directory, &[&DEMO[..], &["--add"]].concat());
    assert!(said(&added).contains("2000 were there already"), "{}", said(&added));
    assert_eq!(totals(directory), first);
}

#[test]
fn what_makes_no_sense_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (flag, value) in [("--tz", "Atlantis"), ("--until", "soon"), ("--days", "0")] {
        let made = tokenmeter(directory.path(), &["demo", "--database", "d.db", flag, value]);
        assert_eq!(made.status.code(), Some(2), "{}", said(&made));
        assert!(said(&made).contains(flag), "{}", said(&made));
    }
    assert!(!directory.path().join("d.db").exists());
    std::fs::write(directory.path().join("d.db"), "not a ledger").unwrap();
    let made = tokenmeter(directory.path(), &["demo", "--database", "d.db"]);
    assert!(said(&made).contains("not an SQLite database"), "{}", said(&made));
}

/// What the journal hands over in memory must make the rows that reading it makes.
#[test]
fn rows_are_the_same_whether_the_journal_is_read_or_handed_over() {
    let directory = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (directory.path().join("here"), directory.path().join("elsewhere"));
    let until: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    let settings = demo::Settings {
        seed: 7,
        calls: 2_000,
        since: Timestamp::from_millis(until.millis() - 30 * 86_400_000),
        until,
        users: 50,
        zone: jiff::tz::TimeZone::UTC,
    };
    let open = |home: &Path| Ledger::open(&Settings::of(home.join("tokenmeter.db"))).unwrap();
    let rows = |ledger: &Ledger| -> Vec<String> {
        assert!(ledger.sync(Duration::from_mins(1)));
        let rows = ledger.reader().usage(&Filter::default(), 10_000, None).unwrap().records;
        let mut rows: Vec<String> =
            rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        rows.sort_unstable();
        rows
    };
    let handed = {
        let ledger = open(&here);
        for record in Demo::new(&settings, Arc::new(PriceBook::builtin())) {
            ledger.opened(&record);
            ledger.close(record);
        }
        rows(&ledger)
    };
    assert!(handed.len() > 1_500, "{}", handed.len());
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::rename(here.join("journal"), elsewhere.join("journal")).unwrap();
    assert_eq!(rows(&open(&elsewhere)), handed);
}
