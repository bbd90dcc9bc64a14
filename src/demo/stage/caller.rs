//! The ones who call: real HTTP requests to the proxy, with the tags of the company. Owns sending and
//! listening; what is called and how it is meant to go is the company's.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::company::{Company, Part};
use super::cue::{self, Cue, Ending};
use super::{Phase, Scene, request};
use crate::demo::models::{Dialect, Model};
use crate::record::{Outcome, Record};
use crate::units::Timestamp;

/// Calls that are under way at a time; more only if something is stuck.
const MOST_AT_ONCE: usize = 64;

/// How long a provider that says nothing is waited for. A timeout of ten minutes is for others to see.
const SILENCE_MS: u64 = 5_000;

/// How much longer an answer would have been whose client leaves.
const LEFT_OVER_MS: u64 = 3_000;

/// A client's key, which nobody looks at.
const KEY: &str = "Bearer sk-demo";

type Failed = Box<dyn Error + Send + Sync>;

/// Sends until the play is to end. What it spawns stays on this thread.
pub(super) async fn send(scene: Scene, company: Company, mut phase: watch::Receiver<Phase>) {
    let (scene, company) = (Rc::new(scene), Rc::new(RefCell::new(company)));
    let (began, under_way) = (Instant::now(), Rc::new(Cell::new(0_usize)));
    loop {
        let pause = company.borrow_mut().pause(began.elapsed());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Playing) => return,
        }
        if under_way.get() >= MOST_AT_ONCE {
            continue;
        }
        under_way.set(under_way.get() + 1);
        let part = company.borrow_mut().next(Timestamp::now().millis());
        let from = company.borrow_mut().dice.below(1 << 16);
        let (scene, company) = (Rc::clone(&scene), Rc::clone(&company));
        let under_way = Rc::clone(&under_way);
        tokio::task::spawn_local(async move {
            if let Err(error) = call(&scene, &part, from).await {
                // Calls that fail are in the script.
                tracing::debug!(%error, "a call of the demo");
            }
            company.borrow_mut().ended(part.session, Timestamp::now().millis());
            under_way.set(under_way.get() - 1);
        });
    }
}

/// One call, over a connection of its own, until its answer ends or its client leaves.
async fn call(scene: &Scene, part: &Part, from: u64) -> Result<(), Failed> {
    let Part { session, model, record } = part;
    let body = request::body(model, record, session.operation.system, from).to_string();
    let target = [&path(scene, model, record), request::query(model.dialect, record)].concat();
    let mut request = Request::post(target).body(Full::new(Bytes::from(body)))?;
    let cue = serde_json::to_string(&scripted(model, record, from))?;
    let headers = request.headers_mut();
    headers.insert(HOST, scene.proxy.to_string().try_into()?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(AUTHORIZATION, HeaderValue::from_static(KEY));
    headers.insert(USER_AGENT, HeaderValue::from_static("tokenmeter-demo"));
    headers.insert(cue::HEADER, cue.try_into()?);
    tag(scene, record, headers)?;
    let patience = match record.outcome {
        Outcome::ClientClosed => Duration::from_millis(record.duration_ms.unwrap_or_default()),
        _ => Duration::MAX,
    };
    let answered = async {
        let stream = TcpStream::connect(scene.proxy).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let mut answer = sender.send_request(request).await?.into_body();
            while let Some(frame) = answer.frame().await {
                frame?;
            }
            Ok::<(), Failed>(())
        };
        tokio::select! {
            exchanged = exchange => exchanged,
            // It ends before the answer only if something is wrong with it.
            ended = connection => Ok(ended?),
        }
    };
    // Whoever leaves closes the connection.
    tokio::time::timeout(patience, answered).await.unwrap_or(Ok(()))
}

/// The path by which the proxy knows the upstream. Calls of `openai` need no name where it is the default.
fn path(scene: &Scene, model: &Model, record: &Record) -> String {
    let is_named = record.path[1..].split('/').next() == Some(model.upstream);
    if is_named || scene.default_upstream == model.upstream {
        return record.path.clone();
    }
    format!("/{}{}", model.upstream, record.path)
}

/// How the provider is to answer so that the call goes as it is meant to.
pub(super) fn scripted(model: &Model, record: &Record, from: u64) -> Cue {
    let took = record.duration_ms.unwrap_or_default();
    let said =
        record.output_tokens.unwrap_or_default() - record.reasoning_tokens.unwrap_or_default();
    let cue = Cue {
        status: record.status.unwrap_or(200),
        error: record.error.clone(),
        ending: Ending::Whole,
        first_ms: record.time_to_first_token_ms.or(record.time_to_first_byte_ms).unwrap_or(took),
        last_ms: took,
        said,
        from,
        usage: record.usage_json.as_ref().and_then(|text| serde_json::from_str(text.get()).ok()),
        finish: record.finish_reason.clone(),
        id: record.upstream_request_id.clone(),
        model: record.model.clone(),
        tier: record.service_tier.clone(),
    };
    match (record.outcome, record.status) {
        (Outcome::UpstreamFailed, Some(200)) => Cue { ending: Ending::Torn, ..cue },
        (Outcome::UpstreamFailed, _) => {
            let took = took.min(SILENCE_MS);
            Cue { status: 200, ending: Ending::Silent, first_ms: took, last_ms: took, ..cue }
        }
        // It would have gone on.
        (Outcome::ClientClosed, _) => Cue {
            status: 200,
            last_ms: 2 * took + LEFT_OVER_MS,
            first_ms: if record.streaming { cue.first_ms } else { 2 * took + LEFT_OVER_MS },
            said: 2 * said + LEFT_OVER_MS / 10,
            ..cue
        },
        _ if model.dialect == Dialect::Speech => Cue { said: 0, ..cue },
        _ => cue,
    }
}

/// Says who calls and what for, in the headers that this proxy reads.
fn tag(scene: &Scene, record: &Record, headers: &mut HeaderMap) -> Result<(), Failed> {
    let named = [
        (scene.tags.user.first(), &record.user),
        (scene.tags.session.first(), &record.session),
        (scene.tags.operation.first(), &record.operation),
    ];
    for (name, value) in named {
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value.try_into()?);
        }
    }
    if let Some(attempt) = record.attempt {
        headers.insert(HeaderName::from_static("x-attempt"), attempt.into());
    }
    for (key, value) in record.metadata.iter().flatten() {
        let value = value.as_str().map_or_else(|| Value::to_string(value), str::to_owned);
        headers.insert(HeaderName::try_from(format!("x-tag-{key}"))?, value.try_into()?);
    }
    if let Some(retry) = record.retry {
        headers.insert(HeaderName::from_static("x-stainless-retry-count"), retry.into());
    }
    Ok(())
}
