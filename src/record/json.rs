//! A record as JSON, for the journal: the text that `serde_json` would write, put together member by member.
//! Two of these are written for every call, while its answer waits; a serialiser that asks each value
//! what it is takes four times as long.
//!
//! Invariant: byte for byte what `serde_json::to_vec` gives.

use std::io::Write as _;

use serde::Serialize;

use super::Record;
use crate::framing::quote;
use crate::units::{Timestamp, Usd};

/// Appends a record.
///
/// # Errors
///
/// When a part that callers made cannot be JSON, which none can be.
pub fn write(record: &Record, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut to = Members { out };
    to.out.extend_from_slice(b"{\"id\":\"");
    let mut id = uuid::Uuid::encode_buffer();
    to.out.extend_from_slice(record.id.0.hyphenated().encode_lower(&mut id).as_bytes());
    to.out.extend_from_slice(b"\",\"created_at\":\"");
    to.moment(record.created_at);
    to.out.push(b'"');
    to.text(r#","upstream":"#, &record.upstream);
    to.text(r#","provider":"#, &record.provider);
    to.text(r#","endpoint":"#, &record.endpoint);
    to.text(r#","method":"#, &record.method);
    to.text(r#","path":"#, &record.path);
    to.maybe_text(r#","model_requested":"#, record.model_requested.as_ref());
    to.maybe_text(r#","model":"#, record.model.as_ref());
    to.maybe_text(r#","user":"#, record.user.as_ref());
    to.maybe_text(r#","session":"#, record.session.as_ref());
    to.maybe_text(r#","operation":"#, record.operation.as_ref());
    to.number(r#","attempt":"#, record.attempt);
    to.other(r#","metadata":"#, record.metadata.as_ref())?;
    to.maybe_text(r#","key_id":"#, record.key_id.as_ref());
    to.maybe_text(r#","key_fingerprint":"#, record.key_fingerprint.as_ref());
    to.number(r#","input_tokens":"#, record.input_tokens);
    to.number(r#","cache_read_tokens":"#, record.cache_read_tokens);
    to.number(r#","cache_write_tokens":"#, record.cache_write_tokens);
    to.number(r#","audio_input_tokens":"#, record.audio_input_tokens);
    to.number(r#","image_input_tokens":"#, record.image_input_tokens);
    to.number(r#","output_tokens":"#, record.output_tokens);
    to.number(r#","reasoning_tokens":"#, record.reasoning_tokens);
    to.number(r#","audio_output_tokens":"#, record.audio_output_tokens);
    to.number(r#","image_output_tokens":"#, record.image_output_tokens);
    to.number(r#","total_tokens":"#, record.total_tokens);
    to.word(r#","usage_source":"#, record.usage_source.as_str());
    to.other(r#","estimate":"#, record.estimate.as_ref())?;
    if let Some(stream_usage) = record.stream_usage {
        to.word(r#","stream_usage":"#, stream_usage.as_str());
    }
    to.other(r#","charged_by":"#, record.charged_by.as_ref())?;
    to.other(r#","charges":"#, Some(&record.charges).filter(|charges| !charges.is_empty()))?;
    to.other(r#","trace":"#, record.trace.as_ref())?;
    if let Some(usage) = &record.usage_json {
        to.raw(r#","usage_json":"#, usage.get().as_bytes());
    }
    to.usd(r#","cost_usd":"#, record.cost_usd);
    to.word(r#","cost_source":"#, record.cost_source.as_str());
    to.usd(r#","computed_cost_usd":"#, record.computed_cost_usd);
    to.maybe_text(r#","price_id":"#, record.price_id.as_ref());
    to.number(r#","status":"#, record.status);
    to.raw(r#","streaming":"#, if record.streaming { b"true" } else { b"false" });
    to.maybe_text(r#","finish_reason":"#, record.finish_reason.as_ref());
    to.word(r#","outcome":"#, record.outcome.as_str());
    to.maybe_text(r#","error":"#, record.error.as_ref());
    to.number(r#","retry":"#, record.retry);
    to.maybe_text(r#","upstream_request_id":"#, record.upstream_request_id.as_ref());
    to.maybe_text(r#","service_tier":"#, record.service_tier.as_ref());
    to.number(r#","duration_ms":"#, record.duration_ms);
    to.number(r#","time_to_first_byte_ms":"#, record.time_to_first_byte_ms);
    to.number(r#","time_to_first_token_ms":"#, record.time_to_first_token_ms);
    to.out.push(b'}');
    Ok(())
}

/// Appends members, each with the text before its value.
struct Members<'a> {
    out: &'a mut Vec<u8>,
}

impl Members<'_> {
    fn raw(&mut self, before: &str, value: &[u8]) {
        self.out.extend_from_slice(before.as_bytes());
        self.out.extend_from_slice(value);
    }

    /// One of our own words, which need no escapes.
    fn word(&mut self, before: &str, word: &str) {
        self.out.extend_from_slice(before.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    fn maybe_text(&mut self, before: &str, text: Option<&String>) {
        if let Some(text) = text {
            self.text(before, text);
        }
    }

    fn text(&mut self, before: &str, text: &str) {
        self.out.extend_from_slice(before.as_bytes());
        quote(text, self.out);
    }

    fn number(&mut self, before: &str, number: Option<impl itoa::Integer>) {
        if let Some(number) = number {
            self.raw(before, itoa::Buffer::new().format(number).as_bytes());
        }
    }

    fn other(&mut self, before: &str, value: Option<&impl Serialize>) -> serde_json::Result<()> {
        let Some(value) = value else { return Ok(()) };
        self.out.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut *self.out, value)
    }

    fn usd(&mut self, before: &str, amount: Option<Usd>) {
        let Some(amount) = amount else { return };
        self.out.extend_from_slice(before.as_bytes());
        let decimal = amount.decimal();
        let (mantissa, scale) = (u64::try_from(decimal.mantissa()), decimal.scale() as usize);
        let Ok(mantissa) = mantissa else { return self.display(format_args!("{amount}")) };
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(mantissa).as_bytes();
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        self.out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
        if scale > 0 {
            self.out.push(b'.');
            self.out.resize(self.out.len() + (scale - fraction.len()), b'0');
            self.out.extend_from_slice(fraction);
        }
    }

    /// As RFC 3339 has it, to the millisecond.
    fn moment(&mut self, moment: Timestamp) {
        const DAY_MS: i64 = 86_400_000;
        let (day, of_day) =
            (moment.millis().div_euclid(DAY_MS), moment.millis().rem_euclid(DAY_MS));
        let date = jiff::Timestamp::from_second(day.saturating_mul(DAY_MS / 1000))
            .ok()
            .filter(|_| moment.calendar().as_millisecond() == moment.millis())
            .map(|midnight| jiff::tz::TimeZone::UTC.to_datetime(midnight).date())
            .filter(|date| date.year() >= 0);
        let Some(date) = date else { return self.display(format_args!("{moment}")) };
        // All are within two digits, or four.
        let number = |figure: i64| u32::try_from(figure).unwrap_or_default();
        self.padded(number(date.year().into()), 4);
        self.out.push(b'-');
        self.padded(number(date.month().into()), 2);
        self.out.push(b'-');
        self.padded(number(date.day().into()), 2);
        self.out.push(b'T');
        self.padded(number(of_day / 3_600_000), 2);
        self.out.push(b':');
        self.padded(number(of_day / 60_000 % 60), 2);
        self.out.push(b':');
        self.padded(number(of_day / 1000 % 60), 2);
        self.out.push(b'.');
        self.padded(number(of_day % 1000), 3);
        self.out.push(b'Z');
    }

    fn padded(&mut self, mut number: u32, width: usize) {
        let mut digits = [b'0'; 4];
        for digit in digits[..width].iter_mut().rev() {
            *digit = b"0123456789"[number as usize % 10];
            number /= 10;
        }
        self.out.extend_from_slice(&digits[..width]);
    }

    fn display(&mut self, what: std::fmt::Arguments<'_>) {
        // Nothing that is written into memory fails.
        let _ = self.out.write_fmt(what);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::record;
    use super::*;
    use crate::record::{Charge, EstimateNote, EstimatedSide, Outcome, StreamUsage};
    use crate::usage::Usage;

    fn written(record: &Record) -> String {
        let mut out = Vec::new();
        write(record, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn check(record: &Record) {
        assert_eq!(written(record), serde_json::to_string(record).unwrap());
    }

    #[test]
    fn every_member_is_written_as_the_library_writes_it() {
        let mut full = record();
        let side = EstimatedSide { method: crate::estimate::Method::Bytes, error: 0.25 };
        full.estimate =
            Some(EstimateNote { input: Some(side), error_tokens: 7, ..EstimateNote::default() });
        full.usage_json = serde_json::from_str("{\n \"a\": 1.50}").unwrap();
        let charge = Charge {
            key: "k\"".into(),
            fetched: true,
            usage: Usage::default(),
            cost_usd: full.cost_usd,
        };
        full.charges.push(charge);
        full.trace = crate::trace::TraceContext::read(
            [&b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"[..]].into_iter(),
            [&b"a=b"[..]].into_iter(),
        );
        assert!(full.trace.is_some());
        let members = serde_json::to_value(&full).unwrap();
        assert_eq!(members.as_object().unwrap().len(), 48, "{members}");
        check(&full);
        full.streaming = false;
        full.stream_usage = Some(StreamUsage::Injected);
        check(&full);
        let bare = Record {
            outcome: Outcome::Interrupted,
            ..serde_json::from_str(
                r#"{"id":"0193543a-0000-7000-8000-000000000001","created_at":"2026-11-22T12:00:00.000Z",
                "upstream":"u","provider":"p","endpoint":"e","method":"GET","path":"/","usage_source":"none",
                "cost_source":"free","streaming":false,"outcome":"completed"}"#,
            )
            .unwrap()
        };
        check(&bare);
    }

    proptest! {
        #[test]
        fn texts_money_and_times_are_written_as_the_library_writes_them(
            text in any::<String>(),
            ascii in "[\\x00-\\x7f]{0,20}",
            millis in prop_oneof![any::<i64>(), -70_000_000_000_000_i64..300_000_000_000_000, 0..4_000_000_000_000_i64],
            nanos in any::<i64>(),
            scale in 0..28_u32,
            count in any::<u64>(),
        ) {
            let record = Record {
                user: Some(text),
                path: ascii,
                created_at: Timestamp::from_millis(millis),
                cost_usd: Some(Usd::from_nanos(nanos)),
                computed_cost_usd: Some(Usd::new(rust_decimal::Decimal::new(nanos, scale))),
                input_tokens: Some(count),
                ..record()
            };
            check(&record);
        }
    }
}
