//! What reported usage teaches about the estimates of a model. Owns how a deviation that keeps coming
//! back corrects later estimates, and which error is left to be expected.
//!
//! Two corrections compete with none at all: a number of tokens to be added (text that the provider
//! puts into every prompt) and a factor (a vocabulary that differs). Each is judged by what it would
//! have said before it knew; the best one is used, and only if it is clearly better than none.

use serde::{Deserialize, Serialize};

/// Samples before a correction is used.
const ENOUGH: u64 = 3;

/// Samples over which the averages run: later ones replace earlier ones, as models change.
const MEMORY: u64 = 50;

/// A correction has to make the error at least this much smaller.
const CLEARLY: f64 = 0.8;

/// Samples that what was known beforehand about the error is worth.
const PRIOR: f64 = 4.0;

/// Prompts above this length say little about a constant difference, those below little about a
/// factor.
const MEDIUM: f64 = 200.0;

/// A single comparison counts as no worse than this, so that one strange call does not rule.
const WORST: f64 = 2.0;

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Input,
    Output,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// What is known of one model's estimates, on one side. Kept in the database, so that it survives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub provider: String,
    pub model: String,
    pub side: Side,
    /// Calls that were compared.
    pub samples: u64,
    /// Reported over estimated, less one: 0.03 says that the uncorrected estimates are 3 % too low.
    pub bias: f64,
    /// The mean absolute error of corrected estimates, as a share: 0.02 is 2 %.
    pub error: f64,
    pub corrections: Corrections,
}

/// The corrections that compete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Corrections {
    /// Tokens by which uncorrected estimates fall short.
    pub offset: f64,
    /// Reported over estimated.
    pub ratio: f64,
    /// The mean absolute error without correction, with the offset, with the ratio.
    pub errors: [f64; 3],
}

impl Default for Corrections {
    fn default() -> Corrections {
        Corrections { offset: 0.0, ratio: 1.0, errors: [0.0; 3] }
    }
}

impl Calibration {
    pub fn new(provider: &str, model: &str, side: Side) -> Calibration {
        Calibration {
            provider: provider.to_owned(),
            model: model.to_owned(),
            side,
            samples: 0,
            bias: 0.0,
            error: 0.0,
            corrections: Corrections::default(),
        }
    }

    /// Learns from a call: its uncorrected estimate and what was reported, in tokens.
    pub fn learn(&mut self, estimated: u64, reported: u64) {
        let (estimated, reported) = (float(estimated.max(1)), float(reported.max(1)));
        self.samples += 1;
        let weight = 1.0 / float(self.samples.min(MEMORY));
        let said = self.candidates(estimated);
        for (mean, said) in self.corrections.errors.iter_mut().zip(said) {
            let error = ((said - reported).abs() / reported).min(WORST);
            *mean += weight * (error - *mean);
        }
        self.bias += weight * (reported / estimated - 1.0 - self.bias);
        let for_offset = weight * (MEDIUM / estimated).min(1.0);
        let offset = &mut self.corrections.offset;
        *offset += for_offset * (reported - estimated - *offset);
        let for_ratio = weight * (estimated / MEDIUM).min(1.0);
        let ratio = &mut self.corrections.ratio;
        *ratio += for_ratio * (reported / estimated - *ratio);
        self.error = self.corrections.errors[self.best()];
    }

    /// The corrected estimate, in tokens. What is not nothing does not become nothing.
    pub fn corrected(&self, estimated: u64) -> u64 {
        if self.best() == 0 || estimated == 0 {
            return estimated;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let tokens = self.candidates(float(estimated))[self.best()].round() as u64;
        tokens.max(1)
    }

    /// The error to be expected of a corrected estimate, given what was said of it beforehand.
    pub fn expected_error(&self, beforehand: f64) -> f64 {
        let samples = float(self.samples.min(MEMORY));
        (beforehand * PRIOR + self.error * samples) / (PRIOR + samples)
    }

    /// What each correction makes of an estimate.
    fn candidates(&self, estimated: f64) -> [f64; 3] {
        let Corrections { offset, ratio, .. } = self.corrections;
        [estimated, (estimated + offset).max(0.0), estimated * ratio]
    }

    /// Which correction is used.
    fn best(&self) -> usize {
        let [none, offset, ratio] = self.corrections.errors;
        let best = if offset <= ratio { 1 } else { 2 };
        let is_clear = self.corrections.errors[best] < none * CLEARLY;
        if self.samples >= ENOUGH && is_clear { best } else { 0 }
    }
}

/// Counts of tokens are far below what a float holds exactly.
#[expect(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(pairs: impl IntoIterator<Item = (u64, u64)>) -> Calibration {
        let mut calibration = Calibration::new("p", "m", Side::Input);
        pairs.into_iter().for_each(|(estimated, reported)| calibration.learn(estimated, reported));
        calibration
    }

    #[test]
    fn hidden_text_is_learnt_as_an_offset_and_does_not_inflate_long_prompts() {
        let sizes = [20, 900, 60, 3_000, 35, 150, 12_000, 40];
        let calibration = learnt(sizes.iter().map(|size| (*size, size + 680)));
        let long = calibration.corrected(100_000);
        assert!(long < 102_000, "{long}");
        let short = calibration.corrected(30);
        assert!((600..800).contains(&short), "{short}");
    }

    #[test]
    fn another_vocabulary_is_learnt_as_a_factor() {
        let sizes = [200, 900, 600, 3_000, 350, 1_500, 12_000, 400];
        let calibration = learnt(sizes.iter().map(|size| (*size, size * 13 / 10)));
        let tokens = calibration.corrected(10_000);
        assert!((12_500..13_500).contains(&tokens), "{tokens}");
        assert!((calibration.bias - 0.3).abs() < 0.02);
        assert!(calibration.error < 0.1, "{}", calibration.error);
    }

    #[test]
    fn noise_and_few_samples_change_nothing() {
        let noise = learnt([(100, 104), (100, 97), (100, 101), (100, 98), (100, 102)]);
        assert_eq!(noise.corrected(1000), 1000);
        assert_eq!(learnt([(100, 200), (100, 200)]).corrected(1000), 1000);
    }

    #[test]
    fn the_expected_error_comes_from_experience() {
        assert!((learnt([]).expected_error(0.1) - 0.1).abs() < 1e-9);
        let exact = learnt([(100, 100); 50]);
        assert!(exact.expected_error(0.1) < 0.01);
    }
}
