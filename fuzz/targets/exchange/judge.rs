//! What must be so after every play, whatever was played.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answers::{Answer, answers, latin};
use crate::play::{Connection, Requests, Witnessed, requests};

/// First segments that are never forwarded.
const RESERVED: [&str; 5] = ["admin", "metrics", "healthz", "readyz", "usage"];

/// Hosts that get what the client sends.
const PLAIN: [&str; 3] = ["openai.test", "azure.test", "house.test"];

pub fn judge(seen: &Witnessed, lines: &[Value], is_patient: bool, token: &str) {
    let rows = one_row_a_call(lines);
    let holds = |bytes: &[u8]| latin(bytes).contains(token);
    if holds(&seen.said) || seen.connections.iter().any(|connection| holds(&connection.sent)) {
        // A fuzzer learns what its target compares: whoever has the token may have what it opens.
        return;
    }
    assert!(!holds(&seen.heard), "the token is told");
    sent_up(seen, &rows);
    // What is binary is judged by its rows alone.
    if seen.said.starts_with(b"PRI ") {
        return;
    }
    let said = requests(&seen.said);
    if said.doubt.is_some() || said.whole.iter().any(|asked| asked.upgrades) {
        return;
    }
    nothing_else_goes_up(seen, &said);
    came_down(seen, &said, &rows, is_patient);
}

/// A call, as its closing line has it.
#[derive(Debug)]
struct Row {
    upstream: String,
    path: String,
    status: Option<u64>,
    outcome: String,
}

/// Every call that was opened was closed once. In the order of their opening.
fn one_row_a_call(lines: &[Value]) -> BTreeMap<String, Row> {
    let id = |record: &Value| record["id"].as_str().expect("an id").to_owned();
    let (mut opened, mut rows) = (Vec::new(), BTreeMap::new());
    for line in lines {
        if let Some(record) = line.get("open") {
            assert!(!opened.contains(&id(record)), "opened twice: {record}");
            opened.push(id(record));
        } else if let Some(record) = line.get("close") {
            assert!(opened.contains(&id(record)), "closed and not opened: {record}");
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let row = Row {
                upstream: text("upstream"),
                path: text("path"),
                status: record["status"].as_u64(),
                outcome: text("outcome"),
            };
            assert!(rows.insert(id(record), row).is_none(), "closed twice: {record}");
        }
    }
    assert_eq!(opened.len(), rows.len(), "not all is closed: {lines:?}");
    rows
}

/// What a target is at its upstream, and which one that is.
fn routed(target: &str) -> (String, String) {
    let target = target.split('#').next().unwrap_or_default();
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => match rest.find(['/', '?']) {
            Some(at) => &rest[at..],
            None => "/",
        },
        _ => target,
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    let first = path.split('/').nth(1).unwrap_or_default();
    let (upstream, path) = match first {
        "openai" | "azure" | "house" | "asked" | "two" if path.starts_with('/') => {
            (first, &path[1 + first.len()..])
        }
        _ => ("openai", path),
    };
    let path = if path.is_empty() { "/" } else { path };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    (format!("{upstream}.test"), format!("{path}{query}"))
}

fn is_plain(connection: &Connection) -> bool {
    PLAIN.contains(&connection.host.as_str())
}

/// What goes up can be read in one way only, and every head of it has its row.
fn sent_up(seen: &Witnessed, rows: &BTreeMap<String, Row>) {
    let mut unseen: Vec<(String, String)> = Vec::new();
    for row in rows.values() {
        let path = latin(row.path.as_bytes());
        let first = path.split('/').nth(1).unwrap_or_default();
        assert!(!RESERVED.contains(&first), "a row of {path}");
        let (host, routed) = routed(&path);
        if is_known(&row.upstream) {
            assert_eq!(host, format!("{}.test", row.upstream), "{path}");
            unseen.push((host, routed));
        }
    }
    for connection in
        seen.connections.iter().filter(|connection| connection.host.ends_with(".test"))
    {
        if connection.host == "two.test" {
            continue;
        }
        let got = requests(&connection.got);
        assert!(
            got.doubt.is_none(),
            "{} could be read in two ways: {:?}",
            latin(&connection.got),
            got.doubt
        );
        if !is_plain(connection) {
            continue;
        }
        for target in targets(&got) {
            let path = target.split('?').next().unwrap_or_default();
            let wanted = (connection.host.clone(), path.to_owned());
            let at = unseen.iter().position(|one| *one == wanted);
            let at = at.unwrap_or_else(|| panic!("{target} went up without a row: {rows:?}"));
            unseen.swap_remove(at);
        }
    }
}

fn is_known(upstream: &str) -> bool {
    ["openai", "azure", "house", "asked", "two"].contains(&upstream)
}

/// Of all heads that are whole.
fn targets(got: &Requests<'_>) -> Vec<String> {
    let mut targets: Vec<String> = got.whole.iter().map(|asked| asked.target.clone()).collect();
    if got.rest.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        targets.extend(latin(got.rest).split(' ').nth(1).map(str::to_owned));
    }
    targets
}

/// Each request of a provider's is one of the client's, with its method, target and body.
fn nothing_else_goes_up(seen: &Witnessed, said: &Requests<'_>) {
    let mut unseen: Vec<(String, String, String, String)> = Vec::new();
    for asked in &said.whole {
        let (host, target) = routed(&asked.target);
        unseen.push((host, asked.method.clone(), target, asked.body.clone()));
    }
    for connection in seen.connections.iter().filter(|connection| is_plain(connection)) {
        for asked in requests(&connection.got).whole {
            let one = (connection.host.clone(), asked.method, asked.target, asked.body);
            let at = unseen.iter().position(|other| *other == one);
            let at = at.unwrap_or_else(|| panic!("{one:?} was not sent: {:?}", latin(&seen.said)));
            unseen.swap_remove(at);
        }
    }
}

/// What comes down is what was answered, or an error of tokenmeter's own; never a page that is not for everybody.
fn came_down(
    seen: &Witnessed,
    said: &Requests<'_>,
    rows: &BTreeMap<String, Row>,
    is_patient: bool,
) {
    let methods: Vec<String> = said.whole.iter().map(|asked| asked.method.clone()).collect();
    let heard = match answers(&seen.heard, &methods, seen.heard_end) {
        Ok(heard) => heard,
        Err("another protocol") => return,
        // What could not be read may have been a HEAD, and nobody knew.
        Err(_) if methods.iter().any(|method| method == "HEAD") && is_unread(&seen.heard) => return,
        Err(why) => panic!("{why}: {}", latin(&seen.heard)),
    };
    let (passed, own): (Vec<_>, Vec<_>) =
        heard.iter().enumerate().partition(|(_, answer)| answer.field("x-tokenmeter-id").is_some());
    for (number, answer) in own {
        let target = said.whole.get(number).map_or("", |asked| asked.target.as_str());
        let is_public =
            answer.status == 200 && (target.contains("/healthz") || target.contains("/readyz"));
        assert!(is_public || answer.status >= 400, "{target}: {answer:?}");
    }
    let mut is_judged =
        !seen.connections.iter().any(|connection| !is_plain(connection) || connection.is_hasty);
    let given = if is_judged { given(seen) } else { None };
    is_judged &= given.is_some();
    let mut given = given.unwrap_or_default().into_iter();
    let mut complete = 0;
    for (_, answer) in passed {
        let row = rows.get(answer.field("x-tokenmeter-id").unwrap_or_default());
        let row = row.unwrap_or_else(|| panic!("no row: {answer:?}"));
        if answer.field("x-tokenmeter-error").is_some() {
            continue;
        }
        assert_eq!(row.status, Some(u64::from(answer.status)), "{row:?}: {answer:?}");
        if answer.is_whole {
            assert_eq!(row.outcome, "completed", "{row:?}: {answer:?}");
        }
        if !is_judged {
            continue;
        }
        let all = given.as_slice().to_vec();
        let same = given.find(|(given, _)| is_of(answer, given));
        assert!(same.is_some(), "heard {answer:?}, which is none of {all:?}");
        complete += usize::from(answer.is_whole);
    }
    if is_judged && is_patient && said.rest.is_empty() {
        let all = given_whole(seen);
        assert!(
            complete >= all,
            "{all} answers were whole, {complete} came: {}",
            latin(&seen.heard)
        );
    }
}

/// Whether tokenmeter has said that a request could not be read.
fn is_unread(heard: &[u8]) -> bool {
    let heard = latin(heard);
    ["this is no HTTP request", "(limits.request_head)"].iter().any(|said| heard.contains(said))
}

/// Whether an answer as it was heard is what is left of one as it was given.
fn is_of(heard: &Answer, given: &Answer) -> bool {
    heard.status == given.status
        && given.body.starts_with(&heard.body)
        && (!heard.is_whole || given.is_whole && heard.body == given.body)
}

/// Answers in the order in which their requests came, and whether those were whole; nothing where they are in doubt.
fn given(seen: &Witnessed) -> Option<Vec<(Answer, bool)>> {
    let mut by_connection = Vec::new();
    for connection in &seen.connections {
        let got = requests(&connection.got);
        let methods: Vec<String> = targets_and_methods(&got);
        let all = answers(&connection.sent, &methods, connection.is_over).ok()?;
        if all.len() > methods.len() {
            return None;
        }
        by_connection.push((all, got.whole.len()));
    }
    let answer = |(connection, number): &(usize, usize)| {
        let (all, whole) = by_connection.get(*connection)?;
        Some((all.get(*number)?.clone(), number < whole))
    };
    Some(seen.order.iter().filter_map(answer).collect())
}

fn targets_and_methods(got: &Requests<'_>) -> Vec<String> {
    let mut methods: Vec<String> = got.whole.iter().map(|asked| asked.method.clone()).collect();
    if got.rest.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        methods.extend(latin(got.rest).split(' ').next().map(str::to_owned));
    }
    methods
}

/// How many must have come down: whole answers to whole requests.
fn given_whole(seen: &Witnessed) -> usize {
    let given = given(seen).unwrap_or_default();
    given.iter().filter(|(answer, request_is_whole)| answer.is_whole && *request_is_whole).count()
}
