//! Who may do what: the operator's own address, whose calls are let in, how often a token may be wrong, and that
//! no spelling of a path leads where it should not.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use tokenmeter::fingerprint::Fingerprints;

use super::listener_tls::Authority;
use super::rig::{Conn, Provider, Proxy, Settings, field};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const APART: &str = "admin.listen = \"127.0.0.1:0\"\n";

/// What is tokenmeter's own.
const RESERVED: [&str; 5] = ["admin", "metrics", "healthz", "readyz", "usage"];

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: c\r\n{fields}\r\n")
}

fn ask(mut conn: Conn, path: &str, fields: &str) -> (String, String) {
    conn.send(get(path, fields));
    conn.answer()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

/// The code of an answer that is an error of tokenmeter's own, in the shape that it promises.
fn code(head: &str, body: &str) -> String {
    let error: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{head}{body}"));
    let error = &error["error"];
    assert_eq!(error["type"], "tokenmeter_error", "{body}");
    assert!(error["message"].is_string());
    assert_eq!(Some(error["code"].as_str().unwrap()), field(head, "x-tokenmeter-error"));
    format!("{} {}", status(head), error["code"].as_str().unwrap())
}

fn expect_forwarded(proxy: &Proxy, provider: &Provider, path: &str, fields: &str) {
    let mut client = proxy.connect();
    client.send(get(path, fields));
    let mut up = provider.accept();
    up.head();
    up.send(ANSWER);
    assert_eq!(client.answer().1, "hi");
}

/// How often clients were sent an error of this code.
fn counted(proxy: &Proxy, code: &str) -> u64 {
    let (_, page) = ask(proxy.connect_to_admin(), "/metrics", &bearer(&proxy.token()));
    let name = format!("tokenmeter_errors_total{{code=\"{code}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |text| text.parse().unwrap())
}

#[test]
fn the_operator_s_address_has_all_that_is_tokenmeter_s_and_takes_no_call() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with(APART).start();
    assert_ne!(proxy.address, proxy.admin_address);
    let token = bearer(&proxy.token());
    for path in ["/admin", "/admin/", "/admin/stats", "/admin/x", "/admin/../v1/x", "/metrics"] {
        for fields in [&token, "", "Accept: text/html\r\n"] {
            let (head, body) = ask(proxy.connect(), path, fields);
            assert_eq!(code(&head, &body), "404 not_found", "{path}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&ask(proxy.connect(), path, "").0), "200");
        assert_eq!(status(&ask(proxy.connect_to_admin(), path, "").0), "200");
    }
    for path in ["/admin/stats", "/metrics", "/admin/"] {
        assert_eq!(status(&ask(proxy.connect_to_admin(), path, "").0), "401", "{path}");
        assert_eq!(status(&ask(proxy.connect_to_admin(), path, &token).0), "200", "{path}");
    }
    for path in ["/", "/v1/x", "/up/v1/x", "/openai/v1/models", "/azure/x", "/adminx", "//admin"] {
        let (head, body) = ask(proxy.connect_to_admin(), path, &token);
        assert_eq!(code(&head, &body), "404 not_found", "{path}");
    }
    assert!(provider.is_untouched() && proxy.opened().is_empty());
    // The pages say where calls go, which is not where they are.
    let (_, page) = ask(proxy.connect_to_admin(), "/admin/", &token);
    let base = format!("http://c:{}", proxy.address.port());
    assert!(page.contains(&base), "{page}");
    expect_forwarded(&proxy, &provider, "/v1/x", "");
}

#[test]
fn reports_ask_at_the_operator_s_address() {
    let (authority, provider) = (Authority::new(), Provider::new());
    let keys = format!("{APART}{}", authority.keys());
    let proxy = Settings::to(provider.url()).with(&keys).start();
    let url = format!("https://localhost:{}", proxy.admin_address.port());
    let stats = |trusts: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
        command.args(["stats", "--format", "json", "--url", &url, "--token", &proxy.token()]);
        if trusts {
            command.env("TOKENMETER_CA_FILE", authority.directory.path().join("ca.pem"));
        }
        command.output().unwrap()
    };
    let told = stats(true);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && text.contains("\"requests\""), "{text}");
    assert!(!stats(false).status.success());
}

#[test]
fn calls_come_from_the_networks_that_are_let_in() {
    let provider = Provider::new();
    let networks = "clients.networks = [\"10.0.0.0/8\", \"::1\"]\n";
    let proxy = Settings::to(provider.url()).with(networks).start();
    for fields in
        ["", "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n"]
    {
        for path in ["/v1/x", "/up/v1/x", "/azure/v1"] {
            let (head, body) = ask(proxy.connect(), path, fields);
            assert_eq!(code(&head, &body), "403 forbidden");
            assert!(body.contains("127.0.0.1") && body.contains("clients.networks"), "{body}");
        }
    }
    assert!(provider.is_untouched() && proxy.opened().is_empty());
    assert_eq!(counted(&proxy, "forbidden"), 6);
    assert_eq!(status(&ask(proxy.connect(), "/healthz", "").0), "200");
    let ours = "clients.networks = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n";
    let proxy = Settings::to(provider.url()).with(ours).start();
    expect_forwarded(&proxy, &provider, "/v1/x", "");
}

/// A client that is turned away while it still sends gets to know why.
#[test]
fn a_stranger_with_much_to_say_hears_the_answer() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).with("clients.networks = [\"10.0.0.0/8\"]\n").start();
    let mut client = proxy.connect();
    client.send("POST /v1/x HTTP/1.1\r\nHost: c\r\nContent-Length: 1000000\r\n\r\n");
    client.send_all_or_fail(&vec![b'a'; 1_000_000]);
    let (head, body) = client.answer();
    assert_eq!(code(&head, &body), "403 forbidden");
}

/// What the command prints for a key, where the secret is beside the database.
fn printed(database: &Path, keys: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(["fingerprint", "--database", &database.display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn calls_come_with_the_keys_that_are_let_in() {
    let provider = Provider::new();
    let secret = tempfile::tempdir().unwrap();
    let fingerprint = printed(&secret.path().join("any.db"), "sk-ours\n");
    let keys = format!("clients.keys = [\"{}\"]\n", fingerprint.trim());
    let proxy = Settings::to(provider.url()).with(&keys).start_on(|database| {
        let file = "tokenmeter.secret";
        std::fs::copy(secret.path().join(file), database.with_file_name(file)).unwrap();
    });
    for (path, fields) in [
        ("/v1/x", "Authorization: Bearer sk-ours\r\n"),
        ("/v1/x", "api-key: sk-ours\r\n"),
        ("/v1/x", "x-api-key: sk-ours\r\n"),
        ("/v1/x", "x-goog-api-key: sk-ours\r\n"),
        ("/v1/x?alt=sse&key=sk-ours", ""),
    ] {
        expect_forwarded(&proxy, &provider, path, fields);
    }
    let fingerprints = Fingerprints::load(&secret.path().join("any.db")).unwrap();
    let theirs = format!("key:{}", fingerprints.of(b"sk-theirs"));
    let stranger = "calls with this key";
    for (path, fields, why) in [
        ("/v1/x", "Authorization: Bearer sk-theirs\r\n", stranger),
        ("/v1/x?key=sk-theirs", "", stranger),
        ("/v1/x", "", "without a key"),
        ("/v1/x", "Authorization: Basic sk-ours\r\n", "without a key"),
        // The provider takes one of them, and which is not known here.
        ("/v1/x?key=sk-ours", "x-api-key: sk-theirs\r\n", stranger),
        ("/v1/x", "Authorization: Bearer sk-ours\r\nx-api-key: sk-theirs\r\n", stranger),
        ("/v1/x", "x-api-key: sk-ours\r\nx-api-key: sk-theirs\r\n", stranger),
    ] {
        let (head, body) = ask(proxy.connect(), path, fields);
        assert_eq!(code(&head, &body), "403 forbidden", "{path} {fields}");
        assert!(body.contains(why) && !body.contains("sk-"), "{body}");
        // Or guesses could be tested by whoever has fingerprints.
        assert!(!body.contains("key:"), "{body}");
    }
    assert_eq!(proxy.rows().len(), 5);
    assert_eq!(
        printed(&proxy.database(), "sk-theirs\n\nsk-ours\n"),
        format!("{theirs}\n{fingerprint}")
    );
}

#[test]
fn usage_is_told_apart_by_key_and_no_key_is_kept() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).start();
    let [ours, theirs] = ["sk-ours", "sk-theirs"].map(|key| {
        expect_forwarded(&proxy, &provider, "/v1/x", &format!("Authorization: Bearer {key}\r\n"));
        printed(&proxy.database(), key).trim().to_owned()
    });
    expect_forwarded(&proxy, &provider, "/v1/x?key=sk-ours", "");
    expect_forwarded(&proxy, &provider, "/v1/x", "");
    let rows: Vec<Value> =
        proxy.wait_for_rows(4).iter().map(|row| row["key_fingerprint"].clone()).collect();
    let digits = |key: &str| Value::from(key.strip_prefix("key:").unwrap());
    assert_eq!(rows, [digits(&ours), digits(&theirs), digits(&ours), Value::Null]);
    // An opening line is all that a crash leaves.
    assert_eq!(proxy.opened()[0]["key_fingerprint"], digits(&ours));
    let token = bearer(&proxy.token());
    let asked = |path: &str| -> Value {
        serde_json::from_str(&ask(proxy.connect(), path, &token).1).unwrap()
    };
    let groups = asked("/admin/stats?group_by=key_fingerprint");
    let groups = groups["groups"].as_array().unwrap().iter();
    let mut groups: Vec<(Value, u64)> = groups
        .map(|one| (one["key"]["key_fingerprint"].clone(), one["requests"].as_u64().unwrap()))
        .collect();
    groups.sort_by_key(|(key, _)| key.as_str().map(str::to_owned));
    let mut expected = vec![(Value::Null, 1), (digits(&ours), 2), (digits(&theirs), 1)];
    expected.sort_by_key(|(key, _)| key.as_str().map(str::to_owned));
    assert_eq!(groups, expected);
    for name in [&ours[..], &ours[4..]] {
        let page = asked(&format!("/admin/usage?key_fingerprint={name}"));
        assert_eq!(page["records"].as_array().unwrap().len(), 2, "{page}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(["stats", "--by", "key_fingerprint", "--format", "csv", "--key-fingerprint", &theirs])
        .args(["--database", &proxy.database().display().to_string()])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains(&theirs[4..]) && !table.contains(&ours[4..]), "{table}");
}

#[test]
fn too_many_wrong_tokens_are_not_heard_for_a_while() {
    let provider = Provider::new();
    let proxy = Settings::to(provider.url()).start();
    let mut client = proxy.connect();
    let mut wrong = 0;
    let (head, body) = loop {
        client.send(get("/admin/stats", &bearer("guess")));
        let (head, body) = client.answer();
        if status(&head) != "401" {
            break (head, body);
        }
        wrong += 1;
        assert!(wrong < 100);
    };
    assert_eq!(code(&head, &body), "429 too_many_attempts");
    let seconds: u64 = field(&head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{head}");
    // The same for a right one, from the same address; what takes no token goes on.
    assert_eq!(status(&ask(proxy.connect(), "/metrics", &bearer(&proxy.token())).0), "429");
    assert_eq!(status(&ask(proxy.connect(), "/readyz", "").0), "200");
    expect_forwarded(&proxy, &provider, "/v1/x", &bearer("guess"));
}

/// Browsers send cookies to all ports of a host.
#[test]
fn two_tokenmeters_on_a_host_do_not_log_each_other_out() {
    let provider = Provider::new();
    let proxies = [(); 2].map(|()| Settings::to(provider.url()).start());
    let names = proxies.each_ref().map(|proxy| {
        let (_, description) = ask(proxy.connect(), "/admin/openapi.json", &bearer(&proxy.token()));
        let description: Value = serde_json::from_str(&description).unwrap();
        let scheme = &description["components"]["securitySchemes"]["session"];
        scheme["name"].as_str().unwrap().to_owned()
    });
    assert!(names.iter().all(|name| name.starts_with("tokenmeter_session_")));
    assert_ne!(names[0], names[1]);
}

/// A provider that says what it was asked for.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut conn = Conn::new(stream.unwrap());
                let head = conn.head();
                let target = head.split(' ').nth(1).unwrap();
                let start = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n";
                conn.send(format!("{start}X-Asked-For: {target}\r\n\r\n"));
            });
        }
    });
    address
}

/// What becomes of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// tokenmeter answers, for itself.
    Own,
    /// The provider is asked for this.
    Forwarded(String),
    /// It is no target that HTTP allows.
    Refused,
}

/// Spellings of a reserved name and what must become of each.
fn spellings(name: &str) -> Vec<(String, Fate)> {
    let first = name.as_bytes()[0];
    let (rest, upper) = (&name[1..], name.to_uppercase());
    let own = [
        format!("/{name}"),
        format!("/{name}/"),
        format!("/{name}/x"),
        format!("/{name}//x"),
        format!("/{name}?x=/up/"),
        format!("/{name}/../up/v1"),
        format!("/{name}/%2e%2e/up/v1"),
        format!("/{name}/..;/up/v1"),
        format!("/{name}/..\\up"),
        format!("/{name}#x"),
        format!("http://c/{name}"),
        format!("http://c:80/{name}/x"),
        format!("http://evil.example/{name}"),
        format!("https://evil.example/{name}?x"),
    ];
    let default = [
        format!("//{name}"),
        format!("///{name}"),
        format!("/./{name}"),
        format!("/../{name}"),
        format!("/.../{name}"),
        format!("/x/../{name}"),
        format!("/x/..;/{name}"),
        format!("/%{first:02x}{rest}"),
        format!("/%{first:02X}{rest}/"),
        format!("/%25{first:02x}{rest}"),
        format!("/{upper}"),
        format!("/{}{rest}", char::from(first).to_uppercase()),
        format!("/{name};x"),
        format!("/{name};/x"),
        format!("/;/{name}"),
        format!("/{name}%2f"),
        format!("/{name}%2Fx"),
        format!("/{name}%3fx"),
        format!("/{name}%20"),
        format!("/{name}%09"),
        format!("/{name}%00"),
        format!("/{name}%"),
        format!("/{name}."),
        format!("/{name}.."),
        format!("/{name}.json"),
        format!("/{name}:80"),
        format!("/{name}&x"),
        format!("/{name}=x"),
        format!("/{name}@x"),
        format!("/@{name}"),
        format!("/%2f{name}"),
        format!("/%2F%2f{name}"),
        format!("/.%2f{name}"),
        format!("/..%2f{name}"),
        format!("/%2e/{name}"),
        format!("/%2e%2e/{name}"),
        format!("/%5c{name}"),
        format!("/\\{name}"),
        format!("/x\\..\\{name}"),
        format!("/{name}\\"),
        format!("/%c0%af{name}"),
        format!("/%ef%bc%8f{name}"),
        format!("/http://c/{name}"),
        format!("/x/{name}"),
        format!("/{name}x"),
        format!("/x{name}"),
        format!("/?/{name}"),
        format!("/?{name}"),
    ];
    let named = [
        format!("/{name}"),
        format!("//{name}"),
        format!("/../{name}"),
        format!("/..;/{name}"),
        format!("/%2e%2e/{name}"),
        format!("/%2e%2e%2f{name}"),
        format!("/../../{name}"),
        format!("/..\\{name}"),
        format!("/./{name}?x"),
    ];
    let refused = [
        format!("/<{name}"),
        format!("/`{name}"),
        format!("/ {name}"),
        format!("\\{name}"),
        format!("../{name}"),
    ];
    let forwarded = |target: &str| Fate::Forwarded(format!("/base{target}"));
    let own = own.into_iter().map(|target| (target, Fate::Own));
    let default = default.into_iter().map(|target| (target.clone(), forwarded(&target)));
    let absolute = format!("http://evil.example//{name}");
    let default = default.chain([(absolute, forwarded(&format!("//{name}")))]);
    let named = named.into_iter().map(|rest| (format!("/up{rest}"), forwarded(&rest)));
    let refused = refused.into_iter().map(|target| (target, Fate::Refused));
    own.chain(default).chain(named).chain(refused).collect()
}

fn fate(address: SocketAddr, target: &str) -> (Fate, String) {
    let mut client = Conn::new(std::net::TcpStream::connect(address).unwrap());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n"));
    let answer = client.rest();
    let fate = match field(&answer, "x-asked-for") {
        Some(target) => Fate::Forwarded(target.to_owned()),
        None if status(&answer) == "400" => Fate::Refused,
        None => Fate::Own,
    };
    (fate, answer)
}

#[test]
fn no_spelling_of_a_path_leads_where_it_should_not() {
    let url = format!("http://{}/base", echo());
    let together = Settings::to(&url).start();
    let apart = Settings::to(&url).with(APART).start();
    let mut looked_at = 0;
    for (target, expected) in RESERVED.iter().flat_map(|name| spellings(name)) {
        for proxy in [&together, &apart] {
            let (found, answer) = fate(proxy.address, &target);
            assert_eq!(found, expected, "{target}: {answer}");
            // Without a token nothing is seen but health, which has a path of its own.
            let is_health = answer.contains("{\"status\":");
            if expected == Fate::Own && !is_health {
                assert!(["401", "404", "405"].contains(&status(&answer)), "{target}: {answer}");
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 600, "{looked_at}");
    let connect = "CONNECT c:443 HTTP/1.1\r\nHost: c\r\n\r\n";
    let mut client = together.connect();
    client.send(connect);
    assert_eq!(status(&client.head()), "400");
}
