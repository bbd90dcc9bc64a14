//! Calls whose usage nobody reports, wholly or in part: the row has an estimate, says so, and says
//! what is not in it. What was reported is never touched.

use serde_json::{Value, json};
use tokenmeter::estimate::{Method, Unseen};
use tokenmeter::pricing::CostSource;
use tokenmeter::record::{Outcome, Record};
use tokenmeter::usage::UsageSource;

use crate::support::{Answer, Ask, Framing, Proxy, Rows, Script, Seen, Setup, Step, Upstream};

/// A prompt of 13 tokens by OpenAI's rules: 3 for the reply, 3 around the message, 1 for its role and
/// 6 for `What's the weather in Paris?`.
const PROMPT: u64 = 13;

fn prompt() -> Value {
    json!({"model": "gpt-4o", "stream": true,
        "messages": [{"role": "user", "content": "What's the weather in Paris?"}]})
}

fn chat_events(pieces: &[&str]) -> Vec<String> {
    let event = |choice: Value| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06",
            "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let mut events: Vec<String> = pieces
        .iter()
        .map(|piece| event(json!({"index": 0, "delta": {"content": piece}})))
        .collect();
    events.push(event(json!({"index": 0, "delta": {}, "finish_reason": "stop"})));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn event_stream(events: &[String]) -> Answer {
    Answer::ok("text/event-stream", events.concat()).framed(Framing::Chunked)
}

/// The row of one call to a provider that plays a script.
fn row(path: &str, body: &Value, script: Script) -> Record {
    let (rows, _) = played(path, body, vec![script], None);
    rows.only()
}

/// Plays one call for each script. With `enough`, the client leaves after so many bytes.
fn played(
    path: &str,
    body: &Value,
    scripts: Vec<Script>,
    enough: Option<usize>,
) -> (Rows, Vec<Vec<u8>>) {
    let upstream = Upstream::start();
    let at = upstream.address();
    let proxy = Proxy::start(
        ["openai", "anthropic", "ollama", "gemini"]
            .into_iter()
            .fold(Setup::new(), |setup, name| setup.upstream(name, at)),
    );
    let mut bodies = Vec::new();
    for script in scripts {
        upstream.expect(script);
        let mut client = proxy.client();
        client.send(&Ask::post(path, body.to_string().as_bytes()));
        let enough_of = |body: &[u8]| enough.is_some_and(|enough| body.len() >= enough);
        bodies.push(client.receive_until(&Seen::default(), enough_of).unwrap().body);
    }
    let rows = proxy.stop();
    upstream.join();
    (rows, bodies)
}

#[test]
fn a_stream_without_usage_is_estimated() {
    let events = chat_events(&["The weather", " in Paris is", " sunny."]);
    let record = row("/openai/v1/chat/completions", &prompt(), event_stream(&events).whole());
    assert_eq!(record.usage_source, UsageSource::Estimated);
    assert_eq!(record.input_tokens, Some(PROMPT));
    let output = record.output_tokens.unwrap();
    assert!((7..=8).contains(&output), "{output}");
    assert_eq!(record.total_tokens, Some(PROMPT + output));
    // 2.50 and 10 dollars a million.
    assert_eq!(record.cost_source, CostSource::Priced);
    let cost = record.cost_usd.unwrap().nanos();
    assert_eq!(cost, i64::try_from(PROMPT * 2_500 + output * 10_000).unwrap());
    let note = record.estimate.unwrap();
    assert_eq!(note.input.unwrap().method, Method::Bpe);
    assert_eq!(note.output.unwrap().method, Method::Bpe);
    assert_eq!(note.unseen, []);
    assert_eq!(
        (record.outcome, record.finish_reason.as_deref()),
        (Outcome::Completed, Some("stop"))
    );
    assert_eq!(record.usage_json.map(|raw| raw.to_string()), None);
}

#[test]
fn a_whole_answer_without_usage_is_estimated() {
    let answer = json!({"model": "gpt-4o-2024-08-06", "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "stop"}]});
    let answer = Answer::ok("application/json", answer.to_string());
    let record = row("/openai/v1/chat/completions", &prompt(), answer.whole());
    assert_eq!(record.usage_source, UsageSource::Estimated);
    assert_eq!(record.input_tokens, Some(PROMPT));
    assert!(record.output_tokens.is_some_and(|output| (1..=4).contains(&output)));
}

#[test]
fn embeddings_without_usage_have_an_input_and_no_output() {
    let body =
        json!({"model": "text-embedding-3-small", "input": ["tiktoken is great!", [1, 2, 3]]});
    let answer = Answer::ok(
        "application/json",
        r#"{"object":"list","data":[],"model":"text-embedding-3-small"}"#,
    );
    let record = row("/openai/v1/embeddings", &body, answer.whole());
    assert_eq!(record.usage_source, UsageSource::Estimated);
    assert_eq!(
        (record.input_tokens, record.output_tokens, record.total_tokens),
        (Some(9), None, Some(9))
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_an_estimate_of_what_it_had() {
    let events = chat_events(&["The weather", " in Paris is", " sunny."]);
    let answer = event_stream(&events);
    let sent = events[0].len() + events[1].len();
    let script = vec![
        Step::Send(answer.head()),
        Step::Send(answer.piece(&answer.body[..sent])),
        Step::UntilClosed,
    ];
    let (rows, _) = played("/openai/v1/chat/completions", &prompt(), vec![script], Some(sent));
    let record = rows.only();
    assert_eq!(record.outcome, Outcome::ClientClosed);
    assert_eq!(record.usage_source, UsageSource::Estimated);
    assert_eq!(record.input_tokens, Some(PROMPT));
    assert!(record.output_tokens.is_some_and(|output| (5..=6).contains(&output)), "{record:?}");
    assert_eq!(record.finish_reason, None);
    assert!(record.streaming);
}

#[test]
fn of_a_cut_message_the_input_is_reported_and_the_output_estimated() {
    let events = [
        json!({"type": "message_start", "message": {"model": "claude-sonnet-4-5", "content": [],
            "usage": {"input_tokens": 100, "cache_read_input_tokens": 50, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "The weather in Paris is sunny and warm."}}),
    ];
    let events = events.map(|event| format!("event: e\ndata: {event}\n\n"));
    let body = events.concat();
    let answer = Answer::ok("text/event-stream", &body).framed(Framing::Chunked);
    let head_and_body = vec![Step::Send(answer.head()), Step::Send(answer.piece(&answer.body))];
    let request = json!({"model": "claude-sonnet-4-5", "stream": true, "max_tokens": 9,
        "messages": [{"role": "user", "content": "Weather?"}]});
    // The client leaves; the provider breaks off; the provider says that it cannot go on.
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    let left = [head_and_body.clone(), vec![Step::UntilClosed]].concat();
    let broken = [head_and_body.clone(), vec![Step::Close]].concat();
    let sorry = [
        head_and_body,
        vec![Step::Send(answer.piece(error.as_bytes())), Step::Send(b"0\r\n\r\n".to_vec())],
    ]
    .concat();
    for (script, enough, outcome, error) in [
        (left, Some(body.len()), Outcome::ClientClosed, None),
        (broken, None, Outcome::UpstreamFailed, Some("chunks_truncated")),
        (sorry, None, Outcome::Completed, Some("overloaded_error")),
    ] {
        let record = played("/anthropic/v1/messages", &request, vec![script], enough).0.only();
        assert_eq!(record.outcome, outcome);
        let said = record.error.clone().unwrap_or_default();
        assert!(said.starts_with(error.unwrap_or_default()), "{said}");
        assert_eq!(record.usage_source, UsageSource::Estimated);
        assert_eq!((record.input_tokens, record.cache_read_tokens), (Some(150), Some(50)));
        let output = record.output_tokens.unwrap();
        assert!((8..=14).contains(&output), "{output}");
        assert_eq!(record.total_tokens, Some(150 + output));
        let note = record.estimate.unwrap();
        assert_eq!((note.input, note.output.unwrap().method), (None, Method::Ratio));
        assert!(record.usage_json.is_some(), "what the provider did say is kept");
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_leaves_what_it_asked() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
    upstream.expect(vec![Step::UntilClosed]);
    let mut client = proxy.client();
    client.send(&Ask::post("/openai/v1/chat/completions", prompt().to_string().as_bytes()));
    upstream.request();
    drop(client);
    let rows = proxy.stop();
    upstream.join();
    let record = rows.only();
    assert_eq!((record.outcome, record.status), (Outcome::ClientClosed, None));
    assert_eq!(
        (record.input_tokens, record.output_tokens, record.total_tokens),
        (Some(PROMPT), None, None)
    );
    assert_eq!(record.estimate.unwrap().unseen, [Unseen::Answer]);
}

#[test]
fn an_answer_that_cannot_be_read_or_never_began_is_not_taken_for_an_empty_one() {
    let coded = Answer::ok("application/json", b"\x01\x02\x03");
    let mut coded = Answer { framing: Framing::Length, ..coded };
    coded.fields.0.push(("Content-Encoding".to_owned(), "made-up".to_owned()));
    let left = chat_events(&["Sunny."]);
    let left = event_stream(&left);
    let comment = ": waiting\n\n";
    let waiting = vec![
        Step::Send(left.head()),
        Step::Send(left.piece(comment.as_bytes())),
        Step::UntilClosed,
    ];
    for (script, enough) in [(coded.whole(), None), (waiting, Some(comment.len()))] {
        let (rows, _) = played("/openai/v1/chat/completions", &prompt(), vec![script], enough);
        let record = rows.only();
        assert_eq!((record.input_tokens, record.output_tokens), (Some(PROMPT), None));
        assert_eq!(record.total_tokens, None);
        assert_eq!(record.estimate.unwrap().unseen, [Unseen::Answer]);
    }
}

#[test]
fn a_limit_that_is_none_is_not_taken_for_the_answer() {
    let mut body = prompt();
    body["max_tokens"] = json!(u64::MAX);
    let events = chat_events(&["Sunny."]).concat().replace("\"stop\"", "\"length\"");
    let answer = Answer::ok("text/event-stream", events).framed(Framing::Chunked);
    let record = row("/openai/v1/chat/completions", &body, answer.whole());
    assert_eq!(record.finish_reason.as_deref(), Some("length"));
    assert!(record.output_tokens.unwrap() < 10);
}

/// A batch's results fetched in two parts that are cut within a line: each whole line counts once.
#[test]
fn parts_of_a_batch_s_results_count_from_their_first_whole_line() {
    let line = |n: usize| {
        format!(
            r#"{{"id":"batch_req_{n}","custom_id":"c{n}","response":{{"status_code":200,"body":{{"id":"chatcmpl-{n}","model":"gpt-4o","usage":{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}}}}}}}"#
        ) + "\n"
    };
    let file: String = (0..10).map(line).collect();
    let (first, second) = file.split_at(file.len() / 2 + 20);
    let upstream = Upstream::start();
    let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
    for part in [first, second, file.as_str()] {
        let answer = Answer::ok("application/octet-stream", part);
        let status = if part == file { "200 OK" } else { "206 Partial Content" };
        upstream.expect(Answer { status: status.to_owned(), ..answer }.whole());
        proxy.client().exchange(&Ask::get("/openai/v1/files/file-1/content"));
    }
    let rows = proxy.stop();
    upstream.join();
    let totals: Vec<u64> = rows.records.iter().map(|row| row.total_tokens.unwrap()).collect();
    assert_eq!(totals.iter().sum::<u64>(), 150, "{totals:?}");
    assert_eq!(totals[2], 15, "the line that was cut");
    assert!(rows.records.iter().all(|row| !row.streaming));
}

#[test]
fn reasoning_that_is_not_shown_is_said_to_be_missing() {
    let mut body = prompt();
    body["model"] = json!("o4-mini");
    let events: Vec<String> = chat_events(&["Sunny."])
        .into_iter()
        .map(|event| event.replace("gpt-4o-2024-08-06", "o4-mini-2025-04-16"))
        .collect();
    let record = row("/openai/v1/chat/completions", &body, event_stream(&events).whole());
    assert_eq!(record.estimate.unwrap().unseen, [Unseen::Reasoning]);
    assert_eq!(record.reasoning_tokens, None);
}

#[test]
fn nothing_is_estimated_where_nothing_was_used_or_the_figures_come_later() {
    let refused = r#"{"error":{"message":"No.","code":"bad_request"}}"#;
    let failed = r#"{"error":{"message":"No.","code":502}}"#;
    let queued = r#"{"id":"resp_1","object":"response","status":"queued","model":"gpt-5","output":[],"usage":null}"#;
    let models = r#"{"object":"list","data":[]}"#;
    let bad =
        Answer { status: "400 Bad Request".to_owned(), ..Answer::ok("application/json", refused) };
    for (path, answer) in [
        ("/openai/v1/chat/completions", bad),
        ("/openai/v1/chat/completions", Answer::ok("application/json", failed)),
        ("/openai/v1/responses", Answer::ok("application/json", queued)),
        ("/openai/v1/moderations", Answer::ok("application/json", models)),
        ("/openai/v1/something/new", Answer::ok("application/json", models)),
    ] {
        let record = row(path, &prompt(), answer.whole());
        assert_eq!((record.usage_source, record.estimate), (UsageSource::None, None), "{path}");
        assert_eq!((record.input_tokens, record.output_tokens), (None, None), "{path}");
    }
}

#[test]
fn what_is_reported_stands_as_it_is() {
    let answer = json!({"model": "gpt-4o", "choices": [{"message": {"content": "Sunny."}}],
        "usage": {"prompt_tokens": 999, "completion_tokens": 1, "total_tokens": 1000}});
    let answer = Answer::ok("application/json", answer.to_string());
    let record = row("/openai/v1/chat/completions", &prompt(), answer.whole());
    assert_eq!(record.usage_source, UsageSource::Reported);
    assert_eq!((record.input_tokens, record.output_tokens), (Some(999), Some(1)));
    assert_eq!(record.estimate, None);
}

#[test]
fn a_response_that_was_cut_off_and_is_fetched_later_is_charged_once_and_exactly() {
    let response = json!({"id": "resp_1", "object": "response", "status": "completed",
        "model": "gpt-4o-2024-08-06", "output": [],
        "usage": {"input_tokens": 13, "output_tokens": 400, "total_tokens": 413}});
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "object": "response",
            "status": "in_progress", "model": "gpt-4o-2024-08-06", "output": [], "usage": null}}),
        json!({"type": "response.output_text.delta", "delta": "The weather in Paris is sunny."}),
    ];
    let events = events.map(|event| format!("data: {event}\n\n")).concat();
    let stream = Answer::ok("text/event-stream", &events).framed(Framing::Chunked);
    for background in [true, false] {
        let upstream = Upstream::start();
        let proxy = Proxy::start(Setup::new().upstream("openai", upstream.address()));
        upstream.expect(vec![
            Step::Send(stream.head()),
            Step::Send(stream.piece(&stream.body)),
            Step::UntilClosed,
        ]);
        let request = json!({"model": "gpt-4o", "stream": true, "background": background,
            "input": "What's the weather in Paris?"});
        let mut client = proxy.client();
        client.send(&Ask::post("/openai/v1/responses", request.to_string().as_bytes()));
        client.receive_until(&Seen::default(), |body| body.len() >= events.len());
        drop(client);
        for _ in 0..2 {
            upstream.expect(Answer::ok("application/json", response.to_string()).whole());
            proxy.client().exchange(&Ask::get("/openai/v1/responses/resp_1"));
        }
        let rows = proxy.stop();
        upstream.join();
        let [post, get, again] = <[Record; 3]>::try_from(rows.records).unwrap();
        assert_eq!((post.outcome, post.usage_source), (Outcome::ClientClosed, UsageSource::None));
        assert_eq!((post.total_tokens, post.cost_usd, &post.estimate), (None, None, &None));
        assert_eq!(post.charged_by, (!background).then_some(get.id), "{background}");
        assert_eq!((get.usage_source, get.total_tokens), (UsageSource::Reported, Some(413)));
        assert_eq!(get.cost_usd.unwrap().nanos(), 13 * 2_500 + 400 * 10_000);
        assert_eq!((again.total_tokens, again.charged_by), (None, Some(get.id)));
    }
}

#[test]
fn calls_are_estimated_one_by_one_in_any_number() {
    let script = event_stream(&chat_events(&["Sunny."])).whole();
    let (rows, bodies) = played("/openai/v1/chat/completions", &prompt(), vec![script; 50], None);
    assert_eq!((rows.records.len(), bodies.len()), (50, 50));
    for record in &rows.records {
        assert_eq!(record.input_tokens, Some(PROMPT));
        assert_eq!(record.estimate.as_ref().unwrap().input.as_ref().unwrap().method, Method::Bpe);
    }
}

#[test]
fn what_reported_usage_teaches_corrects_later_estimates_also_after_a_restart() {
    // A server that puts 500 tokens of its own before every prompt.
    let upstream = Upstream::start();
    let setup = Setup::new().section(&format!(
        "[upstreams.house]\nbase_url = \"http://{}\"\nprovider = \"house\"",
        upstream.address()
    ));
    let ask = |words: usize| {
        let body = json!({"model": "house-1", "messages": [
            {"role": "user", "content": "word ".repeat(words)}]});
        Ask::post("/house/v1/chat/completions", body.to_string().as_bytes())
    };
    let answer = |usage: &str| {
        let body = format!(
            r#"{{"model":"house-1","choices":[{{"index":0,"message":{{"content":"Yes."}}}}]{usage}}}"#
        );
        Answer::ok("application/json", body).whole()
    };
    let proxy = Proxy::start(setup.clone());
    for words in [10, 300, 50, 1000, 20, 700] {
        let input = words + 508;
        upstream.expect(answer(&format!(
            r#","usage":{{"prompt_tokens":{input},"completion_tokens":2,"total_tokens":{}}}"#,
            input + 2
        )));
        proxy.client().exchange(&ask(words));
    }
    let proxy = proxy.restart(setup);
    upstream.expect(answer(""));
    proxy.client().exchange(&ask(100));
    let rows = proxy.stop();
    upstream.join();
    let record = rows.records.last().unwrap();
    assert_eq!(record.usage_source, UsageSource::Estimated);
    let input = record.input_tokens.unwrap();
    assert!((580..=640).contains(&input), "{input} of 608");
}
