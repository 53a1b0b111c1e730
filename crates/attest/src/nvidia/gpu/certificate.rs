//! NVIDIA's certificates: issuers that are named by a key identifier, and leaves.

use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, OctetString};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
use x509_cert::name::Name;

use crate::base::identifiers::UnixTime;
use crate::base::x509::{self, Key, P384};

/// A certificate that may sign others.
#[derive(Debug)]
pub(super) struct Issuer {
    subject: Name,
    /// The `authorityKeyIdentifier` of certificates that it issues.
    key_id: OctetString,
    key: Key,
    /// `SubjectPublicKeyInfo` (DER).
    pub(super) spki: Vec<u8>,
    pub(super) common_name: String,
    pub(super) serial: Vec<u8>,
    validity: (UnixTime, UnixTime),
}

impl Issuer {
    /// Reads a certificate whose signature the caller checks.
    pub(super) fn read(certificate: &Certificate) -> Result<Self, String> {
        // NVIDIA's CAs state no path length. A certificate with one is refused: issuers
        // are cached without their depth, so the limit could not be enforced.
        x509::may_issue(certificate, &[], None)?;
        let SubjectKeyIdentifier(key_id) =
            x509::known(certificate)?.ok_or("it names no key identifier")?;
        let tbs = certificate.tbs_certificate();
        Ok(Self {
            subject: tbs.subject().clone(),
            key_id,
            key: Key::of(certificate, &P384)?,
            spki: x509::spki_der(certificate)?,
            common_name: x509::common_name(certificate)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            validity: x509::validity(certificate),
        })
    }

    /// The end of its validity, if it is valid now.
    pub(super) fn valid_at(&self, now: UnixTime) -> Result<UnixTime, String> {
        x509::valid_at(self.validity, now, 0)
    }

    /// Names, key identifiers and signature of a certificate that this one is
    /// said to have issued.
    pub(super) fn has_issued(&self, certificate: &Certificate) -> Result<(), String> {
        if *certificate.tbs_certificate().issuer() != self.subject {
            return Err("it names another issuer".to_owned());
        }
        let authority = x509::known::<AuthorityKeyIdentifier>(certificate)?;
        if authority
            .and_then(|authority| authority.key_identifier)
            .as_ref()
            != Some(&self.key_id)
        {
            return Err("it names another key of its issuer".to_owned());
        }
        if !self.key.signed(certificate) {
            return Err("its signature is wrong".to_owned());
        }
        Ok(())
    }
}

/// A certificate that may sign data and nothing else.
#[derive(Debug)]
pub(super) struct EndEntity {
    pub(super) certificate: Certificate,
    pub(super) key: Key,
    pub(super) common_name: String,
    pub(super) validity: (UnixTime, UnixTime),
}

impl EndEntity {
    /// The leaf, issued by `issuer`. Whether it is valid now is not checked.
    pub(super) fn verify(der: &[u8], issuer: &Issuer) -> Result<Self, String> {
        let certificate = x509::certificate(der)?;
        issuer.has_issued(&certificate)?;
        x509::signs_data(&certificate)?;
        Ok(Self {
            key: Key::of(&certificate, &P384)?,
            common_name: x509::common_name(&certificate)?,
            validity: x509::validity(&certificate),
            certificate,
        })
    }

    /// The value of an extension that is there exactly once.
    pub(super) fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        x509::extension(&self.certificate, oid).ok().flatten()
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on should stop"
)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
    use fake_tee::rcgen::{self, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

    use super::*;

    struct Authority {
        params: CertificateParams,
        key: KeyPair,
        issuer: Issuer,
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn authority() -> Authority {
        let mut params = params("authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::read(&x509::certificate(&der).unwrap()).unwrap();
        Authority {
            params,
            key,
            issuer,
        }
    }

    impl Authority {
        fn leaf(&self, algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
            let mut params = params("leaf");
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let key = KeyPair::generate_for(algorithm).unwrap();
            let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
            params.signed_by(&key, &issuer).unwrap().der().to_vec()
        }

        /// A revocation list.
        fn list(&self) -> Vec<u8> {
            let params = rcgen::CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2026, 1, 1),
                next_update: rcgen::date_time_ymd(2026, 2, 1),
                crl_number: 1.into(),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
            params.signed_by(&issuer).unwrap().der().to_vec()
        }

        /// The certificate after a change to what is signed, signed anew.
        fn resigned(&self, der: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
            // Two headers of four bytes; the second one's length is that of the signed part.
            let len = usize::from(u16::from_be_bytes([der[6], der[7]]));
            let mut signed = der[4..8 + len].to_vec();
            change(&mut signed);
            let key = self.key.serialized_der();
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, key).unwrap();
            let signature = key.sign(&SystemRandom::new(), &signed).unwrap();
            let signature = signature.as_ref();
            let algorithm = [&[0x30, 10][..], &SHA384].concat();
            let bits = [&[3, signature.len() as u8 + 1, 0][..], signature].concat();
            let content = [signed, algorithm, bits].concat();
            let len = (content.len() as u16).to_be_bytes();
            [&[0x30, 0x82][..], &len, &content].concat()
        }
    }

    /// `ecdsa-with-SHA384`
    const SHA384: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];

    #[test]
    fn a_key_on_another_curve_is_refused() {
        let authority = authority();
        let verify = |der: &[u8]| EndEntity::verify(der, &authority.issuer).map(|_| ());
        assert_eq!(
            verify(&authority.leaf(&rcgen::PKCS_ECDSA_P384_SHA384)),
            Ok(())
        );
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let judged = verify(&authority.leaf(algorithm));
            assert_eq!(judged, Err("its key is not on P-384".to_owned()));
        }
    }

    /// RFC 5280 §4.1.1.2: what is signed names the algorithm of the signature.
    #[test]
    fn an_algorithm_that_is_named_differently_inside_is_refused() {
        let authority = authority();
        let leaf = authority.leaf(&rcgen::PKCS_ECDSA_P384_SHA384);
        let verify = |der: &[u8]| EndEntity::verify(der, &authority.issuer).map(|_| ());
        assert_eq!(verify(&authority.resigned(&leaf, |_| {})), Ok(()));
        let other = authority.resigned(&leaf, |signed| {
            let at = signed.windows(10).position(|window| window == SHA384);
            signed[at.unwrap() + 9] = 2;
        });
        assert_eq!(verify(&other), Err("its signature is wrong".to_owned()));
    }

    /// Puts bytes into an encoding, and their number into every length around them.
    fn insert(der: &mut Vec<u8>, place: usize, new: &[u8]) {
        let mut at = 0;
        loop {
            let (header, len) = match der[at + 1] {
                0x81 => (3, usize::from(der[at + 2])),
                0x82 => (
                    4,
                    usize::from(u16::from_be_bytes([der[at + 2], der[at + 3]])),
                ),
                short => (2, usize::from(short)),
            };
            let end = at + header + len;
            if place >= end {
                at = end;
                continue;
            }
            if place <= at {
                break;
            }
            let len = len + new.len();
            match header {
                4 => der[at + 2..at + 4].copy_from_slice(&(len as u16).to_be_bytes()),
                _ => der[at + header - 1] = u8::try_from(len).unwrap(),
            }
            at += header;
        }
        der.splice(place..place, new.iter().copied());
    }

    /// A change without meaning must not give another certificate or another list.
    #[test]
    fn a_default_that_is_written_out_is_refused() {
        let authority = authority();
        let changed = |mut der: Vec<u8>| {
            // authorityKeyIdentifier, which is not critical.
            let oid = [6, 3, 0x55, 0x1d, 0x23];
            let at = der.windows(5).position(|window| window == oid).unwrap();
            insert(&mut der, at + 5, &[1, 1, 0]);
            der
        };
        let refused = Err("it is not encoded as DER".to_owned());
        let leaf = authority.leaf(&rcgen::PKCS_ECDSA_P384_SHA384);
        let read = |der: &[u8]| EndEntity::verify(der, &authority.issuer).map(|_| ());
        assert_eq!(read(&leaf), Ok(()));
        assert_eq!(read(&changed(leaf)), refused);
        let list = authority.list();
        let read = |der: &[u8]| x509::crl(der).map(|_| ());
        assert_eq!(read(&list), Ok(()));
        assert_eq!(read(&changed(list)), refused);
    }
}
