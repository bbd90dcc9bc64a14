//! The tables: for people as they come, and the same as Markdown for the docs. Owns their columns, and
//! nothing of what the figures mean.

use std::fmt::Write as _;
use std::path::Path;

use crate::load::Unit;
use crate::rounds::{Course, Figures, Outcome, float, least, median, quantile};

/// Columns: their heads, and the least width of each.
type Head = [(&'static str, usize); 12];

const CALLS: Head = [
    ("", 11),
    ("CPU", 7),
    ("least", 7),
    ("ratio", 6),
    ("quartiles", 12),
    ("user", 7),
    ("system", 7),
    ("a second", 9),
    ("p50", 8),
    ("p99", 8),
    ("p99.9", 8),
    ("1st byte", 9),
];

const STREAMS: Head = [
    ("", 11),
    ("CPU", 7),
    ("least", 7),
    ("ratio", 6),
    ("quartiles", 12),
    ("user", 7),
    ("system", 7),
    ("a second", 9),
    ("1st byte", 9),
    ("p50", 8),
    ("p99", 8),
    ("p99.9", 8),
];

/// Prints as it goes, because a whole run takes its time.
#[derive(Default)]
pub(crate) struct Sheet {
    markdown: String,
    /// Of each load a line for those who want to see all at once.
    glance: Vec<Vec<String>>,
}

impl Sheet {
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}");
        let _ = writeln!(self.markdown, "{text}");
    }

    pub(crate) fn title(&mut self, text: &str) {
        println!("\n{text}");
        let _ = writeln!(self.markdown, "\n**{text}**\n");
    }

    /// One load: a row for each target. `base` is whom ratios are to.
    pub(crate) fn load(&mut self, outcome: &Outcome, base: &str, rounds: usize) {
        let unit = outcome.load.unit;
        let head = if unit == Unit::Call { CALLS } else { STREAMS };
        self.glance.extend(at_a_glance(outcome, base));
        let rows = outcome.courses.iter().map(|course| row(outcome, course, base)).collect();
        self.title(outcome.load.title);
        self.table(&head, rows);
        for line in notes(outcome, base, rounds) {
            println!("  {line}");
            let _ = write!(self.markdown, "\n{line}.");
        }
        self.markdown.push('\n');
    }

    /// CPU time of all loads.
    pub(crate) fn glance(&mut self) {
        if self.glance.len() < 2 {
            return;
        }
        self.title(
            "CPU µs a call (streams: an event), medians of rounds and of ratios within a round",
        );
        let head = [
            ("", 11),
            ("nginx", 8),
            ("tokenmeter", 12),
            ("ratio", 7),
            ("calmest", 9),
            ("worker", 9),
            ("ledger", 8),
            ("others", 8),
        ];
        let rows = std::mem::take(&mut self.glance);
        self.table(&head, rows);
    }

    /// A table whose first column is words, and the others figures.
    pub(crate) fn table(&mut self, head: &[(&'static str, usize)], rows: Vec<Vec<String>>) {
        self.lines(head, rows, |at| at > 0);
    }

    /// A table of words.
    pub(crate) fn words(&mut self, head: &[(&'static str, usize)], rows: Vec<Vec<String>>) {
        self.lines(head, rows, |_| false);
    }

    fn lines(
        &mut self,
        head: &[(&'static str, usize)],
        rows: Vec<Vec<String>>,
        is_figure: fn(usize) -> bool,
    ) {
        let names: Vec<String> = head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(head).enumerate().map(|(at, (cell, (_, width)))| {
                if is_figure(at) { format!("{cell:>width$}") } else { format!("  {cell:<width$}") }
            });
            cells.collect::<String>().trim_end().to_owned()
        };
        println!("{}", line(&names));
        let markdown = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        self.markdown += &markdown(&names);
        let marks = (0..head.len()).map(|at| if is_figure(at) { " ---: |" } else { " --- |" });
        let _ = writeln!(self.markdown, "|{}", marks.collect::<String>());
        for row in rows {
            println!("{}", line(&row));
            self.markdown += &markdown(&row);
        }
    }

    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, &self.markdown).expect("a file that can be written");
        println!("\nwritten to {}", file.display());
    }
}

fn at_a_glance(outcome: &Outcome, base: &str) -> Option<Vec<String>> {
    let (own, nginx) = (outcome.course("tokenmeter")?, outcome.course(base)?);
    let cpu = |course: &Course| median(course.rounds.iter().map(|round| round.cpu)) / 1000.0;
    let per = |used: u64| float(used) / float(own.units) / 1000.0;
    let mut cells = vec![outcome.load.name.to_owned()];
    let figures = [
        cpu(nginx),
        cpu(own),
        median(outcome.ratios(own, base)),
        outcome.calmest_ratio(own, base)?,
        per(own.cpu.worker),
        per(own.cpu.ledger),
        per(own.cpu.others),
    ];
    cells.extend(figures.map(|figure| format!("{figure:.2}")));
    Some(cells)
}

fn row(outcome: &Outcome, course: &Course, base: &str) -> Vec<String> {
    let is_direct = course.name == "direct";
    let mut cells = vec![course.name.to_owned()];
    let ratios = outcome.ratios(course, base);
    if is_direct {
        cells.extend(["–"; 6].map(str::to_owned));
    } else {
        let (user, system) = (float(course.cpu.user), float(course.cpu.system));
        let rounds = || course.rounds.iter().map(|round| round.cpu / 1000.0);
        let (cpu, calmest) = (median(rounds()), least(rounds()));
        let user_share = user / (user + system);
        cells.extend([format!("{cpu:.2}"), format!("{calmest:.2}")]);
        if course.name == base || ratios.is_empty() {
            cells.extend([if ratios.is_empty() { "–" } else { "1" }.to_owned(), String::new()]);
        } else {
            cells.push(format!("{:.2}", median(ratios.clone())));
            let (low, high) = (quantile(ratios.clone(), 1, 4), quantile(ratios, 3, 4));
            cells.push(format!("{low:.2}–{high:.2}"));
        }
        cells.push(format!("{:.2}", cpu * user_share));
        cells.push(format!("{:.2}", cpu * (1.0 - user_share)));
    }
    cells.push(grouped(median(course.rounds.iter().map(|round| round.rate))));
    let of_calls: [fn(&Figures) -> f64; 4] =
        [|one| one.whole.p50, |one| one.whole.p99, |one| one.whole.p999, |one| one.first_byte.p50];
    let of_streams: [fn(&Figures) -> f64; 4] =
        [|one| one.first_byte.p50, |one| one.delay.p50, |one| one.delay.p99, |one| one.delay.p999];
    let latencies = if outcome.load.unit == Unit::Call { of_calls } else { of_streams };
    cells.extend(latencies.map(|figure| {
        if is_direct {
            grouped(median(course.rounds.iter().map(figure)))
        } else {
            signed(median(outcome.added(course, figure)))
        }
    }));
    cells
}

/// What stands beneath a table.
fn notes(outcome: &Outcome, base: &str, rounds: usize) -> Vec<String> {
    let unit = outcome.load.unit;
    let latency = match unit {
        Unit::Call => "of calls",
        Unit::Event => "of events since they were sent",
    };
    let mut notes = vec![format!(
        "{rounds} rounds; CPU µs {}, ratio to {base} in the same round; latency µs {latency}, added",
        unit.name()
    )];
    for course in &outcome.courses {
        let per = |used: u64| float(used) / float(course.units) / 1000.0;
        if course.name.starts_with("tokenmeter") {
            notes.push(format!(
                "{}: worker {:.2}, ledger {:.2}, other threads {:.2}; of it between rounds {:.2}",
                course.name,
                per(course.cpu.worker),
                per(course.cpu.ledger),
                per(course.cpu.others),
                per(course.paused)
            ));
        }
    }
    let memory = outcome.courses.iter().filter(|course| course.memory.resident > 0);
    let memory: Vec<String> = memory
        .map(|course| format!("{} {:.1} MB", course.name, megabytes(course.memory.resident)))
        .collect();
    notes.push(format!("resident: {}", memory.join(", ")));
    notes.push(format!(
        "a direct call costs the generator {:.1} µs and the provider {:.1} µs",
        outcome.generator / 1000.0,
        outcome.provider / 1000.0
    ));
    notes
}

/// Of KiB.
pub(crate) fn megabytes(kib: u64) -> f64 {
    float(kib) * 1024.0 / 1e6
}

fn signed(micros: f64) -> String {
    let text = grouped(micros.abs());
    if micros < 0.0 { format!("-{text}") } else { format!("+{text}") }
}

/// A whole number with its thousands apart; a small one with a decimal.
pub(crate) fn grouped(number: f64) -> String {
    if number.abs() < 9.95 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
