//! Rows go and sums stay.

use super::*;

const DAY_MS: i64 = 86_400_000;

fn keeping(home: &Home, days: u32) -> Ledger {
    let settings = Settings { retention_days: Some(days), ..Settings::of(home.database()) };
    Ledger::open(&settings).unwrap()
}

#[test]
fn old_rows_go_and_their_sums_stay() {
    let home = Home::new();
    let now = Timestamp::now().millis();
    let mut load = Loader::open(&home.database()).unwrap();
    for day in 0..20 {
        for n in 0..60 {
            let mut record = call(now - day * DAY_MS - n * 60_000);
            record.user = Some("ann".to_owned());
            record.session = Some(format!("{day}"));
            record.total_tokens = Some(7);
            load.add(record).unwrap();
        }
    }
    load.finish().unwrap();
    let ledger = keeping(&home, 10);
    let count = |sql: &str| -> i64 {
        Connection::open(home.database()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let begun = Instant::now();
    while count("SELECT count(*) FROM token_usage") > 10 * 60 + 60 {
        assert!(begun.elapsed() < SOON);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(count("SELECT count(*) FROM sessions") <= 11);
    let reader = ledger.reader();
    let stats = |filter: Filter, group_by| {
        reader.stats(&StatsQuery { filter, group_by, ..StatsQuery::default() }).unwrap()
    };
    let all = stats(Filter::default(), vec![GroupKey::User]);
    assert_eq!((all.totals.requests, all.totals.total_tokens), (1200, 8400));
    assert_eq!(all.groups[0].key["user"], "ann");
    assert_eq!(all.rows_since, None);
    // What sums do not tell is told of the rows that are left, and the answer says so.
    let sessions = stats(Filter::default(), vec![GroupKey::Session]);
    assert!(sessions.totals.requests <= 660 && sessions.rows_since.is_some());
    // A session that was deleted with its rows may come again.
    let mut again = call(now);
    again.session = Some("19".to_owned());
    ledger.closed(&again);
    assert!(ledger.sync(SOON));
    assert_eq!(reader.one(&again.id).unwrap().unwrap().session.as_deref(), Some("19"));
    // An old call that is read again is not counted again; a new one is.
    ledger.closed(&call(now - 15 * DAY_MS));
    ledger.amended(&call(now - 16 * DAY_MS));
    ledger.closed(&call(now));
    assert!(ledger.sync(SOON));
    assert_eq!(stats(Filter::default(), vec![]).totals.requests, 1202);
}

#[test]
fn charges_are_forgotten_when_nobody_can_fetch_them_any_more() {
    let home = Home::new();
    drop(home.open());
    let connection = Connection::open(home.database()).unwrap();
    for (key, age) in [(1_u8, 70), (2, 30), (3, 0)] {
        let millis = Timestamp::now().millis() - age * DAY_MS;
        let mut id = millis.to_be_bytes()[2..].to_vec();
        id.resize(16, 7);
        let values = rusqlite::params![vec![key; 16], id];
        connection.execute("INSERT INTO charged (key, call_id) VALUES (?, ?)", values).unwrap();
    }
    let _ledger = keeping(&home, 1);
    let begun = Instant::now();
    loop {
        let sql = "SELECT count(*) FROM charged";
        let left: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        if left == 2 {
            break;
        }
        assert!(begun.elapsed() < SOON && left == 3);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sums_tell_of_all_when_no_row_is_left() {
    let home = Home::new();
    let oldest = Timestamp::now().millis() - 20 * DAY_MS;
    let mut load = Loader::open(&home.database()).unwrap();
    let calls: Vec<Record> = (0..500).map(|n| call(oldest + n * 600_000)).collect();
    for record in &calls {
        load.add(record.clone()).unwrap();
    }
    load.finish().unwrap();
    let _ledger = keeping(&home, 3);
    let connection = Connection::open(home.database()).unwrap();
    let left = || -> i64 {
        connection.query_row("SELECT count(*) FROM calls", [], |row| row.get(0)).unwrap()
    };
    let begun = Instant::now();
    while left() > 0 {
        assert!(begun.elapsed() < SOON);
        thread::sleep(Duration::from_millis(20));
    }
    let reader = Reader::open(&home.database()).unwrap();
    for zone in ["UTC", "Europe/Berlin", "Asia/Kathmandu"] {
        for group_by in [vec![], vec![GroupKey::Hour], vec![GroupKey::Day]] {
            let zone = TimeZone::get(zone).unwrap();
            let query = StatsQuery { group_by, zone, ..StatsQuery::default() };
            assert_eq!(reader.stats(&query).unwrap().totals.requests, 500, "{query:?}");
        }
    }
    // Rows that are too old for this ledger are not said to be there.
    let mut load = Loader::open(&home.database()).unwrap();
    load.add(call(oldest)).unwrap();
    load.add(calls[0].clone()).unwrap();
    load.add(call(Timestamp::now().millis())).unwrap();
    let loaded = load.finish().unwrap();
    assert_eq!((loaded.added, loaded.present, loaded.too_old), (1, 0, 2));
}
