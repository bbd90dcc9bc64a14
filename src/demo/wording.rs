//! The usage object of an answer, in its provider's words. Owns names and order of the members, as
//! recorded traffic has them; knows nothing of how a usage came about.
//!
//! Invariant: read back by `provider`, the text gives the usage that it was made from.

use std::fmt::{self, Write};

use super::models::Dialect;
use super::random::Dice;
use crate::pricing::Cost;
use crate::units::Usd;
use crate::usage::Usage;

/// The longest of them, nearly.
const CAPACITY: usize = 480;

/// The usage object; nothing where an answer has none. `cost` is what the provider charges, `took_ms`
/// how long the answer took.
pub(super) fn usage_json(
    dialect: Dialect,
    usage: &Usage,
    cost: &Cost,
    took_ms: u64,
    dice: &mut Dice,
) -> Option<String> {
    let mut text = String::with_capacity(CAPACITY);
    let to = &mut text;
    let written = match dialect {
        Dialect::Chat => chat(to, usage),
        Dialect::AzureChat => azure_chat(to, usage),
        Dialect::Responses => responses(to, usage),
        Dialect::Embeddings => embeddings(to, usage),
        Dialect::Messages => messages(to, usage),
        Dialect::OpenRouter => openrouter(to, usage, cost),
        Dialect::Gemini => gemini(to, usage),
        Dialect::Ollama | Dialect::OllamaEmbed => ollama(to, usage, took_ms, dice),
        Dialect::Speech => return None,
    };
    written.expect("a String takes all");
    Some(text)
}

fn chat(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, output, total, cached, reasoning] = figures(usage);
    let [heard, spoken] = [usage.audio_input, usage.audio_output].map(Option::unwrap_or_default);
    write!(
        to,
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":{heard}}},"completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":{spoken},"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
    )
}

/// Azure's members stand in the order of the alphabet.
fn azure_chat(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, output, total, cached, reasoning] = figures(usage);
    write!(
        to,
        r#"{{"completion_tokens":{output},"completion_tokens_details":{{"accepted_prediction_tokens":0,"audio_tokens":0,"reasoning_tokens":{reasoning},"rejected_prediction_tokens":0}},"prompt_tokens":{input},"prompt_tokens_details":{{"audio_tokens":0,"cached_tokens":{cached}}},"total_tokens":{total}}}"#
    )
}

fn responses(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, output, total, cached, reasoning] = figures(usage);
    write!(
        to,
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cache_write_tokens":0,"cached_tokens":{cached}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total}}}"#
    )
}

fn embeddings(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, ..] = figures(usage);
    write!(to, r#"{{"prompt_tokens":{input},"total_tokens":{input}}}"#)
}

fn messages(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, output, _, read, _] = figures(usage);
    let written = usage.cache_write.unwrap_or_default();
    let fresh = input - read - written;
    write!(
        to,
        r#"{{"input_tokens":{fresh},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":{written},"ephemeral_1h_input_tokens":0}},"output_tokens":{output},"#
    )?;
    if let Some(thought) = usage.reasoning {
        write!(to, r#""output_tokens_details":{{"thinking_tokens":{thought}}},"#)?;
    }
    to.write_str(r#""service_tier":"standard","inference_geo":"global"}"#)
}

fn openrouter(to: &mut String, usage: &Usage, cost: &Cost) -> fmt::Result {
    let [input, output, total, cached, reasoning] = figures(usage);
    let is_output = |class: &str| class.ends_with("output") || class == "reasoning";
    let side = |output| {
        let parts = cost.parts.iter().filter(|part| is_output(part.class) == output);
        parts.map(|part| part.usd).sum::<Usd>()
    };
    let (prompt_cost, completion_cost) = (side(false), side(true));
    let cost = cost.usd.unwrap_or_default();
    write!(
        to,
        r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total},"cost":{cost},"is_byok":false,"prompt_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0}},"cost_details":{{"upstream_inference_cost":{cost},"upstream_inference_prompt_cost":{prompt_cost},"upstream_inference_completions_cost":{completion_cost}}},"completion_tokens_details":{{"reasoning_tokens":{reasoning},"image_tokens":0,"audio_tokens":0}}}}"#
    )
}

/// What is 0 is left out.
fn gemini(to: &mut String, usage: &Usage) -> fmt::Result {
    let [input, output, total, cached, reasoning] = figures(usage);
    let said = output - reasoning;
    write!(
        to,
        r#"{{"promptTokenCount":{input},"candidatesTokenCount":{said},"totalTokenCount":{total},"#
    )?;
    if cached > 0 {
        write!(to, r#""cachedContentTokenCount":{cached},"#)?;
    }
    let media = usage.audio_input.or(usage.image_input);
    let text = input - media.unwrap_or_default();
    write!(to, r#""promptTokensDetails":[{{"modality":"TEXT","tokenCount":{text}}}"#)?;
    if let Some(media) = media {
        let modality = if usage.audio_input.is_some() { "AUDIO" } else { "IMAGE" };
        write!(to, r#",{{"modality":"{modality}","tokenCount":{media}}}"#)?;
    }
    to.push(']');
    if reasoning > 0 {
        write!(to, r#","thoughtsTokenCount":{reasoning}"#)?;
    }
    to.write_str(r#","serviceTier":"standard"}"#)
}

/// Times are in nanoseconds.
fn ollama(to: &mut String, usage: &Usage, took_ms: u64, dice: &mut Dice) -> fmt::Result {
    let [input, output, ..] = figures(usage);
    let took = took_ms * 1_000_000 + dice.below(1_000_000);
    let load = took / 20 + dice.below(1_000_000);
    write!(to, r#"{{"total_duration":{took},"load_duration":{load},"prompt_eval_count":{input}"#)?;
    if usage.output.is_some() {
        let (prompt, spoken) = (took / 8, took * 7 / 10);
        write!(
            to,
            r#","prompt_eval_duration":{prompt},"eval_count":{output},"eval_duration":{spoken}"#
        )?;
    }
    to.write_char('}')
}

/// Input, output, total, read from the cache, reasoning.
fn figures(usage: &Usage) -> [u64; 5] {
    [usage.input, usage.output, usage.total, usage.cache_read, usage.reasoning]
        .map(Option::unwrap_or_default)
}
