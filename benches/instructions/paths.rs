//! The paths that are counted. Owns what stands for a call; each does what the proxy does with one, apart
//! from HTTP, through the same public parts.

use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use tokenmeter::demo::{self, Demo};
use tokenmeter::framing::{Coding, Decoder, Framed, Framer};
use tokenmeter::ledger::{Ledger, Settings};
use tokenmeter::meter::{Meter, Observed};
use tokenmeter::pricing::PriceBook;
use tokenmeter::provider::{RESPONSE, Reader, Reading};
use tokenmeter::record::{CallId, Outcome, Record};
use tokenmeter::units::Timestamp;

/// Calls that go before those that are counted: what is made once is there then.
const WARM_UP: u64 = 200;

const EVENTS: u64 = 200;

/// Longer than a ledger takes under valgrind on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// Something that every call takes, or every event.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// So many are counted, and the whole divided by them.
    pub(crate) units: u64,
    /// The way there is counted too, and taken off.
    pub(crate) has_start: bool,
    walk: fn(u64),
}

pub(crate) const PATHS: [Path; 4] = [
    Path {
        name: "chat_call",
        about: "a small chat call: request observed, answer of 1 KB read, priced, two lines of journal",
        units: 1_000,
        has_start: false,
        walk: chat_calls,
    },
    Path {
        name: "stream_event",
        about: "one event of a stream of 200",
        units: 20 * EVENTS,
        has_start: false,
        walk: stream_events,
    },
    Path {
        name: "journal_call",
        about: "the opening and the closing line of one call, made and appended",
        units: 1_000,
        has_start: false,
        walk: journal_calls,
    },
    Path {
        name: "ledger_row",
        about: "one call from the journal into the database, of a batch of 1,000",
        units: 1_000,
        has_start: true,
        walk: ledger_rows,
    },
];

pub(crate) fn walk(name: &str, units: u64) {
    let path = PATHS.iter().find(|path| path.name == name).expect("one of the paths");
    (path.walk)(units);
    // Threads that are still at work for nobody are not waited for.
    std::process::exit(0);
}

/// What callgrind counts: all that this thread does in here. It is found by its name.
#[inline(never)]
fn counted(work: impl FnOnce()) {
    work();
    // Not the last thing, or else it could become a jump.
    black_box(());
}

// --- a small chat call ---

fn chat_calls(units: u64) {
    let meter = Meter::new(ledger("tokenmeter.db"), PriceBook::builtin());
    let request = Bytes::from(format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"system","content":"{}"}},{{"role":"user","content":"{}"}}],"temperature":0.2,"user":"ann"}}"#,
        "Be brief. ".repeat(20),
        "What is it? ".repeat(40)
    ));
    let answer = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1787000000,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":180,"completion_tokens":190,"total_tokens":370,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}},"service_tier":"default"}}"#,
        "word ".repeat(120)
    );
    let opened = opened();
    let call = || chat_call(&meter, &opened, &request, answer.as_bytes());
    (0..WARM_UP).for_each(|_| call());
    counted(|| (0..units).for_each(|_| call()));
}

fn chat_call(meter: &Meter, opened: &Record, request: &Bytes, answer: &[u8]) {
    let mut observer = meter.observe("chat.completions", "application/json", "");
    observer.push(request);
    let facts = observer.facts();
    let mut record = opened.clone();
    record.id = CallId::new();
    record.created_at = Timestamp::now();
    record.model_requested.clone_from(&facts.model);
    meter.admit(&record).unwrap();
    observer.sent();
    let mut decoder = reader_of("application/json");
    decoder.push(answer).unwrap();
    record.status = Some(200);
    record.outcome = Outcome::Completed;
    record.duration_ms = Some(700);
    record.time_to_first_byte_ms = Some(690);
    let reader = decoder.sink_mut().unwrap();
    reader.ended();
    let generated = reader.take_generated();
    let reading: &Reading = reader.reading();
    assert!(reading.usage_json.is_some());
    let seen = Observed {
        reading,
        generated,
        prompt: observer.take_prompt(),
        is_sent: true,
        model_behind: None,
        background: facts.background,
    };
    meter.close(Box::new(record), seen);
}

fn reader_of(content_type: &str) -> Decoder<Reader> {
    let framer = Framer::for_content_type(Some(content_type), &RESPONSE);
    Decoder::new(Coding::Identity, Framed::new(framer, Reader::new())).unwrap()
}

// --- the events of a stream ---

fn stream_events(units: u64) {
    let events = events();
    stream(&events);
    counted(|| (0..units / EVENTS).for_each(|_| stream(&events)));
}

/// A stream is read as it comes, an event a frame.
fn stream(events: &[String]) {
    let mut decoder = reader_of("text/event-stream");
    for event in events {
        decoder.push(event.as_bytes()).unwrap();
        black_box(decoder.sink().map(Reader::reading).map(|reading| reading.finished));
    }
    let reader = decoder.sink_mut().unwrap();
    reader.ended();
    black_box(reader.take_generated());
    assert!(reader.reading().finished && reader.reading().usage_json.is_some());
}

fn events() -> Vec<String> {
    let event = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1787000000,\
             \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\
             {rest},\"obfuscation\":\"{}\"}}\n\n",
            "p".repeat(12)
        )
    };
    let word = r#""choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null"#;
    let stop =
        r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null"#;
    let usage =
        r#""choices":[],"usage":{"prompt_tokens":180,"completion_tokens":197,"total_tokens":377}"#;
    let mut events = vec![event(word); usize::try_from(EVENTS - 3).unwrap()];
    events.extend([event(stop), event(usage), "data: [DONE]\n\n".to_owned()]);
    events
}

// --- the ledger ---

fn journal_calls(units: u64) {
    let ledger = ledger("tokenmeter.db");
    let (opened, mut closed) = (opened(), opened());
    closed.usage_json =
        serde_json::from_str(r#"{"prompt_tokens":180,"completion_tokens":190,"total_tokens":370}"#)
            .unwrap();
    closed.model = Some("gpt-4o-2024-08-06".to_owned());
    closed.finish_reason = Some("stop".to_owned());
    closed.outcome = Outcome::Completed;
    (closed.status, closed.duration_ms) = (Some(200), Some(700));
    (closed.input_tokens, closed.output_tokens, closed.total_tokens) =
        (Some(180), Some(190), Some(370));
    let mut call = || {
        let mut record = opened.clone();
        record.id = CallId::new();
        closed.id = record.id;
        ledger.opened(&record);
        ledger.closed(&closed);
    };
    (0..WARM_UP).for_each(|_| call());
    counted(|| (0..units).for_each(|_| call()));
}

/// A ledger takes in the journal that it finds when it is opened, on the thread that opens it, and in the
/// way in which its own thread does so later.
fn ledger_rows(units: u64) {
    const KNOWN: usize = 1_000;
    let settings = demo::Settings {
        seed: 20_261_121,
        calls: KNOWN as u64 + units,
        since: "2026-11-21T08:00:00Z".parse().unwrap(),
        until: "2026-11-21T12:00:00Z".parse().unwrap(),
        users: 100,
        zone: TimeZone::UTC,
    };
    let calls: Vec<Record> = Demo::new(&settings, Arc::new(PriceBook::builtin())).collect();
    let (known, new) = calls.split_at(KNOWN);
    record(FilePath::new("known"), known);
    if !new.is_empty() {
        record(FilePath::new("new"), new);
        for file in fs::read_dir("new/journal").unwrap().map(|file| file.unwrap().path()) {
            let lines = fs::read(&file).unwrap();
            let name = FilePath::new("known/journal").join(file.file_name().unwrap());
            let journal = fs::OpenOptions::new().append(true).create(true).open(name);
            journal.unwrap().write_all(&lines).unwrap();
        }
    }
    let mut taken = None;
    counted(|| taken = Some(ledger("known/tokenmeter.db")));
    let taken = taken.unwrap();
    // Or else its own thread does the rest, uncounted.
    assert!(taken.health().is_ok(), "{:?}", taken.health());
    assert!(taken.sync(PATIENCE) && taken.health().rows == units, "{:?}", taken.health());
}

fn record(folder: &FilePath, calls: &[Record]) {
    fs::create_dir(folder).unwrap();
    let ledger = ledger(folder.join("tokenmeter.db"));
    for call in calls {
        ledger.opened(call);
        ledger.closed(call);
    }
    assert!(ledger.sync(PATIENCE));
}

fn ledger(database: impl AsRef<FilePath>) -> Ledger {
    Ledger::open(&Settings::of(database.as_ref())).unwrap()
}

/// A call as it is when it opens.
fn opened() -> Record {
    serde_json::from_str(
        r#"{"id":"01a2035d-475c-746c-890a-ad05033eae34","created_at":"2026-11-22T12:00:00Z",
        "upstream":"openai","provider":"openai","endpoint":"chat.completions","method":"POST",
        "path":"/v1/chat/completions","user":"ann","session":"s-1","operation":"ask",
        "usage_source":"none","cost_source":"none","streaming":false,"outcome":"interrupted"}"#,
    )
    .unwrap()
}
