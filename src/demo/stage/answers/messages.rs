//! Anthropic's Messages.

use serde_json::{Value, json};

use super::super::ask::Ask;
use super::super::cue::Cue;
use super::super::play::{Form, Play, Stream};
use super::super::text;
use super::{id, model, usage};

/// What an agent wants to be done next.
const TOOL: &str = "read_file";
const TOOL_INPUT: &str = r#"{"path": "src/main.rs"}"#;

pub(super) fn answer(ask: &Ask, cue: &Cue) -> Play {
    if ask.is_stream {
        return stream(ask, cue);
    }
    let mut content = vec![json!({"type": "text", "text": text::text(cue.from, cue.said)})];
    if wants_tool(cue) {
        let input = json!({"path": "src/main.rs"});
        content.push(json!({"type": "tool_use", "id": id("toolu_", cue), "name": TOOL,
                            "input": input}));
    }
    Play::whole(cue, &message(ask, cue, &content, cue.finish.as_deref(), &usage(cue)))
}

fn stream(ask: &Ask, cue: &Cue) -> Play {
    let mut stream = Stream::new(cue, Form::Events);
    let say = |stream: &mut Stream<'_>, at: u64, event: Value| {
        let name = event["type"].as_str().unwrap_or_default().to_owned();
        stream.say(at, Some(&name), &event);
    };
    let (first, last) = (cue.first_ms, cue.last_ms);
    let begun = message(ask, cue, &[], None, &begun(cue));
    say(&mut stream, first, json!({"type": "message_start", "message": begun}));
    let block = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
    say(&mut stream, first, block(0, json!({"type": "text", "text": ""})));
    stream.texts(|stream, at, piece| {
        say(stream, at, delta(0, json!({"type": "text_delta", "text": piece})));
    });
    if stream.is_whole() {
        say(&mut stream, last, stop(0));
        if wants_tool(cue) {
            let tool =
                json!({"type": "tool_use", "id": id("toolu_", cue), "name": TOOL, "input": {}});
            say(&mut stream, last, block(1, tool));
            let input = json!({"type": "input_json_delta", "partial_json": TOOL_INPUT});
            say(&mut stream, last, delta(1, input));
            say(&mut stream, last, stop(1));
        }
        let end = json!({"stop_reason": cue.finish, "stop_sequence": null});
        say(&mut stream, last, json!({"type": "message_delta", "delta": end, "usage": usage(cue)}));
        say(&mut stream, last, json!({"type": "message_stop"}));
    }
    stream.play()
}

fn wants_tool(cue: &Cue) -> bool {
    cue.finish.as_deref() == Some("tool_use")
}

/// The usage as it stands at the beginning: all of the input, and a first bit of the output.
fn begun(cue: &Cue) -> Value {
    let mut begun = usage(cue);
    if let Some(begun) = begun.as_object_mut() {
        begun.remove("output_tokens_details");
        begun.insert("output_tokens".to_owned(), 1.into());
    }
    begun
}

fn message(ask: &Ask, cue: &Cue, content: &[Value], reason: Option<&str>, usage: &Value) -> Value {
    json!({
        "id": id("msg_", cue),
        "type": "message",
        "role": "assistant",
        "model": model(ask, cue),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": null,
        "usage": usage,
    })
}
