//! A line in the log for each call. Owns which facts of a row it has.
//!
//! Written on the ledger's thread, which the log never keeps waiting. Texts are given to the log as strings,
//! which it escapes, so that no tag can forge a line.

use super::span_of;
use crate::ledger::Watcher;
use crate::record::Record;
use crate::trace::hex;

/// Watches the ledger, and logs what it hears.
#[derive(Clone, Copy, Debug)]
pub struct CallLog {
    /// Calls without a client's trace have one of their own.
    pub is_traced: bool,
}

impl Watcher for CallLog {
    fn recorded(&mut self, record: &Record) {
        if tracing::enabled!(target: "tokenmeter::calls", tracing::Level::INFO) {
            write(record, self.is_traced);
        }
    }

    /// A call has one line, of what was known when it got its row.
    fn corrected(&mut self, _before: &Record, _after: &Record) {}
}

fn write(record: &Record, traced: bool) {
    let is_known = traced || record.trace.is_some();
    let trace_id = is_known.then(|| hex(&span_of(record).trace_id));
    tracing::info!(
        target: "tokenmeter::calls",
        id = record.id.to_string(),
        created_at = record.created_at.to_string(),
        user = record.user.as_deref(),
        session = record.session.as_deref(),
        operation = record.operation.as_deref(),
        attempt = record.attempt,
        upstream = record.upstream.as_str(),
        provider = record.provider.as_str(),
        endpoint = record.endpoint.as_str(),
        model = record.model.as_deref().or(record.model_requested.as_deref()),
        input_tokens = record.input_tokens,
        cache_read_tokens = record.cache_read_tokens,
        cache_write_tokens = record.cache_write_tokens,
        output_tokens = record.output_tokens,
        reasoning_tokens = record.reasoning_tokens,
        cost_usd = record.cost_usd.map(|cost| cost.to_string()),
        cost_source = record.cost_source.as_str(),
        usage_source = record.usage_source.as_str(),
        outcome = record.outcome.as_str(),
        status = record.status,
        error = record.error.as_deref(),
        streaming = record.streaming,
        finish_reason = record.finish_reason.as_deref(),
        duration_ms = record.duration_ms,
        time_to_first_token_ms = record.time_to_first_token_ms,
        trace_id,
        "call"
    );
}
