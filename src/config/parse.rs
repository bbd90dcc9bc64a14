//! What a typed text means: one function for each kind of value, `text -> value`, whose error says what
//! would be right. Knows neither keys nor where the text came from.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, Uri};
use ipnet::IpNet;
use jiff::SignedDuration;
use tracing_subscriber::EnvFilter;

use super::settings::{Http2, LogFormat, StreamUsage, TraceTo};
use crate::fingerprint::Fingerprint;
use crate::ledger::{JournalSync, OnFailure};
use crate::otel::{Profile, Sampler};
use crate::pricing::PriceList;
use crate::secret::Secret;

/// Longer waits than this are slips of the unit.
const LONGEST: Duration = Duration::from_hours(7 * 24);

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// hyper refuses a smaller buffer for a request's head.
const SMALLEST_HEAD: usize = 8 * 1024;

/// Label sets that Prometheus still takes in one scrape.
const MOST_SERIES: usize = 10_000;

/// More threads than any machine has cores are a slip.
const MOST_WORKERS: usize = 1024;

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.strip_prefix("localhost").unwrap_or(text);
        let port = port.strip_prefix(':').unwrap_or(port);
        let port = port.parse::<u16>().unwrap_or(4100);
        format!("`{text}` is not an IP address and a port such as 127.0.0.1:{port}")
    })
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let net = text.parse::<IpNet>().ok().or_else(one).ok_or_else(|| {
        format!("`{text}` is not a network such as 10.0.0.0/8 or an address such as ::1")
    })?;
    if net.network() != net.addr() {
        let meant = net.trunc();
        return Err(format!("`{text}` is an address within a network; did you mean `{meant}`?"));
    }
    if let IpAddr::V6(address) = net.addr()
        && address.to_ipv4_mapped().is_some()
    {
        return Err(format!("`{text}`: write it in the form of IPv4, as 10.0.0.0/8"));
    }
    Ok(net)
}

/// What stands for a key. A key typed here by mistake is not repeated.
pub(super) fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    text.parse().map_err(|_| {
        "must be the fingerprint of a key, such as key:0123456789ab, and not the key itself; `tokenmeter \
         fingerprint` prints it"
            .to_owned()
    })
}

/// A file's path. Addresses of databases that are not files are refused by name.
pub(super) fn database(text: &str) -> Result<PathBuf, String> {
    if let Some((scheme @ ("postgres" | "postgresql"), _)) = text.split_once("://") {
        // The address may hold a password, so it is not repeated.
        return Err(format!("{scheme}:// is not supported yet; give a file such as tokenmeter.db"));
    }
    if text.contains("://") || text.starts_with(':') || text.starts_with("sqlite:") {
        return Err("only a file's path, such as tokenmeter.db, is supported".to_owned());
    }
    path(text)
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.trim().is_empty() {
        return Err("a file's path is missing".to_owned());
    }
    if text.starts_with("~/") {
        return Err(format!("`{text}`: `~` is not expanded here; write the whole path"));
    }
    Ok(PathBuf::from(text))
}

/// More than zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration such as \"250ms\", \"5s\", \"10m\" or \"1h 30m\"");
    let signed: SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(signed).map_err(|_| wrong())?;
    if duration > LONGEST {
        return Err(format!("`{text}` is longer than 7 days"));
    }
    Ok(duration)
}

pub(super) fn count<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number that fits here"))
}

/// A whole number of at least one.
pub(super) fn some<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    let number: T = count(text)?;
    if number == T::default() { Err("must be at least 1".to_owned()) } else { Ok(number) }
}

/// Label sets: each is some twenty lines at every scrape.
pub(super) fn metrics_series(text: &str) -> Result<usize, String> {
    let number: usize = some(text)?;
    if number > MOST_SERIES {
        return Err(format!("`{text}` is more than {MOST_SERIES}"));
    }
    Ok(number)
}

pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number: usize = some(text)?;
    NonZeroUsize::new(number)
        .filter(|number| number.get() <= MOST_WORKERS)
        .ok_or_else(|| format!("`{text}` is more than {MOST_WORKERS}"))
}

/// A whole number of bytes, with or without a unit: `65536`, `64KiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        unit => return Err(format!("`{unit}` is not a unit; use KiB, MiB or GiB")),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("`{text}` is not a size such as 65536, \"64KiB\" or \"64MiB\""))
}

pub(super) fn head_size(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).map_err(|_| format!("`{text}` is too large"))?;
    if bytes < SMALLEST_HEAD { Err("must be at least 8KiB".to_owned()) } else { Ok(bytes) }
}

/// Public lists are not there to be asked all the time.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    if every < SHORTEST_INTERVAL { Err("must be at least 1s".to_owned()) } else { Ok(every) }
}

/// A public price list.
pub(super) fn price_list(text: &str) -> Result<PriceList, String> {
    PriceList::named(text).ok_or_else(|| {
        let known: Vec<&str> = PriceList::ALL.iter().map(|list| list.as_str()).collect();
        format!("no price list of `{text}` is known; there are: {}", known.join(", "))
    })
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is not true or false")),
    }
}

pub(super) fn stream_usage(text: &str) -> Result<StreamUsage, String> {
    match text {
        "off" => Ok(StreamUsage::Off),
        "inject" => Ok(StreamUsage::Inject),
        _ => Err(format!("`{text}` is not \"off\" or \"inject\"")),
    }
}

pub(super) fn journal_sync(text: &str) -> Result<JournalSync, String> {
    match text {
        "none" => Ok(JournalSync::None),
        "interval" => Ok(JournalSync::Interval),
        "call" => Ok(JournalSync::Call),
        _ => Err(format!("`{text}` is not \"none\", \"interval\" or \"call\"")),
    }
}

pub(super) fn on_ledger_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "serve" => Ok(OnFailure::Serve),
        "refuse" => Ok(OnFailure::Refuse),
        _ => Err(format!("`{text}` is not \"serve\" or \"refuse\"")),
    }
}

/// True for `drain`.
pub(super) fn on_disconnect(text: &str) -> Result<bool, String> {
    match text {
        "cancel" => Ok(false),
        "drain" => Ok(true),
        _ => Err(format!("`{text}` is not \"cancel\" or \"drain\"")),
    }
}

pub(super) fn drain_seconds(text: &str) -> Result<Duration, String> {
    let duration = Duration::from_secs(some(text)?);
    if duration > LONGEST {
        return Err(format!("`{text}` is longer than 7 days"));
    }
    Ok(duration)
}

pub(super) fn http2(text: &str) -> Result<Http2, String> {
    match text {
        "auto" => Ok(Http2::Auto),
        "never" => Ok(Http2::Never),
        "always" => Ok(Http2::Always),
        _ => Err(format!("`{text}` is not \"auto\", \"never\" or \"always\"")),
    }
}

pub(super) fn trace_context(text: &str) -> Result<TraceTo, String> {
    match text {
        "pass" => Ok(TraceTo::Pass),
        "own" => Ok(TraceTo::Own),
        "drop" => Ok(TraceTo::Drop),
        _ => Err(format!("`{text}` is not \"pass\", \"own\" or \"drop\"")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is not \"text\" or \"json\"")),
    }
}

pub(super) fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "latest" => Ok(Profile::Latest),
        "previous" => Ok(Profile::Previous),
        "both" => Ok(Profile::Both),
        _ => Err(format!("`{text}` is not \"latest\", \"previous\" or \"both\"")),
    }
}

/// A share of all calls.
pub(super) fn sampler(text: &str) -> Result<Sampler, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.map(Sampler::new).ok_or_else(|| format!("`{text}` is not a number from 0 to 1"))
}

pub(super) fn protocol(text: &str) -> Result<(), String> {
    match text {
        "http/protobuf" => Ok(()),
        "grpc" | "http/json" => Err(format!(
            "\"{text}\" is not spoken; use \"http/protobuf\" and the collector's HTTP port, 4318 as a rule"
        )),
        _ => Err(format!("`{text}` is not \"http/protobuf\"")),
    }
}

/// Some text on one line.
pub(super) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be a text of one line".to_owned());
    }
    Ok(text.to_owned())
}

/// A collector's address without a slash at its end. What stands before an `@` is not repeated.
pub(super) fn collector(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{why}, as in http://localhost:4318"));
    if text.contains('@') {
        return wrong("keys go into otlp.headers and not into the address; give the address alone");
    }
    let uri: Uri = match text.parse() {
        Ok(uri) => uri,
        Err(_) => return wrong("is not an address; begin with http:// or https://"),
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return wrong("begin with http:// or https:// and a host");
    }
    if uri.query().is_some() {
        return wrong("must have no query");
    }
    let text = text.trim_end_matches('/');
    if ["/v1/traces", "/v1/metrics", "/v1/logs"].iter().any(|path| text.ends_with(path)) {
        return wrong("must not have /v1/… at its end, which is appended");
    }
    Ok(text.to_owned())
}

pub(super) fn log(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is not a filter such as \"info\" or \"warn,tokenmeter=debug\"");
    // Names of modules are ASCII; on other characters the parser panics.
    if !text.is_ascii() {
        return Err(wrong());
    }
    EnvFilter::builder().parse(text).map_err(|_| wrong())?;
    Ok(text.to_owned())
}

pub(super) fn word(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if text.is_empty() || !text.chars().all(legal) {
        return Err(format!("`{text}` is not a word of lower-case letters, digits, `-`, `_`, `.`"));
    }
    Ok(text.to_owned())
}

/// The name of an environment variable. A key typed here by mistake is not repeated.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(legal)
    {
        return Err(
            "must be the name of an environment variable, such as OPENAI_API_KEY, and not \
                    the key itself"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// A key or token that can stand in a header. Blanks around it, as a file's last newline, are dropped.
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(Secret::new(text));
    }
    Err("holds characters that cannot stand in a header".to_owned())
}

/// A header whose value may be read as a tag and taken out.
pub(super) fn tag_header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName =
        text.parse().map_err(|_| format!("`{text}` cannot be the name of a header"))?;
    if NOT_TAGS.contains(&name.as_str()) {
        return Err(format!("`{name}` cannot carry a tag: it would be missing upstream"));
    }
    if name == "x-attempt" || name == "x-metadata" || name.as_str().starts_with("x-tag-") {
        return Err(format!("`{name}` has a meaning already"));
    }
    Ok(name)
}

/// Headers that providers or HTTP itself need; tag headers are taken out before a call goes on.
const NOT_TAGS: &[&str] = &[
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "api-key",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-goog-api-key",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        for text in ["", "5", "0s", "-5s", "5 parsecs", "8d", "999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_of_bytes() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        for text in ["", "0", "-1", "1.5MiB", "64K1B", "99999999999GiB", "7 parsecs"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(head_size("4KiB").is_err());
    }

    #[test]
    fn an_address_error_shows_how_to_write_it() {
        assert!(address("[::1]:4100").is_ok());
        for text in ["8080", ":8080", "localhost:8080"] {
            assert!(address(text).unwrap_err().ends_with("127.0.0.1:8080"));
        }
    }

    #[test]
    fn a_database_is_a_file() {
        assert_eq!(database("a/b.db"), Ok(PathBuf::from("a/b.db")));
        let error = database("postgres://me:hunter2@db/x").unwrap_err();
        assert!(error.contains("not supported yet") && !error.contains("hunter2"));
        assert!(database(":memory:").is_err());
        assert!(database("").is_err());
    }

    #[test]
    fn a_key_in_the_place_of_a_variable_s_name_is_not_repeated() {
        let error = variable("sk-proj-canary").unwrap_err();
        assert!(!error.contains("canary"));
        assert!(variable("OPENAI_API_KEY").is_ok());
    }

    #[test]
    fn a_header_that_the_provider_needs_carries_no_tag() {
        assert!(tag_header("Authorization").is_err());
        assert!(tag_header("x-tag-team").is_err());
        assert!(tag_header("bad header").is_err());
        assert_eq!(tag_header("X-User").unwrap(), "x-user");
    }

    #[test]
    fn a_secret_loses_its_newline_and_nothing_else() {
        assert_eq!(secret(" abc\n").unwrap().expose(), "abc");
        assert!(secret("a b").is_err());
        assert!(secret(" ").is_err());
    }
}
