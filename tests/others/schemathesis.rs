//! The admin API's description against the server that gives it, by a fuzzer that reads descriptions:
//! schemathesis, from the place that `SCHEMATHESIS` names. Every check is on; valid requests must be taken,
//! invalid ones refused, and every answer must be as described. The same cases each time, in less than two minutes;
//! `SCHEMATHESIS_SEED` and `SCHEMATHESIS_EXAMPLES` make others, and more.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const TOKEN: &str = "a-token-for-the-fuzzer";

/// A tokenmeter with a ledger of made-up calls. Stopped when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(home: &Path) -> Server {
        let tokenmeter = env!("CARGO_BIN_EXE_tokenmeter");
        let filled = Command::new(tokenmeter)
            .args(["demo", "--database", "demo.db", "--calls", "2000"])
            .current_dir(home)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(filled.success());
        fs::write(
            home.join("prices.toml"),
            "extends = \"builtin\"\n[prices.house]\nm = { input = 1 }\n",
        )
        .unwrap();
        let child = Command::new(tokenmeter)
            .args(["serve", "--listen", "127.0.0.1:0", "--database", "demo.db"])
            .args(["--pricing", "prices.toml"])
            .env("TOKENMETER_ADMIN_TOKEN", TOKEN)
            .current_dir(home)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(home.join("serve.log")).unwrap())
            .spawn()
            .unwrap();
        // From now on it ends with the test, however that ends.
        let mut server = Server { child, url: String::new() };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        server.url.push_str(line.trim().rsplit(' ').next().unwrap());
        assert!(server.url.starts_with("http://"), "{line}");
        server
    }
}

/// A user's or session's name that is in the ledger.
fn known(home: &Path, name: &str) -> String {
    let recent = ["recent", "--database", "demo.db", "--limit", "1000", "--format", "json"];
    let asked = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(recent)
        .args(["--since", "2000-01-01"])
        .current_dir(home)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let rows = answer["records"].as_array().unwrap();
    let is_plain =
        |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    rows.iter().filter_map(|row| row[name].as_str()).find(is_plain).unwrap().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_server_is_as_described() {
    let program = std::env::var("SCHEMATHESIS")
        .expect("SCHEMATHESIS names the program, as in /opt/venv/bin/schemathesis");
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/others/schemathesis_hooks.py");
    let or = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let done = Command::new(&program)
        .arg("run")
        .arg(format!("{}/admin/openapi.json", server.url))
        .args(["--url", &server.url])
        .args(["-H", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-examples", &or("SCHEMATHESIS_EXAMPLES", "30")])
        .args(["--seed", &or("SCHEMATHESIS_SEED", "1")])
        .args(["--max-response-time", "20", "--request-timeout", "30"])
        // A busy machine is no finding.
        .args(["--suppress-health-check", "too_slow", "--no-color"])
        .env("SCHEMATHESIS_HOOKS", &hooks)
        .env("TOKENMETER_KNOWN_USER", known(home.path(), "user"))
        .env("TOKENMETER_KNOWN_SESSION", known(home.path(), "session"))
        .current_dir(home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    let log = fs::read_to_string(home.path().join("serve.log")).unwrap();
    assert!(done.status.success(), "{said}\n{}\n{log}", String::from_utf8_lossy(&done.stderr));
    assert!(!log.contains("panicked"), "{log}");
}
