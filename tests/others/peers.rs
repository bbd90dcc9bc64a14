//! The framing of messages, beside hyper's server by itself and nginx: tokenmeter lets nothing through that neither of
//! them does, and what several let through they let through with the same body.

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tempfile::TempDir;

use crate::cases::{Fate, chunks, framings, hosts, lengths, lines};
use crate::front::{free, wait};
use crate::prometheus::Running;
use crate::strict::{Seen, Strict};

const PATIENCE: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_millis(150);

/// How many cases are tried at a time.
const LANES: usize = 4;

/// One who takes requests, and what came of them.
struct Peer {
    address: String,
    seen: Seeing,
    _process: Option<(Running, TempDir)>,
}

enum Seeing {
    /// As the provider has it.
    Behind(Strict),
    /// As it read it.
    Itself(Arc<Mutex<Vec<Seen>>>),
}

impl Peer {
    /// The bodies of what is a whole message.
    fn outcome(&self, text: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let _ = stream.write_all(&bytes);
        let _ = stream.read_to_end(&mut Vec::new());
        let seen = match &self.seen {
            Seeing::Behind(strict) => strict.take(),
            Seeing::Itself(seen) => std::mem::take(&mut *seen.lock().unwrap()),
        };
        let body = |seen| match seen {
            Seen::Request { body, .. } => Some(body),
            Seen::Ambiguous(_) | Seen::Part => None,
        };
        seen.into_iter().filter_map(body).collect()
    }
}

fn tokenmeter() -> Peer {
    let strict = Strict::new();
    let home = tempfile::tempdir().unwrap();
    let address = free();
    let process = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .current_dir(home.path())
        .env_clear()
        .env("TOKENMETER_TIMEOUTS_REQUEST_HEAD", "150ms")
        .env("TOKENMETER_TIMEOUTS_KEEP_ALIVE", "150ms")
        .env("TOKENMETER_TIMEOUTS_IDLE", "300ms")
        .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", format!("http://{}", strict.address))
        .args(["serve", "--listen", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Some((wait(process, &address), home));
    Peer { address, seen: Seeing::Behind(strict), _process: process }
}

fn nginx() -> Peer {
    let strict = Strict::new();
    let home = tempfile::tempdir().unwrap();
    let address = free();
    let process = Command::new("nginx")
        .args(["-g", "daemon off; master_process off;", "-p"])
        .arg(home.path())
        .arg("-c")
        .arg(forwarding(home.path(), &address, &strict.address.to_string()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed");
    let process = Some((wait(process, &address), home));
    Peer { address, seen: Seeing::Behind(strict), _process: process }
}

/// nginx's configuration: a reverse proxy that buffers nothing and waits for nobody for long.
fn forwarding(home: &Path, front: &str, behind: &str) -> std::path::PathBuf {
    let at = home.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let text = format!(
        "pid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
         client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; proxy_read_timeout 1s;\n\
         lingering_timeout 1s; lingering_time 1s; proxy_request_buffering off; proxy_buffering off;\n\
         server {{ listen {front};\nlocation / {{ proxy_pass http://{behind}; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }} }} }}\n"
    );
    let file = home.join("nginx.conf");
    fs::write(&file, text).unwrap();
    file
}

/// hyper's server as it comes, which notes what it could read to its end.
fn hyper() -> Peer {
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let noting = Arc::clone(&seen);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let noting = Arc::clone(&noting);
                let service = service_fn(move |request| read(request, Arc::clone(&noting)));
                let serving = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(QUICK)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
    });
    Peer { address, seen: Seeing::Itself(seen), _process: None }
}

async fn read(
    request: Request<Incoming>,
    noting: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().path().to_owned();
    if let Ok(Ok(body)) = tokio::time::timeout(QUICK, request.into_body().collect()).await {
        let body = body.to_bytes().iter().map(|&byte| char::from(byte)).collect();
        noting.lock().unwrap().push(Seen::Request { target, body });
    }
    Ok(Response::new(Full::from("hi")))
}

/// What is wrong with how one case went.
fn compare(text: &str, ours: &[String], nginx: &[String], hyper: &[String]) -> Option<String> {
    let laxer = !ours.is_empty() && nginx.is_empty() && hyper.is_empty();
    let differs = |theirs: &[String]| {
        ours.iter().zip(theirs).any(|(ours, theirs)| ours != theirs) || ours.len() > theirs.len()
    };
    let differs = !ours.is_empty() && differs(hyper) && differs(nginx);
    (laxer || differs)
        .then(|| format!("{text:?}\n  tokenmeter {ours:?}\n  nginx {nginx:?}\n  hyper {hyper:?}"))
}

#[test]
fn nothing_passes_that_neither_nginx_nor_hyper_would_take() {
    let all: Vec<(String, Fate)> =
        [framings(), lengths(), chunks(), lines(), hosts()].into_iter().flatten().collect();
    let count = all.len();
    let left = Arc::new(Mutex::new(all));
    let (tell, told) = mpsc::channel();
    for _ in 0..LANES {
        let (left, tell) = (Arc::clone(&left), tell.clone());
        thread::spawn(move || {
            let (ours, nginx, hyper) = (tokenmeter(), nginx(), hyper());
            loop {
                let Some((text, _)) = left.lock().unwrap().pop() else { return };
                let outcomes = [&ours, &nginx, &hyper].map(|peer| peer.outcome(&text));
                tell.send((text, outcomes)).unwrap();
            }
        });
    }
    drop(tell);
    let (mut tried, mut passed, mut stricter, mut faults) = (0, 0, 0, Vec::new());
    for (text, [ours, nginx, hyper]) in told {
        tried += 1;
        passed += usize::from(!ours.is_empty());
        stricter += usize::from(ours.is_empty() && !(nginx.is_empty() && hyper.is_empty()));
        faults.extend(compare(&text, &ours, &nginx, &hyper));
    }
    assert_eq!(tried, count);
    println!("{tried} tried, {passed} pass, {stricter} of the others pass nginx or hyper");
    assert!(passed > 20 && stricter > 5, "{passed} {stricter}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
