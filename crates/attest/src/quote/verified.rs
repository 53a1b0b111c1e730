//! Verification by dcap-qvl behind one function.
//!
//! dcap-qvl checks every signature from the trust root down to the quote, the
//! revocation lists, the QE identity, the TDX module's signer and that the TD
//! is not debuggable, then matches TCB levels. What levels are acceptable is
//! this crate's [`Policy`](crate::Policy); dcap-qvl's own `strict` policy
//! refuses every real host seen (dynamic platform, cached keys, SMT).

use std::sync::Arc;

use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::quote::{AuthData, Data, Quote, Report as QuoteReport};
use dcap_qvl::verify::QuoteVerifier;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::{AwsLcConfig, ParsedQuote, Td, td};
use crate::collateral::{Collateral, Floor};
use crate::tcb::Levels;
use crate::text::{hex_bytes, shown};
use crate::x509::{self, P256Key};
use crate::{Fmspc, Rejected, TrustAnchors, UnixTime, diagnosis};

/// A quote that a genuine platform signed; nothing outside this crate can make one.
#[derive(Debug)]
pub struct VerifiedQuote {
    td: Td,
    levels: Levels,
    floor: Floor,
    evaluation_number: u32,
    valid_until: UnixTime,
    claims: QuoteClaims,
    inputs: Arc<Inputs>,
}

/// All that the verification of a quote depends on, but for what the quote states and
/// two signatures: the quoting enclave signs each quote anew, and has its own report
/// signed anew by the PCK.
#[derive(Debug, PartialEq, Eq)]
struct Inputs {
    unsigned: Quote,
    root_der: Vec<u8>,
    collateral: Collateral,
    now: UnixTime,
}

impl Inputs {
    fn of(
        quote: &ParsedQuote,
        collateral: &Collateral,
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Self {
        Self {
            unsigned: unsigned(quote.quote.clone()),
            root_der: anchors.tdx_root_der().to_vec(),
            collateral: collateral.clone(),
            now,
        }
    }
}

impl VerifiedQuote {
    pub(crate) fn td(&self) -> &Td {
        &self.td
    }

    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// What must not go back.
    pub(crate) fn floor(&self) -> Floor {
        self.floor
    }

    /// The lower one of TCB info and QE identity.
    pub(crate) fn evaluation_number(&self) -> u32 {
        self.evaluation_number
    }

    /// The earliest end of any document or certificate involved.
    pub(crate) fn valid_until(&self) -> UnixTime {
        self.valid_until
    }

    pub(crate) fn fmspc(&self) -> Fmspc {
        Fmspc::from_bytes(self.claims.platform.pck.fmspc)
    }

    pub(crate) fn ppid(&self) -> &[u8] {
        &self.claims.platform.pck.ppid
    }

    /// The platform instance id, which changes when the platform is set up anew;
    /// only certificates of the platform CA have one.
    pub(crate) fn piid(&self) -> Option<[u8; 16]> {
        self.claims.platform.pck.platform_instance_id
    }

    pub(crate) fn pce_id(&self) -> &[u8] {
        &self.claims.platform.pck.pce_id
    }

    pub(crate) fn cpu_svn(&self) -> [u8; 16] {
        self.claims.platform.pck.cpu_svn
    }

    pub(crate) fn pce_svn(&self) -> u16 {
        self.claims.platform.pck.pce_svn
    }

    /// The TDX module that started the TD and, of a TD 1.5, the one that runs now:
    /// bytes 1 and 0 of TEE_TCB_SVN are its version and security version (Intel
    /// PCS, TDX module identities are named `TDX_` and the version in hex).
    pub(crate) fn tdx_module(&self) -> String {
        let word = |[svn, version, ..]: [u8; 16]| format!("TDX_{version:02x}, SVN {svn}");
        let started = word(self.td.tee_tcb_svn);
        match self.claims.report.as_td15() {
            Some(td) if td.tee_tcb_svn2 != self.td.tee_tcb_svn => {
                format!("{started}; now {}", word(td.tee_tcb_svn2))
            }
            _ => started,
        }
    }

    pub(crate) fn version(&self) -> u16 {
        self.claims.header.version
    }

    /// Whether both reports are of one TD in one state: every field equal, of
    /// the same TDX version, but for the report data.
    pub(crate) fn same_td(&self, other: &Self) -> bool {
        let [own, other] = [self, other].map(|quote| quote.claims.report.clone());
        without_report_data(own) == without_report_data(other)
    }

    /// As [`verify`], and quicker for a quote of the same TD by the same attestation
    /// key: of that one all is known but its two signatures and what it states.
    ///
    /// # Errors
    /// Those of [`verify`].
    pub(crate) fn verify_another(
        &self,
        quote: &ParsedQuote,
        collateral: &Collateral,
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let is_known = *self.inputs == Inputs::of(quote, collateral, anchors, now);
        if is_known && both_signatures_hold(quote) {
            return Ok(Self {
                td: quote.td,
                levels: self.levels.clone(),
                claims: QuoteClaims {
                    report: quote.quote.report.clone(),
                    ..self.claims.clone()
                },
                inputs: Arc::clone(&self.inputs),
                ..*self
            });
        }
        verify(quote, collateral, anchors, now)
    }

    /// Flags of the platform that dcap-qvl's strict policy would refuse.
    pub(crate) fn platform_flags(&self) -> String {
        let pck = &self.claims.platform.pck;
        let word = |flag| match flag {
            PckCertFlag::True => "yes",
            PckCertFlag::False => "no",
            PckCertFlag::Undefined => "not stated",
        };
        format!(
            "dynamic platform: {}, cached keys: {}, SMT: {}",
            word(pck.dynamic_platform),
            word(pck.cached_keys),
            word(pck.smt_enabled)
        )
    }
}

/// A refusal, and what the documents were if they are genuine all the same: a
/// newer edition counts as seen also where it is the reason of the refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) rejected: Rejected,
    pub(crate) genuine: Option<(Fmspc, Floor)>,
}

/// Verifies a quote under a root at a time.
///
/// # Errors
/// One of `rejected_collateral_*`, `rejected_certificate_revoked`,
/// `rejected_quote_untrusted`, or the TD or TCB refusal that dcap-qvl makes itself.
pub(crate) fn verify(
    quote: &ParsedQuote,
    collateral: &Collateral,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedQuote, Refusal> {
    let policy = QuotePolicy::claims_only(now.0);
    let claims = QuoteVerifier::<AwsLcConfig>::new_with_config(anchors.tdx_root_der().to_vec())
        .verify_with_policy(&quote.bytes, collateral.documents.clone(), now.0, &policy)
        .map_err(|error| {
            let detail = shown(&format!("{error:#}"));
            diagnosis::explain(quote, collateral, anchors, now, detail)
        })?;
    let fmspc = Fmspc::from_bytes(claims.platform.pck.fmspc);
    let floor = floor(&claims, collateral);
    let inputs = Inputs::of(quote, collateral, anchors, now);
    verified(claims, inputs, floor).map_err(|rejected| Refusal {
        rejected,
        genuine: floor.map(|floor| (fmspc, floor)),
    })
}

/// What verified documents say about themselves.
fn floor(claims: &QuoteClaims, collateral: &Collateral) -> Option<Floor> {
    let documents = &collateral.documents;
    Some(Floor {
        tcb_info: diagnosis::evaluation_number(&documents.tcb_info)?,
        qe_identity: claims.qe.tcb_eval_data_number,
        pck_crl: x509::crl_issued(&documents.pck_crl)?,
        root_crl: x509::crl_issued(&documents.root_ca_crl)?,
    })
}

/// What dcap-qvl leaves to its callers.
fn verified(
    claims: QuoteClaims,
    inputs: Inputs,
    floor: Option<Floor>,
) -> Result<VerifiedQuote, Rejected> {
    let now = inputs.now;
    // dcap-qvl judges each document at `now`; these two lines do not depend on
    // which of them it judges.
    if claims.latest_issue_date > now.0 {
        return Err(Rejected::CollateralNotYetValid {
            what: "a document of the collateral",
            from: UnixTime(claims.latest_issue_date).to_string(),
            now: now.to_string(),
        });
    }
    if claims.earliest_expiration_date <= now.0 {
        return Err(Rejected::CollateralExpired {
            what: "a document of the collateral",
            until: UnixTime(claims.earliest_expiration_date).to_string(),
            now: now.to_string(),
        });
    }
    let untrusted = |detail: String| Rejected::QuoteUntrusted {
        detail: shown(&detail),
    };
    let documents = &inputs.collateral.documents;
    let pck = &claims.platform.pck;
    // Intel's QVL compares the PCE id too; dcap-qvl compares the FMSPC alone.
    let pce_id = diagnosis::pce_id(&documents.tcb_info).unwrap_or_default();
    if hex_bytes(&pce_id).as_deref() != Some(&pck.pce_id) {
        return Err(Rejected::CollateralFmspc {
            quote: format!("PCE {}", hex::encode(&pck.pce_id)),
            collateral: format!("PCE {}", shown(&pce_id)),
        });
    }
    let levels = Levels::of(&claims, &documents.tcb_info).map_err(untrusted)?;
    let td = td(&claims.report).ok_or_else(|| untrusted("no TD report".to_owned()))?;
    Ok(VerifiedQuote {
        td,
        levels,
        floor: floor.ok_or_else(|| untrusted("the collateral has no edition".to_owned()))?,
        evaluation_number: claims.tcb.eval_data_number,
        valid_until: UnixTime(claims.earliest_expiration_date),
        claims,
        inputs: Arc::new(inputs),
    })
}

fn without_report_data(mut report: QuoteReport) -> QuoteReport {
    match &mut report {
        QuoteReport::SgxEnclave(enclave) => enclave.report_data = [0; 64],
        QuoteReport::TD10(td) => td.report_data = [0; 64],
        QuoteReport::TD15(td) => td.base.report_data = [0; 64],
        QuoteReport::TD15Ex(td) => td.base.base.report_data = [0; 64],
    }
    report
}

fn unsigned(mut quote: Quote) -> Quote {
    quote.report = without_report_data(quote.report);
    match &mut quote.auth_data {
        AuthData::V3(auth) => {
            auth.ecdsa_signature = [0; 64];
            auth.qe_report_signature = [0; 64];
        }
        AuthData::V4(auth) => {
            auth.ecdsa_signature = [0; 64];
            auth.qe_report_data.qe_report_signature = [0; 64];
            // The bytes that `qe_report_data` was read from, with that signature.
            auth.certification_data.body = Data::new(Vec::new());
        }
    }
    quote
}

/// The PCK's over the quoting enclave's report, and the attestation key's over the
/// quote. False also of what cannot be read.
fn both_signatures_hold(quote: &ParsedQuote) -> bool {
    let hold = || {
        let AuthData::V4(auth) = &quote.quote.auth_data else {
            return None;
        };
        let leaf = Certificate::from_der(quote.pck_chain().ok()?.first()?).ok()?;
        let pck = x509::subject_key(&leaf).ok()?;
        let qe = &auth.qe_report_data;
        let signed = quote.bytes.get(..quote.quote.signed_length())?;
        Some(
            pck.verifies_fixed(&qe.qe_report, &qe.qe_report_signature)
                && P256Key::at(&auth.ecdsa_attestation_key)
                    .verifies_fixed(signed, &auth.ecdsa_signature),
        )
    };
    hold().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use fake_tee::{Challenge, Spec};

    use super::*;

    const NOW: UnixTime = UnixTime(1_795_348_800);

    struct Machine {
        anchors: TrustAnchors,
        collateral: Collateral,
        own: ParsedQuote,
        manager: Vec<u8>,
    }

    impl Machine {
        fn new() -> Self {
            let challenge = Challenge {
                nonce: [0x5a; 32],
                spki_sha256: [0xc3; 32],
            };
            let built = Spec::new(NOW.0).unwrap().forge(&challenge).unwrap();
            let manager = built.report["compose_manager_attestation"]["quote"].as_str();
            Self {
                anchors: TrustAnchors::danger_tdx_root(built.tdx_root_der),
                collateral: Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
                own: ParsedQuote::parse(built.quote).unwrap(),
                manager: hex::decode(manager.unwrap()).unwrap(),
            }
        }

        fn manager(&self) -> ParsedQuote {
            ParsedQuote::parse(self.manager.clone()).unwrap()
        }

        fn verify(&self, quote: &ParsedQuote) -> Result<VerifiedQuote, Refusal> {
            verify(quote, &self.collateral, &self.anchors, NOW)
        }

        fn is_known(&self, own: &VerifiedQuote, quote: &ParsedQuote) -> bool {
            *own.inputs == Inputs::of(quote, &self.collateral, &self.anchors, NOW)
                && both_signatures_hold(quote)
        }
    }

    #[test]
    fn the_quick_way_says_what_verifying_says() {
        let machine = Machine::new();
        let own = machine.verify(&machine.own).unwrap();
        let manager = machine.manager();
        assert_ne!(manager.td.report_data, own.td.report_data);
        assert!(machine.is_known(&own, &manager));
        let quick = own.verify_another(&manager, &machine.collateral, &machine.anchors, NOW);
        let slow = machine.verify(&manager).unwrap();
        assert_eq!(format!("{:?}", quick.unwrap()), format!("{slow:?}"));
    }

    /// Not one byte of it may be another one, but for the length of what follows the
    /// TD report, which nobody signs and which may count zeros of the padding.
    #[test]
    fn a_changed_quote_is_not_known() {
        let machine = Machine::new();
        let own = machine.verify(&machine.own).unwrap();
        for index in 0..machine.manager.len() {
            let mut changed = machine.manager.clone();
            changed[index] ^= 1;
            let Ok(quote) = ParsedQuote::parse(changed) else {
                continue;
            };
            if machine.is_known(&own, &quote) {
                let length = quote.quote.signed_length();
                assert!((length..length + 4).contains(&index), "byte {index}");
                let quick = own.verify_another(&quote, &machine.collateral, &machine.anchors, NOW);
                let slow = machine.verify(&quote).unwrap();
                assert_eq!(format!("{:?}", quick.unwrap()), format!("{slow:?}"));
            }
        }
    }

    /// Of every kind of TD report (Intel DCAP, quote version 5, body types 2 to 4).
    #[test]
    fn the_report_data_and_nothing_else_is_left_out() {
        let quote = Machine::new().manager;
        let (header, rest) = quote.split_at(48);
        let (td, signed) = rest.split_at(584);
        let left = |kind: u16, report: &[u8]| {
            let size = u32::try_from(report.len()).unwrap().to_le_bytes();
            let parts = [&[5, 0], &header[2..], &kind.to_le_bytes(), &size, report];
            let quote = [&parts.concat(), signed].concat();
            without_report_data(Quote::parse(&quote).unwrap().report)
        };
        for (kind, len) in [(2, 584), (3, 648), (4, 885)] {
            let mut report = [td, &vec![0; len - 584]].concat();
            let before = left(kind, &report);
            for index in 0..len {
                report[index] ^= 1;
                let is_equal = left(kind, &report) == before;
                report[index] ^= 1;
                let is_data = (520..584).contains(&index);
                assert_eq!(is_equal, is_data, "type {kind}, byte {index}");
            }
        }
    }

    #[test]
    fn another_machine_root_time_or_collateral_is_not_known() {
        let (machine, other) = (Machine::new(), Machine::new());
        let own = machine.verify(&machine.own).unwrap();
        assert!(!machine.is_known(&own, &other.manager()));
        assert!(own.inputs.unsigned != unsigned(other.manager().quote));

        let refused = |collateral: &Collateral, anchors: &TrustAnchors, now| {
            let again = own.verify_another(&machine.manager(), collateral, anchors, now);
            again.map(|_| ()).unwrap_err().rejected.code()
        };
        let Machine {
            collateral,
            anchors,
            ..
        } = &machine;
        let day_31 = NOW.plus(31 * 86_400);
        assert_eq!(
            refused(collateral, anchors, day_31),
            "rejected_collateral_expired"
        );
        let intel = TrustAnchors::intel();
        assert_eq!(
            refused(collateral, &intel, NOW),
            "rejected_collateral_untrusted"
        );
        let mut changed = collateral.clone();
        changed.documents.tcb_info_signature[0] ^= 1;
        assert_eq!(
            refused(&changed, anchors, NOW),
            "rejected_collateral_untrusted"
        );
    }
}
