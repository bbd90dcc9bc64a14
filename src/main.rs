//! Starts the command line.

use std::process::ExitCode;

use clap::Parser;
use tokenmeter::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(&Cli::parse())
}
