//! Chat completions, as OpenAI, Azure and `OpenRouter` answer them.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::{Form, Play, Stream};
use super::super::text;
use super::{id, model, usage};
use crate::demo::models::Dialect;
use crate::units::Timestamp;

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    if ask.is_stream { stream(ask, cue) } else { whole(ask, cue) }
}

fn whole(ask: &Ask, cue: &Cue) -> Play {
    let message = json!({"role": "assistant", "content": text::text(cue.from, cue.said),
                         "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null,
                        "finish_reason": cue.finish});
    let mut document = about(ask, cue, "chat.completion");
    document["choices"] = json!([choice]);
    document["usage"] = usage(cue);
    Play::whole(cue, &document)
}

fn stream(ask: &Ask, cue: &Cue) -> Play {
    let about = about(ask, cue, "chat.completion.chunk");
    let is_openrouter = ask.dialect == Dialect::OpenRouter;
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = about.clone();
        chunk["choices"] = choices;
        // Nobody speaks of it who was not asked for it.
        if ask.wants_usage && !is_openrouter || !usage.is_null() {
            chunk["usage"] = usage;
        }
        chunk
    };
    let choice = |delta: Value, finish: Option<&str>| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let mut stream = Stream::new(cue, Form::Events);
    let opening = choice(json!({"role": "assistant", "content": "", "refusal": null}), None);
    stream.say(cue.first_ms, None, &chunk(opening, Value::Null));
    stream.texts(|stream, at, piece| {
        let delta = choice(json!({"content": piece}), None);
        stream.say(at, None, &chunk(delta, Value::Null));
    });
    if stream.is_whole() {
        let last = stream.last_ms();
        let end = choice(json!({}), cue.finish.as_deref());
        if is_openrouter {
            stream.say(last, None, &chunk(end.clone(), Value::Null));
            stream.say(last, None, &chunk(end, usage(cue)));
        } else {
            stream.say(last, None, &chunk(end, Value::Null));
            if ask.wants_usage {
                stream.say(last, None, &chunk(json!([]), usage(cue)));
            }
        }
        stream.push(last, "data: [DONE]\n\n".to_owned());
    }
    stream.play()
}

/// What every document begins with.
fn about(ask: &Ask, cue: &Cue, object: &str) -> Value {
    let id = match (ask.dialect, &cue.id) {
        // It is known by its answer's id.
        (Dialect::OpenRouter, Some(id)) => id.clone(),
        _ => id("chatcmpl-", cue),
    };
    let created = Timestamp::now().millis() / 1000;
    let mut about =
        json!({"id": id, "object": object, "created": created, "model": model(ask, cue)});
    if let Some(tier) = &cue.tier {
        about["service_tier"] = tier.as_str().into();
    }
    about
}
