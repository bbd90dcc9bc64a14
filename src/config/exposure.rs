//! What a configuration leaves open to others: a line each, which says what would close it. Owns these doubts;
//! refuses nothing, and looks at no file.

use std::net::SocketAddr;

use super::keys::{self, Key};
use super::problem::Findings;
use super::settings::Config;
use super::typed::Typed;

/// Shorter admin tokens can be guessed, and so can those of few different characters.
const SHORTEST_TOKEN: usize = 16;
const FEWEST_CHARACTERS: usize = 6;

pub(super) fn note(config: &Config, typed: &Typed, findings: &mut Findings) {
    let origin = |key: &Key| typed.global.get(key.name).map(|setting| &setting.origin);
    let is_open = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    let both = [(&keys::LISTEN, Some(config.listen)), (&keys::ADMIN_LISTEN, config.admin_listen)];
    let open =
        both.iter().filter_map(|(key, address)| Some((*key, address.filter(|a| is_open(*a))?)));
    for (key, address) in open.filter(|_| config.tls.is_none()) {
        let what = if key.name == keys::LISTEN.name {
            "what they send, keys included,"
        } else {
            "the admin token that they send"
        };
        let message = format!(
            "{address} lets other machines in, and {what} is not encrypted; set tls.certificate and \
             tls.key, or put TLS in front"
        );
        findings.warning(origin(key), message);
    }
    let clients = &config.clients;
    let is_narrowed = clients.networks.is_some()
        || clients.keys.is_some()
        || config.tls.as_ref().is_some_and(|tls| tls.files.client_ca.is_some());
    if is_open(config.listen) && !is_narrowed {
        let message = format!(
            "whoever reaches {} can make calls; clients.networks, clients.keys or tls.client_ca say who may",
            config.listen
        );
        findings.warning(origin(&keys::LISTEN), message);
    }
    let operators = config.admin_listen.unwrap_or(config.listen);
    if config.metrics_public && is_open(operators) {
        let message = format!(
            "metrics_public: whoever reaches {operators} can read /metrics; leave it out and scrape with the \
             token, or set admin.listen to an address that only Prometheus reaches"
        );
        findings.warning(origin(&keys::METRICS_PUBLIC), message);
    }
    note_token(config, findings);
}

fn note_token(config: &Config, findings: &mut Findings) {
    let Some(token) = &config.admin_token else { return };
    let token = token.expose();
    let mut characters: Vec<u8> = token.bytes().collect();
    characters.sort_unstable();
    characters.dedup();
    let why = if token.len() < SHORTEST_TOKEN {
        format!("has fewer than {SHORTEST_TOKEN} characters")
    } else if characters.len() < FEWEST_CHARACTERS {
        format!("has fewer than {FEWEST_CHARACTERS} different characters")
    } else {
        return;
    };
    let name = keys::ADMIN_TOKEN.env_name();
    let fix = "leave it out to have one made, or take a random one (openssl rand -hex 32)";
    findings.warning(None, format!("{name} {why} and can be guessed; {fix}"));
}
