//! Typed settings to a checked [`Config`]. Owns the checks that need more than one value; every problem
//! is noted and the reading goes on with the default, so that all of them are reported at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::keys::{self, Fallback, Key};
use super::problem::{Findings, Origin};
use super::settings::{
    ClientTimeouts, Clients, Config, Drain, ExtraRoots, Limits, PriceUpdates, TagHeaders, Upstream,
    UpstreamTimeouts,
};
use super::typed::{Section, Settings, Typed, Value};
use super::{Books, Files, Listener, doubts, known, otlp, parse, tls};
use crate::nearest::nearest;
use crate::pricing::PriceList;
use crate::secret::Secret;
use crate::telemetry::Label;

/// What the checks may ask of the world.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) files: Files<'a>,
}

/// Reads everything. What is returned counts only if `findings` has no problem in the end.
pub(super) fn config(typed: &Typed, world: World<'_>, findings: &mut Findings) -> Config {
    let mut reader = Reader { owner: "", settings: &typed.global, findings };
    let defaults = Defaults {
        timeouts: global_timeouts(&mut reader),
        extra_roots: reader
            .read(&keys::CA_FILE, parse::path)
            .and_then(|file| reader.extra_roots(&keys::CA_FILE, file, world.files)),
    };
    let mut config = Config {
        listen: reader.or_default(&keys::LISTEN, parse::address),
        database: database(&mut reader),
        pricing: reader.read(&keys::PRICING, parse::path),
        price_updates: price_updates(&mut reader),
        default_upstream: reader.or_default(&keys::DEFAULT_UPSTREAM, parse::word),
        upstreams: BTreeMap::new(),
        tags: tags(&mut reader),
        client_timeouts: client_timeouts(&mut reader),
        limits: limits(&mut reader),
        journal_days: reader.or_default(&keys::JOURNAL_DAYS, parse::some),
        retention_days: reader.read(&keys::RETENTION_DAYS, parse::some),
        journal_sync: reader.or_default(&keys::JOURNAL_SYNC, parse::journal_sync),
        on_ledger_failure: reader.or_default(&keys::ON_LEDGER_FAILURE, parse::on_ledger_failure),
        shutdown_grace: reader.or_default(&keys::SHUTDOWN_GRACE, parse::duration_or_zero),
        workers: reader.read(&keys::WORKERS, parse::workers),
        log: reader.or_default(&keys::LOG, parse::log),
        log_format: reader.or_default(&keys::LOG_FORMAT, parse::log_format),
        log_calls: reader.or_default(&keys::LOG_CALLS, parse::switch),
        admin_token: reader.admin_token(world),
        admin_listen: reader.read(&keys::ADMIN_LISTEN, parse::address),
        clients: clients(&mut reader),
        metrics_public: reader.or_default(&keys::METRICS_PUBLIC, parse::switch),
        tls: tls::read(&mut reader, world),
        otlp: otlp::read(&mut reader, world, defaults.extra_roots.as_ref()),
        metrics_labels: reader.labels(&keys::METRICS_LABELS),
        metrics_series: reader.or_default(&keys::METRICS_SERIES, parse::metrics_series),
        source: None,
        secret_files: secret_files(typed, world.env),
        warnings: Vec::new(),
    };
    config.upstreams = upstreams(typed, world, &defaults, findings);
    check_default_upstream(&config, typed, findings);
    check_admin_listen(&config, typed, findings);
    doubts::note(&config, typed, findings);
    config
}

/// The ledger's place alone, for reports that need nothing else of the configuration.
pub(super) fn database_of(typed: &Typed, findings: &mut Findings) -> PathBuf {
    database(&mut Reader { owner: "", settings: &typed.global, findings })
}

/// All that recorded calls are priced by.
pub(super) fn books(typed: &Typed, findings: &mut Findings) -> Books {
    let mut reader = Reader { owner: "", settings: &typed.global, findings };
    let upstreams = typed.upstreams.iter();
    Books {
        database: database(&mut reader),
        pricing: reader.read(&keys::PRICING, parse::path),
        deployments: upstreams.map(|(name, one)| (name.clone(), deployments(one))).collect(),
    }
}

fn deployments(section: &Section) -> BTreeMap<String, String> {
    match section.settings.get(keys::DEPLOYMENTS.name).map(|setting| &setting.value) {
        Some(Value::Map(map)) => map.clone(),
        _ => BTreeMap::new(),
    }
}

fn database(reader: &mut Reader<'_>) -> PathBuf {
    reader.or_default(&keys::DATABASE, parse::database)
}

/// Settings that are secrets or may hold some.
const SECRETS: [&Key; 2] = [&keys::ADMIN_TOKEN, &keys::OTLP_HEADERS];

fn secret_files(typed: &Typed, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let settings = SECRETS.iter().filter_map(|key| typed.global.get(key.name));
    let in_it = settings.filter_map(|setting| match &setting.origin {
        Origin::File { path, .. } => Some(PathBuf::from(path)),
        Origin::Environment(_) | Origin::Flag(_) => None,
    });
    let token = env.get(keys::ENV_ADMIN_TOKEN_FILE).filter(|text| !text.trim().is_empty());
    let token = token.filter(|_| !typed.global.contains_key(keys::ADMIN_TOKEN.name));
    let mut files: Vec<_> = in_it.chain(token.map(PathBuf::from)).collect();
    files.dedup();
    files
}

/// The admin token in the file that a variable names, if one does. A complaint names the file and repeats
/// nothing of it.
pub(super) fn token_in_file(
    env: &BTreeMap<String, String>,
    files: Files<'_>,
) -> Option<Result<Secret, String>> {
    let file = env.get(keys::ENV_ADMIN_TOKEN_FILE).filter(|text| !text.trim().is_empty())?;
    let token = match files(Path::new(file)) {
        Ok(bytes) => parse::secret(&String::from_utf8_lossy(&bytes)),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    Some(token.map_err(|why| format!("{file} {why}")))
}

/// The listener alone, for whoever asks there whether it is served.
pub(super) fn listener_of(typed: &Typed, findings: &mut Findings) -> Listener {
    let mut reader = Reader { owner: "", settings: &typed.global, findings };
    let is_encrypted = typed.global.contains_key(keys::TLS_CERTIFICATE.name);
    Listener { address: reader.or_default(&keys::LISTEN, parse::address), is_encrypted }
}

/// What an upstream has unless it says otherwise.
struct Defaults {
    timeouts: UpstreamTimeouts,
    extra_roots: Option<Arc<ExtraRoots>>,
}

/// Reads keys of one owner: the whole configuration or one upstream.
pub(super) struct Reader<'a> {
    /// For complaints: `upstreams.azure.`, or empty.
    owner: &'a str,
    pub(super) settings: &'a Settings,
    pub(super) findings: &'a mut Findings,
}

type Parse<T> = fn(&str) -> Result<T, String>;

impl Reader<'_> {
    /// The value of a key; `None` where nothing, or nothing right, was typed.
    pub(super) fn read<T>(&mut self, key: &Key, parse: Parse<T>) -> Option<T> {
        let Value::One(text) = &self.settings.get(key.name)?.value else { return None };
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.complain(key, &why);
                None
            }
        }
    }

    pub(super) fn or_default<T>(&mut self, key: &Key, parse: Parse<T>) -> T {
        self.read(key, parse).unwrap_or_else(|| parse(default(key)).expect("defaults are valid"))
    }

    pub(super) fn complain(&mut self, key: &Key, why: &str) {
        let origin = self.settings.get(key.name).map(|setting| &setting.origin);
        let message = match origin {
            // Variables and flags name the key themselves.
            Some(Origin::Environment(_) | Origin::Flag(_)) => why.to_owned(),
            _ => format!("{}{}: {why}", self.owner, key.name),
        };
        self.findings.problem(origin, message);
    }

    /// The items of a list.
    fn list(&self, key: &Key) -> Vec<String> {
        match self.settings.get(key.name).map(|setting| &setting.value) {
            Some(Value::Many(items)) => items.clone(),
            _ => keys::list(default(key)).map(str::to_owned).collect(),
        }
    }

    fn labels(&mut self, key: &Key) -> Vec<Label> {
        let mut labels: Vec<Label> = Vec::new();
        for item in self.list(key) {
            match item.parse::<Label>() {
                Ok(label) if labels.iter().any(|other| other.name() == label.name()) => {
                    self.complain(key, &format!("the label `{}` stands there twice", label.name()));
                }
                Ok(label) => labels.push(label),
                Err(unknown) => self.complain(key, &unknown.to_string()),
            }
        }
        labels
    }

    /// A list that is absent or has something in it.
    fn some_of<T>(&mut self, key: &Key, parse: Parse<T>) -> Option<Vec<T>> {
        let Value::Many(items) = &self.settings.get(key.name)?.value else { return None };
        if items.is_empty() {
            self.complain(key, "lets nobody in; leave it out, or name somebody");
        }
        let mut some = Vec::new();
        for item in items {
            match parse(item) {
                Ok(one) => some.push(one),
                Err(why) => self.complain(key, &why),
            }
        }
        Some(some)
    }

    fn headers(&mut self, key: &Key, taken: &mut Vec<HeaderName>) -> Vec<HeaderName> {
        let mut headers = Vec::new();
        for name in self.list(key) {
            match parse::tag_header(&name) {
                Ok(header) if taken.contains(&header) => {
                    self.complain(key, &format!("`{header}` stands twice among the tags"));
                }
                Ok(header) => {
                    taken.push(header.clone());
                    headers.push(header);
                }
                Err(why) => self.complain(key, &why),
            }
        }
        headers
    }

    fn price_lists(&mut self) -> Vec<PriceList> {
        let key = &keys::PRICE_UPDATES_LISTS;
        let names: Vec<String> = match self.settings.get(key.name).map(|setting| &setting.value) {
            Some(Value::Many(names)) => names.clone(),
            _ => keys::list(default(key)).map(str::to_owned).collect(),
        };
        if names.is_empty() {
            self.complain(key, "names no list; leave it out, or name one");
        }
        let mut lists = Vec::new();
        for name in names {
            match parse::price_list(&name) {
                Ok(list) if lists.contains(&list) => {
                    self.complain(key, &format!("`{name}` stands twice"));
                }
                Ok(list) => lists.push(list),
                Err(why) => self.complain(key, &why),
            }
        }
        lists
    }

    pub(super) fn extra_roots(
        &mut self,
        key: &Key,
        file: PathBuf,
        files: Files<'_>,
    ) -> Option<Arc<ExtraRoots>> {
        match certificates(&file, files) {
            Ok(certificates) => Some(Arc::new(ExtraRoots { file, certificates })),
            Err(why) => {
                self.complain(key, &format!("{}: {why}", file.display()));
                None
            }
        }
    }

    /// From the variable, or from the file that another one names.
    fn admin_token(&mut self, world: World<'_>) -> Option<Secret> {
        if self.settings.contains_key(keys::ADMIN_TOKEN.name) {
            return self.read(&keys::ADMIN_TOKEN, parse::secret);
        }
        let token = token_in_file(world.env, world.files)?;
        let origin = Origin::Environment(keys::ENV_ADMIN_TOKEN_FILE.to_owned());
        token.map_err(|why| self.findings.problem(Some(&origin), why)).ok()
    }

    /// The provider's key from the variable that is named.
    fn api_key(&mut self, env: &BTreeMap<String, String>) -> Option<Secret> {
        let variable = self.read(&keys::API_KEY_ENV, parse::variable)?;
        let text = env.get(&variable).filter(|text| !text.trim().is_empty());
        let secret = match text {
            Some(text) => parse::secret(text).map_err(|why| format!("{variable} {why}")),
            None => Err(format!("the environment variable {variable} is not set or empty")),
        };
        secret.map_err(|why| self.complain(&keys::API_KEY_ENV, &why)).ok()
    }
}

/// The text that stands for a key that was not typed.
fn default(key: &Key) -> &'static str {
    match key.fallback {
        Fallback::Value(text) => text,
        Fallback::Nothing { .. } => unreachable!("{} has no default", key.name),
    }
}

pub(super) fn certificates(
    file: &Path,
    files: Files<'_>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = files(file).map_err(|error| format!("cannot be read: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("holds no PEM certificate".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

fn global_timeouts(reader: &mut Reader<'_>) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: reader.or_default(&keys::CONNECT, parse::duration),
        response_head: reader.or_default(&keys::RESPONSE_HEAD, parse::duration),
        idle: reader.or_default(&keys::IDLE, parse::duration),
        pool_idle: reader.or_default(&keys::POOL_IDLE, parse::duration),
    }
}

fn client_timeouts(reader: &mut Reader<'_>) -> ClientTimeouts {
    ClientTimeouts {
        request_head: reader.or_default(&keys::REQUEST_HEAD, parse::duration),
        keep_alive: reader.or_default(&keys::KEEP_ALIVE, parse::duration),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        connections: reader.or_default(&keys::CONNECTIONS, parse::some),
        calls: reader.or_default(&keys::CALLS, parse::some),
        queue: reader.or_default(&keys::QUEUE, parse::count),
        queue_wait: reader.or_default(&keys::QUEUE_WAIT, parse::duration),
        request_head: reader.or_default(&keys::LIMIT_HEAD, parse::head_size),
        request_headers: reader.or_default(&keys::LIMIT_HEADERS, parse::some),
        request_body: reader.read(&keys::LIMIT_BODY, parse::size),
    }
}

fn clients(reader: &mut Reader<'_>) -> Clients {
    Clients {
        networks: reader.some_of(&keys::CLIENTS_NETWORKS, parse::network),
        keys: reader.some_of(&keys::CLIENTS_KEYS, parse::fingerprint),
    }
}

/// Off unless it is said how often.
fn price_updates(reader: &mut Reader<'_>) -> Option<PriceUpdates> {
    let every = reader.read(&keys::PRICE_UPDATES_EVERY, parse::interval);
    let write = reader.or_default(&keys::PRICE_UPDATES_WRITE, parse::switch);
    let lists = reader.price_lists();
    if write && reader.read(&keys::PRICING, parse::path).is_none() {
        let why = "writes into the file that `pricing` names, and none is named";
        reader.complain(&keys::PRICE_UPDATES_WRITE, why);
    }
    Some(PriceUpdates { every: every?, write, lists })
}

fn tags(reader: &mut Reader<'_>) -> TagHeaders {
    let mut taken = Vec::new();
    TagHeaders {
        user: reader.headers(&keys::TAG_USER, &mut taken),
        session: reader.headers(&keys::TAG_SESSION, &mut taken),
        operation: reader.headers(&keys::TAG_OPERATION, &mut taken),
    }
}

/// The configured upstreams, and the known ones that nobody mentioned.
fn upstreams(
    typed: &Typed,
    world: World<'_>,
    defaults: &Defaults,
    findings: &mut Findings,
) -> BTreeMap<String, Upstream> {
    let nothing = Section::default();
    let silent = known::KNOWN.iter().map(|known| known.name);
    let silent = silent.filter(|name| !typed.upstreams.contains_key(*name));
    let silent = silent.filter(|name| known::built_in(name).is_some());
    let spoken = typed.upstreams.iter().map(|(name, section)| (name.as_str(), section));
    let mut upstreams = BTreeMap::new();
    for (name, section) in spoken.chain(silent.map(|name| (name, &nothing))) {
        if let Err(why) = known::check_name(name) {
            findings.problem(section.origin.as_ref(), why);
        } else if let Some(upstream) = upstream(name, section, world, defaults, findings) {
            upstreams.insert(name.to_owned(), upstream);
        }
    }
    upstreams
}

fn upstream(
    name: &str,
    section: &Section,
    world: World<'_>,
    defaults: &Defaults,
    findings: &mut Findings,
) -> Option<Upstream> {
    let owner = format!("upstreams.{name}.");
    let mut reader = Reader { owner: &owner, settings: &section.settings, findings };
    let global = defaults.timeouts;
    let extra_roots = match reader.read(&keys::UPSTREAM_CA_FILE, parse::path) {
        Some(file) => reader.extra_roots(&keys::UPSTREAM_CA_FILE, file, world.files),
        None => defaults.extra_roots.clone(),
    };
    let timeouts = UpstreamTimeouts {
        connect: reader.read(&keys::UPSTREAM_CONNECT, parse::duration).unwrap_or(global.connect),
        response_head: reader
            .read(&keys::UPSTREAM_RESPONSE_HEAD, parse::duration)
            .unwrap_or(global.response_head),
        idle: reader.read(&keys::UPSTREAM_IDLE, parse::duration).unwrap_or(global.idle),
        pool_idle: reader
            .read(&keys::UPSTREAM_POOL_IDLE, parse::duration)
            .unwrap_or(global.pool_idle),
    };
    let provider = reader.read(&keys::PROVIDER, parse::word);
    let api_key = reader.api_key(world.env);
    let http2 = reader.read(&keys::HTTP2, parse::http2).unwrap_or_default();
    let stream_usage = reader.or_default(&keys::STREAM_USAGE, parse::stream_usage);
    let drain = drain(&mut reader);
    let trace_context = reader.or_default(&keys::TRACE_CONTEXT, parse::trace_context);
    let typed_url = reader.read(&keys::BASE_URL, str::parse);
    if typed_url.is_none() && !section.settings.contains_key(keys::BASE_URL.name) {
        note_missing_base_url(name, section, findings);
    }
    Some(Upstream {
        name: name.to_owned(),
        provider: provider.unwrap_or_else(|| name.to_owned()),
        base_url: typed_url.or_else(|| known::built_in(name))?,
        api_key,
        deployments: deployments(section),
        http2,
        stream_usage,
        drain,
        trace_context,
        extra_roots,
        timeouts,
        configured: section.origin.is_some(),
    })
}

fn drain(reader: &mut Reader<'_>) -> Option<Drain> {
    let limits = Drain {
        time: reader.or_default(&keys::DRAIN_SECONDS, parse::drain_seconds),
        bytes: reader.or_default(&keys::DRAIN_BYTES, parse::size),
    };
    reader.or_default(&keys::ON_DISCONNECT, parse::on_disconnect).then_some(limits)
}

/// A complaint unless the name has a built-in address.
fn note_missing_base_url(name: &str, section: &Section, findings: &mut Findings) {
    let hint = match known::known(name).map(|known| known.address) {
        Some(known::Address::BuiltIn(_)) => return,
        Some(known::Address::Given(form)) => format!("it has the form {form}"),
        None => match nearest(name, known::KNOWN.iter().map(|known| known.name)) {
            Some(near) => format!("`{name}` is not a known name; did you mean `{near}`?"),
            None => format!("`{name}` is not a known name"),
        },
    };
    let message = format!("upstreams.{name}: base_url is missing; {hint}");
    findings.problem(section.origin.as_ref(), message);
}

fn check_default_upstream(config: &Config, typed: &Typed, findings: &mut Findings) {
    let name = &config.default_upstream;
    // A section of that name was either taken or complained about already.
    if config.upstreams.contains_key(name) || typed.upstreams.contains_key(name) {
        return;
    }
    let why = match Config::known_but_unconfigured(name) {
        Some(why) => why,
        None => match nearest(name, config.upstreams.keys().map(String::as_str)) {
            Some(near) => format!("there is no upstream `{name}`; did you mean `{near}`?"),
            None => {
                format!("there is no upstream `{name}`; add [upstreams.{name}] with its base_url")
            }
        },
    };
    Reader { owner: "", settings: &typed.global, findings }.complain(&keys::DEFAULT_UPSTREAM, &why);
}

fn check_admin_listen(config: &Config, typed: &Typed, findings: &mut Findings) {
    // A port of 0 is another one each time.
    if config.admin_listen == Some(config.listen) && config.listen.port() != 0 {
        let why = "is where clients connect (listen); give it a port of its own";
        Reader { owner: "", settings: &typed.global, findings }.complain(&keys::ADMIN_LISTEN, why);
    }
}
