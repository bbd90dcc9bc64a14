//! The price table in memory. Owns which entry applies to a provider's model, and so what a call
//! costs; knows neither the file's form nor the ledger.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use rust_decimal::Decimal;

use super::charge::charge;
use super::glob::Glob;
use super::names::{undated, without_path};
use super::rates::{PriceEntry, RateCard, Situation};
use super::{Billable, Cost, CostPart, CostSource, PriceErrors, build};
use crate::units::Usd;
use crate::usage::Usage;

/// Longer names are no model's. Bounds the work that a request can cause by its `model`.
pub(super) const MAX_NAME_BYTES: usize = 512;

/// The checked price table. Look-ups take about a microsecond and share nothing that locks.
pub struct PriceBook {
    pub(super) providers: Vec<Provider>,
    /// Every name of a provider, in lower case.
    pub(super) by_name: HashMap<String, usize>,
    /// `[prices.any]`.
    pub(super) any: Option<usize>,
    pub(super) default: Option<PriceEntry>,
    pub(super) entries: Vec<PriceEntry>,
    /// How many models each public list had when prices were last taken from it.
    pub(super) lists: HashMap<String, u64>,
}

impl fmt::Debug for PriceBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriceBook").field("entries", &self.len()).finish_non_exhaustive()
    }
}

pub(super) struct Provider {
    pub(super) name: String,
    /// Its other names.
    pub(super) also: Vec<String>,
    pub(super) table: Table,
    /// Whose tables to look in after the own one, in this order.
    pub(super) same_as: Vec<usize>,
    pub(super) multiplier: Option<Decimal>,
    pub(super) free: bool,
    pub(super) vendor_prefix: bool,
    pub(super) drop_suffix: bool,
    pub(super) free_suffix: Option<String>,
    pub(super) drop_prefix: Vec<String>,
    pub(super) trust_reported_cost: bool,
}

/// One `[prices.PROVIDER]`: indices into the book's entries.
#[derive(Default)]
pub(super) struct Table {
    pub(super) exact: HashMap<String, usize>,
    /// The lines of names that cost the same as others; 0 in the built-in table.
    pub(super) aliases: HashMap<String, usize>,
    /// Longest first.
    pub(super) globs: Vec<(Glob, usize)>,
}

impl Table {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        exact.or_else(|| {
            self.globs.iter().find(|(glob, _)| glob.matches(name)).map(|(_, entry)| *entry)
        })
    }
}

impl Provider {
    /// Looks a name up in this provider's own table: as it is, without path, without the prefixes
    /// that do not matter here, and then all of these without date.
    fn find(&self, name: &str) -> Option<usize> {
        let found = self.plainer(name).find_map(|form| self.table.find(form));
        found.or_else(|| {
            self.plainer(name).filter_map(undated).find_map(|form| self.table.find(form))
        })
    }

    /// Looks a name up with its suffix and then without.
    pub(super) fn own(&self, name: &str) -> Option<usize> {
        self.find(name).or_else(|| self.find(self.without_suffix(name)?))
    }

    pub(super) fn without_suffix<'n>(&self, name: &'n str) -> Option<&'n str> {
        let plain = name.rsplit_once(':').map(|(plain, _)| plain);
        plain.filter(|plain| self.drop_suffix && !plain.is_empty())
    }

    /// The name, and each form of it that is left when a path or a prefix comes off.
    pub(super) fn plainer<'n>(&self, name: &'n str) -> impl Iterator<Item = &'n str> {
        std::iter::successors(Some(name), |name| {
            without_path(name).or_else(|| {
                self.drop_prefix.iter().find_map(|prefix| name.strip_prefix(prefix.as_str()))
            })
        })
    }
}

/// What the table says about a provider's model.
pub(super) enum Found<'a> {
    Entry(&'a PriceEntry, CostSource),
    Free,
    Nothing,
}

impl PriceBook {
    /// Reads a price table; the error holds everything that is wrong with it.
    pub fn parse(text: &str) -> Result<PriceBook, PriceErrors> {
        build::parse(text)
    }

    /// The table that is built into the binary.
    pub fn builtin() -> PriceBook {
        build::builtin()
    }

    /// The text of that table.
    pub fn builtin_text() -> &'static str {
        build::BUILTIN
    }

    /// How many prices there are, other names for the same price not counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// A table without a price: all is free, default or unpriced.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The providers that have prices or settings, by their own names, sorted.
    pub fn provider_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.providers.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The names and globs under which a provider's own table has prices, sorted.
    pub fn names(&self, provider: &str) -> Vec<&str> {
        let Some(provider) = self.provider(provider) else { return Vec::new() };
        let globs = provider.table.globs.iter().map(|(glob, _)| glob.as_str());
        let mut names: Vec<&str> =
            provider.table.exact.keys().map(String::as_str).chain(globs).collect();
        names.sort_unstable();
        names
    }

    /// What a call costs. Never fails: what is unknown is unpriced.
    pub fn price(&self, call: &Billable<'_>) -> Cost {
        let provider = self.provider(call.provider);
        let mut computed = self.compute(call, provider);
        let trusted = provider.is_none_or(|provider| provider.trust_reported_cost);
        if let Some(reported) = call.reported.filter(|_| trusted) {
            computed.usd = Some(reported);
            computed.source = CostSource::Provider;
        }
        computed
    }

    /// The cost of a call and its side passes by the table alone.
    fn compute(&self, call: &Billable<'_>, provider: Option<&Provider>) -> Cost {
        let mut cost = self.pass(call, provider, call.model, call.usage);
        for (model, usage) in call.side {
            let side = self.pass(call, provider, Some(model), usage);
            cost.join(side);
        }
        cost
    }

    /// One model's part in a call.
    fn pass(
        &self,
        call: &Billable<'_>,
        provider: Option<&Provider>,
        model: Option<&str>,
        usage: &Usage,
    ) -> Cost {
        let name = model.filter(|name| name.len() <= MAX_NAME_BYTES).map(lower);
        let (entry, source) = match self.find(provider, name.as_deref()) {
            Found::Entry(entry, source) => (entry, source),
            Found::Free => return Cost::free(),
            Found::Nothing => return Cost::unpriced(None),
        };
        let tier = if call.batch { Some("batch".into()) } else { call.service_tier.map(tier_name) };
        let now = Situation {
            at: call.at,
            tier: tier.as_deref(),
            input_tokens: context_length(entry, usage, call.several_turns),
        };
        let card: RateCard = entry.card(now);
        match charge(&card, usage, provider.and_then(|provider| provider.multiplier)) {
            Some(parts) => Cost::of(parts, source, card.id),
            None if source == CostSource::Default => Cost::unpriced(None),
            None => Cost::unpriced(Some(card.id)),
        }
    }

    pub(super) fn provider(&self, name: &str) -> Option<&Provider> {
        self.by_name.get(lower(name).as_ref()).map(|at| &self.providers[*at])
    }

    /// The look-up order of docs/PRICING.md; it stops at the first that has a price.
    pub(super) fn find(&self, provider: Option<&Provider>, name: Option<&str>) -> Found<'_> {
        let known = provider.zip(name);
        if let Some((provider, name)) = known {
            if provider.free_suffix.as_deref().is_some_and(|suffix| name.ends_with(suffix)) {
                return Found::Free;
            }
            if let Some(entry) = provider.own(name) {
                return Found::Entry(&self.entries[entry], CostSource::Priced);
            }
        }
        if provider.is_some_and(|provider| provider.free) {
            return Found::Free;
        }
        let entry = known
            .and_then(|(provider, name)| self.elsewhere(provider, name))
            .or_else(|| self.providers[self.any?].find(name?));
        match (entry, &self.default, name) {
            (Some(entry), ..) => Found::Entry(&self.entries[entry], CostSource::Priced),
            (None, Some(default), _) => Found::Entry(default, CostSource::Default),
            (None, None, _) => Found::Nothing,
        }
    }

    /// The tables of the providers that this one resells.
    fn elsewhere(&self, provider: &Provider, name: &str) -> Option<usize> {
        let name = provider.without_suffix(name).unwrap_or(name);
        let siblings = provider.same_as.iter().map(|at| &self.providers[*at]);
        let plainest = provider.plainer(name).last().unwrap_or(name);
        let sibling = |name| siblings.clone().find_map(|sibling: &Provider| sibling.find(name));
        sibling(name).or_else(|| sibling(plainest)).or_else(|| {
            let (vendor, model) = name.trim_start_matches('~').split_once('/')?;
            self.provider(vendor).filter(|_| provider.vendor_prefix)?.find(model)
        })
    }
}

pub(super) fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        Cow::Owned(name.to_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// A tier's name as the table writes it: Gemini says `SERVICE_TIER_FLEX`, Vertex `ON_DEMAND_FLEX`.
/// A tier for which an entry has no price (`default`, `standard`, `scale`, …) costs the list price.
fn tier_name(served: &str) -> Cow<'_, str> {
    let name = lower(served);
    for prefix in ["service_tier_", "on_demand_"] {
        if let Some(plain) = name.strip_prefix(prefix) {
            return Cow::Owned(plain.to_owned());
        }
    }
    name
}

/// The input by which the price of long requests is chosen. Where Claude ran server tools, the
/// input adds up several turns, none of which need have been long.
fn context_length(entry: &PriceEntry, usage: &Usage, several_turns: bool) -> u64 {
    let searched = usage.web_searches.is_some_and(|searches| searches > 0);
    if several_turns || searched && entry.id.contains("claude") {
        0
    } else {
        usage.input.or(usage.total).unwrap_or(0)
    }
}

impl Cost {
    fn of(parts: Vec<CostPart>, source: CostSource, id: String) -> Cost {
        let usd = Usd::new(parts.iter().map(|part| part.usd).sum::<Usd>().decimal());
        Cost { usd: Some(usd), source, computed: Some(usd), price_id: Some(id), parts }
    }

    fn free() -> Cost {
        Cost::of(Vec::new(), CostSource::Free, "free".to_owned())
    }

    fn unpriced(id: Option<String>) -> Cost {
        Cost {
            usd: None,
            source: CostSource::None,
            computed: None,
            price_id: id,
            parts: Vec::new(),
        }
    }

    /// Adds a side pass. One unpriced pass leaves the whole unpriced, for part of a cost is not the
    /// cost; one priced by default flags the whole.
    fn join(&mut self, side: Cost) {
        let ids = self.price_id.take().into_iter().chain(side.price_id).collect::<Vec<_>>();
        self.price_id = (!ids.is_empty()).then(|| ids.join(","));
        let (Some(mine), Some(other)) = (self.computed, side.computed) else {
            *self = Cost::unpriced(self.price_id.take());
            return;
        };
        self.parts.extend(side.parts);
        self.computed = Some(Usd::new((mine + other).decimal()));
        self.usd = self.computed;
        self.source = match (self.source, side.source) {
            (CostSource::Default, _) | (_, CostSource::Default) => CostSource::Default,
            (CostSource::Free, other) => other,
            (mine, _) => mine,
        };
    }
}
