//! Interleaved rounds: each target has its turn in each round, in an order that is reversed every second
//! time, so that what else the machine does meets all alike. Owns what a round's figures are. A ratio
//! is taken within a round; what is reported is the median over the rounds.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::ledger::{Ledger, Totals};
use crate::load::{Clients, Load, Tally, Unit};
use crate::process::{Cpu, Memory, Process};
use crate::targets::Target;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub rounds: usize,
    pub length: Duration,
    /// Whether what a target does between its rounds is counted as well, so that nothing can be put off
    /// to where it is not measured.
    pub counts_pauses: bool,
}

/// One round of one target.
pub(crate) struct Figures {
    /// Nanoseconds of CPU time a unit.
    pub cpu: f64,
    pub rate: f64,
    pub whole: Spread,
    pub first_byte: Spread,
    pub delay: Spread,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

impl Spread {
    pub(crate) fn of(nanos: &mut [u64]) -> Spread {
        nanos.sort_unstable();
        let at = |share: f64| {
            let last = nanos.len().saturating_sub(1);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let at = (float(nanos.len() as u64) * share) as usize;
            nanos.get(at.min(last)).map_or(0.0, |nanos| float(*nanos) / 1000.0)
        };
        Spread { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// All rounds of one target under one load.
pub(crate) struct Course {
    pub name: &'static str,
    pub rounds: Vec<Figures>,
    /// Of all rounds: what was used, what of it between rounds, for how many units.
    pub cpu: Cpu,
    pub paused: u64,
    pub units: u64,
    pub memory: Memory,
}

/// One load's outcome. The first course is that of direct calls.
pub(crate) struct Outcome {
    pub load: Load,
    pub courses: Vec<Course>,
    /// Nanoseconds of CPU time a call that the generator and the provider take for direct calls.
    pub generator: f64,
    pub provider: f64,
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 1, 2)
}

/// The value below which so many parts of all are.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, part: usize, parts: usize) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * part / parts).copied().unwrap_or(f64::NAN)
}

/// Of a disturbed machine's latencies the least disturbed round tells most.
pub(crate) fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

impl Outcome {
    pub(crate) fn course(&self, name: &str) -> Option<&Course> {
        self.courses.iter().find(|course| course.name == name)
    }

    /// Ratios of CPU time to another target's in the same round.
    pub(crate) fn ratios(&self, course: &Course, base: &str) -> Vec<f64> {
        let Some(base) = self.course(base) else { return Vec::new() };
        course.rounds.iter().zip(&base.rounds).map(|(own, base)| own.cpu / base.cpu).collect()
    }

    /// The ratio of the least disturbed rounds, each target's own.
    pub(crate) fn calmest_ratio(&self, course: &Course, base: &str) -> Option<f64> {
        let calmest = |course: &Course| least(course.rounds.iter().map(|round| round.cpu));
        Some(calmest(course) / calmest(self.course(base)?))
    }

    /// What is added to a direct call's figure in the same round.
    pub(crate) fn added(&self, course: &Course, figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
        let direct = &self.courses[0].rounds;
        course.rounds.iter().zip(direct).map(|(own, base)| figure(own) - figure(base)).collect()
    }
}

/// One target's state while a load runs.
struct Runner<'a> {
    target: &'a mut Target,
    clients: Clients,
    course: Course,
    /// What was used when the last round had been settled.
    settled: Cpu,
    rows: Totals,
    made: Totals,
}

/// Runs a load on all targets. The first of them is the provider itself.
pub(crate) fn measure(
    load: Load,
    plan: Plan,
    runtime: &Runtime,
    provider: &mut Process,
    targets: &mut [Target],
) -> Outcome {
    let scripts = load.scripts();
    let mut generator = Process::new(std::process::id());
    let (mut direct_calls, mut generated, mut answered) = (0, 0, 0);
    let mut runners: Vec<Runner<'_>> = targets
        .iter_mut()
        .map(|target| {
            let clients = Clients::connect(load, &scripts, &target.address);
            Runner::new(target, LocalSet::new().block_on(runtime, clients))
        })
        .collect();
    for round in 0..=plan.rounds {
        let mut order: Vec<usize> = (0..runners.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let before = (generator.cpu().all(), provider.cpu().all());
            // The first round warms up.
            let calls = runners[at].round(runtime, plan, round > 0);
            if round > 0 && runners[at].course.name == "direct" {
                direct_calls += calls;
                generated += generator.cpu().all() - before.0;
                answered += provider.cpu().all() - before.1;
            }
        }
    }
    let courses = runners.into_iter().map(Runner::end).collect();
    let per_call = |used| float(used) / float(direct_calls);
    Outcome { load, courses, generator: per_call(generated), provider: per_call(answered) }
}

impl<'a> Runner<'a> {
    fn new(target: &'a mut Target, clients: Clients) -> Runner<'a> {
        let course = Course {
            name: target.name,
            rounds: Vec::new(),
            cpu: Cpu::default(),
            paused: 0,
            units: 0,
            memory: Memory::default(),
        };
        let (rows, made) = (target.totals(), Totals::default());
        Runner { target, clients, course, settled: Cpu::default(), rows, made }
    }

    /// One round: how many calls it had. Rows that are written after it count as its work.
    fn round(&mut self, runtime: &Runtime, plan: Plan, is_measured: bool) -> u64 {
        let before = self.target.cpu();
        let round = self.clients.round(self.target.name, plan.length);
        let tally = LocalSet::new().block_on(runtime, round);
        if let Some(ledger) = &self.target.ledger {
            ledger.catch_up();
        }
        let after = self.target.cpu();
        let since = if plan.counts_pauses { self.settled } else { before };
        let paused = before.since(self.settled).all();
        self.settled = after;
        let calls = tally.calls;
        self.made.add(&tally);
        if is_measured {
            self.course.paused += if plan.counts_pauses { paused } else { 0 };
            self.course.add(self.clients.load(), after.since(since), tally);
        }
        calls
    }

    /// The load is over: every call has its row, and each row what the provider said.
    fn end(self) -> Course {
        let mut course = self.course;
        if let Some(process) = &self.target.process {
            course.memory = process.memory();
        }
        if self.target.ledger.is_some() {
            let rows = self.target.totals().since(self.rows);
            assert_eq!(rows, self.made, "{}: rows (left) are not what was called", course.name);
        }
        course
    }
}

impl Course {
    fn add(&mut self, load: Load, cpu: Cpu, mut tally: Tally) {
        let units = match load.unit {
            Unit::Call => tally.calls,
            Unit::Event => tally.events,
        };
        self.cpu = self.cpu.plus(cpu);
        self.units += units;
        self.rounds.push(Figures {
            cpu: float(cpu.all()) / float(units),
            rate: float(units) / float(tally.elapsed) * 1e9,
            whole: Spread::of(&mut tally.whole),
            first_byte: Spread::of(&mut tally.first_byte),
            delay: Spread::of(&mut tally.delays),
        });
    }
}

impl Target {
    fn cpu(&mut self) -> Cpu {
        self.process.as_mut().map(Process::cpu).unwrap_or_default()
    }

    fn totals(&self) -> Totals {
        self.ledger.as_ref().map(Ledger::totals).unwrap_or_default()
    }
}
