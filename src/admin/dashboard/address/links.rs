//! From an address to others, and to the text of a link. Owns which parts of an address another page keeps.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Address, Stack, View};
use crate::admin::dashboard::calendar::Step;
use crate::admin::dashboard::trend::Measure;
use crate::admin::dashboard::window::Span;
use crate::admin::params::Pairs;
use crate::ledger::{Cursor, Order};

/// What need not be encoded in a query's text.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

impl Address {
    /// Another page about the same calls.
    pub(in crate::admin::dashboard) fn to(&self, view: View) -> Address {
        let mut other = self.clone().first_page();
        match &view {
            View::Session(_) | View::Call(_) => other.conditions.clear(),
            View::User(_) => other.conditions.retain(|(name, _)| name != "user"),
            _ => {}
        }
        if view != self.view {
            (other.sort, other.sort_word, other.order) = (None, None, None);
            if matches!(view, View::Session(_) | View::Call(_)) {
                (other.step, other.stack, other.measure) = (None, None, Measure::default());
            }
        }
        other.view = view;
        other
    }

    pub(in crate::admin::dashboard) fn with(&self, name: &str, text: &str) -> Address {
        let mut other = self.without(name);
        other.conditions.push((name.to_owned(), text.to_owned()));
        other
    }

    pub(in crate::admin::dashboard) fn without(&self, name: &str) -> Address {
        let mut other = self.clone().first_page();
        other.conditions.retain(|(known, _)| known != name);
        other
    }

    pub(in crate::admin::dashboard) fn without_conditions(&self) -> Address {
        let mut other = self.clone().first_page();
        other.conditions.clear();
        other
    }

    pub(in crate::admin::dashboard) fn spanning(&self, span: Span) -> Address {
        Address { span, ..self.clone().first_page() }
    }

    pub(in crate::admin::dashboard) fn sorted(&self, word: &str, order: Option<Order>) -> Address {
        let sort_word = Some(word.to_owned());
        Address { sort: word.parse().ok(), sort_word, order, ..self.clone().first_page() }
    }

    pub(in crate::admin::dashboard) fn from(&self, offset: usize) -> Address {
        Address { offset, ..self.clone() }
    }

    pub(in crate::admin::dashboard) fn after(&self, cursor: Option<Cursor>) -> Address {
        Address { cursor, ..self.clone() }
    }

    pub(in crate::admin::dashboard) fn by_step(&self, step: Option<Step>) -> Address {
        Address { step, ..self.clone() }
    }

    pub(in crate::admin::dashboard) fn measuring(&self, measure: Measure) -> Address {
        Address { measure, ..self.clone() }
    }

    pub(in crate::admin::dashboard) fn stacking(&self, stack: Option<Stack>) -> Address {
        Address { stack, ..self.clone() }
    }

    /// The same with its zone by name, for a form whose dates are of that zone, whoever opens it.
    pub(in crate::admin::dashboard) fn in_zone(&self) -> Address {
        Address { named_zone: Some(self.zone_name().to_owned()), ..self.clone() }
    }

    /// The same page in another's window and zone.
    pub(in crate::admin::dashboard) fn keeping(self, other: &Address) -> Address {
        let (span, zone) = (other.span.clone(), other.zone.clone());
        Address { span, zone, named_zone: other.named_zone.clone(), ..self }
    }

    pub(in crate::admin::dashboard) fn as_csv(&self) -> Address {
        Address { is_csv: true, ..self.clone().first_page() }
    }

    fn first_page(self) -> Address {
        Address { offset: 0, cursor: None, is_csv: false, ..self }
    }

    /// The link to it: relative to the one path that all pages have.
    pub(in crate::admin::dashboard) fn href(&self) -> String {
        let query = written(&self.pairs());
        if query.is_empty() { "./".to_owned() } else { format!("?{query}") }
    }

    /// What all calls of the page's scope are exported by, relative to the pages' path.
    pub(in crate::admin::dashboard) fn export_href(&self) -> String {
        let scope = self.scope();
        let mut pairs = self.conditions.clone();
        if let (View::User(name), None) = (&self.view, self.condition("user")) {
            pairs.push(("user".to_owned(), name.clone()));
        }
        pairs.extend(scope.since.map(|since| ("since".to_owned(), since.to_string())));
        pairs.extend(scope.until.map(|until| ("until".to_owned(), until.to_string())));
        pairs.push(("format".to_owned(), "csv".to_owned()));
        format!("export?{}", written(&pairs))
    }

    /// The parameters, those that say nothing left out. A form has them as hidden fields.
    pub(in crate::admin::dashboard) fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, text: String| pairs.push((name.to_owned(), text));
        match &self.view {
            View::Overview => {}
            View::By(key) => {
                put("view", "by".to_owned());
                put("key", key.to_string());
            }
            View::User(name) => {
                put("view", "user".to_owned());
                put("name", name.clone());
            }
            View::Session(name) => {
                put("view", "session".to_owned());
                put("name", name.clone());
            }
            View::Call(id) => {
                put("view", "call".to_owned());
                put("id", id.to_string());
            }
            View::Compare => put("view", "compare".to_owned()),
            View::Calls => put("view", "calls".to_owned()),
            View::Quality => put("view", "quality".to_owned()),
        }
        self.conditions.iter().for_each(|(name, text)| put(name, text.clone()));
        self.span.pairs().into_iter().for_each(|(name, text)| put(name, text));
        // A date says nothing without its zone.
        let dated = self.span.has_date().then(|| self.zone_name().to_owned());
        self.named_zone.clone().or(dated).into_iter().for_each(|zone| put("tz", zone));
        self.step.iter().for_each(|step| put("step", step.as_str().to_owned()));
        if self.measure != Measure::default() {
            put("measure", self.measure.as_str().to_owned());
        }
        match &self.stack {
            None => {}
            Some(Stack::Nothing) => put("stack", "none".to_owned()),
            Some(Stack::Key(key)) => put("stack", key.to_string()),
        }
        self.sort_word.iter().for_each(|sort| put("sort", sort.clone()));
        if let Some(order) = self.order {
            put("order", order_word(order).to_owned());
        }
        if self.offset > 0 {
            put("offset", self.offset.to_string());
        }
        self.cursor.iter().for_each(|cursor| put("cursor", cursor.to_string()));
        if self.is_csv {
            put("format", "csv".to_owned());
        }
        pairs
    }
}

fn order_word(order: Order) -> &'static str {
    match order {
        Order::Ascending => "asc",
        Order::Descending => "desc",
    }
}

fn written(pairs: &Pairs) -> String {
    let encode = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let pair = |(name, text): &(String, String)| format!("{}={}", encode(name), encode(text));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}
