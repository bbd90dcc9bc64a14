//! What counting costs: megabytes of text a second of CPU, for ordinary text and for the worst that a
//! client can send, and how much slower the worst is than prose.
//!
//! `cargo bench --bench tokenizer` counts with the newest vocabulary, in one thread, and measures the
//! time that the thread was on a CPU, so that a busy machine changes little.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tokenmeter::estimate::Encoding;

/// Bytes of each text.
const SIZE: usize = 1_000_000;

/// Each text is counted until this much time has passed.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

const PROSE: &str = "The proxy sits between a client and the provider it calls. It passes every byte on \
    as it came, and looks at a copy: what was asked, what was answered, and how many tokens both took. \
    Where nobody says how many, it counts for itself, as closely as the model's vocabulary allows.\n\n";

const CODE: &str = "fn merge(mut left: Vec<u64>, right: &[u64]) -> Option<Vec<u64>> {\n    for (at, \
    value) in right.iter().enumerate() {\n        if left.get(at).is_some_and(|known| known != value) \
    {\n            return None;\n        }\n        left.push(*value); // later ones win\n    }\n    \
    Some(left)\n}\n\n";

const JSON: &str = r#"{"id":"call_81","type":"function","function":{"name":"get_weather","arguments":
    {"city":"Paris","days":[1,2,3],"units":"metric","detailed":true,"limit":null}},"score":0.8125},"#;

fn main() {
    // The tables are unpacked at first use.
    let started = Instant::now();
    Encoding::O200k.count("");
    println!("tables unpacked in {:.0} ms\n", started.elapsed().as_secs_f64() * 1e3);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let letters: String = (0..SIZE).map(|_| char::from(b'a' + random.below(26))).collect();
    let base64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64: String =
        (0..SIZE).map(|_| char::from(base64[usize::from(random.below(64))])).collect();
    let texts = [
        ("prose", PROSE.repeat(SIZE / PROSE.len())),
        ("code", CODE.repeat(SIZE / CODE.len())),
        ("JSON", JSON.repeat(SIZE / JSON.len())),
        ("one letter", "a".repeat(SIZE)),
        ("spaces", " ".repeat(SIZE)),
        ("random letters", letters),
        ("random Unicode", random.unicode()),
        ("base64", base64),
    ];
    let mut prose = 0.0;
    let mut worst = f64::INFINITY;
    println!("{:16} {:>10} {:>14}", "", "tokens", "MB/s of CPU");
    for (name, text) in &texts {
        let (tokens, speed) = speed(text);
        println!("{name:16} {tokens:>10} {speed:>14.1}");
        if prose == 0.0 {
            prose = speed;
        }
        worst = worst.min(speed);
    }
    println!("\nthe worst is {:.1} times slower than prose", prose / worst);
}

/// The number of tokens, and megabytes counted in a second of CPU.
#[allow(clippy::cast_precision_loss)]
fn speed(text: &str) -> (u64, f64) {
    let tokens = Encoding::O200k.count(text);
    let started = cpu();
    let mut rounds = 0_u32;
    while cpu().saturating_sub(started) < LONG_ENOUGH {
        assert_eq!(Encoding::O200k.count(text), tokens);
        rounds += 1;
    }
    let seconds = cpu().saturating_sub(started).as_secs_f64();
    (tokens, text.len() as f64 * f64::from(rounds) / 1e6 / seconds)
}

/// How long this thread has been on a CPU.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux /proc");
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Marsaglia's xorshift: the same texts every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u8) -> u8 {
        u8::try_from(self.next() % u64::from(end)).unwrap()
    }

    /// Any characters, of all planes.
    fn unicode(&mut self) -> String {
        let mut text = String::with_capacity(SIZE + 4);
        while text.len() < SIZE {
            text.extend(char::from_u32(u32::try_from(self.next() % 0x0011_0000).unwrap()));
        }
        text
    }
}
