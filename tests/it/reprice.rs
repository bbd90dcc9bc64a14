//! Costs recomputed: over the corpus nothing changes under the same prices, and all of it under others;
//! end to end, what is changed is remembered and can be taken back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokenmeter::meter::{LeftAlone, Repricing};
use tokenmeter::pricing::{CostSource, PriceBook};
use tokenmeter::record::{Record, RowCost};
use tokenmeter::units::{Timestamp, Usd};
use tokenmeter::usage::UsageSource;

use crate::rig::eventually;
use crate::support::{Answer, Ask, Client, Proxy, Setup, Upstream};

/// What holds for every recorded row: under the prices that it was recorded with it stays as it is, and
/// where every provider's prices are doubled its computed cost is.
pub(crate) struct Law {
    prices: PriceBook,
    doubled: PriceBook,
    same: usize,
    priced: usize,
    /// Rows that would cost something else by their columns alone.
    beyond_columns: usize,
    kept: BTreeMap<LeftAlone, usize>,
}

impl Law {
    pub(crate) fn new() -> Law {
        let prices = PriceBook::builtin();
        let mut text = String::from("extends = \"builtin\"\n");
        for name in prices.provider_names() {
            writeln!(text, "[providers.{name:?}]\nmultiplier = 2").unwrap();
        }
        let doubled = PriceBook::parse(&text).unwrap();
        Law { prices, doubled, same: 0, priced: 0, beyond_columns: 0, kept: BTreeMap::new() }
    }

    /// What is wrong with a row.
    pub(crate) fn check(&mut self, record: &Record) -> Option<String> {
        // Estimates are not waited for.
        let now = Timestamp::from_millis(record.created_at.millis() + 86_400_000);
        let repricing = |prices| Repricing { prices, deployed: &|_, _| None, now };
        let cost = match repricing(&self.prices).cost(record) {
            Ok(cost) => cost,
            Err(kept) => {
                *self.kept.entry(kept).or_default() += 1;
                return None;
            }
        };
        if cost != record.cost() {
            return Some(format!("repriced from {:?} to {cost:?}", record.cost()));
        }
        self.same += 1;
        let columns = Record { usage_json: None, ..record.clone() };
        let computed = |cost: &RowCost| cost.computed_cost_usd;
        let by_columns = repricing(&self.prices).cost(&columns).unwrap();
        self.beyond_columns += usize::from(computed(&by_columns) != computed(&cost));
        let is_known = self.doubled.provider_names().contains(&record.provider.as_str());
        let computed = cost.computed_cost_usd.filter(|_| is_known)?;
        self.priced += 1;
        let twice = repricing(&self.doubled).cost(record).unwrap();
        let off = twice.computed_cost_usd.unwrap().nanos() - 2 * computed.nanos();
        let stays = record.cost_source == CostSource::Provider && twice.cost_usd != cost.cost_usd;
        // Half a nano-dollar may have been rounded away.
        (off.abs() > 1 || stays).then(|| format!("{cost:?} doubled is {twice:?}"))
    }

    pub(crate) fn add(&mut self, other: &Law) {
        self.same += other.same;
        self.priced += other.priced;
        self.beyond_columns += other.beyond_columns;
        for (kept, rows) in &other.kept {
            *self.kept.entry(*kept).or_default() += rows;
        }
    }

    /// Rows that can only be priced with the usage object at hand.
    pub(crate) fn beyond_columns(&self) -> usize {
        self.beyond_columns
    }

    /// Rows that come out as they are, those of them that have a computed cost, and those that are kept.
    pub(crate) fn counts(&self) -> (usize, usize, &BTreeMap<LeftAlone, usize>) {
        (self.same, self.priced, &self.kept)
    }
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (same, priced, kept) = self.counts();
        write!(f, "repriced: {same} rows as they are, {priced} of them with a cost, ")?;
        write!(f, "{} by what no column holds", self.beyond_columns)?;
        kept.iter().try_for_each(|(kept, rows)| write!(f, "; {rows} kept: {}", kept.reason()))
    }
}

/// For rows in the journal.
pub(crate) fn record(row: &Value) -> Record {
    serde_json::from_str(&row.to_string()).unwrap()
}

#[test]
fn a_law_is_told_when_it_is_broken() {
    let row = json!({"id": "01936d1c-0000-7000-8000-000000000000",
        "created_at": "2026-01-02T00:00:00Z", "upstream": "openai", "provider": "openai",
        "endpoint": "embeddings", "method": "POST", "path": "/", "model": "text-embedding-3-small",
        "input_tokens": 1_000_000, "usage_source": "reported", "cost_usd": 0.02,
        "computed_cost_usd": 0.02, "cost_source": "priced",
        "price_id": "openai/text-embedding-3-small", "streaming": false, "outcome": "completed"});
    let mut law = Law::new();
    let right = record(&row);
    assert_eq!(law.check(&right), None);
    assert!(law.check(&Record { cost_usd: Some(Usd::ZERO), ..right.clone() }).is_some());
    assert!(law.check(&Record { price_id: None, ..right }).is_some());
    assert_eq!((law.same, law.priced), (1, 1));
}

/// Of the day when the calls were made, and of a day that is to come.
const BEFORE: &str = "default = false\n[prices.up]\n\"m\" = { input = 1, output = 2 }\n";
const AFTER: &str = "default = false\n[prices.up.\"m\"]\ninput = 1\noutput = 2\n\
    since.2020-01-01 = { input = 4, output = 8 }\nsince.2999-01-01 = { input = 100 }\n\
    [prices.up.\"newcomer\"]\ninput = 3\n";

/// A server with a price table, and the commands beside it.
struct Scene {
    proxy: Proxy,
    upstream: Upstream,
    desk: Desk,
}

/// Where commands are typed.
struct Desk {
    directory: TempDir,
    database: PathBuf,
}

impl Scene {
    fn start() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let prices = directory.path().join("prices.toml");
        std::fs::write(&prices, BEFORE).unwrap();
        let upstream = Upstream::start();
        let setup = Setup::new()
            .with(&format!("pricing = {:?}", prices.display().to_string()))
            .upstream("up", upstream.address());
        let proxy = Proxy::start(setup);
        let database = proxy.database();
        Scene { proxy, upstream, desk: Desk { directory, database } }
    }

    /// Calls of a model that read so many tokens each and write none.
    fn call(&self, model: &str, tokens: &[u64]) {
        let mut client = self.proxy.client();
        for tokens in tokens {
            let usage =
                json!({"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens});
            let answer = json!({"id": "c", "object": "chat.completion", "model": model, "usage": usage,
                "choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "stop"}]});
            self.answered(&mut client, &answer);
        }
    }

    fn answered(&self, client: &mut Client, answer: &Value) {
        self.upstream.expect(Answer::ok("application/json", answer.to_string()).whole());
        let body = json!({"model": "asked", "messages": [{"role": "user", "content": "Hi"}]});
        client.send(&Ask::post("/up/v1/chat/completions", body.to_string().as_bytes()));
        assert_eq!(client.receive().unwrap().status(), 200);
        self.upstream.request();
    }

    fn has(&self, rows: usize) {
        eventually("the rows", || self.rows().len() == rows);
    }

    /// Rows with all that they say, oldest first.
    fn rows(&self) -> Vec<Record> {
        self.proxy.records()
    }

    fn costs(&self) -> Vec<Option<String>> {
        self.rows().iter().map(|row| row.cost_usd.map(|usd| usd.to_string())).collect()
    }
}

impl Desk {
    /// What a command says, and how it ends.
    fn try_run(&self, line: &str) -> (i32, String, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(line.split(' '))
            .arg("--database")
            .arg(&self.database)
            .current_dir(self.directory.path())
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    fn run(&self, line: &str) -> String {
        let (code, out, err) = self.try_run(line);
        assert_eq!(code, 0, "{line}: {err}");
        out
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} --format json"))).unwrap()
    }

    fn put_prices(&self, text: &str) {
        std::fs::write(self.directory.path().join("new.toml"), text).unwrap();
    }
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
}

#[test]
fn recorded_costs_follow_a_price_table_and_come_back() {
    let scene = Scene::start();
    let desk = &scene.desk;
    scene.call("m", &[1_000_000, 2_000_000]);
    scene.call("newcomer", &[1_000_000]);
    // Nobody says what this one used.
    let mut client = scene.proxy.client();
    let message = json!({"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"});
    scene.answered(&mut client, &json!({"id": "c", "model": "m", "choices": [message]}));
    drop(client);
    scene.has(4);
    eventually("an estimate", || scene.rows()[3].usage_source == UsageSource::Estimated);
    let before = scene.rows();
    assert_eq!(scene.costs()[..3], [Some("1".to_owned()), Some("2".to_owned()), None]);

    // The same prices change nothing.
    let same = desk.json("reprice --pricing prices.toml");
    assert_eq!((&same["changed"]["requests"], &same["unchanged"]), (&json!(0), &json!(3)));
    assert_eq!(same["kept"], json!([{"reason": "just_estimated", "requests": 1}]));

    desk.put_prices(AFTER);
    let looked = desk.json("reprice --pricing new.toml --dry-run");
    assert_eq!((&looked["dry_run"], &looked["repricing"]), (&json!(true), &Value::Null));
    let expected = json!({"requests": 3, "cost_before": 3, "cost_after": 15, "difference": 12,
        "newly_priced": 1, "newly_unpriced": 0});
    assert_eq!(looked["changed"], expected);
    let models = json!([
        {"model": "m", "requests": 2, "cost_before": 3, "cost_after": 12, "difference": 9,
            "newly_priced": 0, "newly_unpriced": 0},
        {"model": "newcomer", "requests": 1, "cost_before": 0, "cost_after": 3, "difference": 3,
            "newly_priced": 1, "newly_unpriced": 0},
    ]);
    assert_eq!(looked["models"], models);
    assert_eq!(texts(&scene.rows()), texts(&before));
    let table = desk.run("reprice --pricing new.toml --dry-run");
    assert!(table.contains("4 calls looked at: 3 with another cost, 0 with the same"), "{table}");
    assert!(table.contains("may still be amended") && table.contains("a dry run"), "{table}");

    let done = desk.json("reprice --pricing new.toml --model m --days 1");
    assert_eq!((&done["repricing"], &done["changed"]["difference"]), (&json!(2), &json!(9)));
    assert_eq!(done["question"]["model"], "m");
    let rest = desk.json("reprice --pricing new.toml");
    assert_eq!((&rest["repricing"], &rest["changed"]["difference"]), (&json!(3), &json!(3)));
    assert_eq!(rest["unchanged"], 2);
    let after = scene.rows();
    let cost = |at: usize| (after[at].cost_usd.unwrap().to_string(), after[at].price_id.clone());
    assert_eq!(cost(0), ("4".to_owned(), Some("up/m@2020-01-01".to_owned())));
    assert_eq!(cost(1), ("8".to_owned(), Some("up/m@2020-01-01".to_owned())));
    assert_eq!(cost(2), ("3".to_owned(), Some("up/newcomer".to_owned())));
    let sums = desk.json("stats --usage-source reported");
    assert_eq!(sums["totals"]["cost_usd"].to_string().trim_end_matches(['0', '.']), "15");

    let list = desk.json("reprice --list");
    let states: Vec<&Value> =
        list["repricings"].as_array().unwrap().iter().map(|one| &one["rows_changed"]).collect();
    assert_eq!(states, [&json!(1), &json!(2), &json!(0)]);
    assert_eq!(list["repricings"][0]["prices"], "new.toml");
    assert_eq!(list["repricings"][0]["prices_sha256"], rest["prices_sha256"]);
    assert_ne!(list["repricings"][2]["prices_sha256"], rest["prices_sha256"]);
    assert!(desk.run("reprice --list").contains("new.toml"));

    assert_eq!(desk.json("reprice --undo 2")["put_back"], 2);
    assert!(desk.run("reprice --undo 3").starts_with("1 calls are as they were before"));
    assert_eq!(texts(&scene.rows()), texts(&before));
    for (line, code, says) in [
        ("reprice --undo 9", 1, "there is no repricing 9"),
        ("reprice --resume 3", 1, "has come to its end"),
        ("reprice --undo 2 --user ann", 2, "leave out window and filters"),
        ("reprice --pricing absent.toml", 1, "absent.toml cannot be read"),
        ("reprice --days 0", 2, "0"),
    ] {
        let (ended, _, err) = desk.try_run(line);
        assert!(ended == code && err.contains(says), "{line}: {ended} {err}");
    }
    scene.proxy.stop();
    scene.upstream.join();
}

#[test]
fn costs_change_while_calls_are_recorded() {
    const CALLS: usize = 150;
    let scene = Scene::start();
    let desk = &scene.desk;
    scene.call("m", &[1_000_000; 20]);
    scene.has(20);
    desk.put_prices(AFTER);
    let changed = std::thread::scope(|scope| {
        let repriced = scope.spawn(|| {
            let run = || desk.json("reprice --pricing new.toml")["changed"]["requests"].as_u64();
            (0..3).filter_map(|_| run()).sum::<u64>()
        });
        scene.call("m", &[1_000_000; CALLS]);
        repriced.join().unwrap()
    });
    assert!(changed >= 20, "{changed}");
    scene.has(20 + CALLS);
    let rest = desk.json("reprice --pricing new.toml");
    let rest = rest["changed"]["requests"].as_u64().unwrap();
    // Every row once, whatever it was recorded with, and no call has noticed.
    assert_eq!(changed + rest, 20 + CALLS as u64);
    assert!(scene.costs().iter().all(|cost| cost.as_deref() == Some("4")));
    for id in (1..=4).rev() {
        desk.run(&format!("reprice --undo {id}"));
    }
    assert!(scene.costs().iter().all(|cost| cost.as_deref() == Some("1")));
    let rows = scene.proxy.stop();
    assert_eq!(rows.records.len(), 20 + CALLS);
    scene.upstream.join();
}
