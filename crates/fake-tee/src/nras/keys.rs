//! The service's keys: an RSA intermediate that certifies P-384 signing keys.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber, date_time_ymd,
};

use super::{NrasSpec, TokenHooks};
use crate::gpu::P384Key;
use crate::hash::label;
use crate::{Error, Signer};

/// A key that signs tokens.
#[derive(Debug)]
pub struct SigningKey {
    /// Its name.
    pub kid: String,
    /// The key itself.
    pub key: P384Key,
}

impl SigningKey {
    /// A fresh key; `label` makes its name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn generate(name: &str) -> Result<Self, Error> {
        let id = hex::encode(label::<16>(&format!("NRAS key {name}")));
        Ok(Self {
            kid: format!("nv-eat-kid-prod-20261122060000000-{id}"),
            key: P384Key::generate()?,
        })
    }

    /// A token in compact form.
    ///
    /// # Errors
    /// If signing fails.
    pub fn token(&self, payload: &[u8]) -> Result<String, Error> {
        TokenHooks::default().token(self, payload.to_vec())
    }

    /// x and y of the public point, at the end of its SubjectPublicKeyInfo.
    pub(super) fn coordinates(&self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let spki = self.key.spki_der();
        let point = spki.len().checked_sub(96).and_then(|at| spki.get(at..));
        let point = point.ok_or(Error::Key("a P-384 point is not 96 bytes"))?;
        Ok((point[..48].to_vec(), point[48..].to_vec()))
    }
}

/// The authorities above the signing keys. RSA, as NVIDIA's intermediate is; the
/// one above it is not sent.
#[derive(Debug)]
pub struct NrasPki {
    above: P384Key,
    intermediate: KeyPair,
    stranger: KeyPair,
}

impl NrasPki {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            above: P384Key::generate()?,
            intermediate: KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
            stranger: KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
        })
    }

    /// The authorities that every [`NrasSpec::new`] of this process uses.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: OnceLock<Arc<NrasPki>> = OnceLock::new();
        once(&SHARED)
    }

    /// Other authorities with the same names, which nobody should trust.
    ///
    /// # Errors
    /// If keys cannot be made.
    pub fn other() -> Result<Arc<Self>, Error> {
        static OTHER: OnceLock<Arc<NrasPki>> = OnceLock::new();
        once(&OTHER)
    }

    /// SubjectPublicKeyInfo (DER) of the intermediate, the verifier's pin.
    #[must_use]
    pub fn intermediate_spki_der(&self) -> Vec<u8> {
        self.intermediate.subject_public_key_info()
    }

    /// The certificates of a key, leaf first.
    pub(super) fn certify(&self, key: &SigningKey, spec: &NrasSpec) -> Result<Vec<Vec<u8>>, Error> {
        let above_params = ca("NVIDIA Attestation Service CA 001");
        let above = Issuer::from_params(&above_params, self.above.certificate_key());
        let mut intermediate_params = ca("NVIDIA Attestation Service GPU Intermediate 004");
        spec.intermediate.apply(&mut intermediate_params);
        let intermediate = intermediate_params.signed_by(&self.intermediate, &above)?;

        let signer = match spec.leaf_signer {
            Signer::Proper => &self.intermediate,
            Signer::Stranger => &self.stranger,
        };
        let issuer = Issuer::from_params(&intermediate_params, signer);
        let mut params = leaf(&key.kid, spec.now);
        spec.leaf.apply(&mut params);
        let leaf = params.signed_by(key.key.certificate_key(), &issuer)?;
        Ok(vec![leaf.der().to_vec(), intermediate.der().to_vec()])
    }
}

fn once(cell: &'static OnceLock<Arc<NrasPki>>) -> Result<Arc<NrasPki>, Error> {
    if let Some(pki) = cell.get() {
        return Ok(pki.clone());
    }
    let made = Arc::new(NrasPki::new()?);
    Ok(cell.get_or_init(|| made).clone())
}

fn params(common_name: &str, serial: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Fake TEE, for tests only");
    name.push(DnType::CountryName, "US");
    params.distinguished_name = name;
    let mut serial = label::<20>(&format!("serial of {serial}"));
    // Positive and without leading zeros.
    serial[0] = 0x40 | (serial[0] & 0x3f);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca(common_name: &str) -> CertificateParams {
    let mut params = params(common_name, common_name);
    params.not_before = date_time_ymd(2025, 12, 8);
    params.not_after = date_time_ymd(2049, 12, 8);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Valid for two days, of which eight hours have passed.
fn leaf(kid: &str, now: u64) -> CertificateParams {
    let mut params = params("NVIDIA Attestation Service GPU GH100", kid);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(8 * 3_600));
    params.not_after = epoch + Duration::from_secs(now + 40 * 3_600);
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}
