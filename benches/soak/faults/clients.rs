//! The clients that speak HTTP/1.1: each makes one call after another, well or badly as its plan says, and writes
//! down what it had.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Shared;
use super::book::{Ending, Had, Sent};
use super::plan::{Client, H2_EVERY, Kind, Plan};
use super::says;
use super::wire::{self, Head, read_body};

/// What a large upload is cut into.
const PIECE: usize = 16 * 1024;

type Connection = BufReader<TcpStream>;

/// A connection that can be used again, and the last call on it.
type Kept = (Connection, u64);

/// Calls until the load is over, one each `pause`.
pub(super) fn run(shared: &Arc<Shared>, pause: Duration) {
    let mut due = Instant::now() + pause.mul_f64(fastrand::f64());
    let mut connection = None;
    let mut kills = shared.kills();
    while !shared.is_over() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if kills != shared.kills() {
            // A connection to who is no more.
            (kills, connection) = (shared.kills(), None);
        }
        // Who is behind does not hurry for ever.
        due = (due + pause).max(Instant::now().checked_sub(pause * 10).unwrap_or(due));
        connection = one(shared, connection.take());
    }
}

fn next(shared: &Shared) -> Plan {
    let count = shared.next();
    // Those between are of HTTP/2.
    Plan::of(shared.seed, count / (H2_EVERY - 1) * H2_EVERY + count % (H2_EVERY - 1) + 1)
}

/// One call, or two that are sent at once; the connection, if it can be used again.
fn one(shared: &Shared, kept: Option<Kept>) -> Option<Kept> {
    let plan = next(shared);
    let mut had = Had::new(plan.client);
    had.after = kept.as_ref().map(|(_, number)| *number);
    let open = || wire::ready(TcpStream::connect(shared.address())?);
    let Ok(mut connection) = kept.map_or_else(open, |(connection, _)| Ok(connection)) else {
        // tokenmeter is being killed.
        thread::sleep(Duration::from_millis(20));
        return note(shared, &plan, had, None);
    };
    if plan.client != Client::Pipeline {
        let again = Call { plan: &plan, had: &mut had }.make(&mut connection);
        return note(shared, &plan, had, again.unwrap_or(false).then_some(connection));
    }
    let (second, mut had_second) = (next(shared), Had::new(Client::Pipeline));
    let both = [request(&plan), request(&second)].concat();
    let is_sent = connection.get_mut().write_all(&both).is_ok();
    for had in [&mut had, &mut had_second] {
        had.sent = if is_sent { Sent::Whole } else { Sent::PartOfBody };
    }
    had_second.after = Some(plan.number);
    let again = Call { plan: &plan, had: &mut had }.receive(&mut connection);
    note(shared, &plan, had, None);
    let mut again = again.unwrap_or(false);
    if again {
        let mut call = Call { plan: &second, had: &mut had_second };
        again = call.receive(&mut connection).unwrap_or(false);
    } else {
        // It goes with the first.
        had_second.did = Client::LeaveBefore;
    }
    note(shared, &second, had_second, again.then_some(connection))
}

fn note(shared: &Shared, plan: &Plan, mut had: Had, again: Option<Connection>) -> Option<Kept> {
    had.until = Instant::now();
    shared.book.had(plan.number, had);
    Some((again?, plan.number))
}

fn head(plan: &Plan, more: &str) -> Vec<u8> {
    let (method, target) = says::target(plan);
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: chaos\r\n");
    for (name, value) in says::tags(plan.number) {
        head.push_str(&[name, ": ", &value, "\r\n"].concat());
    }
    let number = plan.number;
    let rest = format!("X-Chaos-Call: {number}\r\nContent-Type: application/json\r\n{more}\r\n");
    [head, rest].concat().into_bytes()
}

fn length(body: &[u8]) -> String {
    if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) }
}

/// A request as a client without faults sends it.
fn request(plan: &Plan) -> Vec<u8> {
    let body = says::request(plan);
    [head(plan, &length(&body)), body].concat()
}

struct Call<'a> {
    plan: &'a Plan,
    had: &'a mut Had,
}

impl Call<'_> {
    /// Answers whether the connection may be used again; an error is a connection that is over.
    fn make(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let (body, mut lots) = (says::request(self.plan), self.plan.lots("client"));
        let head_of = |more: &str| head(self.plan, more);
        let plain = head_of(&length(&body));
        match self.plan.client {
            Client::TinyPieces => {
                let longest = 7.max(body.len() / 50);
                let whole = [plain, body].concat();
                self.had.sent = Sent::PartOfBody;
                for piece in whole.chunks(lots.usize(1..=longest)) {
                    connection.get_mut().write_all(piece)?;
                }
                self.had.sent = Sent::Whole;
            }
            Client::Chunked if self.plan.kind != Kind::Models => {
                let head = head_of("Transfer-Encoding: chunked\r\n");
                self.send(connection, &head, &says::chunked(self.plan, &body), usize::MAX);
            }
            Client::Expect if self.plan.kind != Kind::Models => {
                let head = head_of(&format!("{}Expect: 100-continue\r\n", length(&body)));
                return self.expect(connection, &head, &body);
            }
            Client::LeaveInHead => {
                let cut = lots.usize(1..plain.len() - 1);
                connection.get_mut().write_all(&plain[..cut])?;
                self.had.sent = Sent::PartOfHead;
                self.leave(connection);
                return Ok(false);
            }
            Client::LeaveAfterHead => {
                self.send(connection, &plain, &body, 0);
                self.leave(connection);
                return Ok(false);
            }
            Client::LeaveInBody => {
                self.send(connection, &plain, &body, lots.usize(..=body.len().saturating_sub(1)));
                self.leave(connection);
                return Ok(false);
            }
            Client::LeaveBefore => {
                self.send(connection, &plain, &body, usize::MAX);
                thread::sleep(Duration::from_micros(lots.u64(..40_000)));
                self.leave(connection);
                return Ok(false);
            }
            Client::LeaveInAnswer => {
                self.send(connection, &plain, &body, usize::MAX);
                self.part(connection)?;
                self.leave(connection);
                return Ok(false);
            }
            Client::TooLong => {
                let head = head_of(&format!("Content-Length: {}\r\n", body.len() + 500));
                self.send(connection, &head, &body, usize::MAX);
                self.had.sent = Sent::PartOfBody;
                thread::sleep(Duration::from_micros(lots.u64(..20_000)));
                self.leave(connection);
                return Ok(false);
            }
            Client::BadChunks => {
                let head = head_of("Transfer-Encoding: chunked\r\n");
                let bad = [&b"5\r\n{\"mod\r\n"[..], b"zz\r\n\r\n"].concat();
                self.send(connection, &head, &bad, usize::MAX);
                self.had.sent = Sent::PartOfBody;
                self.part(connection)?;
                self.leave(connection);
                return Ok(false);
            }
            Client::Malformed => {
                connection.get_mut().write_all(&malformed(self.plan))?;
                self.had.sent = Sent::Whole;
                return self.receive(connection);
            }
            Client::BadTag => {
                let bad = ["first".to_owned(), "1.5".to_owned(), "7".repeat(300)];
                let bad = format!("X-Attempt: {}\r\n{}", bad[lots.usize(..3)], length(&body));
                self.send(connection, &head_of(&bad), &body, usize::MAX);
                return self.receive(connection);
            }
            Client::HalfClose => {
                self.send(connection, &plain, &body, usize::MAX);
                connection.get_ref().shutdown(Shutdown::Write)?;
                self.receive(connection)?;
                return Ok(false);
            }
            _ => self.send(connection, &plain, &body, usize::MAX),
        }
        if self.plan.client == Client::SlowReader {
            thread::sleep(Duration::from_millis(lots.u64(50..1200)));
        }
        self.receive(connection)
    }

    /// Sends a head and so much of a body. Who does not take it may have answered already.
    fn send(&mut self, connection: &mut Connection, head: &[u8], body: &[u8], most: usize) {
        let sent = &body[..most.min(body.len())];
        let out = connection.get_mut();
        self.had.sent = Sent::PartOfBody;
        if !self.plan.is_upload() {
            let is_sent = out.write_all(&[head, sent].concat()).is_ok();
            self.had.sent =
                if is_sent && sent.len() == body.len() { Sent::Whole } else { Sent::PartOfBody };
            return;
        }
        let pieces = std::iter::once(head).chain(sent.chunks(PIECE));
        let mut is_sent = true;
        for piece in pieces {
            is_sent = is_sent && out.write_all(piece).is_ok();
            thread::sleep(Duration::from_millis(1));
        }
        if is_sent && sent.len() == body.len() {
            self.had.sent = Sent::Whole;
        }
    }

    fn expect(
        &mut self,
        connection: &mut Connection,
        head: &[u8],
        body: &[u8],
    ) -> io::Result<bool> {
        connection.get_mut().write_all(head)?;
        self.had.sent = Sent::PartOfBody;
        loop {
            let Ok(Some(head)) = self.judged(Head::read(connection)) else { return Ok(false) };
            match head.status() {
                Some(100) => {
                    self.send(connection, b"", body, usize::MAX);
                    return self.receive(connection);
                }
                Some(101..=199) => {}
                _ => {
                    self.body(connection, &head);
                    return Ok(false);
                }
            }
        }
    }

    /// Reads the answer's head and some of its body.
    fn part(&mut self, connection: &mut Connection) -> io::Result<()> {
        let head = self.judged(Head::of_answer(connection))?;
        self.note(&head);
        self.had.ending = Ending::Left;
        let mut lots = self.plan.lots("part");
        if lots.bool() {
            let mut most = vec![0; lots.usize(1..3000)];
            let _ = self.judged(connection.read(&mut most))?;
        }
        Ok(())
    }

    fn receive(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let head = self.judged(Head::of_answer(connection))?;
        Ok(self.body(connection, &head))
    }

    fn note(&mut self, head: &Head) {
        self.had.status = head.status();
        self.had.id = head.field("x-tokenmeter-id").map(str::to_owned);
        self.had.own = head.field("x-tokenmeter-error").map(str::to_owned);
    }

    /// Reads the answer's body and looks whether it is right.
    fn body(&mut self, connection: &mut Connection, head: &Head) -> bool {
        self.note(head);
        let mut body = Vec::new();
        let read = read_body(connection, head.framed(), &mut body);
        let is_whole = read.is_ok();
        if self.judged(read).is_err() && self.had.ending != Ending::None {
            return false;
        }
        self.had.ending = ending(self.plan, self.had, head.field("x-request-id"), is_whole, &body);
        // What came before the request's end may be all that tokenmeter reads of it.
        let closes = head.field("connection") == Some("close") || self.plan.is_upload();
        is_whole && !closes
    }

    /// Whoever waits for too long has found something.
    fn judged<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                self.had.ending = Ending::Wrong(format!("hangs: {error}"));
            }
        })
    }

    /// With a reset or without; the connection is closed when it is dropped.
    fn leave(&self, connection: &Connection) {
        if self.plan.lots("leave").bool() {
            wire::reset(connection.get_ref());
        }
    }
}

/// What is to be thought of a body.
pub(super) fn ending(
    plan: &Plan,
    had: &Had,
    request_id: Option<&str>,
    is_whole: bool,
    body: &[u8],
) -> Ending {
    if had.own.is_some() || had.did.is_refused() {
        return if is_whole { Ending::Whole } else { Ending::Cut };
    }
    let expected = says::answer(plan);
    if request_id != Some(&format!("req-{}", plan.number)) {
        return Ending::Wrong(format!("the answer of another call: {request_id:?}"));
    }
    if had.status != Some(expected.status) {
        return Ending::Wrong(format!("status {:?} instead of {}", had.status, expected.status));
    }
    match (is_whole, body == expected.body, expected.body.starts_with(body)) {
        (true, true, _) => Ending::Whole,
        (false, _, true) => Ending::Cut,
        _ => Ending::Wrong(format!(
            "{} bytes instead of {}, whole: {is_whole}",
            body.len(),
            expected.body.len()
        )),
    }
}

/// What nobody should forward.
fn malformed(plan: &Plan) -> Vec<u8> {
    let mut lots = plan.lots("malformed");
    let bad = [
        "no colon\r\n",
        "Content-Length: abc\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X-A : b\r\n",
        "Host: another\r\n",
        "X-A: b\r\n folded\r\n",
        "X-A: b\0c\r\n",
    ];
    match lots.usize(..=bad.len()) {
        0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is no HTTP\r\n\r\n".to_vec(),
        at => head(plan, bad[at - 1]),
    }
}
