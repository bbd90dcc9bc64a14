//! The dashboard as a browser gets it, from a running tokenmeter: every view, with calls and without;
//! names that mean harm; files for spreadsheets; links that work wherever a proxy puts them.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokenmeter::demo::{self, Demo};
use tokenmeter::ledger::Loader;
use tokenmeter::pricing::PriceBook;
use tokenmeter::record::{CallId, Record};
use tokenmeter::units::Timestamp;

use crate::rig::{Proxy, Settings, bytes_of, field};

const DAY_MS: i64 = 86_400_000;

const CALLS: u64 = 1500;

/// What a browser asks for.
const HTML: &str = "Accept: text/html,*/*;q=0.8\r\n";

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    text: String,
}

impl Reply {
    fn field(&self, name: &str) -> &str {
        field(&self.head, name).unwrap_or_default()
    }
}

fn get(proxy: &Proxy, path: &str, headers: &str) -> Reply {
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: c.example:4100\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n{headers}\r\n"
    ));
    let head = client.head();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes_of(&client.rest());
    Reply { status, head, text: String::from_utf8_lossy(&body).into_owned() }
}

/// What is said of a file without sending it.
fn head(proxy: &Proxy, path: &str) -> String {
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!(
        "HEAD {path} HTTP/1.1\r\nHost: c.example:4100\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    ));
    let head = client.head();
    assert!(client.rest().is_empty());
    head
}

/// A page, which must be there.
fn page(proxy: &Proxy, query: &str) -> Reply {
    let reply = get(proxy, &format!("/admin/{query}"), HTML);
    assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    assert_eq!(reply.field("content-type"), "text/html; charset=utf-8", "{query}");
    reply
}

fn api(proxy: &Proxy, path: &str) -> Value {
    let reply = get(proxy, &format!("/admin/{path}"), "");
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply.text.parse().unwrap()
}

fn nowhere() -> Settings {
    Settings::to("http://127.0.0.1:9")
}

/// A tokenmeter with a month of made-up calls, and these besides.
fn with_calls(others: impl IntoIterator<Item = Record>) -> Proxy {
    let until = Timestamp::now();
    let settings = demo::Settings {
        seed: 7,
        calls: CALLS,
        since: Timestamp::from_millis(until.millis() - 30 * DAY_MS),
        until,
        users: 40,
        zone: TimeZone::UTC,
    };
    let fill = |database: &Path| {
        let mut loader = Loader::open(database).unwrap();
        let made = Demo::new(&settings, Arc::new(PriceBook::builtin()));
        for record in made.chain(others) {
            loader.add(record).unwrap();
        }
        loader.finish().unwrap();
    };
    nowhere().start_on(fill)
}

/// A call of a minute ago.
fn call(fields: &Value) -> Record {
    let created_at = Timestamp::from_millis(Timestamp::now().millis() - 60_000);
    let mut call = json!({
        "id": CallId::new(), "created_at": created_at, "upstream": "openai", "provider": "openai",
        "endpoint": "chat.completions", "method": "POST", "path": "/v1/chat/completions",
        "usage_source": "reported", "cost_source": "priced", "streaming": false,
        "outcome": "completed", "input_tokens": 5, "output_tokens": 5, "total_tokens": 10,
    });
    call.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    // By way of text, because a raw usage object cannot be read from a value.
    serde_json::from_str(&call.to_string()).unwrap()
}

/// The values of an attribute, as a browser reads them.
fn attributes(html: &str, name: &str) -> Vec<String> {
    let start = format!(" {name}=\"");
    let values = html.split(&start).skip(1);
    values.map(|rest| unescaped(rest.split('"').next().unwrap())).collect()
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&amp;", "&")
}

/// Views that need no name.
const VIEWS: [&str; 17] = [
    "",
    "?view=by&key=user",
    "?view=by&key=session&sort=requests",
    "?view=by&key=operation&order=asc&sort=key",
    "?view=by&key=model",
    "?view=by&key=provider",
    "?view=by&key=upstream",
    "?view=by&key=endpoint",
    "?view=by&key=metadata.team",
    "?view=by&key=day&tz=Asia/Kolkata",
    "?view=compare",
    "?view=calls",
    "?view=quality",
    "?window=today&step=hour&measure=tokens&stack=operation",
    "?window=month&step=week&measure=calls&stack=none",
    "?window=last_month&step=month&measure=errors&stack=usage_source",
    "?window=all&step=hour&tz=Europe/Berlin",
];

#[test]
fn every_view_shows_something_of_calls() {
    let proxy = with_calls([]);
    for query in VIEWS {
        let reply = page(&proxy, query);
        for must in ["<main", "<nav", "<h1>", "lang=\"en\"", "skip", "Times in"] {
            assert!(reply.text.contains(must), "{query}: no {must}");
        }
        assert!(!reply.text.contains("No call has been recorded"), "{query}");
        assert!(!reply.text.contains(" style=\"") && !reply.text.contains(" onclick="), "{query}");
    }
    let overview = page(&proxy, "?days=30").text;
    for must in ["Tokens by class", "Cache hit rate", "Latency p95", "to its end", "metadata.team"]
    {
        assert!(overview.contains(must), "no {must}");
    }
    let totals = &api(&proxy, "stats?days=30")["totals"];
    let cost = format!("value=\"{}\"", totals["cost_usd"]);
    assert!(overview.contains(&cost), "the page does not say {cost}");
    let tokens = format!("value=\"{}\"", totals["total_tokens"]);
    assert!(overview.contains(&tokens), "the page does not say {tokens}");
}

#[test]
fn a_newcomer_is_told_what_to_do_and_a_narrow_window_is_no_newcomer() {
    let proxy = nowhere().start();
    for query in VIEWS {
        let reply = page(&proxy, query);
        for must in ["No call has been recorded yet", "serve --demo", "http://c.example:4100/v1"] {
            assert!(reply.text.contains(must), "{query}: no {must}");
        }
    }
    for query in ["?view=user&name=ann", "?view=session&name=s"] {
        assert_eq!(get(&proxy, &format!("/admin/{query}"), HTML).status, 404);
    }
    drop(proxy);
    let proxy = with_calls([]);
    for query in ["?user=nobody", "?view=calls&model=none", "?view=by&key=user&until=2001-01-01"] {
        let text = page(&proxy, query).text;
        assert!(text.contains("Nothing in this window"), "{query}");
        assert!(!text.contains("No call has been recorded yet"), "{query}");
    }
}

#[test]
fn links_name_no_host_and_no_path_and_lead_somewhere() {
    let proxy = with_calls([]);
    let mut known: BTreeSet<String> = ["./".to_owned()].into();
    let mut ahead: VecDeque<String> = known.iter().cloned().collect();
    let mut views = BTreeSet::new();
    let (mut pages, mut files) = (0, 0);
    while let Some(link) = ahead.pop_front().filter(|_| pages < 150) {
        // What a proxy leaves of `/some/prefix/admin/` and a link on it.
        let path = format!("/admin/{}", link.trim_start_matches("./"));
        let reply = get(&proxy, &path, HTML);
        if reply.field("content-type").starts_with("text/html") {
            assert_eq!(reply.status, 200, "{link}: {}", reply.text);
            pages += 1;
        } else {
            assert!(reply.status == 200 || reply.status == 303, "{link}: {}", reply.head);
            files += 1;
            continue;
        }
        let links = ["href", "src", "action", "data-live"];
        for found in links.iter().flat_map(|name| attributes(&reply.text, name)) {
            let is_relative =
                ["?", "./", "assets/", "export?", "#"].iter().any(|start| found.starts_with(start));
            assert!(is_relative || found.starts_with("data:image/svg"), "{link} leads to {found}");
            // Of each kind of page some, so that all kinds are seen.
            let kind = found.split('=').take(2).collect::<String>();
            let kind = kind.split('&').next().unwrap().to_owned();
            let is_new_kind = views.insert(kind);
            if !found.starts_with('#') && is_relative && known.insert(found.clone()) {
                if is_new_kind { ahead.push_front(found) } else { ahead.push_back(found) }
            }
        }
    }
    assert!(pages >= 100 && files > 3, "{pages} pages, {files} files");
    for view in ["by", "user", "session", "compare", "calls", "call", "quality"] {
        assert!(views.contains(&format!("?view{view}")), "{views:?}");
    }
    let away = get(&proxy, "/admin", HTML);
    assert_eq!((away.status, away.field("location")), (303, "admin/"));
}

/// Names that mean harm, with what of them may not stand on a page.
const HOSTILE: [(&str, &str); 8] = [
    ("<script>alert(1)</script>", "<script>alert"),
    ("\"><img src=x onerror=alert(1)>", "<img"),
    ("' onmouseover='alert(1)", "\0"),
    ("</script><script>alert(2)</script>", "</script><script>alert"),
    ("=HYPERLINK(\"http://evil\",\"a\")", "\0"),
    ("ann\u{202e}txt.exe\u{2066}", "\u{202e}"),
    ("javascript:alert(1)", "href=\"javascript:"),
    ("?view=calls&user=a#b%2e%00", "\0"),
];

#[test]
fn names_that_mean_harm_are_only_shown() {
    let long = "x".repeat(256);
    let names = || HOSTILE.iter().map(|(name, _)| *name).chain([long.as_str()]);
    let calls: Vec<Record> = names()
        .map(|name| {
            call(&json!({
                "user": name, "session": name, "operation": name, "model": name,
                "provider": name, "upstream": name, "endpoint": name, "error": name,
                "price_id": name, "finish_reason": name, "metadata": {name: name},
                "cost_usd": 1000, "attempt": 1, "usage_json": {name: name},
            }))
        })
        .collect();
    let ids: Vec<String> = calls.iter().map(|call| call.id.to_string()).collect();
    let proxy = nowhere().start_on(|database| {
        let mut loader = Loader::open(database).unwrap();
        for record in calls {
            loader.add(record).unwrap();
        }
        loader.finish().unwrap();
    });
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut queries: Vec<String> = VIEWS.iter().map(|query| (*query).to_owned()).collect();
    for name in names() {
        let name = encode(name);
        queries.push(format!("?view=user&name={name}"));
        queries.push(format!("?view=session&name={name}"));
        queries.push(format!("?view=by&key=metadata.{name}"));
        queries.push(format!("?view=compare&operation={name}"));
        queries.push(format!("?view=calls&metadata.{name}={name}&error={name}"));
    }
    queries.extend(ids.iter().map(|id| format!("?view=call&id={id}")));
    for query in &queries {
        let text = page(&proxy, query).text;
        // A form's fields have names as they are, or else they could not be sent.
        let fields: Vec<&str> = text.split("<input").collect();
        let but_fields: String =
            fields.iter().map(|rest| rest.split_once('>').map_or("", |(_, rest)| rest)).collect();
        for (name, harm) in HOSTILE {
            assert!(!but_fields.contains(harm), "{query} has {harm:?} of {name:?}");
        }
        assert!(fields.iter().skip(1).all(|field| !field.split('>').next().unwrap().contains('<')));
        for script in text.split("<script").skip(1) {
            let head = script.split('>').next().unwrap();
            let is_ours = head.contains(" src=\"assets/") || head.contains("application/json");
            assert!(is_ours, "{query}: {head}");
        }
        // No name has become an attribute, whichever quotes it tried.
        for tag in text.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
            let outside: String = tag.split('"').step_by(2).collect();
            assert!(!outside.contains("onmouseover"), "{query}: {tag}");
        }
        assert!(!text.contains('\0'), "{query}");
    }
    let users = page(&proxy, "?view=by&key=user").text;
    assert!(users.contains("ann⟨U+202E⟩txt.exe⟨U+2066⟩") && users.contains(&long));
    // Each leads to its own page, whatever is in it.
    for name in names() {
        let mut links = attributes(&users, "href").into_iter();
        let link = links.find(|link| link.ends_with(&encoded_name(name))).unwrap();
        let title = page(&proxy, &link).text;
        assert!(title.contains("<h1>User "), "{name}");
    }
    for file in ["?view=by&key=user&format=csv", "?view=quality&format=csv", "?format=csv"] {
        let csv = get(&proxy, &format!("/admin/{file}"), "").text;
        let mut lines = csv::ReaderBuilder::new().from_reader(csv.as_bytes());
        let mut seen = 0;
        for line in lines.records() {
            for cell in &line.unwrap() {
                assert!(!cell.starts_with(['=', '@']), "{file}: {cell}");
                seen += 1;
            }
        }
        assert!(seen > 9, "{file}");
    }
}

/// As the dashboard writes names into its links.
fn encoded_name(name: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'/')
        .remove(b':');
    format!("view=user&name={}", percent_encoding::utf8_percent_encode(name, KEPT))
}

/// A file's lines, each as names and cells.
fn sheet(proxy: &Proxy, query: &str) -> Vec<Vec<(String, String)>> {
    let reply = get(proxy, &format!("/admin/{query}"), "");
    assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    assert_eq!(reply.field("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(reply.field("content-disposition").starts_with("attachment; filename=\"tokenmeter-"));
    let mut lines = csv::ReaderBuilder::new().from_reader(reply.text.as_bytes());
    let titles = lines.headers().unwrap().clone();
    let line = |line: csv::StringRecord| {
        titles.iter().map(str::to_owned).zip(line.iter().map(str::to_owned)).collect()
    };
    lines.records().map(|found| line(found.unwrap())).collect()
}

#[test]
fn files_have_the_figures_of_the_api() {
    // A window that does not move while it is asked about.
    let now = Timestamp::now().millis();
    let [since, until] =
        [now - 20 * DAY_MS, now - DAY_MS].map(|at| Timestamp::from_millis(at).to_string());
    let window = format!("since={since}&until={until}&tz=Europe/Berlin");
    let proxy = with_calls([]);
    let shown = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let asked = [
        ("view=by&key=user", "user&sort=cost_usd"),
        ("view=by&key=model&sort=requests&order=asc", "model&sort=requests&order=asc"),
        ("view=by&key=metadata.team", "metadata.team&sort=cost_usd"),
        ("view=by&key=outcome", "outcome&sort=cost_usd"),
        ("step=day", "day,model&sort=key"),
        ("step=week&stack=operation", "week,operation&sort=key"),
        ("step=day&stack=none&model=claude-opus-5", "day&model=claude-opus-5&sort=key"),
    ];
    for (query, group_by) in asked {
        let lines = sheet(&proxy, &format!("?{query}&{window}&format=csv"));
        let answer = api(&proxy, &format!("stats?group_by={group_by}&{window}"));
        let groups = answer["groups"].as_array().unwrap();
        assert!(groups.len() == lines.len() && groups.len() > 1, "{query}: {}", lines.len());
        for (line, group) in lines.iter().zip(groups) {
            for (name, cell) in line {
                let value = group.get(name).unwrap_or(&group["key"][name]);
                assert_eq!(*cell, shown(value), "{query}: {name} of {group}");
            }
        }
    }
    let session = api(&proxy, "usage?limit=1&operation=code_agent");
    let name = session["records"][0]["session"].as_str().unwrap();
    let report = api(&proxy, &format!("sessions/{name}"));
    let lines = sheet(&proxy, &format!("?view=session&name={name}&format=csv"));
    for (line, attempt) in lines.iter().zip(report["attempts"].as_array().unwrap()) {
        for (title, cell) in line.iter().filter(|(title, _)| attempt[title].is_number()) {
            assert_eq!(*cell, attempt[title].to_string(), "{title}");
        }
    }
    assert_eq!(lines.len(), report["attempts"].as_array().unwrap().len());
    let id = session["records"][0]["id"].as_str().unwrap();
    let line = &sheet(&proxy, &format!("?view=call&id={id}&format=csv"))[0];
    assert_eq!(line[0], ("id".to_owned(), id.to_owned()));
    assert!(!sheet(&proxy, &format!("?view=compare&{window}&format=csv")).is_empty());
    let all = get(&proxy, &format!("/admin/?view=calls&user=a%26b&{window}&format=csv"), "");
    let elsewhere = all.field("location");
    assert!(elsewhere.starts_with("export?user=a%26b&since="), "{elsewhere}");
    assert_eq!(get(&proxy, &format!("/admin/{elsewhere}"), "").status, 200);
}

/// The figures of a window, which no chart is wider than: what bars lead to, from the table that says the
/// same as they do.
fn bars(page: &str) -> Vec<String> {
    let table = page.split("The same as a table").nth(1).unwrap();
    attributes(table.split("</table>").next().unwrap(), "href")
}

#[test]
fn windows_of_centuries_show_what_there_is() {
    let proxy = with_calls([]);
    for window in ["since=0026-11-01", "until=9999-01-01", "since=0026-11-01&until=9999-01-01"] {
        let bars = bars(&page(&proxy, &format!("?{window}")).text);
        assert!((1..=40).contains(&bars.len()), "{window}: {bars:?}");
    }
}

#[test]
fn the_bars_of_a_window_add_up_to_it() {
    let proxy = with_calls([]);
    let now = Timestamp::now().millis();
    let [since, until] =
        [now - 10 * DAY_MS, now - DAY_MS].map(|at| Timestamp::from_millis(at).to_string());
    let window = format!("since={since}&until={until}");
    let bars = bars(&page(&proxy, &format!("?{window}&step=day&tz=Europe/Berlin")).text);
    assert!(bars.len() >= 8, "{bars:?}");
    let requests = |query: &str| {
        let known = ["since", "until", "tz"];
        let pairs = query.trim_start_matches('?').split('&');
        let pairs: Vec<_> =
            pairs.filter(|pair| known.contains(&pair.split('=').next().unwrap())).collect();
        api(&proxy, &format!("stats?{}", pairs.join("&")))["totals"]["requests"].as_u64().unwrap()
    };
    assert_eq!(bars.iter().map(|bar| requests(bar)).sum::<u64>(), requests(&window));
    assert!(bars.iter().all(|bar| bar.contains("tz=Europe/Berlin")), "{bars:?}");
}

#[test]
fn a_model_whose_calls_fail_costs_what_the_others_cost() {
    let works = json!({"model": "m-half", "cost_usd": 1, "operation": "only-this"});
    let fails = json!({
        "model": "m-half", "operation": "only-this", "status": 500, "cost_source": "none",
        "usage_source": "none", "input_tokens": null, "output_tokens": null, "total_tokens": null,
    });
    let proxy = with_calls([call(&works), call(&fails), call(&fails), call(&fails)]);
    let lines = sheet(&proxy, "?view=compare&operation=only-this&format=csv");
    let cell = |name: &str| {
        let cell = lines[0].iter().find(|(known, _)| known == name);
        cell.map(|(_, cell)| cell.parse::<f64>().unwrap()).unwrap()
    };
    assert_eq!((cell("requests"), cell("failure_rate")), (4.0, 0.75));
    assert!((cell("cost_usd_per_call") - 1.0).abs() < 1e-9, "{lines:?}");
}

/// Groups that one answer of the ledger has at most, and one more.
const TOO_MANY: usize = 100_001;

#[test]
fn more_models_than_can_be_listed_take_no_page_away() {
    let known = call(&json!({"operation": "rag", "cost_usd": 1}));
    let proxy = nowhere().start_on(|database| {
        let mut loader = Loader::open(database).unwrap();
        for number in 0..TOO_MANY {
            let (id, model) = (CallId::new(), Some(format!("made-up-{number}")));
            loader.add(Record { id, model, ..known.clone() }).unwrap();
        }
        loader.finish().unwrap();
    });
    let cost = format!("value=\"{TOO_MANY}\"");
    for (query, must) in [
        ("", "Operations"),
        ("?view=quality", "Where tokens come from"),
        ("?view=compare", "For which operation"),
    ] {
        let text = page(&proxy, query).text;
        assert!(text.contains("Too many to list") && text.contains(must), "{query}: {text}");
        // The whole is known all the same, where it is said.
        assert!(query.contains("compare") || text.contains(&cost), "{query} does not say {cost}");
    }
}

#[test]
fn a_page_may_load_our_own_files_and_browsers_keep_them() {
    let proxy = with_calls([]);
    let overview = page(&proxy, "");
    let policy = overview.field("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(overview.field("cache-control"), "no-store");
    let links = ["href", "src"].iter().flat_map(|name| attributes(&overview.text, name));
    let assets: BTreeSet<String> = links.filter(|link| link.starts_with("assets/")).collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for link in assets {
        let path = format!("/admin/{link}");
        let packed = get(&proxy, &path, "Accept-Encoding: gzip, br\r\n");
        assert_eq!(packed.field("content-encoding"), "gzip", "{link}");
        assert!(packed.field("cache-control").contains("immutable"), "{link}");
        let length = |reply: &Reply| reply.field("content-length").parse::<usize>().unwrap();
        let head = head(&proxy, &path);
        let plain = get(&proxy, &path, "");
        assert_eq!(plain.field("content-encoding"), "");
        assert_eq!(field(&head, "content-length"), Some(plain.field("content-length")));
        assert!(length(&packed) * 2 < length(&plain), "{link}");
        assert!(get(&proxy, &path.replace("assets/", "assets/x"), "").status == 404);
    }
    let mut stranger = proxy.connect();
    stranger.send("GET /admin/assets/dashboard.css HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(stranger.head().starts_with("HTTP/1.1 401"));
}

#[test]
fn days_are_the_viewers() {
    let proxy = with_calls([]);
    let zone = |query: &str, cookie: &str| {
        let headers = format!("{HTML}Cookie: a=b; tokenmeter_tz={cookie}\r\n");
        let reply = get(&proxy, &format!("/admin/{query}"), &headers);
        assert_eq!(reply.status, 200);
        let zone = attributes(&reply.text, "data-zone").remove(0);
        assert!(reply.text.contains(&format!("<span id=\"zone\">{zone}</span>")), "{zone}");
        zone
    };
    assert_eq!(zone("", "Asia/Tokyo"), "Asia/Tokyo");
    assert_eq!(zone("?tz=Europe/Berlin", "Asia/Tokyo"), "Europe/Berlin");
    assert_eq!(zone("", "Nowhere/Land"), "UTC");
    assert_eq!(attributes(&page(&proxy, "").text, "data-zone"), ["UTC"]);
}
