//! How close estimates come: recorded exchanges, their reported usage hidden, estimated and compared.
//!
//! `cargo bench --bench estimates` reads the recordings in `tests/recordings`, or those of the folder
//! that `TOKENMETER_RECORDINGS` or the argument names. It prints how the exchanges divide into classes
//! (`classes.rs`), the median and the 95th percentile of the absolute error of input and output by
//! provider, endpoint and model, and by family against the targets. `--worst 20` adds the exchanges
//! that are furthest off, `--family OpenAI` keeps to one family.
//!
//! The truth is what `expected` says in the recording, which a program of its own has read. Failed
//! calls are not estimated, nor are realtime sessions, batches and what generates nothing from a
//! prompt.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod classes;
#[path = "../../tests/it/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tokenmeter::estimate::{self, Subject};
use tokenmeter::framing::{Coding, Decoder, Framed, Framer};
use tokenmeter::provider::{PathFacts, RESPONSE, Reader};

use classes::Class;

/// Endpoints that answer a prompt. Of others nothing is estimated.
const ENDPOINTS: [&str; 15] = [
    "anthropic.complete",
    "bedrock.converse",
    "bedrock.invoke",
    "chat.completions",
    "cohere.chat.v1",
    "cohere.chat.v2",
    "completions",
    "embeddings",
    "gemini.embedContent",
    "gemini.generateContent",
    "gemini.interactions",
    "messages",
    "ollama.chat",
    "ollama.generate",
    "responses",
];

/// What estimates of plain exchanges have to keep to: median and 95th percentile of the absolute
/// error in percent, of input and of output.
struct Target {
    input: [f64; 2],
    output: [f64; 2],
}

const OPENAI: Target = Target { input: [1.0, 5.0], output: [0.0, 2.0] };
const OTHERS: Target = Target { input: [5.0, 15.0], output: [5.0, 15.0] };

/// Pictures whose size the request tells: the whole prompt.
const IMAGES: [f64; 2] = [5.0, 5.0];

/// One exchange, estimated.
struct Outcome {
    id: String,
    provider: String,
    endpoint: &'static str,
    model: String,
    family: &'static str,
    class: Class,
    input: Option<Side>,
    output: Option<Side>,
}

#[derive(Clone, Copy)]
struct Side {
    truth: u64,
    /// `None`: nothing was estimated, which counts as an error of 100 %.
    estimate: Option<u64>,
    /// The share that the estimate itself expects to be off by.
    expected: f64,
}

impl Side {
    /// In percent of the truth.
    #[allow(clippy::cast_precision_loss)]
    fn error(self) -> f64 {
        let estimate = self.estimate.unwrap_or_default();
        estimate.abs_diff(self.truth) as f64 / self.truth.max(1) as f64 * 100.0
    }
}

fn main() {
    let options = Options::from_arguments();
    let all: Vec<Outcome> = corpus::recordings_in(&options.folder)
        .filter_map(|recording| outcome(&recording))
        .filter(|outcome| options.family.as_ref().is_none_or(|family| outcome.family == family))
        .collect();
    print_classes(&all);
    print_models(&all);
    print_others(&all);
    print_families(&all);
    print_sums(&all);
    print_worst(&all, options.worst);
}

struct Options {
    folder: PathBuf,
    worst: usize,
    family: Option<String>,
}

impl Options {
    fn from_arguments() -> Options {
        let mut options = Options { folder: corpus::folder(), worst: 0, family: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--worst" => options.worst = arguments.next().unwrap().parse().unwrap(),
                "--family" => options.family = arguments.next(),
                // Cargo adds it.
                "--bench" => {}
                folder => options.folder = PathBuf::from(folder),
            }
        }
        options
    }
}

/// `None` for what is not to be estimated.
fn outcome(recording: &corpus::Recording) -> Option<Outcome> {
    let endpoint = ENDPOINTS.into_iter().find(|endpoint| *endpoint == recording.api)?;
    if recording.response.status >= 400 || recording.expected.error.is_some() {
        return None;
    }
    let request: Value = serde_json::from_slice(&recording.request.body()).ok()?;
    let reader = read(recording);
    let path = recording.request.url.split_once("://").map_or("", |(_, rest)| rest);
    let path = path.find('/').map_or("", |at| path[at..].split('?').next().unwrap());
    let asked = request.get("model").and_then(Value::as_str).map(str::to_owned);
    let answered = reader.reading().model.clone().filter(|model| !model.is_empty());
    let model = answered.or(asked).or(PathFacts::of(path).model)?;
    let subject = Subject { provider: &recording.provider, endpoint, model: &model };
    let truth = &recording.expected.normalized;
    let input = truth.input.filter(|count| count.0 > 0).map(|count| {
        let estimate = estimate::input(&subject, &request);
        side(count.0, estimate)
    });
    let output = truth.output.filter(|count| count.0 > 0).map(|count| {
        let finish_reason = reader.reading().finish_reason.as_deref();
        let generated = reader.generated();
        let estimate = estimate::answer(&subject, Some(&request), generated, finish_reason);
        side(count.0, estimate)
    });
    Some(Outcome {
        id: recording.id.clone(),
        provider: recording.provider.clone(),
        endpoint,
        family: classes::family(&model),
        class: classes::class(recording, &request, &model, reader.generated()),
        model,
        input,
        output,
    })
}

fn side(truth: u64, estimate: Option<estimate::Estimate>) -> Side {
    let expected = estimate.as_ref().map_or(1.0, |estimate| estimate.error);
    Side { truth, estimate: estimate.map(|estimate| estimate.tokens), expected }
}

fn read(recording: &corpus::Recording) -> Reader {
    let content_type = recording.response.header("content-type");
    let framed = Framed::new(Framer::for_content_type(content_type, &RESPONSE), Reader::new());
    let mut decoder = Decoder::new(Coding::Identity, framed).unwrap();
    decoder.push(&recording.response.body()).unwrap();
    std::mem::take(decoder.sink_mut().unwrap())
}

// --- tables ---

fn print_classes(all: &[Outcome]) {
    let mut counts = BTreeMap::new();
    for outcome in all {
        *counts.entry(outcome.class).or_insert(0) += 1;
    }
    println!("{} exchanges, by class:", all.len());
    for (class, count) in counts {
        println!("  {count:5}  {class}");
    }
}

fn print_models(all: &[Outcome]) {
    println!("\nplain exchanges by provider, endpoint and model (error in %):");
    let mut rows: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    for outcome in all.iter().filter(|outcome| outcome.class == Class::Plain) {
        let key = (&outcome.provider, outcome.endpoint, &outcome.model);
        rows.entry(key).or_default().push(outcome);
    }
    header("");
    for ((provider, endpoint, model), rows) in rows {
        row(&format!("{provider} {endpoint} {model}"), &rows);
    }
}

fn print_others(all: &[Outcome]) {
    println!("\nwhat is not plain, by family and reason (no targets but for pictures):");
    header("");
    let mut rows: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    for outcome in all.iter().filter(|outcome| outcome.class != Class::Plain) {
        rows.entry((outcome.family, outcome.class)).or_default().push(outcome);
    }
    for ((family, class), rows) in rows {
        row(&format!("{family}: {class}"), &rows);
    }
}

fn print_families(all: &[Outcome]) {
    println!("\nplain exchanges by family against the targets (median / 95th percentile in %):");
    header("target");
    let mut rows: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    for outcome in all.iter().filter(|outcome| outcome.class == Class::Plain) {
        rows.entry(outcome.family).or_default().push(outcome);
    }
    for (family, rows) in rows {
        let target = if family == "OpenAI" { &OPENAI } else { &OTHERS };
        let input = verdict(&errors(&rows, |outcome| outcome.input), target.input);
        let output = verdict(&errors(&rows, |outcome| outcome.output), target.output);
        row_with(family, &rows, &format!("input {input}, output {output}"));
    }
    let pictures: Vec<&Outcome> =
        all.iter().filter(|o| o.class == Class::Images && o.family == "OpenAI").collect();
    let input = verdict(&errors(&pictures, |outcome| outcome.input), IMAGES);
    row_with("OpenAI, pictures", &pictures, &format!("input {input}"));
}

/// What a percentage of a short answer does not tell: of two tokens one too many is 50 %.
fn print_sums(all: &[Outcome]) {
    println!(
        "\nthe same exchanges: error of the sum, share within 2 tokens, 95th percentile of those"
    );
    println!("with at least 20 tokens (in %):");
    let head = ["in", "sum", "within 2", "p95 of 20+", "out", "sum", "within 2", "p95 of 20+"];
    let head = head.map(|name| format!("{name:>11}")).concat();
    println!("  {:20} {head}", "");
    let mut rows: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
    for outcome in all.iter().filter(|outcome| outcome.class == Class::Plain) {
        rows.entry(outcome.family).or_default().push(outcome);
    }
    for (family, rows) in rows {
        let input: Vec<Side> = rows.iter().filter_map(|row| row.input).collect();
        let output: Vec<Side> = rows.iter().filter_map(|row| row.output).collect();
        println!("  {family:20} {}{}", sums(&input), sums(&output));
    }
}

#[allow(clippy::cast_precision_loss)]
fn sums(sides: &[Side]) -> String {
    if sides.is_empty() {
        return format!("{:11}{:>11}{:>11}{:>11}", 0, "-", "-", "-");
    }
    let truth: u64 = sides.iter().map(|side| side.truth).sum();
    let estimate: u64 = sides.iter().filter_map(|side| side.estimate).sum();
    let sum = (estimate as f64 / truth as f64 - 1.0) * 100.0;
    let near = |side: &&Side| side.estimate.is_some_and(|n| n.abs_diff(side.truth) <= 2);
    let near = sides.iter().filter(near).count() as f64 / sides.len() as f64 * 100.0;
    let mut long: Vec<f64> =
        sides.iter().filter(|side| side.truth >= 20).map(|side| side.error()).collect();
    long.sort_by(f64::total_cmp);
    let most = percentile(&long, 95).map_or_else(|| "-".to_owned(), |error| format!("{error:.1}"));
    format!("{:11}{sum:>+11.1}{near:>11.0}{most:>11}", sides.len())
}

fn verdict(errors: &[f64], [median, most]: [f64; 2]) -> String {
    let (Some(found), Some(worst)) = (percentile(errors, 50), percentile(errors, 95)) else {
        return "-".to_owned();
    };
    // To the tenth that is printed.
    let pass = found < median + 0.05 && worst < most + 0.05;
    format!("{} ({median} / {most})", if pass { "PASS" } else { "FAIL" })
}

fn header(last: &str) {
    println!(
        "  {:58} {:>4} {:>7} {:>7} {:>4} {:>7} {:>7}  {last}",
        "", "in", "median", "p95", "out", "median", "p95"
    );
}

fn row(name: &str, rows: &[&Outcome]) {
    row_with(name, rows, "");
}

fn row_with(name: &str, rows: &[&Outcome], last: &str) {
    let cells = |errors: &[f64]| {
        let [median, most] = [50, 95].map(|share| {
            percentile(errors, share).map_or_else(|| "-".to_owned(), |error| format!("{error:.1}"))
        });
        format!("{:4} {median:>7} {most:>7}", errors.len())
    };
    let input = cells(&errors(rows, |outcome| outcome.input));
    let output = cells(&errors(rows, |outcome| outcome.output));
    println!("  {name:58} {input} {output}  {last}");
}

fn errors(rows: &[&Outcome], side: impl Fn(&Outcome) -> Option<Side>) -> Vec<f64> {
    let mut errors: Vec<f64> = rows.iter().filter_map(|row| side(row)).map(Side::error).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// The smallest error that this share of the sorted errors does not exceed.
fn percentile(sorted: &[f64], share: usize) -> Option<f64> {
    let rank = (sorted.len() * share).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn print_worst(all: &[Outcome], most: usize) {
    let sides =
        all.iter().filter(|o| matches!(o.class, Class::Plain | Class::Images)).flat_map(|o| {
            [("input", o.input), ("output", o.output)].map(|(name, side)| (o, name, side))
        });
    let mut sides: Vec<_> =
        sides.filter_map(|(outcome, name, side)| Some((outcome, name, side?))).collect();
    sides.sort_by(|a, b| b.2.error().total_cmp(&a.2.error()));
    for (outcome, name, side) in sides.into_iter().take(most) {
        println!(
            "  {:7.1} % {name:6} {:?} of {} (expected {:.0} %) {} {} {} {} {}",
            side.error(),
            side.estimate,
            side.truth,
            side.expected * 100.0,
            outcome.class,
            outcome.provider,
            outcome.endpoint,
            outcome.model,
            outcome.id
        );
    }
}
