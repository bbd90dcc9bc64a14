//! A push scanner that reduces JSON values of any size to the few members that are asked for. Owns
//! JSON's grammar as far as finding members needs it; refuses to validate what it skips.
//!
//! Invariant: a reduced document is well-formed JSON, at most [`MAX_KEPT`] bytes long, whatever was
//! fed in.

use std::fmt;

use serde::de::IgnoredAny;

use super::template::{Hole, Kind, Template, ends_literal};
use super::{Sink, Text};

/// Bytes kept of one document. Real ones need a few hundred; the largest usage objects seen (server
/// tools with many iterations) a few thousand.
pub const MAX_KEPT: usize = 24 * 1024;

/// Room made at once for what is kept of a document, and for a name.
const KEPT_GUESS: usize = 512;
const NAME_GUESS: usize = 32;

/// Bytes kept of one string: ids, model names, finish reasons are far shorter.
const MAX_STRING: usize = 512;

/// Bytes of a member's name that are compared or kept.
const MAX_NAME: usize = 128;

/// Bytes of a number or word.
const MAX_LITERAL: usize = 64;

/// Nesting that is followed; what lies deeper is skipped.
const MAX_DEPTH: usize = 24;

/// Elements kept of one array.
const MAX_ELEMENTS: u32 = 128;

/// The members of an object that are asked for.
#[derive(Debug)]
pub struct Selection(pub &'static [(&'static str, Keep)]);

/// What is kept of a member. An array is looked into: each of its elements is kept in the same way.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// The value as it stands, nulls and unknown members included.
    Whole,
    /// A number, string or boolean; an object, an array or a null counts as absent.
    Scalar,
    /// `true` if there is something: a string, array or object that is not empty, a number, `true`.
    /// Tells that there was text without keeping a byte of it.
    Presence,
    /// Of an object, these members. Something else in its place is noted as [`Keep::Presence`] does.
    Members(&'static Selection),
    /// Noted as [`Keep::Presence`] does; a string's content is shown to [`Sink::text`] as it passes.
    Text(u8),
    /// As [`Keep::Text`], and of an object or array the JSON is shown.
    Json(u8),
    /// A string as [`Keep::Text`], an object as [`Keep::Members`].
    TextOrMembers(u8, &'static Selection),
    /// Not asked for.
    Nothing,
}

impl Keep {
    /// True if there are texts in what is kept so, if it begins with this byte. Selections are a few
    /// levels deep; those that are deeper are taken to have some.
    fn has_texts(self, byte: u8, levels: usize) -> bool {
        let of_members = |selection: &Selection| {
            levels == 0
                || selection.0.iter().any(|(_, keep)| {
                    keep.has_texts(b'"', levels - 1) || keep.has_texts(b'{', levels - 1)
                })
        };
        match (self, byte) {
            (Keep::Text(_) | Keep::Json(_) | Keep::TextOrMembers(..), b'"')
            | (Keep::Json(_), b'{' | b'[') => true,
            (Keep::Members(selection) | Keep::TextOrMembers(_, selection), b'{' | b'[') => {
                of_members(selection)
            }
            _ => false,
        }
    }
}

impl Selection {
    fn find(&self, name: &[u8]) -> Option<Keep> {
        self.0.iter().find(|(wanted, _)| wanted.as_bytes() == name).map(|(_, keep)| *keep)
    }
}

/// Where the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between values, before the first one, after the last one.
    Outside,
    /// In a top-level array, between its elements.
    BetweenElements,
    /// A value must begin here.
    Value,
    /// A value or the end of the array.
    ValueOrEnd,
    /// A member's name or the end of the object.
    NameOrEnd,
    Name,
    NameEscape,
    Colon,
    /// A comma or the end of the container.
    CommaOrEnd,
    String,
    StringEscape,
    Literal,
    /// Inside a value of which nothing is kept.
    Skip,
    SkipString,
    SkipStringEscape,
    SkipLiteral,
    /// Not JSON: everything is ignored until [`Scanner::reset`].
    Broken,
}

/// An open container of which something is kept.
#[derive(Clone, Copy)]
struct Container {
    keep: Keep,
    is_array: bool,
    /// Elements written so far.
    elements: u32,
    /// Where the container begins in the kept bytes, its name included.
    begins: usize,
}

/// The push scanner, see the module.
pub struct Scanner {
    selection: &'static Selection,
    state: State,
    /// A top-level array is open.
    in_array: bool,
    /// An object has begun in a top-level array, or as a second top-level value.
    is_many: bool,
    /// A top-level value has ended.
    has_given: bool,
    containers: Vec<Container>,
    kept: Vec<u8>,
    name: Vec<u8>,
    /// What is kept of the value that begins next.
    keep: Keep,
    /// Where the member at hand begins in `kept`, name included; it is cut back to here if the value
    /// turns out to be absent.
    member: usize,
    /// Where the string or literal at hand begins in `kept`.
    scalar: usize,
    /// Open brackets of the value that is skipped.
    skip_depth: u64,
    /// Presence is asked of the value that is skipped.
    presence: bool,
    /// The value that is skipped holds something.
    something: bool,
    /// The value that is skipped is shown as a text of this slot.
    text: Option<u8>,
    /// The sink knows that something was left out of the document.
    has_left_out: bool,
    /// The value before, where values come whole.
    template: Option<Box<Template>>,
    /// The value at hand is noted there.
    is_noted: bool,
    /// Where the step at hand begins in what was pushed.
    at: usize,
    /// Where the content that is skipped begins there.
    skipped: usize,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Scanner {
    pub fn new(selection: &'static Selection) -> Scanner {
        Scanner {
            selection,
            state: State::Outside,
            in_array: false,
            is_many: false,
            has_given: false,
            containers: Vec::new(),
            kept: Vec::new(),
            name: Vec::new(),
            keep: Keep::Scalar,
            member: 0,
            scalar: 0,
            skip_depth: 0,
            presence: false,
            something: false,
            text: None,
            has_left_out: false,
            template: None,
            is_noted: false,
            at: 0,
            skipped: 0,
        }
    }

    /// True once it shows that the documents are several: in a top-level array, or one after another.
    pub fn is_many(&self) -> bool {
        self.is_many
    }

    /// Forgets the value at hand and waits for the next.
    pub fn reset(&mut self) {
        self.state = State::Outside;
        self.in_array = false;
        self.containers.clear();
        self.kept.clear();
    }

    /// Reads on. Each object that closes at the top level, or as an element of a top-level array,
    /// goes to the sink.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        self.at = 0;
        while self.at < bytes.len() {
            self.at += self.step(&bytes[self.at..], sink);
        }
    }

    /// The value before was given without a scan.
    #[cfg(test)]
    pub(super) fn was_spared(&self) -> bool {
        self.template.as_ref().is_some_and(|template| template.has_served())
    }

    /// The same for bytes that are likely to be a whole value, and like the one before.
    pub(super) fn push_whole(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        if self.state != State::Outside || self.in_array {
            return self.push(bytes, sink);
        }
        let template = self.template.get_or_insert_default();
        if template.give(bytes, sink) {
            self.is_many |= self.has_given;
            self.has_given = true;
            return;
        }
        self.is_noted = template.begin(bytes);
        self.push(bytes, sink);
        let is_over = self.state == State::Outside && !self.in_array && !self.has_left_out;
        if std::mem::take(&mut self.is_noted)
            && !is_over
            && let Some(template) = &mut self.template
        {
            template.spoil();
        }
    }

    /// Consumes at least one byte of `bytes`, which is not empty, and says how many.
    fn step(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> usize {
        let byte = bytes[0];
        match self.state {
            State::String => return self.string(bytes),
            State::Skip | State::SkipString | State::SkipStringEscape | State::SkipLiteral => {
                return self.skip_on(bytes, sink);
            }
            State::Broken => return bytes.len(),
            State::StringEscape => {
                self.keep_string(&bytes[..1]);
                self.state = State::String;
                return 1;
            }
            State::Name => return self.name(bytes),
            State::NameEscape => {
                self.keep_name(&bytes[..1]);
                self.state = State::Name;
                return 1;
            }
            State::Literal => return self.literal(bytes),
            _ => {}
        }
        if byte.is_ascii_whitespace() {
            return 1;
        }
        self.punctuation(byte, sink)
    }

    /// A byte between tokens.
    fn punctuation(&mut self, byte: u8, sink: &mut dyn Sink) -> usize {
        match (self.state, byte) {
            (State::Outside, b'[') if !self.in_array => {
                self.in_array = true;
                self.state = State::BetweenElements;
            }
            (State::Outside | State::BetweenElements, b'{') => self.begin_document(),
            (State::BetweenElements, b',') => {}
            (State::BetweenElements, b']') => self.reset(),
            (State::BetweenElements, _) => {
                self.keep = Keep::Scalar;
                self.begin_skip(false, byte);
            }
            (State::ValueOrEnd, b']') | (State::NameOrEnd, b'}') => self.end_container(sink),
            (State::Value | State::ValueOrEnd, _) => {
                self.begin_value(byte, sink);
                if self.state == State::Skip
                    && let Some(text) = self.text(true)
                {
                    sink.text(&Text { bytes: &[byte], ..text });
                }
            }
            (State::NameOrEnd, b'"') => {
                self.name.clear();
                self.state = State::Name;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::CommaOrEnd, b',') => {
                let is_array = self.containers.last().is_some_and(|open| open.is_array);
                if is_array {
                    self.member = self.kept.len();
                    self.keep = self.element_keep();
                    self.state = State::Value;
                } else {
                    self.state = State::NameOrEnd;
                }
            }
            (State::CommaOrEnd, b'}' | b']') => {
                let is_array = self.containers.last().is_some_and(|open| open.is_array);
                if is_array == (byte == b']') {
                    self.end_container(sink);
                } else {
                    self.state = State::Broken;
                }
            }
            _ => self.state = State::Broken,
        }
        1
    }

    fn begin_document(&mut self) {
        self.is_many |= self.has_given || self.in_array;
        self.kept.clear();
        self.kept.reserve(KEPT_GUESS);
        self.name.reserve(NAME_GUESS);
        self.containers.clear();
        self.kept.push(b'{');
        self.containers.push(Container {
            keep: Keep::Members(self.selection),
            is_array: false,
            elements: 0,
            begins: 0,
        });
        self.has_left_out = false;
        self.state = State::NameOrEnd;
    }

    // --- names ---

    fn name(&mut self, bytes: &[u8]) -> usize {
        match memchr::memchr2(b'"', b'\\', bytes) {
            None => {
                self.keep_name(bytes);
                bytes.len()
            }
            Some(at) if bytes[at] == b'\\' => {
                self.keep_name(&bytes[..=at]);
                self.state = State::NameEscape;
                at + 1
            }
            Some(at) => {
                self.keep_name(&bytes[..at]);
                self.end_name();
                at + 1
            }
        }
    }

    /// One byte more than is allowed is kept, so that a long name can be told from a short one.
    fn keep_name(&mut self, bytes: &[u8]) {
        let room = (MAX_NAME + 1).saturating_sub(self.name.len());
        self.name.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_name(&mut self) {
        // What the selection knows is text.
        let asked = match self.containers.last().map(|open| open.keep) {
            _ if self.name.len() > MAX_NAME => None,
            Some(Keep::Members(selection) | Keep::TextOrMembers(_, selection)) => {
                if self.name.contains(&b'\\') {
                    self.unescaped_name().and_then(|name| selection.find(name.as_bytes()))
                } else {
                    selection.find(&self.name)
                }
            }
            Some(Keep::Whole) if is_text(&self.name) => Some(Keep::Whole),
            _ => None,
        };
        self.member = self.kept.len();
        self.state = State::Colon;
        match asked {
            Some(keep) => {
                self.separate();
                self.kept.push(b'"');
                self.kept.extend_from_slice(&self.name);
                self.kept.extend_from_slice(b"\":");
                self.keep = keep;
            }
            // Nothing is kept of it: the value is skipped when it begins.
            None => self.keep = Keep::Nothing,
        }
    }

    fn unescaped_name(&self) -> Option<String> {
        let quoted = [b"\"", self.name.as_slice(), b"\""].concat();
        serde_json::from_slice(&quoted).ok()
    }

    /// The comma before a further member or element.
    fn separate(&mut self) {
        if !matches!(self.kept.last(), Some(b'{' | b'[')) {
            self.kept.push(b',');
        }
    }

    // --- values ---

    fn element_keep(&self) -> Keep {
        match self.containers.last() {
            Some(open) if open.elements < MAX_ELEMENTS => open.keep,
            _ => Keep::Nothing,
        }
    }

    /// What comes now stands beyond a limit.
    fn leave_out(&mut self, keep: Keep, byte: u8, sink: &mut dyn Sink) {
        if !self.has_left_out && keep.has_texts(byte, MAX_DEPTH) {
            self.has_left_out = true;
            sink.left_out();
        }
    }

    fn begin_value(&mut self, byte: u8, sink: &mut dyn Sink) {
        if self.state == State::ValueOrEnd {
            self.member = self.kept.len();
            self.keep = self.element_keep();
        }
        let array = self.containers.last().filter(|open| open.is_array);
        let (in_array, asked) = (array.is_some(), array.map_or(self.keep, |open| open.keep));
        let full = self.kept.len() > MAX_KEPT - MAX_STRING - MAX_NAME - 2 * MAX_DEPTH;
        let keep = if full { Keep::Nothing } else { self.keep };
        if matches!(keep, Keep::Nothing) {
            self.kept.truncate(self.member);
        }
        match (keep, byte) {
            (Keep::Nothing, _) => {
                self.leave_out(asked, byte, sink);
                self.begin_skip(false, byte);
            }
            (Keep::Whole | Keep::Members(_) | Keep::TextOrMembers(..), b'{' | b'[')
                if self.containers.len() < MAX_DEPTH =>
            {
                if in_array {
                    self.separate();
                }
                self.begin_container(keep, byte);
            }
            (Keep::Whole | Keep::Scalar, b'"') => {
                if in_array {
                    self.separate();
                }
                self.scalar = self.kept.len();
                self.kept.push(b'"');
                self.state = State::String;
            }
            (Keep::Whole | Keep::Scalar, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                if in_array {
                    self.separate();
                }
                self.scalar = self.kept.len();
                self.kept.push(byte);
                self.state = State::Literal;
            }
            (Keep::Presence | Keep::Text(_) | Keep::Json(_), b'{' | b'[')
            | (
                Keep::Presence
                | Keep::Members(_)
                | Keep::Text(_)
                | Keep::Json(_)
                | Keep::TextOrMembers(..),
                b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n',
            ) => {
                if in_array {
                    self.separate();
                }
                self.begin_skip(true, byte);
                self.text = match (keep, byte) {
                    (Keep::Text(slot) | Keep::Json(slot) | Keep::TextOrMembers(slot, _), b'"')
                    | (Keep::Json(slot), b'{' | b'[') => Some(slot),
                    _ => None,
                };
                // Such a text stands in no hole, so that a template could not show it again.
                self.is_noted &= byte == b'"' || self.text.is_none();
            }
            // An object where a scalar is asked for, or nested too deep: absent.
            (_, b'{' | b'[') => {
                self.leave_out(keep, byte, sink);
                self.kept.truncate(self.member);
                self.begin_skip(false, byte);
            }
            _ => self.state = State::Broken,
        }
    }

    fn begin_container(&mut self, keep: Keep, byte: u8) {
        let is_array = byte == b'[';
        self.containers.push(Container { keep, is_array, elements: 0, begins: self.member });
        self.kept.push(byte);
        self.state = if is_array { State::ValueOrEnd } else { State::NameOrEnd };
    }

    fn end_container(&mut self, sink: &mut dyn Sink) {
        let Some(closed) = self.containers.pop() else {
            self.state = State::Broken;
            return;
        };
        let empty = matches!(self.kept.last(), Some(b'{' | b'['));
        self.kept.push(if closed.is_array { b']' } else { b'}' });
        if self.containers.is_empty() {
            sink.document(&self.kept);
            self.has_given = true;
            if self.is_noted
                && let Some(template) = &mut self.template
            {
                template.finish(&mut self.kept);
            }
            self.kept.clear();
            self.state = if self.in_array { State::BetweenElements } else { State::Outside };
            return;
        }
        if empty && matches!(closed.keep, Keep::Members(_) | Keep::TextOrMembers(..)) {
            self.kept.truncate(closed.begins);
            self.state = State::CommaOrEnd;
        } else {
            self.end_value();
        }
    }

    fn end_value(&mut self) {
        if let Some(open) = self.containers.last_mut() {
            open.elements += 1;
        }
        self.state = State::CommaOrEnd;
    }

    fn string(&mut self, bytes: &[u8]) -> usize {
        let found = memchr::memchr2(b'"', b'\\', bytes);
        let plain = found.unwrap_or(bytes.len());
        self.keep_string(&bytes[..plain]);
        match found {
            None => plain,
            Some(at) if bytes[at] == b'\\' => {
                self.keep_string(b"\\");
                self.state = State::StringEscape;
                at + 1
            }
            Some(at) => {
                self.end_string();
                at + 1
            }
        }
    }

    /// Keeps one byte more than is allowed, so that [`Scanner::end_string`] can tell.
    fn keep_string(&mut self, bytes: &[u8]) {
        let taken = self.kept.len() - self.scalar - 1;
        let room = (MAX_STRING + 1).saturating_sub(taken);
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A string that is too long, or no text, counts as absent.
    fn end_string(&mut self) {
        let text = &self.kept[self.scalar + 1..];
        if text.len() <= MAX_STRING && is_text(text) {
            self.kept.push(b'"');
            self.end_value();
        } else {
            self.kept.truncate(self.member);
            self.state = State::CommaOrEnd;
        }
    }

    fn literal(&mut self, bytes: &[u8]) -> usize {
        let goes_on = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let length = bytes.iter().position(|b| !goes_on(b)).unwrap_or(bytes.len());
        if length > 0 {
            if self.kept.len() - self.scalar + length <= MAX_LITERAL {
                self.kept.extend_from_slice(&bytes[..length]);
            } else {
                self.state = State::Broken;
            }
            return length;
        }
        let word = &self.kept[self.scalar..];
        let null_is_absent = matches!(self.keep, Keep::Scalar)
            || self.containers.last().is_some_and(|open| !matches!(open.keep, Keep::Whole));
        if word == b"null" && null_is_absent {
            self.kept.truncate(self.member);
            self.state = State::CommaOrEnd;
        } else if is_whole_number(word) || serde_json::from_slice::<IgnoredAny>(word).is_ok() {
            self.end_value();
        } else {
            self.state = State::Broken;
        }
        // The byte after a literal belongs to what follows.
        0
    }

    // --- skipping ---

    fn begin_skip(&mut self, presence: bool, byte: u8) {
        self.text = None;
        self.presence = presence;
        self.something = false;
        self.skip_depth = 0;
        self.state = match byte {
            b'{' | b'[' => {
                self.skip_depth = 1;
                State::Skip
            }
            b'"' => {
                self.skipped = self.at + 1;
                State::SkipString
            }
            _ => {
                self.skipped = self.at;
                self.something = !matches!(byte, b'n' | b'f');
                State::SkipLiteral
            }
        };
    }

    fn end_skip(&mut self) {
        self.state =
            if self.containers.is_empty() { State::BetweenElements } else { State::CommaOrEnd };
        if self.presence && self.something {
            self.kept.extend_from_slice(b"true");
            self.end_value();
        } else if !self.containers.is_empty() {
            self.kept.truncate(self.member);
        }
    }

    /// Goes on in a value of which nothing is kept, and shows it if it is a text.
    fn skip_on(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> usize {
        let is_json = self.skip_depth > 0;
        let text = self.text(is_json);
        let taken = match self.state {
            State::SkipString => self.skip_string(bytes),
            State::SkipStringEscape => {
                self.state = State::SkipString;
                1
            }
            State::SkipLiteral => self.skip_literal(bytes),
            _ => self.skip(bytes),
        };
        let has_ended = !matches!(self.state, State::SkipString | State::SkipStringEscape);
        let quote = usize::from(!is_json && has_ended);
        if let Some(text) = text.filter(|_| taken > quote) {
            sink.text(&Text { bytes: &bytes[..taken - quote], ..text });
        }
        taken
    }

    /// The text that is skipped, if it is one to be shown, without its bytes.
    fn text(&self, is_json: bool) -> Option<Text<'static>> {
        let slot = self.text?;
        let mut arrays = self.containers.iter().filter(|open| open.is_array);
        let outer = arrays.next().map_or(0, |open| open.elements);
        let inner = arrays.next_back().map_or(0, |open| open.elements);
        Some(Text { slot, outer, inner, is_json, bytes: &[] })
    }

    /// Inside a container of which nothing is kept: only strings and brackets matter.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let at = next_bracket_or_quote(bytes);
        if !self.something {
            let inside = &bytes[..at];
            self.something = inside.iter().any(|b| !b.is_ascii_whitespace())
                || bytes.get(at).is_some_and(|b| !matches!(b, b'}' | b']'));
        }
        let Some(byte) = bytes.get(at) else { return bytes.len() };
        match byte {
            b'"' => self.state = State::SkipString,
            b'{' | b'[' => self.skip_depth += 1,
            _ => {
                self.skip_depth -= 1;
                if self.skip_depth == 0 {
                    self.end_skip();
                }
            }
        }
        at + 1
    }

    fn skip_string(&mut self, bytes: &[u8]) -> usize {
        let found = memchr::memchr2(b'"', b'\\', bytes);
        if found != Some(0) || bytes[0] == b'\\' {
            self.something = true;
        }
        match found {
            None => bytes.len(),
            Some(at) if bytes[at] == b'\\' => {
                self.state = State::SkipStringEscape;
                at + 1
            }
            Some(at) => {
                if self.skip_depth == 0 {
                    let text = self.text(false);
                    self.note(self.at + at, Kind::String { presence: self.presence, text });
                    self.end_skip();
                } else {
                    self.state = State::Skip;
                }
                at + 1
            }
        }
    }

    /// What was skipped ends here.
    fn note(&mut self, to: usize, kind: Kind) {
        if self.is_noted
            && let Some(template) = &mut self.template
        {
            template.note(Hole { from: self.skipped, to, kind });
        }
    }

    fn skip_literal(&mut self, bytes: &[u8]) -> usize {
        match bytes.iter().position(|byte| ends_literal(*byte)) {
            None => bytes.len(),
            Some(at) => {
                if !self.presence {
                    self.note(self.at + at, Kind::Literal);
                }
                self.end_skip();
                at
            }
        }
    }
}

/// True for what nearly all numbers are. Others may be numbers too.
fn is_whole_number(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_digit) && (word.len() == 1 || word.first() != Some(&b'0'))
}

/// True if `inside`, put between quotes, is a JSON string.
fn is_text(inside: &[u8]) -> bool {
    let needs_a_look = |b: u8| !(0x20..0x80).contains(&b) || b == b'\\';
    if !inside.iter().fold(false, |found, b| found | needs_a_look(*b)) {
        return true;
    }
    if inside.iter().any(|b| *b < 0x20) || std::str::from_utf8(inside).is_err() {
        return false;
    }
    !inside.contains(&b'\\')
        || serde_json::from_slice::<IgnoredAny>(&[b"\"", inside, b"\""].concat()).is_ok()
}

/// Index of the first `"`, `{`, `}`, `[` or `]`, or the length. Looks at 32 bytes at a time, which the
/// compiler turns into vector instructions: vectors of embeddings are skipped at memory speed.
fn next_bracket_or_quote(bytes: &[u8]) -> usize {
    const STRIDE: usize = 32;
    let wanted = |b: u8| b == b'"' || (b | 0x20) == b'{' || (b | 0x20) == b'}';
    let strides = bytes.chunks_exact(STRIDE);
    let clear = strides
        .take_while(|stride| !stride.iter().fold(false, |found, b| found | wanted(*b)))
        .count()
        * STRIDE;
    bytes[clear..].iter().position(|b| wanted(*b)).map_or(bytes.len(), |at| clear + at)
}

/// JSON values a line each: a line that is no JSON is dropped and the next one read.
#[derive(Debug)]
pub struct Lines {
    scanner: Scanner,
    /// Something has been seen of the line at hand.
    has_begun: bool,
}

impl Lines {
    pub fn new(selection: &'static Selection) -> Lines {
        Lines { scanner: Scanner::new(selection), has_begun: false }
    }

    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            if std::mem::take(&mut self.has_begun) {
                self.scanner.push(&rest[..at], sink);
            } else {
                self.scanner.push_whole(&rest[..at], sink);
            }
            self.scanner.reset();
            rest = &rest[at + 1..];
        }
        self.has_begun |= !rest.is_empty();
        self.scanner.push(rest, sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: Selection = Selection(&[("a", Keep::Scalar), ("all", Keep::Whole)]);
    static ASKED: Selection = Selection(&[
        ("usage", Keep::Whole),
        ("model", Keep::Scalar),
        ("text", Keep::Presence),
        ("list", Keep::Members(&INNER)),
    ]);

    #[test]
    fn texts_are_shown_as_they_pass_and_noted_as_present() {
        static PART: Selection = Selection(&[("text", Keep::Text(2)), ("args", Keep::Json(3))]);
        static ASKED: Selection =
            Selection(&[("model", Keep::Scalar), ("list", Keep::TextOrMembers(1, &PART))]);
        #[derive(Default)]
        struct Shown(Vec<(u8, u32, u32, bool, String)>, String);
        impl Sink for Shown {
            fn document(&mut self, json: &[u8]) {
                self.1 = String::from_utf8(json.to_vec()).unwrap();
            }
            fn text(&mut self, text: &Text<'_>) {
                let piece = std::str::from_utf8(text.bytes).unwrap();
                let key = (text.slot, text.outer, text.inner, text.is_json);
                match self.0.last_mut() {
                    Some((slot, outer, inner, json, all))
                        if (*slot, *outer, *inner, *json) == key =>
                    {
                        all.push_str(piece);
                    }
                    _ => self.0.push((key.0, key.1, key.2, key.3, piece.to_owned())),
                }
            }
        }
        let text = br#"{"list":["a\"b",{"text":"c"},{"text":""},{"text":{"x":1}},
            {"args":{"k":[1,"}"]}},{"args":"\\"},{"text":null}],"model":"m"}"#;
        let read = |cut: usize| {
            let (mut scanner, mut shown) = (Scanner::new(&ASKED), Shown::default());
            scanner.push(&text[..cut], &mut shown);
            scanner.push(&text[cut..], &mut shown);
            (shown.0, shown.1)
        };
        let (texts, document) = read(0);
        let piece = |slot, outer, json, text: &str| (slot, outer, 0, json, text.to_owned());
        assert_eq!(
            texts,
            [
                piece(1, 0, false, r#"a\"b"#),
                piece(2, 1, false, "c"),
                piece(3, 3, true, r#"{"k":[1,"}"]}"#),
                piece(3, 4, false, r"\\"),
            ]
        );
        let expected = r#"{"list":[true,{"text":true},{"text":true},{"args":true},{"args":true}],"model":"m"}"#;
        assert_eq!(document, expected);
        (1..text.len()).for_each(|cut| assert_eq!(read(cut).0, texts, "cut at {cut}"));
    }

    #[test]
    fn texts_beyond_a_limit_vanished_without_a_word() {
        static PART: Selection = Selection(&[("text", Keep::Text(0)), ("kind", Keep::Scalar)]);
        static ASKED: Selection = Selection(&[
            ("list", Keep::Members(&PART)),
            ("words", Keep::TextOrMembers(1, &PART)),
            ("plain", Keep::Members(&INNER)),
        ]);
        #[derive(Default)]
        struct LeftOut(usize, usize);
        impl Sink for LeftOut {
            fn document(&mut self, _: &[u8]) {}
            fn text(&mut self, _: &Text<'_>) {
                self.0 += 1;
            }
            fn left_out(&mut self) {
                self.1 += 1;
            }
        }
        let list = |name: &str, of: &str, times: usize| {
            format!(r#"{{"{name}":[{}]}}"#, vec![of; times].join(","))
        };
        let kind = "k".repeat(500);
        let long = format!(r#"{{"kind":"{kind}","text":"a"}}"#);
        let most = MAX_ELEMENTS as usize;
        let deep = format!(r#"{{"list":{}{{"text":"a"}}{}}}"#, "[".repeat(30), "]".repeat(30));
        for (body, texts, times) in [
            (list("list", r#"{"text":"a"}"#, most), most, 0),
            (list("list", r#"{"text":"a"}"#, 200), most, 1),
            (list("words", r#""a""#, 200), most, 1),
            (list("list", "null", 200), 0, 0),
            (list("plain", r#"{"a":1}"#, 200), 0, 0),
            (list("list", &long, 100), 45, 1),
            (deep, 0, 1),
        ] {
            let mut seen = LeftOut::default();
            let mut scanner = Scanner::new(&ASKED);
            body.as_bytes().chunks(3).for_each(|piece| scanner.push(piece, &mut seen));
            assert_eq!((seen.0, seen.1), (texts, times), "{}", &body[..40]);
        }
    }

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Sink for Seen {
        fn document(&mut self, json: &[u8]) {
            self.0.push(String::from_utf8(json.to_vec()).unwrap());
        }
    }

    /// The documents of a text, which must be the same for every way of cutting it in two.
    fn documents(text: &[u8]) -> Vec<String> {
        let read = |cut: usize| {
            let (mut scanner, mut seen) = (Scanner::new(&ASKED), Seen::default());
            scanner.push(&text[..cut], &mut seen);
            scanner.push(&text[cut..], &mut seen);
            seen.0
        };
        let whole = read(text.len());
        for cut in 0..text.len() {
            assert_eq!(read(cut), whole, "cut at {cut}");
        }
        for document in &whole {
            assert!(serde_json::from_str::<serde_json::Value>(document).is_ok(), "{document}");
        }
        whole
    }

    fn one(text: &str) -> String {
        let mut documents = documents(text.as_bytes());
        assert_eq!(documents.len(), 1, "{documents:?}");
        documents.remove(0)
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let text = r#" { "x": {"usage": {"no": 1}}, "usage" : {"n": 1.0, "d": {"z": null}, "l": [1, "2"]},
            "model":"m", "secret": ["\"usage\":", {"model": 1}], "y": -1e5 } "#;
        assert_eq!(one(text), r#"{"usage":{"n":1.0,"d":{"z":null},"l":[1,"2"]},"model":"m"}"#);
    }

    #[test]
    fn nulls_and_what_has_another_shape_are_absent() {
        assert_eq!(one(r#"{"usage":null,"model":{"a":1},"text":null,"list":null}"#), "{}");
        assert_eq!(one(r#"{"model":null,"usage":{"a":null}}"#), r#"{"usage":{"a":null}}"#);
    }

    #[test]
    fn presence_tells_that_there_is_something_and_keeps_nothing_of_it() {
        for something in [r#""secret""#, r#"" ""#, "[0]", r#"{"a":1}"#, r#"[""]"#, "0", "true"] {
            assert_eq!(one(&format!(r#"{{"text":{something}}}"#)), r#"{"text":true}"#);
        }
        for nothing in [r#""""#, "[]", "[ ]", "{}", "{\n}", "null", "false"] {
            assert_eq!(one(&format!(r#"{{"text":{nothing},"model":"m"}}"#)), r#"{"model":"m"}"#);
        }
    }

    #[test]
    fn arrays_are_looked_into_and_empty_elements_left_out() {
        let text = r#"{"list":[{"b":1},{"a":1,"b":2},{"all":[{"c":3}]},"s",[{"a":4}]]}"#;
        assert_eq!(one(text), r#"{"list":[{"a":1},{"all":[{"c":3}]},true,[{"a":4}]]}"#);
        assert_eq!(one(r#"{"list":[{"b":1},{}],"model":"m"}"#), r#"{"model":"m"}"#);
    }

    #[test]
    fn names_may_be_escaped_and_strings_hold_anything() {
        assert_eq!(one(r#"{"m\u006fdel":"a\"}\\"}"#), r#"{"m\u006fdel":"a\"}\\"}"#);
        assert_eq!(one(r#"{"x\"":"{[\\\"","model":"é"}"#), r#"{"model":"é"}"#);
    }

    #[test]
    fn values_may_follow_each_other_or_stand_in_an_array() {
        assert_eq!(documents(br#"{"model":"a"}{"model":"b"}"#).len(), 2);
        assert_eq!(
            documents(b"[{\"model\":\"a\"},\n [1,\"x\",{}], 2, {\"model\":\"b\"}]").len(),
            2
        );
    }

    #[test]
    fn what_is_no_json_is_given_up() {
        for text in ["", "nonsense {\"model\":1}", "{model:1}", "{\"model\":1]", "{\"model\":tru }"]
        {
            assert_eq!(documents(text.as_bytes()), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_comes() {
        let long = "x".repeat(1 << 20);
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let many = format!("[{}]", vec![r#"{"a":1}"#; 50_000].join(","));
        let wide = (0..50_000).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",");
        let text = format!(
            r#"{{"model":"{long}","usage":{{"s":"{long}","d":{deep},{wide}}},"list":{many},"text":"{long}"}}"#
        );
        let (mut scanner, mut seen) = (Scanner::new(&ASKED), Seen::default());
        scanner.push(text.as_bytes(), &mut seen);
        let document = &seen.0[0];
        assert!(document.len() <= MAX_KEPT, "{}", document.len());
        assert!(serde_json::from_str::<serde_json::Value>(document).is_ok());
        assert!(!document.contains("xx"));
    }

    #[test]
    fn a_broken_line_does_not_harm_the_next() {
        let (mut lines, mut seen) = (Lines::new(&ASKED), Seen::default());
        lines.push(b"{\"model\":\"a\"}\n{\"model\": oops\n{\"model\":\"b\"}", &mut seen);
        assert_eq!(seen.0, [r#"{"model":"a"}"#, r#"{"model":"b"}"#]);
    }
}
