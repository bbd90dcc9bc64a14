//! The estimator checked against reported usage. Owns which calls are compared and what was learnt
//! of each model since the ledger began.
//!
//! Invariant: a small sample. The first calls of a model, then few; never one whose body is large.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::capture::Prompt;
use super::estimating::{self, Estimates, Missing};
use super::{Observed, subject_model};
use crate::estimate::{Calibration, Estimate, Side, Subject, Unseen};
use crate::provider::Generated;
use crate::record::{Outcome, Record};
use crate::usage::{Usage, UsageSource};

/// Calls of a model that are all compared.
const FIRST: u64 = 16;

/// Afterwards one in so many, and no more than one in so long: to count the tokens of a call costs more than
/// to forward it.
const THEN: u64 = 64;
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a request's body that are still compared.
const MAX_BODY: u64 = 512 * 1024;

/// Models of which something is remembered. A client can make up names.
const MAX_MODELS: usize = 2_000;

#[derive(Debug, Default)]
pub(super) struct Learner {
    /// By a hash of provider and model: asked for at every call.
    calls: Mutex<HashMap<u64, Counted>>,
    hasher: RandomState,
    lessons: Mutex<HashMap<Key, Lesson>>,
}

/// How many calls of a model there were, and when one was compared that was not among the first.
#[derive(Debug, Default)]
struct Counted {
    count: u64,
    compared: Option<Instant>,
}

/// Provider and model.
type Key = (String, String);

#[derive(Debug, Default)]
struct Lesson {
    input: Option<Calibration>,
    output: Option<Calibration>,
}

impl Lesson {
    fn side(&mut self, side: Side) -> &mut Option<Calibration> {
        match side {
            Side::Input => &mut self.input,
            Side::Output => &mut self.output,
        }
    }
}

/// A call to be compared.
pub(super) struct Sample {
    provider: String,
    endpoint: String,
    model: String,
    prompt: Prompt,
    pub(super) generated: Generated,
    usage: Usage,
}

impl Learner {
    pub(super) fn new(known: Vec<Calibration>) -> Learner {
        let learner = Learner::default();
        for calibration in known {
            let Calibration { provider, model, side, samples, .. } = &calibration;
            let hash = learner.hasher.hash_one((provider, model));
            let mut calls = learner.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = calls.entry(hash).or_default();
            counted.count = counted.count.max(*samples);
            drop(calls);
            let (key, side) = ((provider.clone(), model.clone()), *side);
            *learner.lessons().entry(key).or_default().side(side) = Some(calibration);
        }
        learner
    }

    /// True if a call of this model is to be compared.
    fn is_its_turn(&self, provider: &str, model: &str) -> bool {
        let hash = self.hasher.hash_one((provider, model));
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= MAX_MODELS && !calls.contains_key(&hash) {
            return false;
        }
        let of_model = calls.entry(hash).or_default();
        of_model.count += 1;
        if of_model.count <= FIRST {
            return true;
        }
        let is_due = of_model.count.is_multiple_of(THEN)
            && of_model.compared.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_due {
            of_model.compared = Some(Instant::now());
        }
        is_due
    }

    /// The call as a sample, if it is one to learn from and its turn has come.
    pub(super) fn sample(&self, record: &Record, observed: Observed<'_>) -> Option<Sample> {
        let is_whole = record.usage_source == UsageSource::Reported
            && record.outcome == Outcome::Completed
            && record.status == Some(200)
            && observed.reading.error.is_none();
        let prompt = observed.prompt.filter(|prompt| prompt.len() <= MAX_BODY)?;
        if !is_whole || observed.reading.batch {
            return None;
        }
        // By the name that is at hand: what the model is takes a look at every name there is.
        let named = record.model.as_deref().or(record.model_requested.as_deref())?;
        if !self.is_its_turn(&record.provider, named) {
            return None;
        }
        let model = subject_model(record, observed.model_behind);
        Some(Sample {
            provider: record.provider.clone(),
            endpoint: record.endpoint.clone(),
            model,
            prompt,
            generated: observed.generated,
            usage: observed.reading.usage.clone(),
        })
    }

    /// Compares, and says what is known now.
    pub(super) fn check(&self, sample: Sample) -> Vec<Calibration> {
        let Sample { provider, endpoint, model, prompt, generated, usage } = sample;
        let subject = Subject { provider: &provider, endpoint: &endpoint, model: &model };
        let both = Missing { input: true, output: true, ..Missing::default() };
        let Estimates { input, output } =
            estimating::estimates(&subject, both, Some(prompt), &generated, None);
        let input = input.filter(|input| input.unseen.is_empty());
        // Reasoning that is not shown is known here, and not to be learnt as an error.
        let hidden = usage.reasoning.unwrap_or(0);
        let comparable = |output: &Estimate| {
            output.unseen.is_empty() || (output.unseen == [Unseen::Reasoning] && hidden > 0)
        };
        let reported_output = usage.output.map(|output| {
            let shows = output_has_reasoning(&generated);
            if shows { output } else { output.saturating_sub(hidden) }
        });
        let pairs = [
            (Side::Input, input, usage.input),
            (Side::Output, output.filter(comparable), reported_output),
        ];
        let compared = pairs.into_iter().filter_map(|(side, estimate, reported)| {
            Some(self.learn(&subject, side, estimate?.tokens, reported.filter(|n| *n > 0)?))
        });
        compared.collect()
    }

    fn learn(
        &self,
        subject: &Subject<'_>,
        side: Side,
        estimated: u64,
        reported: u64,
    ) -> Calibration {
        let mut lessons = self.lessons();
        let key = (subject.provider.to_owned(), subject.model.to_owned());
        let known = lessons.entry(key).or_default().side(side);
        let calibration =
            known.get_or_insert_with(|| Calibration::new(subject.provider, subject.model, side));
        calibration.learn(estimated, reported);
        calibration.clone()
    }

    /// Corrects an estimate by what is known of its model.
    pub(super) fn correct(&self, subject: &Subject<'_>, side: Side, estimate: &mut Estimate) {
        let mut lessons = self.lessons();
        let key = (subject.provider.to_owned(), subject.model.to_owned());
        let Some(calibration) = lessons.get_mut(&key).and_then(|l| l.side(side).as_ref()) else {
            return;
        };
        // Media are counted by rules of their own; what was learnt of text is not about them.
        let text =
            estimate.tokens - estimate.image.saturating_add(estimate.audio).min(estimate.tokens);
        estimate.tokens = estimate.tokens - text + calibration.corrected(text);
        estimate.error = calibration.expected_error(estimate.error);
    }

    fn lessons(&self) -> MutexGuard<'_, HashMap<Key, Lesson>> {
        self.lessons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if the answer shows the reasoning that is billed.
fn output_has_reasoning(generated: &Generated) -> bool {
    generated.segments().iter().any(|segment| segment.kind == crate::provider::Kind::Reasoning)
}
