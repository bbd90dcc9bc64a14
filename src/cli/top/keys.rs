//! Which key does what. Owns the bindings and how they are explained, in one table.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Suspend,
    /// Rows down, or up.
    Move(isize),
    First,
    Last,
    /// Group by this, or by the next or previous one.
    Group(&'static str),
    NextGroup,
    PreviousGroup,
    Sort(Sort),
    NextWindow,
    Into,
    Back,
    Search,
    Pause,
    Help,
    /// While a search is typed.
    Typed(char),
    Erase,
    Done,
    Cancel,
}

/// The order of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Cost,
    Tokens,
    Calls,
    Errors,
    Duration,
    Key,
}

impl Sort {
    /// In the words of the admin API.
    pub(super) fn figure(self) -> &'static str {
        match self {
            Sort::Cost => "cost_usd",
            Sort::Tokens => "total_tokens",
            Sort::Calls => "requests",
            Sort::Errors => "errors",
            Sort::Duration => "p50_duration_ms",
            Sort::Key => "key",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Cost => "cost",
            Sort::Tokens => "tokens",
            Sort::Calls => "calls",
            Sort::Errors => "errors",
            Sort::Duration => "p50",
            Sort::Key => "name",
        }
    }
}

/// What can be grouped by with a key, in the order in which they are gone through.
pub(super) const GROUPS: [&str; 7] =
    ["user", "model", "operation", "session", "provider", "endpoint", "outcome"];

/// Rows of a page.
const PAGE: isize = 10;

/// Keys as they are explained.
pub(super) const HELP: [(&str, &str); 13] = [
    ("↑ ↓ j k", "move"),
    ("PgUp PgDn Home End", "move far"),
    ("u m o s p n x", "by user, model, operation, session, provider, endpoint, outcome"),
    ("Tab ← →", "by the next or previous of these"),
    ("Enter", "only what is selected, by the next key"),
    ("Backspace", "back out of that"),
    ("w", "window: 5 min, 15 min, 1 h, 24 h, 7 d"),
    ("c t r e d a", "sort by cost, tokens, calls, errors, p50, name; again: the other way"),
    ("/", "show only names with this text; Esc ends that"),
    ("Space", "pause"),
    ("Ctrl-Z", "suspend"),
    ("?", "this"),
    ("q Esc Ctrl-C", "quit"),
];

/// The action of a key, which types text while a search is open.
pub(super) fn action(key: KeyEvent, is_typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('h') if is_typing => Some(Action::Erase),
            _ => None,
        };
    }
    if is_typing { typing(key.code) } else { browsing(key.code) }
}

fn typing(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(letter) => Some(Action::Typed(letter)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Done),
        KeyCode::Esc => Some(Action::Cancel),
        _ => None,
    }
}

fn browsing(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Cancel,
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::PageDown => Action::Move(PAGE),
        KeyCode::PageUp => Action::Move(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Tab | KeyCode::Right => Action::NextGroup,
        KeyCode::BackTab | KeyCode::Left => Action::PreviousGroup,
        KeyCode::Enter => Action::Into,
        KeyCode::Backspace => Action::Back,
        KeyCode::Char('u') => Action::Group("user"),
        KeyCode::Char('m') => Action::Group("model"),
        KeyCode::Char('o') => Action::Group("operation"),
        KeyCode::Char('s') => Action::Group("session"),
        KeyCode::Char('p') => Action::Group("provider"),
        KeyCode::Char('n') => Action::Group("endpoint"),
        KeyCode::Char('x') => Action::Group("outcome"),
        KeyCode::Char('c') => Action::Sort(Sort::Cost),
        KeyCode::Char('t') => Action::Sort(Sort::Tokens),
        KeyCode::Char('r') => Action::Sort(Sort::Calls),
        KeyCode::Char('e') => Action::Sort(Sort::Errors),
        KeyCode::Char('d') => Action::Sort(Sort::Duration),
        KeyCode::Char('a') => Action::Sort(Sort::Key),
        KeyCode::Char('w') => Action::NextWindow,
        KeyCode::Char('/') => Action::Search,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_that_is_explained_does_something() {
        for (keys, what) in HELP {
            for letter in keys.split(' ').filter(|word| word.chars().count() == 1) {
                let code = match letter {
                    "↑" => KeyCode::Up,
                    "↓" => KeyCode::Down,
                    "←" => KeyCode::Left,
                    "→" => KeyCode::Right,
                    letter => KeyCode::Char(letter.chars().next().unwrap()),
                };
                assert!(action(code.into(), false).is_some(), "{letter}: {what}");
            }
        }
        for by in GROUPS {
            let letters =
                ('a'..='z').filter_map(|letter| action(KeyCode::Char(letter).into(), false));
            assert!(letters.into_iter().any(|found| found == Action::Group(by)), "{by}");
        }
    }

    #[test]
    fn letters_are_letters_while_a_search_is_typed() {
        assert_eq!(action(KeyCode::Char('q').into(), true), Some(Action::Typed('q')));
        let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(stop, true), Some(Action::Quit));
    }
}
