//! `tokenmeter prices`: what calls cost, as a person reads it. Owns the choice of the table: the one that is
//! configured here, another file, or that of a tokenmeter elsewhere. What is said of it comes from the
//! admin API's own answer.

mod check;
mod list;
mod show;
mod update;

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::remote::Remote;
use super::source::wrong_parameter;
use super::{Failure, Query};
use crate::admin::prices::PricesQuestion;
use crate::app;
use crate::config::{self, Flags, keys};
use crate::pricing::PriceTable;
use crate::units::Timestamp;

/// What calls cost: the price table
#[derive(Args, Clone, Debug)]
pub struct PricesArgs {
    #[command(subcommand)]
    pub command: PricesCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PricesCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Check(check::CheckArgs),
    Update(update::UpdateArgs),
}

/// Which price table.
#[derive(Args, Clone, Debug, Default)]
pub struct TableArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Price table [default: the configured one, or else the one built in]
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,

    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "pricing"],
          help = "Ask the tokenmeter that runs there, such as http://localhost:4100 \
                  [env: TOKENMETER_URL]")]
    pub url: Option<String>,

    #[arg(
        long,
        value_name = "TOKEN",
        help = "Its admin token [env: TOKENMETER_ADMIN_TOKEN, or TOKENMETER_ADMIN_TOKEN_FILE]"
    )]
    pub token: Option<String>,
}

pub(super) fn run(args: &PricesArgs) -> Result<String, Failure> {
    match &args.command {
        PricesCommand::List(args) => list::run(args),
        PricesCommand::Show(args) => show::run(args),
        PricesCommand::Check(args) => check::run(args),
        PricesCommand::Update(args) => update::run(args),
    }
}

impl TableArgs {
    fn flags(&self) -> Flags {
        let (config, pricing) = (self.config.clone(), self.pricing.clone());
        Flags { config, pricing, ..Flags::default() }
    }

    /// The tokenmeter elsewhere, if one was typed or else stands in the environment.
    fn remote(&self) -> Result<Option<Remote>, Failure> {
        let is_local = self.config.is_some() || self.pricing.is_some();
        let from_env = || config::variable(keys::ENV_URL).filter(|_| !is_local);
        let Some(url) = self.url.clone().or_else(from_env) else { return Ok(None) };
        Remote::new(&url, self.token.clone()).map(Some)
    }

    /// The answer of `GET /admin/prices`, all pages of it in one.
    fn ask(&self, query: &Query) -> Result<Value, Failure> {
        let Some(remote) = self.remote()? else {
            let books = config::books(&self.flags()).map_err(failed)?;
            let table = app::price_table(books.pricing.as_ref()).map_err(failed)?;
            return of_table(&table, query);
        };
        let mut whole = remote.get("/admin/prices", query)?;
        while let Some(offset) = whole["next_offset"].as_u64() {
            let mut query = query.clone();
            query.push(("offset".to_owned(), offset.to_string()));
            let mut page = remote.get("/admin/prices", &query)?;
            let Value::Array(more) = page["prices"].take() else { break };
            whole["next_offset"] = page["next_offset"].take();
            if let Some(prices) = whole["prices"].as_array_mut() {
                prices.extend(more);
            }
        }
        Ok(whole)
    }
}

/// The same answer from a table here.
fn of_table(table: &PriceTable, query: &Query) -> Result<Value, Failure> {
    let question = PricesQuestion::new(query, Timestamp::now());
    let question = question.map_err(|wrong| wrong_parameter(&wrong))?;
    Ok(question.whole().answer(table, &Value::Null))
}

#[expect(clippy::needless_pass_by_value)] // for `map_err`
fn failed(error: impl ToString) -> Failure {
    Failure::Failed(error.to_string())
}

/// Adds to a text.
fn say(out: &mut String, what: fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes all");
}

/// Rates as one cell: the usual three have columns of their own.
fn others(rates: &Value) -> String {
    let usual = ["input", "cached_input", "output"];
    let rates = rates.as_object().into_iter().flatten();
    let others = rates.filter(|(key, _)| !usual.contains(&key.as_str()));
    others.map(|(key, price)| format!("{key} {}", figure(price))).collect::<Vec<_>>().join(", ")
}

/// A rate, or what each size costs.
fn figure(price: &Value) -> String {
    match price {
        Value::Object(sizes) => {
            let sizes = sizes.iter().map(|(size, price)| format!("{size}: {price}"));
            format!("({})", sizes.collect::<Vec<_>>().join(", "))
        }
        price => price.to_string(),
    }
}
