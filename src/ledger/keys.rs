//! The keys of new rows: their time, and a number for those of one millisecond. Owns what is remembered of the
//! keys that there are, so that nearly no row has to ask for them.
//!
//! Invariant: no key is given out twice, and none that a row has. After another connection has written, or
//! a transaction has failed, nothing is remembered.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use rusqlite::{Transaction, params};

use super::layout::{KEY_BITS, LATEST_MS};
use crate::units::Timestamp;

/// Milliseconds that are remembered; when there are more, all are forgotten.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Behind the newest row that there was: of what came since then, all is remembered.
    since: Option<i64>,
    /// The last key of a millisecond, be it of a row or only given out.
    last: HashMap<i64, i64, RandomState>,
}

impl Keys {
    /// For when rows may have come from elsewhere.
    pub(super) fn forget(&mut self) {
        self.since = None;
        self.last.clear();
    }

    /// The key behind those of the calls of the same millisecond; where that is full, of the next.
    pub(super) fn next(
        &mut self,
        transaction: &Transaction<'_>,
        at: Timestamp,
    ) -> rusqlite::Result<i64> {
        if self.last.len() >= REMEMBERED {
            self.forget();
        }
        let since = match self.since {
            Some(since) => since,
            None => *self.since.insert(behind_newest(transaction)?),
        };
        let mut millis = at.millis().clamp(0, LATEST_MS);
        loop {
            let last = match self.last.get(&millis) {
                Some(last) => Some(*last),
                None if millis >= since => None,
                None => last_key(transaction, millis)?,
            };
            let key = last.map_or(millis << KEY_BITS, |last| last + 1);
            if key >> KEY_BITS == millis {
                // Whether or not a row comes to be there.
                self.last.insert(millis, key);
                return Ok(key);
            }
            millis += 1;
        }
    }
}

/// The first millisecond of which there is no row, nor of any after it.
fn behind_newest(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let mut newest = transaction.prepare_cached("SELECT max(key) FROM calls")?;
    let newest: Option<i64> = newest.query_row([], |row| row.get(0))?;
    Ok(newest.map_or(0, |key| (key >> KEY_BITS) + 1))
}

fn last_key(transaction: &Transaction<'_>, millis: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(key) FROM calls WHERE key >= ?1 AND key < ?2";
    let mut last = transaction.prepare_cached(sql)?;
    let span = params![millis << KEY_BITS, (millis + 1) << KEY_BITS];
    last.query_row(span, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use crate::ledger::names::Names;
    use crate::ledger::row::tests::call;
    use crate::ledger::rows::Rows;
    use crate::ledger::schema;

    #[test]
    fn keys_are_given_out_behind_the_rows_of_this_connection_and_of_others() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tokenmeter.db");
        let mut one = schema::open_writer(&path).unwrap();
        let mut other = schema::open_writer(&path).unwrap();
        let mut names = [Names::default(), Names::default()];
        for turn in 0..6 {
            let connection = if turn % 2 == 0 { &mut one } else { &mut other };
            let transaction = connection.transaction().unwrap();
            let mut rows = Rows::new(&transaction, &mut names[turn % 2]).unwrap();
            for at in [7, 5, 7, 9, 9, 4 + i64::try_from(turn).unwrap()] {
                assert!(rows.insert(&call(at)).unwrap());
            }
            rows.finish().unwrap();
            transaction.commit().unwrap();
        }
        let sql = "SELECT count(*), count(DISTINCT key), sum(key >> 15) FROM calls";
        let found: (i64, i64, i64) =
            one.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        assert_eq!(found, (36, 36, 6 * (7 + 5 + 7 + 9 + 9) + 4 + 5 + 6 + 7 + 8 + 9));
    }
}
