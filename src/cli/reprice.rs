//! `tokenmeter reprice`: recomputes the cost of recorded calls, shows what that comes to, and takes it
//! back.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::difference::{Difference, money};
use super::filters::{FilterArgs, WindowArgs};
use super::sheet::{Format, Sheet, for_people};
use super::source::{self, wrong_parameter};
use super::{Failure, Query};
use crate::admin::question::Question;
use crate::app;
use crate::config::{self, Books, Flags};
use crate::ledger::{self, Filter, Plan, Repricer, RepricingState, Undone};
use crate::meter::Repricing;
use crate::pricing::PriceTable;
use crate::units::{Timestamp, Usd};

/// Recompute recorded costs with today's price table
#[derive(Args, Clone, Debug)]
pub struct RepriceArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    /// Price table [default: the one built in]
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Show every repricing that there has been
    #[arg(long, conflicts_with_all = ["dry_run", "pricing"])]
    pub list: bool,

    /// Put the rows of this repricing back as they were
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "list", "pricing"])]
    pub undo: Option<i64>,

    /// Finish this repricing, which was cut off
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "list", "undo"])]
    pub resume: Option<i64>,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl RepriceArgs {
    fn flags(&self) -> Flags {
        let (config, database) = (self.config.clone(), self.database.clone());
        Flags { config, database, pricing: self.pricing.clone(), ..Flags::default() }
    }

    /// Window and filters, in the admin API's words.
    fn query(&self) -> Query {
        let mut query = Query::new();
        self.window.add_to(&mut query);
        self.filters.add_to(&mut query);
        query
    }
}

/// What was done, as it is to be printed.
pub(super) fn run(args: &RepriceArgs) -> Result<String, Failure> {
    let books = config::books(&args.flags()).map_err(failed)?;
    let query = args.query();
    if (args.list || args.undo.is_some() || args.resume.is_some()) && !query.is_empty() {
        let message = "a repricing is listed, taken back or finished as a whole; leave out window and \
                       filters";
        return Err(Failure::Usage(message.to_owned()));
    }
    if args.list {
        return list(args, &books);
    }
    if let Some(id) = args.undo {
        return undo(args, &books, id);
    }
    let prices = app::price_table(books.pricing.as_ref()).map_err(failed)?;
    if args.dry_run {
        let (filter, question) = filter_of(&query)?;
        return dry_run(args, &books, &prices, &filter, &question);
    }
    // Says what is not in the database yet.
    source::open(&books.database)?;
    let mut repricer = Repricer::open(&books.database).map_err(failed)?;
    let plan = |question: String| Plan {
        prices: prices.name(),
        prices_sha256: prices.sha256.clone(),
        question,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (begun, filter, question) = if let Some(id) = args.resume {
        let Plan { prices_sha256, version, .. } = plan(String::new());
        let begun = repricer.take_up(id, &prices_sha256, &version).map_err(failed)?;
        let question = serde_json::from_str(&begun.plan.question).unwrap_or_default();
        let (filter, question) = filter_of(&pairs_of(&question))?;
        (begun, filter, question)
    } else {
        let (filter, question) = filter_of(&query)?;
        let begun = repricer.begin(&plan(question.to_string())).map_err(failed)?;
        (begun, filter, question)
    };
    let mut difference = Difference::default();
    let deployed = deployed(&books);
    let repricing = Repricing { prices: &prices.book, deployed: &deployed, now: Timestamp::now() };
    let done = repricer.run(
        begun.id,
        &filter,
        |record| repricing.cost(record),
        |record, found| difference.add(record, found),
    );
    let done = done.map_err(|error| {
        Failure::Failed(format!(
            "{error}\nrepricing {id} was cut off; finish it with --resume {id}, or take it back with \
             --undo {id}",
            id = begun.id
        ))
    })?;
    Ok(show(args, &prices, &question, &difference, Some(&done)))
}

fn dry_run(
    args: &RepriceArgs,
    books: &Books,
    prices: &PriceTable,
    filter: &Filter,
    question: &Value,
) -> Result<String, Failure> {
    let reader = source::open(&books.database)?;
    let mut difference = Difference::default();
    let deployed = deployed(books);
    let repricing = Repricing { prices: &prices.book, deployed: &deployed, now: Timestamp::now() };
    let looked = reader.each(filter, |record| {
        difference.add(&record, &repricing.cost(&record));
        ControlFlow::Continue(())
    });
    looked.map_err(failed)?;
    Ok(show(args, prices, question, &difference, None))
}

#[expect(clippy::needless_pass_by_value)] // for `map_err`
fn failed(error: impl ToString) -> Failure {
    Failure::Failed(error.to_string())
}

/// The model behind a deployment.
fn deployed(books: &Books) -> impl Fn(&str, &str) -> Option<String> + '_ {
    |upstream, deployment| books.deployments.get(upstream)?.get(deployment).cloned()
}

/// Which calls are meant, and the same as it is remembered: with moments in the place of what counts
/// back from now. Calls that come later are not meant.
fn filter_of(query: &Query) -> Result<(Filter, Value), Failure> {
    let now = Timestamp::now();
    let question = Question::usage(query, now).map_err(|wrong| wrong_parameter(&wrong))?;
    let Question::Usage { mut filter, .. } = question else {
        return Err(Failure::Failed("not a question about calls".to_owned()));
    };
    let until = *filter.until.get_or_insert(now);
    let relative = ["days", "since", "until", "tz"];
    let mut kept = Map::new();
    if let Some(since) = filter.since {
        kept.insert("since".to_owned(), json!(since));
    }
    kept.insert("until".to_owned(), json!(until));
    let filters = query.iter().filter(|(name, _)| !relative.contains(&name.as_str()));
    kept.extend(filters.map(|(name, text)| (name.clone(), json!(text))));
    Ok((filter, Value::Object(kept)))
}

fn pairs_of(question: &Value) -> Query {
    let pairs = question.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    pairs.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What a repricing comes or came to.
fn show(
    args: &RepriceArgs,
    prices: &PriceTable,
    question: &Value,
    difference: &Difference,
    done: Option<&ledger::Repricing>,
) -> String {
    match args.format {
        Format::Csv => difference.csv(),
        Format::Json => {
            let mut answer = Map::from_iter([
                ("dry_run".to_owned(), json!(done.is_none())),
                ("repricing".to_owned(), json!(done.map(|done| done.id))),
                ("prices".to_owned(), json!(prices.name())),
                ("prices_sha256".to_owned(), json!(prices.sha256)),
                ("question".to_owned(), question.clone()),
            ]);
            if let Value::Object(figures) = difference.json() {
                answer.extend(figures);
            }
            format!("{:#}\n", Value::Object(answer))
        }
        Format::Table => {
            let mut out = difference.table();
            match done {
                None => out.push_str("Nothing was changed: a dry run.\n"),
                Some(done) => {
                    writeln!(out, "This was repricing {0}; --undo {0} takes it back.", done.id)
                        .expect("a String takes all");
                }
            }
            out
        }
    }
}

fn list(args: &RepriceArgs, books: &Books) -> Result<String, Failure> {
    source::open(&books.database)?;
    let all = ledger::repricings(&books.database).map_err(failed)?;
    let rows: Vec<Map<String, Value>> = all.iter().map(facts).collect();
    let columns = |chosen: &[&str]| {
        let mut sheet = Sheet::new(chosen.iter().copied());
        for row in &rows {
            sheet.push(chosen.iter().map(|name| row[*name].clone()));
        }
        sheet
    };
    Ok(match args.format {
        Format::Json => format!("{:#}\n", json!({"repricings": rows})),
        Format::Csv => columns(&FACTS).csv(),
        Format::Table if rows.is_empty() => "no repricing\n".to_owned(),
        Format::Table => {
            let shown =
                ["id", "at", "state", "prices", "question", "rows_changed", "rows_put_back"];
            format!("{}\n", columns(&[&shown[..], &["difference"]].concat()).table())
        }
    })
}

/// The columns of the list.
const FACTS: [&str; 13] = [
    "id",
    "at",
    "state",
    "prices",
    "prices_sha256",
    "question",
    "version",
    "rows_seen",
    "rows_changed",
    "rows_put_back",
    "cost_before",
    "cost_after",
    "difference",
];

/// By the names of [`FACTS`].
fn facts(one: &ledger::Repricing) -> Map<String, Value> {
    let Plan { prices, prices_sha256, question, version } = &one.plan;
    let difference: Usd = one.cost_after - one.cost_before;
    let values = [
        json!(one.id),
        json!(one.at),
        json!(one.state.as_str()),
        json!(prices),
        json!(prices_sha256),
        json!(question),
        json!(version),
        json!(one.rows_seen),
        json!(one.rows_changed),
        json!(one.rows_put_back),
        money(one.cost_before),
        money(one.cost_after),
        money(difference),
    ];
    FACTS.into_iter().map(str::to_owned).zip(values).collect()
}

fn undo(args: &RepriceArgs, books: &Books, id: i64) -> Result<String, Failure> {
    source::open(&books.database)?;
    let mut repricer = Repricer::open(&books.database).map_err(failed)?;
    let undone = repricer.undo(id).map_err(failed)?;
    let Undone { put_back, gone, changed_since, examples } = &undone;
    if args.format != Format::Table {
        let examples: Vec<Value> =
            examples.iter().map(|(call, by)| json!({"id": call, "repricing": by})).collect();
        let answer = json!({
            "repricing": id, "state": RepricingState::Undone.as_str(), "put_back": put_back,
            "gone": gone, "changed_since": changed_since, "examples": examples,
        });
        return Ok(match args.format {
            Format::Csv => {
                let names = ["repricing", "put_back", "gone", "changed_since"];
                let mut sheet = Sheet::new(names);
                sheet.push(names.map(|name| answer[name].clone()));
                sheet.csv()
            }
            _ => format!("{answer:#}\n"),
        });
    }
    let count = |rows: &u64| for_people(&json!(rows));
    let mut out = format!("{} calls are as they were before repricing {id}\n", count(put_back));
    if *gone > 0 {
        writeln!(out, "{} calls are not there any more", count(gone)).expect("a String takes all");
    }
    if *changed_since > 0 {
        let since = count(changed_since);
        writeln!(out, "{since} calls have been changed since and stay as they are:")
            .expect("a String takes all");
    }
    for (call, by) in examples {
        let by = by.map_or_else(String::new, |by| format!(", by repricing {by}"));
        writeln!(out, "  {call}{by}").expect("a String takes all");
    }
    Ok(out)
}
