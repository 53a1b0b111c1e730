//! The root certificate that platforms are trusted under.

use crate::base::hash;
use crate::base::x509::{self, Key, P256};

/// SGX Root CA of Intel, valid 2018-05-21 to 2049-12-31; its digest is pinned in a test.
const INTEL_ROOT_DER: &[u8] = include_bytes!("../../data/intel-sgx-root-ca.der");

/// The root certificate that platforms are trusted under.
#[derive(Clone, PartialEq, Eq)]
pub struct TdxRoot(Vec<u8>);

impl TdxRoot {
    /// Intel's production root.
    pub(crate) fn intel() -> Self {
        Self(INTEL_ROOT_DER.to_vec())
    }

    /// DANGER: another root (DER). The holder of its key can make any machine genuine.
    pub(crate) fn danger(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// True if platforms are trusted under Intel's root.
    #[must_use]
    pub fn is_intel(&self) -> bool {
        self.0 == INTEL_ROOT_DER
    }

    /// The root certificate of platforms (DER).
    #[must_use]
    pub fn tdx_root_der(&self) -> &[u8] {
        &self.0
    }

    /// The key of that certificate; `None` if it has none on P-256.
    pub(crate) fn tdx_root_key(&self) -> Option<Key> {
        Key::of(&x509::certificate(&self.0).ok()?, &P256).ok()
    }

    /// SHA-256 of the root certificate of platforms: the key for values that roots must
    /// not share.
    #[must_use]
    pub fn tdx_root_sha256(&self) -> [u8; 32] {
        hash::sha256(&[&self.0])
    }
}

impl std::fmt::Debug for TdxRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TdxRoot({})", hex::encode(self.tdx_root_sha256()))
    }
}
