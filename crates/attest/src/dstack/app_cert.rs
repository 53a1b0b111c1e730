//! The identity that the KMS signed: `info.app_cert`.
//!
//! RTMR3 holds what the guest recorded about a KMS that its host chose. This chain is
//! signed by the KMS: leaf <- "Dstack App CA" <- "Dstack KMS CA". The KMS issues it for
//! one app-id and for one measured state, which the quote inside the leaf names. A
//! chain ends at a pinned root KEY, since root certificates are issued anew.

mod attestation;

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{ObjectIdentifier, OctetString};

use crate::base::hash;
use crate::base::identifiers::UnixTime;
use crate::base::text::{quoted, shown};
use crate::base::x509::{self, Key, P256};
use crate::intel::quote::{MeasuredTd, ParsedQuote};
use crate::refusals::Rejected;

/// A real chain has 19 KB of PEM.
const MAX_PEM_BYTES: usize = 256 << 10;

/// The validity that dstack's KMS gives a leaf: 3650 days.
const VALIDITY_SECONDS: u64 = 3650 * 86_400;

/// A slow clock takes a new certificate for one from the future; a clock may be this
/// slow.
const MAX_AHEAD_SECONDS: u64 = 300;

const OID_QUOTE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62397.1.1");
const OID_APP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62397.1.3");
const OID_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62397.1.4");
/// The quote with its event log, since KMS 0.5.9; see [`attestation`].
const OID_ATTESTATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62397.1.8");

/// Extensions that are read here, and so may be critical.
const READ: [ObjectIdentifier; 4] = [OID_QUOTE, OID_APP_ID, OID_USAGE, OID_ATTESTATION];

/// Leaf, app CA and KMS CA; not verified.
pub(crate) struct AppChain {
    chain: [Certificate; 3],
    root_key: Key,
    /// The KMS root's public key (SubjectPublicKeyInfo, DER, hex).
    pub(crate) kms_root: String,
    /// As the leaf names it.
    pub(crate) app_id: Vec<u8>,
}

/// When a verified chain was issued, and until when it holds.
#[derive(Debug)]
pub(crate) struct Issued {
    /// When the machine requested its certificate, which it does at boot. The KMS sets
    /// no `notBefore` of its own and a validity of ten years (dstack).
    pub(crate) booted: Option<UnixTime>,
    /// The end of the shortest validity.
    pub(crate) valid_until: UnixTime,
}

fn refuse(detail: impl AsRef<str>) -> Rejected {
    Rejected::AppCert {
        detail: shown(detail.as_ref()),
    }
}

fn of(what: &str, problem: &str) -> Rejected {
    refuse(format!("{what}: {problem}"))
}

impl AppChain {
    /// # Errors
    /// `rejected_app_cert_missing`, `rejected_app_cert`.
    pub(crate) fn read(pem: Option<&str>) -> Result<Self, Rejected> {
        let pem = pem.ok_or(Rejected::AppCertMissing {})?;
        if pem.len() > MAX_PEM_BYTES {
            return Err(refuse(format!("{} bytes of PEM", pem.len())));
        }
        let chain = x509::pem_chain(pem.as_bytes()).map_err(refuse)?;
        let chain = <[Certificate; 3]>::try_from(chain).map_err(|chain| {
            refuse(format!(
                "{} certificates, expected leaf, app CA and KMS CA",
                chain.len()
            ))
        })?;
        let [leaf, _, root] = &chain;
        // Reading the key first bounds the key that a refusal repeats.
        let root_key = Key::of(root, &P256).map_err(|problem| of("the KMS CA", problem))?;
        Ok(Self {
            root_key,
            kms_root: hex::encode(x509::spki_der(root).map_err(refuse)?),
            app_id: octets(leaf, OID_APP_ID, "app-id of the leaf")?,
            chain,
        })
    }

    /// Verifies the chain, its purpose, and that it was issued for this machine's state.
    /// `admit` compares KMS root and application with the policy, before anything else:
    /// an unknown form counts as newer than this program only if a pinned root signed it.
    ///
    /// # Errors
    /// Those of `admit`, and `rejected_app_cert*`.
    pub(crate) fn verify<T>(
        &self,
        admit: impl FnOnce(&str, &[u8]) -> Result<T, Rejected>,
        td: &MeasuredTd,
        rtmr3_since_ready: &[[u8; 48]],
        now: UnixTime,
    ) -> Result<(T, Issued), Rejected> {
        let admitted = admit(&self.kms_root, &self.app_id)?;
        let [leaf, app_ca, _] = &self.chain;
        let valid_until = chain_holds(&self.chain, &self.root_key, now)?;
        if octets(app_ca, OID_APP_ID, "app-id of the app CA")? != self.app_id {
            return Err(refuse("leaf and app CA are for different app-ids"));
        }
        for (certificate, name, expected) in
            [(leaf, "leaf", "app:custom"), (app_ca, "app CA", "app:ca")]
        {
            let usage = octets(certificate, OID_USAGE, "usage")?;
            if usage != expected.as_bytes() {
                return Err(Rejected::AppCertUsage {
                    certificate: name,
                    got: quoted(&String::from_utf8_lossy(&usage)),
                    expected,
                });
            }
        }
        issued_for_this_state(leaf, td, rtmr3_since_ready)?;
        let issued = Issued {
            booted: booted(leaf, now),
            valid_until,
        };
        Ok((admitted, issued))
    }
}

/// The certificate's end minus dstack's ten years; this agrees with the start of each
/// deployment log that was compared. `None` for a boot in the future, which a
/// certificate with another validity would give: every action of the log would then be
/// before it.
fn booted(leaf: &Certificate, now: UnixTime) -> Option<UnixTime> {
    let (_, until) = x509::validity(leaf);
    let booted = until.0.checked_sub(VALIDITY_SECONDS).map(UnixTime)?;
    (booted <= now.plus(MAX_AHEAD_SECONDS)).then_some(booted)
}

/// The root key that an unverified chain names, in hex, if it is one on P-256.
pub(crate) fn stated_root(pem: Option<&str>) -> Option<String> {
    let pem = pem.filter(|pem| pem.len() <= MAX_PEM_BYTES)?;
    let chain = x509::pem_chain(pem.as_bytes()).ok()?;
    let root = chain.last()?;
    Key::of(root, &P256).ok()?;
    x509::spki_der(root).ok().map(hex::encode)
}

/// Signatures, names, validity, CA rules and critical extensions (the parts of
/// RFC 5280 §6.1 that a chain of three with a pinned root key has).
fn chain_holds(
    [leaf, app_ca, root]: &[Certificate; 3],
    root_key: &Key,
    now: UnixTime,
) -> Result<UnixTime, Rejected> {
    let app_ca_key = Key::of(app_ca, &P256).map_err(|problem| of("the app CA", problem))?;
    let mut earliest_end = UnixTime(u64::MAX);
    for (certificate, name, issuer, issuer_key, below) in [
        (leaf, "the leaf", app_ca, &app_ca_key, None),
        (app_ca, "the app CA", root, root_key, Some(0)),
        (root, "the KMS CA", root, root_key, Some(1)),
    ] {
        if certificate.tbs_certificate().issuer() != issuer.tbs_certificate().subject() {
            return Err(of(name, "it names another issuer"));
        }
        if !issuer_key.signed(certificate) {
            return Err(of(name, "its signature is wrong"));
        }
        match below {
            None => x509::is_end_entity(certificate, &READ),
            Some(_) => x509::may_issue(certificate, &READ, below),
        }
        .map_err(|problem| of(name, problem))?;
        let until = x509::valid_at(x509::validity(certificate), now, MAX_AHEAD_SECONDS)
            .map_err(|problem| of(name, &problem))?;
        earliest_end = earliest_end.min(until);
    }
    Ok(earliest_end)
}

/// Checks that the quote inside the leaf has this machine's registers and protections, and
/// binds the leaf's key: report_data = SHA-512("ratls-cert:" || SubjectPublicKeyInfo). The
/// quote's signature is not checked: the KMS checked it before it signed the certificate.
///
/// An application may extend RTMR3 after its certificate was issued, so any of
/// the register's values since `system-ready` is this machine's.
fn issued_for_this_state(
    leaf: &Certificate,
    td: &MeasuredTd,
    rtmr3_since_ready: &[[u8; 48]],
) -> Result<(), Rejected> {
    let quote = ParsedQuote::parse(quote(leaf)?)
        .map_err(|error| not_understood(&format!("its quote: {error}")))?
        .td;
    let [r0, r1, r2, r3] = &quote.rtmr;
    let [live0, live1, live2, live3] = &td.rtmr;
    let live3 = rtmr3_since_ready
        .iter()
        .find(|value| *value == r3)
        .unwrap_or(live3);
    for (register, got, expected) in [
        ("td_attributes", &quote.attributes[..], &td.attributes[..]),
        ("xfam", &quote.xfam, &td.xfam),
        ("MRTD", &quote.mrtd, &td.mrtd),
        ("RTMR0", r0, live0),
        ("RTMR1", r1, live1),
        ("RTMR2", r2, live2),
        ("RTMR3", r3, live3),
        ("MRCONFIGID", &quote.mr_config_id, &td.mr_config_id),
    ] {
        if got != expected {
            return Err(Rejected::AppCertQuote {
                register,
                got: hex::encode(got),
                expected: hex::encode(expected),
            });
        }
    }
    let spki = x509::spki_der(leaf).map_err(refuse)?;
    if quote.report_data != hash::sha512(&[b"ratls-cert:", &spki]) {
        return Err(Rejected::AppCertReportData {});
    }
    Ok(())
}

/// The quote inside the leaf. Both forms prove the same; where a leaf has both, they
/// must hold the same quote, so that two readers cannot see different ones.
fn quote(leaf: &Certificate) -> Result<Vec<u8>, Rejected> {
    let refuse = |problem: &str| of("quote of the leaf", problem);
    let bare = extension(leaf, OID_QUOTE).map_err(refuse)?;
    let attestation = extension(leaf, OID_ATTESTATION).map_err(refuse)?;
    let bare = bare
        .map(|value| value.map_err(not_understood))
        .transpose()?;
    let Some(attestation) = attestation else {
        return bare.ok_or_else(|| refuse("expected exactly one extension"));
    };
    let inside = attestation
        .ok()
        .and_then(|document| attestation::tdx_quote(&document))
        .ok_or_else(|| not_understood("its attestation holds no TDX quote in a known form"))?;
    if bare.is_some_and(|bare| bare != inside) {
        return Err(refuse("its two forms hold different quotes"));
    }
    Ok(inside)
}

fn not_understood(detail: &str) -> Rejected {
    Rejected::AppCertForm {
        detail: shown(detail),
    }
}

/// The bytes of an extension of dstack's that every certificate must have.
fn octets(
    certificate: &Certificate,
    oid: ObjectIdentifier,
    what: &str,
) -> Result<Vec<u8>, Rejected> {
    extension(certificate, oid)
        .map_err(|problem| of(what, problem))?
        .ok_or_else(|| of(what, "expected exactly one extension"))?
        .map_err(|problem| of(what, problem))
}

type Octets = Result<Vec<u8>, &'static str>;

/// An OCTET STRING inside the extension's value; an error if there are two extensions.
fn extension(
    certificate: &Certificate,
    oid: ObjectIdentifier,
) -> Result<Option<Octets>, &'static str> {
    let value = x509::extension(certificate, oid)?;
    Ok(value.map(|value| {
        OctetString::from_der(value)
            .map(|octets| octets.as_bytes().to_vec())
            .map_err(|_| "not an octet string")
    }))
}
