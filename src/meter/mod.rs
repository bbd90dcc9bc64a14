//! What was observed of a call becomes its row: usage, cost, record, ledger. Owns how they come
//! together; refuses to fail: what cannot be known stays unknown in the row.

mod capture;
mod charging;
mod clerk;
mod estimating;
mod learning;
mod pool;
mod repricing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::value::RawValue;

pub use capture::{Prompt, RequestObserver};
pub use repricing::{LeftAlone, Repricing};

use crate::estimate::{self, Side, Subject};
use crate::ledger::{Kept, Ledger, Unrecordable};
use crate::pricing::PriceBook;
use crate::provider::{Generated, Reading, RequestReader};
use crate::record::Record;
use crate::usage::UsageSource;
use capture::Budget;
use clerk::Clerk;
use estimating::{Estimates, Missing};
use learning::{Learner, Sample};
use pool::Pool;

/// Estimates that are left when tokenmeter stops get so long.
const FINISH: Duration = Duration::from_secs(5);

/// Shared by all calls.
#[derive(Debug)]
pub struct Meter {
    books: Arc<Books>,
    pool: Pool,
    /// For prompts.
    budget: Arc<Budget>,
    /// For answers that wait to be counted.
    answers: Arc<Budget>,
    /// A call that may be estimated has come: the vocabularies are being read.
    is_warm: AtomicBool,
}

/// What settling a call needs, on whatever thread.
#[derive(Debug)]
struct Books {
    ledger: Ledger,
    clerk: Clerk,
    prices: ArcSwap<PriceBook>,
    learner: Learner,
}

/// What was seen of a call besides its row.
#[derive(Debug)]
pub struct Observed<'a> {
    pub reading: &'a Reading,
    /// The text of the answer.
    pub generated: Generated,
    /// The request's body.
    pub prompt: Option<Prompt>,
    /// A connection to the provider took all of the request.
    pub is_sent: bool,
    /// The model that the path or the configuration names, for where the answer names none.
    pub model_behind: Option<&'a str>,
    /// The answer is made in the background: a call that ends early does not end it.
    pub background: bool,
}

/// A call whose row waits for its estimate.
struct Unsettled {
    record: Box<Record>,
    reading: Reading,
    generated: Generated,
    prompt: Option<Prompt>,
    model_behind: Option<String>,
    missing: Missing,
}

impl Meter {
    pub fn new(ledger: Ledger, prices: impl Into<Arc<PriceBook>>) -> Meter {
        let learner = Learner::new(ledger.calibrations());
        let clerk = Clerk::new(ledger.clone());
        let books = Books { ledger, clerk, prices: ArcSwap::new(prices.into()), learner };
        Meter {
            books: Arc::new(books),
            pool: Pool::new(),
            budget: Arc::default(),
            answers: Arc::default(),
            is_warm: AtomicBool::new(false),
        }
    }

    /// Puts another price table in force, at once and as a whole.
    pub fn set_prices(&self, prices: impl Into<Arc<PriceBook>>) {
        self.books.prices.store(prices.into());
    }

    /// What looks at a request's body as it passes, by its `content-type` and `content-encoding`,
    /// empty where absent.
    pub fn observe(&self, endpoint: &str, content_type: &str, coding: &str) -> RequestObserver {
        let reader = RequestReader::new(content_type, coding);
        let prompt = estimate::covers(endpoint).then(|| Prompt::new(&self.budget));
        if prompt.is_some() && !self.is_warm.swap(true, Ordering::Relaxed) {
            self.pool.run(estimate::warm_up);
        }
        RequestObserver::new(reader, prompt)
    }

    /// Keeps the request of a call that has no body of its own, but for `beyond` bytes at its end, for
    /// as long as an estimate may be made from it.
    pub fn keep(&self, request: &Bytes, beyond: u64) -> Prompt {
        Prompt::whole(&self.budget, request, beyond)
    }

    /// Notes that a call is about to be sent to its provider, or says why it must not be.
    pub fn admit(&self, record: &Record) -> Result<(), Unrecordable> {
        self.books.ledger.admit(record)
    }

    /// Notes that a call has begun that nothing can keep from its provider.
    pub fn open(&self, record: &Record) {
        self.books.ledger.opened(record);
    }

    /// Settles a call that has ended, however it ended. When this returns, the journal has it: with
    /// the provider's figures or, where it gave none, with a rough estimate that a better one replaces
    /// as soon as it is made. The end of the call's answer waits for what is returned.
    pub fn close(&self, mut record: Box<Record>, observed: Observed<'_>) -> Kept {
        let missing = guarded(|| self.books.fill(&mut record, &observed)).unwrap_or_else(|| {
            tracing::error!(id = %record.id, "a call could not be metered; its row lacks figures");
            None
        });
        let Some(missing) = missing else {
            let id = record.id;
            // The record goes to the ledger whole, so what is to be learnt is taken first.
            let sample = guarded(|| self.books.learner.sample(&record, observed));
            let kept = self.books.ledger.close(record);
            let learnt = sample.and_then(|sample| guarded(|| sample.map(|one| self.learn(one))));
            if learnt.is_none() {
                tracing::error!(%id, "nothing could be learnt from a call");
            }
            return kept;
        };
        let kept = self.books.ledger.close_for_now(record.clone());
        let share = self.answers.take(observed.generated.bytes());
        let unsettled = Unsettled {
            record,
            reading: observed.reading.clone(),
            generated: observed.generated,
            prompt: observed.prompt,
            model_behind: observed.model_behind.map(str::to_owned),
            missing,
        };
        let books = Arc::clone(&self.books);
        let taken = share.is_some_and(|share| {
            self.pool.run(move || {
                books.settle(unsettled);
                drop(share);
            })
        });
        if !taken {
            tracing::warn!("too many estimates wait; a rough one stands");
        }
        kept
    }

    /// Checks the estimator against a call whose usage was reported, now and then.
    fn learn(&self, sample: Sample) {
        let Some(share) = self.answers.take(sample.generated.bytes()) else { return };
        let books = Arc::clone(&self.books);
        self.pool.run(move || {
            books.check(sample);
            drop(share);
        });
    }

    /// Estimates that wait or are being made, and those that were left rough since the start because too
    /// many waited.
    pub fn estimates(&self) -> (usize, u64) {
        (self.pool.waiting(), self.pool.left_undone())
    }

    /// Lets estimates that have been begun be finished. No calls may follow.
    pub fn finish(&self) {
        self.pool.finish(FINISH);
        self.books.clerk.finish(FINISH);
    }
}

impl Books {
    /// Writes what is known into the row, with a rough estimate of what is not. What is missing, if
    /// an estimate can be made.
    fn fill(&self, record: &mut Record, observed: &Observed<'_>) -> Option<Missing> {
        let reading = observed.reading;
        let source =
            if reading.usage_json.is_some() { UsageSource::Reported } else { UsageSource::None };
        record.set_usage(&reading.usage, source);
        let said = reading.usage_json.as_ref().or(reading.odd_usage.as_ref());
        record.usage_json = said.and_then(|raw| RawValue::from_string(raw.to_json()).ok());
        record.model.clone_from(&reading.model);
        record.finish_reason.clone_from(&reading.finish_reason);
        record.service_tier.clone_from(&reading.service_tier);
        if record.error.is_none() {
            record.error.clone_from(&reading.error);
        }
        if record.upstream_request_id.is_none() {
            record.upstream_request_id.clone_from(&reading.id);
        }
        let (generated, prompt) = (&observed.generated, observed.prompt.as_ref());
        let missing = estimating::missing(record, observed);
        let Some(missing) = missing else {
            charging::charge(
                &self.prices.load(),
                record,
                reading,
                &reading.usage,
                observed.model_behind,
            );
            return None;
        };
        let rough = estimating::by_bytes(missing, prompt, generated);
        self.put(record, reading, missing, &rough, observed.model_behind);
        Some(missing)
    }

    /// Puts estimates into the row, and prices what comes of it.
    fn put(
        &self,
        record: &mut Record,
        reading: &Reading,
        missing: Missing,
        estimates: &Estimates,
        model_behind: Option<&str>,
    ) {
        let mut usage = reading.usage.clone();
        record.estimate = estimating::apply(&mut usage, missing, estimates);
        let source = match (&record.estimate, &reading.usage_json) {
            (Some(_), _) => UsageSource::Estimated,
            (None, Some(_)) => UsageSource::Reported,
            (None, None) => UsageSource::None,
        };
        record.set_usage(&usage, source);
        charging::charge(&self.prices.load(), record, reading, &usage, model_behind);
    }

    /// Makes the estimate that a row waits for.
    fn settle(&self, mut unsettled: Unsettled) {
        let record = &mut unsettled.record;
        let behind = unsettled.model_behind.as_deref();
        let model = subject_model(record, behind);
        let (provider, endpoint) = (record.provider.clone(), record.endpoint.clone());
        let subject = Subject { provider: &provider, endpoint: &endpoint, model: &model };
        let (missing, prompt) = (unsettled.missing, unsettled.prompt);
        let finish_reason = unsettled.reading.finish_reason.as_deref();
        let mut estimates =
            estimating::estimates(&subject, missing, prompt, &unsettled.generated, finish_reason);
        for (side, estimate) in
            [(Side::Input, &mut estimates.input), (Side::Output, &mut estimates.output)]
        {
            if let Some(estimate) = estimate {
                self.learner.correct(&subject, side, estimate);
            }
        }
        self.put(record, &unsettled.reading, missing, &estimates, behind);
        self.clerk.amend(unsettled.record);
    }

    /// Compares an estimate with the usage that was reported, and keeps what it teaches.
    fn check(&self, sample: Sample) {
        for calibration in self.learner.check(sample) {
            self.clerk.learn(calibration);
        }
    }
}

/// Runs what looks at a call. Should it panic, against all intent, the call and its row go on without
/// it: `None`.
pub fn guarded<T>(look: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(look)).ok()
}

/// The model by which a call is estimated: the one that answered, unless its name says nothing and
/// another's does. Empty if there is none.
fn subject_model(record: &Record, behind: Option<&str>) -> String {
    let names = [record.model.as_deref(), behind, record.model_requested.as_deref()];
    let names = names.into_iter().flatten();
    let mut known = names.clone().filter(|name| estimate::knows(name));
    known.next().or_else(|| names.clone().next()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_while_it_looks_says_nothing_and_harms_nothing() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u32 { panic!("on purpose, in a test") }), None);
    }
}
