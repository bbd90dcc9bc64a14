//! A client's place in a trace of its own, as W3C Trace Context writes it in `traceparent` and
//! `tracestate`. Owns the reading and writing of those two; knows nothing of spans.
//!
//! Invariant: what is read is valid, so that what is written of it is too.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, sections 3.2 and 3.3.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a `tracestate` may hold, in bytes; a longer one is left out.
const MAX_STATE: usize = 512;

/// The length of a `traceparent` of version 00.
const PARENT_LENGTH: usize = 55;

/// Where in whose trace a request was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Not all zeros.
    pub trace_id: [u8; 16],
    /// The client's span; not all zeros.
    pub parent_id: [u8; 8],
    /// The client records its part of the trace.
    pub sampled: bool,
    /// What systems on the way have to say to each other.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the values of a request's `traceparent` and `tracestate` fields. Nothing where the first
    /// is absent, stands twice or is wrong.
    pub fn read<'a>(
        mut parents: impl Iterator<Item = &'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Option<TraceContext> {
        let parent = parents.next()?;
        if parents.next().is_some() {
            return None;
        }
        let context = parse(parent)?;
        let states: Option<Vec<&str>> =
            states.map(|state| std::str::from_utf8(state).ok().map(str::trim)).collect();
        let state = states.unwrap_or_default().join(",");
        let fits = !state.is_empty()
            && state.len() <= MAX_STATE
            && state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        Some(TraceContext { state: fits.then(|| state.into()), ..context })
    }
}

/// Writes a `traceparent`.
pub fn traceparent(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> String {
    format!("00-{}-{}-{:02x}", hex(&trace_id), hex(&span_id), u8::from(sampled))
}

/// Bytes in lower-case hexadecimal digits, as ids are shown.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn parse(text: &[u8]) -> Option<TraceContext> {
    let version = *bytes::<1>(text.get(..2)?)?.first()?;
    // A later version may go on after what is known.
    let length_is_right = match version {
        0 => text.len() == PARENT_LENGTH,
        0xff => false,
        _ => text.len() == PARENT_LENGTH || text.get(PARENT_LENGTH) == Some(&b'-'),
    };
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    if !length_is_right || !dashes {
        return None;
    }
    let trace_id = bytes::<16>(text.get(3..35)?)?;
    let parent_id = bytes::<8>(text.get(36..52)?)?;
    let [flags] = bytes::<1>(text.get(53..55)?)?;
    if trace_id == [0; 16] || parent_id == [0; 8] {
        return None;
    }
    Some(TraceContext { trace_id, parent_id, sampled: flags & 1 == 1, state: None })
}

/// Lower-case digits only, as the standard has it.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The two fields, as they were sent.
#[derive(Serialize, Deserialize)]
struct Fields {
    parent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<Box<str>>,
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parent = traceparent(self.trace_id, self.parent_id, self.sampled);
        Fields { parent, state: self.state.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TraceContext, D::Error> {
        let Fields { parent, state } = Fields::deserialize(deserializer)?;
        let context = parse(parent.as_bytes())
            .ok_or_else(|| de::Error::custom("not a traceparent of version 00"))?;
        Ok(TraceContext { state, ..context })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        TraceContext::read(
            parents.iter().map(|text| text.as_bytes()),
            states.iter().map(|text| text.as_bytes()),
        )
    }

    #[test]
    fn a_context_is_read_and_written_as_it_was() {
        let context = read(&[PARENT], &["a=1, b=2", "c=3"]).unwrap();
        assert!(context.sampled);
        assert_eq!(context.state.as_deref(), Some("a=1, b=2,c=3"));
        assert_eq!(traceparent(context.trace_id, context.parent_id, true), PARENT);
        let json = serde_json::to_string(&context).unwrap();
        assert_eq!(serde_json::from_str::<TraceContext>(&json).unwrap(), context);
        assert!(!read(&[&format!("{}00", &PARENT[..53])], &[]).unwrap().sampled);
    }

    #[test]
    fn what_the_standard_calls_invalid_is_nothing() {
        let later = format!("cc{}-what-comes", &PARENT[2..]);
        assert!(read(&[&later], &[]).is_some());
        let wrong = [
            String::new(),
            "00".to_owned(),
            PARENT.to_uppercase(),
            format!("{PARENT}-x"),
            format!("ff{}", &PARENT[2..]),
            format!("cc{}x", &PARENT[2..]),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace('-', "_"),
            format!(" {}", &PARENT[1..]),
        ];
        for text in &wrong {
            assert_eq!(read(&[text], &[]), None, "{text}");
        }
        assert_eq!(read(&[PARENT, PARENT], &[]), None);
        assert_eq!(read(&[], &["a=1"]), None);
    }

    #[test]
    fn a_state_that_does_not_fit_is_left_out_alone() {
        let long = "a=".to_owned() + &"x".repeat(600);
        for state in [long.as_str(), "a=\u{e9}", "a=\u{7}", ""] {
            assert_eq!(read(&[PARENT], &[state]).unwrap().state, None, "{state}");
        }
    }
}
