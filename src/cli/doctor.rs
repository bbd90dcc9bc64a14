//! `tokenmeter doctor`: whether the ledger's rows, sums and journal agree, and mending it. Owns how that is
//! told; what is checked and how it is mended is the ledger's affair.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::progress::Steps;
use super::sheet::{Sheet, for_people};
use super::{Failure, complain};
use crate::config::{self, Flags};
use crate::ledger::doctor::{self, Depth, Examination, Mended};
use crate::ledger::{self, OpenError};

/// Check that rows, sums and journal agree, and mend them
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    /// Make again what can be derived: rows from the journal, sums from the rows
    #[arg(long, conflicts_with_all = ["rebuild_sums", "recover"])]
    pub repair: bool,

    /// Only make the sums again from the rows, as after deleting rows by hand
    #[arg(long, conflicts_with = "recover")]
    pub rebuild_sums: bool,

    /// If the database is damaged, save what can be read into a new one
    #[arg(long)]
    pub recover: bool,

    /// Compare every index with its table too
    #[arg(long)]
    pub deep: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How the findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// The report; a failure of its own where something is wrong and stays so.
pub(super) fn run(args: &DoctorArgs) -> Result<String, Failure> {
    let flags =
        Flags { config: args.config.clone(), database: args.database.clone(), ..Flags::default() };
    let database = config::database(&flags);
    let database = database.map_err(|error| Failure::Failed(error.to_string()))?;
    let bar = Steps::new();
    let done = work(args, &database, &bar);
    bar.finish();
    let Done { recovered, first, mended, last } = done.map_err(|error| failure(args, &error))?;
    if let Some(recovered) = recovered {
        recovered.lines().for_each(complain);
    }
    let (first, last) = (first.as_ref().unwrap_or(&last), &last);
    let report = match args.format {
        Format::Json => format!("{:#}\n", json(first, mended, last)),
        Format::Table => table(first, mended, last),
    };
    if last.is_sound() { Ok(report) } else { Err(Failure::Found(report)) }
}

/// What was done.
struct Done {
    recovered: Option<String>,
    /// How it was, if anything was mended.
    first: Option<Examination>,
    mended: Option<Mended>,
    /// How it is.
    last: Examination,
}

fn work(args: &DoctorArgs, database: &Path, bar: &Steps) -> Result<Done, OpenError> {
    let mut watch = |what: &'static str, done: u64, total: u64| bar.show(what, done, total);
    let depth = Depth { deep: args.deep };
    let mut recovered = None;
    if args.recover {
        recovered = Some(ledger::recover(database, &mut watch)?.to_string());
    }
    if args.rebuild_sums {
        let mended = Some(doctor::rebuild_sums(database, &mut watch)?);
        let last = doctor::examine(database, depth, &mut watch)?;
        return Ok(Done { recovered, first: None, mended, last });
    }
    let found = doctor::examine(database, depth, &mut watch)?;
    if !args.repair || found.is_sound() {
        return Ok(Done { recovered, first: None, mended: None, last: found });
    }
    let mended = Some(doctor::repair(&found, &mut watch)?);
    let last = doctor::examine(database, depth, &mut watch)?;
    Ok(Done { recovered, first: Some(found), mended, last })
}

fn failure(args: &DoctorArgs, error: &OpenError) -> Failure {
    let mut text = error.to_string();
    if let OpenError::InUse { .. } = error {
        let what = if args.repair {
            "--repair"
        } else if args.recover {
            "--recover"
        } else {
            "--rebuild-sums"
        };
        write!(
            text,
            "\nstop it first: {what} needs the ledger for itself; `tokenmeter doctor` alone \
            looks at it while it runs"
        )
        .expect("a String takes all");
    }
    Failure::Failed(text)
}

fn table(first: &Examination, mended: Option<Mended>, last: &Examination) -> String {
    let mut sheet = Sheet::new(["check", "asks whether", "wrong", "now"]);
    for (before, now) in first.findings.iter().zip(&last.findings) {
        let after = mended.map_or(Value::Null, |_| now.count.into());
        let (name, about) = (before.check.to_string(), before.check.about());
        sheet.push([name.into(), about.into(), before.count.into(), after]);
    }
    let mut out = format!("{}\n\n{}\n", last.database.display(), sheet.table());
    let mut say = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    say(String::new());
    let wrong = first.findings.iter().filter(|finding| finding.count > 0);
    for finding in wrong {
        for example in &finding.examples {
            // What is in a damaged file could steer the terminal.
            say(format!("{}: {}", finding.check, for_people(&Value::from(example.as_str()))));
        }
        let more = finding.count.saturating_sub(finding.examples.len() as u64);
        if more > 0 {
            say(format!("{}: and {more} more", finding.check));
        }
    }
    if let Some(Mended { added, replaced, counted }) = mended {
        say(format!(
            "from the journal: {added} rows added, {replaced} replaced; {counted} calls summed"
        ));
    }
    say(format!("{} rows and {} lines of the journal were looked at", last.rows, last.lines));
    if last.unread_bytes > 0 {
        let who = if last.served { "the server" } else { "the next `tokenmeter serve`" };
        say(format!("{} bytes of the journal are yet to be taken in by {who}", last.unread_bytes));
    }
    if last.unreadable_lines > 0 {
        say(format!(
            "{} lines of the journal are torn, and were passed over",
            last.unreadable_lines
        ));
    }
    say(verdict(mended.is_some(), last).to_owned());
    out
}

fn verdict(is_mended: bool, last: &Examination) -> &'static str {
    use doctor::Check::{File, Schema};
    match (last.is_sound(), is_mended) {
        (true, false) => "all is well",
        (true, true) => "mended: all is well",
        (false, _) if last.count(File) > 0 => {
            "something is wrong: `tokenmeter doctor --recover` saves what can be read of a damaged file"
        }
        (false, false) if last.count(Schema) > 0 => {
            "something is wrong: `tokenmeter doctor --repair` mends what can be derived"
        }
        (false, false) => {
            "something is wrong: `tokenmeter doctor --repair` mends what can be derived; after deleting \
             rows on purpose, --rebuild-sums makes the sums again and leaves them deleted"
        }
        (false, true) => "something is wrong that cannot be derived from anything",
    }
}

fn json(first: &Examination, mended: Option<Mended>, last: &Examination) -> Value {
    let checks = first.findings.iter().zip(&last.findings).map(|(before, now)| {
        json!({
            "check": before.check,
            "about": before.check.about(),
            "found": before.count,
            "left": now.count,
            "examples": before.examples,
        })
    });
    json!({
        "database": last.database,
        "sound": last.is_sound(),
        "served": last.served,
        "rows": last.rows,
        "journal_lines": last.lines,
        "unread_bytes": last.unread_bytes,
        "unreadable_lines": last.unreadable_lines,
        "mended": mended.map(|mended| json!({
            "added": mended.added,
            "replaced": mended.replaced,
            "counted": mended.counted,
        })),
        "checks": checks.collect::<Vec<_>>(),
    })
}
