//! What a public price list would change in a price table. Owns what is new, changed, gone or too odd to
//! be taken, and who may not be overruled: a price that a person wrote. Writes nothing; `amend` does.

use std::collections::HashSet;
use std::fmt;

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Number, Value};

use super::CostSource;
use super::belief::{LARGE, is_large, too_dear};
use super::book::{Found, PriceBook, Provider, lower};
use super::listing::{ListedRates, number, of_rates};
use super::lists::{Offered, PriceList};
use super::rates::{PriceEntry, PriceSet, Priced, Rates, Since};
use crate::units::Timestamp;

/// A list with fewer models than this part of the last one is not believed.
const PART_OF_LAST: u64 = 2;

/// The same against all names of a table, which keeps models that are retired.
const PART_OF_ALL: u64 = 5;

/// Tables with fewer names than this tell nothing about the length of a list.
const ENOUGH: u64 = 50;

/// How a list is to be read.
#[derive(Clone, Debug)]
pub struct UpdateOptions {
    /// The moment from which changed prices hold.
    pub at: Timestamp,
    /// Believes what is odd.
    pub accept_large: bool,
    /// Only these models, in lower case.
    pub only: Option<HashSet<String>>,
}

/// What a list would change.
#[derive(Clone, Debug, Serialize)]
pub struct ListUpdate {
    pub list: &'static str,
    pub provider: &'static str,
    /// How many models it has.
    pub models: usize,
    pub new: Vec<PriceUpdate>,
    pub changed: Vec<PriceUpdate>,
    /// Names that the table has and the list has not. They stay: history is priced by them.
    pub gone: Vec<String>,
    pub unchanged: usize,
    /// How many of them have prices besides, of which calls do not tell.
    pub incomplete: usize,
    pub skipped: Vec<SkippedUpdate>,
}

/// A model's price that is new or differs.
#[derive(Clone, Debug, Serialize)]
pub struct PriceUpdate {
    pub model: String,
    /// What applied so far; nothing for a new model.
    pub old: ListedRates,
    pub new: ListedRates,
    pub changes: Vec<RateChange>,
    /// What costs besides, by the list's own names and figures: calls do not tell of it, so that their
    /// costs are without it.
    pub left_out: ListedRates,
    /// The whole entry as it would be.
    #[serde(skip)]
    pub(super) entry: PriceEntry,
}

/// One rate that differs.
#[derive(Clone, Debug, Serialize)]
pub struct RateChange {
    pub rate: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// By how much, where both are known and the old one is not 0.
    pub percent: Option<Number>,
}

/// A model whose price is not taken over.
#[derive(Clone, Debug, Serialize)]
pub struct SkippedUpdate {
    pub model: String,
    pub reason: String,
}

/// Why nothing of a list is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListError(pub String);

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ListError {}

impl ListUpdate {
    /// Compares a list, as it was fetched, with a table.
    pub fn of(
        list: PriceList,
        body: &[u8],
        book: &PriceBook,
        options: &UpdateOptions,
    ) -> Result<ListUpdate, ListError> {
        let name = list.as_str();
        let offers = list.read(body).map_err(|why| ListError(format!("{name}'s list: {why}")))?;
        if !options.accept_large {
            not_far_fewer(list, offers.len(), book)?;
        }
        let mut update = ListUpdate {
            list: name,
            provider: name,
            models: offers.len(),
            new: Vec::new(),
            changed: Vec::new(),
            gone: Vec::new(),
            unchanged: 0,
            incomplete: 0,
            skipped: Vec::new(),
        };
        let builtin = PriceBook::builtin();
        let compared = Compared { list, book, builtin: &builtin, options };
        let wanted = |model: &str| options.only.as_ref().is_none_or(|only| only.contains(model));
        let mut listed: HashSet<String> = HashSet::new();
        for offer in offers {
            let model = lower(&offer.model).into_owned();
            let is_wanted = wanted(&model);
            if !listed.insert(model) || !is_wanted {
                continue;
            }
            match offer.price {
                Offered::Rates(rates, left_out) => {
                    update.incomplete += usize::from(!left_out.is_empty());
                    compared.add(offer.model, &rates, left_out, &mut update);
                }
                Offered::Nothing(reason) => {
                    update.skipped.push(SkippedUpdate { model: offer.model, reason });
                }
            }
        }
        update.gone = compared.names().filter(|name| !listed.contains(*name)).cloned().collect();
        update.gone.retain(|name| wanted(name));
        update.gone.sort_unstable();
        Ok(update)
    }

    /// Whether there is anything to be written.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.changed.is_empty()
    }
}

/// A list that has lost most of its models is broken, whatever it says of the rest.
fn not_far_fewer(list: PriceList, models: usize, book: &PriceBook) -> Result<(), ListError> {
    let (name, models) = (list.as_str(), models as u64);
    let known = book.provider(name).map_or(0, |provider| provider.table.exact.len() as u64);
    let (enough, before) = match book.lists.get(name) {
        Some(earlier) => (models * PART_OF_LAST >= *earlier, *earlier),
        None => (known < ENOUGH || models * PART_OF_ALL >= known, known),
    };
    let message = format!(
        "{name}'s list has {models} models, far fewer than the {before} that are known; nothing of it is \
         taken (--accept-large takes it)"
    );
    if enough { Ok(()) } else { Err(ListError(message)) }
}

struct Compared<'a> {
    list: PriceList,
    book: &'a PriceBook,
    builtin: &'a PriceBook,
    options: &'a UpdateOptions,
}

impl Compared<'_> {
    fn provider(&self) -> Option<&Provider> {
        self.book.provider(self.list.as_str())
    }

    /// The names in the list's own table that came from it, or stand there as they are built in.
    fn names(&self) -> impl Iterator<Item = &String> {
        let provider = self.provider();
        let exact = provider.into_iter().flat_map(|provider| provider.table.exact.iter());
        let is_free = move |name: &str| {
            let suffix = provider.and_then(|provider| provider.free_suffix.as_deref());
            suffix.is_some_and(|suffix| name.ends_with(suffix))
        };
        exact
            .filter(move |(name, entry)| {
                !is_free(name) && self.is_ours(&self.book.entries[**entry], name)
            })
            .map(|(name, _)| name)
    }

    /// Whether nobody wrote a price by hand.
    fn is_ours(&self, entry: &PriceEntry, name: &str) -> bool {
        let aliased = self.provider().and_then(|provider| provider.table.aliases.get(name));
        if aliased.is_some_and(|line| *line > 0) {
            return false;
        }
        if entry.line == 0 || entry.source.as_deref() == Some(self.list.as_str()) {
            return !entry.is_altered();
        }
        let same = |known: &&PriceEntry| known.id.eq_ignore_ascii_case(&entry.id);
        self.builtin.entries.iter().find(same).is_some_and(|known| known.costs_as(entry))
    }

    fn add(&self, model: String, rates: &Rates, left_out: ListedRates, update: &mut ListUpdate) {
        let name = lower(&model).into_owned();
        let mut skip = |model: String, reason: &str| {
            update.skipped.push(SkippedUpdate { model, reason: reason.to_owned() });
        };
        let found = self.book.find(self.provider(), Some(&name));
        let old = match found {
            Found::Free if costs_nothing(rates) => {
                update.unchanged += 1;
                return;
            }
            Found::Free => {
                return skip(model, "its name says that it is free, and the list that it is not");
            }
            Found::Entry(entry, CostSource::Priced) => Some(entry),
            _ => None,
        };
        let Some(old) = old else {
            if let Some(why) = self.unless_accepted(too_dear(&Rates::new(), rates)) {
                return skip(model, &why);
            }
            let is_free = costs_nothing(rates);
            if !self.options.accept_large && is_free && !self.list.calls_free(&name) {
                return skip(model, "it is listed at 0, and its name does not say that it is free");
            }
            let set = PriceSet { rates: rates.clone(), ..PriceSet::default() };
            let entry = PriceEntry { base: set, ..self.entry(&name) };
            update.new.push(PriceUpdate {
                model,
                old: ListedRates::new(),
                new: of_rates(rates),
                changes: changes(&Rates::new(), rates),
                left_out,
                entry,
            });
            return;
        };
        let (set, since) = old.in_force(self.options.at);
        let is_from_list = old.source.as_deref() == Some(self.list.as_str());
        let now = self.laid_over(&set.rates, rates, is_from_list);
        let changes = changes(&set.rates, &now);
        if changes.is_empty() {
            update.unchanged += 1;
        } else if is_from_list && old.is_altered() {
            skip(model, "its price is changed by hand since the list's was written, and differs");
        } else if !self.is_ours(old, &name) {
            skip(model, "its price is written by hand, and differs");
        } else if old.since.iter().any(|since| since.start > self.options.at) {
            skip(model, "the table has another price from a later date on");
        } else if since.is_some_and(|since| since.start == self.options.at) {
            skip(model, "the table has a price since this very moment");
        } else if let Some(why) = self.unless_accepted(odd(&set.rates, &now, &changes)) {
            skip(model, &why);
        } else {
            let set = PriceSet { rates: now.clone(), ..set.clone() };
            let label = self.options.at.to_string();
            let mut entry = PriceEntry { id: self.entry(&name).id, ..old.clone() };
            entry.source = Some(self.list.as_str().to_owned());
            entry.since.push(Since { start: self.options.at, label, set });
            let old = of_rates(&old.in_force(self.options.at).0.rates);
            let new = of_rates(&now);
            update.changed.push(PriceUpdate { model, old, new, changes, left_out, entry });
        }
    }

    /// A reason that counts only where what is odd is not believed anyway.
    fn unless_accepted(&self, why: Option<String>) -> Option<String> {
        why.filter(|_| !self.options.accept_large)
    }

    fn entry(&self, name: &str) -> PriceEntry {
        let list = self.list.as_str();
        PriceEntry {
            id: format!("{list}/{name}"),
            source: Some(list.to_owned()),
            ..PriceEntry::default()
        }
    }

    /// The list's rates over those of before. What a list does not tell stays; what it no longer tells
    /// stays too, unless it had told it.
    fn laid_over(&self, before: &Rates, rates: &Rates, is_from_list: bool) -> Rates {
        let mut now: Rates = before
            .iter()
            .filter(|one| !(is_from_list && self.list.tells(one.key)))
            .filter(|one| rates.iter().all(|other| other.key != one.key))
            .cloned()
            .collect();
        // What costs nothing and had no price has none still: a model that is priced by something that calls
        // do not tell must not become free by it.
        let had = |one: &Priced| before.iter().any(|other| other.key == one.key);
        now.extend(rates.iter().filter(|one| !one.price.is_zero() || had(one)).cloned());
        let order =
            |one: &Priced| super::rates::RATE_KEYS.iter().position(|(key, _)| *key == one.key);
        now.sort_by_key(order);
        now
    }
}

fn costs_nothing(rates: &Rates) -> bool {
    rates.iter().all(|one| one.price.is_zero())
}

/// Why a changed price is not believed.
fn odd(before: &Rates, now: &Rates, changes: &[RateChange]) -> Option<String> {
    if !is_large(before, now) {
        return too_dear(before, now);
    }
    let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
    Some(format!("its price changes by more than {LARGE} times: {}", said.join(", ")))
}

fn changes(old: &Rates, new: &Rates) -> Vec<RateChange> {
    let find = |rates: &Rates, key: &str| {
        rates.iter().find(|one| one.key == key && one.by.is_none()).map(Priced::in_file)
    };
    let mut keys: Vec<&str> = Vec::new();
    for one in old.iter().chain(new).filter(|one| one.by.is_none()) {
        if !keys.contains(&one.key) {
            keys.push(one.key);
        }
    }
    let change = |key: &str| {
        let (before, now) = (find(old, key), find(new, key));
        let percent = before.zip(now).filter(|(before, _)| !before.is_zero());
        let percent = percent.and_then(|(before, now)| {
            let share = (now - before).checked_mul(Decimal::ONE_HUNDRED)?.checked_div(before)?;
            share.round_dp(1).normalize().to_string().parse().ok()
        });
        (before != now).then(|| RateChange {
            rate: key.to_owned(),
            old: before.map(number),
            new: now.map(number),
            percent,
        })
    };
    keys.into_iter().filter_map(change).collect()
}

impl fmt::Display for RateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string)
        };
        write!(f, "{} {} → {}", self.rate, text(&self.old), text(&self.new))?;
        match &self.percent {
            Some(percent) if percent.to_string().starts_with('-') => write!(f, " ({percent} %)"),
            Some(percent) => write!(f, " (+{percent} %)"),
            None => Ok(()),
        }
    }
}
