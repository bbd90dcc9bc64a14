//! Calls that close for now and are amended: which figures stand, whatever comes between.

use super::*;

/// Closed with `tokens`, that is, with a figure that tells one line from the other.
fn with_tokens(record: &Record, tokens: u64) -> Record {
    Record { total_tokens: Some(tokens), ..record.clone() }
}

fn tokens(ledger: &Ledger, id: &CallId) -> Option<u64> {
    assert!(ledger.sync(SOON));
    ledger.reader().one(id).unwrap().unwrap().total_tokens
}

#[test]
fn an_amendment_takes_the_place_of_what_closed() {
    let home = Home::new();
    let ledger = home.open();
    let calls: Vec<Record> = (0..5).map(call).collect();
    let [same_batch, later, twice, unknown, closed_again] = &calls[..] else { panic!() };
    for record in [same_batch, later, twice, closed_again] {
        ledger.opened(record);
        ledger.closed_for_now(&with_tokens(record, 1));
    }
    ledger.amended(&with_tokens(same_batch, 2));
    assert_eq!(tokens(&ledger, &same_batch.id), Some(2));
    assert_eq!(tokens(&ledger, &later.id), Some(1));
    for record in [later, unknown] {
        ledger.amended(&with_tokens(record, 2));
    }
    ledger.amended(&with_tokens(twice, 2));
    ledger.amended(&with_tokens(twice, 3));
    ledger.amended(&with_tokens(closed_again, 2));
    ledger.closed(&with_tokens(closed_again, 9));
    for (record, expected) in [(later, 2), (unknown, 2), (twice, 3), (closed_again, 2)] {
        assert_eq!(tokens(&ledger, &record.id), Some(expected));
    }
    // Newest first, as before: a row that was replaced keeps its place.
    let order: Vec<CallId> = records(&ledger).iter().map(|record| record.id).collect();
    assert!(order.iter().rev().eq(calls.iter().map(|record| &record.id)));
    drop(ledger);
    remove_database(&home.database());
    let ledger = home.open();
    let expected = [(same_batch, 2), (later, 2), (unknown, 2), (twice, 3), (closed_again, 2)];
    for (record, expected) in expected {
        assert_eq!(tokens(&ledger, &record.id), Some(expected));
    }
}

#[test]
fn who_asks_in_between_is_answered_with_what_stays() {
    let home = Home::new();
    let ledger = home.open();
    let mut in_time = 0;
    // On a busy machine an amendment may come too late to be waited for.
    while in_time < 5 {
        let record = call(Timestamp::now().millis());
        ledger.opened(&record);
        let closed = Instant::now();
        ledger.closed_for_now(&with_tokens(&record, 1));
        let (amender, exact) = (ledger.clone(), with_tokens(&record, 2));
        let amends = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            amender.amended(&exact);
            closed.elapsed()
        });
        let answered = tokens(&ledger, &record.id);
        if amends.join().unwrap() < Duration::from_millis(140) {
            assert_eq!(answered, Some(2));
            in_time += 1;
        }
    }
}

#[test]
fn whoever_waits_for_the_rows_is_not_held_up_by_calls_that_come_after() {
    let home = Home::new();
    let ledger = home.open();
    let (asker, asks) = (ledger.clone(), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            while asks.load(Ordering::Relaxed) {
                ledger.closed_for_now(&call(1));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let patient = (0..8).all(|_| asker.sync(SOON));
        asks.store(false, Ordering::Relaxed);
        assert!(patient);
    });
    assert!(ledger.shutdown(SOON));
}

#[test]
fn what_waits_for_its_amendment_at_the_end_is_written() {
    let home = Home::new();
    let ledger = home.open();
    let record = call(1);
    ledger.closed_for_now(&with_tokens(&record, 1));
    assert!(ledger.shutdown(SOON));
    assert_eq!(left_behind(&home.database()), 0);
    assert_eq!(ledger.reader().one(&record.id).unwrap().unwrap().total_tokens, Some(1));
}

#[test]
fn a_crash_leaves_what_was_provisional_or_what_was_exact() {
    let home = Home::new();
    let (cut_off, amended) = (call(1), call(2));
    let [first, second] = [&cut_off, &amended].map(|record| with_tokens(record, 1));
    let exact = with_tokens(&amended, 2);
    home.write_journal(&[
        Line::Open(&cut_off),
        Line::Open(&amended),
        Line::Provisional(&first),
        Line::Provisional(&second),
        Line::Amend(&exact),
    ]);
    for _ in 0..2 {
        let ledger = home.open();
        assert_eq!(tokens(&ledger, &cut_off.id), Some(1));
        assert_eq!(tokens(&ledger, &amended.id), Some(2));
        assert!(records(&ledger).iter().all(|record| record.outcome == Outcome::Completed));
    }
}

#[test]
fn an_amendment_may_stand_in_the_next_days_file() {
    let home = Home::new();
    let record = call(1);
    let (provisional, exact) = (with_tokens(&record, 1), with_tokens(&record, 2));
    let today = Timestamp::now().calendar().to_zoned(TimeZone::UTC).date();
    let file = |days: i64| home.journal().join(format!("{}.jsonl", today - days.days()));
    home.write_journal(&[Line::Open(&record), Line::Provisional(&provisional)]);
    fs::rename(file(0), file(1)).unwrap();
    let ledger = home.open();
    assert_eq!(tokens(&ledger, &record.id), Some(1));
    ledger.amended(&exact);
    assert_eq!(tokens(&ledger, &record.id), Some(2));
    drop(ledger);
    assert!(file(0).exists() && file(1).exists());
    remove_database(&home.database());
    assert_eq!(tokens(&home.open(), &record.id), Some(2));
}

/// Run as a child process: closes calls for now and amends them, and says so after each.
#[test]
#[ignore = "a part of kill_9_leaves_provisional_or_exact_figures"]
fn child_that_amends() {
    let database = PathBuf::from(std::env::var_os("LEDGER_TEST_DATABASE").unwrap());
    let ledger = Ledger::open(&Settings::of(database)).unwrap();
    loop {
        let record = call(Timestamp::now().millis());
        ledger.opened(&record);
        ledger.closed_for_now(&with_tokens(&record, 1));
        println!("closed {}", record.id);
        ledger.amended(&with_tokens(&record, 2));
        println!("amended {}", record.id);
    }
}

#[test]
fn kill_9_leaves_provisional_or_exact_figures() {
    let home = Home::new();
    let (mut closed, mut amended) = (HashSet::new(), HashSet::new());
    for round in 1..=4 {
        let lines = killed_after(&home, "amended::child_that_amends", round * 301);
        for line in lines {
            match line.split_once(' ').map(|(word, id)| (word, id.parse::<CallId>())) {
                Some(("closed", Ok(id))) => closed.extend([id]),
                Some(("amended", Ok(id))) => amended.extend([id]),
                _ => {}
            }
        }
    }
    let rows = records(&home.open());
    assert_eq!(ids(&rows).len(), rows.len());
    assert!(amended.len() > 400 && ids(&rows).is_superset(&closed));
    for row in rows {
        match row.total_tokens {
            Some(2) => {}
            Some(1) => assert!(!amended.contains(&row.id)),
            _ => assert!(row.outcome == Outcome::Interrupted && !closed.contains(&row.id)),
        }
    }
}
