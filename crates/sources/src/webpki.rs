//! What a certificate authority counts for at backends.

/// Whether a certificate authority has to certify the domain, beside the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebPki {
    /// Chain and host name are checked.
    Require,
    /// They are not checked; evidence alone decides. The handshake's signature is always
    /// checked.
    Off,
}

impl WebPki {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Require => "required",
            Self::Off => "not required",
        }
    }
}
