//! Price tables: one of any content is taken or refused in words, and prices whatever it is asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenmeter::pricing::{Billable, PriceBook};
use tokenmeter::units::Timestamp;
use tokenmeter::usage::Usage;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let book = match PriceBook::parse(text) {
        Ok(book) => book,
        Err(errors) => return assert!(!errors.to_string().is_empty()),
    };
    for (provider, model) in [("openai", "gpt-4o"), ("a", "m"), ("any", ""), ("azure", "x/y:z")] {
        for tokens in [0, 1, 300_000, u64::MAX] {
            let usage = Usage {
                input: Some(tokens),
                cache_read: Some(tokens / 2),
                output: Some(tokens),
                ..Usage::default()
            };
            let call = Billable {
                provider,
                model: Some(model),
                at: Timestamp::now(),
                service_tier: Some("flex"),
                batch: tokens == 1,
                usage: &usage,
                several_turns: false,
                side: &[],
                reported: None,
            };
            let _ = book.price(&call);
        }
    }
});
