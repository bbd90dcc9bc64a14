//! What must be so of each call, whatever was done to it. Owns the judgement of one call by its plan, what its client
//! had, what the provider got and its rows; knows no database.
//!
//! Where a race leaves several outcomes, each of them is right, and `Told` says which it was.

use tokenmeter::record::{Outcome, Record};
use tokenmeter::usage::UsageSource;

use super::book::{Ending, Entry, Had, Sent, Wrote};
use super::plan::{Client, Framing, Kind, Plan, Provider};
use super::says::{self, INPUT_NANOS, OUTPUT_NANOS, figures};

/// No figure of an answer that makes sense is as large.
const ABSURD: u64 = 10_000_000;

/// A call with what is known of it.
pub(super) struct Case<'a> {
    pub(super) plan: Plan,
    pub(super) entry: &'a Entry,
    pub(super) had: &'a Had,
    pub(super) rows: &'a [Record],
    /// tokenmeter was killed while the call lasted.
    pub(super) killed: bool,
    /// The provider's address was refused while it lasted.
    pub(super) refused: bool,
}

/// How a call that is as it must be ended.
pub(super) struct Told {
    pub(super) outcome: String,
    /// Another outcome would have been right as well, and this is the one that was not meant.
    pub(super) race: Option<&'static str>,
}

impl Case<'_> {
    pub(super) fn judge(&self) -> Result<Told, String> {
        let (had, got) = (self.had, &self.entry.got);
        if let Some(wrong) = &got.wrong {
            return Err(format!("the provider got something else: {wrong}"));
        }
        if let Ending::Wrong(wrong) = &had.ending {
            return Err(format!("its client had something else: {wrong}"));
        }
        if got.heads > 1 {
            return Err(format!("it was sent {} times", got.heads));
        }
        match self.rows {
            [] => self.without_row(),
            [row] => {
                self.of_its_call(row)?;
                self.figures(row)?;
                self.client_agrees(row)?;
                let race = self.outcome(row)?;
                let error = row.error.as_deref().filter(|_| row.outcome != Outcome::Completed);
                let outcome = row.outcome.as_str();
                let outcome = match error {
                    Some(error) => format!("{outcome} {error}"),
                    None => outcome.to_owned(),
                };
                Ok(Told { outcome, race })
            }
            rows => Err(format!("it has {} rows", rows.len())),
        }
    }

    /// Right only of what never became a call.
    fn without_row(&self) -> Result<Told, String> {
        let (had, got) = (self.had, &self.entry.got);
        if got.heads > 0 {
            return Err("the provider has it, and there is no row".to_owned());
        }
        if let Some(id) = &had.id {
            return Err(format!("its client was told {id}, and there is no row"));
        }
        if had.did.is_refused() && had.own.is_none() && !self.killed {
            return Err("it was not refused".to_owned());
        }
        if had.did.stays() && had.sent == Sent::Whole && !self.killed {
            return Err("it was sent whole, and there is no row".to_owned());
        }
        Ok(Told { outcome: "no row".to_owned(), race: None })
    }

    fn of_its_call(&self, row: &Record) -> Result<(), String> {
        let (had, number) = (self.had, self.plan.number);
        if had.sent < Sent::PartOfBody || had.did.is_refused() {
            return Err("a row of what was no call".to_owned());
        }
        if had.id.as_ref().is_some_and(|id| *id != row.id.to_string()) {
            return Err(format!("its client was told {:?}", had.id));
        }
        let is_filed = row.user == Some(says::user(number))
            && row.session == Some(says::session(number))
            && row.operation == Some(format!("work-{}", number % 7))
            && row.path == says::target(&self.plan).1;
        if is_filed { Ok(()) } else { Err("filed under something else".to_owned()) }
    }

    fn figures(&self, row: &Record) -> Result<(), String> {
        let (plan, is_completed) = (&self.plan, row.outcome == Outcome::Completed);
        let (input, output) = figures(plan.number);
        let counted = (row.input_tokens, row.output_tokens.unwrap_or_default());
        let is_damaged = matches!(
            plan.provider,
            Provider::AbsurdUsage | Provider::TruncatedGzip | Provider::Surplus
        );
        let is_exact = match plan.kind {
            Kind::Embeddings | Kind::Large => counted == (Some(input), 0),
            // Of a message that broke off, what was said at its start.
            Kind::MessagesStream if !is_completed && counted.1 <= 1 => counted.0 == Some(input),
            _ => counted == (Some(input), output),
        };
        match row.usage_source {
            UsageSource::Reported if plan.provider == Provider::AbsurdUsage => {}
            UsageSource::Reported if !is_exact || !plan.kind.reports() => {
                return Err("other figures than were reported".to_owned());
            }
            UsageSource::Reported => {}
            _ if is_completed
                && plan.kind.reports()
                && !is_damaged
                && self.had.ending != Ending::Left =>
            {
                return Err("without the figures that were reported".to_owned());
            }
            _ => {}
        }
        let all = [row.input_tokens, row.output_tokens, row.total_tokens];
        if all.iter().flatten().any(|tokens| *tokens > ABSURD) {
            return Err("absurd figures".to_owned());
        }
        let cost = row.cost_usd.map(|cost| u64::try_from(cost.nanos()).unwrap_or_default());
        let [Some(input), output, _] = all else { return Ok(()) };
        let right = input * INPUT_NANOS + output.unwrap_or_default() * OUTPUT_NANOS;
        match cost {
            Some(cost) if cost != right => Err(format!("it costs {cost} instead of {right}")),
            None if row.usage_source == UsageSource::Reported => Err("it costs nothing".to_owned()),
            _ => Ok(()),
        }
    }

    /// What the client had says the same as the row.
    fn client_agrees(&self, row: &Record) -> Result<(), String> {
        let had = self.had;
        let is_completed = row.outcome == Outcome::Completed;
        let disagree = |what: &str| Err(format!("the row says otherwise: its client had {what}"));
        if had.own.is_some() {
            return match (row.outcome, row.status == had.status) {
                (Outcome::UpstreamFailed, true) => Ok(()),
                (Outcome::ClientClosed, _) if !had.did.stays() => Ok(()),
                _ if had.did == Client::BadChunks => Ok(()),
                _ => disagree("an error of tokenmeter's own"),
            };
        }
        if had.ending == Ending::Whole && !is_completed {
            return disagree("its whole answer");
        }
        if had.status.is_some() && row.status != had.status && !self.killed {
            return disagree("another status");
        }
        if had.did.stays() && !self.killed && is_completed && had.ending != Ending::Whole {
            return match self.plan.provider {
                // The reset overtakes what was sent before it.
                Provider::EarlyClose => Ok(()),
                _ => disagree("no whole answer"),
            };
        }
        Ok(())
    }

    /// Whether the outcome is one that what was done may lead to; which race it was, if one.
    fn outcome(&self, row: &Record) -> Result<Option<&'static str>, String> {
        let (had, got) = (self.had, &self.entry.got);
        let ended = (row.outcome, row.error.as_deref());
        if self.killed {
            return Ok((row.outcome == Outcome::Interrupted).then_some("killed"));
        }
        if meant(&self.plan, ended) && (got.heads > 0 || row.outcome != Outcome::Completed) {
            return Ok(None);
        }
        let no_answer =
            matches!(ended, (Outcome::UpstreamFailed, Some("no_response" | "connect_failed")));
        if no_answer && self.refused {
            return Ok(Some("the listener was closed"));
        }
        if ended == (Outcome::UpstreamFailed, Some("no_response")) && got.heads == 0 {
            return Ok(Some("an idle connection was closed as it was used"));
        }
        if had.did.stays() {
            return Err("no such outcome of a client that stayed".to_owned());
        }
        match row.outcome {
            Outcome::ClientClosed => Ok(Some("the client left")),
            // Its end went down before it was known that the client had left.
            Outcome::Completed if got.wrote == Wrote::Whole => Ok(Some("all was there")),
            Outcome::Completed if row.status.is_some_and(|status| status >= 400) => {
                Ok(Some("an error was there"))
            }
            _ => Err("no such outcome of a client that left".to_owned()),
        }
    }
}

/// Whether a call ends so if its client stays.
fn meant(plan: &Plan, (outcome, error): (Outcome, Option<&str>)) -> bool {
    use Provider::{
        AbsurdUsage, BadChunk, CloseDelimited, CloseIdle, CloseInHead, Early, EarlyClose,
        EndlessHead, GarbageHead, Interim, Pauses, Plain, ResetBeforeHead, ResetInBody,
        ResetInHead, ResetInUpload, StallInBody, StallInHead, Surplus, TinyPieces, Truncated,
        TruncatedGzip,
    };
    let completed = outcome == Outcome::Completed;
    let failed = |how: &[&str]| {
        outcome == Outcome::UpstreamFailed && error.is_some_and(|error| how.contains(&error))
    };
    let truncated = match plan.framing {
        Framing::Length => "answer_truncated",
        _ => "chunks_truncated",
    };
    match plan.provider {
        Plain | TinyPieces | Pauses | Interim | CloseIdle | CloseDelimited | Surplus
        | TruncatedGzip | AbsurdUsage | Early => completed,
        // What is unread when the provider closes resets the connection, which may overtake the answer.
        EarlyClose => completed || failed(&["no_response", "upstream_reset", truncated]),
        ResetInUpload | ResetBeforeHead | ResetInHead | CloseInHead | GarbageHead | EndlessHead => {
            failed(&["no_response"])
        }
        StallInHead => failed(&["response_timeout"]),
        ResetInBody => failed(&["upstream_reset", "no_response", truncated]),
        Truncated => failed(&[truncated]),
        BadChunk => failed(&["answer_invalid"]),
        StallInBody => failed(&["idle_timeout"]),
    }
}
