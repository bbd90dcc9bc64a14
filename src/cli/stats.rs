//! `tokenmeter stats`: what was typed, as a question to the ledger.

use clap::{Args, ValueEnum};

use super::filters::{FilterArgs, WindowArgs};
use super::sheet::Format;
use super::{Query, SourceArgs, push};

/// Totals and breakdowns
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// Break down by: user, session, operation, attempt, model, provider, hour, day, week, month,
    /// metadata.NAME
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub by: Vec<String>,

    /// Sort the groups by this column
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,

    /// Which way to sort
    #[arg(long, value_name = "ORDER", value_enum)]
    pub order: Option<Order>,

    /// At most so many groups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    Asc,
    Desc,
}

impl StatsArgs {
    /// The parameters of `GET /admin/stats`.
    pub fn query(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        push(&mut query, "group_by", (!self.by.is_empty()).then(|| self.by.join(",")));
        push(&mut query, "sort", self.sort.as_ref());
        let order = self.order.map(|order| match order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        });
        push(&mut query, "order", order);
        push(&mut query, "limit", self.limit);
        query
    }
}
