//! Requests of clients: read alike whole and in pieces.

#![no_main]

mod common;

use common::{cut, in_pieces};
use libfuzzer_sys::fuzz_target;
use tokenmeter::provider::RequestReader;

const TYPES: [&str; 3] = ["application/json", "multipart/form-data; boundary=b", "text/plain"];
const ENCODINGS: [&str; 2] = ["", "gzip"];

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = cut(data) else { return };
    let Some((how, bytes)) = cut(data) else { return };
    let content_type = TYPES[usize::from(which) % TYPES.len()];
    let encoding = ENCODINGS[usize::from(which >> 4) % ENCODINGS.len()];
    let (mut whole, mut pieces) =
        (RequestReader::new(content_type, encoding), RequestReader::new(content_type, encoding));
    whole.push(bytes);
    in_pieces(how, bytes, |piece| pieces.push(piece));
    if encoding.is_empty() {
        assert_eq!(format!("{:?}", whole.facts()), format!("{:?}", pieces.facts()));
    }
});
