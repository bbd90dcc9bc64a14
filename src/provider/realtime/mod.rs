//! Sessions over a WebSocket, of which each response is a call of its own: OpenAI's Realtime (Azure's
//! and xAI's too), Responses over a WebSocket, Gemini Live. Owns where a response begins and ends among
//! a session's messages, and what they say of it; knows neither frames nor rows.
//!
//! Sources: the Realtime, Responses and Live API references, and recorded sessions. A dialect is told
//! by the shape of its messages: OpenAI's have a `type`, Gemini's do not.
//!
//! Invariant: bounded, however long a session is: a few open responses, a few ids, and of what is asked
//! and generated as much as is kept of an HTTP call.

mod asked;
mod events;
mod live;
mod selection;

use std::collections::VecDeque;
use std::fmt;

use crate::framing::Value;

use super::RequestFacts;
use super::generated::Generated;
use super::reader::Reading;
use super::texts::Texts;
use super::value::text;
use crate::framing::{Sink, Text};

pub use asked::Asked;
pub use selection::{FROM_CLIENT, FROM_PROVIDER};

/// Responses that may be open at a time; what a client asks for beyond has no row until it begins.
const MAX_OPEN: usize = 64;

/// Ids kept of responses that have ended, so that a late event does not begin them again.
const MAX_ENDED: usize = 16;

/// One response of a session, by the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn(u64);

/// What a message changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// A response has been asked for, or begins unasked. With what it was asked, where that is all
    /// that it answers.
    Begins(Turn, Box<RequestFacts>, Option<Asked>),
    /// The provider has taken up a response that was asked for.
    Answers(Turn),
    /// The first piece of what is generated.
    Generates(Turn),
    /// Nothing is owed any more, though something may yet be said of it.
    Over(Turn, Box<Reading>),
    Ends(Turn, Box<Seen>),
    /// Another model has written down what was heard: a call of its own.
    Transcribed(Box<Reading>),
    /// The provider refused something that was no response, for this reason.
    Refused(String),
}

/// What was seen of a response.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub reading: Reading,
    /// The text of the answer.
    pub generated: Generated,
}

/// A response that has begun and not ended.
#[derive(Debug)]
struct OpenTurn {
    turn: Turn,
    /// The provider's id of it, once it has one.
    id: Option<String>,
    /// The client's id of the event that asked for it.
    event: Option<String>,
    /// Which of several conversations on one socket it belongs to.
    stream: Option<String>,
    /// The provider has taken it up.
    is_answered: bool,
    is_over: bool,
    reading: Reading,
    generated: Generated,
}

/// What has been seen of a session.
#[derive(Default)]
pub struct Session {
    turns: Vec<OpenTurn>,
    begun: u64,
    ended: VecDeque<String>,
    changes: Vec<Change>,
    /// The provider has spoken of a session: this is Realtime, not Responses.
    is_realtime: bool,
    /// The model that serves the session.
    model: Option<String>,
    /// The model that a setup asked for.
    model_asked: Option<String>,
    transcription_model: Option<String>,
    /// What the client's message at hand asks with.
    asked: Asked,
    /// The texts of the provider's message at hand.
    texts: Texts,
    /// The response that the provider's message at hand is part of.
    speaker: Option<Turn>,
    last_of_client: Vec<u8>,
    last_of_provider: Last,
}

/// The last message of a side, where it changed nothing: most are like the one before, but for their
/// texts.
#[derive(Default)]
struct Last {
    json: Vec<u8>,
    message: Value,
    speaker: Option<Turn>,
}

/// Tells how much there is, never what.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("begun", &self.begun)
            .field("open", &self.turns.len())
            .field("asked", &self.asked)
            .field("texts", &self.texts)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub fn new() -> Session {
        Session::default()
    }

    /// Where the client's messages go.
    pub fn client(&mut self) -> impl Sink {
        ClientMessages(self)
    }

    /// Where the provider's messages go.
    pub fn provider(&mut self) -> impl Sink {
        ProviderMessages(self)
    }

    /// What the messages since the last time have changed, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Hands over what was seen of the responses that have not ended. No more will be.
    pub fn take_open(&mut self) -> Vec<(Turn, Seen)> {
        let seen =
            |open: OpenTurn| (open.turn, Seen { reading: open.reading, generated: open.generated });
        self.turns.drain(..).map(seen).collect()
    }

    fn begin(&mut self, facts: RequestFacts) -> Option<&mut OpenTurn> {
        self.begin_asked(facts, None)
    }

    fn begin_asked(&mut self, facts: RequestFacts, asked: Option<Asked>) -> Option<&mut OpenTurn> {
        if self.turns.len() >= MAX_OPEN {
            return None;
        }
        let turn = Turn(self.begun);
        self.begun += 1;
        self.changes.push(Change::Begins(turn, Box::new(facts), asked));
        let reading = Reading { model: self.model.clone(), ..Reading::default() };
        let (id, event, stream, is_answered, is_over, generated) = Default::default();
        self.turns.push(OpenTurn {
            turn,
            id,
            event,
            stream,
            is_answered,
            is_over,
            reading,
            generated,
        });
        self.turns.last_mut()
    }

    fn end(&mut self, at: usize) {
        let open = self.turns.remove(at);
        if let Some(id) = open.id {
            self.ended.truncate(MAX_ENDED - 1);
            self.ended.push_front(id);
        }
        let seen = Seen { reading: open.reading, generated: open.generated };
        self.changes.push(Change::Ends(open.turn, Box::new(seen)));
    }

    /// What was asked for will not come, or is there but for its figures.
    fn over(&mut self, at: usize) {
        let open = &mut self.turns[at];
        open.is_over = true;
        self.changes.push(Change::Over(open.turn, Box::new(open.reading.clone())));
    }

    fn end_those_over(&mut self) {
        while let Some(at) = self.turns.iter().position(|open| open.is_over) {
            self.end(at);
        }
    }

    fn answers(&mut self, at: usize) {
        let open = &mut self.turns[at];
        if !std::mem::replace(&mut open.is_answered, true) {
            self.changes.push(Change::Answers(open.turn));
        }
    }

    fn generates(&mut self, at: usize) {
        let open = &mut self.turns[at];
        if !std::mem::replace(&mut open.reading.generated, true) {
            self.changes.push(Change::Generates(open.turn));
        }
    }

    /// The message at hand is part of this response, and so are its texts.
    fn speaks(&mut self, at: usize, message: &Value) {
        let open = &mut self.turns[at];
        self.speaker = Some(open.turn);
        self.texts.give(message, &mut open.generated);
    }

    /// The message before comes again, with other texts.
    fn speaks_on(&mut self) {
        let Last { message, speaker, .. } = &self.last_of_provider;
        if let Some(open) = self.turns.iter_mut().find(|open| Some(open.turn) == *speaker) {
            self.texts.give(message, &mut open.generated);
        }
    }
}

struct ClientMessages<'a>(&'a mut Session);

impl Sink for ClientMessages<'_> {
    fn document(&mut self, json: &[u8]) {
        let session = &mut *self.0;
        if session.last_of_client != json {
            let Some(message) = Value::parse(json) else { return };
            let before = session.changes.len();
            match text(&message, "type") {
                Some(kind) => session.asks(kind, &message),
                None => session.live_asks(&message),
            }
            remember(&mut session.last_of_client, json, session.changes.len() == before);
        }
        session.asked = Asked::default();
    }

    fn text(&mut self, text: &Text<'_>) {
        self.0.asked.push(text);
    }

    fn end_of_message(&mut self) {
        self.0.asked = Asked::default();
    }
}

struct ProviderMessages<'a>(&'a mut Session);

impl Sink for ProviderMessages<'_> {
    fn document(&mut self, json: &[u8]) {
        let session = &mut *self.0;
        if session.last_of_provider.json == json {
            session.speaks_on();
        } else if let Some(message) = Value::parse(json) {
            let before = session.changes.len();
            session.speaker = None;
            match text(&message, "type") {
                Some(kind) => session.event(kind, &message),
                None => session.live_answers(&message),
            }
            let last = &mut session.last_of_provider;
            remember(&mut last.json, json, session.changes.len() == before);
            (last.message, last.speaker) = (message, session.speaker);
        }
        session.texts.forget();
    }

    fn text(&mut self, text: &Text<'_>) {
        self.0.texts.push(text);
    }

    fn left_out(&mut self) {
        self.0.texts.left_out();
    }

    fn end_of_message(&mut self) {
        self.0.texts.forget();
    }
}

/// A message that changed nothing changes nothing when it comes again.
fn remember(last: &mut Vec<u8>, json: &[u8], changed_nothing: bool) {
    last.clear();
    if changed_nothing {
        last.extend_from_slice(json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{Extensions, Scanner, Sender, WebSocket};

    /// Plays messages, `>` before the client's and `<` before the provider's, and tells the changes in
    /// short.
    pub(super) fn play(messages: &[&str]) -> Vec<String> {
        let mut session = Session::new();
        let mut told = Vec::new();
        for message in messages {
            let (side, json) = message.split_at(1);
            if side == ">" {
                Scanner::new(&FROM_CLIENT).push(json.as_bytes(), &mut session.client());
            } else {
                Scanner::new(&FROM_PROVIDER).push(json.as_bytes(), &mut session.provider());
            }
            told.extend(session.take_changes().iter().map(tell));
        }
        told
    }

    fn tell(change: &Change) -> String {
        let said = |reading: &Reading| {
            let usage = &reading.usage;
            let figures = usage.input.zip(usage.output).map(|(i, o)| format!("{i}+{o}"));
            [&reading.id, &reading.model, &reading.finish_reason, &reading.error, &figures]
                .into_iter()
                .flatten()
                .fold(String::new(), |told, word| format!("{told} {word}"))
        };
        match change {
            Change::Begins(turn, facts, _) => {
                let asked = facts.model.iter().chain(&facts.user);
                format!("{} begins{}", turn.0, asked.fold(String::new(), |a, b| a + " " + b))
            }
            Change::Answers(turn) => format!("{} answers", turn.0),
            Change::Generates(turn) => format!("{} generates", turn.0),
            Change::Over(turn, reading) => format!("{} over{}", turn.0, said(reading)),
            Change::Ends(turn, seen) => format!("{} ends{}", turn.0, said(&seen.reading)),
            Change::Transcribed(reading) => {
                format!("transcribed{} {:?}", said(reading), reading.usage.audio_input_ms)
            }
            Change::Refused(word) => format!("refused {word}"),
        }
    }

    /// Plays messages and tells what was generated in each response that ended, then in the others.
    pub(super) fn heard(messages: &[&str]) -> Vec<String> {
        let mut session = Session::new();
        let mut seen = Vec::new();
        let client = &mut Scanner::new(&FROM_CLIENT);
        let provider = &mut Scanner::new(&FROM_PROVIDER);
        for message in messages {
            let (side, json) = message.split_at(1);
            for piece in json.as_bytes().chunks(7) {
                match side {
                    ">" => client.push(piece, &mut session.client()),
                    _ => provider.push(piece, &mut session.provider()),
                }
            }
            seen.extend(session.take_changes().into_iter().filter_map(|change| match change {
                Change::Ends(turn, seen) => Some((turn, *seen)),
                _ => None,
            }));
        }
        seen.extend(session.take_open());
        let tell = |(turn, Seen { generated, .. }): &(Turn, Seen)| {
            let segments = generated.segments().iter();
            let texts = segments.map(|it| format!(" {:?}:{}", it.kind, it.text()));
            let media = if generated.has_media() { " media" } else { "" };
            format!("{}{}{media}", turn.0, texts.collect::<String>())
        };
        seen.iter().map(tell).collect()
    }

    #[test]
    fn a_client_that_asks_without_end_is_not_followed() {
        let asked = vec![r#">{"type":"response.create"}"#; 200];
        assert_eq!(play(&asked).len(), MAX_OPEN);
    }

    /// Unmasked, or masked with nothing.
    fn frame(side: Sender, text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        match side {
            Sender::Server => [&[0x81, length], text.as_bytes()].concat(),
            Sender::Client => [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat(),
        }
    }

    #[test]
    fn a_message_that_was_not_whole_left_its_texts_to_the_next() {
        let socket = |side, selection| WebSocket::new(side, Extensions::None, selection).unwrap();
        let mut client = socket(Sender::Client, &FROM_CLIENT);
        let mut provider = socket(Sender::Server, &FROM_PROVIDER);
        let mut session = Session::new();
        for text in
            [r#"{"instructions":"Swordfish","#, r#"{"type":"response.create","instructions":"Hi"}"#]
        {
            client.push(&frame(Sender::Client, text), &mut session.client());
        }
        for text in [
            r#"{"type":"response.created","response":{"id":"r"}}"#,
            r#"{"type":"response.output_text.delta","delta":"Swordfish"#,
            r#"{"type":"response.output_text.delta","response_id":"r","delta":"Hello"}"#,
        ] {
            provider.push(&frame(Sender::Server, text), &mut session.provider());
        }
        assert!(!client.is_broken() && !provider.is_broken());
        let asked = session.take_changes().into_iter().find_map(|change| match change {
            Change::Begins(_, _, asked) => asked,
            _ => None,
        });
        let asked = String::from_utf8(asked.unwrap().into_json()).unwrap();
        assert_eq!(asked, r#"{"instructions":"Hi"}"#);
        let [(_, seen)] = &session.take_open()[..] else { panic!("one") };
        let texts: Vec<_> = seen.generated.segments().iter().map(|it| it.text()).collect();
        assert_eq!(texts, ["Hello"]);
    }
}
