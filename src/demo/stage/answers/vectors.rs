//! Embeddings, as OpenAI and Ollama give them. The vectors say nothing.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::Play;
use super::{model, usage};
use crate::demo::models::Dialect;

/// Members of a vector: enough to look like one.
const MEMBERS: u32 = 64;

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    let vector: Value = (0..MEMBERS).map(member).collect();
    if ask.dialect == Dialect::OllamaEmbed {
        let vectors = vec![vector; ask.texts];
        let mut document = json!({"model": model(ask, cue), "embeddings": vectors});
        let mut figures = usage(cue);
        if let (Some(document), Some(figures)) = (document.as_object_mut(), figures.as_object_mut())
        {
            document.append(figures);
        }
        return Play::whole(cue, &document);
    }
    let one = |index| json!({"object": "embedding", "index": index, "embedding": vector.clone()});
    let data: Vec<Value> = (0..ask.texts).map(one).collect();
    let document =
        json!({"object": "list", "data": data, "model": model(ask, cue), "usage": usage(cue)});
    Play::whole(cue, &document)
}

fn member(at: u32) -> f64 {
    (f64::from(at) * 0.7).sin() / 8.0
}
