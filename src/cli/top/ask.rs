//! The questions behind a picture, and who asks them. Owns the thread on which they are asked, so that no
//! key waits for an answer, and what an answer is made of.
//!
//! Invariant: one question is under way at a time, and none goes on for longer than [`PATIENCE`].

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use std::{io, thread};

use serde_json::Value;

use super::super::source::{Report, Source};
use super::super::{Failure, Query, push};
use super::figures::{Call, Figures, Group};
use crate::units::Timestamp;

/// An answer that takes longer is of no use to somebody who looks.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Groups that anybody scrolls through.
const GROUPS: u32 = 500;

/// Calls that a pane shows, on the largest of screens.
const CALLS: u32 = 60;

/// Calls from which the cost of the last minutes is told at the start.
const HISTORY: u32 = 1000;

/// What is meant by "now".
pub(super) const MINUTE_MS: i64 = 60_000;

/// What is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) filters: Query,
    /// A key to group by.
    pub(super) by: String,
    pub(super) window_ms: i64,
    /// The figure by which the first groups are the first.
    pub(super) sort: &'static str,
    /// Whether so many calls are wanted that the last minutes can be told from them.
    pub(super) with_history: bool,
}

/// What there was to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) totals: Figures,
    pub(super) groups: Vec<Group>,
    pub(super) has_more: bool,
    /// Of the last minute.
    pub(super) minute: Figures,
    /// The newest first.
    pub(super) calls: Vec<Call>,
    /// Calls that are open now, where that is told.
    pub(super) open: Option<u64>,
    /// The answers themselves: groups, the last minute, calls.
    pub(super) answers: [Value; 3],
}

/// The end of a question.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) wish: Wish,
    /// When it was asked.
    pub(super) asked: Timestamp,
    pub(super) seen: Result<Box<Seen>, String>,
}

/// Asks all that a wish needs, up to a moment.
pub(super) fn look(
    wish: &Wish,
    now: Timestamp,
    ask: impl Fn(Report, &Query) -> Result<Value, Failure>,
) -> Result<Seen, Failure> {
    let since = |millis: i64| {
        let mut query = wish.filters.clone();
        push(&mut query, "since", Some(Timestamp::from_millis(now.millis() - millis)));
        query
    };
    let mut query = since(wish.window_ms);
    push(&mut query, "group_by", Some(&wish.by));
    push(&mut query, "sort", Some(wish.sort));
    push(&mut query, "limit", Some(GROUPS));
    let groups = ask(Report::Stats, &query)?;
    let minute = ask(Report::Stats, &since(MINUTE_MS))?;
    let mut query = wish.filters.clone();
    push(&mut query, "limit", Some(if wish.with_history { HISTORY } else { CALLS }));
    let calls = ask(Report::Usage, &query)?;
    let list = |answer: &Value, name: &str| answer[name].as_array().cloned().unwrap_or_default();
    Ok(Seen {
        totals: Figures::of(&groups["totals"]),
        groups: list(&groups, "groups").iter().map(|one| Group::of(&wish.by, one)).collect(),
        has_more: !groups["next_offset"].is_null(),
        minute: Figures::of(&minute["totals"]),
        calls: list(&calls, "records").iter().filter_map(Call::of).collect(),
        open: None,
        answers: [groups, minute, calls],
    })
}

/// Asks on a thread of its own, for as long as somebody wishes.
pub(super) fn start(source: Source) -> io::Result<(Sender<Wish>, Receiver<Answer>)> {
    let (wishes, inbox) = mpsc::channel::<Wish>();
    let (outbox, answers) = mpsc::channel();
    let work = move || {
        while let Ok(wish) = inbox.recv() {
            let asked = Timestamp::now();
            let seen = look(&wish, asked, |report, query| source.ask(report, query));
            let seen = seen.map(Box::new).map_err(|failure| failure.to_string());
            if outbox.send(Answer { wish, asked, seen }).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("ask".to_owned()).spawn(work)?;
    Ok((wishes, answers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;

    #[test]
    fn a_picture_is_three_questions_and_only_recent_calls_are_looked_at() {
        let asked = RefCell::new(Vec::new());
        let wish = Wish {
            filters: vec![("user".to_owned(), "ann".to_owned())],
            by: "model".to_owned(),
            window_ms: 300_000,
            sort: "cost_usd",
            with_history: false,
        };
        let now = "2026-11-21T09:30:00Z".parse().unwrap();
        let seen = look(&wish, now, |report, query| {
            let query: Vec<String> =
                query.iter().map(|(name, text)| format!("{name}={text}")).collect();
            asked.borrow_mut().push(format!("{report:?} {}", query.join("&")));
            Ok(match report {
                Report::Usage => json!({"records": [{"created_at": "2026-11-21T09:29:00Z"}]}),
                Report::Stats => json!({
                    "totals": {"requests": 3},
                    "groups": [{"key": {"model": "gpt-4o"}, "requests": 3}], "next_offset": 500,
                }),
            })
        });
        let seen = seen.unwrap();
        assert_eq!((seen.totals.calls, seen.groups.len(), seen.calls.len()), (3, 1, 1));
        assert!(seen.has_more);
        assert_eq!(
            asked.into_inner(),
            [
                "Stats user=ann&since=2026-11-21T09:25:00.000Z&group_by=model&sort=cost_usd&limit=500",
                "Stats user=ann&since=2026-11-21T09:29:00.000Z",
                "Usage user=ann&limit=60",
            ]
        );
    }
}
