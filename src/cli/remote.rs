//! A tokenmeter that runs elsewhere, asked through its admin API. Owns the client and the wording of
//! what can go wrong on the way.
//!
//! Invariant: the token goes to the address that was typed and nowhere else.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
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
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Remote, Failure> {
        let wrong =
            |why: &str| Failure::Usage(format!("--url: {why}, as in http://localhost:4100"));
        let base: Url = url.parse().map_err(|_| wrong("give the whole address"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("begin with http:// or https://"));
        }
        let token = token.map(Secret::new).ok_or_else(|| {
            let message = "--url needs the admin token: --token or TOKENMETER_ADMIN_TOKEN";
            Failure::Usage(message.to_owned())
        })?;
        // Fails where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = config::extra_roots().map_err(Failure::Failed)?;
        let roots: Result<Vec<Certificate>, _> =
            roots.iter().map(|root| Certificate::from_der(root)).collect();
        let roots = roots.map_err(|error| Failure::Failed(explain(error)))?;
        let client = Client::builder()
            .no_proxy()
            .tls_certs_merge(roots)
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Failure::Failed(explain(error)))?;
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
