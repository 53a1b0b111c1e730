//! Memory for bodies that are held until their model is found and a connection is verified.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Segment sizes: small for the many small bodies, then large.
const MIN_SEGMENT: usize = 4 << 10;
const MAX_SEGMENT: usize = 64 << 10;

/// What a body occupies beyond its bytes, at most: the rest of its last segment, and the
/// rounding of earlier ones to KiB.
pub const BODY_SLACK: u64 = 128 << 10;

/// Too many request bodies are held in memory.
#[derive(Debug)]
pub(super) struct NoMemory;

/// The memory that all held bodies share.
#[derive(Debug)]
pub struct BodyBudget {
    free: Arc<Semaphore>,
    kibibytes: usize,
}

impl BodyBudget {
    /// With this many bytes, in whole KiB.
    pub fn new(bytes: u64) -> Self {
        let kibibytes = usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
        let kibibytes = kibibytes.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(kibibytes)),
            kibibytes,
        }
    }

    /// Bytes in use.
    pub fn held(&self) -> u64 {
        let taken = self.kibibytes - self.free.available_permits();
        (taken as u64) << 10
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoMemory> {
        let kibibytes = u32::try_from(bytes.div_ceil(1 << 10)).map_err(|_| NoMemory)?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(kibibytes);
        permit.map_err(|_| NoMemory)
    }
}

/// Bytes that are held. They are copied, so that the allocated memory is counted: a small frame
/// may otherwise keep a large buffer of hyper's alive.
#[derive(Default)]
pub(super) struct Held {
    full: VecDeque<Frame<Bytes>>,
    filling: Option<Segment>,
    length: usize,
}

struct Segment {
    bytes: BytesMut,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn push(&mut self, budget: &BodyBudget, mut data: &[u8]) -> Result<(), NoMemory> {
        self.length += data.len();
        while !data.is_empty() {
            let segment = match &mut self.filling {
                Some(segment) if segment.bytes.len() < segment.bytes.capacity() => segment,
                _ => {
                    self.settle();
                    let size = self.length.clamp(MIN_SEGMENT, MAX_SEGMENT);
                    let _permit = budget.take(size)?;
                    let bytes = BytesMut::with_capacity(size);
                    self.filling.insert(Segment { bytes, _permit })
                }
            };
            let room = segment.bytes.capacity() - segment.bytes.len();
            let (now, later) = data.split_at(room.min(data.len()));
            segment.bytes.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    /// The bytes as frames. Each frame returns its memory to the budget when it is dropped.
    pub(super) fn into_frames(mut self) -> VecDeque<Frame<Bytes>> {
        self.settle();
        self.full
    }

    fn settle(&mut self) {
        if let Some(segment) = self.filling.take() {
            self.full.push_back(Frame::data(segment.into_bytes()));
        }
    }
}

impl Segment {
    /// The bytes, which count as long as any clone exists.
    fn into_bytes(self) -> Bytes {
        struct Counted(Segment);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0.bytes
            }
        }
        Bytes::from_owner(Counted(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(budget: &BodyBudget, bytes: usize) -> Result<Held, NoMemory> {
        let mut held = Held::default();
        held.push(budget, &vec![b'x'; bytes]).map(|()| held)
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = BodyBudget::new(1 << 20);
        let one = held(&budget, 700 << 10).unwrap();
        assert!(held(&budget, 400 << 10).is_err());
        assert!(held(&budget, 300 << 10).is_ok());
        drop(one);
        assert!(held(&budget, 1 << 20).is_ok());
    }

    #[test]
    fn bytes_count_until_the_last_holder_is_done() {
        let budget = BodyBudget::new(1 << 20);
        let mut frames = held(&budget, 1 << 20).unwrap().into_frames();
        assert!(held(&budget, 1).is_err());
        let written = frames.pop_front();
        drop(written);
        assert!(held(&budget, MAX_SEGMENT).is_ok());
        let kept = frames.pop_front();
        drop(frames);
        assert!(held(&budget, 1 << 20).is_err());
        drop(kept);
        assert!(held(&budget, 1 << 20).is_ok());
    }

    #[test]
    fn a_body_fits_with_its_slack_whatever_its_pieces() {
        for (bytes, piece) in [
            (1, 1),
            (4_097, 1),
            (1 << 20, 700),
            (300_000, 4_097),
            (70_000, 9),
        ] {
            let body = vec![b'x'; bytes];
            let fits = |memory: u64| {
                let budget = BodyBudget::new(memory);
                let mut held = Held::default();
                body.chunks(piece)
                    .all(|piece| held.push(&budget, piece).is_ok())
            };
            assert!(fits(bytes as u64 + BODY_SLACK), "{bytes} {piece}");
            assert!(!fits(bytes as u64), "{bytes} {piece}");
        }
    }

    #[test]
    fn pieces_of_a_byte_cost_no_more_than_one_piece() {
        let budget = BodyBudget::new(256 << 10);
        let mut held = Held::default();
        for piece in 0..100_000_u32 {
            held.push(&budget, &[piece.to_be_bytes()[3]]).unwrap();
        }
        let frames = held.into_frames();
        let bytes: Vec<u8> = frames
            .into_iter()
            .flat_map(|frame| frame.into_data().unwrap())
            .collect();
        let expected: Vec<u8> = (0..100_000_u32).map(|p| p.to_be_bytes()[3]).collect();
        assert_eq!(bytes, expected);
    }
}
