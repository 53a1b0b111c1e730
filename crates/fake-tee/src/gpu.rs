//! NVIDIA-shaped GPU evidence under a throw-away root: P-384 certificates from
//! root to firmware, and SPDM measurements that N GPUs sign.
//!
//! A [`GpuSpec`] describes a valid machine. A test changes a field, or through a
//! [`Hook`] the value at one stage; what comes after is derived and signed.

mod chain;
mod read;
mod spdm;

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::encode::{base64, pem_chain};
use crate::hash::{label, label384};
use crate::{Error, Hook, Signer};

pub use chain::{GpuKeys, GpuPki, P384Key};
pub use read::GpuClaims;
pub use spdm::{Block, Message, field};

/// One GPU, and where a test reaches in.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// The keys of device and firmware.
    pub keys: Arc<GpuKeys>,
    /// The device's number.
    pub pdi: [u8; 8],
    /// The kind of device, the first byte of its certificate's serial number.
    pub kind: u8,
    /// The chip's name in certificates.
    pub chip: String,
    /// The numbers of the NVSwitches that its links lead to.
    pub switches: Vec<[u8; 8]>,
    /// The firmware, as the certificate names it.
    pub fwid: [u8; 48],
    /// Who signs the firmware's certificate.
    pub leaf_signer: Signer,
    /// The device key that the firmware's certificate names, if another one.
    pub leaf_origin: Option<Vec<u8>>,
    /// The firmware's certificate before it is signed.
    pub leaf: Hook<rcgen::CertificateParams>,
    /// The device's.
    pub device: Hook<rcgen::CertificateParams>,
    /// The provisioner's.
    pub provisioner: Hook<rcgen::CertificateParams>,
    /// The family's.
    pub family: Hook<rcgen::CertificateParams>,
    /// The signed chain (DER, leaf first).
    pub chain: Hook<Vec<Vec<u8>>>,
    /// The same in PEM.
    pub pem: Hook<Vec<u8>>,
    /// Request and response, field by field.
    pub message: Hook<Message>,
    /// The bytes that are signed.
    pub signed: Hook<Vec<u8>>,
    /// The bytes with their signature.
    pub evidence: Hook<Vec<u8>>,
}

/// The GPUs of one machine.
#[derive(Debug, Clone)]
pub struct GpuSpec {
    /// Who certifies them.
    pub pki: Arc<GpuPki>,
    /// In the order of the list.
    pub gpus: Vec<Gpu>,
    /// The payload as it is sent.
    pub payload: Hook<Value>,
}

impl GpuSpec {
    /// A machine with this many GPUs, under [`GpuPki::shared`].
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn new(count: usize) -> Result<Self, Error> {
        Ok(Self {
            pki: GpuPki::shared()?,
            gpus: (0..count).map(Gpu::new).collect::<Result<_, _>>()?,
            payload: Hook::default(),
        })
    }

    /// The eight GPUs of every [`Spec::new`](crate::Spec::new) of this process.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn shared() -> Result<Self, Error> {
        static SHARED: OnceLock<GpuSpec> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared.clone());
        }
        let made = Self::new(8)?;
        Ok(SHARED.get_or_init(|| made).clone())
    }

    /// Connects all of them by this many switches, instead of four.
    pub fn connect(&mut self, count: u32) {
        for gpu in &mut self.gpus {
            gpu.switches = switches(count);
        }
    }

    /// The text of `nvidia_payload` that answers a nonce.
    ///
    /// # Errors
    /// If something cannot be signed.
    pub fn forge(&self, nonce: &[u8; 32]) -> Result<String, Error> {
        let list = self
            .gpus
            .iter()
            .map(|gpu| {
                let (certificate, evidence) = gpu.forge(&self.pki, nonce)?;
                Ok(json!({
                    "arch": "HOPPER",
                    "certificate": base64(&certificate),
                    "evidence": base64(&evidence),
                    "nonce": hex::encode(nonce),
                }))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut payload = json!({
            "arch": "HOPPER",
            "evidence_list": list,
            "nonce": hex::encode(nonce),
        });
        self.payload.apply(&mut payload);
        Ok(payload.to_string())
    }
}

fn switches(count: u32) -> Vec<[u8; 8]> {
    let number = |index| label(&format!("NVSwitch {index}"));
    (1..=count).map(number).collect()
}

impl Gpu {
    fn new(index: usize) -> Result<Self, Error> {
        Ok(Self {
            keys: Arc::new(GpuKeys::generate()?),
            pdi: label(&format!("GPU {index}")),
            kind: 0x41,
            chip: "GH100".to_owned(),
            switches: switches(4),
            fwid: label384("GPU firmware"),
            leaf_signer: Signer::Proper,
            leaf_origin: None,
            leaf: Hook::default(),
            device: Hook::default(),
            provisioner: Hook::default(),
            family: Hook::default(),
            chain: Hook::default(),
            pem: Hook::default(),
            message: Hook::default(),
            signed: Hook::default(),
            evidence: Hook::default(),
        })
    }

    /// PEM chain and evidence.
    fn forge(&self, pki: &GpuPki, nonce: &[u8; 32]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let mut chain = pki.issue(self)?;
        self.chain.apply(&mut chain);
        let mut pem = pem_chain(&chain).into_bytes();
        self.pem.apply(&mut pem);

        let mut message = Message::new(nonce, &self.fwid, &self.switches);
        self.message.apply(&mut message);
        let mut bytes = message.encode();
        self.signed.apply(&mut bytes);
        let signature = self.keys.firmware.sign_fixed(&bytes)?;
        bytes.extend(signature);
        self.evidence.apply(&mut bytes);
        Ok((pem, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_gpu_names_the_switches_of_the_machine() {
        for count in [0, 1, 4, 18] {
            let links = Message::new(&[0; 32], &[0; 48], &switches(count))
                .field(field::SWITCHES)
                .clone();
            assert_eq!(links.len(), 144);
            let named: BTreeSet<_> = links.chunks(8).filter(|pdi| **pdi != [0; 8]).collect();
            assert_eq!(named.len(), count as usize);
        }
    }
}
