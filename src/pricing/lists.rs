//! Public price lists as providers hand them out. Owns their forms: where each is, whose prices it has and
//! how its figures are those of the table; fetches nothing.
//!
//! Invariant: what a list says in a way that is not known here is left out and said so, never guessed.

use rust_decimal::Decimal;
use serde_json::Value;

use super::book::MAX_NAME_BYTES;
use super::listing::{ListedRates, number};
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
    /// The rates, and what else costs by the list's own names, which calls do not tell.
    Rates(Rates, ListedRates),
    /// Why it has no price that could be used.
    Nothing(String),
}

/// OpenRouter's names and ours. `image` is for a picture, which no usage counts.
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

/// A model of OpenRouter's that costs nothing without being called so: it chooses among those that are.
const FREE_ROUTER: &str = "openrouter/free";

/// Dollars for one token that no picture's tokens cost: the price of a whole picture, which stands in the same
/// place.
const DEAREST_IMAGE_TOKEN: Decimal = Decimal::from_parts(1, 0, 0, false, 3);

/// What is left out is said in so many characters.
const LONGEST_WORD: usize = 60;

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
        match self {
            PriceList::OpenRouter => OPENROUTER.iter().any(|(_, ours)| *ours == key),
        }
    }

    /// Whether a model's name, in lower case, says that it costs nothing.
    pub(super) fn calls_free(self, model: &str) -> bool {
        match self {
            PriceList::OpenRouter => model.ends_with(":free") || model == FREE_ROUTER,
        }
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
        let offers: Vec<Offer> = match self {
            PriceList::OpenRouter => models.iter().map(offer).collect(),
        };
        if offers.iter().all(|offer| matches!(offer.price, Offered::Nothing(_))) {
            return Err("none of its models has a price as expected".to_owned());
        }
        Ok(offers)
    }
}

/// A model of OpenRouter's list.
fn offer(model: &Value) -> Offer {
    let is_name = |name: &&str| {
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control)
    };
    let Some(name) = model["id"].as_str().filter(is_name) else {
        let said = model["id"].as_str().map_or_else(|| model["id"].to_string(), str::to_owned);
        let model = said.chars().take(LONGEST_WORD).collect();
        return Offer { model, price: Offered::Nothing("it is no name of a model".to_owned()) };
    };
    let price = match rates(&model["pricing"]) {
        Ok((rates, left_out)) => Offered::Rates(rates, left_out),
        Err(why) => Offered::Nothing(why),
    };
    Offer { model: name.to_owned(), price }
}

fn rates(pricing: &Value) -> Result<(Rates, ListedRates), String> {
    let discount = figure(&pricing["discount"])?.unwrap_or_default();
    if discount >= Decimal::ONE || discount.is_sign_negative() && !discount.is_zero() {
        return Err(format!("its discount is {discount}"));
    }
    let mut rates = Rates::new();
    let mut left_out = not_known(pricing);
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
        if ours.starts_with("image_") && price > DEAREST_IMAGE_TOKEN {
            left_out.insert(theirs.to_owned(), number(price));
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
    if rates.iter().all(|one| one.price.is_zero()) && !left_out.is_empty() {
        let names: Vec<&str> = left_out.keys().map(String::as_str).collect();
        return Err(format!("it is priced by what calls do not tell: {}", names.join(", ")));
    }
    Ok((rates, left_out))
}

/// What costs something and is not known here, as the list has it.
fn not_known(pricing: &Value) -> ListedRates {
    let known =
        |name: &str| name == "discount" || OPENROUTER.iter().any(|(theirs, _)| *theirs == name);
    let others = pricing.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
    let said = |(name, price): (&String, &Value)| {
        let is_empty = match price {
            Value::String(text) => text.trim().is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let price = match figure(price) {
            Ok(None) => return None,
            Ok(Some(price)) if price.is_zero() => return None,
            Ok(Some(price)) => number(price),
            Err(_) if is_empty => return None,
            Err(_) => Value::String(price.to_string().chars().take(LONGEST_WORD).collect()),
        };
        Some((name.chars().take(LONGEST_WORD).collect(), price))
    };
    others.filter_map(said).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::listing::of_rates;
    use serde_json::json;

    fn said(pricing: &Value) -> Result<String, String> {
        let list = json!({"data": [{"id": "a/b", "pricing": {"prompt": "0", "completion": "0"}},
            {"id": "m", "pricing": pricing}]});
        let offers = PriceList::OpenRouter.read(list.to_string().as_bytes()).unwrap();
        match &offers[1].price {
            Offered::Rates(rates, _) => Ok(Value::Object(of_rates(rates)).to_string()),
            Offered::Nothing(why) => Err(why.clone()),
        }
    }

    #[test]
    fn every_figure_becomes_ours_and_every_digit_stays() {
        let pricing = json!({"prompt": "0.00000125", "completion": "0.00001", "request": "0.005",
            "image": "0.0012", "web_search": "0.01", "internal_reasoning": "0.000003",
            "input_cache_read": "0.000000125", "input_cache_write": "0.0000000833333",
            "input_cache_write_1h": "0.000002", "audio": "0.0000007", "audio_output": "0",
            "input_audio_cache": "7e-8", "image_token": 0.000_004, "image_output": "0.00003",
            "discount": 0, "whatever": "7"});
        assert_eq!(
            said(&pricing).unwrap(),
            r#"{"input":1.25,"output":10,"cached_input":0.125,"cache_write":0.0833333,"cache_write_1h":2,"reasoning":3,"audio_input":0.7,"cached_audio_input":0.07,"image_input":4,"image_output":30,"per_1k_requests":5,"per_1k_web_searches":10}"#
        );
        let discounted = json!({"prompt": "0.000002", "completion": "0.000004", "discount": 0.25});
        assert_eq!(said(&discounted).unwrap(), r#"{"input":1.5,"output":3}"#);
    }

    #[test]
    fn what_costs_besides_is_named() {
        let left_out = |more: Value| {
            let mut pricing = json!({"prompt": "0.1", "completion": "0.2"});
            pricing.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (_, left_out) = rates(&pricing).unwrap();
            Value::Object(left_out).to_string()
        };
        assert_eq!(left_out(json!({"image": "0", "discount": 0.5, "video": null, "x": " "})), "{}");
        assert_eq!(left_out(json!({"overrides": [], "y": {}, "request": "0.1"})), "{}");
        assert_eq!(
            left_out(json!({"image": "0.0012", "clip": 1, "image_output": "0.04", "z": -1})),
            r#"{"image":0.0012,"clip":1,"z":-1,"image_output":0.04}"#
        );
        let long = left_out(json!({"overrides": [{"min_prompt_tokens": 200_000, "prompt": "9"}]}));
        assert_eq!(long, r#"{"overrides":"[{\"min_prompt_tokens\":200000,\"prompt\":\"9\"}]"}"#);
        assert!(left_out(json!({"a".repeat(9_000): ["b".repeat(9_000)]})).len() < 200);
    }

    #[test]
    fn what_is_no_price_is_not_guessed() {
        for (pricing, why) in [
            (json!({"prompt": "-1", "completion": "-1"}), "varies"),
            (json!({"prompt": "0.1"}), "no `completion`"),
            (
                json!({"prompt": "0", "completion": "0", "image": "0.04"}),
                "calls do not tell: image",
            ),
            (json!({"prompt": "free", "completion": "0"}), "`free` is no price"),
            (json!({"prompt": ["0"], "completion": "0"}), "no price"),
            (json!({"prompt": "1e20", "completion": "0"}), "its `prompt`"),
            (json!({"prompt": "1e-27", "completion": "0"}), "its `prompt`"),
            (json!({"prompt": "0.1", "completion": "0.1", "discount": 2}), "discount"),
            (json!(null), "no `prompt`"),
        ] {
            let found = said(&pricing).unwrap_err();
            assert!(found.contains(why), "{pricing}: {found}");
        }
        for list in ["", "[]", "{}", r#"{"data": []}"#, r#"{"data": [{"id": "a"}]}"#] {
            assert!(PriceList::OpenRouter.read(list.as_bytes()).is_err(), "{list}");
        }
    }
}
