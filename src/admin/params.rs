//! Parameters of a question, as pairs of names and texts: read, checked, and blamed by name. Owns what
//! may be typed for a time, a number or a name; knows nothing of answers.
//!
//! Invariant: nothing is ignored. A parameter that is unknown, repeated or contradicts another is an
//! error that says what would be right.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::ledger::{Filter, GroupKey, Order};
use crate::nearest::nearest;
use crate::pricing::CostSource;
use crate::record::Outcome;
use crate::units::Timestamp;
use crate::usage::UsageSource;

/// What `days` may be: a hundred years are as good as for ever.
pub(super) const DAYS: RangeInclusive<u64> = 1..=36_500;

const DAY_MS: i64 = 86_400_000;

/// Parameters of one question: far more than make sense, and few enough to compare with each other.
const PARAMETERS: usize = 100;

/// Of HTTP, what providers make up included.
pub(super) const STATUSES: RangeInclusive<u64> = 100..=999;

pub(super) const USAGE_SOURCES: [UsageSource; 3] =
    [UsageSource::Reported, UsageSource::Estimated, UsageSource::None];

pub(super) const COST_SOURCES: [CostSource; 5] = [
    CostSource::Provider,
    CostSource::Priced,
    CostSource::Default,
    CostSource::Free,
    CostSource::None,
];

pub(super) const OUTCOMES: [Outcome; 5] = [
    Outcome::Completed,
    Outcome::ClientClosed,
    Outcome::UpstreamFailed,
    Outcome::Interrupted,
    Outcome::Refused,
];

/// What `metadata.NAME` begins with.
pub(super) const METADATA: &str = "metadata.";

/// Names and texts, decoded, in the order in which they were typed.
pub type Pairs = [(String, String)];

/// Which parameter is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameter {
    pub name: String,
    pub message: String,
}

impl BadParameter {
    pub fn new(name: &str, message: impl Into<String>) -> BadParameter {
        BadParameter { name: name.to_owned(), message: message.into() }
    }
}

impl fmt::Display for BadParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BadParameter {}

/// The span of time that an answer is about, as it was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Nothing: from the first call on.
    pub since: Option<Timestamp>,
    /// Not included.
    pub until: Option<Timestamp>,
}

/// Takes a query string apart.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, BadParameter> {
    let split = |pair: &'_ str| {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = decode(name) else {
            return Err(BadParameter::new(name, "the name of a parameter must be UTF-8"));
        };
        let Some(text) = decode(text) else {
            let message = format!("`{name}` must be UTF-8, percent-encoded");
            return Err(BadParameter { name, message });
        };
        Ok((name, text))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// For what takes no parameters.
pub(super) fn none(pairs: &Pairs) -> Result<(), BadParameter> {
    Params::new(pairs)?.finish()
}

/// Hands parameters out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub(super) struct Params<'a> {
    left: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Params<'a> {
    pub(super) fn new(pairs: &'a Pairs) -> Result<Params<'a>, BadParameter> {
        if let Some((name, _)) = pairs.get(PARAMETERS) {
            let message = format!("more than {PARAMETERS} parameters are too many");
            return Err(BadParameter::new(name, message));
        }
        let mut left: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for (name, text) in pairs {
            if left.iter().any(|(earlier, _)| earlier == name) {
                let message = format!("`{name}` is given twice; give it once");
                return Err(BadParameter::new(name, message));
            }
            left.push((name, text));
        }
        Ok(Params { left, known: Vec::new() })
    }

    /// The text of a parameter; an empty one is an error, because it can mean two things.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, BadParameter> {
        self.known.push(name);
        let Some(at) = self.left.iter().position(|(given, _)| *given == name) else {
            return Ok(None);
        };
        match self.left.remove(at).1 {
            "" => Err(BadParameter::new(name, format!("`{name}` is empty; leave it out"))),
            text => Ok(Some(text)),
        }
    }

    /// A parameter whose own parser says what would be right.
    pub(super) fn parsed<T>(&mut self, name: &'static str) -> Result<Option<T>, BadParameter>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let parse = |text: &str| {
            text.parse().map_err(|error: T::Err| BadParameter::new(name, error.to_string()))
        };
        self.text(name)?.map(parse).transpose()
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadParameter> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let expected = || match *range.end() {
            u64::MAX => format!("a whole number from {} on", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        number.map(Some).ok_or_else(|| wrong(name, text, &expected()))
    }

    /// A number of things to count through in memory.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<usize>, BadParameter> {
        let number = self.number(name, range)?;
        Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
    }

    pub(super) fn zone(&mut self) -> Result<TimeZone, BadParameter> {
        let Some(text) = self.text("tz")? else { return Ok(TimeZone::UTC) };
        let expected = "the name of a time zone such as Europe/Berlin or UTC";
        TimeZone::get(text).map_err(|_| wrong("tz", text, expected))
    }

    pub(super) fn order(&mut self) -> Result<Option<Order>, BadParameter> {
        match self.text("order")? {
            None => Ok(None),
            Some("asc") => Ok(Some(Order::Ascending)),
            Some("desc") => Ok(Some(Order::Descending)),
            Some(text) => Err(wrong("order", text, "asc or desc")),
        }
    }

    pub(super) fn group_by(&mut self) -> Result<Vec<GroupKey>, BadParameter> {
        let Some(text) = self.text("group_by")? else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        for word in text.split(',').map(str::trim) {
            let key = word.parse::<GroupKey>();
            let key = key.map_err(|error| BadParameter::new("group_by", error.to_string()))?;
            if keys.contains(&key) {
                let message = format!("`group_by` names {key} twice; name it once");
                return Err(BadParameter::new("group_by", message));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// The conditions besides the window of time.
    pub(super) fn filter(&mut self) -> Result<Filter, BadParameter> {
        let user = self.text("user")?.map(str::to_owned);
        Ok(Filter { user, ..self.filter_but_user()? })
    }

    /// The conditions on one user's calls.
    pub(super) fn filter_but_user(&mut self) -> Result<Filter, BadParameter> {
        let mut text = |name| self.text(name).map(|text| text.map(str::to_owned));
        Ok(Filter {
            session: text("session")?,
            operation: text("operation")?,
            provider: text("provider")?,
            upstream: text("upstream")?,
            model: text("model")?,
            endpoint: text("endpoint")?,
            price_id: text("price_id")?,
            key_fingerprint: text("key_fingerprint")?
                .map(|text| text.strip_prefix("key:").unwrap_or(&text).to_owned()),
            finish_reason: text("finish_reason")?,
            error: text("error")?,
            usage_source: self.word("usage_source", &USAGE_SOURCES, UsageSource::as_str)?,
            cost_source: self.word("cost_source", &COST_SOURCES, CostSource::as_str)?,
            outcome: self.word("outcome", &OUTCOMES, Outcome::as_str)?,
            status: self.status()?,
            metadata: self.metadata()?,
            ..Filter::default()
        })
    }

    /// The span of time: the last `default_days` where nothing is said, or all of it.
    pub(super) fn window(
        &mut self,
        zone: &TimeZone,
        now: Timestamp,
        default_days: Option<u64>,
    ) -> Result<Window, BadParameter> {
        let days = self.number("days", DAYS)?;
        let since = self.time("since", zone)?;
        let until = self.time("until", zone)?;
        if days.is_some() && (since.is_some() || until.is_some()) {
            let message = "`days` counts back from now; give either `days` or `since` and `until`";
            return Err(BadParameter::new("days", message));
        }
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            let message = format!("`until` ({until}) must be later than `since` ({since})");
            return Err(BadParameter::new("until", message));
        }
        let is_open = since.is_none() && until.is_none();
        let days = days.or(default_days.filter(|_| is_open));
        let back = |days: u64| {
            let span = i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS);
            Timestamp::from_millis(now.millis().saturating_sub(span))
        };
        Ok(Window { since: since.or(days.map(back)), until })
    }

    /// Complains about what nobody asked for.
    pub(super) fn finish(self) -> Result<(), BadParameter> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let right = match nearest(name, self.known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.known.is_empty() => "this call takes none".to_owned(),
            None => format!("possible are {}", self.known.join(", ")),
        };
        Err(BadParameter::new(name, format!("there is no parameter `{name}`; {right}")))
    }

    /// One of a few words.
    fn word<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        word: fn(T) -> &'static str,
    ) -> Result<Option<T>, BadParameter> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = all.iter().copied().find(|one| word(*one) == text);
        let expected = || {
            let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            format!("{} or {last}", others.join(", "))
        };
        found.map(Some).ok_or_else(|| wrong(name, text, &expected()))
    }

    fn status(&mut self) -> Result<Option<u16>, BadParameter> {
        let status = self.number("status", STATUSES)?;
        Ok(status.and_then(|status| u16::try_from(status).ok()))
    }

    fn metadata(&mut self) -> Result<Vec<(String, String)>, BadParameter> {
        self.known.push("metadata.NAME");
        let taken = self.left.extract_if(.., |(name, _)| name.starts_with(METADATA));
        let split = |(full, text): (&str, &str)| match full.strip_prefix(METADATA) {
            Some(name) if !name.is_empty() => Ok((name.to_owned(), text.to_owned())),
            _ => Err(BadParameter::new(full, "`metadata.` needs a name, as in metadata.team=red")),
        };
        taken.map(split).collect()
    }

    /// A moment, or the midnight that a date begins with.
    pub(super) fn time(
        &mut self,
        name: &'static str,
        zone: &TimeZone,
    ) -> Result<Option<Timestamp>, BadParameter> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let expected = "a time such as 2026-11-21T09:30:00Z or a date such as 2026-11-21";
        moment(text, zone).map(Some).ok_or_else(|| wrong(name, text, expected))
    }
}

/// A date, its first moment in the zone, or a whole RFC 3339 moment.
pub fn moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if !text.contains(['T', 't', ' ']) {
        let date: Date = text.parse().ok()?;
        return date.to_zoned(zone.clone()).ok().map(|midnight| midnight.timestamp().into());
    }
    // The `+` of an offset that was not percent-encoded has arrived as a space.
    let signed = || text.contains(['T', 't']).then(|| text.replace(' ', "+").parse().ok());
    text.parse().ok().or_else(|| signed().flatten())
}

fn wrong(name: &str, text: &str, expected: &str) -> BadParameter {
    BadParameter::new(name, format!("`{name}` is `{text}`, but must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_253_400_000; // 2026-11-21T09:30:00Z

    fn window(query: &str) -> Result<Window, BadParameter> {
        let pairs = pairs(query)?;
        let mut params = Params::new(&pairs)?;
        let zone = params.zone()?;
        let window = params.window(&zone, Timestamp::from_millis(NOW), Some(7))?;
        params.finish()?;
        Ok(window)
    }

    fn span(query: &str) -> [Option<String>; 2] {
        let window = window(query).unwrap();
        [window.since, window.until].map(|time| time.map(|time| time.to_string()))
    }

    #[test]
    fn queries_are_decoded_as_browsers_encode_them() {
        let decoded = pairs("a=1+2&&b%20c=%C3%A9%2B&d").unwrap();
        let expected = [("a", "1 2"), ("b c", "é+"), ("d", "")];
        assert_eq!(decoded, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(pairs("user=%ff").unwrap_err().name, "user");
    }

    #[test]
    fn windows_are_what_was_meant() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(span(""), [some("2026-11-14T09:30:00.000Z"), None]);
        assert_eq!(span("days=1"), [some("2026-11-20T09:30:00.000Z"), None]);
        assert_eq!(span("until=2026-11-21"), [None, some("2026-11-21T00:00:00.000Z")]);
        assert_eq!(
            span("since=2026-11-01&until=2026-11-02T00:00:00+01:00&tz=Europe/Berlin"),
            [some("2026-10-31T23:00:00.000Z"), some("2026-11-01T23:00:00.000Z")]
        );
        assert_eq!(span("since=2026-11-01%2009:30:00Z")[0], some("2026-11-01T09:30:00.000Z"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("days=0", "days", "from 1 to 36500"),
            ("days=-1", "days", "from 1 to 36500"),
            ("days=1e3", "days", "from 1 to 36500"),
            ("days=", "days", "leave it out"),
            ("days=7&days=8", "days", "twice"),
            ("days=7&since=2026-11-01", "days", "either"),
            ("days=7&until=2026-11-01", "days", "either"),
            ("since=yesterday", "since", "2026-11-21T09:30:00Z"),
            ("since=2026-11-01T09:30:00", "since", "2026-11-21T09:30:00Z"),
            ("until=2026-13-01", "until", "2026-11-21"),
            ("since=2026-11-02&until=2026-11-02", "until", "later"),
            ("tz=Mars/Base", "tz", "Europe/Berlin"),
            ("dasy=7", "dasy", "`days`"),
            ("colour=red", "colour", "days, since, until"),
        ];
        for (query, name, hint) in cases {
            let error = window(query).unwrap_err();
            assert_eq!(error.name, name, "{query}");
            assert!(error.message.contains(hint), "{query}: {}", error.message);
        }
    }
}
