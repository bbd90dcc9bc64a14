//! Errors of tokenmeter's own, in the shape that the SDKs parse. Owns their codes and statuses; an
//! error that the provider sends never comes here.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

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
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    UpstreamUnreachable,
    UpstreamTimeout,
    /// tokenmeter cannot answer just now.
    Unavailable,
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
            ErrorCode::NotFound => "not_found",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
            ErrorCode::PayloadTooLarge => "payload_too_large",
            ErrorCode::UpstreamUnreachable => "upstream_unreachable",
            ErrorCode::UpstreamTimeout => "upstream_timeout",
            ErrorCode::Unavailable => "unavailable",
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
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            ErrorCode::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Unavailable | ErrorCode::LedgerUnavailable => {
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
