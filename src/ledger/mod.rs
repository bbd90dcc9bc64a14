//! The ledger.
use crate::record::Record;
#[derive(Clone, Debug)]
pub struct Ledger;
impl Ledger {
    pub fn opened(&self, _record: &Record) {}
    pub fn closed(&self, record: &Record) {
        println!("{}", serde_json::to_string(record).unwrap_or_default());
    }
}
