//! `tokenmeter recent`: what was typed, as a question to the ledger.

use clap::Args;

use super::filters::{FilterArgs, WindowArgs};
use super::sheet::Format;
use super::{Query, SourceArgs, push};

/// The newest calls
#[derive(Args, Clone, Debug)]
pub struct RecentArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// So many calls
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl RecentArgs {
    /// The parameters of `GET /admin/usage`.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        push(&mut query, "limit", Some(self.limit));
        query
    }
}
