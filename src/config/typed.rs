//! What was typed, before it means anything: texts by key, each with the place it came from. Owns which
//! source wins.
//!
//! Invariant: every key is one of the table's, and the value has the form that its kind asks for.

use std::collections::BTreeMap;

use super::problem::Origin;

/// A value in one form for all sources, so that each kind is read in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    One(String),
    Many(Vec<String>),
    Map(BTreeMap<String, String>),
}

#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Settings by the name of their key. A later source is put over an earlier one.
pub(super) type Settings = BTreeMap<&'static str, Setting>;

/// What was said of one upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    /// Where it was first named.
    pub(super) origin: Option<Origin>,
    pub(super) settings: Settings,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Typed {
    pub(super) global: Settings,
    pub(super) upstreams: BTreeMap<String, Section>,
}
