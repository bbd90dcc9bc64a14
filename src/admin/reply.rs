//! Answers and refusals as HTTP. Owns statuses and headers; knows nothing of tokens or questions.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use super::params::BadParameter;
use super::question::Question;
use super::{AdminBody, dashboard};
use crate::archive::Format;
use crate::ledger::{Health, Problem, QueryError};
use crate::pricing::TableError;
use crate::respond::{self, ErrorCode};
use crate::secret::Secret;
use crate::units::Timestamp;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    Unauthorized,
    /// Too many wrong tokens from one address; how long to wait.
    TooOften(Duration),
    NoSuchPage,
    /// What the question names is not in the ledger.
    Unknown(String),
    Method,
    /// Only `POST` makes sense here.
    OnlyPost,
    /// The file of prices is broken or cannot be read.
    Prices(TableError),
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

/// What whoever asked can read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a> {
    Json,
    /// A page of the dashboard.
    Page,
    /// A browser elsewhere, at this path: only whoever has no token is told on a page.
    Door(&'a str),
}

impl Refusal {
    pub(super) fn response(self, form: Form<'_>) -> Response<Full<Bytes>> {
        let (code, message, param) = self.said();
        let mut response = match (form, &self) {
            (Form::Page, Refusal::Unauthorized) => locked("/admin/"),
            (Form::Door(path), Refusal::Unauthorized) => locked(path),
            (Form::Page, _) => {
                let nonce = Secret::random();
                let status = code.status().as_u16();
                let page = dashboard::trouble(status, &message, nonce.expose());
                html(page, &nonce)
            }
            (_, Refusal::Prices(error)) => {
                let complaints: Vec<Value> = error
                    .complaints
                    .iter()
                    .map(|one| json!({"line": one.line, "message": one.message}))
                    .collect();
                respond::error_with(code, &message, None, ("complaints", complaints.into()))
            }
            _ => respond::error(code, &message, param.as_deref()),
        };
        *response.status_mut() = code.status();
        match self {
            Refusal::Unauthorized => put(&mut response, WWW_AUTHENTICATE, "Bearer"),
            Refusal::TooOften(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                put(&mut response, RETRY_AFTER, &seconds.to_string());
            }
            Refusal::Method => put(&mut response, ALLOW, "GET, HEAD"),
            Refusal::OnlyPost => put(&mut response, ALLOW, "POST"),
            _ => {}
        }
        response
    }

    /// Code, message and the parameter at fault.
    fn said(&self) -> (ErrorCode, String, Option<String>) {
        let plain = |code, message: &str| (code, message.to_owned(), None);
        match self {
            Refusal::Unauthorized => {
                plain(ErrorCode::Unauthorized, "give the admin token: Authorization: Bearer TOKEN")
            }
            Refusal::TooOften(_) => plain(
                ErrorCode::TooManyAttempts,
                "too many wrong tokens came from your address; wait, and give the right one",
            ),
            Refusal::NoSuchPage => plain(ErrorCode::NotFound, "tokenmeter has no such page"),
            Refusal::Unknown(message) => plain(ErrorCode::NotFound, message),
            Refusal::Method => plain(ErrorCode::MethodNotAllowed, "this page is read with GET"),
            Refusal::OnlyPost => plain(ErrorCode::MethodNotAllowed, "ask for this with POST"),
            Refusal::Prices(error) if error.complaints.is_empty() => {
                plain(ErrorCode::Unavailable, &error.to_string())
            }
            Refusal::Prices(error) => plain(ErrorCode::BadPrices, &error.to_string()),
            Refusal::Parameter(wrong) => {
                (ErrorCode::BadParameter, wrong.message.clone(), Some(wrong.name.clone()))
            }
            Refusal::Query(error @ QueryError::TooManyGroups(_)) => {
                (ErrorCode::BadParameter, error.to_string(), Some("group_by".to_owned()))
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

/// The page for whoever is not logged in, at the path that it is shown at.
fn locked(path: &str) -> Response<Full<Bytes>> {
    let nonce = Secret::random();
    html(dashboard::locked(path, nonce.expose()), &nonce)
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

/// A page whose styles and scripts are tokenmeter's own files, and the styles with its nonce.
pub(super) fn html(page: String, nonce: &Secret) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page)));
    put(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    put(
        &mut response,
        CONTENT_SECURITY_POLICY,
        &format!(
            "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{}'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            nonce.expose()
        ),
    );
    response
}

/// A file of the pages, which no browser asks for twice.
pub(super) fn asset(content: Bytes, content_type: &str, is_packed: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    put(&mut response, CONTENT_TYPE, content_type);
    put(&mut response, CACHE_CONTROL, "private, max-age=31536000, immutable");
    put(&mut response, VARY, "accept-encoding");
    if is_packed {
        put(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

/// What is said of such a file, without it.
pub(super) fn asset_of_length(bytes: u32, content_type: &str) -> Response<Full<Bytes>> {
    let mut response = asset(Bytes::new(), content_type, false);
    put(&mut response, CONTENT_LENGTH, &bytes.to_string());
    response
}

/// A table as a file.
pub(super) fn csv(name: &str, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    put(&mut response, CONTENT_TYPE, Format::Csv.content_type());
    put(&mut response, CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""));
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

/// On to the pages, with a session. The cookie is `Secure` where tokenmeter speaks TLS itself. It names no path, so that it holds for that of the login link less its last part: `/admin`, and whatever a proxy
/// has put before it.
pub(super) fn logged_in(name: &str, session: &Secret, is_encrypted: bool) -> Response<Full<Bytes>> {
    let mut response = redirect("./");
    let value = session.expose();
    let secure = if is_encrypted { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; HttpOnly; SameSite=Strict{secure}");
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
pub(super) fn metrics(text: String, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    put(&mut response, CONTENT_TYPE, content_type);
    put(&mut response, VARY, "accept");
    response
}

/// What every answer has, and for `HEAD` nothing but that.
pub(super) fn finish(mut response: Response<AdminBody>, method: &Method) -> Response<AdminBody> {
    if !response.headers().contains_key(CACHE_CONTROL) {
        put(&mut response, CACHE_CONTROL, "no-store");
    }
    put(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    // A login link must not travel on in a `Referer`.
    put(&mut response, REFERRER_POLICY, "no-referrer");
    if method == Method::HEAD {
        let is_said = response.headers().contains_key(CONTENT_LENGTH);
        if let Some(length) = response.body().size_hint().exact().filter(|_| !is_said) {
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
