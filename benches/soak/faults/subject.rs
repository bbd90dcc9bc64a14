//! The program that is watched: started, killed, asked and looked at from outside.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::says::{INPUT_NANOS, OUTPUT_NANOS};
use super::wire::PATIENCE;

const TOKEN: &str = "a-token-for-soaks-0123456789";

/// What tokenmeter waits for at most, so that stalls end while one looks. Much longer than anything takes that is not
/// meant to.
const SILENCE: &str = "4s";

/// Kept for this long, so that descriptors come back soon.
const POOL_IDLE: Duration = Duration::from_secs(2);

pub(super) struct Subject {
    home: PathBuf,
    running: Mutex<Running>,
}

struct Running {
    process: Child,
    address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

/// What it has at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// MiB.
    pub(super) pss: f64,
    pub(super) threads: usize,
    pub(super) descriptors: usize,
}

impl Subject {
    pub(super) fn start(home: &Path, upstream: SocketAddr) -> Subject {
        let upstream = |name: &str, more: &str| {
            format!("[upstreams.{name}]\nbase_url = \"http://{upstream}\"\n{more}")
        };
        let config = format!(
            "listen = \"127.0.0.1:0\"\nlog = \"error\"\npricing = \"prices.toml\"\ndefault_upstream = \"up\"\n\
             [timeouts]\nresponse_head = \"{SILENCE}\"\nidle = \"{SILENCE}\"\npool_idle = \"{}s\"\n{}{}{}",
            POOL_IDLE.as_secs(),
            upstream("up", ""),
            upstream("anthropic", ""),
            upstream("drained", "on_disconnect = \"drain\"\ndrain_seconds = 5\n"),
        );
        fs::write(home.join("tokenmeter.toml"), config).unwrap();
        write_prices(home, "");
        let running = Mutex::new(spawn(home));
        Subject { home: home.to_owned(), running }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.running().address
    }

    pub(super) fn database(&self) -> PathBuf {
        self.home.join("tokenmeter.db")
    }

    /// Kills it and starts another, at another address.
    pub(super) fn kill(&self) {
        let mut running = self.running();
        running.process.kill().unwrap();
        running.process.wait().unwrap();
        *running = spawn(&self.home);
    }

    fn signal(&self, name: &str) {
        let id = self.running().process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub(super) fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// True if it stopped in good order.
    pub(super) fn stop(&self) -> bool {
        self.signal("-TERM");
        self.running().process.wait().unwrap().success()
    }

    /// Writes the price table again: as it was, or broken.
    pub(super) fn change_prices(&self, is_good: bool) {
        let more =
            if is_good { format!("# {}\n", fastrand::u64(..)) } else { "broken = \n".into() };
        write_prices(&self.home, &more);
    }

    /// The status and the body of a page of its own.
    pub(super) fn ask(&self, method: &str, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: chaos\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok((status, body.to_owned()))
    }

    fn figure(&self, page: &str, name: &str) -> Option<i64> {
        let (_, body) = self.ask("GET", page).ok()?;
        let said: serde_json::Value = serde_json::from_str(&body).ok()?;
        said[name].as_i64()
    }

    /// No call is open, and all of them are in the database.
    pub(super) fn is_idle(&self) -> bool {
        self.figure("/admin/live", "open_calls") == Some(0)
            && self.figure("/readyz", "journal_lag_bytes") == Some(0)
            && self.figure("/readyz", "waiting_lines") == Some(0)
            && self.gauge() == Some(0)
    }

    /// Open calls as `/metrics` counts them.
    fn gauge(&self) -> Option<i64> {
        let (_, text) = self.ask("GET", "/metrics").ok()?;
        let of = text.lines().filter_map(|line| line.strip_prefix("tokenmeter_open_calls"));
        of.map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
    }

    pub(super) fn look(&self) -> Sample {
        let id = self.running().process.id();
        let of = |name: &str| format!("/proc/{id}/{name}");
        let rollup = fs::read_to_string(of("smaps_rollup")).unwrap();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        let kibibytes: f64 = pss.split_whitespace().next().unwrap().parse().unwrap();
        let count = |name: &str| fs::read_dir(of(name)).unwrap().count();
        // Each day has a file of the journal, and the night may fall.
        let days = fs::read_dir(self.home.join("journal")).unwrap().count();
        let descriptors = count("fd").saturating_sub(days);
        Sample { pss: kibibytes / 1024.0, threads: count("task"), descriptors }
    }

    /// Waits until nothing is left of the load; what it has then, and whether that came about in time.
    pub(super) fn settled(&self, before: Option<&Sample>) -> (Sample, bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            std::thread::sleep(POOL_IDLE);
            let is_idle = self.is_idle();
            let sample = self.look();
            let is_back = before.is_none_or(|before| {
                sample.descriptors <= before.descriptors && sample.threads <= before.threads
            });
            if is_idle && is_back || Instant::now() > deadline {
                return (sample, is_idle);
            }
        }
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.join("log")).unwrap()).into_owned()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let mut running = self.running();
        // Gone already, where all went as it should.
        let _ = running.process.kill();
        let _ = running.process.wait();
    }
}

fn write_prices(home: &Path, more: &str) {
    let dollars = |nanos: u64| format!("{}.{:03}", nanos / 1000, nanos % 1000);
    let entry = |provider: &str| {
        format!(
            "[prices.{provider}]\nchaos-1 = {{ input = {}, output = {} }}\n",
            dollars(INPUT_NANOS),
            dollars(OUTPUT_NANOS)
        )
    };
    let entries = ["up", "anthropic", "drained"].map(entry).concat();
    let text = format!("version = 1\n{more}[default]\nenabled = false\n{entries}");
    fs::write(home.join("prices.new"), text).unwrap();
    fs::rename(home.join("prices.new"), home.join("prices.toml")).unwrap();
}

fn spawn(home: &Path) -> Running {
    let log = File::options().append(true).create(true).open(home.join("log")).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(["serve", "--config", "tokenmeter.toml"])
        .current_dir(home)
        .env("TOKENMETER_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    // Kept, so that the rest of what it says has a reader.
    Running { process, address, _stdout: stdout }
}
