//! What a ledger holds leaves it and comes back: exports, imports, backups. Through the program itself,
//! on files and sockets.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokenmeter::ledger::{COLUMNS, Filter, Ledger, Loader, Reader, Settings};
use tokenmeter::record::{CallId, Record};

use crate::rig::{self, Conn, PATIENCE, Provider, Proxy, field};

/// A directory with a ledger in it, and the program run there.
struct Home(TempDir);

/// How the program ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn with(records: impl IntoIterator<Item = Record>) -> Home {
        let home = Home::new();
        load(&home.path("tokenmeter.db"), records);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Ended {
        let output = self.output(line);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn output(&self, line: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TOKENMETER_") {
                program.env_remove(name);
            }
        }
        program.args(line.split(' ')).current_dir(self.0.path()).output().unwrap()
    }

    /// What a command that must work prints.
    fn ok(&self, line: &str) -> String {
        let ended = self.run(line);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{line}: {ended:?}");
        ended.out
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn load(database: &Path, records: impl IntoIterator<Item = Record>) {
    let mut loader = Loader::open(database).unwrap();
    records.into_iter().for_each(|record| loader.add(record).unwrap());
    loader.finish().unwrap();
}

fn records_of(database: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    let reader = Reader::open(database).unwrap();
    let see = |record: Record| {
        records.push(serde_json::to_string(&record).unwrap().parse().unwrap());
        ControlFlow::Continue(())
    };
    reader.each(&Filter::default(), see).unwrap();
    records
}

/// A call at a time, with these fields over the plain ones.
fn call(created_at: &str, fields: &Value) -> Record {
    let mut call = json!({
        "id": CallId::new(), "created_at": created_at, "upstream": "openai", "provider": "openai",
        "endpoint": "chat.completions", "method": "POST", "path": "/v1/chat/completions",
        "usage_source": "none", "cost_source": "none", "streaming": false, "outcome": "completed",
    });
    call.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    // By way of text, because a raw usage object cannot be read from a value.
    serde_json::from_str(&call.to_string()).unwrap()
}

fn plain(number: usize) -> Record {
    let second = format!(
        "2026-11-21T{:02}:{:02}:{:02}.000Z",
        number / 3600 % 24,
        number / 60 % 60,
        number % 60
    );
    call(&second, &json!({"user": "ann", "attempt": number, "total_tokens": number}))
}

/// Texts that break files: what spreadsheets run, what CSV is made of, what looks like nothing.
const HOSTILE: [&str; 24] = [
    "=HYPERLINK(\"http://evil\",\"a\")",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "'",
    "''",
    "'=1",
    "",
    " ",
    "a,b",
    "\"",
    "\"\"quoted\"\"",
    "two\nlines",
    "two\r\nlines\r\n",
    "\u{202e}txt.exe",
    "\u{feff}mark",
    "null",
    "\u{0}\u{1b}[31m",
    "{\"id\":1}",
    "ü🦀\u{301}",
];

fn hostile() -> Vec<Record> {
    let mut records = vec![
        call("2026-11-21T09:30:00.120Z", &json!({})),
        call("0001-01-01T00:00:00Z", &json!({"upstream": "", "provider": "", "path": ""})),
        call("9999-12-30T21:59:59.999Z", &json!({"user": "x".repeat(256)})),
    ];
    for text in HOSTILE {
        let mut fields = json!({
            "metadata": {text: text, "n": 1}, "streaming": true, "status": 200, "retry": 0,
            "outcome": "client_closed", "usage_source": "estimated", "cost_source": "priced",
            "estimate": {"input": {"method": "bpe", "error": 0.05}, "error_tokens": 7},
            "stream_usage": "injected", "charged_by": CallId::new(), "attempt": u32::MAX,
        });
        for name in [
            "upstream",
            "provider",
            "endpoint",
            "method",
            "path",
            "model_requested",
            "model",
            "user",
            "session",
            "operation",
            "key_id",
            "key_fingerprint",
            "price_id",
            "finish_reason",
            "error",
            "upstream_request_id",
            "service_tier",
        ] {
            fields[name] = json!(text);
        }
        for name in COLUMNS.into_iter().filter(|n| n.ends_with("_tokens") || n.ends_with("_ms")) {
            fields[name] = json!(i64::MAX);
        }
        // Of one moment, so that the order is that in which they came.
        records.push(call("2026-11-21T09:30:00.120Z", &fields));
    }
    for (number, cost) in ["-0.000000001", "9223372036.854775807", "-9223372036.854775808", "0"]
        .into_iter()
        .enumerate()
    {
        let usage = [r#"{"a" : 1.50,  "b":[2]}"#, "{\n \"a\":\t1e2\r\n}", "{}", "-1"][number];
        let mut text = serde_json::to_string(&plain(number)).unwrap();
        text.pop();
        let costs = format!(r#","cost_usd":{cost},"computed_cost_usd":{cost}"#);
        text.push_str(&costs);
        text.push_str(r#","usage_json":"#);
        text.push_str(usage);
        text.push('}');
        records.push(serde_json::from_str(&text).unwrap());
    }
    records
}

// --- exports and their way back ---

#[test]
fn an_export_that_is_imported_and_exported_again_is_the_same_byte_for_byte() {
    let home = Home::with(hostile());
    let rows = hostile().len();
    assert!(rows > 30);
    for format in ["csv", "jsonl"] {
        let said = home.ok(&format!("export --format {format} -o first"));
        assert!(said.starts_with(&format!("first: {rows} calls, ")), "{said}");
        assert_eq!(home.ok(&format!("export --format {format}")), home.read("first"));
        let other = format!("of-{format}.db");
        let said = home.ok(&format!("import first --database {other}"));
        assert_eq!(said, format!("{rows} calls added, 0 were there already\n"));
        home.ok(&format!("export --format {format} --database {other} -o second"));
        assert_eq!(home.read("second"), home.read("first"));
        assert_eq!(records_of(&home.path(&other)), records_of(&home.path("tokenmeter.db")));
        let said = home.ok(&format!("import first - --database {other}"));
        assert_eq!(said, format!("0 calls added, {rows} were there already\n"));
    }
    let names = home.names();
    assert!(!names.iter().any(|name| name.contains("part")), "{names:?}");
}

#[test]
fn no_cell_of_a_text_is_run_by_a_spreadsheet_and_figures_stay_figures() {
    let home = Home::with(hostile());
    let text = home.ok("export");
    assert!(text.starts_with(&format!("{}\r\n", COLUMNS.join(","))));
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let (mut marked, mut figures, mut read) = (0, 0, 0);
    for row in rows.records() {
        for (column, cell) in COLUMNS.iter().zip(row.unwrap().iter()) {
            let is_figure = column.ends_with("_tokens")
                || column.ends_with("_ms")
                || column.ends_with("_usd")
                || ["attempt", "status", "retry"].contains(column);
            if is_figure {
                assert!(cell.is_empty() || cell.parse::<f64>().is_ok(), "{column}: {cell:?}");
                figures += usize::from(cell.starts_with('-'));
            } else {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell:?}");
                marked += usize::from(cell.starts_with('\''));
            }
        }
        read += 1;
    }
    assert_eq!(read, hostile().len());
    assert!(marked >= 12 * 16 && figures == 4, "{marked} {figures}");
}

#[test]
fn rows_as_the_admin_api_gives_them_one_a_line() {
    let home = Home::with(hostile());
    let text = home.ok("export --format jsonl");
    let lines: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.len(), hostile().len());
    for line in &lines {
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(names, COLUMNS);
    }
    let dust: Value = "-0.000000001".parse().unwrap();
    let first = lines.iter().find(|line| line["cost_usd"] == dust).unwrap();
    assert!(first["session"].is_null() && first["usage_json"].is_object(), "{first}");
    assert!(text.contains("\"user\":\"=HYPERLINK("), "raw, with no mark");
}

#[test]
fn an_export_has_the_window_and_the_filters_of_other_reports() {
    let ann = call("2026-11-20T00:00:00Z", &json!({"user": "ann"}));
    let bob = call("2026-11-21T00:00:00Z", &json!({"user": "bob"}));
    let home = Home::with([bob, ann]);
    let lines = |line: &str| home.ok(line).lines().count();
    assert_eq!(lines("export"), 3);
    assert_eq!(lines("export --user ann"), 2);
    assert_eq!(lines("export --format jsonl --since 2026-11-21"), 1);
    assert_eq!(lines("export --format jsonl --user eve"), 0);
    let wrong = home.run("export --since yesterday");
    assert!(wrong.code == Some(2) && wrong.err.contains("--since"), "{wrong:?}");
    assert_eq!(home.run("export --format xml").code, Some(2));
}

#[test]
fn an_export_never_writes_over_a_ledger_or_leaves_half_a_file() {
    let home = Home::with((0..9).map(plain));
    let journal = home.path("journal");
    fs::create_dir(&journal).unwrap();
    fs::write(journal.join("2026-11-21.jsonl"), "{}\n").unwrap();
    load(&home.path("other.db"), [plain(1)]);
    let before = fs::read(home.path("tokenmeter.db")).unwrap();
    for file in ["tokenmeter.db", "./tokenmeter.db", "other.db", "journal/2026-11-21.jsonl"] {
        let refused = home.run(&format!("export -o {file}"));
        assert!(refused.code == Some(2) && refused.err.contains("another"), "{refused:?}");
    }
    assert_eq!(fs::read(home.path("tokenmeter.db")).unwrap(), before);
    fs::write(home.path("old.csv"), "old").unwrap();
    assert_eq!(home.run("export -o old.csv").code, Some(0));
    assert_eq!(home.read("old.csv").lines().count(), 10);

    let broken = broken_home();
    fs::write(broken.path("old.csv"), "old").unwrap();
    let ended = broken.run("export -o old.csv");
    assert!(ended.code == Some(1) && ended.err.contains("reading the database"), "{ended:?}");
    assert_eq!(broken.read("old.csv"), "old");
    assert!(!broken.names().iter().any(|name| name.contains("part")));
    let ended = broken.run("export");
    assert!(ended.code == Some(1) && ended.out.len() > 100_000, "{}", ended.err);
}

/// Long rows, so that few make more than all buffers on the way hold.
fn bulky(number: usize) -> Record {
    let padding = "x".repeat(4000);
    let usage = json!({"usage_json": {"padding": padding, "n": number}, "user": "bulk"});
    let second = format!("2026-11-21T00:{:02}:{:02}.000Z", number / 60 % 60, number % 60);
    call(&second, &usage)
}

/// A ledger that can be read up to its middle.
fn broken_home() -> Home {
    let home = Home::with((0..2000).map(bulky));
    damage(&home.path("tokenmeter.db"));
    home
}

fn damage(database: &Path) {
    let mut bytes = fs::read(database).unwrap();
    let (from, to) = (bytes.len() / 10 * 6, bytes.len() / 10 * 8);
    bytes[from / 4096 * 4096..to / 4096 * 4096].fill(0xee);
    fs::write(database, bytes).unwrap();
}

// --- imports ---

#[test]
fn an_import_says_what_it_cannot_read_and_adds_the_rest() {
    let home = Home::with((0..5).map(plain));
    home.ok("export -o good.csv");
    let good = home.read("good.csv");
    let mut lines: Vec<String> = good.split_terminator("\r\n").map(str::to_owned).collect();
    lines[2] = lines[2].replace(",none,", ",guessed,");
    lines[3] = lines[3].replace(",3,", ",3;,").replace(",2,", ",two,");
    lines[4].push_str(",more");
    fs::write(home.path("bad.csv"), lines.join("\n")).unwrap();
    let rehearsed = home.run("import bad.csv --dry-run --database new.db");
    assert!(rehearsed.code == Some(1) && !home.path("new.db").exists(), "{rehearsed:?}");
    assert_eq!(rehearsed.out, "2 calls would be added, 0 were there already\n");
    let ended = home.run("import bad.csv --database new.db");
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.out, "2 calls added, 0 were there already\n");
    for part in [
        "bad.csv:3: usage_source: unknown variant `guessed`",
        "bad.csv:4: attempt: ",
        "bad.csv:5: it has 47 cells, and the header 46",
        "3 rows or lines",
    ] {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
    let mended = home.ok("import good.csv --database new.db");
    assert_eq!(mended, "3 calls added, 2 were there already\n");
    assert_eq!(records_of(&home.path("new.db")), records_of(&home.path("tokenmeter.db")));
}

#[test]
fn a_file_that_is_none_of_ours_stops_an_import_before_it_begins() {
    let home = Home::with((0..5).map(plain));
    home.ok("export -o good.csv");
    let header = home.read("good.csv").lines().next().unwrap().to_owned();
    for (text, why) in [
        ("name,price\r\na,1\r\n".to_owned(), "neither an export"),
        ("hello".to_owned(), "neither an export"),
        (format!("{header},mood\r\n"), "no column `mood`"),
        (format!("{header},id\r\n"), "the column `id` twice"),
    ] {
        fs::write(home.path("bad"), text).unwrap();
        let ended = home.run("import good.csv bad gone --database new.db");
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        for part in ["bad: ", why, "gone: ", "nothing was imported"] {
            assert!(ended.err.contains(part), "{part}: {}", ended.err);
        }
        assert!(!home.path("new.db").exists());
    }
    fs::write(home.path("lines"), "{\"id\":1,\"mood\":2}\n{\"a\":1}\n[1]\n{\n").unwrap();
    let ended = home.run("import lines --database new.db");
    for part in
        ["lines:1: there is no column `mood`", "lines:2: this is neither", "lines:3: ", "lines:4: "]
    {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
}

#[test]
fn a_quote_without_an_end_is_no_cell_of_a_gigabyte() {
    let home = Home::with((0..3).map(plain));
    home.ok("export -o good.csv");
    let mut text = home.read("good.csv").replacen("ann", "\"ann", 1);
    text.push_str(&"x".repeat(70 << 20));
    fs::write(home.path("bad.csv"), text).unwrap();
    let ended = home.run("import bad.csv --database new.db");
    assert!(ended.code == Some(1) && ended.err.contains("a quote without its end"), "{ended:?}");
}

#[test]
fn a_journal_is_imported_by_what_its_lines_mean() {
    let home = Home::new();
    let [whole, amended, alone, cut_off] = [1, 2, 3, 4].map(plain);
    let line = |kind: &str, record: &Record| format!("{{\"{kind}\":{}}}\n", json(record));
    let provisional = |record| line("close", record).replace("}}\n", "},\"provisional\":true}\n");
    let better = Record { total_tokens: Some(999), ..amended.clone() };
    let first = [
        line("open", &whole),
        line("open", &amended),
        line("close", &whole),
        provisional(&amended),
        line("open", &cut_off),
        provisional(&alone),
        "{\"open\":{\"id\":\"torn".to_owned() + "\n",
    ];
    let learned = r#"{"learned":{"provider":"p","model":"m","side":"input","samples":1,"bias":0.1,
        "error":0.1,"corrections":{"offset":0.1,"ratio":1.0,"errors":[0.1,0.1,0.1]}}}"#
        .replace('\n', "")
        + "\n";
    fs::write(home.path("2026-11-20.jsonl"), first.concat()).unwrap();
    fs::write(home.path("2026-11-21.jsonl"), line("amend", &better)).unwrap();
    let files = "2026-11-20.jsonl 2026-11-21.jsonl";
    let ended = home.run(&format!("import {files}"));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("2026-11-20.jsonl:7: EOF while parsing a string (at byte "),
        "{}",
        ended.err
    );
    let out = "3 calls added, 0 were there already\n\
        1 calls that began, and whose end is not known, were left out; --interrupted adds them\n";
    assert_eq!(ended.out, out);
    let records = records_of(&home.path("tokenmeter.db"));
    let tokens: Vec<_> = records.iter().map(|record| record["total_tokens"].as_u64()).collect();
    assert_eq!(tokens, [Some(1), Some(999), Some(3)]);

    fs::write(home.path("learned.jsonl"), learned).unwrap();
    let out = home.ok("import learned.jsonl");
    assert!(out.ends_with("1 lines about what estimates have learned were left out\n"), "{out}");

    fs::write(home.path("2026-11-20.jsonl"), first[..6].concat()).unwrap();
    let rehearsed = home.ok(&format!("import --dry-run {files}"));
    assert!(rehearsed.starts_with("0 calls would be added, 3 were"), "{rehearsed}");
    let ledger = Ledger::open(&Settings::of(home.path("tokenmeter.db")));
    let served = home.run(&format!("import --interrupted {files}"));
    assert!(served.code == Some(1) && served.err.contains("stop it first"), "{served:?}");
    drop(ledger);
    let out = home.ok(&format!("import --interrupted {files}"));
    assert!(out.starts_with("1 calls added, 3 were there already\n1 calls that began"), "{out}");
    let records = records_of(&home.path("tokenmeter.db"));
    assert_eq!(records.len(), 4);
    assert_eq!(records[3]["id"], json!(cut_off.id));
    let again = home.ok(&format!("import --interrupted {files}"));
    assert_eq!(again, "0 calls added, 3 were there already\n");
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

// --- downloads ---

fn ask(proxy: &Proxy, path: &str) -> Conn {
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {token}\r\n\r\n"));
    client
}

/// The body of a chunked answer as far as it goes; whether its last chunk came.
fn chunks(client: &mut Conn) -> (Vec<u8>, bool) {
    let bytes = rig::bytes_of(&client.rest_or("\r\n0\r\n\r\n"));
    let (mut body, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(&rig::latin1(&rest[..at]), 16).unwrap();
        let more = &rest[at + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&more[..size.min(more.len())]);
        rest = more.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

#[test]
fn a_download_is_what_the_command_writes_and_has_a_name() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    load(&proxy.database(), hostile());
    let home = Home::new();
    let database = proxy.database();
    for (format, kind) in
        [("csv", "text/csv; charset=utf-8; header=present"), ("jsonl", "application/jsonl")]
    {
        let mut client = ask(&proxy, &format!("/admin/export?format={format}"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "content-type"), Some(kind));
        let name = field(&head, "content-disposition").unwrap();
        let ends = format!("Z.{format}\"");
        assert!(name.starts_with("attachment; filename=\"tokenmeter-2") && name.ends_with(&ends));
        let local = home.ok(&format!("export --format {format} --database {}", database.display()));
        let (body, is_whole) = chunks(&mut client);
        assert!(is_whole && body == local.as_bytes());
        let url = format!("--url http://{} --token {}", proxy.address, proxy.token());
        assert_eq!(home.ok(&format!("export --format {format} {url}")), local);
        home.ok(&format!("export --format {format} {url} -o there"));
        assert_eq!(home.read("there"), local);
    }
    let mut client = ask(&proxy, "/admin/export?format=xml");
    assert!(client.head().starts_with("HTTP/1.1 400 "));
    let mut client = proxy.connect();
    client.send("GET /admin/export HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 401 "));
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!(
        "HEAD /admin/export HTTP/1.1\r\nHost: c\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 ") && field(&head, "content-disposition").is_some());
    client.expect_closed();
}

/// A client that reads nothing must cost a turn, and not memory; one that leaves must give it back.
#[test]
fn downloads_that_are_not_taken_wait_and_keep_nobody_from_asking() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    load(&proxy.database(), (0..5000).map(bulky));
    let mut first = ask(&proxy, "/admin/export?format=jsonl");
    let mut second = ask(&proxy, "/admin/export?format=csv");
    for client in [&mut first, &mut second] {
        assert!(client.head().starts_with("HTTP/1.1 200 "));
    }
    let mut third = ask(&proxy, "/admin/export?user=nobody&format=jsonl");
    for _ in 0..6 {
        let mut asking = ask(&proxy, "/admin/stats?days=3650");
        assert!(asking.head().starts_with("HTTP/1.1 200 "));
    }
    assert!(third.is_silent(), "a third export began while two were not taken");
    drop(first);
    assert!(third.head().starts_with("HTTP/1.1 200 "));
    third.expect("0\r\n\r\n");
    let (body, is_whole) = chunks(&mut second);
    assert!(is_whole);
    assert_eq!(memchr::memchr_iter(b'\n', &body).count(), 5001);
}

#[test]
fn a_download_that_breaks_off_does_not_end_as_a_whole_one() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    load(&proxy.database(), (0..2000).map(bulky));
    let home = Home::new();
    // What is read is the file itself, as it stands in the log no more.
    home.ok(&format!("backup copy.db --database {}", proxy.database().display()));
    damage(&home.path("copy.db"));
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", proxy.database().display()));
    }
    fs::rename(home.path("copy.db"), proxy.database()).unwrap();
    let mut client = ask(&proxy, "/admin/export?format=jsonl");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (body, is_whole) = chunks(&mut client);
    assert!(!is_whole && body.len() > 100_000, "{}", body.len());
    let url = format!("--url http://{} --token {}", proxy.address, proxy.token());
    let ended = home.run(&format!("export {url} -o there"));
    assert!(ended.code == Some(1) && ended.err.contains("not whole"), "{ended:?}");
    assert!(home.names().is_empty(), "{:?}", home.names());
}

// --- backups ---

#[test]
fn a_backup_under_load_is_of_one_moment_and_the_journal_fills_the_gap() {
    let home = Home::with((0..3000).map(bulky));
    let database = home.path("tokenmeter.db");
    let settings = Settings::of(database.clone());
    let ledger = Ledger::open(&settings).unwrap();
    let (written, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let numbered = |number| Record { attempt: Some(number), user: Some("load".into()), ..plain(0) };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                ledger.closed(&numbered(number));
                written.store(number + 1, Ordering::Relaxed);
                thread::park_timeout(std::time::Duration::from_micros(200));
            }
        });
        rig::eventually("some load", || written.load(Ordering::Relaxed) > 100);
        let copies = ["copy.db", "copy2.db"].map(|name| home.run(&format!("backup {name}")));
        is_over.store(true, Ordering::Relaxed);
        for copied in copies {
            assert_eq!((copied.code, copied.err.as_str()), (Some(0), ""), "{copied:?}");
            assert!(copied.out.contains(" calls, ") && copied.out.ends_with("checked\n"));
        }
    });
    // Nothing beside it, and complete by itself.
    let names = home.names();
    assert!(names.contains("copy.db") && !names.contains("copy.db-wal"), "{names:?}");
    let loaded = |database: &Path| -> Vec<u64> {
        let records = records_of(database);
        let load = records.iter().filter(|record| record["user"] == "load");
        load.map(|record| record["attempt"].as_u64().unwrap()).collect()
    };
    let copied = loaded(&home.path("copy.db"));
    assert!(copied.iter().copied().eq(0..copied.len() as u64), "with gaps");
    let all = written.load(Ordering::Relaxed) as usize;
    assert!(copied.len() < all, "nothing came after the copy");

    assert!(ledger.shutdown(PATIENCE));
    drop(ledger);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(home.path(&format!("tokenmeter.db{suffix}")));
    }
    fs::rename(home.path("copy.db"), &database).unwrap();
    let ledger = Ledger::open(&settings).unwrap();
    assert!(ledger.sync(PATIENCE));
    let restored = loaded(&database);
    assert!(restored.iter().copied().eq(0..all as u64), "{} of {all}", restored.len());
    assert_eq!(records_of(&database).len(), 3000 + all);
}

#[test]
fn a_backup_replaces_nothing_unless_it_is_told_to() {
    let home = Home::with((0..10).map(plain));
    fs::write(home.path("copy.db"), "theirs").unwrap();
    let refused = home.run("backup copy.db");
    assert!(refused.code == Some(1) && refused.err.contains("--force"), "{refused:?}");
    assert_eq!(home.read("copy.db"), "theirs");
    for line in
        ["backup tokenmeter.db", "backup tokenmeter.db --force", "backup ./tokenmeter.db --force"]
    {
        let refused = home.run(line);
        assert!(refused.code == Some(2) && refused.err.contains("ledger itself"), "{refused:?}");
    }
    let said = home.ok("backup copy.db --force");
    assert!(said.starts_with("copy.db: 10 calls, "), "{said}");
    assert_eq!(records_of(&home.path("copy.db")), records_of(&home.path("tokenmeter.db")));
    fs::write(home.path("used.db-wal"), "frames").unwrap();
    let refused = home.run("backup used.db");
    assert!(refused.code == Some(1) && refused.err.contains("used.db-wal"), "{refused:?}");
    let refused = home.run("backup more.db --database gone.db");
    assert!(refused.code == Some(1) && refused.err.contains("no ledger at"), "{refused:?}");
    let damaged = broken_home();
    let refused = damaged.run("backup copy.db");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!damaged.names().iter().any(|name| name.starts_with("copy")), "{refused:?}");
}
