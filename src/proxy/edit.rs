//! What is changed in an answer on its way down. Owns the order in which the bytes that waited and what
//! ends the body go down; which bytes go is the filter's to say.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::body::BodyError;
use crate::framing::EventFilter;

/// A frame of an answer, its break, or its end.
type Next = Option<Result<Frame<Bytes>, BodyError>>;

/// The edit of one answer.
pub(super) struct Edit {
    filter: EventFilter,
    /// What comes after the bytes that have waited.
    next: Next,
    /// Before a break: one poll has pended, so that hyper writes what it has.
    is_written: bool,
    is_over: bool,
}

impl Edit {
    pub(super) fn new(filter: EventFilter) -> Edit {
        Edit { filter, next: None, is_written: false, is_over: false }
    }

    /// What goes down before the answer is asked for more; `None` if nothing does.
    pub(super) fn waiting(&mut self, cx: &mut Context<'_>) -> Option<Poll<Next>> {
        match &self.next {
            Some(Err(_)) if !self.is_written => {
                self.is_written = true;
                cx.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            Some(_) => Some(Poll::Ready(self.next.take())),
            None => self.is_over.then_some(Poll::Ready(None)),
        }
    }

    /// What goes down of what has come; what ends the body waits behind it.
    pub(super) fn pass(&mut self, polled: Next) -> Option<Frame<Bytes>> {
        let bytes = match polled.map(|result| result.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => self.filter.push(&data),
            Some(Ok(Err(trailers))) => {
                self.next = Some(Ok(trailers));
                self.filter.finish()
            }
            Some(Err(error)) => {
                self.next = Some(Err(error));
                self.filter.finish()
            }
            None => {
                self.is_over = true;
                self.filter.finish()
            }
        };
        (!bytes.is_empty()).then(|| Frame::data(bytes.into()))
    }

    /// True if something is to come although the answer has ended.
    pub(super) fn holds(&self) -> bool {
        self.next.is_some() || self.filter.holds()
    }
}
