//! `--recover` on files that are really broken: pages overwritten and zeroed, a file cut short, a first page
//! that is gone. What is lost is told, what is not lost is there, and the damaged file stays.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use tokenmeter::ledger::{Recovered, Saved, Way, recover};

use super::doctor::Home;
use super::rig::eventually;

const PAGE: usize = 4096;

/// The numbers of a table's pages of one sort.
fn pages(home: &Home, name: &str, kind: &str) -> Vec<usize> {
    let connection = Connection::open(home.database()).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([name, kind], |row| row.get::<_, u32>(0)).unwrap();
    pages.map(|page| page.unwrap() as usize).collect()
}

fn overwrite(home: &Home, page: usize, with: u8) {
    let mut bytes = fs::read(home.database()).unwrap();
    bytes[(page - 1) * PAGE..page * PAGE].fill(with);
    fs::write(home.database(), bytes).unwrap();
}

/// The damaged file is kept, byte for byte, and the new one is sound.
fn recovered(home: &Home) -> Saved {
    let damaged = fs::read(home.database()).unwrap();
    let said = recover(&home.database(), &mut |_, _, _| {}).unwrap();
    let Recovered::Saved(saved) = said else { panic!("{said}") };
    assert_eq!(fs::read(&saved.kept).unwrap(), damaged);
    let found = home.examine();
    assert!(found.is_sound(), "{saved}\n{found:#?}");
    assert!(left_over(home).is_empty());
    saved
}

fn left_over(home: &Home) -> Vec<PathBuf> {
    let files = fs::read_dir(home.database().parent().unwrap()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.to_string_lossy().contains("recovering")).collect()
}

#[test]
fn a_broken_page_costs_nothing_that_the_journal_has() {
    let (home, _) = Home::with_calls(2000);
    let before = home.totals();
    let leaves = pages(&home, "calls", "leaf");
    assert!(leaves.len() > 20);
    overwrite(&home, leaves[5], 0xa5);
    overwrite(&home, leaves[12], 0);
    let found = home.examine();
    assert!(!found.is_sound());
    let saved = recovered(&home);
    assert_eq!((saved.way, saved.rows + saved.refilled, saved.lost), (Way::Tables, 2000, 0));
    assert!(saved.rows > 1800 && saved.refilled > 20, "{saved}");
    assert_eq!(home.totals(), before);
}

#[test]
fn without_a_journal_the_other_pages_are_saved_and_the_loss_is_told() {
    let (home, _) = Home::with_calls(2000);
    home.sql("INSERT INTO charged SELECT randomblob(16), id FROM calls");
    fs::remove_dir_all(home.journal()).unwrap();
    let leaves = pages(&home, "calls", "leaf");
    for broken in [3, 4, 20, leaves.len() - 1] {
        overwrite(&home, leaves[broken], 0xff);
    }
    let saved = recovered(&home);
    assert_eq!(saved.rows + saved.lost, 2000, "{saved}");
    assert!((20..400).contains(&saved.lost), "{saved}");
    assert_eq!(home.totals()["requests"], saved.rows);
    let text = saved.to_string();
    assert!(text.contains(&format!("{} rows are known to be lost", saved.lost)), "{text}");
    assert!(text.contains("calls, from"), "{text}");
}

#[test]
fn names_are_saved_from_their_index_and_kinds_get_stand_ins() {
    let (home, _) = Home::with_calls(500);
    let before = home.totals();
    fs::remove_dir_all(home.journal()).unwrap();
    for name in ["users", "paths"] {
        overwrite(&home, pages(&home, name, "leaf")[0], 0);
    }
    let saved = recovered(&home);
    assert_eq!((saved.rows, saved.patched), (500, 0), "{saved}");
    assert_eq!(home.ask("SELECT count(*) FROM token_usage WHERE user = 'user-3'"), 71);
    assert_eq!(home.totals(), before);
    overwrite(&home, pages(&home, "kinds", "leaf")[0], 0);
    let saved = recovered(&home);
    assert_eq!((saved.rows, saved.patched), (500, 500), "{saved}");
    assert_eq!(home.ask("SELECT count(*) FROM token_usage WHERE upstream = 'lost'"), 500);
    assert_eq!(home.totals()["total_tokens"], before["total_tokens"]);
}

#[test]
fn a_file_cut_short_gives_what_it_has() {
    let (home, _) = Home::with_calls(2000);
    let before = home.totals();
    let length = fs::metadata(home.database()).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(home.database()).unwrap();
    file.set_len(length / 2 / 4096 * 4096 + 100).unwrap();
    let saved = recovered(&home);
    assert_eq!((saved.rows + saved.refilled, saved.lost), (2000, 0), "{saved}");
    assert!(saved.rows > 100, "{saved}");
    assert_eq!(home.totals(), before);
}

#[test]
fn a_first_page_that_is_gone_is_made_again() {
    for vacuumed in [false, true] {
        let (home, _) = Home::with_calls(2000);
        let before = home.totals();
        if vacuumed {
            home.sql("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
        }
        fs::remove_dir_all(home.journal()).unwrap();
        overwrite(&home, 1, 0);
        let saved = recovered(&home);
        assert_eq!((saved.way, saved.rows, saved.lost), (Way::Grafted, 2000, 0), "{saved}");
        assert_eq!(home.totals(), before);
    }
}

#[test]
fn what_cannot_be_read_at_all_is_made_again_from_the_journal() {
    let (home, _) = Home::with_calls(300);
    let before = home.totals();
    fs::write(home.database(), vec![0x5a; 50 * PAGE]).unwrap();
    let saved = recovered(&home);
    assert_eq!((saved.way, saved.rows, saved.refilled), (Way::JournalAlone, 0, 300), "{saved}");
    assert_eq!(home.totals(), before);
    // Somebody's letter, and no journal: not ours to touch.
    fs::remove_dir_all(home.journal()).unwrap();
    fs::write(home.database(), "Dear diary").unwrap();
    let error = recover(&home.database(), &mut |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("nothing of a ledger"), "{error}");
    assert_eq!(fs::read(home.database()).unwrap(), b"Dear diary");
}

#[test]
fn sums_whose_rows_are_gone_are_saved_too() {
    let (home, calls) = Home::with_calls(2000);
    let before = home.totals();
    let since = calls[0].created_at.millis() + 4 * 30 * 60_000;
    home.sql(&format!(
        "INSERT INTO ledger_state VALUES ('rows_since', {since});
         DELETE FROM calls WHERE key < {since} << 15; PRAGMA wal_checkpoint(TRUNCATE)"
    ));
    overwrite(&home, pages(&home, "calls", "leaf")[9], 0);
    let saved = recovered(&home);
    assert_eq!(saved.rows + saved.refilled, 2000 - 120, "{saved}");
    assert_eq!(home.totals(), before);
}

#[test]
fn a_recovery_that_fails_leaves_everything_as_it_was() {
    let (home, _) = Home::with_calls(300);
    overwrite(&home, pages(&home, "calls", "leaf")[2], 0);
    let damaged = fs::read(home.database()).unwrap();
    let in_the_way = home.database().with_file_name("tokenmeter.db.recovering");
    fs::create_dir(&in_the_way).unwrap();
    assert!(recover(&home.database(), &mut |_, _, _| {}).is_err());
    assert_eq!(fs::read(home.database()).unwrap(), damaged);
    // What a crash in the middle leaves is no hindrance.
    fs::remove_dir(&in_the_way).unwrap();
    fs::write(&in_the_way, "half").unwrap();
    recovered(&home);
}

#[test]
fn a_sound_ledger_is_left_alone() {
    let (home, _) = Home::with_calls(20);
    let before = fs::read(home.database()).unwrap();
    let output = home.run(&["doctor", "--recover"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("not damaged"), "{said}");
    assert_eq!(fs::read(home.database()).unwrap(), before);
    assert!(left_over(&home).is_empty());
}

#[test]
fn serve_names_the_way_out_and_takes_it_when_told_to() {
    let (home, _) = Home::with_calls(300);
    overwrite(&home, 1, 0);
    let damaged = fs::read(home.database()).unwrap();
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("serve --recover"), "{said}");
    assert_eq!(fs::read(home.database()).unwrap(), damaged);
    let log = home.database().with_file_name("log");
    let mut serving = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(["serve", "--listen", "127.0.0.1:0", "--recover", "--database"])
        .arg(home.database())
        .current_dir(home.database().parent().unwrap())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let has_said = |words: &str| fs::read_to_string(&log).is_ok_and(|said| said.contains(words));
    eventually("a recovery", || has_said("known to be lost"));
    serving.kill().unwrap();
    serving.wait().unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("300 rows saved") && said.contains(".damaged-"), "{said}");
    assert_eq!(home.totals()["requests"], 300);
}
