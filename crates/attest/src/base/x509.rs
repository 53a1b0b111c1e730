//! Certificates with P-256 keys, as Intel and dstack issue them.
//!
//! A signature is checked over the certificate as it was parsed and encoded
//! again, so what is read is what was signed; other bytes than these are refused.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_EC_PUBLIC_KEY, SECP_256_R_1};
use x509_cert::der::pem::{self, PemLabel as _};
use x509_cert::der::{Decode, Encode, Header, SliceReader, Tag};
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

use crate::base::identifiers::UnixTime;

/// The chains in question have two or three certificates.
const MAX_CHAIN: usize = 8;

/// Reads a certificate in DER, so that one certificate has one form of bytes. The parser
/// also takes lengths of inner values that do not fit (X.690 §10.1), and defaults that
/// are written out, which DER leaves out (§11.5).
pub(crate) fn certificate(der: &[u8]) -> Result<Certificate, String> {
    let certificate = Certificate::from_der(der)
        .map_err(|error| crate::base::text::shown(&format!("not a certificate: {error}")))?;
    if certificate.to_der().ok().as_deref() != Some(der) {
        return Err("it is not encoded as DER".to_owned());
    }
    Ok(certificate)
}

/// Reads a PEM chain, leaf first.
pub(crate) fn pem_chain(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    const END: &str = "-----END CERTIFICATE-----";
    let no_pem = |error: &dyn std::fmt::Display| format!("not a PEM chain: {error}");
    let text = std::str::from_utf8(pem).map_err(|error| no_pem(&error))?;
    let chain = text
        .trim_end_matches(['\r', '\n'])
        .split_inclusive(END)
        .zip(1_usize..)
        .map(|(pem, number)| {
            let (label, der) = pem::decode_vec(pem.as_bytes()).map_err(|error| no_pem(&error))?;
            Certificate::validate_pem_label(label).map_err(|error| no_pem(&error))?;
            certificate(&der).map_err(|problem| format!("certificate {number}: {problem}"))
        })
        .collect::<Result<Vec<_>, String>>()?;
    if chain.len() > MAX_CHAIN {
        return Err(format!(
            "{} certificates, at most {MAX_CHAIN} are read",
            chain.len()
        ));
    }
    Ok(chain)
}

/// A public key on P-256, as an uncompressed point.
#[derive(PartialEq, Eq)]
pub(crate) struct P256Key(Vec<u8>);

impl P256Key {
    pub(crate) fn of(info: &SubjectPublicKeyInfoOwned) -> Result<Self, &'static str> {
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        if info.algorithm.oid != ID_EC_PUBLIC_KEY || curve != Some(SECP_256_R_1) {
            return Err("its key is not on P-256");
        }
        let point = info
            .subject_public_key
            .as_bytes()
            .ok_or("its key has odd bits")?;
        Ok(Self(point.to_vec()))
    }

    /// The key at `x || y`, big-endian (SEC 1 §2.3.3). A point that is not on the
    /// curve verifies nothing.
    pub(crate) fn at(coordinates: &[u8; 64]) -> Self {
        Self([&[4][..], coordinates].concat())
    }

    /// ECDSA with SHA-256, signature in DER.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0)
            .verify(message, signature)
            .is_ok()
    }

    /// ECDSA with SHA-256, signature as r and s.
    pub(crate) fn verifies_fixed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// The key of a certificate's subject.
pub(crate) fn subject_key(certificate: &Certificate) -> Result<P256Key, &'static str> {
    P256Key::of(certificate.tbs_certificate().subject_public_key_info())
}

/// The subject's public key (DER).
pub(crate) fn spki_der(certificate: &Certificate) -> Result<Vec<u8>, String> {
    certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .map_err(|error| error.to_string())
}

/// True if `issuer` signed this certificate (RFC 5280 §4.1.1.3: both
/// algorithm fields are equal).
pub(crate) fn is_signed_by(certificate: &Certificate, issuer: &P256Key) -> bool {
    let inner = certificate.tbs_certificate().signature();
    let outer = certificate.signature_algorithm();
    let (Ok(message), Some(signature)) = (
        certificate.tbs_certificate().to_der(),
        certificate.signature().as_bytes(),
    ) else {
        return false;
    };
    inner == outer && outer.oid == ECDSA_WITH_SHA_256 && issuer.verifies(&message, signature)
}

/// Reads a revocation list (DER).
pub(crate) fn crl(der: &[u8]) -> Result<CertificateList, String> {
    CertificateList::from_der(der).map_err(|error| format!("not a revocation list: {error}"))
}

/// `thisUpdate` of a revocation list (RFC 5280 §5.1), without reading its
/// entries, of which there may be thousands.
pub(crate) fn crl_issued(der: &[u8]) -> Option<UnixTime> {
    let mut reader = SliceReader::new(der).ok()?;
    let list = Header::decode(&mut reader).ok()?;
    let tbs = Header::decode(&mut reader).ok()?;
    if list.tag() != Tag::Sequence || tbs.tag() != Tag::Sequence {
        return None;
    }
    Version::decode(&mut reader).ok()?;
    AlgorithmIdentifierOwned::decode(&mut reader).ok()?;
    Name::decode(&mut reader).ok()?;
    Time::decode(&mut reader).ok().map(unix)
}

/// True if `issuer` signed this revocation list.
pub(crate) fn crl_is_signed_by(crl: &CertificateList, issuer: &P256Key) -> bool {
    let (Ok(message), Some(signature)) = (crl.tbs_cert_list.to_der(), crl.signature.as_bytes())
    else {
        return false;
    };
    crl.signature_algorithm.oid == ECDSA_WITH_SHA_256 && issuer.verifies(&message, signature)
}

/// True if the list names this certificate's serial number.
pub(crate) fn is_revoked(crl: &CertificateList, certificate: &Certificate) -> bool {
    crl.tbs_cert_list
        .revoked_certificates
        .iter()
        .flatten()
        .any(|revoked| revoked.serial_number == *certificate.tbs_certificate().serial_number())
}

/// The validity of a certificate, both ends included (RFC 5280 §4.1.2.5).
pub(crate) fn validity(certificate: &Certificate) -> (UnixTime, UnixTime) {
    let validity = certificate.tbs_certificate().validity();
    (unix(validity.not_before), unix(validity.not_after))
}

/// A time of X.509; those before 1970 read as 1970.
pub(crate) fn unix(time: Time) -> UnixTime {
    UnixTime(time.to_unix_duration().as_secs())
}
