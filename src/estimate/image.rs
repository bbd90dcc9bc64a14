//! Image sizes. Owns how width and height are read from a data URL or base64 text: from the picture's
//! header, without decoding the picture.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 characters that are decoded: headers with large metadata (EXIF, colour profiles) before the
/// size are seen in photographs.
const HEADER: usize = 256 * 1024;

/// Pixels that a side has at most: as many as a JPEG can say. What a header says beyond is made up.
const MAX_SIDE: u32 = 65_535;

/// Width and height in pixels of an image given as base64.
pub(super) fn size_of_base64(data: &str) -> Option<(u32, u32)> {
    let mut head = data.as_bytes();
    head = &head[..head.len().min(HEADER)];
    head = &head[..head.len() - head.len() % 4];
    let bytes = STANDARD.decode(head).ok()?;
    let size = imagesize::reader_size(Cursor::new(bytes)).ok()?;
    let pixels = |side: usize| u32::try_from(side).unwrap_or(u32::MAX).min(MAX_SIDE);
    Some((pixels(size.width), pixels(size.height)))
}

/// Width and height in pixels of an image given as a `data:` URL; `None` for other URLs.
pub(super) fn size_of_url(url: &str) -> Option<(u32, u32)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    head.ends_with(";base64").then(|| size_of_base64(data)).flatten()
}
