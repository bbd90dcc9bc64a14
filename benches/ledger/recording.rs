//! Recording into a full ledger: at a steady rate, as fast as it goes, and beside long questions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokenmeter::demo::{Demo, Settings};
use tokenmeter::ledger::{Filter, GroupKey, Ledger, QueryError, StatsQuery};
use tokenmeter::pricing::{CostSource, PriceBook};
use tokenmeter::record::{Outcome, Record};
use tokenmeter::units::Timestamp;
use tokenmeter::usage::UsageSource;

use super::sheet::{Sheet, cpu_time_of, own_cpu_time};
use super::{Subject, number, open, size};

const THREADS: usize = 2;

/// Calls of one tick open together, and close when those of the next have opened.
const TICK: Duration = Duration::from_millis(5);

const LOOK: Duration = Duration::from_millis(20);

/// Calls a second that must be possible.
const ENOUGH: f64 = 50_000.0;

/// CPU time of the ledger's thread for a row that may be taken at full speed, in microseconds.
const CHEAP: f64 = 1.5;

/// How far behind the database may be when the last call has ended.
const BEHIND: Duration = Duration::from_secs(1);

/// Lag that is none: what gathers between two batches, some times over.
const NO_LAG: u64 = 16 << 20;

/// The time limit of the questions that are asked beside.
const QUESTION: Duration = Duration::from_secs(1);

/// How much later than its limit a question may end.
const GRACE: Duration = Duration::from_millis(250);

/// What a call writes: its row when it opens, and when it has ended.
type Lines = (Record, Box<Record>);

/// What one run came to.
struct Run {
    calls: usize,
    took: Duration,
    /// From the last call's end until all are in the database.
    drained: Duration,
    /// The largest lags of the first half and the second.
    lags: [u64; 2],
    left: u64,
    /// CPU time of the ledger's thread, and of those that record.
    writer: Duration,
    callers: Duration,
}

pub(crate) fn record(sheet: &mut Sheet, subject: &Subject, copy: &Path) {
    let seconds = number("TOKENMETER_SECONDS", 10);
    let rate = number("TOKENMETER_RATE", 20_000);
    // Those of the usual rate, where only full speed is asked for.
    let calls = if rate == 0 { 20_000 } else { rate } * seconds;
    let ledger = open(copy);
    sheet.title(&format!("recording {calls} calls from {THREADS} threads"));
    if rate > 0 {
        let steady = run(&ledger, made(subject, calls, 1), Some(rate));
        report(sheet, &format!("at {rate} a second"), &steady, Some(rate));
    }
    let fast = run(&ledger, made(subject, calls, 2), None);
    report(sheet, "at full speed", &fast, None);
    if rate > 0 {
        let lines = made(subject, calls, 3);
        let (beside, asked) = asking(&ledger, || run(&ledger, lines, Some(rate)));
        report(sheet, &format!("at {rate} a second, beside long questions"), &beside, Some(rate));
        asked.report(sheet);
    }
    let calls = subject.calls + if rate > 0 { 3 * calls } else { calls };
    size(sheet, "after recording, with its log", copy, calls);
    assert!(ledger.shutdown(Duration::from_mins(1)));
    drop(ledger);
    size(sheet, "after a stop", copy, calls);
}

/// Calls that come after those of the ledger, made before the clock runs.
fn made(subject: &Subject, calls: u64, part: i64) -> Vec<Vec<Lines>> {
    let since = subject.end.millis() + part * 3_600_000;
    let settings = Settings {
        seed: super::SEED + part.unsigned_abs(),
        calls,
        since: Timestamp::from_millis(since),
        until: Timestamp::from_millis(since + 3_600_000),
        ..super::settings()
    };
    let mut threads: Vec<Vec<Lines>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (at, record) in Demo::new(&settings, Arc::new(PriceBook::builtin())).enumerate() {
        threads[at % THREADS].push((opening(&record), Box::new(record)));
    }
    threads
}

/// What is known of a call when it begins.
fn opening(record: &Record) -> Record {
    Record {
        model: None,
        input_tokens: None,
        cache_read_tokens: None,
        cache_write_tokens: None,
        audio_input_tokens: None,
        image_input_tokens: None,
        output_tokens: None,
        reasoning_tokens: None,
        audio_output_tokens: None,
        image_output_tokens: None,
        total_tokens: None,
        usage_source: UsageSource::None,
        estimate: None,
        stream_usage: None,
        charges: Vec::new(),
        usage_json: None,
        cost_usd: None,
        cost_source: CostSource::None,
        computed_cost_usd: None,
        price_id: None,
        status: None,
        streaming: false,
        finish_reason: None,
        outcome: Outcome::Interrupted,
        error: None,
        upstream_request_id: None,
        service_tier: None,
        duration_ms: None,
        time_to_first_byte_ms: None,
        time_to_first_token_ms: None,
        ..record.clone()
    }
}

/// Records at a rate for all threads together, or as fast as it goes.
fn run(ledger: &Ledger, lines: Vec<Vec<Lines>>, rate: Option<u64>) -> Run {
    let calls = lines.iter().map(Vec::len).sum();
    let writer = cpu_time_of("ledger");
    let mut seen = Vec::new();
    let began = Instant::now();
    let callers = thread::scope(|scope| {
        let threads: Vec<_> =
            lines.into_iter().map(|lines| scope.spawn(move || call(ledger, lines, rate))).collect();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            seen.push(ledger.health().journal_lag_bytes);
            thread::sleep(LOOK);
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let took = began.elapsed();
    assert!(ledger.sync(Duration::from_mins(5)), "{:?}", ledger.health());
    let drained = began.elapsed().saturating_sub(took);
    let (first, second) = seen.split_at(seen.len() / 2);
    Run {
        calls,
        took,
        drained,
        lags: [first, second].map(|half| half.iter().copied().max().unwrap_or_default()),
        left: ledger.health().journal_lag_bytes,
        writer: cpu_time_of("ledger").saturating_sub(writer),
        callers,
    }
}

/// One thread's calls; its CPU time.
fn call(ledger: &Ledger, lines: Vec<Lines>, rate: Option<u64>) -> Duration {
    let before = own_cpu_time();
    let ticks = 1000 / u64::try_from(TICK.as_millis()).unwrap();
    let per_tick = rate.map_or(64, |rate| rate / THREADS as u64 / ticks).max(1);
    let per_tick = usize::try_from(per_tick).unwrap();
    let (mut open, mut due) = (Vec::with_capacity(per_tick), Instant::now());
    let mut lines = lines.into_iter();
    while lines.len() > 0 {
        if rate.is_some() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += TICK;
        }
        let mut opened = Vec::with_capacity(per_tick);
        for (opening, closed) in lines.by_ref().take(per_tick) {
            ledger.opened(&opening);
            opened.push(closed);
        }
        for closed in std::mem::replace(&mut open, opened) {
            ledger.close(closed);
        }
    }
    for closed in open {
        ledger.close(closed);
    }
    own_cpu_time().saturating_sub(before)
}

fn report(sheet: &mut Sheet, what: &str, run: &Run, rate: Option<u64>) {
    #[allow(clippy::cast_precision_loss)]
    let count = run.calls as f64;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count;
    let taken = count / run.took.as_secs_f64();
    let stored = count / (run.took + run.drained).as_secs_f64();
    let note = format!("{taken:.0} a second taken, {stored:.0} stored");
    if let Some(rate) = rate {
        #[allow(clippy::cast_precision_loss)]
        let wanted = rate as f64 * 0.98;
        sheet.figure(what, &format!("{taken:.0}/s"), "the rate", Some(taken >= wanted), &note);
        let behind = format!("{:.0} ms", run.drained.as_secs_f64() * 1000.0);
        let met = Some(run.drained <= BEHIND);
        sheet.figure("  behind at the end", &behind, "1 s", met, "");
        let [first, second] = run.lags;
        let is_bounded = second <= (first + first / 2).max(NO_LAG);
        let lag = format!("{:.1} MB", megabytes(first.max(second)));
        let note = format!(
            "{:.1} MB in the first half, {:.1} in the second",
            megabytes(first),
            megabytes(second)
        );
        sheet.figure("  largest lag of the journal", &lag, "bounded", Some(is_bounded), &note);
    } else {
        let met = Some(stored >= ENOUGH);
        sheet.figure(what, &format!("{stored:.0}/s"), "50000", met, &note);
    }
    sheet.figure("  lag in the end", &format!("{} B", run.left), "0", Some(run.left == 0), "");
    let cpu = format!("{:.2} µs", each(run.writer));
    let note = format!("{:.1} µs of the threads that record", each(run.callers));
    // What is recorded slowly is written in smaller transactions.
    let (target, met) = match rate {
        Some(_) => ("", None),
        None => ("1.5 µs", Some(each(run.writer) <= CHEAP)),
    };
    sheet.figure("  CPU of the ledger's thread, a call", &cpu, target, met, &note);
}

fn megabytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// What became of the questions beside.
#[derive(Default)]
struct Asked {
    answered: u32,
    cut: u32,
    longest: Duration,
}

/// Does something while a long question is asked again and again.
fn asking(ledger: &Ledger, recording: impl FnOnce() -> Run) -> (Run, Asked) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let reader = ledger.reader().with_time_limit(QUESTION);
            let mut asked = Asked::default();
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                match reader.stats(&long_question()) {
                    Ok(_) => asked.answered += 1,
                    Err(QueryError::TooSlow(_)) => asked.cut += 1,
                    Err(error) => panic!("{error}"),
                }
                asked.longest = asked.longest.max(began.elapsed());
            }
            asked
        });
        let run = recording();
        over.store(true, Ordering::Relaxed);
        (run, asked.join().unwrap())
    })
}

/// One that no summary has the answer to: every call must be looked at.
fn long_question() -> StatsQuery {
    let team = "support".to_owned();
    StatsQuery {
        filter: Filter { metadata: vec![("team".to_owned(), team)], ..Filter::default() },
        group_by: vec![GroupKey::Attempt, GroupKey::FinishReason, GroupKey::Hour],
        ..StatsQuery::default()
    }
}

impl Asked {
    fn report(&self, sheet: &mut Sheet) {
        let longest = format!("{:.0} ms", self.longest.as_secs_f64() * 1000.0);
        let note = format!("{} answered, {} cut off", self.answered, self.cut);
        let met = Some(self.longest <= QUESTION + GRACE);
        sheet.figure("  the longest question, of a limit of 1 s", &longest, "1250 ms", met, &note);
    }
}
