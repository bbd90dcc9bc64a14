//! Which of OpenAI's models count alike. Owns the constants around messages, tools and calls; all were
//! measured on recorded calls with their reported counts (2023 to 2026), most of them exact to the
//! token on every call seen.

use crate::estimate::prompt::Api;

/// The date of GPT-4.1 and its small ones. Who renames a model often keeps the date (seen in recordings),
/// so it tells more than the name.
const GPT_4_1: &str = "-2025-04-14";

/// Models that wrap a prompt alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// Continue plain text: nothing is put around it.
    Base,
    /// `gpt-3.5-turbo-0301`, which Azure calls `gpt-35-turbo`.
    First,
    /// GPT-3.5 and the first GPT-4.
    Gpt4,
    /// GPT-4 turbo, 4o, 4.1, 4.5, `gpt-5-chat`.
    Gpt4o,
    /// The o-series, codex-mini, computer-use.
    O,
    /// GPT-5 and later.
    Gpt5,
    /// The search previews of GPT-4o: their own prompt is not charged, nor is what is around messages.
    Search,
}

/// Tokens that stand around a prompt's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Before the reply.
    pub(super) primer: u64,
    /// Around each message, besides its role.
    pub(super) message: u64,
    /// In a message of the assistant: its channel.
    pub(super) channel: u64,
    /// Around the tools' text, with or without a system message.
    pub(super) tools_with_system: u64,
    pub(super) tools_alone: u64,
    /// A tool that has to be called is named once more, in a message of this many tokens.
    pub(super) chosen: Option<u64>,
    /// A call and its result, which is a message by `functions.NAME`.
    pub(super) call: u64,
    /// Several calls at once: a wrapper, and what less there is for each call. Without it each call
    /// stands by itself.
    pub(super) parallel: Option<(u64, u64)>,
    /// The results of several calls name their functions.
    pub(super) named_results: bool,
    /// Around a schema that the answer has to follow, besides tools or without.
    pub(super) schema: u64,
    pub(super) schema_alone: u64,
}

/// The generation of a model, by its name without a maker's prefix, in lower case.
pub(super) fn generation(name: &str) -> Generation {
    let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if is(&["davinci", "babbage", "curie", "ada", "text-", "code-"]) || name.contains("instruct") {
        Generation::Base
    } else if name.contains("search-preview") {
        Generation::Search
    } else if name == "gpt-35-turbo" || name.starts_with("gpt-3.5-turbo-0301") {
        Generation::First
    } else if name == "gpt-4"
        || is(&["gpt-3.5", "gpt-35", "gpt-4-0", "gpt-4-32k"]) && !is_turbo(name)
    {
        Generation::Gpt4
    } else if is(&["o1-mini", "o1-preview", "gpt-5-chat"]) || name.ends_with(GPT_4_1) {
        Generation::Gpt4o
    } else if is(&["o1", "o3", "o4", "codex", "computer-use"]) {
        Generation::O
    } else if is_gpt5_or_later(name) {
        Generation::Gpt5
    } else {
        Generation::Gpt4o
    }
}

/// `gpt-4-0125-preview` and its like.
fn is_turbo(name: &str) -> bool {
    name.starts_with("gpt-4-") && name.ends_with("-preview")
}

fn is_gpt5_or_later(name: &str) -> bool {
    let version = name.strip_prefix("gpt-").unwrap_or_default();
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse::<u32>().is_ok_and(|major| (5..1000).contains(&major))
}

/// Routers send chat completions for models that have it to the Responses API, and Responses requests
/// for the others to chat completions: what is around tools tells (recorded at OpenRouter and Vercel).
pub(super) fn api_asked(provider: &str, api: Api, generation: Generation, name: &str) -> Api {
    if !is_router(provider) {
        return api;
    }
    let modern = matches!(generation, Generation::O | Generation::Gpt5) || name.contains("gpt-4.1");
    if modern { Api::Responses } else { Api::Chat }
}

pub(super) fn is_router(provider: &str) -> bool {
    matches!(provider, "openrouter" | "vercel-gateway")
}

pub(super) fn frame(generation: Generation, api: Api, name: &str) -> Frame {
    let chat = Frame {
        primer: 3,
        message: 3,
        channel: 0,
        tools_with_system: 5,
        tools_alone: 9,
        chosen: Some(6),
        call: 8,
        parallel: Some((24, 4)),
        named_results: false,
        schema: 8,
        schema_alone: 13,
    };
    let (tools_with_system, tools_alone) = (3, 3);
    let (schema, schema_alone) = (7, 7);
    let responses = Frame {
        tools_with_system,
        tools_alone,
        call: 6,
        parallel: None,
        schema,
        schema_alone,
        ..chat
    };
    let is_chat = api != Api::Responses;
    let gpt4o = if is_chat { chat } else { responses };
    match generation {
        Generation::Base | Generation::Search => Frame { primer: 0, message: 0, ..gpt4o },
        Generation::First => Frame { message: 4, ..gpt4o },
        Generation::Gpt4 => Frame { chosen: None, ..gpt4o },
        Generation::Gpt4o => gpt4o,
        Generation::O => {
            let tools = if is_chat { 10 } else { 7 };
            let (tools_with_system, tools_alone) = (tools, tools);
            let call = if is_chat { 14 } else { 12 };
            Frame { primer: 2, tools_with_system, tools_alone, call, chosen: None, ..gpt4o }
        }
        Generation::Gpt5 => {
            let tools = if is_chat { 91 } else { 9 };
            let (tools_with_system, tools_alone) = (tools, tools);
            let late = ["gpt-5.4", "gpt-5.6"].iter().any(|start| name.starts_with(start));
            let call = if is_chat { 14 } else { 12 + u64::from(late) * 3 };
            let parallel = is_chat.then_some((27, 3)).or(late.then_some((20, 0)));
            let (primer, channel) = (2, 2);
            let schema = if is_chat { 15 } else { 6 };
            let schema_alone = schema;
            let named_results = late && !is_chat;
            let around = Frame {
                primer,
                channel,
                call,
                parallel,
                named_results,
                schema,
                schema_alone,
                ..gpt4o
            };
            Frame { tools_with_system, tools_alone, chosen: None, ..around }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_generation() {
        let cases = [
            ("gpt-4", Generation::Gpt4),
            ("gpt-4-0613", Generation::Gpt4),
            ("gpt-3.5-turbo-0125", Generation::Gpt4),
            ("gpt-35-turbo", Generation::First),
            ("gpt-4-0125-preview", Generation::Gpt4o),
            ("gpt-4.1-mini", Generation::Gpt4o),
            ("gpt-5-chat-latest", Generation::Gpt4o),
            ("o1-mini-2024-09-12", Generation::Gpt4o),
            ("o3-pro", Generation::O),
            ("gpt-5.1-chat-2025-11-13", Generation::Gpt5),
            ("gpt-6", Generation::Gpt5),
            ("gpt-3.5-turbo-instruct", Generation::Base),
            ("text-embedding-3-small", Generation::Base),
            ("gpt-4o-search-preview", Generation::Search),
        ];
        for (name, expected) in cases {
            assert_eq!(generation(name), expected, "{name}");
        }
    }
}
