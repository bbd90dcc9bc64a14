//! The provider: answers every call as its number and kind say, and counts the heads that it was sent.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::calls::{Kind, REPEATED, answer};

/// Between the events of a slow stream.
const SLOW: Duration = Duration::from_millis(15);

/// Between the events of a long one.
const LONG: Duration = Duration::from_millis(100);

/// Ends its threads when dropped.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// How many heads of each call have come.
    heads: Mutex<HashMap<u64, u32>>,
    /// Connections that are served.
    serving: AtomicUsize,
    may_end: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    /// Whether there is always more to say.
    fn goes_on(&self, kind: Kind) -> bool {
        match kind {
            Kind::Long => !self.may_end.load(Ordering::SeqCst),
            // Whoever is slow to notice that the client has left must not find it at its end.
            Kind::Leaving => true,
            _ => false,
        }
    }
}

impl Provider {
    pub(crate) fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let accepting = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &accepting));
        Provider { address, shared, accepting: Some(accepting) }
    }

    /// Forgets and gives the heads that have come: how many of each call.
    pub(crate) fn take_heads(&self) -> HashMap<u64, u32> {
        std::mem::take(&mut *self.shared.heads.lock().unwrap())
    }

    /// The same when no connection is left, so that none can bring another.
    pub(crate) fn settled_heads(&self) -> HashMap<u64, u32> {
        // Those that came before this one have been accepted when it has.
        let last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&last).read(&mut [0]).unwrap(), 0);
        super::wait_until("the killed process's connections end", || {
            self.shared.serving.load(Ordering::SeqCst) == 0
        });
        self.take_heads()
    }

    /// Whether long answers come to their end now.
    pub(crate) fn let_long_calls_end(&self, end: bool) {
        self.shared.may_end.store(end, Ordering::SeqCst);
    }
}

impl Drop for Provider {
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
        // What breaks here breaks because the other side is gone.
        shared.serving.fetch_add(1, Ordering::SeqCst);
        let served = thread::spawn(move || {
            drop(serve(&stream, &shared));
            let _ = stream.shutdown(Shutdown::Both);
            shared.serving.fetch_sub(1, Ordering::SeqCst);
        });
        serving.push((handle, served));
    }
    for (stream, thread) in serving {
        let _ = stream.shutdown(Shutdown::Both);
        thread.join().unwrap();
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut fields = HashMap::new();
        let mut line = String::new();
        reader.read_line(&mut line)?;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let number = fields["x-trial-number"].parse().unwrap();
        let kind = Kind::named(&fields["x-trial-kind"]);
        *shared.heads.lock().unwrap().entry(number).or_default() += 1;
        let mut body = vec![0; fields["content-length"].parse().unwrap()];
        reader.read_exact(&mut body)?;
        assert_eq!(body, super::calls::request(number, kind).as_bytes(), "the request was changed");
        if !send(&mut stream, shared, number, kind)? {
            return Ok(());
        }
    }
}

/// Answers whether the connection may be used again.
fn send(stream: &mut impl Write, shared: &Shared, number: u64, kind: Kind) -> io::Result<bool> {
    let pieces = answer(number, kind);
    if !kind.streams() {
        let length: usize = pieces.iter().map(String::len).sum();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(pieces[0].as_bytes())?;
        if kind == Kind::Failing {
            return Ok(false);
        }
        stream.write_all(pieces[1].as_bytes())?;
        return Ok(true);
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for (at, piece) in pieces.iter().enumerate() {
        chunk(stream, piece)?;
        if kind == Kind::Slow {
            thread::sleep(SLOW);
        }
        while at == REPEATED && shared.goes_on(kind) {
            thread::sleep(LONG);
            chunk(stream, piece)?;
        }
    }
    stream.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

fn chunk(stream: &mut impl Write, piece: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
}
