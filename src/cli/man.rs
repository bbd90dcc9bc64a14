//! `tokenmeter man`: the manual, made from the definition of the command line. Owns where it goes.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Failure};

/// Print the manual page, or write those of all commands
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  tokenmeter man | man -l -                          read it
  tokenmeter man --output ~/.local/share/man/man1    `man tokenmeter`, `man tokenmeter-stats`, …")]
pub struct ManArgs {
    /// Write a page for each command into this directory, which is made if need be
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// The page, or what was written.
pub(super) fn run(args: &ManArgs) -> Result<String, Failure> {
    let Some(directory) = &args.output else {
        let mut page = Vec::new();
        let made = Man::new(Cli::command()).render(&mut page);
        made.map_err(|error| Failure::Failed(error.to_string()))?;
        return String::from_utf8(page).map_err(|error| Failure::Failed(error.to_string()));
    };
    let shown = directory.display();
    let failed = |error: std::io::Error| Failure::Failed(format!("{shown}: {error}"));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), directory)
        .map_err(failed)?;
    let pages = Cli::command().get_subcommands().count() + 1;
    Ok(format!("{shown}: {pages} pages\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("man1");
        run(&ManArgs { output: Some(directory.clone()) }).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = format!("tokenmeter-{}.1", command.get_name());
            let page = fs::read_to_string(directory.join(&name)).unwrap();
            assert!(page.contains(".SH OPTIONS"), "{name}");
        }
        assert!(fs::read_to_string(directory.join("tokenmeter.1")).unwrap().contains(".SH NAME"));
        assert!(run(&ManArgs { output: None }).unwrap().contains("tokenmeter\\-stats(1)"));
    }
}
