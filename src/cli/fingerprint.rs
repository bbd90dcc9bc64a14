//! `tokenmeter fingerprint`: what stands for a key in `clients.keys` and in rows. Reads keys from stdin alone, so
//! that none gets into a shell's history or the list of processes.

use std::fmt::Write as _;
use std::io::{self, Read};

use clap::Args;

use super::{Failure, LedgerArgs};
use crate::config;
use crate::fingerprint::Fingerprints;

/// Keys that are read at most, in bytes.
const MOST: u64 = 1 << 20;

/// Print what stands for a key: its fingerprint, which the configuration and rows have in its place
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Keys are read from stdin, one a line:
  printenv OPENAI_API_KEY | tokenmeter fingerprint

The secret that it takes is in tokenmeter.secret beside the database, and is made if there is none.")]
pub struct FingerprintArgs {
    #[command(flatten)]
    pub ledger: LedgerArgs,
}

/// A fingerprint for each line that has a key.
pub(super) fn run(args: &FingerprintArgs) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let database = config::database(&args.ledger.flags()).map_err(|error| failed(&error))?;
    let mut keys = String::new();
    io::stdin().take(MOST).read_to_string(&mut keys).map_err(|error| failed(&error))?;
    let fingerprints = Fingerprints::load(&database).map_err(|error| failed(&error))?;
    let keys = keys.lines().map(str::trim).filter(|key| !key.is_empty());
    let printed = keys.fold(String::new(), |mut printed, key| {
        let _ = writeln!(printed, "key:{}", fingerprints.of(key.as_bytes()));
        printed
    });
    if printed.is_empty() {
        return Err(Failure::Usage("give keys on stdin, one a line".to_owned()));
    }
    Ok(printed)
}
