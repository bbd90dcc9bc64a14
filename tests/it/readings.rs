//! Every recorded answer is read as known, whole and in pieces of every size.

use tokenmeter::provider::{Reading, read_again};
use tokenmeter::units::Usd;
use tokenmeter::usage::Usage;

use crate::corpus::{Recording, read, recordings};

fn differences(recording: &Recording, reading: &Reading) -> Vec<String> {
    let known = &recording.expected.normalized;
    let mut found = Vec::new();
    let usage = &reading.usage;
    for (name, expected, got) in [
        ("input", known.input, usage.input),
        ("output", known.output, usage.output),
        ("reasoning", known.reasoning, usage.reasoning),
        ("cache_read", known.cache_read, usage.cache_read),
        ("cache_write", known.cache_write, usage.cache_write),
        ("audio_input", known.audio_input, usage.audio_input),
        ("audio_output", known.audio_output, usage.audio_output),
        ("total", known.total, usage.total),
    ] {
        if expected.map(|count| count.0) != got {
            found.push(format!("{name}: expected {expected:?}, read {got:?}"));
        }
    }
    let expected = &recording.expected;
    // For Bedrock's invoke streams the known answers hold what the metrics say, not what the model's
    // own events say beside them: model and finish reason.
    if recording.api == "bedrock.invoke" && recording.streaming && expected.finish_reason.is_none()
    {
        return found;
    }
    if expected.model.as_deref().filter(|m| !m.is_empty()) != reading.model.as_deref() {
        found.push(format!("model: expected {:?}, read {:?}", expected.model, reading.model));
    }
    if expected.finish_reason() != reading.finish_reason {
        let (expected, read) = (&expected.finish_reason, &reading.finish_reason);
        found.push(format!("finish_reason: expected {expected:?}, read {read:?}"));
    }
    let cost = expected.reported_cost.as_ref().map(|cost| cost.as_str().parse::<Usd>().unwrap());
    // The known answers leave out the cost that OpenRouter states in the Messages dialect.
    let left_out = recording.provider == "openrouter" && recording.api == "messages";
    if cost != reading.cost && !left_out {
        found.push(format!("cost: expected {cost:?}, read {:?}", reading.cost));
    }
    if expected.usage_present != reading.usage_json.is_some() {
        found.push(format!("usage present: expected {}", expected.usage_present));
    }
    found
}

#[test]
fn every_recorded_answer_is_read_as_known() {
    let (mut count, mut wrong) = (0, 0);
    for recording in recordings().filter(|recording| recording.api != "realtime") {
        let body = recording.response.body();
        for cut in [body.len().max(1), 1, 7, 1000] {
            let reading = read(&recording, &body, cut);
            let found = differences(&recording, &reading);
            if !found.is_empty() {
                wrong += 1;
                let Recording { id, provider, api, streaming, .. } = &recording;
                eprintln!("{id} {provider} {api} streaming={streaming} cut={cut}: {found:?}");
                break;
            }
        }
        count += 1;
    }
    assert!(count > 0);
    assert_eq!(wrong, 0, "of {count} recordings");
}

/// The figures that a row has a column for.
fn columns(usage: &Usage) -> Usage {
    Usage {
        cache_write_1h: None,
        video_input: None,
        cache_read_audio: None,
        cache_read_image: None,
        web_searches: None,
        audio_input_ms: None,
        ..usage.clone()
    }
}

#[test]
fn a_usage_object_that_was_kept_is_read_as_it_was() {
    let (mut count, mut wrong) = (0, 0);
    for recording in recordings().filter(|recording| recording.api != "realtime") {
        let body = recording.response.body();
        let reading = read(&recording, &body, body.len().max(1));
        // Of a batch the object of the last line is kept.
        let Some(raw) = reading.usage_json.as_ref().filter(|_| !reading.batch) else { continue };
        let known = columns(&reading.usage);
        let again = read_again(raw, |usage| columns(usage) == known);
        let facts = |reading: &Reading| {
            let Reading { usage, side, speed, several_turns, cost, .. } = reading.clone();
            (usage, side, speed, several_turns, cost)
        };
        if again.as_ref().map(facts) != Some(facts(&reading)) {
            wrong += 1;
            eprintln!("{}: {raw} was {:?} and is {again:?}", recording.id, reading.usage);
        }
        count += 1;
    }
    println!("{count} usage objects read again");
    assert!(count > 250, "{count}");
    assert_eq!(wrong, 0, "of {count} usage objects");
}
