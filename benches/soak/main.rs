//! A soak: the program under a steady load of everything that calls do, for as long as one likes, watched from
//! outside. Owns the watching and the verdict; `load` owns the clients, `provider` what answers them.
//!
//! `cargo bench --bench soak -- 30` runs for 30 minutes, the default. Whole chats, streams fast and slow, answers
//! without usage that have to be estimated, errors, answers that break off and clients that hang up, at
//! `TOKENMETER_RATE` calls a second (1,500) over 64 connections; before that 350,000 as fast as it goes, because
//! SQLite's page cache fills with them. The ledger is kept below `target` while it runs;
//! half an hour takes some 4 GB.
//!
//! Every five seconds it looks at the process's memory, threads and descriptors, at the journal and the database's
//! log, at calls and rows. It prints a line a minute, and in the end a verdict:
//!
//! - memory is flat: a straight line through the samples after the first fifth of the run rises by no more than
//!   2 % of their mean until the end, or by less than twice the error of its slope;
//! - descriptors and threads are as they were before the load;
//! - every call has one row: as many rows as clients have sent requests and the provider has read;
//! - the log has no error, and the ledger is well.

//!
//! `cargo bench --bench soak -- faults 30` is another soak, with faults on both sides at once: see `faults`.

// Every line here belongs to a measurement, where to unwrap is to stop with a reason.
#![allow(clippy::unwrap_used)]

mod faults;
mod load;
mod provider;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tokenmeter::ledger::{Reader, StatsQuery};

use load::Load;
use provider::Provider;

const LOOK: Duration = Duration::from_secs(5);
const LINE: Duration = Duration::from_mins(1);

/// How long a pooled connection is kept, so that descriptors come back soon.
const POOL_IDLE: Duration = Duration::from_secs(2);

/// How long what is left over may take to go.
const SETTLED: Duration = Duration::from_mins(1);

/// Calls before the start, as fast as it goes: tables are read, and SQLite's cache of 64 MiB fills with the first
/// quarter of a million rows.
const WARM_UP_CALLS: u64 = 350_000;
const WARM_UP_AT_MOST: Duration = Duration::from_mins(4);
const HURRY: u64 = 20_000;

/// The share of the run that is not judged by its memory.
const WARM_UP: f64 = 0.2;

/// What memory may rise by within the rest.
const RISE: f64 = 0.02;

fn main() -> ExitCode {
    let minutes = std::env::args().skip(1).find_map(|word| word.parse::<f64>().ok());
    let length = Duration::from_secs_f64(minutes.unwrap_or(30.0) * 60.0);
    let has_faults = std::env::args().any(|word| word == "faults");
    let rate = std::env::var("TOKENMETER_RATE").ok().map(|rate| rate.parse().unwrap());
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).unwrap();
    if has_faults {
        let passed = faults::run(&home, length, rate.unwrap_or(300));
        return if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let rate = rate.unwrap_or(1_500);
    let provider = Provider::start();
    let mut subject = Subject::start(&home, &provider.address().to_string());
    let passed = soak(&subject, &provider, length, rate);
    subject.stop();
    let is_clean = verdict("the log has no error", subject.log_is_clean());
    let _ = fs::remove_dir_all(&home);
    if passed && is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(subject: &Subject, provider: &Provider, length: Duration, rate: u64) -> bool {
    let first = Load::start(&subject.address, HURRY, load::CLIENTS);
    let began = Instant::now();
    while first.ended() < WARM_UP_CALLS && began.elapsed() < WARM_UP_AT_MOST {
        thread::sleep(Duration::from_secs(1));
    }
    let warm_up = first.end();
    let start = subject.settled(None);
    println!("start: {start}");
    println!("\n{rate} calls a second for {length:?}\n");
    let load = Load::start(&subject.address, rate, load::CLIENTS);
    let (began, mut samples, mut told) = (Instant::now(), Vec::new(), Duration::ZERO);
    while began.elapsed() < length {
        thread::sleep(LOOK.min(length.saturating_sub(began.elapsed())));
        let sample = subject.look();
        samples.push((began.elapsed().as_secs_f64() / 60.0, sample.pss));
        if began.elapsed() >= told + LINE {
            told = began.elapsed();
            let (calls, rows) = (warm_up.calls + load.ended(), subject.rows());
            println!(
                "{:>4.0} min: {sample}, {calls} calls, {rows} rows",
                told.as_secs_f64() / 60.0
            );
        }
    }
    let loaded = load.end();
    let took = began.elapsed().as_secs_f64();
    let end = subject.settled(Some(&start));
    println!("  end: {end}\n\n{loaded}");
    let calls = warm_up.calls + loaded.calls;
    #[allow(clippy::cast_precision_loss)]
    let reached = loaded.calls as f64 / took;
    println!("{reached:.0} calls a second\n");

    let (rows, heads) = (subject.rows(), provider.heads.load(Ordering::SeqCst));
    let line = Line::through(&samples);
    let rise = line.slope * (line.until - line.since);
    let (flat, noise) = (line.mean * RISE, 2.0 * line.error * (line.until - line.since));
    let is_flat = rise <= flat.max(noise);
    println!(
        "memory after minute {:.1}: {:.1} MiB in the mean, {:+.0} KiB a minute ± {:.0}, {:+.2} MiB in all",
        line.since,
        line.mean,
        line.slope * 1024.0,
        line.error * 2.0 * 1024.0,
        rise
    );
    [
        verdict("memory is flat", is_flat),
        verdict("descriptors are back", end.descriptors <= start.descriptors),
        verdict("threads are back", end.threads <= start.threads),
        verdict(&format!("one row a call: {calls} calls, {heads} at the provider, {rows} rows"), {
            calls == heads && heads == rows
        }),
        verdict("the ledger is well and no call was sent away", {
            subject.is_ready() && loaded.shed + warm_up.shed == 0
        }),
    ]
    .iter()
    .all(|passed| *passed)
}

fn verdict(what: &str, passed: bool) -> bool {
    println!("{} {what}", if passed { "PASS" } else { "FAIL" });
    passed
}

/// The program that is watched.
struct Subject {
    process: Child,
    address: String,
    home: PathBuf,
}

/// What it has at a moment. Memory in MiB.
struct Sample {
    rss: f64,
    pss: f64,
    threads: usize,
    /// But for those of the journal's files: there is one for each day, and the night may fall.
    descriptors: usize,
    journal: u64,
    wal: u64,
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Pss {:.1} MiB, Rss {:.1}, {} threads, {} descriptors, journal {} MB, log {} MB",
            self.pss,
            self.rss,
            self.threads,
            self.descriptors,
            self.journal / 1_000_000,
            self.wal / 1_000_000
        )
    }
}

impl Subject {
    fn start(home: &Path, upstream: &str) -> Subject {
        let log = fs::File::create(home.join("log")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(home)
            .env("TOKENMETER_LOG", "error")
            .env("TOKENMETER_TIMEOUTS_POOL_IDLE", format!("{}s", POOL_IDLE.as_secs()))
            .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", format!("http://{upstream}"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(['/', ' ']).next().unwrap().to_owned();
        Subject { process, address, home: home.to_owned() }
    }

    fn look(&self) -> Sample {
        let of = |name: &str| format!("/proc/{}/{name}", self.process.id());
        let rollup = fs::read_to_string(of("smaps_rollup")).unwrap();
        let mebibytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
        };
        let count = |name: &str| fs::read_dir(of(name)).unwrap().count();
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let days: Vec<_> = fs::read_dir(self.home.join("journal")).unwrap().collect();
        let files = days.len();
        Sample {
            rss: mebibytes("Rss:"),
            pss: mebibytes("Pss:"),
            threads: count("task"),
            descriptors: count("fd").saturating_sub(files),
            journal: days.into_iter().map(|day| length(day.unwrap().path())).sum(),
            wal: length(self.home.join("tokenmeter.db-wal")),
        }
    }

    /// What it has when nobody calls: once it is no more than before, or after a while.
    fn settled(&self, before: Option<&Sample>) -> Sample {
        let deadline = Instant::now() + SETTLED;
        thread::sleep(2 * POOL_IDLE);
        loop {
            let sample = self.look();
            let is_back = before.is_none_or(|before| {
                sample.descriptors <= before.descriptors && sample.threads <= before.threads
            });
            if (is_back && self.is_ready()) || Instant::now() > deadline {
                return sample;
            }
            thread::sleep(POOL_IDLE);
        }
    }

    /// Rows that are in the database by now.
    fn rows(&self) -> u64 {
        let reader = Reader::open(&self.home.join("tokenmeter.db")).unwrap();
        reader.with_time_limit(SETTLED).stats(&StatsQuery::default()).unwrap().totals.requests
    }

    fn is_ready(&self) -> bool {
        load::get(&self.address, "/readyz").contains("\"status\":\"ready\"")
    }

    fn stop(&mut self) {
        let stopped = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(stopped.unwrap().success() && self.process.wait().unwrap().success());
    }

    fn log_is_clean(&self) -> bool {
        let log = fs::read_to_string(self.home.join("log")).unwrap();
        log.lines().take(5).for_each(|line| println!("{line}"));
        log.is_empty()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A straight line through samples by least squares. Times in minutes.
struct Line {
    since: f64,
    until: f64,
    mean: f64,
    slope: f64,
    /// The standard error of the slope.
    error: f64,
}

impl Line {
    fn through(samples: &[(f64, f64)]) -> Line {
        let until = samples.last().unwrap().0;
        let judged: Vec<_> =
            samples.iter().copied().filter(|(at, _)| *at >= until * WARM_UP).collect();
        #[allow(clippy::cast_precision_loss)]
        let count = judged.len() as f64;
        let middle = judged.iter().map(|(at, _)| at).sum::<f64>() / count;
        let mean = judged.iter().map(|(_, value)| value).sum::<f64>() / count;
        let spread: f64 = judged.iter().map(|(at, _)| (at - middle).powi(2)).sum();
        let slope: f64 =
            judged.iter().map(|(at, value)| (at - middle) * (value - mean)).sum::<f64>() / spread;
        let rest = |(at, value): &(f64, f64)| (value - mean - slope * (at - middle)).powi(2);
        let error = (judged.iter().map(rest).sum::<f64>() / (count - 2.0).max(1.0) / spread).sqrt();
        Line { since: judged[0].0, until, mean, slope, error }
    }
}
