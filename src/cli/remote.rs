//! A tokenmeter that runs elsewhere, asked through its admin API. Owns the client and the wording of
//! what can go wrong on the way.
//!
//! Invariant: the token goes to the address that was typed and nowhere else.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::{Certificate, Url, redirect};
use serde_json::Value;

use super::source::wrong_parameter;
use super::{Failure, Query};
use crate::admin::params::BadParameter;
use crate::config;
use crate::secret::Secret;

/// Longer than a question may take there.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The other tokenmeter.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    base: Url,
    token: Secret,
    /// For a whole question, where it is less than the client's own.
    limit: Option<Duration>,
}

impl Remote {
    /// With the token that was typed, or else the environment's.
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Remote, Failure> {
        let base = address(url)?;
        let token = match token {
            Some(token) => Some(Secret::new(token)),
            None => config::admin_token().map_err(Failure::Failed)?,
        };
        let token = token.ok_or_else(|| {
            let message = "--url needs the admin token: --token, TOKENMETER_ADMIN_TOKEN or \
                           TOKENMETER_ADMIN_TOKEN_FILE";
            Failure::Usage(message.to_owned())
        })?;
        let roots = config::extra_roots().map_err(Failure::Failed)?;
        let roots: Result<Vec<Certificate>, _> =
            roots.iter().map(|root| Certificate::from_der(root)).collect();
        let roots = roots.map_err(|error| Failure::Failed(explain(error)))?;
        let client = build(client().tls_certs_merge(roots).timeout(TIMEOUT))?;
        Ok(Remote { client, base, token, limit: None })
    }

    pub(super) fn hurried(self, limit: Duration) -> Remote {
        Remote { limit: Some(limit), ..self }
    }

    /// Whom it asks.
    pub(super) fn address(&self) -> String {
        shown(&self.base)
    }

    /// The answer to `GET path?query`.
    pub(super) fn get(&self, path: &str, query: &Query) -> Result<Value, Failure> {
        let response = self.ask(path, query)?;
        let status = response.status();
        let body = response.text().map_err(|error| self.failed(error))?;
        let json: Option<Value> = serde_json::from_str(&body).ok();
        match json {
            Some(answer) if status.is_success() => Ok(answer),
            answer => Err(refused(&shown(&self.base), status.as_u16(), answer.as_ref())),
        }
    }

    /// The answer to `GET path?query` as it comes, however long that takes: the time limit is one for
    /// each piece of it. To read what broke off is an error.
    pub(super) fn download(&self, path: &str, query: &Query) -> Result<Response, Failure> {
        let response = self.ask(path, query)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().map_err(|error| self.failed(error))?;
        let json: Option<Value> = serde_json::from_str(&body).ok();
        Err(refused(&shown(&self.base), status.as_u16(), json.as_ref()))
    }

    fn ask(&self, path: &str, query: &Query) -> Result<Response, Failure> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let request = self.client.get(url).query(query).bearer_auth(self.token.expose());
        let request = match self.limit {
            Some(limit) => request.timeout(limit),
            None => request,
        };
        request.send().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: reqwest::Error) -> Failure {
        Failure::Failed(format!("asking {}: {}", shown(&self.base), explain(error)))
    }
}

/// A page that is open to all, asked for without a token: its status and what it says.
pub(super) fn open_page(
    url: &str,
    path: &str,
    trust: Trust,
    limit: Duration,
) -> Result<(u16, Value), Failure> {
    let mut url = address(url)?;
    url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    let accept = trust == Trust::Anybody;
    let client = build(client().timeout(limit).tls_danger_accept_invalid_certs(accept))?;
    let shown = shown(&url);
    let failed = |error| Failure::Failed(format!("asking {shown}: {}", explain(error)));
    let response = client.get(url).send().map_err(failed)?;
    let status = response.status().as_u16();
    let body = response.text().map_err(failed)?;
    let page = serde_json::from_str(&body).map_err(|_| refused(&shown, status, None))?;
    Ok((status, page))
}

/// Whose certificate will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// One that an authority vouches for, under the host's name.
    Vouched,
    /// Any: at an address of this machine's own, where nothing secret is said.
    Anybody,
}

/// A whole address of http or https.
fn address(url: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--url: {why}, as in http://localhost:4100"));
    let base: Url = url.parse().map_err(|_| wrong("give the whole address"))?;
    if matches!(base.scheme(), "http" | "https") {
        return Ok(base);
    }
    Err(wrong("begin with http:// or https://"))
}

/// Goes where it is told and nowhere else.
fn client() -> ClientBuilder {
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(redirect::Policy::none())
}

fn build(client: ClientBuilder) -> Result<Client, Failure> {
    client.build().map_err(|error| Failure::Failed(explain(error)))
}

/// An error of tokenmeter's own, or of something that is no tokenmeter.
fn refused(from: &str, status: u16, answer: Option<&Value>) -> Failure {
    let field = |name: &str| answer.and_then(|answer| answer["error"][name].as_str());
    match (field("message"), field("param"), field("code")) {
        (Some(message), Some(name), Some("bad_parameter")) => {
            wrong_parameter(&BadParameter::new(name, message))
        }
        (_, _, Some("unauthorized")) => {
            Failure::Failed(format!("{from} does not know this admin token"))
        }
        (Some(message), ..) => Failure::Failed(format!("{from} answered {status}: {message}")),
        _ => Failure::Failed(format!("{from} answered {status}, and not as a tokenmeter does")),
    }
}

/// The address without whatever else a URL can hold.
fn shown(base: &Url) -> String {
    base.origin().ascii_serialization()
}

/// The whole chain, without the URL, which could hold what was mistyped into it.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_and_a_token_are_needed() {
        let token = || Some("t".to_owned());
        for url in ["localhost:4100", "ftp://host", "", "4100"] {
            assert!(matches!(Remote::new(url, token()), Err(Failure::Usage(_))), "{url}");
        }
        assert!(matches!(Remote::new("http://localhost:4100", None), Err(Failure::Usage(_))));
        let remote = Remote::new("http://ann:secret@localhost:4100/meter/", token()).unwrap();
        assert_eq!(shown(&remote.base), "http://localhost:4100");
    }

    #[test]
    fn whose_fault_it_is_survives_the_way() {
        let answer =
            |code: &str| json!({"error": {"message": "m", "code": code, "param": "group_by"}});
        assert_eq!(
            refused("there", 400, Some(&answer("bad_parameter"))),
            Failure::Usage("--by: m".to_owned())
        );
        for (status, answer) in [(503, Some(answer("unavailable"))), (502, None), (200, None)] {
            let failure = refused("there", status, answer.as_ref());
            assert!(
                matches!(&failure, Failure::Failed(text) if text.contains("there")),
                "{failure:?}"
            );
        }
    }
}
