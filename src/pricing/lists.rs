//! Public price lists as providers hand them out. Owns their forms: where each is, whose prices it has and
//! how its figures are those of the table; fetches nothing.
//!
//! Invariant: what a list says in a way that is not known here is left out and said so, never guessed.

use rust_decimal::Decimal;
use serde_json::Value;

use super::book::MAX_NAME_BYTES;
use super::rates::{Priced, RATE_KEYS, Rates};
use crate::units::parse_decimal;

/// A public price list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceList {
    /// `GET /api/v1/models`: dollars for one token or request, as texts.
    OpenRouter,
}

/// What a list says of a model.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) model: String,
    pub(super) price: Offered,
}

#[derive(Clone, Debug)]
pub(super) enum Offered {
    Rates(Rates),
    /// Why it has no price that could be used.
    Nothing(String),
}

/// OpenRouter's names and ours. `image` is for a picture, which no usage counts, and left out.
const OPENROUTER: [(&str, &str); 13] = [
    ("prompt", "input"),
    ("completion", "output"),
    ("input_cache_read", "cached_input"),
    ("input_cache_write", "cache_write"),
    ("input_cache_write_1h", "cache_write_1h"),
    ("internal_reasoning", "reasoning"),
    ("audio", "audio_input"),
    ("input_audio_cache", "cached_audio_input"),
    ("audio_output", "audio_output"),
    ("image_token", "image_input"),
    ("image_output", "image_output"),
    ("request", "per_1k_requests"),
    ("web_search", "per_1k_web_searches"),
];

impl PriceList {
    pub const ALL: [PriceList; 1] = [PriceList::OpenRouter];

    /// Its name, which is also that of the provider whose prices it has.
    pub fn as_str(self) -> &'static str {
        match self {
            PriceList::OpenRouter => "openrouter",
        }
    }

    /// The list of that name.
    pub fn named(name: &str) -> Option<PriceList> {
        PriceList::ALL.into_iter().find(|list| list.as_str() == name)
    }

    /// Where it is at its provider.
    pub fn path(self) -> &'static str {
        match self {
            PriceList::OpenRouter => "/api/v1/models",
        }
    }

    /// Whether a rate is one that the list would tell.
    pub(super) fn tells(self, key: &str) -> bool {
        OPENROUTER.iter().any(|(_, ours)| *ours == key)
    }

    /// Reads the list; the error says what is wrong with all of it.
    pub(super) fn read(self, body: &[u8]) -> Result<Vec<Offer>, String> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
        let Some(models) = answer["data"].as_array() else {
            return Err("it has no list named `data`".to_owned());
        };
        if models.is_empty() {
            return Err("it is empty".to_owned());
        }
        let offers: Vec<Offer> = models.iter().filter_map(offer).collect();
        if offers.iter().all(|offer| matches!(offer.price, Offered::Nothing(_))) {
            return Err("none of its models has a price as expected".to_owned());
        }
        Ok(offers)
    }
}

/// A model of OpenRouter's list; nothing where it has no usable name.
fn offer(model: &Value) -> Option<Offer> {
    let name = model["id"].as_str()?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return None;
    }
    let price = match rates(&model["pricing"]) {
        Ok(rates) => Offered::Rates(rates),
        Err(why) => Offered::Nothing(why),
    };
    Some(Offer { model: name.to_owned(), price })
}

fn rates(pricing: &Value) -> Result<Rates, String> {
    let discount = figure(&pricing["discount"])?.unwrap_or_default();
    if discount >= Decimal::ONE || discount.is_sign_negative() && !discount.is_zero() {
        return Err(format!("its discount is {discount}"));
    }
    let mut rates = Rates::new();
    for (theirs, ours) in OPENROUTER {
        let Some(price) = figure(&pricing[theirs])? else {
            if matches!(ours, "input" | "output") {
                return Err(format!("it has no `{theirs}`"));
            }
            continue;
        };
        if price.is_sign_negative() && !price.is_zero() {
            return Err("its price varies with the model that it chooses".to_owned());
        }
        // A class that costs nothing extra has no price of its own.
        if price.is_zero() && !matches!(ours, "input" | "output") {
            continue;
        }
        let Some(&(key, rate)) = RATE_KEYS.iter().find(|(key, _)| *key == ours) else { continue };
        let in_file = price
            .checked_mul(Decimal::ONE - discount)
            .and_then(|price| price.checked_mul(rate.per()))
            .ok_or_else(|| format!("its `{theirs}` is {price}"))?;
        if in_file > Decimal::from(1_000_000_000) || in_file.normalize().scale() > 20 {
            return Err(format!("its `{theirs}` is {price}"));
        }
        rates.push(Priced::new(key, rate, in_file.normalize()));
    }
    Ok(rates)
}

/// A decimal as a text, or as a number.
fn figure(value: &Value) -> Result<Option<Decimal>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(format!("`{other}` is no price")),
    };
    parse_decimal(&text).map(Some).map_err(|_| format!("`{text}` is no price"))
}
