//! Reports to send on, from the command line.

use std::fs;
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

/// Two months of a made-up company.
fn ledger() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let demo = [
        "demo",
        "--database",
        "d.db",
        "--calls",
        "3000",
        "--days",
        "61",
        "--until",
        "2026-11-01",
        "--seed",
        "7",
    ];
    let made = tokenmeter(directory.path(), &demo);
    assert!(made.status.success(), "{}", said(&made));
    directory
}

fn page(directory: &Path, arguments: &[&str]) -> String {
    let made = tokenmeter(directory, &[&["report", "--database", "d.db"], arguments].concat());
    assert!(made.status.success(), "{}", said(&made));
    String::from_utf8(made.stdout).unwrap()
}

fn stats(directory: &Path, arguments: &[&str]) -> Value {
    let ask = ["stats", "--database", "d.db", "--format", "json"];
    let made = tokenmeter(directory, &[&ask, arguments].concat());
    assert!(made.status.success(), "{}", said(&made));
    serde_json::from_slice(&made.stdout).unwrap()
}

/// The `title` of each figure of the rows of a class, table by table.
fn exact_figures(page: &str, row: &str) -> Vec<Vec<String>> {
    let rows = page.split("<tr").filter(|part| part.starts_with(&format!(" class=\"{row}\"")));
    let cells = |row: &str| row.split("<td").skip(1).map(figure).collect();
    rows.map(cells).collect()
}

/// The exact figure of a cell: what it shows, unless its title says more.
fn figure(cell: &str) -> String {
    let (attributes, rest) = cell.split_once("<span").unwrap().1.split_once('>').unwrap();
    let titled = attributes.split_once("title=\"").and_then(|(_, title)| title.split_once('"'));
    titled.map_or_else(|| rest.split('<').next().unwrap(), |(title, _)| title).to_owned()
}

fn grouped(number: &str) -> String {
    tokenmeter::figures::grouped(number)
}

#[test]
fn a_report_has_the_figures_of_stats_and_every_table_adds_up_to_them() {
    let directory = ledger();
    let directory = directory.path();
    let page = page(directory, &["--month", "2026-10", "--tz", "Europe/Berlin"]);
    let window = ["--since", "2026-10-01", "--until", "2026-11-01", "--tz", "Europe/Berlin"];
    let stats = stats(directory, &window);
    let totals = &stats["totals"];
    assert!(totals["requests"].as_u64().unwrap() > 1000, "{totals}");
    assert!(page.contains("October 2026") && page.contains("(Europe/Berlin)"));
    let cost = format!("${}", grouped(&totals["cost_usd"].to_string()));
    let figures = exact_figures(&page, "total");
    // By user, model, operation, provider and session at the least, and by day.
    assert!(figures.len() >= 6, "{figures:?}");
    for row in &figures {
        assert_eq!(row[0], cost);
        assert_eq!(row[2], grouped(&totals["requests"].to_string()));
        assert_eq!(row[3], format!("{} calls", grouped(&totals["errors"].to_string())));
        assert_eq!(row[4], grouped(&totals["input_tokens"].to_string()));
        assert_eq!(row[5], grouped(&totals["cache_read_tokens"].to_string()));
        assert_eq!(row[6], grouped(&totals["output_tokens"].to_string()));
    }
    let number = |text: &str| match text {
        "not known" => rust_decimal::Decimal::ZERO,
        text => text.replace(['$', ','], "").parse().unwrap(),
    };
    let mut added = 0;
    for table in page.split("<tbody>").skip(1) {
        let rows: Vec<&str> =
            table.split("</tbody>").next().unwrap().split("<tr").skip(1).collect();
        let columns = |row: &&str| row.split("<td").skip(1).map(figure).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = rows.iter().map(columns).collect();
        let (total, rows) = rows.split_last().unwrap();
        for column in [0, 2, 4, 5, 6] {
            let sum: rust_decimal::Decimal = rows.iter().map(|row| number(&row[column])).sum();
            assert_eq!(sum, number(&total[column]), "column {column} of {rows:?}");
        }
        added += rows.len();
    }
    assert!(added > 31 + 20, "only {added} rows");
    // What was there before is compared with.
    assert!(page.contains("Changes are from September 2026"));
}

#[test]
fn a_page_is_whole_in_itself() {
    let directory = ledger();
    let directory = directory.path();
    let title = "Q<script>alert(1)</script> & \u{202e}co";
    let made =
        ["report", "--database", "d.db", "--month", "2026-10", "-o", "r.html", "--title", title];
    let output = tokenmeter(directory, &made);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).starts_with("r.html: October 2026, "), "{}", said(&output));
    let page = fs::read_to_string(directory.join("r.html")).unwrap();
    for part in ["<script", "http://", "https://", "url(", "@import", " src=", " href=", "<link"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("<bdi>Q&lt;script&gt;alert(1)&lt;/script&gt; &amp; \u{202e}co</bdi>"));
    assert_eq!(page.matches("<figure>").count(), 2);
    // Only the time that it was made at may differ.
    tokenmeter(directory, &[&made[..], &["--tz", "UTC"]].concat());
    let again = fs::read_to_string(directory.join("r.html")).unwrap();
    let without = |page: &str| page.split_once("Made by").map(|(before, _)| before.to_owned());
    assert_eq!(without(&page), without(&again));
}

#[test]
fn filters_and_empty_windows_are_said() {
    let directory = ledger();
    let directory = directory.path();
    let filtered =
        page(directory, &["--month", "2026-10", "--provider", "openai", "--by", "model"]);
    assert!(filtered.contains("<strong><bdi>openai</bdi></strong>"));
    assert_eq!(exact_figures(&filtered, "total").len(), 2);
    let empty = page(directory, &["--month", "2020-02"]);
    assert!(empty.contains("No call was recorded") && !empty.contains("<table"), "{empty}");
    let all = page(directory, &["--until", "2026-11-01"]);
    let count = stats(directory, &["--until", "2026-11-01"])["totals"]["requests"].to_string();
    assert_eq!(exact_figures(&all, "total")[0][2], grouped(&count));
}

#[test]
fn what_cannot_be_is_said_and_leaves_nothing_behind() {
    let directory = ledger();
    let directory = directory.path();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["-o", "r.docx"], 2, "FILE.html or FILE.pdf"),
        (&["-o", "d.db"], 2, "--output"),
        (&["--month", "soon"], 2, "--month"),
        (&["--tz", "Atlantis"], 2, "--tz"),
        (&["-o", "missing/r.html"], 1, "missing/r.html"),
        (&["--database", "other.db"], 1, "there is no ledger"),
    ];
    for (arguments, code, part) in cases {
        let database: &[&str] = if arguments[0] == "--database" {
            &["report"]
        } else {
            &["report", "--database", "d.db"]
        };
        let made = tokenmeter(directory, &[database, arguments].concat());
        assert_eq!(made.status.code(), Some(code), "{arguments:?}: {}", said(&made));
        assert!(said(&made).contains(part), "{}", said(&made));
        assert!(made.stdout.is_empty());
    }
    let made = tokenmeter(
        directory,
        &["report", "--database", "d.db", "--month", "2026-10", "-o", "r.pdf"],
    );
    if cfg!(feature = "pdf") {
        assert!(made.status.success(), "{}", said(&made));
        assert!(fs::read(directory.join("r.pdf")).unwrap().starts_with(b"%PDF-"));
    } else {
        assert_eq!(made.status.code(), Some(1));
        assert!(said(&made).contains("--features pdf"), "{}", said(&made));
        assert!(!directory.join("r.pdf").exists());
    }
}
