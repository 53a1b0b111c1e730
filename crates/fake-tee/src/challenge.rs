//! The request that a report answers.

/// What a report has to answer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The verifier's nonce.
    pub nonce: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo of the TLS key.
    pub spki_sha256: [u8; 32],
}
