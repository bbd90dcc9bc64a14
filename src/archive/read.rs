//! A file's rows: exports in CSV or JSON lines, and the lines of a journal. Owns how each is recognised,
//! and saying where and why something cannot be read; what a journal's lines mean is the ledger's.
//!
//! Invariant: nothing is passed over. A row is read whole, every column of it, or its line is named with
//! the reason.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use csv::ByteRecord;
use serde_json::value::RawValue;

use super::cell;
use crate::ledger::COLUMNS;
use crate::nearest::nearest;
use crate::record::Record;

/// No row is longer, and no line of a journal: what seems so is a quote or a line without its end.
const ROW_BYTES: u64 = 64 << 20;

/// What begins a line of a journal.
const JOURNAL: [&str; 4] = ["open", "close", "amend", "learned"];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads one file.
pub struct Reader<R> {
    form: Form<R>,
    /// Lines before the one that is read next.
    lines: u64,
}

enum Form<R> {
    Csv(Box<Csv<R>>),
    Lines(R),
}

struct Csv<R> {
    rows: csv::Reader<Bounded<R>>,
    row: ByteRecord,
    columns: Vec<&'static str>,
    budget: Rc<Cell<u64>>,
    /// What the reader's count of lines lacks.
    shift: u64,
}

/// What a file holds.
#[derive(Debug)]
pub enum Entry {
    /// A row of an export.
    Row(Box<Record>),
    /// A line of a journal, as it is.
    Journal(String),
}

/// A row or line that says nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it begins, from 1 on.
    pub line: u64,
    pub why: String,
}

/// Why a file cannot be read at all.
#[derive(Debug)]
pub enum OpenError {
    Io(io::Error),
    /// It is no export and no journal.
    Unknown(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => error.fmt(f),
            OpenError::Unknown(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Io(error)
    }
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl<R: BufRead> Reader<R> {
    /// Looks at the beginning of a file to see what it is. One without a byte is an export of nothing.
    pub fn open(mut from: R) -> Result<Reader<R>, OpenError> {
        let mut lines = 0;
        loop {
            match from.fill_buf()?.first() {
                None | Some(b'{') => return Ok(Reader { form: Form::Lines(from), lines }),
                Some(b'\n') => lines += 1,
                Some(b' ' | b'\t' | b'\r') => {}
                Some(first) if *first == BYTE_ORDER_MARK[0] => {
                    let mut mark = [0; BYTE_ORDER_MARK.len()];
                    from.read_exact(&mut mark).map_err(|_| unknown())?;
                    if mark != BYTE_ORDER_MARK {
                        return Err(unknown());
                    }
                    continue;
                }
                Some(_) => break,
            }
            from.consume(1);
        }
        let form = Form::Csv(Box::new(Csv::open(from)?));
        Ok(Reader { form, lines })
    }

    /// The line that was read last, or where its row begins.
    pub fn line(&self) -> u64 {
        match &self.form {
            Form::Csv(csv) => self.lines + csv.line(),
            Form::Lines(_) => self.lines,
        }
    }

    /// The next row or line; nothing at the end.
    pub fn read(&mut self) -> io::Result<Option<Result<Entry, Unreadable>>> {
        match &mut self.form {
            Form::Csv(csv) => csv.read(self.lines),
            Form::Lines(from) => loop {
                let Some(line) = whole_line(from)? else { return Ok(None) };
                self.lines += 1;
                let read = line.and_then(|line| {
                    let text = String::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
                    if text.trim_ascii().is_empty() { Ok(None) } else { entry(text).map(Some) }
                });
                match read {
                    Ok(None) => {}
                    Ok(Some(entry)) => return Ok(Some(Ok(entry))),
                    Err(why) => return Ok(Some(Err(Unreadable { line: self.lines, why }))),
                }
            },
        }
    }
}

impl<R: Read> Csv<R> {
    fn open(from: R) -> Result<Csv<R>, OpenError> {
        let budget = Rc::new(Cell::new(ROW_BYTES));
        let bounded = Bounded { from, budget: Rc::clone(&budget) };
        let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(bounded);
        let header = rows.byte_headers().map_err(|_| unknown())?;
        let names: Option<Vec<&str>> =
            header.iter().map(|name| std::str::from_utf8(name).ok()).collect();
        let names = names.filter(|names| names.contains(&"id") && names.contains(&"created_at"));
        let mut columns: Vec<&str> = Vec::with_capacity(COLUMNS.len());
        for name in names.ok_or_else(unknown)? {
            let known = column(name).map_err(OpenError::Unknown)?;
            if columns.contains(&known) {
                return Err(OpenError::Unknown(format!("it has the column `{name}` twice")));
            }
            columns.push(known);
        }
        // Behind a line that ends with CR LF the reader is still before the LF, in its own count.
        let shift = 2_u64.saturating_sub(rows.position().line());
        Ok(Csv { rows, row: ByteRecord::new(), columns, budget, shift })
    }

    fn read(&mut self, lines: u64) -> io::Result<Option<Result<Entry, Unreadable>>> {
        self.budget.set(ROW_BYTES);
        if !self.rows.read_byte_record(&mut self.row)? {
            return Ok(None);
        }
        let record = self.record().map_err(|why| Unreadable { line: lines + self.line(), why });
        Ok(Some(record.map(|record| Entry::Row(Box::new(record)))))
    }

    fn line(&self) -> u64 {
        self.row.position().map_or(0, |at| at.line() + self.shift)
    }

    /// The row by way of JSON, so that a record has one reader.
    fn record(&self) -> Result<Record, String> {
        let (has, wants) = (self.row.len(), self.columns.len());
        if has != wants {
            return Err(format!("it has {has} cells, and the header {wants}"));
        }
        let mut object = String::from("{");
        let mut starts = Vec::with_capacity(wants);
        for (column, cell) in self.columns.iter().zip(&self.row) {
            let wrong = |why: &str| format!("{column}: {why}");
            let cell = std::str::from_utf8(cell).map_err(|_| wrong("this is not UTF-8"))?;
            let Some(value) = cell::json(column, cell).map_err(wrong)? else { continue };
            if object.len() > 1 {
                object.push(',');
            }
            starts.push((object.len(), *column));
            object.push('"');
            object.push_str(column);
            object.push_str("\":");
            object.push_str(&value);
        }
        object.push('}');
        serde_json::from_str(&object).map_err(|error| {
            let why = reason(&error);
            // The place in our object tells which cell it was, unless one is not there at all.
            let at = error.column().saturating_sub(1);
            let blamed = starts.iter().rev().find(|(start, _)| *start <= at);
            let is_told = error.line() == 1 && !why.starts_with("missing field");
            match blamed.filter(|_| is_told) {
                Some((_, column)) => format!("{column}: {why}"),
                None => why,
            }
        })
    }
}

/// A line without its end; the reason where it is too long. Nothing at the end of the file.
fn whole_line(from: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    let mut bounded = from.by_ref().take(ROW_BYTES);
    if bounded.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if line.len() as u64 == ROW_BYTES {
        drop(line);
        from.skip_until(b'\n')?;
        return Ok(Some(Err(too_long())));
    }
    Ok(Some(Ok(line)))
}

fn entry(line: String) -> Result<Entry, String> {
    let members: HashMap<String, &RawValue> = serde_json::from_str(&line).map_err(|e| place(&e))?;
    if members.contains_key("id") {
        for name in members.keys() {
            column(name)?;
        }
        let record = serde_json::from_str(&line).map_err(|error| place(&error))?;
        return Ok(Entry::Row(Box::new(record)));
    }
    if JOURNAL.iter().any(|kind| members.contains_key(*kind)) {
        return Ok(Entry::Journal(line));
    }
    Err("this is neither a row of an export nor a line of a journal".to_owned())
}

/// A column by its name. To leave out what is not known would be to lose it.
fn column(name: &str) -> Result<&'static str, String> {
    COLUMNS.into_iter().find(|known| *known == name).ok_or_else(|| match nearest(name, COLUMNS) {
        Some(near) => format!("there is no column `{name}`; is `{near}` meant?"),
        None => format!("there is no column `{name}`; did a newer tokenmeter write this?"),
    })
}

fn unknown() -> OpenError {
    OpenError::Unknown("this is neither an export (CSV or JSON lines) nor a journal".to_owned())
}

fn too_long() -> String {
    format!("it is longer than {} MiB", ROW_BYTES >> 20)
}

/// The message without the place, which is one in a text that nobody sees.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// What is wrong in one line of JSON, and at which byte of it.
pub fn place(error: &serde_json::Error) -> String {
    format!("{} (at byte {})", reason(error), error.column())
}

/// Reads no more than the budget allows, which is renewed with every row: a quote without its end would
/// make the rest of a file one cell.
struct Bounded<R> {
    from: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 {
            let why = format!("a row {}: a quote without its end?", &too_long()[3..]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
        let read = self.from.read(&mut space[..most])?;
        self.budget.set(left - read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = r#"{"id":"018f0000-0000-7000-8000-000000000000",
        "created_at":"2026-11-21T00:00:00.000Z","upstream":"u","provider":"p","endpoint":"e",
        "method":"POST","path":"/","usage_source":"none","cost_source":"none","streaming":false,
        "outcome":"completed"}"#;

    fn bare() -> String {
        BARE.replace('\n', "")
    }

    /// What each row or line of a file comes to.
    fn all(text: &str) -> Vec<String> {
        let mut reader = Reader::open(text.as_bytes()).unwrap();
        let mut all = Vec::new();
        while let Some(read) = reader.read().unwrap() {
            all.push(match read {
                Ok(Entry::Row(record)) => format!("{}: {}", reader.line(), record.path),
                Ok(Entry::Journal(line)) => format!("{}: {}", reader.line(), &line[..8]),
                Err(Unreadable { line, why }) => format!("{line}! {why}"),
            });
        }
        all
    }

    #[test]
    fn lines_are_told_from_each_other_and_counted() {
        let row = bare();
        let text = format!("\u{feff}\n \n{row}\r\n\n{{\"open\":{row}}}\n{{}}\n{row}");
        let nothing = "this is neither a row of an export nor a line of a journal";
        assert_eq!(all(&text), ["3: /", "5: {\"open\":", &format!("6! {nothing}"), "7: /"]);
        assert!(all("").is_empty() && all("\n").is_empty());
        for text in ["hello", "\u{feff}", "\u{feff}\u{fefe}", "[]", "id,user\n", "\u{1}"] {
            assert!(Reader::open(text.as_bytes()).is_err() || all(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_row_is_blamed_by_its_line_and_its_column() {
        let columns = "path,id,created_at,upstream,provider,endpoint,method,usage_source,cost_source,\
            streaming,outcome,attempt,metadata";
        let values = ",018f0000-0000-7000-8000-000000000000,2026-11-21T00:00:00Z,u,p,e,POST,none,none,\
            TRUE,completed,";
        let text = format!(
            "{columns}\n\"/\na\"{values}7,\n/b{values}x,\n/c{values}1e3,\n/d{values}-1,\n\
             /e{values}1,{{}}{{}}\n/f{values}1,\"[1\n,2]\"\n/g{values}1\n{values}1,\n/h{values}1,{{}}"
        );
        let all = all(&text);
        assert_eq!(all[0], "2: /\na");
        assert_eq!(all[1], "4! attempt: this is not a number");
        assert!(
            all[2].starts_with("5! attempt: ") && all[3].starts_with("6! attempt: "),
            "{all:?}"
        );
        assert_eq!(all[4], "7! metadata: this is not JSON");
        assert!(all[5].starts_with("8! "), "{all:?}");
        assert_eq!(all[6], "10! it has 12 cells, and the header 13");
        assert_eq!(all[7], "11! missing field `path`");
        assert_eq!(all[8..], ["12: /h"]);
    }

    #[test]
    fn lines_that_end_as_exports_do_are_counted_too() {
        let columns = "path,id,created_at,upstream,provider,endpoint,method,usage_source,cost_source,\
            streaming,outcome";
        let values =
            ",018f0000-0000-7000-8000-000000000000,2026-11-21T00:00:00Z,u,p,e,POST,none,none,";
        let rows = ["true,completed", "perhaps,completed", "true,completed"];
        let rows = rows.map(|row| format!("/{values}{row}\r\n")).concat();
        let all = all(&format!("{columns}\r\n{rows}"));
        assert_eq!(all[0], "2: /");
        assert!(all[1].starts_with("3! streaming: "), "{all:?}");
        assert_eq!(all[2], "4: /");
    }

    #[test]
    fn a_line_without_an_end_is_skipped_and_the_next_is_read() {
        let endless = "x".repeat(usize::try_from(ROW_BYTES).unwrap() + 5);
        let text = format!("{}\n{{{endless}\n{}\n", bare(), bare());
        assert_eq!(all(&text), ["1: /", "2! it is longer than 64 MiB", "3: /"]);
    }

    #[test]
    fn a_record_nested_deeper_than_anybody_reads_comes_back() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let row = bare().replace("\"outcome\"", &format!("\"usage_json\":{deep},\"outcome\""));
        let mut reader = Reader::open(row.as_bytes()).unwrap();
        let Some(Ok(Entry::Row(record))) = reader.read().unwrap() else { panic!("unreadable") };
        for format in [super::super::Format::Csv, super::super::Format::Jsonl] {
            let mut writer = super::super::Writer::new(format, Vec::new()).unwrap();
            writer.write(&record).unwrap();
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::open(bytes.as_slice()).unwrap();
            let Some(Ok(Entry::Row(back))) = reader.read().unwrap() else { panic!("unreadable") };
            assert_eq!(back.usage_json.unwrap().get(), deep);
        }
    }
}
