//! A request's body that is read before it goes up. Owns how it is held and what stands in its place;
//! everything else about it is the body's own (`body`).
//!
//! Invariant: what has been read goes up, in its order, unless something is put in its place.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::body::{RequestBody, RequestBodyError};

impl RequestBody {
    /// Reads the body to its end, if that comes within `most` bytes, and gives its data. Whatever is
    /// read still goes up as it came.
    pub(super) async fn hold(&mut self, most: usize) -> Result<Option<Bytes>, RequestBodyError> {
        if self.size_hint().lower() > most as u64 {
            return Ok(None);
        }
        // The client is asked for its body now, not when the provider wants it.
        self.gate = None;
        let (mut frames, mut length) = (VecDeque::new(), 0);
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
            let frame = frame?;
            length += frame.data_ref().map_or(0, Bytes::len);
            frames.push_back(Ok(frame));
            if length > most {
                self.fetched = frames;
                return Ok(None);
            }
        }
        self.incoming = None;
        let mut held = BytesMut::with_capacity(length);
        let data = frames.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        data.for_each(|bytes| held.extend_from_slice(bytes));
        let held = held.freeze();
        frames.retain(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        if !held.is_empty() {
            frames.push_front(Ok(Frame::data(held.clone())));
        }
        self.fetched = frames;
        Ok(Some(held))
    }

    /// A held body once more, without its trailers, which were for the first.
    pub(super) fn copy(&self, held: &Bytes) -> RequestBody {
        RequestBody {
            incoming: None,
            fetched: VecDeque::from([Ok(Frame::data(held.clone()))]),
            request: Rc::clone(&self.request),
            progress: self.progress.clone(),
            client: Arc::clone(&self.client),
            left: None,
            gate: None,
        }
    }

    /// A held body with other data.
    pub(super) fn replaced(mut self, data: Vec<Frame<Bytes>>) -> RequestBody {
        self.fetched.retain(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        for frame in data.into_iter().rev() {
            self.fetched.push_front(Ok(frame));
        }
        self
    }
}
