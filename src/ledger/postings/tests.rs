//! What postings find against a plain look at all rows, whatever happened to the rows in between.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use rusqlite::{Connection, params};

use super::block::add_in_blocks;
use super::*;
use crate::ledger::schema;

/// What is done to the rows in one transaction.
#[derive(Clone, Debug)]
enum Deed {
    /// Rows come, in any order of time. One whose key is there takes the place of the other.
    Write(Vec<Posting>),
    /// Somebody changes the rows of a user with SQL.
    ByHand(u32, Posting),
    /// Rows below a key have become too old.
    Retire(i64),
    Tidy,
    Rebuild,
}

fn posting() -> impl Strategy<Value = Posting> {
    let key = prop_oneof![(0..300_i64).prop_map(|ms| ms << 15), 0..300_i64 << 15];
    (key, 1..30_u32, 0..5_u32, 0..7_i64).prop_map(|(key, kind, user, session)| Posting {
        key,
        kind,
        user,
        session,
    })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => proptest::collection::vec(posting(), 0..60).prop_map(Deed::Write),
        1 => (0..5_u32, posting()).prop_map(|(user, to)| Deed::ByHand(user, to)),
        1 => (0..100_i64 << 15).prop_map(Deed::Retire),
        1 => Just(Deed::Tidy),
        1 => Just(Deed::Rebuild),
    ]
}

/// As rows have none of it.
fn some(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}

fn write(connection: &Connection, postings: &[Posting], block: usize) {
    for one in postings {
        let sql = "INSERT OR REPLACE INTO calls (key, id, kind, user, session, path)
            VALUES (?1, ?2, ?3, ?4, ?5, 1)";
        let id = one.key.to_be_bytes();
        let values = params![one.key, id, one.kind, some(one.user.into()), some(one.session)];
        connection.execute(sql, values).unwrap();
        let name = one.session.to_string();
        let sql = "INSERT OR IGNORE INTO sessions SELECT ?1, ?2 WHERE ?1 <> 0";
        connection.execute(sql, params![one.session, name]).unwrap();
    }
    add_in_blocks(connection, postings, block).unwrap();
}

fn apply(connection: &Connection, deed: &Deed, block: usize) {
    let transaction = connection.unchecked_transaction().unwrap();
    match deed {
        Deed::Write(postings) => write(&transaction, postings, block),
        Deed::ByHand(user, to) => {
            let sql = "UPDATE calls SET kind = ?2, user = ?3, session = ?4 WHERE user = ?1";
            let values = params![user, to.kind, some(to.user.into()), some(to.session)];
            transaction.execute(sql, values).unwrap();
            let sql = "INSERT OR IGNORE INTO sessions SELECT ?1, ?1 || '' WHERE ?1 <> 0";
            transaction.execute(sql, [to.session]).unwrap();
        }
        Deed::Retire(floor) => {
            let gone = "SELECT DISTINCT session FROM calls WHERE key < ? AND session NOT NULL";
            let mut gone = transaction.prepare(gone).unwrap();
            let gone = gone.query_map([floor], |row| row.get(0)).unwrap();
            let gone: BTreeSet<i64> = gone.map(Result::unwrap).collect();
            transaction.execute("DELETE FROM calls WHERE key < ?", [floor]).unwrap();
            drop_before(&transaction, *floor).unwrap();
            forget_sessions(&transaction, gone, *floor).unwrap();
        }
        Deed::Tidy => {
            let mut below = i64::MAX;
            while let Some(next) = tidy(&transaction, below).unwrap() {
                assert!(next < below);
                below = next;
            }
        }
        Deed::Rebuild => rebuild(&transaction).unwrap(),
    }
    transaction.commit().unwrap();
}

/// The keys of the rows within a range of which something is so, oldest first.
fn plain(connection: &Connection, range: &Range<i64>, what: &str) -> Vec<i64> {
    let sql = format!("SELECT key FROM calls WHERE key >= ? AND key < ? AND {what} ORDER BY key");
    let mut select = connection.prepare(&sql).unwrap();
    let keys = select.query_map([range.start, range.end], |row| row.get(0)).unwrap();
    keys.map(Result::unwrap).collect()
}

fn assert_found(connection: &Connection, by: By<'_>, range: &Range<i64>, what: &str) {
    let expected = plain(connection, range, what);
    let is_it = |key: i64| {
        let sql = format!("SELECT 1 FROM calls WHERE key = ? AND {what}");
        connection.prepare_cached(&sql)?.exists([key])
    };
    let mut found = Finder::new(connection, by, range).unwrap().all().unwrap();
    assert!(found.is_sorted_by(|one, other| one < other));
    assert!(found.iter().all(|key| range.contains(key)));
    found.retain(|key| is_it(*key).unwrap());
    assert_eq!(found, expected, "{what}");
    for wanted in [1, 7, 1000] {
        let finder = Finder::new(connection, by, range).unwrap();
        let newest = finder.newest::<rusqlite::Error>(wanted, is_it).unwrap();
        let expected: Vec<i64> = expected.iter().rev().take(wanted).copied().collect();
        assert_eq!(newest, expected, "{what}");
    }
}

fn assert_all_found(connection: &Connection) {
    for range in [0..i64::MAX, 20 << 15..100 << 15, 5..5] {
        for user in 1..5 {
            let of_user = format!("user = {user}");
            assert_found(connection, By::User(user, &|_| true), &range, &of_user);
            let odd = By::User(user, &|kind| kind % 2 == 1);
            assert_found(connection, odd, &range, &format!("{of_user} AND kind % 2 = 1"));
        }
        for session in 1..7 {
            let what = format!("session = {session}");
            assert_found(connection, By::Session(session), &range, &what);
        }
        assert_found(connection, By::Kinds(&[]), &range, "0");
        assert_found(connection, By::Kinds(&[3, 9]), &range, "kind IN (3, 9)");
        let many: Vec<u32> = (4..25).collect();
        assert_found(connection, By::Kinds(&many), &range, "kind BETWEEN 4 AND 24");
    }
}

fn complaints(connection: &Connection) -> Vec<String> {
    let mut said = Vec::new();
    examine(connection, &mut |one| said.push(one)).unwrap();
    said
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_is_found_is_what_a_look_at_all_rows_finds(
        deeds in proptest::collection::vec(deed(), 1..12),
        block in 1..90_usize,
    ) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("tokenmeter.db");
        drop(schema::open_writer(&path).unwrap());
        for deed in &deeds {
            // Each time as after a restart: nothing is remembered but what is in the file.
            let writer = schema::open_writer(&path).unwrap();
            apply(&writer, deed, block);
            let reader = schema::open_reader(&path).unwrap();
            assert_all_found(&reader);
            prop_assert_eq!(complaints(&reader), Vec::<String>::new());
            let lost = "SELECT count(*) FROM calls
                WHERE session NOT NULL AND session NOT IN (SELECT id FROM sessions)";
            let lost: i64 = reader.query_row(lost, [], |row| row.get(0)).unwrap();
            prop_assert_eq!(lost, 0);
        }
    }
}

#[test]
fn lists_that_lack_a_row_or_cannot_be_read_are_found_and_made_again() {
    let rows: Vec<Posting> = (0..100_u32)
        .map(|n| Posting { key: i64::from(n) << 15, kind: 1, user: 1 + n % 3, session: 1 })
        .collect();
    for damage in [
        "DELETE FROM posting_block WHERE id = 1",
        "DELETE FROM posting_chunk WHERE place >> 38 = 2",
        "DELETE FROM posting_new",
        "UPDATE posting_chunk SET chunk = x'00' WHERE place >> 36 & 3 = 2",
        "UPDATE posting_chunk SET chunk = zeroblob(5000) WHERE place >> 36 & 3 = 1",
        "UPDATE posting_new SET postings = x'00'",
    ] {
        let connection = Connection::open_in_memory().unwrap();
        schema::create(&connection).unwrap();
        write(&connection, &rows[..80], 30);
        write(&connection, &rows[80..], 30);
        assert!(complaints(&connection).is_empty());
        connection.execute(damage, []).unwrap();
        assert!(!complaints(&connection).is_empty(), "{damage}");
        // All that is left of it, or an error.
        let user = By::User(1, &|_| true);
        let found = Finder::new(&connection, user, &(0..i64::MAX)).and_then(Finder::all);
        assert!(found.is_err() || found.unwrap().len() <= 34);
        // Rows must not wait.
        write(&connection, &rows[70..], 30);
        rebuild(&connection).unwrap();
        assert!(complaints(&connection).is_empty());
        assert_all_found(&connection);
    }
}

#[test]
fn what_no_row_says_any_more_is_tidied_up() {
    let connection = Connection::open_in_memory().unwrap();
    schema::create(&connection).unwrap();
    let rows = |kind| (0..200).map(move |n| Posting { key: n << 15, kind, user: 0, session: 0 });
    for kind in 1..5 {
        write(&connection, &rows(kind).collect::<Vec<_>>(), 50);
    }
    let listed = |kind| {
        let kinds = [kind];
        Finder::new(&connection, By::Kinds(&kinds), &(0..i64::MAX)).unwrap().all().unwrap().len()
    };
    assert_eq!([1, 2, 3, 4].map(listed), [200; 4]);
    apply(&connection, &Deed::Tidy, 50);
    assert_eq!([1, 2, 3, 4].map(listed), [0, 0, 0, 200]);
    assert!(complaints(&connection).is_empty());
}
