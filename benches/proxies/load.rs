//! The load generator: connections that make one call after the other, on one thread. Owns what a call
//! is timed by. Requests are made beforehand, and of an answer nothing is kept, so that it takes less
//! than any proxy. An answer that differs from what the provider sent in a single byte is an error.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::answer::Reading;
use crate::process::now;
use crate::script::{Answer, Kind, Script};

/// Takes a whole burst of a stream.
const SCRATCH: usize = 128 * 1024;

thread_local! {
    /// Serves all connections: what has come is looked at before the next one reads.
    static SCRATCH_BYTES: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What CPU time is divided by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Call,
    Event,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Call => "a call",
            Unit::Event => "an event",
        }
    }
}

/// One load: what is asked for, over how many connections.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// By which it is chosen.
    pub name: &'static str,
    pub title: &'static str,
    pub connections: usize,
    /// What each connection asks for, in turn.
    pub turns: &'static [Kind],
    pub unit: Unit,
    /// One call of each connection makes a round, rather than a second full of them.
    pub is_once: bool,
}

impl Load {
    pub(crate) fn scripts(&self) -> Vec<Rc<Script>> {
        let mut scripts: Vec<Rc<Script>> = Vec::new();
        for kind in self.turns {
            let known = scripts.iter().find(|script| script.kind == *kind).map(Rc::clone);
            scripts.push(known.unwrap_or_else(|| Rc::new(Script::new(*kind))));
        }
        scripts
    }
}

/// What a round saw. Times in nanoseconds.
#[derive(Default)]
pub(crate) struct Tally {
    pub calls: u64,
    pub events: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// From the request's first byte to the answer's last, to its first.
    pub whole: Vec<u64>,
    pub first_byte: Vec<u64>,
    /// From when the provider sent an event.
    pub delays: Vec<u64>,
    pub elapsed: u64,
}

impl Tally {
    fn add(&mut self, answer: &Answer) {
        self.calls += 1;
        self.events += answer.events as u64;
        self.input_tokens += answer.input_tokens;
        self.output_tokens += answer.output_tokens;
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Which call comes next; connections begin at different ones.
    turn: usize,
}

impl Client {
    pub(crate) async fn connect(address: &str, turn: usize) -> Result<Client, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Client { stream, turn })
    }

    /// Makes the next call.
    pub(crate) async fn call(
        &mut self,
        scripts: &[Rc<Script>],
        tally: &RefCell<Tally>,
    ) -> Result<(), String> {
        let script = &scripts[self.turn % scripts.len()];
        let request = &script.requests[self.turn % script.requests.len()];
        self.turn += 1;
        let started = now();
        self.stream.write_all(request).await.map_err(|error| error.to_string())?;
        let mut reading = Reading::new(script);
        let mut first_byte = None;
        loop {
            let arrived =
                poll_fn(|cx| self.poll_read(cx, &mut reading, &mut tally.borrow_mut())).await?;
            first_byte.get_or_insert(arrived);
            if let Some(answer) = reading.whole() {
                let mut tally = tally.borrow_mut();
                tally.add(answer);
                tally.whole.push(arrived - started);
                tally.first_byte.extend(first_byte.map(|first| first - started));
                return Ok(());
            }
        }
    }

    /// Reads what is there, and says when that was.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        reading: &mut Reading<'_>,
        tally: &mut Tally,
    ) -> Poll<Result<u64, String>> {
        SCRATCH_BYTES.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            let done = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
            let arrived = now();
            done.map_err(|error| error.to_string())?;
            if read.filled().is_empty() {
                return Poll::Ready(Err("the connection was closed".to_owned()));
            }
            reading.feed(read.filled(), arrived, &mut tally.delays)?;
            Poll::Ready(Ok(arrived))
        })
    }
}

/// Connections to one target, which are kept from round to round.
pub(crate) struct Clients {
    load: Load,
    scripts: Vec<Rc<Script>>,
    all: Vec<Client>,
}

impl Clients {
    pub(crate) async fn connect(load: Load, scripts: &[Rc<Script>], address: &str) -> Clients {
        let mut clients = Vec::new();
        for turn in 0..load.connections {
            // Connections of a mixed load are not to be in step.
            let client = Client::connect(address, turn * 7).await;
            clients.push(client.unwrap_or_else(|error| panic!("{address}: {error}")));
        }
        Clients { load, scripts: scripts.to_vec(), all: clients }
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Makes calls for so long, and waits for those that have begun.
    pub(crate) async fn round(&mut self, target: &str, length: Duration) -> Tally {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let started = now();
        let until = started + u64::try_from(length.as_nanos()).expect("a short round");
        let count = self.all.len();
        let tasks: Vec<_> = self
            .all
            .drain(..)
            .enumerate()
            .map(|(at, mut client)| {
                let (load, scripts, tally) = (self.load, self.scripts.clone(), Rc::clone(&tally));
                tokio::task::spawn_local(async move {
                    if load.is_once {
                        tokio::time::sleep(apart(load.turns[0], at, count)).await;
                    }
                    loop {
                        client.call(&scripts, &tally).await?;
                        if load.is_once || now() >= until {
                            return Ok::<_, String>(client);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            let client = task.await.expect("a call does not panic");
            let name = self.load.name;
            self.all.push(client.unwrap_or_else(|error| panic!("{name}, {target}: {error}")));
        }
        let mut tally = tally.take();
        tally.elapsed = now() - started;
        tally
    }
}

/// Streams with pauses begin at different moments within one.
fn apart(kind: Kind, at: usize, count: usize) -> Duration {
    let Kind::Stream { gap_ms, .. } = kind else { return Duration::ZERO };
    Duration::from_micros(gap_ms * 1000 * at as u64 / count as u64)
}
