//! The room as a whole: sources put over each other, all problems at once, and the example files held
//! against the table of keys.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;

/// A certificate and its key.
static PAIR: LazyLock<(String, String)> = LazyLock::new(pair);

fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

/// A world of one configuration file, one certificate with its key and a few variables.
fn load_with(flags: &Flags, env: &[(&str, &str)], text: &str) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    let files = |path: &Path| match path.extension().and_then(|extension| extension.to_str()) {
        Some("pem" | "crt") => Ok(PAIR.0.as_bytes().to_vec()),
        Some("key") => Ok(PAIR.1.as_bytes().to_vec()),
        Some("toml") => Ok(text.as_bytes().to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Config::from_sources(flags, &env, &files)
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(&Flags::default(), &[], text)
}

fn complaints(text: &str) -> Vec<String> {
    load(text).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

fn nothing(path: &Path) -> io::Result<Vec<u8>> {
    assert_eq!(path, Path::new(DEFAULT_FILE));
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn defaults() -> Config {
    Config::from_sources(&Flags::default(), &BTreeMap::new(), &nothing).unwrap()
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = defaults();
    assert_eq!(config.listen.to_string(), "127.0.0.1:4100");
    assert_eq!(config.database, Path::new("tokenmeter.db"));
    assert_eq!(config.client_timeouts.keep_alive, Duration::from_secs(75));
    assert_eq!(config.limits.request_head, 65536);
    assert_eq!(config.tags.session, ["x-session"]);
    assert!(config.source.is_none() && config.admin_token.is_none() && config.workers.is_none());
    assert_eq!(config.warnings, Vec::<String>::new());

    assert_eq!(config.upstreams.len(), 21);
    let openai = &config.upstreams[&config.default_upstream];
    assert_eq!(openai.base_url.to_string(), "https://api.openai.com");
    assert_eq!((openai.provider.as_str(), openai.configured), ("openai", false));
    assert_eq!(openai.timeouts.connect, Duration::from_secs(5));
    assert!(!config.upstreams.contains_key("azure"));
    assert!(Config::known_but_unconfigured("azure").unwrap().contains("[upstreams.azure]"));
    assert!(Config::known_but_unconfigured("openai").is_none());
}

#[test]
fn tls_takes_files_that_belong_together() {
    assert!(defaults().tls.is_none());
    let right = "tls = { certificate = \"a.crt\", key = \"a.key\", client_ca = \"ca.pem\" }";
    let tls = load(right).unwrap().tls.unwrap();
    assert_eq!(tls.files.client_ca.as_deref(), Some(Path::new("ca.pem")));
    assert!(!tls.server.alpn_protocols.is_empty());
    let stranger = pair().1;
    let found = |text: &str| {
        let files = |path: &Path| match path.to_str().unwrap() {
            DEFAULT_FILE => Ok(text.as_bytes().to_vec()),
            "a.crt" => Ok(PAIR.0.as_bytes().to_vec()),
            "a.key" => Ok(PAIR.1.as_bytes().to_vec()),
            "b.key" => Ok(stranger.as_bytes().to_vec()),
            "empty" => Ok(Vec::new()),
            _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        let loaded = Config::from_sources(&Flags::default(), &BTreeMap::new(), &files);
        loaded.unwrap_err().to_string()
    };
    for (text, why) in [
        ("certificate = \"a.crt\"", "toml:2: tls.certificate: needs tls.key"),
        ("key = \"a.key\"", "toml:2: tls.key: needs tls.certificate"),
        ("client_ca = \"a.crt\"", "toml:2: tls.client_ca: needs tls.certificate and tls.key"),
        (
            "certificate = \"a.crt\"\nkey = \"b.key\"",
            "toml:3: tls.key: b.key: does not go with a.crt",
        ),
        (
            "certificate = \"a.crt\"\nkey = \"a.crt\"",
            "toml:3: tls.key: a.crt: holds no private key",
        ),
        (
            "certificate = \"a.key\"\nkey = \"a.key\"",
            "toml:2: tls.certificate: a.key: holds no PEM",
        ),
        (
            "certificate = \"x\"\nkey = \"a.key\"",
            "toml:2: tls.certificate: x: cannot be read: perm",
        ),
        ("certificate = \"a.crt\"\nkey = \"x\"", "toml:3: tls.key: x: cannot be read: permission"),
        (
            "certificate = \"a.crt\"\nkey = \"a.key\"\nclient_ca = \"empty\"",
            "toml:4: tls.client_ca: empty: holds no PEM certificate",
        ),
    ] {
        let found = found(&format!("[tls]\n{text}"));
        assert!(found.starts_with(&format!("tokenmeter.{why}")), "{text}: {found}");
        assert!(!found.contains("PRIVATE"), "{found}");
    }
    let debugged = format!("{:?}", load(right).unwrap());
    assert!(!debugged.contains("PRIVATE") && debugged.contains("a.key"), "{debugged}");
}

#[test]
fn public_price_lists_are_read_only_where_that_is_said() {
    assert!(defaults().price_updates.is_none());
    assert!(load("[price_updates]\nlists = [\"openrouter\"]").unwrap().price_updates.is_none());
    let updates = load("[price_updates]\nevery = \"24h\"").unwrap().price_updates.unwrap();
    assert_eq!((updates.every, updates.write), (Duration::from_hours(24), false));
    assert_eq!(updates.lists.len(), 1);
    let text = "pricing = \"p.toml\"\n[price_updates]\nevery = \"24h\"\nwrite = true";
    assert!(load(text).unwrap().price_updates.unwrap().write);
    for (text, why) in [
        ("every = \"24h\"\nwrite = true", "none is named"),
        ("every = \"1ms\"", "at least 1s"),
        ("every = \"1h\"\nlists = [\"openruoter\"]", "no price list of `openruoter`"),
        ("every = \"1h\"\nlists = []", "names no list"),
    ] {
        let found = complaints(&format!("[price_updates]\n{text}")).join("\n");
        assert!(found.contains(why), "{text}: {found}");
    }
}

#[test]
fn flag_goes_before_variable_before_file_before_default() {
    let text = "listen = \"127.0.0.1:1\"\ndatabase = \"file.db\"\npricing = \"file.toml\"\n";
    let env = [("TOKENMETER_LISTEN", "127.0.0.1:2"), ("TOKENMETER_DATABASE", "env.db")];
    let flags = Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() };
    let config = load_with(&flags, &env, text).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.database, Path::new("env.db"));
    assert_eq!(config.pricing.as_deref(), Some(Path::new("file.toml")));
    assert_eq!(config.journal_days, 7);
    assert_eq!(config.source.as_deref(), Some(Path::new(DEFAULT_FILE)));
}

#[test]
fn a_wrong_value_that_is_overridden_does_no_harm() {
    let flags = Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() };
    assert!(load_with(&flags, &[], "listen = \"nowhere\"").is_ok());
}

#[test]
fn all_problems_are_reported_at_once() {
    let flags = Flags { database: Some("postgres://me:hunter2@db/x".into()), ..Flags::default() };
    let env = [("TOKENMETER_WORKERS", "many"), ("TOKENMETER_ADMIN_TOKEN", "two words")];
    let text = "listen = \"4100\"\nlog = \"=,=\"\nlisen = \"x\"\n[timeouts]\nconnect = \"5\"\n\
                [upstreams.azure]\n[upstreams.opnai]\n[upstreams.v1]\nbase_url = \"http://h\"\n\
                [upstreams.h]\nbase_url = \"h:80\"\napi_key_env = \"H_KEY\"\n";
    let error = load_with(&flags, &env, text).unwrap_err();
    let lines: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    let expected = [
        "tokenmeter.toml:1: listen: `4100` is not an IP address and a port such as 127.0.0.1:4100",
        "tokenmeter.toml:2: log: `=,=` is not a filter such as \"info\" or \
         \"warn,tokenmeter=debug\"",
        "tokenmeter.toml:3: unknown key `lisen`; did you mean `listen`?",
        "tokenmeter.toml:5: timeouts.connect: `5` is not a duration such as \"250ms\", \"5s\", \
         \"10m\" or \"1h 30m\"",
        "tokenmeter.toml:6: upstreams.azure: base_url is missing; it has the form \
         https://RESOURCE.openai.azure.com",
        "tokenmeter.toml:7: upstreams.opnai: base_url is missing; `opnai` is not a known name; did \
         you mean `openai`?",
        "tokenmeter.toml:8: `v1` cannot name an upstream: paths that begin with /v1 belong to the \
         default upstream",
        "tokenmeter.toml:11: upstreams.h.base_url: `h:80` does not begin with http:// or https://",
        "tokenmeter.toml:12: upstreams.h.api_key_env: the environment variable H_KEY is not set or \
         empty",
        "TOKENMETER_ADMIN_TOKEN: holds characters that cannot stand in a header",
        "TOKENMETER_WORKERS: `many` is not a whole number that fits here",
        "--database: postgres:// is not supported yet; give a file such as tokenmeter.db",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_default_upstream_must_exist() {
    let first = |text| complaints(text).remove(0);
    assert!(first("default_upstream = \"opnai\"").ends_with("did you mean `openai`?"));
    assert!(first("default_upstream = \"azure\"").contains("add [upstreams.azure]"));
    assert!(first("default_upstream = \"house\"").contains("add [upstreams.house]"));
    // One cause, one complaint.
    assert_eq!(complaints("default_upstream = \"azure\"\n[upstreams.azure]\n").len(), 1);
}

#[test]
fn an_upstream_takes_what_it_does_not_say_from_the_global_keys() {
    let text = "ca_file = \"a.pem\"\n[timeouts]\nidle = \"1m\"\nconnect = \"2s\"\n\
                [upstreams.house]\nbase_url = \"https://h.example/llm/\"\nprovider = \"vllm\"\n\
                http2 = \"never\"\ntimeouts.idle = \"2m\"\ndeployments.a = \"gpt-4o\"\n";
    let config = load(text).unwrap();
    let house = &config.upstreams["house"];
    assert_eq!(house.provider, "vllm");
    assert_eq!(house.base_url.prefix, "/llm");
    assert_eq!(house.http2, Http2::Never);
    assert_eq!(house.timeouts.idle, Duration::from_mins(2));
    assert_eq!(house.timeouts.connect, Duration::from_secs(2));
    assert_eq!(house.deployments["a"], "gpt-4o");
    assert_eq!(house.extra_roots.as_ref().unwrap().certificates.len(), 1);
    assert!(config.upstreams["openai"].extra_roots.is_some());
}

#[test]
fn what_is_done_about_stream_usage_and_leaving_clients_is_said_per_upstream() {
    let text = "[upstreams.xai]\nstream_usage = \"inject\"\non_disconnect = \"drain\"\n\
                [upstreams.groq]\non_disconnect = \"drain\"\ndrain_seconds = 5\ndrain_bytes = \"1KiB\"\n";
    let config = load(text).unwrap();
    let drain = |seconds, bytes| Some(Drain { time: Duration::from_secs(seconds), bytes });
    let said = |name: &str| (config.upstreams[name].stream_usage, config.upstreams[name].drain);
    assert_eq!(said("openai"), (StreamUsage::Off, None));
    assert_eq!(said("xai"), (StreamUsage::Inject, drain(60, 16 << 20)));
    assert_eq!(said("groq"), (StreamUsage::Off, drain(5, 1024)));
    let text =
        "[upstreams.xai]\nstream_usage = \"on\"\non_disconnect = \"no\"\ndrain_seconds = 0\n";
    assert_eq!(
        complaints(text),
        [
            "tokenmeter.toml:2: upstreams.xai.stream_usage: `on` is not \"off\" or \"inject\"",
            "tokenmeter.toml:3: upstreams.xai.on_disconnect: `no` is not \"cancel\" or \"drain\"",
            "tokenmeter.toml:4: upstreams.xai.drain_seconds: must be at least 1",
        ]
    );
}

#[test]
fn variables_alone_can_add_an_upstream_and_its_key() {
    let env = [
        ("TOKENMETER_UPSTREAMS_HOUSE_BASE_URL", "https://h.example"),
        ("TOKENMETER_UPSTREAMS_HOUSE_API_KEY_ENV", "HOUSE_KEY"),
        ("TOKENMETER_DEFAULT_UPSTREAM", "house"),
        ("HOUSE_KEY", "sk-canary\n"),
    ];
    let config = load_with(&Flags::default(), &env, "").unwrap();
    let house = &config.upstreams["house"];
    assert_eq!(house.api_key.as_ref().unwrap().expose(), "sk-canary");
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn an_empty_admin_token_is_none() {
    let env = [("TOKENMETER_ADMIN_TOKEN", "")];
    let config = load_with(&Flags::default(), &env, "").unwrap();
    assert!(config.admin_token.is_none());
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn the_admin_token_may_stand_in_a_file() {
    let files = |path: &Path| match path.to_str() {
        Some("/run/secrets/token") => Ok(b"from-the-file-canary\n".to_vec()),
        Some("/run/secrets/odd") => Ok(b"canary \xff two".to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let load = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Config::from_sources(&Flags::default(), &pairs.collect(), &files)
    };
    let file = ("TOKENMETER_ADMIN_TOKEN_FILE", "/run/secrets/token");
    let token = |config: Config| config.admin_token.unwrap().expose().to_owned();
    assert_eq!(token(load(&[file]).unwrap()), "from-the-file-canary");
    let both = [file, ("TOKENMETER_ADMIN_TOKEN", "the-variable-s-own")];
    assert_eq!(token(load(&both).unwrap()), "the-variable-s-own");
    for wrong in ["/run/secrets/odd", "/run/secrets/none"] {
        let error = load(&[(file.0, wrong)]).unwrap_err().to_string();
        assert!(error.contains(file.0) && error.contains(wrong), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let absent = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let flags = Flags { config: Some("x.toml".into()), ..Flags::default() };
    let error = Config::from_sources(&flags, &BTreeMap::new(), &absent).unwrap_err();
    assert!(error.to_string().starts_with("--config: x.toml cannot be read"), "{error}");

    let env = BTreeMap::from([(ENV_CONFIG.to_owned(), "y.toml".to_owned())]);
    let error = Config::from_sources(&Flags::default(), &env, &absent).unwrap_err();
    assert!(error.to_string().starts_with("TOKENMETER_CONFIG: y.toml cannot be read"), "{error}");
}

#[test]
fn a_file_that_is_not_toml_is_the_only_complaint() {
    let env = [("TOKENMETER_DEFAULT_UPSTREAM", "house")];
    let error = load_with(&Flags::default(), &env, "[upstreams.house\n").unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    assert!(error.to_string().starts_with("tokenmeter.toml:1: "), "{error}");
}

#[test]
fn a_report_finds_the_ledger_where_a_provider_s_key_is_missing() {
    let text = "database = \"d.db\"\n[upstreams.openai]\napi_key_env = \"MISSING\"\n";
    let files = |_: &Path| Ok(text.as_bytes().to_vec());
    let database = from_typed(&Flags::default(), &BTreeMap::new(), &files, resolve::database_of);
    assert_eq!(database.unwrap(), Path::new("d.db"));
    assert!(Config::from_sources(&Flags::default(), &BTreeMap::new(), &files).is_err());
}

#[test]
fn a_header_stands_for_one_tag_only() {
    let complaints = complaints("[tags]\nuser = [\"x-a\", \"X-Session\"]\n");
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].contains("`x-session` stands twice"), "{complaints:?}");
    let none = load("[tags]\nuser = []\n").unwrap();
    assert!(none.tags.user.is_empty());
}

#[test]
fn a_label_of_metrics_is_known_and_stands_once() {
    for (labels, complaint) in [
        ("\"models\"", "`models` is no label; was `model` meant"),
        ("\"session\"", "each would be a series of its own"),
        ("\"metadata.a-b\", \"metadata.A_b\"", "`metadata_a_b` stands there twice"),
    ] {
        let said = complaints(&format!("metrics_labels = [{labels}]\n"));
        assert!(said.len() == 1 && said[0].contains(complaint), "{said:?}");
        assert!(said[0].contains("metrics_labels"), "{said:?}");
    }
    assert_eq!(load("metrics_labels = []").unwrap().metrics_labels, []);
}

#[test]
fn odd_things_are_warnings() {
    let text = "listen = \"0.0.0.0:8000\"\ndefault_upstream = \"azure\"\n\
                [upstreams.azure]\nbase_url = \"https://r.example\"\n\
                [upstreams.chat]\nbase_url = \"http://h.example/v1\"\napi_key_env = \"K\"\n\
                [upstreams.me]\nbase_url = \"http://127.0.0.1:8000\"\nhttp2 = \"never\"\n\
                [upstreams.groq]\nstream_usage = \"inject\"\n";
    let env = [("K", "k"), ("TOKENMETER_ADMIN_TOKEN", "short")];
    let warnings = load_with(&Flags::default(), &env, text).unwrap().warnings;
    let expected = [
        "tokenmeter.toml:1: 0.0.0.0:8000 lets other machines in",
        "tokenmeter.toml:1: whoever reaches 0.0.0.0:8000 can make calls; clients.networks",
        "TOKENMETER_ADMIN_TOKEN has fewer than 16 characters",
        "tokenmeter.toml:5: upstreams.chat: paths that begin with /chat go to this upstream",
        "tokenmeter.toml:5: upstreams.chat: base_url ends in /v1",
        "tokenmeter.toml:5: upstreams.chat: its key travels to http://h.example/v1 without",
        "tokenmeter.toml:11: upstreams.groq: stream_usage = \"inject\" has no effect: groq reports",
        "tokenmeter.toml:8: upstreams.me: http://127.0.0.1:8000 is where tokenmeter itself listens",
        "tokenmeter.toml:8: upstreams.me: http2 = \"never\" has no effect over http",
        "default_upstream: paths that begin with /openai go to the upstream `openai`",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, beginning) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(beginning), "{warning}");
    }
}

#[test]
fn what_is_open_is_told_with_what_would_close_it() {
    let tls = "tls = { certificate = \"a.crt\", key = \"a.key\" }\n";
    let mtls = "tls = { certificate = \"a.crt\", key = \"a.key\", client_ca = \"a.pem\" }\n";
    let told = |text: &str| load(text).unwrap().warnings;
    for (text, expected) in [
        ("listen = \"[::ffff:127.0.0.1]:4100\"\nmetrics_public = true\n", &[][..]),
        ("listen = \"[::]:4100\"", &["set tls.certificate", "clients.networks"]),
        (&format!("listen = \"10.0.0.1:4100\"\n{tls}"), &["clients.networks"]),
        (&format!("listen = \"10.0.0.1:4100\"\n{mtls}"), &[]),
        (&format!("listen = \"0.0.0.0:1\"\nclients.networks = [\"10.0.0.0/8\"]\n{tls}"), &[]),
        (&format!("listen = \"0.0.0.0:1\"\nmetrics_public = true\n{mtls}"), &["metrics_public"]),
        (
            "listen = \"127.0.0.1:1\"\nadmin.listen = \"0.0.0.0:2\"\nmetrics_public = true",
            &["0.0.0.0:2 lets other machines in, and the admin token", "metrics_public"],
        ),
        (
            &format!(
                "listen = \"0.0.0.0:1\"\nadmin.listen = \"[::1]:2\"\nmetrics_public = true\n{mtls}"
            ),
            &[],
        ),
    ] {
        let warnings = told(text);
        assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:#?}");
        for (warning, part) in warnings.iter().zip(expected) {
            assert!(warning.contains(part), "{text}: {warning}");
        }
    }
    for (token, part) in [
        ("fifteen-letters", Some("fewer than 16 characters")),
        ("aaaaabbbbbaaaaabbbbb", Some("fewer than 6 different")),
        ("0123456789abcdef", None),
    ] {
        let env = [("TOKENMETER_ADMIN_TOKEN", token)];
        let warnings = load_with(&Flags::default(), &env, "").unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(part.is_some()), "{warnings:?}");
        assert!(warnings.iter().all(|told| told.contains(part.unwrap()) && !told.contains(token)));
    }
}

#[test]
fn lists_of_clients_are_checked() {
    let clients =
        load("clients = { networks = [\"10.0.0.0/8\", \"::1\"], keys = [\"key:0123456789ab\"] }");
    let clients = clients.unwrap().clients;
    assert_eq!((clients.networks.unwrap().len(), clients.keys.unwrap().len()), (2, 1));
    assert_eq!(defaults().clients, Clients::default());
    for (text, why) in [
        ("networks = []", "clients.networks: lets nobody in"),
        ("networks = [\"10.0.0.1/8\"]", "did you mean `10.0.0.0/8`?"),
        ("networks = [\"ten\"]", "`ten` is not a network such as"),
        ("networks = [\"::ffff:10.0.0.0/104\"]", "in the form of IPv4"),
        ("keys = [\"sk-canary\"]", "clients.keys: must be the fingerprint of a key"),
    ] {
        let found = complaints(&format!("[clients]\n{text}")).join("\n");
        assert!(found.contains(why) && !found.contains("canary"), "{text}: {found}");
    }
    let found = complaints("listen = \"127.0.0.1:1\"\nadmin.listen = \"127.0.0.1:1\"").join("\n");
    assert!(
        found.starts_with("tokenmeter.toml:2: admin.listen: is where clients connect"),
        "{found}"
    );
}

#[test]
fn what_recorded_calls_are_priced_by_is_read_without_a_provider_s_key() {
    let text = "pricing = \"p.toml\"\n[upstreams.azure]\nbase_url = \"https://x.openai.azure.com\"\n\
                api_key_env = \"ABSENT\"\n[upstreams.azure.deployments]\nprod = \"gpt-4o\"\n";
    let files = |_: &Path| Ok(text.as_bytes().to_vec());
    let flags = Flags { database: Some("d.db".to_owned()), ..Flags::default() };
    let books = from_typed(&flags, &BTreeMap::new(), &files, resolve::books).unwrap();
    assert_eq!((books.database, books.pricing), ("d.db".into(), Some("p.toml".into())));
    assert_eq!(books.deployments["azure"]["prod"], "gpt-4o");
    assert!(Config::from_sources(&flags, &BTreeMap::new(), &files).is_err());
}

#[test]
fn the_documented_example_is_right() {
    let text = r#"
listen = "127.0.0.1:4100"
database = "tokenmeter.db"            # a file
pricing = "pricing.toml"              # absent: the table built into the binary
default_upstream = "openai"

[upstreams.openai]                    # known names need no base_url; this is the built-in one
base_url = "https://api.openai.com"

[upstreams.azure]                     # Azure has one host per resource, so it must be given
base_url = "https://RESOURCE.openai.azure.com"
[upstreams.azure.deployments]         # deployment name -> model, where the response does not tell
prod-chat = "gpt-4o"

[upstreams.house]                     # any OpenAI-compatible server
base_url = "http://127.0.0.1:8000"
provider = "vllm"                     # which price list and usage dialect

[tags]                                # which headers carry which tag, first present wins
user = ["x-user"]
session = ["x-session"]
operation = ["x-operation"]
"#;
    let config = load(text).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.upstreams["azure"].deployments["prod-chat"], "gpt-4o");
    assert_eq!(config.upstreams["house"].provider, "vllm");
    assert_eq!(config.tags, defaults().tags);
}

/// On which the parser of filters panics.
#[test]
fn a_log_filter_of_other_letters_is_refused() {
    let env = BTreeMap::from([("TOKENMETER_LOG".to_owned(), " NÝ𜽃ⶓ🣁=⸏".to_owned())]);
    let error = Config::from_sources(&Flags::default(), &env, &nothing_anywhere).unwrap_err();
    assert!(error.to_string().contains("is not a filter"), "{error}");
}

proptest::proptest! {
    /// Whatever is typed is answered with a configuration or with complaints.
    #[test]
    fn no_value_panics(value in "\\PC{0,12}") {
        for key in keys::GLOBAL {
            let env = BTreeMap::from([(key.env_name(), value.clone())]);
            let _ = Config::from_sources(&Flags::default(), &env, &nothing_anywhere);
        }
        for key in keys::UPSTREAM {
            let env = BTreeMap::from([(format!("{}X_{}", keys::ENV_UPSTREAMS, key.env_suffix()), value.clone())]);
            let _ = Config::from_sources(&Flags::default(), &env, &nothing_anywhere);
        }
    }

    #[test]
    fn no_file_panics(text in "(\\[|\\]|=|\\.|\"|\n|#|tags|user|upstreams|é|1|\\{|\\}|,){0,24}") {
        let _ = load(&text);
    }
}

fn nothing_anywhere(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Run by hand after a change to the table of keys:
/// `cargo test --lib config -- --ignored write_the_example_file`.
#[test]
#[ignore = "writes a file of the repository"]
fn write_the_example_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tokenmeter.toml");
    std::fs::write(path, reference::text()).unwrap();
}

#[test]
fn the_example_file_says_what_the_table_of_keys_says() {
    assert_eq!(example("tokenmeter.toml"), reference::text(), "see write_the_example_file");
}

/// Settings are commented out with `#` alone, words with `# `.
fn uncomment(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let setting =
            line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        writeln!(out, "{}", setting.unwrap_or(line)).unwrap();
    }
    out
}

#[test]
fn the_example_file_holds_every_key_at_its_default() {
    let text = uncomment(&example("tokenmeter.toml"));
    let mut findings = Findings::default();
    let typed = file::read(&text, "t", &mut findings).unwrap();
    findings.finish().unwrap();
    for key in keys::GLOBAL.iter().filter(|key| key.kind != keys::Kind::Secret) {
        assert!(typed.global.contains_key(key.name), "{}", key.name);
    }
    for key in keys::UPSTREAM {
        assert!(typed.upstreams["azure"].settings.contains_key(key.name), "{}", key.name);
    }

    let env = [("AZURE_OPENAI_API_KEY", "k")];
    let typed = load_with(&Flags::default(), &env, &text).unwrap();
    let default = defaults();
    assert_eq!(typed.listen, default.listen);
    assert_eq!(typed.database, default.database);
    assert_eq!(typed.default_upstream, default.default_upstream);
    assert_eq!(typed.tags, default.tags);
    assert_eq!(typed.client_timeouts, default.client_timeouts);
    assert_eq!(Limits { request_body: None, ..typed.limits }, default.limits);
    assert_eq!(typed.journal_days, default.journal_days);
    assert_eq!(typed.journal_sync, default.journal_sync);
    assert_eq!(typed.on_ledger_failure, default.on_ledger_failure);
    assert_eq!(typed.shutdown_grace, default.shutdown_grace);
    assert_eq!(typed.log, default.log);
    assert_eq!(typed.metrics_public, default.metrics_public);
    assert_eq!(typed.upstreams["azure"].timeouts, default.upstreams["openai"].timeouts);
}

#[test]
fn the_example_file_as_it_is_changes_nothing() {
    let config = load(&example("tokenmeter.toml")).unwrap();
    let untouched = Config { source: None, ..config };
    assert_eq!(format!("{untouched:?}"), format!("{:?}", defaults()));
}

#[test]
fn the_small_examples_are_right() {
    let env = [("OPENAI_API_KEY", "k")];
    let all = [("team.toml", "openrouter"), ("local.toml", "ollama"), ("house.toml", "gpu")];
    for (name, default) in all {
        let config = load_with(&Flags::default(), &env, &example(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.default_upstream, default, "{name}");
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert_eq!(files.count(), all.len() + 1, "one is not tested");
}
