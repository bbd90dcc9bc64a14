//! OpenAI's events: Realtime, and Responses over a WebSocket. Owns which event belongs to which
//! response, and what of it was generated.

use crate::framing::Value;

use super::{Asked, Change, OpenTurn, Session};
use crate::provider::RequestFacts;
use crate::provider::openai;
use crate::provider::reader::Reading;
use crate::provider::value::{object, text};

/// The events that bring audio, before and since Realtime became generally available.
const AUDIO: [&str; 2] = ["response.output_audio.delta", "response.audio.delta"];

/// The events with which a response ends: Realtime's, then those of Responses.
const LAST: [&str; 5] = [
    "response.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
];

impl Session {
    /// A client's event.
    pub(super) fn asks(&mut self, kind: &str, message: &Value) {
        match kind {
            "response.create" => self.ask(message),
            "session.update" | "transcription_session.update" => self.transcriber(message),
            _ => {}
        }
    }

    fn ask(&mut self, message: &Value) {
        // A client that goes on no longer waits for what has failed.
        self.end_those_over();
        let of_response = |name| object(message, "response").and_then(|asked| text(asked, name));
        let said = |name| text(message, name).or_else(|| of_response(name)).map(str::to_owned);
        let facts = RequestFacts {
            model: said("model"),
            user: said("safety_identifier").or_else(|| said("user")),
            ..RequestFacts::default()
        };
        let asked = self.asked_alone(message);
        if let Some(open) = self.begin_asked(facts, asked) {
            open.event = text(message, "event_id").map(str::to_owned);
            open.stream = text(message, "stream_id").map(str::to_owned);
        }
    }

    /// What a Responses message asks with, if that is all that will be answered. A Realtime message
    /// asks for an answer to the session's history, and so does one that names a response before it.
    fn asked_alone(&mut self, message: &Value) -> Option<Asked> {
        let goes_on = ["previous_response_id", "conversation"];
        let asked = std::mem::take(&mut self.asked);
        let is_alone = !self.is_realtime && goes_on.iter().all(|name| message.get(name).is_none());
        Some(asked).filter(|asked| is_alone && !asked.is_empty())
    }

    fn transcriber(&mut self, message: &Value) {
        let session = object(message, "session");
        let of_audio = || object(object(object(session?, "audio")?, "input")?, "transcription");
        let transcriber = session.and_then(|session| object(session, "input_audio_transcription"));
        let model = transcriber.or_else(of_audio).and_then(|it| text(it, "model"));
        if let Some(model) = model {
            self.transcription_model = Some(model.to_owned());
        }
    }

    /// A provider's event.
    pub(super) fn event(&mut self, kind: &str, message: &Value) {
        match kind {
            "error" => self.error(message),
            "conversation.item.input_audio_transcription.completed" => self.transcribed(message),
            _ if kind.starts_with("response.") => self.response(kind, message),
            _ if kind.starts_with("session.") || kind.starts_with("transcription_session.") => {
                self.is_realtime = true;
                self.transcriber(message);
                let session = object(message, "session");
                if let Some(model) = session.and_then(|session| text(session, "model")) {
                    self.model = Some(model.to_owned());
                }
            }
            _ => {}
        }
    }

    fn response(&mut self, kind: &str, message: &Value) {
        let response = object(message, "response");
        let id = response.and_then(|it| text(it, "id")).or_else(|| text(message, "response_id"));
        let stream = text(message, "stream_id");
        let found = self.running(id, stream);
        let Some(at) = found.or_else(|| self.bind(response?, stream)) else { return };
        self.speaks(at, message);
        if kind.rsplit('.').next() == Some("delta") {
            self.generates(at);
        }
        if AUDIO.contains(&kind) {
            self.turns[at].generated.note_media();
        }
        let Some(response) = response else { return };
        let reading = &mut self.turns[at].reading;
        read(reading, response, message);
        if LAST.contains(&kind) {
            reading.finish_reason = finish_reason(response);
            self.end(at);
        }
    }

    /// The response that an event is about: the one it names, or the only one there can be.
    fn running(&self, id: Option<&str>, stream: Option<&str>) -> Option<usize> {
        let is_it = |open: &OpenTurn| match (id, stream) {
            (Some(id), _) => open.id.as_deref() == Some(id),
            (None, Some(_)) => open.id.is_some() && open.stream.as_deref() == stream,
            (None, None) => open.id.is_some(),
        };
        self.turns.iter().position(is_it)
    }

    /// A response that is not known yet: the one that has been asked for longest, or one that the
    /// provider begins by itself, when the speaker pauses.
    fn bind(&mut self, response: &Value, stream: Option<&str>) -> Option<usize> {
        let id = text(response, "id")?;
        if self.ended.iter().any(|ended| ended == id) {
            return None;
        }
        let waits = |open: &OpenTurn| open.id.is_none();
        let of_stream = |open: &OpenTurn| waits(open) && open.stream.as_deref() == stream;
        let asked = self.turns.iter().position(of_stream);
        let waiting = asked.or_else(|| self.turns.iter().position(waits));
        if waiting.is_none() {
            self.begin(RequestFacts::default())?.is_answered = true;
        }
        let at = waiting.unwrap_or(self.turns.len() - 1);
        self.answers(at);
        let open = &mut self.turns[at];
        open.id = Some(id.to_owned());
        // An error that came meanwhile was about something else.
        open.is_over = false;
        open.reading.error = None;
        open.reading.model = self.model.clone().or(open.reading.model.take());
        if stream.is_some() {
            open.stream = stream.map(str::to_owned);
        }
        Some(at)
    }

    /// Realtime's errors name the client's event, if it has an id, and end no response. Those of
    /// Responses end one.
    fn error(&mut self, message: &Value) {
        let error = object(message, "error").unwrap_or(message);
        let word = word_of(error);
        let event = text(error, "event_id");
        let named = |open: &OpenTurn| event.is_some() && open.event.as_deref() == event;
        if let Some(at) = self.turns.iter().position(named) {
            self.turns[at].reading.error = Some(word);
            return self.end(at);
        }
        let stream = text(message, "stream_id");
        let of_stream = |open: &OpenTurn| stream.is_none() || open.stream.as_deref() == stream;
        let waits = |open: &OpenTurn| open.id.is_none() && of_stream(open);
        let waiting = self.turns.iter().position(waits);
        if self.is_realtime {
            // Perhaps about the response that was asked for last; that it begins will show that not.
            match waiting.filter(|_| event.is_none()) {
                Some(at) => {
                    self.turns[at].reading.error = Some(word);
                    self.over(at);
                }
                None => self.changes.push(Change::Refused(word)),
            }
            return;
        }
        match waiting.or_else(|| self.turns.iter().position(of_stream)) {
            Some(at) => {
                self.turns[at].reading.error = Some(word);
                self.end(at);
            }
            None => self.changes.push(Change::Refused(word)),
        }
    }

    /// Only where figures come with it: some providers (xAI) send it again and again while somebody
    /// speaks, and charge nothing apart.
    fn transcribed(&mut self, message: &Value) {
        let Some(usage) = object(message, "usage").filter(|usage| openai::is_usage(usage)) else {
            return;
        };
        self.changes.push(Change::Transcribed(Box::new(Reading {
            usage: openai::usage(usage, false),
            usage_json: Some(usage.clone()),
            model: self.transcription_model.clone(),
            id: text(message, "item_id").map(str::to_owned),
            ..Reading::default()
        })));
    }
}

/// What a response says of itself, as far as it has come.
fn read(reading: &mut Reading, response: &Value, message: &Value) {
    let owned = |name| text(response, name).map(str::to_owned);
    reading.id = owned("id").or(reading.id.take());
    reading.model = owned("model").or(reading.model.take());
    reading.service_tier = owned("service_tier").or(reading.service_tier.take());
    // xAI leaves the response's `usage` empty and puts the figures beside the response.
    let usage = [response, message]
        .into_iter()
        .filter_map(|parent| object(parent, "usage"))
        .find(|usage| openai::is_usage(usage));
    if let Some(usage) = usage {
        reading.usage = openai::usage(usage, false);
        reading.cost = openai::cost(usage);
        reading.usage_id.clone_from(&reading.id);
        reading.usage_json = Some(usage.clone());
    }
    let of_details = || object(object(response, "status_details")?, "error");
    if let Some(error) = object(response, "error").or_else(of_details) {
        reading.error = Some(word_of(error));
    }
}

/// Why a response has ended.
fn finish_reason(response: &Value) -> Option<String> {
    let cut_off = object(response, "status_details")
        .filter(|details| text(details, "type") == Some("incomplete"))
        .and_then(|details| text(details, "reason"));
    cut_off.or_else(|| openai::response_finish(response)).map(str::to_owned)
}

fn word_of(error: &Value) -> String {
    let word = text(error, "code").or_else(|| text(error, "type"));
    word.unwrap_or("error").to_owned()
}

#[cfg(test)]
mod tests {
    use crate::provider::realtime::tests::{heard, play};
    use crate::provider::realtime::{Change, FROM_CLIENT, Session};

    use crate::framing::Scanner;

    const CREATED: &str = r#"<{"type":"session.created","session":{"model":"m"}}"#;
    const ASK: &str = r#">{"type":"response.create"}"#;

    fn created(id: &str) -> String {
        format!(r#"<{{"type":"response.created","response":{{"id":"{id}","usage":null}}}}"#)
    }

    fn done(id: &str, input: u64) -> String {
        format!(
            r#"<{{"type":"response.done","response":{{"id":"{id}","status":"completed","usage":{{
            "input_tokens":{input},"output_tokens":1,"total_tokens":{}}}}}}}"#,
            input + 1
        )
    }

    fn delta(id: &str) -> String {
        format!(r#"<{{"type":"response.output_audio.delta","response_id":"{id}","delta":"AAAA"}}"#)
    }

    #[test]
    fn each_response_of_a_realtime_session_begins_and_ends() {
        let told = play(&[
            CREATED,
            ASK,
            &created("a"),
            &delta("a"),
            &delta("a"),
            &done("a", 3),
            &done("a", 3),
            // The speaker has paused.
            &created("b"),
            &delta("b"),
            &done("b", 4),
        ]);
        let expected = [
            "0 begins",
            "0 answers",
            "0 generates",
            "0 ends a m completed 3+1",
            "1 begins",
            "1 generates",
            "1 ends b m completed 4+1",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn responses_may_run_beside_each_other() {
        let told = play(&[
            CREATED,
            ASK,
            ASK,
            &created("a"),
            &created("b"),
            &delta("b"),
            &done("b", 2),
            &delta("a"),
            &done("a", 1),
        ]);
        let expected = [
            "0 begins",
            "1 begins",
            "0 answers",
            "1 answers",
            "1 generates",
            "1 ends b m completed 2+1",
            "0 generates",
            "0 ends a m completed 1+1",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_error_ends_the_response_that_it_names_or_that_never_begins() {
        let named = r#"<{"type":"error","error":{"code":"c","event_id":"e"}}"#;
        let asked = r#">{"type":"response.create","event_id":"e"}"#;
        assert_eq!(play(&[CREATED, asked, named]), ["0 begins", "0 ends m c"]);
        let unnamed = r#"<{"type":"error","error":{"type":"t","code":null,"event_id":null}}"#;
        assert_eq!(
            play(&[CREATED, ASK, unnamed, ASK, &created("a"), &done("a", 1)]),
            [
                "0 begins",
                "0 over m t",
                "0 ends m t",
                "1 begins",
                "1 answers",
                "1 ends a m completed 1+1"
            ]
        );
        // It was about something else.
        assert_eq!(
            play(&[CREATED, ASK, unnamed, &created("a"), &done("a", 1)]),
            ["0 begins", "0 over m t", "0 answers", "0 ends a m completed 1+1"]
        );
        assert_eq!(play(&[CREATED, unnamed]), ["refused t"]);
        assert_eq!(play(&[CREATED, ASK, named]), ["0 begins", "refused c"]);
    }

    #[test]
    fn a_response_says_why_it_ended_early() {
        let ends = |status: &str| {
            let last = format!(
                r#"<{{"type":"response.done","response":{{"id":"a",{status},"usage":null}}}}"#
            );
            play(&[&last]).remove(1)
        };
        let cancelled = r#""status":"cancelled","status_details":{"type":"cancelled","reason":"turn_detected"}"#;
        assert_eq!(ends(cancelled), "0 ends a cancelled");
        let cut = r#""status":"incomplete","status_details":{"type":"incomplete","reason":"max_output_tokens"}"#;
        assert_eq!(ends(cut), "0 ends a max_output_tokens");
        let failed = r#""status":"failed","status_details":{"type":"failed","error":{"type":"server_error","code":null}}"#;
        assert_eq!(ends(failed), "0 ends a failed server_error");
    }

    #[test]
    fn responses_over_a_websocket_name_their_model_and_end_as_streams_do() {
        let event = |kind: &str, rest: &str| format!(r#"<{{"type":"response.{kind}"{rest}}}"#);
        let told = play(&[
            r#">{"type":"response.create","model":"gpt-x","user":"u","input":"secret"}"#,
            &event("created", r#","response":{"id":"a","model":"gpt-x-1"}"#),
            &event("output_text.delta", r#","delta":"x""#),
            &event(
                "completed",
                r#","response":{"id":"a","status":"completed","usage":{"input_tokens":5,"output_tokens":2}}"#,
            ),
            ASK,
            r#"<{"type":"error","status":400,"error":{"code":"previous_response_not_found"}}"#,
        ]);
        let expected = [
            "0 begins gpt-x u",
            "0 answers",
            "0 generates",
            "0 ends a gpt-x-1 completed 5+2",
            "1 begins",
            "1 ends previous_response_not_found",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn streams_that_share_a_socket_are_told_apart() {
        let ask = |stream: &str| {
            format!(r#">{{"type":"response.create","model":"{stream}","stream_id":"{stream}"}}"#)
        };
        let event = |kind: &str, stream: &str, rest: &str| {
            format!(r#"<{{"type":"response.{kind}","stream_id":"{stream}"{rest}}}"#)
        };
        let told = play(&[
            &ask("s"),
            &ask("t"),
            &event("created", "t", r#","response":{"id":"b"}"#),
            &event("output_text.delta", "s", ""),
            &event("output_text.delta", "t", ""),
            &event(
                "failed",
                "t",
                r#","response":{"id":"b","status":"failed","error":{"code":"x"}}"#,
            ),
            r#"<{"type":"error","stream_id":"s","error":{"code":"y"}}"#,
        ]);
        let expected = [
            "0 begins s",
            "1 begins t",
            "1 answers",
            "1 generates",
            "1 ends b failed x",
            "0 ends y",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_transcription_is_a_call_of_its_own() {
        let heard = |usage: &str| {
            format!(
                r#"<{{"type":"conversation.item.input_audio_transcription.completed","item_id":"i",
                "transcript":"secret"{usage}}}"#
            )
        };
        let told = play(&[
            r#"<{"type":"session.created","session":{"audio":{"input":{"transcription":{"model":"w1"}}}}}"#,
            &heard(r#","usage":{"type":"duration","seconds":3}"#),
            &heard(r#","usage":{"type":"duration","seconds":3}"#),
            r#"<{"type":"session.updated","session":{"input_audio_transcription":{"model":"w2"}}}"#,
            &heard(
                r#","usage":{"type":"tokens","input_tokens":14,"output_tokens":4,"total_tokens":18}"#,
            ),
            &heard(""),
        ]);
        let expected = [
            "transcribed i w1 Some(3000)",
            "transcribed i w1 Some(3000)",
            "transcribed i w2 14+4 None",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_generated_goes_to_its_response() {
        let spoken = |id: &str, text: &str| {
            format!(
                r#"<{{"type":"response.output_audio_transcript.delta","response_id":"{id}","delta":"{text}"}}"#
            )
        };
        let called = r#"<{"type":"response.output_item.added","response_id":"a","item":{
            "type":"function_call","name":"f"}}"#;
        let arguments = r#"<{"type":"response.function_call_arguments.delta","delta":"{\"x\":1}","response_id":"a"}"#;
        let refusal = r#"<{"delta":"no","type":"response.refusal.delta","response_id":"b"}"#;
        let told = heard(&[
            CREATED,
            ASK,
            ASK,
            &created("a"),
            &created("b"),
            &spoken("a", "Hel"),
            &spoken("a", "lo"),
            &spoken("a", "!"),
            &delta("a"),
            refusal,
            refusal,
            // What the speaker says, and what is said again.
            r#"<{"type":"conversation.item.input_audio_transcription.delta","delta":"heard"}"#,
            r#"<{"type":"response.output_audio_transcript.done","response_id":"a","transcript":"Hello!"}"#,
            called,
            arguments,
            &done("b", 1),
            refusal,
        ]);
        let of_a = r#"0 Content:Hello! ToolName:f ToolArguments:{"x":1} media"#;
        assert_eq!(told, ["1 Refusal:nono", of_a]);
        let older = [
            r#"<{"type":"response.text.delta","response_id":"a","delta":"t"}"#,
            r#"<{"type":"response.audio_transcript.delta","response_id":"a","delta":"u"}"#,
            r#"<{"type":"response.audio.delta","response_id":"a","delta":"AAAA"}"#,
        ];
        let told = heard(&[&[created("a").as_str()], older.as_slice()].concat());
        assert_eq!(told, ["0 Content:tu media"]);
    }

    #[test]
    fn what_a_response_is_asked_with_is_kept_where_it_is_all_that_is_answered() {
        let asked = |messages: &[&str]| {
            let mut session = Session::new();
            for message in messages {
                let json = message.as_bytes();
                Scanner::new(&FROM_CLIENT).push(json, &mut session.client());
            }
            let begins = session.take_changes().into_iter().find_map(|change| match change {
                Change::Begins(_, _, asked) => Some(asked),
                _ => None,
            });
            begins.unwrap().map(|asked| String::from_utf8(asked.into_json()).unwrap())
        };
        let alone = r#"{"type":"response.create","model":"m","input":"x","instructions":"y"}"#;
        assert_eq!(asked(&[alone]).unwrap(), r#"{"input":"x","instructions":"y"}"#);
        // Of another message nothing stays.
        let other = r#"{"type":"other","input":"z"}"#;
        assert_eq!(asked(&[other, other, alone]), asked(&[alone]));
        for goes_on in [
            r#"{"type":"response.create","input":"x","previous_response_id":"r"}"#,
            r#"{"type":"response.create","input":"x","conversation":{"id":"c"}}"#,
            r#"{"type":"response.create"}"#,
        ] {
            assert_eq!(asked(&[goes_on]), None, "{goes_on}");
        }
    }

    #[test]
    fn xai_puts_the_figures_beside_the_response() {
        let last = r#"<{"type":"response.done","response":{"id":"a","status":"completed","usage":{}},
            "usage":{"input_tokens":7,"output_tokens":113,"total_tokens":120}}"#;
        assert_eq!(play(&[last]), ["0 begins", "0 ends a completed 7+113"]);
    }
}
