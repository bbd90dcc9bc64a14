//! A request as it passes: what its body says, and the body itself for as long as an estimate may be
//! made from it. Owns the bound on how much is kept.
//!
//! Invariant: what is kept is held in memory only, and only until the call is settled.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::provider::{RequestFacts, RequestReader};

/// Bytes kept of one request: more than the largest context windows hold as text.
const MAX_KEPT: usize = 16 * 1024 * 1024;

/// Bytes kept of all requests together. What comes when it is used up is only measured.
const MAX_KEPT_IN_ALL: usize = 256 * 1024 * 1024;

/// Frames below this size are copied: to keep one would keep the whole buffer that it came in.
const COPIED: usize = 8 * 1024;

/// How much the prompts of calls in flight hold together, or the answers that wait to be counted.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share(Arc<Budget>, usize);

impl Budget {
    /// Takes a share for what waits to be counted; `None` if it is used up.
    pub(super) fn take(self: &Arc<Budget>, bytes: u64) -> Option<Share> {
        let bytes = usize::try_from(bytes).ok()?;
        if self.0.load(Ordering::Relaxed).saturating_add(bytes) > MAX_KEPT_IN_ALL {
            return None;
        }
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Some(Share(Arc::clone(self), bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// A request's body, as far as it was kept. Gives back its share of the budget when dropped.
pub struct Prompt {
    pieces: Vec<Bytes>,
    /// Copies of small frames that come one after another.
    copied: Vec<u8>,
    kept: usize,
    /// Bytes that were not kept.
    beyond: u64,
    budget: Arc<Budget>,
}

impl Prompt {
    pub(super) fn new(budget: &Arc<Budget>) -> Prompt {
        let budget = Arc::clone(budget);
        Prompt { pieces: Vec::new(), copied: Vec::new(), kept: 0, beyond: 0, budget }
    }

    /// One that is there at once, but for so many bytes at its end.
    pub(super) fn whole(budget: &Arc<Budget>, bytes: &Bytes, beyond: u64) -> Prompt {
        let mut prompt = Prompt::new(budget);
        prompt.push(bytes);
        prompt.beyond += beyond;
        prompt
    }

    pub(super) fn push(&mut self, bytes: &Bytes) {
        let fits = self.beyond == 0 && self.kept + bytes.len() <= MAX_KEPT;
        let used = self.budget.0.load(Ordering::Relaxed);
        if !fits || used + bytes.len() > MAX_KEPT_IN_ALL {
            self.beyond += bytes.len() as u64;
            return;
        }
        self.budget.0.fetch_add(bytes.len(), Ordering::Relaxed);
        self.kept += bytes.len();
        if bytes.len() < COPIED {
            self.copied.extend_from_slice(bytes);
        } else {
            self.end_copied();
            self.pieces.push(bytes.clone());
        }
    }

    /// Bytes of the body, kept or not.
    pub(super) fn len(&self) -> u64 {
        self.kept as u64 + self.beyond
    }

    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The bytes that were kept, in one piece.
    /// They count against the budget for as long as the prompt is held.
    pub(super) fn bytes(&mut self) -> Bytes {
        self.end_copied();
        match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }

    fn end_copied(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push(std::mem::take(&mut self.copied).into());
        }
    }
}

/// Tells how much there is, never what.
impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of a prompt, {} of them kept", self.len(), self.kept)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

/// Looks at a request's body as it streams by.
#[derive(Debug)]
pub struct RequestObserver {
    reader: RequestReader,
    prompt: Option<Prompt>,
    is_sent: bool,
}

impl RequestObserver {
    pub(super) fn new(reader: RequestReader, prompt: Option<Prompt>) -> RequestObserver {
        RequestObserver { reader, prompt, is_sent: false }
    }

    pub fn push(&mut self, bytes: &Bytes) {
        if let Some(prompt) = &mut self.prompt {
            prompt.push(bytes);
        }
        self.reader.push(bytes);
    }

    /// Looks no further.
    pub fn give_up(&mut self) {
        self.reader = RequestReader::Opaque;
        self.prompt = None;
    }

    pub fn facts(&self) -> RequestFacts {
        self.reader.facts()
    }

    /// A connection to the provider has taken all of it.
    pub fn sent(&mut self) {
        self.is_sent = true;
    }

    /// The provider would not have it: it is to be sent once more.
    pub fn refused(&mut self) {
        self.is_sent = false;
    }

    pub fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Hands the body over, once.
    pub fn take_prompt(&mut self) -> Option<Prompt> {
        self.prompt.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_for_each_and_for_all_and_given_back() {
        let budget = Arc::new(Budget::default());
        let frame = Bytes::from(vec![b'x'; 1024 * 1024]);
        let mut prompts: Vec<Prompt> = (0..20).map(|_| Prompt::new(&budget)).collect();
        for prompt in &mut prompts {
            (0..20).for_each(|_| prompt.push(&frame));
            assert_eq!(prompt.len(), 20 * 1024 * 1024);
            assert!(prompt.kept <= MAX_KEPT);
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), MAX_KEPT_IN_ALL);
        assert_eq!(prompts.pop().map(|prompt| prompt.kept), Some(0));
        drop(prompts);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_and_large_frames_come_back_in_order() {
        let budget = Arc::new(Budget::default());
        let mut prompt = Prompt::new(&budget);
        let sizes = [3, 10, COPIED, 1, COPIED + 7, 2];
        let mut sent = Vec::new();
        for (index, size) in (0_u8..).zip(sizes) {
            let frame = vec![index; size];
            prompt.push(&Bytes::from(frame.clone()));
            sent.extend(frame);
        }
        assert_eq!(prompt.bytes(), sent);
    }

    #[test]
    fn what_is_printed_of_a_request_had_the_prompt_in_it() {
        let prompt = Prompt::whole(&Arc::default(), &Bytes::from(vec![b'x'; COPIED + 1]), 2);
        assert_eq!(format!("{prompt:?}"), "8195 bytes of a prompt, 8193 of them kept");
        let mut observer = RequestObserver::new(RequestReader::new("", ""), Some(prompt));
        observer.push(&Bytes::from_static(br#"{"input":"Swordfish"}"#));
        let printed = format!("{observer:?}");
        assert!(!printed.contains("Sword") && !printed.contains("83,"), "{printed}");
    }
}
