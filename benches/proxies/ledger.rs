//! What tokenmeter's ledger says of itself, asked over its admin API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::Tally;
use crate::targets::ADMIN_TOKEN;

/// So often it is asked whether it has caught up. Each question is work that counts as tokenmeter's, so
/// they are few.
const INTERVAL: Duration = Duration::from_millis(25);

/// A ledger that is behind for so long is stuck.
const LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(crate) struct Ledger {
    address: String,
}

/// What its rows add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Totals {
    pub(crate) fn since(self, before: Totals) -> Totals {
        Totals {
            calls: self.calls - before.calls,
            input_tokens: self.input_tokens - before.input_tokens,
            output_tokens: self.output_tokens - before.output_tokens,
        }
    }

    pub(crate) fn add(&mut self, tally: &Tally) {
        self.calls += tally.calls;
        self.input_tokens += tally.input_tokens;
        self.output_tokens += tally.output_tokens;
    }
}

impl Ledger {
    pub(crate) fn new(address: &str) -> Ledger {
        Ledger { address: address.to_owned() }
    }

    /// Waits until the database has every call that has ended.
    pub(crate) fn catch_up(&self) {
        let started = Instant::now();
        loop {
            thread::sleep(INTERVAL);
            let page = self.ask("/metrics");
            let lag =
                page.lines().find_map(|line| line.strip_prefix("tokenmeter_journal_lag_bytes "));
            if lag.expect("a figure of the journal") == "0" {
                return;
            }
            assert!(started.elapsed() < LONGEST, "the ledger does not catch up");
        }
    }

    /// All rows there are.
    pub(crate) fn totals(&self) -> Totals {
        let page = self.ask("/admin/stats?days=2");
        let answer: Value = serde_json::from_str(&page).expect("JSON");
        let of = |name: &str| {
            let value = &answer["totals"][name];
            value.as_u64().unwrap_or_else(|| panic!("no {name} in {page}"))
        };
        Totals {
            calls: of("requests"),
            input_tokens: of("input_tokens"),
            output_tokens: of("output_tokens"),
        }
    }

    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("tokenmeter listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
             Connection: close\r\n\r\n"
        );
        let mut answer = String::new();
        let asked = stream.write_all(request.as_bytes());
        asked.and_then(|()| stream.read_to_string(&mut answer)).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        body.to_owned()
    }
}
