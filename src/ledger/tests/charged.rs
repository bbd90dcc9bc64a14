//! Usage that is handed out again, and what was learned about estimates.

use super::*;
use crate::estimate::{Calibration, Corrections, Method, Side};
use crate::record::{Charge, EstimateNote, EstimatedSide};
use crate::usage::Usage;

/// 10 tokens in, 1 out, and 0.001 dollars.
fn charge(key: &str) -> Charge {
    let usage = Usage { input: Some(10), output: Some(1), total: Some(11), ..Usage::default() };
    Charge { key: key.to_owned(), fetched: true, usage, cost_usd: Some(Usd::from_nanos(1_000_000)) }
}

/// A call that was answered with the usage under these keys.
fn fetched(at: i64, keys: &[&str]) -> Record {
    let mut record = call(at);
    let mut sum = Usage::default();
    for charge in keys.iter().map(|key| charge(key)) {
        sum.add(&charge.usage);
        record.charges.push(charge);
    }
    record.set_usage(&sum, UsageSource::Reported);
    let cost: Usd = record.charges.iter().filter_map(|charge| charge.cost_usd).sum();
    (record.cost_usd, record.computed_cost_usd) = (Some(cost), Some(cost));
    record.cost_source = CostSource::Priced;
    record.price_id = Some("openai/gpt-4o".to_owned());
    record.usage_json = serde_json::from_str(r#"{"input_tokens": 10}"#).unwrap();
    record
}

fn row(ledger: &Ledger, record: &Record) -> Record {
    assert!(ledger.sync(SOON));
    ledger.reader().one(&record.id).unwrap().unwrap()
}

/// Total tokens, nano-dollars, and by whom it is charged.
fn charged(ledger: &Ledger, record: &Record) -> (Option<u64>, Option<i64>, Option<CallId>) {
    let row = row(ledger, record);
    (row.total_tokens, row.cost_usd.map(Usd::nanos), row.charged_by)
}

#[test]
fn what_is_fetched_again_is_charged_to_the_first_who_had_it() {
    let home = Home::new();
    let ledger = home.open();
    let calls: Vec<Record> = (0..4).map(|at| fetched(at, &["openai/resp_1"])).collect();
    ledger.closed(&calls[0]);
    ledger.closed(&calls[1]);
    assert!(ledger.sync(SOON));
    ledger.closed(&calls[2]);
    ledger.closed_for_now(&calls[3]);
    ledger.amended(&calls[3]);
    let other = fetched(9, &["azure/resp_1"]);
    ledger.closed(&other);
    let once = (Some(11), Some(1_000_000), None);
    assert_eq!(charged(&ledger, &calls[0]), once);
    assert_eq!(charged(&ledger, &other), once);
    for again in &calls[1..] {
        assert_eq!(charged(&ledger, again), (None, None, Some(calls[0].id)));
        let row = row(&ledger, again);
        assert_eq!((row.usage_source, row.cost_source), (UsageSource::None, CostSource::None));
        assert!(row.computed_cost_usd.is_none() && row.price_id.is_none());
        assert!(row.usage_json.is_some() && row.status == again.status);
    }
    let totals = ledger.reader().stats(&StatsQuery::default()).unwrap().totals;
    assert_eq!((totals.requests, totals.refetched_requests), (5, 3));
    assert_eq!((totals.total_tokens, totals.cost_usd), (22, Usd::from_nanos(2_000_000)));
    assert_eq!((totals.unreported_requests, totals.unpriced_requests), (0, 0));
}

#[test]
fn a_part_that_was_charged_before_is_taken_out() {
    let home = Home::new();
    let ledger = home.open();
    let (first, second, third) =
        (fetched(1, &["a", "b"]), fetched(2, &["b", "c", "d", "a"]), fetched(3, &["d", "a", "e"]));
    let mut stated = fetched(4, &["a", "f"]);
    stated.cost_source = CostSource::Provider;
    stated.computed_cost_usd = Some(Usd::from_nanos(7));
    let all = fetched(5, &["c", "a"]);
    for record in [&first, &second, &third, &stated, &all] {
        ledger.closed(record);
    }
    assert_eq!(charged(&ledger, &first), (Some(22), Some(2_000_000), None));
    assert_eq!(charged(&ledger, &second), (Some(22), Some(2_000_000), None));
    assert_eq!(charged(&ledger, &third), (Some(11), Some(1_000_000), None));
    assert_eq!(charged(&ledger, &all), (None, None, Some(first.id)));
    let [second, stated] = [&second, &stated].map(|record| row(&ledger, record));
    assert_eq!((second.input_tokens, second.output_tokens), (Some(20), Some(2)));
    assert_eq!(second.computed_cost_usd, second.cost_usd);
    assert_eq!((second.usage_source, second.cache_read_tokens), (UsageSource::Reported, None));
    assert_eq!(stated.cost_usd.map(Usd::nanos), Some(1_000_000));
    assert_eq!(stated.computed_cost_usd, None);
}

#[test]
fn a_part_larger_than_the_whole_leaves_nothing_and_not_less() {
    let home = Home::new();
    let ledger = home.open();
    ledger.closed(&fetched(1, &["a"]));
    let mut record = fetched(2, &["a", "b"]);
    (record.input_tokens, record.total_tokens) = (Some(3), Some(u64::MAX));
    record.cost_usd = Some(Usd::from_nanos(1));
    // A total that is not stated is that of its parts.
    record.charges[0].usage.total = None;
    ledger.closed(&record);
    let row = row(&ledger, &record);
    assert_eq!((row.input_tokens, row.cost_usd), (Some(0), Some(Usd::ZERO)));
    assert_eq!(row.total_tokens, Some(i64::MAX.unsigned_abs()));
}

#[test]
fn feeding_a_row_again_takes_nothing_from_it() {
    let home = Home::new();
    let (first, again) = (fetched(1, &["a", "b", "a"]), fetched(2, &["b"]));
    let expect = |ledger: &Ledger| {
        assert_eq!(charged(ledger, &first), (Some(33), Some(3_000_000), None));
        assert_eq!(charged(ledger, &again), (None, None, Some(first.id)));
    };
    let ledger = home.open();
    for record in [&first, &first, &again, &first, &again] {
        ledger.closed(record);
    }
    expect(&ledger);
    ledger.amended(&first);
    ledger.amended(&again);
    expect(&ledger);
    drop(ledger);
    // The journal again, into the database that has it.
    let database = Connection::open(home.database()).unwrap();
    database.execute("DELETE FROM journal_progress", []).unwrap();
    drop(database);
    expect(&home.open());
    remove_database(&home.database());
    expect(&home.open());
}

#[test]
fn a_batch_of_a_hundred_thousand_is_charged_once() {
    let home = Home::new();
    let ledger = home.open();
    let keys: Vec<String> = (0..100_000)
        .map(|n| format!("openai/batch_req_0123456789abcdef0123456789abcdef_{n}"))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (first, again, more) =
        (fetched(1, &keys), fetched(2, &keys), fetched(3, &[&keys[5..], &["new"]].concat()));
    let started = Instant::now();
    ledger.closed(&first);
    let closed = started.elapsed();
    assert_eq!(charged(&ledger, &first), (Some(1_100_000), Some(100_000_000_000), None));
    println!("100,000 charges: {closed:?} to close, {:?} with the row", started.elapsed());
    ledger.closed(&again);
    ledger.closed(&more);
    assert_eq!(charged(&ledger, &again), (None, None, Some(first.id)));
    assert_eq!(charged(&ledger, &more), (Some(11), Some(1_000_000), None));
    assert!(ledger.health().is_ok() && ledger.health().unreadable_lines == 0);
    let longest = home.journal_text().lines().map(str::len).max().unwrap();
    assert!(longest < 20_000_000, "{longest}");
}

/// A call that made the answer of this key, with its usage, or cut off and estimated.
fn made(at: i64, key: &str, source: UsageSource) -> Record {
    let mut record = Record { method: "POST".to_owned(), ..fetched(at, &[key]) };
    record.charges[0].fetched = false;
    if source == UsageSource::Estimated {
        let usage = Usage { input: Some(10), output: Some(7), total: Some(17), ..Usage::default() };
        record.set_usage(&usage, source);
        record.estimate = Some(EstimateNote { error_tokens: 3, ..EstimateNote::default() });
        record.cost_usd = Some(Usd::from_nanos(1_700_000));
        record.computed_cost_usd = record.cost_usd;
        let charge = &mut record.charges[0];
        (charge.usage, charge.cost_usd) = (usage, record.cost_usd);
    }
    record
}

/// What is done to a ledger, in this order.
enum Do<'a> {
    Close(&'a Record),
    CloseForNow(&'a Record),
    Amend(&'a Record),
    /// Waits until all is in the database, what is held back too.
    Sync,
}

/// Whoever comes first, and however often the journal is read: `first` is charged, with 11 tokens,
/// and the others name it.
fn assert_only(steps: &[Do<'_>], first: &Record, others: &[&Record]) {
    let home = Home::new();
    let ledger = home.open();
    let play = |ledger: &Ledger| {
        for step in steps {
            match step {
                Do::Close(record) => ledger.closed(record),
                Do::CloseForNow(record) => ledger.closed_for_now(record),
                Do::Amend(record) => ledger.amended(record),
                Do::Sync => assert!(ledger.sync(SOON)),
            }
        }
    };
    let expect = |ledger: &Ledger| {
        assert_eq!(charged(ledger, first), (Some(11), Some(1_000_000), None));
        assert_eq!(row(ledger, first).usage_source, UsageSource::Reported);
        for other in others {
            let mut lost = Record { charges: Vec::new(), ..(*other).clone() };
            lost.set_usage(&Usage::default(), UsageSource::None);
            (lost.cost_usd, lost.computed_cost_usd, lost.price_id) = (None, None, None);
            (lost.cost_source, lost.estimate) = (CostSource::None, None);
            lost.charged_by = Some(first.id);
            let [row, lost] =
                [&row(ledger, other), &lost].map(|record| serde_json::to_value(record).unwrap());
            assert_eq!(row, lost);
        }
        let totals = ledger.reader().stats(&StatsQuery::default()).unwrap().totals;
        assert_eq!((totals.total_tokens, totals.refetched_requests), (11, others.len() as u64));
    };
    play(&ledger);
    expect(&ledger);
    play(&ledger);
    expect(&ledger);
    drop(ledger);
    expect(&home.open());
    let database = Connection::open(home.database()).unwrap();
    database.execute("DELETE FROM journal_progress", []).unwrap();
    drop(database);
    expect(&home.open());
    remove_database(&home.database());
    expect(&home.open());
}

#[test]
fn what_was_estimated_gives_way_to_what_is_fetched_and_exact() {
    use Do::{Amend, Close, CloseForNow, Sync};
    let cut = &made(1, "a", UsageSource::Estimated);
    let (get, again) = (&fetched(2, &["a"]), &fetched(3, &["a"]));
    for steps in [
        vec![Close(cut), Close(get), Close(again)],
        vec![Close(cut), Sync, Close(get), Sync, Close(again)],
        vec![Close(get), Close(cut), Close(again)],
        vec![Close(get), Close(again), Sync, Close(cut)],
        vec![CloseForNow(cut), Amend(cut), Close(get), Close(again)],
        vec![CloseForNow(cut), Close(get), Close(again), Amend(cut)],
        vec![CloseForNow(cut), Close(get), Sync, Amend(cut), Sync, Close(again)],
        vec![CloseForNow(cut), Sync, Close(get), Amend(cut), Close(again), Close(cut)],
        // Its amendment never comes.
        vec![CloseForNow(cut), Close(get), Close(again)],
    ] {
        assert_only(&steps, get, &[cut, again]);
    }
}

#[test]
fn who_made_the_answer_is_charged_although_it_was_fetched_sooner() {
    use Do::{Amend, Close, CloseForNow, Sync};
    let (cut, whole) =
        (&made(1, "a", UsageSource::Estimated), &made(1, "a", UsageSource::Reported));
    let cut = &Record { id: whole.id, ..cut.clone() };
    let (get, again) = (&fetched(2, &["a"]), &fetched(3, &["a"]));
    for steps in [
        vec![Close(whole), Close(get), Close(again)],
        vec![Close(get), Close(whole), Close(again)],
        vec![Close(get), Close(again), Close(whole)],
        vec![Close(get), Sync, Close(again), Sync, Close(whole)],
        vec![CloseForNow(whole), Close(get), Amend(whole), Close(again)],
        vec![CloseForNow(cut), Close(get), Close(again), Amend(whole)],
        vec![CloseForNow(cut), Sync, Close(get), Sync, Amend(whole), Close(again)],
        vec![Close(get), CloseForNow(cut), Close(again), Sync, Amend(whole), Amend(get)],
    ] {
        assert_only(&steps, whole, &[get, again]);
    }
}

#[test]
fn calls_that_made_answers_of_one_id_keep_theirs() {
    for sources in [[UsageSource::Reported; 2], [UsageSource::Estimated, UsageSource::Reported]] {
        for order in [[0, 1], [1, 0]] {
            let home = Home::new();
            let ledger = home.open();
            let calls = order.map(|at| made(1, "a", sources[at]));
            for call in &calls {
                ledger.closed(call);
            }
            for call in &calls {
                assert_eq!(
                    charged(&ledger, call),
                    (call.total_tokens, call.cost_usd.map(Usd::nanos), None)
                );
            }
        }
    }
}

#[test]
fn a_row_with_several_keys_is_never_blanked() {
    let home = Home::new();
    let ledger = home.open();
    let (cut, batch) = (made(1, "a", UsageSource::Estimated), fetched(2, &["a", "b"]));
    let (whole, get) = (made(3, "b", UsageSource::Reported), fetched(4, &["b"]));
    for record in [&cut, &batch, &whole, &get] {
        ledger.closed(record);
    }
    assert_eq!(charged(&ledger, &cut), (None, None, Some(batch.id)));
    assert_eq!(charged(&ledger, &batch), (Some(22), Some(2_000_000), None));
    assert_eq!(charged(&ledger, &whole), (Some(11), Some(1_000_000), None));
    assert_eq!(charged(&ledger, &get), (None, None, Some(batch.id)));
}

#[test]
fn totals_say_how_good_their_estimates_are() {
    let home = Home::new();
    let ledger = home.open();
    for (at, tokens, error_tokens) in [(1, 100, 5), (2, 200, 4), (3, 300, u64::MAX)] {
        let mut record = call(at);
        let side = EstimatedSide { method: Method::Bpe, error: f64::NAN };
        let note = EstimateNote { output: Some(side), error_tokens, ..EstimateNote::default() };
        record.estimate = Some(note);
        record.total_tokens = Some(tokens);
        let reported = error_tokens == u64::MAX;
        record.usage_source = if reported { UsageSource::Reported } else { UsageSource::Estimated };
        ledger.closed(&record);
    }
    assert!(ledger.sync(SOON));
    let totals = ledger.reader().stats(&StatsQuery::default()).unwrap().totals;
    assert_eq!((totals.total_tokens, totals.estimated_tokens), (600, 300));
    assert_eq!((totals.estimated_requests, totals.estimate_error_tokens), (2, 9));
    assert_eq!(serde_json::to_value(&totals).unwrap()["estimate_error"].to_string(), "0.03");
    // An error that is no number is no reason to lose a row.
    let row = &records(&ledger)[0];
    let error = row.estimate.as_ref().unwrap().output.as_ref().unwrap().error;
    assert!((error - 1.0).abs() < f64::EPSILON);
}

fn learned(model: &str, side: Side, samples: u64) -> Calibration {
    let (provider, model) = ("openai".to_owned(), model.to_owned());
    Calibration {
        provider,
        model,
        side,
        samples,
        bias: -0.125,
        error: 0.5,
        corrections: Corrections::default(),
    }
}

#[test]
fn what_was_learned_survives_and_the_last_word_counts() {
    let home = Home::new();
    let ledger = home.open();
    assert_eq!(ledger.calibrations(), []);
    ledger.learned(&learned("b", Side::Input, 1));
    ledger.learned(&learned("a", Side::Output, 1));
    ledger.learned(&learned("a", Side::Input, 7));
    ledger.learned(&learned("b", Side::Input, 2));
    ledger.learned(&Calibration { bias: f64::NAN, ..learned("c", Side::Input, 1) });
    assert!(ledger.sync(SOON));
    let expected =
        [learned("a", Side::Input, 7), learned("a", Side::Output, 1), learned("b", Side::Input, 2)];
    assert_eq!(ledger.calibrations(), expected);
    drop(ledger);
    assert_eq!(home.open().calibrations(), expected);
    remove_database(&home.database());
    let ledger = home.open();
    assert_eq!(ledger.calibrations(), expected);
    assert_eq!(ledger.health().unreadable_lines, 0);
}

#[test]
fn what_was_learned_is_bounded() {
    let home = Home::new();
    let ledger = home.open();
    ledger.learned(&learned("first", Side::Input, u64::MAX));
    assert!(ledger.sync(SOON));
    thread::sleep(Duration::from_millis(2));
    (0..10_000).for_each(|n| ledger.learned(&learned(&n.to_string(), Side::Input, 1)));
    assert!(ledger.sync(SOON));
    let kept = ledger.calibrations();
    assert_eq!(kept.len(), 10_000);
    assert!(kept.iter().all(|one| one.model != "first"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is fetched together, how often and in which order, and however often the lines are
    /// read: the ledger holds each key's usage once.
    #[test]
    fn every_key_is_charged_exactly_once(
        fetches in proptest::collection::vec(
            (proptest::sample::subsequence(vec!["a", "b", "c", "d", "e"], 1..=5), 0..4_u8),
            1..10,
        ),
        anew in any::<bool>(),
    ) {
        let home = Home::new();
        let ledger = home.open();
        let mut keys = HashSet::new();
        for (fetch, how) in &fetches {
            let record = fetched(1, fetch);
            keys.extend(fetch.iter().copied());
            match how {
                0 => ledger.closed(&record),
                1 => [&record; 2].into_iter().for_each(|record| ledger.closed(record)),
                2 => { ledger.closed_for_now(&record); ledger.amended(&record); }
                _ => { ledger.closed(&record); ledger.amended(&record); }
            }
            if how % 2 == 0 { ledger.sync(SOON); }
        }
        let calls = records(&ledger);
        prop_assert_eq!(calls.len(), fetches.len());
        drop(ledger);
        if anew { remove_database(&home.database()) }
        let ledger = home.open();
        let totals = ledger.reader().stats(&StatsQuery::default()).unwrap().totals;
        prop_assert_eq!(totals.total_tokens, 11 * keys.len() as u64);
        prop_assert_eq!(totals.cost_usd.nanos(), 1_000_000 * i64::try_from(keys.len()).unwrap());
        let none_left = |call: &&Record| call.total_tokens.is_none();
        let without = calls.iter().filter(none_left);
        prop_assert!(without.clone().all(|call| call.charged_by.is_some()));
        prop_assert_eq!(without.count() as u64, totals.refetched_requests);
    }
}
