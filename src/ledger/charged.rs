//! What providers hand out as often as they are asked, charged once. Owns which call was the first to
//! be charged under a provider's id, and what the row of a later one loses; knows neither endpoints
//! nor how a key is made.
//!
//! Invariant: under one key, one row is charged. Feeding that row again takes nothing from it.

use ring::digest::{SHA256, digest};
use rusqlite::{Transaction, params};

use crate::pricing::CostSource;
use crate::record::{CallId, Charge, Record};
use crate::units::Usd;
use crate::usage::{Usage, UsageSource};

/// The first half of a key's SHA-256: keys are long, and nobody can make two of them meet.
type Hash = [u8; 16];

/// Of a record's charges, those that another row has already.
#[derive(Debug, Default)]
struct Elsewhere {
    charges: usize,
    usage: Usage,
    cost: Usd,
    /// The first of the calls that are charged.
    first: Option<CallId>,
}

/// Takes note of a record's charges. Answers the record as its row must be where another row is
/// charged for some of them.
pub(super) fn once(
    transaction: &Transaction<'_>,
    record: &Record,
) -> rusqlite::Result<Option<Record>> {
    if record.charges.is_empty() {
        return Ok(None);
    }
    let elsewhere = claim(transaction, record.id, &record.charges)?;
    Ok((elsewhere.charges > 0).then(|| without(record, &elsewhere)))
}

fn claim(
    transaction: &Transaction<'_>,
    id: CallId,
    charges: &[Charge],
) -> rusqlite::Result<Elsewhere> {
    let mut claim = transaction.prepare_cached(
        "INSERT INTO charged (key, call_id) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
    )?;
    let mut holder = transaction.prepare_cached("SELECT call_id FROM charged WHERE key = ?")?;
    let mut keys: Vec<(Hash, &Charge)> = charges.iter().map(|one| (hash(&one.key), one)).collect();
    // In the order of the table, so that the keys of a large batch go through its pages once.
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut elsewhere = Elsewhere::default();
    for (key, charge) in keys {
        let is_first = claim.execute(params![key, id.into_bytes()])? == 1;
        if is_first || !charge.fetched {
            continue;
        }
        let by = CallId::from_bytes(holder.query_row([key], |row| row.get(0))?);
        if by != id {
            elsewhere.add(charge, by);
        }
    }
    Ok(elsewhere)
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
        // The usage object stays: it is what this answer said.
        row.set_usage(&Usage::default(), UsageSource::None);
        row.estimate = None;
        (row.cost_usd, row.computed_cost_usd, row.price_id) = (None, None, None);
        row.cost_source = CostSource::None;
        row.charged_by = elsewhere.first;
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
