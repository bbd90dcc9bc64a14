//! The admin API over a ledger with known calls: who gets in, what is asked, what is answered.

use std::sync::atomic::{AtomicU32, Ordering};

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::estimate::{Calibration, Corrections, Side};
use crate::ledger::{COLUMNS, Settings, Word};
use crate::otel;
use crate::pricing::{PriceTable, TableError};
use crate::record::{CallId, Record};
use crate::secret::Secret;
use crate::telemetry::{self, Label, Telemetry};

const TOKEN: &str = "a-token-for-tests";

const DAY_MS: i64 = 86_400_000;

static VISITORS: AtomicU32 = AtomicU32::new(1);

/// The table that is built in.
#[derive(Debug)]
struct BuiltIn;

impl PriceKeeper for BuiltIn {
    fn table(&self) -> Arc<PriceTable> {
        Arc::new(PriceTable::builtin())
    }

    fn reload(&self) -> Result<Reloaded, TableError> {
        Ok(Reloaded { table: self.table(), difference: None })
    }

    fn updates(&self) -> Value {
        Value::Null
    }
}

struct Home {
    _directory: TempDir,
    ledger: Ledger,
    telemetry: Telemetry,
    admin: Admin,
}

/// What came back, with its body read.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn metrics(ledger: &Ledger, telemetry: &Telemetry, is_public: bool) -> Metrics {
    let sources = Sources {
        ledger: ledger.clone(),
        telemetry: telemetry.clone(),
        occupancy: Box::new(|| Occupancy { connections: (7, 10), calls: (3, 9), waiting: (0, 5) }),
        estimates: Box::new(|| (2, 1)),
        otlp: Some(Box::new(otel::Health::default)),
    };
    Metrics::new(sources, is_public)
}

impl Home {
    fn new() -> Home {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("tokenmeter.db");
        let telemetry = Telemetry::new(telemetry::Settings {
            labels: vec![Label::Upstream, Label::Model],
            sets: 3,
            upstreams: vec!["openai".to_owned()],
        });
        let watchers = vec![telemetry.watcher()];
        let ledger = Ledger::watched(&Settings::of(database), watchers).unwrap();
        let access = Access::load(Some(Secret::new(TOKEN)), ledger.database(), "x").unwrap();
        let metrics = metrics(&ledger, &telemetry, false);
        let admin = Admin::new(ledger.clone(), access, metrics, Arc::new(BuiltIn));
        Home { _directory: directory, ledger, telemetry, admin }
    }

    /// A finished call so long ago, with these fields over the plain ones.
    fn call(&self, age_ms: i64, fields: Value) -> CallId {
        let created_at = Timestamp::from_millis(Timestamp::now().millis() - age_ms);
        let mut call = json!({
            "id": CallId::new(), "created_at": created_at, "upstream": "openai",
            "provider": "openai", "endpoint": "chat.completions", "method": "POST",
            "path": "/v1/chat/completions", "usage_source": "none", "cost_source": "none",
            "streaming": false, "outcome": "completed", "status": 200,
        });
        let Value::Object(fields) = fields else { panic!("not fields") };
        call.as_object_mut().unwrap().extend(fields);
        // By way of text, because a raw usage object cannot be read from a value.
        let call: Record = serde_json::from_str(&call.to_string()).unwrap();
        self.ledger.closed(&call);
        call.id
    }

    /// A call with tokens and a price.
    fn metered(&self, age_ms: i64, user: &str, model: &str, tokens: u64, cost: &str) -> CallId {
        let cost: Value = serde_json::from_str(cost).unwrap();
        self.call(
            age_ms,
            json!({
                "user": user, "model": model, "session": "s/1", "operation": "rag",
                "attempt": 2, "metadata": {"team": "red", "n": 1},
                "input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1,
                "usage_source": "reported", "usage_json": {"prompt_tokens": tokens},
                "cost_usd": cost, "cost_source": "priced", "duration_ms": 10,
            }),
        )
    }

    fn send(&self, method: Method, uri: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let visitor = Visitor {
            // Each from elsewhere, so that none has given too many wrong tokens.
            address: IpAddr::from(VISITORS.fetch_add(1, Ordering::Relaxed).to_be_bytes()),
            is_encrypted: false,
            calls_port: None,
        };
        runtime.block_on(async {
            let (head, body) = self.admin.respond(&parts, &visitor).await.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            Reply { status: head.status, headers: head.headers, text }
        })
    }

    fn get(&self, uri: &str) -> Reply {
        self.send(Method::GET, uri, &[("authorization", &format!("Bearer {TOKEN}"))])
    }

    fn ok(&self, uri: &str) -> Value {
        let reply = self.get(uri);
        assert_eq!(reply.status, 200, "{uri}: {}", reply.text);
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        reply.json()
    }
}

fn texts<'a>(rows: &'a Value, field: &str) -> Vec<&'a str> {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| row.pointer(field).and_then(Value::as_str).unwrap_or("-")).collect()
}

const SPELLINGS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin//",
    "/admin/stats",
    "/admin/stats/",
    "/admin/stats?days=7",
    "/admin/stats?token=a-token-for-tests",
    "/admin/stats?days=wrong",
    "/admin//stats",
    "/admin/./stats",
    "/admin/../admin/stats",
    "/admin/%73tats",
    "/%61dmin/stats",
    "/Admin/stats",
    "/ADMIN/STATS",
    "/admin/stats;x=1",
    "/admin/stats%00",
    "/admin/stats%2F",
    "/admin;/stats",
    "//admin/stats",
    "/admin/usage",
    "/admin/usage/018f0000-0000-7000-8000-000000000000",
    "/admin/sessions/x",
    "/admin/users",
    "/admin/users/ann",
    "/admin/users/nobody",
    "/admin/users/..%2f..%2fhealthz",
    "/admin/export",
    "/admin/prices",
    "/admin/prices/reload",
    "/admin/budgets",
    "/admin/estimates",
    "/admin/openapi.json",
    "/admin/nothing",
    "/metrics",
    "/metrics/",
    "/usage",
    "/usage/x",
    "/healthz/",
    "/healthz/../admin/stats",
    "/readyz/x",
    "/",
    "/anything",
    "/admin/login",
    "/admin/login?code=",
    "/admin/login?code=wrong",
    "/admin/login/",
    "http://host/admin/stats",
    "http://user:pass@host/admin/users",
];

#[test]
fn without_the_token_every_path_says_the_same() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    assert!(SPELLINGS.len() > 40);
    let expected = home.send(Method::GET, SPELLINGS[0], &[]);
    assert_eq!(expected.status, 401);
    assert_eq!(expected.json()["error"]["code"], "unauthorized");
    assert_eq!(expected.header("x-tokenmeter-error"), "unauthorized");
    assert_eq!(expected.header("www-authenticate"), "Bearer");
    let wrong = [
        "Bearer",
        "Bearer ",
        "Bearer null",
        "Bearer a-token-for-test",
        "Basic a-token-for-tests",
        "a-token-for-tests",
        "Bearer a-token-for-tests2",
        "Bearer x' OR 1=1 --",
    ];
    for uri in SPELLINGS {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            let reply = home.send(method.clone(), uri, &[]);
            assert_eq!(
                (reply.status, &reply.text),
                (expected.status, &expected.text),
                "{method} {uri}"
            );
            assert_eq!(reply.headers, expected.headers, "{method} {uri}");
        }
        for value in wrong {
            let reply = home.send(Method::GET, uri, &[("authorization", value)]);
            assert_eq!(
                (reply.status, &reply.text),
                (expected.status, &expected.text),
                "{uri} {value}"
            );
        }
    }
}

#[test]
fn a_browser_without_the_token_is_told_how_to_log_in() {
    let home = Home::new();
    let reply = home.send(Method::GET, "/admin/", &[("accept", "text/html,*/*;q=0.8")]);
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(reply.text.contains("login link") && !reply.text.contains("<script"));
}

#[test]
fn a_login_link_works_once_and_its_cookie_only_reads() {
    let home = Home::new();
    let link = home.admin.login_path();
    // Whatever looks at a link first does not use it up.
    assert_eq!(home.send(Method::HEAD, &link, &[]).status, 401);
    let reply = home.send(Method::GET, &link, &[]);
    // Neither names a path, so that both hold wherever a proxy has put tokenmeter.
    assert_eq!((reply.status, reply.header("location")), (StatusCode::SEE_OTHER, "./"));
    let cookie = reply.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Path"), "{cookie}");
    assert!(!cookie.contains(TOKEN) && !cookie.contains("Secure"));
    let code = home.admin.login_path();
    let request = Request::builder().uri(code).body(()).unwrap().into_parts().0;
    let visitor = Visitor { address: [10, 0, 0, 1].into(), is_encrypted: true, calls_port: None };
    let encrypted = home.admin.login(&request, &visitor).unwrap();
    assert!(encrypted.headers()["set-cookie"].to_str().unwrap().ends_with("; Secure"));
    let pair = [("cookie", cookie.split(';').next().unwrap())];
    assert_eq!(home.send(Method::GET, "/admin/", &pair).status, 200);
    assert_eq!(home.send(Method::GET, "/admin/stats", &pair).status, 200);
    assert_eq!(home.send(Method::POST, "/admin/stats", &pair).status, 401);
    assert_eq!(home.send(Method::GET, &link, &[]).status, 401);
    assert_ne!(home.admin.login_path(), link);
}

#[test]
fn health_is_open_and_says_nothing_but_health() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    let alive = home.send(Method::GET, "/healthz", &[]);
    assert_eq!((alive.status, alive.json()), (StatusCode::OK, json!({"status": "ok"})));
    let ready = home.send(Method::GET, "/readyz", &[]);
    assert_eq!((ready.status, ready.json()["status"].as_str()), (StatusCode::OK, Some("ready")));
    assert!(!ready.text.contains("ann"));
    assert_eq!(home.send(Method::POST, "/healthz", &[]).status, 405);
    assert!(home.ledger.shutdown(Duration::from_secs(20)));
    let stopped = home.send(Method::GET, "/readyz", &[]);
    assert_eq!(stopped.status, 503);
    assert_eq!(stopped.json()["problem"], "the ledger is stopped");
    assert_eq!(stopped.json()["problems"][0]["word"], "ledger_stopped");
}

#[test]
fn metrics_tell_of_the_ledger_to_whoever_may_know() {
    let mut home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    assert!(home.ledger.sync(Duration::from_secs(20)));
    assert_eq!(home.send(Method::GET, "/metrics", &[]).status, 401);
    let page = home.get("/metrics");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let has = |page: &Reply, line: &str| {
        assert!(page.text.lines().any(|found| found == line), "{line}: {}", page.text);
    };
    has(&page, "tokenmeter_up 1");
    has(&page, "tokenmeter_client_connections 7");
    has(&page, "tokenmeter_client_calls 3");
    has(&page, "tokenmeter_queued_calls_max 5");
    has(&page, "tokenmeter_estimates_waiting 2");
    let sets = "upstream=\"openai\",model=\"gpt-4o\"";
    let ended = ",outcome=\"completed\",status=\"200\"";
    has(&page, &format!("tokenmeter_calls_total{{{sets}{ended}}} 1"));
    has(&page, &format!("tokenmeter_tokens_total{{{sets},class=\"input\"}} 10"));
    has(&page, &format!("tokenmeter_cost_usd_total{{{sets}}} 1.0"));
    has(&page, "# TYPE tokenmeter_calls_total counter");
    has(&page, "tokenmeter_ledger_ok 1");
    has(&page, "tokenmeter_ledger_rows_total 1");
    has(&page, "tokenmeter_ledger_problem{word=\"journal_unwritable\"} 0");
    assert!(!page.text.contains("ann"));
    let documented = include_str!("../../docs/ADMIN_API.md");
    let names =
        page.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names = names.map(|name| name.strip_suffix("_total").unwrap_or(name));
    let names: Vec<_> = names.filter_map(|name| name.strip_prefix("tokenmeter_")).collect();
    assert!(names.len() > 35, "{names:?}");
    for name in names.into_iter().chain(Word::PROBLEMS.map(Word::as_str)) {
        assert!(documented.contains(&format!("`{name}")), "{name} is not in docs/ADMIN_API.md");
    }

    assert!(home.ledger.shutdown(Duration::from_secs(20)));
    home.admin.metrics = Arc::new(metrics(&home.ledger, &home.telemetry, true));
    let page = home.send(Method::GET, "/metrics", &[]);
    assert_eq!(page.status, 200);
    has(&page, "tokenmeter_ledger_ok 0");
    has(&page, "tokenmeter_ledger_problem{word=\"ledger_stopped\"} 1");
    assert_eq!(home.send(Method::POST, "/metrics", &[]).status, 405);
}

#[test]
fn whoever_takes_openmetrics_gets_it_and_hostile_names_harm_neither_format() {
    let home = Home::new();
    let hostile = "a\"b\\c\n# EOF";
    home.metered(0, "ann", hostile, 10, "0.000000001");
    for model in ["b", "c", "d", "e"] {
        home.metered(0, "ann", model, 10, "0.1");
    }
    assert!(home.ledger.sync(Duration::from_secs(20)));
    let token = format!("Bearer {TOKEN}");
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3";
    let headers = [("authorization", token.as_str()), ("accept", accept)];
    let new = home.send(Method::GET, "/metrics", &headers);
    assert!(new.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(new.text.ends_with("\n# EOF\n"), "{}", new.text);
    let old = home.get("/metrics");
    for page in [&new.text, &old.text] {
        let model = "model=\"a\\\"b\\\\c\\n# EOF\"";
        let line = format!("tokenmeter_cost_usd_total{{upstream=\"openai\",{model}}} 1e-9");
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
        // Three sets are kept, and one for what came later.
        let line = "tokenmeter_calls_failed_total{upstream=\"openai\",model=\"other\"} 0";
        assert!(page.lines().any(|found| found == line), "{page}");
        assert!(page.lines().any(|found| found == "tokenmeter_label_sets 4"), "{page}");
        let line = "tokenmeter_label_sets_overflowed_calls_total 2";
        assert!(page.lines().any(|found| found == line), "{page}");
    }
}

#[test]
fn head_is_get_without_the_body_and_other_methods_are_refused() {
    let home = Home::new();
    let token = format!("bearer {TOKEN}");
    let token = [("authorization", token.as_str())];
    for uri in ["/admin/stats?since=2026-01-01&until=2026-01-02", "/admin/users/nobody", "/healthz"]
    {
        let (get, head) = (home.get(uri), home.send(Method::HEAD, uri, &token));
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{uri}");
        assert_eq!(head.header("content-length"), get.text.len().to_string());
    }
    let post = home.send(Method::POST, "/admin/stats", &token);
    assert_eq!((post.status, post.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    for uri in ["/admin/nothing", "/metrics/", "/usage", "/admin/stats/"] {
        let reply = home.get(uri);
        assert_eq!(reply.status, 404, "{uri}");
        assert_eq!(reply.json()["error"]["code"], "not_found");
    }
    assert_eq!(home.get("/admin").header("location"), "admin/");
}

#[test]
fn a_call_that_has_just_ended_is_counted() {
    let home = Home::new();
    for count in 1..=20_u64 {
        let id = home.metered(0, "ann", "gpt-4o", 1, "0.1");
        assert_eq!(home.ok("/admin/stats")["totals"]["requests"], count);
        assert_eq!(home.ok(&format!("/admin/usage/{id}"))["id"], json!(id));
    }
}

#[test]
fn totals_and_groups_have_the_shape_that_was_promised() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "0.000028500");
    home.metered(0, "bob", "gpt-4o", 30, "0.1");
    home.metered(0, "bob", "claude", 20, "0.2");
    home.metered(8 * DAY_MS, "old", "gpt-4o", 1000, "5");
    home.call(0, json!({"status": 500, "error": "broke"}));
    let answer = home.ok("/admin/stats");
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["window", "totals", "groups", "next_offset"]);
    assert_eq!(answer["groups"], json!([]));
    let totals = &answer["totals"];
    assert_eq!(totals["requests"], 4);
    assert_eq!(totals["errors"], 1);
    assert_eq!(totals["input_tokens"], 60);
    assert_eq!(totals["cost_usd"].to_string(), "0.3000285");
    for figure in [
        "output_tokens",
        "total_tokens",
        "estimated_requests",
        "unpriced_requests",
        "cache_hit_rate",
        "avg_duration_ms",
        "p50_duration_ms",
        "p95_duration_ms",
        "avg_time_to_first_token_ms",
        "cache_read_tokens",
        "reasoning_tokens",
    ] {
        assert!(totals.get(figure).is_some(), "{figure}");
    }
    let window = &answer["window"];
    let time = |name: &str| window[name].as_str().unwrap().parse::<Timestamp>().unwrap().millis();
    assert_eq!(time("until") - time("since"), 7 * DAY_MS);

    let answer = home.ok("/admin/stats?group_by=user,model&sort=cost_usd&order=asc&limit=2");
    let groups = &answer["groups"];
    assert_eq!(groups[0]["key"], json!({"user": null, "model": null}));
    assert_eq!(groups[1]["key"], json!({"user": "ann", "model": "gpt-4o"}));
    assert_eq!(answer["next_offset"], 2);
    let rest = home.ok("/admin/stats?group_by=user,model&sort=cost_usd&order=asc&limit=2&offset=2");
    assert_eq!(texts(&rest["groups"], "/key/model"), ["gpt-4o", "claude"]);
    assert_eq!(rest["next_offset"], Value::Null);

    let teams = home.ok("/admin/stats?days=30&group_by=metadata.team,day&tz=Europe/Berlin");
    let counted: Vec<&Value> =
        teams["groups"].as_array().unwrap().iter().map(|group| &group["requests"]).collect();
    assert_eq!(counted.len(), 3, "{teams}");
    assert_eq!(home.ok("/admin/stats?days=30&metadata.n=1")["totals"]["requests"], 4);
}

#[test]
fn usage_comes_newest_first_and_page_by_page() {
    let home = Home::new();
    let mut ids: Vec<CallId> =
        (0..7).map(|age| home.metered(age * 1000, "ann", "gpt-4o", 1, "1")).collect();
    ids.push(home.metered(400 * DAY_MS, "ann", "gpt-4o", 1, "1"));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = home.ok(&format!("/admin/usage?limit=3{cursor}"));
        seen.extend(texts(&page["records"], "/id").into_iter().map(str::to_owned));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(home.ok("/admin/usage?user=bob"), json!({"records": [], "next_cursor": null}));
    let days = home.ok("/admin/usage?days=1");
    assert_eq!(days["records"].as_array().unwrap().len(), 7);
}

#[test]
fn a_row_has_every_column_and_null_is_unknown() {
    let home = Home::new();
    let bare = home.call(0, json!({}));
    let full = home.metered(0, "ann", "gpt-4o", 12, "0.000000001");
    for id in [bare, full] {
        let row = home.ok(&format!("/admin/usage/{id}"));
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names, COLUMNS);
    }
    assert_eq!(home.ok(&format!("/admin/usage/{bare}"))["input_tokens"], Value::Null);
    let row = home.ok(&format!("/admin/usage/{full}"));
    assert_eq!(row["cost_usd"].to_string(), "0.000000001");
    assert_eq!(row["metadata"], json!({"team": "red", "n": 1}));
    assert_eq!(row["usage_json"], json!({"prompt_tokens": 12}));
    assert_eq!(home.get(&format!("/admin/usage/{}", CallId::new())).status, 404);
}

#[test]
fn sessions_and_users_are_found_by_any_name() {
    let home = Home::new();
    let name = "a/b é+c";
    home.metered(0, name, "gpt-4o", 10, "1");
    home.metered(0, "ann", "gpt-4o", 5, "1");
    home.call(0, json!({}));
    let users = home.ok("/admin/users");
    assert_eq!(texts(&users["users"], "/user"), [name, "ann", "-"]);
    assert_eq!(users["users"][0]["total_tokens"], 11);
    for path in ["a%2Fb%20%C3%A9+c", "a/b%20%c3%a9%2Bc"] {
        let user = home.ok(&format!("/admin/users/{path}"));
        assert_eq!(user["user"], name);
        assert_eq!(user["totals"]["requests"], 1);
        assert_eq!(user["by_model"][0]["key"], json!({"model": "gpt-4o"}));
        assert_eq!(user["by_operation"][0]["key"], json!({"operation": "rag"}));
        assert_eq!(user["by_day"].as_array().unwrap().len(), 1);
        assert!(user["last_activity"].is_string());
    }
    let session = home.ok("/admin/sessions/s%2F1");
    assert_eq!(session["session"], "s/1");
    assert_eq!(session["totals"]["requests"], 2);
    assert_eq!(session["by_model"].as_array().unwrap().len(), 1);
    assert_eq!(session["attempts"][0]["attempt"], 2);
    assert_eq!(home.get("/admin/sessions/s").status, 404);
    assert_eq!(home.get("/admin/users/A%2Fb").status, 404);
}

#[test]
fn a_user_who_has_been_quiet_is_still_known() {
    let home = Home::new();
    home.metered(30 * DAY_MS, "ann", "gpt-4o", 10, "1");
    let user = home.ok("/admin/users/ann");
    assert_eq!(user["totals"]["requests"], 0);
    assert_eq!(user["by_day"], json!([]));
    assert!(user["last_activity"].is_string());
    assert_eq!(home.ok("/admin/users/ann?days=60")["totals"]["requests"], 1);
}

#[test]
fn a_wrong_parameter_is_named_with_what_would_be_right() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    let cases = [
        ("/admin/stats?dayz=7", "dayz", "`days`"),
        ("/admin/stats?days=7&days=7", "days", "twice"),
        ("/admin/stats?group_by=usr", "group_by", "user, model"),
        ("/admin/stats?group_by=user,user", "group_by", "twice"),
        ("/admin/stats?group_by=id;DROP+TABLE+token_usage", "group_by", "possible are"),
        ("/admin/stats?group_by=user&sort=price", "sort", "cost_usd"),
        ("/admin/stats?order=up", "order", "asc or desc"),
        ("/admin/stats?limit=0", "limit", "from 1 to 10000"),
        ("/admin/stats?offset=-1", "offset", "from 0 on"),
        ("/admin/stats?usage_source=guessed", "usage_source", "estimated"),
        ("/admin/stats?metadata.=x", "metadata.", "name"),
        ("/admin/stats?user=", "user", "leave it out"),
        ("/admin/stats?user=%FF", "user", "UTF-8"),
        ("/admin/stats?cursor=1", "cursor", "possible are"),
        ("/admin/usage?limit=1001", "limit", "from 1 to 1000"),
        ("/admin/usage?cursor=x", "cursor", "next_cursor"),
        ("/admin/usage?group_by=user", "group_by", "possible are"),
        ("/admin/users?group_by=model", "group_by", "possible are"),
        ("/admin/users/ann?user=bob", "user", "possible are"),
        ("/admin/sessions/s%2F1?days=7", "days", "takes none"),
        ("/admin/estimates?model=gpt-4o", "model", "takes none"),
    ];
    for (uri, param, hint) in cases {
        let reply = home.get(uri);
        assert_eq!(reply.status, 400, "{uri}: {}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "bad_parameter");
        assert_eq!(error["param"], param, "{uri}");
        assert!(error["message"].as_str().unwrap().contains(hint), "{uri}: {error}");
    }
}

#[test]
fn what_is_injected_is_only_a_name_that_nobody_has() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    let evil = "x%27%20OR%201%3D1%20--";
    for name in ["user", "session", "model", "provider", "metadata.team", "metadata.x'+OR+1=1"] {
        let answer = home.ok(&format!("/admin/stats?{name}={evil}"));
        assert_eq!(answer["totals"]["requests"], 0, "{name}");
    }
    assert_eq!(home.get(&format!("/admin/users/{evil}")).status, 404);
}

#[test]
fn pages_are_escaped_and_run_only_our_own_files() {
    let home = Home::new();
    let empty = home.get("/admin/");
    assert!(empty.text.contains("No call has been recorded yet"));
    assert!(empty.text.contains("serve --demo") && !empty.text.contains("plotly"));
    home.metered(0, "<script>alert(1)</script>", "\"><img src=x>", 10, "0.000028500");
    let page = home.get("/admin/");
    assert_eq!(page.status, 200);
    assert!(page.text.contains("&lt;script&gt;alert(1)") && page.text.contains("0.0000285"));
    assert!(!page.text.contains("<script>") && !page.text.contains("<img"));
    for script in page.text.split("<script").skip(1) {
        let head = script.split('>').next().unwrap();
        let is_ours = head.contains(" src=\"assets/") || head.contains("application/json");
        assert!(is_ours, "{head}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'; script-src 'self'; style-src 'self' 'nonce-"));
    assert!(!policy.contains("unsafe"));
    let nonce = page.text.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.contains(nonce) && !home.get("/admin/").text.contains(nonce));
    assert!(!page.text.contains(" style=\"") && !page.text.contains(" onclick"));
}

#[test]
fn what_a_browser_asks_wrongly_is_said_on_a_page() {
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    let token = format!("Bearer {TOKEN}");
    let browse = |uri: &str| {
        let headers = [("authorization", token.as_str()), ("accept", "text/html")];
        home.send(Method::GET, uri, &headers)
    };
    for (uri, status, hint) in [
        ("/admin/?view=by&key=usr", 400, "cannot group by"),
        ("/admin/?dayz=7", 400, "did you mean `days`"),
        ("/admin/?view=user&name=%3Cscript%3E", 404, "&lt;script&gt;"),
        ("/admin/?view=session&name=nobody", 404, "no call belongs to the session"),
        ("/admin/?view=call&id=018f0000-0000-7000-8000-000000000000", 404, "there is no call"),
    ] {
        let reply = browse(uri);
        assert_eq!(reply.status, status, "{uri}");
        assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
        assert!(reply.text.contains(hint) && reply.text.contains("href=\"./\""), "{}", reply.text);
        assert!(!reply.text.contains("<script>"));
        // Whoever asks for JSON gets it.
        assert_eq!(home.get(uri).header("content-type"), "application/json");
    }
    let locked = home.send(Method::GET, "/admin/users/a/b", &[("accept", "text/html")]);
    assert!(locked.text.contains("href=\"../../\""), "{}", locked.text);
}

fn learned(bias: f64) -> Calibration {
    let (provider, model) = ("openai".to_owned(), "gpt-4o".to_owned());
    Calibration {
        provider,
        model,
        side: Side::Output,
        samples: 40,
        bias,
        error: 0.02,
        corrections: Corrections::default(),
    }
}

#[test]
fn estimates_say_what_they_are() {
    let home = Home::new();
    assert_eq!(home.ok("/admin/estimates"), json!({"estimates": []}));
    home.ledger.learned(&learned(0.030_000_000_01));
    let expected = json!({
        "provider": "openai", "model": "gpt-4o", "side": "output", "samples": 40, "bias": 0.03,
        "error": 0.02,
    });
    assert_eq!(home.ok("/admin/estimates")["estimates"], json!([expected]));
    let note = json!({
        "output": {"method": "bpe", "error": 0.02}, "unseen": ["reasoning"], "error_tokens": 20,
    });
    let estimated = json!({
        "usage_source": "estimated", "estimate": note, "stream_usage": "refused",
        "input_tokens": 12, "output_tokens": 988, "total_tokens": 1000,
    });
    let id = home.call(0, estimated);
    let refetched = home.call(0, json!({"charged_by": id}));
    let row = home.ok(&format!("/admin/usage/{id}"));
    assert_eq!((&row["estimate"], &row["stream_usage"]), (&note, &json!("refused")));
    assert_eq!(home.ok(&format!("/admin/usage/{refetched}"))["charged_by"], json!(id));
    let totals = &home.ok("/admin/stats")["totals"];
    assert_eq!(totals["estimated_tokens"], 1000);
    assert_eq!(totals["estimate_error_tokens"], 20);
    assert_eq!(totals["estimate_error"].to_string(), "0.02");
    assert_eq!(
        (&totals["unreported_requests"], &totals["refetched_requests"]),
        (&json!(0), &json!(1))
    );
    let page = home.get("/admin/").text;
    assert!(
        page.contains("~</span>988") && page.contains(">12<") && page.contains("± 2 %"),
        "{page}"
    );
}

#[test]
fn what_can_be_asked_is_written_down() {
    let docs = include_str!("../../docs/ADMIN_API.md");
    let home = Home::new();
    home.metered(0, "ann", "gpt-4o", 10, "1");
    home.ledger.learned(&learned(0.03));
    let names =
        |answer: &Value| -> Vec<String> { answer.as_object().unwrap().keys().cloned().collect() };
    let mut expected = Vec::new();
    for uri in [
        "/admin/stats",
        "/admin/users",
        "/admin/users/ann",
        "/admin/usage",
        "/admin/sessions/s%2F1",
        "/admin/estimates",
    ] {
        let answer = home.ok(uri);
        expected.extend(names(&answer));
        if let Some(learned) = answer.pointer("/estimates/0") {
            expected.extend(names(learned));
        }
        if let Some(totals) = answer.get("totals") {
            expected.extend(names(totals));
        }
    }
    // The complaint about an unknown parameter lists the known ones.
    let complaint = home.get("/admin/stats?nonsense=1").json()["error"]["message"].to_string();
    let known = complaint.split_once("possible are ").unwrap().1.trim_matches('"');
    expected.extend(known.split(", ").map(str::to_owned));
    assert!(expected.len() > 60);
    for name in expected {
        assert!(docs.contains(&format!("`{name}`")), "`{name}` is not in docs/ADMIN_API.md");
    }
}

#[test]
fn an_export_is_a_download_with_every_call_oldest_first() {
    let home = Home::new();
    let ids: Vec<CallId> =
        (0..3).map(|age| home.metered(age * DAY_MS, "=ann", "gpt-4o", 1, "1")).collect();
    let jsonl = home.get("/admin/export?format=jsonl");
    assert_eq!(jsonl.status, 200);
    assert_eq!(jsonl.header("content-type"), "application/jsonl");
    assert_eq!(jsonl.header("cache-control"), "no-store");
    let rows: Vec<Value> = jsonl.text.lines().map(|line| line.parse().unwrap()).collect();
    for (row, id) in rows.iter().zip(ids.iter().rev()) {
        assert_eq!(*row, home.ok(&format!("/admin/usage/{id}")));
    }
    assert_eq!(rows.len(), 3);
    let csv = home.get("/admin/export?days=2");
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(csv.header("content-disposition").ends_with(".csv\""));
    assert_eq!((csv.text.lines().count(), csv.text.matches(",'=ann,").count()), (3, 2));
    assert_eq!(home.get("/admin/export?format=jsonl&user=bob").text, "");
    let wrong = home.get("/admin/export?format=xml");
    assert_eq!(
        (wrong.status, wrong.json()["error"]["param"].as_str()),
        (StatusCode::BAD_REQUEST, Some("format"))
    );
    let wrong = home.get("/admin/export?limit=3");
    assert_eq!(wrong.json()["error"]["param"], "limit");
}
