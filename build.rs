//! Packs what the dashboard sends to browsers: compresses each file once, here, and names it by its
//! content, so that a browser may keep it for ever. Owns the cutting of plotly.js out of what the crate
//! that carries it hands out; nothing of that crate is in the binary but this one text.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

const OWN: &str = "src/admin/dashboard/assets";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={OWN}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let sources = plotly::Plot::offline_js_sources();
    let files = [
        ("dashboard", "css", "text/css", fs::read_to_string(Path::new(OWN).join("dashboard.css"))?),
        (
            "dashboard",
            "js",
            "text/javascript",
            fs::read_to_string(Path::new(OWN).join("dashboard.js"))?,
        ),
        ("plotly", "js", "text/javascript", first_script(&sources)?.to_owned()),
    ];
    let mut list = String::from("[\n");
    for (name, extension, kind, text) in files {
        let file = format!("{name}-{:016x}.{extension}", fingerprint(text.as_bytes()));
        let packed = fs::File::create(out.join(format!("{file}.gz")))?;
        let mut gzip = GzEncoder::new(packed, Compression::best());
        gzip.write_all(text.as_bytes())?;
        gzip.finish()?;
        writeln!(
            list,
            "Asset {{ stem: \"{name}.{extension}\", name: \"{file}\", \
             content_type: \"{kind}; charset=utf-8\", gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}.gz\")), plain: OnceLock::new() }},"
        )?;
    }
    list.push_str("]\n");
    fs::write(out.join("assets.rs"), list)?;
    Ok(())
}

/// The text of the first script element: plotly.js. What follows it sets formulas, of which charts here
/// have none.
fn first_script(html: &str) -> Result<&str, Box<dyn Error>> {
    let (_, rest) = html.split_once('>').ok_or("no script in what the plotly crate carries")?;
    let (script, _) = rest.split_once("</script>").ok_or("the plotly crate's script has no end")?;
    let is_plotly = script.len() > 1_000_000 && script.contains("plotly.js v");
    if is_plotly {
        Ok(script)
    } else {
        Err("the plotly crate's first script is not plotly.js".into())
    }
}

/// FNV-1a: tells versions of a file apart, and no more is asked of it.
fn fingerprint(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
