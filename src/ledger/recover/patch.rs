//! Stand-ins for names that are lost: a call whose model nobody knows any more still has tokens, a cost and
//! a user. Owns what they are called.

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use super::super::doctor::Watch;
use super::super::layout::{FROM_CALLS, columns};
use super::super::row;

/// Gives every number that a row has something to stand for. Answers how many rows that concerns.
pub(super) fn names(connection: &Connection) -> rusqlite::Result<u64> {
    let lost = "kind NOT IN (SELECT id FROM kinds)
        OR user IS NOT NULL AND user NOT IN (SELECT id FROM users)
        OR session IS NOT NULL AND session NOT IN (SELECT id FROM sessions)
        OR typeof(path) = 'integer' AND path NOT IN (SELECT id FROM paths)
        OR usage_shape IS NOT NULL AND usage_shape NOT IN (SELECT id FROM shapes)
        OR estimate_shape IS NOT NULL AND estimate_shape NOT IN (SELECT id FROM shapes)";
    let sql = format!("SELECT count(*) FROM calls WHERE {lost}");
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    if count == 0 {
        return Ok(0);
    }
    kinds(connection)?;
    for (table, column, what) in
        [("users", "user", "user"), ("sessions", "session", "session"), ("paths", "path", "path")]
    {
        connection.execute_batch(&format!(
            "INSERT OR IGNORE INTO {table} (id, name)
             SELECT DISTINCT {column}, 'lost {what} ' || {column} FROM calls
             WHERE typeof({column}) = 'integer' AND {column} NOT IN (SELECT id FROM {table})"
        ))?;
    }
    // What a text was cannot be said without its shape.
    for column in ["usage", "estimate"] {
        connection.execute_batch(&format!(
            "UPDATE calls SET {column} = NULL, {column}_shape = NULL
             WHERE {column}_shape IS NOT NULL AND {column}_shape NOT IN (SELECT id FROM shapes)"
        ))?;
    }
    Ok(count.unsigned_abs())
}

/// A kind of which only the number is known: what follows from the rows is said of it, and no more.
fn kinds(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT kind, max(total_tokens IS NOT NULL), max(cost_usd IS NOT NULL),
            max(charged_by IS NOT NULL)
        FROM calls WHERE kind NOT IN (SELECT id FROM kinds) GROUP BY kind";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut insert = connection.prepare(
        "INSERT INTO kinds (id, upstream, provider, endpoint, method, usage_source, cost_source,
            streaming, outcome, charged, varied, class, digest, class_digest)
         VALUES (?1, 'lost', 'lost', 'other', 'POST', ?2, ?3, 0, 'completed', ?4, 0, ?1, ?5, ?5)",
    )?;
    while let Some(row) = rows.next()? {
        let kind: i64 = row.get(0)?;
        let (has_tokens, has_cost): (bool, bool) = (row.get(1)?, row.get(2)?);
        let is_charged: bool = row.get(3)?;
        let usage = if has_tokens { "reported" } else { "none" };
        let cost = if has_cost { "priced" } else { "none" };
        let whole = digest(&SHA256, format!("lost kind {kind}").as_bytes());
        insert.execute(params![kind, usage, cost, is_charged, &whole.as_ref()[..16]])?;
    }
    // A class goes by one of its kinds, which may be lost; then each is a class of its own.
    let sql = "UPDATE kinds SET class = id WHERE class NOT IN (SELECT id FROM kinds)";
    connection.execute(sql, []).map(drop)
}

/// Rows that are no records whatever they name: nobody could ever read them. Answers how many.
pub(super) fn drop_unreadable(
    connection: &Connection,
    watch: &mut Watch<'_>,
) -> rusqlite::Result<u64> {
    watch("reading what was saved", 0, 0);
    let sql = format!("SELECT {}, calls.key {FROM_CALLS} ORDER BY calls.key", columns());
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut unreadable: Vec<i64> = Vec::new();
    while let Some(found) = rows.next()? {
        if row::read(found).is_err() {
            unreadable.push(found.get(row::WIDTH)?);
        }
    }
    drop(rows);
    let mut delete = connection.prepare("DELETE FROM calls WHERE key = ?")?;
    for key in &unreadable {
        delete.execute([key])?;
    }
    Ok(unreadable.len() as u64)
}
