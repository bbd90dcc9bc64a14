//! What of a trace travels on: `traceparent` and `tracestate`. Owns the one way in which they change,
//! which is configured for an upstream; by default they pass like any other field.
//!
//! Invariant: where nothing is configured, not a byte of them changes.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers;
use crate::otel::{Sampler, span_of};
use crate::record::Record;
use crate::trace::{TraceContext, traceparent};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What an upstream hears of the trace that a call is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum TraceHeaders {
    /// What the client says.
    #[default]
    Pass,
    /// tokenmeter's own span as the parent, so that the upstream's spans hang beneath it.
    Own(Sampler),
    /// Nothing.
    Drop,
}

/// The client's place in a trace, if it says one.
pub fn read(headers: &HeaderMap) -> Option<TraceContext> {
    let values = |name| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    TraceContext::read(values(TRACEPARENT), values(TRACESTATE))
}

/// Makes of a request's fields what the upstream is to hear.
pub fn write(fields: &mut HeaderMap, told: TraceHeaders, record: &Record) {
    match told {
        TraceHeaders::Pass => {}
        TraceHeaders::Drop => {
            headers::retain(fields, |name| *name != TRACEPARENT && *name != TRACESTATE);
        }
        TraceHeaders::Own(sampler) => {
            let span = span_of(record);
            if record.trace.is_none() {
                // What is not valid is not to be passed on; a trace begins here.
                headers::retain(fields, |name| *name != TRACEPARENT && *name != TRACESTATE);
            }
            let own = traceparent(span.trace_id, span.span_id, sampler.samples(record));
            if let Ok(own) = HeaderValue::from_str(&own) {
                fields.insert(TRACEPARENT, own);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn fields(parent: &'static str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.append("traceparent", HeaderValue::from_static(parent));
        fields.append("tracestate", HeaderValue::from_static("a=1"));
        fields.append("tracestate", HeaderValue::from_static("b=2"));
        fields
    }

    #[test]
    fn both_fields_are_read_together() {
        let context = read(&fields(PARENT)).unwrap();
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
        assert_eq!(read(&fields("nonsense")), None);
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
