//! The clients that speak HTTP/2: many calls over one connection, some of whose streams are reset before the answer,
//! within it, or within the request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep, sleep_until, timeout};

use super::Shared;
use super::book::{Ending, Had, Sent};
use super::clients::ending;
use super::plan::{Client, H2_EVERY, Plan};
use super::says;
use super::wire::PATIENCE;

/// Frames of a request's body.
const PIECE: usize = 16 * 1024;

/// Calls over one connection, until it breaks or has had its share.
const CALLS_A_CONNECTION: usize = 500;

/// Calls over one connection at a time until the load is over, each of `lanes` one each `pause`.
pub(super) fn run(shared: &Arc<Shared>, lanes: u32, pause: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while !shared.is_over() {
            let Ok(sender) = connect(shared.address()).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let local = LocalSet::new();
            for lane in 0..lanes {
                let (shared, sender) = (Arc::clone(shared), sender.clone());
                let first = Instant::now() + pause.mul_f64(f64::from(lane) / f64::from(lanes));
                local.spawn_local(async move { calls(&shared, sender, first, pause).await });
            }
            drop(sender);
            local.await;
        }
    });
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Sending>, io::Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    // What ends it, its calls say too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn calls(
    shared: &Shared,
    mut sender: SendRequest<Sending>,
    mut due: Instant,
    pause: Duration,
) {
    for _ in 0..CALLS_A_CONNECTION {
        sleep_until(due.into()).await;
        due = (due + pause).max(Instant::now());
        if shared.is_over() || sender.ready().await.is_err() {
            return;
        }
        let plan = Plan::of(shared.seed, (shared.next_h2() + 1) * H2_EVERY);
        let mut had = Had::new(plan.client);
        if timeout(PATIENCE, call(&mut sender, &plan, &mut had)).await.is_err() {
            had.ending = Ending::Wrong("hangs".to_owned());
        }
        had.until = Instant::now();
        shared.book.had(plan.number, had);
    }
}

async fn call(sender: &mut SendRequest<Sending>, plan: &Plan, had: &mut Had) {
    let (method, target) = says::target(plan);
    let mut request = Request::builder().method(method).uri(format!("http://chaos{target}"));
    for (name, value) in says::tags(plan.number) {
        request = request.header(name, value);
    }
    request = request.header("x-chaos-call", plan.number);
    let mut lots = plan.lots("h2");
    let body = Sending::of(plan);
    let (breaks, is_empty) = (body.breaks, body.is_end_stream());
    had.sent = if breaks && !is_empty { Sent::PartOfBody } else { Sent::Whole };
    let answered = sender.send_request(request.body(body).expect("a good head"));
    let answer = if plan.client == Client::H2LeaveBefore {
        let patience = Duration::from_micros(lots.u64(..40_000));
        match timeout(patience, answered).await {
            Ok(answer) => answer,
            // Dropped, which resets the stream.
            Err(_) => return,
        }
    } else {
        answered.await
    };
    let Ok(answer) = answer else { return };
    let field = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    had.status = Some(answer.status().as_u16());
    (had.id, had.own) = (field("x-tokenmeter-id"), field("x-tokenmeter-error"));
    let request_id = field("x-request-id");
    let leaves = matches!(plan.client, Client::H2LeaveBefore | Client::H2LeaveInAnswer);
    let (mut bytes, mut body, mut is_whole) = (Vec::new(), answer.into_body(), true);
    let most = if leaves { lots.usize(..2000) } else { usize::MAX };
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(_) => is_whole = false,
        }
        if !is_whole || bytes.len() > most {
            break;
        }
    }
    had.ending = if leaves {
        Ending::Left
    } else {
        ending(plan, had, request_id.as_deref(), is_whole, &bytes)
    };
}

/// A request's body, which may break off.
struct Sending {
    left: Bytes,
    /// How much of it is sent, where it breaks off.
    until: usize,
    breaks: bool,
}

impl Sending {
    fn of(plan: &Plan) -> Sending {
        let left = Bytes::from(says::request(plan));
        let breaks = plan.client == Client::H2LeaveInBody;
        let until = if breaks { plan.lots("break").usize(..=left.len()) } else { left.len() };
        Sending { left, until, breaks }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.until == 0 {
            let broken = io::Error::other("the client thinks better of it");
            return Poll::Ready((body.breaks && !body.left.is_empty()).then_some(Err(broken)));
        }
        let piece = body.left.split_to(PIECE.min(body.until));
        body.until -= piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }
}
