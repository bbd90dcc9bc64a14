//! `tokenmeter completions`: what a shell needs to complete tokenmeter's words. Owns nothing but the wish:
//! the script is made from the definition of the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure};

/// Print the script by which a shell completes commands and flags
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Where it goes:
  bash        tokenmeter completions bash > ~/.local/share/bash-completion/completions/tokenmeter
  zsh         tokenmeter completions zsh > \"${fpath[1]}/_tokenmeter\"
  fish        tokenmeter completions fish > ~/.config/fish/completions/tokenmeter.fish
  elvish      tokenmeter completions elvish >> ~/.config/elvish/rc.elv
  powershell  tokenmeter completions powershell >> $PROFILE")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<String, Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    String::from_utf8(script).map_err(|error| Failure::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = run(&CompletionsArgs { shell: *shell }).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("usage-source"), "{shell}");
        }
    }
}
