//! A ledger of made-up calls, from the command line.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

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
