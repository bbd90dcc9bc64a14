//! Single figures, names and moments as they stand on a page. Owns what is put around them: the exact
//! figure behind a short one, the mark of an estimate, what keeps a name that a client chose from doing
//! anything but being read.
//!
//! Invariant: no text of a client's or a provider's changes how the text beside it reads.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use maud::{Markup, html};
use rust_decimal::Decimal;

use crate::figures;
use crate::ledger::Totals;
use crate::units::{Timestamp, Usd};

/// Characters of a name in a chart, where there is no room for more.
const LABEL: usize = 40;

/// Bytes of a name that there is room for everywhere.
const SHORT: usize = 24;

/// A name, apart from what stands around it; a long one may be shown shortened.
pub(super) fn name(text: &str) -> Markup {
    let shown = visible(text);
    let whole = (shown.len() > SHORT).then_some(&shown);
    html! { bdi.name title=[whole] { (shown) } }
}

/// A name, or that there is none.
pub(super) fn name_or(text: Option<&str>, none: &str) -> Markup {
    match text {
        Some("") => html! { span.none { "(empty)" } },
        Some(text) => name(text),
        None => html! { span.none { (none) } },
    }
}

/// A text whose every character can be seen: controls and what turns the direction of writing by number.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unseen(character) {
            let _ = write!(out, "\u{27e8}U+{:04X}\u{27e9}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A name as a chart shows it.
pub(super) fn label(text: &str) -> String {
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let text = visible(text);
    match text.char_indices().nth(LABEL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A count, short, with all its digits at hand.
pub(super) fn count(count: u64) -> Markup {
    let (short, exact) = (figures::short(count), figures::exact(count));
    if short == exact {
        html! { (short) }
    } else {
        html! { data value=(count) title=(exact) { (short) } }
    }
}

/// A sum of money that may be estimated or incomplete.
pub(super) fn cost(totals: &Totals) -> Markup {
    let unpriced = totals.unpriced_requests;
    html! {
        (sum(totals))
        @if unpriced > 0 && totals.cost_usd != Usd::ZERO {
            " " span.flag title=(format!("{} unpriced calls are not in it", figures::exact(unpriced))) {
                span aria-hidden="true" { "+?" }
                span.sr { "and " (figures::exact(unpriced)) " unpriced calls" }
            }
        }
    }
}

/// The same where it is said beside it what is unpriced.
pub(super) fn sum(totals: &Totals) -> Markup {
    let is_nothing = totals.cost_usd == Usd::ZERO;
    html! {
        @if is_nothing && totals.unpriced_requests > 0 {
            span.none title="No call here has a price" { "unpriced" }
        } @else if is_nothing && is_unused(totals) {
            span.none title="Nothing is known to have been used" { (unknown()) }
        } @else { (money(totals.cost_usd, totals.estimated_requests > 0)) }
    }
}

/// Whether a sum of nothing says only that nothing is known.
pub(super) fn is_cost_unknown(totals: &Totals) -> bool {
    totals.cost_usd == Usd::ZERO && (totals.unpriced_requests > 0 || is_unused(totals))
}

/// Whether no call is known to have used anything.
pub(super) fn is_unused(totals: &Totals) -> bool {
    totals.total_tokens == 0 && totals.unreported_requests == totals.requests
}

/// Money in cents, with all its digits at hand.
pub(super) fn money(amount: Usd, is_estimated: bool) -> Markup {
    let exact = figures::dollars(amount);
    html! {
        data value=(amount.to_string()) title=(exact) {
            @if is_estimated { (about()) }
            (figures::cents(amount))
        }
    }
}

/// Before a figure that is an estimate, or holds one.
pub(super) fn about() -> Markup {
    html! { span.about title="holds estimates" { "~" } }
}

pub(super) fn percent(share: Option<Decimal>) -> String {
    share.map_or_else(unknown, figures::percent)
}

pub(super) fn span(millis: Option<u64>) -> String {
    millis.map_or_else(unknown, figures::span)
}

pub(super) fn mean_span(millis: Option<Decimal>) -> String {
    span(millis.and_then(|millis| u64::try_from(millis.round()).ok()))
}

pub(super) fn unknown() -> String {
    figures::UNKNOWN.to_owned()
}

/// A moment in the viewer's zone, to the second.
pub(super) fn moment(at: Timestamp, zone: &TimeZone) -> Markup {
    let zoned = at.calendar().to_zoned(zone.clone());
    html! { time datetime=(at.to_string()) title=(zoned.strftime("%Y-%m-%d %H:%M:%S%.3f %:z")) {
        (zoned.strftime("%e %b %Y, %H:%M:%S"))
    } }
}

/// The same without the year, for lists.
pub(super) fn short_moment(at: Timestamp, zone: &TimeZone) -> Markup {
    let zoned = at.calendar().to_zoned(zone.clone());
    html! { time datetime=(at.to_string()) title=(zoned.strftime("%Y-%m-%d %H:%M:%S%.3f %:z")) {
        (zoned.strftime("%e %b, %H:%M:%S"))
    } }
}

/// How much more than before, in words for those who do not see the arrow.
pub(super) fn change(now: Decimal, before: Option<Decimal>) -> Markup {
    let Some(before) = before else { return html! {} };
    match figures::change(now, before) {
        None if now.is_zero() => html! {},
        None => html! { span.change { "none before" } },
        Some(change) if change.is_zero() => html! { span.change { "as before" } },
        Some(change) => {
            let is_more = change.is_sign_positive();
            let (arrow, word) = if is_more { ("▲", "more") } else { ("▼", "less") };
            html! { span.change {
                span aria-hidden="true" { (arrow) " " }
                (figures::percent(change.abs())) " " span.sr { (word) " than before" }
            } }
        }
    }
}

/// The same for a share: points of a percent.
pub(super) fn points(now: Option<Decimal>, before: Option<Decimal>) -> Markup {
    let (Some(now), Some(before)) = (now, before) else { return html! {} };
    let points = ((now - before) * Decimal::ONE_HUNDRED).round_dp(1).normalize();
    let (arrow, word) = if points.is_sign_positive() { ("▲", "more") } else { ("▼", "less") };
    html! {
        @if points.is_zero() { span.change { "as before" } }
        @else { span.change {
            span aria-hidden="true" { (arrow) " " }
            (points.abs()) " points " span.sr { (word) " than before" }
        } }
    }
}

/// A bar of so much of a whole. What it says stands beside it in figures.
pub(super) fn bar(share: Decimal) -> Markup {
    let width = (share * Decimal::ONE_HUNDRED).round_dp(2).normalize();
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track width="100" height="6" {}
            rect.fill width=(width) height="6" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_do_anything_but_be_read() {
        assert_eq!(
            name("<script>\"'&").into_string(),
            "<bdi class=\"name\">&lt;script&gt;&quot;'&amp;</bdi>"
        );
        let turned = name("a\u{202e}b\u{2066}c\u{0}d\u{200b}").into_string();
        assert!(turned.contains("a⟨U+202E⟩b⟨U+2066⟩c⟨U+0000⟩d⟨U+200B⟩"), "{turned}");
        assert_eq!(visible("é 日本 👍 עברית"), "é 日本 👍 עברית");
        assert_eq!(label(&"x".repeat(256)).chars().count(), LABEL + 1);
    }

    #[test]
    fn unpriced_is_not_free() {
        let totals = |cost: &str, unpriced| Totals {
            requests: 2,
            cost_usd: cost.parse().unwrap(),
            unpriced_requests: unpriced,
            ..Totals::default()
        };
        assert!(cost(&totals("0", 2)).into_string().contains("unpriced"));
        assert!(!cost(&totals("0", 2)).into_string().contains("$0"));
        assert!(cost(&totals("0", 0)).into_string().contains("$0.00"));
        let part = cost(&totals("1234.5678", 1)).into_string();
        assert!(part.contains("$1,234.57") && part.contains("$1,234.5678"), "{part}");
        assert!(part.contains("+?"), "{part}");
    }

    #[test]
    fn changes_are_told_in_words_too() {
        let html = |now: i64, before: Option<i64>| {
            change(now.into(), before.map(Decimal::from)).into_string()
        };
        assert!(html(3, Some(2)).contains("50 %") && html(3, Some(2)).contains("more than before"));
        assert!(html(1, Some(2)).contains("less than before"));
        assert!(html(1, Some(0)).contains("none before"));
        assert_eq!(html(1, None), "");
    }
}
