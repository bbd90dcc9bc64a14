//! Stub.
use crate::record::Record;
#[derive(Debug, Default)]
pub(super) struct Deltas;
impl Deltas {
    pub(super) fn add(&mut self, _user: u32, _kind: u32, _record: &Record) {}
    pub(super) fn remove(&mut self, _user: u32, _kind: u32, _record: &Record) {}
    pub(super) fn flush(&self, _t: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        Ok(())
    }
}
pub(super) const TABLES: &str = "";
