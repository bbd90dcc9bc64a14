//! Rows as metrics: tokens, times, dollars. Owns the instruments and their attributes; the words come from
//! the profile.
//!
//! Invariant: an attribute has few values. Models are named by clients, so that of each instrument the SDK
//! keeps 2,000 sets of attributes and adds up the rest under `otel.metric.overflow`. What a counter has too much
//! is made up for by what it counts later.

use std::collections::HashMap;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use rust_decimal::prelude::ToPrimitive;

use super::Server;
use super::names::{self, Class, FETCH, Names, Profile, TokenHistograms};
use super::owed::{Owed, Part};
use super::spans::{cut, error_type, seconds};
use crate::record::{Record, SECONDS_PER_OUTPUT_TOKEN};
use crate::units::Usd;

/// Bounds of buckets, as the conventions advise.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const DURATION: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const UNKNOWN: &str = "unknown";

/// All instruments.
#[derive(Debug)]
pub(super) struct Metrics {
    profiles: Vec<Instruments>,
    cost: Counter<f64>,
    cost_owed: Owed<Usd>,
    per_token: Histogram<f64>,
    servers: HashMap<String, Server>,
}

/// Those of one profile.
#[derive(Debug)]
struct Instruments {
    counters: Vec<TokenCounter>,
    tokens: Tokens,
    duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
}

/// Of one class of tokens.
#[derive(Debug)]
struct TokenCounter {
    class: Class,
    counter: Counter<u64>,
    owed: Owed<u64>,
}

#[derive(Debug)]
enum Tokens {
    ByType(Histogram<u64>),
    BySide(Histogram<u64>, Histogram<u64>),
}

impl Metrics {
    pub(super) fn new(
        meter: &Meter,
        profile: Profile,
        servers: HashMap<String, Server>,
    ) -> Metrics {
        Metrics {
            profiles: profile.names().iter().map(|names| Instruments::new(meter, names)).collect(),
            cost: meter
                .f64_counter("tokenmeter.cost")
                .with_unit("{USD}")
                .with_description("What calls cost; exact figures are in the ledger")
                .build(),
            cost_owed: Owed::default(),
            per_token: times(
                meter,
                "tokenmeter.time_per_output_token",
                "Seconds of a stream for each token after the first",
                &SECONDS_PER_OUTPUT_TOKEN,
            ),
            servers,
        }
    }

    /// Counts a call.
    pub(super) fn record(&mut self, record: &Record) {
        let attributes = self.attributes(record);
        for (with_source, cost) in cost(record, &attributes) {
            let more = self.cost_owed.settle(&with_source, cost);
            self.add_cost(more, &with_source);
        }
        let mut timed = attributes.clone();
        timed.extend(error_type(record).map(|error| KeyValue::new("error.type", error)));
        for instruments in &self.profiles {
            if let Some(took) = record.duration_ms {
                instruments.duration.record(seconds(took), &timed);
            }
            if let Some(first) = record.time_to_first_token_ms {
                instruments.first_chunk.record(seconds(first), &attributes);
            }
        }
        if let Some(each) = record.seconds_per_output_token() {
            self.per_token.record(each, &attributes);
        }
        if is_fetched(record) {
            return;
        }
        for instruments in &mut self.profiles {
            instruments.count(record, &attributes);
        }
    }

    /// Counts what a row has more than before, and remembers what it has less.
    pub(super) fn correct(&mut self, before: &Record, after: &Record) {
        let old = self.attributes(before);
        let new = self.attributes(after);
        let more = self.cost_owed.correct(&cost(before, &old), cost(after, &new));
        for (with_source, cost) in more {
            self.add_cost(cost, &with_source);
        }
        if is_fetched(after) {
            return;
        }
        for instruments in &mut self.profiles {
            instruments.correct((before, &old), (after, &new));
        }
    }

    fn add_cost(&self, cost: Usd, attributes: &[KeyValue]) {
        if let Some(cost) = cost.decimal().to_f64().filter(|cost| *cost > 0.0) {
            self.cost.add(cost, attributes);
        }
    }

    fn attributes(&self, record: &Record) -> Vec<KeyValue> {
        let text = |name: &'static str, text: &str| KeyValue::new(name, cut(text));
        let mut attributes = vec![
            text("gen_ai.operation.name", names::operation(&record.endpoint)),
            text("gen_ai.provider.name", names::provider(&record.provider)),
        ];
        let requested = record.model_requested.as_deref();
        attributes.extend(requested.map(|model| text("gen_ai.request.model", model)));
        let answered = record.model.as_deref();
        attributes.extend(answered.map(|model| text("gen_ai.response.model", model)));
        if let Some(server) = self.servers.get(&record.upstream) {
            attributes.push(KeyValue::new("server.address", server.address.clone()));
            attributes.push(KeyValue::new("server.port", i64::from(server.port)));
        }
        attributes
    }
}

impl Instruments {
    fn new(meter: &Meter, names: &Names) -> Instruments {
        let counter = |name: &'static str| {
            meter.u64_counter(name).with_unit("{token}").with_description("Tokens used").build()
        };
        let tokens = |name: &'static str| {
            let histogram = meter.u64_histogram(name).with_unit("{token}");
            histogram
                .with_description("Tokens used by a call")
                .with_boundaries(TOKENS.to_vec())
                .build()
        };
        Instruments {
            counters: names
                .counters
                .iter()
                .map(|(class, name)| TokenCounter {
                    class: *class,
                    counter: counter(name),
                    owed: Owed::default(),
                })
                .collect(),
            tokens: match names.tokens {
                TokenHistograms::ByType(name) => Tokens::ByType(tokens(name)),
                TokenHistograms::BySide(input, output) => {
                    Tokens::BySide(tokens(input), tokens(output))
                }
            },
            duration: times(meter, names.duration, "How long calls take", &DURATION),
            first_chunk: times(
                meter,
                names.first_chunk,
                "Time to the first piece of a streamed answer",
                &FIRST,
            ),
        }
    }

    fn count(&mut self, record: &Record, attributes: &[KeyValue]) {
        for TokenCounter { class, counter, owed } in &mut self.counters {
            for (with_modality, count) in tokens(record, *class, attributes) {
                counter.add(owed.settle(&with_modality, count), &with_modality);
            }
        }
        self.tokens.record(attributes, record.input_tokens, record.output_tokens);
    }

    /// Each row with its attributes.
    fn correct(
        &mut self,
        (before, old): (&Record, &[KeyValue]),
        (after, attributes): (&Record, &[KeyValue]),
    ) {
        for TokenCounter { class, counter, owed } in &mut self.counters {
            let parts = tokens(after, *class, attributes);
            for (with_modality, count) in owed.correct(&tokens(before, *class, old), parts) {
                counter.add(count, &with_modality);
            }
        }
        // A histogram takes a call once.
        let new = |before: Option<u64>, after| if before.is_none() { after } else { None };
        self.tokens.record(
            attributes,
            new(before.input_tokens, after.input_tokens),
            new(before.output_tokens, after.output_tokens),
        );
    }
}

impl Tokens {
    fn record(&self, attributes: &[KeyValue], input: Option<u64>, output: Option<u64>) {
        let sides = [("input", input), ("output", output)];
        for (index, (side, count)) in sides.into_iter().enumerate() {
            let Some(count) = count else { continue };
            match self {
                Tokens::ByType(both) => {
                    both.record(count, &with(attributes, "gen_ai.token.type", side));
                }
                Tokens::BySide(input, output) => {
                    [input, output][index].record(count, attributes);
                }
            }
        }
    }
}

fn times(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    bounds: &[f64],
) -> Histogram<f64> {
    let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
    histogram.with_boundaries(bounds.to_vec()).build()
}

fn with(attributes: &[KeyValue], name: &'static str, value: &'static str) -> Vec<KeyValue> {
    let mut attributes = attributes.to_vec();
    attributes.push(KeyValue::new(name, value));
    attributes
}

/// What a call costs, by where that is from.
fn cost(record: &Record, attributes: &[KeyValue]) -> Vec<Part<Usd>> {
    let source = record.cost_source.as_str();
    let with_source = || with(attributes, "tokenmeter.cost_source", source);
    let cost = record.cost_usd.filter(|cost| *cost > Usd::ZERO);
    cost.map(|cost| (with_source(), cost)).into_iter().collect()
}

/// What a call has of a class, by modality.
fn tokens(record: &Record, class: Class, attributes: &[KeyValue]) -> Vec<Part<u64>> {
    let parts = counted(record, class);
    parts
        .map(|(modality, count)| (with(attributes, "gen_ai.token.modality", modality), count))
        .collect()
}

fn is_fetched(record: &Record) -> bool {
    names::operation(&record.endpoint) == FETCH
}

/// What a call has of a class, by modality. A failed call without usage counts 0, so that it is seen.
fn counted(record: &Record, class: Class) -> impl Iterator<Item = (&'static str, u64)> {
    let rest_name = rest(record, class);
    let (all, audio, image) = match class {
        Class::Input => (record.input_tokens, record.audio_input_tokens, record.image_input_tokens),
        Class::Output => {
            (record.output_tokens, record.audio_output_tokens, record.image_output_tokens)
        }
        Class::CacheRead => (record.cache_read_tokens, None, None),
        Class::CacheWrite => (record.cache_write_tokens, None, None),
        Class::Reasoning => (record.reasoning_tokens, None, None),
    };
    let failed = matches!(class, Class::Input | Class::Output) && error_type(record).is_some();
    let all = all.or(failed.then_some(0));
    let parts = [("audio", audio), ("image", image)];
    // Parts that a provider counts otherwise can be more than the whole, which must add up.
    let mut left = all;
    let parts = parts.map(|(name, part)| {
        let part = part.filter(|part| *part > 0)?.min(left?);
        left = left.map(|left| left - part);
        Some((name, part))
    });
    let has_parts = parts.iter().any(Option::is_some);
    let rest = left.filter(|left| *left > 0 || !has_parts).map(|left| (rest_name, left));
    parts.into_iter().flatten().chain(rest)
}

/// The modality of what is neither audio nor an image: text, if the provider tells modalities apart.
fn rest(record: &Record, class: Class) -> &'static str {
    let parts = match class {
        Class::Input => [record.audio_input_tokens, record.image_input_tokens],
        Class::Output => [record.audio_output_tokens, record.image_output_tokens],
        Class::Reasoning => {
            return if record.reasoning_tokens.is_some() { "text" } else { UNKNOWN };
        }
        Class::CacheRead | Class::CacheWrite => return UNKNOWN,
    };
    if parts.iter().any(Option::is_some) { "text" } else { UNKNOWN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otel::tests::call;

    #[test]
    fn tokens_are_told_by_modality_and_add_up() {
        let parts = |record: &Record, class| counted(record, class).collect::<Vec<_>>();
        let mut record = call();
        assert_eq!(parts(&record, Class::Input), [("unknown", 10)]);
        assert_eq!(parts(&record, Class::CacheRead), []);
        record.audio_input_tokens = Some(4);
        assert_eq!(parts(&record, Class::Input), [("audio", 4), ("text", 6)]);
        record.image_input_tokens = Some(40);
        assert_eq!(parts(&record, Class::Input), [("audio", 4), ("image", 6)]);
        record.input_tokens = None;
        assert_eq!(parts(&record, Class::Input), []);
        record.status = Some(500);
        (record.audio_input_tokens, record.image_input_tokens) = (None, None);
        assert_eq!(parts(&record, Class::Input), [("unknown", 0)]);
    }
}
