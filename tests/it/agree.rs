//! The same figures wherever one looks: the API, the pages, files, the command line, metrics, and SQL of
//! one's own.

use std::process::Command;
use std::thread;

use rusqlite::Connection;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::rig::{Provider, Proxy, Settings, bytes_of, eventually};

/// Calls, input, output and total tokens, and nano-dollars.
type Figures = [i128; 5];

const NAMES: [&str; 5] = ["requests", "input_tokens", "output_tokens", "total_tokens", "cost_usd"];

/// A window around now that does not move, with odd ends.
const WINDOW: &str = "since=2020-02-03T04:05:06Z&until=2199-01-02T03:04:05Z";

const CALLS: usize = 30;

#[test]
fn the_same_totals_wherever_one_looks() {
    let provider = Provider::new();
    let settings = Settings::default().upstream("up", provider.url(), "provider = \"openai\"\n");
    let proxy = settings.start();
    let unreported = (0..CALLS).filter(|at| says_nothing(*at)).count();
    thread::scope(|scope| {
        scope.spawn(|| (0..CALLS).for_each(|at| answer(&provider, at)));
        (0..CALLS).for_each(|at| call(&proxy, at));
    });
    proxy.wait_for_rows(CALLS);
    // What was only estimated from lengths is estimated well a moment later.
    eventually("amendments", || proxy.amended().len() == unreported);
    eventually("amendments in the database", || {
        api(&proxy, &format!("usage?limit=100&{WINDOW}"))["records"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["usage_source"] == "estimated")
            .all(|row| row["estimate"]["input"]["method"] != "bytes")
    });

    let expected = of(&api(&proxy, &format!("stats?{WINDOW}"))["totals"]);
    assert_eq!(expected[0], i128::try_from(CALLS).unwrap());
    assert!(expected.iter().all(|figure| *figure > 0), "{expected:?}");

    let mut seen = vec![("SQL", sql(&proxy))];
    // What is counted up keeps what a rough estimate had too much.
    let counted = metrics(&proxy);
    assert_eq!(counted[0], expected[0]);
    let few_too_many = |(counted, expected): (i128, i128)| {
        (expected..=expected + expected / 10).contains(&counted)
    };
    assert!(counted.into_iter().zip(expected).all(few_too_many), "{counted:?} {expected:?}");
    for keys in ["user", "model", "operation,model", "hour", "day", "usage_source", "metadata.team"]
    {
        let stats =
            api(&proxy, &format!("stats?group_by={keys}&limit=1000&tz=Asia/Kolkata&{WINDOW}"));
        assert_eq!(of(&stats["totals"]), expected, "{keys}");
        seen.push((keys, sum(stats["groups"].as_array().unwrap().iter().map(of))));
    }
    let users = api(&proxy, &format!("users?{WINDOW}"));
    seen.push(("users", sum(users["users"].as_array().unwrap().iter().map(of))));
    for user in ["ann", "bob"] {
        let one = of(&api(&proxy, &format!("users/{user}?{WINDOW}"))["totals"]);
        let row =
            users["users"].as_array().unwrap().iter().find(|row| row["user"] == user).unwrap();
        assert_eq!(one, of(row), "{user}");
    }
    let export = get(&proxy, &format!("/admin/export?format=jsonl&{WINDOW}"));
    let rows = export.lines().map(|line| of_row(&line.parse().unwrap()));
    seen.push(("export as JSON lines", sum(rows)));
    let export = get(&proxy, &format!("/admin/export?format=csv&{WINDOW}"));
    seen.push(("export as CSV", sum(lines(&export).iter().map(of_row))));
    for view in ["view=by&key=user", "view=by&key=model", "step=day", "step=hour&stack=none"] {
        let file = get(&proxy, &format!("/admin/?{view}&{WINDOW}&format=csv"));
        seen.push((view, sum(lines(&file).iter().map(of))));
    }
    let [json, csv] = ["json", "csv"].map(|format| command_line(&proxy, format));
    seen.push(("stats --format json", of(&json.parse::<Value>().unwrap()["totals"])));
    seen.push(("stats --format csv", sum(lines(&csv).iter().map(of))));
    let array: Value = run(&proxy, "export", "json").parse().unwrap();
    seen.push(("export --format json", sum(array.as_array().unwrap().iter().map(of_row))));
    let table = run(&proxy, "export", "table");
    assert_eq!(table.lines().filter(|line| line.contains("op-")).count(), CALLS, "{table}");
    for (place, figures) in seen {
        assert_eq!(figures, expected, "{place}");
    }

    // On the page they stand shortened, and exact beside that.
    let page = get(&proxy, &format!("/admin/?{WINDOW}"));
    let cost = Decimal::from_i128_with_scale(expected[4], 9).normalize().to_string();
    assert!(page.contains(&format!("${cost}")), "{cost} in {page}");
    let total = expected[3].to_string();
    let grouped: Vec<&str> =
        total.as_bytes().rchunks(3).rev().map(|d| str::from_utf8(d).unwrap()).collect();
    assert!(page.contains(&grouped.join(",")), "{grouped:?} in {page}");
}

/// Whether the provider keeps its usage to itself.
fn says_nothing(at: usize) -> bool {
    at % 7 == 3
}

fn call(proxy: &Proxy, at: usize) {
    let model = ["gpt-4o-mini", "gpt-4o", "gpt-4.1"][at % 3];
    let body = format!(
        r#"{{"model": "{model}", "messages": [{{"role": "user", "content": "How are you, {at}?"}}]}}"#
    );
    let user = ["X-User: ann\r\n", "X-User: bob\r\n", ""][at % 3];
    let mut client = proxy.connect();
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: c\r\nConnection: close\r\n{user}\
         X-Operation: op-{}\r\nX-Tag-Team: t{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        at % 4,
        at % 2,
        body.len()
    ));
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.rest();
}

fn answer(provider: &Provider, at: usize) {
    let mut connection = provider.accept();
    let head = connection.head().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let body: Value = serde_json::from_str(&connection.take(length.parse().unwrap())).unwrap();
    let usage = format!(
        r#", "usage": {{"prompt_tokens": {}, "completion_tokens": {}, "total_tokens": {}}}"#,
        1000 + at * 13,
        7 + at,
        1007 + at * 14
    );
    let text = format!(
        r#"{{"id": "c-{at}", "object": "chat.completion", "model": {}, "choices": [{{"index": 0,
        "message": {{"role": "assistant", "content": "Well, thank you."}}, "finish_reason": "stop"}}]{}}}"#,
        body["model"],
        if says_nothing(at) { "" } else { &usage }
    );
    connection.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    ));
}

fn get(proxy: &Proxy, path: &str) -> String {
    let mut client = proxy.connect();
    let token = proxy.token();
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let head = client.head();
    let body = bytes_of(&client.rest());
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        whole(&body)
    } else {
        body
    };
    let text = String::from_utf8(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}{text}");
    text
}

/// A chunked body's content.
fn whole(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|bytes| bytes == b"\r\n").unwrap();
        let length = usize::from_str_radix(str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        let chunk = &body[end + 2..];
        content.extend_from_slice(&chunk[..length]);
        body = &chunk[length + 2..];
        if length == 0 {
            return content;
        }
    }
}

fn api(proxy: &Proxy, path: &str) -> Value {
    get(proxy, &format!("/admin/{path}")).parse().unwrap()
}

fn sql(proxy: &Proxy) -> Figures {
    let sql =
        "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(total_tokens), sum(cost_usd)
        FROM token_usage";
    let database = Connection::open(proxy.database()).unwrap();
    let figures = database.query_row(sql, [], |row| {
        Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    });
    figures.unwrap().map(i128::from)
}

fn metrics(proxy: &Proxy) -> Figures {
    let page = get(proxy, "/metrics");
    // The sum over all label sets, of those that have this among them.
    let sum = |series: &str, label: &str| -> Decimal {
        let sets = page.lines().filter(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with('{') && rest.contains(label))
        });
        let values = sets.map(|line| line.rsplit_once(' ').unwrap().1);
        values.map(|value| Decimal::from_scientific(value).or(value.parse()).unwrap()).sum()
    };
    let count = |sum: Decimal| i128::try_from(sum).unwrap();
    let tokens = |class: &str| count(sum("tokenmeter_tokens_total", &format!("class=\"{class}\"")));
    let calls = count(sum("tokenmeter_calls_total", ""));
    let cost = sum("tokenmeter_cost_usd_total", "").round_dp(9);
    [calls, tokens("input"), tokens("output"), tokens("total"), nanos(cost)]
}

fn command_line(proxy: &Proxy, format: &str) -> String {
    run(proxy, "stats", format)
}

fn run(proxy: &Proxy, report: &str, format: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.env_clear().arg(report).arg("--database").arg(proxy.database());
    command.args(["--since", "2020-02-03T04:05:06Z", "--until", "2199-01-02T03:04:05Z"]);
    let output = command.args(["--format", format]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The figures of totals, or of a line of a file that has them.
fn of(totals: &Value) -> Figures {
    NAMES.map(|name| figure(name, &totals[name]))
}

/// The figures of one call.
fn of_row(row: &Value) -> Figures {
    let [_, figures @ ..] = NAMES.map(|name| figure(name, &row[name]));
    let [input, output, total, cost] = figures;
    [1, input, output, total, cost]
}

fn figure(name: &str, value: &Value) -> i128 {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number: Decimal = if text.is_empty() { Decimal::ZERO } else { text.parse().unwrap() };
    if name == "cost_usd" { nanos(number) } else { number.try_into().unwrap() }
}

fn nanos(dollars: Decimal) -> i128 {
    (dollars * Decimal::from(1_000_000_000)).round().try_into().unwrap()
}

/// A file's lines, each with its names.
fn lines(text: &str) -> Vec<Value> {
    let mut file = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let titles = file.headers().unwrap().clone();
    let named = |line: csv::StringRecord| {
        titles.iter().map(str::to_owned).zip(line.iter().map(Value::from)).collect::<Value>()
    };
    file.records().map(|line| named(line.unwrap())).collect()
}

fn sum(all: impl Iterator<Item = Figures>) -> Figures {
    all.fold([0; 5], |sum, one| std::array::from_fn(|at| sum[at] + one[at]))
}
