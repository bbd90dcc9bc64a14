//! The calls that are open now, as the answer to `GET /admin/live`. Owns its shape; which calls are open, the
//! ledger tells.

use serde_json::{Value, json};

use crate::ledger::OpenCalls;
use crate::record::Record;
use crate::units::Timestamp;

/// What is known of each: `open_calls` of them, of which the oldest stand in `calls`.
pub(super) fn answer(open: &OpenCalls, now: Timestamp) -> Value {
    let calls: Vec<Value> = open.oldest.iter().map(|record| call(record, now)).collect();
    json!({"now": now, "open_calls": open.all, "calls": calls})
}

/// What is known of a call before it has ended.
fn call(record: &Record, now: Timestamp) -> Value {
    // A clock that was set back makes no call begin in the future.
    let age = now.millis().saturating_sub(record.created_at.millis()).max(0);
    json!({
        "id": record.id,
        "created_at": record.created_at,
        "age_ms": age,
        "upstream": record.upstream,
        "provider": record.provider,
        "endpoint": record.endpoint,
        "model_requested": record.model_requested,
        "user": record.user,
        "session": record.session,
        "operation": record.operation,
        "attempt": record.attempt,
        "metadata": record.metadata,
    })
}
