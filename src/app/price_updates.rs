//! Prices kept up to date while tokenmeter serves: a thread that reads the public lists every so often.
//! Owns when; what it cannot do is logged once, tried again later, and touches no call.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::StartError;
use super::price_lists::{PriceFile, fetch_list};
use super::prices::PriceDesk;
use crate::admin::PriceKeeper;
use crate::config::{Config, PriceUpdates};
use crate::meter::guarded;
use crate::pricing::{ListUpdate, PriceList, UpdateOptions};
use crate::units::Timestamp;

/// The first wait after a failure; it doubles with each.
const FIRST_BACK_OFF: Duration = Duration::from_mins(1);

/// The first look is at some moment of this part of the interval, and within this time.
const JITTER_PART: u32 = 10;
const MOST_JITTER: Duration = Duration::from_mins(5);

/// Stops the thread when dropped; a list that is being fetched is not waited for.
#[derive(Debug)]
pub(super) struct Updating(#[expect(dead_code)] Sender<()>);

struct Updater {
    config: Config,
    settings: PriceUpdates,
    desk: Arc<PriceDesk>,
    lists: Vec<ListState>,
}

/// What a list would change, and whether it is written down.
type Looked = Result<(ListUpdate, bool), StartError>;

/// How a list was read last.
struct ListState {
    list: PriceList,
    at: Option<Timestamp>,
    failures: u32,
    last: Option<Result<(ListUpdate, bool), String>>,
}

/// Until the first look, so that not all of a fleet come at once; `chance` is from 0 to 1.
fn first_wait(every: Duration, chance: f64) -> Duration {
    (every / JITTER_PART).min(MOST_JITTER).mul_f64(chance.clamp(0.0, 1.0))
}

/// Until the next look, after so many failures in a row.
fn wait_after(every: Duration, failures: u32) -> Duration {
    match failures {
        0 => every,
        more => FIRST_BACK_OFF.saturating_mul(1 << (more - 1).min(16)).min(every),
    }
}

/// Begins, if the configuration says so.
pub(super) fn begin(config: &Config, desk: &Arc<PriceDesk>) -> std::io::Result<Option<Updating>> {
    let Some(settings) = config.price_updates.clone() else { return Ok(None) };
    let lists = settings.lists.iter().map(|list| ListState {
        list: *list,
        at: None,
        failures: 0,
        last: None,
    });
    let lists = lists.collect();
    let (config, desk) = (config.clone(), Arc::clone(desk));
    let mut updater = Updater { config, settings, desk, lists };
    let (stop, stopped) = channel();
    let run = move || updater.run(&stopped, Updater::update);
    thread::Builder::new().name("prices".to_owned()).spawn(run)?;
    Ok(Some(Updating(stop)))
}

impl Updater {
    /// Goes on until it is told to stop, whatever becomes of a single look.
    fn run(&mut self, stopped: &Receiver<()>, update: impl Fn(&Updater, PriceList) -> Looked) {
        let mut wait = first_wait(self.settings.every, fastrand::f64());
        loop {
            self.tell(wait);
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            for at in 0..self.lists.len() {
                let list = self.lists[at].list;
                // The log has the panic already, with its place.
                let looked = guarded(|| update(self, list)).unwrap_or_else(|| {
                    Err(StartError(format!("{}'s list: reading it panicked", list.as_str())))
                });
                self.note(at, looked);
            }
            let failures = self.lists.iter().map(|state| state.failures).max().unwrap_or_default();
            wait = wait_after(self.settings.every, failures);
        }
    }

    /// Keeps how one list was read.
    fn note(&mut self, at: usize, looked: Looked) {
        let list = self.lists[at].list;
        let looked = looked.map_err(|error| error.to_string());
        let state = &mut self.lists[at];
        state.at = Some(Timestamp::now());
        match &looked {
            Ok((update, is_written)) => {
                state.failures = 0;
                tracing::info!(
                    list = list.as_str(),
                    models = update.models,
                    new = update.new.len(),
                    changed = update.changed.len(),
                    gone = update.gone.len(),
                    skipped = update.skipped.len(),
                    written = is_written,
                    "public price list read"
                );
                for one in &update.changed {
                    let changes: Vec<String> =
                        one.changes.iter().map(ToString::to_string).collect();
                    tracing::info!(
                        list = list.as_str(),
                        model = one.model,
                        "{}",
                        changes.join(", ")
                    );
                }
            }
            Err(error) => {
                let is_news = state.failures == 0
                    || !matches!(&state.last, Some(Err(known)) if known == error);
                state.failures = state.failures.saturating_add(1);
                if is_news {
                    tracing::warn!(%error, "prices were not updated; it is tried again");
                } else {
                    tracing::debug!(%error, failures = state.failures, "prices were not updated");
                }
            }
        }
        self.lists[at].last = Some(looked);
    }

    /// Reads one list, and writes what it says if that is wanted.
    fn update(&self, list: PriceList) -> Looked {
        let body = fetch_list(list, &self.config)?;
        let options = UpdateOptions { at: Timestamp::now(), accept_large: false, only: None };
        let said = |error: &dyn std::fmt::Display| StartError(error.to_string());
        let file = match &self.config.pricing {
            Some(path) if self.settings.write => {
                Some(PriceFile::open(path).map_err(|error| said(&error))?)
            }
            _ => None,
        };
        let in_force = self.desk.table();
        let book = file.as_ref().map_or(&in_force.book, |(_, table)| &table.book);
        let update = ListUpdate::of(list, &body, book, &options).map_err(|error| said(&error))?;
        let Some((file, _)) = file.filter(|_| !update.is_empty()) else {
            return Ok((update, false));
        };
        file.write(std::slice::from_ref(&update))?;
        self.desk.reload().map_err(|error| said(&error))?;
        Ok((update, true))
    }

    /// What the admin API says.
    fn tell(&self, wait: Duration) {
        let lists: Vec<Value> = self.lists.iter().map(ListState::json).collect();
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let next = Timestamp::from_millis(Timestamp::now().millis().saturating_add(wait));
        self.desk.set_updates(json!({
            "every_seconds": self.settings.every.as_secs(), "write": self.settings.write,
            "next_at": next, "lists": lists,
        }));
    }
}

impl ListState {
    fn json(&self) -> Value {
        let (result, message) = match &self.last {
            None => ("waiting", None),
            Some(Ok(_)) => ("done", None),
            Some(Err(error)) => ("failed", Some(error)),
        };
        let done = self.last.as_ref().and_then(|last| last.as_ref().ok());
        let count = |of: fn(&ListUpdate) -> usize| done.map(|(update, _)| of(update));
        json!({
            "list": self.list.as_str(), "at": self.at, "result": result, "message": message,
            "models": count(|update| update.models), "new": count(|update| update.new.len()),
            "changed": count(|update| update.changed.len()),
            "gone": count(|update| update.gone.len()),
            "skipped": count(|update| update.skipped.len()),
            "unchanged": count(|update| update.unchanged),
            "written": done.is_some_and(|(_, is_written)| *is_written),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PriceBook;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn the_first_look_comes_soon_and_not_everywhere_at_once() {
        for every in [Duration::from_secs(1), Duration::from_mins(10), DAY, DAY * 365] {
            let most = (every / 10).min(Duration::from_mins(5));
            assert_eq!(first_wait(every, 0.0), Duration::ZERO);
            assert_eq!(first_wait(every, 1.0), most);
            assert!(first_wait(every, 0.3) < first_wait(every, 0.6), "{every:?}");
            for chance in [f64::MAX, -1.0, f64::INFINITY] {
                assert!(first_wait(every, chance) <= most, "{chance}");
            }
        }
    }

    #[test]
    fn failures_are_tried_again_later_and_later_and_never_later_than_usual() {
        let minutes = |failures| wait_after(DAY, failures).as_secs() / 60;
        let waits: Vec<u64> = (0..14).map(minutes).collect();
        assert_eq!(waits, [1_440, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_440, 1_440]);
        assert_eq!(wait_after(DAY, u32::MAX), DAY);
        assert_eq!(wait_after(Duration::MAX, 18), wait_after(Duration::MAX, u32::MAX));
        let second = Duration::from_secs(1);
        assert_eq!([0, 1, 9].map(|failures| wait_after(second, failures)), [second; 3]);
    }

    #[test]
    fn what_is_told_of_a_list_is_what_came_last() {
        let body = br#"{"data": [{"id": "m", "pricing": {"prompt": "1e-6", "completion": "2e-6"}},
            {"id": "n", "pricing": {"prompt": "-1", "completion": "-1"}}]}"#;
        let book =
            PriceBook::parse("[prices.openrouter]\nleft = { input = 1, source = \"openrouter\" }");
        let options = UpdateOptions { at: Timestamp::now(), accept_large: false, only: None };
        let update = ListUpdate::of(PriceList::OpenRouter, body, &book.unwrap(), &options).unwrap();
        let list = PriceList::OpenRouter;
        let mut state = ListState { list, at: None, failures: 0, last: None };
        assert_eq!(
            state.json().to_string(),
            r#"{"list":"openrouter","at":null,"result":"waiting","message":null,"models":null,"new":null,"changed":null,"gone":null,"skipped":null,"unchanged":null,"written":false}"#
        );
        state.last = Some(Ok((update, true)));
        let told = state.json();
        assert_eq!((&told["result"], &told["written"]), (&json!("done"), &json!(true)));
        let counts = ["models", "new", "changed", "gone", "skipped", "unchanged"];
        assert_eq!(counts.map(|name| told[name].as_u64().unwrap()), [2, 1, 0, 1, 1, 0]);
        state.last = Some(Err("no answer".to_owned()));
        let told = state.json();
        assert_eq!((&told["result"], &told["message"]), (&json!("failed"), &json!("no answer")));
        assert!(counts.iter().all(|name| told[*name].is_null()) && told["written"] == false);
    }
}

#[cfg(test)]
mod panics {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::config::Flags;
    use crate::ledger::{Ledger, Settings};
    use crate::meter::Meter;
    use crate::pricing::{PriceBook, PriceTable};

    #[test]
    fn a_panic_is_a_failure_like_others_and_the_next_look_comes() {
        let home = tempfile::tempdir().unwrap();
        let nothing = |_: &std::path::Path| Err(io::Error::from(io::ErrorKind::NotFound));
        let config = Config::from_sources(&Flags::default(), &BTreeMap::new(), &nothing).unwrap();
        let ledger = Ledger::open(&Settings::of(home.path().join("t.db"))).unwrap();
        let meter = Arc::new(Meter::new(ledger, PriceBook::builtin()));
        let desk = Arc::new(PriceDesk::new(meter, PriceTable::builtin()));
        let list = PriceList::OpenRouter;
        let every = Duration::from_millis(2);
        let mut updater = Updater {
            config,
            settings: PriceUpdates { every, write: false, lists: vec![list] },
            desk: Arc::clone(&desk),
            lists: vec![ListState { list, at: None, failures: 0, last: None }],
        };
        let (stop, stopped) = channel();
        let (stop, looks) = (RefCell::new(Some(stop)), Cell::new(0));
        updater.run(&stopped, |updater, _| {
            looks.set(looks.get() + 1);
            assert!(looks.get() > 1, "on purpose, in a test");
            assert_eq!(updater.lists[0].failures, 1);
            let said = desk.updates()["lists"][0].clone();
            assert_eq!(said["result"], "failed", "{said}");
            assert!(said["message"].as_str().unwrap().contains("panicked"), "{said}");
            stop.take();
            Err(StartError("enough".to_owned()))
        });
        assert_eq!((looks.get(), updater.lists[0].failures), (2, 2));
        assert_eq!(desk.updates()["lists"][0]["message"], "enough");
    }
}
