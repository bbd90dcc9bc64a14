//! What `prices list|show|check|update` print, narrow and wide and for programs, of a fixed table and list with
//! names that are wide or mean harm. The pictures are beside this file, in `snapshots/`.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test it price_tables`, and look at the diff.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::prices::{Shop, list_of, model, ok};

/// Names that are wide, long, turn the direction of writing, steer terminals, or are not seen.
const PRICES: &str = r#"default = false

[providers.openrouter]
free_suffix = ":free"

[providers.local]
free = true

[prices.openrouter]
"house/plain" = { input = 2.50, cached_input = 1.25, output = 10.00, source = "openrouter" }
"山田/太郎モデル" = { input = 0.1, output = 0.2, source = "openrouter" }
"evil\u001b[31m\u001b]0;owned\u0007\nroot" = { input = 1, output = 2 }
"ann\u202enimda" = { input = 3, output = 4, per_1k_requests = 5, reasoning = 7.0000001, source = "openrouter" }
"an\u200bn" = { input = 1 }
"=HYPERLINK(\"http://evil.example\",\"x\")" = { input = 1, output = 1, source = "openrouter" }
"meta-llama/Llama-3.3-70B-Instruct-Turbo-with-a-name-that-goes-on-and-on-for-longer-than-any-column" = { input = 0.88, output = 0.88 }
"house/alias" = "house/plain"

[prices.openrouter."house/long"]
input = 3
output = 6
above.200000 = { input = 6, output = 9 }
tier.flex = { input = 1.5, output = 3 }
daily."16:30-00:30" = { input = 2 }
since.2026-06-10 = { input = 4, output = 8, tier.flex = { input = 2, output = 4 } }
"#;

const WRONG: &str = "[prices.house]\nm = { inptu = 1 }\n\"evil\\u001b[31m\\u202e\" = { input = -1 }\n\
                     odd = { input = 0.000003, output = 0.000015 }\n";

fn desk() -> (TempDir, Shop) {
    let shop = Shop::open(ok(&list_of(&[
        model("house/plain", "0.000003", "0.000008"),
        model("山田/太郎モデル", "0.0000001", "0.00000025"),
        model("ann\u{202e}nimda", "0.00003", "0.000004"),
        model("evil\u{1b}[31m\nroot", "0.000001", "0.000002"),
        model("house/\u{202e}\u{200b}new", "0.0000005", "0.0000015"),
        model("house/gift", "0", "0"),
        model("house/auto", "-1", "-1"),
        model(&format!("house/{}", "long-".repeat(30)), "0.0000001234567891", "0.1"),
        json!({"id": "house/eyes", "pricing": {"prompt": "0.000001", "completion": "0.000002",
            "image": "0.0012", "evil\u{1b}[31m": "7", "overrides": [{"min_prompt_tokens": 200_000}]}}),
    ])));
    let home = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    put("prices.toml", PRICES);
    put("wrong.toml", WRONG);
    put("odd.toml", &WRONG.replace("inptu", "input").replace("-1", "1"));
    put(
        "tokenmeter.toml",
        &format!(
            "pricing = \"prices.toml\"\n[upstreams.openrouter]\nbase_url = \"{}\"\n",
            shop.url()
        ),
    );
    (home, shop)
}

fn tokenmeter(home: &TempDir, columns: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
        .args(arguments)
        .current_dir(home.path())
        .env_clear()
        .env("COLUMNS", columns)
        .output()
        .unwrap()
}

/// Each command with the name of its picture and its exit code.
const COMMANDS: [(&str, i32, &[&str]); 7] = [
    ("list", 0, &["list", "--at", "2026-11-01"]),
    ("show", 0, &["show", "house/alias", "--at", "2026-11-01"]),
    ("show_long", 0, &["show", "house/long", "--at", "2026-11-01"]),
    ("show_evil", 0, &["show", "ann\u{202e}nimda", "--at", "2026-11-01"]),
    ("check", 1, &["check", "wrong.toml"]),
    ("check_odd", 0, &["check", "odd.toml"]),
    ("update", 0, &["update"]),
];

/// What a terminal would do something about, line feeds aside.
fn steers(c: char) -> bool {
    let hidden = ['\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}'];
    (c.is_control() && c != '\n') || hidden.contains(&c)
}

#[test]
fn every_table_is_as_it_was_narrow_and_wide() {
    let (home, _shop) = desk();
    for (name, code, command) in COMMANDS {
        for columns in ["80", "200"] {
            let done = tokenmeter(&home, columns, &[&["prices"], command].concat());
            let table = String::from_utf8(done.stdout).unwrap();
            assert_eq!(done.status.code(), Some(code), "{name}: {table}{:?}", done.stderr);
            assert!(!table.contains(steers), "{table:?}");
            insta::assert_snapshot!(format!("{name}_{columns}"), table);
        }
    }
}

#[test]
fn every_answer_for_programs_is_as_it_was_and_has_all_digits() {
    let (home, _shop) = desk();
    for (name, code, command) in COMMANDS {
        if matches!(name, "show_evil" | "check_odd") {
            continue;
        }
        for format in ["json", "csv"] {
            let arguments = [&["prices"], command, &["--format", format]].concat();
            // However wide the terminal is.
            let done = tokenmeter(&home, "80", &arguments);
            let mut answer = String::from_utf8(done.stdout).unwrap();
            assert_eq!(done.status.code(), Some(code), "{name}: {answer}{:?}", done.stderr);
            if format == "json" {
                let mut value: Value = answer.parse().unwrap();
                if value["table"].is_object() {
                    value["table"]["loaded_at"] = json!("a moment");
                }
                answer = format!("{value:#}\n");
            }
            insta::assert_snapshot!(format!("{name}_{format}"), answer);
        }
    }
}
