//! What one call used, normalised across providers so that calls can be added up. Owns the meaning
//! of every token class; knows neither wire formats nor prices.
//!
//! Invariant: `None` is "the provider did not say", which is not the same as 0.

use serde::{Deserialize, Serialize};

/// The token classes of one call, in one meaning for all providers, and the countable things beside
/// tokens that providers charge for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All prompt tokens; the next eight are parts of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Tokens written to the prompt cache, whatever their lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// The part of `cache_write` that was written for one hour (Anthropic).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_input: Option<u64>,
    /// The part of `cache_read` that was audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_audio: Option<u64>,
    /// The part of `cache_read` that was images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_image: Option<u64>,

    /// All completion tokens; the next three are parts of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// A part of `output`, though some providers count it with another tokenizer, so that it can
    /// exceed `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_output: Option<u64>,

    /// `input` + `output`, or the provider's only figure where it reports nothing else (rerank,
    /// Voyage's embeddings).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,

    /// Web searches run by the provider's own tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_searches: Option<u64>,
    /// Length of the audio heard, in milliseconds, where it is charged by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input_ms: Option<u64>,
}

impl Usage {
    /// True when not a single figure is known.
    pub fn is_empty(&self) -> bool {
        *self == Usage::default()
    }

    /// Adds `other` class by class; an unknown class stays unknown only if both are unknown.
    pub fn add(&mut self, other: &Usage) {
        let pairs = [
            (&mut self.input, other.input),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.cache_write_1h, other.cache_write_1h),
            (&mut self.audio_input, other.audio_input),
            (&mut self.image_input, other.image_input),
            (&mut self.video_input, other.video_input),
            (&mut self.cache_read_audio, other.cache_read_audio),
            (&mut self.cache_read_image, other.cache_read_image),
            (&mut self.output, other.output),
            (&mut self.reasoning, other.reasoning),
            (&mut self.audio_output, other.audio_output),
            (&mut self.image_output, other.image_output),
            (&mut self.total, other.total),
            (&mut self.web_searches, other.web_searches),
            (&mut self.audio_input_ms, other.audio_input_ms),
        ];
        for (mine, theirs) in pairs {
            *mine = match (*mine, theirs) {
                (Some(a), Some(b)) => Some(a.saturating_add(b)),
                (known, None) | (None, known) => known,
            };
        }
    }
}

/// Where the figures of a call come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported them.
    Reported,
    /// tokenmeter estimated them.
    Estimated,
    /// Nobody knows.
    #[default]
    None,
}

impl UsageSource {
    pub fn as_str(self) -> &'static str {
        match self {
            UsageSource::Reported => "reported",
            UsageSource::Estimated => "estimated",
            UsageSource::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_not_zero_when_adding() {
        let mut sum = Usage { input: Some(3), ..Usage::default() };
        sum.add(&Usage { input: Some(4), output: Some(0), ..Usage::default() });
        assert_eq!(sum.input, Some(7));
        assert_eq!(sum.output, Some(0));
        assert_eq!(sum.reasoning, None);
    }
}
