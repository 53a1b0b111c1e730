//! The results about the GPUs of a machine.

use std::collections::BTreeSet;
use std::fmt;

use crate::base::finding::Finding;
use crate::base::identifiers::UnixTime;

/// A measurement of the GPU (SHA-384).
pub type Measurement = [u8; 48];

/// A value, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stated<T> {
    /// As the evidence states it, under its signature.
    Value(T),
    /// It was not checked, since it is not there. Never a pass.
    Absent(&'static str),
}

impl Stated<bool> {
    /// "on", "off", or the reason.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Value(true) => "on",
            Self::Value(false) => "off",
            Self::Absent(reason) => reason,
        }
    }
}

/// The family of a GPU, by its certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// GH100: H100, H200 and their kin, which certificates do not tell apart.
    Hopper,
}

impl Architecture {
    /// The name in `nvidia_payload`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hopper => "HOPPER",
        }
    }

    /// The chip, as certificates name it.
    #[must_use]
    pub const fn chip(self) -> &'static str {
        match self {
            Self::Hopper => "GH100",
        }
    }

    /// A certificate's common name begins with the chip, as in `GH100 A01 GSP BROM`.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        (name.split(' ').next() == Some(Self::Hopper.chip())).then_some(Self::Hopper)
    }
}

/// The number that NVIDIA gave a device; the same for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pdi(pub(super) [u8; 8]);

impl Pdi {
    /// The bytes, as the certificate has them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Pdi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for Pdi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pdi({self})")
    }
}

/// The identity of a GPU's firmware key; NVIDIA's services call it the UEID and
/// write it in decimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ueid([u8; 20]);

impl Ueid {
    pub(super) fn from_serial(serial: &[u8]) -> Option<Self> {
        serial.try_into().ok().map(Self)
    }

    /// The bytes, as the certificate has them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Ueid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Decimal digits, the last one first: times 256, plus the next byte.
        let mut digits = vec![0_u8];
        for byte in self.0 {
            let mut carry = u16::from(byte);
            for digit in &mut digits {
                let value = u16::from(*digit).saturating_mul(256).saturating_add(carry);
                *digit = u8::try_from(value % 10).unwrap_or_default();
                carry = value / 10;
            }
            while carry > 0 {
                digits.push(u8::try_from(carry % 10).unwrap_or_default());
                carry /= 10;
            }
        }
        digits
            .iter()
            .rev()
            .try_for_each(|digit| write!(f, "{digit}"))
    }
}

impl fmt::Debug for Ueid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ueid({self})")
    }
}

/// One GPU: genuine, and in the state that it signed for our nonce.
#[derive(Debug)]
#[non_exhaustive]
pub struct GpuFinding {
    /// By the certificates.
    pub architecture: Architecture,
    /// The device.
    pub pdi: Pdi,
    /// Its firmware's key.
    pub ueid: Ueid,
    /// The firmware that the key was derived from, by the certificate.
    pub fwid: [u8; 48],
    /// The firmware that the firmware itself reports; if it reports one, it is `fwid`.
    pub reported_fwid: Stated<[u8; 48]>,
    /// The host's driver, such as `570.172.08`.
    pub driver: String,
    /// Such as `96.00.CF.00.02`.
    pub vbios: String,
    /// The board's project and part numbers, which name its VBIOS.
    pub board: Stated<Board>,
    /// Whether the video decoder can be used.
    pub nvdec0: Stated<bool>,
    /// Whether the GPU runs in Protected PCIe mode, which trusts NVLink.
    pub protected_pcie: Stated<bool>,
    /// How the driver was set up: 0 a single GPU, 1 several, 2 Protected PCIe.
    pub feature: Stated<u16>,
    /// The switches that its NVLinks lead to.
    pub switches: Stated<BTreeSet<Pdi>>,
    /// In the order of their indices, 1 to 64. Not compared with anything here.
    pub measurements: Vec<Measurement>,
    /// SHA-384 of the record that holds them.
    pub record_sha384: [u8; 48],
    /// The end of its chain's shortest validity.
    pub valid_until: UnixTime,
}

/// The identity of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Such as `G520`.
    pub project: String,
    /// Such as `0280`.
    pub project_sku: String,
    /// Such as `895`.
    pub chip_sku: String,
}

impl GpuFinding {
    /// NVIDIA's name for the reference measurements of the driver.
    #[must_use]
    pub fn driver_rim_id(&self) -> String {
        format!("NV_GPU_DRIVER_{}_{}", self.architecture.chip(), self.driver)
    }

    /// NVIDIA's name for the reference measurements of the VBIOS.
    #[must_use]
    pub fn vbios_rim_id(&self) -> Stated<String> {
        match &self.board {
            Stated::Absent(reason) => Stated::Absent(reason),
            Stated::Value(board) => Stated::Value(format!(
                "NV_GPU_VBIOS_{}_{}_{}_{}",
                board.project,
                board.project_sku,
                board.chip_sku,
                self.vbios.replace('.', "")
            )),
        }
    }
}

/// A GPU of an unknown chip, certified under the trusted root. None of its evidence was
/// checked, and it does not count as a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownGpu {
    /// Its place in the list, from 0.
    pub gpu: usize,
    /// What its certificate calls the chip: quoted, printable ASCII, bounded.
    pub chip: String,
}

/// Whether the GPUs are in one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// All their NVLinks lead to the same switches.
    SameSwitches(BTreeSet<Pdi>),
    /// Nothing was compared.
    NotCompared(&'static str),
}

/// What valid evidence of GPUs does not prove.
pub(crate) const GPUS_NOT_PROVED: [&str; 4] = [
    "the tables measure places: they do not measure which device is in a place, nor what else is on the root bus",
    "only our nonce and the attested connection tie the GPUs to the virtual machine",
    "the switches between the GPUs are named, not attested",
    "NVIDIA was not asked whether it has revoked a certificate",
];

/// GPUs with valid evidence. Only [`appraise_gpus`](crate::appraise_gpus) makes one.
#[derive(Debug)]
pub struct GpuReport {
    pub(super) gpus: Vec<GpuFinding>,
    pub(super) not_understood: Vec<UnknownGpu>,
    pub(super) topology: Topology,
    pub(super) findings: Vec<Finding>,
}

impl GpuReport {
    /// In the order of the list, each a different device. Empty only if none was
    /// [understood](Self::not_understood).
    #[must_use]
    pub fn gpus(&self) -> &[GpuFinding] {
        &self.gpus
    }

    /// Those that are newer than this program. If there are any, the others were not
    /// compared with each other.
    #[must_use]
    pub fn not_understood(&self) -> &[UnknownGpu] {
        &self.not_understood
    }

    /// The switches that the GPUs name, each once.
    #[must_use]
    pub fn switches(&self) -> BTreeSet<Pdi> {
        let named = self.gpus.iter().filter_map(|gpu| match &gpu.switches {
            Stated::Value(switches) => Some(switches),
            Stated::Absent(_) => None,
        });
        named.flatten().copied().collect()
    }

    /// Differences that refuse nothing: of versions, and of unsigned copies.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether they are in one machine.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The end of the shortest validity of a certificate.
    #[must_use]
    pub fn valid_until(&self) -> UnixTime {
        let ends = self.gpus.iter().map(|gpu| gpu.valid_until);
        ends.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_in_decimal() {
        let of = |last: &[u8]| {
            let mut bytes = [0; 20];
            bytes[20 - last.len()..].copy_from_slice(last);
            Ueid(bytes).to_string()
        };
        assert_eq!(of(&[]), "0");
        assert_eq!(of(&[9]), "9");
        assert_eq!(of(&[255]), "255");
        assert_eq!(of(&[1, 0]), "256");
        assert_eq!(of(&[0xff; 8]), u64::MAX.to_string());
        assert_eq!(of(&[0xff; 16]), u128::MAX.to_string());
    }

    #[test]
    fn an_identity_is_20_bytes() {
        let ueid = Ueid::from_serial(&[7; 20]).unwrap();
        assert_eq!(ueid.as_bytes(), &[7; 20]);
        assert_eq!(Ueid::from_serial(&[7; 19]), None);
        assert_eq!(Ueid::from_serial(&[7; 21]), None);
    }

    #[test]
    fn a_chip_is_a_whole_word() {
        let hopper = Some(Architecture::Hopper);
        assert_eq!(Architecture::of_name("GH100 A01 GSP BROM"), hopper);
        for other in [
            "GB100 A01 GSP BROM",
            "LS_10 A01",
            "GH1000 A01",
            "",
            " GH100",
        ] {
            assert_eq!(Architecture::of_name(other), None, "{other}");
        }
    }
}
