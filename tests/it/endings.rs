//! However a call ends, it leaves one row that says how, and what ends an answer goes down only when
//! the journal has the call's closing line.

use std::net::SocketAddr;

use tokenmeter::record::{Outcome, Record};
use tokenmeter::usage::UsageSource;

use crate::support::{
    Answer, Ask, Client, Coding, Ending, Fields, Framing, Message, Pace, Proxy, Rows, Script, Seen,
    Setup, Step, Upload, Upstream, encode,
};

const JSON: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

/// A stream in the OpenAI dialect, event by event.
const CHAT: [&str; 4] = [
    "data: {\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n",
    "data: {\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n",
    "data: [DONE]\n\n",
];

const MESSAGES: [&str; 3] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

const RESPONSES: [&str; 2] = [
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-5\",\"status\":\"in_progress\"}}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5\",\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11}}}\n\n",
];

fn chat() -> Ask {
    Ask::post("/openai/v1/chat/completions", br#"{"model":"gpt-4o-mini","messages":[]}"#)
}

fn json() -> Answer {
    Answer::ok("application/json", JSON)
}

fn stream(events: &[&str]) -> Answer {
    Answer::ok("text/event-stream", events.concat()).framed(Framing::Chunked)
}

/// The events, each of its own, and then nothing: the provider leaves the connection open.
fn left_open(answer: &Answer, pieces: &[&[u8]], seen: &Seen) -> Script {
    let mut script = vec![Step::Send(answer.head())];
    let mut sent = 0;
    for piece in pieces {
        script.push(Step::Await(seen.clone(), sent));
        script.push(Step::Send(answer.piece(piece)));
        sent += piece.len();
    }
    script.push(Step::UntilClosed);
    script
}

fn bytes_of<'a>(events: &[&'a str]) -> Vec<&'a [u8]> {
    events.iter().map(|event| event.as_bytes()).collect()
}

/// A proxy before a provider that plays one script, a client, and the row in the end.
struct Scene {
    upstream: Upstream,
    proxy: Proxy,
}

impl Scene {
    fn new(script: Script) -> Scene {
        Scene::with(Setup::new(), script)
    }

    fn with(setup: Setup, script: Script) -> Scene {
        let upstream = Upstream::start();
        if !script.is_empty() {
            upstream.expect(script);
        }
        let at = upstream.address();
        let proxy = Proxy::start(setup.upstream("openai", at).upstream("anthropic", at));
        Scene { upstream, proxy }
    }

    fn ask(&self, ask: &Ask) -> Client {
        let mut client = self.proxy.client();
        client.send(ask);
        client
    }

    fn end(self) -> Record {
        Scene::rows(self.proxy.stop(), self.upstream)
    }

    fn end_at_once(self) -> Record {
        Scene::rows(self.proxy.stop_at_once(), self.upstream)
    }

    fn rows(rows: Rows, upstream: Upstream) -> Record {
        upstream.join();
        rows.only()
    }
}

#[track_caller]
fn assert_ended(record: &Record, outcome: Outcome, error: Option<&str>, status: Option<u16>) {
    assert_eq!((record.outcome, record.error.as_deref(), record.status), (outcome, error, status));
    assert!(record.duration_ms.is_some());
}

#[track_caller]
fn assert_counted(record: &Record) {
    assert_eq!(record.usage_source, UsageSource::Reported);
    assert_eq!((record.input_tokens, record.output_tokens), (Some(9), Some(2)));
}

/// The upstream failed; the client got tokenmeter's own error.
#[track_caller]
fn assert_own_error(answer: &Message, status: u16, code: &str) {
    assert_eq!((answer.status(), answer.ending), (status, Ending::Whole));
    assert_eq!(answer.fields.get("x-tokenmeter-error"), Some(code));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["type"], "tokenmeter_error");
    assert_eq!(body["error"]["code"], code);
}

// --- the provider answers to the end ---

#[test]
fn an_answer_that_is_whole_is_completed() {
    for answer in [
        json(),
        json().framed(Framing::Chunked),
        json().framed(Framing::ByClose),
        stream(&CHAT),
        stream(&CHAT).framed(Framing::Length),
        stream(&CHAT).framed(Framing::ByClose),
    ] {
        let scene = Scene::new(answer.whole());
        let received = scene.ask(&chat()).receive().unwrap();
        assert_eq!((received.body, received.ending), (answer.body, Ending::Whole));
        let record = scene.end();
        assert_ended(&record, Outcome::Completed, None, Some(200));
        assert_counted(&record);
        assert_eq!(record.finish_reason.as_deref(), Some("stop"));
    }
}

#[test]
fn an_error_of_the_provider_passes_and_is_completed() {
    for (status, word) in [
        ("400 Bad Request", "bad_request"),
        ("401 Unauthorized", "invalid_api_key"),
        ("404 Not Found", "model_not_found"),
        ("429 Too Many Requests", "rate_limit_exceeded"),
        ("500 Internal Server Error", "server_error"),
        ("503 Service Unavailable", "overloaded"),
    ] {
        let body = format!(r#"{{"error":{{"message":"No.","type":"error","code":"{word}"}}}}"#);
        let answer = Answer { status: status.to_owned(), ..Answer::ok("application/json", body) };
        let scene = Scene::new(answer.whole());
        let received = scene.ask(&chat()).receive().unwrap();
        assert_eq!((received.start, received.body), (format!("HTTP/1.1 {status}"), answer.body));
        let record = scene.end();
        assert_ended(&record, Outcome::Completed, Some(word), status[..3].parse().ok());
        assert_eq!((record.usage_source, record.input_tokens), (UsageSource::None, None));
    }
}

#[test]
fn answers_without_a_body_are_completed() {
    // hyper's server takes the Content-Length out of a 304, so none is sent here.
    let length = || ("Content-Length".to_owned(), "1234".to_owned());
    let cases = [
        ("HEAD", "200 OK", vec![length()]),
        ("HEAD", "200 OK", vec![("Transfer-Encoding".to_owned(), "chunked".to_owned())]),
        ("HEAD", "404 Not Found", vec![]),
        ("GET", "204 No Content", vec![]),
        ("DELETE", "204 No Content", vec![]),
        ("GET", "304 Not Modified", vec![("ETag".to_owned(), "\"a\"".to_owned())]),
        ("POST", "200 OK", vec![("Content-Length".to_owned(), "0".to_owned())]),
    ];
    for (method, status, fields) in cases {
        let (status, fields) = (status.to_owned(), Fields(fields));
        let (body, framing) = (Vec::new(), Framing::ByClose);
        let head = Answer { status: status.clone(), fields: fields.clone(), body, framing }.head();
        let scene = Scene::new(vec![Step::Send(head)]);
        let mut client = scene.proxy.client();
        let ask = Ask { method: method.to_owned(), ..Ask::get("/openai/v1/files/file-1") };
        let received = client.exchange(&ask);
        assert_eq!(received.start, format!("HTTP/1.1 {status}"), "{method}");
        let ignored = ["x-tokenmeter-id", "transfer-encoding"];
        let sent = fields.without(&ignored);
        assert_eq!(received.fields.without(&ignored), sent, "{method} {status}");
        drop(client);
        let record = scene.end();
        assert_ended(&record, Outcome::Completed, None, status[..3].parse().ok());
        assert_eq!(record.method, method);
    }
}

// --- the client goes ---

#[test]
fn a_client_that_goes_before_the_head_has_closed() {
    let scene = Scene::new(vec![Step::UntilClosed]);
    let client = scene.ask(&chat());
    scene.upstream.request();
    drop(client);
    let record = scene.end();
    assert_ended(&record, Outcome::ClientClosed, None, None);
    assert_eq!(record.model_requested.as_deref(), Some("gpt-4o-mini"));
}

#[test]
fn a_client_that_goes_in_mid_body_has_closed() {
    let (seen, answer) = (Seen::default(), stream(&CHAT));
    for events in 1..CHAT.len() {
        let scene = Scene::new(left_open(&answer, &bytes_of(&CHAT[..events]), &seen));
        let mut client = scene.ask(&chat());
        let sent = CHAT[..events].concat().len();
        let received = client.receive_until(&seen, |body| body.len() == sent).unwrap();
        assert_eq!(received.body, CHAT[..events].concat().as_bytes());
        drop(client);
        let record = scene.end();
        assert_ended(&record, Outcome::ClientClosed, None, Some(200));
        assert!(record.streaming);
        if events == 3 {
            assert_counted(&record);
        }
    }
    let short = vec![Step::Send(json().head()), Step::Send(b"{\"id\"".to_vec()), Step::UntilClosed];
    let scene = Scene::new(short);
    let mut client = scene.ask(&chat());
    client.receive_until(&seen, |body| body.len() == 5).unwrap();
    drop(client);
    assert_ended(&scene.end(), Outcome::ClientClosed, None, Some(200));
}

#[test]
fn a_client_that_goes_in_mid_upload_has_closed() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
    let body = br#"{"model":"gpt-4o-mini","messages":[]}"#;
    for upload in [Upload::Length, Upload::Chunked(10)] {
        let mut client = proxy.client();
        client.send_part(&Ask { upload, ..Ask::post("/openai/v1/chat/completions", body) }, 20);
        // Part of it is there when the provider has the head.
        upstream.head();
        drop(client);
    }
    let rows = proxy.stop();
    upstream.join();
    assert_eq!(rows.records.len(), 2);
    for record in &rows.records {
        assert_ended(record, Outcome::ClientClosed, None, None);
    }
}

#[test]
fn a_client_that_goes_after_the_last_event_is_completed() {
    let cases: [(&str, &[&str], &str); 3] = [
        ("/openai/v1/chat/completions", &CHAT, "stop"),
        ("/openai/v1/responses", &RESPONSES, "completed"),
        ("/anthropic/v1/messages", &MESSAGES, "end_turn"),
    ];
    for (target, events, finish_reason) in cases {
        let (seen, answer) = (Seen::default(), stream(events));
        let scene = Scene::new(left_open(&answer, &bytes_of(events), &seen));
        let mut client = scene.ask(&Ask::post(target, b"{}"));
        let whole = answer.body.len();
        client.receive_until(&seen, |body| body.len() == whole).unwrap();
        drop(client);
        let record = scene.end();
        assert_ended(&record, Outcome::Completed, None, Some(200));
        assert_counted(&record);
        assert_eq!(record.finish_reason.as_deref(), Some(finish_reason));
    }
}

#[test]
fn a_client_that_goes_after_the_whole_body_is_completed() {
    let scene = Scene::new(json().whole());
    let mut client = scene.ask(&chat());
    client.receive_until(&Seen::default(), |body| body.len() == JSON.len()).unwrap();
    drop(client);
    let record = scene.end();
    assert_ended(&record, Outcome::Completed, None, Some(200));
    assert_counted(&record);
}

/// SDKs raise at an error and close the connection without reading on.
#[test]
fn a_client_that_goes_at_the_provider_s_error_has_had_its_answer() {
    let events = [CHAT[0], "data: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\n"];
    let (seen, answer) = (Seen::default(), stream(&events));
    let scene = Scene::new(left_open(&answer, &bytes_of(&events), &seen));
    let mut client = scene.ask(&chat());
    let whole = answer.body.len();
    client.receive_until(&seen, |body| body.len() == whole).unwrap();
    drop(client);
    assert_ended(&scene.end(), Outcome::Completed, Some("502"), Some(200));

    let head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let scene = Scene::new(vec![Step::Send(head), Step::UntilClosed]);
    let mut client = scene.ask(&chat());
    client.receive_until(&Seen::default(), |body| body.len() == 1).unwrap();
    drop(client);
    assert_ended(&scene.end(), Outcome::Completed, None, Some(429));
}

// --- the provider fails ---

#[test]
fn a_provider_that_refuses_the_connection_has_failed() {
    // Bound and not listening: the port is taken, and nobody answers there.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let proxy = Proxy::start(Setup::new().upstream("openai", at));
    let answer = proxy.client().exchange(&chat());
    assert_own_error(&answer, 502, "upstream_unreachable");
    let record = proxy.stop().only();
    assert_ended(&record, Outcome::UpstreamFailed, Some("connect_failed"), Some(502));
    assert_eq!(record.model_requested.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(answer.fields.get("x-tokenmeter-id"), Some(record.id.to_string().as_str()));
}

/// A connection that still brings a request closes after an answer to it; a client that was not told lost its
/// next call.
#[test]
fn an_error_in_mid_upload_says_that_the_connection_closes() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let proxy = Proxy::start(Setup::new().upstream("openai", at));
    let mut client = proxy.client();
    for _ in 0..2 {
        let answer = client.exchange(&chat());
        assert_own_error(&answer, 502, "upstream_unreachable");
        assert_eq!(answer.fields.get("connection"), None);
    }
    client.send_part(&chat(), 20);
    let answer = client.receive().unwrap();
    assert_own_error(&answer, 502, "upstream_unreachable");
    assert_eq!(answer.fields.get("connection"), Some("close"));
    drop(client);
    assert_eq!(proxy.stop().records.len(), 3);
}

#[test]
fn a_provider_that_gives_no_valid_head_has_failed() {
    for script in [
        vec![Step::Close],
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), Step::Close],
        vec![Step::Send(b"It is late.\r\n\r\n".to_vec()), Step::UntilClosed],
        vec![Step::Send(b"HTTP/1.1 9999 Yes\r\n\r\n".to_vec()), Step::UntilClosed],
        vec![Step::Send(vec![0xFF; 64]), Step::UntilClosed],
    ] {
        let scene = Scene::new(script);
        let answer = scene.ask(&chat()).receive().unwrap();
        assert_own_error(&answer, 502, "upstream_unreachable");
        let record = scene.end();
        assert_ended(&record, Outcome::UpstreamFailed, Some("no_response"), Some(502));
    }
}

#[test]
fn a_provider_that_breaks_off_in_mid_body_has_failed() {
    let short = json();
    let chunked = stream(&CHAT);
    let seen = Seen::default();
    let head_of = |answer: &Answer, body: &[u8]| {
        let (head, piece) = (answer.head(), answer.piece(body));
        // The client has it before the connection breaks: what was sent is not lost.
        let sent = Step::Await(seen.clone(), body.len());
        vec![Step::Send(head), Step::Send(piece), sent, Step::Close]
    };
    let broken_size = {
        let mut script = head_of(&chunked, CHAT[0].as_bytes());
        script.insert(3, Step::Send(b"no size\r\n".to_vec()));
        script
    };
    for (script, sent, error) in [
        (head_of(&short, &JSON.as_bytes()[..30]), 30, "answer_truncated"),
        (head_of(&short, &JSON.as_bytes()[..JSON.len() - 1]), JSON.len() - 1, "answer_truncated"),
        (head_of(&chunked, CHAT[0].as_bytes()), CHAT[0].len(), "chunks_truncated"),
        (broken_size, CHAT[0].len(), "answer_invalid"),
    ] {
        seen.set(0);
        let scene = Scene::new(script);
        let mut client = scene.ask(&chat());
        let received = client.receive_seen(&seen).unwrap();
        assert_eq!((received.body.len(), received.ending), (sent, Ending::Cut));
        drop(client);
        let record = scene.end();
        assert_ended(&record, Outcome::UpstreamFailed, Some(error), Some(200));
    }
}

/// hyper drops what it has not written when a body fails; SDKs that got nothing send the call again.
#[test]
fn what_came_before_a_break_reaches_the_client() {
    for (answer, error) in [(json(), "answer_truncated"), (stream(&CHAT), "chunks_truncated")] {
        let part = &answer.body[..20];
        let together = [answer.head(), answer.piece(part)].concat();
        let scene = Scene::new(vec![Step::Send(together), Step::Close]);
        let mut client = scene.ask(&chat());
        client.receive_until(&Seen::default(), |body| body.len() == part.len()).unwrap();
        assert_ended(&scene.end(), Outcome::UpstreamFailed, Some(error), Some(200));
    }
}

#[test]
fn a_provider_that_is_silent_for_too_long_has_failed() {
    let short = || Setup::new().section("[timeouts]\nresponse_head = \"80ms\"\nidle = \"80ms\"");
    let scene = Scene::with(short(), vec![Step::UntilClosed]);
    let answer = scene.ask(&chat()).receive().unwrap();
    assert_own_error(&answer, 504, "upstream_timeout");
    let record = scene.end();
    assert_ended(&record, Outcome::UpstreamFailed, Some("response_timeout"), Some(504));

    let seen = Seen::default();
    let script = left_open(&stream(&CHAT), &bytes_of(&CHAT[..2]), &seen);
    let scene = Scene::with(short(), script);
    let mut client = scene.ask(&chat());
    let received = client.receive_seen(&seen).unwrap();
    assert_eq!((received.body, received.ending), (CHAT[..2].concat().into_bytes(), Ending::Cut));
    assert!(client.is_closed());
    let record = scene.end();
    assert_ended(&record, Outcome::UpstreamFailed, Some("idle_timeout"), Some(200));
    assert_eq!(record.finish_reason.as_deref(), Some("stop"));
}

#[test]
fn a_provider_that_stays_silent_after_the_last_event_has_completed() {
    let setup = Setup::new().section("[timeouts]\nidle = \"80ms\"");
    let seen = Seen::default();
    let scene = Scene::with(setup, left_open(&stream(&CHAT), &bytes_of(&CHAT), &seen));
    let received = scene.ask(&chat()).receive_seen(&seen).unwrap();
    assert_eq!(received.body, CHAT.concat().as_bytes());
    let record = scene.end();
    assert_ended(&record, Outcome::Completed, None, Some(200));
    assert_counted(&record);
}

// --- tokenmeter itself ends it ---

#[test]
fn a_call_that_a_stop_cuts_off_is_interrupted() {
    let seen = Seen::default();
    let scene = Scene::new(left_open(&stream(&CHAT), &bytes_of(&CHAT[..1]), &seen));
    let mut client = scene.ask(&chat());
    let first = CHAT[0].len();
    client.receive_until(&seen, |body| body.len() == first).unwrap();
    let record = scene.end_at_once();
    assert_ended(&record, Outcome::Interrupted, Some("tokenmeter stopped"), Some(200));

    let scene = Scene::new(vec![Step::UntilClosed]);
    let client = scene.ask(&chat());
    scene.upstream.request();
    let record = scene.end_at_once();
    assert_ended(&record, Outcome::Interrupted, Some("tokenmeter stopped"), None);
    drop(client);
}

#[test]
fn a_stop_lets_calls_in_flight_finish() {
    let (seen, answer) = (Seen::default(), stream(&CHAT));
    let pieces = [(0, Pace::Step), (CHAT[0].len(), Pace::Step)];
    let scene = Scene::new(answer.cut(pieces, &seen));
    let mut client = scene.ask(&chat());
    scene.upstream.request();
    // `seen` lets the provider go on only after the proxy has been told to stop.
    let Scene { upstream, proxy } = scene;
    proxy.ask_to_stop();
    let received = client.receive_seen(&seen).unwrap();
    assert_eq!((received.body, received.ending), (answer.body, Ending::Whole));
    let record = Scene::rows(proxy.stop(), upstream);
    assert_ended(&record, Outcome::Completed, None, Some(200));
}

#[test]
fn a_request_that_grows_too_large_is_refused_and_leaves_its_row() {
    let setup = Setup::new().section("[limits]\nrequest_body = \"64B\"");
    let scene = Scene::with(setup, vec![]);
    let body = [b' '; 65];
    let ask = Ask { upload: Upload::Chunked(13), ..Ask::post("/openai/v1/embeddings", &body) };
    assert_own_error(&scene.ask(&ask).receive().unwrap(), 413, "payload_too_large");
    let record = scene.end();
    assert_ended(&record, Outcome::Completed, Some("payload_too_large"), Some(413));
}

#[test]
fn what_is_never_sent_leaves_no_row() {
    let upstream = Upstream::start();
    let setup = Setup::new().with("default_upstream = \"openai\"");
    let setup = setup.upstream("openai", upstream.address());
    let proxy = Proxy::start(setup.section("[limits]\nrequest_body = \"64B\""));
    let mut client = proxy.client();
    let mut ask = chat();
    ask.fields.0.push(("X-Attempt".to_owned(), "first".to_owned()));
    assert_own_error(&client.exchange(&ask), 400, "invalid_tag");
    let large = Ask::post("/openai/v1/embeddings", &[b' '; 65]);
    assert_own_error(&proxy.client().exchange(&large), 413, "payload_too_large");
    drop(client);
    assert_eq!(proxy.stop().records.len(), 0);
    upstream.join();
}

// --- what ends an answer waits for the journal ---

/// How often each of these is looked at: a line that is written too late is there most of the time.
const LOOKS: usize = 40;

/// The outcome in the call's closing line, if there is one.
fn closed_as(journal: &str, answer: &Message) -> Option<String> {
    let id = answer.fields.get("x-tokenmeter-id").unwrap();
    assert!(journal.contains(&format!("{{\"open\":{{\"id\":\"{id}\"")), "{journal}");
    let close = format!("{{\"close\":{{\"id\":\"{id}\"");
    let line = journal.lines().find(|line| line.starts_with(&close))?;
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    Some(line["close"]["outcome"].as_str().unwrap().to_owned())
}

#[test]
fn whoever_has_the_last_byte_finds_the_call_closed_in_the_journal() {
    let head_only = |status: &str| {
        let answer = Answer { status: status.to_owned(), ..Answer::ok("text/plain", "") };
        vec![Step::Send(Answer { framing: Framing::ByClose, ..answer }.head())]
    };
    let upstream = Upstream::start();
    let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
    let mut client = proxy.client();
    let mut calls = 0;
    for _ in 0..LOOKS {
        for (script, ask) in [
            (json().whole(), chat()),
            (json().framed(Framing::Chunked).whole(), chat()),
            (json().framed(Framing::ByClose).whole(), chat()),
            (stream(&CHAT).whole(), chat()),
            (stream(&CHAT[..3]).whole(), chat()),
            (head_only("204 No Content"), chat()),
            (vec![Step::Close], chat()),
        ] {
            upstream.expect(script);
            let answer = client.exchange(&ask);
            let outcome = closed_as(&proxy.journal(), &answer);
            let failed = answer.status() == 502;
            let expected = if failed { "upstream_failed" } else { "completed" };
            assert_eq!(outcome.as_deref(), Some(expected), "{}", answer.start);
            calls += 1;
        }
    }
    drop(client);
    assert_eq!(proxy.stop().records.len(), calls);
    upstream.join();
}

#[test]
fn whoever_has_the_last_event_finds_the_call_closed_in_the_journal() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
    for coding in [Coding::Plain, Coding::Gzip, Coding::Zlib, Coding::Brotli, Coding::Zstd] {
        for events in [&CHAT[..], &MESSAGES, &RESPONSES] {
            let seen = Seen::default();
            let mut answer = stream(events);
            // The last piece, empty, holds what ends the encoding: the last event goes before it.
            let mut pieces = bytes_of(events);
            pieces.push(b"");
            let (encoded, begins) = encode(coding, &pieces);
            let ends = begins.iter().skip(1);
            let cut: Vec<&[u8]> = begins.iter().zip(ends).map(|(b, e)| &encoded[*b..*e]).collect();
            if let Some(name) = coding.name() {
                answer.fields.0.push(("Content-Encoding".to_owned(), name.to_owned()));
            }
            upstream.expect(left_open(&answer, &cut, &seen));
            let mut client = proxy.client();
            client.send(&chat());
            let last = *begins.last().unwrap();
            let received = client.receive_until(&seen, |body| body.len() == last).unwrap();
            let outcome = closed_as(&proxy.journal(), &received);
            assert_eq!(outcome.as_deref(), Some("completed"), "{coding:?}");
        }
    }
    assert_eq!(proxy.stop().records.len(), 15);
    upstream.join();
}

#[test]
fn a_call_is_not_closed_before_its_last_byte() {
    let seen = Seen::default();
    for answer in [json(), stream(&CHAT[..3])] {
        let upstream = Upstream::start();
        let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
        seen.set(0);
        let last = answer.body.len() - 1;
        upstream.expect(left_open(&answer, &[&answer.body[..last]], &seen));
        let mut client = proxy.client();
        client.send(&chat());
        let received = client.receive_until(&seen, |body| body.len() == last).unwrap();
        assert_eq!(closed_as(&proxy.journal(), &received), None);
        drop(client);
        assert_ended(&proxy.stop().only(), Outcome::ClientClosed, None, Some(200));
        upstream.join();
    }
}
