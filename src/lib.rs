//! tokenmeter: a transparent reverse proxy for LLM APIs that meters, prices and records every call.
//!
//! The rooms, lower ones first; a room never names one that stands after it:
//!
//! | room | owns |
//! | --- | --- |
//! | [`units`], [`secret`], [`nearest`], [`trace`] | exact dollars, timestamps; keys with a blind `Debug`; the word that was meant; a place in a trace |
//! | [`fingerprint`] | what stands for a client's key: a keyed hash, short |
//! | [`usage`] | the normalised token classes of one call |
//! | [`figures`] | figures as people read them; what a month will come to |
//! | [`framing`] | bytes into documents: JSON, events, lines, content encodings |
//! | [`provider`] | what providers send: endpoints, dialects, what their figures mean |
//! | [`estimate`] | token counts of what nobody counted: text, chats, tools, images |
//! | [`pricing`] | the price table: which entry applies, what a usage costs |
//! | [`record`] | tags, outcome, and the row that a call becomes |
//! | [`ledger`] | the journal, the database fed from it, and the questions asked of it |
//! | [`archive`] | records as files and back: CSV and JSON lines |
//! | [`report`] | a report to send on: what it says, as a page and as a PDF |
//! | [`otel`] | what observability backends hear of calls: OTLP spans and metrics, log lines |
//! | [`meter`] | what was observed becomes usage, cost, record, ledger |
//! | [`respond`] | errors of tokenmeter's own |
//! | [`proxy`] | forwarding: route, tags, headers, connections, bodies |
//! | [`admin`] | tokenmeter's own HTTP side: the admin API, its access, its page |
//! | [`config`] | file, environment and flags made into one checked `Config` |
//! | [`app`] | build, run, drain |
//! | [`demo`] | calls that nobody made, for demonstrations and measurements; the play that makes more of them |
//! | [`cli`] | one file for each command |

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod archive;
pub mod cli;
pub mod config;
pub mod demo;
pub mod estimate;
pub mod figures;
pub mod fingerprint;
pub mod framing;
pub mod ledger;
pub mod meter;
pub mod nearest;
pub mod otel;
pub mod pricing;
pub mod provider;
pub mod proxy;
pub mod record;
pub mod report;
pub mod respond;
pub mod secret;
pub mod telemetry;
pub mod trace;
pub mod units;
pub mod usage;
