//! The tables, as they are today. Owns their SQL and that of the view `token_usage`, which shows what
//! they hold as one table; knows nothing of how a file comes to have them.
//!
//! What repeats from call to call is kept once: kinds, names, paths, the shapes of usage objects. A
//! call's row is what is left, some 150 bytes. Its key is its time, so that the table is in the order of
//! time without an index for it. By kind, user and session it is found through `postings`.

use std::sync::LazyLock;

use super::kind::FACTS;
use super::packed::unpack_sql;
use super::row::COLUMNS;

/// How a call's time stands in its key: milliseconds since 1970 above this many bits, which count the
/// calls of one millisecond.
pub(super) const KEY_BITS: u32 = 15;

/// The latest moment that a key can hold, beyond the year 9999. Earlier than 1970 is as good as 1970.
pub(super) const LATEST_MS: i64 = (1 << (63 - KEY_BITS)) - 2;

/// The tables and indexes. Public to SQL clients is only the view.
pub(super) fn tables() -> String {
    let facts: Vec<String> = FACTS.iter().map(|name| fact_column(name)).collect();
    format!(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE paths (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE shapes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE kinds (
            id INTEGER PRIMARY KEY,
            {},
            charged INTEGER NOT NULL,
            varied INTEGER NOT NULL,
            class INTEGER NOT NULL,
            digest BLOB NOT NULL UNIQUE,
            class_digest BLOB NOT NULL
        ) STRICT;
        CREATE INDEX kinds_by_class ON kinds (class_digest);
        {CALLS}
        {OTHERS}
        {}",
        facts.join(",\n            "),
        view()
    )
}

/// Any of them may be null: a fact that takes very many values stands in the rows.
fn fact_column(name: &str) -> String {
    let is_number = matches!(name, "attempt" | "status" | "streaming" | "retry");
    format!("{name} {}", if is_number { "INTEGER" } else { "TEXT" })
}

const CALLS: &str = "CREATE TABLE calls (
            key INTEGER PRIMARY KEY,
            id BLOB NOT NULL,
            kind INTEGER NOT NULL,
            user INTEGER,
            session INTEGER,
            path ANY NOT NULL,
            input_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            audio_input_tokens INTEGER,
            image_input_tokens INTEGER,
            output_tokens INTEGER,
            reasoning_tokens INTEGER,
            audio_output_tokens INTEGER,
            image_output_tokens INTEGER,
            total_tokens INTEGER,
            cost_usd INTEGER,
            computed_cost_usd INTEGER,
            upstream_request_id TEXT,
            duration_ms INTEGER,
            time_to_first_byte_ms INTEGER,
            time_to_first_token_ms INTEGER,
            usage_shape INTEGER,
            usage TEXT,
            estimate_shape INTEGER,
            estimate TEXT,
            charged_by BLOB,
            own TEXT
        ) STRICT;
        CREATE UNIQUE INDEX calls_by_id ON calls (id);
        CREATE INDEX calls_by_charge ON calls (charged_by) WHERE charged_by IS NOT NULL;";

const OTHERS: &str = "CREATE TABLE open_calls (
            id TEXT NOT NULL PRIMARY KEY,
            record TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE journal_progress (
            file TEXT NOT NULL PRIMARY KEY,
            offset INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE charged (
            key BLOB NOT NULL PRIMARY KEY,
            call_id BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE estimate_calibration (
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            side TEXT NOT NULL,
            samples INTEGER NOT NULL,
            bias REAL NOT NULL,
            error REAL NOT NULL,
            corrections TEXT NOT NULL,
            learned_at INTEGER NOT NULL,
            PRIMARY KEY (provider, model, side)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE ledger_state (
            name TEXT NOT NULL PRIMARY KEY,
            value ANY NOT NULL
        ) STRICT, WITHOUT ROWID;";

/// The tables that hold one call's row, for a `FROM`. Left joins, so that SQL clients that do not
/// ask for a column do not pay for its table.
pub(super) const FROM_CALLS: &str = "FROM calls LEFT JOIN kinds ON kinds.id = calls.kind \
    LEFT JOIN users ON users.id = calls.user LEFT JOIN sessions ON sessions.id = calls.session";

/// The SQL of what [`super::row::read`] reads, for a `SELECT` with [`FROM_CALLS`]: every column of
/// [`COLUMNS`] in their order, ids as bytes, and JSON texts as two columns each, their shape and their
/// numbers. To put texts together is a hundred times dearer in SQL.
pub(super) fn columns() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| columns_with(expression));
    &SQL
}

/// The same for rows that have no facts of their own, as nearly all: to ask each row for each of its facts
/// is most of what reading it costs.
pub(super) fn columns_without_own() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        columns_with(|column| {
            if FACTS.contains(&column) { format!("kinds.{column}") } else { expression(column) }
        })
    });
    &SQL
}

fn columns_with(expression: impl Fn(&str) -> String) -> String {
    let stored = |column: &str| match column {
        "id" | "charged_by" => format!("calls.{column}"),
        "usage_json" => format!("{}, calls.usage", shape("usage")),
        "estimate" => format!("{}, calls.estimate", shape("estimate")),
        other => expression(other),
    };
    COLUMNS.map(stored).join(", ")
}

fn view() -> String {
    let columns: Vec<String> =
        COLUMNS.iter().map(|name| format!("{} AS {name}", expression(name))).collect();
    // What people do by hand. The sums are mended by `doctor`.
    let this_call = format!(
        "key >= OLD.created_at << {KEY_BITS} AND key < (OLD.created_at + 1) << {KEY_BITS}
            AND {} = OLD.id",
        id("calls.id")
    );
    let set: Vec<String> = COLUMNS
        .iter()
        .filter(|name| is_figure(name))
        .map(|name| format!("{name} = NEW.{name}"))
        .collect();
    let fixed: Vec<String> = COLUMNS
        .iter()
        .filter(|name| !is_figure(name) && !matches!(**name, "user" | "session"))
        .map(|name| format!("OLD.{name} IS NOT NEW.{name}"))
        .collect();
    format!(
        "CREATE VIEW token_usage AS SELECT {} {FROM_CALLS};
        CREATE TRIGGER token_usage_delete INSTEAD OF DELETE ON token_usage BEGIN
            DELETE FROM calls WHERE {this_call};
        END;
        CREATE TRIGGER token_usage_update INSTEAD OF UPDATE ON token_usage BEGIN
            SELECT RAISE(ABORT, 'only user, session, tokens, money and times can be changed')
            WHERE {};
            INSERT OR IGNORE INTO users (name) SELECT NEW.user WHERE NEW.user IS NOT NULL;
            INSERT OR IGNORE INTO sessions (name) SELECT NEW.session WHERE NEW.session IS NOT NULL;
            UPDATE calls SET {},
                user = (SELECT id FROM users WHERE name = NEW.user),
                session = (SELECT id FROM sessions WHERE name = NEW.session)
            WHERE {this_call};
        END;",
        columns.join(",\n            "),
        fixed.join(" OR "),
        set.join(", "),
    )
}

/// Whether a column of the view is one of `calls` as it stands.
fn is_figure(column: &str) -> bool {
    expression(column) == format!("calls.{column}")
}

fn expression(column: &str) -> String {
    match column {
        "id" => id("calls.id"),
        "created_at" => format!("calls.key >> {KEY_BITS}"),
        "user" => "users.name".to_owned(),
        "session" => "sessions.name".to_owned(),
        "path" => "CASE typeof(calls.path) WHEN 'integer' \
                   THEN (SELECT name FROM paths WHERE id = calls.path) ELSE calls.path END"
            .to_owned(),
        "usage_json" => unpacked("usage"),
        "estimate" => unpacked("estimate"),
        "charged_by" => format!(
            "CASE WHEN calls.charged_by IS NULL THEN NULL ELSE {} END",
            id("calls.charged_by")
        ),
        // What callers can make up without end may stand in the row.
        fact if FACTS.contains(&fact) => {
            format!("coalesce(kinds.{fact}, json_extract(calls.own, '$.{fact}'))")
        }
        figure => format!("calls.{figure}"),
    }
}

fn unpacked(column: &str) -> String {
    format!(
        "CASE WHEN calls.{column}_shape IS NULL THEN calls.{column} ELSE {} END",
        unpack_sql(&shape(column), &format!("calls.{column}"))
    )
}

fn shape(column: &str) -> String {
    format!("(SELECT name FROM shapes WHERE id = calls.{column}_shape)")
}

/// The text of a UUID that is kept as 16 bytes.
fn id(blob: &str) -> String {
    let part = |from: u8, length: u8| format!("substr(hex({blob}), {from}, {length})");
    let parts = [part(1, 8), part(9, 4), part(13, 4), part(17, 4), part(21, 12)];
    format!("lower({})", parts.join(" || '-' || "))
}
