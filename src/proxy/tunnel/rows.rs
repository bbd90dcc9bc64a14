//! The rows of a tunnel: one for each response, or one for the upgrade where there is none. Owns when
//! each is opened and how it is closed; knows neither messages nor frames.
//!
//! Invariant: a row is closed exactly once. Dropped before that, it closes itself.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::ledger::Kept;
use crate::meter::{Meter, Observed, Prompt};
use crate::provider::realtime::{Change, Seen, Turn};
use crate::provider::{Reading, RequestFacts};
use crate::proxy::exchange::{Calls, Opened, millis, note_request};
use crate::proxy::keeping::Keeping;
use crate::record::{CallId, Outcome, Record};
use crate::units::Timestamp;

/// The endpoint of what another model writes down of what was heard.
const TRANSCRIPTIONS: &str = "audio.transcriptions";

/// Close codes that say nothing of a failure: normal, going away, none given (RFC 6455, 7.4.1).
const GOOD_CODES: [u16; 3] = [1000, 1001, 1005];

/// How a tunnel ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// Nobody knows of anything bad.
    Well,
    ByClient {
        close_code: Option<u16>,
    },
    ByProvider {
        /// With a close frame.
        is_closed: bool,
        /// With an error of its connection.
        is_reset: bool,
        close_code: Option<u16>,
    },
}

/// The open rows of a tunnel.
pub(super) struct Rows {
    /// The upgrade's, until a response takes it.
    first: Option<Row>,
    open: Vec<(Turn, Row)>,
    /// Why the provider refused what was no response.
    refused: Option<String>,
    /// What the end of the response that closed last waits for.
    keeping: Keeping,
    /// The tunnel's place among the open calls; the last to go.
    opened: Opened,
}

impl Rows {
    /// Takes over an upgrade's call.
    pub(super) fn new(mut opened: Opened) -> Rows {
        opened.record.streaming = true;
        let first = Row::of(&opened, opened.record.clone(), opened.started);
        let (open, keeping) = (Vec::new(), Keeping::default());
        Rows { first: Some(first), open, refused: None, keeping, opened }
    }

    /// Resolves when what has come from the provider may go down.
    pub(super) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.keeping.poll(cx)
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Begins(turn, facts, asked) => {
                let mut row = self.begin(&facts);
                row.prompt = asked.map(|asked| {
                    let beyond = asked.beyond();
                    row.meter.keep(&asked.into_json().into(), beyond)
                });
                self.open.push((turn, row));
            }
            Change::Answers(turn) => {
                if let Some(row) = self.of(turn) {
                    row.record.time_to_first_byte_ms = Some(millis(row.started.elapsed()));
                }
            }
            Change::Generates(turn) => {
                if let Some(row) = self.of(turn) {
                    row.record.time_to_first_token_ms = Some(millis(row.started.elapsed()));
                }
            }
            Change::Over(turn, reading) => {
                if let Some(row) = self.of(turn) {
                    row.seen.reading = *reading;
                    row.is_over = true;
                }
            }
            Change::Ends(turn, seen) => {
                if let Some(at) = self.open.iter().position(|(open, _)| *open == turn) {
                    let (_, mut row) = self.open.swap_remove(at);
                    row.seen = *seen;
                    self.keeping = Keeping::of(row.complete());
                }
            }
            Change::Transcribed(reading) => {
                self.keeping = Keeping::of(self.transcribed(*reading));
            }
            Change::Refused(word) => self.refused = Some(word),
        }
    }

    /// What was seen of a response that will not be seen to end.
    pub(super) fn saw(&mut self, turn: Turn, seen: Seen) {
        if let Some(row) = self.of(turn) {
            row.seen = seen;
        }
    }

    fn of(&mut self, turn: Turn) -> Option<&mut Row> {
        self.open.iter_mut().find(|(open, _)| *open == turn).map(|(_, row)| row)
    }

    /// The row of a response that begins now: the upgrade's, or a new one.
    fn begin(&mut self, facts: &RequestFacts) -> Row {
        let first = self.first.take().map(|mut first| {
            first.record.created_at = Timestamp::now();
            first.started = Instant::now();
            first
        });
        let mut row = first.unwrap_or_else(|| Row::open(&self.opened, self.another(facts)));
        note_request(&mut row.record, facts);
        row.record.time_to_first_byte_ms = None;
        // The response has an id of its own.
        row.record.upstream_request_id = None;
        row
    }

    /// Another call of the same caller.
    fn another(&self, facts: &RequestFacts) -> Box<Record> {
        let mut record = self.opened.record.clone();
        (record.id, record.created_at) = (CallId::new(), Timestamp::now());
        note_request(&mut record, facts);
        record.time_to_first_byte_ms = None;
        record.upstream_request_id = None;
        record
    }

    /// When its audio began is not known, so neither is how long it took.
    fn transcribed(&self, reading: Reading) -> Kept {
        let mut record = self.another(&RequestFacts::default());
        TRANSCRIPTIONS.clone_into(&mut record.endpoint);
        record.model_requested.clone_from(&reading.model);
        let mut row = Row::open(&self.opened, record);
        row.seen.reading = reading;
        row.is_timed = false;
        row.deployed = None;
        row.complete()
    }

    /// Nothing more will be known of the responses that are open.
    pub(super) fn unreadable(&mut self) {
        for (_, row) in self.open.drain(..) {
            row.close(Outcome::Completed, Some("unreadable_messages".to_owned()));
        }
    }

    /// Closes what is open.
    pub(super) fn finish(&mut self, ended: Ended) {
        let cuts_off = self.open.iter().any(|(_, row)| !row.is_over);
        if matches!(ended, Ended::ByProvider { is_reset, .. } if is_reset || cuts_off) {
            self.opened.live.failed("tunnel_broken");
        }
        for (_, row) in self.open.drain(..) {
            if row.is_over {
                row.close(Outcome::Completed, None);
                continue;
            }
            match ended {
                Ended::Well => row.close(Outcome::Completed, None),
                Ended::ByClient { .. } => row.close(Outcome::ClientClosed, None),
                Ended::ByProvider { is_closed: false, .. } => {
                    row.close(Outcome::UpstreamFailed, Some("tunnel_reset".to_owned()));
                }
                Ended::ByProvider { close_code, .. } => {
                    let word = close_word(close_code).unwrap_or_else(|| "tunnel_closed".to_owned());
                    row.close(Outcome::UpstreamFailed, Some(word));
                }
            }
        }
        let Some(first) = self.first.take() else { return };
        match ended {
            Ended::ByProvider { is_reset: true, .. } => {
                first.close(Outcome::UpstreamFailed, Some("tunnel_reset".to_owned()));
            }
            Ended::ByProvider { close_code, .. } | Ended::ByClient { close_code } => {
                let word = self.refused.take().or_else(|| close_word(close_code));
                first.close(Outcome::Completed, word);
            }
            Ended::Well => first.close(Outcome::Completed, self.refused.take()),
        }
    }
}

/// What a provider's close code says, if it is of a failure: Gemini refuses setups so.
fn close_word(code: Option<u16>) -> Option<String> {
    code.filter(|code| !GOOD_CODES.contains(code)).map(|code| format!("close_{code}"))
}

/// One call, from its opening line in the journal to its row.
struct Row {
    meter: Arc<Meter>,
    calls: Calls,
    record: Box<Record>,
    started: Instant,
    is_timed: bool,
    deployed: Option<String>,
    /// Of the response, so far.
    seen: Seen,
    /// What it was asked with.
    prompt: Option<Prompt>,
    is_over: bool,
    is_closed: bool,
}

impl Row {
    /// Notes in the journal that a response begins.
    fn open(opened: &Opened, record: Box<Record>) -> Row {
        opened.meter.open(&record);
        Row::of(opened, record, Instant::now())
    }

    /// A call that has been opened.
    fn of(opened: &Opened, record: Box<Record>, started: Instant) -> Row {
        Row {
            meter: Arc::clone(&opened.meter),
            calls: opened.calls.clone(),
            record,
            started,
            is_timed: true,
            deployed: opened.deployed.clone(),
            seen: Seen::default(),
            prompt: None,
            is_over: false,
            is_closed: false,
        }
    }

    /// The response has ended while its tunnel goes on.
    fn complete(mut self) -> Kept {
        self.settle(Outcome::Completed, None)
    }

    fn close(mut self, outcome: Outcome, error: Option<String>) {
        self.settle(outcome, error);
    }

    fn settle(&mut self, outcome: Outcome, error: Option<String>) -> Kept {
        if std::mem::replace(&mut self.is_closed, true) {
            return Kept::default();
        }
        self.record.outcome = outcome;
        self.record.error = error;
        self.record.duration_ms = self.is_timed.then(|| millis(self.started.elapsed()));
        let observed = Observed {
            reading: &self.seen.reading,
            generated: std::mem::take(&mut self.seen.generated),
            prompt: self.prompt.take(),
            is_sent: true,
            model_behind: self.deployed.as_deref(),
            background: false,
        };
        self.meter.close(self.record.clone(), observed)
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if self.calls.has_given_up() {
            self.settle(Outcome::Interrupted, Some("tokenmeter stopped".to_owned()));
        } else {
            self.settle(Outcome::ClientClosed, None);
        }
    }
}
