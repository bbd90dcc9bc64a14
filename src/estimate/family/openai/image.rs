//! What pictures cost OpenAI's models. Owns the two rules (tiles of 512 pixels, patches of 32) and
//! which model has which; from OpenAI's guide to vision, corrected where counts were billed otherwise
//! (its community forum, recorded calls).

use crate::estimate::prompt::Image;

/// Width and height taken for a picture whose size is not known.
const USUAL: (u32, u32) = (1024, 1024);

/// Patches that a picture is scaled down to.
const PATCHES: f64 = 1536.0;

/// The same with `detail: original`, which GPT-5.4 brought.
const ORIGINAL_PATCHES: f64 = 10_000.0;

/// The longer side that every picture is scaled down to first.
const LONG_SIDE: f64 = 2048.0;

/// The shorter side that tiles are cut from.
const SHORT_SIDE: f64 = 768.0;

enum Rule {
    /// Tokens for the picture, and for each tile.
    Tiles(u64, u64),
    /// Tokens for a patch.
    Patches(f64),
    /// The same, of models that fill what they are allowed.
    FullPatches(f64),
}

/// Tokens of a picture. `name` is the model's, in lower case.
pub(super) fn tokens(name: &str, image: &Image<'_>) -> u64 {
    let (width, height) = image.size.unwrap_or(USUAL);
    let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
    match rule(name) {
        Rule::Tiles(base, _) if image.detail == Some("low") => base,
        Rule::Tiles(base, tile) => base + tile * tiles(width, height),
        Rule::Patches(each) => ceil(patches(width, height) * each),
        Rule::FullPatches(each) => {
            let most = if image.detail == Some("original") { ORIGINAL_PATCHES } else { PATCHES };
            ceil(((width / 32.0).ceil() * (height / 32.0).ceil()).min(most) * each)
        }
    }
}

fn rule(name: &str) -> Rule {
    let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if is(&["gpt-4o-mini"]) {
        Rule::Tiles(2833, 5667)
    } else if is(&["gpt-4.1-mini"]) {
        Rule::Patches(1.62)
    } else if is(&["gpt-4.1-nano"]) {
        Rule::Patches(2.46)
    } else if is(&["o4-mini", "codex-mini"]) {
        Rule::Patches(1.72)
    } else if is(&["gpt-5-mini"]) {
        Rule::FullPatches(1.2)
    } else if is(&["gpt-5-nano"]) {
        Rule::FullPatches(1.5)
    } else if is(&["o1", "o3"]) {
        Rule::Tiles(75, 150)
    } else if is(&["computer-use"]) {
        Rule::Tiles(65, 129)
    } else if name == "gpt-5" || is(&["gpt-5-", "gpt-5.1"]) {
        Rule::Tiles(70, 140)
    } else if is(&["gpt-5", "gpt-6", "gpt-7"]) {
        Rule::FullPatches(1.2)
    } else {
        Rule::Tiles(85, 170)
    }
}

fn tiles(width: f64, height: f64) -> u64 {
    let (width, height) = fit(width, height, LONG_SIDE / width.max(height));
    let (width, height) = fit(width, height, SHORT_SIDE / width.min(height));
    ceil((width / 512.0).ceil() * (height / 512.0).ceil())
}

/// Scales down, never up, to whole pixels.
fn fit(width: f64, height: f64, scale: f64) -> (f64, f64) {
    let scaled = |side: f64| (side * scale).round().max(1.0);
    if scale < 1.0 { (scaled(width), scaled(height)) } else { (width, height) }
}

/// Patches of 32 pixels; if too many, of the picture scaled down so that whole ones fit one side.
fn patches(width: f64, height: f64) -> f64 {
    let (width, height) = fit(width, height, LONG_SIDE / width.max(height));
    let whole = (width / 32.0).ceil() * (height / 32.0).ceil();
    if whole <= PATCHES {
        return whole;
    }
    let scale = (32.0 * 32.0 * PATCHES / (width * height)).sqrt();
    let (across, down) = (width * scale / 32.0, height * scale / 32.0);
    let shrink = (across.floor() / across).min(down.floor() / down);
    ((across * shrink - 1e-9).ceil() * (down * shrink - 1e-9).ceil()).min(PATCHES)
}

/// A float that is no more than some millions, as a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn ceil(value: f64) -> u64 {
    value.ceil() as u64
}
