//! The table: a figure, its target, whether it is met. Owns what a median is and what CPU time is.

use std::time::Duration;

/// Prints as it goes, because a whole run takes its time.
pub(crate) struct Sheet {
    passed: usize,
    failed: Vec<String>,
    title: String,
}

impl Sheet {
    pub(crate) fn new() -> Sheet {
        Sheet { passed: 0, failed: Vec::new(), title: String::new() }
    }

    pub(crate) fn title(&mut self, title: &str) {
        title.clone_into(&mut self.title);
        println!(
            "\n{title:<58} {:>11} {:>11} {:>11} {:>11} {:>9}",
            "median", "worst", "first", "CPU", "target"
        );
    }

    /// Times of runs, the first of them cold, with their CPU times.
    pub(crate) fn times(
        &mut self,
        what: &str,
        times: &[(Duration, Duration)],
        target: Duration,
        note: &str,
    ) {
        let mut warm: Vec<(Duration, Duration)> = times[1..].to_vec();
        warm.sort_unstable();
        let (median, cpu) = warm[warm.len() / 2];
        let (worst, _) = warm[warm.len() - 1];
        let (first, _) = times[0];
        let verdict = self.verdict(what, Some(median <= target));
        let runs = if warm.len() < 9 { format!("{} runs ", warm.len()) } else { String::new() };
        println!(
            "  {what:<56} {:>11} {:>11} {:>11} {:>11} {:>9} {verdict} {runs}{note}",
            shown(median),
            shown(worst),
            shown(first),
            shown(cpu),
            shown(target)
        );
    }

    /// Any other figure; `met` is nothing where there is no target.
    pub(crate) fn figure(
        &mut self,
        what: &str,
        figure: &str,
        target: &str,
        met: Option<bool>,
        note: &str,
    ) {
        let verdict = self.verdict(what, met);
        println!("  {what:<56} {figure:>11} {:>35} {target:>9} {verdict} {note}", "");
    }

    pub(crate) fn finish(self) {
        println!("\n{} of {} targets met", self.passed, self.passed + self.failed.len());
        for what in self.failed {
            println!("  not met: {what}");
        }
    }

    fn verdict(&mut self, what: &str, met: Option<bool>) -> &'static str {
        match met {
            Some(true) => {
                self.passed += 1;
                "PASS"
            }
            Some(false) => {
                self.failed.push(format!("{}: {what}", self.title));
                "FAIL"
            }
            None => "    ",
        }
    }
}

fn shown(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// The CPU time of all threads that this process has now.
pub(crate) fn cpu_time() -> Duration {
    threads().into_iter().map(|(_, used)| used).sum()
}

/// The CPU time of the threads of that name.
pub(crate) fn cpu_time_of(name: &str) -> Duration {
    let own = threads().into_iter().filter(|(known, _)| known == name);
    own.map(|(_, used)| used).sum()
}

fn threads() -> Vec<(String, Duration)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux /proc");
    let thread = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = text.split_whitespace().next()?.parse().ok()?;
        Some((name, Duration::from_nanos(nanos)))
    };
    tasks.filter_map(thread).collect()
}

/// The CPU time of the thread that asks.
pub(crate) fn own_cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux /proc");
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number of nanoseconds"))
}
