//! The scripted provider: an HTTP server that answers as cues say. Owns reading requests and giving
//! answers in time; knows nothing of the proxy but the wire.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Phase;
use super::answers::{answer, unknown};
use super::ask::{Ask, input_tokens};
use super::cue::{self, Cue, Ending};
use super::play::{Beat, Play};
use crate::demo::random::Dice;
use crate::pricing::PriceBook;

/// The longest request that is read.
const MAX_REQUEST: usize = 64 << 20;

/// How long accepting pauses when it does not work.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Provider {
    prices: Arc<PriceBook>,
    dice: RefCell<Dice>,
    phase: watch::Receiver<Phase>,
}

impl Provider {
    pub(super) fn new(
        prices: Arc<PriceBook>,
        seed: u64,
        phase: watch::Receiver<Phase>,
    ) -> Provider {
        Provider { prices, dice: RefCell::new(Dice::new(seed, 0)), phase }
    }

    /// Answers whoever calls; never resolves. What it spawns stays on this thread.
    pub(super) async fn serve(self, listener: StdListener) -> io::Result<()> {
        let (listener, provider) = (TcpListener::from_std(listener)?, Rc::new(self));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(connection(stream, Rc::clone(&provider)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// The answer to a request; nothing where there is none, so that the connection closes.
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Performance>> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST).collect().await.ok()?.to_bytes();
        let began = Instant::now();
        let ask = Ask::read(head.uri.path(), head.uri.query(), &body);
        let play = match ask {
            None => unknown(head.uri.path()),
            Some(ask) => {
                let scripted = head.headers.get(cue::HEADER);
                let cue = scripted.and_then(|cue| Cue::read(cue.as_bytes())).unwrap_or_else(|| {
                    let input = input_tokens(&body);
                    Cue::made_up(&ask, input, &self.prices, &mut self.dice.borrow_mut())
                });
                answer(&ask, &cue)
            }
        };
        drop(body);
        pause(began, play.head_ms, self.phase.clone()).await;
        (play.ending != Ending::Silent).then(|| self.perform(play, began))
    }

    fn perform(&self, play: Play, began: Instant) -> Response<Performance> {
        // One piece is a document: its length is known.
        let length = play.beats.iter().map(|beat| beat.bytes.len()).sum::<usize>();
        let is_document = play.head_ms >= play.beats.first().map_or(0, |beat| beat.at_ms);
        let mut response = Response::new(Performance {
            beats: play.beats.into_iter(),
            next: None,
            is_torn: play.ending == Ending::Torn,
            began,
            phase: self.phase.clone(),
        });
        *response.status_mut() =
            StatusCode::from_u16(play.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(play.content_type));
        if is_document {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        for (name, value) in play.headers {
            // An id that is no header's value came with a cue of somebody's own.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

async fn connection(stream: TcpStream, provider: Rc<Provider>) {
    // Without it, events are late by a fraction of a second; with it or without, they come.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let provider = Rc::clone(&provider);
        async move { provider.answer(request).await.ok_or(Silence) }
    });
    // How a connection ends is for the proxy to tell.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Resolves so long after a moment, or at once when the play is to end.
async fn pause(began: Instant, at_ms: u64, mut phase: watch::Receiver<Phase>) {
    let until = began + Duration::from_millis(at_ms);
    if until <= Instant::now() {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep_until(until) => {}
        _ = phase.wait_for(|phase| *phase != Phase::Playing) => {}
    }
}

/// A body whose pieces go at their times.
struct Performance {
    beats: std::vec::IntoIter<Beat>,
    next: Option<Waiting>,
    is_torn: bool,
    began: Instant,
    phase: watch::Receiver<Phase>,
}

/// A piece whose time is yet to come.
struct Waiting {
    bytes: Bytes,
    pause: Pin<Box<dyn Future<Output = ()>>>,
}

impl Body for Performance {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.next.is_none() {
            let Some(beat) = this.beats.next() else {
                let torn = io::Error::new(io::ErrorKind::ConnectionAborted, Silence);
                return Poll::Ready(this.is_torn.then_some(Err(torn)));
            };
            let pause = Box::pin(pause(this.began, beat.at_ms, this.phase.clone()));
            this.next = Some(Waiting { bytes: beat.bytes, pause });
        }
        if let Some(waiting) = &mut this.next {
            ready!(waiting.pause.as_mut().poll(cx));
        }
        let sent = this.next.take().map(|waiting| Ok(Frame::data(waiting.bytes)));
        Poll::Ready(sent)
    }
}

/// Nothing more is said: the connection closes.
#[derive(Debug)]
struct Silence;

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the script ends here")
    }
}

impl std::error::Error for Silence {}
