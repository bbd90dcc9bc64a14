//! What an entry of the price table holds: sets of rates in force from a date on, and the tiers and
//! windows that lie over them. Owns which rates hold for one call; knows neither names nor usage.
//!
//! Invariant: every rate is a decimal read from text, and none is negative.

use std::fmt::Write as _;

use rust_decimal::Decimal;

use crate::units::Timestamp;

/// One thing that has a price of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    Input,
    CachedInput,
    CacheWrite,
    CacheWrite1h,
    Output,
    Reasoning,
    AudioInput,
    CachedAudioInput,
    AudioOutput,
    ImageInput,
    CachedImageInput,
    ImageOutput,
    VideoInput,
    Requests,
    WebSearches,
    AudioHours,
    /// Priced by something that a usage does not count (pages, characters, pictures).
    Uncounted,
}

impl Rate {
    const COUNT: usize = Rate::Uncounted as usize + 1;

    /// At what a unit without a rate of its own is charged: the first of these that there is.
    pub(super) fn parents(self) -> &'static [Rate] {
        match self {
            Rate::CachedAudioInput => &[Rate::CachedInput, Rate::AudioInput, Rate::Input],
            Rate::CachedImageInput => &[Rate::CachedInput, Rate::ImageInput, Rate::Input],
            Rate::CacheWrite1h => &[Rate::CacheWrite, Rate::Input],
            Rate::CachedInput
            | Rate::CacheWrite
            | Rate::AudioInput
            | Rate::ImageInput
            | Rate::VideoInput => &[Rate::Input],
            Rate::Reasoning | Rate::AudioOutput | Rate::ImageOutput => &[Rate::Output],
            _ => &[],
        }
    }

    /// How many units the price in the file is for.
    pub(super) fn per(self) -> Decimal {
        match self {
            Rate::Requests | Rate::WebSearches => Decimal::ONE_THOUSAND,
            Rate::AudioHours | Rate::Uncounted => Decimal::ONE,
            _ => Decimal::from(1_000_000),
        }
    }
}

/// The keys of the file, in the order in which they are best written.
pub(super) const RATE_KEYS: &[(&str, Rate)] = &[
    ("input", Rate::Input),
    ("cached_input", Rate::CachedInput),
    ("cache_write", Rate::CacheWrite),
    ("cache_write_1h", Rate::CacheWrite1h),
    ("output", Rate::Output),
    ("reasoning", Rate::Reasoning),
    ("audio_input", Rate::AudioInput),
    ("cached_audio_input", Rate::CachedAudioInput),
    ("audio_output", Rate::AudioOutput),
    ("image_input", Rate::ImageInput),
    ("cached_image_input", Rate::CachedImageInput),
    ("image_output", Rate::ImageOutput),
    ("video_input", Rate::VideoInput),
    ("per_1k_requests", Rate::Requests),
    ("per_1k_web_searches", Rate::WebSearches),
    ("per_audio_hour", Rate::AudioHours),
    ("video_output", Rate::Uncounted),
    ("citation", Rate::Uncounted),
    ("per_1k_file_searches", Rate::Uncounted),
    ("per_1k_pages", Rate::Uncounted),
    ("per_1k_annotated_pages", Rate::Uncounted),
    ("per_1m_characters", Rate::Uncounted),
    ("per_image", Rate::Uncounted),
    ("per_input_image", Rate::Uncounted),
    ("per_clip", Rate::Uncounted),
    ("per_1m_pixels", Rate::Uncounted),
    ("per_1m_output_pixels", Rate::Uncounted),
    ("per_second", Rate::Uncounted),
    ("per_input_second", Rate::Uncounted),
    ("per_image_by", Rate::Uncounted),
];

/// One rate, as the file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Priced {
    pub(super) rate: Rate,
    /// Dollars for one unit (one hour for audio).
    pub(super) price: Decimal,
    /// Its key in the file: several share [`Rate::Uncounted`].
    pub(super) key: &'static str,
    /// Which of `per_image_by`.
    pub(super) by: Option<Box<str>>,
}

impl Priced {
    pub(super) fn new(key: &'static str, rate: Rate, in_file: Decimal) -> Priced {
        Priced { rate, price: in_file / rate.per(), key, by: None }
    }

    /// The figure that stands in the file.
    pub(super) fn in_file(&self) -> Decimal {
        (self.price * self.rate.per()).normalize()
    }
}

/// A few rates.
pub(super) type Rates = Vec<Priced>;

/// Rates that hold for the whole request when it has more input tokens than the first figure.
pub(super) type Above = Vec<(u64, Rates)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) rates: Rates,
    pub(super) above: Above,
}

/// A time of day in UTC, in milliseconds since midnight; `from` > `to` runs over midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) label: String,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Window {
    const DAY_MS: i64 = 86_400_000;

    /// Whether all of another window is in this one.
    pub(super) fn covers(&self, other: &Window) -> bool {
        let length = |from: i64, to: i64| (to - from).rem_euclid(Self::DAY_MS);
        let begins = length(self.from, other.from);
        begins + length(other.from, other.to) <= length(self.from, self.to)
    }

    fn contains(&self, at: Timestamp) -> bool {
        let time = at.millis().rem_euclid(Self::DAY_MS);
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }
}

/// All that holds from one date to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PriceSet {
    pub(super) rates: Rates,
    pub(super) above: Above,
    pub(super) tiers: Vec<Tier>,
    pub(super) daily: Vec<(Window, Rates)>,
}

/// A price set that replaces all before it from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) start: Timestamp,
    pub(super) label: String,
    pub(super) set: PriceSet,
}

#[derive(Clone, Debug, Default)]
pub(super) struct PriceEntry {
    /// `openai/gpt-4o`: the table and the name under which it stands there.
    pub(super) id: String,
    pub(super) base: PriceSet,
    /// Oldest first.
    pub(super) since: Vec<Since>,
    /// The shortest time for which audio is charged (Groq: 10 s).
    pub(super) min_audio_ms: u64,
    /// The public list that it was taken from; `None` where a person wrote it.
    pub(super) source: Option<String>,
    /// Its mark as that list left it: a person's change gives it another.
    pub(super) source_check: Option<String>,
    /// Where it stands in its file; 0 in the built-in table.
    pub(super) line: usize,
}

/// What decides, beside the entry, which rates hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    pub(super) at: Timestamp,
    /// In lower case; `None` is the list price.
    pub(super) tier: Option<&'a str>,
    /// Input tokens, cached ones included, of the one request.
    pub(super) input_tokens: u64,
}

/// The rates that hold for one call.
#[derive(Clone, Debug)]
pub(super) struct RateCard {
    rates: [Option<Decimal>; Rate::COUNT],
    /// What was applied: `openai/gpt-5.5@2026-01-01>272000+flex`.
    pub(super) id: String,
    pub(super) min_audio_ms: u64,
}

impl RateCard {
    pub(super) fn get(&self, rate: Rate) -> Option<Decimal> {
        self.rates[rate as usize]
    }

    fn lay(&mut self, rates: &Rates) {
        for priced in rates {
            self.rates[priced.rate as usize] = Some(priced.price);
        }
    }

    /// Lays every tier that the request is above, the lowest first, and names the highest.
    fn lay_above(&mut self, above: &Above, input_tokens: u64) {
        let mut reached = None;
        for (limit, rates) in above {
            if input_tokens > *limit {
                self.lay(rates);
                reached = Some(*limit);
            }
        }
        if let Some(limit) = reached
            && !self.id.contains('>')
        {
            write!(self.id, ">{limit}").expect("a String takes all text");
        }
    }
}

impl PriceEntry {
    /// The set in force at a time, and its date if it is not the first.
    pub(super) fn in_force(&self, at: Timestamp) -> (&PriceSet, Option<&Since>) {
        let current = self.since.iter().rev().find(|since| since.start <= at);
        (current.map_or(&self.base, |since| &since.set), current)
    }

    /// Whether two entries cost the same at all times, wherever they stand.
    pub(super) fn costs_as(&self, other: &PriceEntry) -> bool {
        let PriceEntry { id: _, base, since, min_audio_ms, source: _, source_check: _, line: _ } =
            self;
        *base == other.base && *since == other.since && *min_audio_ms == other.min_audio_ms
    }

    /// The rates of a call: the set in force at its time, under the window of its hour, the tier of
    /// its length and the service tier that served it, each laid over the one before.
    pub(super) fn card(&self, now: Situation<'_>) -> RateCard {
        let mut id = String::with_capacity(self.id.len() + 24);
        id.push_str(&self.id);
        let (set, current) = self.in_force(now.at);
        if let Some(since) = current {
            id.push('@');
            id.push_str(&since.label);
        }
        let mut card = RateCard { rates: [None; Rate::COUNT], id, min_audio_ms: self.min_audio_ms };
        card.lay(&set.rates);
        if let Some((window, rates)) = set.daily.iter().find(|(window, _)| window.contains(now.at))
        {
            card.lay(rates);
            card.id.push('~');
            card.id.push_str(&window.label);
        }
        card.lay_above(&set.above, now.input_tokens);
        let tier = now.tier.and_then(|name| set.tiers.iter().find(|tier| tier.name == name));
        if let Some(tier) = tier {
            card.lay(&tier.rates);
            card.lay_above(&tier.above, now.input_tokens);
            card.id.push('+');
            card.id.push_str(&tier.name);
        }
        card
    }
}
