//! Lengths of sound. Owns how long a recording plays, from a WAV file's header, without decoding it.
//! Other formats do not say at their beginning.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 characters that are decoded: the header, with chunks of notes before the data.
const HEADER: usize = 4096;

/// The seconds that a WAV file given as base64 plays.
pub(super) fn seconds_of_base64(data: &str) -> Option<f64> {
    let head = &data.as_bytes()[..data.len().min(HEADER)];
    let head = STANDARD.decode(&head[..head.len() - head.len() % 4]).ok()?;
    let total = data.len() / 4 * 3;
    if head.get(..4)? != b"RIFF" || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut at = 12;
    let mut bytes_per_second = None;
    while let (Some(name), Some(length)) = (head.get(at..at + 4), word(&head, at + 4)) {
        at += 8;
        match name {
            b"fmt " => bytes_per_second = word(&head, at + 8).filter(|rate| *rate > 0),
            // A WAV that is written while it is recorded states no length, or an impossible one.
            b"data" => {
                let rest = u32::try_from(total.saturating_sub(at)).ok()?;
                return Some(f64::from(length.min(rest)) / f64::from(bytes_per_second?));
            }
            _ => {}
        }
        at = at.checked_add(usize::try_from(length).ok()?)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_how_long_a_recording_plays() {
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(16_000_u32.to_le_bytes());
        wav.extend(32_000_u32.to_le_bytes());
        wav.extend(b"\x02\0\x10\0data\xff\xff\xff\xff");
        wav.extend(vec![0; 64_000]);
        assert_eq!(seconds_of_base64(&STANDARD.encode(&wav)).map(f64::round), Some(2.0));
        assert_eq!(seconds_of_base64(&STANDARD.encode(&wav[..40])), None);
        assert_eq!(seconds_of_base64("SUQzBAAAAAAA"), None);
    }
}
