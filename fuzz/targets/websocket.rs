//! WebSocket frames, compressed or not: the same messages come of the whole and of pieces.

#![no_main]

mod common;

use common::{Noted, cut, in_pieces};
use libfuzzer_sys::fuzz_target;
use tokenmeter::framing::{Extensions, Sender, WebSocket};
use tokenmeter::provider::RESPONSE;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = cut(data) else { return };
    let Some((how, bytes)) = cut(data) else { return };
    let sender = if which & 1 == 0 { Sender::Client } else { Sender::Server };
    let extensions = match which >> 1 & 3 {
        0 => Extensions::None,
        1 => Extensions::Deflate { client_starts_anew: false, server_starts_anew: false },
        _ => Extensions::Deflate { client_starts_anew: true, server_starts_anew: true },
    };
    let socket = || WebSocket::new(sender, extensions, &RESPONSE).expect("known extensions");
    let (mut at_once, mut bit_by_bit) = (Noted::default(), Noted::default());
    let (mut whole, mut pieces) = (socket(), socket());
    whole.push(bytes, &mut at_once);
    in_pieces(how, bytes, |piece| pieces.push(piece, &mut bit_by_bit));
    assert_eq!(at_once, bit_by_bit);
    assert_eq!(whole.close_code(), pieces.close_code());
});
