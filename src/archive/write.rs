//! Records into a file, one after the other, in constant memory. Owns the order of a line; the cells of
//! CSV are `cell`'s.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufWriter, Write};

use serde_json::value::RawValue;

use super::Format;
use super::cell::cell;
use crate::ledger::COLUMNS;
use crate::record::Record;

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes records in the order of [`COLUMNS`].
pub struct Writer<W: Write> {
    form: Form<W>,
    json: Vec<u8>,
}

enum Form<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(BufWriter<W>),
}

impl<W: Write> Writer<W> {
    /// Begins a file; in CSV with the header.
    pub fn new(format: Format, out: W) -> io::Result<Writer<W>> {
        let form = match format {
            Format::Csv => {
                let mut builder = csv::WriterBuilder::new();
                builder.buffer_capacity(BUFFER_BYTES).terminator(csv::Terminator::CRLF);
                let mut out = builder.from_writer(out);
                out.write_record(COLUMNS)?;
                Form::Csv(Box::new(out))
            }
            Format::Jsonl => Form::Jsonl(BufWriter::with_capacity(BUFFER_BYTES, out)),
        };
        Ok(Writer { form, json: Vec::new() })
    }

    /// Adds a record. After an error the file is not whole.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.json.clear();
        serde_json::to_writer(&mut self.json, record)?;
        let values: HashMap<&str, &RawValue> = serde_json::from_slice(&self.json)?;
        match &mut self.form {
            Form::Csv(out) => {
                for column in COLUMNS {
                    let value = values.get(column).map(|value| cell(column, value)).transpose()?;
                    out.write_field(value.as_deref().unwrap_or_default())?;
                }
                Ok(out.write_record(None::<&[u8]>)?)
            }
            Form::Jsonl(out) => write_line(out, &values),
        }
    }

    /// Writes what has been gathered and hands back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.form {
            Form::Csv(mut out) => {
                out.flush()?;
                out.into_inner().map_err(|error| io::Error::from(error.error().kind()))
            }
            Form::Jsonl(out) => out.into_inner().map_err(io::IntoInnerError::into_error),
        }
    }
}

fn write_line(out: &mut impl Write, values: &HashMap<&str, &RawValue>) -> io::Result<()> {
    for (index, column) in COLUMNS.into_iter().enumerate() {
        let value = values.get(column).map_or("null", |value| value.get());
        write!(out, "{}\"{column}\":", if index == 0 { '{' } else { ',' })?;
        // A provider's usage object may be spread over lines. In valid JSON a newline byte only ever
        // stands between tokens, where a space means the same.
        let mut lines = value.split('\n');
        out.write_all(lines.next().unwrap_or_default().as_bytes())?;
        for line in lines {
            out.write_all(b" ")?;
            out.write_all(line.as_bytes())?;
        }
    }
    out.write_all(b"}\n")
}

impl<W: Write> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}
