//! Whole exchanges: what a client and a provider send in pieces, breaking off whenever they like, with the real code
//! of a worker between them and streams in memory on both sides.

#![no_main]

mod answers;
mod judge;
mod play;
mod script;
#[allow(dead_code)]
#[path = "../../../tests/it/smuggling/strict.rs"]
mod strict;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libfuzzer_sys::{Corpus, fuzz_target};
use tokenmeter::app::App;
use tokenmeter::config::{Config, Flags};

use play::Stage;
use script::Script;

/// Plays that one tokenmeter sees, so that its ledger stays small.
const MOST_PLAYS: usize = 5000;

/// Upstreams of all kinds. What is said of HTTP/1 is judged for the first three.
const CONFIG: &str = r#"
listen = "127.0.0.1:0"
workers = 1
default_upstream = "openai"
[timeouts]
connect = "5s"
response_head = "20s"
idle = "20s"
pool_idle = "30s"
request_head = "15s"
keep_alive = "25s"
[limits]
request_body = "64KiB"
request_head = "16KiB"
[upstreams.openai]
base_url = "http://openai.test"
[upstreams.azure]
base_url = "http://azure.test"
[upstreams.house]
base_url = "http://house.test"
on_disconnect = "drain"
[upstreams.asked]
base_url = "http://asked.test"
stream_usage = "inject"
[upstreams.two]
base_url = "http://two.test"
http2 = "always"
"#;

/// One tokenmeter with its ledger in memory, and what has been read of its journal.
struct World {
    app: Rc<App>,
    stage: Stage,
    token: String,
    journal: PathBuf,
    read: BTreeMap<PathBuf, u64>,
    plays: usize,
    _home: tempfile::TempDir,
}

thread_local!(static WORLD: RefCell<Option<World>> = const { RefCell::new(None) });

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(script) = Script::read(data) else { return Corpus::Reject };
    WORLD.with_borrow_mut(|world| {
        if world.as_ref().is_some_and(|world| world.plays >= MOST_PLAYS) {
            *world = None;
        }
        let world = world.get_or_insert_with(World::new);
        world.plays += 1;
        let is_patient = script.is_patient();
        let seen = play::play(&world.app, &world.stage, script);
        let lines = world.lines();
        judge::judge(&seen, &lines, is_patient, &world.token);
    });
    Corpus::Keep
});

impl World {
    fn new() -> World {
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let home = home.expect("a folder");
        let database = home.path().join("t.db");
        let text = format!("database = {:?}\n{CONFIG}", database.display().to_string());
        let files = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
            Some("tokenmeter.toml") => Ok(text.clone().into_bytes()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let flags = Flags { config: Some("tokenmeter.toml".into()), ..Flags::default() };
        let config = Config::from_sources(&flags, &BTreeMap::new(), &files);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let stage = Stage::default();
        let app = App::played(&config, &stage.within()).unwrap_or_else(|error| panic!("{error}"));
        let token = std::fs::read_to_string(home.path().join("tokenmeter.token")).expect("a token");
        World {
            app: Rc::new(app),
            stage,
            token: token.trim().to_owned(),
            journal: home.path().join("journal"),
            read: BTreeMap::new(),
            plays: 0,
            _home: home,
        }
    }

    /// What the journal says that it has not said before.
    fn lines(&mut self) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        let Ok(folder) = std::fs::read_dir(&self.journal) else { return lines };
        for path in folder.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let from = self.read.entry(path.clone()).or_default();
            let Ok(file) = File::open(&path) else { continue };
            let mut bytes = Vec::new();
            let _ = Rest(&file, *from).read_to_end(&mut bytes);
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            *from += whole as u64;
            for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
            {
                lines.push(serde_json::from_slice(line).expect("a line of JSON"));
            }
        }
        lines
    }
}

/// A file from some place on.
struct Rest<'a>(&'a File, u64);

impl Read for Rest<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(space, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}
