//! `serve --demo`: a newcomer's first look, through the program itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tokenmeter::ledger::{Filter, Loader, Reader, StatsQuery};
use tokenmeter::record::Record;
use tokenmeter::units::Timestamp;
use tokenmeter::usage::UsageSource;

use super::rig::eventually;

const CALLS: u64 = 1_500;

const DAY_MS: i64 = 86_400_000;

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.args(arguments).current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

fn serve(directory: &Path, more: &[&str]) -> Command {
    let calls = CALLS.to_string();
    let always = ["serve", "--demo", "--listen", "127.0.0.1:0", "--demo-calls", &calls];
    command(directory, &[&always, more].concat())
}

fn text(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

/// A demo that has said where it is. Ended by its own id when dropped.
struct Demo {
    process: Child,
    stdout: BufReader<ChildStdout>,
    banner: String,
    address: SocketAddr,
}

impl Demo {
    fn start(directory: &Path, more: &[&str]) -> Demo {
        let log =
            fs::File::options().append(true).create(true).open(directory.join("log")).unwrap();
        let mut process =
            serve(directory, more).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("dashboard (logs in once)") {
            let read = stdout.read_line(&mut banner).unwrap();
            assert_ne!(read, 0, "{banner}{}", fs::read_to_string(directory.join("log")).unwrap());
        }
        let address = banner.lines().next().unwrap().strip_prefix("tokenmeter listens on http://");
        let address = address.unwrap().parse().unwrap();
        Demo { process, stdout, banner, address }
    }

    /// Posts a body and gives the whole answer.
    fn post(&self, path: &str, fields: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// SIGTERM, and waits for the end.
    fn stop(mut self) -> ExitStatus {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut ended = None;
        eventually("the demo ends", || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        });
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "all was said in the banner");
        ended.unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Gone already, where a test went as it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rows(database: &Path) -> Vec<Record> {
    Reader::open(database).unwrap().usage(&Filter::default(), 100_000, None).unwrap().records
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        files.push((name, fs::read(entry.path()).unwrap()));
    }
    files.sort();
    files
}

#[test]
fn a_newcomer_sees_a_month_and_calls_that_keep_coming() {
    let home = tempfile::tempdir().unwrap();
    // A real ledger, with its journal, where the demo is started; and a configuration that names it.
    let real = home.path().join("tokenmeter.db");
    Loader::open(&real).unwrap().finish().unwrap();
    fs::create_dir(home.path().join("journal")).unwrap();
    fs::write(home.path().join("journal/.lock"), "1\n\"tokenmeter.db\"\n").unwrap();
    // Public prices are neither asked for nor written.
    fs::write(home.path().join("prices.toml"), "extends = \"builtin\"\n").unwrap();
    let config = "database = \"tokenmeter.db\"\npricing = \"prices.toml\"\ntags.user = [\"x-who\"]\n\
                  [price_updates]\nevery = \"1s\"\nwrite = true\n\
                  [upstreams.house]\nbase_url = \"http://127.0.0.1:1\"\n";
    fs::write(home.path().join("tokenmeter.toml"), config).unwrap();
    let untouched = [files(home.path()), files(&home.path().join("journal"))];

    let demo = Demo::start(home.path(), &[]);
    for said in [
        "This is a demo",
        "tokenmeter-demo/tokenmeter.db",
        "1,500,",
        "stands in for the configured upstreams",
    ] {
        assert!(demo.banner.contains(said), "{said}: {}", demo.banner);
    }
    let database = home.path().join("tokenmeter-demo/tokenmeter.db");
    let mut through = Vec::new();
    eventually("calls of the company", || {
        let rows = rows(&database);
        // The newest stand first.
        let made_up = usize::try_from(CALLS).unwrap();
        through = rows[..rows.len() - made_up].to_vec();
        let has = |holds: &dyn Fn(&Record) -> bool| through.iter().any(holds);
        has(&|row| row.usage_source == UsageSource::Reported)
            && has(&|row| row.user.is_some())
            && has(&|row| row.upstream_request_id.is_some())
    });
    assert!(through.iter().all(|row| row.operation.is_some() && row.model_requested.is_some()));

    // A newcomer's own calls: what is not reported is estimated.
    let chat = r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":9"#;
    let answer = demo.post(
        "/v1/chat/completions",
        "X-Who: me\r\n",
        &format!("{{\"model\":\"gpt-4o\",{chat}}}"),
    );
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("This answer was"), "{answer}");
    let azure = "/azure/openai/deployments/prod-chat/chat/completions";
    let streamed = demo.post(azure, "X-Who: me\r\n", &format!("{{\"stream\":true,{chat}}}"));
    assert!(streamed.contains("data: [DONE]") && !streamed.contains("usage"), "{streamed}");
    let at_house = demo.post("/house/v1/models", "X-Who: me\r\n", "{}");
    assert!(at_house.contains("scripted provider of the demo has no answer"), "{at_house}");
    let mut sources = Vec::new();
    eventually("the newcomer's rows", || {
        let filter = Filter { user: Some("me".to_owned()), ..Filter::default() };
        let page = Reader::open(&database).unwrap().usage(&filter, 10, None).unwrap();
        sources = page.records.iter().map(|row| row.usage_source).collect();
        sources == [UsageSource::None, UsageSource::Estimated, UsageSource::Reported]
    });
    let log = fs::read_to_string(home.path().join("log")).unwrap();
    assert!(!log.contains("price list") && !log.contains("prices were not updated"), "{log}");
    assert!(demo.stop().success());

    // The totals are those of the rows, of which every one that went through is in the journal once.
    let stats = Reader::open(&database).unwrap().stats(&StatsQuery::default()).unwrap();
    let all = rows(&database);
    assert_eq!(stats.totals.requests, all.len() as u64);
    let journal = files(&database.with_file_name("journal"));
    let lines = journal.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let closed = lines.collect::<String>().matches("{\"close\":").count();
    assert_eq!(closed as u64, all.len() as u64 - CALLS);
    let oldest = all.last().unwrap().created_at.millis();
    let newest = all.first().unwrap().created_at.millis();
    assert!(newest - oldest > 30 * DAY_MS, "a month at least");
    let outcomes = all.iter().filter(|row| row.outcome.as_str() == "interrupted").count();
    assert!(outcomes < 5, "{outcomes} calls were cut off");
    assert_eq!(
        [files(home.path()), files(&home.path().join("journal"))].map(without_log),
        untouched
    );

    // Again: it goes on where it was.
    let again = Demo::start(home.path(), &[]);
    let kept = rows(&database);
    assert!(begin_with(&kept, &all), "{} rows", kept.len());
    assert!(kept.len() < all.len() + 200, "nothing was made twice: {}", kept.len());
    let second = serve(home.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("in use by another tokenmeter"), "{}", text(&second));
    assert!(again.stop().success());
}

fn without_log(files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.into_iter().filter(|(name, _)| name != "log").collect()
}

/// Whether the oldest of these rows are those.
fn begin_with(rows: &[Record], oldest: &[Record]) -> bool {
    let ids = |rows: &[Record]| rows.iter().rev().map(|row| row.id).collect::<Vec<_>>();
    ids(rows).starts_with(&ids(oldest))
}

#[test]
fn calls_that_somebody_made_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let made = command(home.path(), &["demo", "--database", "made.db", "--calls", "50"]).output();
    assert!(made.unwrap().status.success());
    // As an export of them would come into a real ledger: nothing says that they were made up.
    let real = home.path().join("real.db");
    let mut loader = Loader::open(&real).unwrap();
    for row in rows(&home.path().join("made.db")) {
        loader.add(row).unwrap();
    }
    loader.finish().unwrap();
    let before = fs::read(&real).unwrap();
    let refused = serve(home.path(), &["--database", "real.db"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("real.db has calls that are not a demo's"),
        "{}",
        text(&refused)
    );
    assert_eq!(fs::read(&real).unwrap(), before);
    assert!(!home.path().join("journal").exists());
}

#[test]
fn a_ledger_of_made_up_calls_goes_on_as_a_demo_filled_up_to_now() {
    let home = tempfile::tempdir().unwrap();
    let until = Timestamp::from_millis(Timestamp::now().millis() - 20 * DAY_MS).to_string();
    let ended = ["demo", "--database", "d/made.db", "--calls", "500", "--until", &until];
    let made = command(home.path(), &ended).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let database = home.path().join("d/made.db");
    let older = rows(&database);
    assert_eq!(older.len(), 500);
    let demo = Demo::start(home.path(), &["--database", "d/made.db"]);
    let rows = rows(&database);
    assert!(begin_with(&rows, &older), "what is there stays, and is not made again");
    // Of a third of the two months, about a third of the calls; those of the company come on top.
    assert!((600..1_600).contains(&rows.len()), "the gap is filled: {}", rows.len());
    let asked = ["stats", "--database", "d/made.db", "--since", "2000-01-01", "--format", "json"];
    let stats = command(home.path(), &asked).output().unwrap();
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert!(stats["totals"]["requests"].as_u64().unwrap() >= rows.len() as u64);
    assert!(demo.stop().success());
}
