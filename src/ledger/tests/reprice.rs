//! Costs that are changed in place: what changes, what is remembered, what is put back.

use super::*;
use crate::ledger::{Plan, RepriceError, Repricer, Repricing, RepricingState, repricings};
use crate::record::RowCost;

/// More than two batches of changes.
const MANY: i64 = 1200;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn priced(created_at: i64, cost: &str) -> Record {
    Record {
        cost_usd: Some(usd(cost)),
        computed_cost_usd: Some(usd(cost)),
        cost_source: CostSource::Priced,
        price_id: Some("openai/m".to_owned()),
        usage_source: UsageSource::Reported,
        total_tokens: Some(7),
        ..call(created_at)
    }
}

fn plan(prices: &str) -> Plan {
    let text = str::to_owned;
    let (question, version) = (text("{}"), text("1"));
    Plan { prices: text("prices.toml"), prices_sha256: text(prices), question, version }
}

fn to(cost: &str) -> impl Fn(&Record) -> Result<RowCost, ()> + use<> {
    let cost = Some(usd(cost));
    move |record| {
        let known = record.cost();
        Ok(RowCost { cost_usd: cost, computed_cost_usd: cost, ..known })
    }
}

impl Home {
    /// A ledger of these calls that nobody serves.
    fn of(records: impl IntoIterator<Item = Record>) -> Home {
        let home = Home::new();
        let mut loader = Loader::open(&home.database()).unwrap();
        records.into_iter().for_each(|record| loader.add(record).unwrap());
        loader.finish().unwrap();
        home
    }

    fn repricer(&self) -> Repricer {
        Repricer::open(&self.database()).unwrap()
    }

    fn reprice(&self, cost: &str) -> Repricing {
        let mut repricer = self.repricer();
        let begun = repricer.begin(&plan("sha")).unwrap();
        repricer.run(begun.id, &Filter::default(), to(cost), |_, _| ()).unwrap()
    }

    fn rows(&self) -> Vec<Record> {
        let reader = Reader::open(&self.database()).unwrap();
        reader.usage(&Filter::default(), 100_000, None).unwrap().records
    }

    fn total(&self) -> Usd {
        self.rows().iter().filter_map(|record| record.cost_usd).sum()
    }
}

/// Rows with all that they say.
fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
}

#[test]
fn nothing_but_costs_changes_and_all_of_it_can_be_put_back() {
    // Many of one moment, as imports bring them.
    let home = Home::of((0..MANY).map(|at| priced(at / 700, "1.5")));
    let before = home.rows();
    let mut told = 0;
    let mut repricer = home.repricer();
    let begun = repricer.begin(&plan("sha")).unwrap();
    assert_eq!(begun.state, RepricingState::Running);
    let filter = Filter { until: Some(Timestamp::from_millis(1)), ..Filter::default() };
    let done = repricer.run(begun.id, &filter, to("2"), |record, found| {
        assert_eq!(record.cost_usd, Some(usd("1.5")));
        assert!(found.is_ok());
        told += 1;
    });
    let done = done.unwrap();
    assert_eq!((told, done.rows_seen, done.rows_changed), (700, 700, 700));
    assert_eq!((done.cost_before, done.cost_after), (usd("1050"), usd("1400")));
    assert_eq!(done.state, RepricingState::Done);
    assert_eq!(done.plan, plan("sha"));
    let after = home.rows();
    for (was, is) in before.iter().zip(&after) {
        let cost = if is.created_at.millis() < 1 { "2" } else { "1.5" };
        assert_eq!(is.cost_usd, Some(usd(cost)));
        let mut back = is.clone();
        back.set_cost(was.cost());
        assert_eq!(texts(&[back]), texts(std::slice::from_ref(was)));
    }
    // Once more, without a window: what costs as much already is not touched.
    let again = home.reprice("2");
    assert_eq!((again.rows_seen, again.rows_changed), (1200, 500));
    let undone = home.repricer().undo(again.id).unwrap();
    assert_eq!(undone.put_back, 500);
    let undone = home.repricer().undo(done.id).unwrap();
    assert_eq!((undone.put_back, undone.changed_since, undone.gone), (700, 0, 0));
    assert_eq!(texts(&home.rows()), texts(&before));
    let all = repricings(&home.database()).unwrap();
    assert!(all.iter().all(|one| one.state == RepricingState::Undone));
    assert_eq!(all.iter().map(|one| one.rows_put_back).collect::<Vec<_>>(), [500, 700]);
}

#[test]
fn what_was_cut_off_can_be_finished_or_taken_back() {
    for finish in [true, false] {
        let home = Home::of((0..MANY).map(|at| priced(at, "1")));
        let before = texts(&home.rows());
        let mut repricer = home.repricer();
        let begun = repricer.begin(&plan("sha")).unwrap();
        let id = begun.id;
        // A crash after two batches.
        let judged = std::cell::Cell::new(0);
        let judge = |record: &Record| {
            judged.set(judged.get() + 1);
            assert!(judged.get() < 2400, "on purpose, in a test");
            to("3")(record)
        };
        let run = || repricer.run(id, &Filter::default(), judge, |_, _| ());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        let [half] = <[Repricing; 1]>::try_from(repricings(&home.database()).unwrap()).unwrap();
        assert_eq!((half.state, half.rows_changed), (RepricingState::Running, 1000));
        assert_eq!(home.total(), usd("3200"));
        let mut repricer = home.repricer();
        assert!(
            matches!(repricer.begin(&plan("sha")), Err(RepriceError::Unfinished(one)) if one == id)
        );
        if finish {
            let other = repricer.take_up(id, "other", "1");
            assert!(matches!(other, Err(RepriceError::OtherPrices { .. })));
            repricer.take_up(id, "sha", "1").unwrap();
            let done = repricer.run(id, &Filter::default(), to("3"), |_, _| ()).unwrap();
            assert_eq!((done.rows_seen, done.rows_changed), (1200, 1200));
            assert_eq!((done.cost_before, done.cost_after), (usd("1200"), usd("3600")));
            assert_eq!(home.total(), usd("3600"));
            assert!(matches!(repricer.take_up(id, "sha", "1"), Err(RepriceError::Finished(_))));
        }
        let undone = repricer.undo(id).unwrap();
        assert_eq!(undone.put_back, if finish { 1200 } else { 1000 });
        assert_eq!(texts(&home.rows()), before);
        assert!(repricer.begin(&plan("sha")).is_ok());
    }
}

#[test]
fn what_was_changed_since_stays_and_is_named() {
    let calls: Vec<Record> = (0..4).map(|at| priced(at, "1")).collect();
    let home = Home::of(calls.clone());
    let first = home.reprice("2");
    let mut repricer = home.repricer();
    let second = repricer.begin(&plan("sha")).unwrap();
    let only = Filter { until: Some(Timestamp::from_millis(1)), ..Filter::default() };
    repricer.run(second.id, &only, to("5"), |_, _| ()).unwrap();
    let other = Connection::open(home.database()).unwrap();
    let sql = "UPDATE token_usage SET cost_usd = 9 WHERE id = ?";
    other.execute(sql, [calls[1].id.to_string()]).unwrap();
    let sql = "DELETE FROM token_usage WHERE id = ?";
    other.execute(sql, [calls[2].id.to_string()]).unwrap();
    let undone = repricer.undo(first.id).unwrap();
    assert_eq!((undone.put_back, undone.gone, undone.changed_since), (1, 1, 2));
    let mut expected = vec![(calls[0].id, Some(second.id)), (calls[1].id, None)];
    expected.sort_unstable();
    assert_eq!(undone.examples, expected);
    // Newest first.
    let costs: Vec<Option<Usd>> = home.rows().iter().map(|record| record.cost_usd).collect();
    assert_eq!(costs, [Some(usd("1")), Some(Usd::from_nanos(9)), Some(usd("5"))]);
    // Once the later one is taken back, so can the rest of the first be.
    assert_eq!(repricer.undo(second.id).unwrap().put_back, 1);
    assert_eq!(repricer.undo(first.id).unwrap().put_back, 1);
    assert_eq!(home.rows()[2].cost_usd, Some(usd("1")));
    assert!(matches!(repricer.undo(99), Err(RepriceError::Unknown(99))));
}

#[test]
fn the_same_cost_given_again_later_belongs_to_the_later_repricing() {
    let home = Home::of([priced(0, "1")]);
    let first = home.reprice("2");
    home.reprice("3");
    let third = home.reprice("2");
    let undone = home.repricer().undo(first.id).unwrap();
    assert_eq!((undone.put_back, undone.changed_since), (0, 1));
    assert_eq!(undone.examples[0].1, Some(third.id));
    assert_eq!(home.total(), usd("2"));
}

#[test]
fn a_server_records_while_costs_change_and_no_row_is_lost_or_reset() {
    let home = Home::of((0..MANY).map(|at| priced(at, "1")));
    let ledger = home.open();
    let recorded: Vec<Record> = (0..300).map(|at| priced(100_000 + at, "7")).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for record in &recorded {
                ledger.opened(record);
                ledger.closed(record);
                // So that there are transactions of the server's in between.
                assert!(ledger.sync(SOON));
            }
        });
        let until = Some(Timestamp::from_millis(MANY));
        for cost in ["2", "3"] {
            let mut repricer = home.repricer();
            let id = repricer.begin(&plan("sha")).unwrap().id;
            let filter = Filter { until, ..Filter::default() };
            let done = repricer.run(id, &filter, to(cost), |_, _| ()).unwrap();
            assert_eq!(done.rows_changed, 1200);
        }
    });
    assert!(ledger.health().is_ok(), "{:?}", ledger.health());
    assert!(ledger.shutdown(SOON));
    assert_eq!(home.rows().len(), 1500);
    assert_eq!(home.total(), usd("5700"));
}

#[test]
fn a_journal_that_is_read_again_leaves_new_costs_alone() {
    let home = Home::new();
    let record = priced(5, "1");
    let ledger = home.open();
    ledger.opened(&record);
    ledger.closed(&record);
    assert!(ledger.shutdown(SOON));
    drop(ledger);
    home.reprice("2");
    // As after a restore of a database that had read less of the journal.
    let other = Connection::open(home.database()).unwrap();
    other.execute("DELETE FROM journal_progress", []).unwrap();
    drop(other);
    let ledger = home.open();
    let rows = records(&ledger);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].cost_usd, Some(usd("2")));
}
