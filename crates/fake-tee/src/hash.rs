//! SHA-2 as arrays, and digests of labels for values that need only be stable.

use aws_lc_rs::digest::{self, Algorithm};

fn hash<const N: usize>(algorithm: &'static Algorithm, data: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, data).as_ref());
    out
}

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    hash(&digest::SHA256, data)
}

/// SHA-384.
pub fn sha384(data: &[u8]) -> [u8; 48] {
    hash(&digest::SHA384, data)
}

/// SHA-512.
pub fn sha512(data: &[u8]) -> [u8; 64] {
    hash(&digest::SHA512, data)
}

/// A stable 48-byte stand-in for something this fake has no real thing of.
pub fn label384(label: &str) -> [u8; 48] {
    sha384(format!("fake-tee:{label}").as_bytes())
}

/// A stable 32-byte stand-in.
pub fn label256(label: &str) -> [u8; 32] {
    sha256(format!("fake-tee:{label}").as_bytes())
}

/// The first `N` bytes of [`label256`]; `N` is at most 32.
pub fn label<const N: usize>(label: &str) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(label256(label)) {
        *to = from;
    }
    out
}
