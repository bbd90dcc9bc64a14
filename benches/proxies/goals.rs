//! The targets, and whether they are met. Owns how each is read from the figures: medians over the
//! rounds, of what is told within a round.

use crate::rounds::{Course, Figures, Outcome, least, median};
use crate::sheet::{Sheet, grouped};

struct Goal {
    what: String,
    found: String,
    target: String,
    is_met: Option<bool>,
}

#[derive(Default)]
pub(crate) struct Goals(Vec<Goal>);

impl Goals {
    /// Looks at a load's outcome for what there are targets of.
    pub(crate) fn hear(&mut self, outcome: &Outcome) {
        match outcome.load.name {
            "chat-1" => {
                self.cpu(outcome, "CPU a chat call, 1 connection", 1.25);
                self.added(outcome, "added p50, chat, 1 connection", 5.0, |one| one.whole.p50);
                self.tail(outcome);
            }
            "chat-16" => self.cpu(outcome, "CPU a chat call, 16 connections", 1.25),
            "chat-256" => self.cpu(outcome, "CPU a chat call, 256 connections", 1.25),
            "stream-1" => {
                let what = "added first byte, stream at full speed";
                self.added(outcome, what, 30.0, |one| one.first_byte.p50);
            }
            "stream-8" => self.cpu(outcome, "CPU an event at full speed", 1.2),
            "paced" => {
                self.cpu(outcome, "CPU an event each 20 ms", 1.1);
                let what = "added first byte, paced stream";
                self.added(outcome, what, 30.0, |one| one.first_byte.p50);
            }
            _ => {}
        }
    }

    pub(crate) fn add(&mut self, what: &str, found: String, target: String, is_met: Option<bool>) {
        self.0.push(Goal { what: what.to_owned(), found, target, is_met });
    }

    fn cpu(&mut self, outcome: &Outcome, what: &str, limit: f64) {
        let Some(own) = outcome.course("tokenmeter") else { return };
        let ratios = outcome.ratios(own, "nginx");
        let is_met = (!ratios.is_empty()).then(|| median(ratios.iter().copied()) <= limit);
        let found = if ratios.is_empty() {
            "no nginx".to_owned()
        } else {
            let calmest = outcome.calmest_ratio(own, "nginx").unwrap_or(f64::NAN);
            format!("{:.2} × nginx's (calmest: {calmest:.2})", median(ratios))
        };
        self.add(what, found, format!("≤ {limit:.2} × nginx's"), is_met);
    }

    /// A latency may exceed nginx's by so many microseconds.
    fn added(&mut self, outcome: &Outcome, what: &str, limit: f64, of: fn(&Figures) -> f64) {
        let (Some(own), Some(nginx)) = (outcome.course("tokenmeter"), outcome.course("nginx"))
        else {
            return;
        };
        let more = own.rounds.iter().zip(&nginx.rounds).map(|(own, nginx)| of(own) - of(nginx));
        let more = median(more);
        let least = Calmest::of(outcome, own, nginx, of);
        let found = format!(
            "nginx's {} {} µs (calmest: {} + {})",
            if more < 0.0 { "-" } else { "+" },
            grouped(more.abs()),
            grouped(least.nginx),
            grouped(least.own - least.nginx)
        );
        self.add(what, found, format!("≤ nginx's + {limit:.0} µs"), Some(more <= limit));
    }

    fn tail(&mut self, outcome: &Outcome) {
        let (Some(own), Some(nginx)) = (outcome.course("tokenmeter"), outcome.course("nginx"))
        else {
            return;
        };
        let least = Calmest::of(outcome, own, nginx, |one| one.whole.p99);
        let own = median(outcome.added(own, |one| one.whole.p99));
        let nginx = median(outcome.added(nginx, |one| one.whole.p99));
        let (ratio, calmest) = (own / nginx, least.own / least.nginx);
        let found = format!("{ratio:.2} × nginx's {} µs (calmest: {calmest:.2})", grouped(nginx));
        let is_met = Some(own <= nginx * 1.1);
        self.add("added p99, chat, 1 connection", found, "≤ 1.10 × nginx's".to_owned(), is_met);
    }

    pub(crate) fn report(self, sheet: &mut Sheet) {
        if self.0.is_empty() {
            return;
        }
        sheet.title("Targets");
        let rows = self.0.into_iter().map(|goal| {
            let verdict = goal.is_met.map_or("", |met| if met { "met" } else { "not met" });
            vec![goal.what, goal.found, goal.target, verdict.to_owned()]
        });
        let head = [("", 38), ("found", 39), ("target", 18), ("", 7)];
        sheet.words(&head, rows.collect());
    }
}

/// A latency of the least disturbed rounds, less a direct call's of its own least disturbed round.
struct Calmest {
    own: f64,
    nginx: f64,
}

impl Calmest {
    fn of(outcome: &Outcome, own: &Course, nginx: &Course, of: fn(&Figures) -> f64) -> Calmest {
        let calmest = |course: &Course| least(course.rounds.iter().map(of));
        let direct = calmest(&outcome.courses[0]);
        Calmest { own: calmest(own) - direct, nginx: calmest(nginx) - direct }
    }
}
