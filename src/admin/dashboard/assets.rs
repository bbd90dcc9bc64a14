//! The files that pages need: style, script, and the library that draws charts. Owns their names, which
//! change with their content, and the form they are sent in; the build script has packed them.

use std::io::Read as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A file, packed.
#[derive(Debug)]
pub(in crate::admin) struct Asset {
    /// What it is called here.
    stem: &'static str,
    /// What it is called by browsers.
    name: &'static str,
    pub(in crate::admin) content_type: &'static str,
    gzip: &'static [u8],
    /// What it is unpacked: plotly.js takes 5 MB, and longer than a call should wait.
    plain: OnceLock<Bytes>,
}

static ASSETS: [Asset; 3] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

impl Asset {
    pub(in crate::admin) fn find(name: &str) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    /// Its packed content, for whoever takes that.
    pub(in crate::admin) fn packed(&self, headers: &HeaderMap) -> Option<Bytes> {
        takes_gzip(headers).then(|| Bytes::from_static(self.gzip))
    }

    /// Its content, unpacked once. That blocks.
    pub(in crate::admin) fn plain(&self) -> Bytes {
        let unpack = || {
            let mut plain = Vec::new();
            // What the build script has packed can be unpacked.
            let _ = GzDecoder::new(self.gzip).read_to_end(&mut plain);
            plain.into()
        };
        self.plain.get_or_init(unpack).clone()
    }

    /// The length of its content in bytes, which gzip (RFC 1952, ISIZE) has at its end.
    pub(in crate::admin) fn plain_length(&self) -> u32 {
        self.gzip.last_chunk().copied().map_or(0, u32::from_le_bytes)
    }
}

/// The link to a file, relative to the pages' path.
pub(super) fn href(stem: &str) -> String {
    let found = ASSETS.iter().find(|asset| asset.stem == stem);
    format!("assets/{}", found.map_or(stem, |asset| asset.name))
}

/// Whether a client takes gzip: it names it, and not to refuse it.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings =
        values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_zero =
            weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0_f32);
        name.trim().eq_ignore_ascii_case("gzip") && !is_zero
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there_packed_and_plain() {
        for (stem, text) in [
            ("plotly.js", "plotly.js v3"),
            ("dashboard.js", "data-chart"),
            ("dashboard.css", "color-scheme"),
        ] {
            let href = href(stem);
            let asset = Asset::find(href.strip_prefix("assets/").unwrap()).unwrap();
            let plain = asset.plain();
            assert!(String::from_utf8_lossy(&plain).contains(text), "{stem}");
            assert_eq!(usize::try_from(asset.plain_length()), Ok(plain.len()));
            // The same bytes, not the same again.
            assert_eq!(asset.plain().as_ptr(), plain.as_ptr());
            assert_eq!(asset.packed(&HeaderMap::new()), None);
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, "br, GZIP;q=0.5".parse().unwrap());
            assert!(asset.packed(&headers).is_some());
            headers.insert(ACCEPT_ENCODING, "gzip;q=0, identity".parse().unwrap());
            assert_eq!(asset.packed(&headers), None);
        }
        assert!(Asset::find("../secret").is_none() && Asset::find("").is_none());
    }
}
