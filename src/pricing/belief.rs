//! Which prices of a public list are believed. Owns the bounds: how dear a rate may be, by itself and beside
//! the one that it is a part of, and how far it may be from what applied before. Changes nothing.

use rust_decimal::Decimal;

use super::rates::{Priced, Rate, Rates};

/// A price that changes by more than this factor is not believed.
pub(super) const LARGE: Decimal = Decimal::from_parts(10, 0, 0, false, 0);

/// Dollars for a million tokens, pixels or characters that no model costs.
const DEAREST_MILLION: Decimal = Decimal::from_parts(2_000, 0, 0, false, 0);

/// The same for a thousand calls, searches or pages.
const DEAREST_THOUSAND: Decimal = Decimal::from_parts(100, 0, 0, false, 0);

/// The same for one picture, clip, second or hour.
const DEAREST_ONE: Decimal = Decimal::from_parts(100, 0, 0, false, 0);

/// How many times the price of the prompt a cache may cost; a write for an hour costs twice.
const CACHE: Decimal = Decimal::from_parts(4, 0, 0, false, 0);

/// Whether anything would be charged at more than [`LARGE`] times what it is charged at now, or less than
/// that part of it. What has no rate is charged at that of its parent, or else at nothing.
pub(super) fn is_large(before: &Rates, now: &Rates) -> bool {
    before.iter().chain(now).any(|one| {
        let (before, now) = (applied(before, one), applied(now, one));
        before.max(now) > before.min(now).checked_mul(LARGE).unwrap_or(Decimal::MAX)
    })
}

/// What a rate that is new or changed costs beyond belief, if it does.
pub(super) fn too_dear(before: &Rates, now: &Rates) -> Option<String> {
    let is_changed = |one: &Priced| !before.contains(one);
    let dear = now.iter().find(|one| is_changed(one) && one.in_file() > dearest(one));
    if let Some(dear) = dear {
        let (key, price) = (dear.key, dear.in_file());
        return Some(format!("its price is more than any model's: {key} {price}"));
    }
    now.iter().find_map(|cached| {
        let whole = cached_of(cached.rate).iter().find_map(|rate| find(now, *rate))?;
        let most = whole.price.checked_mul(CACHE).unwrap_or(Decimal::MAX);
        let is_odd = cached.price > most && (is_changed(cached) || is_changed(whole));
        is_odd.then(|| {
            let (key, price, of, input) =
                (cached.key, cached.in_file(), whole.key, whole.in_file());
            format!("its {key} ({price}) is more than {CACHE} times its {of} ({input})")
        })
    })
}

/// The price at which such a unit is charged.
fn applied(rates: &Rates, of: &Priced) -> Decimal {
    let own = rates.iter().find(|one| one.key == of.key && one.by == of.by);
    let found = own.or_else(|| of.rate.parents().iter().find_map(|rate| find(rates, *rate)));
    found.map_or(Decimal::ZERO, |one| one.price)
}

fn find(rates: &Rates, rate: Rate) -> Option<&Priced> {
    rates.iter().find(|one| one.rate == rate)
}

fn dearest(one: &Priced) -> Decimal {
    match one.rate {
        Rate::Requests | Rate::WebSearches => DEAREST_THOUSAND,
        Rate::AudioHours => DEAREST_ONE,
        Rate::Uncounted if one.key.starts_with("per_1k_") => DEAREST_THOUSAND,
        Rate::Uncounted if one.key.starts_with("per_") && !one.key.starts_with("per_1m_") => {
            DEAREST_ONE
        }
        _ => DEAREST_MILLION,
    }
}

/// What it is that was cached: the first that has a price.
fn cached_of(rate: Rate) -> &'static [Rate] {
    match rate {
        Rate::CachedInput | Rate::CacheWrite | Rate::CacheWrite1h => &[Rate::Input],
        Rate::CachedAudioInput => &[Rate::AudioInput, Rate::Input],
        Rate::CachedImageInput => &[Rate::ImageInput, Rate::Input],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::PriceBook;

    fn rates(text: &str) -> Rates {
        let book = PriceBook::parse(&format!("[prices.a]\nm = {{ {text} }}")).unwrap();
        book.entries[0].base.rates.clone()
    }

    #[test]
    fn every_unit_has_a_price_beyond_belief() {
        for (text, why) in [
            ("input = 3000, output = 1", "input 3000"),
            ("input = 1, output = 2, per_1k_requests = 500_000", "per_1k_requests 500000"),
            ("input = 1, output = 2, per_1k_web_searches = 101", "per_1k_web_searches 101"),
            ("input = 1, output = 2, image_output = 2001", "image_output 2001"),
            ("per_image = 101", "per_image 101"),
            ("input = 0.9, output = 2, cached_input = 900_000", "cached_input 900000"),
            ("input = 1, output = 2, cached_input = 4.01", "more than 4 times its input (1)"),
            ("input = 1, output = 2, cache_write = 9", "its cache_write (9)"),
            ("input = 1, output = 2, cache_write_1h = 9", "its cache_write_1h (9)"),
            ("input = 0, output = 0, cached_input = 1", "its cached_input (1)"),
            ("input = 1, output = 2, audio_input = 4, cached_audio_input = 17", "audio_input (4)"),
        ] {
            let found = too_dear(&Rates::new(), &rates(text)).unwrap_or_default();
            assert!(found.contains(why), "{text}: {found}");
        }
        let old = rates("input = 1, output = 2, cached_input = 0.5, image_output = 2500");
        assert_eq!(too_dear(&old, &old), None);
        let cheaper = rates("input = 0.1, output = 2, cached_input = 0.5, image_output = 2500");
        assert!(too_dear(&old, &cheaper).unwrap().contains("its cached_input"));
    }

    /// But for one, whose own list prices a thousand tokens as a million.
    #[test]
    fn the_built_in_prices_are_believed() {
        for entry in &PriceBook::builtin().entries {
            let sets = entry.since.iter().map(|since| &since.set.rates);
            for rates in sets.chain([&entry.base.rates]) {
                let why = too_dear(&Rates::new(), rates);
                let is_known = entry.id == "azure/jais-30b-chat";
                assert!(why.is_none() || is_known, "{}: {why:?}", entry.id);
            }
        }
    }

    #[test]
    fn what_comes_or_goes_is_measured_by_what_applies_without_it() {
        let base = "input = 2, output = 10";
        for (text, large) in [
            ("cached_input = 0.2", false),
            ("cached_input = 0.19", true),
            ("cached_input = 21", true),
            ("cache_write = 2.5, cache_write_1h = 4", false),
            ("cache_write_1h = 0.1", true),
            ("audio_input = 20", false),
            ("audio_input = 21", true),
            ("audio_output = 101", true),
            ("reasoning = 3", false),
            ("reasoning = 0.9", true),
            ("per_1k_requests = 5", true),
            ("per_1k_web_searches = 10", true),
            ("per_1k_web_searches = 0", false),
        ] {
            let (old, new) = (rates(base), rates(&format!("{base}, {text}")));
            assert_eq!(is_large(&old, &new), large, "comes: {text}");
            assert_eq!(is_large(&new, &old), large, "goes: {text}");
        }
        let change = |now| is_large(&rates(base), &rates(now));
        assert!(!change("input = 20, output = 1"));
        assert!(change("input = 20.1, output = 10") && change("input = 2, output = 0"));
    }
}
