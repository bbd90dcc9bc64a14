//! Requests that hyper cannot read. It answers them with a status and nothing else, before anybody is asked;
//! owns what is said instead, in the shape of all errors of tokenmeter's own.
//!
//! Invariant: an answer of anybody else's is never taken for one of hyper's. Whoever asks knows that a head is on
//! its way, so that nobody answers but hyper (`client`).

use crate::respond::{self, ErrorCode};

/// How hyper's answers end.
const END: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Whether it is worth while to ask more about bytes that go down: false of nearly all.
pub(super) fn may_be_hypers(bytes: &[u8]) -> bool {
    bytes.ends_with(END)
}

/// What is wrong, and what goes down instead of these bytes, if they are such an answer. `has_target`: the request's first line
/// had come to its end.
pub(super) fn instead_of(bytes: &[u8], has_target: bool) -> Option<(ErrorCode, Vec<u8>)> {
    let line = bytes.strip_suffix(END)?.strip_prefix(b"HTTP/1.1 ")?;
    let (code, message) = match (line, has_target) {
        (b"400 Bad Request", _) => (
            ErrorCode::InvalidRequest,
            "this is no HTTP request: its first line or a header field is malformed, or its length is in doubt",
        ),
        (b"414 URI Too Long", _) | (b"431 Request Header Fields Too Large", false) => {
            (ErrorCode::UriTooLong, "the request's target is too long (limits.request_head)")
        }
        (b"431 Request Header Fields Too Large", true) => (
            ErrorCode::HeadTooLarge,
            "the request's head is too large (limits.request_head) or has too many fields \
             (limits.request_headers)",
        ),
        _ => return None,
    };
    Some((code, respond::closing(code, message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str, has_target: bool) -> Option<String> {
        let bytes = [b"HTTP/1.1 ", line.as_bytes(), END].concat();
        instead_of(&bytes, has_target).map(|(_, bytes)| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_hyper_says_shortly_is_said_clearly() {
        let said_of_lines = |line| said(line, true).unwrap();
        assert!(
            said_of_lines("400 Bad Request").contains("x-tokenmeter-error: invalid_request\r\n")
        );
        let too_large = "431 Request Header Fields Too Large";
        assert!(said_of_lines(too_large).starts_with(&format!("HTTP/1.1 {too_large}\r\n")));
        assert!(said(too_large, false).unwrap().starts_with("HTTP/1.1 414 "));
        assert!(said("414 URI Too Long", true).unwrap().contains("\"code\":\"uri_too_long\""));
        assert_eq!(said("200 OK", true), None);
        assert_eq!(
            instead_of(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", true),
            None
        );
        let another = b"HTTP/1.1 400 Bad Request\r\nx-tokenmeter-id: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(instead_of(another, true), None);
    }
}
