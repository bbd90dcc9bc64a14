//! The price table as somebody reads it: every entry with its rates, dates and conditions, in figures of
//! the file. Owns what is said of an entry; knows neither the page nor the terminal that it is said on.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::book::{PriceBook, Provider, lower};
use super::build::ANY;
use super::glob::Glob;
use super::rates::{Above, PriceEntry, PriceSet, Rates};
use crate::units::Timestamp;

/// An entry of the price table.
#[derive(Clone, Debug, Serialize)]
pub struct ListedPrice {
    /// What a `price_id` begins with: `openai/gpt-4o`, or `default`.
    pub id: String,
    /// Whose table it stands in; `None` is the default entry.
    pub provider: Option<String>,
    /// As it is written in the file.
    pub name: String,
    /// `*` in the name stands for any text.
    pub is_pattern: bool,
    /// What unknown models cost.
    pub is_default: bool,
    /// Its price is 0 now.
    pub is_free: bool,
    /// Other names that cost the same; those of other tables begin with their provider.
    pub aliases: Vec<String>,
    /// `builtin`, `file`, or the public list that it was taken from.
    pub source: String,
    /// Where it stands in the file.
    pub line: Option<usize>,
    /// The date of the set that holds at the time asked about.
    pub since: Option<String>,
    /// What holds at that time for a plain request, by the keys of the file.
    pub rates: ListedRates,
    /// All sets, the oldest first.
    pub sets: Vec<ListedSet>,
    pub min_audio_seconds: Option<u64>,
}

/// Figures of the file by its keys, every digit kept.
pub type ListedRates = Map<String, Value>;

/// What holds from one date to the next.
#[derive(Clone, Debug, Serialize)]
pub struct ListedSet {
    /// `None`: from the beginning.
    pub since: Option<String>,
    pub rates: ListedRates,
    pub above: Vec<ListedAbove>,
    pub tiers: Vec<ListedTier>,
    pub daily: Vec<ListedHours>,
}

/// What holds for a request with more input tokens.
#[derive(Clone, Debug, Serialize)]
pub struct ListedAbove {
    pub input_tokens: u64,
    pub rates: ListedRates,
}

/// What a service tier costs.
#[derive(Clone, Debug, Serialize)]
pub struct ListedTier {
    pub tier: String,
    pub rates: ListedRates,
    pub above: Vec<ListedAbove>,
}

/// What holds at a time of day, in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct ListedHours {
    pub hours: String,
    pub rates: ListedRates,
}

/// How a provider's names are looked up.
#[derive(Clone, Debug, Serialize)]
pub struct ListedProvider {
    pub provider: String,
    pub also: Vec<String>,
    pub is_free: bool,
    pub multiplier: Option<Number>,
    pub same_as: Vec<String>,
    pub prices: usize,
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// By any of its names.
    pub provider: Option<String>,
    /// A name or a pattern that the name or an alias matches.
    pub name: Option<String>,
}

impl Wanted {
    /// Whether an entry has the name that is wanted.
    pub fn takes(&self, entry: &ListedPrice) -> bool {
        let Some(name) = &self.name else { return true };
        let glob = Glob::new(&lower(name));
        let names = entry.aliases.iter().map(String::as_str);
        glob.matches(&lower(&entry.name)) || names.into_iter().any(|name| glob.matches(name))
    }
}

impl PriceBook {
    /// The entries that are wanted, by provider and name, the default one last.
    pub fn list(&self, wanted: &Wanted, at: Timestamp) -> Vec<ListedPrice> {
        let aliases = self.aliases();
        let table = wanted.provider.as_deref().map(|name| self.own_name(name));
        let mut found: Vec<ListedPrice> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| {
                let provider = split(&entry.id).0;
                table.as_deref().is_none_or(|table| table == provider)
            })
            .map(|(at_entry, entry)| {
                let aliases = aliases.get(&at_entry).cloned().unwrap_or_default();
                listed(entry, aliases, at)
            })
            .filter(|entry| wanted.takes(entry))
            .collect();
        found.sort_by(|a, b| {
            let key = |one: &ListedPrice| (one.provider.clone(), lower(&one.name).into_owned());
            key(a).cmp(&key(b))
        });
        if wanted.provider.is_none() && wanted.name.is_none() {
            found.extend(self.default.as_ref().map(|entry| listed(entry, Vec::new(), at)));
        }
        found
    }

    /// The settings of one provider, or of all.
    pub fn list_providers(&self, wanted: Option<&str>) -> Vec<ListedProvider> {
        let table = wanted.map(|name| self.own_name(name));
        let mut prices: HashMap<&str, usize> = HashMap::new();
        for entry in &self.entries {
            *prices.entry(split(&entry.id).0).or_default() += 1;
        }
        let wanted = |one: &&Provider| table.as_deref().is_none_or(|table| table == one.name);
        let listed = |one: &Provider| ListedProvider {
            provider: one.name.clone(),
            also: one.also.clone(),
            is_free: one.free,
            multiplier: one.multiplier.and_then(|factor| factor.to_string().parse().ok()),
            same_as: one.same_as.iter().map(|at| self.providers[*at].name.clone()).collect(),
            prices: prices.get(one.name.as_str()).copied().unwrap_or_default(),
        };
        self.providers.iter().filter(wanted).map(listed).collect()
    }

    /// The one entry, with its aliases.
    pub(super) fn listed_entry(&self, index: usize, at: Timestamp) -> ListedPrice {
        let aliases = self.aliases().remove(&index).unwrap_or_default();
        listed(&self.entries[index], aliases, at)
    }

    /// The name under which a provider stands in the table.
    pub(super) fn own_name(&self, name: &str) -> String {
        match self.provider(name) {
            Some(provider) => provider.name.clone(),
            None => lower(name).into_owned(),
        }
    }

    /// By entry, the names that lead to it besides its own.
    fn aliases(&self) -> HashMap<usize, Vec<String>> {
        let mut aliases: HashMap<usize, Vec<String>> = HashMap::new();
        for provider in &self.providers {
            let globs = provider.table.globs.iter().map(|(glob, entry)| (glob.as_str(), *entry));
            let exact = provider.table.exact.iter().map(|(name, entry)| (name.as_str(), *entry));
            for (name, entry) in exact.chain(globs) {
                let (owner, own) = split(&self.entries[entry].id);
                if owner != provider.name {
                    aliases.entry(entry).or_default().push(format!("{}/{name}", provider.name));
                } else if lower(own) != name {
                    aliases.entry(entry).or_default().push(name.to_owned());
                }
            }
        }
        aliases.values_mut().for_each(|names| names.sort_unstable());
        aliases
    }
}

/// The table and the name in an entry's id.
pub(super) fn split(id: &str) -> (&str, &str) {
    id.split_once('/').unwrap_or(("", id))
}

pub(super) fn listed(entry: &PriceEntry, aliases: Vec<String>, at: Timestamp) -> ListedPrice {
    let (provider, name) = split(&entry.id);
    let (set, since) = entry.in_force(at);
    let source = match (&entry.source, entry.line) {
        (Some(list), _) => list.clone(),
        (None, 0) => "builtin".to_owned(),
        (None, _) => "file".to_owned(),
    };
    let own = PriceSet::clone(&entry.base);
    let dated = entry.since.iter().map(|since| of_set(Some(since.label.clone()), &since.set));
    let sets = std::iter::once(of_set(None, &own)).chain(dated);
    ListedPrice {
        provider: (!provider.is_empty()).then(|| provider.to_owned()),
        name: name.to_owned(),
        is_pattern: Glob::is_glob(name),
        is_default: provider.is_empty(),
        is_free: !set.rates.is_empty() && set.rates.iter().all(|priced| priced.price.is_zero()),
        aliases,
        source,
        line: Some(entry.line).filter(|line| *line > 0),
        since: since.map(|since| since.label.clone()),
        rates: of_rates(&set.rates),
        sets: sets.filter(|set| set.since.is_some() || !set.is_empty()).collect(),
        min_audio_seconds: Some(entry.min_audio_ms / 1_000).filter(|seconds| *seconds > 0),
        id: entry.id.clone(),
    }
}

impl ListedSet {
    fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.above.is_empty() && self.tiers.is_empty()
    }
}

fn of_set(since: Option<String>, set: &PriceSet) -> ListedSet {
    let tier = |tier: &super::rates::Tier| ListedTier {
        tier: tier.name.clone(),
        rates: of_rates(&tier.rates),
        above: of_above(&tier.above),
    };
    let hours = |(window, rates): &(super::rates::Window, Rates)| ListedHours {
        hours: window.label.clone(),
        rates: of_rates(rates),
    };
    ListedSet {
        since,
        rates: of_rates(&set.rates),
        above: of_above(&set.above),
        tiers: set.tiers.iter().map(tier).collect(),
        daily: set.daily.iter().map(hours).collect(),
    }
}

fn of_above(above: &Above) -> Vec<ListedAbove> {
    let one = |(limit, rates): &(u64, Rates)| ListedAbove {
        input_tokens: *limit,
        rates: of_rates(rates),
    };
    above.iter().map(one).collect()
}

/// `per_image_by` has a figure for each size; every other key has one.
pub(super) fn of_rates(rates: &Rates) -> ListedRates {
    let mut listed = ListedRates::new();
    for priced in rates {
        let figure = number(priced.in_file());
        match &priced.by {
            None => {
                listed.insert(priced.key.to_owned(), figure);
            }
            Some(by) => {
                let sizes = listed.entry(priced.key).or_insert_with(|| Map::new().into());
                if let Some(sizes) = sizes.as_object_mut() {
                    sizes.insert(by.to_string(), figure);
                }
            }
        }
    }
    listed
}

/// A decimal with all its digits.
pub(super) fn number(figure: rust_decimal::Decimal) -> Value {
    figure.normalize().to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// The table of names that hold for every provider is no provider's.
pub(super) fn is_provider(name: &str) -> bool {
    name != ANY
}
