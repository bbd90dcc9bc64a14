//! A request's body that is read before it goes up. Owns how it is held and what stands in its place;
//! everything else about it is the body's own (`body`).
//!
//! Invariant: what has been read goes up, in its order, unless something is put in its place.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::body::{RequestBody, RequestBodyError, Upload};

/// Bytes that are reserved before the first has come, whatever the request announces.
const MAX_RESERVED: usize = 1 << 20;

impl Upload {
    /// Reads the body to its end, if that comes within `most` bytes, and gives its data. Whatever is
    /// read still goes up, in one piece.
    pub(super) async fn hold(&mut self, most: usize) -> Result<Option<Bytes>, RequestBodyError> {
        let announced = self.size_hint().lower();
        let Some(announced) = usize::try_from(announced).ok().filter(|length| *length <= most)
        else {
            return Ok(None);
        };
        // The client is asked for its body now, not when the provider wants it.
        self.gate = None;
        let mut held = BytesMut::with_capacity(announced.min(MAX_RESERVED));
        let mut trailers = None;
        while let Some(frame) = poll_fn(|cx| self.poll_next(cx)).await {
            let frame = frame?;
            match frame.data_ref() {
                // Frames of a byte each would take a hundred times as much.
                Some(bytes) => held.extend_from_slice(bytes),
                None => trailers = Some(frame),
            }
            if held.len() > most {
                self.queued.push_back(Frame::data(held.freeze()));
                return Ok(None);
            }
        }
        self.incoming = None;
        let held = held.freeze();
        if !held.is_empty() {
            self.queued.push_back(Frame::data(held.clone()));
        }
        self.queued.extend(trailers);
        Ok(Some(held))
    }

    /// A held body once more.
    pub(super) fn copy(&self, held: &Bytes) -> RequestBody {
        let trailers = self.queued.iter().filter_map(Frame::trailers_ref).cloned();
        let data = [Frame::data(held.clone())].into_iter();
        Box::new(Upload {
            incoming: None,
            first: None,
            queued: data.chain(trailers.map(Frame::trailers)).collect(),
            request: Rc::clone(&self.request),
            progress: self.progress.clone(),
            client: Arc::clone(&self.client),
            left: None,
            gate: None,
        })
    }

    /// A held body with other data.
    pub(super) fn replaced(mut self: Box<Self>, data: Vec<Frame<Bytes>>) -> RequestBody {
        self.queued.retain(Frame::is_trailers);
        for frame in data.into_iter().rev() {
            self.queued.push_front(frame);
        }
        self
    }
}
