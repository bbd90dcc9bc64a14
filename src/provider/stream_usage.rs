//! Streams of the OpenAI dialect that report their usage only when asked. Owns which requests can be
//! asked to, what asking adds to their bytes, and which bytes of the answer are there only because
//! it was asked; decides nothing about a call.
//!
//! Sources: `OpenAI`'s API reference for `stream_options`; recorded streams. With the option every chunk
//! has `"usage":null`, and one more chunk, with empty `choices`, has the figures.

use std::ops::Range;

use crate::framing::Verdict;
use crate::framing::members::{behind_brace, is_empty, members};

/// Providers that report usage in streams without being asked, by the names of the price table.
const UNASKED: &[&str] = &[
    "cerebras",
    "copilot",
    "deepseek",
    "fireworks",
    "github-copilot",
    "groq",
    "mistral",
    "openrouter",
    "perplexity",
    "together",
    "vercel",
    "vercel-ai-gateway",
    "vercel-gateway",
    "zai",
];

/// True if the provider reports usage in every stream as it is.
pub fn reports_unasked(provider: &str) -> bool {
    UNASKED.contains(&provider)
}

/// True if calls of this path may take the option: `/chat/completions` and `/completions`.
pub fn has_option(path: &str) -> bool {
    path.trim_end_matches('/').ends_with("/completions") && !path.contains("/agents/")
}

/// A text to be put in the place of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    pub at: Range<usize>,
    pub text: &'static str,
}

/// What makes a request ask for its stream's usage; `None` if it asks already, does not want to, is
/// no request for a stream, or is not understood.
pub fn ask(body: &[u8]) -> Option<Splice> {
    let [stream, options] = members(body, ["stream", "stream_options"])?;
    if &body[stream?.value] != b"true" {
        return None;
    }
    let Some(options) = options.map(|options| options.value) else {
        let place = behind_brace(body)?;
        let text = r#""stream_options":{"include_usage":true},"#;
        return Some(Splice { at: place..place, text });
    };
    let value = &body[options.clone()];
    if value == b"null" {
        return Some(Splice { at: options, text: r#"{"include_usage":true}"# });
    }
    let [asked] = members(value, ["include_usage"])?;
    match asked {
        None => {
            let place = options.start + behind_brace(value)?;
            let is_empty = is_empty(value);
            let text =
                if is_empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
            Some(Splice { at: place..place, text })
        }
        Some(asked) if &value[asked.value.clone()] == b"null" => {
            let begin = options.start + asked.value.start;
            Some(Splice { at: begin..begin + asked.value.len(), text: "true" })
        }
        Some(_) => None,
    }
}

/// What becomes of an event of an answer whose request was made to ask.
pub fn judge(data: &[u8]) -> Verdict {
    let Some([choices, usage]) = members(data, ["choices", "usage"]) else { return Verdict::Keep };
    let Some(usage) = usage else { return Verdict::Keep };
    match &data[usage.value.clone()] {
        b"null" if usage.times == 1 => Verdict::Without(usage.with_comma(data)),
        [b'{', ..] if choices.is_some_and(|choices| is_no_choice(&data[choices.value])) => {
            Verdict::Drop
        }
        _ => Verdict::Keep,
    }
}

fn is_no_choice(choices: &[u8]) -> bool {
    choices.first() == Some(&b'[') && is_empty(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Option<String> {
        let Splice { at, text } = ask(body.as_bytes())?;
        Some(format!("{}{text}{}", &body[..at.start], &body[at.end..]))
    }

    #[test]
    fn a_stream_that_does_not_say_is_made_to_ask() {
        for (body, expected) in [
            (
                r#"{"model":"m","stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            ),
            (
                "\n { \"stream\" : true , \"a\":[{}]\n}\n",
                "\n {\"stream_options\":{\"include_usage\":true}, \"stream\" : true , \"a\":[{}]\n}\n",
            ),
            (
                r#"{"stream":true,"stream_options":null}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{ "include_obfuscation": false }}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true, "include_obfuscation": false }}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":null},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{"stream":false,"stream":true,"stream_options":{"include_usage":true},"stream_options":{}}"#,
                r#"{"stream":false,"stream":true,"stream_options":{"include_usage":true},"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asked(body).as_deref(), Some(expected));
            assert_eq!(asked(expected), None, "{expected}");
            serde_json::from_str::<serde_json::Value>(expected).unwrap();
        }
    }

    #[test]
    fn every_other_request_stays_as_it_is() {
        for body in [
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":null,"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":"all"}"#,
            r#"{"stream":true,"stream_options":[]}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"stream":false}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":1}"#,
            r#"{"model":"m","messages":[{"stream":true}]}"#,
            r#"{"stream":true"#,
            r#"[{"stream":true}]"#,
            "{}",
            "",
        ] {
            assert_eq!(asked(body), None, "{body}");
        }
    }

    #[test]
    fn only_the_extra_event_goes_and_only_the_extra_null() {
        let without = |data: &str| match judge(data.as_bytes()) {
            Verdict::Without(part) => format!("{}{}", &data[..part.start], &data[part.end..]),
            verdict => format!("{verdict:?}"),
        };
        for (data, becomes) in [
            (r#"{"id":"c","choices":[],"usage":{"prompt_tokens":1}}"#, "Drop"),
            (r#"{"usage": {}, "choices": [ ]}"#, "Drop"),
            (r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#, "Keep"),
            (r#"{"choices":null,"usage":{"prompt_tokens":1}}"#, "Keep"),
            (r#"{"usage":{"prompt_tokens":1}}"#, "Keep"),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, "Keep"),
            (r#"{"choices":[{"delta":{"content":"\"usage\":null"}}]}"#, "Keep"),
            (r#"{"choices":[{"usage":null}]}"#, "Keep"),
            (r#"{"choices":[],"usage":null,"usage":null}"#, "Keep"),
            (r#"{"choices":[],"usage":0}"#, "Keep"),
            (r#"{"choices":[],"usage":null"#, "Keep"),
            (r#"{"choices":[{"index":0}],"usage":null}"#, r#"{"choices":[{"index":0}]}"#),
            (
                r#"{"choices":[],"usage":null,"obfuscation":"k"}"#,
                r#"{"choices":[],"obfuscation":"k"}"#,
            ),
        ] {
            assert_eq!(without(data), becomes, "{data}");
        }
    }

    #[test]
    fn only_paths_of_the_dialect_have_the_option() {
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/openai/deployments/d/chat/completions",
            "//v1/chat/completions/",
        ] {
            assert!(has_option(path), "{path}");
        }
        for path in ["/completion", "/v1/agents/completions", "/v1/responses", "/v1/chat"] {
            assert!(!has_option(path), "{path}");
        }
    }
}
