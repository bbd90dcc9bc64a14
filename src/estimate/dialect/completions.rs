//! Legacy completions (<https://platform.openai.com/docs/api-reference/completions>): plain text to be
//! continued. Several prompts add up; `n` and `best_of` do not multiply them (recorded).

use std::borrow::Cow;

use serde_json::Value;

use crate::estimate::prompt::{Api, Message, Part, Prompt};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt { api: Api::Completion, ..Prompt::default() };
    read_texts(request.get("prompt"), &mut prompt);
    read_texts(request.get("suffix"), &mut prompt);
    prompt
}

/// A text, a list of texts, a list of token ids, or a list of those.
pub(super) fn read_texts<'a>(value: Option<&'a Value>, prompt: &mut Prompt<'a>) {
    match value {
        Some(Value::String(text)) => {
            let parts = vec![Part::Text(Cow::Borrowed(text))];
            prompt.messages.push(Message { parts, ..Message::default() });
        }
        Some(Value::Number(_)) => prompt.token_ids += 1,
        Some(Value::Array(list)) => {
            for element in list {
                match element {
                    Value::Array(ids) => prompt.token_ids += ids.len() as u64,
                    element => read_texts(Some(element), prompt),
                }
            }
        }
        _ => {}
    }
}
