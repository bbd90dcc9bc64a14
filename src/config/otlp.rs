//! `[otlp]` and OpenTelemetry's standard variables, which count below it. Owns which of them count when:
//! headers and the like are meant for the address that came with them, and go nowhere else.
//!
//! Invariant: without an endpoint that somebody named there are no settings, and no header's value is
//! repeated in a complaint.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::environment::pairs;
use super::keys::{self, Key};
use super::parse;
use super::problem::Origin;
use super::resolve::{Reader, World};
use super::settings::{ExtraRoots, Otlp};
use super::typed::Value;
use crate::otel::Settings;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// What the process is called, among the others of its resource.
const NAME: &str = "service.name";

pub(super) fn read(
    reader: &mut Reader<'_>,
    world: World<'_>,
    usual_roots: Option<&Arc<ExtraRoots>>,
) -> Option<Otlp> {
    let standard = |name: &str| world.env.get(name).filter(|text| !text.trim().is_empty());
    let own = reader.read(&keys::OTLP_ENDPOINT, parse::collector);
    let is_own = reader.settings.contains_key(keys::OTLP_ENDPOINT.name);
    // All is read in any case, so that what is wrong is told before the endpoint is set.
    reader.or_default(&keys::OTLP_PROTOCOL, parse::protocol);
    let mut settings = Settings {
        endpoint: own.unwrap_or_default(),
        headers: headers(reader),
        traces: reader.or_default(&keys::OTLP_TRACES, parse::switch),
        metrics: reader.or_default(&keys::OTLP_METRICS, parse::switch),
        interval: reader.or_default(&keys::OTLP_INTERVAL, parse::duration),
        sampler: reader.or_default(&keys::OTLP_SAMPLE_RATIO, parse::sampler),
        profile: reader.or_default(&keys::OTLP_PROFILE, parse::profile),
        resource: Vec::new(),
        timeout: reader.or_default(&keys::OTLP_TIMEOUT, parse::duration),
    };
    let extra_roots = match reader.read(&keys::OTLP_CA_FILE, parse::path) {
        Some(file) => reader.extra_roots(&keys::OTLP_CA_FILE, file, world.files),
        None => usual_roots.cloned(),
    };
    let resource = resource(reader, standard(SERVICE_NAME), standard(RESOURCE));
    settings.resource = resource.into_iter().collect();
    if standard(DISABLED).is_some_and(|text| text.trim().eq_ignore_ascii_case("true")) {
        if is_own {
            let origin = Origin::Environment(DISABLED.to_owned());
            let message = "is true, so that nothing is sent to otlp.endpoint";
            reader.findings.warning(Some(&origin), message);
        }
        return None;
    }
    if !is_own {
        from_standard(reader, &mut settings, &standard)?;
    }
    let is_used = settings.traces || settings.metrics;
    is_used.then_some(Otlp { settings, extra_roots })
}

/// The exporter that the standard variables describe, as far as our own keys do not. They may have been
/// set for other programs as well, so that what is wrong with them keeps nobody from starting.
fn from_standard<'a>(
    reader: &mut Reader<'_>,
    settings: &mut Settings,
    standard: &dyn Fn(&str) -> Option<&'a String>,
) -> Option<()> {
    let typed = standard(ENDPOINT)?;
    let mut doubt = |name: &str, why: &str| {
        let origin = Origin::Environment(name.to_owned());
        reader.findings.warning(Some(&origin), why.to_owned());
    };
    match parse::collector(typed.trim()) {
        Ok(endpoint) => settings.endpoint = endpoint,
        Err(why) => {
            doubt(ENDPOINT, &format!("{why}; nothing is sent"));
            return None;
        }
    }
    if !reader.settings.contains_key(keys::OTLP_PROTOCOL.name)
        && let Some(Err(why)) = standard(PROTOCOL).map(|text| parse::protocol(text.trim()))
    {
        doubt(PROTOCOL, &format!("{why} (otlp.endpoint); nothing is sent"));
        return None;
    }
    if !reader.settings.contains_key(keys::OTLP_TIMEOUT.name)
        && let Some(millis) = standard(TIMEOUT)
    {
        match parse::duration(&format!("{}ms", millis.trim())) {
            Ok(timeout) => settings.timeout = timeout,
            Err(_) => doubt(TIMEOUT, "is not a whole number of milliseconds, and not used"),
        }
    }
    if let Some(text) = standard(HEADERS) {
        match pairs(text).and_then(|pairs| header_map(&pairs)) {
            Ok(mut headers) => {
                headers.extend(std::mem::take(&mut settings.headers));
                settings.headers = headers;
            }
            Err(why) => doubt(HEADERS, &format!("{why}; it is not used")),
        }
    }
    Some(())
}

fn map(reader: &Reader<'_>, key: &Key) -> BTreeMap<String, String> {
    match reader.settings.get(key.name).map(|setting| &setting.value) {
        Some(Value::Map(map)) => map.clone(),
        _ => BTreeMap::new(),
    }
}

fn headers(reader: &mut Reader<'_>) -> HeaderMap {
    header_map(&map(reader, &keys::OTLP_HEADERS)).unwrap_or_else(|why| {
        reader.complain(&keys::OTLP_HEADERS, &why);
        HeaderMap::new()
    })
}

fn header_map(pairs: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName =
            name.parse().map_err(|_| "a name in it cannot be a header's".to_owned())?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("the value of `{name}` cannot stand in a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Our own keys before the standard variables, the service's name before what else names it.
fn resource(
    reader: &mut Reader<'_>,
    name: Option<&String>,
    attributes: Option<&String>,
) -> BTreeMap<String, String> {
    let mut resource = match attributes.map(|text| pairs(text)) {
        Some(Ok(attributes)) => attributes,
        Some(Err(why)) => {
            let origin = Origin::Environment(RESOURCE.to_owned());
            reader.findings.warning(Some(&origin), format!("{why}; it is not used"));
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    resource.extend(name.map(|name| (NAME.to_owned(), name.trim().to_owned())));
    resource.extend(map(reader, &keys::OTLP_RESOURCE));
    let own = reader.or_default(&keys::OTLP_SERVICE_NAME, parse::name);
    if reader.settings.contains_key(keys::OTLP_SERVICE_NAME.name) || !resource.contains_key(NAME) {
        resource.insert(NAME.to_owned(), own);
    }
    resource
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigError, Flags};

    fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = env.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let files = |_: &Path| Ok(file.as_bytes().to_vec());
        Config::from_sources(&Flags::default(), &env, &files)
    }

    fn settings(file: &str, env: &[(&str, &str)]) -> Option<Settings> {
        load(file, env).unwrap().otlp.map(|otlp| otlp.settings)
    }

    const FILE: &str = "[otlp]\nendpoint = \"http://collector:4318/\"\n";
    const STANDARD: [(&str, &str); 4] = [
        (ENDPOINT, "https://elsewhere:4318"),
        (HEADERS, "authorization=Bearer%20s3cret,x-a=1"),
        (TIMEOUT, "2500"),
        (SERVICE_NAME, "named"),
    ];

    #[test]
    fn nothing_is_sent_unless_somebody_names_an_endpoint() {
        assert!(settings("", &[]).is_none());
        assert!(settings("[otlp]\ninterval = \"5s\"\n", &[(HEADERS, "a=b")]).is_none());
        assert_eq!(settings(FILE, &[]).unwrap().endpoint, "http://collector:4318");
        assert!(settings(&format!("{FILE}traces = false\nmetrics = false\n"), &[]).is_none());
    }

    #[test]
    fn standard_variables_count_where_their_endpoint_does() {
        let theirs = settings("", &STANDARD).unwrap();
        assert_eq!(theirs.endpoint, "https://elsewhere:4318");
        assert_eq!(theirs.headers["authorization"], "Bearer s3cret");
        assert!(!format!("{theirs:?}").contains("s3cret"));
        assert_eq!(theirs.timeout, Duration::from_millis(2500));
        assert_eq!(theirs.resource, [(NAME.to_owned(), "named".to_owned())]);
        let ours = settings(FILE, &STANDARD).unwrap();
        assert_eq!(ours.endpoint, "http://collector:4318");
        assert!(ours.headers.is_empty(), "{ours:?}");
        assert_eq!(ours.timeout, Duration::from_secs(10));
        assert_eq!(ours.resource, theirs.resource);
    }

    #[test]
    fn our_own_variables_go_before_the_file_and_that_before_the_standard_ones() {
        let file = format!("{FILE}service_name = \"ours\"\n[otlp.resource]\nb = \"file\"\n");
        let env = [(SERVICE_NAME, "theirs"), (RESOURCE, "a=1,b=2,service.name=x")];
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let resource = settings(&file, &env).unwrap().resource;
        assert_eq!(resource, [pair("a", "1"), pair("b", "file"), pair(NAME, "ours")]);
        let env = [("TOKENMETER_OTLP_HEADERS", "x-key=a%2Cb"), ("TOKENMETER_OTLP_PROFILE", "both")];
        let ours = settings(&format!("{FILE}[otlp.headers]\nx-key = \"c\"\n"), &env).unwrap();
        assert_eq!(ours.headers["x-key"], "a,b");
    }

    #[test]
    fn odd_settings_are_warned_of() {
        let warnings = |file: &str| load(file, &[]).unwrap().warnings.join("\n");
        assert_eq!(warnings(FILE), "");
        let circles = warnings("[otlp]\nendpoint = \"http://127.0.0.1:4100\"\n");
        assert!(circles.contains("itself"), "{circles}");
        let bare = warnings(&format!("{FILE}[otlp.headers]\nx-key = \"k\"\n"));
        assert!(bare.contains("without encryption"), "{bare}");
        let own = "[upstreams.vllm]\ntrace_context = \"own\"\n";
        assert!(warnings(own).contains("no effect"));
        assert_eq!(warnings(&format!("{FILE}{own}")), "");
    }

    #[test]
    fn the_standard_switch_turns_all_off_and_says_so() {
        let config = load(FILE, &[(DISABLED, "true")]).unwrap();
        assert!(config.otlp.is_none());
        assert!(config.warnings[0].contains(DISABLED), "{:?}", config.warnings);
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        let complaint = |file: &str, env: &[(&str, &str)]| {
            let error = load(file, env).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            error
        };
        let told = complaint("[otlp]\nendpoint = \"http://me:s3cret@collector\"\n", &[]);
        assert!(told.contains("otlp.headers"), "{told}");
        let told = complaint("[otlp]\nendpoint = \"localhost:4318\"\n", &[]);
        assert!(told.contains("http://"), "{told}");
        let told = complaint("[otlp]\nendpoint = \"http://c/v1/traces\"\n", &[]);
        assert!(told.contains("appended"), "{told}");
        let told = complaint(&format!("{FILE}protocol = \"grpc\"\n"), &[]);
        assert!(told.contains("4318"), "{told}");
        let told = complaint(&format!("{FILE}sample_ratio = 1.5\n"), &[]);
        assert!(told.contains("from 0 to 1"), "{told}");
        let told = complaint(FILE, &[("TOKENMETER_OTLP_HEADERS", "x=1,s3cret")]);
        assert!(told.contains("name=value"), "{told}");
        let told = complaint(FILE, &[("TOKENMETER_OTLP_HEADERS", "x=s3cret%0Ay")]);
        assert!(told.contains("`x`"), "{told}");
    }

    #[test]
    fn a_standard_variable_that_is_wrong_keeps_nobody_from_starting() {
        for (name, value) in [(PROTOCOL, "grpc"), (ENDPOINT, "nonsense")] {
            let env = [(ENDPOINT, "http://c:4317"), (name, value)];
            let config = load("", &env).unwrap();
            assert!(config.otlp.is_none());
            assert!(config.warnings.iter().any(|line| line.contains(name)), "{name}");
        }
    }
}
