//! What results are printed to: how wide it is, and whether it shows colours. Owns the reading of that;
//! knows nothing of what is printed.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use terminal_size::{Width, terminal_size_of};

use crate::config;

/// The variable by which shells and people tell a width.
const COLUMNS: &str = "COLUMNS";

/// Narrower than any terminal: a width that is not meant.
const NARROWEST: usize = 20;

/// What goes wrong.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    #[default]
    #[value(
        help = "On a terminal, unless NO_COLOR is set or TERM is dumb; CLICOLOR_FORCE=1 is for \
                    pipes too"
    )]
    Auto,
    Always,
    Never,
}

impl ColorArg {
    /// Makes this the choice of everything that is printed from now on.
    pub(super) fn choose(self) {
        let choice = match self {
            ColorArg::Auto => ColorChoice::Auto,
            ColorArg::Always => ColorChoice::Always,
            ColorArg::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// How a table may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns; nothing where there is no end to a line, as in a file or a pipe.
    pub(super) width: Option<usize>,
    pub(super) is_coloured: bool,
}

impl Look {
    /// Of a file: as wide as it must be, without colours.
    #[cfg(test)]
    pub(super) const PLAIN: Look = Look { width: None, is_coloured: false };

    pub(super) fn of_stdout() -> Look {
        let told = config::variable(COLUMNS).and_then(|text| text.trim().parse().ok());
        let told = told.filter(|width| *width >= NARROWEST);
        let found = || terminal_size_of(io::stdout()).map(|(Width(width), _)| usize::from(width));
        Look { width: told.or_else(found), is_coloured: has_colours(&io::stdout()) }
    }
}

/// Whether a stream shows them, or is told to have them.
pub(super) fn has_colours(stream: &impl anstream::stream::RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}
