//! What kills ledgers: the process killed at any moment, also while it recovers; a journal torn, lost or
//! of another day; an older database put in place; a second process.
//!
//! `docs/TESTING.md` says how to run the long trial.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokenmeter::ledger::{Ledger, Settings};
use tokenmeter::record::{CallId, Outcome};

use super::support::Random;
use super::trial::{
    Call, EVERYTHING, Home, Kind, Provider, Reckoning, Rows, Running, Traffic, dump, integrity,
    number_from, open_readonly, reckon,
};

/// How many times the ledger's process is killed under load.
const ROUNDS: &str = "TOKENMETER_CRASH_ROUNDS";

/// Which moments those are.
const SEED: &str = "TOKENMETER_CRASH_SEED";

/// Every so many rounds one is long.
const LONG_EVERY: u64 = 10;

/// Openings move to the database when they are ten seconds old.
const LONG_ROUND: Duration = Duration::from_millis(11_500);

/// A ledger that is killed again and again.
struct Trial {
    provider: Provider,
    home: Home,
    random: Random,
    /// How long a start takes, at most, as far as is known.
    start: Duration,
    total: Reckoning,
    killed_while_starting: u32,
}

/// What is to be found in the ledger after a kill.
struct Left {
    session: String,
    calls: Vec<Call>,
    heads: HashMap<u64, u32>,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let provider = Provider::start();
        let home = Home::new(&provider);
        let random = Random::seeded(&seed.to_string());
        let start = Duration::ZERO;
        let total = Reckoning::default();
        Trial { provider, home, random, start, total, killed_while_starting: 0 }
    }

    fn some_time(&mut self, at_most: Duration) -> Duration {
        let micros = usize::try_from(at_most.as_micros()).unwrap();
        Duration::from_micros(self.random.below(micros + 1) as u64)
    }

    /// Starts, though perhaps not at the first attempt: some are killed in the middle of it.
    fn start(&mut self) -> Running {
        for _ in 0..self.random.below(4).saturating_sub(1) {
            let mut starting = self.home.spawn();
            let moment = self.some_time(self.start);
            thread::sleep(moment);
            starting.kill().unwrap();
            starting.wait().unwrap();
            self.killed_while_starting += 1;
        }
        let since = Instant::now();
        let running = self.home.start();
        self.start = self.start.max(since.elapsed());
        running.wait_ready();
        running
    }

    /// Load, and a kill in the middle of it.
    fn round(&mut self, round: u64, running: Running) -> Left {
        let session = format!("round-{round}");
        let is_long = round % LONG_EVERY == 1;
        // Sometimes nothing reaches the database, so that the next start has all of it to do.
        let locked = (!is_long && self.random.below(4) == 0).then(|| lock(&self.home.database()));
        self.provider.let_long_calls_end(false);
        let long = Traffic::start(running.address, &session, &[&[Kind::Long], &[Kind::Long]]);
        let moment = self.some_time(Duration::from_millis(500));
        if is_long {
            thread::sleep(LONG_ROUND);
            // Long calls end from here on, and some do before the kill.
            self.provider.let_long_calls_end(self.random.below(2) == 0);
        }
        let short = Traffic::start(running.address, &session, &EVERYTHING);
        thread::sleep(moment);
        if self.random.below(5) == 0 {
            // Told to stop, and not given the time.
            running.ask_to_stop();
            let moment = self.some_time(Duration::from_millis(100));
            thread::sleep(moment);
        }
        running.kill();
        drop(locked);
        let calls = [short.end(), long.end()].concat();
        Left { session, calls, heads: HashMap::new() }
    }

    fn reckon(&mut self, left: &Left) {
        let Left { session, calls, heads } = left;
        let database = self.home.database();
        self.total += reckon(&database, session, calls, heads, Rows::Killed);
        integrity(&database);
        let rows = count(&database);
        assert_eq!(rows, self.total.rows);
    }
}

/// Keeps everybody else from writing while it lives.
fn lock(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    connection
}

fn count(database: &Path) -> usize {
    let sql = "SELECT count(*) FROM token_usage";
    let rows: i64 = open_readonly(database).query_row(sql, [], |row| row.get(0)).unwrap();
    usize::try_from(rows).unwrap()
}

fn a_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(since.subsec_nanos())
}

/// Removes the database; the journal stays.
fn remove_database(database: &Path) {
    fs::remove_file(database).unwrap();
    remove_log(database);
}

/// Removes what belongs to another state of the database.
fn remove_log(database: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

#[test]
fn killed_again_and_again_it_has_every_call_once() {
    let rounds = number_from(ROUNDS, 6);
    let seed = number_from(SEED, a_seed());
    println!("{SEED}={seed} {ROUNDS}={rounds}");
    let since = Instant::now();
    let mut trial = Trial::new(seed);
    let mut left: Option<Left> = None;
    for round in 1..=rounds {
        let running = trial.start();
        if let Some(left) = &left {
            trial.reckon(left);
        }
        let mut now = trial.round(round, running);
        // What a killed process had sent may still be on its way to the provider.
        now.heads = trial.provider.settled_heads();
        left = Some(now);
        if round % 20 == 0 {
            println!("round {round}, {:?}: {}", since.elapsed(), trial.total);
        }
    }
    let running = trial.start();
    trial.reckon(left.as_ref().unwrap());
    assert_eq!(running.stop().code(), Some(0));
    let database = trial.home.database();
    integrity(&database);
    let before = dump(&database);
    assert_eq!(before.len(), trial.total.rows);

    // The journal alone tells the same story.
    remove_database(&database);
    let running = trial.home.start();
    running.wait_settled();
    assert_eq!(running.stop().code(), Some(0));
    for (before, after) in before.iter().zip(dump(&database)) {
        assert_eq!(*before, after);
    }
    assert_eq!(count(&database), trial.total.rows);
    let log = trial.home.log();
    assert!(!log.contains("panicked"), "{log}");
    println!(
        "{rounds} kills under load and {} during a start, {:?}: {}",
        trial.killed_while_starting,
        since.elapsed(),
        trial.total
    );
    assert!(trial.total.full > 0 && trial.total.interrupted > 0);
}

/// Calls of one kind of disturbance, kept to be reckoned with whenever something has been done to the
/// ledger.
struct Story {
    provider: Provider,
    home: Home,
    left: Vec<(Left, Rows)>,
}

impl Story {
    fn new() -> Story {
        let provider = Provider::start();
        let home = Home::new(&provider);
        Story { provider, home, left: Vec::new() }
    }

    /// Calls that all come to their end.
    fn calls(&mut self, running: &Running, session: &str) {
        let traffic = Traffic::start(running.address, session, &EVERYTHING);
        traffic.wait_for(30);
        let calls = traffic.end();
        let heads = self.provider.take_heads();
        self.left.push((Left { session: session.to_owned(), calls, heads }, Rows::Undisturbed));
    }

    /// Calls in the middle of which the process is killed.
    fn calls_and_a_kill(&mut self, running: Running, session: &str) {
        let traffic = Traffic::start(running.address, session, &EVERYTHING);
        traffic.wait_for(30);
        running.kill();
        let calls = traffic.end();
        let heads = self.provider.settled_heads();
        self.left.push((Left { session: session.to_owned(), calls, heads }, Rows::Killed));
    }

    /// Every call that was ever made is there once, and nothing else.
    fn reckon(&self) -> Reckoning {
        let database = self.home.database();
        integrity(&database);
        let mut total = Reckoning::default();
        for (Left { session, calls, heads }, rule) in &self.left {
            total += reckon(&database, session, calls, heads, *rule);
        }
        assert_eq!(count(&database), total.rows);
        total
    }

    /// A start that takes in all there is, the reckoning, and an orderly stop.
    fn start_reckon_stop(&self) {
        let running = self.home.start();
        running.wait_settled();
        self.reckon();
        assert_eq!(running.stop().code(), Some(0));
        self.reckon();
    }
}

/// Real lines, one call's after the other's: what a process wrote about a call that reported its usage
/// and about one that had to be estimated.
fn real_lines() -> [Vec<String>; 2] {
    let mut story = Story::new();
    let running = story.home.start();
    story.calls(&running, "lines");
    assert_eq!(running.stop().code(), Some(0));
    let text = fs::read_to_string(&story.home.days()[0]).unwrap();
    let of = |kind: Kind| {
        let (Left { calls, .. }, _) = &story.left[0];
        let call = calls.iter().rfind(|call| call.kind == kind).unwrap();
        let id = call.id.as_deref().unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.contains(id));
        lines.map(|line| line.replace(id, ID)).collect::<Vec<_>>()
    };
    let lines = [of(Kind::Json), of(Kind::UnreportedStream)];
    let kinds = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&lines[0]), ["open", "close"]);
    assert_eq!(kinds(&lines[1]), ["open", "close", "amend"]);
    lines
}

/// Stands for a call's id in a line.
const ID: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn a_line_torn_at_any_byte_costs_nothing_but_itself() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { database: directory.path().join("tokenmeter.db"), journal_days: 7 };
    let journal = directory.path().join("journal");
    let (mut cuts, mut rows) = (0, 0);
    for lines in real_lines() {
        for torn in 0..lines.len() {
            for cut in 1..=lines[torn].len() {
                let id = CallId::new();
                let whole = lines[..torn].concat();
                let text = (whole + &lines[torn][..cut]).replace(ID, &id.to_string());
                append(&journal, text.as_bytes());
                let ledger = Ledger::open(&settings).unwrap();
                let is_whole = cut + 1 >= lines[torn].len();
                let known = torn + usize::from(is_whole);
                let expected = match (known, lines.len()) {
                    (0, _) => None,
                    (1, _) => Some(Outcome::Interrupted),
                    _ => Some(Outcome::Completed),
                };
                let row = ledger.reader().one(&id).unwrap();
                assert_eq!(row.as_ref().map(|row| row.outcome), expected, "{torn} {cut}");
                if let (Some(row), true) = (&row, known > 1) {
                    let line: serde_json::Value =
                        serde_json::from_str(&lines[known - 1].replace(ID, &id.to_string())).unwrap();
                    let of_line = line.as_object().unwrap().values().next().unwrap();
                    assert_eq!(serde_json::to_value(row).unwrap(), *of_line);
                }
                assert_eq!(ledger.health().unreadable_lines, u64::from(!is_whole));
                (cuts, rows) = (cuts + 1, rows + usize::from(expected.is_some()));
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 2000, "only {cuts} cuts");
    let ledger = Ledger::open(&settings).unwrap();
    assert_eq!(ledger.health().unreadable_lines, 0);
    drop(ledger);
    assert_eq!(count(&settings.database), rows);
    integrity(&settings.database);
}

/// Adds to the journal's file of today, as a process would that is killed in the middle.
fn append(journal: &Path, bytes: &[u8]) {
    fs::create_dir_all(journal).unwrap();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let file = File::options().create(true).append(true).open(journal.join(format!("{today}.jsonl")));
    file.unwrap().write_all(bytes).unwrap();
}
