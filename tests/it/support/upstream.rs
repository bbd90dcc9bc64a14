//! A provider made of a listener on a free port and scripts: one for each request, in the order in
//! which requests come. Owns the thread of each connection; a panic in one is raised by
//! [`Upstream::join`].

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use super::STUCK;
use super::http1::{Delimited, Ending, Message, Wire};

/// What is done in answer to one request that has come whole.
pub(crate) type Script = Vec<Step>;

/// One thing that is done. After the last one the connection waits for its next request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One write.
    Send(Vec<u8>),
    /// Waits until the client has this many bytes of the body.
    Await(Seen, usize),
    /// Waits until the proxy closes the connection.
    UntilClosed,
    /// Closes the connection.
    Close,
}

/// How many bytes of an answer's body the client has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<(Mutex<usize>, Condvar)>);

impl Seen {
    pub(crate) fn set(&self, bytes: usize) {
        let (seen, changed) = &*self.0;
        *seen.lock().unwrap() = bytes;
        changed.notify_all();
    }

    fn wait_for(&self, bytes: usize) {
        let (seen, changed) = &*self.0;
        let waiting = |seen: &mut usize| *seen < bytes;
        let seen = changed.wait_timeout_while(seen.lock().unwrap(), STUCK, waiting).unwrap().0;
        assert!(*seen >= bytes, "the client has {} of {bytes} bytes: some are held back", *seen);
    }
}

/// The scripted provider.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// One for each request whose head is there.
    heads: Receiver<()>,
    requests: Receiver<Message>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    stopping: AtomicBool,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

/// What has come. The test may be over with its requests and gone.
#[derive(Clone, Debug)]
struct Tell {
    heads: Sender<()>,
    requests: Sender<Message>,
}

impl Upstream {
    pub(crate) fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stopping, scripts, connections) = Default::default();
        let shared = Arc::new(Shared { scripts, stopping, connections });
        let (head_sender, heads) = channel();
        let (request_sender, requests) = channel();
        let tell = Tell { heads: head_sender, requests: request_sender };
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared, &tell))
        };
        Upstream { address, shared, heads, requests, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The script for the next request that has none yet.
    pub(crate) fn expect(&self, script: Script) {
        self.shared.scripts.lock().unwrap().push_back(script);
    }

    /// The next request, once it is wholly there.
    pub(crate) fn request(&self) -> Message {
        self.requests.recv_timeout(STUCK).expect("a request has come")
    }

    /// Waits for the next head of a request, whose body may never be whole.
    pub(crate) fn head(&self) {
        self.heads.recv_timeout(STUCK).expect("a request's head has come");
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Ends and raises the first panic of its threads. The proxy must have stopped.
    pub(crate) fn join(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        raise(self.accepting);
        let connections = std::mem::take(&mut *self.shared.connections.lock().unwrap());
        connections.into_iter().for_each(raise);
        assert!(
            self.shared.scripts.lock().unwrap().is_empty(),
            "scripts that no request asked for"
        );
    }
}

fn raise(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tell: &Tell) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let (shared_too, tell) = (Arc::clone(shared), tell.clone());
        let connection = thread::spawn(move || serve(Wire::new(stream), &shared_too, &tell));
        shared.connections.lock().unwrap().push(connection);
    }
}

fn serve(mut wire: Wire, shared: &Shared, tell: &Tell) {
    while wire.is_used_again() {
        let Some((start, fields)) = wire.head() else { return };
        let _ = tell.heads.send(());
        let (body, ending) = wire.body(Delimited::of_request(&fields), &mut |_| false);
        if ending == Ending::Cut {
            return;
        }
        let script = shared.scripts.lock().unwrap().pop_front();
        let script = script.unwrap_or_else(|| panic!("a request without a script: {start}"));
        let _ = tell.requests.send(Message { start, fields, body, ending });
        if !play(&mut wire, script) {
            return;
        }
    }
}

/// True if the connection can carry another request.
fn play(wire: &mut Wire, script: Script) -> bool {
    for step in script {
        match step {
            Step::Send(bytes) => match wire.write(&bytes) {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("stuck: the proxy takes no more of the answer")
                }
                // The proxy has given the call up.
                Err(_) => return false,
            },
            Step::Await(seen, bytes) => seen.wait_for(bytes),
            Step::UntilClosed => {
                wire.until_closed();
                return false;
            }
            Step::Close => return false,
        }
    }
    true
}
