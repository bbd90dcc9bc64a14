//! TCP and TLS to an upstream. Owns where an upstream is ([`Origin`]), which roots are trusted and
//! what ALPN offers; knows no HTTP beyond that.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::header::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::{Failure, Http2, Stage, Target};

/// Silence after which the kernel asks whether the peer still stands.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Where an upstream is. The host comes from the configuration alone: no request can choose it.
#[derive(Clone)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
    /// The authority as the `Host` field has it.
    pub host: HeaderValue,
    tls: Option<Tls>,
    played: Option<Playing>,
}

/// Opens a connection within this process, where an upstream is played rather than called. Told by its name.
pub type Playing = Arc<dyn Fn(&str) -> io::Result<DuplexStream> + Send + Sync>;

#[derive(Clone)]
struct Tls {
    server: ServerName<'static>,
    http1: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Why an origin cannot be spoken to.
#[derive(Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl Origin {
    /// An origin without TLS. `authority` as in `Host`: the port only where it is not the default.
    pub fn http(authority: Authority) -> Result<Origin, TlsError> {
        Origin::new(Scheme::HTTP, authority, None)
    }

    /// An origin with TLS; `host` is the name that the certificate must bear.
    pub fn https(
        authority: Authority,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Origin, TlsError> {
        let server = ServerName::try_from(host.to_owned())
            .map_err(|error| TlsError(format!("{host}: {error}")))?;
        let with_alpn = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let tls = Tls {
            server,
            http1: with_alpn(&[b"http/1.1"]),
            either: with_alpn(&[b"h2", b"http/1.1"]),
            http2: with_alpn(&[b"h2"]),
        };
        Origin::new(Scheme::HTTPS, authority, Some(tls))
    }

    fn new(scheme: Scheme, authority: Authority, tls: Option<Tls>) -> Result<Origin, TlsError> {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|error| TlsError(format!("{authority}: {error}")))?;
        Ok(Origin { scheme, authority, host, tls, played: None })
    }

    /// The same origin, played within this process. TLS is left out.
    #[doc(hidden)]
    #[must_use]
    pub fn played(self, playing: Playing) -> Origin {
        Origin { played: Some(playing), ..self }
    }

    /// The absolute form of a path on this origin.
    pub(super) fn absolute(&self, path: &PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.clone());
        Uri::from_parts(parts).unwrap_or_default()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// A TLS configuration that trusts the system's roots, or the bundled ones where the system has none,
/// and `extra` besides.
pub fn tls_config(extra: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in extra {
        roots.add(certificate.clone()).map_err(|error| TlsError(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Opens a connection within the target's connect timeout, TLS included.
pub(super) async fn connect(target: &Target, http2: Http2) -> Result<Io, Failure> {
    tokio::time::timeout(target.connect_timeout, open(&target.origin, http2))
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(Stage::ConnectTimeout)))
}

async fn open(origin: &Origin, http2: Http2) -> Result<Io, Failure> {
    if let Some(play) = &origin.played {
        let stream = play(origin.authority.host());
        return stream.map(Io::Played).map_err(|error| Failure::new(Stage::Connect, error));
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    let uri = origin.absolute(&PathAndQuery::from_static("/"));
    let stream = connector
        .call(uri)
        .await
        .map_err(|error| Failure::new(Stage::Connect, error))?
        .into_inner();
    let Some(tls) = &origin.tls else { return Ok(Io::Plain(stream)) };
    let config = match http2 {
        Http2::Never => &tls.http1,
        Http2::Auto => &tls.either,
        Http2::Always => &tls.http2,
    };
    TlsConnector::from(Arc::clone(config))
        .connect(tls.server.clone(), stream)
        .await
        .map(|stream| Io::Tls(Box::new(stream)))
        .map_err(|error| Failure::new(Stage::Tls, error))
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Played(DuplexStream),
}

impl Io {
    /// Whether HTTP/2 was agreed on: by TLS, or beforehand where there is none.
    pub(super) fn speaks_http2(&self, http2: Http2) -> bool {
        match self {
            Io::Plain(_) | Io::Played(_) => http2 == Http2::Always,
            Io::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// As hyper wants it.
    pub(super) fn into_hyper(self) -> TokioIo<Io> {
        TokioIo::new(self)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Played(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Played(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Io::Played(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Played(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Played(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Played(stream) => stream.is_write_vectored(),
        }
    }
}
