//! What is asked and what is answered: every call has a number, and the number says all that is in it.
//! Owns the bytes of both; knows no socket.

use std::time::Duration;

/// Prices of the trials' model, in nano-dollars a token; `home` writes the table.
pub(crate) const INPUT_NANOS: i64 = 150;
pub(crate) const OUTPUT_NANOS: i64 = 600;

/// What sort of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// One JSON document with its usage.
    Json,
    /// A stream with its usage.
    Stream,
    /// A stream that takes its time between events.
    Slow,
    /// One JSON document without usage.
    Unreported,
    /// A stream without usage.
    UnreportedStream,
    /// The provider hangs up in the middle.
    Failing,
    /// The client hangs up in the middle of a stream that has no end.
    Leaving,
    /// A stream that goes on until the provider is told to let it end.
    Long,
}

/// A call as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// `x-tokenmeter-id`, if the answer's head came.
    pub(crate) id: Option<String>,
    /// The client had the answer to its last byte or, of a stream, to its last event; and it was right.
    pub(crate) full: bool,
    /// From the request to the end of the answer, whatever that was.
    pub(crate) took: Duration,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Json,
        Kind::Stream,
        Kind::Slow,
        Kind::Unreported,
        Kind::UnreportedStream,
        Kind::Failing,
        Kind::Leaving,
        Kind::Long,
    ];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn named(name: &str) -> Kind {
        *Kind::ALL.iter().find(|kind| kind.name() == name).unwrap()
    }

    pub(crate) fn streams(self) -> bool {
        !matches!(self, Kind::Json | Kind::Unreported | Kind::Failing)
    }

    pub(crate) fn reports(self) -> bool {
        !matches!(self, Kind::Unreported | Kind::UnreportedStream)
    }

    /// How it ends where nothing is at fault.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Kind::Failing => "upstream_failed",
            Kind::Leaving => "client_closed",
            _ => "completed",
        }
    }
}

/// Tokens in and out of the call with this number.
pub(crate) fn figures(number: u64) -> (u64, u64) {
    (1000 + number % 977, 1 + number % 89)
}

pub(crate) fn request(number: u64, kind: Kind) -> String {
    let stream = kind.streams();
    format!(
        r#"{{"model":"trial-1","stream":{stream},"messages":[{{"role":"user","content":"Say {number}."}}]}}"#
    )
}

/// The answer's body, in the pieces in which the provider sends it. A long one has a middle piece that is
/// sent again and again.
pub(crate) fn answer(number: u64, kind: Kind) -> Vec<String> {
    let (input, output) = figures(number);
    let usage = format!(
        r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
        input + output
    );
    if kind.streams() {
        let chunk = |choices: &str, usage: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-{number}\",\"object\":\"chat.completion.chunk\",\
                 \"model\":\"trial-1\",\"choices\":[{choices}]{usage}}}\n\n"
            )
        };
        let said = |text: &str| {
            chunk(
                &format!(r#"{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}"#),
                "",
            )
        };
        let mut pieces = vec![said("It is "), said("number "), said(&number.to_string())];
        pieces.push(chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, ""));
        if kind.reports() {
            pieces.push(chunk("", &format!(",{usage}")));
        }
        pieces.push("data: [DONE]\n\n".to_owned());
        return pieces;
    }
    let usage = if kind.reports() { format!(",{usage}") } else { String::new() };
    vec![
        format!(
            r#"{{"id":"chatcmpl-{number}","object":"chat.completion","model":"trial-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"It is "#
        ),
        format!(r#"number {number}"}},"finish_reason":"stop"}}]{usage}}}"#),
    ]
}

/// Which piece of a long answer is sent again and again.
pub(crate) const REPEATED: usize = 1;
