//! Embeddings (<https://platform.openai.com/docs/api-reference/embeddings>): texts, each by itself.

use serde_json::Value;

use super::completions::read_texts;
use crate::estimate::prompt::{Api, Prompt};

pub(super) fn read(request: &Value) -> Prompt<'_> {
    let mut prompt = Prompt { api: Api::Embedding, ..Prompt::default() };
    read_texts(request.get("input"), &mut prompt);
    prompt
}
