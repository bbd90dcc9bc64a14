//! Starts the command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use tokenmeter::cli::{self, Cli};

/// musl's own has one lock for all threads. Elsewhere the system's is as fast and takes half the memory.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(&Cli::parse())
}
