//! The integration tests, a file per theme.

// Every line here belongs to a test, where to unwrap is to assert.
#![allow(clippy::unwrap_used)]

mod access;
mod agree;
mod bombs;
mod broken;
mod collector;
mod corpus;
mod crash;
mod dashboard;
mod demo;
mod demonstration;
mod deploy;
mod doctor;
mod endings;
mod estimates;
mod faults;
mod floods;
mod health;
mod history;
mod house;
mod http2;
mod injection;
mod laws;
mod leaving;
mod lifecycle;
mod listener_tls;
mod logs;
mod metrics;
mod openapi;
mod otel;
mod overload;
mod price_tables;
mod prices;
mod readings;
mod recovery;
mod refusing;
mod replay;
mod report;
mod reprice;
mod resting;
mod rig;
mod secrets;
mod sessions;
mod siege;
mod slow;
mod smuggling;
mod support;
mod terminal;
mod tls;
mod trial;
mod tunnel;
mod unreported;
mod wire;
