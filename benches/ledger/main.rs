//! What a large ledger costs: its size, the answers to every kind of question, starts, and recording.
//!
//! `cargo bench --bench ledger` makes a ledger of 10,000,000 made-up calls, once, and prints a table:
//! each figure beside its target. These variables change that:
//!
//! | variable | is |
//! | --- | --- |
//! | `TOKENMETER_CALLS` | how many calls (default 10,000,000) |
//! | `TOKENMETER_DAYS` | within how many days they were made (default 90) |
//! | `TOKENMETER_LEDGER` | the database file; one that is there is used as it is (default: below `target`) |
//! | `TOKENMETER_SECONDS` | how long to record at a steady rate (default 10) |
//! | `TOKENMETER_RATE` | calls a second to record then (default 20,000); 0: only as fast as it goes |
//!
//! `cargo bench --bench ledger -- questions` or `-- recording` measures that part alone.
//!
//! Questions go through `Reader`, as the admin API's do. Of each the first run comes from a new
//! connection (`first`: the file may be in the system's cache or not), then at least nine follow on the
//! same (`median`, `worst`, and the process's CPU time of the median run). What already took twenty
//! times its target is asked only twice more. Starts and recording are measured on a copy, which is
//! removed in the end, so that the ledger stays as it was made.

#![allow(clippy::unwrap_used)]

mod questions;
mod recording;
mod sheet;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokenmeter::demo::{Demo, Settings};
use tokenmeter::ledger::{Filter, Ledger, Loader, Reader, StatsQuery};
use tokenmeter::pricing::PriceBook;
use tokenmeter::units::Timestamp;

use sheet::{Sheet, cpu_time};

/// As in the program.
const DAY_MS: i64 = 86_400_000;

/// The targets.
const BYTES_A_CALL: f64 = 400.0;
const START: Duration = Duration::from_millis(200);

/// Starts that are measured.
const STARTS: usize = 9;

/// The same calls every time.
const SEED: u64 = 20_261_121;

/// What is measured, and what of it is needed to ask.
struct Subject {
    path: PathBuf,
    calls: u64,
    /// After the newest call.
    end: Timestamp,
}

fn main() {
    let calls = number("TOKENMETER_CALLS", 10_000_000);
    let path = std::env::var_os("TOKENMETER_LEDGER").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger/{calls}/tokenmeter.db")),
        PathBuf::from,
    );
    let mut sheet = Sheet::new();
    if path.exists() {
        println!("using {}", path.display());
    } else {
        make(&path, calls);
    }
    let subject = look(&path);
    println!(
        "{} calls up to {}, {} processors, load {}",
        subject.calls,
        subject.end,
        std::thread::available_parallelism().unwrap(),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    size(&mut sheet, "the ledger as it was made", &path, subject.calls);
    if is_wanted("questions") {
        questions::ask(&mut sheet, &subject);
    }
    if is_wanted("recording") {
        let directory = path.with_file_name("recording");
        let copy = copied(&path, &directory);
        starts(&mut sheet, &copy);
        recording::record(&mut sheet, &subject, &copy);
        fs::remove_dir_all(&directory).unwrap();
    }
    sheet.finish();
}

/// Whether a part is to be measured: those that are named, or all.
fn is_wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    named.peek().is_none() || named.any(|word| word == part)
}

/// Fills a ledger. An unfinished one does not get the name that would be used again.
fn make(path: &Path, calls: u64) {
    let unfinished = path.with_extension("unfinished");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&unfinished);
    let days = i64::try_from(number("TOKENMETER_DAYS", 90)).unwrap();
    let until: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let since = Timestamp::from_millis(until.millis() - days * DAY_MS);
    println!("making {} with {calls} calls of {days} days", path.display());
    let settings = Settings { seed: SEED, calls, since, until, ..settings() };

    let prices = Arc::new(PriceBook::builtin());
    let sample = Settings { calls: calls.min(300_000), ..settings.clone() };
    let (began, before) = (Instant::now(), cpu_time());
    let made = Demo::new(&sample, Arc::clone(&prices)).map(std::hint::black_box).count();
    told("calls generated", made, began, before);

    let (began, before) = (Instant::now(), cpu_time());
    let mut loader = Loader::open(&unfinished).unwrap();
    for record in Demo::new(&settings, prices) {
        loader.add(record).unwrap();
    }
    let added = loader.finish().unwrap().added;
    told("calls generated and loaded", usize::try_from(added).unwrap(), began, before);
    fs::rename(&unfinished, path).unwrap();
}

fn told(what: &str, count: usize, began: Instant, before: Duration) {
    let (took, cpu) =
        (began.elapsed().as_secs_f64(), cpu_time().saturating_sub(before).as_secs_f64());
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    println!(
        "{count} {what}: {:.0} a second, {:.2} µs of CPU each",
        count / took,
        cpu * 1e6 / count
    );
}

fn settings() -> Settings {
    let moment = Timestamp::from_millis(0);
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    Settings { seed: SEED, calls: 0, since: moment, until: moment, users: 2_000, zone }
}

fn look(path: &Path) -> Subject {
    let reader = Reader::open(path).unwrap().with_time_limit(Duration::from_mins(10));
    let newest = reader.usage(&Filter::default(), 1, None).unwrap();
    let end = newest.records.first().expect("a ledger with calls").created_at;
    let calls = reader.stats(&StatsQuery::default()).unwrap().totals.requests;
    Subject { path: path.to_owned(), calls, end: Timestamp::from_millis(end.millis() + 1) }
}

/// The database's files, per call.
fn size(sheet: &mut Sheet, what: &str, path: &Path, calls: u64) {
    let length = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        fs::metadata(PathBuf::from(name)).map_or(0, |found| found.len())
    };
    let (file, log) = (length(""), length("-wal"));
    #[allow(clippy::cast_precision_loss)]
    let bytes = (file + log) as f64 / calls as f64;
    let note = format!("{} MB, {} MB of them log", (file + log) / 1_000_000, log / 1_000_000);
    sheet.title("size");
    sheet.figure(what, &format!("{bytes:.0} B a call"), "400", Some(bytes <= BYTES_A_CALL), &note);
}

/// A ledger of its own, so that what is recorded leaves no trace.
fn copied(path: &Path, directory: &Path) -> PathBuf {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).unwrap();
    let copy = directory.join("tokenmeter.db");
    fs::copy(path, &copy).unwrap();
    copy
}

fn open(path: &Path) -> Ledger {
    let settings = tokenmeter::ledger::Settings::of(path);
    Ledger::open(&settings).unwrap()
}

fn starts(sheet: &mut Sheet, path: &Path) {
    sheet.title("start: Ledger::open until it is ready");
    let mut times = Vec::new();
    for _ in 0..=STARTS {
        let (began, before) = (Instant::now(), cpu_time());
        let ledger = open(path);
        assert!(ledger.health().is_ok());
        times.push((began.elapsed(), cpu_time().saturating_sub(before)));
        assert!(ledger.shutdown(Duration::from_mins(1)));
    }
    sheet.times("open", &times, START, "");
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.replace('_', "").parse().expect("a number"))
}
