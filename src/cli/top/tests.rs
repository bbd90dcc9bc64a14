//! The picture, at the sizes of terminals, from states that are made here.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;
use ask::Seen;
use figures::{Call, Figures, Group};
use keys::{Action, Sort};

const NOW: i64 = 1_795_253_400_000; // 2026-11-21T09:30:00Z

/// A name that wants to be another, to steer, and to be wide.
const HOSTILE: &str = "\u{202e}eve\u{1b}[2J\n\u{200b}山田太郎👩\u{200d}👩\u{200d}👧";

fn group(key: Option<&str>, calls: u64, cost: &str) -> Group {
    let figures = Figures {
        calls,
        errors: calls / 100,
        input: calls * 1234,
        output: calls * 321,
        tokens: calls * 1555,
        cost: cost.parse().unwrap(),
        estimated: calls / 50,
        unpriced: 0,
        p50_ms: Some(1_234),
    };
    Group { key: key.map(str::to_owned), figures }
}

fn call(second: i64, user: Option<&str>) -> Call {
    Call {
        at: Timestamp::from_millis(NOW - second * 1000),
        user: user.map(str::to_owned),
        operation: Some("rag_answer".to_owned()),
        model: Some("claude-sonnet-4-5-20250929".to_owned()),
        input: Some(1_234),
        output: (second % 3 != 0).then_some(56),
        cost: Some("0.00421".parse().unwrap()),
        is_estimated: second % 4 == 0,
        status: Some(if second % 5 == 0 { 429 } else { 200 }),
        outcome: if second % 7 == 0 { "client_closed" } else { "completed" }.to_owned(),
        is_failed: second % 5 == 0 || second % 7 == 0,
        duration_ms: Some(1_890),
    }
}

pub(super) fn seen() -> Seen {
    let users = [Some("ann"), Some(HOSTILE), None];
    let calls = (1..200).map(|second| call(second, users[usize::try_from(second % 3).unwrap()]));
    Seen {
        totals: group(None, 1_234, "12.3456789").figures,
        groups: vec![
            group(Some(HOSTILE), 1_000, "8.2"),
            group(Some("ann"), 200, "4.1056789"),
            group(None, 34, "0.04"),
        ],
        has_more: false,
        minute: group(None, 60, "0.2526").figures,
        calls: calls.collect(),
        open: Some(7),
        answers: [json!(null), json!(null), json!(null)],
    }
}

/// As if this had been asked then.
pub(super) fn answer(wish: &Wish, at: i64) -> Answer {
    let asked = Timestamp::from_millis(at);
    Answer { wish: wish.clone(), asked, seen: Ok(Box::new(seen())) }
}

fn state() -> State {
    let mut state = State::new(Query::new(), "user", 900_000, 2_000, Timestamp::from_millis(NOW));
    let wish = state.due().unwrap();
    state.answer(answer(&wish, NOW));
    state
}

fn picture(state: &State, wide: u16, tall: u16) -> String {
    let scene = Scene {
        instance: "https://meter.example.org".to_owned(),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        is_coloured: true,
    };
    let mut terminal = Terminal::new(TestBackend::new(wide, tall)).unwrap();
    terminal.draw(|frame| draw(frame, state, &scene)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_picture_fits_every_terminal() {
    let state = state();
    insta::assert_snapshot!("80x24", picture(&state, 80, 24));
    insta::assert_snapshot!("200x50", picture(&state, 200, 50));
    insta::assert_snapshot!("40x10", picture(&state, 40, 10));
}

#[test]
fn keys_change_the_picture() {
    let mut state = state();
    state.act(Action::Move(1));
    state.act(Action::Sort(Sort::Calls));
    state.act(Action::Into);
    let wish = state.due().unwrap();
    insta::assert_snapshot!("asking", picture(&state, 80, 24));
    state.answer(Answer { wish, asked: state.now, seen: Err("it is down\u{1b}[2J".to_owned()) });
    state.now = Timestamp::from_millis(NOW + 12_000);
    insta::assert_snapshot!("silent", picture(&state, 80, 24));
    state.act(Action::Help);
    insta::assert_snapshot!("help", picture(&state, 100, 30));
}

#[test]
fn nothing_hostile_reaches_the_terminal_at_any_size() {
    let mut state = state();
    state.act(Action::Search);
    for letter in "\u{202e}x".chars() {
        state.act(Action::Typed(letter));
    }
    let searched = state.clone();
    state.act(Action::Cancel);
    for (wide, tall) in (1..60).map(|size| (size * 4, size)).chain([(1, 1), (300, 2), (2, 100)]) {
        for state in [&state, &searched] {
            let picture = picture(state, wide, tall);
            for bad in ['\u{1b}', '\u{202e}', '\u{200b}'] {
                assert!(!picture.contains(bad), "{wide}x{tall}: {picture}");
            }
        }
    }
}

#[test]
fn spans_are_typed_as_people_write_them() {
    assert_eq!(millis("500ms"), Ok(500));
    assert_eq!(millis("15m"), Ok(900_000));
    assert_eq!(millis("7d"), Ok(604_800_000));
    for wrong in ["", "5", "m", "0s", "1w", "-1s", "99999999999999999d", "1.5h"] {
        assert!(millis(wrong).is_err(), "{wrong}");
    }
    assert!(interval("10ms").is_err() && interval("250ms").is_ok());
}
