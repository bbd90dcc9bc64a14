//! What it costs to meter: tokenmeter, with reading, pricing and durable recording on, beside nginx,
//! which only forwards, and beside no proxy at all, in interleaved rounds of one run.
//!
//! `cargo bench --bench proxies` starts each as a process of its own on the loopback address, runs all
//! loads, holds thousands of streams, and prints a table for each, and at last which targets are met.
//! Words after `--` choose:
//!
//! | word | does |
//! | --- | --- |
//! | `chat`, `chat-16`, `stream`, `paced`, `embeddings`, `gzip`, `mixed`, … | these loads only |
//! | `memory` | memory at rest, by open stream, and 10,000 streams held |
//! | `watched` | what being watched costs, tokenmeters beside each other |
//! | `with-bare` | compares a bare pass-through of hyper as well |
//! | `rounds N` | how many rounds (default 7) |
//! | `markdown FILE` | writes the tables there, too |

mod answer;
mod bare;
mod goals;
mod ledger;
mod load;
mod memory;
mod process;
mod provider;
mod rounds;
mod script;
mod sheet;
mod targets;
mod watched;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::goals::Goals;
use crate::load::{Load, Unit};
use crate::rounds::Plan;
use crate::script::Kind;
use crate::sheet::Sheet;
use crate::targets::{Target, nginx_version, start_nginx, start_self, start_tokenmeter};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);

/// Connections that nginx has room for: two for each of the largest load's, and some.
const NGINX_ROOM: usize = 2048;

/// Says that the limit of descriptors has been raised as far as it goes.
const RAISED: &str = "TOKENMETER_BENCH_RAISED";

const BURST: Kind = Kind::Stream { events: 200, gap_ms: 0 };
const PACED: Kind = Kind::Stream { events: 200, gap_ms: 20 };

const LOADS: [Load; 10] = [
    calls("chat-1", "chat, 1 KB answers, 1 connection", 1, &[Kind::Chat]),
    calls("chat-16", "chat, 1 KB answers, 16 connections", 16, &[Kind::Chat]),
    calls("chat-256", "chat, 1 KB answers, 256 connections", 256, &[Kind::Chat]),
    events("stream-1", "streams of 200 events at full speed, 1 connection", 1, &[BURST]),
    events("stream-8", "streams of 200 events at full speed, 8 connections", 8, &[BURST]),
    Load {
        is_once: true,
        ..events("paced", "streams of 200 events, one each 20 ms, 50 connections", 50, &[PACED])
    },
    calls("embeddings", "embeddings, 30 KB answers, 16 connections", 16, &[Kind::Embeddings]),
    calls("gzip", "chat, 1 KB answers in gzip, 16 connections", 16, &[Kind::Gzip]),
    calls("gzip-large", "chat, 16 KB answers in gzip, 16 connections", 16, &[Kind::LargeGzip]),
    calls("mixed", "chat, gzip, embeddings and streams mixed, 32 connections", 32, &MIXED),
];

/// Of twenty calls ten are plain chats, four in gzip, four embeddings, two streams.
const MIXED: [Kind; 20] = {
    let (chat, gzip, large, vector) = (Kind::Chat, Kind::Gzip, Kind::LargeGzip, Kind::Embeddings);
    [
        chat, gzip, chat, vector, chat, large, chat, vector, chat, BURST, //
        chat, gzip, chat, vector, chat, large, chat, vector, chat, BURST,
    ]
};

const fn calls(
    name: &'static str,
    title: &'static str,
    connections: usize,
    turns: &'static [Kind],
) -> Load {
    Load { name, title, connections, turns, unit: Unit::Call, is_once: false }
}

const fn events(
    name: &'static str,
    title: &'static str,
    connections: usize,
    turns: &'static [Kind],
) -> Load {
    Load { name, title, connections, turns, unit: Unit::Event, is_once: false }
}

/// What was asked for.
struct Wish {
    loads: Vec<Load>,
    has_memory: bool,
    has_bare: bool,
    is_watched: bool,
    plan: Plan,
    markdown: Option<PathBuf>,
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("provider") => return provider::run(),
        Some("bare") => return bare::run(&arguments[1]),
        Some("collector") => return watched::collector(),
        _ => {}
    }
    raise_limit();
    let wish = wish(&arguments).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2);
    });
    targets::end_with_us();
    if wish.is_watched {
        watched::compare(wish.plan);
    } else {
        compare(&wish);
    }
}

/// Streams need descriptors, two each in a proxy; children inherit the limit.
fn raise_limit() {
    if std::env::var_os(RAISED).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let raise = r#"ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -H -n)"; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    let arguments = std::env::args_os().skip(1);
    // Returns only if there is no shell, and then the limit stays as it is.
    let _ = command.args(["-c", raise]).arg(program).args(arguments).env(RAISED, "1").exec();
}

fn wish(arguments: &[String]) -> Result<Wish, String> {
    let plan = Plan { rounds: ROUNDS, length: ROUND, counts_pauses: true };
    let mut wish = Wish {
        loads: Vec::new(),
        has_memory: false,
        has_bare: false,
        is_watched: false,
        plan,
        markdown: None,
    };
    let mut words = arguments.iter().map(|word| word.trim_start_matches('-'));
    while let Some(word) = words.next() {
        match word {
            "memory" => wish.has_memory = true,
            "watched" => wish.is_watched = true,
            "with-bare" => wish.has_bare = true,
            "rounds" => {
                let count = words.next().and_then(|count| count.parse().ok());
                wish.plan.rounds = count.filter(|count| *count > 0).ok_or("rounds: how many?")?;
            }
            "markdown" => wish.markdown = Some(words.next().ok_or("markdown: which file?")?.into()),
            name => {
                let is_meant = |load: &Load| {
                    load.name == name
                        || load.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
                };
                let meant: Vec<Load> = LOADS.into_iter().filter(is_meant).collect();
                if meant.is_empty() {
                    let all = LOADS.map(|load| load.name).join(", ");
                    return Err(format!(
                        "`{name}` is none of: {all}, memory, watched, with-bare, rounds N, markdown FILE"
                    ));
                }
                wish.loads.extend(meant);
            }
        }
    }
    if wish.loads.is_empty() && !wish.has_memory {
        (wish.loads, wish.has_memory) = (LOADS.to_vec(), true);
    }
    Ok(wish)
}

fn compare(wish: &Wish) {
    let (mut sheet, mut goals) = (Sheet::default(), Goals::default());
    let (cores, load) = (std::thread::available_parallelism(), process::load_average());
    sheet.say(&format!(
        "tokenmeter {}, nginx {}, {} cores, load average {load}",
        env!("CARGO_PKG_VERSION"),
        nginx_version().unwrap_or_else(|| "not installed".to_owned()),
        cores.map_or(0, usize::from),
    ));
    if !wish.loads.is_empty() {
        run_loads(wish, &mut sheet, &mut goals);
    }
    if wish.has_memory {
        memory::measure(&mut sheet, &mut goals);
    }
    if wish.loads.len() == LOADS.len() {
        let elsewhere = "cargo bench --bench ledger -- recording".to_owned();
        let target = "≥ 50,000, ≤ 1.5 µs".to_owned();
        goals.add("rows a second into 2 million, CPU each", elsewhere, target, None);
    }
    sheet.glance();
    goals.report(&mut sheet);
    sheet.say(&format!("\nload average at the end {}", process::load_average()));
    if let Some(file) = &wish.markdown {
        sheet.write(file);
    }
}

fn run_loads(wish: &Wish, sheet: &mut Sheet, goals: &mut Goals) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut provider = start_self("provider", &[]);
    let upstream = provider.address.clone();
    let mut targets = vec![Target::direct(&provider)];
    targets.extend(start_nginx(folder.path(), &upstream, NGINX_ROOM));
    if wish.has_bare {
        targets.push(start_self("bare", &[&upstream]));
    }
    targets.push(start_tokenmeter("tokenmeter", folder.path(), &upstream, &[]));
    let (runtime, watched) = (provider::runtime(), provider.process.as_mut().expect("a process"));
    for load in &wish.loads {
        let outcome = rounds::measure(*load, wish.plan, &runtime, watched, &mut targets);
        sheet.load(&outcome, "nginx", wish.plan.rounds);
        goals.hear(&outcome);
    }
}
