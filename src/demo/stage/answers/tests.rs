//! Answers read back by those who read the answers of real providers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::super::ask::Ask;
use super::super::caller::scripted;
use super::super::company::{Company, Part};
use super::super::cue::{Cue, Ending};
use super::super::play::Play;
use super::super::request;
use super::answer;
use crate::demo::models::Dialect;
use crate::demo::random::Dice;
use crate::framing::Framer;
use crate::pricing::PriceBook;
use crate::provider::{RESPONSE, Reader, Reading};
use crate::record::Outcome;
use crate::usage::{Usage, UsageSource};

fn prices() -> Arc<PriceBook> {
    static PRICES: OnceLock<Arc<PriceBook>> = OnceLock::new();
    Arc::clone(PRICES.get_or_init(|| Arc::new(PriceBook::builtin())))
}

fn body(play: &Play) -> Vec<u8> {
    play.beats.iter().flat_map(|beat| beat.bytes.to_vec()).collect()
}

fn read(play: &Play) -> Reading {
    let mut reader = Reader::new();
    let mut framer = Framer::for_content_type(Some(play.content_type), &RESPONSE);
    framer.push(&body(play), &mut reader);
    reader.ended();
    reader.reading().clone()
}

/// Calls of the company, as they would be answered.
fn parts(count: i64) -> Vec<(Part, Ask, Play)> {
    let mut company = Company::new(40, prices(), 3);
    let parts = (0..count).map(|at| company.next(1_790_000_000_000 + 500 * at));
    parts
        .map(|part| {
            let Part { model, record, session } = &part;
            let body = request::body(model, record, session.operation.system, 5).to_string();
            let is_default = record.path.starts_with("/v1/");
            let before = if is_default { format!("/{}", model.upstream) } else { String::new() };
            let path = before + &record.path;
            let query = request::query(model.dialect, record).strip_prefix('?');
            let mut ask = Ask::read(&path, query, body.as_bytes()).unwrap();
            assert_eq!(ask.dialect, model.dialect, "{path}");
            // As the proxy sees to it.
            ask.wants_usage |= record.stream_usage.is_some();
            let cue = serde_json::to_string(&scripted(model, record, 5)).unwrap();
            assert!(cue.len() < 4_000, "{} bytes", cue.len());
            let play = answer(&ask, &Cue::read(cue.as_bytes()).unwrap());
            (part, ask, play)
        })
        .collect()
}

#[test]
fn what_is_scripted_is_what_is_read() {
    let mut seen = HashMap::<(String, bool), u32>::new();
    for (Part { record, model, .. }, ask, play) in parts(1_500) {
        let reading = read(&play);
        let text = || String::from_utf8_lossy(&body(&play)).into_owned();
        if record.outcome != Outcome::Completed {
            continue;
        }
        assert_eq!(Some(play.status), record.status);
        assert_eq!(reading.error, record.error, "{}", text());
        if record.status != Some(200) {
            continue;
        }
        assert_eq!(ask.is_stream, record.streaming, "{}", record.path);
        if model.dialect != Dialect::Speech {
            assert_eq!(reading.model, record.model, "{}", text());
        }
        assert_eq!(reading.finish_reason, record.finish_reason, "{}", text());
        assert_eq!(play.beats.last().unwrap().at_ms, record.duration_ms.unwrap());
        assert_eq!(reading.service_tier, record.service_tier, "{}", text());
        if record.usage_source == UsageSource::Reported {
            let mut read = record.clone();
            read.set_usage(&reading.usage, UsageSource::Reported);
            let both = [&read, &record].map(|record| serde_json::to_string(record).unwrap());
            assert_eq!(both[0], both[1]);
            if model.dialect == Dialect::OpenRouter {
                assert_eq!(reading.cost.map(crate::units::Usd::rounded), record.cost_usd);
            }
        } else {
            assert_eq!(reading.usage, Usage::default(), "{}", text());
        }
        *seen.entry((format!("{:?}", model.dialect), record.streaming)).or_default() += 1;
    }
    let dialects = ["Chat", "AzureChat", "Responses", "Messages", "OpenRouter", "Gemini"];
    for dialect in dialects {
        for streaming in [true, false] {
            let calls = seen.get(&(dialect.to_owned(), streaming)).copied().unwrap_or(0);
            assert!(calls > 0, "{dialect} {streaming}: {seen:?}");
        }
    }
    for dialect in ["Embeddings", "Ollama", "OllamaEmbed", "Speech"] {
        assert!(seen.contains_key(&(dialect.to_owned(), false)), "{dialect}: {seen:?}");
    }
}

#[test]
fn pieces_go_in_the_order_of_their_times() {
    for (_, _, play) in parts(300) {
        assert!(play.beats.is_sorted_by_key(|beat| beat.at_ms));
        assert!(play.beats.first().is_none_or(|beat| play.head_ms <= beat.at_ms));
        assert_eq!(play.beats.is_empty(), play.ending == Ending::Silent);
    }
}

/// What a newcomer's own call gets: nothing is scripted there.
#[test]
fn a_call_without_a_cue_is_answered_too() {
    let mut dice = Dice::new(1, 1);
    let prompt = r#""model":"gpt-4o-mini","max_tokens":400,"input":"Hi","stream":"#;
    let options = r#""stream_options":{"include_usage":true}"#;
    for path in [
        "/openai/v1/chat/completions",
        "/mistral/v1/chat/completions",
        "/openrouter/api/v1/chat/completions",
        "/azure/openai/deployments/prod-chat/chat/completions",
        "/openai/v1/responses",
        "/openai/v1/embeddings",
        "/anthropic/v1/messages",
        "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
        "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        "/ollama/api/chat",
        "/ollama/api/embed",
    ] {
        for is_stream in [true, false] {
            let body = format!("{{{prompt}{is_stream},{options}}}");
            let ask = Ask::read(path, None, body.as_bytes()).unwrap();
            let cue = Cue::made_up(&ask, 77, &prices(), &mut dice);
            let reading = read(&answer(&ask, &cue));
            assert_eq!(reading.usage.input, Some(77), "{path}");
            let said = ask.dialect.generates().then_some(cue.said);
            assert_eq!(reading.usage.output, said, "{path}");
            assert!(cue.said <= 400 && reading.error.is_none(), "{path}");
            assert_eq!(reading.finish_reason.is_some(), said.is_some(), "{path}");
        }
    }
}

#[test]
fn what_breaks_off_says_no_end() {
    let body = br#"{"model":"m","stream":true}"#;
    for path in ["/openai/v1/chat/completions", "/anthropic/v1/messages", "/openai/v1/responses"] {
        let ask = Ask::read(path, None, body).unwrap();
        let torn = Cue { status: 200, said: 9, ending: Ending::Torn, ..Cue::default() };
        let play = answer(&ask, &torn);
        let reading = read(&play);
        assert!(!reading.finished && reading.generated, "{path}");
        assert_eq!(play.ending, Ending::Torn);
    }
}
