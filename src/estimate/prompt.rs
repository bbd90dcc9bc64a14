//! A request's prompt in one form for all dialects. Owns what of a request can cost tokens; each
//! dialect's file says where it stands, each family's what it costs.
//!
//! Nothing that holds text can be printed for debugging.

use std::borrow::Cow;

use serde_json::Value;

use super::Unseen;

/// Everything in a request that becomes prompt tokens.
#[derive(Clone, Default)]
pub(super) struct Prompt<'a> {
    pub api: Api,
    /// In order; system, developer and `instructions` texts are messages too.
    pub messages: Vec<Message<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: ToolChoice,
    /// The tool that has to be called, where the request names it.
    pub chosen: Option<&'a str>,
    /// The schema that the answer has to follow.
    pub schema: Option<Schema<'a>>,
    /// The answer has to be JSON of any shape.
    pub json_object: bool,
    /// Reasoning is asked for (`thinking`, `reasoning_effort`).
    pub thinking: bool,
    /// The most tokens that the answer may have.
    pub most: Option<u64>,
    /// How much reasoning: `low`, `high`; `enabled`, `adaptive`, `disabled` where that is all it says.
    pub effort: Option<&'a str>,
    /// The gateway is told to keep its own system prompt out.
    pub bare: bool,
    /// The offered tools bind the answer and are not shown to the model.
    pub tools_unseen: bool,
    /// The model that the request names, where its body does.
    pub asked: Option<&'a str>,
    /// Prompts that came as tokens: their number.
    pub token_ids: u64,
    /// What the request names and does not hold.
    pub unseen: Vec<Unseen>,
}

impl Prompt<'_> {
    /// Notes what the request names and does not hold.
    pub(super) fn lacks(&mut self, what: Unseen) {
        if !self.unseen.contains(&what) {
            self.unseen.push(what);
        }
    }
}

/// How the request's model is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Api {
    /// Messages of a chat, by any dialect but the next.
    #[default]
    Chat,
    /// OpenAI's Responses API.
    Responses,
    /// Plain text to be continued.
    Completion,
    /// Texts to be embedded.
    Embedding,
}

#[derive(Clone, Default)]
pub(super) struct Message<'a> {
    /// `system`, `developer`, `user`, `assistant`, `tool`, `document`.
    pub role: &'a str,
    pub name: Option<&'a str>,
    pub parts: Vec<Part<'a>>,
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The message is the result of a tool call.
    pub is_tool_result: bool,
}

/// A part of a message's content.
#[derive(Clone)]
pub(super) enum Part<'a> {
    Text(Cow<'a, str>),
    /// Reasoning of an earlier turn, handed back.
    Reasoning(&'a str),
    /// The same, sealed by the provider: its length as base64.
    Signature {
        bytes: u64,
    },
    Image(Image<'a>),
    Audio {
        /// Where the header tells.
        seconds: Option<f64>,
        bytes: u64,
    },
    Document(Document<'a>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Image<'a> {
    /// Width and height in pixels, where the data's header tells.
    pub size: Option<(u32, u32)>,
    /// `low`, `high`, `auto`, `original`; `media_resolution` at Google's.
    pub detail: Option<&'a str>,
}

/// A file: PDF, text.
#[derive(Clone, Default)]
pub(super) struct Document<'a> {
    pub bytes: u64,
    /// Pages, where the data tells.
    pub pages: Option<u32>,
    /// The text, of a file that is plain text.
    pub text: Option<Cow<'a, str>>,
}

#[derive(Clone)]
pub(super) struct ToolCall<'a> {
    pub name: &'a str,
    /// JSON.
    pub arguments: Cow<'a, str>,
}

/// A tool or function that the client offers and runs itself.
#[derive(Clone)]
pub(super) struct Tool<'a> {
    pub name: &'a str,
    pub description: Option<&'a str>,
    /// JSON Schema.
    pub parameters: Option<&'a Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    /// Not said, or `auto`.
    #[default]
    Auto,
    None,
    /// `any`, `required`.
    Any,
    /// One tool by name.
    Named,
}

#[derive(Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "requests have a schema with a name, and call both so"
)]
pub(super) struct Schema<'a> {
    pub name: Option<&'a str>,
    pub description: Option<&'a str>,
    pub schema: &'a Value,
}
