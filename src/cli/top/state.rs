//! What `top` shows and why: keys, answers and the clock change it, and nothing else does. Owns what is
//! asked when; knows neither terminals nor ledgers.
//!
//! Invariant: figures that are shown belong to the filters, the key and the window that are shown; those of
//! another wish are not.

use super::super::Query;
use super::ask::{Answer, Seen, Wish};
use super::curve::Curve;
use super::figures::{Call, Group};
use super::keys::{Action, GROUPS, Sort};
use crate::units::{Timestamp, Usd};

/// Windows to go through: five minutes to seven days.
const WINDOWS: [i64; 5] = [300_000, 900_000, 3_600_000, 86_400_000, 604_800_000];

/// Keys that calls are not filtered by.
const UNPICKED: [&str; 6] = ["attempt", "retry", "hour", "day", "week", "month"];

/// Beyond its interval an answer may take so long before somebody is told.
const GRACE_MS: i64 = 3_000;

/// What the one who runs this has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Suspend,
    Quit,
}

/// A step into a group: what was shown, and which of it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) by: String,
    pub(super) value: String,
}

/// The key of a group that was moved to; calls that name none are a group too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen(Option<String>);

#[derive(Clone, Debug)]
pub(super) struct State {
    /// What was typed at the start.
    pub(super) filters: Query,
    pub(super) path: Vec<Step>,
    pub(super) by: String,
    windows: Vec<i64>,
    window: usize,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) search: String,
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) is_help: bool,
    /// Why a key did nothing.
    pub(super) notice: Option<String>,
    pub(super) interval_ms: i64,
    pub(super) now: Timestamp,
    /// The row, and the group that stood there when it was chosen.
    selected: usize,
    chosen: Option<Chosen>,
    seen: Option<(Wish, Seen)>,
    curve: Curve,
    under_way: Option<Wish>,
    asked: Option<(Wish, Timestamp)>,
    answered: Timestamp,
    failed: Option<String>,
}

impl State {
    pub(super) fn new(
        filters: Query,
        by: &str,
        window_ms: i64,
        interval_ms: i64,
        now: Timestamp,
    ) -> State {
        let mut windows = WINDOWS.to_vec();
        if !windows.contains(&window_ms) {
            windows.push(window_ms);
            windows.sort_unstable();
        }
        let window = windows.iter().position(|one| *one == window_ms).unwrap_or_default();
        State {
            filters,
            path: Vec::new(),
            by: by.to_owned(),
            windows,
            window,
            sort: Sort::Cost,
            is_reversed: false,
            search: String::new(),
            is_typing: false,
            is_paused: false,
            is_help: false,
            notice: None,
            interval_ms,
            now,
            selected: 0,
            chosen: None,
            seen: None,
            curve: Curve::default(),
            under_way: None,
            asked: None,
            answered: now,
            failed: None,
        }
    }

    pub(super) fn window_ms(&self) -> i64 {
        self.windows[self.window]
    }

    /// What is to be seen.
    pub(super) fn wish(&self) -> Wish {
        let mut filters = self.filters.clone();
        filters.extend(self.path.iter().map(|step| (step.by.clone(), step.value.clone())));
        Wish {
            with_history: !self.curve.is_of(&filters),
            filters,
            by: self.by.clone(),
            window_ms: self.window_ms(),
            sort: self.sort.figure(),
        }
    }

    /// What is to be asked now, if anything; it is under way from then on.
    pub(super) fn due(&mut self) -> Option<Wish> {
        if self.under_way.is_some() || (self.is_paused && self.seen().is_some()) {
            return None;
        }
        let wish = self.wish();
        let is_new = self
            .asked
            .as_ref()
            .is_none_or(|(asked, _)| !is_same(asked, &wish) || asked.sort != wish.sort);
        let last = self.asked.as_ref().map_or(i64::MIN, |(_, at)| at.millis());
        if !is_new && self.now.millis().saturating_sub(last) < self.interval_ms {
            return None;
        }
        self.asked = Some((wish.clone(), self.now));
        self.under_way = Some(wish.clone());
        Some(wish)
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.under_way = None;
        let Answer { wish, asked, seen } = answer;
        match seen {
            Err(why) => self.failed = Some(why),
            Ok(seen) => {
                self.failed = None;
                self.answered = self.now;
                if is_same(&wish, &self.wish()) {
                    self.curve.add(&wish, asked, &seen);
                    self.seen = Some((wish, *seen));
                    self.keep_chosen();
                }
            }
        }
    }

    pub(super) fn act(&mut self, action: Action) -> Next {
        self.notice = None;
        if self.is_help && action != Action::Quit && action != Action::Suspend {
            self.is_help = false;
            return Next::GoOn;
        }
        match action {
            Action::Quit => return Next::Quit,
            Action::Suspend => return Next::Suspend,
            // What was searched for goes first, and then the whole.
            Action::Cancel if self.search.is_empty() && !self.is_typing => return Next::Quit,
            Action::Cancel => {
                self.search.clear();
                self.is_typing = false;
            }
            Action::Move(rows) => self.choose(self.selected.saturating_add_signed(rows)),
            Action::First => self.choose(0),
            Action::Last => self.choose(usize::MAX),
            Action::Group(by) => self.group_by(by),
            Action::NextGroup => self.group_by(self.neighbour(1)),
            Action::PreviousGroup => self.group_by(self.neighbour(GROUPS.len() - 1)),
            Action::Sort(sort) => {
                self.is_reversed = self.sort == sort && !self.is_reversed;
                self.sort = sort;
                self.rest();
            }
            Action::NextWindow => self.window = (self.window + 1) % self.windows.len(),
            Action::Into => self.go_into(),
            Action::Back => self.go_back(),
            Action::Search => self.is_typing = true,
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Help => self.is_help = true,
            Action::Typed(letter) => self.search.push(letter),
            Action::Erase => drop(self.search.pop()),
            Action::Done => self.is_typing = false,
        }
        if self.is_typing {
            self.keep_chosen();
        }
        Next::GoOn
    }

    /// What was seen of what is wished now.
    pub(super) fn seen(&self) -> Option<&Seen> {
        let wish = self.wish();
        self.seen.as_ref().filter(|(seen, _)| is_same(seen, &wish)).map(|(_, seen)| seen)
    }

    /// The newest calls: those of the same filters, whatever they are grouped by.
    pub(super) fn calls(&self) -> &[Call] {
        let filters = self.wish().filters;
        let seen = self.seen.as_ref().filter(|(wish, _)| wish.filters == filters);
        seen.map_or(&[], |(_, seen)| &seen.calls)
    }

    /// The groups in their order, without those that are not searched for.
    pub(super) fn groups(&self) -> Vec<&Group> {
        let search = self.search.to_lowercase();
        let all = self.seen().map_or(&[][..], |seen| &seen.groups);
        let is_found = |group: &&Group| {
            search.is_empty()
                || group.key.as_ref().is_some_and(|key| key.to_lowercase().contains(&search))
        };
        let mut groups: Vec<&Group> = all.iter().filter(is_found).collect();
        groups.sort_by(|one, other| {
            let (a, b) = (&one.figures, &other.figures);
            let by_key = || one.key.cmp(&other.key);
            let order = match self.sort {
                Sort::Cost => b.cost.decimal().cmp(&a.cost.decimal()),
                Sort::Tokens => b.tokens.cmp(&a.tokens),
                Sort::Calls => b.calls.cmp(&a.calls),
                Sort::Errors => b.errors.cmp(&a.errors),
                Sort::Duration => b.p50_ms.cmp(&a.p50_ms),
                Sort::Key => by_key(),
            };
            let order = if self.is_reversed { order.reverse() } else { order };
            order.then_with(by_key)
        });
        groups
    }

    /// The row that is chosen, of those in [`State::groups`].
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// Cost per hour, the newest last.
    pub(super) fn curve(&self) -> impl DoubleEndedIterator<Item = Usd> + '_ {
        let is_ours = self.curve.is_of(&self.wish().filters);
        self.curve.points().filter(move |_| is_ours)
    }

    /// For how long there has been no answer, and why, where that is worth a word.
    pub(super) fn silence(&self) -> Option<(i64, Option<&str>)> {
        let millis = self.now.millis().saturating_sub(self.answered.millis()).max(0);
        let is_late = millis > self.interval_ms + GRACE_MS && !self.is_paused;
        (self.failed.is_some() || is_late).then_some((millis, self.failed.as_deref()))
    }

    fn choose(&mut self, row: usize) {
        let groups = self.groups();
        let row = row.min(groups.len().saturating_sub(1));
        let chosen = groups.get(row).map(|group| Chosen(group.key.clone()));
        // Who looks at the first wants to see who is first.
        self.chosen = chosen.filter(|_| row > 0);
        self.selected = row;
    }

    /// Finds the row again that was chosen, wherever it is by now.
    fn keep_chosen(&mut self) {
        let groups = self.groups();
        let found = self
            .chosen
            .as_ref()
            .and_then(|Chosen(key)| groups.iter().position(|one| one.key == *key));
        self.selected = found.unwrap_or(self.selected).min(groups.len().saturating_sub(1));
    }

    fn rest(&mut self) {
        self.selected = 0;
        self.chosen = None;
    }

    fn group_by(&mut self, by: &str) {
        by.clone_into(&mut self.by);
        self.search.clear();
        self.rest();
    }

    fn neighbour(&self, steps: usize) -> &'static str {
        let place = GROUPS.iter().position(|by| *by == self.by);
        GROUPS[place.map_or(0, |place| (place + steps) % GROUPS.len())]
    }

    fn go_into(&mut self) {
        let Some(group) = self.groups().get(self.selected).copied().cloned() else { return };
        let Some(value) = group.key else {
            self.notice = Some(format!("calls that name no {} cannot be picked", self.by));
            return;
        };
        if UNPICKED.contains(&self.by.as_str()) {
            self.notice = Some(format!("there is no filter by {}", self.by));
            return;
        }
        let wish = self.wish();
        if wish.filters.iter().any(|(name, _)| *name == self.by) {
            self.notice = Some(format!("these are of one {} already", self.by));
            return;
        }
        self.path.push(Step { by: self.by.clone(), value });
        let is_taken = |by: &str| self.wish().filters.iter().any(|(name, _)| name == by);
        let steps = 1..GROUPS.len();
        let next = steps.map(|steps| self.neighbour(steps)).find(|by| !is_taken(by));
        self.group_by(next.unwrap_or("model"));
    }

    fn go_back(&mut self) {
        let Some(step) = self.path.pop() else { return };
        self.group_by(&step.by);
        self.chosen = Some(Chosen(Some(step.value)));
        self.keep_chosen();
    }
}

/// Of the same calls in the same groups. Their order is made here.
fn is_same(one: &Wish, other: &Wish) -> bool {
    one.filters == other.filters && one.by == other.by && one.window_ms == other.window_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::tests::{answer, seen};

    const NOW: i64 = 1_795_253_400_000;

    fn state() -> State {
        State::new(Query::new(), "user", 300_000, 2_000, Timestamp::from_millis(NOW))
    }

    /// Asks, and gets the answer.
    fn answered() -> State {
        let mut state = state();
        let wish = state.due().unwrap();
        state.answer(answer(&wish, NOW));
        state
    }

    fn later(state: &mut State, millis: i64) {
        state.now = Timestamp::from_millis(state.now.millis() + millis);
    }

    #[test]
    fn one_question_is_under_way_and_the_next_one_waits_for_its_time() {
        let mut state = state();
        let wish = state.due().unwrap();
        later(&mut state, 60_000);
        assert_eq!(state.due(), None, "one is under way");
        state.answer(answer(&wish, NOW + 60_000));
        let wish = state.due().unwrap();
        assert!(!wish.with_history, "the curve is there");
        state.answer(answer(&wish, NOW + 60_000));
        later(&mut state, 1_999);
        assert_eq!(state.due(), None);
        later(&mut state, 1);
        assert!(state.due().is_some());
    }

    #[test]
    fn another_wish_is_asked_at_once_and_old_figures_are_not_shown_as_its_own() {
        let mut state = answered();
        assert_eq!(state.groups().len(), 3);
        state.act(Action::Group("model"));
        assert!(state.seen().is_none() && state.groups().is_empty());
        assert!(!state.calls().is_empty(), "the calls are the same");
        let wish = state.due().unwrap();
        assert_eq!(wish.by, "model");
        state.act(Action::Group("session"));
        state.answer(answer(&wish, NOW));
        assert!(state.seen().is_none(), "an answer to the wish before");
        assert_eq!(state.due().unwrap().by, "session");
    }

    #[test]
    fn one_goes_into_a_group_and_back() {
        let mut state = answered();
        state.act(Action::Move(1));
        assert_eq!(state.groups()[1].key.as_deref(), Some("ann"));
        state.act(Action::Into);
        let wish = state.due().unwrap();
        assert_eq!(
            (wish.by.as_str(), &wish.filters),
            ("model", &vec![("user".into(), "ann".into())])
        );
        assert!(wish.with_history, "the curve is that of other calls");
        state.answer(answer(&wish, NOW));
        state.act(Action::Back);
        assert_eq!(state.by, "user");
        let wish = state.due().unwrap();
        state.answer(answer(&wish, NOW));
        assert_eq!(state.groups()[state.selected()].key.as_deref(), Some("ann"));
        state.act(Action::Last);
        state.act(Action::Into);
        assert!(
            state.notice.as_ref().is_some_and(|why| why.contains("no user")),
            "{:?}",
            state.notice
        );
    }

    #[test]
    fn what_is_no_filter_leads_nowhere() {
        let mut state = answered();
        state.act(Action::Group("hour"));
        let wish = state.due().unwrap();
        state.answer(answer(&wish, NOW));
        state.act(Action::Into);
        assert!(state.path.is_empty() && state.notice.is_some(), "{:?}", state.notice);
    }

    #[test]
    fn what_is_chosen_stays_chosen_when_the_order_changes() {
        let mut state = answered();
        state.act(Action::Move(1));
        later(&mut state, 2_000);
        let wish = state.due().unwrap();
        let mut changed = seen();
        changed.groups[1].figures.cost = "900".parse().unwrap();
        state.answer(Answer { wish, asked: state.now, seen: Ok(Box::new(changed)) });
        assert_eq!((state.selected(), state.groups()[0].key.as_deref()), (0, Some("ann")));
    }

    #[test]
    fn silence_is_told_with_its_reason_and_figures_stay() {
        let mut state = answered();
        assert_eq!(state.silence(), None);
        later(&mut state, 2_000);
        let wish = state.due().unwrap();
        later(&mut state, 10_000);
        assert_eq!(state.silence(), Some((12_000, None)));
        state.answer(Answer { wish, asked: state.now, seen: Err("refused".to_owned()) });
        assert_eq!(state.silence(), Some((12_000, Some("refused"))));
        assert_eq!(state.groups().len(), 3);
        let wish = state.due().unwrap();
        state.answer(answer(&wish, state.now.millis()));
        assert_eq!(state.silence(), None);
    }

    #[test]
    fn a_search_is_typed_used_and_ended() {
        let mut state = answered();
        state.act(Action::Search);
        for letter in "AN".chars() {
            state.act(Action::Typed(letter));
        }
        state.act(Action::Done);
        assert_eq!(state.groups().len(), 1);
        assert_eq!(state.act(Action::Cancel), Next::GoOn);
        assert_eq!(state.groups().len(), 3);
        assert_eq!(state.act(Action::Cancel), Next::Quit);
    }

    #[test]
    fn sorting_windows_and_pause() {
        let mut state = answered();
        state.act(Action::Sort(Sort::Cost));
        assert!(state.is_reversed);
        state.act(Action::Sort(Sort::Calls));
        assert!(!state.is_reversed);
        for window in [900_000, 3_600_000, 86_400_000, 604_800_000, 300_000] {
            state.act(Action::NextWindow);
            assert_eq!(state.window_ms(), window);
        }
        let wish = state.due().unwrap();
        state.answer(answer(&wish, NOW));
        state.act(Action::Pause);
        later(&mut state, 60_000);
        assert_eq!((state.due(), state.silence()), (None, None));
        state.act(Action::NextWindow);
        assert!(state.due().is_some(), "what is not there yet is asked for all the same");
    }
}
