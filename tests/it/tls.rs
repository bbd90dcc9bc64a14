//! TLS to a provider: who is trusted, and which HTTP is agreed on.

use std::sync::Arc;

use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::http2::{Server, data};
use super::rig::{Proxy, Settings, field};

/// An authority of the test's own, as a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, directory }
    }

    /// A provider that proves to be `name` and speaks `protocols`, best first.
    fn server(&self, name: &str, protocols: &[&str]) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Server::new(Some(Arc::new(config)), 200)
    }

    /// A proxy that trusts this authority.
    fn proxy(&self, server: &Server, keys: &str) -> Proxy {
        let file = self.directory.path().join("ca.pem");
        let keys = format!("ca_file = \"{}\"\n{keys}", file.display());
        let url = format!("https://localhost:{}", server.address.port());
        Settings::default().upstream("up", url, &keys).start()
    }
}

/// The answer that tokenmeter gives itself: its head and its error.
fn failure(proxy: &Proxy) -> (String, Value) {
    let mut client = proxy.connect();
    client.send("GET /v1/x HTTP/1.1\r\nHost: c\r\n\r\n");
    let head = client.head();
    let length = field(&head, "content-length").unwrap().parse().unwrap();
    let body: Value = serde_json::from_str(&client.take(length)).unwrap();
    (head, body["error"].clone())
}

#[test]
fn a_trusted_provider_is_spoken_to_as_agreed() {
    let authority = Authority::new();
    let cases = [
        (&["h2", "http/1.1"][..], "", Version::HTTP_2),
        (&["http/1.1", "h2"], "", Version::HTTP_11),
        (&["h2", "http/1.1"], "http2 = \"never\"", Version::HTTP_11),
        (&["h2", "http/1.1"], "http2 = \"always\"", Version::HTTP_2),
        (&[], "", Version::HTTP_11),
    ];
    for (protocols, keys, version) in cases {
        let server = authority.server("localhost", protocols);
        let proxy = authority.proxy(&server, keys);
        let mut client = proxy.connect();
        for _ in 0..2 {
            client.send("POST /v1/x?y HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n\r\nabc");
            let mut arrived = server.next();
            assert_eq!(arrived.head.version, version, "{protocols:?} {keys}");
            assert_eq!(arrived.head.uri.path_and_query().unwrap(), "/v1/x?y");
            assert_eq!(data(&server.background, &mut arrived.body), "abc");
            let feed = arrived.answer(200);
            client.head();
            for _ in 0..3 {
                feed.data("frame");
                client.expect("5\r\nframe\r\n");
            }
            feed.end();
            client.expect("0\r\n\r\n");
        }
    }
}

#[test]
fn a_certificate_that_does_not_prove_the_name_is_refused() {
    let authority = Authority::new();
    let stranger = Authority::new();
    for server in [
        stranger.server("localhost", &["h2", "http/1.1"]),
        authority.server("elsewhere.example", &["h2", "http/1.1"]),
    ] {
        let proxy = authority.proxy(&server, "");
        let (head, error) = failure(&proxy);
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert_eq!(field(&head, "x-tokenmeter-error"), Some("upstream_unreachable"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`up`") && message.contains("certificate"), "{message}");
        assert_eq!(proxy.rows()[0]["error"], "tls_failed");
    }
}

/// HTTP/2 was spoken to a server that had not agreed to it.
#[test]
fn http2_is_not_spoken_where_tls_did_not_agree_to_it() {
    let authority = Authority::new();
    let server = authority.server("localhost", &["http/1.1"]);
    let proxy = authority.proxy(&server, "http2 = \"always\"");
    failure(&proxy);
    assert_eq!(proxy.rows()[0]["error"], "tls_failed");
}
