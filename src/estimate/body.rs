//! A request's body, as far as it was kept, into the JSON that it holds. Owns what is done with a
//! body that was cut: what has come is closed as if it ended there; and how much of one is read.
//!
//! Invariant: what is read takes no more than some 100 MB, whatever the body holds. A value of a few
//! bytes takes a hundred in memory, so it is values that are limited.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// Bytes that a compressed request is inflated to: as much as is kept of a plain one.
const MAX_INFLATED: u64 = 16 * 1024 * 1024;

/// Values (members, elements) that are read of one body: more than a long context has tokens.
const MAX_VALUES: usize = 500_000;

/// What was read of a body.
#[expect(missing_debug_implementations, reason = "it holds a prompt")]
pub struct Body {
    pub request: Value,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes at its end that were not.
    pub beyond: u64,
}

/// Reads a body, gzipped or not, of which `beyond` further bytes were not kept. `None` if it is no
/// JSON, is nested too deep to be read, or breaks off although nothing was left out.
pub fn read(body: &[u8], beyond: u64) -> Option<Body> {
    if body.starts_with(&[0x1F, 0x8B]) {
        let mut inflated = Vec::new();
        // What was inflated before an error or the limit counts.
        let whole = MultiGzDecoder::new(body).take(MAX_INFLATED).read_to_end(&mut inflated);
        let is_whole = whole.is_ok_and(|read| (read as u64) < MAX_INFLATED);
        return read_plain(&inflated, if is_whole { beyond } else { beyond.max(1) });
    }
    read_plain(body, beyond)
}

fn read_plain(body: &[u8], beyond: u64) -> Option<Body> {
    let affordable = affordable(body);
    let left_out = (body.len() - affordable) as u64;
    let (body, beyond) = (&body[..affordable], beyond + left_out);
    let request = if beyond == 0 {
        serde_json::from_slice(body).ok()?
    } else {
        serde_json::from_slice(&closed(body)).ok()?
    };
    Some(Body { request, read: body.len() as u64, beyond })
}

/// The length of the beginning that has no more than [`MAX_VALUES`] values.
fn affordable(body: &[u8]) -> usize {
    let (mut at, mut values) = (0, 0);
    while at < body.len() && values < MAX_VALUES {
        match body[at] {
            b'"' => at = end_of_string(body, at + 1),
            b',' | b'[' => {
                values += 1;
                at += 1;
            }
            // A map takes as much as a few values, however little it holds.
            b'{' => {
                values += 4;
                at += 1;
            }
            _ => at += 1,
        }
    }
    at.min(body.len())
}

/// Where the string ends that begins here: behind its quote.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while at < body.len() {
        match memchr::memchr2(b'"', b'\\', &body[at..]) {
            None => return body.len(),
            Some(skip) if body[at + skip] == b'\\' => at += skip + 2,
            Some(skip) => return at + skip + 1,
        }
    }
    body.len()
}

/// The longest beginning of `body` that can be closed, closed.
fn closed(body: &[u8]) -> Vec<u8> {
    // The brackets that are open, and up to where everything is complete with that many of them open.
    let mut open: Vec<u8> = Vec::new();
    let mut complete = 0;
    let mut complete_open = 0;
    let mut string_begins = None;
    let (mut is_name, mut awaits_value) = (false, true);
    let mut at = 0;
    while at < body.len() {
        let byte = body[at];
        if string_begins.is_some() {
            match memchr::memchr2(b'"', b'\\', &body[at..]) {
                None => at = body.len(),
                Some(skip) if body[at + skip] == b'\\' => at += skip + 2,
                Some(skip) => {
                    at += skip + 1;
                    string_begins = None;
                    if !is_name {
                        (complete, complete_open) = (at, open.len());
                    }
                }
            }
            continue;
        }
        at += 1;
        match byte {
            b'"' => {
                is_name = open.last() == Some(&b'}') && !awaits_value;
                string_begins = Some(at);
            }
            b':' => awaits_value = true,
            b',' => {
                awaits_value = open.last() == Some(&b']');
                (complete, complete_open) = (at - 1, open.len());
            }
            b'{' | b'[' => {
                open.push(if byte == b'{' { b'}' } else { b']' });
                awaits_value = byte == b'[';
                (complete, complete_open) = (at, open.len());
            }
            b'}' | b']' => {
                open.pop();
                (complete, complete_open) = (at, open.len());
            }
            _ => {}
        }
    }
    open.truncate(complete_open);
    let mut whole = body[..complete].to_vec();
    if let Some(begins) = string_begins.filter(|_| !is_name) {
        // A text that was cut counts as far as it goes; a broken escape or character at its end does
        // not.
        whole = body[..begins.max(complete)].to_vec();
        whole.extend_from_slice(text_as_far_as_it_goes(&body[begins.min(body.len())..]));
        whole.push(b'"');
    }
    whole.extend(open.iter().rev());
    whole
}

/// The longest beginning that can stand in a JSON string.
fn text_as_far_as_it_goes(inside: &[u8]) -> &[u8] {
    // The longest thing that can be cut is a character of two escapes, of six bytes each.
    (0..=11.min(inside.len()))
        .map(|cut| &inside[..inside.len() - cut])
        .find(|text| {
            let quoted = [b"\"", *text, b"\""].concat();
            serde_json::from_slice::<String>(&quoted).is_ok()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_cut_anywhere_is_read_as_far_as_it_goes() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"a\"b\\c\u00e9\ud83d\ude00é😀 {["},
            {"n":[1,2.5e3,true,null],"o":{}}],"stream":false}"#
            .as_bytes();
        let mut read = 0;
        for cut in 1..=body.len() {
            let value = super::read(&body[..cut], 1).map(|body| body.request);
            read += usize::from(value.is_some());
            if cut > 60 {
                let text = value.unwrap()["messages"][0]["content"].as_str().unwrap().to_owned();
                assert!("a\"b\\cé😀é😀 {[".starts_with(&text), "{cut}: {text}");
            }
        }
        assert!(read > body.len() - 5, "{read} of {}", body.len());
        let begun = super::read(br#"{"a":[1,{"b":"x"#, 1).unwrap().request;
        assert_eq!(begun, json!({"a": [1, {"b": "x"}]}));
    }

    #[test]
    fn what_is_no_json_is_not_read() {
        for body in [&b"hello"[..], b"", b"{\"a\" 1}"] {
            assert!(read(body, 0).is_none());
        }
        // That nothing was left out and it breaks off all the same: the request was cut off.
        assert!(read(br#"{"a":[1,{"b":"x"#, 0).is_none());
    }

    #[test]
    fn a_body_of_many_small_values_is_not_read_to_its_end() {
        let many = format!(r#"{{"input":[{}1],"model":"m,[{{"}}"#, "1,".repeat(2_000_000));
        let body = read(many.as_bytes(), 7).unwrap();
        assert_eq!(body.read + body.beyond, many.len() as u64 + 7);
        let read = body.request["input"].as_array().unwrap().len();
        assert!((MAX_VALUES - 10..=MAX_VALUES).contains(&read), "{read}");
    }
}
