//! Answers from sums are those from rows, whatever happened to the rows in between.

use super::*;
use crate::ledger::store::Change;

/// Calls of a few users, models and operations, over three days.
fn traffic() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        any_record(),
        0..3 * 86_400_000_i64,
        (0..3_usize, 0..3_usize, 0..3_usize, 0..3_usize),
        (0..100_000_u64, 0..5000_u64, proptest::option::of(0..400_u64)),
    );
    let one = one.prop_map(|(record, at, names, (tokens, cost, duration))| {
        let name = |place: usize, names: [Option<&str>; 3]| names[place].map(str::to_owned);
        let metadata = [None, Some(serde_json::json!({"team": "a", "n": 1})), None];
        Record {
            created_at: Timestamp::from_millis(1_795_000_000_000 + at),
            upstream: "openai".to_owned(),
            provider: "openai".to_owned(),
            endpoint: "chat.completions".to_owned(),
            user: name(names.0, [None, Some("ann"), Some("bob")]),
            model: name(names.1, [None, Some("m1"), Some("m2")]),
            model_requested: Some("m1".to_owned()),
            operation: name(names.2, [None, Some("rag"), Some("sum")]),
            metadata: metadata[names.3].as_ref().and_then(|m| m.as_object()).cloned(),
            total_tokens: Some(tokens),
            input_tokens: Some(tokens / 2),
            output_tokens: Some(tokens - tokens / 2),
            cost_usd: Some(Usd::from_nanos(i64::try_from(cost).unwrap())),
            duration_ms: duration,
            charged_by: None,
            ..record
        }
    });
    proptest::collection::vec(one, 1..30)
}

fn loader(home: &Home) -> Loader {
    Loader::open(&home.database()).unwrap()
}

/// Every question that sums could answer differently.
fn questions() -> Vec<StatsQuery> {
    use GroupKey::{Attempt, Day, Hour, Metadata, Model, Month, Operation, User, Week};
    use GroupKey::{CostSource as Cost, Error, Outcome as End, PriceId, Retry, Status};
    let at = |millis: i64| Some(Timestamp::from_millis(1_795_000_000_000 + millis));
    let mut all = Vec::new();
    let filters = [
        Filter::default(),
        Filter { since: at(10_000_000), until: at(200_000_000), ..Filter::default() },
        Filter { since: at(86_400_000), until: at(86_400_000 + 600_000), ..Filter::default() },
        Filter { user: Some("ann".to_owned()), since: at(1), ..Filter::default() },
        Filter { model: Some("m1".to_owned()), ..Filter::default() },
        Filter { operation: Some("rag".to_owned()), until: at(100_000_000), ..Filter::default() },
        Filter { metadata: vec![("team".to_owned(), "a".to_owned())], ..Filter::default() },
        Filter { usage_source: Some(UsageSource::Estimated), ..Filter::default() },
        Filter { user: Some("nobody".to_owned()), ..Filter::default() },
        // What classes of kinds do not tell.
        Filter { cost_source: Some(CostSource::Priced), ..Filter::default() },
        Filter { outcome: Some(Outcome::Completed), ..Filter::default() },
    ];
    let groups = [
        vec![],
        vec![User],
        vec![Model],
        vec![Operation, User],
        vec![Day],
        vec![Hour, Model],
        vec![Week, User],
        vec![Month],
        vec![Attempt],
        vec![Metadata("team".to_owned())],
        vec![GroupKey::UsageSource, Cost, End],
        vec![Status, Error, Retry, PriceId],
    ];
    let zones = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"];
    for filter in &filters {
        for group_by in &groups {
            let timed = group_by.iter().any(GroupKey::is_time);
            for zone in zones.iter().take(if timed { 4 } else { 1 }) {
                let (filter, group_by) = (filter.clone(), group_by.clone());
                let zone = TimeZone::get(zone).unwrap();
                all.push(StatsQuery { filter, group_by, zone, ..StatsQuery::default() });
            }
        }
    }
    all
}

/// Durations below 256 ms are exact in sums too, the others to within half a percent.
fn assert_same(home: &Home) {
    let rows = Reader::open(&home.database()).unwrap();
    let sums = rows.by_sums();
    for query in questions() {
        let (by_rows, by_sums) = (rows.stats(&query).unwrap(), sums.stats(&query).unwrap());
        let text = |stats: &Stats| {
            let mut stats = stats.clone();
            let totals = stats.groups.iter_mut().map(|group| &mut group.totals);
            for totals in totals.chain([&mut stats.totals]) {
                (totals.p50_duration_ms, totals.p95_duration_ms) = (None, None);
            }
            serde_json::to_string_pretty(&stats).unwrap()
        };
        assert_eq!(text(&by_sums), text(&by_rows), "{query:?}");
        let close = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= other / 250,
            (one, other) => one == other,
        };
        let percentiles = |stats: &Stats| stats.totals.p95_duration_ms;
        assert!(close(percentiles(&by_sums), percentiles(&by_rows)), "{query:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn sums_tell_what_rows_tell(first in traffic(), second in traffic(), changed in 0..30_usize) {
        let home = Home::new();
        let mut load = loader(&home);
        for record in &first {
            load.add(record.clone()).unwrap();
        }
        load.finish().unwrap();
        assert_same(&home);
        // Late calls, and others in the place of some that are sealed.
        let mut load = loader(&home);
        for record in &second {
            load.add(record.clone()).unwrap();
        }
        for (old, new) in first.iter().zip(&second).take(changed) {
            let new = Record { id: old.id, created_at: old.created_at, ..new.clone() };
            load.change(Change::Replace(Box::new(new))).unwrap();
        }
        load.without_seal().unwrap();
        assert_same(&home);
        loader(&home).finish().unwrap();
        assert_same(&home);
    }
}

#[test]
fn a_fact_with_very_many_values_stands_in_the_rows() {
    let home = Home::new();
    let mut load = loader(&home);
    let many = 1100;
    for at in 0..many {
        let mut record = call(1_795_000_000_000 + at * 1000);
        record.operation = Some(format!("job-{at}"));
        record.error = (at % 2 == 0).then(|| format!("error-{at}"));
        record.user = Some("ann".to_owned());
        load.add(record).unwrap();
    }
    load.finish().unwrap();
    let connection = Connection::open(home.database()).unwrap();
    let kinds: i64 =
        connection.query_row("SELECT count(*) FROM kinds", [], |row| row.get(0)).unwrap();
    assert!(kinds <= 1051, "{kinds}");
    let reader = Reader::open(&home.database()).unwrap();
    for reader in [reader.by_sums(), reader] {
        let stats = |filter: Filter, group_by: Vec<GroupKey>| {
            reader.stats(&StatsQuery { filter, group_by, ..StatsQuery::default() }).unwrap()
        };
        let last = Some(format!("job-{}", many - 2));
        let filter = Filter { operation: last.clone(), ..Filter::default() };
        let one = stats(filter.clone(), vec![]);
        assert_eq!((one.totals.requests, one.totals.errors), (1, 1));
        let page = reader.usage(&filter, 9, None).unwrap().records;
        assert_eq!(page.len(), 1);
        assert_eq!(page[0].operation, last);
        let groups = stats(Filter::default(), vec![GroupKey::Operation]);
        assert_eq!(groups.groups.len(), usize::try_from(many).unwrap());
        assert_eq!(stats(Filter::default(), vec![GroupKey::User]).totals.errors, 550);
    }
}

#[test]
fn pages_find_rare_calls_among_many_of_one_moment() {
    pages_find_rare_calls_among_many(|at| at / 3);
}

#[test]
fn pages_find_rare_calls_among_many_of_three_weeks() {
    pages_find_rare_calls_among_many(|at| at * 200_000);
}

fn pages_find_rare_calls_among_many(millis: fn(i64) -> i64) {
    let home = Home::new();
    let mut load = loader(&home);
    let (mut rare, mut bobs, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..9000 {
        let mut record = call(1_795_000_000_000 + millis(at));
        record.operation = Some(if at % 2000 == 7 { "rare" } else { "common" }.to_owned());
        record.user = Some(if at % 5 == 0 { "ann" } else { "bob" }.to_owned());
        if at % 2000 == 7 {
            rare.push(record.id);
        }
        if record.user.as_deref() == Some("bob") {
            bobs.push(record.id);
        }
        all.push(record.id);
        load.add(record).unwrap();
    }
    load.finish().unwrap();
    rare.reverse();
    let reader = Reader::open(&home.database()).unwrap();
    let filter = Filter { operation: Some("rare".to_owned()), ..Filter::default() };
    let ids = |page: &Page| page.records.iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(&reader.usage(&filter, 100, None).unwrap()), rare);
    let both = Filter { user: Some("bob".to_owned()), ..filter.clone() };
    assert_eq!(ids(&reader.usage(&both, 100, None).unwrap()), rare);
    bobs.reverse();
    let bob = Filter { user: Some("bob".to_owned()), ..Filter::default() };
    assert_eq!(ids(&reader.usage(&bob, 10_000, None).unwrap()), bobs);
    // Page by page, all of them once and in order, whatever way they are found.
    for filter in [Filter::default(), filter, both, bob] {
        let whole = ids(&reader.usage(&filter, 10_000, None).unwrap());
        let (mut pages, mut cursor) = (Vec::new(), None);
        loop {
            let page = reader.usage(&filter, 700, cursor.as_ref()).unwrap();
            pages.extend(ids(&page));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages, whole);
    }
    let mut seen = Vec::new();
    let mut see = |record: Record| {
        seen.push(record.id);
        std::ops::ControlFlow::Continue(())
    };
    reader.each(&Filter::default(), &mut see).unwrap();
    assert_eq!(seen, all);
    // Some hours of one user, from rows.
    let part = Filter {
        user: Some("bob".to_owned()),
        since: Some(Timestamp::from_millis(1_795_000_000_000 + millis(3_001))),
        until: Some(Timestamp::from_millis(1_795_000_000_000 + millis(3_301))),
        ..Filter::default()
    };
    let stats = reader.stats(&StatsQuery { filter: part, ..StatsQuery::default() }).unwrap();
    let window = millis(3_001)..millis(3_301);
    let theirs = (0..9000).filter(|at| window.contains(&millis(*at)) && at % 5 != 0).count();
    assert_eq!(stats.totals.requests, theirs as u64);
}

#[test]
fn calls_of_one_millisecond_have_a_row_each_however_they_come() {
    let home = Home::new();
    let ledger = home.open();
    let calls: Vec<Record> = (0..4).map(|_| call(1_795_000_000_000)).collect();
    for _ in 0..2 {
        ledger.closed(&calls[0]);
        ledger.closed(&calls[1]);
        ledger.amended(&calls[0]);
        ledger.closed(&calls[2]);
        assert!(ledger.sync(SOON));
        ledger.amended(&calls[1]);
        ledger.closed(&calls[3]);
        assert!(ledger.sync(SOON), "{:?}", ledger.health());
    }
    assert_eq!(records(&ledger).len(), 4);
    assert_eq!(ledger.reader().by_sums().stats(&StatsQuery::default()).unwrap().totals.requests, 4);
}

#[test]
fn more_calls_of_one_moment_than_a_millisecond_holds_go_to_the_next() {
    let home = Home::new();
    let mut load = loader(&home);
    let many = (1 << layout::KEY_BITS) + 100;
    let last_of_a_half_hour = 1_795_000_200_000 / 1_800_000 * 1_800_000 - 1;
    for _ in 0..many {
        load.add(call(last_of_a_half_hour)).unwrap();
    }
    assert_eq!(load.finish().unwrap().added, many);
    let reader = Reader::open(&home.database()).unwrap();
    let until = Some(Timestamp::from_millis(last_of_a_half_hour + 1));
    let filter = Filter { until, ..Filter::default() };
    for reader in [reader.by_sums(), reader] {
        let stats = reader.stats(&StatsQuery { filter: filter.clone(), ..StatsQuery::default() });
        assert_eq!(stats.unwrap().totals.requests, many - 100);
    }
}
