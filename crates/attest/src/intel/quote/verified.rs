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

use super::diagnosis::{self, Refusal};
use super::{AwsLcConfig, ClaimedTd, ParsedQuote, td};
use crate::base::identifiers::{Fmspc, UnixTime};
use crate::base::text::{hex_bytes, shown};
use crate::base::x509::{self, Key, P256};
use crate::intel::collateral::documents;
use crate::intel::collateral::{Collateral, Seen, begun_by};
use crate::intel::root::TdxRoot;
use crate::intel::tcb::Levels;
use crate::refusals::Rejected;

/// The TD report of a verified quote; only this module makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeasuredTd(ClaimedTd);

impl std::ops::Deref for MeasuredTd {
    type Target = ClaimedTd;

    fn deref(&self) -> &ClaimedTd {
        &self.0
    }
}

/// A quote that a genuine platform signed; nothing outside this crate can make one.
#[derive(Debug)]
pub struct VerifiedQuote {
    td: MeasuredTd,
    levels: Levels,
    seen: Seen,
    evaluation_number: u32,
    valid_until: UnixTime,
    claims: QuoteClaims,
    inputs: Arc<Inputs>,
}

/// The inputs of a quote's verification, without the TD report and two signatures: the
/// quoting enclave signs each quote, and the PCK signs the enclave's report for it.
#[derive(Debug, PartialEq, Eq)]
struct Inputs {
    unsigned: Quote,
    root_der: Vec<u8>,
    collateral: Collateral,
    now: UnixTime,
}

impl Inputs {
    fn of(quote: &ParsedQuote, collateral: &Collateral, root: &TdxRoot, now: UnixTime) -> Self {
        Self {
            unsigned: unsigned(quote.quote.clone()),
            root_der: root.tdx_root_der().to_vec(),
            collateral: collateral.clone(),
            now,
        }
    }
}

impl VerifiedQuote {
    pub(crate) fn td(&self) -> &MeasuredTd {
        &self.td
    }

    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Values that must not decrease.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
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

    /// As [`verify`], but quicker for a quote of the same TD by the same attestation
    /// key: only its two signatures and its TD report are new.
    ///
    /// # Errors
    /// Those of [`verify`].
    pub(crate) fn verify_another(
        &self,
        quote: &ParsedQuote,
        collateral: &Collateral,
        root: &TdxRoot,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let is_known = *self.inputs == Inputs::of(quote, collateral, root, now);
        if is_known && both_signatures_hold(quote) {
            return Ok(Self {
                td: MeasuredTd(quote.td),
                levels: self.levels.clone(),
                claims: QuoteClaims {
                    report: quote.quote.report.clone(),
                    ..self.claims.clone()
                },
                inputs: Arc::clone(&self.inputs),
                ..*self
            });
        }
        verify(quote, collateral, root, now)
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

/// Verifies a quote under a root at a time.
///
/// # Errors
/// One of `rejected_collateral_*`, `rejected_certificate_revoked`,
/// `rejected_quote_untrusted`, or the TD or TCB refusal that dcap-qvl makes itself.
pub(crate) fn verify(
    quote: &ParsedQuote,
    collateral: &Collateral,
    root: &TdxRoot,
    now: UnixTime,
) -> Result<VerifiedQuote, Refusal> {
    let verify_at = |at: UnixTime| {
        let policy = QuotePolicy::claims_only(at.0);
        QuoteVerifier::<AwsLcConfig>::new_with_config(root.tdx_root_der().to_vec())
            .verify_with_policy(&quote.bytes, collateral.documents.clone(), at.0, &policy)
            .map_err(|error| shown(&format!("{error:#}")))
    };
    let explained = |detail, at| diagnosis::explain(quote, collateral, root, at, detail);
    // A later moment makes ends stricter, and beginnings looser only by the slack.
    let claims = verify_at(now).or_else(|error| {
        let at = diagnosis::slow_clock(quote, collateral, now);
        let at = at.ok_or_else(|| explained(error, now))?;
        verify_at(at).map_err(|error| explained(error, at))
    })?;
    let fmspc = Fmspc::from_bytes(claims.platform.pck.fmspc);
    let seen = seen(collateral);
    let inputs = Inputs::of(quote, collateral, root, now);
    verified(claims, inputs, seen).map_err(|rejected| Refusal {
        rejected,
        genuine: seen.map(|seen| Box::new((fmspc, seen))),
    })
}

/// What verified documents state about themselves.
fn seen(collateral: &Collateral) -> Option<Seen> {
    let documents = &collateral.documents;
    Some(Seen {
        tcb_info: documents::document(&documents.tcb_info)?,
        qe_identity: documents::document(&documents.qe_identity)?,
        pck_crl: x509::crl_issued(&documents.pck_crl)?,
        root_crl: x509::crl_issued(&documents.root_ca_crl)?,
    })
}

/// Checks that dcap-qvl leaves to its callers.
fn verified(
    claims: QuoteClaims,
    inputs: Inputs,
    seen: Option<Seen>,
) -> Result<VerifiedQuote, Rejected> {
    let now = inputs.now;
    // dcap-qvl judges each document at `now`; these two lines do not depend on
    // which of them it judges.
    if claims.latest_issue_date > begun_by(now).0 {
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
    let pce_id = documents::pce_id(&documents.tcb_info).unwrap_or_default();
    if hex_bytes(&pce_id).as_deref() != Some(&pck.pce_id) {
        return Err(Rejected::CollateralFmspc {
            quote: format!("PCE {}", hex::encode(&pck.pce_id)),
            collateral: format!("PCE {}", shown(&pce_id)),
        });
    }
    let levels = Levels::of(&claims, &documents.tcb_info).map_err(untrusted)?;
    let td = td(&claims.report).ok_or_else(|| untrusted("no TD report".to_owned()))?;
    Ok(VerifiedQuote {
        td: MeasuredTd(td),
        levels,
        seen: seen.ok_or_else(|| untrusted("the collateral has no edition".to_owned()))?,
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
/// quote. False for a quote that cannot be read, too.
fn both_signatures_hold(quote: &ParsedQuote) -> bool {
    let hold = || {
        let AuthData::V4(auth) = &quote.quote.auth_data else {
            return None;
        };
        let leaf = x509::certificate(quote.pck_chain().ok()?.first()?).ok()?;
        let pck = Key::of(&leaf, &P256).ok()?;
        let qe = &auth.qe_report_data;
        let signed = quote.bytes.get(..quote.quote.signed_length())?;
        Some(
            pck.verifies_fixed(&qe.qe_report, &qe.qe_report_signature)
                && Key::at(&P256, &auth.ecdsa_attestation_key)
                    .verifies_fixed(signed, &auth.ecdsa_signature),
        )
    };
    hold().unwrap_or(false)
}

#[cfg(test)]
mod tests;
