//! OpenAI's Responses.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::{Form, Play, Stream};
use super::super::text;
use super::{id, model, usage};
use crate::units::Timestamp;

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    if ask.is_stream {
        return stream(ask, cue);
    }
    Play::whole(cue, &finished(ask, cue))
}

fn stream(ask: &Ask, cue: &Cue) -> Play {
    let mut stream = Stream::new(cue, Form::Events);
    let mut number = 0;
    let mut say = |stream: &mut Stream<'_>, at: u64, name: &str, mut rest: Value| {
        let mut event = json!({"type": name, "sequence_number": number});
        if let (Some(event), Some(rest)) = (event.as_object_mut(), rest.as_object_mut()) {
            event.append(rest);
        }
        number += 1;
        stream.say(at, Some(name), &event);
    };
    let begun = response(ask, cue, "in_progress", &json!([]), &Value::Null);
    say(&mut stream, cue.first_ms, "response.created", json!({"response": begun}));
    let place = json!({"item_id": id("msg_", cue), "output_index": 0, "content_index": 0});
    stream.texts(|stream, at, piece| {
        let mut delta = place.clone();
        delta["delta"] = piece.into();
        say(stream, at, "response.output_text.delta", delta);
    });
    if stream.is_whole() {
        let finished = finished(ask, cue);
        let name = format!("response.{}", finished["status"].as_str().unwrap_or("completed"));
        let last = stream.last_ms();
        say(&mut stream, last, &name, json!({"response": finished}));
    }
    stream.play()
}

fn finished(ask: &Ask, cue: &Cue) -> Value {
    let said = json!({"type": "output_text", "text": text::text(cue.from, cue.said),
                      "annotations": []});
    let message = json!({"id": id("msg_", cue), "type": "message", "status": "completed",
                         "role": "assistant", "content": [said]});
    let cut = cue.finish.as_deref().filter(|finish| *finish != "completed");
    let status = if cut.is_some() { "incomplete" } else { "completed" };
    let mut response = response(ask, cue, status, &json!([message]), &usage(cue));
    if let Some(reason) = cut {
        response["incomplete_details"] = json!({"reason": reason});
    }
    response
}

fn response(ask: &Ask, cue: &Cue, status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": id("resp_", cue),
        "object": "response",
        "created_at": Timestamp::now().millis() / 1000,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": model(ask, cue),
        "output": output,
        "service_tier": cue.tier.as_deref().unwrap_or("default"),
        "usage": usage,
    })
}
