//! File, environment and flags made into one checked [`Config`]. The only room that reads files of
//! settings and the environment.
//!
//! The way of a setting: [`keys`] says what there is; `file`, `environment` and the flags say what was
//! typed and where; `resolve` says what it means, with `parse` for each kind of value; [`known`] has the
//! providers that work by name; `doubts` warns; [`mod@reference`] writes the commented example file.
//!
//! Invariant: a `Config` that exists is right as far as it can be told without opening a socket. All
//! problems are reported at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod base_url;
mod doubts;
mod environment;
mod exposure;
mod file;
pub mod keys;
pub mod known;
mod otlp;
mod parse;
mod problem;
pub mod reference;
mod resolve;
mod settings;
mod tls;
mod typed;

pub use base_url::{BaseUrl, Scheme};
pub use problem::{ConfigError, Origin, Problem};
pub use settings::{
    ClientTimeouts, Clients, Config, Drain, ExtraRoots, Http2, Limits, LogFormat, Otlp,
    PriceUpdates, StreamUsage, TagHeaders, TraceTo, Upstream, UpstreamTimeouts,
};
pub use tls::{BadTls, Tls, TlsFiles};

use keys::ENV_CONFIG;
use known::Address;
use problem::Findings;
use resolve::World;
use rustls::pki_types::CertificateDer;
use typed::{Setting, Typed, Value};

use crate::secret::Secret;

/// Read from the working directory when no other file is named; it may be absent.
pub const DEFAULT_FILE: &str = "tokenmeter.toml";

/// What was typed on the command line, as it was typed.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub database: Option<String>,
    pub pricing: Option<String>,
}

/// How a file is read: `std::fs::read`, or a test's own.
pub type Files<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

impl Config {
    /// Reads this process's environment and files.
    pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
        Config::from_sources(flags, &environment(), &|path| std::fs::read(path))
    }

    /// Precedence: flag, then variable, then file, then default.
    pub fn from_sources(
        flags: &Flags,
        env: &BTreeMap<String, String>,
        files: Files<'_>,
    ) -> Result<Config, ConfigError> {
        let mut findings = Findings::default();
        let Some((typed, source)) = gather(flags, env, files, &mut findings) else {
            return Err(findings.into_error());
        };
        let config = resolve::config(&typed, World { env, files }, &mut findings);
        let warnings = findings.finish()?;
        Ok(Config { source, warnings, ..config })
    }

    /// Why a call to an upstream of that name cannot be routed, where the name is a known provider's
    /// whose address must be configured first.
    pub fn known_but_unconfigured(name: &str) -> Option<String> {
        let Address::Given(form) = known::known(name)?.address else { return None };
        Some(format!(
            "the upstream `{name}` has no base_url; add [upstreams.{name}] with base_url = \"{form}\" \
             to the configuration"
        ))
    }
}

/// Only where the ledger is, for reports: those must work where a provider's key is not at hand.
pub fn database(flags: &Flags) -> Result<PathBuf, ConfigError> {
    from_typed(flags, &environment(), &|path| std::fs::read(path), resolve::database_of)
}

/// Where clients are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// It speaks TLS.
    pub is_encrypted: bool,
}

/// Only where it is listened, for those who ask there.
pub fn listener(flags: &Flags) -> Result<Listener, ConfigError> {
    from_typed(flags, &environment(), &|path| std::fs::read(path), resolve::listener_of)
}

/// The admin token that the environment holds, or names the file of.
pub fn admin_token() -> Result<Option<Secret>, String> {
    if let Some(token) = variable(keys::ENV_ADMIN_TOKEN) {
        return Ok(Some(Secret::new(token)));
    }
    resolve::token_in_file(&environment(), &|path| std::fs::read(path)).transpose()
}

/// Where the ledger and the prices are, and which model stands behind a deployment: all that recorded
/// calls are priced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    pub database: PathBuf,
    /// `None`: the built-in table.
    pub pricing: Option<PathBuf>,
    /// By upstream, then by deployment.
    pub deployments: BTreeMap<String, BTreeMap<String, String>>,
}

/// Only what recorded calls are priced by, for where a provider's key is not at hand.
pub fn books(flags: &Flags) -> Result<Books, ConfigError> {
    from_typed(flags, &environment(), &|path| std::fs::read(path), resolve::books)
}

/// A variable of this process's that is set to something: an empty one counts as not set.
pub fn variable(name: &str) -> Option<String> {
    environment().remove(name).filter(|text| !text.trim().is_empty())
}

/// Certificates to trust besides the usual ones, for questions to a tokenmeter elsewhere: those of the
/// variable alone, since the file here may be about another one. The error names variable and file.
pub fn extra_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let name = keys::CA_FILE.env_name();
    let Some(file) = variable(&name) else { return Ok(Vec::new()) };
    resolve::certificates(Path::new(&file), &|path| std::fs::read(path))
        .map_err(|why| format!("{name}: {file}: {why}"))
}

/// A part of the configuration, whatever is wrong with the rest.
fn from_typed<T>(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    files: Files<'_>,
    part: impl Fn(&Typed, &mut Findings) -> T,
) -> Result<T, ConfigError> {
    let mut findings = Findings::default();
    let Some((typed, _)) = gather(flags, env, files, &mut findings) else {
        return Err(findings.into_error());
    };
    let part = part(&typed, &mut findings);
    findings.finish().map(|_| part)
}

/// What is not Unicode is kept with replacement characters, so that the checks meet it.
fn environment() -> BTreeMap<String, String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Everything that was typed, the stronger source over the weaker one, and the file it came from.
/// `None` where the file cannot be read at all: what else is wrong may only be wrong for lack of it.
fn gather(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    files: Files<'_>,
    findings: &mut Findings,
) -> Option<(Typed, Option<PathBuf>)> {
    let (mut typed, source) = match find_file(flags, env, files) {
        Ok(Some((path, text))) => {
            (file::read(&text, &path.display().to_string(), findings)?, Some(path))
        }
        Ok(None) => (Typed::default(), None),
        Err(problem) => {
            findings.problem(problem.origin.as_ref(), problem.message);
            return None;
        }
    };
    environment::read(env, &mut typed, findings);
    put_flags(flags, &mut typed);
    Some((typed, source))
}

fn put_flags(flags: &Flags, typed: &mut Typed) {
    let pairs = [
        (&keys::LISTEN, "--listen", &flags.listen),
        (&keys::DATABASE, "--database", &flags.database),
        (&keys::PRICING, "--pricing", &flags.pricing),
    ];
    for (key, flag, text) in pairs {
        if let Some(text) = text {
            let setting = Setting { value: Value::One(text.clone()), origin: Origin::Flag(flag) };
            typed.global.insert(key.name, setting);
        }
    }
}

/// The file that was asked for, which must exist, or else the usual one, which need not.
fn find_file(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    files: Files<'_>,
) -> Result<Option<(PathBuf, String)>, Problem> {
    let from_env = env.get(ENV_CONFIG).filter(|text| !text.trim().is_empty());
    let (path, origin) = match (&flags.config, from_env) {
        (Some(path), _) => (path.clone(), Some(Origin::Flag("--config"))),
        (None, Some(text)) => (text.into(), Some(Origin::Environment(ENV_CONFIG.to_owned()))),
        (None, None) => (DEFAULT_FILE.into(), None),
    };
    let why = match files(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Ok(Some((path, text))),
            Err(_) => "is not UTF-8".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && origin.is_none() => {
            return Ok(None);
        }
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(Problem { origin, message: format!("{} {why}", path.display()) })
}

#[cfg(test)]
mod tests;
