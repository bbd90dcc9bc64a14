//! Which numbers of names there are. Owns a bit for each; knows none of the names.

use std::collections::HashSet;

use rusqlite::Connection;

use super::finding::Finding;
use crate::ledger::kind::{FACTS, Kinds};

/// Numbers below this have a bit: 16 MiB of them. Those above stand in a set.
const BITS: i64 = 1 << 27;

/// The numbers of one table.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    bits: Vec<u64>,
    far: HashSet<i64>,
}

impl Numbers {
    pub(super) fn read(connection: &Connection, table: &str) -> rusqlite::Result<Numbers> {
        let mut numbers = Numbers::default();
        let mut statement = connection.prepare(&format!("SELECT id FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            numbers.insert(row.get(0)?);
        }
        Ok(numbers)
    }

    pub(super) fn has(&self, number: i64) -> bool {
        match place(number) {
            Some((at, bit)) => self.bits.get(at).is_some_and(|word| word & bit != 0),
            None => self.far.contains(&number),
        }
    }

    fn insert(&mut self, number: i64) {
        let Some((at, bit)) = place(number) else {
            self.far.insert(number);
            return;
        };
        if self.bits.len() <= at {
            self.bits.resize(at + 1, 0);
        }
        self.bits[at] |= bit;
    }
}

fn place(number: i64) -> Option<(usize, u64)> {
    let at = usize::try_from(number).ok().filter(|_| number < BITS)?;
    Some((at / 64, 1 << (at % 64)))
}

/// Kinds that say nothing a row could be read with. Their calls are unreadable rows besides.
pub(super) fn check_kinds(connection: &Connection, found: &mut Finding) -> rusqlite::Result<()> {
    Kinds::default().refresh(connection)?;
    // Facts that every call has, unless the row has them itself.
    let needed = [
        "upstream",
        "provider",
        "endpoint",
        "method",
        "usage_source",
        "cost_source",
        "streaming",
        "outcome",
    ];
    let places = (0..).zip(FACTS).filter(|(_, name)| needed.contains(name));
    let lacks: Vec<String> = places
        .map(|(place, name)| format!("({name} IS NULL AND varied >> {place} & 1 = 0)"))
        .collect();
    let sql = format!("SELECT id FROM kinds WHERE {} OR length(digest) <> 16", lacks.join(" OR "));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        found.note(|| format!("kind {id} lacks what every call has"));
    }
    Ok(())
}
