//! Bodies whole and in pieces: the same documents and texts come of both, whatever the bytes are.

#![no_main]

mod common;

use common::{Noted, TYPES, cut, in_pieces};
use libfuzzer_sys::fuzz_target;
use tokenmeter::framing::Framer;
use tokenmeter::provider::RESPONSE;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = cut(data) else { return };
    let Some((how, bytes)) = cut(data) else { return };
    let content_type = TYPES[usize::from(which) % TYPES.len()];
    let (mut at_once, mut bit_by_bit) = (Noted::default(), Noted::default());
    let mut whole = Framer::for_content_type(content_type, &RESPONSE);
    whole.push(bytes, &mut at_once);
    let mut pieces = Framer::for_content_type(content_type, &RESPONSE);
    in_pieces(how, bytes, |piece| pieces.push(piece, &mut bit_by_bit));
    assert_eq!(at_once, bit_by_bit);
    assert_eq!(whole.is_stream(), pieces.is_stream());
});
