//! What a crash or somebody's editor left in the journal: the ledger opens, takes what is whole, once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenmeter::ledger::{Ledger, Settings};

fuzz_target!(|data: &[u8]| {
    let home = tempfile::tempdir().expect("a folder");
    let database = home.path().join("t.db");
    let journal = home.path().join("journal");
    std::fs::create_dir(&journal).expect("a folder");
    std::fs::write(journal.join("2026-01-01.jsonl"), data).expect("a file");
    let rows = |ledger: &Ledger| {
        ledger.sync(std::time::Duration::from_secs(20));
        ledger.health().rows
    };
    let ledger = Ledger::open(&Settings::of(&database)).expect("a ledger");
    rows(&ledger);
    drop(ledger);
    let again = Ledger::open(&Settings::of(&database)).expect("the same ledger");
    assert_eq!(rows(&again), 0, "nothing is taken twice");
});
