//! Whose word counts. Roots come in as values: no feature or variable changes them.

use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::base::x509::{self, P256Key};
use crate::nvidia::gpu::GpuAnchors;
use crate::nvidia::nras::NrasAnchors;

/// SGX Root CA of Intel, valid 2018-05-21 to 2049-12-31; its digest is pinned in a test.
const INTEL_ROOT_DER: &[u8] = include_bytes!("../data/intel-sgx-root-ca.der");

/// The root certificates that platforms and GPUs are trusted under, and who
/// certifies the keys of NVIDIA's attestation service.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustAnchors {
    tdx_root_der: Vec<u8>,
    gpus: GpuAnchors,
    nras: NrasAnchors,
}

impl TrustAnchors {
    /// Intel's production root for platforms, NVIDIA's for GPUs.
    #[must_use]
    pub fn intel() -> Self {
        Self::danger_tdx_root(INTEL_ROOT_DER.to_vec())
    }

    /// DANGER: another root (DER) for platforms. Whoever holds its key makes any
    /// machine genuine; for tests and demonstrations.
    #[must_use]
    pub fn danger_tdx_root(der: Vec<u8>) -> Self {
        Self {
            tdx_root_der: der,
            gpus: GpuAnchors::nvidia(),
            nras: NrasAnchors::nvidia(),
        }
    }

    /// The same for platforms, with these for GPUs.
    #[must_use]
    pub fn with_gpus(self, gpus: GpuAnchors) -> Self {
        Self { gpus, ..self }
    }

    /// The same, with these for NVIDIA's attestation service.
    #[must_use]
    pub fn with_nras(self, nras: NrasAnchors) -> Self {
        Self { nras, ..self }
    }

    /// True if platforms are trusted under Intel's root.
    #[must_use]
    pub fn is_intel(&self) -> bool {
        self.tdx_root_der == INTEL_ROOT_DER
    }

    /// The root certificate of platforms (DER).
    #[must_use]
    pub fn tdx_root_der(&self) -> &[u8] {
        &self.tdx_root_der
    }

    /// The key of that certificate; `None` if it has none on P-256.
    pub(crate) fn tdx_root_key(&self) -> Option<P256Key> {
        let root = Certificate::from_der(&self.tdx_root_der).ok()?;
        x509::subject_key(&root).ok()
    }

    /// SHA-256 of the root certificate of platforms: what must not be shared
    /// between roots is kept under it.
    #[must_use]
    pub fn tdx_root_sha256(&self) -> [u8; 32] {
        crate::base::hash::sha256(&[&self.tdx_root_der])
    }

    /// The root of GPUs.
    #[must_use]
    pub fn gpus(&self) -> &GpuAnchors {
        &self.gpus
    }

    /// Who certifies the keys of NVIDIA's attestation service.
    #[must_use]
    pub fn nras(&self) -> &NrasAnchors {
        &self.nras
    }
}

impl std::fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = hex::encode(self.tdx_root_sha256());
        f.debug_struct("TrustAnchors")
            .field("tdx_root_sha256", &digest)
            .field("gpus", &self.gpus)
            .field("nras", &self.nras)
            .finish()
    }
}
