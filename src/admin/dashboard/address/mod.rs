//! What a page's address asks for, and the addresses of other pages (`links`). Owns the words of the query;
//! knows nothing of what pages show.
//!
//! Every page is at the same path with all it depends on in its query, so that a link is `?…` alone:
//! relative, wherever a proxy in front has put tokenmeter, and complete, so that it can be shared. Dates
//! have their zone beside them; named windows (today, this month) and days are the reader's, unless a zone is named.
//!
//! Invariant: an address that was written here reads back as itself. What is wrong in one is an error
//! that names the parameter, as in the API.

mod links;

use jiff::tz::TimeZone;

use super::calendar::Step;
use super::trend::Measure;
use super::window::Span;
use crate::admin::params::{BadParameter, METADATA, Pairs, Params, Window};
use crate::ledger::{Cursor, Filter, GroupKey, Order, SortKey};
use crate::record::CallId;
use crate::units::Timestamp;

/// The conditions that a page may be under, besides those on metadata.
pub(in crate::admin::dashboard) const CONDITIONS: [&str; 15] = [
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
    "key_fingerprint",
    "outcome",
    "status",
    "finish_reason",
    "error",
];

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin::dashboard) enum View {
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
pub(in crate::admin::dashboard) struct Address {
    pub(in crate::admin::dashboard) view: View,
    pub(in crate::admin::dashboard) span: Span,
    pub(in crate::admin::dashboard) zone: TimeZone,
    /// The zone's name where the address itself names it.
    named_zone: Option<String>,
    /// Conditions by name, as they are typed.
    conditions: Vec<(String, String)>,
    /// The same, without the window.
    filter: Filter,
    pub(in crate::admin::dashboard) now: Timestamp,
    pub(in crate::admin::dashboard) sort: Option<SortKey>,
    sort_word: Option<String>,
    pub(in crate::admin::dashboard) order: Option<Order>,
    pub(in crate::admin::dashboard) offset: usize,
    pub(in crate::admin::dashboard) cursor: Option<Cursor>,
    pub(in crate::admin::dashboard) step: Option<Step>,
    pub(in crate::admin::dashboard) measure: Measure,
    /// What the trend is stacked by: nothing said is by model.
    pub(in crate::admin::dashboard) stack: Option<Stack>,
    pub(in crate::admin::dashboard) is_csv: bool,
}

/// What the bars of a trend are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin::dashboard) enum Stack {
    Nothing,
    Key(GroupKey),
}

/// The keys that bars can be stacked by: those of few values.
pub(in crate::admin::dashboard) const STACKS: [GroupKey; 5] = [
    GroupKey::Model,
    GroupKey::Operation,
    GroupKey::Provider,
    GroupKey::Upstream,
    GroupKey::UsageSource,
];

impl Address {
    /// Reads a query. `zone` is the viewer's, where the query does not say.
    pub(in crate::admin::dashboard) fn read(
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
    pub(in crate::admin::dashboard) fn home(now: Timestamp) -> Address {
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
    pub(in crate::admin::dashboard) fn scope(&self) -> Filter {
        self.within(self.window())
    }

    /// The same conditions in another window.
    pub(in crate::admin::dashboard) fn within(&self, window: Window) -> Filter {
        let user = match &self.view {
            View::User(name) => Some(name.clone()),
            _ => self.filter.user.clone(),
        };
        Filter { since: window.since, until: window.until, user, ..self.filter.clone() }
    }

    /// The calls that the page is about, whatever their operation.
    pub(in crate::admin::dashboard) fn without_operation(&self) -> Filter {
        Filter { operation: None, ..self.scope() }
    }

    pub(in crate::admin::dashboard) fn window(&self) -> Window {
        self.span.window(&self.zone, self.now)
    }

    /// The window that the page's is compared with.
    pub(in crate::admin::dashboard) fn before(&self) -> Option<Window> {
        self.span.before(&self.zone, self.now)
    }

    pub(in crate::admin::dashboard) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    pub(in crate::admin::dashboard) fn conditions(&self) -> &[(String, String)] {
        &self.conditions
    }

    pub(in crate::admin::dashboard) fn condition(&self, name: &str) -> Option<&str> {
        self.conditions.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// What the trend is stacked by.
    pub(in crate::admin::dashboard) fn stacked_by(&self) -> Option<GroupKey> {
        match &self.stack {
            None => Some(GroupKey::Model),
            Some(Stack::Nothing) => None,
            Some(Stack::Key(key)) => Some(key.clone()),
        }
    }
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
    use super::*;
    use crate::admin::params::pairs;

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
            "?view=calls&status=429&metadata.a.b=%3D1%2B1&since=2026-11-01&until=2026-11-02&tz=Asia/Tokyo",
            "?view=calls&since=2026-11-21T09:30:00Z",
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
    fn links_that_carry_dates_say_whose_dates_they_are() {
        let berlin = read("since=2026-11-01&until=2026-11-02").unwrap();
        assert_eq!(berlin.href(), "?since=2026-11-01&until=2026-11-02&tz=Europe/Berlin");
        let users = berlin.to(View::By(GroupKey::User)).href();
        assert_eq!(users, "?view=by&key=user&since=2026-11-01&until=2026-11-02&tz=Europe/Berlin");
        let query = pairs(berlin.href().trim_start_matches('?')).unwrap();
        let elsewhere =
            Address::read(&query, Some("Asia/Tokyo"), Timestamp::from_millis(NOW)).unwrap();
        assert_eq!(elsewhere.scope().since, berlin.scope().since);
        assert_eq!(elsewhere.scope().until, berlin.scope().until);
        assert_eq!(berlin.spanning(Span::Today).href(), "?window=today");
        let form = berlin.spanning(Span::default()).in_zone().pairs();
        assert_eq!(form, [("tz".to_owned(), "Europe/Berlin".to_owned())]);
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
