//! `tokenmeter report`: the totals, trends and tables of a window as a file to send on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::draft::Draft;
use super::export::refuse_ledger;
use super::filters::{FilterArgs, WindowArgs};
use super::source::{self, Source};
use super::{Failure, Query, SourceArgs, complain};
use crate::admin::params::moment;
use crate::ledger::GroupKey;
use crate::report::{self, Asked, Broken, Found, Report, Window, Wish};
use crate::units::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// A report to send on, as a page or a PDF
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    pub source: SourceArgs,

    /// This month, such as 2026-10 [default: the last month that is over]
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["days", "since", "until"],
          help_heading = "Window")]
    pub month: Option<String>,

    #[command(flatten)]
    pub window: WindowArgs,

    #[command(flatten)]
    pub filters: FilterArgs,

    /// Tables by these: user, session, operation, model, provider, metadata.NAME, … [default: what
    /// tells calls apart]
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub by: Vec<GroupKey>,

    /// What it is called
    #[arg(long, value_name = "TITLE")]
    pub title: Option<String>,

    /// Write to this file, FILE.html or FILE.pdf [default: HTML to stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Pdf,
}

/// What was written, or the page itself.
pub(super) fn run(args: &ReportArgs) -> Result<String, Failure> {
    let path = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let form = path.map_or(Ok(Form::Html), form)?;
    if let Some(path) = path {
        refuse_ledger(path, &args.source)?;
    }
    let (report, found) = make(args, Timestamp::now())?;
    for (what, since) in &found.rows_since {
        complain(&format!(
            "rows before {since} have been deleted (retention_days), and {what} would need some"
        ));
    }
    let bytes = match form {
        Form::Html => report::html(&report).into_bytes(),
        Form::Pdf => pdf(&report)?,
    };
    let Some(path) = path else {
        return String::from_utf8(bytes).map_err(|error| Failure::Failed(error.to_string()));
    };
    let named = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let mut draft = Draft::of(path).map_err(named)?;
    draft.write_all(&bytes).map_err(named)?;
    draft.publish().map_err(named)?;
    let figure = |name: &str| {
        let card = report.cards.iter().find(|card| card.name == name);
        card.map_or("", |card| card.figure.shown.as_str())
    };
    let (window, cost, calls) = (&report.window, figure("Cost"), figure("Calls"));
    Ok(format!("{}: {window}, {calls} calls, cost {cost}\n", path.display()))
}

/// By the end of its name.
fn form(path: &Path) -> Result<Form, Failure> {
    let extension = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("html" | "htm") => Ok(Form::Html),
        Some("pdf") if cfg!(feature = "pdf") => Ok(Form::Pdf),
        Some("pdf") => Err(Failure::Failed(
            "this tokenmeter was built without PDF; build it with `cargo install --path . --features \
             pdf`, or write FILE.html, which a browser prints as PDF"
                .to_owned(),
        )),
        _ => Err(Failure::Usage(format!(
            "--output: a report is FILE.html or FILE.pdf, and {} is neither",
            path.display()
        ))),
    }
}

/// Asks for all that is needed, and puts it into words.
fn make(args: &ReportArgs, now: Timestamp) -> Result<(Report, Found), Failure> {
    let (window, is_open) = window(args, now)?;
    let mut filters = Query::new();
    args.filters.add_to(&mut filters);
    let by = args.by.iter().map(ToString::to_string).collect();
    let mut wish = Wish { window, filters, by, made: now };
    let source = Source::of(&args.source)?;
    let ask = |asked: Asked, pairs: &Query| {
        let asked = match asked {
            Asked::Totals => source::Report::Stats,
            Asked::Calls => source::Report::Usage,
        };
        source.ask(asked, pairs)
    };
    let broken = |broken| match broken {
        Broken::Asking(failure) => failure,
        Broken::Answer(why) => {
            Failure::Failed(format!("an answer is not what it should be: {why}"))
        }
    };
    if is_open {
        let since = report::beginning(&wish, ask).map_err(broken)?;
        wish.window.since = since.unwrap_or(wish.window.since);
    }
    let found = report::gather(&wish, ask).map_err(broken)?;
    Ok((report::say(&wish, &found, args.title.as_deref()), found))
}

/// The window that was typed, and whether it has no beginning.
fn window(args: &ReportArgs, now: Timestamp) -> Result<(Window, bool), Failure> {
    let wrong = |flag: &str, text: &str, expected: &str| {
        Failure::Usage(format!("--{flag}: `{text}` is not {expected}"))
    };
    let WindowArgs { days, since, until, tz } = &args.window;
    let tz = tz.as_deref().unwrap_or("UTC");
    let zone =
        TimeZone::get(tz).map_err(|_| wrong("tz", tz, "a time zone such as Europe/Berlin"))?;
    let beyond = || Failure::Usage("--month: that is beyond the calendar".to_owned());
    if let Some(month) = &args.month {
        let first = Some(month).filter(|month| month.len() == "2026-10".len());
        let first: Option<Date> = first.and_then(|month| format!("{month}-01").parse().ok());
        let first = first.ok_or_else(|| wrong("month", month, "a month such as 2026-10"))?;
        let window = Window::month(first, &zone).ok_or_else(beyond)?;
        return has_begun(window, "month", now).map(|window| (window, false));
    }
    if let Some(days) = days {
        let since = now.millis().saturating_sub(i64::from(*days).saturating_mul(DAY_MS));
        return Ok((Window { since: Timestamp::from_millis(since), until: now, zone }, false));
    }
    if since.is_none() && until.is_none() {
        return Window::last_month(now, &zone).map(|window| (window, false)).ok_or_else(beyond);
    }
    let time = |flag, text: &Option<String>| {
        let expected = "a time such as 2026-11-21T09:30:00Z or a date such as 2026-11-21";
        let read = |text: &String| moment(text, &zone).ok_or_else(|| wrong(flag, text, expected));
        text.as_ref().map(read).transpose()
    };
    let (since, until) = (time("since", since)?, time("until", until)?.unwrap_or(now));
    let is_open = since.is_none();
    let since = since.unwrap_or(Timestamp::from_millis(until.millis() - DAY_MS));
    let window = has_begun(Window { since, until, zone }, "since", now)?;
    if window.since >= window.until {
        let message =
            format!("--until: {} must be later than --since {}", window.until, window.since);
        return Err(Failure::Usage(message));
    }
    Ok((window, is_open))
}

fn has_begun(window: Window, flag: &str, now: Timestamp) -> Result<Window, Failure> {
    if window.since < now {
        return Ok(window);
    }
    Err(Failure::Usage(format!("--{flag}: {} has not begun yet", window.name())))
}

#[cfg(feature = "pdf")]
fn pdf(report: &Report) -> Result<Vec<u8>, Failure> {
    let made = report::pdf(report).map_err(|why| Failure::Failed(format!("typesetting: {why}")))?;
    if made.lacks_glyphs {
        complain(
            "the fonts of PDF reports (Latin, Greek, Cyrillic) lack some letters of the names in it; the \
             HTML report has them",
        );
    }
    Ok(made.bytes)
}

#[cfg(not(feature = "pdf"))]
fn pdf(_: &Report) -> Result<Vec<u8>, Failure> {
    form(Path::new("report.pdf")).map(|_| Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn typed(line: &str) -> Result<(Window, bool), Failure> {
        let line = format!("tokenmeter report {line}");
        let cli = crate::cli::Cli::try_parse_from(line.split_whitespace()).unwrap();
        let crate::cli::Command::Report(args) = cli.command else { panic!("not report") };
        window(&args, "2026-11-22T09:30:00Z".parse().unwrap())
    }

    #[test]
    fn windows_are_what_was_meant() {
        let cases = [
            ("", "October 2026"),
            ("--month 2026-11 --tz Europe/Berlin", "November 2026"),
            ("--since 2026-11-02 --until 2026-11-09", "2 to 8 November 2026"),
            ("--since 2026-11-02T00:00:00Z", "2 November 2026 00:00 to 22 November 2026 09:30"),
            ("--days 1", "21 November 2026 09:30 to 22 November 2026 09:30"),
        ];
        for (line, name) in cases {
            let (window, is_open) = typed(line).unwrap();
            assert_eq!((window.name(), is_open), (name.to_owned(), false), "{line}");
        }
        assert!(typed("--until 2026-11-01").unwrap().1);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let cases = [
            ("--month October", "--month"),
            ("--month 2026-13", "--month"),
            ("--month 2026-10-01", "--month"),
            ("--month 2026-12", "not begun"),
            ("--since 2027-01-01", "not begun"),
            ("--since 2026-11-02 --until 2026-11-02", "--until"),
            ("--since soon", "--since"),
            ("--tz Atlantis", "--tz"),
        ];
        for (line, part) in cases {
            let failure = typed(line).unwrap_err();
            assert!(matches!(&failure, Failure::Usage(text) if text.contains(part)), "{failure:?}");
        }
        for name in ["report", "report.docx", "dir.html/report"] {
            assert!(matches!(form(Path::new(name)), Err(Failure::Usage(_))), "{name}");
        }
        assert_eq!(form(Path::new("Report.HTML")), Ok(Form::Html));
    }
}
