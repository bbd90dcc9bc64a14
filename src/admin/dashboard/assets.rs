//! The files that pages need: style, script, and the library that draws charts. Owns their names, which
//! change with their content, and the form they are sent in; the build script has packed them.

use std::io::Read as _;

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
}

static ASSETS: [Asset; 3] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

impl Asset {
    pub(in crate::admin) fn find(name: &str) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    /// Its content, and whether that is packed.
    pub(in crate::admin) fn content(&self, headers: &HeaderMap) -> (Bytes, bool) {
        if takes_gzip(headers) {
            return (Bytes::from_static(self.gzip), true);
        }
        let mut plain = Vec::new();
        // What the build script has packed can be unpacked.
        let _ = GzDecoder::new(self.gzip).read_to_end(&mut plain);
        (plain.into(), false)
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
            let (plain, is_packed) = asset.content(&HeaderMap::new());
            assert!(!is_packed && String::from_utf8_lossy(&plain).contains(text), "{stem}");
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, "br, GZIP;q=0.5".parse().unwrap());
            assert!(asset.content(&headers).1);
            headers.insert(ACCEPT_ENCODING, "gzip;q=0, identity".parse().unwrap());
            assert!(!asset.content(&headers).1);
        }
        assert!(Asset::find("../secret").is_none() && Asset::find("").is_none());
    }
}
