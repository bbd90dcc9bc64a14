//! What the system tells of a process: CPU time by thread, memory. And the clock that all processes
//! share. Linux only, as `/proc` is.

use std::collections::BTreeMap;
use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// The kernel counts user and system time in hundredths of a second.
const TICK_NS: u64 = 10_000_000;

/// Nanoseconds of the monotonic clock, which all processes share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// By the scheduler's exact account.
    pub worker: u64,
    pub ledger: u64,
    pub others: u64,
    /// By the coarser account that tells these two apart.
    pub user: u64,
    pub system: u64,
}

impl Cpu {
    pub(crate) fn all(self) -> u64 {
        self.worker + self.ledger + self.others
    }

    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            worker: self.worker - before.worker,
            ledger: self.ledger - before.ledger,
            others: self.others - before.others,
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }

    pub(crate) fn plus(self, more: Cpu) -> Cpu {
        Cpu {
            worker: self.worker + more.worker,
            ledger: self.ledger + more.ledger,
            others: self.others + more.others,
            user: self.user + more.user,
            system: self.system + more.system,
        }
    }
}

/// One process that is watched.
#[derive(Debug)]
pub(crate) struct Process {
    pub id: u32,
    /// What each thread has used; threads that have ended stay in it.
    threads: BTreeMap<u32, (String, u64)>,
}

impl Process {
    pub(crate) fn new(id: u32) -> Process {
        Process { id, threads: BTreeMap::new() }
    }

    pub(crate) fn cpu(&mut self) -> Cpu {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).expect("it runs, on Linux");
        for task in tasks.flatten() {
            let Some(thread) = task.file_name().to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            let read = |name| fs::read_to_string(task.path().join(name));
            // It may end just now.
            let (Ok(name), Ok(used)) = (read("comm"), read("schedstat")) else { continue };
            let used = used.split_whitespace().next().and_then(|used| used.parse().ok());
            self.threads.insert(thread, (name.trim().to_owned(), used.unwrap_or_default()));
        }
        let mut cpu = Cpu::default();
        for (name, used) in self.threads.values() {
            match name.as_str() {
                name if name.starts_with("worker-") => cpu.worker += used,
                "ledger" => cpu.ledger += used,
                _ => cpu.others += used,
            }
        }
        (cpu.user, cpu.system) = self.user_and_system();
        cpu
    }

    fn user_and_system(&self) -> (u64, u64) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).expect("it runs");
        // The name may hold blanks; what follows it does not.
        let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
        let mut fields = rest.split_whitespace().skip(11).flat_map(str::parse::<u64>);
        let mut next = || fields.next().expect("a time") * TICK_NS;
        (next(), next())
    }

    /// Resident memory in KiB: all of it, and this process's share of it.
    pub(crate) fn memory(&self) -> Memory {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.id)).expect("it runs");
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a size")
        };
        Memory { resident: field("status", "VmRSS:"), share: field("smaps_rollup", "Pss:") }
    }

    /// How many descriptors it may open.
    pub(crate) fn descriptors(&self) -> usize {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.id)).expect("it runs");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(usize::MAX)
    }
}

/// In KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub resident: u64,
    pub share: u64,
}

/// The system's load average of the last minute.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
