//! The real proxy, in this process: built from a configuration as `serve` builds it, on a free port,
//! with a ledger in a directory of its own. Its rows are read when it has stopped, which is when all
//! of them are there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tokenmeter::app::App;
use tokenmeter::config::{Config, Flags};
use tokenmeter::ledger::{Filter, Reader};
use tokenmeter::record::Record;
use tokio::sync::watch;

use super::STUCK;
use super::client::Client;

/// How a proxy is configured.
#[derive(Clone, Debug)]
pub(crate) struct Setup(String);

impl Setup {
    pub(crate) fn new() -> Setup {
        let toml = "listen = \"127.0.0.1:0\"\nworkers = 1\nshutdown_grace = \"10s\"\n";
        Setup(toml.to_owned())
    }

    /// A line before the sections.
    pub(crate) fn with(mut self, line: &str) -> Setup {
        self.0 = format!("{line}\n{}", self.0);
        self
    }

    /// A section of its own at the end.
    pub(crate) fn section(mut self, section: &str) -> Setup {
        writeln!(self.0, "{section}").unwrap();
        self
    }

    /// An upstream at that address whose dialect and prices are those of its name.
    pub(crate) fn upstream(self, name: &str, address: SocketAddr) -> Setup {
        self.section(&format!(
            "[upstreams.{name}]\nbase_url = \"http://{address}\"\nprovider = \"{name}\""
        ))
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    directory: TempDir,
    stop: watch::Sender<u32>,
    serving: JoinHandle<io::Result<()>>,
}

/// What a stopped proxy has left.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Oldest first.
    pub(crate) records: Vec<Record>,
    /// The whole journal.
    pub(crate) journal: String,
}

impl Proxy {
    pub(crate) fn start(setup: Setup) -> Proxy {
        Proxy::start_in(tempfile::tempdir().unwrap(), setup)
    }

    /// Stops, and starts again on the same database.
    pub(crate) fn restart(self, setup: Setup) -> Proxy {
        self.stop.send_replace(1);
        self.serving.join().unwrap().unwrap();
        Proxy::start_in(self.directory, setup)
    }

    fn start_in(directory: TempDir, setup: Setup) -> Proxy {
        let database = directory.path().join("tokenmeter.db");
        let (stop, asked) = watch::channel(0);
        let (listening, address) = channel();
        let serving = thread::spawn(move || {
            let app = App::build(&config(&setup.0, &database)).unwrap();
            listening.send(app.address().unwrap()).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let asked_for = Cell::new(0);
            runtime.block_on(app.run(|| {
                let wanted = asked_for.get() + 1;
                asked_for.set(wanted);
                let mut asked = asked.clone();
                async move {
                    asked.wait_for(|times| *times >= wanted).await.unwrap();
                }
            }))
        });
        let address = address.recv_timeout(STUCK).expect("the proxy starts");
        Proxy { address, directory, stop, serving }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("tokenmeter.db")
    }

    /// The rows that are in the database at this moment, oldest first.
    pub(crate) fn records(&self) -> Vec<Record> {
        rows(&self.database())
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Lets calls in flight finish, and gives the rows.
    pub(crate) fn stop(self) -> Rows {
        self.stop_asking(1)
    }

    /// Cuts off the calls in flight, and gives the rows.
    pub(crate) fn stop_at_once(self) -> Rows {
        self.stop_asking(2)
    }

    /// Accepts no more connections, lets calls in flight finish.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.send_replace(1);
    }

    fn stop_asking(self, times: u32) -> Rows {
        self.stop.send_replace(times);
        let journal = self.directory.path().join("journal");
        self.serving.join().unwrap().unwrap();
        let records = rows(&self.directory.path().join("tokenmeter.db"));
        Rows { records, journal: journal_in(&journal) }
    }

    /// The journal as it stands at this moment.
    pub(crate) fn journal(&self) -> String {
        journal_in(&self.directory.path().join("journal"))
    }
}

impl Rows {
    /// The row of the only call, which the journal opened once and closed once.
    pub(crate) fn only(self) -> Record {
        let lines = |kind: &str| self.journal.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((lines("{\"open\":"), lines("{\"close\":")), (1, 1), "{}", self.journal);
        let [record] = <[Record; 1]>::try_from(self.records).expect("exactly one row");
        record
    }
}

fn config(toml: &str, database: &Path) -> Config {
    let toml = format!("database = {:?}\n{toml}", database.display().to_string());
    let flags = Flags { config: Some("test.toml".into()), ..Flags::default() };
    let files = |path: &Path| match path.to_str() {
        Some("test.toml") => Ok(toml.clone().into_bytes()),
        _ => std::fs::read(path),
    };
    Config::from_sources(&flags, &BTreeMap::new(), &files).unwrap_or_else(|error| panic!("{error}"))
}

fn journal_in(directory: &Path) -> String {
    let mut days: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    days.sort();
    days.iter().map(|day| std::fs::read_to_string(day).unwrap()).collect()
}

fn rows(database: &Path) -> Vec<Record> {
    const PAGE: usize = 1000;
    let reader = Reader::open(database).unwrap();
    let (mut records, mut cursor) = (Vec::new(), None);
    loop {
        let page = reader.usage(&Filter::default(), PAGE, cursor.as_ref()).unwrap();
        records.extend(page.records);
        cursor = page.next_cursor;
        if cursor.is_none() {
            records.reverse();
            return records;
        }
    }
}
