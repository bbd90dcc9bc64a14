//! A tokenmeter with a ledger to look at. Owns the process and its directory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

pub(crate) const DATABASE: &str = "tokenmeter.db";

pub(crate) struct Server {
    process: Child,
    _directory: TempDir,
    /// `http://127.0.0.1:PORT`
    pub(crate) base: String,
    /// Logs in once.
    pub(crate) login: String,
}

/// Runs a command of tokenmeter's to its end.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output = command(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.current_dir(directory).env_clear();
    command
}

impl Server {
    /// With a ledger that `prepare` makes.
    pub(crate) fn start(prepare: impl FnOnce(&Path)) -> Server {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        // A port where nobody listens.
        let config = "[upstreams.nowhere]\nbase_url = \"http://127.0.0.1:1\"\n";
        std::fs::write(directory.path().join("tokenmeter.toml"), config).unwrap();
        let mut process = command(directory.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--database", DATABASE])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let after = |line: &str, mark: &str| line.split_once(mark).map(|(_, rest)| rest.to_owned());
        let base = said.find_map(|line| after(&line, "listens on ")).expect("an address");
        let login = said.find_map(|line| after(&line, "(logs in once): ")).expect("a login link");
        thread::spawn(move || said.for_each(drop));
        Server { process, _directory: directory, base, login }
    }

    /// With a month of made-up calls up to now.
    pub(crate) fn with_demo(calls: u32) -> Server {
        Server::start(|directory| {
            let calls = calls.to_string();
            let demo = ["demo", "--database", DATABASE, "--calls", &calls, "--seed", "5"];
            run(directory, &demo);
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
