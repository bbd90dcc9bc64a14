//! `tokenmeter backup`: a copy of the ledger's database, also while a server records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::draft::Draft;
use super::progress::Bar;
use super::sheet::for_people;
use super::{Failure, LedgerArgs};
use crate::config;
use crate::ledger::{self, BackedUp, BackupStage, OpenError};

/// SQLite's page, for the bar.
const PAGE_BYTES: u64 = 4096;

/// Copy the ledger, also while it is in use
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The copy, which appears when it is whole and has been checked
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    #[command(flatten)]
    pub ledger: LedgerArgs,

    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
}

/// Makes the copy and says what is in it.
pub(super) fn run(args: &BackupArgs) -> Result<String, Failure> {
    let database = config::database(&args.ledger.flags());
    let database = database.map_err(|error| Failure::Failed(error.to_string()))?;
    let shown = args.file.display();
    refuse(args, &database)?;
    let named = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(&args.file),
        _ => Failure::Failed(format!("{shown}: {error}")),
    };
    let draft = Draft::of(&args.file).map_err(named)?;
    let bar = Bar::of_bytes(Some(0));
    let copied = ledger::backup(&database, draft.path(), |stage| match stage {
        BackupStage::Copying { pages, of } => bar.set(pages * PAGE_BYTES, of * PAGE_BYTES),
        BackupStage::Checking => bar.say("checking the copy"),
    });
    drop(bar);
    let BackedUp { rows, bytes } = copied.map_err(|error| explain(&error, &database))?;
    if args.force { draft.publish() } else { draft.publish_new() }.map_err(named)?;
    let [rows, bytes] = [rows, bytes].map(|count| for_people(&count.into()));
    Ok(format!("{shown}: {rows} calls, {bytes} bytes, checked\n"))
}

fn refuse(args: &BackupArgs, database: &Path) -> Result<(), Failure> {
    let file = &args.file;
    if ledger::owns(database, file) {
        let why = "is part of the ledger itself; name another file";
        return Err(Failure::Usage(format!("{} {why}", file.display())));
    }
    if file.exists() && !args.force {
        return Err(exists(file));
    }
    // SQLite would put a log that is left beside it into the copy.
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    if fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
        let log = log.to_string_lossy();
        let why = "belongs to a database that is in use or was not closed";
        return Err(Failure::Failed(format!("{log} {why}; name another file")));
    }
    Ok(())
}

fn exists(file: &Path) -> Failure {
    Failure::Failed(format!("{} exists; --force replaces it", file.display()))
}

fn explain(error: &OpenError, database: &Path) -> Failure {
    match error {
        OpenError::Io { path, source }
            if source.kind() == io::ErrorKind::NotFound && path == database =>
        {
            let database = database.display();
            Failure::Failed(format!("there is no ledger at {database}; --database names another"))
        }
        error => Failure::Failed(error.to_string()),
    }
}
