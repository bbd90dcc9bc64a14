//! A report to send on: the totals, trends and tables of a window, as a page (`html`) or as a PDF
//! (`pdf`). Owns what a report says and how it looks; knows neither where answers come from nor where
//! the report goes.
//!
//! Invariant: both forms are made of the same [`Report`], every table adds up to its last row, and the same
//! answers give the same bytes.

mod chart;
mod gather;
mod html;
#[cfg(feature = "pdf")]
mod pdf;
mod say;
mod sums;
mod table;
#[cfg(test)]
mod tests;
mod window;

use serde::Serialize;

pub use gather::{Asked, Broken, Found, Pairs, Wish, beginning, gather};
pub use html::html;
#[cfg(feature = "pdf")]
pub use pdf::pdf;
pub use say::say;
pub use window::{Window, midnight};

/// What a report says, in the words and figures that are shown.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub title: String,
    /// `October 2026`
    pub window: String,
    pub zone: String,
    /// When it was made.
    pub made: String,
    /// What changes are relative to.
    pub before: Option<String>,
    /// Which calls it is about, if not about all.
    pub filters: Vec<Filter>,
    /// What a reader must know before the figures.
    pub notes: Vec<String>,
    pub cards: Vec<Card>,
    /// How far the figures can be trusted.
    pub trust: Vec<String>,
    pub forecast: Option<String>,
    pub charts: Vec<Chart>,
    pub tables: Vec<Table>,
}

/// A condition on the calls.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    pub name: String,
    pub value: String,
}

/// A figure of the whole.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    pub name: &'static str,
    pub figure: Figure,
    /// What else is to be said of it.
    pub about: String,
    pub change: Option<Change>,
}

/// How a figure differs from the one of the window before.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `+12.3 %`
    pub shown: String,
    /// What it was.
    pub was: String,
}

/// A figure as it is shown, and in all its digits, or [`UNKNOWN`](crate::figures::UNKNOWN).
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub shown: String,
    pub exact: String,
    /// What the figure does not hold.
    pub note: Option<String>,
}

/// A drawing.
#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    pub title: String,
    /// What it shows, in words.
    pub about: String,
    pub svg: String,
}

/// Groups of calls, and what they add up to.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    pub caption: String,
    /// What the first column is.
    pub of: String,
    /// What `share` is a share of.
    pub share_of: &'static str,
    pub rows: Vec<Row>,
    pub about: Option<String>,
}

/// What a row of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    Group,
    /// Calls that do not say.
    Absent,
    /// All groups that have no row of their own.
    Others,
    /// The sum of all rows above it.
    Total,
}

/// One row of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub kind: RowKind,
    /// May be anything that a client sent.
    pub name: String,
    pub cost: Figure,
    /// Its share of the whole, in percent as it is shown, and for a bar in whole thousandths.
    pub share: String,
    pub share_thousandths: u32,
    pub calls: Figure,
    pub errors: Figure,
    pub input: Figure,
    pub cached: Figure,
    pub output: Figure,
    pub duration: Figure,
}
