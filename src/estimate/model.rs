//! Which family a model belongs to. Owns the reading of model names; what a family means for counting
//! is said in the family's own file.

use super::text::Encoding;

/// Models that count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// OpenAI's own models, by their public vocabulary.
    OpenAi(Encoding),
    Claude,
    Gemini,
    /// Everything else.
    Open,
}

/// The family of a model, however a router or cloud decorates its name (`openai/gpt-5:online`,
/// `us.anthropic.claude-3-7-sonnet-20250219-v1:0`).
pub(super) fn family(model: &str) -> Family {
    let name = model.to_ascii_lowercase();
    if name.contains("claude") {
        return Family::Claude;
    }
    if name.contains("gemini") {
        return Family::Gemini;
    }
    let bare = name.rsplit('/').next().unwrap_or(&name);
    if bare == "gpt-4" || is_cl100k(bare) {
        return Family::OpenAi(Encoding::Cl100k);
    }
    let o200k = ["gpt-", "chatgpt-", "o1", "o3", "o4", "codex", "computer-use"];
    if !bare.starts_with("gpt-oss") && o200k.iter().any(|start| bare.starts_with(start)) {
        return Family::OpenAi(Encoding::O200k);
    }
    Family::Open
}

/// Models of OpenAI's before GPT-4o. Those before `davinci-002` have another vocabulary and are counted
/// by a ratio to this one.
fn is_cl100k(bare: &str) -> bool {
    let starts = [
        "gpt-4-",
        "gpt-3.5",
        "gpt-35",
        "text-embedding-3",
        "text-embedding-ada",
        "text-davinci",
        "text-curie",
        "text-babbage",
        "text-ada",
        "code-davinci",
        "davinci",
        "babbage",
        "curie",
    ];
    bare == "ada" || bare.starts_with("ada:") || starts.iter().any(|start| bare.starts_with(start))
}
