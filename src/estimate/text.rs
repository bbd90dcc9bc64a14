//! Text to tokens. Owns the choice of vocabulary; the counting is that of `bpe-openai`, which is
//! linear in the length of any text, and exact: strings that look like special tokens are text.
//!
//! The tables are unpacked at first use (about 65 ms of CPU), so never count on a thread that serves.

use bpe_openai::{Tokenizer, cl100k_base, o200k_base};

/// A byte-pair encoding that OpenAI publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4o and everything since, the o-series.
    O200k,
    /// GPT-4, GPT-3.5, the embedding models, `davinci-002` and `babbage-002`.
    Cl100k,
}

impl Encoding {
    pub fn count(self, text: &str) -> u64 {
        self.tokenizer().count(text) as u64
    }

    /// The ids of a text's tokens.
    pub fn encode(self, text: &str) -> Vec<u32> {
        self.tokenizer().encode(text)
    }

    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Encoding::O200k => o200k_base(),
            Encoding::Cl100k => cl100k_base(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_encodings_come_out_exactly() {
        assert_eq!(Encoding::Cl100k.encode("tiktoken is great!"), [83, 1609, 5963, 374, 2294, 0]);
        assert_eq!(Encoding::O200k.encode("2 + 2 = 4"), [17, 659, 220, 17, 314, 220, 19]);
    }

    #[test]
    fn what_looks_like_a_special_token_is_text() {
        assert!(Encoding::O200k.count("<|endoftext|>") > 1);
    }
}
