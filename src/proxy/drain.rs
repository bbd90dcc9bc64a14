//! Answers that are read on for their usage after the client has left. Owns the task that outlives the
//! client's request and how far it goes; what is read goes nowhere.
//!
//! Invariant: bounded in time, bytes and number; a call whose upload has not ended is given up at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::body::{MeteredBody, RequestBody};
use super::exchange::{Exchange, Progress};
use super::upstream::Pool;
use super::{Call, ProxyBody, own_error};
use crate::respond::ErrorCode;

/// How far an answer is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// From when the client left.
    pub time: Duration,
    /// Of the answer's body, from then on.
    pub bytes: u64,
}

/// One request and its answer, in a task that goes on when the client leaves before the answer's head.
pub(super) async fn exchange(
    pool: Rc<Pool>,
    request: Request<RequestBody>,
    call: Call<'_>,
    exchange: Exchange,
    progress: Progress,
    limits: DrainLimits,
) -> Response<ProxyBody> {
    let (reply, answer) = oneshot::channel();
    let (upstream, client) = (Arc::clone(call.upstream), Arc::clone(call.client));
    let Call { path, request: reader, max_body, is_head, asks, .. } = call;
    tokio::task::spawn_local(async move {
        let (upstream, client) = (&upstream, &client);
        let call = Call { upstream, path, client, request: reader, max_body, is_head, asks };
        run(&pool, request, call, exchange, progress, limits, reply).await;
    });
    answer.await.unwrap_or_else(|_| {
        // Only a stop ends the task while somebody waits for it.
        own_error(ErrorCode::UpstreamUnreachable, "tokenmeter stops", None)
    })
}

async fn run(
    pool: &Rc<Pool>,
    request: Request<RequestBody>,
    call: Call<'_>,
    mut exchange: Exchange,
    progress: Progress,
    limits: DrainLimits,
    mut reply: oneshot::Sender<Response<ProxyBody>>,
) {
    let answered = {
        let mut sent = pin!(call.send(pool, request, &progress));
        let mut limit = None;
        poll_fn(|cx| {
            if limit.is_none() && reply.poll_closed(cx).is_ready() {
                // A body without its sender looks complete, so it must not go on.
                let left = exchange.read_on().filter(|_| progress.has_uploaded());
                let Some(left) = left else { return Poll::Ready(None) };
                limit = Some(Box::pin(sleep_until(left + limits.time)));
            }
            if limit.as_mut().is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            sent.as_mut().poll(cx).map(Some)
        })
        .await
    };
    if let Some(answered) = answered {
        // Where nobody takes it, the body reads on when it is dropped.
        let _ = reply.send(call.conclude(answered, exchange, progress).await);
    }
}

/// Reads an answer's body to its end or as far as it may, and closes its call. `left`: when the client
/// left.
pub(super) fn read_on(mut body: MeteredBody, left: Instant, limits: DrainLimits) {
    tokio::task::spawn_local(async move {
        let mut taken = 0;
        let reading = async {
            while let Some(Ok(frame)) = body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len) as u64;
                if taken > limits.bytes {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout_at(left + limits.time, reading).await;
    });
}
