//! The processes that are compared, each on a free port of the loopback address. Owns how they are
//! configured and that none outlives the benchmark.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::ledger::Ledger;
use crate::process::Process;

/// Of whoever asks tokenmeter for figures.
pub(crate) const ADMIN_TOKEN: &str = "bench";

/// As many connections to the provider are kept by nginx; more than any load has.
const KEPT: usize = 1024;

/// Those that run.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A benchmark that is broken off takes its processes along.
pub(crate) fn end_with_us() {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).expect("signals can be heard");
    thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let children = CHILDREN.lock().expect("nobody panicked with it");
        let ids = children.iter().map(u32::to_string);
        let _ = Command::new("kill").arg("-9").args(ids).status();
        std::process::exit(128 + signal);
    });
}

/// One that is compared. Direct calls have no process but the provider's own.
pub(crate) struct Target {
    pub name: &'static str,
    pub address: String,
    pub process: Option<Process>,
    /// Of tokenmeter alone.
    pub ledger: Option<Ledger>,
    child: Option<Child>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            CHILDREN.lock().expect("nobody panicked with it").retain(|id| *id != child.id());
        }
    }
}

impl Target {
    fn new(name: &'static str, address: String, child: Child) -> Target {
        CHILDREN.lock().expect("nobody panicked with it").push(child.id());
        let process = Some(Process::new(child.id()));
        Target { name, address, process, ledger: None, child: Some(child) }
    }

    /// Calls that go to the provider itself.
    pub(crate) fn direct(provider: &Target) -> Target {
        let address = provider.address.clone();
        Target { name: "direct", address, process: None, ledger: None, child: None }
    }
}

/// A part of this program, as a process: it prints its address.
pub(crate) fn start_self(name: &'static str, arguments: &[&str]) -> Target {
    let program = std::env::current_exe().expect("the benchmark's own path");
    let mut command = Command::new(program);
    command.arg(name).args(arguments);
    started(name, &mut command)
}

/// Reads the address from the first line that the process prints.
fn started(name: &'static str, command: &mut Command) -> Target {
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let stdout = child.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("the process says where it listens");
    let address = line.trim().rsplit(['/', ' ']).next().unwrap_or_default().to_owned();
    Target::new(name, address, child)
}

/// Everything at its default but what makes it comparable: one worker, as nginx has one.
pub(crate) fn start_tokenmeter(
    name: &'static str,
    folder: &Path,
    upstream: &str,
    env: &[(&str, &str)],
) -> Target {
    let home = tempfile::tempdir_in(folder).expect("a new folder").keep();
    let log = std::fs::File::create(home.join("log")).expect("a new file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOKENMETER_") {
            command.env_remove(name);
        }
    }
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(home.join("bench.db"))
        .current_dir(&home)
        .env("TOKENMETER_WORKERS", "1")
        .env("TOKENMETER_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("TOKENMETER_UPSTREAMS_OPENAI_BASE_URL", format!("http://{upstream}"))
        .envs(env.iter().copied())
        .stderr(log);
    let mut target = started(name, &mut command);
    target.ledger = Some(Ledger::new(&target.address));
    target
}

/// nginx as a plain reverse proxy, if it is installed: one worker, connections kept on both sides,
/// nothing buffered, nothing logged.
///
/// Its master process is left out, so that killing the one process ends it. A worker does the same with
/// and without.
///
/// Room for connections is taken at the start, so it is no more than is needed.
pub(crate) fn start_nginx(folder: &Path, upstream: &str, connections: usize) -> Option<Target> {
    let home = tempfile::tempdir_in(folder).expect("a new folder").keep();
    let address = {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        probe.local_addr().expect("a bound socket").to_string()
    };
    let file = home.join("nginx.conf");
    let conf = nginx_conf(&home.display().to_string(), &address, upstream, connections);
    std::fs::write(&file, conf).expect("a new file");
    let log = std::fs::File::create(home.join("log")).expect("a new file");
    let Ok(child) = Command::new("nginx").arg("-c").arg(&file).stderr(log).spawn() else {
        println!("nginx is not installed: compared without it");
        return None;
    };
    let target = Target::new("nginx", address, child);
    for _ in 0..100 {
        if TcpStream::connect(&target.address).is_ok() {
            return Some(target);
        }
        thread::sleep(Duration::from_millis(50));
    }
    let said = std::fs::read_to_string(home.join("log")).unwrap_or_default();
    println!("nginx did not start: compared without it\n{said}");
    None
}

fn nginx_conf(home: &str, address: &str, upstream: &str, connections: usize) -> String {
    format!(
        "daemon off; master_process off; worker_processes 1;\n\
         pid {home}/pid; error_log {home}/error.log;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n\
         access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         keepalive_requests 1000000000;\n\
         upstream provider {{\n\
         server {upstream}; keepalive {KEPT}; keepalive_requests 1000000000;\n\
         }}\n\
         server {{\n\
         listen {address} backlog=4096;\n\
         location / {{\n\
         proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_buffering off; proxy_request_buffering off;\n\
         }}\n\
         }}\n\
         }}\n"
    )
}

/// What `nginx -v` says of it.
pub(crate) fn nginx_version() -> Option<String> {
    let said = Command::new("nginx").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    text.trim().rsplit('/').next().map(str::to_owned)
}
