//! Encoded bodies: broken ones end in an error, never in a panic, and pieces decode to what the whole does.

#![no_main]

mod common;

use common::{Noted, TYPES, cut, in_pieces};
use libfuzzer_sys::fuzz_target;
use tokenmeter::framing::{Coding, Decoder, Framed, Framer};
use tokenmeter::provider::RESPONSE;

const CODINGS: [Coding; 5] =
    [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = cut(data) else { return };
    let Some((how, bytes)) = cut(data) else { return };
    let coding = CODINGS[usize::from(which) % CODINGS.len()];
    let content_type = TYPES[usize::from(which >> 4) % TYPES.len()];
    let decoder = || {
        let framed = Framed::new(Framer::for_content_type(content_type, &RESPONSE), Noted::default());
        Decoder::new(coding, framed.at_most(1 << 22)).expect("a decoder")
    };
    let (mut whole, mut pieces) = (decoder(), decoder());
    let at_once = whole.push(bytes);
    let mut bit_by_bit = Ok(());
    in_pieces(how, bytes, |piece| {
        if bit_by_bit.is_ok() {
            bit_by_bit = pieces.push(piece);
        }
    });
    if at_once.is_ok() && bit_by_bit.is_ok() {
        assert_eq!(whole.sink(), pieces.sink());
    }
});
