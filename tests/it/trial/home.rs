//! Where a trial's ledger lives, and the process that serves it. Owns starting and ending; a process is
//! ended by its own id and never outlives its handle.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::calls::{INPUT_NANOS, OUTPUT_NANOS};
use super::{Provider, ask, wait_until};

pub(crate) const TOKEN: &str = "a-token-for-trials-0123456789";

/// A directory with a configuration, a price table and a ledger.
pub(crate) struct Home {
    directory: TempDir,
    upstream: SocketAddr,
    setup: Setup,
}

/// How the process is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Put before the program: something that replaces itself by what follows.
    pub(crate) through: Vec<String>,
}

/// A process that listens.
pub(crate) struct Running {
    process: Child,
    pub(crate) address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

/// A process that did not start.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new(provider: &Provider) -> Home {
        Home::with(provider, Setup::default())
    }

    pub(crate) fn with(provider: &Provider, setup: Setup) -> Home {
        Home::before(provider.address, setup)
    }

    /// Sends calls to whoever listens there.
    pub(crate) fn before(upstream: SocketAddr, setup: Setup) -> Home {
        let directory = tempfile::tempdir().unwrap();
        let dollars = |nanos: i64| format!("{}.{:03}", nanos / 1000, nanos % 1000);
        let prices = format!(
            "version = 1\n[default]\nenabled = false\n[prices.up]\ntrial-1 = {{ input = {}, output = {} }}\n",
            dollars(INPUT_NANOS),
            dollars(OUTPUT_NANOS)
        );
        fs::write(directory.path().join("prices.toml"), prices).unwrap();
        fs::create_dir(directory.path().join("ledger")).unwrap();
        let home = Home { directory, upstream, setup };
        home.configure("");
        home
    }

    /// Writes the configuration, with these lines in it.
    pub(crate) fn configure(&self, more: &str) {
        let prices = self.directory.path().join("prices.toml");
        let config = format!(
            "listen = \"127.0.0.1:0\"\nworkers = 2\ndefault_upstream = \"up\"\npricing = \"{}\"\n\
             {more}\n[upstreams.up]\nbase_url = \"http://{}\"\n",
            prices.display(),
            self.upstream,
        );
        fs::write(self.directory.path().join("tokenmeter.toml"), config).unwrap();
    }

    /// The place of everything.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The place of the ledger, with nothing else in it.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.ledger().join("tokenmeter.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.ledger().join("journal")
    }

    /// The journal's files, oldest first.
    pub(crate) fn days(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        let mut days: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|found| found == "jsonl")).collect();
        days.sort();
        days
    }

    /// What all processes on this ledger have written to stderr.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Starts a process and does not wait for it.
    pub(crate) fn spawn(&self) -> Child {
        self.command(&self.database()).spawn().unwrap()
    }

    /// Starts a process and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        self.try_start().unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    pub(crate) fn try_start(&self) -> Result<Running, Refused> {
        self.try_start_on(&self.database())
    }

    pub(crate) fn try_start_on(&self, database: &Path) -> Result<Running, Refused> {
        let before = self.log().len();
        let mut process = self.command(database).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim_end().strip_prefix("tokenmeter listens on http://") else {
            stdout.read_to_string(&mut line).unwrap();
            let code = process.wait().unwrap().code();
            return Err(Refused { code, stderr: self.log().split_off(before) });
        };
        // Kept, so that the rest of what it says has a reader.
        Ok(Running { process, address: address.parse().unwrap(), _stdout: stdout })
    }

    fn command(&self, database: &Path) -> Command {
        let program = env!("CARGO_BIN_EXE_tokenmeter").to_owned();
        let mut words = self.setup.through.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap());
        let log = self.directory.path().join("log");
        let log = File::options().append(true).create(true).open(log).unwrap();
        command
            .args(words)
            .args(["serve", "--config"])
            .arg(self.directory.path().join("tokenmeter.toml"))
            .arg("--database")
            .arg(database)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TOKENMETER_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("the last of its log:");
            last.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.ask_to_stop();
        let mut ended = None;
        wait_until("the process ends", || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// What `/readyz` says.
    pub(crate) fn ready(&self) -> (u16, Value) {
        let (status, body) = ask(self.address, "/readyz").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Waits until `/readyz` says that all is well; answers how long it took.
    pub(crate) fn wait_ready(&self) -> Duration {
        wait_until("ready", || self.ready().0 == 200)
    }

    /// Waits until `/readyz` says that something is wrong, and answers what.
    pub(crate) fn wait_unready(&self) -> Value {
        let mut said = Value::Null;
        wait_until("not ready", || {
            let (status, body) = self.ready();
            said = body;
            status == 503
        });
        said
    }

    /// Waits until no call is open: that a client has left is noticed a moment later.
    pub(crate) fn wait_idle(&self) -> Duration {
        wait_until("idle", || {
            let Ok((200, body)) = ask(self.address, "/admin/live") else { return false };
            let live: Value = serde_json::from_str(&body).unwrap();
            live["open_calls"] == 0
        })
    }

    /// Waits until all that has closed is in the database.
    pub(crate) fn wait_settled(&self) -> Duration {
        wait_until("settled", || {
            let (status, body) = self.ready();
            status == 200 && body["journal_lag_bytes"] == 0 && body["waiting_lines"] == 0
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, where a trial went as it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
