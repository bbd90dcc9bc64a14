//! Costs recomputed: over the corpus nothing changes under the same prices, and all of it under others;
//! end to end, what is changed is remembered and can be taken back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tokenmeter::meter::{Kept, Repricing};
use tokenmeter::pricing::{CostSource, PriceBook};
use tokenmeter::record::Record;
use tokenmeter::units::{Timestamp, Usd};

/// What holds for every recorded row: under the prices that it was recorded with it stays as it is, and
/// where every provider's prices are doubled its computed cost is.
pub(crate) struct Law {
    prices: PriceBook,
    doubled: PriceBook,
    same: usize,
    priced: usize,
    kept: BTreeMap<Kept, usize>,
}

impl Law {
    pub(crate) fn new() -> Law {
        let prices = PriceBook::builtin();
        let mut text = String::from("extends = \"builtin\"\n");
        for name in prices.provider_names() {
            writeln!(text, "[providers.{name:?}]\nmultiplier = 2").unwrap();
        }
        let doubled = PriceBook::parse(&text).unwrap();
        Law { prices, doubled, same: 0, priced: 0, kept: BTreeMap::new() }
    }

    /// What is wrong with a row.
    pub(crate) fn check(&mut self, record: &Record) -> Option<String> {
        // Estimates are not waited for.
        let now = Timestamp::from_millis(record.created_at.millis() + 86_400_000);
        let repricing = |prices| Repricing { prices, deployed: &|_, _| None, now };
        let cost = match repricing(&self.prices).cost(record) {
            Ok(cost) => cost,
            Err(kept) => {
                *self.kept.entry(kept).or_default() += 1;
                return None;
            }
        };
        if cost != record.cost() {
            return Some(format!("repriced from {:?} to {cost:?}", record.cost()));
        }
        self.same += 1;
        let is_known = self.doubled.provider_names().contains(&record.provider.as_str());
        let computed = cost.computed_cost_usd.filter(|_| is_known)?;
        self.priced += 1;
        let twice = repricing(&self.doubled).cost(record).unwrap();
        let off = twice.computed_cost_usd.unwrap().nanos() - 2 * computed.nanos();
        let stays = record.cost_source == CostSource::Provider && twice.cost_usd != cost.cost_usd;
        // Half a nano-dollar may have been rounded away.
        (off.abs() > 1 || stays).then(|| format!("{cost:?} doubled is {twice:?}"))
    }

    pub(crate) fn add(&mut self, other: &Law) {
        self.same += other.same;
        self.priced += other.priced;
        for (kept, rows) in &other.kept {
            *self.kept.entry(*kept).or_default() += rows;
        }
    }

    /// Rows that come out as they are, those of them that have a computed cost, and those that are kept.
    pub(crate) fn counts(&self) -> (usize, usize, &BTreeMap<Kept, usize>) {
        (self.same, self.priced, &self.kept)
    }
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (same, priced, kept) = self.counts();
        write!(f, "repriced: {same} rows as they are, {priced} of them with a cost")?;
        kept.iter().try_for_each(|(kept, rows)| write!(f, "; {rows} kept: {}", kept.reason()))
    }
}

/// For rows in the journal.
pub(crate) fn record(row: &serde_json::Value) -> Record {
    serde_json::from_str(&row.to_string()).unwrap()
}

#[test]
fn a_law_is_told_when_it_is_broken() {
    let row = serde_json::json!({"id": "01936d1c-0000-7000-8000-000000000000",
        "created_at": "2026-01-02T00:00:00Z", "upstream": "openai", "provider": "openai",
        "endpoint": "embeddings", "method": "POST", "path": "/", "model": "text-embedding-3-small",
        "input_tokens": 1_000_000, "usage_source": "reported", "cost_usd": 0.02,
        "computed_cost_usd": 0.02, "cost_source": "priced",
        "price_id": "openai/text-embedding-3-small", "streaming": false, "outcome": "completed"});
    let mut law = Law::new();
    let right = record(&row);
    assert_eq!(law.check(&right), None);
    assert!(law.check(&Record { cost_usd: Some(Usd::ZERO), ..right.clone() }).is_some());
    assert!(law.check(&Record { price_id: None, ..right }).is_some());
    assert_eq!((law.same, law.priced), (1, 1));
}
