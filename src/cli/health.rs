//! `tokenmeter health`: asks a tokenmeter whether it is alive, for health checks where there is neither a
//! shell nor curl. Owns the choice of whom to ask; what it means to be ready is the server's to say.
//!
//! Invariant: it opens neither ledger nor price table, sends no token, and ends within seconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::remote::{Trust, open_page};
use crate::config::{self, Flags};

/// Orchestrators' own patience is seldom less.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What the second of two ways to ask has at least.
const LEAST: Duration = Duration::from_millis(100);

/// How rustls calls the alert of a server that lets in nobody without a certificate (`tls.client_ca`).
const WANTS_CERTIFICATE: &str = "CertificateRequired";

/// Ask whether a running tokenmeter is alive, for health checks
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Whether it can record calls, not only whether it lives
    #[arg(long)]
    pub ready: bool,

    /// Where it runs [default: where the configuration has it listen]
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "listen"])]
    pub url: Option<String>,

    /// Its configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The address that it listens on [default: 127.0.0.1:4100]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// One word if all is well, and what is wrong otherwise.
pub(super) fn run(args: &HealthArgs) -> Result<String, Failure> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let (status, page) = match &args.url {
        Some(url) => open_page(url, path, Trust::Vouched, TIMEOUT)?,
        None => ask_here(args, path)?,
    };
    verdict(status, &page)
}

/// The one that the configuration describes. Whether it speaks TLS may be known to its own configuration only, so
/// that the other way is tried, too.
fn ask_here(args: &HealthArgs, path: &str) -> Result<(u16, Value), Failure> {
    let flags =
        Flags { config: args.config.clone(), listen: args.listen.clone(), ..Flags::default() };
    let listener = config::listener(&flags).map_err(|error| Failure::Failed(error.to_string()))?;
    let address = reachable(listener.address);
    let since = Instant::now();
    let ask = |scheme| {
        let left = TIMEOUT.saturating_sub(since.elapsed()).max(LEAST);
        let asked = open_page(&format!("{scheme}://{address}"), path, Trust::Anybody, left);
        match asked {
            // Who insists on our certificate is alive. Whether it is ready it tells only its clients.
            Err(Failure::Failed(why)) if !args.ready && why.contains(WANTS_CERTIFICATE) => {
                Ok((200, json!({"status": "ok"})))
            }
            asked => asked,
        }
    };
    let (first, second) = if listener.is_encrypted { ("https", "http") } else { ("http", "https") };
    ask(first).or_else(|failure| ask(second).map_err(|_| failure))
}

/// Where to connect to for an address that is listened on.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn verdict(status: u16, page: &Value) -> Result<String, Failure> {
    let word = page["status"].as_str();
    match (status, word) {
        (200, Some(word)) => Ok(format!("{word}\n")),
        (503, Some(word)) => {
            let why = page["problem"].as_str().unwrap_or("it does not say why");
            Err(Failure::Failed(format!("{word}: {why}")))
        }
        _ => Err(Failure::Failed(format!("answered {status}, and not as a tokenmeter does"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_at_this_machine() {
        for (listen, asked) in [
            ("0.0.0.0:4100", "127.0.0.1:4100"),
            ("[::]:4100", "[::1]:4100"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn only_a_tokenmeter_that_says_so_is_well() {
        assert_eq!(verdict(200, &json!({"status": "ok"})), Ok("ok\n".to_owned()));
        let locked = json!({"status": "not_ready", "problem": "the database is locked"});
        let Err(Failure::Failed(why)) = verdict(503, &locked) else { panic!("well") };
        assert_eq!(why, "not_ready: the database is locked");
        for (status, page) in [(200, json!({})), (404, json!({"status": "ok"})), (502, json!(null))]
        {
            assert!(matches!(verdict(status, &page), Err(Failure::Failed(_))), "{status}");
        }
    }
}
