//! What a recorded call costs by today's price table. Owns what of a call can be told from its row
//! alone, and which rows are left as they are because it cannot; the prices are those of the price
//! table, and how a call is priced is `charging`'s.
//!
//! Invariant: a row that was priced by the same table comes out as it is. A figure that could only
//! become worse is not touched.

use std::fmt;

use crate::framing::Value;

use super::charging::{self, FETCHED_AGAIN, REPEATS};
use crate::pricing::{CostSource, PriceBook, entry_name};
use crate::provider::{PathFacts, Reading, read_again, tells_more_than_columns};
use crate::record::{Outcome, Record, RowCost};
use crate::units::Timestamp;
use crate::usage::{Usage, UsageSource};

/// How long after its end a call's estimate may still be made, and the row amended with it. Far more
/// than it takes.
const ESTIMATE_MS: u64 = 60_000;

/// The status of a session over a WebSocket.
const SESSION: u16 = 101;

/// What recorded calls are priced by.
#[derive(Clone, Copy)]
pub struct Repricing<'a> {
    pub prices: &'a PriceBook,
    /// The model that the configuration names for an upstream's deployment.
    pub deployed: &'a dyn Fn(&str, &str) -> Option<String>,
    pub now: Timestamp,
}

impl fmt::Debug for Repricing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repricing").field("prices", self.prices).finish_non_exhaustive()
    }
}

/// Why a row is left as it is without having been priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftAlone {
    /// Another call is charged for it.
    ChargedElsewhere,
    /// The results of a batch: the row has their sum, and each was priced by itself.
    Batch,
    /// Nothing that could be priced is known of the call.
    NoUsage,
    /// The usage object says something that no column holds, and cannot be read as the columns say.
    Unlike,
    /// Its estimate may be amended any moment.
    Fresh,
}

impl LeftAlone {
    pub const ALL: [LeftAlone; 5] = [
        LeftAlone::ChargedElsewhere,
        LeftAlone::Batch,
        LeftAlone::NoUsage,
        LeftAlone::Unlike,
        LeftAlone::Fresh,
    ];

    /// For machines.
    pub fn as_str(self) -> &'static str {
        match self {
            LeftAlone::ChargedElsewhere => "charged_elsewhere",
            LeftAlone::Batch => "batch",
            LeftAlone::NoUsage => "no_usage",
            LeftAlone::Unlike => "unlike_usage_json",
            LeftAlone::Fresh => "just_estimated",
        }
    }

    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            LeftAlone::ChargedElsewhere => "charged to another call",
            LeftAlone::Batch => "results of a batch, whose lines were priced one by one",
            LeftAlone::NoUsage => "no usage is known",
            LeftAlone::Unlike => "the figures are not those of the usage object",
            LeftAlone::Fresh => "estimated within the last minute, may still be amended",
        }
    }
}

impl Repricing<'_> {
    /// What a row says of its cost if it is priced today, by the prices of its own date.
    pub fn cost(&self, record: &Record) -> Result<RowCost, LeftAlone> {
        if record.charged_by.is_some() {
            return Err(LeftAlone::ChargedElsewhere);
        }
        if is_batch(record) {
            return Err(LeftAlone::Batch);
        }
        if record.usage_source == UsageSource::Estimated && self.is_fresh(record) {
            return Err(LeftAlone::Fresh);
        }
        let reading = read(record)?;
        let behind = self.behind(record);
        let usage = &reading.usage;
        let cost = charging::price(self.prices, record, &reading, usage, behind.as_deref());
        let mut priced = charging::row_cost(cost);
        // What the provider said is never given up for something computed.
        if record.cost_source == CostSource::Provider {
            (priced.cost_usd, priced.cost_source) = (record.cost_usd, CostSource::Provider);
        }
        if record.usage_source == UsageSource::None && !is_about_free(record, &priced) {
            return Err(LeftAlone::NoUsage);
        }
        Ok(priced)
    }

    fn is_fresh(&self, record: &Record) -> bool {
        let lasted = record.duration_ms.unwrap_or_default().saturating_add(ESTIMATE_MS);
        let until = record.created_at.millis().saturating_add_unsigned(lasted);
        until > self.now.millis()
    }

    /// The model behind a deployment, as the call was priced by it: what the configuration says, else the
    /// name of the price that applied, else the deployment's own.
    fn behind(&self, record: &Record) -> Option<String> {
        let deployment = match record.endpoint.as_str() {
            // The query, where the deployment stood, is not in the row; its model is.
            "realtime" => {
                PathFacts::of(&record.path).deployment.or_else(|| record.model_requested.clone())
            }
            // A transcription within a session, by another model.
            "audio.transcriptions" if record.status == Some(SESSION) => None,
            _ => PathFacts::of(&record.path).deployment,
        }?;
        let before = || entry_name(record.price_id.as_deref()?).map(str::to_owned);
        let configured = (self.deployed)(&record.upstream, &deployment);
        configured.or_else(before).or(Some(deployment))
    }
}

/// True for the results of a batch. They are fetched, and nothing else that is fetched has a usage of
/// its own, but for what has an endpoint that says so.
fn is_batch(record: &Record) -> bool {
    let is_fetched = record.method == "GET" && record.status != Some(SESSION);
    let endpoint = record.endpoint.as_str();
    let has_usage = record.usage_source != UsageSource::None;
    let is_known = FETCHED_AGAIN.contains(&endpoint) || endpoint == REPEATS;
    is_fetched && has_usage && !is_known
}

/// True if all that can be said of a call without usage is whether it was free. One that was cut off
/// or refused by tokenmeter was never priced.
fn is_about_free(record: &Record, priced: &RowCost) -> bool {
    let was_priced = !matches!(record.outcome, Outcome::Interrupted | Outcome::Refused);
    let is_free = [record.cost_source, priced.cost_source].contains(&CostSource::Free);
    was_priced && is_free && record.endpoint != REPEATS
}

/// What the usage object says where the row's columns say the same, with the columns' own figures where
/// they were estimated; else what the columns say, if the object has nothing to add.
fn read(record: &Record) -> Result<Reading, LeftAlone> {
    let mut reading = match &record.usage_json {
        None => Reading::default(),
        Some(raw) => {
            let raw = Value::parse(raw.get().as_bytes()).ok_or(LeftAlone::Unlike)?;
            match read_again(&raw, |usage| is_alike(usage, record)) {
                Some(reading) => reading,
                None if tells_more_than_columns(&raw) => return Err(LeftAlone::Unlike),
                None => Reading::default(),
            }
        }
    };
    reading.usage = with_columns(&reading.usage, record);
    reading.model.clone_from(&record.model);
    Ok(reading)
}

/// True if a usage is what the row says, but for what was estimated.
fn is_alike(usage: &Usage, record: &Record) -> bool {
    let [input, output, _] = record.estimated_figures();
    let columns = record.usage();
    let reported = Usage {
        input: if input { columns.input } else { usage.input },
        output: if output { columns.output } else { usage.output },
        total: if input || output { columns.total } else { usage.total },
        ..usage.clone()
    };
    with_columns(&reported, record) == reported
}

/// A usage with the row's figures for the classes that have a column.
fn with_columns(usage: &Usage, record: &Record) -> Usage {
    let columns = record.usage();
    Usage {
        input: columns.input,
        cache_read: columns.cache_read,
        cache_write: columns.cache_write,
        audio_input: columns.audio_input,
        image_input: columns.image_input,
        output: columns.output,
        reasoning: columns.reasoning,
        audio_output: columns.audio_output,
        image_output: columns.image_output,
        total: columns.total,
        ..usage.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::record::CallId;
    use crate::units::Usd;

    const PRICES: &str = r#"
        version = 1
        [providers.up]
        drop_suffix = false
        [prices.up]
        "m" = { input = 1, cached_input = 0.5, cache_write = 2, cache_write_1h = 4, output = 10 }
        "behind" = { input = 3, output = 3, since.2030-01-01 = { input = 5, output = 5 } }
        [prices.up."searcher"]
        input = 1
        output = 1
        per_1k_web_searches = 10
    "#;

    fn priced(record: &Record, prices: &str) -> Result<RowCost, LeftAlone> {
        let prices = PriceBook::parse(prices).unwrap_or_else(|errors| panic!("{errors}"));
        let now = Timestamp::from_millis(1_000_000_000);
        Repricing { prices: &prices, deployed: &|_, _| None, now }.cost(record)
    }

    fn record(with: &Value) -> Record {
        let mut row = json!({"id": CallId::new(), "created_at": "1970-01-02T00:00:00Z",
            "upstream": "up", "provider": "up", "endpoint": "chat.completions", "method": "POST",
            "path": "/up/v1/chat/completions", "model": "m", "usage_source": "reported",
            "cost_source": "none", "status": 200, "streaming": true, "outcome": "completed"});
        row.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        serde_json::from_str(&row.to_string()).unwrap()
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    /// An hour of cache is priced apart, and no column tells it.
    fn with_an_hour_of_cache(input: u64, more: &Value) -> Record {
        let mut row = json!({"input_tokens": input, "cache_write_tokens": 1_000_000,
            "output_tokens": 7, "total_tokens": input + 7, "usage_json": {
                "input_tokens": 0, "output_tokens": 7, "cache_creation_input_tokens": 1_000_000,
                "cache_creation": {"ephemeral_1h_input_tokens": 1_000_000}}});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record(&row)
    }

    #[test]
    fn what_has_no_column_is_priced_from_the_usage_object() {
        let row = with_an_hour_of_cache(1_000_000, &json!({}));
        let cost = priced(&row, PRICES).unwrap();
        assert_eq!(cost.cost_usd, Some(usd("4.00007")));
        assert_eq!(cost.cost_source, CostSource::Priced);
        assert_eq!(cost.price_id.as_deref(), Some("up/m"));
        let searched = record(&json!({"model": "searcher", "input_tokens": 0, "output_tokens": 0,
            "total_tokens": 0, "usage_json": {"prompt_tokens": 0, "completion_tokens": 0,
            "total_tokens": 0, "num_search_queries": 100}}));
        assert_eq!(priced(&searched, PRICES).unwrap().cost_usd, Some(usd("1")));
    }

    #[test]
    fn an_object_that_says_something_else_than_the_columns_is_not_believed() {
        let unlike = with_an_hour_of_cache(2_000_000, &json!({}));
        assert_eq!(priced(&unlike, PRICES), Err(LeftAlone::Unlike));
        // One that adds nothing to the columns does not matter.
        let plain = record(&json!({"input_tokens": 5_000_000, "output_tokens": 0,
            "total_tokens": 5_000_000, "usage_json": {"prompt_tokens": 3, "completion_tokens": 1}}));
        assert_eq!(priced(&plain, PRICES).unwrap().cost_usd, Some(usd("5")));
        let imported = Record { usage_json: None, ..plain };
        assert_eq!(priced(&imported, PRICES).unwrap().cost_usd, Some(usd("5")));
    }

    #[test]
    fn an_estimated_side_is_priced_as_the_row_says_it_and_the_reported_one_as_the_object_does() {
        let cut = with_an_hour_of_cache(
            1_000_000,
            &json!({"usage_source": "estimated", "output_tokens": 1_000_000,
                "total_tokens": 2_000_000, "estimate": {"output": {"method": "bpe", "error": 0.1},
                "error_tokens": 100_000}}),
        );
        assert_eq!(priced(&cut, PRICES).unwrap().cost_usd, Some(usd("14")));
        // The better estimate may be on its way.
        let now = Timestamp::from_millis(1_000_000_000 - 70_000);
        let fresh = Record { created_at: now, duration_ms: Some(30_000), ..cut.clone() };
        assert_eq!(priced(&fresh, PRICES), Err(LeftAlone::Fresh));
        assert!(priced(&Record { duration_ms: Some(1), ..fresh }, PRICES).is_ok());
    }

    #[test]
    fn what_the_provider_said_stays_and_only_the_computed_cost_follows_the_table() {
        let row = record(&json!({"input_tokens": 1_000_000, "cost_source": "provider",
            "cost_usd": 0.25, "computed_cost_usd": 9, "price_id": "old"}));
        for trusted in ["true", "false"] {
            let prices = PRICES.replace("drop_suffix", "trust_reported_cost = TRUST\ndrop_suffix");
            let cost = priced(&row, &prices.replace("TRUST", trusted)).unwrap();
            assert_eq!(
                (cost.cost_usd, cost.computed_cost_usd),
                (Some(usd("0.25")), Some(usd("1")))
            );
            assert_eq!(cost.cost_source, CostSource::Provider);
            assert_eq!(cost.price_id.as_deref(), Some("up/m"));
        }
        // The object states a cost that was not trusted then.
        let untrusted = record(&json!({"input_tokens": 1_000_000, "output_tokens": 0,
            "total_tokens": 1_000_000, "cost_usd": 1, "cost_source": "priced", "usage_json":
            {"prompt_tokens": 1_000_000, "completion_tokens": 0, "cost": 0.75}}));
        let distrusts = PRICES.replace("drop_suffix", "trust_reported_cost = false\ndrop_suffix");
        assert_eq!(priced(&untrusted, &distrusts).unwrap().cost_usd, Some(usd("1")));
        let cost = priced(&untrusted, PRICES).unwrap();
        assert_eq!((cost.cost_usd, cost.cost_source), (Some(usd("0.75")), CostSource::Provider));
    }

    #[test]
    fn a_deployment_is_priced_by_what_the_configuration_or_the_price_before_says() {
        let with = |more: Value| {
            let mut row = json!({"path": "/up/openai/deployments/prod/chat/completions",
                "model": "unknown", "model_requested": "m", "input_tokens": 1_000_000});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            record(&row)
        };
        let before = with(json!({"cost_source": "priced", "price_id": "up/behind@2030-01-01"}));
        assert_eq!(priced(&before, PRICES).unwrap().price_id.as_deref(), Some("up/behind"));
        let never = with(json!({}));
        assert_eq!(priced(&never, PRICES).unwrap().price_id.as_deref(), Some("up/m"));
        let prices = PriceBook::parse(PRICES).unwrap();
        let deployed = |upstream: &str, deployment: &str| {
            (upstream == "up" && deployment == "prod").then(|| "behind".to_owned())
        };
        let repricing = Repricing { prices: &prices, deployed: &deployed, now: Timestamp::now() };
        assert_eq!(repricing.cost(&never).unwrap().price_id.as_deref(), Some("up/behind"));
    }

    #[test]
    fn a_call_is_priced_by_the_prices_of_its_own_date() {
        let row = record(&json!({"model": "behind", "input_tokens": 1_000_000}));
        assert_eq!(priced(&row, PRICES).unwrap().cost_usd, Some(usd("3")));
        let later = Record { created_at: "2030-01-01T00:00:00Z".parse().unwrap(), ..row };
        let cost = priced(&later, PRICES).unwrap();
        assert_eq!(
            (cost.cost_usd, cost.price_id.as_deref()),
            (Some(usd("5")), Some("up/behind@2030-01-01"))
        );
    }

    #[test]
    fn what_cannot_be_told_from_the_row_is_left_alone() {
        let tokens = json!({"input_tokens": 1_000_000});
        let row = record(&tokens);
        let other = Record { charged_by: Some(CallId::new()), ..row.clone() };
        assert_eq!(priced(&other, PRICES), Err(LeftAlone::ChargedElsewhere));
        let get = Record { method: "GET".to_owned(), endpoint: "files".to_owned(), ..row.clone() };
        assert_eq!(priced(&get, PRICES), Err(LeftAlone::Batch));
        let polled = Record { endpoint: "responses.retrieve".to_owned(), ..get };
        assert!(priced(&polled, PRICES).is_ok());
        let unknown = record(&json!({"usage_source": "none"}));
        assert_eq!(priced(&unknown, PRICES), Err(LeftAlone::NoUsage));
    }

    #[test]
    fn of_a_call_without_usage_it_is_known_whether_it_was_free() {
        let free = PRICES.replace("drop_suffix", "free = true\ndrop_suffix");
        let unknown = record(&json!({"usage_source": "none", "model": "other"}));
        let cost = priced(&unknown, &free).unwrap();
        assert_eq!((cost.cost_usd, cost.cost_source), (Some(usd("0")), CostSource::Free));
        let mut was_free = unknown.clone();
        was_free.set_cost(cost);
        assert_eq!(priced(&was_free, PRICES).unwrap().cost_usd, None);
        for never_priced in [
            Record { outcome: Outcome::Interrupted, ..unknown.clone() },
            Record { endpoint: REPEATS.to_owned(), method: "GET".to_owned(), ..unknown },
        ] {
            assert_eq!(priced(&never_priced, &free), Err(LeftAlone::NoUsage));
        }
    }
}
