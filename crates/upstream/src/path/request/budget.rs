//! Memory for bodies that are held until their model is found and a connection is verified.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use crate::admission::{Client, Counts, Full, Hold, Pot, What};

/// Segment sizes: small for the many small bodies, then large.
const MIN_SEGMENT: usize = 4 << 10;
const MAX_SEGMENT: usize = 64 << 10;
/// What each body may hold beside the memory that all share: a chat of usual size is taken
/// although large uploads hold all of it. The number of clients bounds it.
const OWN: usize = 64 << 10;

/// What a body occupies beyond its bytes, at most: the rest of its last segment, and the
/// rounding of earlier ones to KiB.
pub const BODY_SLACK: u64 = 128 << 10;

/// Too many request bodies are held in memory.
#[derive(Debug)]
pub(super) struct NoMemory(pub(super) Full);

/// The memory that all held bodies share.
#[derive(Debug)]
pub struct BodyBudget(Arc<Pot>);

impl BodyBudget {
    /// With this many bytes, in whole KiB. One client may hold half of them, and in any case a
    /// body of `max_body` bytes.
    pub fn new(bytes: u64, max_body: u64, counts: Counts) -> Self {
        let kibibytes = |bytes: u64| usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
        let all = kibibytes(bytes);
        let share = (all / 2).max(kibibytes(max_body.saturating_add(BODY_SLACK)));
        Self(Pot::new(What::BodyMemory, all, share, counts))
    }

    /// Bytes in use.
    pub fn held(&self) -> u64 {
        (self.0.held() as u64) << 10
    }

    /// Bytes in all.
    pub fn limit(&self) -> u64 {
        (self.0.limit() as u64) << 10
    }

    fn take(&self, client: &Client, bytes: usize) -> Result<Hold, NoMemory> {
        self.0
            .take(client, bytes.div_ceil(1 << 10))
            .map_err(NoMemory)
    }
}

/// Bytes that are held. They are copied, so that the allocated memory is counted: a small frame
/// may otherwise keep a large buffer of hyper's alive.
#[derive(Default)]
pub(super) struct Held {
    full: VecDeque<Frame<Bytes>>,
    filling: Option<Segment>,
    length: usize,
    /// The size of all segments.
    taken: usize,
}

struct Segment {
    bytes: BytesMut,
    /// None for the memory that is the body's own.
    _hold: Option<Hold>,
}

impl Held {
    pub(super) fn push(
        &mut self,
        budget: &BodyBudget,
        client: &Client,
        mut data: &[u8],
    ) -> Result<(), NoMemory> {
        self.length += data.len();
        while !data.is_empty() {
            let segment = match &mut self.filling {
                Some(segment) if segment.bytes.len() < segment.bytes.capacity() => segment,
                _ => {
                    self.settle();
                    let size = self.length.clamp(MIN_SEGMENT, MAX_SEGMENT);
                    self.taken += size;
                    let _hold = match self.taken {
                        0..=OWN => None,
                        _ => Some(budget.take(client, size)?),
                    };
                    let bytes = BytesMut::with_capacity(size);
                    self.filling.insert(Segment { bytes, _hold })
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

    fn budget(bytes: u64) -> BodyBudget {
        BodyBudget::new(bytes, 0, Counts::default())
    }

    fn client() -> Client {
        let client = Client::new(None);
        client.begin();
        client
    }

    fn held(budget: &BodyBudget, bytes: usize) -> Result<Held, NoMemory> {
        let mut held = Held::default();
        let pushed = held.push(budget, &client(), &vec![b'x'; bytes]);
        pushed.map(|()| held)
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = budget(1 << 20);
        let one = held(&budget, OWN + (700 << 10)).unwrap();
        assert!(held(&budget, OWN + (400 << 10)).is_err());
        assert!(held(&budget, OWN + (300 << 10)).is_ok());
        drop(one);
        assert!(held(&budget, OWN + (1 << 20)).is_ok());
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn bytes_count_until_the_last_holder_is_done() {
        let budget = budget(1 << 20);
        let all = OWN + (1 << 20);
        let mut frames = held(&budget, all).unwrap().into_frames();
        assert!(held(&budget, OWN + 1).is_err());
        // The first bytes are the body's own.
        while budget.held() == 1 << 20 {
            drop(frames.pop_front());
        }
        assert!(held(&budget, OWN + 1).is_ok());
        let kept = frames.pop_front();
        drop(frames);
        assert!(held(&budget, all).is_err());
        drop(kept);
        assert!(held(&budget, all).is_ok());
    }

    #[test]
    fn a_small_body_is_taken_when_all_memory_is_held() {
        let budget = budget(1 << 20);
        let large = held(&budget, OWN + (1 << 20)).unwrap();
        for bytes in [1, 90, 4_097, OWN / 2] {
            assert!(held(&budget, bytes).is_ok(), "{bytes}");
        }
        assert!(held(&budget, OWN + 1).is_err());
        drop(large);
    }

    #[test]
    fn one_client_holds_half_and_always_one_body() {
        let remote = Client::new(Some("192.0.2.1".parse().unwrap()));
        remote.begin();
        let holds = |budget: &BodyBudget, bytes: usize| {
            let mut held = Held::default();
            held.push(budget, &remote, &vec![b'x'; bytes])
                .map(|()| held)
        };
        let half = budget(1 << 20);
        assert!(holds(&half, OWN + (500 << 10)).is_ok());
        assert!(holds(&half, OWN + (600 << 10)).is_err());
        let large = BodyBudget::new(1 << 20, 800 << 10, Counts::default());
        assert!(holds(&large, OWN + (800 << 10)).is_ok());
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
            let budget = budget(bytes as u64 + BODY_SLACK);
            let mut held = Held::default();
            for piece in body.chunks(piece) {
                assert!(held.push(&budget, &client(), piece).is_ok(), "{bytes}");
            }
        }
    }

    #[test]
    fn pieces_of_a_byte_cost_no_more_than_one_piece() {
        let budget = budget(256 << 10);
        let (mut held, client) = (Held::default(), client());
        for piece in 0..100_000_u32 {
            held.push(&budget, &client, &[piece.to_be_bytes()[3]])
                .unwrap();
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
