//! `tokenmeter top`: who is spending what, right now. Owns what can be typed and the loop of keys, answers
//! and pictures; what they mean is `state`'s, how it looks `draw`'s.

mod ask;
mod curve;
mod draw;
mod figures;
mod keys;
mod once;
mod screen;
mod state;
mod tables;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use ratatui::crossterm::event::Event;

use super::filters::FilterArgs;
use super::sheet::Format;
use super::source::Source;
use super::terminal::has_colours;
use super::{Failure, Query, SourceArgs};
use crate::ledger::GroupKey;
use crate::units::Timestamp;
use ask::{Answer, PATIENCE, Wish};
use draw::{Scene, draw};
use screen::Screen;
use state::{Next, State};

/// How long a key waits for an answer that is being looked for, at most.
const TICK: Duration = Duration::from_millis(100);

/// Faster than anybody reads.
const LEAST_INTERVAL_MS: i64 = 250;

/// A hundred years are as good as for ever.
const MOST_MS: i64 = 36_500 * 86_400_000;

/// Who is spending what, right now
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tokenmeter top                                     who spends, on the database here
  tokenmeter top --by model --window 1h --operation rag_answer
  tokenmeter top --url https://meter.example.org     on another machine
  tokenmeter top --once --format json                one picture, for scripts

Keys: ? shows them all. u m o s p n x group by user, model, operation, session, provider, endpoint,
outcome; Enter goes into a group and Backspace out of it; w changes the window; c t r e d a sort; / searches;
space pauses; q quits.

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct TopArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    /// Group by this key: user, model, operation, session, provider, upstream, endpoint, outcome, status,
    /// error, metadata.NAME, …
    #[arg(long, value_name = "KEY", default_value = "user")]
    pub by: GroupKey,

    /// How far back the groups reach, such as 5m, 1h, 7d
    #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = millis,
          conflicts_with = "days", help_heading = "Window")]
    pub window: i64,

    /// The last N days instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500),
          help_heading = "Window")]
    pub days: Option<u32>,

    /// Time zone of the clock, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone,
          help_heading = "Window")]
    pub tz: TimeZone,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// Ask this often, such as 500ms, 2s, 1m
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = interval)]
    pub interval: i64,

    /// Print one picture and end
    #[arg(long)]
    pub once: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t, requires = "once")]
    pub format: Format,
}

impl TopArgs {
    fn state(&self, now: Timestamp) -> State {
        let mut filters = Query::new();
        self.filters.add_to(&mut filters);
        let window = self.days.map_or(self.window, |days| i64::from(days) * 86_400_000);
        State::new(filters, &self.by.to_string(), window, self.interval, now)
    }
}

/// Until somebody has seen enough, or one picture.
pub(super) fn run(args: &TopArgs) -> Result<String, Failure> {
    if !args.once && !io::stdout().is_terminal() {
        let why = "top draws on a terminal, and stdout is none; --once prints one picture and ends";
        return Err(Failure::Usage(why.to_owned()));
    }
    let source = Source::of(&args.source)?.hurried(PATIENCE);
    if args.once {
        return once::run(args, &source);
    }
    let scene = Scene {
        instance: source.name(&args.source),
        zone: args.tz.clone(),
        is_coloured: has_colours(&io::stdout()),
    };
    let failed = |error: io::Error| Failure::Failed(format!("drawing: {error}"));
    let (wishes, answers) = ask::start(source).map_err(failed)?;
    let mut screen = Screen::enter().map_err(failed)?;
    let talks = Talks { wishes, answers, events: screen::listen().map_err(failed)? };
    let shown = show(&mut screen, args.state(Timestamp::now()), &scene, &talks);
    drop(screen);
    shown.map_err(failed).map(|()| String::new())
}

/// What goes to and comes from the threads that wait for others.
struct Talks {
    wishes: Sender<Wish>,
    answers: Receiver<Answer>,
    events: Receiver<io::Result<Event>>,
}

fn show(screen: &mut Screen, mut state: State, scene: &Scene, talks: &Talks) -> io::Result<()> {
    let gone = || io::Error::other("a thread of its own has ended");
    let mut drawn = None;
    while !screen.is_over() {
        state.now = Timestamp::now();
        loop {
            match talks.answers.try_recv() {
                Ok(answer) => {
                    state.answer(answer);
                    drawn = None;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(gone()),
            }
        }
        if let Some(wish) = state.due() {
            talks.wishes.send(wish).map_err(|_| gone())?;
        }
        // Nothing moves by itself but the clock.
        let second = state.now.millis() / 1000;
        if drawn != Some(second) {
            screen.draw(|frame| draw(frame, &state, scene))?;
            drawn = Some(second);
        }
        let mut patience = TICK;
        // Keys that were pressed together are shown together.
        loop {
            let event = match talks.events.recv_timeout(patience) {
                Ok(event) => event?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            };
            patience = Duration::ZERO;
            drawn = None;
            let Event::Key(key) = event else { continue };
            let Some(action) = keys::action(key, state.is_typing) else { continue };
            match state.act(action) {
                Next::GoOn => {}
                Next::Suspend => screen.suspend()?,
                Next::Quit => return Ok(()),
            }
        }
    }
    Ok(())
}

/// `500ms`, `2s`, `15m`, `1h`, `7d`.
fn millis(text: &str) -> Result<i64, String> {
    let expected = || "write it like 30s, 15m, 1h or 7d".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (count, unit) = text.split_at(unit_at);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let millis = count.parse::<i64>().ok().and_then(|count| count.checked_mul(unit));
    millis.filter(|millis| (1..=MOST_MS).contains(millis)).ok_or_else(expected)
}

fn interval(text: &str) -> Result<i64, String> {
    match millis(text)? {
        LEAST_INTERVAL_MS.. => millis(text),
        _ => Err(format!("at least {LEAST_INTERVAL_MS}ms")),
    }
}

fn zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| "a time zone such as Europe/Berlin".to_owned())
}
