//! What is said on the stage: a text of any length. Owns its wording; knows nothing of who says it.
//!
//! Invariant: a token here is one of the usual vocabularies', nearly: a frequent English word or a
//! punctuation mark. So the usage that is scripted is about the usage of what is said.

use std::sync::LazyLock;

/// It begins with what everybody should know who asks without a script, and ends where it can begin
/// again.
const PASSAGE: &str = " This answer was written by the scripted provider of the demo. No model was \
asked, nothing left this machine, and no key was needed. The call went through the proxy as any other \
call would: it was passed on as it came, its usage was read, its price was found in the table, and one \
row about it was written. Here is the rest of the text, so that there is something to count. The team \
met on Monday to look at the numbers of the last month. Most of the work was done in the first two \
weeks, and the cost was lower than in the month before. Three things were different this time. The \
first is that the short questions went to a small model, which is quick and good enough for them. The \
second is that long documents were read once and kept, so that the next question about the same \
document did not have to pay for it again. The third is that answers which were not good enough were \
tried again only twice, and then given to a person. What is left to do is known as well. Some calls \
are still made without the name of the user, and nobody can say who they are for. A few jobs run at \
night and ask the same thing many times; they should keep what they have learned. The plan for the \
next month is simple. We will look at the ten largest users, talk to each of them, and see which of \
their calls could be shorter. We will set a limit for each team, and tell them early when they come \
close to it. And we will write down what we did, so that others can do the same.";

static TOKENS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut tokens = Vec::new();
    let mut begin = 0;
    let starts = PASSAGE.char_indices().skip(1);
    for (at, _) in starts.filter(|(_, letter)| !letter.is_ascii_alphanumeric()) {
        tokens.push(&PASSAGE[begin..at]);
        begin = at;
    }
    tokens.push(&PASSAGE[begin..]);
    tokens
});

/// So many tokens, from some place of the passage on.
pub(super) fn text(from: u64, tokens: u64) -> String {
    let mut text = String::new();
    for token in words(from, tokens) {
        text.push_str(token);
    }
    text.trim_start().to_owned()
}

/// The same in pieces of so many tokens, one behind the other.
pub(super) fn pieces(from: u64, tokens: u64, at_once: u64) -> Vec<String> {
    let at_once = at_once.max(1);
    let begins = (0..tokens).step_by(usize::try_from(at_once).unwrap_or(usize::MAX));
    let piece = |begin: u64| -> String {
        words(from + begin, at_once.min(tokens - begin)).collect::<String>()
    };
    let mut pieces: Vec<String> = begins.map(piece).collect();
    if let Some(first) = pieces.first_mut() {
        *first = first.trim_start().to_owned();
    }
    pieces
}

fn words(from: u64, tokens: u64) -> impl Iterator<Item = &'static str> {
    let from = usize::try_from(from).unwrap_or_default() % TOKENS.len();
    let tokens = usize::try_from(tokens).unwrap_or_default();
    TOKENS.iter().copied().cycle().skip(from).take(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        for (from, tokens, at_once) in [(0, 0, 4), (0, 1, 4), (3, 1000, 4), (900, 777, 1)] {
            assert_eq!(pieces(from, tokens, at_once).concat(), text(from, tokens));
        }
        assert!(text(0, 12).starts_with("This answer was written by the scripted provider"));
        assert_eq!(TOKENS.concat(), PASSAGE);
    }

    #[test]
    fn a_token_is_about_one_of_the_usual_vocabulary() {
        let counted = u64::try_from(bpe_openai::o200k_base().count(&text(0, 2000))).unwrap();
        assert!((1960..=2040).contains(&counted), "{counted}");
    }
}
