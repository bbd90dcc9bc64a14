//! The clients: each on a thread of its own, one call after the other, noting what it had of each. An
//! answer that breaks off is a fact here and no failure.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::calls::{self, Call, Kind};

/// The kinds of calls that one client makes, over and over.
pub(crate) type Lane = &'static [Kind];

/// Every kind but the long one.
pub(crate) const EVERYTHING: [Lane; 3] = [
    &[Kind::Json, Kind::Unreported],
    &[Kind::Stream, Kind::Json, Kind::UnreportedStream],
    &[Kind::Slow, Kind::Leaving, Kind::Failing],
];

/// No two calls of a test binary have the same number.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Clients at work.
pub(crate) struct Traffic {
    is_over: Arc<AtomicBool>,
    full: Arc<AtomicUsize>,
    lanes: Vec<JoinHandle<Vec<Call>>>,
}

impl Traffic {
    /// Calls go to `address` under the session's name until they are told to end, or nobody listens.
    pub(crate) fn start(address: SocketAddr, session: &str, lanes: &[Lane]) -> Traffic {
        let (is_over, full) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let lane = |kinds: &Lane| {
            let (is_over, full) = (Arc::clone(&is_over), Arc::clone(&full));
            let (kinds, session) = (*kinds, session.to_owned());
            thread::spawn(move || lane(address, &session, kinds, &is_over, &full))
        };
        let lanes = lanes.iter().map(lane).collect();
        Traffic { is_over, full, lanes }
    }

    /// How many answers have been had in full.
    pub(crate) fn full(&self) -> usize {
        self.full.load(Ordering::SeqCst)
    }

    /// Waits for so many more answers, so that something happens in the middle of traffic.
    pub(crate) fn wait_for(&self, more: usize) {
        let enough = self.full() + more;
        super::wait_until("answers", || self.full() >= enough);
    }

    /// Lets the calls that run come to their end, and makes no more.
    pub(crate) fn end(self) -> Vec<Call> {
        self.is_over.store(true, Ordering::SeqCst);
        self.lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    }
}

fn lane(
    address: SocketAddr,
    session: &str,
    kinds: Lane,
    is_over: &AtomicBool,
    full: &AtomicUsize,
) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut connection: Option<Connection> = None;
    for kind in kinds.iter().cycle() {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let Ok(mut open) = connection.take().map_or_else(|| Connection::open(address), Ok) else {
            break;
        };
        let number = NUMBERS.fetch_add(1, Ordering::SeqCst);
        let since = Instant::now();
        let mut call = Call { number, kind: *kind, id: None, full: false, took: Duration::ZERO };
        // A connection that broke is of no more use; what the call had by then is in it.
        let usable = open.exchange(session, &mut call).unwrap_or(false);
        call.took = since.elapsed();
        full.fetch_add(usize::from(call.full), Ordering::SeqCst);
        calls.push(call);
        connection = usable.then_some(open);
    }
    calls
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// One call; answers whether the connection may be used again.
    fn exchange(&mut self, session: &str, call: &mut Call) -> io::Result<bool> {
        let (number, kind) = (call.number, call.kind);
        let body = calls::request(number, kind);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: trial\r\nContent-Type: application/json\r\n\
             X-Session: {session}\r\nX-Operation: {number}\r\nX-User: {}\r\n\
             x-trial-number: {number}\r\nx-trial-kind: {}\r\nContent-Length: {}\r\n\r\n{body}",
            kind.name(),
            kind.name(),
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes())?;
        let (status, fields) = self.head()?;
        let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, v)| v);
        assert_eq!(status, 200, "{fields:?}");
        call.id = Some(field("x-tokenmeter-id").unwrap().clone());
        if kind == Kind::Leaving {
            return Ok(false);
        }
        let expected = calls::answer(number, kind).concat();
        if let Some(length) = field("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.0.read_exact(&mut body)?;
            assert_eq!(String::from_utf8(body).unwrap(), expected);
            call.full = true;
            return Ok(true);
        }
        let mut body = String::new();
        while let Some(chunk) = self.chunk()? {
            body.push_str(&chunk);
            // Here an SDK stops listening. From now on the call has to be in the ledger.
            if body.ends_with("data: [DONE]\n\n") {
                let is_right = if kind == Kind::Long {
                    body.len() >= expected.len()
                } else {
                    body == expected
                };
                assert!(is_right, "{body}");
                call.full = true;
            }
        }
        assert!(call.full, "a clean end of a broken answer: {body}");
        Ok(true)
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let start = self.line()?;
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let status = start.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, fields))
    }

    /// Nothing at the end of the body.
    fn chunk(&mut self) -> io::Result<Option<String>> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let mut bytes = vec![0; size + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok((size > 0).then(|| String::from_utf8(bytes).unwrap()))
    }

    /// A whole line, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let whole = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(whole.to_owned())
    }
}

/// A question to tokenmeter itself: the status and the body.
pub(crate) fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut connection = Connection::open(address)?;
    let token = super::TOKEN;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: trial\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    connection.0.get_mut().write_all(head.as_bytes())?;
    let (status, _) = connection.head()?;
    let mut body = String::new();
    connection.0.read_to_string(&mut body)?;
    Ok((status, body))
}
