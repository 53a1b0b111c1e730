//! A request's body: read in a stream, counted, hashed where somebody asks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::body::Hashing;
use super::received::Kept;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum Incomplete {
    TooLarge,
    BrokeOff,
}

#[derive(Debug)]
pub(super) struct Upload {
    incoming: Incoming,
    hash: Option<Hashing>,
    len: u64,
    note: Option<(Arc<Kept>, usize)>,
    done: bool,
}

impl Upload {
    /// `note`: where the request's record is.
    pub(super) fn new(incoming: Incoming, note: Option<(Arc<Kept>, usize)>) -> Self {
        let mut upload = Self {
            hash: note.is_some().then(Hashing::default),
            len: 0,
            done: false,
            note,
            incoming,
        };
        if upload.incoming.is_end_stream() {
            upload.finish();
        }
        upload
    }

    /// Asks for the SHA-256, before anything is read.
    pub(super) fn hashed(&mut self) {
        self.hash.get_or_insert_default();
    }

    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Incomplete>> {
        while !self.done {
            match self.incoming.frame().await {
                None => self.finish(),
                Some(Err(_)) => return Some(Err(Incomplete::BrokeOff)),
                Some(Ok(frame)) => {
                    // Trailers are recorded as bytes and are of no other use here.
                    let data = frame.into_data().unwrap_or_default();
                    self.len += data.len() as u64;
                    if let Some(hash) = &mut self.hash {
                        hash.update(&data);
                    }
                    if self.incoming.is_end_stream() {
                        self.finish();
                    }
                    if !data.is_empty() {
                        return Some(Ok(data));
                    }
                }
            }
        }
        None
    }

    /// The whole body, of at most `max` bytes.
    pub(super) async fn whole(&mut self, max: usize) -> Result<Bytes, Incomplete> {
        let mut whole = BytesMut::new();
        while let Some(data) = self.next().await {
            let data = data?;
            if whole.len() + data.len() > max {
                return Err(Incomplete::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// Reads to the end and keeps nothing.
    pub(super) async fn drain(&mut self) -> Result<(), Incomplete> {
        while let Some(data) = self.next().await {
            data?;
        }
        Ok(())
    }

    /// Bytes read so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// SHA-256 of what was read so far, where it was asked for.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hash.clone().map_or([0; 32], Hashing::finish)
    }

    fn finish(&mut self) {
        self.done = true;
        if let Some((record, number)) = self.note.take() {
            record.body(number, self.len, Some(self.sha256()));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some((record, number)) = self.note.take() {
            record.body(number, self.len, None);
        }
    }
}
