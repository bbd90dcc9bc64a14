//! What tells an entry as a list wrote it from one that a person has changed since. Owns the mark that stands
//! in the file beside its `source`: a few digits of a hash of its prices.
//!
//! Invariant: the mark follows what an entry costs, and not how it is written: neither order, comments nor
//! the zeros of a figure change it.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use super::rates::{Above, PriceEntry, PriceSet, Rates};

const BYTES: usize = 8;

/// Whether a text could be a mark.
pub(super) fn is_mark(text: &str) -> bool {
    text.len() == 2 * BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl PriceEntry {
    /// Of all its prices, those of the past too.
    pub(super) fn mark(&self) -> String {
        let mut lines = vec![format!("min_audio_ms {}", self.min_audio_ms)];
        lines_of_set(&mut lines, "", &self.base);
        for since in &self.since {
            lines_of_set(&mut lines, &format!("@{} ", since.start.millis()), &since.set);
        }
        lines.sort_unstable();
        let whole = digest(&SHA256, lines.join("\n").as_bytes());
        whole.as_ref().iter().take(BYTES).fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").expect("a String takes all");
            digits
        })
    }

    /// Whether it costs something else than what the list wrote. Without a mark nothing tells.
    pub(super) fn is_altered(&self) -> bool {
        self.source_check.as_ref().is_some_and(|mark| *mark != self.mark())
    }
}

fn lines_of_set(lines: &mut Vec<String>, place: &str, set: &PriceSet) {
    lines.push(place.to_owned());
    lines_of_rates(lines, place, &set.rates);
    lines_of_above(lines, place, &set.above);
    for tier in &set.tiers {
        let place = format!("{place}+{} ", tier.name);
        lines_of_rates(lines, &place, &tier.rates);
        lines_of_above(lines, &place, &tier.above);
    }
    // The first window that matches counts: their order is part of the price.
    for (at, (window, rates)) in set.daily.iter().enumerate() {
        lines_of_rates(lines, &format!("{place}~{at} {} {} ", window.from, window.to), rates);
    }
}

fn lines_of_above(lines: &mut Vec<String>, place: &str, above: &Above) {
    for (limit, rates) in above {
        lines_of_rates(lines, &format!("{place}>{limit} "), rates);
    }
}

fn lines_of_rates(lines: &mut Vec<String>, place: &str, rates: &Rates) {
    for one in rates {
        let by = one.by.as_deref().unwrap_or_default();
        lines.push(format!("{place}{} {by:?} {}", one.key, one.in_file()));
    }
}

#[cfg(test)]
mod tests {
    use crate::pricing::PriceBook;

    fn mark(text: &str) -> String {
        PriceBook::parse(&format!("[prices.a.m]\n{text}")).unwrap().entries[0].mark()
    }

    #[test]
    fn a_mark_follows_the_prices_and_nothing_else() {
        let plain = "input = 2.5\noutput = 10\nsince.2026-01-01 = { input = 1, output = 2 }\n";
        // Files keep it: it may never come out otherwise.
        assert_eq!(mark(plain), "bece1986ffd3e013");
        let typed = "# ours\noutput = 10.00\ninput = 2.50 # less\nsource = \"openrouter\"\n\
                     [prices.a.m.since.\"2026-01-01T00:00:00Z\"]\noutput = 2\ninput = 1.0\n";
        assert_eq!(mark(typed), mark(plain));
        for (before, after) in [
            ("2.5", "2.51"),
            ("01-01", "01-02"),
            ("input = 1,", "input = 1, tier.flex = { input = 1 },"),
            ("input = 1,", "input = 1, above.5 = { input = 1 },"),
            ("input = 1,", "input = 1, daily.\"01:00-02:00\" = { input = 1 },"),
            ("input = 1,", "cached_input = 1,"),
            ("output = 10", "output = 10\nmin_audio_seconds = 1"),
            ("output = 10", "output = 10\nreasoning = 10"),
        ] {
            assert_ne!(mark(&plain.replacen(before, after, 1)), mark(plain), "{after}");
        }
    }
}
