//! The report as a whole, from answers that are made up here.

use std::cell::Cell;
use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;

const HOSTILE: [&str; 5] = [
    "<script>alert(\"1\")</script>",
    "\"'><img src=x onerror=y> &amp;",
    "\u{202e}gnp.exe\u{0}\u{1b}[31m",
    "https://evil.example/?a=b",
    "=HYPERLINK(\"x\")",
];

fn wish() -> Wish {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    Wish {
        window: Window::month("2026-10-01".parse().unwrap(), &zone).unwrap(),
        filters: vec![("metadata.team".to_owned(), HOSTILE[0].to_owned())],
        by: Vec::new(),
        made: "2026-11-22T09:30:00Z".parse().unwrap(),
    }
}

fn figures(calls: u64) -> Value {
    let cost: Value = serde_json::from_str(&format!("{calls}.000000001")).unwrap();
    json!({
        "requests": calls, "errors": calls / 10, "input_tokens": calls * 1000,
        "cache_read_tokens": calls * 400, "output_tokens": calls * 50, "total_tokens": calls * 1050,
        "cost_usd": cost, "estimated_requests": calls / 5, "estimated_tokens": calls,
        "unpriced_requests": calls / 7, "p50_duration_ms": 1250, "p95_duration_ms": 9000,
    })
}

/// Group `at` of `groups` has `at + 1` calls: the largest come last.
fn answer(pairs: &Pairs, groups: usize) -> Value {
    let asked: HashMap<&str, &str> =
        pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let calls = |at: usize| at as u64 + 1;
    let sum = |of: &dyn Fn(usize) -> Value, name: &str| -> u64 {
        (0..groups).map(|at| of(at)[name].as_u64().unwrap()).sum()
    };
    let of = |at| figures(calls(at));
    let mut totals = figures(0);
    for name in totals.clone().as_object().unwrap().keys() {
        if totals[name].is_u64() && !name.ends_with("_ms") {
            totals[name] = sum(&of, name).into();
        }
    }
    let whole: u64 = (0..groups).map(calls).sum();
    totals["cost_usd"] = serde_json::from_str(&format!("{whole}.{groups:09}")).unwrap();
    let mut answer = json!({"totals": totals, "groups": [], "next_offset": null});
    let Some(key) = asked.get("group_by") else { return answer };
    let name = |at: usize| match *key {
        "day" => json!(format!("2026-10-{:02}", at % 31 + 1)),
        _ if at + 1 == groups => Value::Null,
        _ => match HOSTILE.get(groups - 2 - at) {
            Some(hostile) => json!(hostile),
            None => json!(format!("u{at}")),
        },
    };
    let group = |at: usize| {
        let mut group = figures(calls(at));
        group["key"] = json!({*key: name(at)});
        group
    };
    let mut all: Vec<Value> = (0..groups).map(group).collect();
    if asked["sort"] != "key" {
        all.reverse();
    }
    answer["groups"] = all.into();
    answer
}

fn found(groups: usize) -> Found {
    let ask = |asked: Asked, pairs: &Pairs| -> Result<Value, String> {
        match asked {
            Asked::Totals => Ok(answer(pairs, groups)),
            Asked::Calls => Ok(json!({"records": []})),
        }
    };
    gather(&wish(), ask).unwrap()
}

/// A report on thirty groups with hostile names.
pub(super) fn report() -> Report {
    say(&wish(), &found(30), None)
}

#[test]
fn every_table_adds_up_to_the_whole() {
    let report = report();
    assert_eq!(report.tables.len(), 6);
    let number = |figure: &Figure| -> rust_decimal::Decimal {
        figure.exact.replace(['$', ','], "").parse().unwrap()
    };
    for table in &report.tables {
        let (total, rows) = table.rows.split_last().unwrap();
        assert_eq!(total.kind, RowKind::Total);
        let columns = |row: &Row| [&row.cost, &row.calls, &row.input, &row.output].map(number);
        for column in 0..4 {
            let sum: rust_decimal::Decimal = rows.iter().map(|row| columns(row)[column]).sum();
            assert_eq!(sum, columns(total)[column], "{}", table.caption);
        }
    }
    let users = &report.tables[0];
    assert_eq!((users.rows.len(), users.rows[25].name.as_str()), (27, "5 others"));
    assert_eq!((users.rows[0].kind, users.rows[0].name.as_str()), (RowKind::Absent, "(none)"));
    assert_eq!(users.rows[0].cost.note.as_deref(), Some("+ 4 unpriced"));
    assert!(users.rows[0].cost.shown.starts_with("~$30"), "{:?}", users.rows[0]);
    assert_eq!(report.tables[4].caption, "The most expensive sessions");
    assert_eq!(report.tables[4].rows.len(), 12);
    assert_eq!(report.tables[5].rows.len(), 32);
}

#[test]
fn one_row_is_not_folded_into_one_row() {
    assert_eq!(say(&wish(), &found(26), None).tables[0].rows.len(), 27);
    assert!(
        say(&wish(), &found(25), None).tables[0].rows.iter().all(|row| row.kind != RowKind::Others)
    );
}

#[test]
fn a_breakdown_without_an_answer_says_why_and_takes_no_other_with_it() {
    let ask = |asked: Asked, pairs: &Pairs| -> Result<Value, String> {
        match asked {
            Asked::Calls => Ok(json!({"records": []})),
            Asked::Totals if pairs.iter().any(|(_, text)| text == "session") => {
                Err("too many".to_owned())
            }
            Asked::Totals => Ok(answer(pairs, 3)),
        }
    };
    let report = say(&wish(), &gather(&wish(), ask).unwrap(), None);
    let sessions = report.tables.iter().find(|table| table.of == "Session").unwrap();
    assert!(sessions.rows.is_empty() && sessions.about.as_ref().unwrap().contains("too many"));
    assert!(html(&report).contains("too many"));
    assert_eq!(report.tables.len(), 6);
}

#[test]
fn calls_that_come_in_between_are_asked_for_again_or_said() {
    let asked = Cell::new(0);
    let ask = |of: Asked, pairs: &Pairs| -> Result<Value, String> {
        asked.set(asked.get() + 1);
        match of {
            Asked::Calls => Ok(json!({"records": []})),
            // The first totals of all are of fewer calls.
            Asked::Totals => Ok(answer(pairs, if asked.get() == 1 { 2 } else { 3 })),
        }
    };
    assert!(!gather(&wish(), ask).unwrap().is_uneven);
    let always = |of: Asked, pairs: &Pairs| -> Result<Value, String> {
        asked.set(asked.get() + 1);
        match of {
            Asked::Calls => Ok(json!({"records": []})),
            Asked::Totals => Ok(answer(pairs, asked.get())),
        }
    };
    let found = gather(&wish(), always).unwrap();
    assert!(found.is_uneven);
    assert!(
        say(&wish(), &found, None).notes.iter().any(|note| note.contains("still being recorded"))
    );
}

#[test]
fn metadata_that_tells_calls_apart_has_a_table() {
    let by = Cell::new(String::new());
    let ask = |asked: Asked, pairs: &Pairs| -> Result<Value, String> {
        if asked == Asked::Totals {
            let key = pairs.iter().find(|(name, _)| name == "group_by");
            by.set(by.take() + " " + key.map_or("", |(_, key)| key));
            return Ok(answer(pairs, 3));
        }
        let call = |at: usize| json!({"metadata": {"squad": at % 3, "request": at, "all": 1, "rare": null}});
        Ok(json!({"records": (0..100).map(call).collect::<Vec<_>>()}))
    };
    gather(&wish(), ask).unwrap();
    assert_eq!(by.take().trim(), "day user model operation provider metadata.squad session");
}

#[test]
fn what_is_deleted_is_said() {
    let ask = |asked: Asked, pairs: &Pairs| -> Result<Value, String> {
        if asked == Asked::Calls {
            return Ok(json!({}));
        }
        let is_cut = pairs.iter().any(|(_, text)| text == "session");
        let mut answer = answer(pairs, if is_cut { 2 } else { 3 });
        if is_cut {
            answer["rows_since"] = json!("2026-10-09T00:00:00.000Z");
        }
        Ok(answer)
    };
    let found = gather(&wish(), ask).unwrap();
    assert!(!found.is_uneven);
    let notes = say(&wish(), &found, None).notes;
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("2026-10-09T00:00:00.000Z") && notes[0].contains("by session"),
        "{notes:?}"
    );
}

#[test]
fn an_unfinished_month_has_a_forecast_and_no_days_to_come() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let wish = Wish { made: "2026-10-20T12:00:00Z".parse().unwrap(), ..wish() };
    let ask = |asked: Asked, pairs: &Pairs| -> Result<Value, String> {
        if asked == Asked::Calls { Ok(json!({})) } else { Ok(answer(pairs, 19)) }
    };
    let report = say(&wish, &gather(&wish, ask).unwrap(), Some("Ours"));
    assert_eq!(report.title, "Ours");
    assert!(report.forecast.unwrap().contains("By the end of October 2026"));
    assert!(report.notes.iter().any(|note| note.contains("not over")));
    assert_eq!(report.before.as_deref(), Some("the same part of September 2026"));
    assert_eq!(report.tables.last().unwrap().rows.len(), 21);
    assert_eq!(wish.window.zone, zone);
}

#[test]
fn a_page_is_well_formed_and_names_are_only_names() {
    let page = html(&report());
    for part in ["<script", "http://", "url(", "onerror=y>", "\u{1b}", "\u{0}"] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.contains("<bdi>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;</bdi>"));
    assert!(page.contains("<bdi>https://evil.example/?a=b</bdi>"));
    assert_eq!(page.matches("https://").count(), page.matches("<bdi>https://evil").count());
    assert_eq!(page, html(&report()));
    let elements = nested(&page);
    assert!(elements > 1000, "{elements}");
}

/// Counts elements, each of which must end where it may.
fn nested(page: &str) -> usize {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let (mut open, mut count) = (Vec::new(), 0);
    for tag in page.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag has an end");
        assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for attribute in [" src=", " href=", " on", " data-"] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        count += 1;
    }
    assert!(open.is_empty(), "{open:?}");
    count
}
