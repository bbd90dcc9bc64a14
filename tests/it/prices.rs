//! Prices as a person and a machine see them: the table in force, reading it again, the commands, and public
//! price lists taken over by hand and by schedule.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{Proxy, Settings, bytes_of, eventually, field};

/// A provider that hands out a price list, and answers calls.
pub(super) struct Shop {
    address: SocketAddr,
    list: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<usize>>,
}

impl Shop {
    /// `list` is the whole answer, with its head.
    pub(super) fn open(list: Vec<u8>) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shop =
            Shop { address, list: Arc::new(Mutex::new(list)), asked: Arc::new(Mutex::new(0)) };
        let (list, asked) = (Arc::clone(&shop.list), Arc::clone(&shop.asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let request = request(&mut stream);
                let answer = if request.starts_with("GET /api/v1/models ") {
                    *asked.lock().unwrap() += 1;
                    list.lock().unwrap().clone()
                } else {
                    ok(&chat())
                };
                let _ = stream.write_all(&answer);
            }
        });
        shop
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn offers(&self, models: &[Value]) {
        *self.list.lock().unwrap() = ok(&list_of(models));
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

/// The head and the body of a request with a known length.
fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = field(head, "content-length").map_or(0, |text| text.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
            _ => return text,
        }
    }
}

pub(super) fn ok(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(super) fn list_of(models: &[Value]) -> Value {
    json!({ "data": models })
}

/// A model of OpenRouter's list; prices are for one token.
pub(super) fn model(id: &str, prompt: &str, completion: &str) -> Value {
    json!({"id": id, "name": id, "context_length": 8192, "pricing": {"prompt": prompt,
        "completion": completion, "request": "0", "image": "0", "web_search": "0",
        "internal_reasoning": "0"}})
}

fn chat() -> Value {
    json!({"id": "c", "object": "chat.completion", "model": "house/old",
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"},
            "finish_reason": "stop"}]})
}

/// A file of prices with comments, in an order of its own.
const PRICES: &str = r#"# ours
version = 1

[providers.openrouter]
free_suffix = ":free"

[prices.zebra]
z = { input = 9 }            # stays first

[prices.openrouter]
# what we get from the list
"house/old" = { input = 2.50, output = 10.00, source = "openrouter" }   # grew with us
"house/hand" = { input = 1.00, output = 2.00 }   # a contract: not the list's
"house/same" = { input = 1, output = 2, source = "openrouter" }
"house/clips" = { per_clip = 0.08, source = "openrouter" }
"house/left" = { input = 1, output = 2, source = "openrouter" }
"house/alias" = "house/hand"

[prices.openrouter."house/long"]
input = 3
output = 6
source = "openrouter"
above.1000 = { input = 4 }
"#;

/// What the list says of them.
fn offers() -> Vec<Value> {
    vec![
        model("house/old", "0.000003", "0.00001"),
        model("house/hand", "0.000005", "0.000006"),
        model("house/same", "0.000001", "0.000002"),
        model("house/alias", "0.000007", "0.000008"),
        model("house/long", "0.0000035", "0.000006"),
        model("house/new", "0.00000015", "0.0000006"),
        model("house/free:free", "0", "0"),
        model("house/clips", "0", "0"),
        model("house/auto", "-1", "-1"),
        json!({"id": "house/odd", "pricing": {"prompt": "cheap", "completion": "0.1"}}),
    ]
}

/// Where commands are typed.
struct Desk {
    home: TempDir,
}

impl Desk {
    fn new(shop: &Shop) -> Desk {
        let desk = Desk { home: tempfile::tempdir().unwrap() };
        desk.put(
            "tokenmeter.toml",
            &format!(
                "pricing = \"prices.toml\"\n[upstreams.openrouter]\nbase_url = \"{}\"\n",
                shop.url()
            ),
        );
        desk.put("prices.toml", PRICES);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Code, stdout and stderr.
    fn run(&self, line: &str) -> (i32, String, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(line.split(' '))
            .current_dir(self.home.path())
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    fn done(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!(code, 0, "{line}: {out}{err}");
        out
    }

    fn json(&self, line: &str) -> Value {
        self.done(&format!("{line} --format json")).parse().unwrap()
    }
}

fn models(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["model"].as_str().unwrap()).collect()
}

/// Status, head and body.
fn ask(proxy: &Proxy, method: &str, path: &str, headers: &str) -> (u16, String, Value) {
    let mut client = proxy.connect();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    ));
    let head = client.head();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes_of(&client.rest());
    (status, head, serde_json::from_slice(&body).unwrap_or_default())
}

fn bearer(proxy: &Proxy) -> String {
    format!("Authorization: Bearer {}\r\n", proxy.token())
}

fn prices(proxy: &Proxy, query: &str) -> Value {
    let (status, _, body) = ask(proxy, "GET", &format!("/admin/prices{query}"), &bearer(proxy));
    assert_eq!(status, 200, "{query}: {body}");
    body
}

#[test]
fn the_table_in_force_is_shown_page_by_page() {
    let proxy = Settings::to("http://127.0.0.1:1").start();
    let first = prices(&proxy, "?limit=10000");
    assert_eq!(first["table"]["file"], Value::Null);
    assert_eq!(first["table"]["sha256"].as_str().unwrap().len(), 64);
    let all = first["prices"].as_array().unwrap();
    assert_eq!(all.len() as u64, first["table"]["entries"].as_u64().unwrap() + 1);
    assert_eq!(all.last().unwrap()["is_default"], true);
    let (mut paged, mut offset) = (Vec::new(), json!(0));
    while !offset.is_null() {
        let mut page = prices(&proxy, &format!("?limit=1500&offset={offset}"));
        offset = page["next_offset"].take();
        paged.extend(page["prices"].as_array().unwrap().clone());
    }
    assert_eq!(&paged, all);

    let o3 = prices(&proxy, "?provider=openai&model=o3-2025-04-16&at=2025-06-09");
    let [applied] = &o3["applies"].as_array().unwrap()[..] else { panic!("{o3}") };
    assert_eq!(applied["entry"], "openai/o3");
    assert_eq!(applied["rates"]["input"], 10);
    assert_eq!(prices(&proxy, "?provider=openai&model=o3")["applies"][0]["rates"]["input"], 2);
    let unknown = prices(&proxy, "?provider=openai&model=gpt-4p");
    assert_eq!(unknown["applies"][0]["cost_source"], "default");
    assert!(unknown["similar"].as_array().unwrap().contains(&json!("openai/gpt-4")), "{unknown}");
    let named = prices(&proxy, "?provider=google&name=gemini-2.5-*");
    assert!(!named["prices"].as_array().unwrap().is_empty());
    assert!(named["prices"].as_array().unwrap().iter().all(|one| one["provider"] == "gemini"));
    let (status, _, wrong) = ask(&proxy, "GET", "/admin/prices?limit=0", &bearer(&proxy));
    assert_eq!((status, &wrong["error"]["param"]), (400, &json!("limit")));
}

#[test]
fn the_file_is_read_again_when_told_to_and_only_with_the_token() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("prices.toml");
    std::fs::write(&file, PRICES).unwrap();
    let proxy = Settings::to("http://127.0.0.1:1").with(&format!("pricing = {file:?}")).start();
    let reload = |headers: &str| ask(&proxy, "POST", "/admin/prices/reload", headers);
    assert_eq!(reload("").0, 401);
    assert_eq!(reload("Cookie: tokenmeter_session=x\r\n").0, 401);
    let (status, head, _) = ask(&proxy, "GET", "/admin/prices/reload", &bearer(&proxy));
    assert_eq!((status, field(&head, "allow")), (405, Some("POST")));
    let (status, head, _) = ask(&proxy, "POST", "/admin/prices", &bearer(&proxy));
    assert_eq!((status, field(&head, "allow")), (405, Some("GET, HEAD")));

    let (status, _, same) = reload(&bearer(&proxy));
    assert_eq!((status, &same["reloaded"]), (200, &json!(true)), "{same}");
    assert_eq!(same["changes"]["changed"], json!([]));
    let changed = PRICES.replace("z = { input = 9 }", "z = { input = 9.5 }\ny = { input = 1 }");
    std::fs::write(&file, changed).unwrap();
    // The watcher may have been quicker: what is in force counts.
    let (status, _, _) = reload(&bearer(&proxy));
    assert_eq!(status, 200);
    let zebra = prices(&proxy, "?provider=zebra");
    assert_eq!(zebra["prices"][1]["rates"]["input"].to_string(), "9.5");
    assert_eq!(zebra["prices"][1]["source"], "file");

    std::fs::write(&file, "[prices.a]\nm = { inptu = 1 }\nn = { input = -1 }\n").unwrap();
    let (status, head, broken) = reload(&bearer(&proxy));
    assert_eq!((status, field(&head, "x-tokenmeter-error")), (422, Some("bad_prices")));
    let lines = broken["error"]["complaints"].as_array().unwrap().iter().map(|one| &one["line"]);
    assert_eq!(lines.collect::<Vec<_>>(), [2, 3], "{broken}");
    assert_eq!(prices(&proxy, "?provider=zebra")["prices"][1]["rates"]["input"].to_string(), "9.5");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(reload(&bearer(&proxy)).0, 503);

    let built_in = Settings::to("http://127.0.0.1:1").start();
    let (status, _, nothing) = ask(&built_in, "POST", "/admin/prices/reload", &bearer(&built_in));
    assert_eq!((status, &nothing["reloaded"]), (200, &json!(false)));
}

#[test]
fn a_table_is_listed_shown_and_checked_here_and_elsewhere() {
    let shop = Shop::open(ok(&list_of(&offers())));
    let desk = Desk::new(&shop);
    let listed = desk.json("prices list --provider openrouter --model house/*");
    assert_eq!(listed["prices"].as_array().unwrap().len(), 6);
    let table = desk.done("prices list");
    assert!(table.contains("house/old") && table.contains("prices.toml"), "{table}");
    let csv = desk.done("prices list --model house/long --format csv");
    assert!(csv.contains("openrouter,house/long,openrouter,19,,above 1000,4"), "{csv}");
    let shown = desk.done("prices show house/long --provider openrouter");
    assert!(shown.contains("over 1,000 input tokens") && shown.contains("$0.006"), "{shown}");
    let shown = desk.json("prices show house/alias");
    assert_eq!(shown["applies"][0]["price_id"], "openrouter/house/hand");
    let (code, _, err) = desk.run("prices show house/odl");
    assert!(code == 1 && err.contains("did you mean `openrouter/house/old`"), "{err}");

    desk.put("bad.toml", "[prices.a]\nm = { inptu = 1 }\n");
    let (code, out, _) = desk.run("prices check bad.toml");
    assert!(code == 1 && out.contains("bad.toml:2: error: unknown key `inptu`"), "{out}");
    desk.put("odd.toml", "[prices.a]\nm = { input = 0.000003, output = 0.000015 }\n");
    let (code, out, _) = desk.run("prices check odd.toml --format csv");
    assert!(code == 0 && out.contains("warning,2,"), "{out}");
    assert!(desk.done("prices check").contains("7 prices, nothing wrong"));

    let proxy = Settings::to("http://127.0.0.1:1")
        .with(&format!("pricing = {:?}", desk.path("prices.toml")))
        .start();
    let there = format!("--url http://{} --token {}", proxy.address, proxy.token());
    let here = desk.json("prices list --provider openrouter");
    let remote = desk.json(&format!("prices list --provider openrouter {there}"));
    assert_eq!(here["prices"], remote["prices"]);
    let shown = desk.done(&format!("prices show house/old {there}"));
    assert!(shown.contains("`house/old` stands in [prices.openrouter]"), "{shown}");
    assert!(desk.done(&format!("prices check {there}")).contains("priced by its own model"));
}

#[test]
fn a_public_list_is_compared_and_written_without_losing_anything() {
    let shop = Shop::open(ok(&list_of(&offers())));
    let desk = Desk::new(&shop);
    let found = desk.json("prices update");
    let update = &found["updates"][0];
    assert_eq!(models(&update["new"]), ["house/new"]);
    assert_eq!(models(&update["changed"]), ["house/old", "house/long"]);
    assert_eq!(
        models(&update["skipped"]),
        ["house/hand", "house/alias", "house/auto", "house/odd"]
    );
    assert_eq!(update["gone"], json!(["house/left"]));
    assert_eq!(update["unchanged"], 3);
    assert_eq!(
        update["changed"][0]["changes"][0].to_string(),
        r#"{"rate":"input","old":2.5,"new":3,"percent":20}"#
    );
    let table = desk.done("prices update");
    assert!(table.contains("+20 %") && table.contains("--write does"), "{table}");
    assert_eq!(desk.read("prices.toml"), PRICES);

    let said = desk.done("prices update --write");
    assert!(said.contains("Written to prices.toml"), "{said}");
    let text = desk.read("prices.toml");
    for line in PRICES.lines().filter(|line| line.contains('#')) {
        let comment = &line[line.find('#').unwrap()..];
        assert!(text.contains(comment), "{comment}\n{text}");
    }
    assert!(text.find("[prices.zebra]") < text.find("[prices.openrouter]"), "{text}");
    let input = |model: &str, at: &str| {
        let line = format!("prices show {model} --provider openrouter --at {at}");
        desk.json(&line)["applies"][0]["rates"]["input"].to_string()
    };
    for (model, before, after) in
        [("house/old", "2.5", "3"), ("house/long", "3", "3.5"), ("house/hand", "1", "1")]
    {
        assert_eq!(input(model, "2026-01-01"), before, "{model}\n{text}");
        assert_eq!(input(model, "2999-01-01"), after, "{model}\n{text}");
    }
    assert_eq!(input("house/new", "2026-01-01"), "0.15");
    let long = desk.json("prices show house/long --provider openrouter");
    assert_eq!(long["prices"][0]["sets"][1]["above"][0]["rates"]["input"], 4, "{text}");
    assert_eq!(long["prices"][0]["source"], "openrouter");

    // Nothing is left to be written; a second change is one more date.
    assert!(desk.json("prices update --write")["written"].is_null());
    let mut later = offers();
    later[0] = model("house/old", "0.000004", "0.00001");
    later[5] = model("house/new", "0.0000002", "0.0000006");
    shop.offers(&later);
    desk.done("prices update --write");
    let old = desk.json("prices show house/old --provider openrouter");
    assert_eq!(old["prices"][0]["sets"].as_array().unwrap().len(), 3, "{old}");
    assert_eq!(input("house/new", "2999-01-01"), "0.2");
    assert_eq!(input("house/new", "2026-01-01"), "0.15");
    assert_eq!(std::fs::read_dir(desk.home.path()).unwrap().count(), 2);
}

#[test]
fn what_is_absurd_is_not_believed_unless_told_to() {
    let mut odd = offers();
    odd[0] = model("house/old", "0.00003", "0.00001");
    odd[2] = model("house/same", "0", "0.000002");
    let shop = Shop::open(ok(&list_of(&odd)));
    let desk = Desk::new(&shop);
    let update = desk.json("prices update --write");
    let skipped = models(&update["updates"][0]["skipped"]).join(" ");
    assert!(skipped.contains("house/old") && skipped.contains("house/same"), "{skipped}");
    assert!(!desk.read("prices.toml").contains("input = 30"));
    desk.done("prices update --write --accept-large");
    assert!(desk.read("prices.toml").contains("input = 30"));

    // The list has had ten models; now it has two.
    shop.offers(&odd[..2]);
    let (code, _, err) = desk.run("prices update");
    assert!(code == 1 && err.contains("far fewer than the 10"), "{err}");
    assert_eq!(desk.run("prices update --force").0, 0);
}

#[test]
fn what_is_listed_at_nothing_is_free_only_if_it_says_so() {
    let mut all = offers();
    all.extend([
        model("house/gift", "0", "0"),
        model("openrouter/free", "0", "0.0"),
        model("house/late:free", "0.000001", "0"),
        json!({"id": "house/paint", "pricing": {"prompt": "0", "completion": "0", "image": "0.04"}}),
        json!({"id": "house/eyes", "pricing": {"prompt": "0.000001", "completion": "0.000002",
            "image": "0.0012", "image_output": "0.04", "request": "0.001", "web_search": "0.01",
            "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000002"}]}}),
    ]);
    let shop = Shop::open(ok(&list_of(&all)));
    let desk = Desk::new(&shop);
    let update = desk.json("prices update --write")["updates"][0].take();
    assert_eq!(models(&update["new"]), ["house/new", "openrouter/free", "house/eyes"]);
    let why = |model: &str| {
        let skipped = update["skipped"].as_array().unwrap();
        let one = skipped.iter().find(|one| one["model"] == model).unwrap();
        one["reason"].as_str().unwrap().to_owned()
    };
    assert!(why("house/gift").contains("listed at 0"), "{update}");
    assert!(why("house/late:free").contains("the list that it is not"), "{update}");
    assert!(why("house/paint").contains("calls do not tell: image"), "{update}");
    // Whatever is not counted is said.
    let eyes = &update["new"][2];
    assert_eq!(
        eyes["new"].to_string(),
        r#"{"input":1,"output":2,"per_1k_requests":1,"per_1k_web_searches":10}"#
    );
    let left_out = eyes["left_out"].as_object().unwrap();
    assert_eq!(left_out.keys().collect::<Vec<_>>(), ["image", "overrides", "image_output"]);
    assert_eq!(
        (&update["incomplete"], &left_out["image_output"].to_string()[..]),
        (&json!(1), "0.04")
    );
    let applies = |model: &str| {
        let shown = desk.json(&format!("prices show {model} --provider openrouter"));
        shown["applies"][0]["cost_source"].as_str().unwrap().to_owned()
    };
    assert_ne!(applies("house/gift"), "priced");
    assert_ne!(applies("house/gift"), "free");
    assert_eq!(applies("openrouter/free"), "priced");
    assert!(
        desk.done("prices update").contains("that is not counted"),
        "also when it is unchanged"
    );

    desk.done("prices update --write --accept-large");
    assert_eq!(applies("house/gift"), "priced");
    let shown = desk.json("prices list --model house/gift");
    assert_eq!(shown["prices"][0]["is_free"], true);
    assert!(!desk.read("prices.toml").contains("house/paint"));
}

#[test]
fn no_class_of_a_price_is_believed_blindly() {
    let with = |id: &str, prompt: &str, more: Value| {
        let mut one = model(id, prompt, "0.00001");
        one["pricing"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let odd = [
        with("house/calls", "0.000001", json!({"request": "500"})),
        with("house/cache", "0.000001", json!({"input_cache_read": "0.9"})),
        with("house/turned", "0.000001", json!({"input_cache_write": "0.000005"})),
        with("house/adds", "0.000001", json!({"request": "0.001"})),
        with("house/searches", "0.000001", json!({"web_search": "0.01"})),
        with("house/loses", "0.00001", json!({})),
        with("house/found", "0.000001", json!({"web_search": "0"})),
    ];
    let fine = with("house/fine", "0.000001", json!({"input_cache_read": "0.0000001"}));
    let shop = Shop::open(ok(&list_of(&[&odd[..], &[fine]].concat())));
    let desk = Desk::new(&shop);
    let table = "[prices.openrouter]\n\
        \"house/adds\" = { input = 1, output = 10, source = \"openrouter\" }\n\
        \"house/searches\" = { input = 1, output = 10, source = \"openrouter\" }\n\
        \"house/loses\" = { input = 10, cached_input = 0.5, output = 10, source = \"openrouter\" }\n\
        \"house/found\" = { input = 1, output = 10, per_1k_web_searches = 10, source = \"openrouter\" }\n\
        \"house/fine\" = { input = 1, output = 10, source = \"openrouter\" }\n";
    desk.put("prices.toml", table);
    let update = &desk.json("prices update --write")["updates"][0];
    let names: Vec<&str> = odd.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(models(&update["skipped"]), names, "{update}");
    assert_eq!(models(&update["changed"]), ["house/fine"]);
    let reason = |at: usize| update["skipped"][at]["reason"].as_str().unwrap();
    for (at, why) in [
        (0, "per_1k_requests 500000"),
        (1, "cached_input 900000"),
        (2, "its cache_write (5) is more than 4 times its input (1)"),
        (5, "cached_input 0.5 → none"),
    ] {
        assert!(reason(at).contains(why), "{}", reason(at));
    }
    let text = desk.read("prices.toml");
    assert_eq!(text.matches("since").count(), 1, "{text}");
    let update = &desk.json("prices update --write --accept-large")["updates"][0];
    assert_eq!(update["skipped"], json!([]));
    assert!(desk.read("prices.toml").contains("per_1k_requests = 500000"));
}

#[test]
fn what_is_changed_by_hand_is_nobody_elses() {
    let shop = Shop::open(ok(&list_of(&offers())));
    let desk = Desk::new(&shop);
    desk.done("prices update --write");
    let written = desk.read("prices.toml");
    let by_hand = written.replace("input = 0.15,", "input = 0.16,");
    desk.put(
        "prices.toml",
        &by_hand.replace("above.1000 = { input = 4 }", "above.1000 = { input = 5 }"),
    );
    let by_hand = desk.read("prices.toml");
    let mut later = offers();
    later[4] = model("house/long", "0.000004", "0.000006");
    later[5] = model("house/new", "0.0000002", "0.0000006");
    shop.offers(&later);
    let update = &desk.json("prices update --write --accept-large")["updates"][0];
    assert_eq!(update["changed"], json!([]), "{written}\n{by_hand}");
    let skipped = update["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["reason"].as_str().unwrap().contains("changed by hand"));
    assert_eq!(models(&skipped.cloned().collect()), ["house/long", "house/new"], "{by_hand}");
    assert_eq!(desk.read("prices.toml"), by_hand);

    // Without the mark nothing tells, and the list has its price back.
    let mark = by_hand.split("\"house/new\" = ").nth(1).unwrap();
    let mark = mark.split("source_check = \"").nth(1).unwrap().split('"').next().unwrap();
    let line = format!(", source_check = \"{mark}\"");
    desk.put("prices.toml", &by_hand.replace(&line, ""));
    assert_eq!(models(&desk.json("prices update --write")["updates"][0]["changed"]), ["house/new"]);
    desk.put("prices.toml", &by_hand.replace(mark, "mine"));
    let (code, out, err) = desk.run("prices check prices.toml");
    assert!(code == 1 && format!("{out}{err}").contains("`source_check` is no mark"), "{out}{err}");
}

#[test]
fn without_a_file_one_is_made_over_the_built_in_prices() {
    let mut all = vec![model("openai/gpt-4o", "0.000002", "0.00001")];
    all.extend((0..300).map(|at| model(&format!("house/m{at}"), "0.000001", "0.000002")));
    let shop = Shop::open(ok(&list_of(&all)));
    let desk = Desk::new(&shop);
    desk.put(
        "tokenmeter.toml",
        &format!("[upstreams.openrouter]\nbase_url = \"{}\"\n", shop.url()),
    );
    let (code, _, err) = desk.run("prices update --write");
    assert!(code == 2 && err.contains("--output"), "{err}");
    desk.done("prices update --write --output new.toml");
    let text = desk.read("new.toml");
    assert!(text.contains("extends = \"builtin\""), "{text}");
    let shown = desk.json("prices show openai/gpt-4o --provider openrouter --pricing new.toml");
    let sets = shown["prices"][0]["sets"].as_array().unwrap();
    assert_eq!(sets.last().unwrap()["rates"]["input"], 2);
    assert_eq!(sets[sets.len() - 2]["rates"]["input"].to_string(), "2.5", "{shown}");
    assert_eq!(shown["applies"][0]["rates"]["cached_input"].to_string(), "1.25");
    assert!(desk.done("prices check new.toml").contains("nothing wrong"));
}

#[test]
fn a_list_that_is_no_list_changes_nothing() {
    let shop = Shop::open(Vec::new());
    let desk = Desk::new(&shop);
    let head = |rest: &str| format!("HTTP/1.1 {rest}\r\nConnection: close\r\n\r\n").into_bytes();
    let huge = {
        let mut answer = head("200 OK");
        answer.resize(answer.len() + (17 << 20), b' ');
        answer
    };
    let elsewhere = head("302 Found\r\nLocation: http://127.0.0.2:1/models");
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n{\"data\": ["
        .to_vec();
    for (answer, why) in [
        (Vec::new(), "connection"),
        (head("500 Sorry"), "500"),
        (elsewhere, "leads elsewhere"),
        (huge, "16 MiB"),
        (cut, "broke off"),
        (ok(&json!([])), "no list"),
        (ok(&list_of(&[])), "empty"),
        (ok(&list_of(&[json!({"id": "a"})])), "has a price"),
    ] {
        *shop.list.lock().unwrap() = answer;
        let (code, _, err) = desk.run("prices update --write");
        assert!(code == 1 && err.contains(why), "{why}: {err}");
        assert_eq!(desk.read("prices.toml"), PRICES);
    }
    // Whoever never answers is given up.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    desk.put(
        "tokenmeter.toml",
        &format!(
            "pricing = \"prices.toml\"\n[upstreams.openrouter]\nbase_url = \"http://{}\"\n\
             timeouts.response_head = \"200ms\"\ntimeouts.idle = \"100ms\"\n",
            silent.local_addr().unwrap()
        ),
    );
    let (code, _, err) = desk.run("prices update");
    assert!(code == 1 && err.contains("timed out"), "{err}");
}

#[test]
fn prices_follow_the_list_while_calls_are_made() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("prices.toml");
    std::fs::write(&file, PRICES).unwrap();
    let mut same = offers();
    same[0] = model("house/old", "0.0000025", "0.00001");
    same[4] = model("house/long", "0.000003", "0.000006");
    let shop = Shop::open(ok(&list_of(&same)));
    let proxy = Settings::default()
        .upstream("openrouter", shop.url(), "")
        .with("default_upstream = \"openrouter\"")
        .with(&format!("pricing = {file:?}"))
        .with("[price_updates]\nevery = \"1s\"\nwrite = true")
        .start();
    let call = || {
        let mut client = proxy.connect();
        let body = json!({"model": "house/old", "messages": []}).to_string();
        client.send(format!(
            "POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(client.head().starts_with("HTTP/1.1 200"));
        client.rest();
    };
    eventually("the first look", || shop.asked() > 0);
    call();
    shop.offers(&offers());
    let state = || prices(&proxy, "?limit=1")["updates"]["lists"][0].clone();
    eventually("the second price", || {
        let applied = prices(&proxy, "?provider=openrouter&model=house/old");
        applied["applies"][0]["rates"]["input"] == 3
    });
    call();
    let rows = proxy.wait_for_rows(2);
    let costs: Vec<String> = rows.iter().map(|row| row["cost_usd"].to_string()).collect();
    assert_eq!(costs, ["2.5", "3"], "{rows:?}");
    assert!(rows[1]["price_id"].as_str().unwrap().starts_with("openrouter/house/old@"));
    eventually("its state", || state()["result"] == "done" && state()["models"] == 10);
    *shop.list.lock().unwrap() = ok(&json!({"data": "none"}));
    eventually("a failure", || state()["result"] == "failed");
    assert!(state()["message"].as_str().unwrap().contains("openrouter's list"));
    shop.offers(&offers());
    eventually("a recovery", || state()["result"] == "done");
}
