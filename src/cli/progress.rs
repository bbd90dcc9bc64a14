//! How far a long command is, on stderr. Owns what a bar looks like, and that there is one only where
//! somebody looks: at a terminal.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a bar moves while nothing is told.
const TICK: Duration = Duration::from_millis(200);

/// A bar, or nothing.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Of calls; without a total where that is not known.
    pub(super) fn of_calls(total: Option<u64>) -> Bar {
        Bar::new(total, "{human_pos}", "{human_len} calls", "{calls_per_sec}")
    }

    pub(super) fn of_bytes(total: Option<u64>) -> Bar {
        Bar::new(total, "{binary_bytes}", "{binary_total_bytes}", "{binary_bytes_per_sec}")
    }

    pub(super) fn hidden() -> Bar {
        Bar(ProgressBar::hidden())
    }

    /// Whether stderr is a terminal.
    pub(super) fn is_wanted() -> bool {
        io::stderr().is_terminal()
    }

    fn new(total: Option<u64>, done: &str, of: &str, rate: &str) -> Bar {
        if !Bar::is_wanted() {
            return Bar::hidden();
        }
        let template = match total {
            Some(_) => format!("{{wide_bar}} {done} of {of}, {rate}, {{eta}} left {{msg}}"),
            None => format!("{{spinner}} {done} {}, {rate} {{msg}}", unit(of)),
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let per_second = |state: &ProgressState, out: &mut dyn fmt::Write| {
                // A bar that cannot tell its rate is a bar all the same.
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.with_key("calls_per_sec", per_second));
        }
        bar.enable_steady_tick(TICK);
        Bar(bar)
    }

    pub(super) fn add(&self, more: u64) {
        self.0.inc(more);
    }

    pub(super) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }

    pub(super) fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }

    /// Counts what is read.
    pub(super) fn watch<R: io::Read>(&self, from: R) -> impl io::Read + use<R> {
        self.0.wrap_read(from)
    }

    /// Does something that prints.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The bar of a command that does one thing after another.
#[derive(Debug)]
pub(super) struct Steps(ProgressBar);

impl Steps {
    pub(super) fn new() -> Steps {
        if !Bar::is_wanted() {
            return Steps(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
        Steps(bar)
    }

    /// What is being done, and how far it is; of 0 where that cannot be told.
    pub(super) fn show(&self, what: &'static str, done: u64, of: u64) {
        if self.0.message() != what {
            let template = match of {
                0 => "{msg} {spinner} {elapsed}",
                _ => "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.0.set_style(style);
            }
            self.0.reset();
            self.0.set_message(what);
        }
        self.0.set_length(of);
        self.0.set_position(done);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The word behind a total.
fn unit(of: &str) -> &str {
    of.split_once(' ').map_or("", |(_, unit)| unit)
}
