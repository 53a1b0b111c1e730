//! How the proxy finds the model in a request's body: the proxy's own files,
//! since its modules are nobody else's.

use http::{HeaderMap, HeaderValue, header};
use stats_alloc::Region;

use crate::json_member::JsonMember;
use crate::memory::MEMORY;

/// As far as it is needed here.
#[path = "../../crates/upstream/src/path/request"]
#[expect(
    dead_code,
    reason = "the proxy uses more of these files than is fuzzed"
)]
mod request {
    mod form;
    mod framing;
    mod model;
    mod parameters;

    use self::form::Content;
    use self::model::{BodyScan, ModelField};

    /// What is found in a body with these headers; told after each piece.
    pub(super) fn read<'a>(
        headers: &http::HeaderMap,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        after_each: impl Fn(),
    ) -> Result<Option<String>, &'static str> {
        let mut scan = match BodyScan::new(headers) {
            Ok(scan) => scan,
            Err(ModelField::Malformed(why) | ModelField::Absent(why)) => return Err(why),
            Err(ModelField::Encoded | ModelField::Named(_)) => {
                unreachable!("nothing was read, and no header names a coding")
            }
        };
        for piece in pieces {
            scan.feed(piece).map_err(|Content(why)| why)?;
            after_each();
        }
        scan.end().map_err(|Content(why)| why)?;
        Ok(scan.model().map(str::to_owned))
    }
}

/// Of a model's name.
pub const MAX_MODEL_BYTES: usize = crate::backend::MAX_MODEL_BYTES;

/// A reader's own, whatever the body's length: twice a part's header of 4 KiB,
/// since vectors grow by doubling, and what is little beside that.
const MAX_HELD: usize = 12 << 10;

/// A body with cuts in it.
#[derive(Debug)]
pub struct Cut<'a> {
    /// Picks one of a target's variants.
    pub choice: u8,
    /// The whole body.
    pub body: &'a [u8],
    pieces: Vec<&'a [u8]>,
}

impl<'a> Cut<'a> {
    /// The first byte chooses, the second says how many cuts there are; each is
    /// two bytes; the body follows.
    pub fn of(data: &'a [u8]) -> Option<Self> {
        let (&[choice, count], rest) = data.split_first_chunk()?;
        let (cuts, body) = rest.split_at_checked(2 * usize::from(count % 8))?;
        let mut cuts: Vec<_> = cuts
            .chunks_exact(2)
            .map(|cut| usize::from(u16::from_be_bytes([cut[0], cut[1]])) % (body.len() + 1))
            .collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
        Some(Self {
            choice,
            body,
            pieces,
        })
    }

    /// The model that a body of this type names, or what is wrong with it:
    /// always the same, however it is cut.
    pub fn model(&self, content_type: &str) -> Result<Option<String>, &'static str> {
        let whole = model_in(content_type, [self.body]);
        assert_eq!(model_in(content_type, self.pieces.iter().copied()), whole);
        assert_eq!(model_in(content_type, self.body.chunks(1)), whole);
        whole
    }
}

impl Cut<'_> {
    /// The model as who stops behind it finds it; nothing if something is wrong
    /// before it.
    pub fn first(&self) -> Option<String> {
        let mut member = JsonMember::new("model", MAX_MODEL_BYTES);
        for piece in &self.pieces {
            match member.find(piece) {
                Ok(None) => {}
                Ok(Some(model)) => return Some(model.to_owned()),
                Err(_) => return None,
            }
        }
        None
    }
}

fn model_in<'a>(
    content_type: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<String>, &'static str> {
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(content_type).expect("a header's value");
    headers.insert(header::CONTENT_TYPE, content_type);
    let memory = Region::new(MEMORY);
    request::read(&headers, pieces, || {
        let change = memory.change();
        let held = change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated);
        assert!(held <= MAX_HELD, "{held} bytes are held");
    })
}
