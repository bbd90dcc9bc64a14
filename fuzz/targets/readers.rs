//! Answers of providers: whatever they say is read alike whole and in pieces, and what is read is possible.

#![no_main]

mod common;

use common::{TYPES, cut, in_pieces};
use libfuzzer_sys::fuzz_target;
use tokenmeter::framing::{Framed, Framer};
use tokenmeter::provider::{RESPONSE, Reader};

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = cut(data) else { return };
    let Some((how, bytes)) = cut(data) else { return };
    let content_type = TYPES[usize::from(which) % TYPES.len()];
    let reader = || Framed::new(Framer::for_content_type(content_type, &RESPONSE), Reader::new());
    let (mut whole, mut pieces) = (reader(), reader());
    whole.push(bytes);
    in_pieces(how, bytes, |piece| pieces.push(piece));
    whole.sink.ended();
    pieces.sink.ended();
    assert_eq!(format!("{:?}", whole.sink.reading()), format!("{:?}", pieces.sink.reading()));
});
