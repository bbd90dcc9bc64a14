//! What a model generated, as far as it could be seen: the text to count where no usage is reported.
//! Owns how the pieces of a stream are put together again; counts nothing.
//!
//! Invariant: bounded. Held in memory until the call's usage is settled, never written anywhere.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Bytes kept of one answer's text: longer than the longest answers of today's models (128 k tokens).
/// Of what lies beyond only the length is kept.
pub(super) const MAX_KEPT: usize = 1024 * 1024;

/// Pieces that an answer may consist of: far more than the tools that one calls. Of what begins after
/// them only the length is kept, with the last of them.
const MAX_SEGMENTS: usize = 1024;

/// What a piece of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The answer itself.
    Content,
    Refusal,
    /// Reasoning that the provider shows.
    Reasoning,
    /// A summary of reasoning: not what is billed.
    ReasoningSummary,
    /// The name of a tool that is called. Each begins another call.
    ToolName,
    /// The arguments of the tool call whose name came before.
    ToolArguments,
}

/// One text of one kind, of one choice.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    pub choice: u32,
    pub kind: Kind,
    /// As sent: within a JSON string, or (arguments sent as an object) JSON itself.
    raw: Vec<u8>,
    is_json: bool,
    /// Bytes that were not kept.
    pub beyond: u64,
}

impl Segment {
    /// The text. Escapes that are broken stand as they were sent.
    pub fn text(&self) -> Cow<'_, str> {
        if self.is_json || !self.raw.contains(&b'\\') {
            return String::from_utf8_lossy(&self.raw);
        }
        let quoted = [b"\"", self.raw.as_slice(), b"\""].concat();
        serde_json::from_slice::<String>(&quoted)
            .map_or_else(|_| String::from_utf8_lossy(&self.raw), Cow::Owned)
    }
}

/// Tells how much there is, never what.
impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of choice {}: {} bytes", self.kind, self.choice, self.raw.len())
    }
}

/// Everything generated in one answer, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    segments: Vec<Segment>,
    /// Where the last segment of a choice and kind is: one entry a segment at most.
    last: HashMap<(u32, Kind), usize>,
    kept: usize,
    /// The end of a choice's last piece said nothing more of its kind may follow.
    closed: bool,
    has_media: bool,
    has_left_out: bool,
}

impl Generated {
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of text, kept or not.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.raw.len() as u64 + segment.beyond).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Audio or images were generated too, of which nothing is kept.
    pub fn has_media(&self) -> bool {
        self.has_media
    }

    /// Texts were generated too that were not looked at: there were too many of them.
    pub fn has_left_out(&self) -> bool {
        self.has_left_out
    }

    pub(super) fn note_left_out(&mut self) {
        self.has_left_out = true;
    }

    pub(super) fn note_media(&mut self) {
        self.has_media = true;
    }

    /// What comes next begins pieces of its own (another content block, another output item).
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Adds a piece of text, as it stands within a JSON string or, with `is_json`, as JSON.
    pub fn push(&mut self, choice: u32, kind: Kind, raw: &[u8], is_json: bool) {
        if raw.is_empty() {
            return;
        }
        let fits = self.kept + raw.len() <= MAX_KEPT;
        let Some(segment) = self.segment(choice, kind, is_json) else {
            return self.add(raw.len() as u64);
        };
        // A cut within an escape or a character would spoil the text before it.
        if fits && segment.beyond == 0 {
            segment.raw.extend_from_slice(raw);
            self.kept += raw.len();
        } else {
            segment.beyond += raw.len() as u64;
        }
    }

    /// Notes bytes that come next and are not kept.
    pub(super) fn skip(&mut self, choice: u32, kind: Kind, bytes: u64) {
        if bytes == 0 {
            return;
        }
        match self.segment(choice, kind, false) {
            Some(segment) => segment.beyond += bytes,
            None => self.add(bytes),
        }
    }

    /// Where a piece of this kind goes: to the last of its kind, unless another has begun since.
    /// `None` where it would begin a segment too many.
    fn segment(&mut self, choice: u32, kind: Kind, is_json: bool) -> Option<&mut Segment> {
        let begins = std::mem::take(&mut self.closed) || kind == Kind::ToolName;
        // As nearly always: it goes on where the piece before ended.
        let goes_on = |last: &Segment| last.choice == choice && last.kind == kind;
        if !begins && self.segments.last().is_some_and(goes_on) {
            return self.segments.last_mut();
        }
        let last = self.last.get(&(choice, kind)).copied();
        // A further tool's name ends the arguments of the one before.
        let name = self.last.get(&(choice, Kind::ToolName)).copied();
        let is_ended = kind == Kind::ToolArguments && name > last;
        let at = match last.filter(|_| !begins && !is_ended) {
            Some(at) => at,
            None if self.segments.len() >= MAX_SEGMENTS => return None,
            None => {
                let at = self.segments.len();
                self.segments.push(Segment { choice, kind, raw: Vec::new(), is_json, beyond: 0 });
                self.last.insert((choice, kind), at);
                at
            }
        };
        self.segments.get_mut(at)
    }

    /// Counts bytes for which there is no segment any more.
    fn add(&mut self, bytes: u64) {
        if let Some(last) = self.segments.last_mut() {
            last.beyond += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(generated: &Generated) -> Vec<(u32, Kind, String)> {
        let one = |s: &Segment| (s.choice, s.kind, s.text().into_owned());
        generated.segments().iter().map(one).collect()
    }

    #[test]
    fn pieces_of_several_choices_and_tools_are_put_together_again() {
        let mut generated = Generated::default();
        for (choice, kind, text) in [
            (0, Kind::Content, "Hel"),
            (1, Kind::Content, "Bon"),
            (0, Kind::Content, r"lo\u0021"),
            (1, Kind::Content, "jour"),
            (0, Kind::ToolName, "a"),
            (0, Kind::ToolArguments, "{"),
            (0, Kind::ToolArguments, "}"),
            (0, Kind::ToolName, "b"),
            (0, Kind::ToolArguments, "{}"),
        ] {
            generated.push(choice, kind, text.as_bytes(), false);
        }
        let expected = [
            (0, Kind::Content, "Hello!"),
            (1, Kind::Content, "Bonjour"),
            (0, Kind::ToolName, "a"),
            (0, Kind::ToolArguments, "{}"),
            (0, Kind::ToolName, "b"),
            (0, Kind::ToolArguments, "{}"),
        ];
        let expected: Vec<_> = expected.map(|(c, k, t)| (c, k, t.to_owned())).into();
        assert_eq!(texts(&generated), expected);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_counted() {
        let mut generated = Generated::default();
        let piece = vec![b'x'; 100_000];
        for _ in 0..20 {
            generated.push(0, Kind::Content, &piece, false);
        }
        let [segment] = generated.segments() else { panic!("one") };
        assert_eq!(segment.text().len() as u64 + segment.beyond, 2_000_000);
        assert!(segment.text().len() <= MAX_KEPT);
    }

    /// With a search through all segments, 166,000 events took 18 s.
    #[test]
    fn choices_without_end_were_each_given_a_segment_and_searched_for() {
        let mut generated = Generated::default();
        for choice in 0..1_000_000 {
            generated.push(choice, Kind::Content, b"text", false);
            generated.skip(choice, Kind::Content, 1);
        }
        assert_eq!(generated.segments().len(), MAX_SEGMENTS);
        assert_eq!(generated.last.len(), MAX_SEGMENTS);
        assert_eq!(generated.bytes(), 5_000_000);
        generated.push(7, Kind::ToolName, b"f", false);
        generated.push(7, Kind::ToolArguments, b"{}", false);
        assert_eq!((generated.segments().len(), generated.bytes()), (MAX_SEGMENTS, 5_000_003));
    }

    #[test]
    fn arguments_behind_a_name_too_many_are_only_measured() {
        let mut generated = Generated::default();
        for _ in 0..MAX_SEGMENTS {
            generated.push(0, Kind::ToolName, b"f", false);
            generated.push(0, Kind::ToolArguments, b"{}", false);
        }
        let beyond: u64 = generated.segments().iter().map(|segment| segment.beyond).sum();
        assert_eq!(beyond, 3 * MAX_SEGMENTS as u64 / 2);
    }
}
