//! Exact money and points in time. Owns their text and storage forms; knows nothing of what they
//! measure. Invariant: no amount of money ever passes through a binary float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// An exact amount of US dollars.
///
/// In JSON a number with all its decimal digits; in the database a whole number of nano-dollars
/// ([`Usd::nanos`]), so that SQL sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usd(Decimal);

impl Usd {
    pub const ZERO: Usd = Usd(Decimal::ZERO);

    /// Nano-dollars in a dollar: the scale at which the ledger keeps money.
    const NANOS_SCALE: u32 = 9;

    pub fn new(amount: Decimal) -> Usd {
        Usd(amount.normalize())
    }

    pub fn from_nanos(nanos: i64) -> Usd {
        Usd::new(Decimal::new(nanos, Self::NANOS_SCALE))
    }

    /// Whole nano-dollars, halves to even; amounts beyond ±9.2 billion dollars saturate.
    pub fn nanos(self) -> i64 {
        let rounded =
            self.0.round_dp_with_strategy(Self::NANOS_SCALE, RoundingStrategy::MidpointNearestEven);
        let scaled = rounded.checked_mul(Decimal::from(1_000_000_000_i64));
        scaled.and_then(|d| d.to_i64()).unwrap_or(if self.0.is_sign_negative() {
            i64::MIN
        } else {
            i64::MAX
        })
    }

    /// The amount as the ledger keeps it: rounded to whole nano-dollars.
    pub fn rounded(self) -> Usd {
        Usd::from_nanos(self.nanos())
    }

    pub fn decimal(self) -> Decimal {
        self.0
    }
}

impl FromStr for Usd {
    type Err = rust_decimal::Error;

    /// Reads `0.0025`, `5` or `2.85e-05`. Digits beyond the 28th decimal place are rounded away.
    fn from_str(text: &str) -> Result<Usd, Self::Err> {
        parse_decimal(text).map(Usd::new)
    }
}

/// Reads a decimal number as JSON writes it, exponent included.
pub fn parse_decimal(text: &str) -> Result<Decimal, rust_decimal::Error> {
    if text.contains(['e', 'E']) { Decimal::from_scientific(text) } else { Decimal::from_str(text) }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Add for Usd {
    type Output = Usd;

    /// Saturates at ±7.9 × 10²⁸ dollars, which no ledger reaches.
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}

impl Sub for Usd {
    type Output = Usd;

    fn sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: serde_json::Number =
            self.0.to_string().parse().map_err(|_| ser::Error::custom("not a number"))?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        number.as_str().parse().map_err(de::Error::custom)
    }
}

/// A moment in UTC, exact to the millisecond.
///
/// In JSON an RFC 3339 text (`2026-11-21T09:30:00.123Z`); in the database whole milliseconds since
/// 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }

    pub fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    pub fn millis(self) -> i64 {
        self.0
    }

    /// The same moment for calendar arithmetic; moments beyond the year 9999 saturate.
    pub fn calendar(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let millis =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(millis(after)),
            Err(before) => Timestamp(-millis(before.duration())),
        }
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Timestamp {
        Timestamp(time.as_millisecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.calendar())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Timestamp, Self::Err> {
        text.parse::<jiff::Timestamp>().map(Timestamp::from)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit_through_json() {
        for text in ["0.0000285", "2.85e-05", "0.1", "123456789.123456789"] {
            let amount: Usd = text.parse().unwrap();
            let json = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Usd>(&json).unwrap(), amount);
            assert!(!json.contains('e'), "{json}");
        }
        let tenth: Usd = "0.1".parse().unwrap();
        let fifth: Usd = "0.2".parse().unwrap();
        assert_eq!((tenth + fifth).to_string(), "0.3");
    }

    #[test]
    fn nanos_round_halves_to_even_and_saturate() {
        assert_eq!("0.0000000025".parse::<Usd>().unwrap().nanos(), 2);
        assert_eq!("0.0000000035".parse::<Usd>().unwrap().nanos(), 4);
        assert_eq!("99999999999999".parse::<Usd>().unwrap().nanos(), i64::MAX);
        assert_eq!("-99999999999999".parse::<Usd>().unwrap().nanos(), i64::MIN);
        assert_eq!(Usd::from_nanos(1_500_000_000).to_string(), "1.5");
    }

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        let time = Timestamp::from_millis(1_795_253_400_120);
        assert_eq!(time.to_string(), "2026-11-21T09:30:00.120Z");
        assert_eq!("2026-11-21T09:30:00.120Z".parse::<Timestamp>().unwrap(), time);
    }
}
