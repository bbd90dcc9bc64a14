//! The provider: answers each call as its plan says, well or badly, and writes down what it got. A thread for each
//! connection; two addresses, one of which is refused now and then.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::book::{Book, Wrote};
use super::plan::{Plan, Provider as Fault};
use super::says::{self, Answer};
use super::wire::{self, Framed, Head, read_body};

/// Threads only read and write.
const STACK: usize = 256 * 1024;

/// Of a head that does not end.
const ENDLESS: usize = 4 << 20;

pub(super) struct Provider {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound and not listening: so that nobody else gets the port while it is refused.
    _place: Socket,
}

struct Shared {
    seed: u64,
    book: Arc<Book>,
    /// Nobody is to be let in for now.
    refuses: AtomicBool,
}

impl Provider {
    pub(super) fn start(seed: u64, book: &Arc<Book>) -> Provider {
        let place = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        place.set_reuse_address(true).unwrap();
        place.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = place.local_addr().unwrap().as_socket().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let shared =
            Arc::new(Shared { seed, book: Arc::clone(book), refuses: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(listener, address, &accepting));
        Provider { address, shared, _place: place }
    }

    /// Closes the listener for a moment.
    pub(super) fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(mut listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        if shared.refuses.swap(false, Ordering::SeqCst) {
            let since = Instant::now();
            drop(listener);
            thread::sleep(Duration::from_millis(fastrand::u64(50..400)));
            listener = listen_again(address);
            shared.book.refused(since);
        }
        let shared = Arc::clone(shared);
        let serving = move || {
            // Whoever has left needs no answer.
            let _ = serve(stream, &shared);
        };
        thread::Builder::new().stack_size(STACK).spawn(serving).unwrap();
    }
}

fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            // Somebody's outgoing connection may have the port for a moment.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = wire::ready(stream)?;
    // Idle connections are tokenmeter's to close.
    reader.get_ref().set_read_timeout(Some(Duration::from_mins(2)))?;
    while let Some(head) = Head::read(&mut reader)? {
        let Some(number) = head.field("x-chaos-call").and_then(|number| number.parse().ok()) else {
            shared.book.got(u64::MAX, |got| got.wrong = Some(format!("nobody's: {}", head.start)));
            return Ok(());
        };
        shared.book.got(number, |got| got.heads += 1);
        let call = Call { plan: Plan::of(shared.seed, number), book: &shared.book };
        if !call.serve(&mut reader, &head)? {
            break;
        }
    }
    Ok(())
}

struct Call<'a> {
    plan: Plan,
    book: &'a Book,
}

impl Call<'_> {
    /// Answers whether the connection may be used again.
    fn serve(&self, reader: &mut BufReader<TcpStream>, head: &Head) -> io::Result<bool> {
        let answer = says::answer(&self.plan);
        let whole = [answer.head.as_slice(), &answer.wire].concat();
        match self.plan.provider {
            Fault::ResetInUpload => {
                wire::reset(reader.get_ref());
                return Ok(false);
            }
            Fault::Early => {
                self.write(reader.get_mut(), &whole, whole.len())?;
                self.request(reader, head)?;
                return Ok(false);
            }
            Fault::EarlyClose => {
                self.write(reader.get_mut(), &whole, whole.len())?;
                return Ok(false);
            }
            _ => {}
        }
        self.request(reader, head)?;
        self.answer(reader, &answer, &whole)
    }

    /// Reads the rest of the request, and looks whether it is as it was sent.
    fn request(&self, reader: &mut BufReader<TcpStream>, head: &Head) -> io::Result<()> {
        if head.field("expect").is_some() && !self.plan.is_upload() {
            reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let framed = match head.framed() {
            Framed::UntilClosed => Framed::Length(0),
            framed => framed,
        };
        let mut body = Vec::new();
        read_body(reader, framed, &mut body)?;
        let (method, target) = says::target(&self.plan);
        // The first segment names the upstream.
        let path = target[1..].find('/').map_or(target, |at| &target[at + 1..]);
        let is_right = head.start == format!("{method} {path} HTTP/1.1\r\n")
            && body == says::request(&self.plan)
            && says::tags(0).iter().all(|(name, _)| head.field(&name.to_lowercase()).is_none());
        let (start, length) = (head.start.trim_end(), body.len());
        self.book.got(self.plan.number, |got| {
            got.wholes += 1;
            if !is_right {
                got.wrong = Some(format!("not what was sent: {start}, {length} bytes"));
            }
        });
        Ok(())
    }

    fn answer(
        &self,
        reader: &mut BufReader<TcpStream>,
        answer: &Answer,
        whole: &[u8],
    ) -> io::Result<bool> {
        let mut lots = self.plan.lots("answer");
        let out = reader.get_mut();
        let in_head = lots.usize(..answer.head.len() - 1);
        // Never so much that a stream's last event is whole.
        let in_body = answer.head.len() + lots.usize(..=answer.wire.len().saturating_sub(60));
        match self.plan.provider {
            Fault::TinyPieces => {
                let longest = 40.max(whole.len() / 100);
                let mut at = 0;
                while at < whole.len() {
                    let end = (at + lots.usize(1..=longest)).min(whole.len());
                    self.write(out, &whole[at..end], whole.len() - at)?;
                    at = end;
                    thread::yield_now();
                }
            }
            Fault::Pauses => {
                let (first, rest) = whole.split_at(lots.usize(..whole.len()));
                self.write(out, first, whole.len())?;
                thread::sleep(Duration::from_millis(lots.u64(50..600)));
                self.write(out, rest, rest.len())?;
            }
            Fault::Interim => {
                out.write_all(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
                self.write(out, whole, whole.len())?;
            }
            Fault::CloseIdle => {
                self.write(out, whole, whole.len())?;
                thread::sleep(Duration::from_micros(lots.u64(..20_000)));
                return Ok(false);
            }
            Fault::CloseDelimited | Fault::Surplus => {
                self.write(out, whole, whole.len())?;
                return Ok(false);
            }
            Fault::ResetBeforeHead => wire::reset(out),
            Fault::ResetInHead | Fault::ResetInBody => {
                let cut = if self.plan.provider == Fault::ResetInHead { in_head } else { in_body };
                self.write(out, &whole[..cut], whole.len())?;
                thread::sleep(Duration::from_micros(lots.u64(..5000)));
                wire::reset(out);
            }
            Fault::CloseInHead => self.write(out, &whole[..in_head], whole.len())?,
            Fault::Truncated => self.write(out, &whole[..in_body], whole.len())?,
            Fault::StallInHead | Fault::StallInBody => {
                let cut = if self.plan.provider == Fault::StallInHead { in_head } else { in_body };
                self.write(out, &whole[..cut], whole.len())?;
                until_closed(reader);
            }
            Fault::GarbageHead => {
                let garbage: [&[u8]; 5] = [
                    b"It is late.\r\n\r\n",
                    b"HTTP/1.1 9999 Yes\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
                    b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
                    &[0xff; 99],
                ];
                self.write(out, garbage[lots.usize(..garbage.len())], whole.len())?;
            }
            Fault::EndlessHead => self.endless_head(out)?,
            Fault::BadChunk => {
                let piece = &answer.body[..lots.usize(..=answer.body.len().saturating_sub(60))];
                let mut bytes = answer.head.clone();
                if !piece.is_empty() {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"no size\r\n");
                self.write(out, &bytes, whole.len().max(bytes.len() + 1))?;
                until_closed(reader);
            }
            _ => {
                self.write(out, whole, whole.len())?;
                return Ok(true);
            }
        }
        Ok(matches!(self.plan.provider, Fault::TinyPieces | Fault::Pauses | Fault::Interim))
    }

    /// Writes some of what there is left of the answer.
    fn write(&self, out: &mut TcpStream, bytes: &[u8], left: usize) -> io::Result<()> {
        let is_last = bytes.len() == left;
        if bytes.is_empty() {
            return Ok(());
        }
        // Before the writing: whoever reads it is faster than a note after it.
        self.book.got(self.plan.number, |got| {
            got.wrote = if is_last { Wrote::Whole } else { Wrote::Part };
        });
        out.write_all(bytes)
    }

    fn endless_head(&self, out: &mut TcpStream) -> io::Result<()> {
        let line = format!("X-More: {}\r\n", "more ".repeat(200));
        self.write(out, b"HTTP/1.1 200 OK\r\n", ENDLESS)?;
        for _ in 0..ENDLESS / line.len() {
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

/// Waits for tokenmeter to give up.
fn until_closed(reader: &mut BufReader<TcpStream>) {
    let mut bytes = [0; 64];
    while reader.read(&mut bytes).is_ok_and(|read| read > 0) {}
}
