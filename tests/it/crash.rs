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
use tokenmeter::ledger::{Ledger, OpenError, Settings};
use tokenmeter::record::{CallId, Outcome};

use super::support::Random;
use super::trial::{
    Call, EVERYTHING, Home, Kind, Lane, Provider, Reckoning, Rows, Running, Traffic, dump,
    integrity, number_from, open_readonly, reckon, wait_until,
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
        self.calls_of(running, session, &EVERYTHING);
    }

    fn calls_of(&mut self, running: &Running, session: &str, lanes: &[Lane]) {
        let traffic = Traffic::start(running.address, session, lanes);
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
    let settings = Settings::of(directory.path().join("tokenmeter.db"));
    let journal = directory.path().join("journal");
    let (mut cuts, mut rows) = (0, 0);
    for lines in real_lines() {
        for torn in 0..lines.len() {
            for cut in 1..=lines[torn].len() {
                let id = CallId::new();
                let whole = lines[..torn].concat();
                let text = (whole + &lines[torn][..cut]).replace(ID, &id.to_string());
                append(&journal, text.as_bytes());
                let ledger = open(&settings);
                assert!(ledger.sync(Duration::from_secs(30)));
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
                        serde_json::from_str(&lines[known - 1].replace(ID, &id.to_string()))
                            .unwrap();
                    let of_line = line.as_object().unwrap().values().next().unwrap();
                    assert_eq!(serde_json::to_value(row).unwrap(), *of_line);
                }
                // Those before may be read again until there is something to commit.
                assert!(is_whole || ledger.health().unreadable_lines > 0);
                (cuts, rows) = (cuts + 1, rows + usize::from(expected.is_some()));
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 2000, "only {cuts} cuts");
    let ledger = open(&settings);
    assert_eq!(ledger.health().unreadable_lines, 0);
    drop(ledger);
    assert_eq!(count(&settings.database), rows);
    integrity(&settings.database);
}

/// Opens a ledger that was closed. A process that another test starts holds its lock as well, until it
/// has become the program that it is to be.
fn open(settings: &Settings) -> Ledger {
    let mut opened = None;
    wait_until("the lock is free", || match Ledger::open(settings) {
        Err(OpenError::InUse { .. }) => false,
        ledger => {
            opened = Some(ledger.unwrap());
            true
        }
    });
    opened.unwrap()
}

/// Adds to the journal's file of today, as a process would that is killed in the middle.
fn append(journal: &Path, bytes: &[u8]) {
    fs::create_dir_all(journal).unwrap();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let file =
        File::options().create(true).append(true).open(journal.join(format!("{today}.jsonl")));
    file.unwrap().write_all(bytes).unwrap();
}

/// The first half of a file and the rest, cut before a call opens.
fn halves(path: &Path) -> (String, String) {
    let text = fs::read_to_string(path).unwrap();
    let middle = text.len() / 2;
    let end = text[middle..].find("\n{\"open\"").unwrap() + middle + 1;
    (text[..end].to_owned(), text[end..].to_owned())
}

#[test]
fn a_journal_day_lost_before_it_was_in_the_database_is_told() {
    let mut story = Story::new();
    let running = story.home.start();
    story.calls(&running, "before");
    assert_eq!(running.stop().code(), Some(0));
    let day = story.home.days().pop().unwrap();
    let read = fs::read(&day).unwrap().len();
    // What only the journal has.
    let running = story.home.start();
    let locked = lock(&story.home.database());
    story.calls_and_a_kill(running, "lost");
    drop(locked);
    let lost = fs::read_to_string(&day).unwrap().split_off(read);
    fs::remove_file(&day).unwrap();
    let (Left { heads, .. }, _) = story.left.pop().unwrap();

    let running = story.home.start();
    story.reckon();
    let log = story.home.log();
    let name = day.file_name().unwrap().to_str().unwrap();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(name)), "{log}");
    assert_eq!(running.stop().code(), Some(0));

    // Another file of that name, with a line that ends just where the lost one had been read to.
    let mut other = lost;
    let end = other[..read.min(other.len())].rfind('\n').unwrap();
    other.insert_str(end, &" ".repeat(read - end - 1));
    fs::write(&day, other).unwrap();
    let running = story.home.start();
    assert!(sessions(&story.home.database())["lost"] >= i64::try_from(heads.len()).unwrap());
    assert_eq!(running.stop().code(), Some(0));
}

/// How many rows each session has.
fn sessions(database: &Path) -> HashMap<String, i64> {
    let connection = open_readonly(database);
    let sql = "SELECT session, count(*) FROM token_usage GROUP BY session";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn yesterdays_database_is_filled_from_the_journal() {
    let mut story = Story::new();
    let running = story.home.start();
    story.calls(&running, "yesterday");
    assert_eq!(running.stop().code(), Some(0));
    let (database, copy) = (story.home.database(), story.home.path().join("copy.db"));
    fs::copy(&database, &copy).unwrap();
    let running = story.home.start();
    story.calls(&running, "today");
    story.calls_and_a_kill(running, "cut off");
    story.start_reckon_stop();
    let whole = dump(&database);
    let running = story.home.start();
    story.calls_and_a_kill(running, "cut off again");
    fs::copy(&copy, &database).unwrap();
    remove_log(&database);
    story.start_reckon_stop();
    let rows = dump(&database);
    for before in whole {
        assert!(rows.contains(&before), "{before}");
    }
}

#[test]
fn a_database_older_than_what_is_left_of_the_journal_is_told() {
    let mut story = Story::new();
    let running = story.home.start();
    // One after the other, so that there are places between them.
    story.calls_of(&running, "long ago", &[&[Kind::Json]]);
    assert_eq!(running.stop().code(), Some(0));
    // The same as if it had been written then, and half of it is in a copy of the database.
    let day = story.home.days().pop().unwrap();
    let (first, second) = halves(&day);
    fs::remove_file(&day).unwrap();
    let (database, copy) = (story.home.database(), story.home.path().join("copy.db"));
    remove_database(&database);
    let day = story.home.journal().join("2020-01-02.jsonl");
    fs::write(&day, first).unwrap();
    story.home.configure("journal_days = 100000");
    let running = story.home.start();
    running.wait_settled();
    assert_eq!(running.stop().code(), Some(0));
    fs::copy(&database, &copy).unwrap();
    File::options().append(true).open(&day).unwrap().write_all(second.as_bytes()).unwrap();
    let running = story.home.start();
    running.wait_settled();
    story.calls(&running, "today");
    assert!(day.exists());
    assert_eq!(running.stop().code(), Some(0));
    story.home.configure("journal_days = 7");
    story.start_reckon_stop();
    assert!(!day.exists());
    let told = |log: &str| {
        log.lines().any(|line| line.contains("WARN") && line.contains("2020-01-02.jsonl"))
    };
    assert!(!told(&story.home.log()));

    fs::copy(&copy, &database).unwrap();
    remove_log(&database);
    let running = story.home.start();
    running.wait_settled();
    assert!(told(&story.home.log()), "{}", story.home.log());
    integrity(&database);
    let rows = sessions(&database);
    let made: HashMap<_, _> =
        story.left.iter().map(|(left, _)| (left.session.as_str(), left.calls.len())).collect();
    assert_eq!(rows["today"], i64::try_from(made["today"]).unwrap());
    let kept = rows["long ago"];
    assert!(kept > 0 && kept < i64::try_from(made["long ago"]).unwrap());
    assert_eq!(running.stop().code(), Some(0));
    // Once is enough.
    let before = story.home.log().len();
    let running = story.home.start();
    assert!(!told(&story.home.log()[before..]));
    assert_eq!(running.stop().code(), Some(0));
}

/// Lines as a process would have written them whose clock was a year ahead.
fn a_year_later(lines: &str) -> String {
    const YEAR_MS: u64 = 366 * 86_400_000;
    let year: u32 =
        jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year().unsigned_abs().into();
    let (this, next) =
        (format!("\"created_at\":\"{year}"), format!("\"created_at\":\"{}", year + 1));
    let mut later = String::new();
    for line in lines.split_inclusive('\n') {
        let mut line = line.replace(&this, &next);
        if let Some(at) = line.find("\"id\":\"0") {
            let stamp = at + 6..at + 6 + 13;
            let hex = line[stamp.clone()].replace('-', "");
            let millis = u64::from_str_radix(&hex, 16).unwrap() + YEAR_MS;
            let hex = format!("{millis:012x}");
            line.replace_range(stamp, &format!("{}-{}", &hex[..8], &hex[8..]));
        }
        later.push_str(&line);
    }
    later
}

#[test]
fn a_clock_that_jumps_back_a_year_loses_and_doubles_nothing() {
    let mut story = Story::new();
    let running = story.home.start();
    story.calls_and_a_kill(running, "next year");
    // All that happened so far happened in a year's time; half of it is in the database.
    let today = story.home.days().pop().unwrap();
    let text = a_year_later(&fs::read_to_string(&today).unwrap());
    for call in &mut story.left[0].0.calls {
        call.id = call.id.take().map(|id| a_year_later(&format!("\"id\":\"{id}"))[6..].to_owned());
    }
    fs::write(&today, text).unwrap();
    remove_database(&story.home.database());
    let next_year = story.home.journal().join("2199-01-01.jsonl");
    let (first, second) = halves(&today);
    fs::remove_file(&today).unwrap();
    fs::write(&next_year, first).unwrap();
    let mut rest = second;
    // One closes after the clock has jumped: its line is in the file of an earlier day.
    let close =
        rest.split_inclusive('\n').rfind(|line| line.starts_with("{\"close\"")).unwrap().to_owned();
    rest = rest.replace(&close, "");
    File::options().append(true).open(&next_year).unwrap().write_all(rest.as_bytes()).unwrap();
    fs::write(&today, close).unwrap();

    let running = story.home.start();
    running.wait_settled();
    let before = story.reckon().rows;
    story.calls(&running, "this year");
    let made = story.left[1].0.calls.len();
    wait_until("the rows of this year", || count(&story.home.database()) >= before + made);
    story.reckon();
    story.calls_and_a_kill(running, "this year, cut off");
    story.start_reckon_stop();
    assert!(next_year.exists());
    // Again from the journal alone, in whatever order its days are.
    let before = dump(&story.home.database());
    remove_database(&story.home.database());
    story.start_reckon_stop();
    assert_eq!(before, dump(&story.home.database()));
}

#[test]
fn a_second_process_ends_with_a_message_and_disturbs_nothing() {
    let mut story = Story::new();
    let running = story.home.start();
    let traffic = Traffic::start(running.address, "first", &EVERYTHING);
    traffic.wait_for(5);
    let Err(refused) = story.home.try_start() else { panic!("two on one ledger") };
    assert_eq!(refused.code, Some(1));
    let said = &refused.stderr;
    let database = story.home.database().display().to_string();
    assert!(said.contains(&database) && said.contains(&running.id().to_string()), "{said}");

    // Another database in the same directory would share the journal.
    let other = story.home.ledger().join("other.db");
    let Err(refused) = story.home.try_start_on(&other) else { panic!("two in one journal") };
    assert_eq!(refused.code, Some(1));
    let said = &refused.stderr;
    let journal = story.home.journal().display().to_string();
    assert!(said.contains(&journal) && said.contains(&running.id().to_string()), "{said}");
    assert!(!other.exists());

    traffic.wait_for(5);
    let calls = traffic.end();
    let heads = story.provider.take_heads();
    let left = Left { session: "first".to_owned(), calls, heads };
    story.left.push((left, Rows::Undisturbed));
    running.wait_idle();
    running.wait_settled();
    running.kill();

    // Lock files that were left, with the number of a process that is alive and another one.
    for lock in [story.home.ledger().join("tokenmeter.db.lock"), story.home.journal().join(".lock")]
    {
        assert!(lock.exists());
        fs::write(lock, std::process::id().to_string()).unwrap();
    }
    story.start_reckon_stop();
}
