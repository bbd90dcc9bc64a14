//! What two price tables say differently. Owns the comparison of entries by their ids; knows nothing of why
//! one took the place of the other.

use std::collections::HashMap;

use serde::Serialize;

use super::book::PriceBook;
use super::listing::{ListedRates, of_rates};
use super::rates::PriceEntry;
use crate::units::Timestamp;

/// From one table to another.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableDifference {
    /// Ids of entries that the older table lacks.
    pub new: Vec<String>,
    pub changed: Vec<ChangedEntry>,
    /// Ids of entries that the newer table lacks.
    pub gone: Vec<String>,
    pub unchanged: usize,
}

/// An entry that says something else.
#[derive(Clone, Debug, Serialize)]
pub struct ChangedEntry {
    pub id: String,
    /// What holds now for a plain request, before and after. The same where only the past, the future or
    /// a condition differs.
    pub old: ListedRates,
    pub new: ListedRates,
}

impl PriceBook {
    /// What changes when `self` takes the place of `old`. Settings of providers are not compared.
    pub fn difference(&self, old: &PriceBook, at: Timestamp) -> TableDifference {
        let by_id = |book: &'_ PriceBook| -> HashMap<String, usize> {
            let ids = book.entries.iter().enumerate();
            ids.map(|(index, entry)| (entry.id.to_lowercase(), index)).collect()
        };
        let (before, now) = (by_id(old), by_id(self));
        let mut difference = TableDifference::default();
        let entries = self.entries.iter().chain(&self.default);
        for entry in entries {
            let earlier = before.get(&entry.id.to_lowercase()).map(|index| &old.entries[*index]);
            let earlier = earlier.or(old.default.as_ref().filter(|known| known.id == entry.id));
            match earlier {
                None => difference.new.push(entry.id.clone()),
                Some(earlier) if earlier.costs_as(entry) => difference.unchanged += 1,
                Some(earlier) => difference.changed.push(changed(earlier, entry, at)),
            }
        }
        let is_gone = |entry: &&PriceEntry| !now.contains_key(&entry.id.to_lowercase());
        let gone = old.entries.iter().filter(is_gone);
        let default = old.default.as_ref().filter(|_| self.default.is_none());
        difference.gone = gone.chain(default).map(|entry| entry.id.clone()).collect();
        difference.new.sort_unstable();
        difference.gone.sort_unstable();
        difference.changed.sort_by(|a, b| a.id.cmp(&b.id));
        difference
    }
}

fn changed(old: &PriceEntry, new: &PriceEntry, at: Timestamp) -> ChangedEntry {
    let rates = |entry: &PriceEntry| of_rates(&entry.in_force(at).0.rates);
    ChangedEntry { id: new.id.clone(), old: rates(old), new: rates(new) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_gone_and_the_rest_are_told_apart() {
        let old = "[prices.a]\nsame = { input = 1.0 }\ndear = { input = 1, output = 2 }\nleft = { input = 1 }\n";
        let new = "default = false\n[prices.a]\nSame = { input = 1.00 }\ndear = { input = 1, output = 2.5 }\n\
                   came = { input = 1 }\n";
        let [old, new] = [old, new].map(|text| PriceBook::parse(text).unwrap());
        let difference = new.difference(&old, Timestamp::from_millis(0));
        assert_eq!(difference.new, ["a/came"]);
        assert_eq!(difference.gone, ["a/left", "default"]);
        assert_eq!(difference.unchanged, 1);
        let [changed] = &difference.changed[..] else { panic!("{difference:?}") };
        assert_eq!(changed.id, "a/dear");
        assert_eq!(serde_json::to_string(&changed.old).unwrap(), r#"{"input":1,"output":2}"#);
        assert_eq!(serde_json::to_string(&changed.new).unwrap(), r#"{"input":1,"output":2.5}"#);
        assert!(old.difference(&old, Timestamp::from_millis(0)).changed.is_empty());
    }
}
