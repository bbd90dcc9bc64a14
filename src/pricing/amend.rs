//! Prices from public lists into a price table's text. Owns how a file is changed: comments, order and
//! whatever else stands there stay, history stays, and what came from a list is marked.
//!
//! Invariant: the text that comes out is a price table, and prices every moment before the update as the
//! one that went in.

use rust_decimal::Decimal;
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::listing::split;
use super::rates::{Above, PriceEntry, PriceSet, Rates, Since};
use super::update::{ListUpdate, PriceUpdate};

/// What a file is that holds nothing but what lists say.
pub const OVER_BUILTIN: &str = "\
# Prices over those that are built into tokenmeter. docs/PRICING.md describes the form.
version = 1
extends = \"builtin\"
";

/// The text with what lists say, or why it cannot be written.
pub fn amended(text: &str, updates: &[ListUpdate]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    for update in updates.iter().filter(|update| !update.is_empty()) {
        let provider = update.provider;
        let models = table_in(document.as_table_mut(), "prices", true)
            .and_then(|prices| table_in(prices, provider, false))
            .ok_or_else(|| format!("[prices.{provider}] is no table"))?;
        for one in &update.new {
            let mut entry = inline_of(&one.entry.base);
            entry.insert("source", Value::from(update.list));
            entry.insert("source_check", Value::from(one.entry.mark()));
            put(models, &one.model, Item::Value(Value::InlineTable(entry)));
        }
        for one in &update.changed {
            change(models, one, update.list)?;
        }
        let counts = table_in(document.as_table_mut(), "lists", true)
            .and_then(|lists| table_in(lists, update.list, false))
            .ok_or_else(|| "[lists] is no table".to_owned())?;
        let models = i64::try_from(update.models).unwrap_or(i64::MAX);
        counts.insert("models", Item::Value(Value::from(models)));
    }
    Ok(document.to_string())
}

/// A table within a table, made where there is none. Names ignore case.
fn table_in<'t>(
    table: &'t mut dyn TableLike,
    name: &str,
    is_implicit: bool,
) -> Option<&'t mut dyn TableLike> {
    let known = table.iter().map(|(key, _)| key.to_owned());
    let found = known.into_iter().find(|key| key.eq_ignore_ascii_case(name));
    let key = found.unwrap_or_else(|| name.to_owned());
    if !table.contains_key(&key) {
        let mut made = Table::new();
        made.set_implicit(is_implicit);
        table.insert(&key, Item::Table(made));
    }
    table.get_mut(&key)?.as_table_like_mut()
}

fn put(models: &mut dyn TableLike, name: &str, item: Item) {
    models.insert(name, item);
}

/// A changed price: one set more in the entry that stands in the file, or else the whole entry.
fn change(models: &mut dyn TableLike, one: &PriceUpdate, list: &str) -> Result<(), String> {
    let (_, name) = split(&one.entry.id);
    let Some(dated) = one.entry.since.last() else { return Ok(()) };
    let known = models.iter().map(|(key, _)| key.to_owned());
    let Some(key) = known.into_iter().find(|key| key.to_lowercase() == name) else {
        put(models, &one.model, Item::Table(table_of(&one.entry)));
        return Ok(());
    };
    let item = models.get_mut(&key);
    let is_inline = item.as_ref().is_some_and(|item| item.is_inline_table());
    let entry = item.and_then(Item::as_table_like_mut);
    let entry = entry.ok_or_else(|| format!("`{key}` is no set of prices"))?;
    let set = Item::Value(Value::InlineTable(inline_of(&dated.set)));
    if let Some(since) = entry.get_mut("since").and_then(Item::as_table_like_mut) {
        since.insert(&dated.label, set);
    } else if is_inline {
        let mut since = InlineTable::new();
        since.insert(&dated.label, Value::InlineTable(inline_of(&dated.set)));
        entry.insert("since", Item::Value(Value::InlineTable(since)));
    } else {
        entry.insert("since", Item::Table(dotted([(dated.label.clone(), set)])));
    }
    entry.insert("source", Item::Value(Value::from(list)));
    entry.insert("source_check", Item::Value(Value::from(one.entry.mark())));
    Ok(())
}

/// A whole entry, its history too.
fn table_of(entry: &PriceEntry) -> Table {
    let mut table = Table::new();
    add_rates(&mut table, &entry.base.rates);
    if entry.min_audio_ms > 0 {
        let seconds = i64::try_from(entry.min_audio_ms / 1_000).unwrap_or_default();
        table.insert("min_audio_seconds", Item::Value(Value::from(seconds)));
    }
    if let Some(source) = &entry.source {
        table.insert("source", Item::Value(Value::from(source.as_str())));
        table.insert("source_check", Item::Value(Value::from(entry.mark())));
    }
    for (key, sets) in conditions(&entry.base) {
        table.insert(
            key,
            Item::Table(dotted(
                sets.into_iter().map(|(name, set)| (name, Item::Value(Value::InlineTable(set)))),
            )),
        );
    }
    let set = |since: &Since| {
        (since.label.clone(), Item::Value(Value::InlineTable(inline_of(&since.set))))
    };
    table.insert("since", Item::Table(dotted(entry.since.iter().map(set))));
    table
}

/// `key.name = …`, a line each.
fn dotted(items: impl IntoIterator<Item = (String, Item)>) -> Table {
    let mut table = Table::new();
    table.set_dotted(true);
    for (name, item) in items {
        table.insert(&name, item);
    }
    table
}

fn inline_of(set: &PriceSet) -> InlineTable {
    let mut inline = inline_rates(&set.rates);
    for (key, sets) in conditions(set) {
        let mut named = InlineTable::new();
        for (name, set) in sets {
            named.insert(&name, Value::InlineTable(set));
        }
        inline.insert(key, Value::InlineTable(named));
    }
    inline
}

/// What lies over the rates of a set.
fn conditions(set: &PriceSet) -> Vec<(&'static str, Vec<(String, InlineTable)>)> {
    let hours = set.daily.iter().map(|(window, rates)| (window.label.clone(), inline_rates(rates)));
    let tiers = set.tiers.iter().map(|tier| {
        let mut inline = inline_rates(&tier.rates);
        if !tier.above.is_empty() {
            let above: InlineTable = above_of(&tier.above)
                .into_iter()
                .map(|(limit, rates)| (limit, Value::InlineTable(rates)))
                .collect();
            inline.insert("above", Value::InlineTable(above));
        }
        (tier.name.clone(), inline)
    });
    let all =
        [("daily", hours.collect()), ("above", above_of(&set.above)), ("tier", tiers.collect())];
    all.into_iter().filter(|(_, sets): &(_, Vec<_>)| !sets.is_empty()).collect()
}

fn above_of(above: &Above) -> Vec<(String, InlineTable)> {
    above.iter().map(|(limit, rates)| (limit.to_string(), inline_rates(rates))).collect()
}

fn inline_rates(rates: &Rates) -> InlineTable {
    let mut inline = InlineTable::new();
    add_rates(&mut inline, rates);
    inline
}

fn add_rates(table: &mut dyn TableLike, rates: &Rates) {
    for priced in rates {
        let figure = figure(priced.in_file());
        let Some(by) = &priced.by else {
            table.insert(priced.key, Item::Value(figure));
            continue;
        };
        let sizes = table
            .entry(priced.key)
            .or_insert_with(|| Item::Value(Value::InlineTable(InlineTable::new())));
        if let Some(sizes) = sizes.as_table_like_mut() {
            sizes.insert(by, Item::Value(figure));
        }
    }
}

/// A decimal as it reads, every digit kept.
fn figure(decimal: Decimal) -> Value {
    let text = decimal.normalize().to_string();
    text.parse().unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PriceBook;

    /// The built-in table has every kind of entry.
    #[test]
    fn whatever_is_written_reads_back_as_it_was() {
        let book = PriceBook::builtin();
        let mut document = DocumentMut::new();
        let models = table_in(document.as_table_mut(), "prices", true)
            .and_then(|prices| table_in(prices, "x", false))
            .unwrap();
        for entry in &book.entries {
            models.insert(&entry.id, Item::Table(table_of(entry)));
        }
        let read =
            PriceBook::parse(&document.to_string()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(read.entries.len(), book.entries.len());
        for entry in &book.entries {
            let id = format!("x/{}", entry.id);
            let back = read.entries.iter().find(|one| one.id == id).unwrap();
            assert!(back.costs_as(entry), "{id}: {back:?} {entry:?}");
        }
    }

    #[test]
    fn a_set_in_one_line_has_all_of_it() {
        let book = PriceBook::builtin();
        for entry in book.entries.iter().filter(|entry| entry.since.is_empty()) {
            let set = inline_of(&entry.base);
            if entry.min_audio_ms > 0 {
                continue;
            }
            let text = format!("[prices.x]\nm = {set}\n");
            let read = PriceBook::parse(&text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
            assert!(read.entries[0].costs_as(entry), "{text}");
        }
    }
}
