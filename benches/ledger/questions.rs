//! The questions that a dashboard asks: totals and groups, one session, one user, pages of calls.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokenmeter::ledger::{Cursor, Filter, GroupKey, QueryError, Reader, StatsQuery};
use tokenmeter::record::Record;
use tokenmeter::units::Timestamp;
use tokenmeter::usage::UsageSource;

use super::sheet::{Sheet, cpu_time};
use super::{DAY_MS, Subject};

const STATS: Duration = Duration::from_millis(50);
const LIST: Duration = Duration::from_millis(10);

/// Warm runs of each question.
const RUNS: usize = 9;

/// How many times its target a question may take before it is asked only twice more.
const HOPELESS: u32 = 20;

/// The questions of a benchmark are to be answered, however long that takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// Names that the ledger has, found by asking it.
struct Names {
    window: Filter,
    busy_user: String,
    quiet_user: String,
    rare_model: String,
    session: String,
    /// A busy user and a busy operation that have nothing to do with each other.
    strangers: [String; 2],
    /// A call about the middle of the window, and an old one.
    deep: [Record; 2],
    /// One filter of each kind, with a frequent value.
    filters: Vec<(&'static str, Filter)>,
}

pub(crate) fn ask(sheet: &mut Sheet, subject: &Subject) {
    let reader = Reader::open(&subject.path).unwrap().with_time_limit(PATIENCE);
    let names = names(&reader, subject.end);
    stats(sheet, subject, &names);
    one(sheet, subject, &names);
    pages(sheet, subject, &names);
}

fn names(reader: &Reader, end: Timestamp) -> Names {
    let since = Timestamp::from_millis(end.millis() - 30 * DAY_MS);
    let window = Filter { since: Some(since), until: Some(end), ..Filter::default() };
    let groups = |keys: &[GroupKey]| -> Vec<Vec<String>> {
        let query =
            StatsQuery { filter: window.clone(), group_by: keys.to_vec(), ..StatsQuery::default() };
        let mut groups = reader.stats(&query).unwrap().groups;
        groups.sort_by_key(|group| std::cmp::Reverse(group.totals.requests));
        let text = |group: &tokenmeter::ledger::Group, key: &GroupKey| {
            group.key[&key.to_string()].as_str().map(str::to_owned)
        };
        let row = |group| keys.iter().map(|key| text(group, key)).collect::<Option<Vec<_>>>();
        groups.iter().filter_map(row).collect()
    };
    let most = |key: GroupKey| groups(&[key])[0][0].clone();
    let users = groups(&[GroupKey::User]);
    let operations = groups(&[GroupKey::Operation]);
    let met: HashSet<Vec<String>> =
        groups(&[GroupKey::User, GroupKey::Operation]).into_iter().collect();
    let person = |user: &&Vec<String>| user[0].contains('@');
    let pair = |user: &Vec<String>| {
        let stranger = operations
            .iter()
            .find(|operation| !met.contains(&vec![user[0].clone(), operation[0].clone()]))?;
        Some([user[0].clone(), stranger[0].clone()])
    };
    let one = |filter: Filter| Filter { since: window.since, until: window.until, ..filter };
    let some = Some::<String>;
    let busy_user = users.iter().find(person).expect("people")[0].clone();
    let team = groups(&[GroupKey::Metadata("team".to_owned())])[0][0].clone();
    let newest = reader.usage(&Filter::default(), 2_000, None).unwrap().records;
    let session = newest.iter().find_map(|call| call.session.clone()).expect("sessions");
    let at = |days: i64| {
        let until = Some(Timestamp::from_millis(end.millis() - days * DAY_MS));
        let filter = Filter { until, ..Filter::default() };
        reader.usage(&filter, 1, None).unwrap().records.pop()
    };
    let filters = vec![
        ("user", one(Filter { user: some(busy_user.clone()), ..Filter::default() })),
        ("session", one(Filter { session: some(session.clone()), ..Filter::default() })),
        ("model", one(Filter { model: some(most(GroupKey::Model)), ..Filter::default() })),
        (
            "operation",
            one(Filter { operation: some(most(GroupKey::Operation)), ..Filter::default() }),
        ),
        ("upstream", one(Filter { upstream: some(most(GroupKey::Upstream)), ..Filter::default() })),
        ("provider", one(Filter { provider: some(most(GroupKey::Provider)), ..Filter::default() })),
        ("endpoint", one(Filter { endpoint: some(most(GroupKey::Endpoint)), ..Filter::default() })),
        (
            "usage_source",
            one(Filter { usage_source: Some(UsageSource::Estimated), ..Filter::default() }),
        ),
        (
            "metadata.team",
            one(Filter { metadata: vec![("team".to_owned(), team)], ..Filter::default() }),
        ),
    ];
    let fallback = || newest.last().expect("calls").clone();
    Names {
        quiet_user: users.iter().rfind(person).expect("people")[0].clone(),
        rare_model: groups(&[GroupKey::Model]).last().expect("models")[0].clone(),
        strangers: users.iter().filter(person).find_map(pair).expect("somebody without something"),
        deep: [at(15).unwrap_or_else(fallback), at(29).unwrap_or_else(fallback)],
        window,
        busy_user,
        session,
        filters,
    }
}

/// Asks with a new connection and then again on the same.
fn measure<T>(
    sheet: &mut Sheet,
    subject: &Subject,
    what: &str,
    target: Duration,
    question: impl Fn(&Reader) -> Result<T, QueryError>,
    note: impl Fn(&T) -> String,
) {
    let reader = Reader::open(&subject.path).unwrap().with_time_limit(PATIENCE);
    let mut times = Vec::new();
    let mut said = String::new();
    let mut runs = RUNS;
    while times.len() <= runs {
        let (began, before) = (Instant::now(), cpu_time());
        let answer = question(&reader);
        times.push((began.elapsed(), cpu_time().saturating_sub(before)));
        match answer {
            Ok(answer) => said = note(&answer),
            Err(error) => said = error.to_string(),
        }
        if times[0].0 > target * HOPELESS {
            runs = 2;
        }
    }
    sheet.times(what, &times, target, &said);
}

fn stats(sheet: &mut Sheet, subject: &Subject, names: &Names) {
    sheet.title("totals and groups of 30 days");
    let mut ask = |what: &str, group_by: &[GroupKey], filter: &Filter, zone: &str| {
        let query = StatsQuery {
            filter: filter.clone(),
            group_by: group_by.to_vec(),
            zone: TimeZone::get(zone).unwrap(),
            ..StatsQuery::default()
        };
        measure(
            sheet,
            subject,
            what,
            STATS,
            |reader| reader.stats(&query),
            |stats| format!("{} groups of {} calls", stats.groups.len(), stats.totals.requests),
        );
    };
    let all = &names.window;
    ask("no groups", &[], all, "UTC");
    for key in [GroupKey::User, GroupKey::Model, GroupKey::Operation] {
        ask(&format!("by {key}"), std::slice::from_ref(&key), all, "UTC");
    }
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata"] {
        ask(&format!("by day in {zone}"), &[GroupKey::Day], all, zone);
    }
    for key in [GroupKey::User, GroupKey::Model] {
        for (name, filter) in names.filters.iter().filter(|(name, _)| *name != "user") {
            ask(&format!("by {key}, {name} given"), std::slice::from_ref(&key), filter, "UTC");
        }
    }
    let by_both = [GroupKey::User, GroupKey::Model];
    ask("by user and model", &by_both, all, "UTC");
}

fn one(sheet: &mut Sheet, subject: &Subject, names: &Names) {
    sheet.title("one session, one user");
    measure(
        sheet,
        subject,
        "a session",
        LIST,
        |reader| reader.session(&names.session),
        |report| report.as_ref().map_or(String::new(), |r| format!("{} calls", r.totals.requests)),
    );
    for (what, user) in [("a busy user", &names.busy_user), ("a quiet user", &names.quiet_user)] {
        measure(
            sheet,
            subject,
            &format!("{what}, 30 days"),
            LIST,
            |reader| reader.user(user, &names.window, &TimeZone::UTC),
            |report| {
                report.as_ref().map_or(String::new(), |r| format!("{} calls", r.totals.requests))
            },
        );
        let filter = Filter { user: Some(user.clone()), ..Filter::default() };
        page(sheet, subject, &format!("{what}'s newest 20 calls"), &filter, 20, None);
        // What sums do not tell: each of the calls is looked at.
        let of_window = Filter { user: Some(user.clone()), ..names.window.clone() };
        by_session(sheet, subject, &format!("{what}'s sessions, 30 days"), of_window);
    }
    let filter = Filter { session: Some(names.session.clone()), ..Filter::default() };
    page(sheet, subject, "a session's calls", &filter, 100, None);
}

fn by_session(sheet: &mut Sheet, subject: &Subject, what: &str, filter: Filter) {
    let query = StatsQuery { filter, group_by: vec![GroupKey::Session], ..StatsQuery::default() };
    measure(
        sheet,
        subject,
        what,
        STATS,
        |reader| reader.stats(&query),
        |stats| format!("{} groups of {} calls", stats.groups.len(), stats.totals.requests),
    );
}

fn page(
    sheet: &mut Sheet,
    subject: &Subject,
    what: &str,
    filter: &Filter,
    limit: usize,
    after: Option<&Record>,
) {
    let cursor = after.map(|call| Cursor { created_at: call.created_at, id: call.id });
    measure(
        sheet,
        subject,
        what,
        LIST,
        |reader| reader.usage(filter, limit, cursor.as_ref()),
        |page| format!("{} calls", page.records.len()),
    );
}

/// All filters without the window: a list goes back as far as the ledger does.
fn pages(sheet: &mut Sheet, subject: &Subject, names: &Names) {
    sheet.title("pages of calls, newest first");
    let unbounded = |filter: &Filter| Filter { since: None, until: None, ..filter.clone() };
    for limit in [20, 100] {
        page(sheet, subject, &format!("{limit}"), &Filter::default(), limit, None);
        page(sheet, subject, &format!("{limit} of 30 days"), &names.window, limit, None);
        for (name, filter) in &names.filters {
            page(sheet, subject, &format!("{limit}, {name}"), &unbounded(filter), limit, None);
        }
    }
    for (at, (first, one)) in names.filters.iter().enumerate() {
        for (second, other) in &names.filters[at + 1..] {
            let both = unbounded(&both(one, other));
            page(sheet, subject, &format!("20, {first} and {second}"), &both, 20, None);
        }
    }
    let text = |text: &str| Some(text.to_owned());
    let [user, operation] = names.strangers.clone();
    let metadata = |value: &str| vec![("team".to_owned(), value.to_owned())];
    let none = Filter::default;
    for (what, filter) in [
        (
            "a busy user and a busy operation that never meet",
            Filter { user: Some(user), operation: Some(operation), ..none() },
        ),
        ("a rare model", Filter { model: text(&names.rare_model), ..none() }),
        ("no usage known", Filter { usage_source: Some(UsageSource::None), ..none() }),
        ("an unknown user", Filter { user: text("nobody@northwind.example"), ..none() }),
        ("an unknown model", Filter { model: text("gpt-0"), ..none() }),
        ("an unknown operation", Filter { operation: text("nothing"), ..none() }),
        ("an unknown upstream", Filter { upstream: text("nowhere"), ..none() }),
        ("an unknown provider", Filter { provider: text("nowhere"), ..none() }),
        ("an unknown endpoint", Filter { endpoint: text("nothing"), ..none() }),
        ("an unknown session", Filter { session: text("none"), ..none() }),
        ("an unknown team", Filter { metadata: metadata("nobody"), ..none() }),
        (
            "an unknown key of metadata",
            Filter { metadata: vec![("x".into(), "y".into())], ..none() },
        ),
    ] {
        page(sheet, subject, &format!("20, {what}"), &filter, 20, None);
    }
    for (days, call) in [15, 29].into_iter().zip(&names.deep) {
        let what = format!("20 from {days} days back");
        page(sheet, subject, &what, &Filter::default(), 20, Some(call));
        for (name, filter) in &names.filters {
            page(sheet, subject, &format!("{what}, {name}"), &unbounded(filter), 20, Some(call));
        }
    }
}

fn both(one: &Filter, other: &Filter) -> Filter {
    let (one, other) = (one.clone(), other.clone());
    Filter {
        since: one.since,
        until: one.until,
        user: one.user.or(other.user),
        session: one.session.or(other.session),
        operation: one.operation.or(other.operation),
        provider: one.provider.or(other.provider),
        upstream: one.upstream.or(other.upstream),
        model: one.model.or(other.model),
        endpoint: one.endpoint.or(other.endpoint),
        usage_source: one.usage_source.or(other.usage_source),
        cost_source: one.cost_source.or(other.cost_source),
        price_id: one.price_id.or(other.price_id),
        key_fingerprint: one.key_fingerprint.or(other.key_fingerprint),
        outcome: one.outcome.or(other.outcome),
        status: one.status.or(other.status),
        finish_reason: one.finish_reason.or(other.finish_reason),
        error: one.error.or(other.error),
        metadata: [one.metadata, other.metadata].concat(),
    }
}
