//! Certificates and revocation lists (RFC 5280), as all parties issue them.
//!
//! A signature is checked over the document as it was parsed and encoded again, so
//! what is read is what was signed; other bytes than these are refused. Refusals say
//! "it": the caller says which certificate.

mod key;

use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::pem::{self, PemLabel as _};
use x509_cert::der::{Decode, Encode, Header, SliceReader, Tag};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

pub(crate) use self::key::{Key, P256, P384, RSA};
use crate::base::identifiers::UnixTime;
use crate::base::text::shown;

/// The chains in question have two or three certificates.
const MAX_CHAIN: usize = 8;

/// Reads a certificate.
pub(crate) fn certificate(der: &[u8]) -> Result<Certificate, String> {
    strict(der, "not a certificate")
}

/// Reads a revocation list.
pub(crate) fn crl(der: &[u8]) -> Result<CertificateList, String> {
    strict(der, "not a revocation list")
}

/// Reads DER, so that one document has one form of bytes. The parser also takes
/// lengths of inner values that do not fit (X.690 §10.1), and defaults that are
/// written out, which DER leaves out (§11.5).
fn strict<'a, T>(der: &'a [u8], otherwise: &str) -> Result<T, String>
where
    T: Decode<'a, Error = x509_cert::der::Error> + Encode,
{
    let read = T::from_der(der).map_err(|error| shown(&format!("{otherwise}: {error}")))?;
    if read.to_der().ok().as_deref() != Some(der) {
        return Err("it is not encoded as DER".to_owned());
    }
    Ok(read)
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

/// The subject's public key (SubjectPublicKeyInfo, DER).
pub(crate) fn spki_der(certificate: &Certificate) -> Result<Vec<u8>, String> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.to_der().map_err(|error| shown(&error.to_string()))
}

/// The one common name of the subject.
pub(crate) fn common_name(certificate: &Certificate) -> Result<String, String> {
    let subject = certificate.tbs_certificate().subject();
    let mut names = subject.iter().filter(|name| name.oid == COMMON_NAME);
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err("its subject does not have exactly one common name".to_owned());
    };
    std::str::from_utf8(name.value.value())
        .map(str::to_owned)
        .map_err(|_| "its common name is not text".to_owned())
}

/// The value of an extension. A certificate may have each extension once (RFC 5280
/// §4.2).
pub(crate) fn extension(
    certificate: &Certificate,
    oid: ObjectIdentifier,
) -> Result<Option<&[u8]>, &'static str> {
    let extensions = certificate.tbs_certificate().extensions();
    let all = extensions.into_iter().flatten();
    let mut found = all.filter(|extension| extension.extn_id == oid);
    match (found.next(), found.next()) {
        (first, None) => Ok(first.map(|extension| extension.extn_value.as_bytes())),
        _ => Err(UNREADABLE),
    }
}

const UNREADABLE: &str = "an extension is there twice or cannot be read";

/// The value of an extension, as the type that the library has for it.
pub(crate) fn known<'a, T>(certificate: &'a Certificate) -> Result<Option<T>, &'static str>
where
    T: AssociatedOid + Decode<'a>,
{
    extension(certificate, T::OID)?
        .map(|value| T::from_der(value).map_err(|_| UNREADABLE))
        .transpose()
}

/// Checks that the certificate may issue others, with `below` further issuers under it
/// (RFC 5280 §4.2.1.3, §4.2.1.9). `None` refuses every limit of a path's length.
pub(crate) fn may_issue(
    certificate: &Certificate,
    read: &[ObjectIdentifier],
    below: Option<u8>,
) -> Result<(), &'static str> {
    understood(certificate, read)?;
    let constraints = known::<BasicConstraints>(certificate)?.filter(|stated| stated.ca);
    let constraints = constraints.ok_or("it is not a CA")?;
    if let Some(limit) = constraints.path_len_constraint
        && below.is_none_or(|below| limit < below)
    {
        return Err("it limits the length of chains");
    }
    if !known::<KeyUsage>(certificate)?.is_some_and(|usage| usage.key_cert_sign()) {
        return Err("it may not sign certificates");
    }
    Ok(())
}

/// Checks that the certificate may not issue others.
pub(crate) fn is_end_entity(
    certificate: &Certificate,
    read: &[ObjectIdentifier],
) -> Result<(), &'static str> {
    understood(certificate, read)?;
    if known::<BasicConstraints>(certificate)?.is_some_and(|stated| stated.ca) {
        return Err("it is a CA");
    }
    Ok(())
}

/// Checks that the certificate's key may sign data, and no certificates.
pub(crate) fn signs_data(certificate: &Certificate) -> Result<(), &'static str> {
    is_end_entity(certificate, &[])?;
    let usage = known::<KeyUsage>(certificate)?;
    if !usage.is_some_and(|usage| usage.digital_signature() && !usage.key_cert_sign()) {
        return Err("its key is not for signing data");
    }
    Ok(())
}

/// Refuses a critical extension that is not read (RFC 5280 §4.2). The caller reads
/// those in `read`.
fn understood(certificate: &Certificate, read: &[ObjectIdentifier]) -> Result<(), &'static str> {
    let extensions = certificate.tbs_certificate().extensions();
    let known = [KeyUsage::OID, BasicConstraints::OID];
    let unknown = extensions.into_iter().flatten().any(|extension| {
        let oid = &extension.extn_id;
        extension.critical && !known.contains(oid) && !read.contains(oid)
    });
    if unknown {
        return Err("it has a critical extension that is not understood");
    }
    Ok(())
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

/// The end of a validity that has begun, by a clock that is up to `slow` seconds late.
pub(crate) fn valid_at(
    (from, until): (UnixTime, UnixTime),
    now: UnixTime,
    slow: u64,
) -> Result<UnixTime, String> {
    if now.plus(slow) < from || now > until {
        return Err(format!("it is valid from {from} to {until}, it is {now}"));
    }
    Ok(until)
}

/// A time of X.509; those before 1970 read as 1970.
pub(crate) fn unix(time: Time) -> UnixTime {
    UnixTime(time.to_unix_duration().as_secs())
}
