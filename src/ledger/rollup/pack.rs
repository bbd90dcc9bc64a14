//! The sums of many users and kinds as one blob, and its place in the table. Owns the blob's layout
//! and the key; knows neither live rows nor questions.
//!
//! A version byte, the CRC-32 of what follows, and then entries by user and kind: length of the sums,
//! user, kind, sums. An entry that is not wanted is passed over without looking into it.
//!
//! Invariant: a pack that is not as it was written gives an error. Entries are in order, each user and
//! kind once, none of them 0; there is no empty pack.

use std::collections::BTreeMap;
use std::ops::Range;

use flate2::Crc;
use rusqlite::{Connection, OptionalExtension};

use super::codec::{self, Cursor, Damaged};
use super::sums::Sums;
use super::{DAYS_PER_SPAN, SLOTS_PER_DAY, shard_of};

const VERSION: u8 = 1;

/// Bytes before the entries.
const HEAD: usize = 5;

/// Bits of a key that are its time; above stand six for the shard, and then the level.
const TIME_BITS: u32 = 48;

/// Times are counted from here: no timestamp of 64 bits has a slot below `-EPOCH` or above `EPOCH`.
const EPOCH: i64 = 1 << (TIME_BITS - 1);

/// What identifies an entry.
pub(super) type Place = (u32, u32);

/// Sums by user and kind.
pub(super) type Entries = BTreeMap<Place, Sums>;

/// How much time a pack is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Slot,
    Day,
    /// Everybody's slots, by the classes of kinds.
    ClassSlot,
    /// Days, by the classes of kinds.
    ClassDay,
    /// The same of [`DAYS_PER_SPAN`] days.
    ClassSpan,
}

/// Whose sums over which time a pack has. Sorted as in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) level: Level,
    /// 0 has everybody, as user 0.
    pub(super) shard: u32,
    /// The slot, or the day since 1970.
    pub(super) start: i64,
}

impl Key {
    /// The packs that a user's call counts in: of its user's shard, which comes first, and of everybody, by
    /// slot and by day, and by class.
    pub(super) fn all_of(slot: i64, user: u32) -> [Key; 9] {
        let of_user = Key { level: Level::Slot, shard: shard_of(user), start: slot };
        let of_all = Key { shard: 0, ..of_user };
        [
            of_user,
            of_all,
            of_user.at(Level::Day),
            of_all.at(Level::Day),
            of_user.at(Level::ClassDay),
            of_user.at(Level::ClassSpan),
            of_all.at(Level::ClassSlot),
            of_all.at(Level::ClassDay),
            of_all.at(Level::ClassSpan),
        ]
    }

    /// The pack of another level that has its first slot.
    pub(super) fn at(self, level: Level) -> Key {
        let slot = self.first_slot();
        let day = slot.div_euclid(SLOTS_PER_DAY);
        let start = match level {
            Level::Slot | Level::ClassSlot => slot,
            Level::Day | Level::ClassDay => day,
            Level::ClassSpan => day.div_euclid(DAYS_PER_SPAN),
        };
        Key { level, start, ..self }
    }

    /// The first slot of the pack's time.
    pub(super) fn first_slot(self) -> i64 {
        match self.level {
            Level::Slot | Level::ClassSlot => self.start,
            Level::Day | Level::ClassDay => self.start * SLOTS_PER_DAY,
            Level::ClassSpan => self.start * SLOTS_PER_DAY * DAYS_PER_SPAN,
        }
    }

    fn number(self) -> i64 {
        let level = match self.level {
            Level::Slot => 0_i64,
            Level::Day => 1,
            Level::ClassDay => 2,
            Level::ClassSpan => 3,
            Level::ClassSlot => 4,
        };
        let place = level << 6 | i64::from(self.shard);
        place << TIME_BITS | (self.start.clamp(-EPOCH, EPOCH - 1) + EPOCH)
    }

    pub(super) fn load(self, connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT pack FROM rollup_pack WHERE key = ?";
        let mut select = connection.prepare_cached(sql)?;
        select.query_row([self.number()], |row| row.get(0)).optional()
    }

    /// The pack's length in bytes, without reading it; 0 for none.
    pub(super) fn length(self, connection: &Connection) -> rusqlite::Result<usize> {
        let sql = "SELECT length(pack) FROM rollup_pack WHERE key = ?";
        let mut select = connection.prepare_cached(sql)?;
        let length = select.query_row([self.number()], |row| row.get::<_, u32>(0)).optional()?;
        Ok(length.unwrap_or(0) as usize)
    }

    /// The first pack of a level and shard in a range of time.
    pub(super) fn next(
        connection: &Connection,
        level: Level,
        shard: u32,
        starts: Range<i64>,
    ) -> rusqlite::Result<Option<i64>> {
        let key = |start| Key { level, shard, start }.number();
        let mut select = connection.prepare_cached(
            "SELECT key FROM rollup_pack WHERE key >= ? AND key < ? ORDER BY key LIMIT 1",
        )?;
        let found = select.query_row([key(starts.start), key(starts.end)], |row| row.get(0));
        Ok(found.optional()?.map(start_of))
    }

    /// Shows the packs of a level and shard over a range of time, in its order.
    pub(super) fn each(
        connection: &Connection,
        level: Level,
        shard: u32,
        starts: Range<i64>,
        visit: &mut dyn FnMut(Key, &[u8]) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let key = |start| Key { level, shard, start };
        let mut select = connection.prepare_cached(
            "SELECT key, pack FROM rollup_pack WHERE key >= ? AND key < ? ORDER BY key",
        )?;
        let mut rows = select.query([key(starts.start).number(), key(starts.end).number()])?;
        while let Some(row) = rows.next()? {
            let pack = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            visit(key(start_of(row.get(0)?)), pack)?;
        }
        Ok(())
    }

    /// Puts a pack of these entries in the place of the one that is there.
    pub(super) fn replace(
        self,
        connection: &Connection,
        entries: &Entries,
    ) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM rollup_pack WHERE key = ?", [self.number()])?;
        self.add(connection, entries, &mut Vec::new())
    }

    /// Deletes this pack and the later ones of its level and shard.
    pub(super) fn delete_from_here(self, connection: &Connection) -> rusqlite::Result<()> {
        let last = Key { start: i64::MAX, ..self };
        let sql = "DELETE FROM rollup_pack WHERE key >= ? AND key <= ?";
        connection.execute(sql, [self.number(), last.number()]).map(drop)
    }

    /// Adds entries to the pack, using `out` to build it.
    pub(super) fn add(
        self,
        connection: &Connection,
        entries: &Entries,
        out: &mut Vec<u8>,
    ) -> rusqlite::Result<()> {
        let old = self.load(connection)?;
        out.clear();
        merge(old.as_deref(), entries, out)?;
        if out.len() > HEAD {
            let sql = "INSERT OR REPLACE INTO rollup_pack (key, pack) VALUES (?, ?)";
            connection.prepare_cached(sql)?.execute((self.number(), &out[..]))?;
        } else if old.is_some() {
            let sql = "DELETE FROM rollup_pack WHERE key = ?";
            connection.prepare_cached(sql)?.execute([self.number()])?;
        }
        Ok(())
    }
}

fn start_of(number: i64) -> i64 {
    (number & ((1 << TIME_BITS) - 1)) - EPOCH
}

/// The sums of one user and kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) user: u32,
    pub(super) kind: u32,
    pub(super) sums: &'a [u8],
    /// All of the entry, as it is in the pack.
    whole: &'a [u8],
}

/// Goes through the entries of a pack.
#[derive(Debug)]
pub(super) struct Reading<'a>(Cursor<'a>);

impl<'a> Reading<'a> {
    /// A pack that is sound as a whole.
    pub(super) fn open(pack: &'a [u8]) -> Result<Reading<'a>, Damaged> {
        let (head, entries) = pack.split_at_checked(HEAD).ok_or(Damaged)?;
        let ([VERSION], sum) = head.split_at(1) else { return Err(Damaged) };
        if sum == checksum(entries) { Ok(Reading(Cursor(entries))) } else { Err(Damaged) }
    }

    fn entry(&mut self) -> Result<Entry<'a>, Damaged> {
        let before = self.0;
        let length = self.0.narrow()?;
        let (user, kind) = (self.0.narrow()?, self.0.narrow()?);
        let sums = self.0.bytes(length)?;
        let whole = &before.0[..before.0.len() - self.0.0.len()];
        Ok(Entry { user, kind, sums, whole })
    }
}

impl<'a> Iterator for Reading<'a> {
    type Item = Result<Entry<'a>, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Result<Entry<'a>, Damaged>> {
        if self.0.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.0 = Cursor(&[]);
        }
        Some(entry)
    }
}

/// Writes a pack of what another one has and of more. What is in one of the two only is copied.
pub(super) fn merge(old: Option<&[u8]>, more: &Entries, out: &mut Vec<u8>) -> Result<(), Damaged> {
    let mut old = old.map(Reading::open).transpose()?.into_iter().flatten().peekable();
    let (mut body, start) = (Vec::new(), out.len());
    out.extend_from_slice(&[0; HEAD]);
    for (place, sums) in more {
        let mut merged = None;
        while let Some(entry) = old.next_if(|entry| is_up_to(entry.as_ref(), *place)) {
            let entry = entry?;
            if (entry.user, entry.kind) == *place {
                codec::add_to(entry.sums, merged.get_or_insert_with(|| sums.clone()))?;
            } else {
                out.extend_from_slice(entry.whole);
            }
        }
        let sums = merged.as_ref().unwrap_or(sums);
        if !sums.is_zero() {
            body.clear();
            codec::put(&mut body, sums);
            codec::put_varint(out, body.len());
            codec::put_varint(out, place.0);
            codec::put_varint(out, place.1);
            out.extend_from_slice(&body);
        }
    }
    old.try_for_each(|entry| entry.map(|entry| out.extend_from_slice(entry.whole)))?;
    let sum = checksum(&out[start + HEAD..]);
    out[start] = VERSION;
    out[start + 1..start + HEAD].copy_from_slice(&sum);
    Ok(())
}

fn is_up_to(entry: Result<&Entry<'_>, &Damaged>, place: Place) -> bool {
    entry.map_or(true, |entry| (entry.user, entry.kind) <= place)
}

fn checksum(entries: &[u8]) -> [u8; HEAD - 1] {
    let mut crc = Crc::new();
    crc.update(entries);
    crc.sum().to_le_bytes()
}
