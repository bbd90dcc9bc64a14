//! `/metrics` of a running proxy: what happens to calls shows there, and what callers send cannot make it grow.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::rig::{Conn, Provider, Proxy, Settings, bytes_of, eventually};

/// All series of the page.
struct Page(String);

impl Page {
    fn of(proxy: &Proxy) -> Page {
        let mut client = proxy.connect();
        client.send("GET /metrics HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Page(String::from_utf8(bytes_of(&client.rest())).unwrap())
    }

    /// The sum of all series of this name whose labels have all of these.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            let rest = key.strip_prefix("tokenmeter_")?.strip_prefix(name)?;
            let is_it = rest.is_empty() || rest.starts_with('{');
            (is_it && labels.iter().all(|label| rest.contains(label)))
                .then(|| value.parse::<f64>().unwrap())
        });
        series.sum()
    }

    fn is(&self, name: &str, labels: &[&str], value: f64) {
        let found = self.sum(name, labels);
        assert!((found - value).abs() < 1e-9, "{name} {labels:?}: {found}\n{}", self.0);
    }
}

/// The calls that are open.
fn live(proxy: &Proxy) -> Value {
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!(
        "GET /admin/live HTTP/1.1\r\nHost: c\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_slice(&bytes_of(&client.rest())).unwrap()
}

fn ask(client: &mut Conn, path: &str, tags: &str) {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: c\r\n{tags}Content-Type: application/json\r\n\
         Content-Length: 23\r\n\r\n{{\"model\":\"gpt-4o-mini\"}}"
    ));
}

/// A call that is answered with a usage; the provider's connection stays.
fn complete(proxy: &Proxy, provider: &Provider, tags: &str) {
    let mut client = proxy.connect();
    ask(&mut client, "/v1/chat/completions", tags);
    let mut upstream = provider.accept();
    upstream.head();
    let body = r#"{"model":"gpt-4o-mini","usage":{"prompt_tokens":100,"completion_tokens":20,
        "total_tokens":120,"prompt_tokens_details":{"cached_tokens":40}}}"#;
    upstream.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.take(body.len());
}

#[test]
fn what_happens_to_calls_shows() {
    let provider = Provider::new();
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings::default()
        .upstream("up", provider.url(), "provider = \"openai\"")
        .upstream("gone", format!("http://{gone}"), "")
        .with("metrics_public = true\nmetrics_labels = [\"upstream\", \"model\", \"user\"]");
    let proxy = settings.start();
    let page = Page::of(&proxy);
    page.is("calls_total", &[], 0.0);
    page.is("overhead_seconds_count", &[], 0.0);

    complete(&proxy, &provider, "X-User: ann\r\n");
    complete(&proxy, &provider, "X-User: bob\r\n");
    let mut client = proxy.connect();
    ask(&mut client, "/gone/v1/chat/completions", "");
    assert!(client.head().starts_with("HTTP/1.1 502"));
    let mut client = proxy.connect();
    ask(&mut client, "/v1/chat/completions", "X-Attempt: three\r\n");
    assert!(client.head().starts_with("HTTP/1.1 400"));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost : c\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 400"));
    client.rest();
    proxy.wait_for_rows(3);
    eventually("all calls are counted", || Page::of(&proxy).sum("calls_total", &[]) > 2.5);
    // Once its connection is over.
    let unreadable = ["code=\"invalid_request\""];
    eventually("it is counted", || Page::of(&proxy).sum("errors_total", &unreadable) > 0.5);

    let page = Page::of(&proxy);
    let ok = ["upstream=\"up\"", "outcome=\"completed\"", "status=\"200\""];
    page.is("calls_total", &ok, 2.0);
    page.is("calls_total", &["upstream=\"gone\"", "outcome=\"upstream_failed\""], 1.0);
    page.is("calls_failed_total", &[], 1.0);
    page.is("tokens_total", &["class=\"input\"", "user=\"ann\""], 100.0);
    page.is("tokens_total", &["class=\"cache_read\""], 80.0);
    page.is("tokens_total", &["class=\"total\"", "model=\"gpt-4o-mini\""], 240.0);
    // (60 × 0.15 + 40 × 0.075 + 20 × 0.60) / 1,000,000, twice.
    page.is("cost_usd_total", &["upstream=\"up\""], 0.000_048);
    page.is("call_duration_seconds_count", &["upstream=\"up\""], 2.0);
    page.is("call_duration_seconds_bucket", &["upstream=\"up\"", "le=\"+Inf\""], 2.0);
    assert!(!page.0.lines().any(|line| line.contains("duration") && line.contains("user=")));
    page.is("upstream_calls_total", &["upstream=\"up\""], 2.0);
    page.is("upstream_answers_total", &["upstream=\"up\"", "status=\"2xx\""], 2.0);
    page.is("upstream_connections_total", &["upstream=\"up\""], 2.0);
    page.is("upstream_failures_total", &["upstream=\"gone\"", "error=\"connect_failed\""], 1.0);
    page.is("errors_total", &["code=\"upstream_unreachable\""], 1.0);
    page.is("errors_total", &["code=\"invalid_tag\""], 1.0);
    page.is("overhead_seconds_count", &[], 3.0);
    page.is("calls_open", &[], 0.0);
    let own = page.sum("overhead_seconds_sum", &[]);
    assert!(own > 0.0 && own < page.sum("call_duration_seconds_sum", &[]) + 1.0, "{own}");
    // Upstreams that nobody has called are not there.
    assert!(!page.0.contains("anthropic"), "{}", page.0);
}

#[test]
fn a_call_is_open_until_it_has_ended() {
    let provider = Provider::new();
    let settings = Settings::to(provider.url()).with("metrics_public = true");
    let proxy = settings.start();
    let mut client = proxy.connect();
    ask(&mut client, "/v1/chat/completions", "X-User: ann\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    let live = live(&proxy);
    assert_eq!(live["open_calls"], 1, "{live}");
    let open = &live["calls"][0];
    assert_eq!((&open["user"], &open["upstream"]), (&json!("ann"), &json!("up")), "{live}");
    assert_eq!(open["model_requested"], "gpt-4o-mini", "{live}");
    assert!(open["age_ms"].as_u64().is_some_and(|age| age < 60_000), "{live}");
    let page = Page::of(&proxy);
    page.is("calls_open", &["upstream=\"up\""], 1.0);
    page.is("upstream_calls_total", &["upstream=\"up\""], 1.0);
    assert!(page.sum("client_connections", &[]) >= 2.0, "{}", page.0);
    // A provider that breaks off in the middle has failed.
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    drop(upstream);
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.rest();
    eventually("it is over", || Page::of(&proxy).sum("calls_open", &[]) < 0.5);
    assert_eq!(self::live(&proxy)["open_calls"], 0);
    let page = Page::of(&proxy);
    page.is("upstream_failures_total", &["upstream=\"up\""], 1.0);
    page.is("upstream_answers_total", &["upstream=\"up\"", "status=\"2xx\""], 1.0);
}

#[test]
fn callers_cannot_make_the_page_grow() {
    let provider = Provider::new();
    let settings = Settings::to(provider.url())
        .with("metrics_public = true\nmetrics_series = 5\nmetrics_labels = [\"operation\"]");
    let proxy = settings.start();
    for at in 0..20 {
        complete(&proxy, &provider, &format!("X-Operation: op-{at}\r\n"));
    }
    proxy.wait_for_rows(20);
    eventually("all calls are counted", || Page::of(&proxy).sum("calls_total", &[]) > 19.5);
    let page = Page::of(&proxy);
    page.is("calls_total", &["operation=\"op-4\""], 1.0);
    page.is("calls_total", &["operation=\"op-5\""], 0.0);
    page.is("calls_total", &["operation=\"other\""], 15.0);
    page.is("label_sets", &[], 6.0);
    page.is("label_sets_overflowed_calls_total", &[], 15.0);
    page.is("tokens_total", &["class=\"total\""], 20.0 * 120.0);
}
