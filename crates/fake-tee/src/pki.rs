//! An Intel-shaped PKI under a throw-away root: root CA, PCK platform CA, PCK
//! certificate with the SGX extension, TCB signer, and the two CRLs.
//!
//! Shapes: Intel SGX PCK Certificate and CRL Profile Specification. Keys are made
//! once; certificates and CRLs are signed afresh for each [`Spec`](crate::Spec).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::Error;
use crate::hash::label;
use crate::keys::P256Key;

/// Who signs something: the key that should, or one that has no business there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signer {
    /// The right key.
    #[default]
    Proper,
    /// A key outside the PKI, under the right name.
    Stranger,
}

/// The keys of one fake Intel, and its root certificate.
#[derive(Debug)]
pub struct Pki {
    pub(crate) root: P256Key,
    pub(crate) platform_ca: P256Key,
    pub(crate) pck: P256Key,
    pub(crate) tcb_signer: P256Key,
    pub(crate) attestation: P256Key,
    pub(crate) stranger: P256Key,
    pub(crate) root_params: CertificateParams,
    pub(crate) root_der: Vec<u8>,
}

impl Pki {
    /// A new root with its keys. `root_crl_url` goes into the root certificate's
    /// CRL distribution point, the only place where Intel's PCS says where its root CRL is.
    pub fn new(root_crl_url: Option<&str>) -> Result<Self, Error> {
        let root = P256Key::generate()?;
        let mut root_params = ca_params("Fake SGX Root CA", None);
        root_params.not_before = date_time_ymd(2018, 1, 1);
        root_params.not_after = date_time_ymd(2049, 12, 31);
        root_params.serial_number = Some(SerialNumber::from_slice(&serial("root")));
        set_crl_url(&mut root_params, root_crl_url);
        let root_der = root_params
            .self_signed(root.certificate_key())?
            .der()
            .to_vec();
        Ok(Self {
            root,
            platform_ca: P256Key::generate()?,
            pck: P256Key::generate()?,
            tcb_signer: P256Key::generate()?,
            attestation: P256Key::generate()?,
            stranger: P256Key::generate()?,
            root_params,
            root_der,
        })
    }

    /// The PKI that every [`Spec::new`](crate::Spec::new) of this process uses.
    pub fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: OnceLock<Arc<Pki>> = OnceLock::new();
        shared(&SHARED)
    }

    /// A second PKI with the same names: a root that nobody should trust.
    pub fn other() -> Result<Arc<Self>, Error> {
        static OTHER: OnceLock<Arc<Pki>> = OnceLock::new();
        shared(&OTHER)
    }

    /// The root certificate, the verifier's trust anchor.
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    pub(crate) fn pck_key(&self, signer: Signer) -> &P256Key {
        self.pick(signer, &self.pck)
    }

    pub(crate) fn tcb_signer_key(&self, signer: Signer) -> &P256Key {
        self.pick(signer, &self.tcb_signer)
    }

    pub(crate) fn attestation_key(&self, signer: Signer) -> &P256Key {
        self.pick(signer, &self.attestation)
    }

    pub(crate) fn pick<'a>(&'a self, signer: Signer, proper: &'a P256Key) -> &'a P256Key {
        match signer {
            Signer::Proper => proper,
            Signer::Stranger => &self.stranger,
        }
    }

    pub(crate) fn root_issuer(&self, signer: Signer) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(
            &self.root_params,
            self.pick(signer, &self.root).certificate_key(),
        )
    }
}

fn shared(cell: &'static OnceLock<Arc<Pki>>) -> Result<Arc<Pki>, Error> {
    if let Some(pki) = cell.get() {
        return Ok(pki.clone());
    }
    let made = Arc::new(Pki::new(None)?);
    Ok(cell.get_or_init(|| made).clone())
}

/// What [`Pki::issue`] signed, in DER; chains are leaf first.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) pck_chain: Vec<Vec<u8>>,
    pub(crate) platform_ca_chain: Vec<Vec<u8>>,
    pub(crate) tcb_signer_chain: Vec<Vec<u8>>,
    pub(crate) root_crl: Vec<u8>,
    pub(crate) pck_crl: Vec<u8>,
}

/// Which CA issues the PCK certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PckIssuer {
    /// As it should be.
    #[default]
    PlatformCa,
    /// The root itself.
    Root,
}

/// A certificate's name, number and validity (seconds since 1970).
#[derive(Debug, Clone)]
pub struct CertSpec {
    /// Subject CN. The verifier tells the platform CA by "Platform" in it.
    pub common_name: String,
    /// Serial number, positive, big-endian.
    pub serial: Vec<u8>,
    /// Start of validity.
    pub not_before: u64,
    /// End of validity.
    pub not_after: u64,
    /// CRL distribution point.
    pub crl_url: Option<String>,
}

impl CertSpec {
    fn new(common_name: &str, now: u64) -> Self {
        Self {
            common_name: common_name.to_owned(),
            serial: serial(common_name),
            not_before: now.saturating_sub(300 * DAY),
            not_after: now + 2000 * DAY,
            crl_url: None,
        }
    }

    pub(crate) fn fill(&self, params: &mut CertificateParams) {
        params.serial_number = Some(SerialNumber::from_slice(&self.serial));
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.not_before);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.not_after);
        set_crl_url(params, self.crl_url.as_deref());
    }
}

/// The three certificates under the root.
#[derive(Debug, Clone)]
pub struct Certs {
    /// Issuer of PCK certificates.
    pub platform_ca: CertSpec,
    /// The platform's provisioning certification key.
    pub pck: CertSpec,
    /// Signer of TCB info and QE identity.
    pub tcb_signer: CertSpec,
}

impl Certs {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            platform_ca: CertSpec::new("Fake SGX PCK Platform CA", now),
            pck: CertSpec::new("Fake SGX PCK Certificate", now),
            tcb_signer: CertSpec::new("Fake SGX TCB Signing", now),
        }
    }
}

/// One CRL.
#[derive(Debug, Clone)]
pub struct CrlSpec {
    /// thisUpdate, seconds since 1970.
    pub this_update: u64,
    /// nextUpdate.
    pub next_update: u64,
    /// CRL number.
    pub number: u64,
    /// Serial numbers of revoked certificates.
    pub revoked: Vec<Vec<u8>>,
}

impl CrlSpec {
    pub(crate) fn sign(&self, issuer: &Issuer<'_, &KeyPair>) -> Result<Vec<u8>, Error> {
        let epoch = date_time_ymd(1970, 1, 1);
        let number: Vec<u8> = self.number.to_be_bytes().to_vec();
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: epoch + Duration::from_secs(self.this_update),
            reason_code: None,
            invalidity_date: None,
        };
        let crl = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(self.this_update),
            next_update: epoch + Duration::from_secs(self.next_update),
            crl_number: SerialNumber::from_slice(&number),
            issuing_distribution_point: None,
            revoked_certs: self.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(issuer)?;
        Ok(crl.der().to_vec())
    }
}

/// The two CRLs.
#[derive(Debug, Clone)]
pub struct Crls {
    /// The root CA's.
    pub root: CrlSpec,
    /// The platform CA's.
    pub pck: CrlSpec,
}

impl Crls {
    pub(crate) fn new(now: u64) -> Self {
        let crl = |number, before, after| CrlSpec {
            this_update: now.saturating_sub(before * DAY),
            next_update: now + after * DAY,
            number,
            revoked: Vec::new(),
        };
        Self {
            // Intel's lists are all number 1, whatever their date.
            root: crl(1, 100, 265),
            pck: crl(1, 1, 29),
        }
    }
}

const DAY: u64 = 86_400;

/// A stable 20-byte serial number, positive and without leading zeros.
fn serial(name: &str) -> Vec<u8> {
    let mut serial = label::<20>(&format!("serial of {name}"));
    serial[0] = 0x40 | (serial[0] & 0x3f);
    serial.to_vec()
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Fake TEE, for tests only");
    name.push(DnType::CountryName, "US");
    name
}

pub(crate) fn ca_params(common_name: &str, path_len: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name);
    params.is_ca = IsCa::Ca(match path_len {
        None => BasicConstraints::Unconstrained,
        Some(length) => BasicConstraints::Constrained(length),
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

pub(crate) fn leaf_params(spec: &CertSpec) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&spec.common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
    ];
    params.use_authority_key_identifier_extension = true;
    spec.fill(&mut params);
    params
}

fn set_crl_url(params: &mut CertificateParams, url: Option<&str>) {
    params.crl_distribution_points = url
        .map(|url| CrlDistributionPoint {
            uris: vec![url.to_owned()],
        })
        .into_iter()
        .collect();
}
