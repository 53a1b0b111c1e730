//! A dstack-shaped key management service: its root, the app CA that it derives
//! for an app, and the leaf that it signs for one measured state of that app.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::Error;
use crate::encode::der_octets;
use crate::hash::sha512;
use crate::keys::P256Key;
use crate::pki::Signer;

/// The keys of one fake KMS and of one app under it.
#[derive(Debug)]
pub struct Kms {
    pub(crate) root: P256Key,
    pub(crate) app_ca: P256Key,
    pub(crate) leaf: P256Key,
    pub(crate) stranger: P256Key,
}

impl Kms {
    /// A new KMS.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            root: P256Key::generate()?,
            app_ca: P256Key::generate()?,
            leaf: P256Key::generate()?,
            stranger: P256Key::generate()?,
        })
    }

    /// The KMS that every [`Spec::new`](crate::Spec::new) of this process uses.
    pub fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: OnceLock<Arc<Kms>> = OnceLock::new();
        shared(&SHARED)
    }

    /// A second KMS, which no policy should name.
    pub fn other() -> Result<Arc<Self>, Error> {
        static OTHER: OnceLock<Arc<Kms>> = OnceLock::new();
        shared(&OTHER)
    }

    /// The root key's SubjectPublicKeyInfo: the key-provider id, in hex.
    pub fn root_spki_hex(&self) -> String {
        hex::encode(self.root.spki_der())
    }

    /// The report data that the quote inside the leaf has to carry.
    pub fn leaf_report_data(&self) -> [u8; 64] {
        let mut input = b"ratls-cert:".to_vec();
        input.extend(self.leaf.spki_der());
        sha512(&input)
    }

    pub(crate) fn pick<'a>(&'a self, signer: Signer, proper: &'a P256Key) -> &'a KeyPair {
        match signer {
            Signer::Proper => proper.certificate_key(),
            Signer::Stranger => self.stranger.certificate_key(),
        }
    }
}

fn shared(cell: &'static OnceLock<Arc<Kms>>) -> Result<Arc<Kms>, Error> {
    if let Some(kms) = cell.get() {
        return Ok(kms.clone());
    }
    let made = Arc::new(Kms::new()?);
    Ok(cell.get_or_init(|| made).clone())
}

/// One certificate of the KMS, before it is signed.
///
/// dstack's extensions stand under 1.3.6.1.4.1.62397.1; each value is an OCTET
/// STRING inside the extension's own. `None` leaves an extension out.
#[derive(Debug, Clone)]
pub struct AppCert {
    /// Subject organisation.
    pub organization: Option<String>,
    /// Subject CN.
    pub common_name: String,
    /// Start of validity, seconds since 1970. dstack uses 1975-01-01.
    pub not_before: u64,
    /// End of validity: ten years after boot.
    pub not_after: u64,
    /// `Some` makes a CA with this path length, `None` a leaf.
    pub path_length: Option<u8>,
    /// Arc 1: the quote.
    pub quote: Option<Vec<u8>>,
    /// Arc 2: the event log's JSON.
    pub event_log: Option<Vec<u8>>,
    /// Arc 8: an attestation.
    pub attestation: Option<Vec<u8>>,
    /// Arc 3: the app id.
    pub app_id: Option<Vec<u8>>,
    /// Arc 4: what the certificate is for.
    pub usage: Option<Vec<u8>>,
    /// Extensions besides these: OID arcs and value.
    pub more_extensions: Vec<(Vec<u64>, Vec<u8>)>,
    /// Whose key signs it.
    pub signer: Signer,
}

impl AppCert {
    pub(crate) fn ca(common_name: &str, path_length: u8, from: u64) -> Self {
        Self {
            organization: Some("Dstack".to_owned()),
            path_length: Some(path_length),
            ..Self::leaf(common_name, from)
        }
    }

    pub(crate) fn leaf(common_name: &str, boot_time: u64) -> Self {
        Self {
            organization: None,
            common_name: common_name.to_owned(),
            not_before: 157_766_400,
            not_after: boot_time + 3650 * 86_400,
            path_length: None,
            quote: None,
            event_log: None,
            attestation: None,
            app_id: None,
            usage: None,
            more_extensions: Vec::new(),
            signer: Signer::Proper,
        }
    }

    pub(crate) fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        if let Some(organization) = &self.organization {
            name.push(DnType::OrganizationName, organization.as_str());
        }
        name.push(DnType::CommonName, self.common_name.as_str());
        params.distinguished_name = name;
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.not_before);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(self.not_after);
        if let Some(length) = self.path_length {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
        } else {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        for (arc, value) in [
            (1, &self.quote),
            (2, &self.event_log),
            (3, &self.app_id),
            (4, &self.usage),
            (8, &self.attestation),
        ] {
            if let Some(value) = value {
                params
                    .custom_extensions
                    .push(CustomExtension::from_oid_content(
                        &[1, 3, 6, 1, 4, 1, 62_397, 1, arc],
                        der_octets(value),
                    ));
            }
        }
        for (oid, value) in &self.more_extensions {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(oid, value.clone()));
        }
        params
    }
}
