//! From a GPU's firmware key up to NVIDIA's root, five certificates:
//! firmware (leaf) <- device <- provisioner <- family <- root.
//!
//! The root is compared with the trusted one byte by byte and needs no
//! signature; below it each link is checked from the top down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::certificate::{EndEntity, Issuer};
use super::dice::{self, Origin};
use super::report::{Architecture, Pdi, Ueid};
use crate::base::hash;
use crate::base::identifiers::UnixTime;
use crate::base::x509::{self, Key};
use crate::refusals::gpu::GpuRejected;

/// SHA-256 of NVIDIA's "Device Identity CA" (DER), valid 2021-11-05 to
/// 9999-12-31, is pinned in a test.
const NVIDIA_ROOT_DER: &[u8] = include_bytes!("../../../data/nvidia-device-identity-ca.der");

/// Certificates of a GPU.
const CHAIN: usize = 5;

/// The most links that are kept, of each kind: all GPUs share two issuers; each GPU has
/// one of its own, and a leaf.
const MAX_LINKS: usize = 1024;

/// The root certificate that GPUs are trusted under. It comes in as a value; no
/// feature or variable changes it.
#[derive(Clone, PartialEq, Eq)]
pub struct GpuAnchors {
    root_der: Vec<u8>,
}

impl GpuAnchors {
    /// NVIDIA's root of device identities.
    #[must_use]
    pub fn nvidia() -> Self {
        Self {
            root_der: NVIDIA_ROOT_DER.to_vec(),
        }
    }

    /// DANGER: another root (DER). The holder of its key can make any GPU genuine; for
    /// tests and demonstrations.
    #[must_use]
    pub fn danger_gpu_root(der: Vec<u8>) -> Self {
        Self { root_der: der }
    }

    /// True for [`GpuAnchors::nvidia`].
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        self.root_der == NVIDIA_ROOT_DER
    }

    /// SHA-256 of the root certificate.
    #[must_use]
    pub fn root_sha256(&self) -> [u8; 32] {
        hash::sha256(&[&self.root_der])
    }

    /// The trusted root as an issuer.
    pub(super) fn root(&self) -> Result<Root<'_>, String> {
        Ok(Root {
            der: &self.root_der,
            issuer: Arc::new(Issuer::read(&x509::certificate(&self.root_der)?)?),
        })
    }
}

impl std::fmt::Debug for GpuAnchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = hex::encode(self.root_sha256());
        f.debug_struct("GpuAnchors")
            .field("root_sha256", &digest)
            .finish()
    }
}

/// [`GpuAnchors`], read once for all GPUs.
pub(super) struct Root<'a> {
    der: &'a [u8],
    issuer: Arc<Issuer>,
}

/// Two certificates (SHA-256 of the DER) of which the upper signed the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Link {
    subject: [u8; 32],
    issuer: [u8; 32],
}

/// Links between certificates that have been verified. Each use checks that they are
/// valid at this moment and lead to the trusted root, so that one cache serves any root
/// and any moment. A leaf stays the same until its machine reboots.
#[derive(Debug, Default)]
pub struct IssuerCache {
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    issuers: HashMap<Link, Arc<Issuer>>,
    leaves: HashMap<Link, Arc<Firmware>>,
}

/// The bound is needed: the holder of a genuine device key can issue any number of
/// leaves.
fn keep<T>(links: &mut HashMap<Link, Arc<T>>, link: Link, verified: &Arc<T>) {
    if links.len() >= MAX_LINKS {
        links.clear();
    }
    links.insert(link, Arc::clone(verified));
}

impl IssuerCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many issuers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links().issuers.len()
    }

    /// True if it holds no issuer, as before its first use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links().issuers.is_empty()
    }

    /// The issuer `der`, issued by `issuer`.
    fn issuer(&self, link: Link, der: &[u8], issuer: &Issuer) -> Result<Arc<Issuer>, String> {
        if let Some(known) = self.links().issuers.get(&link) {
            return Ok(Arc::clone(known));
        }
        let certificate = x509::certificate(der)?;
        issuer.has_issued(&certificate)?;
        let verified = Arc::new(Issuer::read(&certificate)?);
        keep(&mut self.links().issuers, link, &verified);
        Ok(verified)
    }

    /// The leaf `der`, issued by `device`.
    fn leaf(
        &self,
        gpu: usize,
        link: Link,
        der: &[u8],
        device: &Issuer,
        architecture: Architecture,
    ) -> Result<Arc<Firmware>, GpuRejected> {
        if let Some(known) = self.links().leaves.get(&link) {
            return Ok(Arc::clone(known));
        }
        let verified = Arc::new(Firmware::verify(gpu, der, device, architecture)?);
        keep(&mut self.links().leaves, link, &verified);
        Ok(verified)
    }

    /// A poisoned lock is harmless: each link was verified before it was put there.
    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A firmware's identity, from its leaf and the device that issued it.
#[derive(Debug)]
pub(super) struct Firmware {
    /// The firmware's key, which signs the evidence.
    pub(super) key: Key,
    pub(super) architecture: Architecture,
    pub(super) pdi: Pdi,
    pub(super) ueid: Ueid,
    /// The firmware that the key was derived from.
    pub(super) fwid: [u8; 48],
    validity: (UnixTime, UnixTime),
}

const LEAF: &str = "the firmware's certificate";

impl Firmware {
    /// Verifies everything but the validity at this moment.
    fn verify(
        gpu: usize,
        der: &[u8],
        device: &Issuer,
        architecture: Architecture,
    ) -> Result<Self, GpuRejected> {
        let refuse = |detail: String| GpuRejected::Chain {
            gpu,
            certificate: LEAF,
            detail,
        };
        let leaf = EndEntity::verify(der, device).map_err(refuse)?;
        dice::agrees(gpu, &leaf, architecture)?;
        let pdi = dice::pdi(gpu, device)?;
        let origin = Origin::read(&leaf)
            .ok_or_else(|| refuse("it does not say which firmware it is for".to_owned()))?;
        if origin.device_spki != device.spki {
            return Err(GpuRejected::Dice { gpu });
        }
        let serial = leaf.certificate.tbs_certificate().serial_number();
        let ueid = Ueid::from_serial(serial.as_bytes())
            .ok_or_else(|| refuse("its serial number does not have 20 bytes".to_owned()))?;
        Ok(Self {
            architecture,
            pdi,
            ueid,
            fwid: origin.fwid,
            validity: leaf.validity,
            key: leaf.key,
        })
    }
}

/// What a chain that leads to the trusted root certifies.
pub(super) enum Verified {
    /// A firmware's key, and the end of the chain's shortest validity.
    Firmware(Arc<Firmware>, UnixTime),
    /// A key of an unknown chip of this name.
    NotUnderstood(String),
}

/// Verifies a chain, leaf first. If the chip is not known, the chain is verified, but
/// NVIDIA's own statements in its certificates are not read.
///
/// # Errors
/// `rejected_gpu_chain_length`, `_root`, `_chain`, `_dice`, `_architecture`.
pub(super) fn verify(
    gpu: usize,
    chain: &[Vec<u8>],
    root: &Root<'_>,
    now: UnixTime,
    cache: &IssuerCache,
) -> Result<Verified, GpuRejected> {
    let [leaf, device, provisioner, family, sent_root] = chain else {
        return Err(GpuRejected::ChainLength {
            gpu,
            got: chain.len(),
            expected: CHAIN,
        });
    };
    if sent_root != root.der {
        return Err(GpuRejected::Root {
            gpu,
            got: hex::encode(hash::sha256(&[sent_root])),
            expected: hex::encode(hash::sha256(&[root.der])),
        });
    }
    let refuse = |certificate: &'static str, detail: String| GpuRejected::Chain {
        gpu,
        certificate,
        detail,
    };
    let mut issuer = root.issuer.clone();
    let mut issuer_sha256 = hash::sha256(&[root.der]);
    let mut valid_until = issuer
        .valid_at(now)
        .map_err(|detail| refuse("the root", detail))?;
    for (der, name) in [
        (family, "the family's certificate"),
        (provisioner, "the provisioner's certificate"),
        (device, "the device's certificate"),
    ] {
        let subject = hash::sha256(&[der]);
        let link = Link {
            subject,
            issuer: issuer_sha256,
        };
        issuer = cache
            .issuer(link, der, &issuer)
            .map_err(|detail| refuse(name, detail))?;
        let until = issuer
            .valid_at(now)
            .map_err(|detail| refuse(name, detail))?;
        valid_until = valid_until.min(until);
        issuer_sha256 = subject;
    }
    let valid_at =
        |validity| x509::valid_at(validity, now, 0).map_err(|detail| refuse(LEAF, detail));
    let Some(architecture) = Architecture::of_name(&issuer.common_name) else {
        let leaf = EndEntity::verify(leaf, &issuer).map_err(|detail| refuse(LEAF, detail))?;
        valid_at(leaf.validity)?;
        return dice::unknown_chip(gpu, &issuer).map(Verified::NotUnderstood);
    };
    let link = Link {
        subject: hash::sha256(&[leaf]),
        issuer: issuer_sha256,
    };
    let firmware = cache.leaf(gpu, link, leaf, &issuer, architecture)?;
    let until = valid_at(firmware.validity)?;
    Ok(Verified::Firmware(firmware, valid_until.min(until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_root_is_nvidias() {
        assert!(GpuAnchors::nvidia().is_nvidia());
        assert_eq!(
            hex::encode(GpuAnchors::nvidia().root_sha256()),
            "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
        );
        let root = GpuAnchors::nvidia().root_der;
        let issuer = Issuer::read(&x509::certificate(&root).unwrap()).unwrap();
        assert_eq!(issuer.common_name, "NVIDIA Device Identity CA");
        assert_eq!(
            hex::encode(hash::sha256(&[&issuer.spki])),
            "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"
        );
        assert_eq!(
            issuer.has_issued(&x509::certificate(&root).unwrap()),
            Ok(())
        );
    }
}
