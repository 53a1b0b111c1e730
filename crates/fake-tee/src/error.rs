//! What can go wrong while something is forged.

/// Why a forgery or the fake service failed. All of these are faults of the
/// caller or of the machine; none is part of a test's tampering.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or CRL could not be encoded or signed.
    #[error("certificate or CRL: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A key could not be made or used.
    #[error("key: {0}")]
    Key(&'static str),
    /// A document could not be encoded.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// TLS could not be configured.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A socket or file failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A name that is not in the list of tamperings.
    #[error("no tampering is called \"{0}\"; see --tamper list")]
    UnknownTampering(String),
    /// An argument that is not what it should be.
    #[error("{0}")]
    Argument(String),
}
