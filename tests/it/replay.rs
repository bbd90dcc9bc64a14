//! Every recorded exchange goes through the real proxy over TCP: the provider gets the bytes that the
//! client sent, the client gets the bytes that the provider sent, however they were cut and encoded,
//! and one row says what the known answer says.
//!
//! With `TOKENMETER_RECORDINGS` unset, the part of the corpus in `tests/recordings` is replayed and
//! the number of exchanges is asserted; see `docs/TESTING.md` for the whole of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::thread;

use tokenmeter::pricing::CostSource;
use tokenmeter::record::{Outcome, Record};
use tokenmeter::units::Usd;
use tokenmeter::usage::UsageSource;

use crate::corpus::{Recording, is_whole_corpus, recordings};
use crate::reprice::Law;
use crate::support::{
    Answer, Ask, Client, Coding, Ending, Fields, Framing, Message, Pace, Proxy, Random, Seen,
    Setup, Upload, Upstream, encode,
};

/// What `tests/recordings` holds, and how many exchanges become of it.
const COMMITTED: (usize, usize) = (409, 6250);

/// Proxies that share the work, each with a client and a provider of its own.
const LANES: usize = 2;

/// Where the ledger's name for an endpoint is not the corpus's: provider, the corpus's, the ledger's.
const OTHER_NAMES: [(&str, &str, &str); 7] = [
    // By the path alone, as the ledger knows endpoints, these are files and members of a collection.
    ("anthropic", "batch.output", "batches"),
    ("anthropic", "batch.output", "files"),
    ("openai", "responses.retrieve", "responses.compact"),
    ("openai", "responses.retrieve", "responses.inputTokens"),
    // One name for everybody's.
    ("cohere", "cohere.rerank.v1", "rerank"),
    ("cohere", "cohere.rerank.v2", "rerank"),
    // /v1/prompts/{id}/completions
    ("portkey", "chat.completions", "completions"),
];

/// Fields that belong to one connection or to tokenmeter.
const NOT_FORWARDED: [&str; 8] = [
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "x-user",
    "x-session",
    "x-operation",
    "x-tag-run",
];

/// How a body is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Not at all: head and body are one write.
    Whole,
    /// Where the network cut it when it was recorded; the encoder is flushed at each cut.
    Recorded,
    /// Anywhere, up to eight times.
    Random,
    /// Byte by byte, as [`Limits`] say.
    Bytes,
}

/// How far byte by byte goes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// So many bytes at the beginning and at the end wait each for the one before to have reached the
    /// client.
    stepped: usize,
    /// So many of the others are a write each; what is left then is one piece.
    written: usize,
}

const LIMITS: Limits = Limits { stepped: 24, written: 512 };
const LIMITS_OF_THE_WHOLE: Limits = Limits { stepped: 128, written: usize::MAX / 2 };

/// One way of sending a recording.
#[derive(Clone, Copy, Debug)]
struct Run {
    cut: Cut,
    coding: Coding,
    framing: Framing,
    upload: Upload,
}

/// An exchange that has taken place, and whose row is to be looked at.
struct Replayed {
    /// `x-tokenmeter-id`.
    id: String,
    session: String,
    run: Run,
    recording: Arc<Recording>,
}

/// What a lane found.
struct Findings {
    law: Law,
    recordings: usize,
    exchanges: usize,
    connections: usize,
    counts: BTreeMap<(String, String), Count>,
    problems: Vec<String>,
}

impl Default for Findings {
    fn default() -> Findings {
        Findings {
            law: Law::new(),
            recordings: 0,
            exchanges: 0,
            connections: 0,
            counts: BTreeMap::new(),
            problems: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Count {
    recordings: usize,
    exchanges: usize,
    wrong: usize,
}

#[test]
fn every_recorded_exchange_passes_untouched_and_leaves_its_row() {
    let providers: BTreeSet<String> = replayable().map(|recording| recording.provider).collect();
    let recordings = Arc::new(Mutex::new(replayable()));
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (recordings, providers) = (Arc::clone(&recordings), providers.clone());
            thread::spawn(move || {
                let next = || recordings.lock().unwrap().next();
                Lane::start(lane, &providers).replay(next)
            })
        })
        .collect();
    let mut all = Findings::default();
    for lane in lanes {
        all.add(lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    }
    println!("{}\n{}", all.table(), all.law);
    for problems in all.problems.chunk_by(|a, b| a.split(' ').next() == b.split(' ').next()) {
        println!("{} times: {}", problems.len(), problems[0]);
    }
    assert_eq!(all.problems.len(), 0, "of {} exchanges", all.exchanges);
    assert!(all.exchanges > 0);
    if !is_whole_corpus() {
        assert_eq!((all.recordings, all.exchanges), COMMITTED);
        assert!(all.law.counts().1 > 4000 && all.law.beyond_columns() > 0, "{}", all.law);
    }
}

/// All but the WebSocket sessions.
fn replayable() -> impl Iterator<Item = Recording> + Send {
    recordings().filter(|recording| recording.api != "realtime")
}

/// A client, a proxy and a provider, and what has been sent through them.
struct Lane {
    name: usize,
    client: Client,
    proxy: Proxy,
    upstream: Upstream,
    limits: Limits,
    replayed: Vec<Replayed>,
    found: Findings,
    closed_by_length: usize,
}

impl Lane {
    fn start(name: usize, providers: &BTreeSet<String>) -> Lane {
        let upstream = Upstream::start();
        let at = upstream.address();
        let setup = providers.iter().fold(Setup::new(), |setup, name| setup.upstream(name, at));
        let proxy = Proxy::start(setup);
        Lane {
            name,
            client: proxy.client(),
            proxy,
            upstream,
            limits: if is_whole_corpus() { LIMITS_OF_THE_WHOLE } else { LIMITS },
            replayed: Vec::new(),
            found: Findings::default(),
            closed_by_length: 0,
        }
    }

    fn replay(mut self, next: impl Fn() -> Option<Recording>) -> Findings {
        let mut providers = BTreeSet::new();
        while let Some(recording) = next() {
            providers.insert(recording.provider.clone());
            self.recording(recording);
        }
        // An upstream connection is used again unless the provider closed it, and each provider has
        // one.
        let most = providers.len() + self.closed_by_length;
        self.found.connections = self.upstream.connections();
        if self.found.connections > most {
            let problem = format!("{} connections, {most} needed", self.found.connections);
            self.found.problems.push(problem);
        }
        drop(self.client);
        let rows = self.proxy.stop();
        self.upstream.join();
        let mut by_id: HashMap<String, Record> = HashMap::new();
        for record in rows.records {
            if let Some(twice) = by_id.insert(record.id.to_string(), record) {
                self.found.problems.push(format!("two rows for {}", twice.id));
            }
        }
        for replayed in &self.replayed {
            let wrong = match by_id.remove(&replayed.id) {
                None => vec!["no row".to_owned()],
                Some(record) => {
                    let mut wrong = differences(&record, replayed);
                    wrong.extend(self.found.law.check(&record));
                    wrong
                }
            };
            self.found.note(&replayed.recording, replayed.run, &wrong);
        }
        for id in by_id.keys() {
            self.found.problems.push(format!("a row that nobody asked for: {id}"));
        }
        self.found
    }

    fn recording(&mut self, mut recording: Recording) {
        let body = recording.response.body();
        let request = recording.request.body();
        // The rows are compared at the end: bodies need not be kept until then.
        recording.response.body_b64 = None;
        recording.request.body_b64 = None;
        let recording = Arc::new(recording);
        let mut random = Random::seeded(&recording.id);
        let count = self.found.count(&recording);
        count.recordings += 1;
        self.found.recordings += 1;
        for (cut, coding) in runs(&recording, &mut random) {
            let framing = match random.below(5) {
                0 | 1 => Framing::Length,
                2 | 3 => Framing::Chunked,
                _ => Framing::ByClose,
            };
            let upload = match random.below(2) {
                _ if request.is_empty() && recording.request.method != "POST" => Upload::None,
                0 => Upload::Length,
                _ => Upload::Chunked(1 + random.below(9000)),
            };
            let run = Run { cut, coding, framing, upload };
            self.run(&recording, &request, &body, run, &mut random);
        }
    }

    fn run(
        &mut self,
        recording: &Arc<Recording>,
        request: &[u8],
        body: &[u8],
        run: Run,
        random: &mut Random,
    ) {
        let session = format!("{}-{}", self.name, self.replayed.len());
        let ask = ask(recording, request, run.upload, &session, random);
        let pieces = pieces(recording, body, run.cut, random);
        let (encoded, begins) = encode(run.coding, &pieces);
        let answer = answer(recording, encoded, run, random);
        let seen = Seen::default();
        self.upstream.expect(match run.cut {
            Cut::Whole => answer.whole(),
            Cut::Recorded => answer.cut(begins.into_iter().map(|at| (at, Pace::Step)), &seen),
            Cut::Random => {
                let mut cuts: Vec<usize> = (0..=random.below(8))
                    .map(|_| random.below(answer.body.len().max(1)))
                    .chain([0])
                    .collect();
                cuts.sort_unstable();
                answer.cut(cuts.into_iter().map(|at| (at, Pace::Step)), &seen)
            }
            Cut::Bytes => answer.cut(self.limits.bytes(answer.body.len()), &seen),
        });
        if run.framing == Framing::ByClose {
            self.closed_by_length += 1;
        }
        self.client.send(&ask);
        let received = self.client.receive_seen(&seen).expect("an answer");
        let arrived = self.upstream.request();
        let mut wrong = changed_upwards(&ask, &arrived, recording, &self.upstream);
        wrong.extend(changed_downwards(&answer, &received));
        let id = received.fields.get("x-tokenmeter-id").unwrap_or_default().to_owned();
        self.found.note(recording, run, &wrong);
        let count = self.found.count(recording);
        count.exchanges += 1;
        self.found.exchanges += 1;
        let recording = Arc::clone(recording);
        self.replayed.push(Replayed { id, session, run, recording });
    }
}

impl Limits {
    /// Where each piece of a body begins that is cut byte by byte.
    fn bytes(self, length: usize) -> impl Iterator<Item = (usize, Pace)> {
        let tail = length.saturating_sub(self.stepped);
        let one_piece = (self.stepped + self.written).min(tail)..tail;
        (0..length.max(1)).filter_map(move |at| {
            if at < self.stepped || at >= tail {
                Some((at, Pace::Step))
            } else {
                (at <= one_piece.start).then_some((at, Pace::Free))
            }
        })
    }
}

/// The ways in which a recording is sent: every cut in every encoding.
fn runs(recording: &Recording, random: &mut Random) -> Vec<(Cut, Coding)> {
    let deflate = if random.below(2) == 0 { Coding::Zlib } else { Coding::RawDeflate };
    let codings = [Coding::Plain, Coding::Gzip, deflate, Coding::Brotli, Coding::Zstd];
    let recorded = (!recording.about.chunk_sizes.is_empty()).then_some(Cut::Recorded);
    let cuts = [Cut::Whole, Cut::Random, Cut::Bytes].into_iter().chain(recorded);
    cuts.flat_map(|cut| codings.map(|coding| (cut, coding))).collect()
}

/// The pieces after which the encoder is flushed.
fn pieces<'a>(
    recording: &Recording,
    body: &'a [u8],
    cut: Cut,
    random: &mut Random,
) -> Vec<&'a [u8]> {
    if cut != Cut::Recorded {
        // Now and then in the middle, as a server may.
        let at = if random.below(2) == 0 { 0 } else { random.below(body.len() + 1) };
        return vec![&body[..at], &body[at..]];
    }
    let (mut rest, mut pieces) = (body, Vec::new());
    for size in &recording.about.chunk_sizes {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// The request as the client sends it, with fields that must travel and fields that must not.
fn ask(
    recording: &Recording,
    body: &[u8],
    upload: Upload,
    session: &str,
    random: &mut Random,
) -> Ask {
    let mut fields = vec![("host".to_owned(), "tokenmeter.test".to_owned())];
    let recorded = recording.request.headers.iter();
    fields.extend(recorded.map(|(name, value)| (respelt(name, random), value.clone())));
    for (name, value) in [
        ("authorization", "Bearer not-a-key"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("x-repeated", "one"),
        ("x-repeated", "two"),
        ("user-agent", "replay/1.0"),
        ("connection", "keep-alive"),
        ("x-user", "replay"),
        ("x-session", session),
        ("x-tag-run", "1"),
    ] {
        fields.push((respelt(name, random), value.to_owned()));
    }
    Ask {
        method: recording.request.method.clone(),
        target: format!("/{}{}", recording.provider, target(recording)),
        fields: Fields(fields),
        body: body.to_owned(),
        upload,
    }
}

/// The answer as the provider sends it.
fn answer(recording: &Recording, body: Vec<u8>, run: Run, random: &mut Random) -> Answer {
    let recorded = recording.response.headers.iter();
    let mut fields: Vec<(String, String)> =
        recorded.map(|(name, value)| (respelt(name, random), value.clone())).collect();
    for (name, value) in [
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("set-cookie", "a=1; Path=/"),
        ("set-cookie", "b=2; Path=/"),
        ("x-empty", ""),
    ] {
        fields.push((respelt(name, random), value.to_owned()));
    }
    if let Some(coding) = run.coding.name() {
        fields.push((respelt("content-encoding", random), coding.to_owned()));
    }
    let reasons = ["OK", "Not What You Expected", "Error"];
    let status = format!("{} {}", recording.response.status, reasons[random.below(reasons.len())]);
    Answer { status, fields: Fields(fields), body, framing: run.framing }
}

/// A field's name in one of the spellings that are seen.
fn respelt(name: &str, random: &mut Random) -> String {
    match random.below(3) {
        0 => name.to_owned(),
        1 => name.to_ascii_uppercase(),
        _ => {
            let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
            name.split('-').map(capital).collect::<Vec<_>>().join("-")
        }
    }
}

/// Path and query of the recorded URL.
fn target(recording: &Recording) -> &str {
    let url = &recording.request.url;
    let authority = url.find("://").map_or(0, |at| at + 3);
    url[authority..].find('/').map_or("/", |at| &url[authority + at..])
}

fn changed_upwards(
    ask: &Ask,
    arrived: &Message,
    recording: &Recording,
    upstream: &Upstream,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let start = format!("{} {} HTTP/1.1", ask.method, target(recording));
    if arrived.start != start {
        wrong.push(format!("request line: {:?} arrived as {:?}", start, arrived.start));
    }
    let hosts: Vec<&str> = arrived
        .fields
        .0
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.as_str())
        .collect();
    if hosts != [upstream.address().to_string()] {
        wrong.push(format!("Host: {hosts:?}"));
    }
    let sent = ask.sent_fields().without(&NOT_FORWARDED).sorted();
    let got = arrived.fields.without(&["host", "transfer-encoding"]).sorted();
    if sent != got {
        wrong.push(format!("request fields: {sent:?} arrived as {got:?}"));
    }
    let chunked = arrived.fields.get("transfer-encoding");
    if chunked.is_some() != matches!(ask.upload, Upload::Chunked(_)) {
        wrong.push(format!("request framing: {:?} arrived as {chunked:?}", ask.upload));
    }
    if arrived.body != ask.body || arrived.ending != Ending::Whole {
        wrong.push("request body changed".to_owned());
    }
    wrong
}

fn changed_downwards(answer: &Answer, received: &Message) -> Vec<String> {
    let mut wrong = Vec::new();
    let start = format!("HTTP/1.1 {}", answer.status);
    if received.start != start {
        wrong.push(format!("status line: {:?} arrived as {:?}", start, received.start));
    }
    let sent = answer.sent_fields().without(&["transfer-encoding"]).sorted();
    let got = received.fields.without(&["transfer-encoding", "x-tokenmeter-id"]).sorted();
    if sent != got {
        wrong.push(format!("response fields: {sent:?} arrived as {got:?}"));
    }
    // What a close delimits upstream is chunked to a client, whose connection goes on.
    let chunked = received.fields.get("transfer-encoding").is_some();
    if chunked != (answer.framing != Framing::Length) {
        wrong.push(format!("response framing: {:?}, chunked: {chunked}", answer.framing));
    }
    if received.body != answer.body || received.ending != Ending::Whole {
        let at = received.body.iter().zip(&answer.body).position(|(a, b)| a != b);
        let (sent, got) = (answer.body.len(), received.body.len());
        wrong.push(format!("response body: {sent} bytes sent, {got} received, from {at:?}"));
    }
    wrong
}

/// What is wrong with a row.
fn differences(record: &Record, replayed: &Replayed) -> Vec<String> {
    let recording = &replayed.recording;
    let mut check = Check(Vec::new());
    check.equal("session", &Some(replayed.session.as_str()), &record.session.as_deref());
    check.equal("user", &Some("replay"), &record.user.as_deref());
    check.equal("outcome", &Outcome::Completed, &record.outcome);
    check.equal("status", &Some(recording.response.status), &record.status);
    check.equal("upstream", &recording.provider, &record.upstream);
    check.equal("provider", &recording.provider, &record.provider);
    check.equal("method", &recording.request.method, &record.method);
    let path = target(recording).split('?').next().unwrap_or_default();
    check.equal("path", &format!("/{}{path}", recording.provider), &record.path);
    let named = (recording.provider.as_str(), recording.api.as_str(), record.endpoint.as_str());
    if !OTHER_NAMES.contains(&named) {
        check.equal("endpoint", &recording.api, &record.endpoint);
    }
    check.equal("streaming", &recording.streaming, &record.streaming);
    let request_id = recording.response.header("x-request-id");
    if request_id.is_some() {
        check.equal("upstream_request_id", &request_id, &record.upstream_request_id.as_deref());
    }
    // The known answers leave out the error of Cohere's last event.
    let failed = recording.expected.finish_reason().as_deref() == Some("ERROR");
    if recording.expected.error.is_none() && !failed && recording.response.status < 400 {
        check.equal("error", &None, &record.error);
    }
    usage(&mut check, recording, record);
    words(&mut check, recording, record);
    check.0
}

fn usage(check: &mut Check, recording: &Recording, record: &Record) {
    let expected = &recording.expected;
    let header = |name: &str| {
        let name = format!("x-amzn-bedrock-{name}-token-count");
        recording.response.header(&name).map(|count| count.parse::<u64>().unwrap())
    };
    // Known answers are about bodies; where those say nothing, Bedrock's headers may.
    if !expected.usage_present && header("input").is_some() {
        check.equal("usage_source", &UsageSource::Reported, &record.usage_source);
        let cached = [header("cache-read-input"), header("cache-write-input")];
        let input = cached.iter().flatten().fold(header("input").unwrap(), |sum, part| sum + part);
        check.equal("input_tokens", &Some(input), &record.input_tokens);
        check.equal("output_tokens", &header("output"), &record.output_tokens);
        return;
    }
    if !expected.usage_present && record.usage_source == UsageSource::Estimated {
        // How close estimates are is for the benchmark to say.
        check.equal("is a success", &true, &(200..300).contains(&recording.response.status));
        check.equal("says how", &true, &record.estimate.is_some());
        return;
    }
    // Fetched before, in another way of sending it: that row has the figures.
    if record.charged_by.is_some() {
        check.equal("is fetched", &true, &(record.method == "GET"));
        check.equal("usage_source", &UsageSource::None, &record.usage_source);
        return;
    }
    let source = if expected.usage_present { UsageSource::Reported } else { UsageSource::None };
    check.equal("usage_source", &source, &record.usage_source);
    let known = &expected.normalized;
    for (name, known, got) in [
        ("input_tokens", known.input, record.input_tokens),
        ("output_tokens", known.output, record.output_tokens),
        ("reasoning_tokens", known.reasoning, record.reasoning_tokens),
        ("cache_read_tokens", known.cache_read, record.cache_read_tokens),
        ("cache_write_tokens", known.cache_write, record.cache_write_tokens),
        ("audio_input_tokens", known.audio_input, record.audio_input_tokens),
        ("audio_output_tokens", known.audio_output, record.audio_output_tokens),
        ("total_tokens", known.total, record.total_tokens),
    ] {
        check.equal(name, &known.map(|count| count.0), &got);
    }
}

/// Model, finish reason and the provider's own cost.
fn words(check: &mut Check, recording: &Recording, record: &Record) {
    let expected = &recording.expected;
    // The known answers leave out the cost that OpenRouter states in the Messages dialect. Grok on Azure
    // states 0, which the price table does not trust: the call is priced, or is not, like any other.
    let left_out = recording.provider == "openrouter" && recording.api == "messages";
    if recording.provider == "azure" {
        assert!(cost_is_zero(recording));
        let counts = record.cost_source == CostSource::Provider;
        check.equal("the provider's cost counts", &false, &counts);
    } else if !left_out {
        let cost = expected.reported_cost.as_ref();
        let cost = cost.map(|cost| cost.as_str().parse::<Usd>().unwrap().rounded());
        let stated = record.cost_usd.filter(|_| record.cost_source == CostSource::Provider);
        check.equal("cost_usd of the provider", &cost, &stated);
    }
    // For Bedrock's invoke streams they hold what the metrics say, not what the model's own events say
    // beside them: model and finish reason.
    if recording.api == "bedrock.invoke" && recording.streaming && expected.finish_reason.is_none()
    {
        return;
    }
    let model = expected.model.as_deref().filter(|model| !model.is_empty());
    check.equal("model", &model, &record.model.as_deref());
    check.equal("finish_reason", &expected.finish_reason(), &record.finish_reason);
}

fn cost_is_zero(recording: &Recording) -> bool {
    let cost = recording.expected.reported_cost.as_ref();
    cost.is_none_or(|cost| cost.as_str().parse::<Usd>().unwrap() == Usd::from_nanos(0))
}

/// Collects what is not equal.
struct Check(Vec<String>);

impl Check {
    fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(
        &mut self,
        what: &str,
        expected: &T,
        got: &T,
    ) {
        if expected != got {
            self.0.push(format!("{what}: expected {expected:?}, the row has {got:?}"));
        }
    }
}

impl Findings {
    fn count(&mut self, recording: &Recording) -> &mut Count {
        let key = (recording.provider.clone(), recording.api.clone());
        self.counts.entry(key).or_default()
    }

    fn note(&mut self, recording: &Recording, run: Run, wrong: &[String]) {
        if wrong.is_empty() {
            return;
        }
        self.count(recording).wrong += 1;
        let Recording { id, provider, api, .. } = recording;
        self.problems.push(format!("{id} {provider} {api} {run:?}: {}", wrong.join("; ")));
    }

    fn add(&mut self, other: Findings) {
        self.recordings += other.recordings;
        self.exchanges += other.exchanges;
        self.connections += other.connections;
        self.problems.extend(other.problems);
        self.law.add(&other.law);
        for (key, count) in other.counts {
            let sum = self.counts.entry(key).or_default();
            sum.recordings += count.recordings;
            sum.exchanges += count.exchanges;
            sum.wrong += count.wrong;
        }
    }

    fn table(&self) -> String {
        let mut table = String::from(
            "| provider | endpoint | recordings | exchanges | with a difference |\n\
             | --- | --- | ---: | ---: | ---: |\n",
        );
        for ((provider, api), Count { recordings, exchanges, wrong }) in &self.counts {
            let line = format!("| {provider} | {api} | {recordings} | {exchanges} | {wrong} |");
            writeln!(table, "{line}").unwrap();
        }
        let Findings { recordings, exchanges, connections, problems, .. } = self;
        let wrong = problems.len();
        write!(
            table,
            "| all | | {recordings} | {exchanges} | {wrong} |\n\n\
             {connections} connections to providers"
        )
        .unwrap();
        table
    }
}
