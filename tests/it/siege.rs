//! The program as a process of its own between hostile peers: its memory, its rows, and a neighbour who must
//! notice nothing. Owns the provider behind it, which answers as the path says.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::trial::{Home, Running, Setup, wait_until};

/// Longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A neighbour's answer takes milliseconds; on a busy machine, in a debug build, not this long.
const NEIGHBOURLY: Duration = Duration::from_secs(10);

const CHAT: &str = r#"{"id":"c","object":"chat.completion","model":"trial-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hi there."},"finish_reason":"stop"}]"#;
const USAGE: &str = r#","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

/// A request as the provider sees it.
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a str,
    pub(crate) head: &'a str,
    pub(crate) stream: &'a TcpStream,
    /// What has come, with whatever is buffered of the body.
    pub(crate) body: &'a mut dyn BufRead,
}

/// How paths of a theme's own are answered: whether the connection can be used again.
pub(crate) type Answering = dyn Fn(&mut Asked<'_>) -> io::Result<bool> + Send + Sync;

/// The provider. Ends its threads when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    targets: Mutex<Vec<String>>,
    is_over: AtomicBool,
    /// Bytes of large answers that the kernel has taken.
    sent: AtomicU64,
    serving: AtomicUsize,
    answering: Box<Answering>,
}

impl Origin {
    fn start(answering: Box<Answering>) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            is_over: AtomicBool::default(),
            sent: AtomicU64::default(),
            serving: AtomicUsize::default(),
            answering,
        });
        let accepting = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &accepting));
        Origin { address, shared, accepting: Some(accepting) }
    }

    /// The targets of all requests so far, in the order in which they came.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.shared.targets.lock().unwrap().clone()
    }

    /// Bytes of `/big/` answers that were taken from the provider.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Waits until no more of them are taken, and says how many were.
    pub(crate) fn sent_at_last(&self) -> u64 {
        const STALL: Duration = Duration::from_millis(500);
        let mut last = (self.sent(), Instant::now());
        wait_until("the provider is held back", || {
            if self.sent() != last.0 {
                last = (self.sent(), Instant::now());
            }
            last.1.elapsed() > STALL
        });
        last.0
    }

    /// Connections of the proxy's that are open.
    pub(crate) fn connections(&self) -> usize {
        self.shared.serving.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            assert!(accepting.join().is_ok() || thread::panicking(), "the provider panicked");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    loop {
        let (stream, _) = listener.accept().unwrap();
        if shared.is_over.load(Ordering::SeqCst) {
            break;
        }
        serving.retain(|(_, thread)| !thread.is_finished());
        let (handle, shared) = (stream.try_clone().unwrap(), Arc::clone(shared));
        shared.serving.fetch_add(1, Ordering::SeqCst);
        let thread = thread::Builder::new().stack_size(256 << 10).spawn(move || {
            // What breaks here breaks because the other side is gone.
            drop(serve(&stream, &shared));
            let _ = stream.shutdown(Shutdown::Both);
            shared.serving.fetch_sub(1, Ordering::SeqCst);
        });
        serving.push((handle, thread.unwrap()));
    }
    for (stream, thread) in serving {
        let _ = stream.shutdown(Shutdown::Both);
        thread.join().unwrap();
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        shared.targets.lock().unwrap().push(target.clone());
        let asked = &mut Asked { target: &target, head: &head, stream, body: &mut reader };
        if !answer(asked, shared)? {
            return Ok(());
        }
    }
}

/// Whether the connection can be used again.
fn answer(asked: &mut Asked<'_>, shared: &Shared) -> io::Result<bool> {
    let mut out = asked.stream;
    if let Some(size) = asked.target.strip_prefix("/big/") {
        let size: u64 = size.split('/').next().unwrap().parse().unwrap();
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        let zeros = vec![0; 16 << 10];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
            let count = out.write(&zeros[..most])? as u64;
            shared.sent.fetch_add(count, Ordering::SeqCst);
            left -= count;
        }
        return Ok(true);
    }
    if asked.target.starts_with("/hang") {
        // Nothing is read, nothing is said. Gone when the other side is.
        let mut waiting = [0; 1];
        while matches!(asked.stream.peek(&mut waiting), Ok(1))
            && !shared.is_over.load(Ordering::SeqCst)
        {
            thread::park_timeout(Duration::from_millis(20));
        }
        return Ok(false);
    }
    if asked.target != "/v1/chat/completions" {
        return (shared.answering)(asked);
    }
    let body = read_body(asked)?;
    let usage = if body.windows(10).any(|part| part == b"unreported") { "}" } else { USAGE };
    let length = CHAT.len() + usage.len();
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{CHAT}{usage}"
    )?;
    Ok(true)
}

/// A body of known length.
pub(crate) fn read_body(asked: &mut Asked<'_>) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length_of(asked.head).unwrap_or(0)];
    asked.body.read_exact(&mut body)?;
    Ok(body)
}

pub(crate) fn length_of(head: &str) -> Option<usize> {
    super::rig::field(head, "content-length")?.parse().ok()
}

/// The process, its provider, and where it keeps its ledger.
pub(crate) struct Siege {
    // Ended first: its connections keep the provider's threads.
    pub(crate) running: Running,
    pub(crate) origin: Origin,
    pub(crate) home: Home,
}

/// What a process takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    /// At most, since it was forgotten.
    pub(crate) peak: u64,
}

impl Siege {
    pub(crate) fn start(config: &str) -> Siege {
        Siege::with(config, |_| Ok(false))
    }

    /// With answers of its own to all but `/v1/chat/completions`, `/hang…` and `/big/SIZE`.
    pub(crate) fn with(
        config: &str,
        answering: impl Fn(&mut Asked<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Siege {
        let origin = Origin::start(Box::new(answering));
        let home = Home::before(origin.address, Setup::default());
        home.configure(config);
        let running = home.start();
        let siege = Siege { running, origin, home };
        siege.warm_up();
        siege
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// What is made once and kept is made: tokenizers' tables above all.
    fn warm_up(&self) {
        ask_for_chat(self.address(), "unreported").unwrap();
        wait_until("an estimate", || !self.lines("amend").is_empty());
        (0..20).for_each(|_| self.neighbour());
        self.settle();
    }

    /// A call of somebody else's is answered.
    pub(crate) fn neighbour(&self) {
        let took = ask_for_chat(self.address(), "Hi").unwrap();
        assert!(took < NEIGHBOURLY, "{took:?}");
    }

    pub(crate) fn memory(&self) -> Memory {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).unwrap();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        Memory { now: figure("VmRSS:"), peak: figure("VmHWM:") }
    }

    /// Does something while a neighbour calls again and again, who must not notice, and who is answered once
    /// more afterwards. The process may take this many bytes more meanwhile. Answers how many it took.
    pub(crate) fn bear<T>(&self, most: u64, what: impl FnOnce() -> T) -> T {
        let reset = format!("/proc/{}/clear_refs", self.running.id());
        std::fs::write(reset, "5").unwrap();
        let before = self.memory();
        let neighbour = Neighbour::start(self.address());
        let done = what();
        let (calls, longest) = neighbour.end();
        self.neighbour();
        let after = self.memory();
        let grown = after.peak.saturating_sub(before.now);
        println!(
            "grown by {} KiB, {} KiB of it stay; {calls} calls of a neighbour, the longest {longest:?}",
            grown >> 10,
            after.now.saturating_sub(before.now) >> 10,
        );
        assert!(grown <= most, "grown by {grown} bytes, {most} at most: {before:?} {after:?}");
        assert!(calls > 0 && longest < NEIGHBOURLY, "{calls} calls, the longest {longest:?}");
        done
    }

    /// Waits until no call is open and the ledger has all.
    pub(crate) fn settle(&self) {
        self.running.wait_idle();
        self.running.wait_settled();
    }

    /// The rows of calls whose path begins so.
    pub(crate) fn rows(&self, prefix: &str) -> Vec<Value> {
        let mut rows = self.lines("close");
        rows.retain(|row| row["path"].as_str().is_some_and(|path| path.starts_with(prefix)));
        rows
    }

    fn lines(&self, kind: &str) -> Vec<Value> {
        let days = self.home.days();
        let text: String = days.iter().map(|day| std::fs::read_to_string(day).unwrap()).collect();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n') && !line.trim().is_empty())
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|mut line| line.get_mut(kind).map(Value::take))
            .collect()
    }

    /// All is over: no call is open, no connection to the provider stands that nobody needs, and every
    /// request that reached the provider has its one row. Answers the rows of paths that begin so.
    pub(crate) fn reckon(&self, prefix: &str) -> Vec<Value> {
        self.settle();
        let rows = self.rows(prefix);
        let paths: HashSet<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
        assert_eq!(paths.len(), rows.len(), "a call has two rows");
        let mut reached = self.origin.targets();
        reached.retain(|target| target.starts_with(prefix));
        for target in &reached {
            assert!(
                paths.contains(target.as_str()),
                "{target} reached the provider and has no row"
            );
        }
        let log = self.home.log();
        assert!(!log.contains("panicked"), "{log}");
        rows
    }
}

/// Calls one after the other, over a new connection each.
struct Neighbour {
    is_over: Arc<AtomicBool>,
    calling: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    fn start(address: SocketAddr) -> Neighbour {
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        let calling = thread::spawn(move || {
            let (mut calls, mut longest) = (0, Duration::ZERO);
            while calls == 0 || !over.load(Ordering::SeqCst) {
                longest = longest.max(ask_for_chat(address, "Hi").unwrap());
                calls += 1;
                thread::park_timeout(Duration::from_millis(5));
            }
            (calls, longest)
        });
        Neighbour { is_over, calling }
    }

    fn end(self) -> (usize, Duration) {
        self.is_over.store(true, Ordering::SeqCst);
        self.calling.join().expect("the neighbour's call failed")
    }
}

/// A chat call over a connection of its own; how long its answer took.
fn ask_for_chat(address: SocketAddr, text: &str) -> io::Result<Duration> {
    let since = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body =
        format!(r#"{{"model":"trial-1","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hi there."), "{answer:?}");
    Ok(since.elapsed())
}
