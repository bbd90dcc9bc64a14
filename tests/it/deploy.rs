//! What `deploy/` and its documents say, held against the program: every variable, key, metric, command and log line
//! that they name exists, their configurations load, and who stops the process waits for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tokenmeter::config::keys::{
    ENV_ADMIN_TOKEN, ENV_ADMIN_TOKEN_FILE, ENV_CONFIG, ENV_URL, GLOBAL, Key, UPSTREAM,
};

use crate::rig::{Provider, Settings, bytes_of};

/// What must still be done after `shutdown_grace`: the ledger, the last spans, the last lines, and some air.
const AFTERWARDS: u64 = 30;

/// Keys of the listener's own access, which docs/ACCESS.md describes.
const ACCESS: [&str; 6] = [
    "tls.certificate",
    "tls.key",
    "tls.client_ca",
    "admin.listen",
    "clients.networks",
    "clients.keys",
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with("secrets")).flat_map(|path| files(&path)).collect()
}

/// All that is handed out, and the pages about it.
fn texts() -> Vec<(String, String)> {
    let mut names: Vec<String> = files(&repository().join("deploy"))
        .iter()
        .map(|path| path.strip_prefix(repository()).unwrap().display().to_string())
        .collect();
    names.extend(["docs/OPERATIONS.md", "SECURITY.md"].map(str::to_owned));
    assert!(names.len() >= 12, "{names:?}");
    names
        .into_iter()
        .map(|name| {
            let text = read(&name);
            (name, text)
        })
        .collect()
}

/// Words that begin so, made of these letters.
fn words(text: &str, begins: &str, letters: impl Fn(char) -> bool) -> BTreeSet<String> {
    text.match_indices(begins)
        .map(|(at, _)| text[at..].chars().take_while(|c| letters(*c)).collect())
        .collect()
}

/// The program's judgement of a configuration.
fn check(config: Option<&str>, env: &[(String, String)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    if let Some(text) = config {
        fs::write(directory.path().join("tokenmeter.toml"), text).unwrap();
    }
    let token = directory.path().join("admin-token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    // Where a file stands in a container or under systemd, it stands here.
    let env = env.iter().map(|(name, value)| match name.as_str() {
        ENV_ADMIN_TOKEN_FILE => (name.clone(), token.display().to_string()),
        ENV_CONFIG => (name.clone(), "tokenmeter.toml".to_owned()),
        _ => (name.clone(), value.clone()),
    });
    Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .current_dir(directory.path())
        .env_clear()
        .envs(env)
        .arg("check")
        .output()
        .unwrap()
}

/// It loads, and nothing in it is unknown. Listening for others is what a container is for.
fn loads(what: &str, config: Option<&str>, env: &[(String, String)]) {
    let output = check(config, env);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{what}: {said}");
    let odd = said.lines().find(|line| line.contains("no such setting") || line.contains("empty"));
    assert_eq!(odd, None, "{what}");
}

/// `NAME=value`, `NAME: value` and `{name: NAME, value: "value"}`, as these files write variables.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let found = lines.filter_map(|line| {
        let at = line.find("TOKENMETER_")?;
        let rest = &line[at..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_')?;
        let (name, rest) = rest.split_at(end);
        let value = rest.trim_start_matches(['=', ':', ' ', ',']).trim_start_matches("value:");
        let value = value.trim_end_matches(['\\', ' ', '}']).trim().trim_matches('"');
        Some((name.to_owned(), value.replace("%S", "/var/lib")))
    });
    found.collect()
}

/// The text of a block of YAML that stands under this key, as it is there.
fn block(text: &str, key: &str) -> String {
    let (_, rest) = text.split_once(&format!("{key}: |\n")).unwrap();
    let depth = rest.len() - rest.trim_start().len();
    let lines = rest
        .lines()
        .take_while(|line| line.trim().is_empty() || line.starts_with(&" ".repeat(depth)));
    lines.map(|line| line.get(depth..).unwrap_or_default().to_owned() + "\n").collect()
}

/// The fenced blocks of a page in this language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let opens = format!("```{language}\n");
    let blocks = text.split(opens.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_variable_and_key_that_is_named_exists() {
    let mut known: BTreeSet<String> = GLOBAL.iter().map(Key::env_name).collect();
    known.extend([ENV_ADMIN_TOKEN, ENV_ADMIN_TOKEN_FILE, ENV_CONFIG, ENV_URL].map(str::to_owned));
    let sections: BTreeSet<&str> =
        GLOBAL.iter().map(|key| key.section_and_leaf().0).filter(|name| !name.is_empty()).collect();
    let sections: BTreeSet<&str> =
        sections.into_iter().chain(ACCESS.map(|key| key.split('.').next().unwrap())).collect();
    let (mut variables, mut keys) = (0, 0);
    for (name, text) in texts() {
        for variable in words(&text, "TOKENMETER_", |c| c.is_ascii_uppercase() || c == '_') {
            assert!(known.contains(&variable), "{name}: {variable}");
            variables += 1;
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let key = quoted.split([' ', '=']).next().unwrap();
            let Some((section, leaf)) = key.split_once('.') else { continue };
            let is_word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if !sections.contains(section) || !is_word(leaf) {
                continue;
            }
            let is_key = GLOBAL.iter().any(|known| known.name == key) || ACCESS.contains(&key);
            assert!(is_key, "{name}: {key}");
            keys += 1;
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            if let Some((key, value)) = quoted.split_once(" = ")
                && value.starts_with('"')
                && !key.contains(' ')
            {
                let mut all = GLOBAL.iter().chain(UPSTREAM).map(|known| known.name).chain(ACCESS);
                assert!(all.any(|known| known == key), "{name}: {quoted}");
                keys += 1;
            }
        }
    }
    assert!(
        variables > 15 && keys > 15,
        "only {variables} variables and {keys} keys were looked at"
    );
}

#[test]
fn every_configuration_loads() {
    let own = read("deploy/tokenmeter.toml");
    loads("deploy/tokenmeter.toml", Some(&own), &[]);
    let mut looked_at = 0;
    for name in ["deploy/Containerfile", "deploy/compose.yaml", "deploy/tokenmeter.service"] {
        let variables = variables(&read(name));
        assert!(variables.len() >= 2, "{name}: {variables:?}");
        loads(name, Some(&own), &variables);
        looked_at += variables.len();
    }
    assert!(looked_at >= 9, "{looked_at}");
    let kubernetes = read("deploy/kubernetes.yaml");
    let config = block(&kubernetes, "tokenmeter.toml");
    assert!(config.contains("shutdown_grace"), "{config}");
    let variables: Vec<_> = variables(&kubernetes)
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            ENV_ADMIN_TOKEN => (name, "0123456789abcdef".to_owned()),
            _ => (name, value),
        })
        .collect();
    loads("deploy/kubernetes.yaml", Some(&config), &variables);
    for text in fenced(&read("docs/OPERATIONS.md"), "toml") {
        loads("docs/OPERATIONS.md", Some(&text), &[]);
    }
}

/// The number after these words.
fn number(text: &str, after: &str) -> u64 {
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("no `{after}`"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn who_stops_it_waits_for_the_calls() {
    let grace = 60 * number(&read("deploy/tokenmeter.toml"), "shutdown_grace = \"");
    assert_eq!(grace, 120);
    let unit = read("deploy/tokenmeter.service");
    assert!(number(&unit, "TimeoutStopSec=") >= grace + AFTERWARDS);
    assert!(number(&read("deploy/compose.yaml"), "stop_grace_period:") >= grace + AFTERWARDS);
    let pod = read("deploy/kubernetes.yaml");
    let grace = 60 * number(&pod, "shutdown_grace = \"");
    let pause = number(&pod, "sleep: {seconds:");
    let period = number(&pod, "terminationGracePeriodSeconds:");
    assert!(period >= grace + pause + AFTERWARDS, "{period}");
    // Descriptors for the default limits: two a call, and what the rest needs.
    for (name, after) in
        [("deploy/tokenmeter.service", "LimitNOFILE="), ("deploy/compose.yaml", "nofile:")]
    {
        assert!(number(&read(name), after) > 20_228, "{name}");
    }
}

#[test]
fn what_runs_is_not_root_and_can_write_to_one_place() {
    let container = read("deploy/Containerfile");
    let (_, last) = container.rsplit_once("\nFROM ").unwrap();
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
    assert!(last.contains("CMD [\"/bin/tokenmeter\", \"health\"]"), "{last}");
    let unit = read("deploy/tokenmeter.service");
    for line in
        ["DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="]
    {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    let pod = read("deploy/kubernetes.yaml");
    for line in
        ["runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false"]
    {
        assert!(pod.contains(line), "{line}");
    }
    assert_eq!(number(&pod, "replicas:"), 1);
    // Every path that a probe asks for is one of ours.
    let probes: Vec<&str> = pod.split("httpGet: {path: ").skip(1).collect();
    assert_eq!(probes.len(), 3);
    assert!(probes.iter().all(|probe| probe.starts_with("/healthz,")), "{probes:?}");
    // What is mounted is there.
    for mounted in words(&read("deploy/compose.yaml"), "./", |c| c != ':' && c != '\n' && c != ' ')
    {
        let is_made = mounted.starts_with("./secrets/");
        let path = repository().join("deploy").join(mounted.trim_start_matches("./"));
        assert!(is_made || path.exists() || mounted.starts_with("./config/"), "{mounted}");
    }
    for mounted in ["prometheus/alerts.yml", "grafana/tokenmeter.json"] {
        assert!(repository().join("config").join(mounted).exists(), "{mounted}");
    }
}

#[test]
fn every_metric_that_is_named_is_told() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("metrics_public = true").start();
    let mut client = proxy.connect();
    client.send("GET /metrics HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
    client.head();
    let page = String::from_utf8(bytes_of(&client.rest())).unwrap();
    let told: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let board: Value = serde_json::from_str(&read("config/grafana/tokenmeter.json")).unwrap();
    let board = board.to_string();
    let mut looked_at = 0;
    for (name, text) in [
        ("alerts.yml", read("config/prometheus/alerts.yml")),
        ("tokenmeter.json", board),
        ("OPERATIONS.md", read("docs/OPERATIONS.md")),
    ] {
        for metric in words(&text, "tokenmeter_", |c| c.is_ascii_lowercase() || c == '_') {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| metric.strip_suffix(end))
                .unwrap_or(&metric);
            assert!(told.contains(family), "{name}: {metric}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 40, "only {looked_at} metrics were looked at");
}

#[test]
fn every_alert_is_explained() {
    let page = read("docs/OPERATIONS.md");
    let rules = read("config/prometheus/alerts.yml");
    let alerts: Vec<&str> =
        rules.split("- alert: ").skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
    }
}

/// The texts in quotes of a macro's arguments, which begin behind its bracket.
fn literals(arguments: &str) -> Vec<String> {
    let (mut depth, mut texts, mut text) = (1, Vec::new(), None::<String>);
    let mut chars = arguments.chars().peekable();
    while let Some(c) = chars.next() {
        match (&mut text, c) {
            (Some(text), '\\') => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some(c) => text.push(c),
                None => break,
            },
            (Some(_), '"') => texts.extend(text.take()),
            (Some(text), c) => text.push(c),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    texts
}

/// A line of the log is known by its longest piece of fixed words.
#[test]
fn every_line_at_warn_and_error_is_explained() {
    let page = read("docs/OPERATIONS.md");
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let (mut looked_at, mut missing) = (0, Vec::new());
    for file in files(&repository().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let begins = ["tracing::warn!(", "tracing::error!("];
        for arguments in begins.iter().flat_map(|begin| code.split(begin).skip(1)) {
            // What has no words of its own says a warning of the configuration.
            let Some(said) = literals(arguments).pop().filter(|said| said.contains(' ')) else {
                continue;
            };
            looked_at += 1;
            let is_said = |words: &&&str| {
                let mut pieces = words.split('…').map(str::trim);
                words.len() > 8 && pieces.all(|piece| said.contains(piece))
            };
            // A name in braces stands for anything, as three dots do in the page.
            let fixed =
                said.split(['{', '}']).step_by(2).map(str::trim).max_by_key(|piece| piece.len());
            let is_explained =
                quoted.iter().any(|words| is_said(&words) || words.contains(fixed.unwrap()));
            if !is_explained {
                missing.push(format!("{}: {said}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/OPERATIONS.md: {missing:#?}");
    assert!(looked_at > 45, "only {looked_at} lines were looked at");
}

#[test]
fn every_page_and_test_that_is_named_exists() {
    // What guards the listener comes with docs/ACCESS.md.
    let with_access = ["tests/it/access.rs", "tests/it/listener_tls.rs", "tests/it/secrets.rs"];
    let mut looked_at = 0;
    for (page, folder) in [("SECURITY.md", ""), ("docs/OPERATIONS.md", "docs")] {
        let text = read(page);
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_ours = ["tests/", "src/", "deploy/", "docs/", "config/", "fuzz/"];
            if is_ours.iter().any(|begin| quoted.starts_with(begin))
                && !with_access.contains(&quoted)
            {
                assert!(repository().join(quoted).exists(), "{page}: {quoted}");
                looked_at += 1;
            }
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                repository().join(page)
            } else {
                repository().join(folder).join(file)
            };
            if file.ends_with("ACCESS.md") {
                continue;
            }
            let target = fs::read_to_string(&target)
                .unwrap_or_else(|error| panic!("{page}: {link}: {error}"));
            let is_there = part.is_empty()
                || target.contains(&format!("<a id=\"{part}\">"))
                || target.lines().filter(|line| line.starts_with('#')).any(|line| {
                    let title = line.trim_start_matches('#').trim().to_lowercase();
                    title.replace(|c: char| !c.is_alphanumeric() && c != ' ', "").replace(' ', "-")
                        == part
                });
            assert!(is_there, "{page}: {link}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 30, "only {looked_at} were looked at");
}
