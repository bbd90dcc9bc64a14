//! Starts the command line.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tokenmeter::cli::{self, Cli};

/// Records are made of many small texts, which are made on one thread and given back on another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(&Cli::parse())
}
