//! Providers that break the rules, or break off: for every way to do so the client learns what it would have
//! learnt without tokenmeter, or hears tokenmeter's own error where there is nothing to pass on; there is one row
//! that says what happened; and the next call gets its own answer, over another connection wherever the end of
//! the last one was doubtful.

mod cases;

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::{Conn, Provider, Proxy, Settings, Unreachable, field};
use cases::Fate::{self, Cut, Own, Passes, Whole};
use cases::{Case, Does, send};

/// Waits so long for what a provider owes.
fn proxy(provider: &Provider, limit: &str) -> Proxy {
    let times = format!("timeouts.response_head = \"{limit}\"\ntimeouts.idle = \"{limit}\"");
    Settings::to(provider.url()).with(&times).start()
}

fn perform(upstream: &mut Conn, does: &[Does]) {
    for one in does {
        match one {
            Does::Send(bytes) => upstream.send_all_or_fail(bytes),
            Does::Repeat(text, times) => {
                // As much at once as makes sense.
                let several = text.repeat(1024);
                for _ in 0..times / 1024 {
                    if !upstream.send_or_hear(several.as_bytes()) {
                        break;
                    }
                }
            }
            Does::Reset => {
                socket2::SockRef::from(upstream.stream()).set_linger(Some(Duration::ZERO)).unwrap();
            }
            Does::Close | Does::Wait => {}
        }
    }
}

/// The status, the fields and the body, taken out of its framing; and whether it came to its end.
fn hear(client: &mut Conn, method: &str) -> (u16, String, String, bool) {
    let head = client.head();
    let status: u16 = head[9..12].parse().unwrap();
    if method == "HEAD" || status == 204 || status == 304 {
        return (status, head, String::new(), true);
    }
    let Some(length) = field(&head, "content-length") else {
        let text = client.rest_or("0\r\n\r\n");
        let (mut left, mut body) = (text.as_str(), String::new());
        while let Some((size, rest)) = left.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return (status, head, body, true);
            }
            let end = size.min(rest.len());
            body.push_str(&rest[..end]);
            left = rest[end..].strip_prefix("\r\n").unwrap_or_default();
        }
        return (status, head, body, false);
    };
    let length = length.parse().unwrap();
    let mut body = String::new();
    while body.len() < length {
        match client.take_or_end(length - body.len()) {
            Some(more) => body.push_str(&more),
            None => return (status, head, body, false),
        }
    }
    (status, head, body, true)
}

/// What is wrong, if something is.
fn judge(case: &Case, fate: &Fate, status: u16, head: &str, body: &str, is_whole: bool) -> bool {
    match fate {
        Whole(wanted, text) | Passes(wanted, text) => {
            let own = field(head, "x-tokenmeter-error");
            (status, body, is_whole, own) == (*wanted, *text, true, None)
        }
        Cut(wanted, text, _) => (status, body, is_whole) == (*wanted, *text, false),
        Own(wanted, code, _) => {
            let error: Value = serde_json::from_str(body).unwrap_or_default();
            let said = field(head, "x-tokenmeter-error");
            let is_own = case.method == "HEAD" || error["error"]["code"] == json!(code);
            (status, is_whole, said) == (*wanted, true, Some(*code)) && is_own
        }
    }
}

/// Plays every case, and says of all at once what is wrong.
fn play(cases: Vec<Case>) {
    let count = cases.len();
    let (late, others): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| {
        matches!(case.fate, Cut(_, _, "idle_timeout") | Own(_, _, "response_timeout"))
    });
    let mut wrong = Vec::new();
    // Only who is to be waited for in vain is waited for briefly: this machine may be busy.
    play_within("1s", &late, &mut wrong);
    play_within("20s", &others, &mut wrong);
    println!("{count} ways to break");
    assert!(wrong.is_empty(), "{}\n", wrong.join("\n"));
}

fn play_within(limit: &str, cases: &[Case], wrong: &mut Vec<String>) {
    let provider = Provider::new();
    let proxy = proxy(&provider, limit);
    for (number, case) in cases.iter().enumerate() {
        println!("{}", case.name);
        let before = wrong.len();
        let mut client = proxy.connect();
        let asked = if case.method == "POST" { "Content-Length: 2\r\n\r\n{}" } else { "\r\n" };
        client.send(format!("{} /case/{number} HTTP/1.1\r\nHost: c\r\n{asked}", case.method));
        let mut upstream = provider.accept();
        upstream.head();
        if case.method == "POST" {
            upstream.expect("{}");
        }
        let stays = !matches!(case.does.last(), Some(Does::Close | Does::Reset));
        perform(&mut upstream, &case.does);
        // A reset takes with it what has not been read: the client has it first.
        let early = match &case.fate {
            Cut(_, text, "upstream_reset") => Some((client.head(), client.read_through(text))),
            _ => None,
        };
        let upstream = stays.then_some(upstream);
        let (status, head, body, is_whole) = match early {
            Some((head, body)) => {
                let (status, is_whole) =
                    (head[9..12].parse().unwrap(), client.rest().contains('0'));
                let body = body.rsplit("\r\n").next().unwrap().to_owned();
                (status, head, body, is_whole)
            }
            None => hear(&mut client, case.method),
        };
        if !judge(case, &case.fate, status, &head, &body, is_whole) {
            wrong.push(format!(
                "{}: {status} {body:?} whole: {is_whole}, not {:?}",
                case.name, case.fate
            ));
        }
        let row = proxy.wait_for_rows(2 * number + 1).pop().unwrap();
        let (outcome, error) = match case.fate {
            Whole(..) | Passes(..) => ("completed", json!(null)),
            Cut(_, _, why) | Own(_, _, why) => ("upstream_failed", json!(why)),
        };
        if (&row["outcome"], &row["error"]) != (&json!(outcome), &error) {
            wrong.push(format!(
                "{}: row {} {}, not {outcome} {error}",
                case.name, row["outcome"], row["error"]
            ));
        }
        // Told at once, in case that what follows is stuck.
        wrong[before..].iter().for_each(|wrong| println!("  {wrong}"));
        next(&proxy, &provider, case, client, upstream, wrong);
        proxy.wait_for_rows(2 * number + 2);
    }
}

/// The next call gets its own answer, over the same connections where they can be trusted.
fn next(
    proxy: &Proxy,
    provider: &Provider,
    case: &Case,
    client: Conn,
    upstream: Option<Conn>,
    wrong: &mut Vec<String>,
) {
    let mut client = if matches!(case.fate, Cut(..)) { proxy.connect() } else { client };
    client.send("GET /next HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut serving = match upstream {
        Some(mut upstream) if matches!(case.fate, Whole(..)) => {
            upstream.head();
            upstream
        }
        Some(mut upstream) => {
            let said = upstream.rest();
            if !said.is_empty() {
                wrong.push(format!("{}: the connection is used again: {said:?}", case.name));
                return;
            }
            let mut fresh = provider.accept();
            fresh.head();
            fresh
        }
        None => {
            let mut fresh = provider.accept();
            fresh.head();
            fresh
        }
    };
    serving.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext");
    let (status, _, body, is_whole) = hear(&mut client, "GET");
    if (status, body.as_str(), is_whole) != (200, "next", true) {
        wrong.push(format!("{}: the next call had {status} {body:?}", case.name));
    }
}

#[test]
fn providers_that_break_off() {
    play(cases::broken_off());
}

#[test]
fn providers_that_do_not_speak_http() {
    play(cases::garbage());
}

#[test]
fn providers_that_lie_about_lengths() {
    play(cases::lengths());
}

#[test]
fn providers_that_send_bodies_where_none_belong() {
    play(cases::bodies_where_none_belong());
}

/// Takes an answer and says that the client's next call is answered too.
fn expect_next(client: &mut Conn, provider: &Provider) {
    client.send("GET /next HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext");
    assert_eq!(hear(client, "GET").2, "next");
}

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

/// They are shown as far as there is room, and the answer comes behind them.
#[test]
fn thousands_of_informational_answers_are_no_answer() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let mut client = proxy.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send(HINT.repeat(20_000));
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc");
    let mut head = client.head();
    let mut hints = 0;
    while head.starts_with("HTTP/1.1 103 ") {
        hints += 1;
        head = client.head();
    }
    println!("{hints} were shown");
    assert!(head.starts_with("HTTP/1.1 200 ") && client.take(3) == "abc", "{head}");
    expect_next(&mut client, &provider);
    assert_eq!(proxy.wait_for_rows(2)[0]["status"], 200);
}

/// A provider that has always something to say, and never an answer.
#[test]
fn informational_answers_without_an_end_are_cut_off() {
    let provider = Provider::new();
    let proxy = proxy(&provider, "2s");
    let mut client = proxy.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut upstream = provider.accept();
    upstream.head();
    let hints = HINT.repeat(1_000);
    let telling = thread::spawn(move || while upstream.send_or_hear(hints.as_bytes()) {});
    let mut head = client.head();
    while head.starts_with("HTTP/1.1 103 ") {
        head = client.head();
    }
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    telling.join().unwrap();
    client.take(field(&head, "content-length").unwrap().parse().unwrap());
    expect_next(&mut client, &provider);
    let rows = proxy.wait_for_rows(2);
    assert_eq!(
        (&rows[0]["outcome"], &rows[0]["error"]),
        (&json!("upstream_failed"), &json!("no_response"))
    );
}

/// Whoever refuses an upload does not wait for its end, and may close with most of it unread.
#[test]
fn an_answer_before_the_end_of_the_request_arrives_and_spoils_nothing() {
    const REFUSED: &str = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    for (number, sent) in [3, 20_000_000].into_iter().enumerate() {
        let mut client = proxy.connect();
        let mut sender = client.other_hand();
        let sending = thread::spawn(move || {
            sender.send("POST /upload HTTP/1.1\r\nHost: c\r\nContent-Length: 30000000\r\n\r\n");
            sender.send_all_or_fail(&vec![b'x'; sent]);
        });
        let mut upstream = provider.accept();
        upstream.head();
        upstream.expect("xxx");
        upstream.send(REFUSED);
        // All is read before it closes, or it closes with a reset.
        if number == 0 {
            upstream.close_writing();
            assert_eq!(hear(&mut client, "POST").2, "abc");
        } else {
            drop(upstream);
            let (status, head, body, is_whole) = hear(&mut client, "POST");
            let is_own = status == 502 && field(&head, "x-tokenmeter-error").is_some();
            assert!((status, body.as_str()) == (413, "abc") || is_own, "{head}{body}");
            assert!(is_whole);
        }
        drop(client);
        sending.join().unwrap();
        expect_next(&mut proxy.connect(), &provider);
        let rows = proxy.wait_for_rows(2 * number + 2);
        assert!(rows[2 * number]["status"].is_u64(), "{rows:?}");
    }
}

#[test]
fn redirects_to_elsewhere_are_handed_back() {
    let (provider, elsewhere) = (Provider::new(), Provider::new());
    let proxy = Proxy::to(&provider);
    for status in [300, 301, 302, 303, 305, 307, 308] {
        let mut client = proxy.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer k\r\nContent-Length: 2\r\n\r\n{}",
        );
        let mut upstream = provider.accept();
        upstream.head();
        upstream.expect("{}");
        let to = format!("{}/v1", elsewhere.url());
        upstream.send(format!(
            "HTTP/1.1 {status} Go\r\nLocation: {to}\r\nRefresh: 0; url={to}\r\nAlt-Svc: h2=\"{to}\"\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        let (got, head, ..) = hear(&mut client, "POST");
        assert_eq!((got, field(&head, "location")), (status, Some(to.as_str())));
        expect_next(&mut client, &provider);
    }
    assert!(elsewhere.is_untouched());
    proxy.wait_for_rows(14);
}

/// Nobody there, nobody who answers, and everything but TLS where TLS is expected.
#[test]
fn providers_that_cannot_be_spoken_to_are_an_error_of_ours() {
    let (provider, secure) = (Provider::new(), Provider::new());
    let (gone, far) = (Provider::new().url(), Unreachable::new());
    let quick = "timeouts.connect = \"2s\"";
    let proxy = Settings::to(provider.url())
        .upstream("gone", gone, "")
        .upstream("far", far.url(), quick)
        .upstream("secure", format!("https://{}", secure.authority()), quick)
        .start();
    let alert = "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}";
    let cases: [(&str, Option<Vec<Does>>, Fate); 8] = [
        ("/gone", None, Own(502, "upstream_unreachable", "connect_failed")),
        ("/far", None, Own(504, "upstream_timeout", "connect_timeout")),
        ("/secure", Some(vec![Does::Close]), Own(502, "upstream_unreachable", "tls_failed")),
        ("/secure", Some(vec![Does::Reset]), Own(502, "upstream_unreachable", "tls_failed")),
        ("/secure", Some(vec![Does::Wait]), Own(504, "upstream_timeout", "connect_timeout")),
        (
            "/secure",
            Some(vec![send(alert), Does::Wait]),
            Own(502, "upstream_unreachable", "tls_failed"),
        ),
        (
            "/secure",
            Some(vec![send("HTTP/1.1 400 Bad Request\r\n\r\n"), Does::Wait]),
            Own(502, "upstream_unreachable", "tls_failed"),
        ),
        (
            "/secure",
            // A record as large as can be, of which little comes.
            Some(vec![send("\u{16}\u{3}\u{3}\u{40}\0\u{2}"), Does::Wait]),
            Own(504, "upstream_timeout", "connect_timeout"),
        ),
    ];
    for (number, (upstream, does, fate)) in cases.into_iter().enumerate() {
        let mut client = proxy.connect();
        client.send(format!(
            "POST {upstream}/x HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        let mut peer = does.is_some().then(|| secure.accept());
        if let (Some(peer), Some(does)) = (&mut peer, &does) {
            // The type of a handshake's record.
            peer.expect("\u{16}");
            perform(peer, does);
        }
        if !matches!(does.as_deref(), Some([.., Does::Wait])) {
            peer = None;
        }
        let (status, head, body, is_whole) = hear(&mut client, "POST");
        let case = Case { name: upstream, method: "POST", does: Vec::new(), fate: fate.clone() };
        assert!(
            judge(&case, &fate, status, &head, &body, is_whole),
            "{upstream} {does:?}: {head}{body}"
        );
        let row = proxy.wait_for_rows(2 * number + 1).pop().unwrap();
        let Own(_, _, why) = fate else { unreachable!() };
        assert_eq!(
            (&row["outcome"], &row["error"]),
            (&json!("upstream_failed"), &json!(why)),
            "{does:?}"
        );
        expect_next(&mut client, &provider);
        drop(peer);
        proxy.wait_for_rows(2 * number + 2);
    }
}
