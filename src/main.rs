//! Starts the command line.

use std::process::ExitCode;

use clap::Parser;
use tokenmeter::cli::{Cli, Command, serve};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => match serve::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tokenmeter: {error}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::FAILURE,
    }
}
