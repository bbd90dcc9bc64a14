//! A proxy in this process between raw sockets: the test plays the client and the provider, byte by
//! byte. Reads have a deadline, so that what hangs fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokenmeter::app::App;
use tokenmeter::config::{Config, Flags};
use tokio::sync::Notify;

/// Longer than anything takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What counts as a stall: long enough for a busy machine, and a wrong guess only makes a test pass.
const STALL: Duration = Duration::from_millis(500);

/// Where a proxy sends calls and how it is configured, in TOML.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    global: String,
    upstreams: String,
}

impl Settings {
    /// Sends everything to one upstream, named `up`.
    pub(crate) fn to(base_url: impl std::fmt::Display) -> Settings {
        Settings::default().upstream("up", base_url, "")
    }

    pub(crate) fn upstream(
        mut self,
        name: &str,
        base_url: impl std::fmt::Display,
        keys: &str,
    ) -> Settings {
        let section = format!("[upstreams.{name}]\nbase_url = \"{base_url}\"\n{keys}\n");
        self.upstreams.push_str(&section);
        self
    }

    /// Adds lines about the whole, or about the upstream named last.
    pub(crate) fn with(mut self, lines: &str) -> Settings {
        self.global.push_str(lines);
        self.global.push('\n');
        self
    }

    pub(crate) fn start(self) -> Proxy {
        Proxy::start(&self, |_| {})
    }

    /// Starts on a database that has been filled before.
    pub(crate) fn start_on(self, fill: impl FnOnce(&Path)) -> Proxy {
        Proxy::start(&self, fill)
    }
}

/// A running proxy. Stopped and waited for when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// The same, unless the operator has one of their own.
    pub(crate) admin_address: SocketAddr,
    directory: TempDir,
    stop: Arc<Notify>,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Proxy {
    pub(crate) fn to(upstream: &Provider) -> Proxy {
        Settings::to(upstream.url()).start()
    }

    fn start(settings: &Settings, fill: impl FnOnce(&Path)) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let mut text = String::from("listen = \"127.0.0.1:0\"\nworkers = 1\n");
        if !settings.global.contains("default_upstream") {
            text.push_str("default_upstream = \"up\"\n");
        }
        let database = directory.path().join("tokenmeter.db");
        writeln!(text, "database = \"{}\"", database.display()).unwrap();
        text.push_str(&settings.global);
        text.push_str(&settings.upstreams);
        let files = |path: &Path| match path.to_str() {
            Some("tokenmeter.toml") => Ok(text.clone().into_bytes()),
            _ => std::fs::read(path),
        };
        let config = Config::from_sources(&Flags::default(), &BTreeMap::new(), &files).unwrap();
        fill(&database);
        let app = App::build(&config).unwrap();
        let (address, admin_address) = (app.address().unwrap(), app.admin_address().unwrap());
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(app.run(|| stopped.notified()))
        });
        Proxy { address, admin_address, directory, stop, running: Some(running) }
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::new(TcpStream::connect(self.address).unwrap())
    }

    /// Like the first SIGTERM; the second time, like the second.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until `run` has returned.
    pub(crate) fn join(&mut self) {
        let running = self.running.take().unwrap();
        running.join().expect("the proxy panicked").unwrap();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_finished())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("tokenmeter.db")
    }

    pub(crate) fn connect_to_admin(&self) -> Conn {
        Conn::new(TcpStream::connect(self.admin_address).unwrap())
    }

    /// Of the admin API.
    pub(crate) fn token(&self) -> String {
        let file = self.directory.path().join("tokenmeter.token");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// The journal's directory.
    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// The closing lines of the journal.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.lines("close")
    }

    /// The lines of the journal that put a better estimate in a row's place.
    pub(crate) fn amended(&self) -> Vec<Value> {
        self.lines("amend")
    }

    /// The opening lines of the journal.
    pub(crate) fn opened(&self) -> Vec<Value> {
        self.lines("open")
    }

    fn lines(&self, kind: &str) -> Vec<Value> {
        let Ok(files) = std::fs::read_dir(self.journal()) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        let text: String =
            paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n') && !line.trim().is_empty())
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|mut line| line.get_mut(kind).map(Value::take))
            .collect()
    }

    /// The rows, as soon as there are that many.
    pub(crate) fn wait_for_rows(&self, count: usize) -> Vec<Value> {
        let mut rows = Vec::new();
        eventually(&format!("{count} rows"), || {
            rows = self.rows();
            rows.len() >= count
        });
        assert_eq!(rows.len(), count, "{rows:?}");
        rows
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.notify_one();
        let Some(running) = self.running.take() else { return };
        // Whatever is still open belongs to a test that is over.
        while !running.is_finished() {
            self.stop.notify_one();
            thread::park_timeout(Duration::from_millis(1));
        }
        assert!(running.join().is_ok() || thread::panicking(), "the proxy panicked");
    }
}

/// Waits for something that has no event to wait for.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// The raw listener that plays the provider.
pub(crate) struct Provider(TcpListener);

impl Provider {
    pub(crate) fn new() -> Provider {
        Provider(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.authority())
    }

    pub(crate) fn authority(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    pub(crate) fn accept(&self) -> Conn {
        let mut accepted = None;
        eventually("a connection to the provider", || {
            accepted = self.try_accept();
            accepted.is_some()
        });
        accepted.unwrap()
    }

    /// A connection that waits to be accepted.
    pub(crate) fn try_accept(&self) -> Option<Conn> {
        self.0.set_nonblocking(true).unwrap();
        let (stream, _) = self.0.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        Some(Conn::new(stream))
    }

    /// True if nobody waits to be accepted.
    pub(crate) fn is_untouched(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.accept().is_err()
    }
}

/// A listener whose queue is full: who connects hears nothing.
pub(crate) struct Unreachable {
    listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl Unreachable {
    pub(crate) fn new() -> Unreachable {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = socket().unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let waiting = socket().unwrap();
            waiting.set_nonblocking(true).unwrap();
            let _ = waiting.connect(&address);
            waiting
        });
        let waiting = waiting.collect();
        Unreachable { listener, _waiting: waiting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap().as_socket().unwrap())
    }
}

/// One end of a connection, read with a buffer.
pub(crate) struct Conn {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Conn {
    pub(crate) fn new(stream: TcpStream) -> Conn {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Conn { stream, read: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16384];
        let count = self.stream.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Everything through the first `end`.
    pub(crate) fn read_through(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|bytes| bytes == end.as_bytes());
            if let Some(at) = found {
                return latin1(&self.read.drain(..at + end.len()).collect::<Vec<_>>());
            }
            let count = self.fill();
            let so_far = latin1(&self.read);
            assert_ne!(count.expect(&so_far), 0, "closed before {end:?}: {so_far:?}");
        }
    }

    /// A message's head, with the empty line. A byte is a character, whatever it is.
    pub(crate) fn head(&mut self) -> String {
        self.read_through("\r\n\r\n")
    }

    pub(crate) fn take_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            let filled = self.fill();
            assert!(matches!(filled, Ok(1..)), "{filled:?} after {:?}", latin1(&self.read));
        }
        self.read.drain(..count).collect()
    }

    pub(crate) fn take(&mut self, count: usize) -> String {
        latin1(&self.take_bytes(count))
    }

    /// The head and the body of an answer of known length.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        (head, self.take(length))
    }

    /// Takes exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: &str) {
        assert_eq!(self.take(bytes.chars().count()), bytes);
    }

    /// Everything until the other side closes. A reset counts as a close.
    pub(crate) fn rest(&mut self) -> String {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {:?}", latin1(&self.read)),
            }
        }
        latin1(&std::mem::take(&mut self.read))
    }

    /// Everything until this end, or until the other side closes without it.
    pub(crate) fn rest_or(&mut self, end: &str) -> String {
        while !self.read.ends_with(end.as_bytes()) {
            match self.fill() {
                Ok(1..) => {}
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {} bytes", self.read.len()),
            }
        }
        latin1(&std::mem::take(&mut self.read))
    }

    pub(crate) fn expect_closed(&mut self) {
        assert_eq!(self.rest(), "");
    }

    /// True if nothing has come that was not taken.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let filled = self.fill();
        self.stream.set_nonblocking(false).unwrap();
        self.read.is_empty() && filled.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Says that nothing more comes, if there is anybody left to hear it.
    pub(crate) fn close_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends all, or as much as the other side lets in before it closes.
    pub(crate) fn send_all_or_fail(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The same; false if the other side has closed.
    pub(crate) fn send_or_hear(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// This many bytes at most; nothing if the other side has closed.
    pub(crate) fn take_or_end(&mut self, most: usize) -> Option<String> {
        if self.read.is_empty() && !matches!(self.fill(), Ok(1..)) {
            return None;
        }
        let count = most.min(self.read.len());
        Some(latin1(&self.read.drain(..count).collect::<Vec<_>>()))
    }

    /// Sends zeros until the other side has taken none for a while, or until `limit`; says how many.
    pub(crate) fn send_until_stalled(&mut self, limit: usize) -> usize {
        self.stream.set_write_timeout(Some(STALL)).unwrap();
        let zeros = vec![0; 1 << 18];
        let mut sent = 0;
        while sent < limit {
            match self.stream.write(&zeros) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock), "{error}");
                    break;
                }
            }
        }
        sent
    }

    /// The sending end in another hand, for a thread of its own.
    pub(crate) fn other_hand(&self) -> Conn {
        Conn::new(self.stream.try_clone().unwrap())
    }
}

/// Bytes as the characters of the same number, so that nothing is lost.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The other way.
pub(crate) fn bytes_of(latin1: &str) -> Vec<u8> {
    latin1.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

/// The lines of a head without those whose names are given (in lower case), in order.
pub(crate) fn lines_without(head: &str, names: &[&str]) -> Vec<String> {
    let is_one_of = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        names.contains(&name.as_str())
    };
    head.split("\r\n")
        .filter(|line| !line.is_empty() && !is_one_of(line))
        .map(str::to_owned)
        .collect()
}

/// The value of a field, `None` where it is absent.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}
