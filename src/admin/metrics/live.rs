//! What happens just now, seen by those who forward. Owns the names of these series. They do not wait for the
//! ledger, so they tell the truth while it is in trouble.

use std::fmt;

use super::page::{Labels, Page};
use crate::telemetry::{LiveFigures, UpstreamFigures};

/// The first digits of statuses.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

pub(super) fn write(page: &mut Page<'_>, live: &LiveFigures) -> fmt::Result {
    // Those that nobody has called would only be noise: most are built in.
    let used: Vec<&UpstreamFigures> = live.upstreams.iter().filter(|one| one.calls > 0).collect();
    let open = used.iter().map(|one| (of(one), one.open));
    page.gauges("calls_open", "Calls that have begun and not ended", open)?;
    let begun = used.iter().map(|one| (of(one), one.calls));
    page.counters("upstream_calls", "Calls that have begun", begun)?;
    let connections = used.iter().map(|one| (of(one), one.connections));
    page.counters("upstream_connections", "Connections opened to upstreams", connections)?;
    let answers = used.iter().flat_map(|one| {
        let classes = CLASSES.into_iter().zip(one.answers).filter(|(_, count)| *count > 0);
        classes.map(|(class, count)| (and(one, "status", class), count))
    });
    page.counters("upstream_answers", "Answers of upstreams", answers)?;
    let failures = used.iter().flat_map(|one| {
        one.failures.iter().map(|(error, count)| (and(one, "error", error), *count))
    });
    page.counters(
        "upstream_failures",
        "Calls that an upstream did not answer to the end",
        failures,
    )?;
    let refused = live.refused.iter().map(|(code, count)| (vec![("code", *code)], *count));
    page.counters("errors", "Errors of tokenmeter's own that clients were sent", refused)?;
    let help = "tokenmeter's own time of each call: before it was sent and after its end";
    page.histograms("overhead_seconds", help, [(Vec::new(), &live.own)])
}

fn of(one: &UpstreamFigures) -> Labels<'_> {
    vec![("upstream", &one.name)]
}

fn and<'l>(one: &'l UpstreamFigures, name: &'l str, value: &'l str) -> Labels<'l> {
    vec![("upstream", &one.name), (name, value)]
}
