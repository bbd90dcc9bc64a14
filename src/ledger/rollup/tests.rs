//! The sums against calls that are simply kept and added up, whatever is added, taken back and sealed
//! in between; and bytes that nobody wrote.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use rusqlite::Connection;

use super::codec::Damaged;
use super::pack::{Entries, Key, Level, Reading};
use super::sums::FIGURES;
use super::*;
use crate::ledger::row::tests::{any_record, call};
use crate::ledger::sketch::bucket;
use crate::record::{CallId, Record};
use crate::units::Timestamp;
use crate::usage::UsageSource;

/// Slots that tests put calls in: the ends of three days, one of them before 1970.
const SLOTS: Range<i64> = -50..100;

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(TABLES).unwrap();
    // What the seal needs of the kinds: each two are a class.
    connection.execute_batch("CREATE TABLE kinds (id INTEGER PRIMARY KEY, class INTEGER)").unwrap();
    for kind in 0..100 {
        connection.execute("INSERT INTO kinds VALUES (?, ?)", [kind, class_of(kind)]).unwrap();
    }
    connection
}

fn class_of(kind: u32) -> u32 {
    kind / 2 * 2
}

fn flush(connection: &Connection, deltas: &mut Deltas) {
    let transaction = connection.unchecked_transaction().unwrap();
    deltas.flush(&transaction).unwrap();
    transaction.commit().unwrap();
    deltas.clear();
}

fn seal_step(connection: &Connection, now_slot: i64, budget: usize) -> bool {
    let transaction = connection.unchecked_transaction().unwrap();
    let more = seal::step(&transaction, now_slot, budget, 1).unwrap();
    transaction.commit().unwrap();
    more
}

fn rows(connection: &Connection, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn scanned(
    connection: &Connection,
    slots: Range<i64>,
    users: Users,
    grain: Grain,
    kinds: &dyn Fn(u32) -> bool,
) -> BTreeMap<(i64, u32, u32), Sums> {
    let mut found: BTreeMap<(i64, u32, u32), Sums> = BTreeMap::new();
    scan(connection, slots, users, grain, false, kinds, &mut |slot, user, kind, sums| {
        assert!(kinds(kind));
        sums.add_to(found.entry((at(slot, grain), user, kind)).or_default())
    })
    .unwrap();
    found.retain(|_, sums| !sums.is_zero());
    found
}

fn at(slot: i64, grain: Grain) -> i64 {
    match grain {
        Grain::Slot => slot,
        Grain::Day => slot.div_euclid(48),
        Grain::Any => 0,
    }
}

/// A call's sums, the plain way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain([i128; FIGURES], BTreeMap<usize, i64>);

impl Plain {
    fn add(&mut self, r: &Record) {
        let tokens = [
            r.input_tokens,
            r.cache_read_tokens,
            r.cache_write_tokens,
            r.audio_input_tokens,
            r.image_input_tokens,
            r.output_tokens,
            r.reasoning_tokens,
            r.audio_output_tokens,
            r.image_output_tokens,
            r.total_tokens,
        ];
        // As columns hold them.
        let plain =
            |value: Option<u64>| i128::from(value.unwrap_or(0).min(i64::MAX.unsigned_abs()));
        self.0[0] += 1;
        for (sum, tokens) in self.0[1..].iter_mut().zip(tokens) {
            *sum += plain(tokens);
        }
        self.0[11] += r.cost_usd.map_or(0, |cost| cost.nanos().into());
        if r.usage_source == UsageSource::Estimated && r.charged_by.is_none() {
            let error = r.estimate.as_ref().map(|note| note.error_tokens);
            self.0[12] += plain(error).min(i64::MAX.into());
        }
        self.0[13] += i128::from(r.duration_ms.is_some());
        self.0[14] += plain(r.duration_ms);
        self.0[15] += i128::from(r.time_to_first_token_ms.is_some());
        self.0[16] += plain(r.time_to_first_token_ms);
        if let Some(duration) = r.duration_ms {
            *self.1.entry(bucket(duration)).or_default() += 1;
        }
    }
}

fn plain(sums: &Sums) -> Plain {
    Plain(sums.figures, sums.sketch.counts().collect())
}

fn plainly<'a>(
    calls: impl Iterator<Item = &'a Call>,
    key: impl Fn(&Call) -> (i64, u32, u32),
) -> BTreeMap<(i64, u32, u32), Plain> {
    let mut sums: BTreeMap<_, Plain> = BTreeMap::new();
    calls.for_each(|call| sums.entry(key(call)).or_default().add(&call.record));
    sums
}

#[derive(Clone, Debug)]
struct Call {
    user: u32,
    kind: u32,
    record: Record,
}

impl Call {
    fn slot(&self) -> i64 {
        slot_of(self.record.created_at.millis())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Box<Call>),
    /// The call with this number, counted around.
    Remove(usize),
    Flush,
    Seal {
        now_slot: i64,
        budget: usize,
    },
}

/// A record with figures as they usually are, or with any.
fn record() -> impl Strategy<Value = Record> {
    let usual = (1..5_u64, 0..3_u64, 0..400_u64, any::<bool>()).prop_map(
        |(input, output, duration, starts)| Record {
            input_tokens: Some(input),
            output_tokens: Some(output),
            total_tokens: Some(input + output),
            duration_ms: Some(duration),
            time_to_first_token_ms: starts.then_some(duration / 2),
            ..call(0)
        },
    );
    prop_oneof![4 => usual, 1 => any_record()]
}

fn a_call() -> impl Strategy<Value = Call> {
    let time = (SLOTS, 0..SLOT_MS).prop_map(|(slot, within)| slot * SLOT_MS + within);
    let user = prop_oneof![Just(0), Just(1), Just(33), Just(u32::MAX), 0..70_u32];
    let kind = prop_oneof![4 => 0..3_u32, 1 => Just(u32::MAX)];
    (user, kind, record(), time).prop_map(|(user, kind, record, time)| {
        let record = Record { created_at: Timestamp::from_millis(time), ..record };
        Call { user, kind, record }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => a_call().prop_map(|call| Step::Add(Box::new(call))),
        4 => any::<usize>().prop_map(Step::Remove),
        2 => Just(Step::Flush),
        2 => (SLOTS.start..SLOTS.end + 3, prop_oneof![Just(1), Just(9_000), Just(1 << 20)])
            .prop_map(|(now_slot, budget)| Step::Seal { now_slot, budget }),
    ]
}

/// Does the steps, and answers the calls that are left of them.
fn run(connection: &Connection, steps: Vec<Step>) -> Vec<Call> {
    let (mut calls, mut deltas) = (Vec::new(), Deltas::default());
    for step in steps {
        match step {
            Step::Add(call) => {
                deltas.add(call.user, call.kind, &call.record);
                calls.push(*call);
            }
            Step::Remove(_) if calls.is_empty() => {}
            Step::Remove(number) => {
                let call = calls.swap_remove(number % calls.len());
                deltas.remove(call.user, call.kind, &call.record);
            }
            Step::Flush => flush(connection, &mut deltas),
            Step::Seal { now_slot, budget } => drop(seal_step(connection, now_slot, budget)),
        }
    }
    flush(connection, &mut deltas);
    calls
}

fn assert_sound(connection: &Connection) {
    let mut found = Vec::new();
    disagreements(connection, &mut |disagreement| found.push(disagreement)).unwrap();
    assert_eq!(found, []);
}

proptest! {
    // Each case is many scans; the others run as often as ever.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_scan_counts_every_call_once(
        steps in proptest::collection::vec(step(), 0..80),
        ranges in proptest::collection::vec((SLOTS, SLOTS), 1..4),
    ) {
        let connection = database();
        let calls = run(&connection, steps);
        assert_sound(&connection);
        let ranges = ranges.into_iter().map(|(a, b)| a..b).chain([i64::MIN..i64::MAX, -48..96]);
        for range in ranges {
            let users = [Users::Together, Users::Each, Users::One(0), Users::One(33)];
            for (users, grain) in users.into_iter().flat_map(|u| [(u, Grain::Slot), (u, Grain::Day)]) {
                let wanted = |call: &&Call| {
                    let is_theirs = !matches!(users, Users::One(user) if user != call.user);
                    is_theirs && call.kind != 1 && range.contains(&call.slot())
                };
                let expected = plainly(calls.iter().filter(wanted), |call| {
                    let user = if users == Users::Together { 0 } else { call.user };
                    (at(call.slot(), grain), user, call.kind)
                });
                let found = scanned(&connection, range.clone(), users, grain, &|kind| kind != 1);
                let found: BTreeMap<_, _> = found.iter().map(|(key, sums)| (*key, plain(sums))).collect();
                prop_assert_eq!(&found, &expected, "{:?} {:?} {:?}", range, users, grain);
            }
        }
        // By class, any kind stands for those of its class.
        for (users, grain) in [
            (Users::Each, Grain::Any),
            (Users::One(33), Grain::Any),
            (Users::Each, Grain::Day),
            (Users::Together, Grain::Any),
            (Users::Together, Grain::Slot),
        ] {
            let mut found: BTreeMap<_, Sums> = BTreeMap::new();
            scan(&connection, -384..96, users, grain, true, &|_| true, &mut |slot, user, kind, sums| {
                let place = (at(slot, grain), user, class_of(kind));
                sums.add_to(found.entry(place).or_default())
            }).unwrap();
            let found: BTreeMap<_, _> = found
                .iter()
                .filter(|(_, sums)| !sums.is_zero())
                .map(|(place, sums)| (*place, plain(sums)))
                .collect();
            let wanted = |call: &&Call| {
                (-384..96).contains(&call.slot()) && !matches!(users, Users::One(user) if user != call.user)
            };
            let expected = plainly(calls.iter().filter(wanted), |call| {
                let user = if users == Users::Together { 0 } else { call.user };
                (at(call.slot(), grain), user, class_of(call.kind))
            });
            prop_assert_eq!(&found, &expected, "by class: {:?} {:?}", users, grain);
        }
        let mut found = Vec::new();
        truth(&connection, SLOTS, &mut |slot, user, kind, sums| {
            found.push(((slot, user, kind), plain(sums)));
            Ok(())
        }).unwrap();
        let expected = plainly(calls.iter(), |call| (call.slot(), call.user, call.kind));
        prop_assert!(found.into_iter().eq(expected));
    }
}

proptest! {
    #[test]
    fn what_is_taken_back_leaves_nothing(
        calls in proptest::collection::vec(a_call(), 1..20),
        sealed in any::<[bool; 2]>(),
    ) {
        let (connection, mut deltas) = (database(), Deltas::default());
        for (round, is_sealed) in sealed.into_iter().enumerate() {
            for call in &calls {
                let change = if round == 0 { Deltas::add } else { Deltas::remove };
                change(&mut deltas, call.user, call.kind, &call.record);
            }
            flush(&connection, &mut deltas);
            if is_sealed {
                while seal(&connection, SLOTS.end + 5).unwrap() {}
            }
        }
        let left = scanned(&connection, SLOTS, Users::Each, Grain::Slot, &|_| true);
        prop_assert!(left.is_empty());
        if sealed[1] || !sealed[0] {
            prop_assert_eq!((rows(&connection, "rollup_live"), rows(&connection, "rollup_pack")), (0, 0));
        }
    }

    #[test]
    fn sums_read_back_as_they_were(
        records in proptest::collection::vec((record(), any::<bool>()), 0..50),
    ) {
        let mut sums = Sums::default();
        for (record, is_added) in &records {
            if *is_added { sums.add(record) } else { sums.remove(record) }
        }
        let mut bytes = Vec::new();
        codec::put(&mut bytes, &sums);
        let mut twice = sums.clone();
        codec::add_to(&bytes, &mut twice).unwrap();
        sums.merge(&sums.clone());
        prop_assert_eq!(twice, sums);
    }

    #[test]
    fn bytes_that_nobody_wrote_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = codec::add_to(&bytes, &mut Sums::default());
        let mut pack = vec![1, 0, 0, 0, 0];
        pack.extend(&bytes);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        pack[1..5].copy_from_slice(&crc.sum().to_le_bytes());
        for entry in Reading::open(&pack).unwrap() {
            let _ = entry.map(|entry| codec::add_to(entry.sums, &mut Sums::default()));
        }
        let _ = pack::merge(Some(&pack), &entries(3), &mut Vec::new());
    }
}

fn entries(count: u32) -> Entries {
    let sums = |number: u32| {
        let mut sums = Sums::default();
        sums.add(&Record { duration_ms: Some(number.into()), ..call(0) });
        sums
    };
    (0..count).map(|number| ((number / 3, number % 3), sums(number))).collect()
}

#[test]
fn a_pack_that_is_cut_or_changed_anywhere_is_an_error() {
    let mut pack = Vec::new();
    pack::merge(None, &entries(7), &mut pack).unwrap();
    assert_eq!(Reading::open(&pack).unwrap().count(), 7);
    for end in 0..pack.len() {
        assert_eq!(Reading::open(&pack[..end]).err(), Some(Damaged), "{end}");
    }
    for bit in 0..pack.len() * 8 {
        let mut pack = pack.clone();
        pack[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Reading::open(&pack).err(), Some(Damaged), "{bit}");
        assert_eq!(pack::merge(Some(&pack), &entries(2), &mut Vec::new()), Err(Damaged));
    }
}

#[test]
fn a_damaged_pack_is_an_error_of_the_question() {
    let connection = filled(&[(0, 1)]);
    connection.execute("UPDATE rollup_pack SET pack = substr(pack, 1, 9)", []).unwrap();
    let read =
        scan(&connection, SLOTS, Users::Each, Grain::Slot, false, &|_| true, &mut |_, _, _, _| {
            Ok(())
        });
    assert!(read.unwrap_err().to_string().contains("damaged"));
}

/// A ledger with a sealed call in each of some slots, by user.
fn filled(calls: &[(i64, u32)]) -> Connection {
    let (connection, mut deltas) = (database(), Deltas::default());
    for (slot, user) in calls {
        deltas.add(*user, 7, &call(slot * SLOT_MS));
    }
    flush(&connection, &mut deltas);
    while seal(&connection, 1_000).unwrap() {}
    assert_eq!(rows(&connection, "rollup_live"), 0);
    connection
}

fn requests(connection: &Connection, slots: Range<i64>, users: Users, grain: Grain) -> i128 {
    let found = scanned(connection, slots, users, grain, &|_| true);
    found.values().map(Sums::requests).sum()
}

#[test]
fn whole_days_are_read_from_their_packs_alone() {
    let connection = filled(&[(0, 1), (47, 1), (48, 2), (95, 2), (96, 3)]);
    let sealed = |level, shard, start| {
        let sums = Key { level, shard, start }.load(&connection).unwrap();
        assert!(sums.is_some(), "{level:?} {shard} {start}");
    };
    sealed(Level::Day, 0, 0);
    sealed(Level::Day, 3, 1);
    // Slot packs of the first two days: with them gone, only the days' packs can tell.
    connection
        .execute(
            "DELETE FROM rollup_pack WHERE key < (1 << 54) AND key % (1 << 48) < (1 << 47) + 96",
            [],
        )
        .unwrap();
    for users in [Users::Together, Users::Each] {
        assert_eq!(requests(&connection, 0..97, users, Grain::Slot), 1);
        assert_eq!(requests(&connection, 0..97, users, Grain::Day), 5);
        assert_eq!(
            requests(&connection, 1..97, users, Grain::Day),
            3,
            "the first day is not whole"
        );
        assert_eq!(requests(&connection, 0..95, users, Grain::Day), 2, "the second day is not");
    }
    assert_eq!(requests(&connection, 0..97, Users::One(2), Grain::Day), 2);
}

#[test]
fn everybody_together_is_one_pack_and_one_user_is_one_shard() {
    let connection = filled(&[(0, 1), (0, 2), (0, 34)]);
    // The shard of users 1 and 33 is unreadable, and nobody else notices.
    let sql = "UPDATE rollup_pack SET pack = x'00' WHERE (key >> 48) & 63 = 2";
    assert_eq!(connection.execute(sql, []).unwrap(), 4);
    assert_eq!(requests(&connection, 0..48, Users::Together, Grain::Slot), 3);
    assert_eq!(requests(&connection, 0..48, Users::Together, Grain::Day), 3);
    assert_eq!(requests(&connection, 0..48, Users::One(34), Grain::Day), 1);
    let read = truth(&connection, SLOTS, &mut |_, _, _, _| Ok(()));
    assert!(read.is_err());
}

#[test]
fn packs_that_differ_are_found() {
    for (level, shard, start) in [
        (Level::Day, 2, 1),
        (Level::Day, 0, 1),
        (Level::Slot, 0, 50),
        (Level::Day, 9, 3),
        (Level::ClassDay, 2, 1),
        (Level::ClassSpan, 9, 0),
    ] {
        let connection = filled(&[(50, 1), (50, 2)]);
        assert_sound(&connection);
        let key = Key { level, shard, start };
        key.add(&connection, &entries(2), &mut Vec::new()).unwrap();
        let mut found = Vec::new();
        disagreements(&connection, &mut |disagreement| found.push(disagreement)).unwrap();
        let slot = key.first_slot();
        found.sort_by_key(Disagreement::order);
        assert_eq!(found[0], Disagreement { level, shard, slot, is_damaged: false });
        // What is wrong by kind does not agree with the packs by class either.
        let by_class = match (level, shard) {
            (Level::Day, _) => 2,
            (Level::Slot, 0) => 1,
            _ => 0,
        };
        assert_eq!(found.len(), 1 + by_class);
    }
}

#[test]
fn a_seal_is_done_in_steps_and_leaves_what_is_recent() {
    let (connection, mut deltas) = (database(), Deltas::default());
    for slot in 0..10 {
        (0..20).for_each(|user| deltas.add(user, 1, &call(slot * SLOT_MS)));
    }
    assert_eq!(deltas.len(), 200);
    flush(&connection, &mut deltas);
    let (mut steps, mut left) = (1, 200);
    while seal_step(&connection, 9, 40_000) {
        let now = rows(&connection, "rollup_live");
        assert!((1..=40).contains(&(left - now)), "{left} -> {now}");
        assert_eq!(requests(&connection, 0..48, Users::Each, Grain::Day), 200);
        assert_sound(&connection);
        (steps, left) = (steps + 1, now);
    }
    assert!(steps > 4, "{steps}");
    assert_eq!(rows(&connection, "rollup_live"), 2 * 20, "the slot of now and the one before");
    assert!(!seal(&connection, 9).unwrap());
    assert_eq!(requests(&connection, 8..10, Users::Together, Grain::Slot), 40);
    assert!(!seal(&connection, 10).unwrap());
    assert_eq!(rows(&connection, "rollup_live"), 20);
}

#[test]
fn extreme_times_and_figures_come_back() {
    let (connection, mut deltas) = (database(), Deltas::default());
    let most = Some(u64::MAX);
    for millis in [i64::MIN, -1, i64::MAX] {
        let record = Record {
            created_at: Timestamp::from_millis(millis),
            input_tokens: most,
            total_tokens: most,
            duration_ms: most,
            charged_by: None,
            id: CallId::new(),
            ..call(0)
        };
        (0..3).for_each(|_| deltas.add(u32::MAX, u32::MAX, &record));
    }
    flush(&connection, &mut deltas);
    for _ in 0..2 {
        let found = scanned(&connection, i64::MIN..i64::MAX, Users::Each, Grain::Slot, &|_| true);
        let slots: Vec<i64> = found.keys().map(|(slot, _, _)| *slot).collect();
        assert_eq!(slots, [i64::MIN.div_euclid(SLOT_MS), -1, i64::MAX / SLOT_MS]);
        for sums in found.values() {
            let sum = 3 * i128::from(i64::MAX);
            assert_eq!((sums.tokens()[0], sums.tokens()[9]), (sum, sum));
            assert_eq!(sums.duration(), Counted { count: 3, sum });
            assert_eq!(
                sums.duration_percentiles([50])[0].map(bucket),
                Some(bucket(i64::MAX.unsigned_abs()))
            );
        }
        assert_eq!(requests(&connection, i64::MIN..i64::MAX, Users::One(u32::MAX), Grain::Day), 9);
        while seal(&connection, i64::MAX).unwrap() {}
        assert_eq!(rows(&connection, "rollup_live"), 0);
    }
    assert_sound(&connection);
    clear(&connection).unwrap();
    assert_eq!(requests(&connection, i64::MIN..i64::MAX, Users::Together, Grain::Day), 0);
}

#[test]
fn sums_made_again_are_those_that_were_and_a_pack_that_is_lost_is_made_of_the_others() {
    let calls = [(-3, 1), (0, 1), (0, 33), (0, 2), (47, 1), (48, 2), (50, 2), (50, 1), (96, 3)];
    let connection = filled(&calls);
    let all =
        |connection: &Connection| scanned(connection, SLOTS, Users::Each, Grain::Slot, &|_| true);
    let before = all(&connection);
    for since in [None, Some(-3), Some(0), Some(48), Some(50), Some(96)] {
        let mut rebuild = Rebuild::since(&connection, since).unwrap();
        for (slot, user) in
            calls.iter().filter(|(slot, _)| since.is_none_or(|since| *slot >= since))
        {
            rebuild.add(*user, 7, &call(slot * SLOT_MS)).unwrap();
        }
        rebuild.finish().unwrap();
        assert_eq!(all(&connection), before, "{since:?}");
        assert_sound(&connection);
    }
    for (level, shard, start) in
        [(Level::Slot, 0, 50), (Level::Slot, 2, 0), (Level::Day, 0, 1), (Level::Day, 3, 1)]
    {
        let key = Key { level, shard, start };
        let number = (i64::from(level == Level::Day) << 6 | i64::from(shard)) << 48;
        let number = number | (start + (1 << 47));
        let sql = "UPDATE rollup_pack SET pack = x'01' WHERE key = ?";
        assert_eq!(connection.execute(sql, [number]).unwrap(), 1);
        let mut wrong = Vec::new();
        disagreements(&connection, &mut |one| wrong.push(one)).unwrap();
        let lost = wrong.iter().find(|one| one.is_damaged).unwrap();
        assert!(mend(&connection, *lost).unwrap());
        assert_sound(&connection);
        assert_eq!(all(&connection), before, "{key:?}");
    }
    // Two half hours of a shard are more than a day can tell.
    let sql = "UPDATE rollup_pack SET pack = x'01' WHERE key >= 2 << 48 AND key < 3 << 48";
    assert!(connection.execute(sql, []).unwrap() > 1);
    let (level, is_damaged) = (Level::Slot, true);
    assert!(!mend(&connection, Disagreement { level, shard: 2, slot: 0, is_damaged }).unwrap());
}
