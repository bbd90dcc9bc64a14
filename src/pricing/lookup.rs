//! Which entry applies to a model and why. Owns the account of a look-up that `book` makes; finds nothing
//! by itself.

use serde::Serialize;
use serde_json::Value;

use super::book::{Found, MAX_NAME_BYTES, PriceBook, Provider, lower};
use super::listing::{ListedPrice, ListedRates, is_provider, listed, of_rates};
use super::names::undated;
use super::rates::{PriceEntry, Rate};
use super::{Billable, CostSource};
use crate::nearest::nearest;
use crate::units::{Timestamp, Usd};
use crate::usage::Usage;

/// The tokens of the example that is priced.
const EXAMPLE: (u64, u64) = (1_000, 500);

/// How many similar names are told.
const SIMILAR: usize = 5;

/// What a model costs at a provider, and why.
#[derive(Clone, Debug, Serialize)]
pub struct AppliedPrice {
    pub provider: String,
    pub model: String,
    pub at: Timestamp,
    /// `priced`, `default`, `free` or `none`.
    pub cost_source: CostSource,
    /// What a plain call's row would name.
    pub price_id: Option<String>,
    /// In words.
    pub reason: String,
    /// On all that is computed for this provider.
    pub multiplier: Option<Value>,
    pub rates: ListedRates,
    /// The id of the entry, where one applies.
    pub entry: Option<String>,
    pub example: PricedExample,
}

/// What a plain call costs.
#[derive(Clone, Debug, Serialize)]
pub struct PricedExample {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_usd: Option<Usd>,
}

impl PriceBook {
    /// What a model costs at a provider; without one, at every provider whose own table has it. With it the
    /// entries that apply.
    pub fn applied(
        &self,
        provider: Option<&str>,
        model: &str,
        at: Timestamp,
    ) -> (Vec<AppliedPrice>, Vec<ListedPrice>) {
        let mut entries: Vec<ListedPrice> = Vec::new();
        let applied = self.providers_of(provider, model).into_iter().map(|provider| {
            let (applied, entry) = self.applied_at(&provider, model, at);
            entries.extend(entry.filter(|entry| entries.iter().all(|one| one.id != entry.id)));
            applied
        });
        (applied.collect(), entries)
    }

    fn providers_of(&self, provider: Option<&str>, model: &str) -> Vec<String> {
        if let Some(provider) = provider {
            return vec![provider.to_owned()];
        }
        let name = lower(model);
        let has = |one: &&Provider| {
            is_provider(&one.name) && name.len() <= MAX_NAME_BYTES && one.own(&name).is_some()
        };
        self.providers.iter().filter(has).map(|one| one.name.clone()).collect()
    }

    fn applied_at(
        &self,
        provider: &str,
        model: &str,
        at: Timestamp,
    ) -> (AppliedPrice, Option<ListedPrice>) {
        let known = self.provider(provider);
        let name = Some(lower(model)).filter(|name| name.len() <= MAX_NAME_BYTES);
        let name = name.as_deref();
        let (input, output) = EXAMPLE;
        let usage = Usage { input: Some(input), output: Some(output), ..Usage::default() };
        let cost = self.price(&Billable {
            provider,
            model: Some(model),
            at,
            service_tier: None,
            batch: false,
            usage: &usage,
            several_turns: false,
            side: &[],
            reported: None,
        });
        let found = self.find(known, name);
        let (cost_source, price_id) = match &found {
            Found::Entry(entry, source) if has_counted_rate(entry, at) => {
                (*source, cost.price_id.or_else(|| Some(entry.id.clone())))
            }
            _ => (cost.source, cost.price_id),
        };
        let (entry, rates, reason) = match found {
            Found::Free => (None, ListedRates::new(), free(known, name.unwrap_or_default())),
            Found::Nothing => (None, ListedRates::new(), "no entry has a price for it".to_owned()),
            Found::Entry(entry, source) => {
                let rates = of_rates(&entry.in_force(at).0.rates);
                let index = self.entries.iter().position(|one| std::ptr::eq(one, entry));
                let shown = match index {
                    Some(index) => self.listed_entry(index, at),
                    None => listed(entry, Vec::new(), at),
                };
                let reason = match index {
                    Some(index) if source != CostSource::Default => {
                        self.reason(known, name.unwrap_or_default(), index)
                    }
                    _ => "no entry has its name, so the default applies: a guess".to_owned(),
                };
                (Some(shown), rates, reason)
            }
        };
        let applied = AppliedPrice {
            provider: self.own_name(provider),
            model: model.to_owned(),
            at,
            cost_source,
            price_id,
            reason,
            multiplier: known.and_then(|provider| provider.multiplier).map(super::listing::number),
            rates,
            entry: entry.as_ref().map(|entry| entry.id.clone()),
            example: PricedExample {
                input_tokens: input,
                output_tokens: output,
                cost_usd: cost.usd,
            },
        };
        (applied, entry)
    }

    /// How the look-up came to an entry: the first table and form of the name that lead there.
    fn reason(&self, provider: Option<&Provider>, name: &str, entry: usize) -> String {
        let mut tables: Vec<(&Provider, Vec<&str>)> = Vec::new();
        let bare = provider.and_then(|provider| provider.without_suffix(name));
        if let Some(provider) = provider {
            tables.push((provider, vec![name]));
            tables.extend(bare.map(|bare| (provider, vec![bare])));
            let plainest = provider.plainer(bare.unwrap_or(name)).last();
            let names: Vec<&str> = std::iter::once(bare.unwrap_or(name)).chain(plainest).collect();
            let siblings = provider.same_as.iter().map(|at| &self.providers[*at]);
            tables.extend(siblings.map(|sibling| (sibling, names.clone())));
        }
        let vendored = bare.unwrap_or(name).trim_start_matches('~').split_once('/');
        if let Some((vendor, model)) = vendored
            && let Some(vendor) = self.provider(vendor)
        {
            tables.push((vendor, vec![model]));
        }
        tables.extend(self.any.map(|any| (&self.providers[any], vec![name])));
        for (table, names) in tables {
            for form in names.into_iter().flat_map(|name| forms(table, name)) {
                if table.table.find(form) == Some(entry) {
                    return said(provider, table, name, form);
                }
            }
        }
        "its name leads there".to_owned()
    }

    /// Names that an unknown one may have been meant to be, with their providers, the nearest first.
    pub fn similar(&self, provider: Option<&str>, model: &str) -> Vec<String> {
        let name = lower(model);
        if name.len() > MAX_NAME_BYTES {
            return Vec::new();
        }
        let last = name.rsplit('/').next().unwrap_or(&name);
        let table = provider.map(|name| self.own_name(name));
        let tables = self.providers.iter().filter(|one| is_provider(&one.name));
        let tables = tables.filter(|one| table.as_deref().is_none_or(|table| table == one.name));
        let mut similar: Vec<(bool, String)> = Vec::new();
        for one in tables {
            let exact = || one.table.exact.keys().map(String::as_str);
            if let Some(near) = nearest(&name, exact()) {
                similar.push((false, format!("{}/{near}", one.name)));
            }
            if last.len() >= 3 {
                let holds = exact().filter(|known| known.contains(last));
                similar.extend(holds.map(|known| (true, format!("{}/{known}", one.name))));
            }
        }
        similar.sort_by(|a, b| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
        let mut names: Vec<String> = Vec::new();
        for (_, name) in similar {
            if !names.contains(&name) && names.len() < SIMILAR {
                names.push(name);
            }
        }
        names
    }
}

/// The forms in which a name is looked for in one table, in this order.
fn forms<'n>(table: &Provider, name: &'n str) -> Vec<&'n str> {
    let plainer: Vec<&str> = table.plainer(name).collect();
    let undated = plainer.iter().filter_map(|form| undated(form));
    plainer.iter().copied().chain(undated).collect()
}

fn said(provider: Option<&Provider>, table: &Provider, name: &str, form: &str) -> String {
    let mut said = match table.table.exact.contains_key(form) {
        true if form == name => format!("`{form}` stands"),
        true => format!("the name is looked up as `{form}`, which stands"),
        false => {
            let glob = table.table.globs.iter().find(|(glob, _)| glob.matches(form));
            let glob = glob.map_or("*", |(glob, _)| glob.as_str());
            match form == name {
                true => format!("the pattern `{glob}` matches it"),
                false => format!("it is looked up as `{form}`, which the pattern `{glob}` matches"),
            }
        }
    };
    said.push_str(&match provider {
        Some(provider) if std::ptr::eq(provider, table) => {
            format!(" in [prices.{}]", table.name)
        }
        Some(provider) => {
            format!(" in [prices.{}], where {} looks too", table.name, provider.name)
        }
        None => format!(" in [prices.{}]", table.name),
    });
    said
}

fn free(provider: Option<&Provider>, name: &str) -> String {
    let suffix = provider.and_then(|provider| provider.free_suffix.as_deref());
    match suffix.filter(|suffix| name.ends_with(suffix)) {
        Some(suffix) => format!("names that end in `{suffix}` cost nothing there"),
        None => "this provider costs nothing".to_owned(),
    }
}

impl AppliedPrice {
    /// Whether the table knows the model, and does not guess.
    pub fn is_known(&self) -> bool {
        let own = self.entry.is_some() && self.cost_source != CostSource::Default;
        own || self.cost_source == CostSource::Free
    }
}

/// Whether an entry has a price by something that calls tell.
fn has_counted_rate(entry: &PriceEntry, at: Timestamp) -> bool {
    entry.in_force(at).0.rates.iter().any(|priced| priced.rate != Rate::Uncounted)
}
