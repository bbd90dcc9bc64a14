//! Reading numbers and texts out of reduced documents. Owns what counts as a token count: an integer,
//! however it is written, that a call can have used.

use crate::framing::Value;
use rust_decimal::Decimal;

use crate::units::{Usd, parse_decimal};

/// Counts above this are no counts: a hundred times all that the largest context holds, and small
/// enough that a ledger's sums stay far from overflow.
pub(super) const MAX_COUNT: u64 = 1_000_000_000_000;

/// A token count. Negative ones, which deep-research answers have reported, count as 0; fractions
/// and implausible ones as unknown.
pub(super) fn count(object: &Value, name: &str) -> Option<u64> {
    let Value::Number(number) = object.get(name)? else { return None };
    if let Ok(count) = number.parse::<u64>() {
        return (count <= MAX_COUNT).then_some(count);
    }
    let decimal = parse_decimal(number).ok()?;
    if decimal.is_sign_negative() {
        return Some(0);
    }
    if !decimal.fract().is_zero() {
        return None;
    }
    u64::try_from(decimal).ok().filter(|count| *count <= MAX_COUNT)
}

/// The first of these members that is a count.
pub(super) fn first_count(object: &Value, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| count(object, name))
}

/// An amount of money or time as written, exactly.
pub(super) fn decimal(object: &Value, name: &str) -> Option<Decimal> {
    let Value::Number(number) = object.get(name)? else { return None };
    parse_decimal(number).ok().filter(|amount| !amount.is_sign_negative())
}

pub(super) fn usd(object: &Value, name: &str) -> Option<Usd> {
    decimal(object, name).map(Usd::new)
}

/// A text that is not empty.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A member that is an object.
pub(super) fn object<'a>(parent: &'a Value, name: &str) -> Option<&'a Value> {
    parent.get(name).filter(|value| value.is_object())
}

/// True if a number stands anywhere in the object's own members.
pub(super) fn has_number(object: &Value) -> bool {
    object.as_object().is_some_and(|members| members.iter().any(|(_, value)| value.is_number()))
}

/// True if something that is neither a number nor absent stands where a count of tokens should.
pub(super) fn has_odd_count(object: &Value) -> bool {
    let is_count = |name: &str| name.ends_with("_tokens");
    object.as_object().is_some_and(|members| {
        members.iter().any(|(name, value)| is_count(name) && !value.is_number() && !value.is_null())
    })
}

/// The members of an array, or nothing.
pub(super) fn elements<'a>(parent: &'a Value, name: &str) -> &'a [Value] {
    parent.get(name).and_then(Value::as_array).unwrap_or_default()
}

/// `a + b`, unknown only where both are.
pub(super) fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (known, None) | (None, known) => known,
    }
}
