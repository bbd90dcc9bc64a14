//! What can be derived, derived again. Owns the order in which that must be done; what is wrong with a
//! single thing is the checks' affair.
//!
//! Invariant: nothing here commits. A repair that cannot be finished leaves everything as it was.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::calls;
use super::file;
use super::finding::Check;
use super::lines::{Stuck, clear_left_over, refill};
use super::{Examination, Mended, Watch};
use crate::ledger::layout::KEY_BITS;
use crate::ledger::postings;
use crate::ledger::retention;
use crate::ledger::rollup::{self, Disagreement, Rebuild};

/// Everything, in the order in which one is made from the other: schema, indexes, rows, sums.
pub(super) fn all(
    transaction: &Transaction<'_>,
    directory: &Path,
    examined: &Examination,
    watch: &mut Watch<'_>,
) -> Result<Mended, Stuck> {
    schema(transaction)?;
    if examined.count(Check::File) + examined.count(Check::Ids) > 0 {
        watch("making the indexes again", 0, 0);
        transaction.execute_batch("REINDEX")?;
    }
    // What is written to rows is added to sums, which must be readable for that.
    forget_sums(transaction)?;
    let refilled = refill(transaction, directory, watch)?;
    clear_left_over(transaction)?;
    watch("listing calls again", 0, 0);
    postings::rebuild(transaction)?;
    // What a stop in the middle of retention has left.
    transaction.execute_batch(
        "DELETE FROM sessions WHERE id NOT IN
            (SELECT session FROM calls WHERE session IS NOT NULL)",
    )?;
    let counted = sums(transaction, watch)?;
    Ok(Mended { added: refilled.added, replaced: refilled.replaced, counted })
}

/// Makes what follows from no data: indexes, the view, its trigger, and tables that are made again below.
fn schema(connection: &Connection) -> rusqlite::Result<()> {
    for one in file::differences(connection)? {
        let can_go = matches!(one.kind.as_str(), "index" | "view" | "trigger");
        if !one.is_missing && can_go {
            connection.execute_batch(&format!("DROP {} IF EXISTS \"{}\"", one.kind, one.name))?;
        }
        if one.is_missing || can_go {
            connection.execute_batch(&one.sql)?;
        }
    }
    // With a view goes its trigger.
    for one in file::differences(connection)?.into_iter().filter(|one| one.is_missing) {
        connection.execute_batch(&one.sql)?;
    }
    Ok(())
}

/// The first slot whose sums are those of rows; nothing where all are.
fn first_slot(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let since = retention::rows_since(connection)?;
    Ok(since.map(|since| rollup::slot_of(since.millis())))
}

fn forget_sums(connection: &Connection) -> rusqlite::Result<()> {
    anew(connection)?.finish()
}

/// Forgets the sums of half hours that have rows. The others are mended before: the day that has both
/// knows what they were, and is made of them.
fn anew(connection: &Connection) -> rusqlite::Result<Rebuild<'_>> {
    let first = first_slot(connection)?;
    if let Some(first) = first {
        mend_old(connection, first)?;
    }
    Rebuild::since(connection, first)
}

/// Sums made again from rows; from other sums where the rows are gone. Answers how many calls are in
/// those made from rows.
pub(in crate::ledger) fn sums(
    connection: &Connection,
    watch: &mut Watch<'_>,
) -> Result<u64, Stuck> {
    let mut rebuild = anew(connection)?;
    let from = retention::rows_since(connection)?;
    let from = from.map_or(i64::MIN, |since| since.millis() << KEY_BITS);
    let mut counted = 0;
    calls::each(connection, from, watch, &mut |_, met| match &met.record {
        Ok(record) => {
            counted += 1;
            rebuild.add(met.user, met.kind, record)
        }
        // What cannot be read is in no sum, and is complained of.
        Err(_) => Ok(()),
    })?;
    rebuild.finish()?;
    Ok(counted)
}

/// Sums of half hours that have no rows any more. Packs of single slots come first, because the others
/// are made of them.
fn mend_old(connection: &Connection, first: i64) -> rusqlite::Result<()> {
    let mut wrong: Vec<Disagreement> = Vec::new();
    rollup::disagreements(connection, &mut |one| wrong.push(one))?;
    wrong.retain(|one| one.slot < first);
    wrong.sort_by_key(Disagreement::order);
    for one in wrong {
        // What cannot be told stays as it is, and is complained of.
        let _ = rollup::mend(connection, one)?;
    }
    Ok(())
}
