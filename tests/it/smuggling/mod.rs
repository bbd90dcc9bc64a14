//! Requests that two readers could read differently: whatever comes in, what goes up is one message that
//! can be read in one way only, or nothing.

pub(crate) mod cases;
pub(crate) mod strict;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::rig::{Proxy, Settings, bytes_of};
use cases::Fate::{self, NeverWhole, Passes, Refused};
use cases::{chunks, framings, hosts, lengths, lines};
use strict::{Seen, Strict};

/// Sends a request and gives what the client heard until the end, and what the provider saw.
fn outcome(text: &str) -> (String, Vec<Seen>) {
    thread_local!(static PAIR: (Strict, Proxy) = {
        let strict = Strict::new();
        let quick = "timeouts.request_head = \"150ms\"\ntimeouts.keep_alive = \"150ms\"\ntimeouts.idle = \"300ms\"\n";
        let proxy = Settings::to(format!("http://{}", strict.address)).with(quick).start();
        (strict, proxy)
    });
    PAIR.with(|(strict, proxy)| {
        let mut client = proxy.connect();
        client.send_all_or_fail(&bytes_of(text));
        let heard = client.rest();
        (heard, strict.take())
    })
}

fn judge(text: &str, fate: Fate) -> Result<(), String> {
    let (heard, seen) = outcome(text);
    let wrong =
        |why: &str| Err(format!("{why} ({fate:?}): {text:?}\n  heard {heard:?}\n  seen {seen:?}"));
    if seen.iter().any(|seen| matches!(seen, Seen::Ambiguous(_))) {
        return wrong("ambiguous");
    }
    let whole: Vec<&str> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Request { target, .. } if target == "/hidden" => Some("(hidden)"),
            Seen::Request { body, .. } => Some(body.as_str()),
            _ => None,
        })
        .collect();
    let status = heard.split(' ').nth(1).unwrap_or_default();
    match fate {
        Passes(body) if whole == [body] && status == "200" => Ok(()),
        Passes(_) => wrong("does not pass"),
        Refused if !seen.is_empty() => wrong("is seen"),
        Refused if !status.starts_with('4') && !status.starts_with('5') => wrong("is not refused"),
        NeverWhole if !whole.is_empty() => wrong("is whole"),
        NeverWhole if status.starts_with('2') => wrong("is answered"),
        _ => Ok(()),
    }
}

/// Judges all cases, several at a time.
fn judge_all(cases: Vec<(String, Fate)>) {
    let (send, faults) = mpsc::channel();
    let cases = Arc::new(Mutex::new(cases));
    let judging: Vec<_> = (0..8)
        .map(|_| {
            let (send, cases) = (send.clone(), Arc::clone(&cases));
            thread::spawn(move || {
                loop {
                    let Some((text, fate)) = cases.lock().unwrap().pop() else { return };
                    if let Err(fault) = judge(&text, fate) {
                        send.send(fault).unwrap();
                    }
                }
            })
        })
        .collect();
    drop(send);
    let faults: Vec<String> = faults.iter().collect();
    for one in judging {
        one.join().unwrap();
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_body_has_one_length_or_none_goes_up() {
    judge_all(framings());
    judge_all(lengths());
}

#[test]
fn chunks_are_chunks_or_no_message_goes_up() {
    judge_all(chunks());
}

#[test]
fn lines_are_lines_or_nothing_goes_up() {
    judge_all(lines());
}

#[test]
fn a_host_is_one_and_leads_nowhere() {
    judge_all(hosts());
}
