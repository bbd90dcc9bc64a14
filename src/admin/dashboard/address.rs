//! What a page's address asks for, and the addresses of other pages. Owns the words of the query; knows
//! nothing of what pages show.
//!
//! Every page is at the same path with all it depends on in its query, so that a link is `?…` alone:
//! relative, wherever a proxy in front has put tokenmeter, and complete, so that it can be shared.
//!
//! Invariant: an address that was written here reads back as itself. What is wrong in one is an error
//! that names the parameter, as in the API.

use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::params::{BadParameter, METADATA, Pairs, Params, Window};
use super::calendar::Step;
use super::trend::Measure;
use super::window::Span;
use crate::ledger::{Cursor, Filter, GroupKey, Order, SortKey};
use crate::record::CallId;
use crate::units::Timestamp;

/// What need not be encoded in a query's text.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// The conditions that a page may be under, besides those on metadata.
pub(super) const CONDITIONS: [&str; 14] = [
    "user",
    "session",
    "operation",
    "model",
    "provider",
    "upstream",
    "endpoint",
    "usage_source",
    "cost_source",
    "price_id",
    "outcome",
    "status",
    "finish_reason",
    "error",
];

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    /// Groups by a key, as a table.
    By(GroupKey),
    User(String),
    Session(String),
    /// Models side by side, for one operation if the conditions name it.
    Compare,
    Calls,
    Call(CallId),
    Quality,
}

/// All that a page depends on.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) view: View,
    pub(super) span: Span,
    pub(super) zone: TimeZone,
    /// The zone's name where the address itself names it.
    named_zone: Option<String>,
    /// Conditions by name, as they are typed.
    conditions: Vec<(String, String)>,
    /// The same, without the window.
    filter: Filter,
    pub(super) now: Timestamp,
    pub(super) sort: Option<SortKey>,
    sort_word: Option<String>,
    pub(super) order: Option<Order>,
    pub(super) offset: usize,
    pub(super) cursor: Option<Cursor>,
    pub(super) step: Option<Step>,
    pub(super) measure: Measure,
    /// What the trend is stacked by: nothing said is by model.
    pub(super) stack: Option<Stack>,
    pub(super) is_csv: bool,
}

/// What the bars of a trend are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    Nothing,
    Key(GroupKey),
}

/// The keys that bars can be stacked by: those of few values.
pub(super) const STACKS: [GroupKey; 5] = [
    GroupKey::Model,
    GroupKey::Operation,
    GroupKey::Provider,
    GroupKey::Upstream,
    GroupKey::UsageSource,
];

impl Address {
    /// Reads a query. `zone` is the viewer's, where the query does not say.
    pub(super) fn read(
        pairs: &Pairs,
        zone: Option<&str>,
        now: Timestamp,
    ) -> Result<Address, BadParameter> {
        // A form sends its empty fields too.
        let pairs: Vec<_> = pairs.iter().filter(|(_, text)| !text.is_empty()).cloned().collect();
        let mut params = Params::new(&pairs)?;
        let view = view(&mut params)?;
        let given = pairs.iter().find(|(name, _)| name == "tz").map(|(_, text)| text.clone());
        let zone = match (&given, zone) {
            (None, Some(viewers)) => TimeZone::get(viewers).unwrap_or(TimeZone::UTC),
            _ => TimeZone::UTC,
        };
        let asked = params.zone()?;
        let zone = if given.is_some() { asked } else { zone };
        let span = Span::read(&mut params, &pairs, &zone, now)?;
        let filter = match view {
            View::Session(_) | View::Call(_) => Filter::default(),
            View::User(_) => params.filter_but_user()?,
            _ => params.filter()?,
        };
        let is_condition = |name: &str| CONDITIONS.contains(&name) || name.starts_with(METADATA);
        let conditions = pairs.iter().filter(|(name, _)| is_condition(name)).cloned().collect();
        let sort_word = pairs.iter().find(|(name, _)| name == "sort").map(|(_, text)| text.clone());
        let address = Address {
            view,
            span,
            zone,
            named_zone: given,
            conditions,
            filter,
            now,
            sort: params.parsed("sort")?,
            sort_word,
            order: params.order()?,
            offset: params.count("offset", 0..=1_000_000_000)?.unwrap_or_default(),
            cursor: params.parsed("cursor")?,
            step: params.parsed("step")?,
            measure: params.parsed("measure")?.unwrap_or_default(),
            stack: stack(&mut params)?,
            is_csv: match params.text("format")? {
                None | Some("html") => false,
                Some("csv") => true,
                Some(other) => {
                    let message = format!("`format` is `{other}`, but must be html or csv");
                    return Err(BadParameter::new("format", message));
                }
            },
        };
        params.finish()?;
        Ok(address)
    }

    /// The overview of the last week, for pages that are no answer to any question.
    pub(super) fn home(now: Timestamp) -> Address {
        Address {
            view: View::Overview,
            span: Span::default(),
            zone: TimeZone::UTC,
            named_zone: None,
            conditions: Vec::new(),
            filter: Filter::default(),
            now,
            sort: None,
            sort_word: None,
            order: None,
            offset: 0,
            cursor: None,
            step: None,
            measure: Measure::default(),
            stack: None,
            is_csv: false,
        }
    }

    /// The calls that the page is about: all conditions, and the window.
    pub(super) fn scope(&self) -> Filter {
        self.within(self.window())
    }

    /// The same conditions in another window.
    pub(super) fn within(&self, window: Window) -> Filter {
        let user = match &self.view {
            View::User(name) => Some(name.clone()),
            _ => self.filter.user.clone(),
        };
        Filter { since: window.since, until: window.until, user, ..self.filter.clone() }
    }

    /// The calls that the page is about, whatever their operation.
    pub(super) fn without_operation(&self) -> Filter {
        Filter { operation: None, ..self.scope() }
    }

    pub(super) fn window(&self) -> Window {
        self.span.window(&self.zone, self.now)
    }

    /// The window that the page's is compared with.
    pub(super) fn before(&self) -> Option<Window> {
        self.span.before(&self.zone, self.now)
    }

    pub(super) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    pub(super) fn conditions(&self) -> &[(String, String)] {
        &self.conditions
    }

    pub(super) fn condition(&self, name: &str) -> Option<&str> {
        self.conditions.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// What the trend is stacked by.
    pub(super) fn stacked_by(&self) -> Option<GroupKey> {
        match &self.stack {
            None => Some(GroupKey::Model),
            Some(Stack::Nothing) => None,
            Some(Stack::Key(key)) => Some(key.clone()),
        }
    }

    /// Another page about the same calls.
    pub(super) fn to(&self, view: View) -> Address {
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

    pub(super) fn with(&self, name: &str, text: &str) -> Address {
        let mut other = self.without(name);
        other.conditions.push((name.to_owned(), text.to_owned()));
        other
    }

    pub(super) fn without(&self, name: &str) -> Address {
        let mut other = self.clone().first_page();
        other.conditions.retain(|(known, _)| known != name);
        other
    }

    pub(super) fn without_conditions(&self) -> Address {
        let mut other = self.clone().first_page();
        other.conditions.clear();
        other
    }

    pub(super) fn spanning(&self, span: Span) -> Address {
        Address { span, ..self.clone().first_page() }
    }

    pub(super) fn sorted(&self, word: &str, order: Option<Order>) -> Address {
        let sort_word = Some(word.to_owned());
        Address { sort: word.parse().ok(), sort_word, order, ..self.clone().first_page() }
    }

    pub(super) fn from(&self, offset: usize) -> Address {
        Address { offset, ..self.clone() }
    }

    pub(super) fn after(&self, cursor: Option<Cursor>) -> Address {
        Address { cursor, ..self.clone() }
    }

    pub(super) fn by_step(&self, step: Option<Step>) -> Address {
        Address { step, ..self.clone() }
    }

    pub(super) fn measuring(&self, measure: Measure) -> Address {
        Address { measure, ..self.clone() }
    }

    pub(super) fn stacking(&self, stack: Option<Stack>) -> Address {
        Address { stack, ..self.clone() }
    }

    /// The same page in another's window and zone.
    pub(super) fn keeping(self, other: &Address) -> Address {
        let (span, zone) = (other.span.clone(), other.zone.clone());
        Address { span, zone, named_zone: other.named_zone.clone(), ..self }
    }

    pub(super) fn as_csv(&self) -> Address {
        Address { is_csv: true, ..self.clone().first_page() }
    }

    fn first_page(self) -> Address {
        Address { offset: 0, cursor: None, is_csv: false, ..self }
    }

    /// The link to it: relative to the one path that all pages have.
    pub(super) fn href(&self) -> String {
        let query = written(&self.pairs());
        if query.is_empty() { "./".to_owned() } else { format!("?{query}") }
    }

    /// What all calls of the page's scope are exported by, relative to the pages' path.
    pub(super) fn export_href(&self) -> String {
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
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
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
        self.named_zone.iter().for_each(|zone| put("tz", zone.clone()));
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

fn view(params: &mut Params<'_>) -> Result<View, BadParameter> {
    let named = |params: &mut Params<'_>, what: &str| {
        let name = params.text("name")?;
        let missing = || BadParameter::new("name", format!("`name` must say which {what}"));
        name.map(str::to_owned).ok_or_else(missing)
    };
    match params.text("view")? {
        None | Some("overview") => Ok(View::Overview),
        Some("by") => {
            let missing = || BadParameter::new("key", "`key` must say what to group by");
            params.parsed("key")?.map(View::By).ok_or_else(missing)
        }
        Some("user") => named(params, "user").map(View::User),
        Some("session") => named(params, "session").map(View::Session),
        Some("compare") => Ok(View::Compare),
        Some("calls") => Ok(View::Calls),
        Some("call") => {
            let missing = || BadParameter::new("id", "`id` must say which call");
            params.parsed("id")?.map(View::Call).ok_or_else(missing)
        }
        Some("quality") => Ok(View::Quality),
        Some(other) => Err(BadParameter::new(
            "view",
            format!(
                "there is no view `{other}`; possible are overview, by, user, session, compare, \
                 calls, call, quality"
            ),
        )),
    }
}

fn stack(params: &mut Params<'_>) -> Result<Option<Stack>, BadParameter> {
    let Some(text) = params.text("stack")? else { return Ok(None) };
    if text == "none" {
        return Ok(Some(Stack::Nothing));
    }
    let found = STACKS.into_iter().find(|key| key.to_string() == text);
    found.map(|key| Some(Stack::Key(key))).ok_or_else(|| {
        let names = STACKS.map(|key| key.to_string()).join(", ");
        BadParameter::new("stack", format!("`stack` is `{text}`, but must be none or {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::params::pairs;
    use super::*;

    const NOW: i64 = 1_795_253_400_000; // 2026-11-21T09:30:00Z

    fn read(query: &str) -> Result<Address, BadParameter> {
        let query = query.strip_prefix('?').unwrap_or(query.trim_start_matches("./"));
        Address::read(&pairs(query)?, Some("Europe/Berlin"), Timestamp::from_millis(NOW))
    }

    #[test]
    fn an_address_reads_back_as_itself() {
        let queries = [
            "./",
            "?view=by&key=metadata.team%20a&user=a%26b%3D%3Cscript%3E&days=30&tz=Asia/Kolkata",
            "?view=by&key=user&sort=requests&order=asc&offset=50",
            "?view=user&name=%E2%80%AEann%22&model=gpt-4o&window=last_month&step=week",
            "?view=session&name=s/1&window=all",
            "?view=call&id=018f0000-0000-7000-8000-000000000000",
            "?view=calls&status=429&metadata.a.b=%3D1%2B1&since=2026-11-01&until=2026-11-02",
            "?view=compare&operation=rag&measure=tokens&stack=none",
            "?view=quality&outcome=client_closed&cost_source=none&format=csv",
        ];
        for query in queries {
            assert_eq!(read(query).unwrap().href(), query);
        }
    }

    #[test]
    fn links_keep_what_the_page_is_about_and_begin_at_its_first_page() {
        let by = read("view=by&key=user&model=m&days=30&sort=requests&offset=50&tz=UTC").unwrap();
        let ann = by.to(View::User("ann".to_owned()));
        assert_eq!(ann.href(), "?view=user&name=ann&model=m&days=30&tz=UTC");
        let calls = read(&ann.href()).unwrap().to(View::Calls).with("user", "ann");
        assert_eq!(calls.href(), "?view=calls&model=m&user=ann&days=30&tz=UTC");
        assert_eq!(by.without("model").href(), "?view=by&key=user&days=30&tz=UTC&sort=requests");
        let session = by.to(View::Session("s".to_owned()));
        assert_eq!(session.href(), "?view=session&name=s&days=30&tz=UTC");
        assert_eq!(read("view=user&name=ann&days=1").unwrap().scope().user.as_deref(), Some("ann"));
    }

    #[test]
    fn the_viewers_zone_counts_where_the_address_names_none() {
        assert_eq!(read("").unwrap().zone_name(), "Europe/Berlin");
        assert_eq!(read("tz=Asia/Tokyo").unwrap().zone_name(), "Asia/Tokyo");
        let now = Timestamp::from_millis(NOW);
        for unknown in ["Mars/Base", "", "../../etc/passwd"] {
            assert_eq!(Address::read(&[], Some(unknown), now).unwrap().zone_name(), "UTC");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("view=all", "view"),
            ("view=by", "key"),
            ("view=by&key=colour", "key"),
            ("view=user", "name"),
            ("view=call&id=7", "id"),
            ("view=session&name=s&user=ann", "user"),
            ("view=user&name=ann&user=bob", "user"),
            ("stack=user", "stack"),
            ("step=year", "step"),
            ("measure=love", "measure"),
            ("window=soon", "window"),
            ("window=today&days=7", "days"),
            ("window=today&since=2026-11-01", "since"),
            ("format=xml", "format"),
            ("status=abc", "status"),
            ("outcome=good", "outcome"),
            ("tz=Mars/Base", "tz"),
            ("dayz=7", "dayz"),
        ];
        for (query, name) in cases {
            assert_eq!(read(query).unwrap_err().name, name, "{query}");
        }
        // A form's empty fields say nothing.
        assert_eq!(
            read("view=calls&user=&since=&until=&model=m").unwrap().href(),
            "?view=calls&model=m"
        );
    }
}
