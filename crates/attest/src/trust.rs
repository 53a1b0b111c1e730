//! Whose word counts. Roots come in as values: no feature or variable changes them.

use crate::intel::root::TdxRoot;
use crate::nvidia::gpu::GpuAnchors;
use crate::nvidia::nras::NrasAnchors;

/// The root certificates that platforms and GPUs are trusted under, and who
/// certifies the keys of NVIDIA's attestation service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchors {
    tdx: TdxRoot,
    gpus: GpuAnchors,
    nras: NrasAnchors,
}

impl TrustAnchors {
    /// Intel's production root for platforms, NVIDIA's for GPUs.
    #[must_use]
    pub fn intel() -> Self {
        Self::under(TdxRoot::intel())
    }

    /// DANGER: another root (DER) for platforms. Whoever holds its key makes any
    /// machine genuine; for tests and demonstrations.
    #[must_use]
    pub fn danger_tdx_root(der: Vec<u8>) -> Self {
        Self::under(TdxRoot::danger(der))
    }

    fn under(tdx: TdxRoot) -> Self {
        Self {
            tdx,
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

/// Where one root is asked for, it is that of platforms.
impl std::ops::Deref for TrustAnchors {
    type Target = TdxRoot;

    fn deref(&self) -> &TdxRoot {
        &self.tdx
    }
}
