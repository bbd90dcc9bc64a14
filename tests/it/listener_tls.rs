//! TLS on tokenmeter's own side: what passes in plain passes over it, who is let in, what becomes of slow and
//! broken handshakes, and certificates that change.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::rig::{Conn, PATIENCE, Provider, Proxy, Settings, eventually, field, latin1};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /v1/x?y HTTP/1.1\r\nHost: c\r\n\r\n";

/// An authority and the files of those whom it vouches for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority { issuer, directory };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority.write_pair("tls");
        authority
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A new pair for `localhost` in `NAME.crt` and `NAME.key`; gives the certificate.
    fn write_pair(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // The certificate last, as one that arrives in two steps.
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        certificate.der().clone()
    }

    /// Lines of a configuration that shows the pair `tls`.
    pub(crate) fn keys(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!("tls.certificate = {:?}\ntls.key = {:?}\n", path("tls.crt"), path("tls.key"))
    }

    fn client(&self, protocols: &[&str], pair: Option<&Path>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(pair.with_extension("crt")).unwrap();
                let key = PrivateKeyDer::from_pem_file(pair.with_extension("key")).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> TlsConn {
        TlsConn::new(address, self.client(&["http/1.1"], None))
    }
}

/// A client's end of a connection over TLS.
pub(crate) struct TlsConn(StreamOwned<ClientConnection, TcpStream>);

impl TlsConn {
    fn new(address: SocketAddr, config: Arc<ClientConfig>) -> TlsConn {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let session = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        TlsConn(StreamOwned::new(session, stream))
    }

    /// Until both sides have said all. In TLS 1.3 a client learns of its refusal only afterwards.
    fn shake_hands(&mut self) -> io::Result<()> {
        while self.0.conn.is_handshaking() {
            self.0.conn.complete_io(&mut self.0.sock)?;
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
        self.0.flush().unwrap();
    }

    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e}: {:?}", latin1(&head)));
            head.push(byte[0]);
        }
        latin1(&head)
    }

    pub(crate) fn take(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        latin1(&bytes)
    }

    /// Head and body of an answer of known length.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        (head, self.take(length))
    }

    /// True when the other side has closed in good order: whoever cuts a connection cannot say so.
    pub(crate) fn is_closed_in_good_order(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn start(authority: &Authority, provider: &Provider, more: &str) -> Proxy {
    let keys = format!("metrics_public = true\n{}{more}", authority.keys());
    Settings::to(provider.url()).with(&keys).start()
}

/// How many handshakes have come to nothing.
fn failed_handshakes(authority: &Authority, proxy: &Proxy) -> u64 {
    let mut client = authority.connect(proxy.address);
    client.send("GET /metrics HTTP/1.1\r\nHost: c\r\n\r\n");
    let (_, page) = client.answer();
    let name = "tokenmeter_errors_total{code=\"tls_handshake\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |text| text.parse().unwrap())
}

fn expect_served(client: &mut TlsConn, provider: &Provider) {
    client.send(GET);
    let mut up = provider.accept();
    assert!(up.head().starts_with("GET /v1/x?y HTTP/1.1\r\n"));
    up.send(ANSWER);
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "hi", "{head}{body}");
}

#[test]
fn calls_pass_over_tls_as_they_do_in_plain() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "");
    let mut client = authority.connect(proxy.address);
    client.send("POST /v1/x?y HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut up = provider.accept();
    assert!(up.head().starts_with("POST /v1/x?y HTTP/1.1\r\n"));
    for part in ["3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"] {
        client.send(part);
        up.expect(part);
    }
    up.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 103 "));
    up.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.head();
    // Each piece arrives before the next one is sent.
    for _ in 0..3 {
        up.send("5\r\nframe\r\n");
        assert_eq!(client.take(10), "5\r\nframe\r\n");
    }
    up.send("0\r\n\r\n");
    assert_eq!(client.take(5), "0\r\n\r\n");
    assert_eq!(proxy.wait_for_rows(1)[0]["outcome"], "completed");
    // The same connection again, and an answer of megabytes.
    client.send(GET);
    up.head();
    let body = "0123456789abcdef".repeat(1 << 16);
    let sending = std::thread::spawn({
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let body = body.clone();
        move || up.send(head + &body)
    });
    assert_eq!(client.answer().1, body);
    sending.join().unwrap();
}

#[test]
fn both_versions_of_http_are_agreed_on() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "");
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut client = TlsConn::new(proxy.address, authority.client(offered, None));
        client.shake_hands().unwrap();
        assert_eq!(client.0.conn.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
        if agreed == Some("h2") {
            client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
            // The type of the first frame: SETTINGS.
            assert_eq!(client.take(9).as_bytes()[3], 4);
        } else {
            expect_served(&mut client, &provider);
        }
    }
}

#[test]
fn a_broken_handshake_is_counted_and_hurts_nobody() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "");
    let mut plain = proxy.connect();
    plain.send(GET);
    assert!(!plain.rest().contains("HTTP/1.1"));
    // Whoever hangs up without a word has broken nothing.
    drop(proxy.connect());
    // Whoever does not trust the certificate says so and leaves.
    let stranger = Authority::new();
    let mut client = stranger.connect(proxy.address);
    assert!(client.shake_hands().is_err());
    eventually("both are counted", || failed_handshakes(&authority, &proxy) == 2);
    assert!(provider.is_untouched() && proxy.opened().is_empty());
    expect_served(&mut authority.connect(proxy.address), &provider);
}

#[test]
fn a_slow_handshake_has_its_time_and_holds_up_nobody() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "timeouts.request_head = \"2s\"\n");
    // The beginning of a handshake's first record, and nothing.
    let mut slow: Vec<Conn> = (0..5).map(|_| proxy.connect()).collect();
    for client in &mut slow {
        client.send([22, 3, 1, 2, 0, 1]);
    }
    expect_served(&mut authority.connect(proxy.address), &provider);
    assert!(slow.iter_mut().all(Conn::is_silent));
    for client in &mut slow {
        assert!(!client.rest().contains("HTTP"));
    }
    eventually("they are counted", || failed_handshakes(&authority, &proxy) == 5);
}

/// The rules for connections count for those that have not yet shaken hands, and for those that have.
#[test]
fn who_says_nothing_makes_way_for_who_does() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "limits.connections = 1\n");
    let mut silent = proxy.connect();
    eventually("the newcomer is served", || {
        let mut client = authority.connect(proxy.address);
        client.send(GET);
        let Some(mut up) = (0..200).find_map(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
            provider.try_accept()
        }) else {
            return false;
        };
        up.head();
        up.send(ANSWER);
        client.answer().0.starts_with("HTTP/1.1 200 ")
    });
    assert_eq!(silent.rest(), "");
}

#[test]
fn connections_that_idle_are_closed_in_good_order() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "timeouts.keep_alive = \"300ms\"\n");
    let mut client = authority.connect(proxy.address);
    expect_served(&mut client, &provider);
    assert!(client.is_closed_in_good_order());
}

#[test]
fn a_slow_head_has_its_time_over_tls_too() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "timeouts.request_head = \"300ms\"\n");
    let mut client = authority.connect(proxy.address);
    client.send("GET /v1/x HTTP/1.1\r\n");
    // What has begun is cut off, as in plain.
    let cut = client.0.read(&mut [0]).unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    assert!(provider.is_untouched());
}

#[test]
fn a_client_that_is_answered_early_gets_the_answer() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "limits.request_body = \"64KiB\"\n");
    let mut client = authority.connect(proxy.address);
    let length = 1 << 20;
    client.send(format!("POST /v1/x HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'a'; length]);
    assert!(client.head().starts_with("HTTP/1.1 413 "));
}

/// Over TLS what waits is in a buffer of ours, and hyper believes it to be gone.
#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let keys = format!("timeouts.idle = \"1s\"\n{}", authority.keys());
    let proxy = Settings::to(provider.url()).with(&keys).start();
    let mut client = authority.connect(proxy.address);
    client.send(GET);
    let mut up = provider.accept();
    up.head();
    let body = vec![0; 50_000_000];
    up.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
    up.send_all_or_fail(&body);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!(row["outcome"], "client_closed", "{row}");
}

#[test]
fn only_clients_with_a_certificate_get_in_where_one_is_asked_for() {
    let (authority, stranger, provider) = (Authority::new(), Authority::new(), Provider::new());
    authority.write_pair("client");
    stranger.write_pair("client");
    let ca = format!("tls.client_ca = {:?}\n", authority.path("ca.pem").display().to_string());
    let proxy = start(&authority, &provider, &ca);
    let connect =
        |pair: Option<&Path>| TlsConn::new(proxy.address, authority.client(&["http/1.1"], pair));
    expect_served(&mut connect(Some(&authority.path("client"))), &provider);
    for pair in [None, Some(stranger.path("client"))] {
        let mut client = connect(pair.as_deref());
        let _ = client.shake_hands().and_then(|()| client.0.write_all(GET.as_bytes()));
        assert!(client.0.read(&mut [0]).is_err(), "{pair:?} got in");
    }
    assert!(provider.is_untouched());
    assert_eq!(proxy.rows().len(), 1);
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_never() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let proxy = start(&authority, &provider, "");
    let shown = || {
        let mut client = authority.connect(proxy.address);
        client.shake_hands().unwrap();
        client.certificate()
    };
    let first = shown();
    let mut open = authority.connect(proxy.address);
    open.shake_hands().unwrap();
    let second = authority.write_pair("tls");
    assert_ne!(first, second);
    eventually("the new certificate is shown", || shown() == second);
    // A connection that is open goes on.
    expect_served(&mut open, &provider);

    // A key that does not go with it, and then nothing at all.
    let third = authority.write_pair("next");
    std::fs::copy(authority.path("next.key"), authority.path("tls.key")).unwrap();
    std::fs::remove_file(authority.path("ca.pem")).unwrap();
    for _ in 0..3 {
        assert_eq!(shown(), second);
    }
    std::fs::write(authority.path("tls.crt"), "").unwrap();
    assert_eq!(shown(), second);
    std::fs::copy(authority.path("next.crt"), authority.path("tls.crt")).unwrap();
    eventually("what fits together is shown", || shown() == third);
}
