//! Answers and refusals as HTTP. Owns statuses and headers; knows nothing of tokens or questions.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use super::access::{self, SESSION_COOKIE};
use super::params::BadParameter;
use super::question::Question;
use super::{AdminBody, page};
use crate::archive::Format;
use crate::ledger::{Health, Problem, QueryError};
use crate::respond::{self, ErrorCode};
use crate::secret::Secret;
use crate::units::Timestamp;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    Unauthorized,
    NoSuchPage,
    /// What the question names is not in the ledger.
    Unknown(String),
    Method,
    Parameter(BadParameter),
    Query(QueryError),
    /// Too many questions at once.
    Busy,
    /// A fault of our own.
    Failed,
}

impl From<BadParameter> for Refusal {
    fn from(wrong: BadParameter) -> Refusal {
        Refusal::Parameter(wrong)
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Refusal {
        Refusal::Query(error)
    }
}

impl Refusal {
    /// In JSON, or for a person where `is_page`.
    pub(super) fn response(self, is_page: bool) -> Response<Full<Bytes>> {
        let plain = |code, message: &str| respond::error(code, message, None);
        match self {
            Refusal::Unauthorized => unauthorized(is_page),
            Refusal::NoSuchPage => plain(ErrorCode::NotFound, "tokenmeter has no such page"),
            Refusal::Unknown(message) => plain(ErrorCode::NotFound, &message),
            Refusal::Method => {
                let mut response = plain(ErrorCode::MethodNotAllowed, "this page is read with GET");
                put(&mut response, ALLOW, "GET, HEAD");
                response
            }
            Refusal::Parameter(wrong) => {
                respond::error(ErrorCode::BadParameter, &wrong.message, Some(&wrong.name))
            }
            Refusal::Query(error @ QueryError::TooManyGroups(_)) => {
                respond::error(ErrorCode::BadParameter, &error.to_string(), Some("group_by"))
            }
            Refusal::Query(error) => {
                tracing::warn!(%error, "a question to the ledger failed");
                plain(ErrorCode::Unavailable, &error.to_string())
            }
            Refusal::Busy => plain(
                ErrorCode::Unavailable,
                "too many questions at once; ask again when the others are answered",
            ),
            Refusal::Failed => plain(ErrorCode::Unavailable, "the question failed; see the log"),
        }
    }
}

fn unauthorized(is_page: bool) -> Response<Full<Bytes>> {
    let mut response = if is_page {
        html(page::locked)
    } else {
        let message = "give the admin token: Authorization: Bearer TOKEN";
        respond::error(ErrorCode::Unauthorized, message, None)
    };
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    put(&mut response, WWW_AUTHENTICATE, "Bearer");
    response
}

/// Says that what a question names is not there.
pub(super) fn unknown(question: &Question) -> Refusal {
    Refusal::Unknown(match question {
        Question::Call(id) => format!("there is no call {id}"),
        Question::Session(name) => format!("no call belongs to the session `{name}`"),
        Question::User { name, .. } => format!("no call belongs to the user `{name}`"),
        _ => "there is no such thing".to_owned(),
    })
}

pub(super) fn json(answer: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    put(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// A page without scripts, whose one style is the one with its nonce.
pub(super) fn html(page: impl FnOnce(&str) -> String) -> Response<Full<Bytes>> {
    let nonce = access::random();
    let mut response = Response::new(Full::new(Bytes::from(page(nonce.expose()))));
    put(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    put(
        &mut response,
        CONTENT_SECURITY_POLICY,
        &format!(
            "default-src 'none'; style-src 'nonce-{}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            nonce.expose()
        ),
    );
    response
}

/// A file that is named for the moment it was made at.
pub(super) fn download(body: AdminBody, format: Format, now: Timestamp) -> Response<AdminBody> {
    let mut response = Response::new(body);
    put(&mut response, CONTENT_TYPE, format.content_type());
    let at = now.calendar().strftime("%Y%m%dT%H%M%SZ");
    let name = format!("attachment; filename=\"tokenmeter-{at}.{}\"", format.as_str());
    put(&mut response, CONTENT_DISPOSITION, &name);
    response
}

pub(super) fn redirect(to: &str) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    put(&mut response, LOCATION, to);
    response
}

/// On to the page, with a session. The cookie is not `Secure` because tokenmeter speaks plain HTTP.
pub(super) fn logged_in(session: &Secret) -> Response<Full<Bytes>> {
    let mut response = redirect("/admin/");
    let value = session.expose();
    let cookie = format!("{SESSION_COOKIE}={value}; Path=/admin; HttpOnly; SameSite=Strict");
    put(&mut response, SET_COOKIE, &cookie);
    response
}

pub(super) fn alive() -> Response<Full<Bytes>> {
    json(&json!({"status": "ok"}))
}

/// Ready to record, or what stands in the way.
pub(super) fn ready(health: &Health) -> Response<Full<Bytes>> {
    let list = |problems: &[Problem]| -> Value {
        let each = |one: &Problem| json!({"word": one.word.as_str(), "message": one.message});
        problems.iter().map(each).collect()
    };
    let mut response = json(&json!({
        "status": if health.is_ok() { "ready" } else { "not_ready" },
        "problem": health.problem(),
        "problems": list(&health.problems),
        "warnings": list(&health.warnings),
        "refusing_calls": health.is_refusing,
        "journal_lag_bytes": health.journal_lag_bytes,
        "journal_lag_ms": u64::try_from(health.journal_lag.as_millis()).unwrap_or(u64::MAX),
        "waiting_lines": health.waiting_lines,
        "waiting_bytes": health.waiting_bytes,
        "dropped_lines": health.dropped_lines,
        "unreadable_lines": health.unreadable_lines,
        "disk_free_bytes": health.disk_free_bytes,
    }));
    if !health.is_ok() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// What Prometheus reads.
pub(super) fn metrics(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    put(&mut response, CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    response
}

/// What every answer has, and for `HEAD` nothing but that.
pub(super) fn finish(mut response: Response<AdminBody>, method: &Method) -> Response<AdminBody> {
    put(&mut response, CACHE_CONTROL, "no-store");
    put(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    // A login link must not travel on in a `Referer`.
    put(&mut response, REFERRER_POLICY, "no-referrer");
    if method == Method::HEAD {
        if let Some(length) = response.body().size_hint().exact() {
            put(&mut response, CONTENT_LENGTH, &length.to_string());
        }
        *response.body_mut() = Either::Left(Full::default());
    }
    response
}

fn put<B>(response: &mut Response<B>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
