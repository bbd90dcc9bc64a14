//! A soak with faults on both sides at once: clients and a provider that do at random whatever clients and providers do
//! wrong, and prices, pages and addresses that change meanwhile. Owns the course of a run and its verdict.
//!
//! `cargo bench --bench soak -- faults 30` runs for 30 minutes, the default. Every call has a number; its seed, which is
//! printed and can be set with `TOKENMETER_SEED`, and its number say what both sides do (`plan`), so that a run can be
//! repeated in kind. `TOKENMETER_RATE` calls a second (300). In the last quarter the process is killed
//! every minute or so, with `kill -9`, and started again.
//!
//! Each call is judged a minute after it has ended (`law`, `reckoning`), when its row stands:
//!
//! - a request that the provider has read has exactly one row, which says what happened: exact tokens and cost where they
//!   were reported, the outcome that what was done leads to, the tags that its client sent;
//! - a call whose client was told its id has its one row, also if the process was killed;
//! - a client that stays has every byte that the provider sent, or sees that the answer broke off; a request that the
//!   provider has read is what the client sent;
//! - what was refused, or never a whole request, has no row.

mod around;
mod book;
mod clients;
mod h2;
mod law;
mod plan;
mod provider;
mod reckoning;
mod says;
mod subject;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::verdict;
use around::Asked;
use book::Book;
use provider::Provider;
use reckoning::Reckoning;
use subject::{Sample, Subject};

const CLIENTS: u64 = 120;
const H2_CONNECTIONS: u64 = 2;
const H2_LANES: u32 = 12;

const LOOK: Duration = Duration::from_secs(5);
const LINE: Duration = Duration::from_mins(1);

/// Tables are read and threads started.
const WARM_UP: Duration = Duration::from_secs(20);

/// The share of the run in which the process is killed, its last, and how often.
const KILLING: f64 = 0.25;
const KILL_EVERY: Duration = Duration::from_secs(45);

/// What memory may come to: half as much again as after the warm-up, and SQLite's cache (MiB), which fills with rows.
const GROWTH: f64 = 1.5;
const CACHE: f64 = 64.0;

/// What everybody knows.
struct Shared {
    seed: u64,
    subject: Subject,
    book: Arc<Book>,
    asked: Asked,
    is_over: AtomicBool,
    numbers: AtomicU64,
    h2_numbers: AtomicU64,
    kills: AtomicU64,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn next_h2(&self) -> u64 {
        self.h2_numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn address(&self) -> SocketAddr {
        self.subject.address()
    }

    /// Changes when a kill begins and when the next process listens.
    fn kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        let since = Instant::now();
        self.kills.fetch_add(1, Ordering::SeqCst);
        self.subject.kill();
        self.book.killed(since);
        self.kills.fetch_add(1, Ordering::SeqCst);
    }
}

/// A run with what it needs.
struct Run {
    shared: Arc<Shared>,
    provider: Arc<Provider>,
    reckoning: Reckoning,
    rate: u64,
    began: Instant,
    told: Duration,
    /// MiB, the most since the warm-up.
    most: f64,
}

pub(super) fn run(home: &Path, length: Duration, rate: u64) -> bool {
    let seed = std::env::var("TOKENMETER_SEED")
        .map_or_else(|_| fastrand::u64(..1_000_000), |seed| seed.parse().unwrap());
    println!("faults of seed {seed}, {rate} calls a second for {length:?}\n");
    let book = Arc::<Book>::default();
    let provider = Arc::new(Provider::start(seed, &book));
    let subject = Subject::start(home, provider.address);
    let reckoning = Reckoning::new(seed, subject.database());
    let shared = Arc::new(Shared {
        seed,
        subject,
        book,
        asked: Asked::default(),
        is_over: AtomicBool::new(false),
        numbers: AtomicU64::new(0),
        h2_numbers: AtomicU64::new(0),
        kills: AtomicU64::new(0),
    });
    let (began, told) = (Instant::now(), Duration::ZERO);
    Run { shared, provider, reckoning, rate, began, told, most: 0.0 }.soak(length)
}

impl Run {
    fn soak(mut self, length: Duration) -> bool {
        self.load(WARM_UP, false);
        let (start, _) = self.shared.subject.settled(None);
        println!("start: {start:?}");
        (self.began, self.most) = (Instant::now(), 0.0);
        self.load(length.mul_f64(1.0 - KILLING), false);
        let (end, is_idle) = self.shared.subject.settled(Some(&start));
        println!("  end: {end:?}\n\nkilling\n");
        let most = self.most;
        self.load(length.mul_f64(KILLING), true);
        let (after, is_idle_after) = self.shared.subject.settled(Some(&start));
        self.reckoning.end(&self.shared.book);
        self.reckoning.counts().print();
        self.verdicts(&start, &end, &after, most, is_idle && is_idle_after)
    }

    /// Loads it for so long, and lets the last calls end.
    fn load(&mut self, length: Duration, kills: bool) {
        self.shared.is_over.store(false, Ordering::SeqCst);
        let load = self.start();
        let (began, mut killed) = (Instant::now(), Instant::now());
        while began.elapsed() < length {
            thread::sleep(LOOK.min(length.saturating_sub(began.elapsed())));
            if kills && killed.elapsed() >= KILL_EVERY.min(length / 3) {
                thread::sleep(Duration::from_millis(fastrand::u64(..3000)));
                self.shared.kill();
                killed = Instant::now();
            }
            self.reckoning.go_on(&self.shared.book);
            self.tell();
        }
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in load {
            thread.join().unwrap();
        }
    }

    fn start(&self) -> Vec<JoinHandle<()>> {
        let every = |share: f64, count: f64| {
            #[allow(clippy::cast_precision_loss)]
            Duration::from_secs_f64(count / (self.rate as f64 * share))
        };
        let h2 = 1.0 / f64::from(u32::try_from(plan::H2_EVERY).unwrap());
        let lanes = f64::from(H2_LANES) * f64::from(u32::try_from(H2_CONNECTIONS).unwrap());
        let (pause, h2_pause) =
            (every(1.0 - h2, f64::from(u32::try_from(CLIENTS).unwrap())), every(h2, lanes));
        let mut threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let shared = Arc::clone(&self.shared);
                thread::spawn(move || clients::run(&shared, pause))
            })
            .collect();
        for _ in 0..H2_CONNECTIONS {
            let shared = Arc::clone(&self.shared);
            threads.push(thread::spawn(move || h2::run(&shared, H2_LANES, h2_pause)));
        }
        let (shared, provider) = (Arc::clone(&self.shared), Arc::clone(&self.provider));
        threads.push(thread::spawn(move || around::run(&shared, &provider)));
        threads
    }

    fn tell(&mut self) {
        let sample = self.shared.subject.look();
        self.most = self.most.max(sample.pss);
        if self.began.elapsed() < self.told + LINE {
            return;
        }
        self.told = self.began.elapsed();
        let counts = self.reckoning.counts();
        println!(
            "{:>4.0} min: Pss {:.1} MiB, {} threads, {} descriptors; judged {} calls, {} whole answers, {} rows, \
             {} broken",
            self.told.as_secs_f64() / 60.0,
            sample.pss,
            sample.threads,
            sample.descriptors,
            counts.calls,
            counts.answers,
            counts.rows,
            counts.complaints
        );
    }

    fn verdicts(
        &self,
        start: &Sample,
        end: &Sample,
        after: &Sample,
        most: f64,
        is_idle: bool,
    ) -> bool {
        let counts = self.reckoning.counts();
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let asked = &self.shared.asked;
        let bound = start.pss * GROWTH + CACHE;
        println!(
            "\n{} calls, {} read whole by the provider, {} answers had whole, {} rows; killed {} times, refused {} times",
            counts.calls,
            counts.wholes,
            counts.answers,
            counts.rows,
            self.shared.kills() / 2,
            of(&asked.refusals)
        );
        println!(
            "{} pages asked for, the longest took {} ms; prices reloaded {} times, and refused {} times\n",
            of(&asked.questions),
            of(&asked.longest),
            of(&asked.reloads),
            of(&asked.broken_prices)
        );
        let is_back =
            |now: &Sample| now.descriptors <= start.descriptors && now.threads <= start.threads;
        let stopped = self.shared.subject.stop();
        [
            verdict(
                "every call has its one row, and rows and bytes are right",
                counts.complaints == 0,
            ),
            verdict("pages were answered all the while", of(&asked.wrong) == 0),
            verdict("no call is open at the end", is_idle),
            verdict("descriptors and threads are back", is_back(end)),
            verdict("descriptors and threads are back after the kills", is_back(after)),
            verdict(&format!("memory: {most:.1} MiB at most, below {bound:.1}"), most < bound),
            verdict("it stopped in good order", stopped),
            verdict("the log has no other error than of broken prices", self.log_is_clean()),
        ]
        .iter()
        .all(|passed| *passed)
    }

    fn log_is_clean(&self) -> bool {
        let log = self.shared.subject.log();
        let is_expected = |line: &&str| line.contains("the old prices stay in force");
        let odd: Vec<_> = log.lines().filter(|line| !is_expected(line)).collect();
        odd.iter().take(20).for_each(|line| println!("{line}"));
        odd.is_empty()
    }
}
