//! Text of models whose vocabularies are not ours to hold. Owns how the count by a published
//! vocabulary becomes another's: a ratio, and charges for what the vocabularies treat differently.
//! Knows no model; the families' files hold the weights.
//!
//! What differs was found by fitting recorded answers: most open vocabularies grew out of cl100k and
//! count Latin text and code like it; some give every digit a token of its own; smaller ones cut long
//! and rare words, accents and emoji into more pieces.

use super::text::Encoding;

/// What a family's vocabulary charges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// The vocabulary that is nearest, for text in Latin letters and for code.
    pub(super) vocabulary: Encoding,
    /// Per token of that vocabulary.
    pub(super) ratio: f64,
    /// Per token of o200k, for text that is mostly in other letters.
    pub(super) foreign: f64,
    /// Per digit beyond one token for every three.
    pub(super) digit: f64,
    /// Per number.
    pub(super) number: f64,
    /// Per letter of a word beyond the sixth.
    pub(super) long: f64,
    /// Per character from U+0080 to U+024F.
    pub(super) accent: f64,
    /// Per capital beyond the third of a row of them.
    pub(super) capital: f64,
    /// Per character from U+2000 on that is no letter: dashes, arrows, emoji.
    pub(super) symbol: f64,
}

impl Weights {
    /// A vocabulary that counts like a published one.
    pub(super) const fn like(vocabulary: Encoding, ratio: f64) -> Weights {
        Weights {
            vocabulary,
            ratio,
            foreign: 1.1,
            digit: 0.0,
            number: 0.0,
            long: 0.0,
            accent: 0.0,
            capital: 0.0,
            symbol: 0.0,
        }
    }

    /// The same, with a charge for every digit beyond one token for three.
    pub(super) const fn digits(self, digit: f64) -> Weights {
        Weights { digit, ..self }
    }

    /// The same, with a charge for words in capitals.
    pub(super) const fn capitals(self, capital: f64) -> Weights {
        Weights { capital, ..self }
    }

    /// The tokens of a text; fractions stand until the end of the sum.
    pub(super) fn text(&self, text: &str) -> f64 {
        if text.is_empty() {
            return 0.0;
        }
        let marks = Marks::of(text);
        let digits = self.digit * real(marks.digits);
        if marks.foreign * 8 > marks.characters {
            return self.foreign * real(Encoding::O200k.count(text)) + digits;
        }
        self.ratio * real(self.vocabulary.count(text))
            + digits
            + self.number * real(marks.numbers)
            + self.long * real(marks.long)
            + self.accent * real(marks.accents)
            + self.capital * real(marks.capitals)
            + self.symbol * real(marks.symbols)
    }
}

/// A number to be multiplied by a weight.
#[expect(clippy::cast_precision_loss, reason = "no text has 2^53 tokens")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// How often a text holds what vocabularies treat differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    characters: u64,
    /// Letters beyond U+024F.
    foreign: u64,
    digits: u64,
    numbers: u64,
    long: u64,
    accents: u64,
    capitals: u64,
    symbols: u64,
}

impl Marks {
    fn of(text: &str) -> Marks {
        let mut marks = Marks::default();
        let (mut letters, mut capitals, mut digits) = (0_u64, 0_u64, 0_u64);
        for character in text.chars() {
            marks.characters += 1;
            letters = if character.is_ascii_alphabetic() { letters + 1 } else { 0 };
            digits = if character.is_ascii_digit() { digits + 1 } else { 0 };
            capitals = if character.is_ascii_uppercase() { capitals + 1 } else { 0 };
            marks.capitals += u64::from(capitals > 3);
            marks.long += u64::from(letters > 6);
            marks.numbers += u64::from(digits == 1);
            // The first, fourth, seventh digit begin a token of the published vocabularies.
            marks.digits += u64::from(digits > 0 && digits % 3 != 1);
            match character {
                '\0'..='\u{7f}' => {}
                '\u{80}'..='\u{24f}' => marks.accents += 1,
                _ if character.is_alphabetic() => marks.foreign += 1,
                '\u{2000}'.. => marks.symbols += 1,
                _ => {}
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vocabularies_treat_differently_is_counted() {
        let marks = Marks::of("2024 élan vital, extraordinary 👋 да 7 NATO");
        let expected = Marks {
            characters: 42,
            foreign: 2,
            digits: 2,
            numbers: 2,
            long: 7,
            accents: 1,
            capitals: 1,
            symbols: 1,
        };
        assert_eq!(marks, expected);
    }

    #[test]
    fn digits_cost_one_by_one_where_the_vocabulary_says_so() {
        let grouped = Weights::like(Encoding::Cl100k, 1.0);
        assert!((grouped.text("123456") - 2.0).abs() < 1e-9);
        assert!((grouped.digits(1.0).text("123456") - 6.0).abs() < 1e-9);
    }

    #[test]
    fn other_letters_are_counted_by_the_vocabulary_that_knows_them() {
        let weights = Weights::like(Encoding::Cl100k, 1.0);
        let text = "お誕生日おめでとう";
        let expected = 1.1 * real(Encoding::O200k.count(text));
        assert!((weights.text(text) - expected).abs() < 1e-9);
    }
}
