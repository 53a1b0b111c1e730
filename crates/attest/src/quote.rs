//! TDX quotes: layout, and verification by dcap-qvl behind one function.
//!
//! dcap-qvl checks every signature from the trust root down to the quote, the
//! revocation lists, the QE identity, the TDX module's signer and that the TD
//! is not debuggable, then matches TCB levels. What levels are acceptable is
//! this crate's [`Policy`](crate::Policy); dcap-qvl's own `strict` policy
//! refuses every real host seen (dynamic platform, cached keys, SMT).

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::intel;
use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::quote::{AuthData, Quote, Report as QuoteReport};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;

use crate::collateral::{Collateral, CollateralKey, Floor, PckCa};
use crate::tcb::Levels;
use crate::text::{hex_bytes, shown};
use crate::{Fmspc, Rejected, TrustAnchors, UnixTime, diagnosis, hash, x509};

/// dcap-qvl with the one crypto library that the project uses.
pub(crate) struct AwsLcConfig;

impl Config for AwsLcConfig {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for AwsLcConfig {
    fn sig_algo() -> &'static dyn rustls_pki_types::SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        hash::sha256(&[data])
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        hash::sha384(&[data])
    }
}

/// `tee_type` of a TDX quote (Intel DCAP, quote header).
const TEE_TYPE_TDX: u32 = 0x81;

/// Certification data that holds the QE report and its own certification data
/// (Intel DCAP, quote version 4).
const QE_REPORT_CERTIFICATION: u16 = 6;

/// Certification data that holds the whole PCK chain.
const PCK_CERT_CHAIN: u16 = 5;

/// The fields of a TD report that somebody compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Td {
    pub(crate) attributes: [u8; 8],
    pub(crate) xfam: [u8; 8],
    pub(crate) mr_seam: [u8; 48],
    pub(crate) mrtd: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) rtmr: [[u8; 48]; 4],
    pub(crate) report_data: [u8; 64],
    pub(crate) tee_tcb_svn: [u8; 16],
}

/// A quote with the right layout; nothing about it is proved.
#[derive(Debug)]
pub(crate) struct ParsedQuote {
    bytes: Vec<u8>,
    quote: Quote,
    /// As claimed by an unverified quote.
    pub(crate) td: Td,
}

impl ParsedQuote {
    /// # Errors
    /// [`Rejected::QuoteFormat`] or [`Rejected::QuoteNotTdx`].
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Rejected> {
        let format = |detail: String| Rejected::QuoteFormat { detail };
        let quote = Quote::parse(&bytes).map_err(|error| format(shown(&error.to_string())))?;
        let header = &quote.header;
        if header.tee_type != TEE_TYPE_TDX {
            return Err(Rejected::QuoteNotTdx {
                tee_type: header.tee_type,
            });
        }
        if !matches!(header.version, 4 | 5) {
            return Err(format(format!("version {}", header.version)));
        }
        let td = td(&quote.report).ok_or_else(|| format("no TD report".to_owned()))?;
        let outer = match &quote.auth_data {
            AuthData::V4(data) => data.certification_data.cert_type,
            AuthData::V3(_) => 0,
        };
        if outer != QE_REPORT_CERTIFICATION {
            return Err(format(format!(
                "outer certification data of type {outer}, expected {QE_REPORT_CERTIFICATION}"
            )));
        }
        if quote.inner_cert_type() != PCK_CERT_CHAIN {
            return Err(format(format!(
                "certification data of type {}, expected {PCK_CERT_CHAIN}",
                quote.inner_cert_type()
            )));
        }
        padding_is_zero(&bytes, quote.signed_length())?;
        Ok(Self { bytes, quote, td })
    }

    pub(crate) fn collateral_key(&self) -> Result<CollateralKey, Rejected> {
        let format = |error: &dyn std::fmt::Display| Rejected::QuoteFormat {
            detail: shown(&error.to_string()),
        };
        let fmspc =
            intel::quote_fmspc_with::<AwsLcConfig>(&self.quote).map_err(|error| format(&error))?;
        let ca =
            intel::quote_ca_with::<AwsLcConfig>(&self.quote).map_err(|error| format(&error))?;
        Ok(CollateralKey {
            fmspc: Fmspc::from_bytes(fmspc),
            ca: match ca {
                dcap_qvl::config::PckCa::Platform => PckCa::Platform,
                dcap_qvl::config::PckCa::Processor => PckCa::Processor,
            },
        })
    }

    /// The PCK chain inside, leaf first (DER).
    pub(crate) fn pck_chain(&self) -> Result<Vec<Vec<u8>>, String> {
        intel::extract_cert_chain(&self.quote).map_err(|error| shown(&error.to_string()))
    }

    /// The service TDs that a TD 1.5 is bound to; zeros if there are none.
    pub(crate) fn service_td(&self) -> [u8; 48] {
        self.quote
            .report
            .as_td15()
            .map_or([0; 48], |td| td.mr_service_td)
    }

    /// ISV SVN of the quoting enclave (bytes 258 and 259 of an enclave report), as
    /// claimed by an unverified quote.
    pub(crate) fn claimed_qe_svn(&self) -> u16 {
        match self.quote.qe_report().get(258..260) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            _ => 0,
        }
    }

    /// What levels are matched with, as claimed by an unverified quote.
    pub(crate) fn claimed_svns(&self) -> Option<([u8; 16], u16, Vec<[u8; 16]>)> {
        let chain = self.pck_chain().ok()?;
        let pck = intel::parse_pck_extension_with::<AwsLcConfig>(chain.first()?).ok()?;
        let mut tee = vec![self.td.tee_tcb_svn];
        tee.extend(self.quote.report.as_td15().map(|td| td.tee_tcb_svn2));
        Some((pck.cpu_svn, pck.pce_svn, tee))
    }
}

fn td(report: &QuoteReport) -> Option<Td> {
    let td = report.as_td10()?;
    Some(Td {
        attributes: td.td_attributes,
        xfam: td.xfam,
        mr_seam: td.mr_seam,
        mrtd: td.mr_td,
        mr_config_id: td.mr_config_id,
        rtmr: [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3],
        report_data: td.report_data,
        tee_tcb_svn: td.tee_tcb_svn,
    })
}

fn without_report_data(report: &QuoteReport) -> QuoteReport {
    let mut report = report.clone();
    match &mut report {
        QuoteReport::SgxEnclave(enclave) => enclave.report_data = [0; 64],
        QuoteReport::TD10(td) => td.report_data = [0; 64],
        QuoteReport::TD15(td) => td.base.report_data = [0; 64],
        QuoteReport::TD15Ex(td) => td.base.base.report_data = [0; 64],
    }
    report
}

/// The backend pads quotes with zeros (71 in the recordings). Other bytes there
/// would be signed by nobody, as the certificates' PEM is not either; unlike
/// that, nothing needs them.
fn padding_is_zero(bytes: &[u8], signed_length: usize) -> Result<(), Rejected> {
    let format = |detail: &str| Rejected::QuoteFormat {
        detail: detail.to_owned(),
    };
    let rest = bytes
        .get(signed_length..)
        .ok_or_else(|| format("truncated"))?;
    let (length, rest) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| format("truncated"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| format("too long"))?;
    let padding = rest.get(length..).ok_or_else(|| format("truncated"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(format("bytes after the signature data"));
    }
    Ok(())
}

/// A quote that a genuine platform signed; nothing outside this crate can make one.
#[derive(Debug)]
pub struct VerifiedQuote {
    td: Td,
    levels: Levels,
    floor: Floor,
    evaluation_number: u32,
    valid_until: UnixTime,
    claims: QuoteClaims,
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
        without_report_data(&self.claims.report) == without_report_data(&other.claims.report)
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
    verified(claims, collateral, floor, now).map_err(|rejected| Refusal {
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
    collateral: &Collateral,
    floor: Option<Floor>,
    now: UnixTime,
) -> Result<VerifiedQuote, Rejected> {
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
    let documents = &collateral.documents;
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
    })
}
