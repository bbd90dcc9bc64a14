//! Rows and columns on their way to stdout. Owns how a table and CSV look; knows nothing of what the
//! figures mean. JSON is not made here: it is the admin API's answer as it is.

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::Value;

use crate::archive::inert;
use crate::figures::grouped;

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
}

impl Sheet {
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Sheet {
        Sheet { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Takes the cells in the order of the columns; missing ones are unknown.
    pub fn push(&mut self, cells: impl IntoIterator<Item = Value>) {
        let mut row: Vec<Value> = cells.into_iter().collect();
        row.resize(self.columns.len(), Value::Null);
        self.rows.push(row);
    }

    /// As wide as the terminal, or as wide as it must be where there is none.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.columns.clone());
        for row in &self.rows {
            table.add_row(row.iter().map(for_people).collect::<Vec<_>>());
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            if self.rows.iter().any(|row| is_figure(&row[index])) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
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
    if cell.is_number() { Value::String(format!("~{}", for_people(cell))) } else { cell.clone() }
}

/// A number, or one made by [`about`].
fn is_figure(cell: &Value) -> bool {
    let is_about = |text: &str| {
        text.strip_prefix('~').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    cell.is_number() || cell.as_str().is_some_and(is_about)
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
/// steer the terminal, so control characters are replaced.
pub(super) fn for_people(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::Number(number) => grouped(&number.to_string()),
        other => plain(other).replace(char::is_control, "\u{fffd}"),
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
        let table = sheet().table();
        assert!(table.contains("1,234,567") && table.contains("0.000028500"), "{table}");
        assert!(!table.contains('\u{1b}'));
        assert!(table.lines().last().is_some_and(|line| !line.contains("1,234")));
    }
}
