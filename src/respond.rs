//! Errors of tokenmeter's own, in the shape that the SDKs parse. Owns their codes and statuses; an
//! error that the provider sends never comes here.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// Seconds after which a call that found no room may come again. Calls end all the time; what matters is
/// that those who were sent away do not come back at once.
const RETRY_AFTER_OVERLOAD: &str = "1";

pub const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const X_TOKENMETER_ERROR: HeaderName = HeaderName::from_static("x-tokenmeter-error");

/// What went wrong, with its code and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    InvalidRequest,
    InvalidTag,
    /// A parameter of the admin API.
    BadParameter,
    /// The file of prices is wrong; the old ones stay in force.
    BadPrices,
    Unauthorized,
    /// Wrong tokens, from one address.
    TooManyAttempts,
    /// Whose calls are not let in.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    /// A request's target, within its head.
    UriTooLong,
    /// A request's head, in bytes or in fields.
    HeadTooLarge,
    UpstreamUnreachable,
    UpstreamTimeout,
    /// tokenmeter cannot answer just now.
    Unavailable,
    /// More calls or connections than tokenmeter takes at a time.
    Overloaded,
    /// A call that could not be recorded, and was not sent for that.
    LedgerUnavailable,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::InvalidTag => "invalid_tag",
            ErrorCode::BadParameter => "bad_parameter",
            ErrorCode::BadPrices => "bad_prices",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::TooManyAttempts => "too_many_attempts",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
            ErrorCode::PayloadTooLarge => "payload_too_large",
            ErrorCode::UriTooLong => "uri_too_long",
            ErrorCode::HeadTooLarge => "head_too_large",
            ErrorCode::UpstreamUnreachable => "upstream_unreachable",
            ErrorCode::UpstreamTimeout => "upstream_timeout",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::LedgerUnavailable => "ledger_unavailable",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            ErrorCode::InvalidRequest | ErrorCode::InvalidTag | ErrorCode::BadParameter => {
                StatusCode::BAD_REQUEST
            }
            ErrorCode::BadPrices => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UriTooLong => StatusCode::URI_TOO_LONG,
            ErrorCode::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ErrorCode::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            ErrorCode::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::LedgerUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// The answer that carries an error, and its code as an extension. `param` names the header or parameter at
/// fault.
pub fn error(code: ErrorCode, message: &str, param: Option<&str>) -> Response<Full<Bytes>> {
    answer(code, &body(code, message, param))
}

/// The same with something more to be said.
pub fn error_with(
    code: ErrorCode,
    message: &str,
    param: Option<&str>,
    (name, more): (&str, Value),
) -> Response<Full<Bytes>> {
    let mut body = body(code, message, param);
    body["error"][name] = more;
    answer(code, &body)
}

/// The answer to a call that finds no room; `why` says what there is too much of. SDKs try again.
pub fn overloaded(why: impl fmt::Display) -> Response<Full<Bytes>> {
    let message = format!("tokenmeter is overloaded, and the call was not sent: {why}; try again");
    let mut answer = error(ErrorCode::Overloaded, &message, None);
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_OVERLOAD));
    headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("true"));
    answer
}

/// The same as bytes of HTTP/1.1, for a connection that closes behind them.
pub fn closing(code: ErrorCode, message: &str) -> Vec<u8> {
    let body = body(code, message, None).to_string();
    let reason = code.status().canonical_reason().unwrap_or_default();
    let (status, code, length) = (code.status().as_u16(), code.as_str(), body.len());
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{X_TOKENMETER_ERROR}: {code}\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn body(code: ErrorCode, message: &str, param: Option<&str>) -> Value {
    json!({"error": {
        "message": message,
        "type": "tokenmeter_error",
        "code": code.as_str(),
        "param": param,
    }})
}

fn answer(code: ErrorCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = code.status();
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_TOKENMETER_ERROR, HeaderValue::from_static(code.as_str()));
    response
}
