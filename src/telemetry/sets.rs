//! Label sets. Owns how many there are: few, whatever values callers send.
//!
//! Invariant: of sets whose values are those of calls there are never more than agreed. Beyond, what callers
//! choose is `other`, and only what we choose ourselves (upstreams, providers, endpoints) tells calls apart.

use std::borrow::Cow;
use std::collections::HashMap;

use super::label::Label;
use crate::record::Record;

/// What stands for values that came too late.
const OTHER: &str = "other";

/// Bytes of a value that are shown.
const MOST_BYTES: usize = 128;

/// Sets of label values, each with figures of one sort.
#[derive(Clone, Debug)]
pub(super) struct Sets<F> {
    pub(super) labels: Vec<Label>,
    most: usize,
    places: HashMap<Box<[u8]>, usize>,
    pub(super) known: Vec<(Vec<String>, F)>,
    /// For the bytes of a key; kept for its room.
    key: Vec<u8>,
    /// Calls that went to a set with `other`, because there were too many.
    pub(super) overflowed: u64,
}

impl<F: Default> Sets<F> {
    pub(super) fn new(labels: Vec<Label>, most: usize) -> Sets<F> {
        let (places, known, key) = (HashMap::new(), Vec::new(), Vec::new());
        Sets { labels, most, places, known, key, overflowed: 0 }
    }

    /// The figures of calls like this new one.
    pub(super) fn of_new(&mut self, record: &Record) -> &mut F {
        let (place, is_late) = self.place(record);
        self.overflowed += u64::from(is_late);
        &mut self.known[place].1
    }

    /// The figures of calls like this one.
    pub(super) fn of(&mut self, record: &Record) -> &mut F {
        let (place, _) = self.place(record);
        &mut self.known[place].1
    }

    /// Where they are, and whether its values came too late.
    fn place(&mut self, record: &Record) -> (usize, bool) {
        if let Some(place) = self.find(record, false) {
            return (place, false);
        }
        if self.known.len() < self.most {
            return (self.add(record, false), false);
        }
        let place = self.find(record, true);
        (place.unwrap_or_else(|| self.add(record, true)), true)
    }

    fn find(&mut self, record: &Record, is_late: bool) -> Option<usize> {
        self.key.clear();
        for label in &self.labels {
            let value = value(label, record, is_late);
            // No byte of UTF-8 is 0xff.
            self.key.extend(value.as_bytes());
            self.key.push(0xff);
        }
        self.places.get(self.key.as_slice()).copied()
    }

    /// The set that was looked for just now.
    fn add(&mut self, record: &Record, is_late: bool) -> usize {
        let values = self.labels.iter().map(|label| value(label, record, is_late).into_owned());
        self.known.push((values.collect(), F::default()));
        self.places.insert(self.key.as_slice().into(), self.known.len() - 1);
        self.known.len() - 1
    }
}

fn value<'r>(label: &Label, record: &'r Record, is_late: bool) -> Cow<'r, str> {
    let value = label.of(record);
    if is_late && label.is_chosen_by_callers() {
        return Cow::Borrowed(OTHER);
    }
    if value.len() <= MOST_BYTES {
        return value;
    }
    let end = value.floor_char_boundary(MOST_BYTES);
    Cow::Owned(value[..end].to_owned())
}
