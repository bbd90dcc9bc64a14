//! What counters have too much, after rows were corrected to less. A counter cannot be taken back, so it is set
//! off against what comes later. Owns that; knows nothing of what is counted.
//!
//! Invariant: a counter and what it owes are together what rows add up to, as long as not too many counters owe.

use std::collections::HashMap;
use std::ops::{Add, Sub};

use opentelemetry::KeyValue;

/// Sets of attributes that can owe: as many as the SDK keeps of an instrument.
const MOST: usize = 2000;

/// Of one instrument, by its attributes.
#[derive(Debug, Default)]
pub(super) struct Owed<N>(HashMap<Vec<KeyValue>, N>);

/// An amount with its attributes.
pub(super) type Part<N> = (Vec<KeyValue>, N);

impl<N: Copy + Default + Ord + Add<Output = N> + Sub<Output = N>> Owed<N> {
    /// What there is to count of an amount.
    pub(super) fn settle(&mut self, attributes: &[KeyValue], amount: N) -> N {
        let Some(owed) = self.0.get_mut(attributes) else { return amount };
        if *owed > amount {
            *owed = *owed - amount;
            return N::default();
        }
        let more = amount - *owed;
        self.0.remove(attributes);
        more
    }

    /// What there is to count where a row has other parts than before.
    pub(super) fn correct(&mut self, before: &[Part<N>], after: Vec<Part<N>>) -> Vec<Part<N>> {
        let nothing = N::default();
        for (attributes, amount) in before.iter().filter(|(_, amount)| *amount > nothing) {
            let owed = self.0.entry(attributes.clone()).or_default();
            *owed = *owed + *amount;
        }
        let mut more = after;
        for (attributes, amount) in &mut more {
            *amount = self.settle(attributes, *amount);
        }
        more.retain(|(_, amount)| *amount > nothing);
        if self.0.len() > MOST {
            // These stay too high.
            for (attributes, _) in before {
                self.0.remove(attributes);
            }
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(model: usize) -> Vec<KeyValue> {
        vec![KeyValue::new("model", model.to_string())]
    }

    #[test]
    fn what_was_too_much_is_made_up_for_by_the_same_set() {
        let mut owed: Owed<u64> = Owed::default();
        assert_eq!(owed.settle(&set(1), 100), 100);
        assert_eq!(owed.correct(&[(set(1), 100)], vec![(set(1), 70)]), []);
        assert_eq!(owed.settle(&set(2), 10), 10);
        assert_eq!(owed.settle(&set(1), 20), 0);
        assert_eq!(owed.settle(&set(1), 20), 10);
        assert_eq!(owed.settle(&set(1), 20), 20);
        // To another set.
        assert_eq!(owed.correct(&[(set(1), 20)], vec![(set(2), 25)]), [(set(2), 25)]);
        assert_eq!(owed.correct(&[(set(2), 25)], vec![(set(1), 25)]), [(set(1), 5)]);
        assert_eq!((owed.0.len(), owed.0[&set(2)]), (1, 25));
    }

    #[test]
    fn they_are_bounded_and_nothing_counts_twice() {
        let mut owed: Owed<u64> = Owed::default();
        for model in 0..MOST + 100 {
            assert_eq!(owed.correct(&[(set(model), 2)], vec![(set(model), 1)]), []);
        }
        assert_eq!(owed.0.len(), MOST);
        assert_eq!(owed.correct(&[(set(MOST + 1), 2)], vec![(set(MOST + 1), 5)]).len(), 1);
        assert_eq!(owed.correct(&[(set(MOST + 1), 2)], vec![(set(MOST + 1), 5)])[0].1, 3);
    }
}
