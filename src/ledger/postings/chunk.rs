//! Postings as bytes: those of a block, sorted, and those that are not in one yet. Owns both layouts; knows no
//! table.
//!
//! Both begin with the CRC-32 of the rest and a key from which the others are counted. A chunk then has groups:
//! how much the value is more than that of the group before, the kind (of users' chunks only), how many
//! bytes of keys, and the keys as differences. What is new has postings one by one. All numbers are varints.
//!
//! Invariant: what was written reads back the same, and other bytes give an error.

use std::fmt;

use flate2::Crc;

use super::super::layout::KEY_BITS;
use super::super::rollup::{Cursor, put_varint};
use super::{Entry, Posting, Sort};

/// What fits onto one page of the database with its row's head: a longer chunk is the list of one value.
const CHUNK: usize = 3_900;

/// Bytes before the groups.
const HEAD: usize = 12;

/// Bytes that nobody here wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the lists by which calls are found are damaged; `tokenmeter doctor --repair` mends them",
        )
    }
}

impl std::error::Error for Damaged {}

impl From<Damaged> for rusqlite::Error {
    fn from(damaged: Damaged) -> rusqlite::Error {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(damaged))
    }
}

/// Writes sorted entries as chunks, none of which parts what is of one value. Shows each with its first value.
pub(super) fn write<E>(
    sort: Sort,
    base: i64,
    entries: &[Entry],
    mut put: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut chunk, mut of_value, mut keys) = (head(base), Vec::new(), Vec::new());
    let (mut first, mut last) = (0, 0);
    for of_one in entries.chunk_by(|one, other| one.0 == other.0) {
        let Some((value, ..)) = of_one.first().copied() else { continue };
        let before = if chunk.len() == HEAD { 0 } else { last };
        put_value(&mut of_value, &mut keys, (sort, base), value - before, of_one);
        if chunk.len() > HEAD && chunk.len() + of_value.len() > CHUNK {
            put(first, seal(&mut chunk))?;
            chunk.truncate(HEAD);
            // As the first of its chunk, it is counted from 0.
            put_value(&mut of_value, &mut keys, (sort, base), value, of_one);
        }
        if chunk.len() == HEAD {
            first = value;
        }
        chunk.extend_from_slice(&of_value);
        last = value;
    }
    if chunk.len() > HEAD { put(first, seal(&mut chunk)) } else { Ok(()) }
}

/// All entries of one value, in the place of what was there.
fn put_value(
    out: &mut Vec<u8>,
    keys: &mut Vec<u8>,
    (sort, base): (Sort, i64),
    step: u64,
    of_one: &[Entry],
) {
    out.clear();
    let mut step = step;
    for group in of_one.chunk_by(|one, other| one.1 == other.1) {
        keys.clear();
        let mut before = base;
        for (.., key) in group {
            put_step(keys, key.wrapping_sub(before).cast_unsigned());
            before = *key;
        }
        put_varint(out, step);
        if let (Sort::User, Some((_, kind, _))) = (sort, group.first()) {
            put_varint(out, *kind);
        }
        put_varint(out, keys.len());
        out.extend_from_slice(keys);
        step = 0;
    }
}

/// Most keys differ in their milliseconds only, and a bit says so.
fn put_step(out: &mut Vec<u8>, step: u64) {
    let low = (1 << KEY_BITS) - 1;
    if step & low == 0 {
        put_varint(out, step >> KEY_BITS << 1);
    } else {
        // Its highest bit is free: keys are positive, or as good as that.
        put_varint(out, step << 1 | 1);
    }
}

fn head(base: i64) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    head[4..].copy_from_slice(&base.to_le_bytes());
    head
}

/// Puts the checksum into its place.
fn seal(bytes: &mut [u8]) -> &[u8] {
    let sum = checksum(bytes.get(4..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(..4) {
        place.copy_from_slice(&sum);
    }
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// The key from which others are counted, and what comes behind it.
fn open(bytes: &[u8]) -> Result<(i64, Cursor<'_>), Damaged> {
    let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(Damaged)?;
    if *sum != checksum(rest) {
        return Err(Damaged);
    }
    let (base, rest) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
    Ok((i64::from_le_bytes(*base), Cursor(rest)))
}

/// The keys of one value and, in users' chunks, kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) value: u64,
    /// 0 in chunks that are not users'.
    pub(super) kind: u32,
    base: i64,
    keys: &'a [u8],
}

impl Group<'_> {
    /// Shows each key, in their order.
    pub(super) fn each(&self, see: &mut dyn FnMut(i64)) -> Result<(), Damaged> {
        let (mut keys, mut key) = (Cursor(self.keys), self.base);
        while !keys.0.is_empty() {
            let step = keys.varint().map_err(|_| Damaged)?;
            let step = if step & 1 == 0 { step >> 1 << KEY_BITS } else { step >> 1 };
            key = key.wrapping_add_unsigned(step);
            see(key);
        }
        Ok(())
    }
}

/// Shows the groups of a chunk in their order, until it is enough.
pub(super) fn groups<'a>(
    sort: Sort,
    chunk: &'a [u8],
    see: &mut dyn FnMut(&Group<'a>) -> Result<bool, Damaged>,
) -> Result<(), Damaged> {
    let (base, mut from) = open(chunk)?;
    let mut value = 0_u64;
    while !from.0.is_empty() {
        let mut number = || from.varint().map_err(|_| Damaged);
        value = value.checked_add(number()?).ok_or(Damaged)?;
        let kind = if sort == Sort::User { number()? } else { 0 };
        let length = usize::try_from(number()?).map_err(|_| Damaged)?;
        let keys = from.bytes(length).map_err(|_| Damaged)?;
        let kind = u32::try_from(kind).map_err(|_| Damaged)?;
        if !see(&Group { value, kind, base, keys })? {
            break;
        }
    }
    Ok(())
}

/// Writes postings behind others that [`append`] wrote, if there are any.
pub(super) fn append(bytes: &mut Vec<u8>, postings: &[Posting]) -> Result<(), Damaged> {
    let Some(first) = postings.first() else { return Ok(()) };
    let base = if bytes.is_empty() {
        *bytes = head(first.key);
        first.key
    } else {
        open(bytes)?.0
    };
    for posting in postings {
        put_varint(bytes, posting.key.wrapping_sub(base));
        put_varint(bytes, posting.kind);
        put_varint(bytes, posting.user);
        put_varint(bytes, posting.session.unsigned_abs());
    }
    seal(bytes);
    Ok(())
}

/// Shows what [`append`] wrote.
pub(super) fn each(bytes: &[u8], see: &mut dyn FnMut(Posting)) -> Result<(), Damaged> {
    let (base, mut from) = open(bytes)?;
    while !from.0.is_empty() {
        let mut number = || from.varint().map_err(|_| Damaged);
        // As zigzag has it.
        let step = number()?;
        let step = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
        let narrow = |number: u64| u32::try_from(number).map_err(|_| Damaged);
        let (kind, user) = (narrow(number()?)?, narrow(number()?)?);
        let session = i64::try_from(number()?).map_err(|_| Damaged)?;
        see(Posting { key: base.wrapping_add(step), kind, user, session });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn any_posting() -> impl Strategy<Value = Posting> {
        let key = prop_oneof![0..1_i64 << 40, (0..1_i64 << 40).prop_map(|ms| ms << KEY_BITS >> 10)];
        let session = prop_oneof![Just(0), 1..50_i64, 0..i64::MAX];
        (key, 0..60_u32, prop_oneof![0..9_u32, any::<u32>()], session)
            .prop_map(|(key, kind, user, session)| Posting { key, kind, user, session })
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(
            postings in proptest::collection::vec(any_posting(), 1..2_000),
            parts in 1..5_usize,
        ) {
            let mut bytes = Vec::new();
            for part in postings.chunks(postings.len().div_ceil(parts)) {
                append(&mut bytes, part).unwrap();
            }
            let mut back = Vec::new();
            each(&bytes, &mut |one| back.push(one)).unwrap();
            prop_assert_eq!(&back, &postings);
            let base = postings.iter().map(|one| one.key).min().unwrap();
            for sort in Sort::ALL {
                let mut entries: Vec<Entry> =
                    postings.iter().filter_map(|one| sort.entry(one)).collect();
                entries.sort_unstable();
                let (mut back, mut firsts) = (Vec::new(), Vec::new());
                let mut read = |first: u64, chunk: &[u8]| {
                    let begin = back.len();
                    groups(sort, chunk, &mut |group| {
                        group.each(&mut |key| back.push((group.value, group.kind, key)))?;
                        Ok(true)
                    })
                    .unwrap();
                    assert_eq!(back[begin].0, first);
                    let values = back[begin..].chunk_by(|one, other| one.0 == other.0).count();
                    assert!(chunk.len() <= CHUNK || values == 1, "{}", chunk.len());
                    firsts.push(first);
                    let mut broken = chunk.to_vec();
                    *broken.last_mut().unwrap() ^= 4;
                    assert_eq!(groups(sort, &broken, &mut |_| Ok(true)), Err(Damaged));
                    Ok::<_, Infallible>(())
                };
                write(sort, base, &entries, &mut read).unwrap();
                prop_assert_eq!(back, entries);
                prop_assert!(firsts.is_sorted_by(|one, other| one < other));
            }
        }
    }
}
