//! Figures as people read them: digits in groups, money, shares, spans of time, and what a month will
//! come to. Owns how much of a figure is shown; knows neither where it comes from nor where it is shown.
//!
//! Invariant: a figure that is shown shortened is never shown as nothing, and the exact one is at hand
//! in [`exact`] and [`dollars`].

mod forecast;

pub use forecast::{Forecast, Spent, forecast};

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::units::Usd;

/// What stands for what nobody knows.
pub const UNKNOWN: &str = "–";

/// Units of large counts, the largest first.
const LARGE: [(u64, &str); 4] =
    [(1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")];

/// Every digit, in groups of three: `12,345,678`.
pub fn exact(count: u64) -> String {
    grouped(&count.to_string())
}

/// Three digits and a unit: `12.3M`. Below a thousand the count itself.
pub fn short(count: u64) -> String {
    let Some((unit, name)) = LARGE.into_iter().find(|(unit, _)| count >= *unit) else {
        return count.to_string();
    };
    let whole = count / unit;
    let digits = if whole >= 100 { 0 } else { u32::from(whole < 10) + 1 };
    let shown = rounded(Decimal::from(count) / Decimal::from(unit), digits);
    match LARGE.iter().find(|(larger, _)| *larger == unit * 1000) {
        Some((_, larger)) if shown >= Decimal::ONE_THOUSAND => format!("1{larger}"),
        _ => format!("{}{name}", grouped(&shown.normalize().to_string())),
    }
}

/// A price with all its digits: `$0.00001234`.
pub fn dollars(amount: Usd) -> String {
    let amount = amount.decimal();
    let digits = amount.scale().max(2);
    money(amount, digits)
}

/// A sum as people say it: cents, and of less than a dollar three digits that tell something.
pub fn cents(amount: Usd) -> String {
    let amount = amount.decimal();
    let digits = match amount.abs() {
        zero if zero.is_zero() => 2,
        dollars if dollars >= Decimal::ONE => 2,
        // 0.0421 is 421 × 10⁻⁴: digits after the point are its scale less what three digits leave out.
        part => {
            let leading = part.scale().saturating_sub(part.mantissa().unsigned_abs().ilog10() + 1);
            (leading + 3).min(9)
        }
    };
    money(amount, digits)
}

/// A share of one in percent: `12.3 %`; of less than a thousandth `<0.1 %`.
pub fn percent(share: Decimal) -> String {
    let share = share * Decimal::ONE_HUNDRED;
    if !share.is_zero() && share.abs() < Decimal::new(1, 1) {
        return if share.is_sign_negative() { ">-0.1 %" } else { "<0.1 %" }.to_owned();
    }
    let digits = u32::from(share.abs() < Decimal::ONE_HUNDRED);
    format!("{} %", grouped(&rounded(share, digits).normalize().to_string()))
}

/// How much more `now` is than `before`, as a share of that; nothing where there was nothing.
pub fn change(now: Decimal, before: Decimal) -> Option<Decimal> {
    if before.is_zero() { None } else { now.checked_sub(before)?.checked_div(before) }
}

/// A span of time: `850 ms`, `1.25 s`, `12.5 s`, `2 min 5 s`, `3 h 20 min`.
pub fn span(millis: u64) -> String {
    let seconds = |digits| rounded(Decimal::from(millis) / Decimal::from(1000), digits).normalize();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{} s", seconds(2)),
        10_000..60_000 => format!("{} s", seconds(1)),
        60_000..3_600_000 => two(millis / 1000, 60, ["min", "s"]),
        _ => two(millis / 60_000, 60, ["h", "min"]),
    }
}

/// A mean, to the tenth.
pub fn mean(value: Decimal) -> String {
    grouped(&rounded(value, 1).normalize().to_string())
}

fn two(count: u64, of: u64, [large, small]: [&str; 2]) -> String {
    match count % of {
        0 => format!("{} {large}", exact(count / of)),
        rest => format!("{} {large} {rest} {small}", exact(count / of)),
    }
}

fn money(amount: Decimal, digits: u32) -> String {
    let shown = rounded(amount, digits);
    let sign = if shown.is_sign_negative() && !shown.is_zero() { "-" } else { "" };
    let digits = usize::try_from(digits).unwrap_or_default();
    format!("{sign}${}", grouped(&format!("{:.digits$}", shown.abs())))
}

fn rounded(value: Decimal, digits: u32) -> Decimal {
    value.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
}

/// Commas between the thousands of a number's text.
pub fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_at(number.find(['.', 'e', 'E']).unwrap_or(number.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// A part of a whole, 0 where there is none, for bars.
pub fn share(part: Decimal, whole: Decimal) -> Decimal {
    part.checked_div(whole).unwrap_or_default().clamp(Decimal::ZERO, Decimal::ONE)
}

/// For charts, whose libraries know no exact numbers.
pub fn plotted(value: Decimal) -> f64 {
    value.to_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn counts() {
        let shown =
            [0, 999, 1_000, 1_234, 12_345, 123_456, 999_999, 12_345_678, u64::MAX].map(short);
        assert_eq!(
            shown,
            ["0", "999", "1k", "1.23k", "12.3k", "123k", "1M", "12.3M", "18,446,744T"]
        );
        assert_eq!(exact(1_234_567), "1,234,567");
        assert_eq!(exact(12), "12");
        let cases =
            [("1", "1"), ("-123", "-123"), ("-1234.5678", "-1,234.5678"), ("1000000", "1,000,000")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn money_is_never_shown_as_nothing() {
        let shown =
            ["0", "12.345", "1234567.8", "0.0421", "0.00004213", "0.000000001", "-0.5", "0.9996"]
                .map(|text| cents(usd(text)));
        assert_eq!(
            shown,
            [
                "$0.00",
                "$12.35",
                "$1,234,567.80",
                "$0.0421",
                "$0.0000421",
                "$0.000000001",
                "-$0.500",
                "$1.000"
            ]
        );
        assert_eq!(dollars(usd("0.00001234")), "$0.00001234");
        assert_eq!(dollars(usd("5")), "$5.00");
    }

    #[test]
    fn shares_and_spans() {
        let percents =
            ["0", "0.0004", "0.1234", "1", "12.5"].map(|text| percent(text.parse().unwrap()));
        assert_eq!(percents, ["0 %", "<0.1 %", "12.3 %", "100 %", "1,250 %"]);
        let spans = [0, 850, 1_250, 12_540, 125_000, 120_000, 12_000_000].map(span);
        assert_eq!(
            spans,
            ["0 ms", "850 ms", "1.25 s", "12.5 s", "2 min 5 s", "2 min", "3 h 20 min"]
        );
        assert_eq!(change(Decimal::TEN, Decimal::ZERO), None);
        assert_eq!(change(Decimal::new(15, 0), Decimal::TEN), Some(Decimal::new(5, 1)));
    }
}
