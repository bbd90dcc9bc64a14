//! Rows and columns on their way to stdout. Owns how a table and CSV look; knows nothing of what the
//! figures mean. JSON is not made here: it is the admin API's answer as it is.

use clap::ValueEnum;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};
use serde_json::Value;

use super::columns::{Column, GAP, fit, whole};
use super::terminal::Look;
use super::visible::{shortened, visible, width};
use crate::archive::inert;
use crate::figures::{cents, grouped};
use crate::units::Usd;

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// The admin API's answer
    Json,
    /// For spreadsheets
    Csv,
}

/// One line under the header, and nothing else between a reader and the figures.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A report's rows. Every row has as many cells as there are columns.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    total: Option<Vec<Value>>,
    /// The first columns are names that may be shortened; nothing: long texts are wrapped.
    names: Option<usize>,
    /// Columns that a narrow table does without, the first to go first.
    expendable: Vec<String>,
    /// Columns of texts that say something only as a whole.
    kept_whole: Vec<String>,
    tints: Vec<Tint>,
}

/// Cells of a column that stand out, on a terminal with colours.
#[derive(Clone, Debug)]
struct Tint {
    column: String,
    color: Color,
    is_meant: fn(&Value) -> bool,
}

impl Sheet {
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Sheet {
        let columns = columns.into_iter().map(Into::into).collect();
        Sheet { columns, ..Sheet::default() }
    }

    /// Keeps each row on one line: names, which stand in the first so many columns and in all others that
    /// have no figures, are shortened, and these columns are left out, one by one, where there is no room.
    pub fn one_line(
        mut self,
        names: usize,
        expendable: impl IntoIterator<Item = impl Into<String>>,
    ) -> Sheet {
        self.names = Some(names);
        self.expendable = expendable.into_iter().map(Into::into).collect();
        self
    }

    /// Texts of these columns are not shortened.
    pub(super) fn keep_whole(
        mut self,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Sheet {
        self.kept_whole.extend(columns.into_iter().map(Into::into));
        self
    }

    /// Cells that tell of something gone wrong.
    pub(super) fn alarm(self, column: &str, is_meant: fn(&Value) -> bool) -> Sheet {
        self.tint(column, Color::DarkRed, is_meant)
    }

    /// Cells that tell of something that is not certain.
    pub(super) fn doubt(self, column: &str, is_meant: fn(&Value) -> bool) -> Sheet {
        self.tint(column, Color::DarkYellow, is_meant)
    }

    fn tint(mut self, column: &str, color: Color, is_meant: fn(&Value) -> bool) -> Sheet {
        self.tints.push(Tint { column: column.to_owned(), color, is_meant });
        self
    }

    /// Takes the cells in the order of the columns; missing ones are unknown.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Value>) {
        let row = self.row(cells);
        self.rows.push(row);
    }

    /// What the rows come to: the last line of a table, and not in CSV, where it would be a row more.
    pub fn set_total(&mut self, cells: impl IntoIterator<Item = Value>) {
        self.total = Some(self.row(cells));
    }

    fn row(&self, cells: impl IntoIterator<Item = Value>) -> Vec<Value> {
        let mut row: Vec<Value> = cells.into_iter().collect();
        row.resize(self.columns.len(), Value::Null);
        row
    }

    /// As wide as the terminal, or as wide as it must be where there is none. Ends without a line feed.
    pub fn table(&self) -> String {
        self.table_for(Look::of_stdout())
    }

    pub(super) fn table_for(&self, look: Look) -> String {
        match self.names {
            Some(names) => self.lines(names, look),
            None => self.wrapped(look),
        }
    }

    /// Long texts go on in the next line.
    fn wrapped(&self, look: Look) -> String {
        let mut table = Sheet::plain_table(look);
        if let Some(width) = look.width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
        }
        table.set_header(self.columns.iter().map(|title| head(title)));
        for row in &self.rows {
            let cells = row.iter().enumerate();
            table.add_row(cells.map(|(at, cell)| self.shown(at, cell, for_people(cell))));
        }
        self.align(&mut table, 0..self.columns.len());
        table.trim_fmt()
    }

    /// A line each, and a word about what is left out.
    fn lines(&self, names: usize, look: Look) -> String {
        let columns = self.measured(names);
        // What no row has, nobody misses.
        let is_told =
            |at: &usize| columns[*at].leaves.is_none() || !self.cells(*at).all(Value::is_null);
        let told: Vec<usize> = (0..columns.len()).filter(is_told).collect();
        let measured: Vec<Column> = told.iter().map(|at| columns[*at]).collect();
        let mut widths = vec![None; columns.len()];
        for (at, width) in told.iter().zip(fit(&measured, look.width)) {
            widths[*at] = width;
        }
        let kept: Vec<usize> = told.iter().copied().filter(|at| widths[*at].is_some()).collect();
        let cut = |at: usize, cell: &Value| {
            let text = cell.as_str().filter(|_| columns[at].is_name);
            let short =
                text.map(|text| shortened(text, widths[at].unwrap_or_default()).into_owned());
            self.shown(at, cell, short.unwrap_or_else(|| for_people(cell)))
        };
        let mut table = Sheet::plain_table(look);
        table.set_header(kept.iter().map(|at| head(&self.columns[*at])));
        for row in &self.rows {
            table.add_row(kept.iter().map(|at| cut(*at, &row[*at])));
        }
        if let Some(total) = &self.total {
            let cells = kept.iter().map(|at| cut(*at, &total[*at]));
            table.add_row(cells.map(|cell| cell.add_attribute(Attribute::Bold)));
        }
        self.align(&mut table, kept.iter().copied());
        let mut out = table.trim_fmt();
        if self.total.is_some() {
            rule_before_the_last_line(&mut out);
        }
        if kept.len() < told.len() {
            let gone = told.iter().filter(|at| widths[**at].is_none());
            let gone: Vec<&str> = gone.map(|at| self.columns[*at].as_str()).collect();
            out.push_str("\n\n");
            out.push_str(&left_out(&gone, whole(&measured), look.width));
        }
        out
    }

    fn measured(&self, names: usize) -> Vec<Column> {
        let column = |(at, title): (usize, &String)| {
            let cells = self.rows.iter().chain(&self.total).map(|row| &row[at]);
            let natural = cells.map(|cell| width(&for_people(cell))).max().unwrap_or_default();
            let is_whole = self.kept_whole.contains(title);
            Column {
                natural: natural.max(width(title)),
                is_name: !is_whole && (at < names || !self.has_figures(at)),
                leaves: self.expendable.iter().position(|name| name == title),
            }
        };
        self.columns.iter().enumerate().map(column).collect()
    }

    fn cells(&self, at: usize) -> impl Iterator<Item = &Value> {
        self.rows.iter().map(move |row| &row[at])
    }

    fn has_figures(&self, at: usize) -> bool {
        self.cells(at).any(is_figure)
    }

    /// Nothing stands back; what is an estimate, in doubt or wrong stands out.
    fn shown(&self, at: usize, cell: &Value, text: String) -> Cell {
        let is_about = is_figure(cell) && text.starts_with('~');
        let tint =
            self.tints.iter().find(|tint| tint.column == self.columns[at] && (tint.is_meant)(cell));
        match (Cell::new(text), tint) {
            (shown, _) if cell.is_null() => shown.add_attribute(Attribute::Dim),
            (shown, Some(tint)) => shown.fg(tint.color),
            (shown, None) if is_about => shown.fg(Color::DarkYellow),
            (shown, None) => shown,
        }
    }

    fn plain_table(look: Look) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.force_no_tty();
        if look.is_coloured {
            table.enforce_styling();
        }
        table
    }

    /// Figures to the right, and as many blanks between columns everywhere.
    fn align(&self, table: &mut Table, shown: impl IntoIterator<Item = usize>) {
        let shown: Vec<usize> = shown.into_iter().collect();
        for (column, at) in table.column_iter_mut().zip(&shown) {
            let is_last = Some(at) == shown.last();
            // The line between columns, which is blank, is a part of the gap.
            column.set_padding((0, if is_last { 0 } else { GAP - 1 }));
            let is_name = self.names.is_some_and(|names| *at < names);
            if !is_name && self.has_figures(*at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// RFC 4180, with a header line; every digit as it is, and nothing for the unknown. Texts are as in an
    /// export: what a spreadsheet would run as a formula gets a `'` before it.
    pub fn csv(&self) -> String {
        let mut out = line(self.columns.iter().map(|name| quote(name)));
        for row in &self.rows {
            out.push_str(&line(row.iter().map(|cell| match cell {
                Value::String(text) => quote(&inert(text)),
                other => quote(&plain(other)),
            })));
        }
        out
    }
}

/// A number as a cell that says that it is an estimate. Only for tables.
pub(super) fn about(cell: &Value) -> Value {
    match cell {
        Value::Number(_) => Value::String(format!("~{}", for_people(cell))),
        Value::String(text) if is_figure(cell) => Value::String(format!("~{text}")),
        other => other.clone(),
    }
}

/// A sum of money as people read it, such as `$0.0421`. Only for tables.
pub(super) fn money(cell: &Value) -> Value {
    let amount = cell.is_number().then(|| cell.to_string().parse::<Usd>().ok()).flatten();
    amount.map_or_else(|| cell.clone(), |amount| Value::String(cents(amount)))
}

/// A number, or one made by [`about`] or [`money`].
fn is_figure(cell: &Value) -> bool {
    let is_made = |text: &str| {
        let bare = text.trim_start_matches(['~', '-', '$']);
        bare.len() < text.len() && bare.starts_with(|c: char| c.is_ascii_digit())
    };
    cell.is_number() || cell.as_str().is_some_and(is_made)
}

fn head(title: &str) -> Cell {
    Cell::new(title).add_attribute(Attribute::Bold)
}

/// The line that stands under the header, above the total as well.
fn rule_before_the_last_line(table: &mut String) {
    let Some(rule) = table.lines().nth(1).map(str::to_owned) else { return };
    if let Some(at) = table.rfind('\n') {
        table.insert_str(at, &format!("\n{rule}"));
    }
}

/// A sentence about what a wider terminal shows, in lines as long as this one's.
fn left_out(columns: &[&str], more: usize, line: Option<usize>) -> String {
    let mut out = format!("More columns at {more} characters:");
    let mut wide = width(&out);
    for (at, column) in columns.iter().enumerate() {
        let end = if at + 1 == columns.len() { '.' } else { ',' };
        let word = format!("{column}{end}");
        wide += 1 + width(&word);
        if line.is_some_and(|line| wide > line) {
            out.push('\n');
            wide = width(&word);
        } else {
            out.push(' ');
        }
        out.push_str(&word);
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let mut line = cells.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn quote(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A cell as text, exact.
fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whole numbers in groups of three, a dash for the unknown. What a provider or client wrote could
/// steer the terminal, so what cannot be seen is escaped.
pub(super) fn for_people(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::Number(number) => grouped(&number.to_string()),
        other => visible(&plain(other)).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new(["model", "tokens", "cost_usd"]);
        let cost: Value = serde_json::from_str("0.000028500").unwrap();
        sheet.push([json!("a, \"b\"\u{1b}[31m"), json!(1_234_567), cost]);
        sheet.push([json!("c")]);
        sheet
    }

    #[test]
    fn csv_keeps_every_digit_and_quotes_what_it_must() {
        assert_eq!(
            sheet().csv(),
            "model,tokens,cost_usd\r\n\"a, \"\"b\"\"\u{1b}[31m\",1234567,0.000028500\r\nc,,\r\n"
        );
    }

    #[test]
    fn a_spreadsheet_runs_nothing_that_a_client_wrote() {
        let mut sheet = Sheet::new(["user", "cost_usd"]);
        sheet.push([json!("=HYPERLINK(\"http://evil\")"), json!(-1)]);
        assert_eq!(sheet.csv(), "user,cost_usd\r\n\"'=HYPERLINK(\"\"http://evil\"\")\",-1\r\n");
    }

    #[test]
    fn a_table_is_for_people_and_cannot_steer_their_terminal() {
        for sheet in [sheet(), sheet().one_line(1, ["tokens"])] {
            let table = sheet.table_for(Look::PLAIN);
            assert!(table.contains("1,234,567") && table.contains("0.000028500"), "{table}");
            assert!(!table.contains('\u{1b}') && table.contains("\\u{1b}[31m"), "{table}");
            assert!(table.lines().last().is_some_and(|line| !line.contains("1,234")));
        }
    }

    #[test]
    fn a_narrow_table_says_what_it_leaves_out() {
        let mut sheet = sheet().one_line(1, ["tokens"]);
        sheet.set_total([json!("total"), json!(1_234_567), money(&json!(12.345))]);
        let narrow = sheet.table_for(Look { width: Some(24), is_coloured: false });
        assert_eq!(
            narrow,
            "model          cost_usd\n\
             ───────────────────────\n\
             a, \"b\"…31m  0.000028500\n\
             c                     -\n\
             ───────────────────────\n\
             total            $12.35\n\n\
             More columns at 40 characters:\ntokens."
        );
        assert!(sheet.table_for(Look { width: Some(40), is_coloured: false }).contains("tokens"));
        assert!(!sheet.csv().contains("total"), "{}", sheet.csv());
    }

    #[test]
    fn colours_are_there_when_they_are_wanted() {
        let look = Look { width: Some(60), is_coloured: true };
        assert!(sheet().one_line(1, [""; 0]).table_for(look).contains("\u{1b}[1m"));
        assert!(!sheet().table_for(Look::PLAIN).contains('\u{1b}'));
    }

    #[test]
    fn money_has_the_digits_that_tell_something() {
        assert_eq!(money(&json!(0.0421)), json!("$0.0421"));
        assert_eq!(about(&money(&json!(1234.5))), json!("~$1,234.50"));
        assert_eq!(money(&Value::Null), Value::Null);
    }
}
