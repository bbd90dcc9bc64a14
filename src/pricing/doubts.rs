//! Odd but legal things in a price table. Owns what is worth a second look; refuses nothing.

use rust_decimal::Decimal;

use super::book::{MAX_NAME_BYTES, PriceBook};
use super::errors::PriceError;
use super::listing::split;
use super::rates::{PriceEntry, PriceSet, Rate, Rates};

/// Dollars for a million tokens. No model's text is cheaper than the first or dearer than the second.
const CHEAPEST: Decimal = Decimal::from_parts(1, 0, 0, false, 3);
const DEAREST: Decimal = Decimal::from_parts(2_000, 0, 0, false, 0);

/// What tiers are never called when an entry is looked up, because these words come off first.
const TIER_PREFIXES: [&str; 2] = ["service_tier_", "on_demand_"];

impl PriceBook {
    /// What may be a slip, each with its line, in the order of the lines. Entries of the built-in table are
    /// not doubted.
    pub fn doubts(&self) -> Vec<PriceError> {
        let mut doubts = Vec::new();
        for entry in self.entries.iter().chain(&self.default).filter(|entry| entry.line > 0) {
            let mut doubt = |message: String| {
                let message = format!("`{}` {message}", entry.id);
                doubts.push(PriceError { line: entry.line, message });
            };
            if let Some(why) = self.never_applies(entry) {
                doubt(why);
            }
            let dated = entry.since.iter().map(|since| &since.set);
            for set in std::iter::once(&entry.base).chain(dated) {
                about_set(set, &mut doubt);
            }
        }
        doubts.sort_by_key(|doubt| doubt.line);
        doubts.dedup();
        doubts
    }

    /// Why no call can ever be priced by an entry.
    fn never_applies(&self, entry: &PriceEntry) -> Option<String> {
        let (provider, name) = split(&entry.id);
        let provider = self.providers.iter().find(|one| one.name == provider)?;
        let name = name.to_lowercase();
        let suffix = provider.free_suffix.as_deref();
        if suffix.is_some_and(|suffix| name.ends_with(suffix)) {
            let suffix = suffix.unwrap_or_default();
            return Some(format!("never applies: names that end in `{suffix}` are free"));
        }
        if name.len() > MAX_NAME_BYTES {
            return Some(format!("never applies: no model's name has over {MAX_NAME_BYTES} bytes"));
        }
        let rival =
            provider.table.globs.iter().find(|(glob, _)| {
                glob.as_str() != name && name.contains('*') && glob.covers(&name)
            });
        rival.and_then(|(glob, other)| {
            let longer = glob.literal_len() >= name.chars().filter(|c| *c != '*').count();
            let differs = !self.entries[*other].costs_as(entry);
            (longer && differs)
                .then(|| format!("never applies: `{}` matches all that it does", glob.as_str()))
        })
    }
}

fn about_set(set: &PriceSet, doubt: &mut impl FnMut(String)) {
    about_rates(&set.rates, "", doubt);
    for (limit, rates) in &set.above {
        about_rates(rates, &format!(" above {limit}"), doubt);
    }
    for tier in &set.tiers {
        about_rates(&tier.rates, &format!(" in tier `{}`", tier.name), doubt);
        if let Some(prefix) = TIER_PREFIXES.iter().find(|prefix| tier.name.starts_with(*prefix)) {
            let plain = &tier.name[prefix.len()..];
            doubt(format!("has a tier `{}` that never applies: write `{plain}`", tier.name));
        }
    }
    for (at, (window, rates)) in set.daily.iter().enumerate() {
        about_rates(rates, &format!(" at {}", window.label), doubt);
        if window.from == window.to {
            doubt(format!("has hours that never come: `{}`", window.label));
        } else if let Some((earlier, _)) =
            set.daily[..at].iter().find(|(earlier, _)| earlier.covers(window))
        {
            let (label, earlier) = (&window.label, &earlier.label);
            doubt(format!("has hours `{label}` that never apply: `{earlier}` comes first"));
        }
    }
}

fn about_rates(rates: &Rates, place: &str, doubt: &mut impl FnMut(String)) {
    let of =
        |rate: Rate| rates.iter().find(|one| one.rate == rate).map(super::rates::Priced::in_file);
    if let (Some(input), Some(output)) = (of(Rate::Input), of(Rate::Output))
        && output < input
        && !output.is_zero()
    {
        doubt(format!("has output ({output}) cheaper than input ({input}){place}"));
    }
    if let (Some(input), Some(cached)) = (of(Rate::Input), of(Rate::CachedInput))
        && cached > input
    {
        doubt(format!("has cached input ({cached}) dearer than input ({input}){place}"));
    }
    for (key, rate) in [("input", Rate::Input), ("output", Rate::Output)] {
        let Some(price) = of(rate).filter(|price| !price.is_zero()) else { continue };
        if price < CHEAPEST {
            let million = (price * Decimal::from(1_000_000)).normalize();
            doubt(format!(
                "has {key} = {price}{place}, as if for one token or for a thousand; prices are for a \
                 million: {million} if it is the price of one token"
            ));
        } else if price > DEAREST {
            doubt(format!(
                "has {key} = {price}{place}; prices are dollars for a million tokens, and this is more \
                 than any model's"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_slip_is_named_with_its_line() {
        let text = r#"extends = "builtin"
[prices.house]
fine = { input = 1, cached_input = 0.1, output = 4 }
embeds = { input = 0.02, output = 0 }
token = { input = 0.0000025, output = 0.00001 }
dear = { input = 2500, output = 10000 }
turned = { input = 10, output = 2 }
cached = { input = 1, cached_input = 1.5, output = 4 }
hours = { input = 1, daily."08:00-20:00" = { input = 2 }, daily."09:00-10:00" = { input = 3 } }
tiers = { input = 1, tier.service_tier_flex = { input = 0.5 } }
[prices.openrouter]
"some/model:free" = { input = 1 }
"#;
        let doubts = PriceBook::parse(text).unwrap().doubts();
        let lines: Vec<usize> = doubts.iter().map(|doubt| doubt.line).collect();
        assert_eq!(lines, [5, 5, 6, 6, 7, 8, 9, 10, 12], "{doubts:#?}");
        assert!(doubts[0].message.contains("2.5 if it is the price of one token"));
    }

    #[test]
    fn the_built_in_table_is_not_doubted() {
        assert!(PriceBook::builtin().doubts().is_empty());
    }
}
