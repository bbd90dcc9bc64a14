//! Memory: at rest, by open stream, and how many streams can be held. Each figure is of a process that
//! has just been started, so that nothing is left in it of something else.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::goals::Goals;
use crate::ledger::Ledger;
use crate::load::{Client, Clients, Load, Tally, Unit};
use crate::process::{Memory, Process};
use crate::provider::runtime;
use crate::rounds::{Spread, float};
use crate::script::{Kind, Script};
use crate::sheet::{Sheet, grouped, megabytes};
use crate::targets::{Target, start_nginx, start_self, start_tokenmeter};

const OPEN: usize = 2_000;
const HELD: usize = 10_000;

/// An event each half second, for some seconds after all are open; and one each second.
const OPEN_STREAM: Kind = Kind::Stream { events: 20, gap_ms: 500 };
const HELD_STREAM: Kind = Kind::Stream { events: 25, gap_ms: 1_000 };

/// Connections a stream that nginx is told of: it takes two, and when few are left, nginx closes those
/// that have not asked for anything yet.
const NGINX_ROOM: usize = 3;

/// Descriptors of a process that are no streams.
const OTHER_DESCRIPTORS: usize = 64;

/// So many connections are opened at a time.
const OPENING: usize = 64;

/// Places of which tokenmeter keeps some in reserve when descriptors are short, and descriptors for its ledger.
const RESERVED: usize = 600;

const SETTLING: Duration = Duration::from_secs(1);

/// What warms: some of everything.
const WARMING: Load = Load {
    name: "warming",
    title: "",
    connections: 16,
    turns: &[Kind::Chat, Kind::Gzip, Kind::Embeddings, Kind::Stream { events: 200, gap_ms: 0 }],
    unit: Unit::Call,
    is_once: false,
};

pub(crate) fn measure(sheet: &mut Sheet, goals: &mut Goals) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let provider = start_self("provider", &[]);
    let runtime = runtime();
    let stand = Stand { folder: folder.path(), provider: &provider, runtime: &runtime };
    sheet.title("Memory, MB resident (and this process's share of it)");
    let rows = ["nginx", "tokenmeter"].into_iter().filter_map(|name| stand.at_rest(name, goals));
    let head = [("", 11), ("at rest", 16), ("after a call", 16), ("after warming", 16)];
    let rows = rows.collect();
    sheet.table(&head, rows);
    let head = [
        ("", 11),
        ("streams", 9),
        ("before, MB", 12),
        ("open, MB", 10),
        ("after, MB", 11),
        ("KiB a stream", 14),
        ("broken", 8),
        ("event late by p50", 19),
        ("p99, ms", 9),
    ];
    sheet.title("Streams held at the same time; each is to get all of its events, and its end");
    let mut rows = Vec::new();
    for name in ["nginx", "tokenmeter"] {
        rows.extend(stand.open_streams(name, OPEN, OPEN_STREAM, goals));
        rows.extend(stand.open_streams(name, HELD, HELD_STREAM, goals));
    }
    sheet.table(&head, rows);
}

/// What every measurement needs.
struct Stand<'a> {
    folder: &'a Path,
    provider: &'a Target,
    runtime: &'a Runtime,
}

/// What came of many streams.
struct Held {
    broken: Vec<String>,
    tally: Tally,
    /// While all were open.
    open: Option<Memory>,
}

impl Stand<'_> {
    fn start(&self, name: &str, streams: usize) -> Option<Target> {
        let upstream = &self.provider.address;
        let target = match name {
            "nginx" => start_nginx(self.folder, upstream, NGINX_ROOM * streams)?,
            _ => start_tokenmeter("tokenmeter", self.folder, upstream, &[]),
        };
        sleep(SETTLING);
        Some(target)
    }

    fn at_rest(&self, name: &str, goals: &mut Goals) -> Option<Vec<String>> {
        let target = self.start(name, 512)?;
        let process = target.process.as_ref()?;
        let rest = process.memory();
        self.one_call(&target);
        let called = process.memory();
        LocalSet::new().block_on(self.runtime, async {
            let mut clients = Clients::connect(WARMING, &WARMING.scripts(), &target.address).await;
            clients.round(target.name, 2 * SETTLING).await;
        });
        if let Some(ledger) = &target.ledger {
            ledger.catch_up();
        }
        sleep(SETTLING);
        let warm = process.memory();
        if target.ledger.is_some() {
            let found = format!("{:.1} MB", megabytes(rest.resident));
            let is_met = Some(megabytes(rest.resident) <= 20.0);
            goals.add("resident at rest", found, "≤ 20 MB".to_owned(), is_met);
        }
        let both = |memory: Memory| {
            format!("{:.1} ({:.1})", megabytes(memory.resident), megabytes(memory.share))
        };
        Some(vec![name.to_owned(), both(rest), both(called), both(warm)])
    }

    /// A call that needs no tokenizer, its usage being reported.
    fn one_call(&self, target: &Target) {
        let scripts = [Rc::new(Script::new(Kind::Chat))];
        LocalSet::new().block_on(self.runtime, async {
            let mut client = Client::connect(&target.address, 0).await.expect("it listens");
            client.call(&scripts, &RefCell::default()).await.expect("an answer");
        });
        sleep(SETTLING);
    }

    /// Holds as many streams as are wished for, or as descriptors there are.
    fn open_streams(
        &self,
        name: &str,
        wished: usize,
        kind: Kind,
        goals: &mut Goals,
    ) -> Option<Vec<String>> {
        let target = self.start(name, wished)?;
        let process = target.process.as_ref()?;
        let room = |descriptors: usize| descriptors.saturating_sub(OTHER_DESCRIPTORS);
        let own = room(Process::new(std::process::id()).descriptors());
        let descriptors = process.descriptors();
        let count = wished.min((room(descriptors) / 2).saturating_sub(RESERVED)).min(own);
        self.one_call(&target);
        let before = process.memory();
        let known = target.ledger.as_ref().map(Ledger::totals);
        let held = LocalSet::new().block_on(self.runtime, hold(&target, process, count, kind));
        if let (Some(ledger), Some(known)) = (&target.ledger, known) {
            ledger.catch_up();
            let rows = ledger.totals().since(known).calls;
            assert_eq!(rows, count as u64, "rows (left) are not what was called");
        }
        sleep(SETTLING);
        let after = process.memory();
        let seen = Seen { count, wished, descriptors, before, held, after };
        seen.judge(&target, goals);
        Some(seen.row(target.name))
    }
}

/// What one target made of one number of streams.
struct Seen {
    count: usize,
    wished: usize,
    descriptors: usize,
    before: Memory,
    held: Held,
    after: Memory,
}

impl Seen {
    /// Nothing where not all were open at the same time.
    fn kib_a_stream(&self) -> Option<f64> {
        let more = self.held.open?.resident.saturating_sub(self.before.resident);
        Some(float(more) / float(self.count as u64))
    }

    fn judge(&self, target: &Target, goals: &mut Goals) {
        for error in self.held.broken.iter().take(1) {
            println!("  {}: a stream broke: {error}", target.name);
        }
        if target.ledger.is_none() {
            return;
        }
        let (broken, each) = (self.held.broken.len(), self.kib_a_stream());
        let never = || "never all open".to_owned();
        if self.wished == OPEN {
            let found = each.map_or_else(never, |each| format!("{each:.1} KiB"));
            let is_met = Some(each.is_some_and(|each| each <= 14.0));
            goals.add("resident an open stream, of 2,000", found, "≤ 14 KiB".to_owned(), is_met);
        } else {
            let count = grouped(float(self.count as u64));
            let found = format!("{count} held, {broken} broken");
            let found = each.map_or_else(never, |_| found);
            let limit = self.descriptors;
            let what = if self.count < self.wished {
                format!("streams held (with {limit} descriptors)")
            } else {
                "streams held".to_owned()
            };
            let is_met = Some(broken == 0 && each.is_some());
            goals.add(&what, found, "10,000, none broken".to_owned(), is_met);
        }
    }

    fn row(mut self, name: &str) -> Vec<String> {
        let delays = Spread::of(&mut self.held.tally.delays);
        let size = |memory: Memory| format!("{:.1}", megabytes(memory.resident));
        let never = || "never all".to_owned();
        vec![
            name.to_owned(),
            grouped(float(self.count as u64)),
            size(self.before),
            self.held.open.map_or_else(never, size),
            size(self.after),
            self.kib_a_stream().map_or_else(never, |each| format!("{each:.1}")),
            self.held.broken.len().to_string(),
            format!("{:.1}", delays.p50 / 1000.0),
            format!("{:.1}", delays.p99 / 1000.0),
        ]
    }
}

/// Opens streams, and looks at the process's memory once each has had three events and none has ended.
async fn hold(target: &Target, process: &Process, count: usize, kind: Kind) -> Held {
    let scripts: Rc<[Rc<Script>]> = Rc::new([Rc::new(Script::new(kind))]);
    let (tally, ended) = (Rc::new(RefCell::new(Tally::default())), Rc::new(Cell::new(0)));
    let opening = Rc::new(Semaphore::new(OPENING));
    let streams: Vec<_> = (0..count)
        .map(|turn| {
            let (scripts, tally, ended) = (scripts.clone(), tally.clone(), ended.clone());
            let (address, opening) = (target.address.clone(), opening.clone());
            tokio::task::spawn_local(async move {
                let permit = opening.acquire().await.map_err(|error| error.to_string())?;
                let client = Client::connect(&address, turn).await;
                drop(permit);
                let done = match client {
                    Ok(mut client) => client.call(&scripts, &tally).await,
                    Err(error) => Err(error),
                };
                ended.set(ended.get() + 1);
                done
            })
        })
        .collect();
    let mut open = None;
    while ended.get() < count {
        tokio::time::sleep(SETTLING / 4).await;
        let events = tally.borrow().delays.len();
        if ended.get() == 0 && events >= 3 * count && open.is_none() {
            open = Some(process.memory());
        }
    }
    let mut broken = Vec::new();
    for stream in streams {
        broken.extend(stream.await.expect("a stream does not panic").err());
    }
    Held { broken, tally: tally.take(), open }
}
