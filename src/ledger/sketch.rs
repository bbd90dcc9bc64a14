//! Durations counted in buckets. Owns where a bucket begins and ends, and counts that can be added up
//! and taken back; knows nothing of calls.
//!
//! Invariant: a bucket's middle is within half a percent of each of its values, and values below 256
//! are exact. What is subtracted after it was added leaves no trace.

/// Buckets per power of two: a bucket is at most 1/128 as wide as its values are large.
const SUB_BUCKETS_LOG2: u32 = 7;

/// More than any bucket's number: `u64::MAX` is in the last one.
pub(super) const BUCKETS: usize = (56 << SUB_BUCKETS_LOG2) + 256;

/// Buckets that are kept as a list; more become an array, which is faster. So many groups of few calls
/// take 16 bytes a call, and an array's 10 KB are a small part of what its calls took.
const FEW: usize = 128;

/// An array grows by this many buckets: those of a power of two.
const PAGE: usize = 1 << SUB_BUCKETS_LOG2;

/// Counts that are added up at a time.
const BLOCK: usize = 64;

/// The bucket of a value: values below 256 have one each, above there are 128 to a power of two.
pub(super) fn bucket(value: u64) -> usize {
    let shift = value.checked_ilog2().unwrap_or_default().saturating_sub(SUB_BUCKETS_LOG2);
    // At most 56 × 128 + 255.
    usize::try_from((u64::from(shift) << SUB_BUCKETS_LOG2) + (value >> shift)).unwrap_or_default()
}

/// The value in the middle of a bucket.
pub(super) fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> SUB_BUCKETS_LOG2).saturating_sub(1);
    let lowest = (bucket - (shift << SUB_BUCKETS_LOG2)) << shift;
    lowest + ((1 << shift) >> 1)
}

/// How many values fall into each bucket. A count may be negative, until what it was taken from is
/// added.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    /// Buckets and counts by number, none of them 0; empty once there is an array.
    few: Vec<(usize, i64)>,
    /// The bucket that the array begins with.
    base: usize,
    many: Vec<i64>,
    /// An array from the beginning.
    wide: bool,
}

impl Sketch {
    /// For very many values: larger, and faster to add to.
    pub(super) fn wide() -> Sketch {
        Sketch { wide: true, ..Sketch::default() }
    }

    /// Counts `count` more values in a bucket, which must be below [`BUCKETS`].
    #[inline]
    pub(super) fn add(&mut self, bucket: usize, count: i64) {
        debug_assert!(bucket < BUCKETS, "bucket {bucket}");
        if let Some(sum) = self.many.get_mut(bucket.wrapping_sub(self.base)) {
            *sum = sum.wrapping_add(count);
        } else if self.many.is_empty() && !self.wide {
            self.add_to_few(bucket, count);
        } else {
            self.add_to_many(bucket, count);
        }
    }

    /// The counts that are not 0, by bucket.
    pub(super) fn counts(&self) -> impl Iterator<Item = (usize, i64)> {
        let many = (self.base..).zip(self.many.iter().copied());
        self.few.iter().copied().chain(many.filter(|(_, count)| *count != 0))
    }

    /// Counts all that another one has.
    pub(super) fn merge(&mut self, other: &Sketch) {
        other.few.iter().for_each(|(bucket, count)| self.add(*bucket, *count));
        if other.many.is_empty() {
            return;
        }
        for (bucket, count) in std::mem::take(&mut self.few) {
            self.add_to_many(bucket, count);
        }
        self.add_to_many(other.base, 0);
        self.add_to_many(other.base + other.many.len() - 1, 0);
        let there = &mut self.many[other.base - self.base..];
        for (sum, count) in there.iter_mut().zip(&other.many) {
            *sum = sum.wrapping_add(*count);
        }
    }

    /// For each of some percentages, the smallest value that at least so many of all do not exceed.
    pub(super) fn percentiles<const N: usize>(&self, percents: [u64; N]) -> [Option<u64>; N] {
        let few = self.few.iter().map(|(bucket, count)| (*bucket, std::slice::from_ref(count)));
        let blocks = (self.base..).step_by(BLOCK).zip(self.many.chunks(BLOCK));
        let blocks = || few.clone().chain(blocks.clone());
        let total: u128 = blocks().map(|(_, counts)| sum(counts)).sum();
        percents.map(|percent| {
            let rank = (total * u128::from(percent)).div_ceil(100).max(1);
            reached(rank, blocks())
        })
    }

    fn add_to_few(&mut self, bucket: usize, count: i64) {
        let at = self.few.partition_point(|(at, _)| *at < bucket);
        if let Some((found, sum)) = self.few.get_mut(at)
            && *found == bucket
        {
            *sum = sum.wrapping_add(count);
            if *sum == 0 {
                self.few.remove(at);
            }
        } else if self.few.len() < FEW {
            if count != 0 {
                self.few.insert(at, (bucket, count));
            }
        } else {
            for (bucket, count) in std::mem::take(&mut self.few) {
                self.add_to_many(bucket, count);
            }
            self.add_to_many(bucket, count);
        }
    }

    fn add_to_many(&mut self, bucket: usize, count: i64) {
        if let Some(sum) = self.many.get_mut(bucket.wrapping_sub(self.base)) {
            *sum = sum.wrapping_add(count);
            return;
        }
        let page = bucket - bucket % PAGE;
        if self.many.is_empty() {
            self.base = page;
        } else if page < self.base {
            let before = self.base - page;
            self.many.splice(0..0, std::iter::repeat_n(0, before));
            self.base = page;
        }
        let end = (page + PAGE - self.base).max(self.many.len());
        self.many.resize(end, 0);
        self.many[bucket - self.base] = count;
    }
}

/// The value that the count of so many is in.
fn reached<'a>(rank: u128, blocks: impl Iterator<Item = (usize, &'a [i64])>) -> Option<u64> {
    let mut seen = 0;
    for (first, counts) in blocks {
        let after = seen + sum(counts);
        if after >= rank {
            let reached = (first..).zip(counts).find(|(_, count)| {
                seen += sum(std::slice::from_ref(*count));
                seen >= rank
            });
            return reached.map(|(bucket, _)| middle(bucket));
        }
        seen = after;
    }
    None
}

/// The sum of the counts that are above 0, in two halves: so it is one instruction for several of them.
fn sum(counts: &[i64]) -> u128 {
    let (low, high) = counts.iter().fold((0_u64, 0_u64), |(low, high), count| {
        let count = (*count).max(0).unsigned_abs();
        (low + (count & u64::from(u32::MAX)), high + (count >> 32))
    });
    (u128::from(high) << 32) + u128::from(low)
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Sketch) -> bool {
        self.counts().eq(other.counts())
    }
}

impl Eq for Sketch {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_within_half_a_percent(value in any::<u64>()) {
            let middle = middle(bucket(value));
            prop_assert!(middle.abs_diff(value) <= value / 250, "{value} -> {middle}");
        }

        #[test]
        fn a_sketch_counts_as_a_map_does(
            steps in proptest::collection::vec((0..BUCKETS, -3..4_i64), 0..400),
            wide in any::<bool>(),
        ) {
            let (mut sketch, mut map) = (Sketch { wide, ..Sketch::default() }, BTreeMap::new());
            for (bucket, count) in &steps {
                sketch.add(*bucket, *count);
                *map.entry(*bucket).or_insert(0) += count;
            }
            map.retain(|_, count| *count != 0);
            prop_assert!(sketch.counts().eq(map), "{sketch:?}");
            for (bucket, count) in steps {
                sketch.add(bucket, -count);
            }
            prop_assert_eq!(sketch, Sketch::default());
        }
    }

    proptest! {
        #[test]
        fn what_is_merged_is_what_is_added(
            parts in proptest::collection::vec(
                (proptest::collection::vec((0..BUCKETS, -3..900_i64), 0..300), any::<bool>()), 2..4,
            ),
        ) {
            let (mut merged, mut added) = (Sketch::default(), Sketch::default());
            for (steps, wide) in parts {
                let mut part = Sketch { wide, ..Sketch::default() };
                for (bucket, count) in steps {
                    part.add(bucket, count);
                    added.add(bucket, count);
                }
                merged.merge(&part);
            }
            prop_assert_eq!(merged.percentiles([50, 95]), added.percentiles([50, 95]));
            prop_assert_eq!(merged, added);
        }

        #[test]
        fn percentiles_are_those_of_a_list(values in proptest::collection::vec(0..256_u64, 1..600)) {
            let mut sketch = Sketch::default();
            for value in &values {
                sketch.add(bucket(*value), 1);
            }
            let mut values = values;
            values.sort_unstable();
            for percent in [1, 50, 95, 100] {
                let rank = (values.len() * percent).div_ceil(100).max(1);
                prop_assert_eq!(sketch.percentiles([percent as u64])[0], Some(values[rank - 1]));
            }
        }
    }

    #[test]
    fn the_largest_value_has_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.percentiles([50])[0], None);
        (1..=200).for_each(|value| sketch.add(bucket(value), 1));
        assert_eq!(sketch.percentiles([50, 95]), [Some(100), Some(190)]);
        sketch.add(5, i64::MAX - 1);
        sketch.add(6, i64::MAX - 1);
        assert_eq!(sketch.percentiles([50])[0], Some(6), "far more than there are calls");
    }
}
