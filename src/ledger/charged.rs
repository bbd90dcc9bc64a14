//! What providers hand out as often as they are asked, charged once. Owns which call is charged under
//! a provider's id, and what the rows of the others lose; knows neither endpoints nor how a key is
//! made.
//!
//! Invariant: under one key, one row is charged: that with the best claim, of equals the first.
//! Feeding any of the rows again changes nothing.

use ring::digest::{SHA256, digest};
use rusqlite::params;

use super::layout::KEY_BITS;
use super::rows::Rows;
use crate::pricing::CostSource;
use crate::record::{CallId, Charge, Record};
use crate::units::Usd;
use crate::usage::{Usage, UsageSource};

/// The first half of a key's SHA-256: keys are long, and nobody can make two of them meet.
type Hash = [u8; 16];

/// How far before its holder's row a row may begin that names the holder: calls that overlap. The
/// whole table is not searched for a holder that gives way moments after it came.
const OVERLAP_MS: i64 = 60_000;

/// What a call has to say for being charged under a key. The greater claim is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    FetchedEstimated,
    MadeEstimated,
    FetchedReported,
    MadeReported,
}

/// Who is charged under a key. In the table the call's id, and behind it the claim as a byte, where a
/// greater one may come: not where the answer was made and its usage reported, and not where a row
/// has several keys, since it could not be told what of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    call: CallId,
    claim: Option<Claim>,
}

/// Of a record's charges, those that another row has already.
#[derive(Debug, Default)]
struct Elsewhere {
    charges: usize,
    usage: Usage,
    cost: Usd,
    /// The first of the calls that are charged.
    first: Option<CallId>,
}

/// Takes note of a record's charges, and takes from other rows what they are charged for with less
/// right. Answers the record as its row must be where another row is charged for some of them.
///
/// Only for a record that is about to become the row of its call.
pub(super) fn once(rows: &mut Rows<'_>, record: &Record) -> rusqlite::Result<Option<Record>> {
    if record.charges.is_empty() {
        return Ok(None);
    }
    let elsewhere = claim(rows, record)?;
    Ok((elsewhere.charges > 0).then(|| without(record, &elsewhere)))
}

fn claim(rows: &mut Rows<'_>, record: &Record) -> rusqlite::Result<Elsewhere> {
    let transaction = rows.transaction;
    let mut claim = transaction.prepare_cached(
        "INSERT INTO charged (key, call_id) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
    )?;
    let mut holder = transaction.prepare_cached("SELECT call_id FROM charged WHERE key = ?")?;
    let mut take = transaction.prepare_cached("UPDATE charged SET call_id = ?2 WHERE key = ?1")?;
    let mut keys: Vec<(Hash, &Charge)> =
        record.charges.iter().map(|one| (hash(&one.key), one)).collect();
    // In the order of the table, so that the keys of a large batch go through its pages once.
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut elsewhere = Elsewhere::default();
    for (key, charge) in keys {
        let claimed = Claim::of(record, charge);
        let myself = Holder::of(record, claimed);
        if claim.execute(params![key, myself.to_bytes()])? == 1 {
            continue;
        }
        let held = holder.query_row([key], |row| Ok(Holder::read(row.get_ref(0)?.as_blob()?)))?;
        let Some(held) = held else { continue };
        if held.call == record.id {
            // An amendment may know more, or less.
            if held != myself {
                take.execute(params![key, myself.to_bytes()])?;
            }
        } else if held.gives_way_to(claimed) && !rows.is_retired(&held.call)? {
            take.execute(params![key, myself.to_bytes()])?;
            if !held.is_of_another_answer(charge) {
                pass_on(rows, held.call, record.id)?;
            }
        } else if !held.is_of_another_answer(charge) {
            elsewhere.add(charge, held.call);
        }
    }
    Ok(elsewhere)
}

/// Takes from a row all that it is charged for, and names the call that is charged instead, there and
/// where the row itself was named.
fn pass_on(rows: &mut Rows<'_>, from: CallId, to: CallId) -> rusqlite::Result<()> {
    let Some(began) = rows.change(&from, |row| blank(row, Some(to)))? else { return Ok(()) };
    let mut rename = rows
        .transaction
        .prepare_cached("UPDATE calls SET charged_by = ?2 WHERE charged_by = ?1 AND key >= ?3")?;
    let since = began.millis().saturating_sub(OVERLAP_MS).max(0) << KEY_BITS;
    rename.execute(params![from.into_bytes(), to.into_bytes(), since]).map(drop)
}

/// Takes from a row all that another is charged for. The usage object stays: it is what this answer
/// said.
pub(super) fn blank(row: &mut Record, charged_by: Option<CallId>) {
    row.set_usage(&Usage::default(), UsageSource::None);
    row.estimate = None;
    (row.cost_usd, row.computed_cost_usd, row.price_id) = (None, None, None);
    row.cost_source = CostSource::None;
    row.charged_by = charged_by;
}

impl Claim {
    const ALL: [Claim; 4] = [
        Claim::FetchedEstimated,
        Claim::MadeEstimated,
        Claim::FetchedReported,
        Claim::MadeReported,
    ];

    fn of(record: &Record, charge: &Charge) -> Claim {
        match (charge.fetched, record.usage_source == UsageSource::Estimated) {
            (true, true) => Claim::FetchedEstimated,
            (false, true) => Claim::MadeEstimated,
            (true, false) => Claim::FetchedReported,
            (false, false) => Claim::MadeReported,
        }
    }

    fn is_made(self) -> bool {
        matches!(self, Claim::MadeEstimated | Claim::MadeReported)
    }
}

impl Holder {
    fn of(record: &Record, claim: Claim) -> Holder {
        let may_change = record.charges.len() == 1 && claim != Claim::MadeReported;
        Holder { call: record.id, claim: may_change.then_some(claim) }
    }

    fn to_bytes(self) -> Vec<u8> {
        let claim = self.claim.map(|claim| claim as u8);
        self.call.into_bytes().into_iter().chain(claim).collect()
    }

    fn read(bytes: &[u8]) -> Option<Holder> {
        let (call, claim) = bytes.split_first_chunk()?;
        let claim = claim.first().and_then(|at| Claim::ALL.get(usize::from(*at)).copied());
        Some(Holder { call: CallId::from_bytes(*call), claim })
    }

    fn gives_way_to(self, claim: Claim) -> bool {
        self.claim.is_some_and(|own| own < claim)
    }

    /// Of two calls that both made an answer, neither had that of the other, whatever its id. Those
    /// that make none have no claim that stays, but for rows with several keys, which nobody makes.
    fn is_of_another_answer(self, charge: &Charge) -> bool {
        !charge.fetched && self.claim.is_none_or(Claim::is_made)
    }
}

impl Elsewhere {
    fn add(&mut self, charge: &Charge, by: CallId) {
        self.charges += 1;
        self.usage.add(&charge.usage);
        self.cost += charge.cost_usd.unwrap_or_default();
        // Ids sort by time.
        self.first = Some(self.first.map_or(by, |first| first.min(by)));
    }
}

fn without(record: &Record, elsewhere: &Elsewhere) -> Record {
    let all = elsewhere.charges == record.charges.len();
    let mut row = Record { charges: Vec::new(), ..record.clone() };
    if all {
        blank(&mut row, elsewhere.first);
        return row;
    }
    reduce(&mut row, &elsewhere.usage);
    let less = |cost: Usd| (cost - elsewhere.cost).max(Usd::ZERO);
    // Where the provider's figure won, nobody knows which part of the other one this is.
    let computed = row.computed_cost_usd.filter(|computed| Some(*computed) == row.cost_usd);
    row.computed_cost_usd = computed.map(less);
    row.cost_usd = row.cost_usd.map(less);
    row
}

fn reduce(row: &mut Record, by: &Usage) {
    let both = || Some(by.input?.saturating_add(by.output?));
    let columns = [
        (&mut row.input_tokens, by.input),
        (&mut row.cache_read_tokens, by.cache_read),
        (&mut row.cache_write_tokens, by.cache_write),
        (&mut row.audio_input_tokens, by.audio_input),
        (&mut row.image_input_tokens, by.image_input),
        (&mut row.output_tokens, by.output),
        (&mut row.reasoning_tokens, by.reasoning),
        (&mut row.audio_output_tokens, by.audio_output),
        (&mut row.image_output_tokens, by.image_output),
        (&mut row.total_tokens, by.total.or_else(both)),
    ];
    for (column, by) in columns {
        *column = column.map(|tokens| tokens.saturating_sub(by.unwrap_or_default()));
    }
}

fn hash(key: &str) -> Hash {
    let whole = digest(&SHA256, key.as_bytes());
    *whole.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}
