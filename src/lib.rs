//! tokenmeter: a transparent reverse proxy for LLM APIs that meters, prices and records every call.
//!
//! The rooms, lower ones first; a room never names one that stands after it:
//!
//! | room | owns |
//! | --- | --- |
//! | [`units`], [`secret`] | exact dollars, timestamps; keys with a blind `Debug` |
//! | [`usage`] | the normalised token classes of one call |
//! | [`pricing`] | the price table: which entry applies, what a usage costs |
//! | [`record`] | tags, outcome, and the row that a call becomes |
//! | [`ledger`] | the journal, the database fed from it, and the questions asked of it |
//! | [`config`] | file, environment and flags made into one checked `Config` |

pub mod config;
pub mod framing;
pub mod ledger;
pub mod pricing;
pub mod provider;
pub mod record;
pub mod secret;
pub mod units;
pub mod usage;
