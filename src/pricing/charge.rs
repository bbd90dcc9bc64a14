//! From a usage and the rates that hold to dollars. Owns how the token classes divide into parts
//! that are charged once each; knows neither names nor the price table.
//!
//! Invariant: the input parts never add up to more than the input, nor the output parts to more
//! than the output, whatever a provider reports.

use rust_decimal::Decimal;

use super::CostPart;
use super::rates::{Rate, RateCard};
use crate::units::Usd;
use crate::usage::Usage;

const MS_PER_HOUR: u64 = 3_600_000;

/// The parts of a call's cost, or `None` where the usage does not tell what the rates charge for.
/// A part without a quantity is left out.
pub(super) fn charge(
    card: &RateCard,
    usage: &Usage,
    multiplier: Option<Decimal>,
) -> Option<Vec<CostPart>> {
    if usage.is_empty() {
        return None;
    }
    let mut bill = Bill { card, multiplier, parts: Vec::with_capacity(4), unpriced: false };
    let tokens = Tokens::of(usage);
    let by_time = usage.audio_input_ms.filter(|_| card.get(Rate::AudioHours).is_some());
    if let Some(tokens) = &tokens {
        bill.input(tokens.input, usage, by_time.is_some());
        bill.output(tokens.output, usage);
    }
    if let Some(heard) = by_time {
        bill.audio_time(heard);
    }
    bill.add("web_searches", usage.web_searches.unwrap_or(0), Rate::WebSearches);
    bill.add("requests", 1, Rate::Requests);
    let measured = if has_token_rate(card) {
        tokens.is_some() || by_time.is_some()
    } else {
        by_time.is_some() || counts_calls(card, usage)
    };
    // What has no rate is free only where no other unit could be the one that is charged.
    let complete = !bill.unpriced || card.get(Rate::Uncounted).is_none();
    (measured && complete).then_some(bill.parts)
}

fn has_token_rate(card: &RateCard) -> bool {
    [Rate::Input, Rate::Output, Rate::AudioInput, Rate::ImageInput, Rate::ImageOutput]
        .iter()
        .any(|&rate| card.get(rate).is_some())
}

fn counts_calls(card: &RateCard, usage: &Usage) -> bool {
    card.get(Rate::Requests).is_some()
        || (card.get(Rate::WebSearches).is_some() && usage.web_searches.is_some())
}

/// The two totals, as far as they are told.
struct Tokens {
    input: u64,
    output: u64,
}

impl Tokens {
    /// `None` when no token was counted. A total alone is input (rerank, embeddings); a missing side
    /// is what the total leaves for it, or else what its parts add up to.
    fn of(usage: &Usage) -> Option<Tokens> {
        let sum =
            |parts: &[Option<u64>]| parts.iter().flatten().copied().reduce(u64::saturating_add);
        let input_parts = sum(&[
            usage.cache_read,
            usage.cache_write.max(usage.cache_write_1h),
            usage.audio_input,
            usage.image_input,
            usage.video_input,
        ]);
        let output_parts = sum(&[usage.reasoning, usage.audio_output, usage.image_output]);
        let left = |other: Option<u64>| Some(usage.total?.saturating_sub(other?));
        let input = usage.input.or_else(|| left(usage.output)).or(input_parts);
        let output = usage.output.or_else(|| left(usage.input)).or(output_parts);
        match (input, output, usage.total) {
            (None, None, total) => Some(Tokens { input: total?, output: 0 }),
            (input, output, _) => {
                Some(Tokens { input: input.unwrap_or(0), output: output.unwrap_or(0) })
            }
        }
    }
}

struct Bill<'a> {
    card: &'a RateCard,
    multiplier: Option<Decimal>,
    parts: Vec<CostPart>,
    /// Something was used that has no rate.
    unpriced: bool,
}

impl Bill<'_> {
    /// Divides the input: read from cache, written to it, heard, seen, and the rest. Where the parts
    /// claim more than there is (`OpenRouter` reports tokens as both written and read), the earlier
    /// ones keep their share.
    fn input(&mut self, input: u64, usage: &Usage, audio_by_time: bool) {
        let known = |class: Option<u64>| class.unwrap_or(0);
        let mut left = Share(input);

        let mut cached = Share(left.take(known(usage.cache_read)));
        let cached_audio = cached.take(known(usage.cache_read_audio));
        let cached_image = cached.take(known(usage.cache_read_image));
        self.add("cached_audio_input", cached_audio, Rate::CachedAudioInput);
        self.add("cached_image_input", cached_image, Rate::CachedImageInput);
        self.add("cached_input", cached.0, Rate::CachedInput);

        let mut written =
            Share(left.take(known(usage.cache_write).max(known(usage.cache_write_1h))));
        let hour = written.take(known(usage.cache_write_1h));
        self.add("cache_write_1h", hour, Rate::CacheWrite1h);
        self.add("cache_write", written.0, Rate::CacheWrite);

        let audio = left.take(known(usage.audio_input).saturating_sub(cached_audio));
        if !audio_by_time {
            self.add("audio_input", audio, Rate::AudioInput);
        }
        let image = left.take(known(usage.image_input).saturating_sub(cached_image));
        self.add("image_input", image, Rate::ImageInput);
        let video = left.take(known(usage.video_input));
        self.add("video_input", video, Rate::VideoInput);
        self.add("input", left.0, Rate::Input);
    }

    /// Divides the output: heard, seen, thought (only where that has a rate), and the rest.
    fn output(&mut self, output: u64, usage: &Usage) {
        let mut left = Share(output);
        let audio = left.take(usage.audio_output.unwrap_or(0));
        self.add("audio_output", audio, Rate::AudioOutput);
        let image = left.take(usage.image_output.unwrap_or(0));
        self.add("image_output", image, Rate::ImageOutput);
        if self.card.get(Rate::Reasoning).is_some() {
            let reasoning = left.take(usage.reasoning.unwrap_or(0));
            self.add("reasoning", reasoning, Rate::Reasoning);
        }
        self.add("output", left.0, Rate::Output);
    }

    fn audio_time(&mut self, heard_ms: u64) {
        let ms = if heard_ms == 0 { 0 } else { heard_ms.max(self.card.min_audio_ms) };
        if let Some(hourly) = self.card.get(Rate::AudioHours) {
            let usd = times(hourly, ms) / Decimal::from(MS_PER_HOUR);
            self.push("audio_ms", ms, usd);
        }
    }

    /// Charges a quantity at its rate, or at the first of its parents' that the card has.
    fn add(&mut self, class: &'static str, quantity: u64, rate: Rate) {
        if quantity == 0 {
            return;
        }
        let mut rates = std::iter::once(&rate).chain(rate.parents());
        match rates.find_map(|&rate| self.card.get(rate)) {
            Some(price) => self.push(class, quantity, times(price, quantity)),
            None => self.unpriced |= !matches!(class, "requests" | "web_searches"),
        }
    }

    fn push(&mut self, class: &'static str, quantity: u64, usd: Decimal) {
        let usd = self
            .multiplier
            .map_or(usd, |multiplier| usd.checked_mul(multiplier).unwrap_or(Decimal::MAX));
        if quantity > 0 {
            self.parts.push(CostPart { class, quantity, usd: Usd::new(usd) });
        }
    }
}

fn times(price: Decimal, quantity: u64) -> Decimal {
    price.checked_mul(Decimal::from(quantity)).unwrap_or(Decimal::MAX)
}

/// What is still to be shared out.
struct Share(u64);

impl Share {
    fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.0);
        self.0 -= taken;
        taken
    }
}
