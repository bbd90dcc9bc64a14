//! Recorded WebSocket sessions, played through the real proxy message by message: what passes is
//! untouched, and each response leaves its row.

use serde_json::Value;
use tokenmeter::estimate::{self, Subject};
use tokenmeter::framing::Scanner;
use tokenmeter::provider::realtime::{Change, FROM_CLIENT, FROM_PROVIDER, Session};
use tungstenite::protocol::frame::coding::Data;

use super::corpus::{Count, Recording, is_whole_corpus, recordings};
use super::reprice::{Law, record};
use super::rig::{Conn, Provider, Proxy, Settings, field};
use super::support::{Random, Speaker};

/// Sessions in `tests/recordings`.
const COMMITTED: usize = 23;

const PROVIDERS: [&str; 4] = ["azure", "google", "openai", "xai"];

/// How messages are written.
struct Way {
    /// What the 101 agrees to.
    extensions: &'static str,
    /// The client's way and the provider's.
    speakers: fn() -> (Speaker, Speaker),
}

const WAYS: [Way; 4] = [
    Way { extensions: "", speakers: || (Speaker::client(), Speaker::server()) },
    Way {
        extensions: "",
        speakers: || (Speaker::client().in_parts(), Speaker::server().in_parts()),
    },
    Way {
        extensions: "permessage-deflate",
        speakers: || {
            (Speaker::client().compressed(false), Speaker::server().compressed(false).in_parts())
        },
    },
    Way {
        extensions: "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        speakers: || {
            (Speaker::client().compressed(true).in_parts(), Speaker::server().compressed(true))
        },
    },
];

/// A message of a session.
struct Message {
    is_sent: bool,
    json: String,
    value: Value,
}

impl Message {
    fn is(&self, kind: &str) -> bool {
        self.value["type"] == kind
    }

    /// With this the provider ends a response.
    fn ends_response(&self) -> bool {
        !self.is_sent
            && (self.is("response.done") || self.value["serverContent"]["turnComplete"] == true)
    }

    fn is_transcription(&self) -> bool {
        self.is("conversation.item.input_audio_transcription.completed")
            && self.value["usage"].is_object()
    }
}

fn messages(recording: &Recording) -> Vec<Message> {
    let body = String::from_utf8(recording.response.body()).unwrap();
    let message = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let value = line["data"].clone();
        Message { is_sent: line["direction"] == "sent", json: value.to_string(), value }
    };
    body.lines().map(message).collect()
}

#[test]
fn every_recorded_session_passes_untouched_and_leaves_a_row_a_response() {
    let provider = Provider::new();
    let settings = PROVIDERS.iter().fold(Settings::to(provider.url()), |settings, name| {
        settings.upstream(name, provider.url(), "")
    });
    let proxy = settings.start();
    let mut count = 0;
    let mut law = Law::new();
    for recording in recordings().filter(|recording| recording.api == "realtime") {
        let messages = messages(&recording);
        for (way, Way { extensions, speakers }) in WAYS.iter().enumerate() {
            let session = format!("{}-{way}", recording.id);
            let mut played = Played::open(&proxy, &provider, &recording, &session, extensions);
            let mut random = Random::seeded(&session);
            let (mut client, mut server) = speakers();
            // Gemini's messages are binary.
            let kind = if recording.provider == "google" { Data::Binary } else { Data::Text };
            let mut ended = 0;
            for message in &messages {
                let (speaker, from, to) = if message.is_sent {
                    (&mut client, &mut played.client, &mut played.upstream)
                } else {
                    (&mut server, &mut played.upstream, &mut played.client)
                };
                let bytes = speaker.message(kind, &message.json, &mut random);
                pass(from, to, &bytes, &mut random);
                ended += usize::from(message.ends_response());
                if message.ends_response() {
                    // Whoever has a response's last event finds its row.
                    assert_eq!(rows_of(&proxy, &session, "realtime").len(), ended, "{session}");
                }
            }
            played.close(&client, &server);
            let rows = rows_of(&proxy, &session, "realtime");
            check(&recording, &messages, &rows, &played.id);
            for row in rows.iter().chain(&rows_of(&proxy, &session, "audio.transcriptions")) {
                assert_eq!(law.check(&record(row)), None, "{session}");
            }
            let heard = messages.iter().filter(|message| message.is_transcription()).count();
            check_transcriptions(&rows_of(&proxy, &session, "audio.transcriptions"), heard);
        }
        count += 1;
    }
    println!("{count} sessions, each in {} ways\n{law}", WAYS.len());
    assert!(law.beyond_columns() > 0 && law.counts().2.is_empty(), "{law}");
    assert!(if is_whole_corpus() { count > 0 } else { count == COMMITTED }, "{count} sessions");
}

/// Should the last message of a response not come, this is what its row would say.
#[test]
fn what_is_written_in_a_recorded_session_is_estimated_to_the_token() {
    let (mut written, mut spoken) = (0, 0);
    for recording in recordings().filter(|recording| recording.api == "realtime") {
        let mut session = Session::new();
        for message in messages(&recording) {
            let json = message.json.as_bytes();
            if message.is_sent {
                Scanner::new(&FROM_CLIENT).push(json, &mut session.client());
            } else {
                Scanner::new(&FROM_PROVIDER).push(json, &mut session.provider());
            }
            for change in session.take_changes() {
                let Change::Ends(_, seen) = change else { continue };
                assert!(!seen.generated.is_empty(), "{}", recording.id);
                let provider = recording.provider.as_str();
                let subject = Subject { provider, endpoint: "realtime", model: "gpt-realtime" };
                let estimate = estimate::output(&subject, &seen.generated).unwrap();
                let reported = &seen.reading.usage;
                let is_spoken = reported.audio_output.is_some_and(|tokens| tokens > 0);
                assert_eq!(is_spoken, seen.generated.has_media(), "{}", recording.id);
                if ["openai", "azure"].contains(&provider) && !is_spoken {
                    assert_eq!(Some(estimate.tokens), reported.output, "{}", recording.id);
                    written += 1;
                }
                spoken += usize::from(is_spoken);
            }
        }
    }
    println!("{written} responses written, {spoken} spoken");
    assert!(is_whole_corpus() || (written, spoken) == (12, 17), "{written} and {spoken}");
}

/// Sends bytes in up to three pieces, each when the one before has arrived.
fn pass(from: &mut Conn, to: &mut Conn, bytes: &[u8], random: &mut Random) {
    let (first, rest) = bytes.split_at(random.below(bytes.len()));
    let (second, third) = rest.split_at(random.below(rest.len()));
    for piece in [first, second, third] {
        from.send(piece);
        assert!(to.take_bytes(piece.len()) == piece, "bytes were changed");
    }
}

fn rows_of(proxy: &Proxy, session: &str, endpoint: &str) -> Vec<Value> {
    let is_it = |row: &Value| row["session"] == session && row["endpoint"] == endpoint;
    proxy.rows().into_iter().filter(is_it).collect()
}

/// A session on its way.
struct Played {
    client: Conn,
    upstream: Conn,
    /// `x-tokenmeter-id` of the 101.
    id: String,
}

impl Played {
    fn open(
        proxy: &Proxy,
        provider: &Provider,
        recording: &Recording,
        session: &str,
        extensions: &str,
    ) -> Played {
        let url = recording.request.url.strip_prefix("wss://").unwrap();
        let target = &url[url.find('/').unwrap()..];
        let mut client = proxy.connect();
        client.send(format!(
            "GET /{}{target} HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhl\r\nSec-WebSocket-Version: 13\r\nX-Session: {session}\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            recording.provider
        ));
        let mut upstream = provider.accept();
        let up = upstream.head();
        assert!(up.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{up}");
        let agreed = match extensions {
            "" => String::new(),
            agreed => format!("Sec-WebSocket-Extensions: {agreed}\r\n"),
        };
        upstream.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             {agreed}Sec-WebSocket-Accept: s3pP\r\n\r\n"
        ));
        let down = client.head();
        assert_eq!(field(&down, "sec-websocket-extensions").unwrap_or_default(), extensions);
        let id = field(&down, "x-tokenmeter-id").unwrap().to_owned();
        Played { client, upstream, id }
    }

    fn close(&mut self, client: &Speaker, server: &Speaker) {
        let mut random = Random::seeded("close");
        pass(&mut self.client, &mut self.upstream, &client.close(1000), &mut random);
        pass(&mut self.upstream, &mut self.client, &server.close(1000), &mut random);
        self.upstream.close_writing();
        self.client.expect_closed();
        self.client.close_writing();
        self.upstream.expect_closed();
    }
}

fn check(recording: &Recording, messages: &[Message], rows: &[Value], id: &str) {
    let of = &recording.id;
    let responses = messages.iter().filter(|message| message.ends_response()).count();
    assert_eq!(rows.len(), responses.max(1), "{of}");
    assert_eq!(rows[0]["id"], *id, "{of}");
    let mut ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "{of}");
    for row in rows {
        assert_eq!((&row["status"], &row["streaming"]), (&101.into(), &true.into()), "{of}");
        assert_eq!((&row["outcome"], &row["error"]), (&"completed".into(), &Value::Null), "{of}");
        assert_eq!(row["usage_source"], "reported", "{of}");
        assert!(row["duration_ms"].is_u64() && row["time_to_first_token_ms"].is_u64(), "{of}");
        if let Some(model) = &recording.expected.model {
            assert_eq!(row["model"], **model, "{of}");
        }
        if let Some((_, model)) = recording.request.url.split_once("model=") {
            assert_eq!(row["model_requested"], model, "{of}");
        }
    }
    let last = &rows[rows.len() - 1];
    assert_eq!(last["finish_reason"].as_str(), recording.expected.finish_reason().as_deref());
    let expected = &recording.expected.normalized;
    for (column, known) in [
        ("input_tokens", expected.input),
        ("output_tokens", expected.output),
        ("reasoning_tokens", expected.reasoning),
        ("cache_read_tokens", expected.cache_read),
        ("cache_write_tokens", expected.cache_write),
        ("audio_input_tokens", expected.audio_input),
        ("audio_output_tokens", expected.audio_output),
        ("total_tokens", expected.total),
    ] {
        let sum: u64 = rows.iter().filter_map(|row| row[column].as_u64()).sum();
        let stated = known.map_or_else(|| stated_elsewhere(messages, column), |Count(count)| count);
        assert_eq!(sum, stated, "{column} of {of}");
    }
}

/// What the known answers leave out: xAI's figures, which stand beside the response, and Gemini's.
fn stated_elsewhere(messages: &[Message], column: &str) -> u64 {
    let of_message = |message: &Message| {
        let (usage, metadata) = (&message.value["usage"], &message.value["usageMetadata"]);
        let live = |names: &[&str]| names.iter().filter_map(|name| metadata[*name].as_u64()).sum();
        let detail = |side: &str| usage[side]["audio_tokens"].as_u64();
        let stated = match column {
            "audio_input_tokens" => detail("input_token_details"),
            "audio_output_tokens" => {
                let live = &metadata["responseTokensDetails"][0]["tokenCount"];
                detail("output_token_details").or(live.as_u64())
            }
            _ => usage[column].as_u64(),
        };
        stated.unwrap_or_else(|| match column {
            "input_tokens" => live(&["promptTokenCount"]),
            "output_tokens" => live(&["responseTokenCount", "thoughtsTokenCount"]),
            "reasoning_tokens" => live(&["thoughtsTokenCount"]),
            "total_tokens" => {
                live(&["promptTokenCount", "responseTokenCount", "thoughtsTokenCount"])
            }
            _ => 0,
        })
    };
    messages.iter().filter(|message| message.ends_response()).map(of_message).sum()
}

fn check_transcriptions(rows: &[Value], heard: usize) {
    assert_eq!(rows.len(), heard);
    for row in rows {
        assert!(row["model"].is_string() && row["usage_json"].is_object(), "{row}");
        assert_eq!((&row["usage_source"], &row["status"]), (&"reported".into(), &101.into()));
        assert_eq!(row["duration_ms"], Value::Null);
    }
}
