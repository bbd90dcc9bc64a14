//! Chance: the distributions that calls follow, all from one seed. Owns the only place where floats
//! become counts; knows nothing of calls.
//!
//! Invariant: one seed, one sequence.

use fastrand::Rng;
use uuid::Builder;

const HEX: &[u8; 16] = b"0123456789abcdef";
const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The denominator of [`Dice::chance`].
pub(super) const WHOLE: u32 = 100_000;

/// What decides.
#[derive(Clone, Debug)]
pub(super) struct Dice(Rng);

impl Dice {
    /// The dice number `stream` of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Dice {
        // Neighbouring seeds must not begin alike.
        Dice(Rng::with_seed(seed ^ stream.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// From 0 to below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    /// The same as an index.
    pub(super) fn index(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// True so many times of [`WHOLE`].
    pub(super) fn chance(&mut self, times: u32) -> bool {
        self.0.u32(..WHOLE) < times
    }

    /// From 0 to below 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0.f64()
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// One of several, as often as its weight says. The weights do not add up to 0.
    pub(super) fn weighted<'a, T>(&mut self, among: &'a [(u64, T)]) -> &'a T {
        let mut left = self.below(among.iter().map(|(weight, _)| weight).sum());
        for (weight, thing) in among {
            if left < *weight {
                return thing;
            }
            left -= weight;
        }
        unreachable!("what is below the sum of the weights falls into one of them")
    }

    /// A log-normal figure: half of them are below `median`, two thirds within a factor of
    /// `exp(spread)`.
    pub(super) fn about(&mut self, median: f64, spread: f64) -> f64 {
        median * (self.normal() * spread).exp()
    }

    /// The same as a count of at least 1.
    pub(super) fn count(&mut self, median: f64, spread: f64) -> u64 {
        whole(self.about(median, spread)).max(1)
    }

    /// Nearly normal: the sum of four even numbers from one draw, and so never beyond 3.5 deviations.
    fn normal(&mut self) -> f64 {
        let bits = self.0.u64(..);
        let parts = [0, 16, 32, 48].map(|shift| (bits >> shift) & 0xffff);
        (real(parts.iter().sum()) / 65_536.0 - 2.0) * 1.732
    }

    /// So many times 16 hexadecimal digits behind `to`.
    pub(super) fn hex(&mut self, words: usize, to: &mut String) {
        for _ in 0..words {
            let bits = self.bits();
            to.extend((0..16).map(|at| letter(HEX, bits >> (4 * at))));
        }
    }

    /// So many digits and letters behind `to`.
    pub(super) fn alphanumeric(&mut self, letters: usize, to: &mut String) {
        let mut left = letters;
        while left > 0 {
            let mut bits = self.bits();
            for _ in 0..left.min(10) {
                to.push(letter(ALPHANUMERIC, bits % 62));
                bits /= 62;
            }
            left -= left.min(10);
        }
    }

    /// A random UUID.
    pub(super) fn uuid(&mut self) -> String {
        let bits = u128::from(self.bits()) << 64 | u128::from(self.bits());
        Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    }
}

fn letter(alphabet: &[u8], at: u64) -> char {
    let length = alphabet.len() as u64;
    usize::try_from(at % length).map_or('0', |at| char::from(alphabet[at]))
}

/// Counts here are far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// The nearest count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates at both ends
pub(super) fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

/// Milliseconds, which stay below 2⁵³ for thousands of centuries.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn millis(figure: f64) -> i64 {
    figure as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_lie_around_their_median() {
        let mut dice = Dice::new(7, 0);
        let mut drawn: Vec<u64> = (0..10_001).map(|_| dice.count(1000.0, 0.5)).collect();
        drawn.sort_unstable();
        assert!((960..1040).contains(&drawn[5000]), "{}", drawn[5000]);
        let within = drawn.iter().filter(|count| (607..1648).contains(*count)).count();
        assert!((6400..7200).contains(&within), "{within}");
    }

    #[test]
    fn weights_and_lengths_are_kept() {
        let mut dice = Dice::new(1, 2);
        let heads = (0..10_000).filter(|_| *dice.weighted(&[(3, true), (1, false)])).count();
        assert!((7300..7700).contains(&heads), "{heads}");
        let mut text = String::new();
        dice.hex(2, &mut text);
        dice.alphanumeric(24, &mut text);
        assert_eq!(text.len(), 56);
        assert_eq!(Dice::new(1, 2).bits(), Dice::new(1, 2).bits());
        assert_ne!(Dice::new(1, 2).bits(), Dice::new(1, 3).bits());
    }
}
