//! `tokenmeter health`, as a container's health check runs it: the program itself, no shell, no token.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::rig::{PATIENCE, Provider, Proxy};

fn health(directory: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .current_dir(directory)
        .env_clear()
        .envs(env.iter().copied())
        .arg("health")
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn a_tokenmeter_that_serves_is_alive_and_ready() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let port = proxy.address.port();
    let nowhere = tempfile::tempdir().unwrap();
    let everywhere = format!("0.0.0.0:{port}");
    let listen = [("TOKENMETER_LISTEN", everywhere.as_str())];
    let well = health(nowhere.path(), &listen, &[]);
    assert_eq!((well.status.code(), said(&well.stdout)), (Some(0), "ok\n".to_owned()));
    let ready = health(nowhere.path(), &[], &["--ready", "--listen", &format!("127.0.0.1:{port}")]);
    assert_eq!((ready.status.code(), said(&ready.stdout)), (Some(0), "ready\n".to_owned()));
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(health(nowhere.path(), &[], &["--url", &url]).status.code(), Some(0));
    // It leaves nothing behind: a container's root may be read-only.
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
}

#[test]
fn whatever_else_answers_is_not_well() {
    let nowhere = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let refused = health(nowhere.path(), &[], &["--listen", &gone]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused.stderr).contains("refused"), "{}", said(&refused.stderr));
    // Somebody who takes connections and says nothing, as a process does that hangs.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let since = Instant::now();
    let address = silent.local_addr().unwrap().to_string();
    let hung = health(nowhere.path(), &[], &["--listen", &address]);
    assert_eq!(hung.status.code(), Some(1), "{}", said(&hung.stderr));
    assert!(since.elapsed() < PATIENCE);
    assert_eq!(health(nowhere.path(), &[], &["--url", "localhost"]).status.code(), Some(2));
}

/// Nothing of a configuration but the address counts: a broken price table or key is for `check` to say.
#[test]
fn the_address_comes_from_the_configuration() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokenmeter.toml");
    let listen = format!("listen = \"{}\"\npricing = \"/nowhere\"\n", proxy.address);
    std::fs::write(&file, listen).unwrap();
    let well = health(directory.path(), &[], &[]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well.stderr));
    let named = [("TOKENMETER_CONFIG", file.to_str().unwrap())];
    let nowhere = tempfile::tempdir().unwrap();
    assert_eq!(health(nowhere.path(), &named, &["--ready"]).status.code(), Some(0));
}

/// The secret of a container or a service is a file; the server and the commands that ask it take it from there.
#[test]
fn the_admin_token_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("admin-token");
    std::fs::write(&token, "a-token-from-a-file\n").unwrap();
    let token = token.to_str().unwrap();
    let mut serving = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .current_dir(directory.path())
        .env_clear()
        .env("TOKENMETER_ADMIN_TOKEN_FILE", token)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.strip_prefix("tokenmeter listens on ")?.to_owned()));
    let reading = thread::spawn(move || lines.for_each(drop));
    let ask = |env: (&str, &str)| {
        Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .env_clear()
            .envs([env])
            .args(["stats", "--format", "json", "--url", url.as_deref().unwrap()])
            .output()
            .unwrap()
    };
    let known = ask(("TOKENMETER_ADMIN_TOKEN_FILE", token));
    let stranger = ask(("TOKENMETER_ADMIN_TOKEN", "another-token-of-somebody"));
    let lost = ask(("TOKENMETER_ADMIN_TOKEN_FILE", "/nowhere"));
    serving.kill().unwrap();
    serving.wait().unwrap();
    reading.join().unwrap();
    assert_eq!(known.status.code(), Some(0), "{}", said(&known.stderr));
    assert_eq!(stranger.status.code(), Some(1));
    assert!(said(&lost.stderr).contains("/nowhere"), "{}", said(&lost.stderr));
    assert!(!directory.path().join("tokenmeter.token").exists());
}

/// A server that speaks TLS under a certificate that nobody vouches for, and says that it is well.
fn over_tls(wants_certificates: bool) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["tokenmeter".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let verifier: Arc<dyn ClientCertVerifier> = if wants_certificates {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap()
    } else {
        WebPkiClientVerifier::no_client_auth()
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            // Who speaks no TLS is told so by the library, and hung up on.
            if stream.read(&mut [0; 4096]).is_ok() {
                let body = r#"{"status":"ok"}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        }
    });
    address
}

#[test]
fn a_listener_with_tls_is_found_out_and_one_that_wants_certificates_is_alive() {
    let nowhere = tempfile::tempdir().unwrap();
    for wants_certificates in [false, true] {
        let address = over_tls(wants_certificates);
        let listen = ["--listen", &address.to_string()];
        let alive = health(nowhere.path(), &[], &listen);
        assert_eq!(alive.status.code(), Some(0), "{}", said(&alive.stderr));
        let ready = health(nowhere.path(), &[], &[&listen[..], &["--ready"]].concat());
        assert_eq!(ready.status.code(), Some(i32::from(wants_certificates)));
        // Elsewhere a certificate must be vouched for.
        let url = format!("https://{address}");
        assert_eq!(health(nowhere.path(), &[], &["--url", &url]).status.code(), Some(1));
    }
}
