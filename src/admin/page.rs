//! The page for browsers: the last week at a glance, made on the server, without scripts. Owns its
//! words and its looks; what it shows comes from the questions that the API answers too.
//!
//! Invariant: whatever a client or provider wrote is escaped.

use std::fmt::{Display, Write as _};

use rust_decimal::Decimal;

use crate::ledger::{Filter, Group, GroupKey, QueryError, Reader, StatsQuery, Totals};
use crate::record::Record;
use crate::units::Timestamp;

const DAYS: i64 = 7;

/// Rows of each breakdown, and of the newest calls.
const GROUPS: usize = 20;
const CALLS: usize = 20;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;\
    padding:0 1rem}table{border-collapse:collapse;margin:1.5rem 0;width:100%}caption{text-align:left;\
    font-weight:600;font-size:1.1rem;padding:.3rem 0}th,td{text-align:left;padding:.3rem .7rem;\
    border-bottom:1px solid #8885}td{overflow-wrap:anywhere}td:not(.n){min-width:7rem}\
    thead th{vertical-align:bottom}.n{text-align:right;font-variant-numeric:tabular-nums}\
    td.n{white-space:nowrap}pre{overflow-x:auto;padding:1rem;\
    background:#8882}";

/// What the page shows.
#[derive(Debug)]
pub(super) struct Figures {
    totals: Totals,
    by_model: Vec<Group>,
    by_user: Vec<Group>,
    newest: Vec<Record>,
}

impl Figures {
    pub(super) fn read(reader: &Reader, now: Timestamp) -> Result<Figures, QueryError> {
        let since = Timestamp::from_millis(now.millis() - DAYS * 86_400_000);
        let filter = Filter { since: Some(since), ..Filter::default() };
        let by = |key| {
            let (filter, group_by) = (filter.clone(), vec![key]);
            reader.stats(&StatsQuery {
                filter,
                group_by,
                limit: Some(GROUPS),
                ..StatsQuery::default()
            })
        };
        let models = by(GroupKey::Model)?;
        Ok(Figures {
            totals: models.totals,
            by_model: models.groups,
            by_user: by(GroupKey::User)?.groups,
            newest: reader.usage(&Filter::default(), CALLS, None)?.records,
        })
    }
}

/// The page for whoever is logged in.
pub(super) fn overview(figures: &Figures, host: &str, nonce: &str) -> String {
    if figures.newest.is_empty() {
        return document(nonce, &first_call(host));
    }
    let mut body = "<h1>tokenmeter</h1>".to_owned();
    body += &table("The last 7 days", &FIGURES, &[figures_of(&figures.totals)]);
    body += &breakdown("By model", "model", &figures.by_model);
    body += &breakdown("By user", "user", &figures.by_user);
    let calls: Vec<_> = figures.newest.iter().map(call).collect();
    body += &table("The newest calls", &CALL, &calls);
    document(nonce, &body)
}

/// The page for whoever is not.
pub(super) fn locked(nonce: &str) -> String {
    let body = "<h1>tokenmeter</h1><p>This page needs the admin token. Open the login link that \
        tokenmeter wrote to its log when it started (it works once), or send <code>Authorization: \
        Bearer TOKEN</code>. The token is <code>TOKENMETER_ADMIN_TOKEN</code>, or else in the file \
        <code>tokenmeter.token</code> beside the database.</p>\
        <p>Just logged in? <a href=\"/admin/\">Go on to the page.</a></p>";
    document(nonce, body)
}

fn first_call(host: &str) -> String {
    let host = escape(host);
    format!(
        "<h1>tokenmeter</h1><p>No call has been recorded yet. Point an SDK at \
         <code>http://{host}/v1</code>, or try:</p><pre>curl http://{host}/v1/chat/completions \\\n  \
         -H \"Authorization: Bearer $OPENAI_API_KEY\" -H \"X-User: me\" \\\n  \
         -H \"Content-Type: application/json\" \\\n  \
         -d '{{\"model\": \"gpt-4o-mini\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\
         </pre><p>Then load this page again.</p>"
    )
}

fn document(nonce: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>tokenmeter</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <style nonce=\"{nonce}\">{STYLE}</style></head><body><main>{body}</main></body></html>"
    )
}

/// A column, and whether it holds numbers.
type Column = (&'static str, bool);

const FIGURES: [Column; 8] = [
    ("Calls", true),
    ("Errors", true),
    ("Input tokens", true),
    ("Output tokens", true),
    ("Cost, USD", true),
    ("Estimated calls", true),
    ("Calls without usage", true),
    ("Unpriced calls", true),
];

const CALL: [Column; 9] = [
    ("Time, UTC", false),
    ("User", false),
    ("Operation", false),
    ("Model", false),
    ("Input", true),
    ("Output", true),
    ("Cost, USD", true),
    ("Outcome", false),
    ("ms", true),
];

fn figures_of(totals: &Totals) -> Vec<String> {
    vec![
        totals.requests.to_string(),
        totals.errors.to_string(),
        totals.input_tokens.to_string(),
        totals.output_tokens.to_string(),
        totals.cost_usd.to_string(),
        estimated(totals),
        totals.unreported_requests.to_string(),
        totals.unpriced_requests.to_string(),
    ]
}

/// How many calls are estimated and, where there are any, how far off their tokens may be.
fn estimated(totals: &Totals) -> String {
    let percent = |share: Decimal| (share * Decimal::ONE_HUNDRED).normalize();
    match totals.estimate_error {
        Some(error) => format!("{} (± {} %)", totals.estimated_requests, percent(error)),
        None => totals.estimated_requests.to_string(),
    }
}

fn breakdown(caption: &str, key: &'static str, groups: &[Group]) -> String {
    let columns: Vec<Column> = [(key, false)].into_iter().chain(FIGURES).collect();
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let name = group.key.get(key).and_then(|name| name.as_str()).unwrap_or("–");
            [name.to_owned()].into_iter().chain(figures_of(&group.totals)).collect()
        })
        .collect();
    table(caption, &columns, &rows)
}

fn call(record: &Record) -> Vec<String> {
    let outcome = match record.status {
        Some(status) => format!("{status} {}", record.outcome.as_str()),
        None => record.outcome.as_str().to_owned(),
    };
    let [input, output, cost] = record.estimated_figures();
    vec![
        record.created_at.to_string(),
        known(record.user.as_ref()),
        known(record.operation.as_ref()),
        known(record.model.as_ref().or(record.model_requested.as_ref())),
        about(input, record.input_tokens),
        about(output, record.output_tokens),
        about(cost, record.cost_usd),
        outcome.replace('_', " "),
        known(record.duration_ms),
    ]
}

/// An estimated figure has a `~` before it.
fn about(is_estimated: bool, value: Option<impl Display>) -> String {
    let mark = if is_estimated && value.is_some() { "~" } else { "" };
    format!("{mark}{}", known(value))
}

fn known(value: Option<impl Display>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

fn table(caption: &str, columns: &[Column], rows: &[Vec<String>]) -> String {
    let class = |is_number: bool| if is_number { " class=\"n\"" } else { "" };
    let mut out = format!("<table><caption>{}</caption><thead><tr>", escape(caption));
    for (name, is_number) in columns {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(*is_number), escape(name));
    }
    out += "</tr></thead><tbody>";
    for row in rows {
        out += "<tr>";
        for ((_, is_number), cell) in columns.iter().zip(row) {
            let _ = write!(out, "<td{}>{}</td>", class(*is_number), escape(cell));
        }
        out += "</tr>";
    }
    out + "</tbody></table>"
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            other => out.push(other),
        }
    }
    out
}
