//! What clients are shown and asked for over TLS: files made into a configuration of rustls. Owns which files
//! belong together and what is said of broken ones; knows neither sockets nor when files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::Files;
use super::keys::{self, Key};
use super::resolve::{Reader, World, certificates};

/// What is agreed on with clients, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files as they were found to be right.
#[derive(Clone)]
pub struct Tls {
    pub files: TlsFiles,
    pub server: Arc<ServerConfig>,
}

/// Where certificates and keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Clients must have a certificate that one of these has signed.
    pub client_ca: Option<PathBuf>,
}

/// A file that cannot be used. Displays which and why; never what is in it.
#[derive(Debug)]
pub struct BadTls {
    key: &'static Key,
    why: String,
}

impl fmt::Display for BadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key.name, self.why)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl TlsFiles {
    /// Reads what the files hold at this moment.
    pub fn load(&self) -> Result<Arc<ServerConfig>, BadTls> {
        self.read(&|path| std::fs::read(path))
    }

    /// All of them, in the order in which TLS needs them.
    pub fn all(&self) -> Vec<PathBuf> {
        let two = [self.certificate.clone(), self.key.clone()];
        two.into_iter().chain(self.client_ca.clone()).collect()
    }

    pub(super) fn read(&self, files: Files<'_>) -> Result<Arc<ServerConfig>, BadTls> {
        let chain = read_certificates(&keys::TLS_CERTIFICATE, &self.certificate, files)?;
        let bad_key = |why: String| bad(&keys::TLS_KEY, format!("{}: {why}", self.key.display()));
        let pem = files(&self.key).map_err(|error| bad_key(format!("cannot be read: {error}")))?;
        // Not the error's own words, which could quote the file.
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| bad_key("holds no private key in PEM".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad_key(error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let failed = |error: &dyn fmt::Display| {
                    bad(&keys::TLS_CLIENT_CA, format!("{}: {error}", file.display()))
                };
                let mut roots = RootCertStore::empty();
                for root in read_certificates(&keys::TLS_CLIENT_CA, file, files)? {
                    roots.add(root).map_err(|error| failed(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|e| failed(&e))?)
            }
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| {
            bad_key(format!("does not go with {}: {error}", self.certificate.display()))
        })?;
        server.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(server))
    }
}

fn bad(key: &'static Key, why: String) -> BadTls {
    BadTls { key, why }
}

fn read_certificates(
    key: &'static Key,
    file: &Path,
    files: Files<'_>,
) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    certificates(file, files).map_err(|why| bad(key, format!("{}: {why}", file.display())))
}

/// `None` where nothing was said of TLS, or nothing right.
pub(super) fn read(reader: &mut Reader<'_>, world: World<'_>) -> Option<Tls> {
    let mut path = |key| reader.read(key, super::parse::path);
    let certificate = path(&keys::TLS_CERTIFICATE);
    let (key, client_ca) = (path(&keys::TLS_KEY), path(&keys::TLS_CLIENT_CA));
    let files = match (certificate, key) {
        (Some(certificate), Some(key)) => TlsFiles { certificate, key, client_ca },
        (Some(_), None) => {
            reader.complain(&keys::TLS_CERTIFICATE, "needs tls.key, which is not set");
            return None;
        }
        (None, Some(_)) => {
            reader.complain(&keys::TLS_KEY, "needs tls.certificate, which is not set");
            return None;
        }
        (None, None) if client_ca.is_some() => {
            let why = "needs tls.certificate and tls.key, which are not set";
            reader.complain(&keys::TLS_CLIENT_CA, why);
            return None;
        }
        (None, None) => return None,
    };
    match files.read(world.files) {
        Ok(server) => Some(Tls { files, server }),
        Err(BadTls { key, why }) => {
            reader.complain(key, &why);
            None
        }
    }
}
