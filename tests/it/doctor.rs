//! `tokenmeter doctor` on ledgers that are tampered with: each fault is found by its check, and mended
//! where there is something to mend it from.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenmeter::ledger::doctor::{self, Check, Depth, Examination};
use tokenmeter::ledger::{Ledger, Reader, Settings, StatsQuery};
use tokenmeter::record::{CallId, Record};
use tokenmeter::units::Timestamp;

use super::rig::eventually;

const SOON: Duration = Duration::from_secs(30);

/// When the first call of a ledger began: two days ago, at the beginning of a half hour, because what is
/// younger may not be sealed.
fn start() -> i64 {
    let half_hour = 30 * 60 * 1000;
    (Timestamp::now().millis() / half_hour - 100) * half_hour
}

/// A ledger with its journal, in a directory of its own.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    /// With calls of a few users and models, a minute apart, all of them in the journal.
    pub(crate) fn with_calls(count: u32) -> (Home, Vec<Record>) {
        let home = Home::new();
        let ledger = home.open();
        let calls: Vec<Record> = (0..count).map(call).collect();
        for record in &calls {
            ledger.opened(record);
            ledger.closed(record);
        }
        assert!(ledger.shutdown(SOON));
        drop(ledger);
        let sound = home.examine();
        assert!(sound.is_sound(), "{sound:#?}");
        (home, calls)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.path().join("tokenmeter.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    pub(crate) fn open(&self) -> Ledger {
        Ledger::open(&Settings::of(self.database())).unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) {
        Connection::open(self.database()).unwrap().execute_batch(sql).unwrap();
    }

    pub(crate) fn ask(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.database()).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// All sums in packs, as they are a while later.
    fn seal(&self) {
        doctor::rebuild_sums(&self.database(), &mut |_, _, _| {}).unwrap();
        assert_eq!(self.ask("SELECT count(*) FROM rollup_live"), 0);
    }

    pub(crate) fn examine(&self) -> Examination {
        doctor::examine(&self.database(), Depth { deep: true }, &mut |_, _, _| {}).unwrap()
    }

    pub(crate) fn totals(&self) -> Value {
        let reader = Reader::open(&self.database()).unwrap();
        let totals = reader.stats(&StatsQuery::default()).unwrap().totals;
        let mut totals = serde_json::to_value(totals).unwrap();
        // Exact from rows, and nearly so from sums.
        for percentile in ["p50_duration_ms", "p95_duration_ms"] {
            totals.as_object_mut().unwrap().remove(percentile);
        }
        totals
    }

    /// What the command says and its code.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(command)
            .arg("--database")
            .arg(self.database())
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// The same for a look, as JSON.
    fn doctor(&self, flags: &[&str]) -> (i32, Value) {
        let command: Vec<&str> =
            ["doctor", "--format", "json"].iter().chain(flags).copied().collect();
        let output = self.run(&command);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}"));
        (output.status.code().unwrap(), json)
    }

    /// These checks find something, and no others; a repair mends all of it.
    fn expect_mended(&self, checks: &[Check]) {
        self.expect(checks);
        let (code, said) = self.doctor(&["--repair", "--deep"]);
        assert_eq!(code, 0, "{said:#}");
        assert_eq!(said["sound"], true);
        self.expect(&[]);
    }

    fn expect(&self, checks: &[Check]) {
        let found = self.examine();
        let wrong: Vec<Check> =
            found.findings.iter().filter(|one| one.count > 0).map(|one| one.check).collect();
        assert_eq!(wrong, checks, "{found:#?}");
        assert!(found.findings.iter().all(|one| one.count == 0 || !one.examples.is_empty()));
    }
}

pub(crate) fn call(number: u32) -> Record {
    let model = ["gpt-4o", "gpt-4o-mini", "o3"][number as usize % 3];
    let json = json!({
        "id": CallId::new(),
        "created_at": Timestamp::from_millis(start() + i64::from(number) * 60_000),
        "upstream": "openai", "provider": "openai", "endpoint": "chat.completions",
        "method": "POST", "path": "/v1/chat/completions", "model": model,
        "user": format!("user-{}", number % 7), "session": format!("session-{}", number / 10),
        "input_tokens": 100 + number, "output_tokens": 7, "total_tokens": 107 + number,
        "usage_source": "reported", "cost_source": "priced", "cost_usd": 0.001,
        "status": 200, "streaming": false, "outcome": "completed", "duration_ms": 300 + number,
        "usage_json": {"prompt_tokens": 100 + number, "completion_tokens": 7},
    });
    serde_json::from_value(json).unwrap()
}

/// The row of a record, in SQL.
fn row(record: &Record) -> String {
    format!("id = x'{}'", record.id.to_string().replace('-', ""))
}

#[test]
fn a_sound_ledger_passes_every_check() {
    let (home, calls) = Home::with_calls(200);
    let (code, said) = home.doctor(&[]);
    assert_eq!((code, &said["sound"], &said["rows"]), (0, &json!(true), &json!(200)));
    assert_eq!(said["checks"].as_array().unwrap().len(), 13);
    assert_eq!(said["journal_lines"], json!(2 * calls.len()));
    let before = fs::read(home.database()).unwrap();
    let output = home.run(&["doctor", "--repair"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("all is well"), "{text}");
    assert_eq!(fs::read(home.database()).unwrap(), before);
}

#[test]
fn deleted_rows_are_found_and_come_back_from_the_journal() {
    let (home, _) = Home::with_calls(300);
    let before = home.totals();
    home.sql("DELETE FROM token_usage WHERE user = 'user-3'");
    let output = home.run(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("has no row") && text.contains("sums say"), "{text}");
    home.expect_mended(&[Check::Sums, Check::Journal]);
    assert_eq!((home.totals(), home.ask("SELECT count(*) FROM calls")), (before, 300));
}

#[test]
fn rows_deleted_on_purpose_stay_deleted_when_only_the_sums_are_made_again() {
    let (home, _) = Home::with_calls(300);
    home.sql("DELETE FROM token_usage WHERE user = 'user-3'");
    fs::remove_dir_all(home.journal()).unwrap();
    let (code, said) = home.doctor(&["--rebuild-sums"]);
    assert_eq!((code, &said["mended"]["counted"]), (0, &json!(257)));
    home.expect(&[]);
    assert_eq!(home.totals()["requests"], 257);
}

#[test]
fn damaged_and_false_sums_are_made_again() {
    let (home, _) = Home::with_calls(300);
    let before = home.totals();
    home.sql(
        "UPDATE rollup_live SET sums = x'ff'
        WHERE (slot, user, kind) = (SELECT slot, user, kind FROM rollup_live LIMIT 1)",
    );
    home.expect_mended(&[Check::Sums]);
    // A pack that cannot be read, of a user's shard: it and the sums of its half hour.
    home.sql(
        "UPDATE rollup_pack SET pack = x'00' WHERE key = (SELECT key FROM rollup_pack
        WHERE key >= 1 << 48 AND key < 1 << 54 LIMIT 1)",
    );
    home.expect_mended(&[Check::Sums, Check::Packs]);
    // A pack of a day takes the place of another day's.
    home.sql(
        "UPDATE rollup_pack SET pack = (SELECT pack FROM rollup_pack WHERE key < 1 << 48 LIMIT 1)
        WHERE key = (SELECT max(key) FROM rollup_pack)",
    );
    home.expect_mended(&[Check::Packs]);
    // Sums without calls, and those of another half hour.
    home.sql("INSERT INTO rollup_live SELECT 7, user % 32 + 1, user, 1, x'000004' FROM calls LIMIT 1;
        DELETE FROM rollup_pack WHERE key IN (SELECT key FROM rollup_pack WHERE key < 1 << 48 LIMIT 1)");
    home.expect_mended(&[Check::Sums, Check::Packs]);
    assert_eq!(home.totals(), before);
}

#[test]
fn false_figures_of_a_row_are_those_of_the_journal_again() {
    let (home, calls) = Home::with_calls(100);
    let before = home.totals();
    home.sql(&format!("UPDATE calls SET total_tokens = 1, cost_usd = 5 WHERE {}", row(&calls[40])));
    home.expect_mended(&[Check::Sums, Check::Journal]);
    assert_eq!(home.totals(), before);
    // What no sum tells.
    home.sql(&format!("UPDATE calls SET time_to_first_byte_ms = 9 WHERE {}", row(&calls[3])));
    home.expect_mended(&[Check::Journal]);
}

#[test]
fn an_amended_row_is_as_its_amendment_and_a_repriced_one_keeps_its_costs() {
    let (home, _) = Home::with_calls(20);
    let ledger = home.open();
    let first = call(50);
    let amended = Record { total_tokens: Some(999), ..first.clone() };
    ledger.closed_for_now(&first);
    ledger.amended(&amended);
    assert!(ledger.shutdown(SOON));
    drop(ledger);
    home.expect(&[]);
    // The figures from before the amendment.
    home.sql(&format!("UPDATE calls SET total_tokens = 157 WHERE {}", row(&first)));
    home.expect_mended(&[Check::Sums, Check::Journal]);
    assert_eq!(home.ask("SELECT count(*) FROM calls WHERE total_tokens = 999"), 1);
    // Recomputed, with the sums in step; and then something else is to be mended.
    home.sql(&format!("UPDATE calls SET cost_usd = 77 WHERE {}", row(&first)));
    doctor::rebuild_sums(&home.database(), &mut |_, _, _| {}).unwrap();
    home.expect(&[Check::Journal]);
    home.sql(&format!(
        "INSERT INTO repriced_row
            (repricing, call_id, old_cost_source, new_cost_source, put_back)
         VALUES (1, '{}', 'priced', 'priced', 0)",
        first.id
    ));
    home.expect(&[]);
    home.sql(&format!("UPDATE calls SET total_tokens = 1 WHERE {}", row(&first)));
    home.expect_mended(&[Check::Sums, Check::Journal]);
    assert_eq!(home.ask("SELECT cost_usd FROM calls WHERE total_tokens = 999"), 77);
}

#[test]
fn progress_that_is_no_place_in_its_file_is_found() {
    for wrong in ["999999999", "offset - 5"] {
        let (home, _) = Home::with_calls(20);
        home.sql(&format!("UPDATE journal_progress SET offset = {wrong}"));
        home.expect_mended(&[Check::Progress]);
        assert_eq!(home.totals()["requests"], 20);
    }
}

#[test]
fn what_the_journal_has_more_is_lag_and_no_fault() {
    let (home, _) = Home::with_calls(20);
    home.sql(
        "UPDATE journal_progress SET offset = 0; DELETE FROM token_usage WHERE user = 'user-2'",
    );
    doctor::rebuild_sums(&home.database(), &mut |_, _, _| {}).unwrap();
    let found = home.examine();
    assert!(found.is_sound() && found.unread_bytes > 0, "{found:#?}");
    drop(home.open());
    assert_eq!(home.totals()["requests"], 20);
    home.expect(&[]);
}

#[test]
fn open_calls_are_known_until_they_end() {
    let (home, calls) = Home::with_calls(20);
    let record = serde_json::to_string(&calls[3]).unwrap();
    home.sql(&format!("INSERT INTO open_calls VALUES ('{}', '{record}')", calls[3].id));
    home.expect_mended(&[Check::OpenCalls]);
    home.sql("INSERT INTO open_calls VALUES ('x', 'rubbish')");
    home.expect_mended(&[Check::OpenCalls]);
    // An opening that was read, and forgotten.
    let lost = call(30);
    let file = fs::read_dir(home.journal()).unwrap().map(|file| file.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some()).unwrap();
    let mut text = fs::read_to_string(&file).unwrap();
    text = format!("{text}{}\n", json!({"open": serde_json::to_value(&lost).unwrap()}));
    fs::write(&file, &text).unwrap();
    assert!(home.examine().is_sound(), "not read yet");
    home.sql(&format!("UPDATE journal_progress SET offset = {}", text.len()));
    home.expect_mended(&[Check::OpenCalls]);
    // The next start says what became of it.
    drop(home.open());
    home.expect(&[]);
    assert_eq!(home.ask("SELECT count(*) FROM token_usage WHERE outcome = 'interrupted'"), 1);
}

#[test]
fn a_call_that_is_charged_for_others_exists() {
    let (home, calls) = Home::with_calls(20);
    let id = |id: CallId| id.to_string().replace('-', "");
    home.sql(&format!("INSERT INTO charged VALUES (x'01', x'{}')", id(calls[0].id)));
    home.expect(&[]);
    home.sql(&format!("INSERT INTO charged VALUES (x'02', x'{}')", id(CallId::new())));
    home.expect_mended(&[Check::Charged]);
    assert_eq!(home.ask("SELECT count(*) FROM charged"), 1);
}

#[test]
fn names_that_are_gone_are_found_and_made_again_by_the_journal() {
    let (home, calls) = Home::with_calls(50);
    let before = home.totals();
    home.sql("DELETE FROM users WHERE name = 'user-1'");
    home.expect_mended(&[Check::Numbers, Check::Journal]);
    home.sql("DELETE FROM sessions WHERE name = 'session-2'");
    home.expect_mended(&[Check::Numbers, Check::Journal]);
    home.sql("DELETE FROM kinds WHERE model = 'o3'");
    home.expect_mended(&[Check::Numbers, Check::Rows, Check::Journal]);
    home.sql("DELETE FROM paths; DELETE FROM shapes");
    home.expect_mended(&[Check::Numbers, Check::Rows, Check::Journal]);
    home.sql("UPDATE kinds SET outcome = NULL WHERE model = 'o3'");
    home.expect(&[Check::Kinds, Check::Rows, Check::Journal]);
    assert_eq!(home.doctor(&["--repair"]).0, 1);
    home.sql("UPDATE kinds SET outcome = 'completed' WHERE outcome IS NULL");
    home.expect_mended(&[Check::Sums]);
    assert_eq!(home.totals(), before);
    // Nothing to make it from.
    fs::remove_dir_all(home.journal()).unwrap();
    home.sql(&format!("UPDATE calls SET kind = 999 WHERE {}", row(&calls[5])));
    home.expect(&[Check::Numbers, Check::Rows]);
    assert_eq!(home.doctor(&["--repair"]).0, 1);
}

#[test]
fn keys_that_are_no_times_are_found() {
    let (home, calls) = Home::with_calls(5);
    home.sql(&format!("UPDATE calls SET key = -5 WHERE {}", row(&calls[0])));
    home.expect(&[Check::Ids, Check::Sums, Check::Journal]);
}

#[test]
fn indexes_and_the_view_are_made_again() {
    let (home, _) = Home::with_calls(20);
    home.sql(
        "DROP INDEX calls_by_charge; DROP VIEW token_usage;
        CREATE VIEW token_usage AS SELECT 1 AS id",
    );
    home.expect_mended(&[Check::Schema]);
    assert_eq!(home.ask("SELECT count(*) FROM token_usage WHERE user = 'user-1'"), 3);
    home.sql("PRAGMA application_id = 5");
    let output = home.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
}

/// The lists by which calls are found.
#[test]
fn calls_that_cannot_be_found_by_what_they_are_are_listed_again() {
    let (home, calls) = Home::with_calls(20);
    let newest = || {
        let output = home.run(&["recent", "--session", "session-1", "--format", "csv"]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let before = newest();
    assert!(before.lines().count() > 1, "{before}");
    for damage in [
        "UPDATE posting_new SET postings = x'00'",
        "UPDATE posting_chunk SET chunk = zeroblob(length(chunk))",
        "DELETE FROM posting_chunk",
    ] {
        home.sql(damage);
        home.expect_mended(&[Check::Postings]);
        assert_eq!(newest(), before);
    }
    // What somebody changes by hand is found as what it is now.
    home.sql(&format!("UPDATE calls SET user = 1, session = 1 WHERE {}", row(&calls[5])));
    home.expect(&[Check::Sums, Check::Journal]);
}

/// The sums of what was deleted because it was too old are all that is left of it.
#[test]
fn sums_whose_rows_are_gone_stay_and_are_mended_from_each_other() {
    let (home, calls) = Home::with_calls(400);
    let before = home.totals();
    home.seal();
    // At the beginning of a half hour.
    let since = calls[0].created_at.millis() + 4 * 30 * 60_000;
    home.sql(&format!(
        "INSERT INTO ledger_state VALUES ('rows_since', {since});
         DELETE FROM calls WHERE key < {since} << 15"
    ));
    home.expect(&[]);
    assert_eq!(home.totals(), before);
    home.seal();
    home.expect(&[]);
    assert_eq!(home.totals(), before);
    let of_all = "(SELECT min(key) FROM rollup_pack WHERE key < 1 << 48)";
    let of_user = "(SELECT min(key) FROM rollup_pack WHERE key >= 2 << 48 AND key < 3 << 48)";
    let of_day = "(SELECT max(key) FROM rollup_pack WHERE key >= 66 << 48 AND key < 67 << 48)";
    let (packs, both) = (vec![Check::Packs], vec![Check::Sums, Check::Packs]);
    for (wrong, checks) in [(of_all, &packs), (of_user, &both), (of_day, &packs)] {
        home.sql(&format!("UPDATE rollup_pack SET pack = x'0102' WHERE key = {wrong}"));
        home.expect_mended(checks);
        assert_eq!(home.totals(), before, "{wrong}");
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_that_records_is_looked_at_and_not_touched() {
    let home = Home::new();
    let ledger = home.open();
    let stop = AtomicBool::new(false);
    ledger.closed(&call(0));
    assert!(ledger.sync(SOON));
    thread::scope(|scope| {
        // However this ends: the other thread must end too.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut record = call(number);
                record.created_at = Timestamp::now();
                ledger.opened(&record);
                if number % 3 == 0 {
                    ledger.closed_for_now(&record);
                    record.total_tokens = Some(5);
                    ledger.amended(&record);
                } else if number % 10 != 1 {
                    ledger.closed(&record);
                }
                number += 1;
                thread::sleep(Duration::from_millis(2));
            }
        });
        eventually("some rows", || home.ask("SELECT count(*) FROM calls") > 30);
        let mut seen = 0;
        for _ in 0..3 {
            let (code, said) = home.doctor(&[]);
            assert_eq!((code, &said["served"]), (0, &json!(true)), "{said:#}");
            let rows = said["rows"].as_u64().unwrap();
            assert!(rows >= seen, "{rows}");
            seen = rows;
        }
        assert!(seen > 30);
        assert!(home.run(&["doctor", "--repair"]).status.success(), "there is nothing to repair");
        home.sql("DELETE FROM token_usage WHERE user = 'user-0'");
        for flag in ["--repair", "--rebuild-sums", "--recover"] {
            let output = home.run(&["doctor", flag]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{flag} {error}");
            assert!(error.contains("in use") && error.contains(flag), "{error}");
        }
    });
    assert!(ledger.shutdown(SOON));
}

#[test]
fn there_is_nothing_to_look_at_where_no_ledger_is() {
    let home = Home::new();
    let output = home.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!home.database().exists() && !home.journal().exists());
}
