//! The clients: each makes one call after another over a connection of its own, of random kinds, at its share of
//! the rate. Counts the calls that were sent and how they ended.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) const CLIENTS: u64 = 64;

/// Longer than any call takes; what takes longer is lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    /// An answer without usage.
    Unreported,
    /// An error of the provider.
    Failing,
    /// An answer that breaks off.
    Cut,
    Stream,
    Slow,
    /// The client leaves after the first event.
    HangUp,
}

const KINDS: [(Kind, &str, u32); 7] = [
    (Kind::Chat, "chat", 60),
    (Kind::Unreported, "unreported", 4),
    (Kind::Failing, "failing", 5),
    (Kind::Cut, "cut", 3),
    (Kind::Stream, "stream", 20),
    (Kind::Slow, "slow", 3),
    (Kind::HangUp, "hang-up", 5),
];

impl Kind {
    pub(crate) fn named(name: &str) -> Kind {
        KINDS.iter().find(|(_, own, _)| *own == name).unwrap().0
    }

    fn any() -> (Kind, &'static str) {
        let mut left = fastrand::u32(..100);
        let found = KINDS.iter().find(|(.., share)| match left.checked_sub(*share) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        found.map(|(kind, name, _)| (*kind, *name)).unwrap()
    }
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    calls: AtomicU64,
    answered: AtomicU64,
    broken: AtomicU64,
    left: AtomicU64,
    shed: AtomicU64,
}

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub(crate) calls: u64,
    answered: u64,
    broken: u64,
    left: u64,
    /// Sent away by tokenmeter.
    pub(crate) shed: u64,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls: {} answered, {} broken off by the provider, {} by the client, {} sent away",
            self.calls, self.answered, self.broken, self.left, self.shed
        )
    }
}

impl Load {
    pub(crate) fn start(address: &str, rate: u64, clients: u64) -> Load {
        let shared = Arc::<Shared>::default();
        let pause = Duration::from_secs(clients).div_f64(f64::from(u32::try_from(rate).unwrap()));
        let clients = (0..clients).map(|_| {
            let (shared, address) = (Arc::clone(&shared), address.to_owned());
            thread::spawn(move || calls(&shared, &address, pause))
        });
        Load { clients: clients.collect(), shared }
    }

    /// Calls that have ended so far.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Lets the last calls end.
    pub(crate) fn end(self) -> Loaded {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let shared = &self.shared;
        Loaded {
            calls: of(&shared.calls),
            answered: of(&shared.answered),
            broken: of(&shared.broken),
            left: of(&shared.left),
            shed: of(&shared.shed),
        }
    }
}

fn calls(shared: &Shared, address: &str, pause: Duration) {
    let mut due = Instant::now() + pause.mul_f64(fastrand::f64());
    let mut connection = None;
    while !shared.is_over.load(Ordering::SeqCst) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Who is behind does not hurry for ever.
        due = (due + pause).max(Instant::now().checked_sub(pause * 10).unwrap_or(due));
        let (kind, name) = Kind::any();
        let stream = connection.take().unwrap_or_else(|| connect(address));
        connection = call(shared, stream, kind, name);
    }
}

fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// One call; the connection, if it can be used again.
fn call(
    shared: &Shared,
    mut stream: BufReader<TcpStream>,
    kind: Kind,
    name: &str,
) -> Option<BufReader<TcpStream>> {
    let is_stream = matches!(kind, Kind::Stream | Kind::Slow | Kind::HangUp);
    let (user, prompt) = (fastrand::u32(..50), "Say it again. ".repeat(fastrand::usize(1..60)));
    let body = format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{prompt}"}}],"stream":{is_stream}}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: soak\r\nX-Kind: {name}\r\nX-User: user-{user}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let ended = answer(&mut stream, kind);
    if matches!(ended, Ended::Shed) {
        shared.shed.fetch_add(1, Ordering::SeqCst);
        return None;
    }
    shared.calls.fetch_add(1, Ordering::SeqCst);
    let (count, again) = match ended {
        Ended::Whole { closes } => (&shared.answered, (!closes).then_some(stream)),
        Ended::Broken => (&shared.broken, None),
        Ended::Left | Ended::Shed => (&shared.left, None),
    };
    count.fetch_add(1, Ordering::SeqCst);
    again
}

enum Ended {
    Whole { closes: bool },
    Broken,
    Left,
    Shed,
}

fn answer(stream: &mut BufReader<TcpStream>, kind: Kind) -> Ended {
    let (mut length, mut closes, mut is_own, mut line) = (None, false, false, String::new());
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "no answer to a {kind:?} call");
        let lower = line.to_ascii_lowercase();
        closes |= lower.trim() == "connection: close";
        is_own |= lower.starts_with("x-tokenmeter-error:");
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>().unwrap());
        }
    }
    if is_own {
        return Ended::Shed;
    }
    if kind == Kind::HangUp {
        stream.read_line(&mut line).unwrap();
        return Ended::Left;
    }
    if let Some(length) = length {
        let read = stream.read_exact(&mut vec![0; length]);
        assert_eq!(read.is_err(), kind == Kind::Cut, "{read:?} of a {kind:?} call");
        return if read.is_ok() { Ended::Whole { closes } } else { Ended::Broken };
    }
    while line != "0\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "a {kind:?} call broke off");
    }
    stream.read_line(&mut line).unwrap();
    Ended::Whole { closes }
}

/// The answer to a question of our own.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
