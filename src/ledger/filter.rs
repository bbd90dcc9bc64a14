//! Which calls a question is about. Owns the conditions and the place in a list; knows nothing of
//! what is asked.
//!
//! Invariant: what a user typed travels as a bound value only, never as SQL text.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::Value;

use crate::record::CallId;
use crate::units::Timestamp;
use crate::usage::UsageSource;

/// Calls that meet every condition given; the default is all calls.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    pub user: Option<String>,
    pub session: Option<String>,
    pub operation: Option<String>,
    pub provider: Option<String>,
    pub upstream: Option<String>,
    /// The served model, or the requested one where the provider did not say.
    pub model: Option<String>,
    pub endpoint: Option<String>,
    pub usage_source: Option<UsageSource>,
    /// Names and values of metadata; numbers and booleans as JSON writes them.
    pub metadata: Vec<(String, String)>,
}

/// A place in a list of calls, newest first: after this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub created_at: Timestamp,
    pub id: CallId,
}

/// SQL that names only columns, and the values for its `?`s.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    sql: String,
    pub(super) values: Vec<Value>,
}

/// The model that a call is counted under.
pub(super) const MODEL: &str = "coalesce(model, model_requested)";

/// A metadata value as text, for the name bound to `?`. Not `json_extract`, whose path syntax would
/// have to be built from the name.
pub(super) const METADATA: &str = "(SELECT CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN \
     'false' ELSE CAST(value AS TEXT) END FROM json_each(metadata) WHERE key = ?)";

impl Filter {
    pub(super) fn conditions(&self) -> Conditions {
        let mut all = Conditions::default();
        let millis = |time: Option<Timestamp>| time.map(|time| Value::Integer(time.millis()));
        all.add("created_at >= ?", millis(self.since));
        all.add("created_at < ?", millis(self.until));
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        all.add("user = ?", text(&self.user));
        all.add("session = ?", text(&self.session));
        all.add("operation = ?", text(&self.operation));
        all.add("provider = ?", text(&self.provider));
        all.add("upstream = ?", text(&self.upstream));
        all.add(&format!("{MODEL} = ?"), text(&self.model));
        all.add("endpoint = ?", text(&self.endpoint));
        let source = self.usage_source.map(|source| Value::Text(source.as_str().to_owned()));
        all.add("usage_source = ?", source);
        for (name, value) in &self.metadata {
            let values = [name, value].map(|text| Value::Text(text.clone()));
            all.add(&format!("{METADATA} = ?"), values);
        }
        all
    }
}

impl Conditions {
    pub(super) fn after(&mut self, cursor: &Cursor) {
        let time = Value::Integer(cursor.created_at.millis());
        let id = Value::Text(cursor.id.to_string());
        let sql = "created_at <= ? AND (created_at < ? OR token_usage.rowid < \
                   coalesce((SELECT rowid FROM token_usage WHERE id = ?), 0))";
        self.add(sql, [time.clone(), time, id]);
    }

    /// `WHERE …`, or nothing.
    pub(super) fn sql(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql) }
    }

    /// Adds a condition unless there are no values for it.
    fn add(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        let before = self.values.len();
        self.values.extend(values);
        if self.values.len() > before {
            let and = if self.sql.is_empty() { "" } else { " AND " };
            self.sql.push_str(and);
            self.sql.push_str(sql);
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at.millis(), self.id)
    }
}

/// A text that is not a cursor of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor: give the next_cursor of the page before, as it is")
    }
}

impl std::error::Error for BadCursor {}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (time, id) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Cursor {
            created_at: Timestamp::from_millis(time.parse().map_err(|_| BadCursor)?),
            id: id.parse().map_err(|_| BadCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_types_never_becomes_sql() {
        let evil = "x' OR 1=1 --".to_owned();
        let filter = Filter {
            user: Some(evil.clone()),
            model: Some(evil.clone()),
            metadata: vec![(evil.clone(), evil)],
            ..Filter::default()
        };
        let conditions = filter.conditions();
        assert!(!conditions.sql().contains("OR 1"));
        assert_eq!(conditions.values.len(), conditions.sql().matches('?').count());
    }

    #[test]
    fn cursors_read_back() {
        let cursor = Cursor { created_at: Timestamp::from_millis(1234), id: CallId::new() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1234", "1234.", "x.y"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor));
        }
    }
}
