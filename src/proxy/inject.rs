//! Streams that are made to report their usage. Owns the decision for a call, the request that is held
//! and asked in the client's stead, its repetition where the provider refuses, and the memory of that.
//!
//! Invariant: only calls to upstreams with this option come here. What is not a request that can be
//! asked goes on as it came, and what the client gets is what it would have got.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body::Frame;

use super::body::RequestBody;
use super::upstream::{Answer, Failure, Pool, Stage};
use super::{Call, header_text};
use crate::framing::EventFilter;
use crate::provider::stream_usage::{self, Splice};
use crate::record::StreamUsage;

/// Bytes of a request that are held to be looked at; a longer one goes on as it came.
const MAX_HELD: usize = 32 * 1024 * 1024;

/// Refusals that are remembered of one upstream: far more than it has paths.
const MAX_REFUSALS: usize = 1024;

/// Fields that vouch for the body's bytes, which must not change then.
const SEALS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("signature"),
];

/// An upstream whose streams are made to report their usage.
#[derive(Debug, Default)]
pub struct Injection {
    /// Hashes of the paths and queries at which it was refused; a query can hold keys.
    refused: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Injection {
    fn is_refused(&self, path: &PathAndQuery) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.contains(&self.hasher.hash_one(path.as_str()))
    }

    fn remember_refusal(&self, path: &PathAndQuery) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= MAX_REFUSALS {
            // Whoever varies the query so often would never be remembered otherwise.
            refused.clear();
        }
        refused.insert(self.hasher.hash_one(path.as_str()));
    }
}

/// True if the call may be one whose request can be asked, as far as its head says.
pub(super) fn may_ask<B>(request: &Request<B>, path: &PathAndQuery, injection: &Injection) -> bool {
    let fields = request.headers();
    let signed =
        fields.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4"));
    request.method() == Method::POST
        && stream_usage::has_option(request.uri().path())
        && is_plain(fields)
        && !signed
        && !SEALS.iter().any(|name| fields.contains_key(name))
        && !injection.is_refused(path)
}

/// Sends a request that may be asked; says what was done about its stream's usage.
pub(super) async fn send(
    pool: &Rc<Pool>,
    call: &Call<'_>,
    injection: &Injection,
    mut request: Request<RequestBody>,
) -> Result<(Answer, Option<StreamUsage>), Failure> {
    let target = &call.upstream.target;
    let whole = request.body_mut().hold(MAX_HELD).await;
    let whole = whole.map_err(|error| Failure::new(Stage::Head, error))?;
    let Some((splice, body)) = whole.and_then(|body| Some((stream_usage::ask(&body)?, body)))
    else {
        let answer = pool.send(target, request, call.path.clone()).await?;
        return Ok((answer, None));
    };
    let (head, upload) = request.into_parts();
    let repeat = Request::from_parts(head.clone(), upload.copy(&body));
    let asked =
        Request::from_parts(asked_head(head, &splice), upload.replaced(spliced(&body, &splice)));
    let answer = pool.send(target, asked, call.path.clone()).await?;
    if !is_refusal(answer.status()) {
        return Ok((answer, Some(StreamUsage::Injected)));
    }
    drop(answer);
    repeat.body().progress.touch();
    repeat.body().request.borrow_mut().refused();
    let answer = pool.send(target, repeat, call.path.clone()).await?;
    if !is_refusal(answer.status()) {
        injection.remember_refusal(&call.path);
        let (upstream, path) = (&call.upstream.name, call.path.path());
        tracing::warn!(%upstream, %path, "it refuses stream_options.include_usage; not asked again");
    }
    Ok((answer, Some(StreamUsage::Refused)))
}

/// What takes out of an answer what is there only because it was asked for; `None` if the answer is
/// no stream or cannot be read. Its length is not known then.
pub(super) fn filter(answer: &mut HeaderMap) -> Option<EventFilter> {
    let content_type = header_text(answer, &CONTENT_TYPE)?.split(';').next()?;
    if !content_type.trim().eq_ignore_ascii_case("text/event-stream") || !is_plain(answer) {
        return None;
    }
    super::headers::retain(answer, |name| name != CONTENT_LENGTH);
    Some(EventFilter::new(stream_usage::judge))
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
}

/// True if the message's bytes are not encoded.
fn is_plain(fields: &HeaderMap) -> bool {
    fields
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// The head of the request that asks: its length is another, and its answer must be readable.
fn asked_head(mut head: Parts, splice: &Splice) -> Parts {
    let length = header_text(&head.headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
    if let Some(length) = length.map(|length: usize| length + splice.text.len() - splice.at.len()) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.headers.contains_key(ACCEPT_ENCODING) {
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    head
}

fn spliced(body: &Bytes, Splice { at, text }: &Splice) -> Vec<Frame<Bytes>> {
    let pieces =
        [body.slice(..at.start), Bytes::from_static(text.as_bytes()), body.slice(at.end..)];
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(Frame::data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> PathAndQuery {
        format!("/v1/chat/completions?key={number}").parse().unwrap()
    }

    #[test]
    fn refusals_are_remembered_by_path_and_query_and_are_bounded() {
        let injection = Injection::default();
        for number in 0..3 * MAX_REFUSALS {
            assert!(!injection.is_refused(&path(number)));
            injection.remember_refusal(&path(number));
            assert!(injection.is_refused(&path(number)));
            assert!(injection.refused.lock().unwrap().len() <= MAX_REFUSALS);
        }
        assert!(!format!("{injection:?}").contains("key="));
    }

    #[test]
    fn a_request_whose_bytes_are_vouched_for_is_not_asked() {
        let request = |name: &'static str, value: &str| {
            Request::post("/v1/chat/completions").header(name, value).body(()).unwrap()
        };
        let may = |request: &Request<()>| may_ask(request, &path(0), &Injection::default());
        assert!(may(&request("authorization", "Bearer k")));
        assert!(may(&request("content-encoding", "identity")));
        assert!(!may(&request("content-encoding", "gzip")));
        assert!(!may(&request("authorization", "AWS4-HMAC-SHA256 …")));
        assert!(!may(&request("content-digest", "sha-256=:x:")));
        let mut get = request("accept", "*/*");
        *get.method_mut() = Method::GET;
        assert!(!may(&get));
    }
}
