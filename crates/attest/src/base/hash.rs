//! SHA-2 over parts, without joining them first.

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA384, SHA512};

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest(&SHA256, parts)
}

pub(crate) fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    digest(&SHA384, parts)
}

pub(crate) fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    digest(&SHA512, parts)
}

fn digest<const LEN: usize>(algorithm: &'static Algorithm, parts: &[&[u8]]) -> [u8; LEN] {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; LEN];
    // Each caller pairs LEN with its algorithm; a mismatch panics rather than
    // comparing a shortened digest.
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-384 of data that comes piece by piece.
pub(crate) struct Sha384(Context);

impl Sha384 {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA384))
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> [u8; 48] {
        let mut out = [0; 48];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}
