//! `tokenmeter prices update`: what the public price lists say, against the table; written down if told to.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::sheet::{Format, Sheet};
use super::super::source::{Report, Source};
use super::super::visible::visible;
use super::super::{Failure, Query, SourceArgs, push};
use super::{failed, say};
use crate::app::{self, PriceFile};
use crate::config::{Config, Flags};
use crate::pricing::{ListUpdate, PriceList, PriceTable, UpdateOptions};
use crate::units::Timestamp;

/// Said of what a model costs besides.
const LEFT_OUT: &str = "not counted";

/// Compare the prices with public price lists, and write them down if told to
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Price table [default: the configured one, or else the one built in]
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,

    /// The ledger's database file, for --only-used [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    /// The list of this provider; may be repeated [default: every list there is]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Vec<String>,

    /// Only models that the ledger has calls of
    #[arg(long)]
    pub only_used: bool,

    /// Write the prices into the price table's file; changed ones hold from now on
    #[arg(long)]
    pub write: bool,

    /// Write them into this file, which is made if there is none: over the built-in prices
    #[arg(long, value_name = "FILE", conflicts_with = "pricing", requires = "write")]
    pub output: Option<PathBuf>,

    /// Believe what is doubted: prices that change by more than 10 times, come, go or are very high, zeros, and
    /// lists that have become short
    #[arg(long, visible_alias = "force")]
    pub accept_large: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

pub(super) fn run(args: &UpdateArgs) -> Result<String, Failure> {
    let lists = lists(args)?;
    let config = Config::load(&Flags {
        config: args.config.clone(),
        database: args.database.clone(),
        pricing: args.pricing.clone(),
        ..Flags::default()
    });
    let config = config.map_err(failed)?;
    let path = args.output.as_ref().or(config.pricing.as_ref());
    if args.write && path.is_none() {
        let message = "the price table is the one that is built in, which cannot be written to; name a \
                       file with --output prices.toml, and in the configuration with \
                       pricing = \"prices.toml\"";
        return Err(Failure::Usage(message.to_owned()));
    }
    let (file, table) = match path {
        None => (None, PriceTable::builtin()),
        // A configured file that is not there is a mistake; one to be made is not.
        Some(path) if args.output.is_none() && !path.exists() => {
            (None, app::read_table(path).map_err(failed)?)
        }
        Some(path) => {
            let (file, table) = PriceFile::open(path).map_err(failed)?;
            (Some(file), table)
        }
    };
    let used = if args.only_used { Some(used(args)?) } else { None };
    let mut updates = Vec::new();
    for list in lists {
        let body = app::fetch_list(list, &config).map_err(failed)?;
        let only = used.as_ref().map(|used| of_provider(used, list.as_str()));
        let options = UpdateOptions { at: Timestamp::now(), accept_large: args.accept_large, only };
        updates.push(ListUpdate::of(list, &body, &table.book, &options).map_err(failed)?);
    }
    let something = updates.iter().any(|update| !update.is_empty());
    let written = match &file {
        Some(file) if args.write && something => {
            file.write(&updates).map_err(failed)?;
            Some(file.path.display().to_string())
        }
        _ => None,
    };
    Ok(match args.format {
        Format::Json => format!(
            "{:#}\n",
            json!({"table": table.name(), "written": written, "updates": updates})
        ),
        Format::Csv => csv(&updates),
        Format::Table => words(args, &updates, written.as_deref()),
    })
}

fn lists(args: &UpdateArgs) -> Result<Vec<PriceList>, Failure> {
    if args.provider.is_empty() {
        return Ok(PriceList::ALL.to_vec());
    }
    let named = |name: &String| {
        PriceList::named(name).ok_or_else(|| {
            let known: Vec<&str> = PriceList::ALL.iter().map(|list| list.as_str()).collect();
            let known = known.join(", ");
            Failure::Usage(format!("--provider: no list of `{name}` is known; there are: {known}"))
        })
    };
    args.provider.iter().map(named).collect()
}

/// Providers and models of all calls, in lower case.
fn used(args: &UpdateArgs) -> Result<Vec<(String, String)>, Failure> {
    let source = SourceArgs {
        config: args.config.clone(),
        database: args.database.clone(),
        ..SourceArgs::default()
    };
    let mut query = Query::new();
    push(&mut query, "since", Some("1970-01-01"));
    push(&mut query, "group_by", Some("provider,model"));
    // A variable that names another tokenmeter is not meant here.
    let source = match Source::of(&source)? {
        source @ Source::Database(_) => source,
        Source::Admin(_) => {
            let message = "--only-used reads the ledger here; name it with --database";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    let answer = source.ask(Report::Stats, &query)?;
    let groups = answer["groups"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().map(str::to_lowercase);
    let pair =
        |group: &Value| Some((text(&group["key"]["provider"])?, text(&group["key"]["model"])?));
    Ok(groups.filter_map(pair).collect())
}

fn of_provider(used: &[(String, String)], provider: &str) -> HashSet<String> {
    let mine = used.iter().filter(|(one, _)| one == provider);
    mine.map(|(_, model)| model.clone()).collect()
}

fn csv(updates: &[ListUpdate]) -> String {
    let columns = ["list", "kind", "model", "rate", "old", "new", "percent", "reason"];
    let mut sheet = Sheet::new(columns);
    for update in updates {
        for (kind, all) in [("new", &update.new), ("changed", &update.changed)] {
            for one in all {
                for change in &one.changes {
                    sheet.push([
                        json!(update.list),
                        json!(kind),
                        json!(one.model),
                        json!(change.rate),
                        json!(change.old),
                        json!(change.new),
                        json!(change.percent),
                    ]);
                }
                for (name, price) in &one.left_out {
                    let cells = [json!(update.list), json!(kind), json!(one.model), json!(name)];
                    let rest = [Value::Null, price.clone(), Value::Null, json!(LEFT_OUT)];
                    sheet.push(cells.into_iter().chain(rest));
                }
            }
        }
        for model in &update.gone {
            sheet.push([json!(update.list), json!("gone"), json!(model)]);
        }
        for one in &update.skipped {
            let mut cells = vec![json!(update.list), json!("skipped"), json!(one.model)];
            cells.resize(columns.len() - 1, Value::Null);
            cells.push(json!(one.reason));
            sheet.push(cells);
        }
    }
    sheet.csv()
}

/// What is new and changed, a line for each rate.
fn differences(update: &ListUpdate) -> Sheet {
    let mut sheet = Sheet::new(["", "model", "rate", "old", "new", "change"]);
    for (kind, all) in [("new", &update.new), ("changed", &update.changed)] {
        for one in all {
            let mut words = [json!(kind), json!(one.model)];
            let mut line = |rate: &str, rest: [Value; 3]| {
                let words = std::mem::replace(&mut words, [json!(""), json!("")]);
                sheet.push(words.into_iter().chain([json!(rate)]).chain(rest));
            };
            for change in &one.changes {
                let sign =
                    |text: String| if text.starts_with('-') { text } else { format!("+{text}") };
                let percent = change.percent.as_ref().map(ToString::to_string);
                let percent = percent.map(|percent| format!("{} %", sign(percent)));
                line(&change.rate, [json!(change.old), json!(change.new), json!(percent)]);
            }
            for (name, price) in &one.left_out {
                line(name, [Value::Null, price.clone(), json!(LEFT_OUT)]);
            }
        }
    }
    sheet
}

fn words(args: &UpdateArgs, updates: &[ListUpdate], written: Option<&str>) -> String {
    let mut out = String::new();
    for update in updates {
        let sheet = differences(update);
        if !update.is_empty() {
            say(&mut out, format_args!("{}\n\n", sheet.table()));
        }
        if !update.skipped.is_empty() {
            let mut sheet = Sheet::new(["skipped", "because"]);
            for one in &update.skipped {
                sheet.push([json!(one.model), json!(one.reason)]);
            }
            say(&mut out, format_args!("{}\n\n", sheet.table()));
        }
        if args.only_used && !update.gone.is_empty() {
            let gone: Vec<_> = update.gone.iter().map(|name| visible(name)).collect();
            say(&mut out, format_args!("No longer in the list: {}\n", gone.join(", ")));
        }
        say(
            &mut out,
            format_args!(
                "{}: {} models; {} new, {} changed, {} unchanged, {} skipped; {} of the table are not in the \
             list and stay\n",
                update.list,
                update.models,
                update.new.len(),
                update.changed.len(),
                update.unchanged,
                update.skipped.len(),
                update.gone.len(),
            ),
        );
        if update.incomplete > 0 {
            say(
                &mut out,
                format_args!(
                    "{} of them cost something besides that calls do not tell of, and that is not counted\n",
                    update.incomplete
                ),
            );
        }
    }
    let something = updates.iter().any(|update| !update.is_empty());
    match written {
        Some(path) => say(
            &mut out,
            format_args!(
                "Written to {path}. Changed prices hold from now on; earlier calls keep theirs.\n"
            ),
        ),
        None if !something => {}
        None => out.push_str("Nothing was written; --write does.\n"),
    }
    if let (Some(path), true) = (written, args.output.is_some()) {
        say(
            &mut out,
            format_args!("It is in force where the configuration has pricing = \"{path}\".\n"),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: UpdateArgs,
    }

    #[test]
    fn names_that_a_list_had_cannot_steer_the_terminal() {
        let Typed { args } = Typed::parse_from(["update", "--only-used"]);
        let update = ListUpdate {
            incomplete: 0,
            list: "openrouter",
            provider: "openrouter",
            models: 1,
            new: Vec::new(),
            changed: Vec::new(),
            gone: vec!["a/\u{202e}b".to_owned(), "a/c".to_owned()],
            unchanged: 1,
            skipped: Vec::new(),
        };
        let said = words(&args, &[update], None);
        assert!(said.contains("No longer in the list: a/\\u{202e}b, a/c\n"), "{said}");
    }
}
