//! The laws that generated calls keep.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use super::*;
use crate::framing::Scanner;
use crate::pricing::{Billable, CostSource};
use crate::provider::{RESPONSE, Reader};
use crate::record::Outcome;
use crate::usage::UsageSource;

const DAYS: i64 = 21;

fn settings(seed: u64, calls: u64) -> Settings {
    let until = "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap();
    Settings {
        seed,
        calls,
        since: Timestamp::from_millis(until.millis() - DAYS * 86_400_000),
        until,
        users: 500,
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

/// Read once, as the calls are made once: both take a while without optimisation.
fn prices() -> Arc<PriceBook> {
    static PRICES: OnceLock<Arc<PriceBook>> = OnceLock::new();
    Arc::clone(PRICES.get_or_init(|| Arc::new(PriceBook::builtin())))
}

fn made(settings: &Settings) -> Demo {
    Demo::new(settings, prices())
}

fn calls() -> &'static [Record] {
    static CALLS: OnceLock<Vec<Record>> = OnceLock::new();
    CALLS.get_or_init(|| made(&settings(1, 30_000)).collect())
}

fn text(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

#[test]
fn one_seed_gives_the_same_calls_and_another_gives_others() {
    let texts = |seed| made(&settings(seed, 500)).map(|record| text(&record)).collect::<Vec<_>>();
    let first = texts(1);
    assert_eq!(first, texts(1));
    assert_ne!(first, texts(2));
}

#[test]
fn there_are_exactly_so_many_all_within_the_window() {
    for calls in [0, 1, 2, 7, 1000] {
        let settings = settings(3, calls);
        let demo = made(&settings);
        assert_eq!(demo.size_hint().0 as u64, calls);
        let all: Vec<Record> = demo.collect();
        assert_eq!(all.len() as u64, calls);
        let window = settings.since..settings.until;
        assert!(all.iter().all(|record| window.contains(&record.created_at)));
    }
    let at = Timestamp::from_millis(5);
    let narrow = Settings { since: at, until: at, ..settings(3, 50) };
    assert!(made(&narrow).all(|record| record.created_at == at));
}

#[test]
fn they_come_as_they_end_and_no_id_twice() {
    let (mut ids, mut last_end, mut last_id, mut begun) = (HashSet::new(), 0, None, Vec::new());
    for record in calls() {
        let end = record.created_at.millis().unsigned_abs() + record.duration_ms.unwrap_or(0);
        assert!(end >= last_end);
        last_end = end;
        begun.push((record.created_at, record.id));
        last_id = last_id.max(Some(record.id));
        assert!(ids.insert(record.id));
    }
    assert_eq!(ids.len(), 30_000);
    assert!(!begun.is_sorted(), "calls overlap");
    begun.sort_unstable();
    assert!(begun.iter().map(|(_, id)| id).is_sorted(), "ids ascend with time");
}

#[test]
fn parts_never_exceed_their_whole() {
    for record in calls() {
        let known = |class: Option<u64>| class.unwrap_or(0);
        let input = known(record.cache_read_tokens) + known(record.cache_write_tokens);
        let media = known(record.audio_input_tokens) + known(record.image_input_tokens);
        let output = known(record.reasoning_tokens) + known(record.audio_output_tokens);
        assert!(input.max(media) <= known(record.input_tokens), "{}", text(record));
        assert!(output <= known(record.output_tokens), "{}", text(record));
        let sum = known(record.input_tokens) + known(record.output_tokens);
        assert_eq!(sum, known(record.total_tokens), "{}", text(record));
        let first = known(record.time_to_first_token_ms).max(known(record.time_to_first_byte_ms));
        assert!(first <= known(record.duration_ms), "{}", text(record));
    }
}

/// An answer that has this usage object, as its provider would send it.
fn answer(record: &Record) -> String {
    let usage = record.usage_json.as_ref().unwrap().get();
    match record.endpoint.as_str() {
        "ollama.chat" | "ollama.embed" => usage.to_owned(),
        "gemini.generateContent" => format!(r#"{{"candidates":[],"usageMetadata":{usage}}}"#),
        "messages" => format!(r#"{{"type":"message","usage":{usage}}}"#),
        "responses" => format!(r#"{{"object":"response","usage":{usage}}}"#),
        "embeddings" => format!(r#"{{"object":"list","data":[],"usage":{usage}}}"#),
        _ => format!(r#"{{"object":"chat.completion","choices":[],"usage":{usage}}}"#),
    }
}

#[test]
fn rows_are_those_that_the_meter_makes_of_the_usage_as_sent() {
    let prices = prices();
    let mut seen = HashMap::new();
    for record in calls().iter().filter(|record| record.usage_json.is_some()) {
        let mut reader = Reader::new();
        Scanner::new(&RESPONSE).push(answer(record).as_bytes(), &mut reader);
        let reading = reader.reading();
        let sent = reading.usage_json.as_ref().unwrap().to_string();
        assert_eq!(sent, record.usage_json.as_ref().unwrap().get(), "{}", text(record));
        if record.usage_source == UsageSource::Estimated {
            assert_eq!(reading.usage.input, record.input_tokens);
            continue;
        }
        let mut read = record.clone();
        read.set_usage(&reading.usage, UsageSource::Reported);
        assert_eq!(text(&read), text(record));
        let cost = prices.price(&Billable {
            provider: &record.provider,
            model: record.model.as_deref(),
            at: record.created_at,
            service_tier: record.service_tier.as_deref(),
            batch: false,
            usage: &reading.usage,
            several_turns: false,
            side: &[],
            reported: reading.cost,
        });
        assert_eq!(cost.usd.map(crate::units::Usd::rounded), record.cost_usd, "{}", text(record));
        let computed = cost.computed.map(crate::units::Usd::rounded);
        assert_eq!(computed, record.computed_cost_usd, "{}", text(record));
        assert_eq!((cost.source, cost.price_id), (record.cost_source, record.price_id.clone()));
        *seen.entry(record.model.as_deref().unwrap()).or_insert(0) += 1;
    }
    assert!(seen.len() >= 18, "{seen:?}");
    assert!(seen.values().all(|calls| *calls > 5), "{seen:?}");
}

#[test]
fn everything_that_can_happen_does_at_believable_rates() {
    let (mut rates, mut total) = (HashMap::<String, u32>::new(), 0);
    for record in calls() {
        let mut count = |what: String| *rates.entry(what).or_default() += 1;
        count(record.outcome.as_str().to_owned());
        count(record.usage_source.as_str().to_owned());
        count(format!("cost {}", record.cost_source.as_str()));
        count(format!("status {}", record.status.unwrap_or(0)));
        count(format!("upstream {}", record.upstream));
        count(format!("operation {}", record.operation.clone().unwrap()));
        count(format!("user {}", record.user.is_some()));
        count(format!("streaming {}", record.streaming));
        count(format!("retry {}", record.retry.is_some_and(|retry| retry > 0)));
        count(format!("attempt {}", record.attempt.is_some_and(|attempt| attempt > 1)));
        count(format!("metadata {}", record.metadata.is_some()));
        count(format!("injected {}", record.stream_usage.is_some()));
        count(format!("fetchable {}", !record.charges.is_empty()));
        total += 1;
    }
    let share = |what: &str| {
        let count = rates.get(what).copied().unwrap_or(0);
        f64::from(count) / f64::from(total)
    };
    for (what, from, to) in [
        ("client_closed", 0.004, 0.015),
        ("upstream_failed", 0.000_5, 0.004),
        ("interrupted", 0.000_01, 0.001),
        ("status 429", 0.003, 0.015),
        ("status 400", 0.001, 0.008),
        ("reported", 0.9, 0.985),
        ("estimated", 0.005, 0.06),
        ("cost priced", 0.5, 0.95),
        ("cost provider", 0.03, 0.25),
        ("cost free", 0.02, 0.15),
        ("cost default", 0.001, 0.02),
        ("cost none", 0.005, 0.05),
        ("user false", 0.02, 0.15),
        ("streaming true", 0.4, 0.8),
        ("retry true", 0.005, 0.03),
        ("attempt true", 0.02, 0.15),
        ("metadata true", 0.7, 0.95),
        ("injected true", 0.02, 0.2),
        ("fetchable true", 0.02, 0.2),
    ] {
        assert!((from..=to).contains(&share(what)), "{what}: {}", share(what));
    }
    let names = |prefix: &str| rates.keys().filter(|what| what.starts_with(prefix)).count();
    assert_eq!((names("upstream "), names("operation ")), (6, 12));
    assert!(rates.iter().filter(|(what, _)| what.starts_with("operation")).all(|(_, n)| *n > 200));
}

#[test]
fn sessions_and_users_are_those_of_a_company() {
    let (mut sessions, mut users) = (HashMap::<String, Vec<Record>>::new(), HashMap::new());
    for record in calls() {
        if let Some(user) = &record.user {
            *users.entry(user.clone()).or_insert(0_u64) += 1;
        }
        if let Some(session) = record.session.clone() {
            sessions.entry(session).or_default().push(record.clone());
        }
    }
    assert!(sessions.len() > 2000 && users.len() > 300, "{} {}", sessions.len(), users.len());
    for (name, mut calls) in sessions {
        assert!((1..=20).contains(&calls.len()), "{name}");
        calls.sort_by_key(|call| call.created_at);
        let first = &calls[0];
        assert!(calls.iter().all(|call| call.user == first.user));
        assert!(calls.iter().all(|call| call.operation == first.operation));
        let apart = calls.windows(2).all(|pair| {
            let took = pair[0].duration_ms.unwrap_or(0).cast_signed();
            let end = pair[0].created_at.millis() + took;
            pair[1].created_at.millis() >= end.min(settings(1, 1).until.millis() - 1)
        });
        assert!(apart || first.created_at.millis() > settings(1, 1).until.millis() - 86_400_000);
    }
    let most = *users.values().max().unwrap();
    assert!((300..3000).contains(&most), "{most}");
    assert!(users.values().any(|calls| *calls < 5));
}

#[test]
fn what_did_not_get_through_used_nothing() {
    for record in calls().iter().filter(|record| record.outcome != Outcome::Completed) {
        if record.status != Some(200) {
            assert_eq!(record.usage_source, UsageSource::None, "{}", text(record));
            let is_free = record.cost_source == CostSource::Free;
            assert!(is_free || record.cost_usd.is_none(), "{}", text(record));
        }
    }
}
