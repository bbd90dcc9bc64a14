//! All calls as a file. Owns what may be asked of an export, which the command line asks too; the forms
//! are the archive's, and the way down is `download`'s.

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;

use super::params::{BadParameter, Pairs, Params};
use crate::archive::{Format, Writer};
use crate::ledger::{Filter, QueryError, Reader};
use crate::units::Timestamp;

/// Which calls, in which form.
#[derive(Clone, Debug)]
pub struct Export {
    pub format: Format,
    pub filter: Filter,
}

/// Why an export is not whole.
#[derive(Debug)]
pub enum ExportError {
    Query(QueryError),
    /// Whoever it is for takes no more.
    Write(io::Error),
}

impl Export {
    /// From parameters; all calls where there are none.
    pub fn question(pairs: &Pairs, now: Timestamp) -> Result<Export, BadParameter> {
        let mut params = Params::new(pairs)?;
        let format = params.parsed("format")?.unwrap_or_default();
        let zone = params.zone()?;
        let window = params.window(&zone, now, None)?;
        let filter = Filter { since: window.since, until: window.until, ..params.filter()? };
        params.finish()?;
        Ok(Export { format, filter })
    }

    /// Writes the calls, oldest first, all of one moment, and says `wrote` after each. Blocks, for as
    /// long as it takes.
    pub fn write<W: Write>(
        &self,
        reader: &Reader,
        out: W,
        mut wrote: impl FnMut(),
    ) -> Result<W, ExportError> {
        let mut out = Writer::new(self.format, out)?;
        let mut failed = None;
        reader.each(&self.filter, |record| {
            failed = out.write(&record).err();
            wrote();
            if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(out.finish()?),
        }
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Query(error) => error.fmt(f),
            ExportError::Write(error) => write!(f, "writing the export: {error}"),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<QueryError> for ExportError {
    fn from(error: QueryError) -> ExportError {
        ExportError::Query(error)
    }
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> ExportError {
        ExportError::Write(error)
    }
}
