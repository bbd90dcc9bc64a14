//! How often something took how long. Owns the bounds of the buckets; knows nothing of what was measured.

use crate::record::SECONDS_PER_OUTPUT_TOKEN;

/// Where buckets end, in seconds. The last one has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Whole calls: those that OpenTelemetry advises, and three more for models that think long.
    Duration,
    /// The first byte or token: those that OpenTelemetry advises, from 10 ms (rows have whole
    /// milliseconds), and two more.
    First,
    /// One token.
    PerToken,
    /// Our own part of a call.
    Own,
}

impl Buckets {
    /// Ascending.
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Buckets::Duration => &[
                0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96,
                81.92, 163.84, 327.68, 655.36,
            ],
            Buckets::First => &[
                0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0,
                60.0,
            ],
            Buckets::PerToken => &SECONDS_PER_OUTPUT_TOKEN,
            Buckets::Own => &[
                0.000_01, 0.000_02, 0.000_04, 0.000_08, 0.000_16, 0.000_32, 0.000_64, 0.001_28,
                0.002_56, 0.01, 0.1, 1.0,
            ],
        }
    }

    /// The bucket that a number of seconds falls into: one more than there are bounds.
    pub(super) fn place(self, seconds: f64) -> usize {
        self.bounds().partition_point(|bound| *bound < seconds)
    }
}

/// A histogram in the making.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub buckets: Buckets,
    /// One for each bound, and one for what is beyond.
    pub(super) counts: Vec<u64>,
    /// Seconds.
    pub sum: f64,
}

impl Histogram {
    pub(super) fn new(buckets: Buckets) -> Histogram {
        Histogram { buckets, counts: vec![0; buckets.bounds().len() + 1], sum: 0.0 }
    }

    pub(super) fn observe(&mut self, seconds: f64) {
        self.counts[self.buckets.place(seconds)] += 1;
        self.sum += seconds;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's end, the last one's infinite, and how many are in it.
    pub fn counted(&self) -> impl Iterator<Item = (f64, u64)> {
        let ends = self.buckets.bounds().iter().copied().chain([f64::INFINITY]);
        ends.zip(self.counts.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_its_end_within() {
        let mut histogram = Histogram::new(Buckets::Duration);
        for seconds in [0.0, 0.01, 0.010_001, 655.36, 656.0] {
            histogram.observe(seconds);
        }
        let counted: Vec<(f64, u64)> =
            histogram.counted().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0.01, 2), (0.02, 1), (655.36, 1), (f64::INFINITY, 1)]);
        assert_eq!(histogram.count(), 5);
    }

    #[test]
    fn bounds_ascend() {
        for buckets in [Buckets::Duration, Buckets::First, Buckets::PerToken, Buckets::Own] {
            assert!(buckets.bounds().is_sorted(), "{buckets:?}");
        }
    }
}
