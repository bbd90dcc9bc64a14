//! What keeps a ledger from being written while calls go on: locks, full disks, files that are removed,
//! become read-only or are damaged. Calls flow through all of it, and when it is over the ledger is whole.
//!
//! What needs a right that the machine does not give is left out, and says so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::trial::{
    Call, EVERYTHING, Home, Kind, Provider, Rows, Running, Setup, Traffic, ask, integrity,
    number_from, reckon, wait_until,
};

/// How long a fault lasts at least, in seconds.
const SECONDS: &str = "TOKENMETER_FAULT_SECONDS";

/// No call may wait for the ledger. One that did would wait for a lock's second, or for ever.
const NORMAL: Duration = Duration::from_secs(1);

/// A ledger at work: calls before, during and after what is done to it.
struct Trial {
    provider: Provider,
    home: Home,
    /// The database by the name that the process knows it by, and by that under which it is seen here.
    database: PathBuf,
    seen: PathBuf,
}

/// A trial with traffic.
struct Flowing<'a> {
    trial: &'a Trial,
    running: Running,
    traffic: Traffic,
}

impl Trial {
    fn new() -> Trial {
        Trial::with(Setup::default())
    }

    fn with(setup: Setup) -> Trial {
        let provider = Provider::start();
        let home = Home::with(&provider, setup);
        let database = home.database();
        Trial { provider, home, seen: database.clone(), database }
    }

    fn start(&self) -> Running {
        self.home.try_start_on(&self.database).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    fn flow(&self) -> Flowing<'_> {
        let running = self.start();
        let traffic = Traffic::start(running.address, "faults", &EVERYTHING);
        traffic.wait_for(20);
        Flowing { trial: self, running, traffic }
    }

    /// Everything is in the database as it should be.
    fn reckon(&self, calls: &[Call], heads: &HashMap<u64, u32>) {
        // Where it is seen may not be where its log belongs.
        let copy = self.home.path().join("copy.db");
        fs::copy(&self.seen, &copy).unwrap();
        integrity(&copy);
        reckon(&copy, "faults", calls, heads, Rows::Undisturbed);
        let log = self.home.log();
        assert!(!log.contains("panicked") && !log.contains("LOST"), "{log}");
    }
}

impl Flowing<'_> {
    /// Calls flow for as long as the fault lasts.
    fn go_on(&self) {
        self.go_on_for(usize::MAX);
    }

    /// Calls flow for as long as the fault lasts, but no more than memory has room for.
    fn go_on_in_memory(&self) {
        self.go_on_for(5_000);
    }

    fn go_on_for(&self, at_most: usize) {
        let (since, before) = (Instant::now(), self.traffic.full());
        let long = Duration::from_secs(number_from(SECONDS, 1));
        self.traffic.wait_for(30);
        while since.elapsed() < long && self.traffic.full() - before < at_most {
            self.traffic.wait_for(1);
        }
    }

    /// `/readyz` says that something is wrong, and what.
    fn is_told(&self, sign: &str) {
        let said = self.running.wait_unready();
        let problem = said["problem"].as_str().unwrap();
        assert!(problem.contains(sign), "{problem}");
    }

    /// The fault is over: everything arrives by itself, and nothing is missing.
    fn ends(self) {
        let Flowing { trial, running, traffic } = self;
        traffic.wait_for(20);
        let waited = running.wait_ready();
        let calls = traffic.end();
        running.wait_settled();
        let (_, ready) = running.ready();
        assert_eq!(ready["dropped_lines"], 0);
        assert_eq!(running.stop().code(), Some(0));
        trial.reckon(&calls, &trial.provider.take_heads());
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        is_quick(&calls);
    }
}

/// 99 of 100 quick calls took no longer than a quick call does.
fn is_quick(calls: &[Call]) {
    let quick = calls.iter().filter(|call| matches!(call.kind, Kind::Json | Kind::Stream));
    let mut took: Vec<Duration> = quick.map(|call| call.took).collect();
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!("{} calls, 99 % within {p99:?}, all within {:?}", calls.len(), took[took.len() - 1]);
    assert!(p99 < NORMAL, "{p99:?}");
}

/// Keeps everybody else from writing while it lives.
fn lock(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    connection
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[test]
fn a_lock_of_another_process_delays_rows_and_no_call() {
    let trial = Trial::new();
    let flowing = trial.flow();
    let locked = lock(&trial.database);
    flowing.is_told("locked");
    flowing.go_on();
    let since = Instant::now();
    let (status, answer) = ask(flowing.running.address, "/admin/stats?days=1").unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    drop(locked);
    flowing.ends();
}

#[test]
fn a_kill_during_a_lock_and_a_start_during_a_lock_lose_nothing() {
    let trial = Trial::new();
    let Flowing { running, traffic, .. } = trial.flow();
    let locked = lock(&trial.database);
    traffic.wait_for(50);
    let mut calls = traffic.end();
    // All of them are over, none of them is in the database.
    running.kill();
    let since = Instant::now();
    let running = trial.start();
    let started = since.elapsed();
    assert!(started < Duration::from_secs(20), "{started:?}");
    assert_eq!(running.ready().0, 503);
    let traffic = Traffic::start(running.address, "faults", &EVERYTHING);
    traffic.wait_for(50);
    running.wait_unready();
    drop(locked);
    running.wait_ready();
    calls.extend(traffic.end());
    running.wait_settled();
    assert_eq!(running.stop().code(), Some(0));
    let heads = trial.provider.settled_heads();
    reckon(&trial.database, "faults", &calls, &heads, Rows::Killed);
}

/// Ignores the signal that a process gets for a file that grows too large: the write fails instead, as
/// on a full disk.
fn without_xfsz() -> Setup {
    let through = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    Setup { through: through.map(str::to_owned).to_vec() }
}

/// Files of the process may not grow beyond this many bytes.
fn limit_files(running: &Running, bytes: Option<u64>) {
    let bytes = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let (id, limit) = (running.id().to_string(), format!("--fsize={bytes}:"));
    let limited = Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap();
    assert!(limited.success());
}

/// The log said on stderr that stderr could not be written, and that ended the process.
#[test]
fn a_log_on_a_full_disk_ended_the_process() {
    let through = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
    let trial = Trial::with(Setup { through: through.map(str::to_owned).to_vec() });
    let flowing = trial.flow();
    let locked = lock(&trial.database);
    flowing.is_told("locked");
    drop(locked);
    flowing.ends();
}

#[test]
fn no_file_may_grow_and_every_call_is_there_in_the_end() {
    let trial = Trial::with(without_xfsz());
    let flowing = trial.flow();
    limit_files(&flowing.running, Some(1));
    flowing.is_told("the journal cannot be written");
    flowing.go_on_in_memory();
    limit_files(&flowing.running, None);
    flowing.ends();
}

#[test]
fn the_journal_is_full_in_the_middle_of_a_line_again_and_again() {
    let trial = Trial::with(without_xfsz());
    let flowing = trial.flow();
    for more in [1, 100, 700, 1_501, 3_002] {
        let day = fs::metadata(&trial.home.days()[0]).unwrap();
        limit_files(&flowing.running, Some(day.len() + more));
        flowing.is_told("the journal cannot be written");
        flowing.traffic.wait_for(30);
        limit_files(&flowing.running, None);
        flowing.running.wait_ready();
    }
    flowing.ends();
}

/// A small disk that only a helper and the processes that enter its namespace see. Gone with the helper,
/// which is gone with this process.
struct Disk {
    helper: Child,
    /// The root directory as the helper sees it.
    root: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// Nothing, and a word about it, where this may not be done.
    fn new(place: &Path) -> Option<Disk> {
        fs::create_dir(place).unwrap();
        let script = "mount -t tmpfs -o size=48m tmpfs \"$1\" && echo ready && exec cat";
        let flags = if is_root() { "-m" } else { "-Urm" };
        let mut helper = Command::new("unshare")
            .args([flags, "sh", "-c", script, "sh"])
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(helper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "ready\n" {
            let said = helper.wait_with_output().unwrap().stderr;
            println!("left out, no disk may be mounted: {}", String::from_utf8_lossy(&said));
            return None;
        }
        let root = PathBuf::from(format!("/proc/{}/root", helper.id()));
        Some(Disk { helper, root, place: place.to_owned() })
    }

    /// How a process gets to see it.
    fn enter(&self) -> Setup {
        let id = self.helper.id().to_string();
        let mut through = ["nsenter", "-t", &id, "-m"].map(str::to_owned).to_vec();
        if !is_root() {
            through.extend(["-U", "--preserve-credentials"].map(str::to_owned));
        }
        Setup { through }
    }

    /// What a process in there calls `path`, as it is called here.
    fn seen(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap())
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut filler = File::create(self.seen(&self.place.join("filler"))).unwrap();
        for size in [1 << 16, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.seen(&self.place.join("filler"))).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// What is on the small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    Journal,
    Database,
    Both,
}

fn full_disk(what: OnDisk) {
    let around = tempfile::tempdir().unwrap();
    let Some((disk, trial)) = on_disk(what, around.path()) else { return };
    let flowing = trial.flow();
    disk.fill();
    flowing.is_told(if what == OnDisk::Database {
        "full"
    } else {
        "the journal cannot be written"
    });
    flowing.go_on_in_memory();
    disk.empty();
    flowing.ends();
}

/// A ledger of which a part is on a small disk.
fn on_disk(what: OnDisk, around: &Path) -> Option<(Disk, Trial)> {
    let small = around.join("small");
    let disk = Disk::new(&small)?;
    let mut trial = Trial::with(disk.enter());
    let (ledger, there) = (trial.home.ledger(), small.join("journal"));
    match what {
        OnDisk::Journal => {
            fs::create_dir(disk.seen(&there)).unwrap();
            std::os::unix::fs::symlink(&there, trial.home.journal()).unwrap();
        }
        OnDisk::Database | OnDisk::Both => {
            trial.database = small.join("tokenmeter.db");
            trial.seen = disk.seen(&trial.database);
        }
    }
    if what == OnDisk::Database {
        let journal = ledger.join("journal");
        fs::create_dir(&journal).unwrap();
        std::os::unix::fs::symlink(&journal, disk.seen(&there)).unwrap();
    }
    Some((disk, trial))
}

#[test]
fn a_stop_with_a_full_journal_took_what_waited_with_it() {
    let around = tempfile::tempdir().unwrap();
    let Some((disk, trial)) = on_disk(OnDisk::Journal, around.path()) else { return };
    let Flowing { running, traffic, .. } = trial.flow();
    disk.fill();
    traffic.wait_for(50);
    let calls = traffic.end();
    // The database can be written, and takes what the journal cannot.
    assert_eq!(running.stop().code(), Some(0));
    let heads = trial.provider.take_heads();
    trial.reckon(&calls, &heads);
    disk.empty();
    assert_eq!(trial.start().stop().code(), Some(0));
    trial.reckon(&calls, &heads);
}

#[test]
fn a_stop_with_full_disks_waits_for_room_and_tells_what_is_lost() {
    for room in [true, false] {
        let around = tempfile::tempdir().unwrap();
        let Some((disk, trial)) = on_disk(OnDisk::Both, around.path()) else { return };
        let Flowing { running, traffic, .. } = trial.flow();
        disk.fill();
        traffic.wait_for(50);
        let calls = traffic.end();
        running.ask_to_stop();
        wait_until("no more connections", || ask(running.address, "/healthz").is_err());
        if room {
            disk.empty();
        }
        assert_eq!(running.stop().code(), Some(0));
        if room {
            trial.reckon(&calls, &trial.provider.take_heads());
        } else {
            assert!(trial.home.log().contains("LOST"), "{}", trial.home.log());
        }
    }
}

#[test]
fn the_journals_disk_is_full() {
    full_disk(OnDisk::Journal);
}

#[test]
fn the_databases_disk_is_full() {
    full_disk(OnDisk::Database);
}

#[test]
fn the_disk_of_both_is_full() {
    full_disk(OnDisk::Both);
}

/// Files that nobody may write, not even root; writable again when dropped.
struct Frozen(Vec<PathBuf>);

impl Frozen {
    fn new(files: Vec<PathBuf>) -> Option<Frozen> {
        let frozen = Frozen(files);
        if frozen.chattr("+i") {
            return Some(frozen);
        }
        println!("left out, chattr +i is not permitted here");
        None
    }

    fn chattr(&self, how: &str) -> bool {
        let done = Command::new("chattr").arg(how).args(&self.0).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.chattr("-i");
    }
}

#[test]
fn the_database_becomes_read_only() {
    let trial = Trial::new();
    let flowing = trial.flow();
    let files = ["", "-wal"].map(|suffix| beside(&trial.database, suffix)).to_vec();
    if let Some(frozen) = Frozen::new(files) {
        flowing.is_told("database");
        flowing.go_on();
        drop(frozen);
    }
    flowing.ends();
}

#[test]
fn all_of_the_ledger_becomes_read_only() {
    let trial = Trial::new();
    let flowing = trial.flow();
    let mut files = ["", "-wal"].map(|suffix| beside(&trial.database, suffix)).to_vec();
    files.extend(trial.home.days());
    if let Some(frozen) = Frozen::new(files) {
        flowing.is_told("the journal cannot be written");
        flowing.go_on_in_memory();
        drop(frozen);
    }
    flowing.ends();
}

#[test]
fn files_of_the_database_are_removed() {
    for gone in [&[""][..], &["", "-wal", "-shm"], &["-wal"], &["-wal", "-shm"], &["-shm"]] {
        println!("removed: {gone:?}");
        let trial = Trial::new();
        let flowing = trial.flow();
        for suffix in gone {
            fs::remove_file(beside(&trial.database, suffix)).unwrap();
        }
        flowing.go_on();
        let (status, answer) = ask(flowing.running.address, "/admin/stats?days=1").unwrap();
        assert_eq!(status, 200, "{answer}");
        flowing.ends();
    }
}

#[test]
fn files_of_the_database_are_removed_and_then_the_process_is_killed() {
    for gone in [&[""][..], &["", "-wal", "-shm"], &["-wal"], &["-wal", "-shm"], &["-shm"]] {
        println!("removed: {gone:?}");
        let trial = Trial::new();
        let Flowing { running, traffic, .. } = trial.flow();
        for suffix in gone {
            fs::remove_file(beside(&trial.database, suffix)).unwrap();
        }
        traffic.wait_for(200);
        let calls = traffic.end();
        running.kill();
        let running = trial.start();
        running.wait_settled();
        assert_eq!(running.stop().code(), Some(0));
        // Of clients that have left, tokenmeter may not have heard yet.
        integrity(&trial.database);
        let heads = trial.provider.settled_heads();
        reckon(&trial.database, "faults", &calls, &heads, Rows::Killed);
    }
}

#[test]
fn the_journal_is_removed() {
    for whole in [false, true] {
        let trial = Trial::new();
        let flowing = trial.flow();
        for _ in 0..3 {
            if whole {
                fs::remove_dir_all(trial.home.journal()).unwrap();
            } else {
                fs::remove_file(&trial.home.days()[0]).unwrap();
            }
            wait_until("another journal", || {
                trial.home.journal().exists() && !trial.home.days().is_empty()
            });
            flowing.traffic.wait_for(20);
        }
        flowing.ends();
    }
}

#[test]
fn a_call_that_is_open_when_the_journal_is_removed_survives_a_kill() {
    let trial = Trial::new();
    let running = trial.start();
    let long = Traffic::start(running.address, "faults", &[&[Kind::Long]]);
    let short = Traffic::start(running.address, "faults", &EVERYTHING);
    short.wait_for(20);
    fs::remove_file(&trial.home.days()[0]).unwrap();
    wait_until("another journal", || !trial.home.days().is_empty());
    short.wait_for(20);
    let mut calls = short.end();
    running.wait_settled();
    running.kill();
    calls.extend(long.end());
    let heads = trial.provider.settled_heads();
    let running = trial.start();
    running.wait_settled();
    assert_eq!(running.stop().code(), Some(0));
    let found = reckon(&trial.database, "faults", &calls, &heads, Rows::Killed);
    assert_eq!((found.interrupted, found.unsent), (1, 0));
}

/// What is done to a file.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let trial = Trial::new();
    let Flowing { running, traffic, .. } = trial.flow();
    traffic.wait_for(300);
    let calls = traffic.end();
    assert_eq!(running.stop().code(), Some(0));
    let sound = fs::read(&trial.database).unwrap();
    assert!(sound.len() > 40 * 4096);
    let damages: [(&str, Damage); 7] = [
        ("the first bytes", |bytes| bytes[..16].fill(0)),
        ("the page size", |bytes| bytes[16..18].copy_from_slice(&[0x13, 0x37])),
        ("the mark of a ledger", |bytes| bytes[68..72].fill(0xff)),
        ("the whole header", |bytes| bytes[..100].fill(0xff)),
        ("the first page behind the header", |bytes| bytes[100..4096].fill(0xff)),
        ("half of it is missing", |bytes| bytes.truncate(bytes.len() / 2)),
        ("all but a few bytes is missing", |bytes| bytes.truncate(50)),
    ];
    for (what, damage) in damages {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        fs::write(&trial.database, &bytes).unwrap();
        let Err(refused) = trial.home.try_start() else { panic!("started: {what}") };
        assert_eq!(refused.code, Some(1), "{what}");
        let name = trial.database.display().to_string();
        assert!(refused.stderr.contains(&name), "{what}: {}", refused.stderr);
        assert!(fs::read(&trial.database).unwrap() == bytes, "{what}");
        println!("{what}: {}", refused.stderr.trim());
    }
    fs::write(&trial.database, &sound).unwrap();
    let running = trial.start();
    assert_eq!(running.stop().code(), Some(0));
    trial.reckon(&calls, &trial.provider.take_heads());
}

/// Such damage shows only where it is read. Calls do not depend on it, and the journal has what the
/// database cannot take.
#[test]
fn a_page_damaged_in_the_middle_loses_nothing_that_the_journal_has() {
    let trial = Trial::new();
    let Flowing { running, traffic, .. } = trial.flow();
    traffic.wait_for(300);
    let mut calls = traffic.end();
    assert_eq!(running.stop().code(), Some(0));
    let mut heads = trial.provider.take_heads();
    for at in [1, 2, 3] {
        let mut bytes = fs::read(&trial.database).unwrap();
        let page = bytes.len() / 4096 * at / 4 * 4096;
        bytes[page..page + 4096].fill(0xa5);
        fs::write(&trial.database, &bytes).unwrap();
        match trial.home.try_start() {
            Ok(running) => {
                let traffic = Traffic::start(running.address, "faults", &EVERYTHING);
                traffic.wait_for(50);
                calls.extend(traffic.end());
                println!("page {}: started; {}", page / 4096, running.ready().1);
                assert_eq!(running.stop().code(), Some(0));
            }
            Err(refused) => {
                println!("page {}: {}", page / 4096, refused.stderr.trim());
                assert_eq!(refused.code, Some(1));
                assert!(fs::read(&trial.database).unwrap() == bytes);
            }
        }
        heads.extend(trial.provider.take_heads());
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&trial.database, suffix));
        }
        let running = trial.start();
        running.wait_settled();
        assert_eq!(running.stop().code(), Some(0));
        trial.reckon(&calls, &heads);
    }
}
