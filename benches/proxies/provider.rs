//! The scripted provider, a process of its own: one thread, answers from memory. Each event of a stream
//! goes out by itself, as providers send them. Knows no request but by the header that says what it is
//! to get.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use crate::answer::stamp;
use crate::script::{DIGITS, Kind, Script, header};

/// Connections that wait to be accepted: thousands come at once when streams are held.
const BACKLOG: u32 = 4096;

#[derive(Default)]
struct Stage {
    scripts: RefCell<HashMap<Kind, Rc<Script>>>,
    turn: Cell<usize>,
}

/// Runs until it is killed, or nobody is left who could kill it.
pub(crate) fn run() {
    let runtime = runtime();
    LocalSet::new().block_on(&runtime, async {
        let listener = listen();
        let stage = Rc::new(Stage::default());
        loop {
            let Ok((connection, _)) = listener.accept().await else { continue };
            tokio::task::spawn_local(serve(connection, Rc::clone(&stage)));
        }
    });
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// On a free port, which it prints.
pub(crate) fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    println!("{}", socket.local_addr().expect("a bound socket"));
    socket.listen(BACKLOG).expect("a bound socket")
}

/// Answers one call after the other until the connection ends.
async fn serve(mut connection: TcpStream, stage: Rc<Stage>) {
    let _ = connection.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    while let Some(script) = request(&mut connection, &mut buffer, &stage).await {
        let turn = stage.turn.get();
        stage.turn.set(turn.wrapping_add(1));
        let answer = &script.answers[turn % script.answers.len()];
        let gap = match script.kind {
            Kind::Stream { gap_ms, .. } => Duration::from_millis(gap_ms),
            _ => Duration::ZERO,
        };
        let mut due = Instant::now();
        let mut bytes = Vec::new();
        for (at, piece) in answer.pieces.iter().enumerate() {
            // The head and the first event come at once, and so do the last event and the end.
            if !gap.is_zero() && at > 1 && at + 1 < answer.pieces.len() {
                due += gap;
                sleep_until(due).await;
            }
            let sent = if let Some(time) = piece.time {
                bytes.clear();
                bytes.extend(&piece.bytes);
                stamp(&mut bytes[time..time + DIGITS]);
                connection.write_all(&bytes).await
            } else {
                connection.write_all(&piece.bytes).await
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// Reads a request to its end, and says what it is to get.
async fn request(
    connection: &mut TcpStream,
    buffer: &mut Vec<u8>,
    stage: &Stage,
) -> Option<Rc<Script>> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = &buffer[..end + 4];
            let length = str::from_utf8(header(head, b"content-length")?).ok()?;
            let all = end + 4 + length.parse::<usize>().ok()?;
            if buffer.len() >= all {
                let script = stage.script(head);
                buffer.drain(..all);
                return script;
            }
        }
        if connection.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

impl Stage {
    fn script(&self, head: &[u8]) -> Option<Rc<Script>> {
        let kind = Kind::asked(head)?;
        let mut scripts = self.scripts.borrow_mut();
        let script = scripts.entry(kind).or_insert_with(|| Script::new(kind).into());
        Some(Rc::clone(script))
    }
}
