//! Which header fields travel. Owns the hop-by-hop rules of RFC 9110 section 7.6.1; adds nothing but
//! `Host` on the way up and `x-tokenmeter-id` on the way down.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{Method, Request, Version};

use super::tags::TagHeaders;

/// Fields that belong to one connection, whatever `Connection` says.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// A request's fields as they go up: without its tags and what belongs to the client's connection.
pub fn for_upstream(headers: &mut HeaderMap, version: Version, tags: &TagHeaders) {
    let takes_trailers = accepts_trailers(headers);
    remove_hop_by_hop_and(headers, |name| tags.names(name));
    if takes_trailers {
        offer_trailers(headers);
    }
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// An answer's fields as they go down: without what belongs to the provider's connection. Beside a transfer coding
/// a length says nothing (RFC 9112, 6.3), and would cut the answer off.
pub(super) fn for_client(headers: &mut HeaderMap) {
    let is_coded = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop_and(headers, |name| is_coded && name == CONTENT_LENGTH);
}

/// Takes out what belongs to the connection that the message came by: the fields above and those that
/// `Connection` names. Never what frames the message or names its host.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_hop_by_hop_and(headers, |_| false);
}

/// The same, and what `goes` too. To take out fields is to make the map anew, so it is done once.
fn remove_hop_by_hop_and(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let named = named_by_connection(headers);
    let belongs_to_the_message = |name: &HeaderName| name == HOST || name == CONTENT_LENGTH;
    let is_of_the_hop = |name: &HeaderName| is_hop_by_hop(name) || named.contains(name);
    retain(headers, |name| !goes(name) && (belongs_to_the_message(name) || !is_of_the_hop(name)));
}

/// Takes fields out and leaves the others in their order, which [`HeaderMap::remove`] does not.
pub(super) fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&keep) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    let mut fields = headers.drain().peekable();
    let mut again = None;
    while let Some((name, value)) = fields.next() {
        // Further values of a field come without its name.
        let Some(name) = name.or_else(|| again.clone()) else { continue };
        let has_more = fields.peek().is_some_and(|(next, _)| next.is_none());
        again = has_more.then(|| name.clone());
        if keep(&name) {
            kept.append(name, value);
        }
    }
    drop(fields);
    *headers = kept;
}

/// Those that `Connection` names beside what belongs to the hop anyway.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &CONNECTION)
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

/// The elements of a list. One that is no text says nothing of those beside it.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// What is wrong with a request that hyper takes: its framing, its target, its host (RFC 9112, 3.2 and 6.1).
/// Nothing here depends on them, but who stands before might read something else than who stands behind.
pub(super) fn objection<B>(request: &Request<B>) -> Option<&'static str> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Some("the transfer coding of the request is not known; send it chunked");
    }
    let uri = request.uri();
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Some("the request's target must begin with a slash");
    }
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Some("the target * is for OPTIONS only");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some("there is more than one Host field");
    }
    match host {
        Some(host) if is_host(host.as_bytes()) => None,
        Some(_) => Some("the Host field is no name or address with an optional port"),
        None if request.version() == Version::HTTP_11 => Some("there is no Host field"),
        None => None,
    }
}

/// A name or an address, and a port or none; or nothing at all.
fn is_host(value: &[u8]) -> bool {
    let Some(port_at) = value.iter().rposition(|byte| *byte == b':' || *byte == b']') else {
        return value.is_empty() || is_authority(value);
    };
    let (host, port) = match value[port_at] {
        b':' => (&value[..port_at], &value[port_at + 1..]),
        _ => (value, &b""[..]),
    };
    let port = std::str::from_utf8(port).unwrap_or("?");
    let is_port =
        port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_port && is_authority(host)
}

fn is_authority(host: &[u8]) -> bool {
    !host.contains(&b'@') && Authority::try_from(host).is_ok()
}

/// True if the client takes trailers. tokenmeter passes them on, so it may say so to the provider.
fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// Says to the provider that trailers are taken.
fn offer_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONNECTION, HeaderValue::from_static("te"));
}

/// `websocket`, if a message switches to it or asks to. Other protocols (clients offer `h2c` unasked)
/// are of one connection only and not passed on.
pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let is_websocket = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    headers.get(UPGRADE).filter(is_websocket).filter(|_| asked).cloned()
}

/// Puts back what [`remove_hop_by_hop`] took, on both sides of an upgrade.
pub(super) fn restore_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// HTTP/2 may split cookies over several fields; HTTP/1.1 must have them in one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_stays_behind_but_never_framing() {
        let mut headers = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "host, content-length"),
            ("x-private", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-kept"]);
    }

    #[test]
    fn what_connection_names_beside_what_is_no_text_stays_behind() {
        let mut headers = headers(&[("x-private", "1"), ("x-kept", "1")]);
        let named = HeaderValue::from_bytes(b"\xFF, X-Private").unwrap();
        headers.insert(CONNECTION, named);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_does_not_go_down() {
        let mut coded =
            headers(&[("transfer-encoding", "chunked"), ("content-length", "3"), ("a", "1")]);
        for_client(&mut coded);
        assert_eq!(coded.keys().collect::<Vec<_>>(), ["a"]);
        let mut plain = headers(&[("connection", "content-length"), ("content-length", "3")]);
        for_client(&mut plain);
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["content-length"]);
    }

    #[test]
    fn what_is_left_keeps_its_order() {
        let mut headers = headers(&[
            ("a", "1"),
            ("te", "trailers"),
            ("b", "1"),
            ("c", "1"),
            ("b", "2"),
            ("keep-alive", "x"),
            ("d", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let left: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1")]);
    }

    #[test]
    fn an_upgrade_needs_connection_to_say_so() {
        assert!(upgrade_of(&headers(&[("upgrade", "websocket")])).is_none());
        let asked = headers(&[("upgrade", "websocket"), ("connection", "keep-alive, Upgrade")]);
        assert_eq!(upgrade_of(&asked).unwrap(), "websocket");
        let unasked = [("upgrade", "h2c"), ("connection", "Upgrade, HTTP2-Settings")];
        assert!(upgrade_of(&headers(&unasked)).is_none());
    }

    #[test]
    fn cookies_of_http_2_are_joined() {
        let mut headers = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
