//! A request's body, as far as it was kept, into the JSON that it holds. Owns what is done with a
//! body that was cut: what has come is closed as if it ended there.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// Bytes that a compressed request is inflated to.
const MAX_INFLATED: u64 = 32 * 1024 * 1024;

/// Reads a body, gzipped or not. `None` if it is no JSON, or nested too deep to be read.
pub fn parse(body: &[u8]) -> Option<Value> {
    if body.starts_with(&[0x1F, 0x8B]) {
        let mut inflated = Vec::new();
        // What was inflated before an error or the limit counts.
        let _ = MultiGzDecoder::new(body).take(MAX_INFLATED).read_to_end(&mut inflated);
        return serde_json::from_slice(&inflated).ok();
    }
    serde_json::from_slice(body).ok()
}

/// Reads the beginning of a body.
pub fn parse_beginning(body: &[u8]) -> Option<Value> {
    parse(body).or_else(|| serde_json::from_slice(&closed(body)).ok())
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
            b',' => awaits_value = open.last() == Some(&b']'),
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
            let value = parse_beginning(&body[..cut]);
            read += usize::from(value.is_some());
            if cut > 60 {
                let text = value.unwrap()["messages"][0]["content"].as_str().unwrap().to_owned();
                assert!("a\"b\\cé😀é😀 {[".starts_with(&text), "{cut}: {text}");
            }
        }
        assert!(read > body.len() - 5, "{read} of {}", body.len());
        assert_eq!(parse_beginning(br#"{"a":[1,{"b":"x"#).unwrap(), json!({"a": [1, {"b": "x"}]}));
    }

    #[test]
    fn what_is_no_json_is_not_read() {
        for body in [&b"hello"[..], b"", b"{\"a\" 1}"] {
            assert_eq!(parse(body), None);
        }
    }
}
