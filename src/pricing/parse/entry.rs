//! Reading one entry of the price table: rates, `since`, `above`, `tier`, `daily`.

use toml_edit::TableLike;

use super::reader::{Field, Reader};
use crate::pricing::mark::is_mark;
use crate::pricing::rates::{
    Above, PriceEntry, PriceSet, Priced, RATE_KEYS, Rate, Rates, Since, Tier, Window,
};
use crate::units::Timestamp;

const SET_KEYS: [&str; 3] = ["above", "tier", "daily"];
const ENTRY_KEYS: [&str; 4] = ["since", "min_audio_seconds", "source", "source_check"];
const MS_PER_SECOND: u64 = 1_000;

fn rate_of(key: &str) -> Option<(&'static str, Rate)> {
    RATE_KEYS.iter().find(|(name, _)| *name == key).copied()
}

fn known(extra: &[&'static str]) -> Vec<&'static str> {
    RATE_KEYS.iter().map(|(name, _)| *name).chain(extra.iter().copied()).collect()
}

impl Reader<'_> {
    /// An entry without its id.
    pub(super) fn entry(&mut self, place: &str, line: usize, table: &dyn TableLike) -> PriceEntry {
        let mut entry = PriceEntry::default();
        let faults = self.errors.len();
        for field in self.fields(table) {
            match field.key {
                "since" => entry.since = self.since(place, field),
                "source" => entry.source = self.string(field).map(str::to_owned),
                "source_check" => entry.source_check = self.mark(field),
                "min_audio_seconds" => entry.min_audio_ms = self.whole(field) * MS_PER_SECOND,
                _ => self.set_field(place, field, &mut entry.base, &ENTRY_KEYS),
            }
        }
        if entry.base.rates.is_empty() && entry.since.is_empty() && self.errors.len() == faults {
            self.error(line, format!("{place} has no price; give at least `input` and `output`"));
        }
        entry
    }

    fn mark(&mut self, field: Field<'_>) -> Option<String> {
        let mark = self.string(field)?;
        if !is_mark(mark) {
            let message = "`source_check` is no mark of `prices update`; without this line the list of `source` \
                           may change the price";
            self.error(field.line, message);
        }
        Some(mark.to_owned())
    }

    fn since(&mut self, place: &str, field: Field<'_>) -> Vec<Since> {
        let mut sets: Vec<Since> = Vec::new();
        let Some(table) = self.table(field, "a table of dates") else { return sets };
        for dated in self.fields(table) {
            let Some(start) = moment(dated.key) else {
                let message = format!(
                    "`since.{}` is no date; write it as 2025-06-10 or \"2025-06-10T16:00:00Z\"",
                    dated.key
                );
                self.error(dated.line, message);
                continue;
            };
            if let Some(last) = sets.last()
                && last.start >= start
            {
                let message = format!(
                    "`since.{}` stands after `since.{}`; write the oldest first",
                    dated.key, last.label
                );
                self.error(dated.line, message);
            }
            let Some(table) = self.table(dated, "a set of prices in { }") else { continue };
            let mut set = PriceSet::default();
            for inner in self.fields(table) {
                self.set_field(place, inner, &mut set, &[]);
            }
            sets.push(Since { start, label: dated.key.to_owned(), set });
        }
        sets
    }

    fn set_field(
        &mut self,
        place: &str,
        field: Field<'_>,
        set: &mut PriceSet,
        also_known: &[&'static str],
    ) {
        match field.key {
            "above" => set.above = self.above(place, field),
            "tier" => set.tiers = self.tiers(place, field),
            "daily" => set.daily = self.daily(place, field),
            _ => self.rate(place, field, &mut set.rates, &[&SET_KEYS, also_known].concat()),
        }
    }

    fn rate(&mut self, place: &str, field: Field<'_>, rates: &mut Rates, others: &[&'static str]) {
        match rate_of(field.key) {
            None => self.unknown(field, place, known(others)),
            Some((key, rate)) if key == "per_image_by" => {
                let Some(table) = self.table(field, "a table of prices by size") else { return };
                for size in self.fields(table) {
                    if let Some(price) = self.decimal(size) {
                        let by = Some(Box::from(size.key));
                        rates.push(Priced { by, ..Priced::new(key, rate, price) });
                    }
                }
            }
            Some((key, rate)) => {
                if let Some(price) = self.decimal(field) {
                    rates.push(Priced::new(key, rate, price));
                }
            }
        }
    }

    fn rates(&mut self, place: &str, field: Field<'_>) -> Rates {
        let mut rates = Rates::new();
        let Some(table) = self.table(field, "a set of prices in { }") else { return rates };
        for inner in self.fields(table) {
            self.rate(place, inner, &mut rates, &[]);
        }
        rates
    }

    fn above(&mut self, place: &str, field: Field<'_>) -> Above {
        let mut above = Above::new();
        let Some(table) = self.table(field, "a table of token counts") else { return above };
        for limit in self.fields(table) {
            if let Ok(tokens) = limit.key.replace('_', "").parse::<u64>() {
                above.push((tokens, self.rates(place, limit)));
            } else {
                let message =
                    format!("`above.{}` is no number of tokens; write above.200000", limit.key);
                self.error(limit.line, message);
            }
        }
        above.sort_by_key(|(limit, _)| *limit);
        above
    }

    fn tiers(&mut self, place: &str, field: Field<'_>) -> Vec<Tier> {
        let mut tiers = Vec::new();
        let Some(table) = self.table(field, "a table of service tiers") else { return tiers };
        for named in self.fields(table) {
            let Some(table) = self.table(named, "a set of prices in { }") else { continue };
            let mut tier =
                Tier { name: named.key.to_lowercase(), rates: Rates::new(), above: Above::new() };
            for inner in self.fields(table) {
                match inner.key {
                    "above" => tier.above = self.above(place, inner),
                    _ => self.rate(place, inner, &mut tier.rates, &["above"]),
                }
            }
            tiers.push(tier);
        }
        tiers
    }

    fn daily(&mut self, place: &str, field: Field<'_>) -> Vec<(Window, Rates)> {
        let mut windows = Vec::new();
        let Some(table) = self.table(field, "a table of hours") else { return windows };
        for hours in self.fields(table) {
            if let Some(window) = window(hours.key) {
                windows.push((window, self.rates(place, hours)));
            } else {
                let message = format!(
                    "`daily.\"{}\"` is no time of day; write daily.\"16:30-00:30\" (UTC)",
                    hours.key
                );
                self.error(hours.line, message);
            }
        }
        windows
    }

    /// A whole number; 0 where it is none.
    pub(super) fn whole(&mut self, field: Field<'_>) -> u64 {
        let number = field.item.as_integer().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.error(field.line, format!("`{}` must be a whole number, 0 or more", field.key));
        }
        number.map_or(0, u64::from)
    }
}

/// A date (its first moment in UTC) or an RFC 3339 moment.
fn moment(text: &str) -> Option<Timestamp> {
    let whole_day = format!("{text}T00:00:00Z");
    let text = if text.len() == "2025-06-10".len() { &whole_day } else { text };
    text.parse().ok()
}

/// `HH:MM-HH:MM`.
fn window(label: &str) -> Option<Window> {
    let minutes = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let two = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten();
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        (hours < 24 && minutes < 60).then(|| i64::from(hours) * 60 + i64::from(minutes))
    };
    let (from, to) = label.split_once('-')?;
    let (from, to) = (minutes(from)? * 60_000, minutes(to)? * 60_000);
    Some(Window { label: label.to_owned(), from, to })
}
