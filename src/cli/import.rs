//! `tokenmeter import`: exports and journals into a ledger.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::Bar;
use super::sheet::for_people;
use super::{Failure, LedgerArgs, complain, print};
use crate::archive::{Entry, Reader, Unreadable, place};
use crate::config;
use crate::ledger::{self, Import, ImportError, Imported};

/// Unreadable lines that are shown; the others are counted.
const SHOWN: u64 = 20;

/// What is read of a file at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Stands for stdin.
const STDIN: &str = "-";

/// Add the calls of exports and journals to the ledger
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Exports (CSV or JSON lines) and files of a journal, in this order; - is stdin
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub ledger: LedgerArgs,

    /// Say what would be added, and add nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Add calls that a journal says began, and not how they ended, as `interrupted`
    #[arg(long)]
    pub interrupted: bool,
}

/// Adds what can be read, and fails in the end if something could not: to do it again changes nothing
/// but what was mended.
pub(super) fn run(args: &ImportArgs) -> Result<String, Failure> {
    let database = config::database(&args.ledger.flags());
    let database = database.map_err(|error| Failure::Failed(error.to_string()))?;
    if args.interrupted && ledger::is_served(&database) {
        let why =
            "a tokenmeter is recording into this ledger, and its calls may go on; stop it first";
        return Err(Failure::Failed(format!("--interrupted: {why}")));
    }
    let total = look_at_all(&args.files)?;
    let import = if args.dry_run { Import::rehearse(&database) } else { Import::open(&database) };
    let import = import.map_err(|error| Failure::Failed(error.to_string()))?;
    let mut taking = Taking { import, bar: Bar::of_bytes(total), unreadable: 0 };
    for path in &args.files {
        if let Err(why) = taking.file(path) {
            let added = for_people(&taking.import.so_far().added.into());
            let again = "to import again goes on from there";
            let why = format!("{why}\n{added} calls were added before that; {again}");
            return Err(Failure::Failed(why));
        }
    }
    let Taking { import, bar, unreadable } = taking;
    let imported = import.finish(args.interrupted);
    drop(bar);
    let imported =
        imported.map_err(|error| Failure::Failed(ImportError::Database(error).to_string()))?;
    let summary = summary(imported, args);
    if unreadable == 0 {
        return Ok(summary);
    }
    print(&summary)?;
    let lines = for_people(&unreadable.into());
    Err(Failure::Failed(format!(
        "{lines} rows or lines could not be read; mend them and import again, which adds only those"
    )))
}

/// Makes sure that every file is one of ours before the first is taken; how long they are together,
/// where that can be known.
fn look_at_all(files: &[PathBuf]) -> Result<Option<u64>, Failure> {
    let (mut total, mut wrong) = (Some(0), Vec::new());
    for path in files {
        if path.as_os_str() == STDIN {
            total = None;
            continue;
        }
        let looked = open(path).and_then(|file| {
            let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
            Reader::open(BufReader::new(file)).map_err(|error| error.to_string())?;
            Ok(length)
        });
        match looked {
            Ok(length) => total = total.map(|total: u64| total + length),
            Err(why) => wrong.push(format!("{}: {why}", path.display())),
        }
    }
    if files.iter().filter(|path| path.as_os_str() == STDIN).count() > 1 {
        return Err(Failure::Usage("stdin can be read once".to_owned()));
    }
    if wrong.is_empty() {
        return Ok(total);
    }
    wrong.push("nothing was imported".to_owned());
    Err(Failure::Failed(wrong.join("\n")))
}

fn open(path: &Path) -> Result<Box<dyn Read>, String> {
    if path.as_os_str() == STDIN {
        return Ok(Box::new(io::stdin()));
    }
    File::open(path).map(|file| Box::new(file) as Box<dyn Read>).map_err(|error| error.to_string())
}

/// The files on their way.
struct Taking {
    import: Import,
    bar: Bar,
    unreadable: u64,
}

impl Taking {
    /// Fails where going on makes no sense.
    fn file(&mut self, path: &Path) -> Result<(), String> {
        let name = if path.as_os_str() == STDIN { "stdin".into() } else { path.to_string_lossy() };
        let named = |why: &dyn std::fmt::Display| format!("{name}: {why}");
        let file = self.bar.watch(open(path).map_err(|why| named(&why))?);
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut file = Reader::open(file).map_err(|error| named(&error))?;
        while let Some(entry) = file.read().map_err(|error| named(&error))? {
            let taken = match entry {
                Ok(Entry::Row(record)) => self.import.row(*record).map_err(ImportError::from),
                Ok(Entry::Journal(line)) => self.import.line(&line),
                Err(Unreadable { line, why }) => {
                    self.complain_of(&name, line, &why);
                    continue;
                }
            };
            match taken {
                Ok(()) => {}
                Err(ImportError::Unreadable(Some(error))) => {
                    self.complain_of(&name, file.line(), &place(&error));
                }
                Err(nothing @ ImportError::Unreadable(None)) => {
                    self.complain_of(&name, file.line(), &nothing.to_string());
                }
                Err(error) => return Err(named(&error)),
            }
        }
        Ok(())
    }

    fn complain_of(&mut self, name: &str, line: u64, why: &str) {
        self.unreadable += 1;
        self.bar.aside(|| match self.unreadable {
            ..=SHOWN => complain(&format!("{name}:{line}: {}", for_people(&why.into()))),
            count if count == SHOWN + 1 => complain("more cannot be read; the rest is counted"),
            _ => {}
        });
    }
}

fn summary(imported: Imported, args: &ImportArgs) -> String {
    let Imported { added, present, too_old, unfinished, learned } = imported;
    let number = |count: u64| for_people(&count.into());
    let verb = if args.dry_run { "would be added" } else { "added" };
    let mut out =
        format!("{} calls {verb}, {} were there already\n", number(added), number(present));
    if too_old > 0 {
        let count = number(too_old);
        writeln!(out, "{count} calls are older than this ledger keeps rows (retention_days)")
            .expect("a string takes it");
    }
    if unfinished > 0 {
        let what = if args.interrupted {
            "are among them as interrupted"
        } else {
            "were left out; --interrupted adds them"
        };
        let count = number(unfinished);
        writeln!(out, "{count} calls that began, and whose end is not known, {what}")
            .expect("a String takes all");
    }
    if learned > 0 {
        let count = number(learned);
        writeln!(out, "{count} lines about what estimates have learned were left out")
            .expect("a String takes all");
    }
    out
}
