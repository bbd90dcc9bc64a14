//! A journal that cannot be written: what becomes of calls, what is said of it, and how it ends. The
//! faults are real ones: a file in the journal's place, a limit on the size of files, a file that cannot
//! be brought to the disk.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokenmeter::ledger::{Filter, Reader};
use tokenmeter::record::{Outcome, Record};

use super::rig::{Conn, PATIENCE, Provider, Proxy, Settings, eventually, field};

const CLOSING: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
const REFUSE: &str = "on_ledger_failure = \"refuse\"";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n")
}

/// The head and body of what tokenmeter says itself.
fn own(address: SocketAddr, path: &str) -> (String, String) {
    let mut client = Conn::new(TcpStream::connect(address).unwrap());
    client.send(get(path));
    let head = client.head();
    let length = field(&head, "content-length").unwrap().parse().unwrap();
    (head, client.take(length))
}

fn readyz(address: SocketAddr) -> Value {
    serde_json::from_str(&own(address, "/readyz").1).unwrap()
}

/// The figure of a series of `/metrics`, which must be open.
fn metric(address: SocketAddr, name: &str) -> u64 {
    let (_, text) = own(address, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn is_ready(address: SocketAddr) -> bool {
    readyz(address)["status"] == "ready"
}

/// A call that goes through.
fn pass(address: SocketAddr, provider: &Provider, path: &str) {
    let mut client = Conn::new(TcpStream::connect(address).unwrap());
    client.send(get(path));
    let mut upstream = provider.accept();
    let head = upstream.head();
    assert!(head.starts_with(&format!("GET {path} ")), "{head}");
    upstream.send(CLOSING);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.expect("hi");
}

/// A call that is refused, and of which the provider hears nothing.
fn refused(address: SocketAddr, provider: &Provider, path: &str) -> Value {
    let (head, body) = own(address, path);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(&head, "x-tokenmeter-error"), Some("ledger_unavailable"));
    assert_eq!(field(&head, "retry-after"), Some("5"));
    let error = serde_json::from_str::<Value>(&body).unwrap()["error"].take();
    assert_eq!(error["code"], "ledger_unavailable");
    assert_eq!(error["type"], "tokenmeter_error");
    assert!(provider.is_untouched());
    error
}

/// Puts a file where the journal's directory was, and gives the way back.
fn break_journal(proxy: &Proxy) -> impl FnOnce() {
    let journal = proxy.journal();
    let aside = journal.with_file_name("aside");
    std::fs::rename(&journal, &aside).unwrap();
    std::fs::write(&journal, "").unwrap();
    move || {
        std::fs::remove_file(&journal).unwrap();
        std::fs::rename(&aside, &journal).unwrap();
    }
}

#[test]
fn calls_are_refused_while_they_cannot_be_recorded_and_pass_again_without_a_call() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with(REFUSE).start();
    let mend = break_journal(&proxy);
    // The first one finds out, and is refused itself.
    for path in ["/1", "/2"] {
        let error = refused(proxy.address, &provider, path);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("was not sent") && message.contains("journal"), "{message}");
        assert!(!message.contains(proxy.journal().to_str().unwrap()), "{message}");
    }
    let state = readyz(proxy.address);
    assert_eq!(state["status"], "not_ready");
    assert_eq!(state["problems"][0]["word"], "journal_unwritable");
    assert_eq!((&state["refusing_calls"], &state["waiting_lines"]), (&true.into(), &0.into()));
    mend();
    eventually("ready again, though nobody calls", || is_ready(proxy.address));
    assert_eq!(readyz(proxy.address)["refusing_calls"], false);
    pass(proxy.address, &provider, "/3");
    assert_eq!(proxy.wait_for_rows(1)[0]["path"], "/3");
    assert_eq!(proxy.opened().len(), 1);
}

#[test]
fn a_journal_that_is_taken_away_while_it_is_open_is_noticed() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with(REFUSE).start();
    pass(proxy.address, &provider, "/1");
    let mend = break_journal(&proxy);
    // Until it is noticed the open file takes the lines, and they are read from there.
    let mut taken = 1;
    eventually("a refusal", || {
        let mut client = proxy.connect();
        client.send(get("/more"));
        let mut upstream = None;
        eventually("an answer of either", || {
            upstream = upstream.take().or_else(|| provider.try_accept());
            upstream.is_some() || !client.is_silent()
        });
        let Some(mut upstream) = upstream else { return true };
        upstream.head();
        upstream.send(CLOSING);
        client.head();
        taken += 1;
        thread::sleep(Duration::from_millis(20));
        false
    });
    mend();
    eventually("ready again", || is_ready(proxy.address));
    pass(proxy.address, &provider, "/last");
    let database = proxy.journal().with_file_name("tokenmeter.db");
    eventually("all rows", || records(&database).len() == taken + 1);
    assert!(records(&database).iter().all(|record| record.outcome == Outcome::Completed));
}

#[test]
fn by_default_calls_pass_and_their_records_wait() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mend = break_journal(&proxy);
    for path in ["/1", "/2", "/3"] {
        pass(proxy.address, &provider, path);
    }
    eventually("all lines wait", || readyz(proxy.address)["waiting_lines"] == 6);
    let state = readyz(proxy.address);
    assert_eq!(state["problems"][0]["word"], "journal_unwritable");
    assert_eq!((&state["refusing_calls"], &state["dropped_lines"]), (&false.into(), &0.into()));
    assert!(state["waiting_bytes"].as_u64().unwrap() > 500);
    mend();
    eventually("ready again", || is_ready(proxy.address));
    assert_eq!(proxy.wait_for_rows(3).len(), 3);
}

#[test]
fn a_locked_database_refuses_nothing() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with(REFUSE).start();
    let database = proxy.journal().with_file_name("tokenmeter.db");
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    pass(proxy.address, &provider, "/1");
    eventually("the fault is seen", || {
        readyz(proxy.address)["problems"][0]["word"] == "database_locked"
    });
    pass(proxy.address, &provider, "/2");
    let state = readyz(proxy.address);
    assert_eq!((&state["refusing_calls"], &state["waiting_lines"]), (&false.into(), &0.into()));
    assert!(state["journal_lag_bytes"].as_u64().unwrap() > 0);
    other.execute_batch("ROLLBACK").unwrap();
    eventually("ready again", || is_ready(proxy.address));
    assert_eq!(records(&database).len(), 2);
}

/// What takes every write and cannot be brought to the disk.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fails_to_sync_is_a_fault_and_what_it_may_have_lost_is_written_again() {
    for mode in ["interval", "call"] {
        let provider = Provider::new();
        let keys = format!("{REFUSE}\njournal_sync = \"{mode}\"");
        let proxy = Settings::to(provider.url()).with(&keys).start();
        let today = jiff::Timestamp::now().strftime("%F");
        let file = proxy.journal().join(format!("{today}.jsonl"));
        std::os::unix::fs::symlink("/dev/null", &file).unwrap();
        // It has been let in, so it ends as ever.
        pass(proxy.address, &provider, "/1");
        eventually("the fault is seen", || readyz(proxy.address)["refusing_calls"] == true);
        let state = readyz(proxy.address);
        assert_eq!(state["problems"][0]["word"], "journal_unwritable");
        assert_eq!(state["waiting_lines"], 2);
        refused(proxy.address, &provider, "/2");
        std::fs::remove_file(&file).unwrap();
        eventually("ready again", || is_ready(proxy.address));
        pass(proxy.address, &provider, "/3");
        let rows = proxy.wait_for_rows(2);
        assert_eq!((&rows[0]["path"], &rows[1]["path"]), (&"/1".into(), &"/3".into()), "{mode}");
        assert_eq!(proxy.opened().len(), 2);
    }
}

#[test]
fn an_answer_ends_when_its_record_is_on_the_disk() {
    let provider = Provider::new();
    let keys = "journal_sync = \"call\"\nmetrics_public = true";
    let proxy = Settings::to(provider.url()).with(keys).start();
    for count in 1..=30 {
        pass(proxy.address, &provider, &format!("/{count}"));
        assert!(metric(proxy.address, "tokenmeter_journal_syncs_total") >= count);
    }
    // An answer without a body ends with its head, and one that is tokenmeter's own is an end as well.
    let mut client = proxy.connect();
    client.send("HEAD /head HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    client.head();
    let synced = metric(proxy.address, "tokenmeter_journal_syncs_total");
    assert!(synced >= 31, "{synced}");
    drop((client, upstream));
    // A stream ends in its time, and what comes before its end does not wait.
    let mut client = proxy.connect();
    client.send(get("/stream"));
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(STREAM);
    client.head();
    client.expect("1\r\na\r\n");
    upstream.send("0\r\n\r\n");
    client.expect("0\r\n\r\n");
    assert!(metric(proxy.address, "tokenmeter_journal_syncs_total") > synced);
}

fn records(database: &Path) -> Vec<Record> {
    let reader = Reader::open(database).unwrap();
    let mut records = reader.usage(&Filter::default(), 1000, None).unwrap().records;
    records.reverse();
    records
}

/// The real program in a process of its own, with limits that can be changed while it runs.
#[cfg(target_os = "linux")]
struct Process {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    log: Receiver<String>,
}

#[cfg(target_os = "linux")]
impl Process {
    fn start(provider: &Provider, keys: &str) -> Process {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let database = directory.path().join("tokenmeter.db");
        let text = format!(
            "listen = \"127.0.0.1:0\"\nworkers = 1\ndefault_upstream = \"up\"\ndatabase = \"{}\"\n\
             {keys}\n[upstreams.up]\nbase_url = \"{}\"\n",
            database.display(),
            provider.url()
        );
        std::fs::write(&config, text).unwrap();
        // The limit's signal would end the process, where a full disk only gives an error.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_tokenmeter"))
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = banner.next().unwrap().unwrap();
        let address = first.rsplit('/').next().unwrap().parse().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (said, log) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            said.send(text)
        });
        Process { child, address, directory, log }
    }

    /// From now on no file grows beyond so many bytes.
    fn limit_files(&self, limit: &str) {
        let pid = self.child.id().to_string();
        let limit = format!("--fsize={limit}:");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(set.expect("prlimit, of util-linux").success());
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("tokenmeter.db")
    }

    /// Asks it to stop, waits for that, and gives its log.
    fn stop(&mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        self.log.recv_timeout(PATIENCE).unwrap()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_lets_a_call_in_flight_end_refuses_new_ones_and_loses_nothing() {
    let provider = Provider::new();
    let mut process = Process::start(&provider, REFUSE);
    let address = process.address;
    pass(address, &provider, "/1");
    let mut client = Conn::new(TcpStream::connect(address).unwrap());
    client.send(get("/2"));
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(STREAM);
    client.head();
    client.expect("1\r\na\r\n");

    process.limit_files("1");
    refused(address, &provider, "/3");
    upstream.send("0\r\n\r\n");
    client.expect("0\r\n\r\n");
    eventually("its record waits", || readyz(address)["waiting_lines"] == 1);
    let error = refused(address, &provider, "/4");
    assert!(error["message"].as_str().unwrap().contains("File too large"), "{error}");
    assert_eq!(readyz(address)["refusing_calls"], true);

    process.limit_files("unlimited");
    eventually("ready again, though nobody calls", || is_ready(address));
    drop((client, upstream));
    pass(address, &provider, "/5");
    let log = process.stop();
    assert!(log.contains("cannot write the journal") && log.contains("can be written again"));
    assert!(!log.contains("RECORDS LOST"), "{log}");
    let records = records(&process.database());
    let told: Vec<_> = records.iter().map(|one| (one.path.as_str(), one.outcome)).collect();
    let completed = Outcome::Completed;
    assert_eq!(told, [("/1", completed), ("/2", completed), ("/5", completed)]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_waits_in_memory_when_the_process_ends_is_counted_in_its_last_words() {
    let provider = Provider::new();
    let mut process = Process::start(&provider, "");
    pass(process.address, &provider, "/1");
    process.limit_files("1");
    pass(process.address, &provider, "/2");
    pass(process.address, &provider, "/3");
    eventually("the lines wait", || readyz(process.address)["waiting_lines"] == 4);
    let log = process.stop();
    let last = log.lines().find(|line| line.contains("RECORDS LOST")).expect(&log);
    assert!(last.contains("lost=4") && last.contains("waiting=4"), "{last}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_waits_in_memory_is_written_when_the_fault_ends_while_the_process_stops() {
    let provider = Provider::new();
    let mut process = Process::start(&provider, "");
    process.limit_files("1");
    pass(process.address, &provider, "/1");
    eventually("the lines wait", || readyz(process.address)["waiting_lines"] == 2);
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    eventually("it stops", || TcpStream::connect(process.address).is_err());
    process.limit_files("unlimited");
    assert!(process.child.wait().unwrap().success());
    let log = process.log.recv_timeout(PATIENCE).unwrap();
    assert!(!log.contains("RECORDS LOST"), "{log}");
    assert_eq!(records(&process.database()).len(), 1);
}
