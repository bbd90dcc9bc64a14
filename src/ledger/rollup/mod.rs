//! Sums of calls by half hour, user and kind, so that totals need not read a row per call. Owns the
//! tables `rollup_live` and `rollup_pack`; what a kind or a user's number stands for, and what is
//! asked, are others' matters.
//!
//! | file | owns |
//! | --- | --- |
//! | `sums` | what is summed of a call |
//! | `codec` | sums as bytes |
//! | `pack` | the sums of many users and kinds as one blob, and its place in the table |
//! | `deltas` | what one transaction adds and takes back |
//! | `seal` | moving finished half hours into packs |
//! | `class` | the packs by class, made again from days |
//! | `scan` | reading sums, from the fewest packs |
//! | `check` | whether packs say what they should |
//! | `rebuild` | sums made again |
//!
//! What has been recorded is in `rollup_live` first. A seal moves the half hours that have passed into
//! packs: one each for all users together (shard 0) and for each of [`SHARDS`] parts of the users, and
//! all of it once more by UTC day. Users' days, and spans of eight days, are packed once more by the
//! classes of kinds (`kinds.class`), which are much fewer. A change to a half hour that was sealed stands in `rollup_live`
//! until the next seal.
//!
//! Invariant: packs and live rows together are the exact sums of what was added and not removed, after
//! every transaction: those of half hours with the live rows, and those of days with the live rows.

mod check;
mod class;
mod codec;
mod deltas;
mod pack;
mod rebuild;
mod scan;
mod seal;
mod sums;
#[cfg(test)]
mod tests;

pub(super) use check::{Disagreement, disagreements, misplaced, truth};
pub(super) use codec::{Cursor, put_varint};
pub(super) use deltas::{Deltas, clear};
pub(super) use rebuild::{Rebuild, mend};
pub(super) use scan::{Grain, SumsRef, Users, scan, scan_each};
pub(super) use seal::{seal, seal_all};
pub use sums::Recorded;
pub(super) use sums::{Counted, FIGURES, Sums};

/// The tables. Live rows are clustered in the order in which a seal takes them. A pack's key is made
/// of its level, shard and time, so that what a question reads stands together.
pub(super) const TABLES: &str = "CREATE TABLE rollup_live (
        slot INTEGER NOT NULL,
        shard INTEGER NOT NULL,
        user INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        sums BLOB NOT NULL,
        PRIMARY KEY (slot, shard, user, kind)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rollup_pack (
        key INTEGER PRIMARY KEY,
        pack BLOB NOT NULL
    ) STRICT;";

/// Half an hour: nearly every time zone's days and hours begin with one.
pub(super) const SLOT_MS: i64 = 30 * 60 * 1000;

/// Slots in a UTC day.
pub(super) const SLOTS_PER_DAY: i64 = 48;

/// Days that are packed together once more, for totals of long times.
pub(super) const DAYS_PER_SPAN: i64 = 8;

/// Parts that users are in, so that a question about one user reads a part only.
const SHARDS: u32 = 32;

/// The slot of a moment, in milliseconds since 1970.
pub(super) fn slot_of(millis: i64) -> i64 {
    millis.div_euclid(SLOT_MS)
}

/// The shard that a user is in, beside shard 0, which has everybody.
fn shard_of(user: u32) -> u32 {
    user % SHARDS + 1
}
