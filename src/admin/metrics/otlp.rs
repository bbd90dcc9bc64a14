//! How the sending to an OpenTelemetry collector goes. Owns the names of these series; they are there where
//! calls are sent to one.

use std::fmt;

use super::page::Page;
use crate::otel::Health;

pub(super) fn write(page: &mut Page<'_>, health: &Health) -> fmt::Result {
    let Health { queued, dropped, exported, rejected, lost, failed_exports, last_error: _ } =
        health;
    page.gauge("otlp_queued", "Calls and spans that wait to be sent", *queued as u64)?;
    page.counter("otlp_dropped", "Calls and spans that found no room to wait", *dropped)?;
    page.counter("otlp_exported_spans", "Spans that the collector took", *exported)?;
    page.counter("otlp_rejected_spans", "Spans that the collector did not want", *rejected)?;
    page.counter("otlp_lost_spans", "Spans given up after several tries", *lost)?;
    page.counter("otlp_failed_exports", "Batches given up, of spans or metrics", *failed_exports)
}
