//! The heads of requests: what goes where, what goes on and what is noted of it, each compared with rules that are
//! written down here once more, as plainly as can be.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body_util::Empty;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Map, Value};
use tokenmeter::admin;
use tokenmeter::fingerprint::Fingerprints;
use tokenmeter::otel::Sampler;
use tokenmeter::provider::PathFacts;
use tokenmeter::proxy::{
    self, Http2, Origin, Route, Routes, TagHeaders, Target, TraceHeaders, Upstream, steps,
};
use tokenmeter::record::{Record, Tags};

/// A key that no input has.
const CANARY: &str = "sk-canary-8Qv3nLxw";
const BEARER: &str = "Bearer sk-canary-8Qv3nLxw";

/// First segments that are never forwarded.
const RESERVED: [&str; 5] = ["admin", "metrics", "healthz", "readyz", "usage"];

/// Fields that belong to one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

const USER: [&str; 2] = ["x-user", "x-openwebui-user"];
const SINGLE: [&str; 4] = ["x-session", "x-operation", "x-attempt", "x-metadata"];

struct World {
    routes: Routes,
    tags: TagHeaders,
    fingerprints: Fingerprints,
    _home: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a folder");
    let fingerprints = Fingerprints::load(&home.path().join("t.db")).expect("a secret");
    let plain = upstream(0, "openai", "", TraceHeaders::Pass);
    let longer = upstream(1, "azure", "/some/prefix", TraceHeaders::Drop);
    let traced = upstream(2, "house", "", TraceHeaders::Own(Sampler::new(0.5)));
    let unconfigured = [("vertex".to_owned(), "not configured".to_owned())].into();
    let routes = Routes::new([Arc::clone(&plain), longer, traced], unconfigured, plain);
    let tags =
        TagHeaders { user: USER.map(HeaderName::from_static).to_vec(), ..TagHeaders::default() };
    World { routes, tags, fingerprints, _home: home }
});

fn upstream(index: usize, name: &str, prefix: &str, trace: TraceHeaders) -> Arc<Upstream> {
    let authority = Authority::from_static("provider.test");
    let target = Target {
        index,
        origin: Origin::http(authority).expect("an origin"),
        http2: Http2::Never,
        connect_timeout: Duration::from_secs(1),
        pool_idle: Duration::from_secs(1),
    };
    Arc::new(Upstream {
        name: name.to_owned(),
        provider: name.to_owned(),
        target: Arc::new(target),
        prefix: prefix.to_owned(),
        deployments: [("prod".to_owned(), "gpt-4o".to_owned())].into(),
        head_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        injection: None,
        drain: None,
        trace,
    })
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(request) = request(data) else { return Corpus::Reject };
    check(request);
    Corpus::Keep
});

/// A flag, `METHOD TARGET` and a line for each field, as they would come by HTTP/1 or HTTP/2.
fn request(data: &[u8]) -> Option<Request<Empty<Bytes>>> {
    let (flags, text) = data.split_first()?;
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, target) = (Method::from_bytes(&first[..space]).ok()?, &first[space + 1..]);
    let (version, uri) = match flags % 3 {
        0 => (Version::HTTP_11, Uri::try_from(target).ok()?),
        1 => (Version::HTTP_10, Uri::try_from(target).ok()?),
        _ => {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTPS);
            parts.authority = Some(Authority::from_static("tokenmeter.test"));
            parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
            (Version::HTTP_2, Uri::from_parts(parts).ok()?)
        }
    };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.version_mut() = version;
    *request.uri_mut() = uri;
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().try_append(name, value).ok()?;
    }
    if String::from_utf8_lossy(data).contains("canary") {
        return None;
    }
    if flags & 0x80 != 0 {
        let bearer = HeaderValue::from_static(BEARER);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Some(request)
}

/// The way of a request, as `app` and `proxy` have it.
fn check(request: Request<Empty<Bytes>>) {
    let world = &*WORLD;
    let path = request.uri().path().to_owned();
    let fingerprints = check_fingerprints(&request);
    if let Some(refusal) = proxy::refuse_doubtful(&request) {
        assert_eq!(refusal.status(), 400);
        return;
    }
    check_doubtless(&request);
    let route = world.routes.find(&path);
    check_route(&route, &path);
    let Route::Forward { upstream, skip } = route else { return };
    let tags = world.tags.read(request.headers());
    check_tags(&tags.as_ref().ok(), request.headers());
    let tags = match tags {
        Ok(tags) => tags,
        Err(invalid) => {
            assert!(is_tag(&invalid.header), "{invalid:?}");
            assert!(request.headers().contains_key(&invalid.header), "{invalid:?}");
            assert!(!invalid.reason.chars().any(char::is_control), "{invalid:?}");
            return;
        }
    };
    let is_connect = request.method() == Method::CONNECT;
    match steps::forwardable(&request, &upstream, skip, Some(0)) {
        Ok(forwarded) => {
            assert!(!is_connect, "a tunnel to anywhere");
            check_forwarded(forwarded.as_str(), &request, &upstream, skip);
        }
        // Nothing that hyper takes is left over.
        Err((_, why)) => assert!(is_connect || forwarded_length(&request) > 60_000, "{why}"),
    }
    let facts = PathFacts::of_target(&path, request.uri().query());
    let mut record = steps::new_record(&upstream, &request, tags, facts.endpoint, facts.model);
    record.key_fingerprint = fingerprints;
    record.trace = steps::read_trace(request.headers());
    check_record(&record);
    let sent = request.headers().clone();
    let mut fields = sent.clone();
    steps::write_trace(&mut fields, upstream.trace, &record);
    check_trace(&sent, &fields, upstream.trace, &record);
    let before = fields.clone();
    steps::for_upstream(&mut fields, request.version(), &world.tags);
    check_fields(&before, &fields, request.version());
}

fn forwarded_length(request: &Request<Empty<Bytes>>) -> usize {
    request.uri().path().len() + request.uri().query().map_or(0, str::len)
}

fn check_fingerprints(request: &Request<Empty<Bytes>>) -> Option<String> {
    let (headers, query) = (request.headers(), request.uri().query());
    let all = WORLD.fingerprints.of_all(headers, query);
    let one = WORLD.fingerprints.of_request(headers, query);
    assert_eq!(one, all.first().copied());
    for fingerprint in &all {
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 12);
        assert!(text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{text}");
        assert_eq!(text.parse(), Ok(*fingerprint));
    }
    let bearer = headers.get(AUTHORIZATION).is_some_and(|value| value == BEARER);
    assert!(!bearer || all.contains(&WORLD.fingerprints.of(CANARY.as_bytes())));
    one.map(|one| one.to_string())
}

/// What must not be let in however it is spelt.
fn check_doubtless(request: &Request<Empty<Bytes>>) {
    let headers = request.headers();
    let codings: Vec<_> = headers.get_all("transfer-encoding").iter().collect();
    assert!(codings.len() <= 1, "two codings");
    assert!(codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")));
    let hosts: Vec<_> = headers.get_all("host").iter().collect();
    assert!(hosts.len() <= 1, "two hosts");
    assert!(request.version() != Version::HTTP_11 || hosts.len() == 1, "no host");
    for host in hosts {
        let odd = |byte: &u8| b"@/?#\\ \t<>\"%".contains(byte) || !byte.is_ascii_graphic();
        assert!(!host.as_bytes().iter().any(odd), "{host:?}");
    }
    let path = request.uri().path();
    assert!(path.starts_with('/') || path == "*" && request.method() == Method::OPTIONS, "{path}");
}

/// The first segment as it stands decides; what could be made of it by decoding does not.
fn check_route(route: &Route, path: &str) {
    let first = path.trim_start_matches('*').split('/').nth(1).unwrap_or_default();
    let is_reserved = RESERVED.contains(&first);
    let is_page = admin::is_a_page(path);
    match route {
        Route::Forward { skip, .. } => {
            assert!(!is_reserved, "{path} is forwarded");
            assert!(!is_page, "{path} is forwarded, and a page too");
            assert!(*skip == 0 || path[..*skip] == format!("/{first}"), "{path} without {skip}");
            let meant = normalised(path);
            let is_respelt = path.contains(['%', '\\', '.']) || path.contains("//");
            let is_reserved = RESERVED.iter().any(|name| *name == meant);
            assert!(!is_reserved || is_respelt, "{path} means {meant}");
        }
        Route::Own => {
            assert!(["healthz", "readyz", "usage"].contains(&first), "{path}");
            assert!(!is_page, "{path} is the operator's, and open where calls come in");
        }
        Route::Operator => assert!(["admin", "metrics"].contains(&first), "{path}"),
        Route::Unconfigured(_) => assert_eq!(first, "vertex"),
    }
}

/// The first segment that a careless reader would see: decoded, again and again, its dots walked.
fn normalised(path: &str) -> String {
    let mut text = path.as_bytes().to_vec();
    for _ in 0..3 {
        text = decoded(&text);
    }
    let text = String::from_utf8_lossy(&text).replace('\\', "/");
    let mut walked: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(walked.pop()),
            other => walked.push(other),
        }
    }
    walked.first().copied().unwrap_or_default().to_owned()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| Some(char::from(*text.get(at)?).to_digit(16)? as u8);
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Byte for byte.
fn check_forwarded(
    forwarded: &str,
    request: &Request<Empty<Bytes>>,
    upstream: &Upstream,
    skip: usize,
) {
    let (path, query) = (request.uri().path(), request.uri().query());
    let mut expected = format!("{}{}", upstream.prefix, &path[skip..]);
    if expected.is_empty() {
        expected.push('/');
    }
    if path == "*" {
        expected = "*".to_owned();
    } else if let Some(query) = query {
        expected = format!("{expected}?{query}");
    }
    assert_eq!(forwarded, expected);
    assert!(!forwarded.bytes().any(|byte| byte <= b' ' || byte == 0x7f), "{forwarded:?}");
}

fn is_tag(name: &str) -> bool {
    USER.contains(&name) || SINGLE.contains(&name) || name.starts_with("x-tag-")
}

/// Good tags are taken, bad ones refused.
fn check_tags(tags: &Option<&Tags>, headers: &HeaderMap) {
    let expected = tags_of(headers);
    let found = tags.map(|tags| {
        let texts = [&tags.user, &tags.session, &tags.operation].map(Clone::clone);
        (texts, tags.attempt, tags.metadata.clone())
    });
    assert_eq!(found, expected);
    if let Some((_, _, Some(metadata))) = &found
        && headers.keys().any(|name| name.as_str().starts_with("x-tag-"))
    {
        assert!(serde_json::to_string(metadata).is_ok_and(|text| text.len() <= 4096));
    }
}

type Expected = ([Option<String>; 3], Option<u32>, Option<Map<String, Value>>);

/// The tags, if all of them are good.
fn tags_of(headers: &HeaderMap) -> Option<Expected> {
    let text = |names: &[&str], most: usize| -> Option<Option<String>> {
        let Some(name) = names.iter().find(|name| headers.contains_key(**name)) else {
            return Some(None);
        };
        let mut values = headers.get_all(*name).iter();
        let first = values.next()?;
        let text = str::from_utf8(first.as_bytes()).ok()?;
        let is_good = values.all(|other| other == first)
            && text.len() <= most
            && !text.chars().any(char::is_control);
        is_good.then(|| Some(text.to_owned()))
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let user = filled(text(&USER, 256)?);
    let [session, operation] =
        [filled(text(&["x-session"], 256)?), filled(text(&["x-operation"], 256)?)];
    let attempt = match text(&["x-attempt"], 256)? {
        Some(digits) if digits.starts_with('+') => return None,
        Some(digits) => Some(digits.parse().ok()?),
        None => None,
    };
    let mut metadata: Map<String, Value> = match text(&["x-metadata"], 4096)? {
        Some(json) => serde_json::from_str(&json).ok()?,
        None => Map::new(),
    };
    if metadata.values().any(|value| depth(value) > 64) {
        return None;
    }
    let mut has_named = false;
    for name in headers.keys().map(HeaderName::as_str) {
        let Some(member) = name.strip_prefix("x-tag-") else { continue };
        has_named = true;
        let value = Value::String(text(&[name], 256)??);
        if member.is_empty() || metadata.get(member).is_some_and(|given| *given != value) {
            return None;
        }
        metadata.insert(member.to_owned(), value);
    }
    if has_named && serde_json::to_string(&metadata).ok()?.len() > 4096 {
        return None;
    }
    Some(([user, session, operation], attempt, Some(metadata).filter(|map| !map.is_empty())))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(members) => 1 + members.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// No key in what is kept, and it can be read again.
fn check_record(record: &Record) {
    let shown = format!("{record:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    let line = serde_json::to_string(record).expect("a line");
    assert!(!line.contains(CANARY) && !line.contains('\n'), "{line}");
    let again: Record = serde_json::from_str(&line).expect("a line that can be read again");
    assert_eq!(serde_json::to_string(&again).expect("a line"), line);
}

/// Not a byte of a trace changes, all of it goes, or our own stands there.
fn check_trace(sent: &HeaderMap, fields: &HeaderMap, told: TraceHeaders, record: &Record) {
    let others = |fields: &HeaderMap| -> Vec<(HeaderName, HeaderValue)> {
        let is_other = |name: &str| name != "traceparent" && name != "tracestate";
        let fields = fields.iter().filter(|(name, _)| is_other(name.as_str()));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    assert_eq!(others(sent), others(fields));
    let has = |name: &str| fields.contains_key(name);
    match told {
        TraceHeaders::Pass => assert_eq!(sent, fields),
        TraceHeaders::Drop => assert!(!has("traceparent") && !has("tracestate")),
        TraceHeaders::Own(_) => {
            let parents: Vec<_> = fields.get_all("traceparent").iter().collect();
            let [parent] = parents[..] else { panic!("{parents:?}") };
            let parts: Vec<&str> = parent.to_str().expect("a text").split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
            assert!(record.trace.is_some() || !has("tracestate"));
        }
    }
}

/// What is of the connection stays behind, the tags too; nothing else.
fn check_fields(before: &HeaderMap, after: &HeaderMap, version: Version) {
    let mut named: Vec<Vec<u8>> = Vec::new();
    for value in before.get_all("connection") {
        let names = value.as_bytes().split(|byte| *byte == b',');
        named.extend(names.map(|name| name.trim_ascii().to_ascii_lowercase()));
    }
    let of_the_message = ["host", "content-length"];
    let goes = |name: &str| {
        let is_of_the_hop =
            HOP_BY_HOP.contains(&name) || named.iter().any(|n| n == name.as_bytes());
        is_tag(name) || is_of_the_hop && !of_the_message.contains(&name)
    };
    let takes_trailers = before.get_all("te").iter().any(|value| {
        let mut codings = value.as_bytes().split(|byte| *byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    let is_split_cookie = |name: &str| name == "cookie" && version == Version::HTTP_2;
    let mut expected: Vec<(&str, &[u8])> = Vec::new();
    for (name, value) in before {
        if !goes(name.as_str()) && !is_split_cookie(name.as_str()) {
            expected.push((name.as_str(), value.as_bytes()));
        }
    }
    let mut left: Vec<(&str, &[u8])> = Vec::new();
    for (name, value) in after {
        let is_ours = ["te", "connection"].contains(&name.as_str());
        if is_ours {
            assert!(takes_trailers, "{name:?}");
            assert!(value == if name == "te" { "trailers" } else { "te" }, "{name:?}: {value:?}");
        } else if !is_split_cookie(name.as_str()) {
            left.push((name.as_str(), value.as_bytes()));
        }
    }
    assert_eq!(left, expected);
    if version == Version::HTTP_2 && !goes("cookie") {
        let parts: Vec<&[u8]> =
            before.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
        let joined: Vec<&[u8]> =
            after.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
        assert!(joined.len() <= 1);
        assert_eq!(joined.first().map_or(&b""[..], |cookie| cookie), parts.join(&b"; "[..]));
    }
}
