//! Sums as bytes. Owns their layout; knows neither users nor kinds.
//!
//! Three bytes say which figures there are, and which follow from others; then come those figures, and
//! then pairs of bucket and count until the end. One call is some 25 bytes, and is added to sums that
//! are there without building any. Figures are varints; where one is negative or beyond 64 bits all
//! are written in 128.
//!
//! Invariant: what was written reads back the same; other bytes give an error or some sums, at no more
//! cost than their length.

use std::fmt;

use integer_encoding::VarInt;

use super::super::sketch::{self, BUCKETS, Sketch};
use super::sums::{
    DURATION_SUM, DURATIONS, FIGURES, FIRST_TOKENS, INPUT, OUTPUT, REQUESTS, Sums, TOTAL,
};

/// Figures are 16 bytes each, counts of buckets signed; nothing follows from anything.
const WIDE: u32 = 1 << 17;
/// One request.
const ONE: u32 = 1 << 18;
/// The total is input + output.
const TOTAL_ADDS_UP: u32 = 1 << 19;
/// As many durations as requests.
const ALL_TIMED: u32 = 1 << 20;
/// As many times to the first token as requests.
const ALL_STARTED: u32 = 1 << 21;
/// One duration, whose bucket follows from the sum.
const LONE_DURATION: u32 = 1 << 22;
/// All figures' bits.
const ANY: u32 = (1 << FIGURES) - 1;
const KNOWN: u32 = (1 << 23) - 1;

/// The longest varint of 64 bits.
const VARINT: usize = 10;

/// Bytes that nobody here wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sums of calls are damaged")
    }
}

impl std::error::Error for Damaged {}

impl From<Damaged> for rusqlite::Error {
    fn from(damaged: Damaged) -> rusqlite::Error {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(damaged))
    }
}

/// Reads value after value.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct Cursor<'a>(pub(in crate::ledger) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub(in crate::ledger) fn varint(&mut self) -> Result<u64, Damaged> {
        // Nearly all are one byte or two.
        match self.0 {
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                return Ok((*first).into());
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.0 = rest;
                return Ok(u64::from(first & 0x7f) | u64::from(*second) << 7);
            }
            _ => {}
        }
        let (value, length) = u64::decode_var(self.0).ok_or(Damaged)?;
        self.0 = self.0.get(length..).ok_or(Damaged)?;
        Ok(value)
    }

    #[inline]
    pub(super) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.varint()?).map_err(|_| Damaged)
    }

    #[inline]
    pub(in crate::ledger) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[inline]
pub(in crate::ledger) fn put_varint(out: &mut Vec<u8>, value: impl VarInt) {
    let mut bytes = [0; VARINT];
    let length = value.encode_var(&mut bytes);
    out.extend_from_slice(&bytes[..length]);
}

/// Writes sums behind what is there.
pub(super) fn put(out: &mut Vec<u8>, sums: &Sums) {
    let mut narrow = [0_u64; FIGURES];
    let fits = narrow.iter_mut().zip(sums.figures).all(|(narrow, figure)| {
        u64::try_from(figure).is_ok_and(|figure| {
            *narrow = figure;
            true
        })
    });
    if fits && sums.sketch.counts().all(|(_, count)| count > 0) {
        put_narrow(out, &narrow, &sums.sketch);
    } else {
        put_wide(out, sums);
    }
}

fn put_narrow(out: &mut Vec<u8>, figures: &[u64; FIGURES], sketch: &Sketch) {
    let mut flags = 0;
    let mut follows = |flag: u32, figure: usize, is: bool| {
        if is {
            flags |= flag | 1 << figure;
        }
    };
    let requests = figures[REQUESTS];
    follows(ONE, REQUESTS, requests == 1);
    let adds_up = figures[INPUT].checked_add(figures[OUTPUT]) == Some(figures[TOTAL]);
    follows(TOTAL_ADDS_UP, TOTAL, adds_up);
    follows(ALL_TIMED, DURATIONS, figures[DURATIONS] == requests);
    follows(ALL_STARTED, FIRST_TOKENS, figures[FIRST_TOKENS] == requests);
    let lone = (sketch::bucket(figures[DURATION_SUM]), 1);
    let is_lone = sketch.counts().eq([lone]);
    let skipped = flags & ANY;
    flags &= !ANY;
    flags |= if is_lone { LONE_DURATION } else { 0 };
    for (figure, value) in figures.iter().enumerate() {
        if *value != 0 && skipped & 1 << figure == 0 {
            flags |= 1 << figure;
        }
    }
    put_flags(out, flags);
    let written = figures.iter().enumerate().filter(|(figure, _)| flags & 1 << figure != 0);
    written.for_each(|(_, value)| put_varint(out, *value));
    if !is_lone {
        put_buckets(out, sketch, |out, count| put_varint(out, count.unsigned_abs()));
    }
}

fn put_wide(out: &mut Vec<u8>, sums: &Sums) {
    let written = sums.figures.iter().enumerate().filter(|(_, value)| **value != 0);
    put_flags(out, written.clone().fold(WIDE, |flags, (figure, _)| flags | 1 << figure));
    written.for_each(|(_, value)| out.extend_from_slice(&value.to_le_bytes()));
    put_buckets(out, &sums.sketch, put_varint);
}

fn put_flags(out: &mut Vec<u8>, flags: u32) {
    let [bytes @ .., _] = flags.to_le_bytes();
    out.extend_from_slice(&bytes);
}

/// Each bucket as its distance from the one before, with a bit for a count that is not 1.
fn put_buckets(out: &mut Vec<u8>, sketch: &Sketch, put_count: impl Fn(&mut Vec<u8>, i64)) {
    let mut before = 0;
    for (bucket, count) in sketch.counts() {
        put_varint(out, (bucket - before) << 1 | usize::from(count != 1));
        if count != 1 {
            put_count(out, count);
        }
        before = bucket;
    }
}

/// Adds the sums that some bytes are to sums that are there, which are good for nothing if that fails.
pub(super) fn add_to(bytes: &[u8], sums: &mut Sums) -> Result<(), Damaged> {
    let mut from = Cursor(bytes);
    let flags = match from.bytes(3)? {
        [a, b, c] => u32::from_le_bytes([*a, *b, *c, 0]),
        _ => return Err(Damaged),
    };
    if flags & !KNOWN != 0 {
        return Err(Damaged);
    }
    if flags & WIDE != 0 {
        return add_wide(from, flags, sums);
    }
    // Most figures of most entries are not there.
    let mut add = |figure: usize, value: u64| {
        sums.figures[figure] = sums.figures[figure].wrapping_add(value.into());
    };
    let (mut requests, mut input, mut output, mut duration) = (0, 0, 0, 0);
    let mut written = flags & ANY;
    while written != 0 {
        let (figure, value) = (written.trailing_zeros() as usize, from.varint()?);
        written &= written - 1;
        match figure {
            REQUESTS => requests = value,
            INPUT => input = value,
            OUTPUT => output = value,
            DURATION_SUM => duration = value,
            _ => {}
        }
        add(figure, value);
    }
    if flags & ONE != 0 {
        requests = 1;
        add(REQUESTS, 1);
    }
    if flags & TOTAL_ADDS_UP != 0 {
        add(TOTAL, input.wrapping_add(output));
    }
    if flags & ALL_TIMED != 0 {
        add(DURATIONS, requests);
    }
    if flags & ALL_STARTED != 0 {
        add(FIRST_TOKENS, requests);
    }
    if flags & LONE_DURATION != 0 {
        sums.sketch.add(sketch::bucket(duration), 1);
    }
    add_buckets(from, &mut sums.sketch, Cursor::narrow)
}

fn add_wide(mut from: Cursor<'_>, flags: u32, sums: &mut Sums) -> Result<(), Damaged> {
    let figures = sums.figures.iter_mut().enumerate();
    for (_, sum) in figures.filter(|(figure, _)| flags & 1 << figure != 0) {
        let bytes = from.bytes(size_of::<i128>())?.try_into().map_err(|_| Damaged)?;
        *sum = sum.wrapping_add(i128::from_le_bytes(bytes));
    }
    add_buckets(from, &mut sums.sketch, |from| {
        let (value, length) = i64::decode_var(from.0).ok_or(Damaged)?;
        from.bytes(length)?;
        Ok(value)
    })
}

#[inline]
fn add_buckets<'a>(
    mut from: Cursor<'a>,
    sketch: &mut Sketch,
    count: impl Fn(&mut Cursor<'a>) -> Result<i64, Damaged>,
) -> Result<(), Damaged> {
    let mut bucket = 0;
    while !from.0.is_empty() {
        let step: usize = from.narrow()?;
        bucket += step >> 1;
        if bucket >= BUCKETS {
            return Err(Damaged);
        }
        sketch.add(bucket, if step & 1 == 0 { 1 } else { count(&mut from)? });
    }
    Ok(())
}
