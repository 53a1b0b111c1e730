//! The certificates: root, family, provisioner, device, firmware.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, date_time_ymd,
};

use super::Gpu;
use crate::encode::{der_integer, der_octets, der_sequence};
use crate::hash::label;
use crate::{Error, Signer};

/// An OBJECT IDENTIFIER in DER: SHA-384.
const SHA384_DER: [u8; 11] = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const OID_FWID: [u64; 6] = [2, 23, 133, 5, 4, 1];
const OID_DEVICE: [u64; 9] = [1, 3, 6, 1, 4, 1, 412, 274, 1];
const OID_SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// A P-384 key pair.
#[derive(Debug)]
pub struct P384Key {
    certificate_key: KeyPair,
    fixed: EcdsaKeyPair,
}

impl P384Key {
    /// A fresh key.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn generate() -> Result<Self, Error> {
        Self::of(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?)
    }

    /// A key that was kept.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der);
        Self::of(KeyPair::from_pkcs8_der_and_sign_algo(
            &der,
            &rcgen::PKCS_ECDSA_P384_SHA384,
        )?)
    }

    /// The private key (PKCS #8), to keep it.
    #[must_use]
    pub fn pkcs8_der(&self) -> &[u8] {
        self.certificate_key.serialized_der()
    }

    fn of(certificate_key: KeyPair) -> Result<Self, Error> {
        let fixed = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P384_SHA384_FIXED_SIGNING,
            certificate_key.serialized_der(),
        )
        .map_err(|_| Error::Key("a generated P-384 key was refused"))?;
        Ok(Self {
            certificate_key,
            fixed,
        })
    }

    /// ECDSA with SHA-384 as r || s.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.fixed
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| Error::Key("signing failed"))
    }

    /// The key as rcgen wants it.
    pub(crate) fn certificate_key(&self) -> &KeyPair {
        &self.certificate_key
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.certificate_key.subject_public_key_info()
    }
}

/// The keys inside one GPU.
#[derive(Debug)]
pub struct GpuKeys {
    /// The device's own.
    pub device: P384Key,
    /// The firmware's, derived from it.
    pub firmware: P384Key,
}

impl GpuKeys {
    /// Fresh keys.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self {
            device: P384Key::generate()?,
            firmware: P384Key::generate()?,
        })
    }
}

/// The keys of one fake NVIDIA, and its root certificate.
#[derive(Debug)]
pub struct GpuPki {
    root: P384Key,
    family: P384Key,
    provisioner: P384Key,
    stranger: P384Key,
    root_params: CertificateParams,
    root_der: Vec<u8>,
    /// What all GPUs share that nobody changed.
    above: OnceLock<Above>,
}

/// Family and provisioner.
#[derive(Debug, Clone)]
struct Above {
    family_der: Vec<u8>,
    provisioner_params: CertificateParams,
    provisioner_der: Vec<u8>,
}

impl GpuPki {
    fn new() -> Result<Self, Error> {
        let root = P384Key::generate()?;
        let root_params = ca("NVIDIA Device Identity CA", &label::<16>("GPU root"));
        let root_der = root_params
            .self_signed(&root.certificate_key)?
            .der()
            .to_vec();
        Ok(Self {
            root,
            family: P384Key::generate()?,
            provisioner: P384Key::generate()?,
            stranger: P384Key::generate()?,
            root_params,
            root_der,
            above: OnceLock::new(),
        })
    }

    /// The PKI that every [`GpuSpec::new`](super::GpuSpec::new) of this process uses.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: OnceLock<Arc<GpuPki>> = OnceLock::new();
        once(&SHARED)
    }

    /// A second PKI with the same names: a root that nobody should trust.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn other() -> Result<Arc<Self>, Error> {
        static OTHER: OnceLock<Arc<GpuPki>> = OnceLock::new();
        once(&OTHER)
    }

    /// The root certificate, the verifier's trust anchor.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// The chain of a GPU (DER, leaf first, root last).
    pub(super) fn issue(&self, gpu: &Gpu) -> Result<Vec<Vec<u8>>, Error> {
        let above = self.above(gpu)?;
        let provisioner =
            Issuer::from_params(&above.provisioner_params, &self.provisioner.certificate_key);

        let device_key = &gpu.keys.device;
        let mut device_params = ca(
            &format!("{} A01 GSP BROM", gpu.chip),
            &[&[gpu.kind][..], &gpu.pdi].concat(),
        );
        gpu.device.apply(&mut device_params);
        let device_der = device_params.signed_by(&device_key.certificate_key, &provisioner)?;
        let signer = match gpu.leaf_signer {
            Signer::Proper => device_key,
            Signer::Stranger => &self.stranger,
        };
        let device = Issuer::from_params(&device_params, &signer.certificate_key);

        let mut params = leaf(gpu)?;
        gpu.leaf.apply(&mut params);
        let leaf_der = params.signed_by(&gpu.keys.firmware.certificate_key, &device)?;
        Ok(vec![
            leaf_der.der().to_vec(),
            device_der.der().to_vec(),
            above.provisioner_der,
            above.family_der,
            self.root_der.clone(),
        ])
    }

    fn above(&self, gpu: &Gpu) -> Result<Above, Error> {
        let untouched = gpu.family.is_empty() && gpu.provisioner.is_empty();
        if let Some(above) = self.above.get().filter(|_| untouched) {
            return Ok(above.clone());
        }
        let root = Issuer::from_params(&self.root_params, &self.root.certificate_key);
        let mut family_params = ca("NVIDIA GH100 Identity", &label::<16>("GPU family"));
        gpu.family.apply(&mut family_params);
        let family_der = family_params.signed_by(&self.family.certificate_key, &root)?;
        let family = Issuer::from_params(&family_params, &self.family.certificate_key);
        let mut provisioner_params = ca(
            "NVIDIA GH100 Provisioner ICA 1",
            &label::<16>("GPU provisioner"),
        );
        gpu.provisioner.apply(&mut provisioner_params);
        let provisioner_der =
            provisioner_params.signed_by(&self.provisioner.certificate_key, &family)?;
        let above = Above {
            family_der: family_der.der().to_vec(),
            provisioner_params,
            provisioner_der: provisioner_der.der().to_vec(),
        };
        Ok(if untouched {
            self.above.get_or_init(|| above).clone()
        } else {
            above
        })
    }
}

fn once(cell: &'static OnceLock<Arc<GpuPki>>) -> Result<Arc<GpuPki>, Error> {
    if let Some(pki) = cell.get() {
        return Ok(pki.clone());
    }
    let made = Arc::new(GpuPki::new()?);
    Ok(cell.get_or_init(|| made).clone())
}

fn params(common_name: &str, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    let number = hex::encode_upper(serial);
    name.push(DnType::CustomDnType(OID_SERIAL_NUMBER.to_vec()), number);
    name.push(DnType::OrganizationName, "Fake TEE, for tests only");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = date_time_ymd(2020, 10, 17);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca(common_name: &str, serial: &[u8]) -> CertificateParams {
    let mut serial = serial.to_vec();
    // Positive and without leading zeros, as NVIDIA's are.
    if let Some(first) = serial.first_mut() {
        *first = 0x40 | (*first & 0x3f);
    }
    let mut params = params(common_name, &serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(gpu: &Gpu) -> Result<CertificateParams, Error> {
    let spki = gpu.keys.firmware.spki_der();
    let mut serial = crate::hash::sha256(&spki)[..20].to_vec();
    serial[0] = 0x40 | (serial[0] & 0x3f);
    let mut params = params(&format!("{} A01 GSP FMC LF", gpu.chip), &serial);
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let device = format!("NVIDIA:{}:{}", gpu.chip, hex::encode_upper(gpu.pdi));
    params.subject_alt_names = vec![SanType::OtherName((OID_DEVICE.to_vec(), device.into()))];
    let origin = gpu
        .leaf_origin
        .clone()
        .unwrap_or_else(|| gpu.keys.device.spki_der());
    let fwid = der_sequence(&[SHA384_DER.to_vec(), der_octets(&gpu.fwid)]);
    params.custom_extensions = vec![CustomExtension::from_oid_content(
        &OID_FWID,
        der_sequence(&[der_integer(1), origin, fwid]),
    )];
    Ok(params)
}
