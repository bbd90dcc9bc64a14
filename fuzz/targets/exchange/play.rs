//! The play: a client and a provider do what a script says, with a tokenmeter between them, on one thread whose
//! time passes at once when nothing is left to happen. Owns what was seen; judges nothing but that it ends.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokenmeter::app::App;
use tokenmeter::proxy::Playing;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::answers::latin;
use crate::script::{Script, Step};
use crate::strict::{self, Seen};

/// What is said where no script says what.
const USUAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Longer than all that tokenmeter waits for.
const FOR_EVER: Duration = Duration::from_secs(7200);

/// How long a side waits for the other before it goes on with its script.
const WAIT: Duration = Duration::from_secs(2);

/// What came over a provider's connection, and what went.
#[derive(Debug, Default)]
pub struct Connection {
    pub host: String,
    pub got: Vec<u8>,
    pub sent: Vec<u8>,
    /// It sent no more: the connection is closed on its side.
    pub is_over: bool,
    /// It spoke before it was asked.
    pub is_hasty: bool,
}

impl Connection {
    /// Requests that are here whole, and heads of requests.
    pub fn count(&self) -> (usize, usize) {
        let requests = requests(&self.got);
        let is_head = requests.rest.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        (requests.whole.len(), requests.whole.len() + usize::from(is_head))
    }
}

/// One request as a strict reader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub body: String,
    pub upgrades: bool,
}

#[derive(Debug)]
pub struct Requests<'a> {
    pub whole: Vec<Asked>,
    pub rest: &'a [u8],
    /// Two readers could differ about what is left, and why.
    pub doubt: Option<String>,
}

/// All that is said for certain.
pub fn requests(mut bytes: &[u8]) -> Requests<'_> {
    let mut whole = Vec::new();
    loop {
        let (seen, length) = match strict::read_one(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return Requests { whole, rest: bytes, doubt: lenient_end(bytes) },
            Err(why) => return Requests { whole, rest: bytes, doubt: Some(why) },
        };
        let Seen::Request { target, body } = seen else { continue };
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(length);
        let head = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let method: String =
            bytes.iter().take_while(|byte| **byte != b' ').map(|byte| char::from(*byte)).collect();
        let upgrades = head.contains("\r\nupgrade:");
        whole.push(Asked { method, target, body, upgrades });
        bytes = &bytes[length..];
        if upgrades {
            // Another protocol may follow.
            return Requests { whole, rest: b"", doubt: None };
        }
    }
}

/// Others may see the end of a head where a strict reader does not.
fn lenient_end(bytes: &[u8]) -> Option<String> {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = latin(&bytes[..end]);
    let is_clean = !head.trim_end_matches('\r').replace("\r\n", "").contains(['\r', '\n']);
    (!is_clean).then(|| "a lone CR or LF".to_owned())
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Witnessed {
    pub said: Vec<u8>,
    pub heard: Vec<u8>,
    /// The client heard the end of its connection while it was still listening.
    pub heard_end: bool,
    pub connections: Vec<Connection>,
    /// Requests in the order in which their heads were there: connection, and which of its requests.
    pub order: Vec<(usize, usize)>,
}

type Shared = Rc<RefCell<Witnessed>>;

/// Where upstreams are called: the play that is on.
#[derive(Clone, Default)]
pub struct Stage(Arc<Mutex<Option<Caller>>>);

struct Caller {
    arrivals: mpsc::UnboundedSender<(usize, String, DuplexStream)>,
    room: usize,
    refused: Vec<bool>,
    next: usize,
}

impl Stage {
    pub fn within(&self) -> Playing {
        let stage = self.0.clone();
        Arc::new(move |host| {
            let mut caller = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let caller = caller.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let number = caller.next;
            caller.next += 1;
            if caller.refused.get(number).copied().unwrap_or(false) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = duplex(caller.room);
            let arrival = (number, host.to_owned(), far);
            caller.arrivals.send(arrival).map_err(|_| io::ErrorKind::ConnectionAborted)?;
            Ok(near)
        })
    }

    fn set(&self, caller: Option<Caller>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = caller;
    }
}

/// Plays to the end, whatever the script says.
pub fn play(app: &Rc<App>, stage: &Stage, script: Script) -> Witnessed {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    let seen = Shared::default();
    let local = LocalSet::new();
    local.block_on(&runtime, perform(Rc::clone(app), stage.clone(), script, Rc::clone(&seen)));
    drop(local);
    seen.take()
}

async fn perform(app: Rc<App>, stage: Stage, script: Script, seen: Shared) {
    let (arrivals, arriving) = mpsc::unbounded_channel();
    let refused = script.provider.iter().map(Option::is_none).collect();
    stage.set(Some(Caller { arrivals, room: script.provider_room, refused, next: 0 }));
    let (near, far) = duplex(script.client_room);
    let parlour = Rc::new(app.parlour());
    let serving = {
        let (parlour, app) = (Rc::clone(&parlour), Rc::clone(&app));
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        spawn_local(async move { parlour.serve(&app, far, from).await })
    };
    let providing =
        spawn_local(provide(arriving, script.provider, script.provider_pieces, Rc::clone(&seen)));
    be_client(near, &script.client, script.client_pieces, &seen).await;
    let served = timeout(FOR_EVER, serving).await;
    assert!(served.is_ok(), "serving does not end when the client has left");
    stage.set(None);
    providing.abort();
    let began = Instant::now();
    while app.occupied() != (0, 0) {
        assert!(began.elapsed() < FOR_EVER, "open calls and connections: {:?}", app.occupied());
        sleep(Duration::from_millis(100)).await;
    }
}

async fn be_client(near: DuplexStream, steps: &[Step], pieces: Option<usize>, seen: &Shared) {
    let (reading, writing) = split(near);
    let mut side = Side::new(reading, writing, pieces, Rc::clone(seen), |seen, bytes| {
        seen.heard.extend_from_slice(bytes);
    });
    for step in steps {
        match step {
            Step::Leave => return,
            Step::AwaitHead | Step::AwaitRequest => {
                let before = seen.borrow().heard.len();
                side.until(|seen| seen.heard.len() > before).await;
            }
            step => side.common(step, |seen, bytes| seen.said.extend_from_slice(bytes)).await,
        }
    }
    side.ears.set(true);
    // To the end of all that may be waited for; a tunnel has none, nor has HTTP/2.
    let ended = timeout(FOR_EVER, side.until_silence()).await.is_ok();
    let mut seen = seen.borrow_mut();
    seen.heard_end = ended;
    let may_last = seen.heard.windows(12).any(|bytes| bytes == b"HTTP/1.1 101")
        || seen.said.starts_with(b"PRI ");
    assert!(ended || may_last, "neither an answer's end nor the connection's");
}

async fn provide(
    mut arriving: mpsc::UnboundedReceiver<(usize, String, DuplexStream)>,
    mut scripts: Vec<Option<Vec<Step>>>,
    pieces: Option<usize>,
    seen: Shared,
) {
    // Dropped with this task, they end.
    let mut all = tokio::task::JoinSet::new();
    while let Some((number, host, stream)) = arriving.recv().await {
        let at = {
            let mut seen = seen.borrow_mut();
            seen.connections.push(Connection { host, ..Connection::default() });
            seen.connections.len() - 1
        };
        let steps = scripts.get_mut(number).and_then(Option::take).unwrap_or_default();
        all.spawn_local(be_provider(stream, steps, pieces, at, Rc::clone(&seen)));
    }
}

async fn be_provider(
    stream: DuplexStream,
    steps: Vec<Step>,
    pieces: Option<usize>,
    at: usize,
    seen: Shared,
) {
    let (reading, writing) = split(stream);
    let mut side = Side::new(reading, writing, pieces, Rc::clone(&seen), move |seen, bytes| {
        let connection = &mut seen.connections[at];
        connection.got.extend_from_slice(bytes);
        if !bytes.contains(&b'\n') {
            return;
        }
        let heads = connection.count().1;
        let known = seen.order.iter().filter(|(connection, _)| *connection == at).count();
        seen.order.extend((known..heads).map(|number| (at, number)));
    });
    let (mut heads, mut whole) = (0, 0);
    let mut is_over = false;
    for step in &steps {
        match step {
            Step::Leave => {
                seen.borrow_mut().connections[at].is_over = true;
                return;
            }
            Step::AwaitHead => {
                heads += 1;
                side.until(move |seen| seen.connections[at].count().1 >= heads).await;
            }
            Step::AwaitRequest => {
                whole += 1;
                side.until(move |seen| seen.connections[at].count().0 >= whole).await;
            }
            step => {
                if matches!(step, Step::Send(_)) {
                    note_haste(&mut seen.borrow_mut().connections[at]);
                }
                is_over |= *step == Step::Finish;
                side.common(step, |seen, bytes| seen.connections[at].sent.extend_from_slice(bytes))
                    .await;
                seen.borrow_mut().connections[at].is_over = is_over;
            }
        }
    }
    side.ears.set(true);
    let mut answered = seen.borrow().connections[at].count().0.max(usize::from(!steps.is_empty()));
    while !is_over
        && side.until_for_ever(move |seen| seen.connections[at].count().0 > answered).await
    {
        answered += 1;
        side.common(&Step::Send(USUAL.to_vec()), |seen, bytes| {
            seen.connections[at].sent.extend_from_slice(bytes);
        })
        .await;
    }
    side.until_silence().await;
}

/// Whether there are fewer requests than answers, now that one is about to be sent.
fn note_haste(connection: &mut Connection) {
    let heads = connection.count().1;
    let answered = crate::answers::answers(&connection.sent, &[], false);
    let complete = answered.map_or(usize::MAX, |all| all.iter().filter(|one| one.is_whole).count());
    connection.is_hasty |= complete >= heads;
}

/// One end of a connection: it writes, and a task of its own reads.
struct Side {
    writing: Option<WriteHalf<DuplexStream>>,
    reader: tokio::task::JoinHandle<()>,
    ears: Rc<Ears>,
    came: Rc<Notify>,
    pieces: Option<usize>,
    seen: Shared,
}

/// Whether it reads.
struct Ears {
    open: std::cell::Cell<bool>,
    opened: Notify,
}

impl Ears {
    fn set(&self, open: bool) {
        self.open.set(open);
        self.opened.notify_one();
    }
}

impl Side {
    fn new(
        mut reading: ReadHalf<DuplexStream>,
        writing: WriteHalf<DuplexStream>,
        pieces: Option<usize>,
        seen: Shared,
        note: impl Fn(&mut Witnessed, &[u8]) + 'static,
    ) -> Side {
        let ears = Rc::new(Ears { open: true.into(), opened: Notify::new() });
        let came = Rc::new(Notify::new());
        let reader = {
            let (ears, came, seen) = (Rc::clone(&ears), Rc::clone(&came), Rc::clone(&seen));
            spawn_local(async move {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    while !ears.open.get() {
                        ears.opened.notified().await;
                    }
                    let read = reading.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    note(&mut seen.borrow_mut(), &buffer[..read]);
                    came.notify_one();
                }
            })
        };
        Side { writing: Some(writing), reader, ears, came, pieces, seen }
    }

    /// What both sides do alike.
    async fn common(&mut self, step: &Step, sent: impl Fn(&mut Witnessed, &[u8])) {
        match step {
            Step::Send(bytes) => {
                let pieces = self.pieces.filter(|_| bytes.len() < 8 * 1024).unwrap_or(bytes.len());
                for piece in bytes.chunks(pieces.max(1)) {
                    self.send(piece, &sent).await;
                    if self.pieces.is_some() {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            Step::Pause => sleep(Duration::from_millis(2)).await,
            Step::Sleep(seconds) => sleep(Duration::from_secs(*seconds)).await,
            Step::Finish => {
                if let Some(mut writing) = self.writing.take() {
                    let _ = writing.shutdown().await;
                }
            }
            Step::StopReading => self.ears.set(false),
            Step::ReadOn => self.ears.set(true),
            Step::Leave | Step::AwaitHead | Step::AwaitRequest => {}
        }
    }

    /// As much as is taken; nobody waits for ever for somebody who takes nothing.
    async fn send(&mut self, mut bytes: &[u8], sent: &impl Fn(&mut Witnessed, &[u8])) {
        while let Some(writing) = self.writing.as_mut().filter(|_| !bytes.is_empty()) {
            match timeout(FOR_EVER, writing.write(bytes)).await {
                Ok(Ok(count @ 1..)) => {
                    sent(&mut self.seen.borrow_mut(), &bytes[..count]);
                    bytes = &bytes[count..];
                }
                _ => self.writing = None,
            }
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Witnessed) -> bool) {
        let _ = timeout(WAIT, self.until_for_ever(is_so)).await;
    }

    /// False if it is never so, because nothing comes any more.
    async fn until_for_ever(&mut self, is_so: impl Fn(&Witnessed) -> bool) -> bool {
        loop {
            if is_so(&self.seen.borrow()) {
                return true;
            }
            if self.reader.is_finished() {
                return false;
            }
            tokio::select! {
                () = self.came.notified() => {}
                _ = &mut self.reader => return is_so(&self.seen.borrow()),
            }
        }
    }

    async fn until_silence(&mut self) {
        if !self.reader.is_finished() {
            let _ = (&mut self.reader).await;
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
