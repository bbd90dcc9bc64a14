//! Where a report comes from: the database beside us, or a tokenmeter that runs elsewhere. Owns the
//! choice; the question and the shape of the answer are the same for both.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::remote::Remote;
use super::{Failure, Query, SourceArgs};
use crate::admin::params::BadParameter;
use crate::admin::question::Question;
use crate::config::{self, keys};
use crate::ledger::{self, OpenError, Reader};
use crate::units::Timestamp;

/// Where answers come from.
#[derive(Debug)]
pub enum Source {
    Database(Reader),
    Admin(Remote),
}

/// A list in the admin API: its path there, and the question that its parameters make.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    Stats,
    Usage,
}

impl Source {
    /// What was typed goes before the environment.
    pub fn of(args: &SourceArgs) -> Result<Source, Failure> {
        let is_local = args.config.is_some() || args.database.is_some();
        let from_env = || config::variable(keys::ENV_URL).filter(|_| !is_local);
        if let Some(url) = args.url.clone().or_else(from_env) {
            return Remote::new(&url, args.token.clone()).map(Source::Admin);
        }
        let database = config::database(&args.flags());
        let database = database.map_err(|error| Failure::Failed(error.to_string()))?;
        open(&database).map(Source::Database)
    }

    /// The same, with less time for each question.
    pub(super) fn hurried(self, limit: Duration) -> Source {
        match self {
            Source::Database(reader) => Source::Database(reader.with_time_limit(limit)),
            Source::Admin(remote) => Source::Admin(remote.hurried(limit)),
        }
    }

    /// For people who look at several.
    pub(super) fn name(&self, args: &SourceArgs) -> String {
        match self {
            Source::Admin(remote) => remote.address(),
            Source::Database(_) => config::database(&args.flags())
                .map_or_else(|_| String::new(), |database| database.display().to_string()),
        }
    }

    /// How many calls are open, where somebody runs who knows.
    pub(super) fn open_calls(&self) -> Option<u64> {
        match self {
            Source::Admin(remote) => {
                remote.get("/admin/live", &Query::new()).ok()?["open_calls"].as_u64()
            }
            Source::Database(_) => None,
        }
    }

    pub fn ask(&self, report: Report, query: &Query) -> Result<Value, Failure> {
        match self {
            Source::Admin(remote) => remote.get(report.path(), query),
            Source::Database(reader) => {
                let question = report.question(query).map_err(|wrong| wrong_parameter(&wrong))?;
                let answer = question.answer(reader);
                let answer = answer.map_err(|error| Failure::Failed(error.to_string()))?;
                Ok(answer.unwrap_or_default())
            }
        }
    }
}

impl Report {
    fn path(self) -> &'static str {
        match self {
            Report::Stats => "/admin/stats",
            Report::Usage => "/admin/usage",
        }
    }

    fn question(self, query: &Query) -> Result<Question, BadParameter> {
        match self {
            Report::Stats => Question::stats(query, Timestamp::now()),
            Report::Usage => Question::usage(query, Timestamp::now()),
        }
    }
}

/// A parameter as the flag that it was typed as.
pub(super) fn wrong_parameter(wrong: &BadParameter) -> Failure {
    let flag = match wrong.name.as_str() {
        "group_by" => "by",
        name if name.starts_with("metadata.") => "metadata",
        name => name,
    };
    let flag = flag.replace('_', "-");
    Failure::Usage(format!("--{flag}: {}", wrong.message))
}

/// The ledger, with a word about what is not in it yet.
pub(super) fn open(database: &Path) -> Result<Reader, Failure> {
    let unread = ledger::left_behind(database);
    if unread > 0 {
        eprintln!(
            "tokenmeter: {unread} bytes of the journal are not in the database yet, so calls are \
             missing here; the next `tokenmeter serve` takes them in"
        );
    }
    Reader::open(database).map_err(|error| match error {
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Failure::Failed(format!(
                "there is no ledger at {}; `tokenmeter serve` makes it, and --database names another",
                database.display()
            ))
        }
        error => Failure::Failed(error.to_string()),
    })
}
