//! What Intel's PCS says about a platform: TCB info, QE identity, CRLs, chains.
//!
//! Shapes: Intel PCS API v4. Statuses and advisories are free strings, so that a
//! test can invent one. A signed document is kept byte for byte.

use serde::Serialize;

use crate::encode::{pem_chain, rfc3339};
use crate::hash::label256;
use crate::platform::Platform;

const DAY: u64 = 86_400;

/// TCB info of one FMSPC (`/tdx/certification/v4/tcb`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct TcbInfo {
    pub id: String,
    pub version: u32,
    pub issue_date: String,
    pub next_update: String,
    /// Hex. Not taken from the platform again, so that a test can let them differ.
    pub fmspc: String,
    pub pce_id: String,
    pub tcb_type: u32,
    pub tcb_evaluation_data_number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdx_module: Option<TdxModule>,
    /// Left out when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tdx_module_identities: Vec<TdxModuleIdentity>,
    pub tcb_levels: Vec<TcbLevel>,
}

/// Signer and attributes of the TDX module; hex.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct TdxModule {
    pub mrsigner: String,
    pub attributes: String,
    pub attributes_mask: String,
}

impl Default for TdxModule {
    fn default() -> Self {
        Self {
            // Intel's own module is signed by nobody else: 48 zero bytes.
            mrsigner: "0".repeat(96),
            attributes: "0".repeat(16),
            attributes_mask: "F".repeat(16),
        }
    }
}

/// One major version of the TDX module: `TDX_01` for `tee_tcb_svn[1] == 1`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct TdxModuleIdentity {
    pub id: String,
    #[serde(flatten)]
    pub module: TdxModule,
    pub tcb_levels: Vec<IsvLevel>,
}

/// A TCB level that a single SVN decides: of a TDX module or of the QE.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct IsvLevel {
    pub tcb: IsvTcb,
    pub tcb_date: String,
    pub tcb_status: String,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

impl IsvLevel {
    /// A level from `isvsvn` on.
    pub fn new(isvsvn: u16, date: &str, status: &str, advisories: &[&str]) -> Self {
        Self {
            tcb: IsvTcb { isvsvn },
            tcb_date: date.to_owned(),
            tcb_status: status.to_owned(),
            advisory_ids: advisories.iter().map(|id| (*id).to_owned()).collect(),
        }
    }
}

/// `{"isvsvn": n}`.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct IsvTcb {
    pub isvsvn: u16,
}

/// A TCB level of the platform.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct TcbLevel {
    pub tcb: Tcb,
    pub tcb_date: String,
    pub tcb_status: String,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// The SVNs that a platform must reach.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct Tcb {
    pub sgxtcbcomponents: Vec<TcbComponent>,
    pub pcesvn: u16,
    pub tdxtcbcomponents: Vec<TcbComponent>,
}

/// `{"svn": n}`.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct TcbComponent {
    pub svn: u8,
}

fn components(svns: [u8; 16]) -> Vec<TcbComponent> {
    svns.into_iter().map(|svn| TcbComponent { svn }).collect()
}

impl TcbInfo {
    /// The platform as it is, `UpToDate`, above an older level.
    pub(crate) fn new(now: u64, platform: &Platform, tee_tcb_svn: [u8; 16]) -> Self {
        let mut older_sgx = platform.sgx_tcb_components;
        for svn in &mut older_sgx[..2] {
            *svn -= 1;
        }
        let level = |sgx, pcesvn, tdx, date: &str, status: &str, advisories: &[&str]| TcbLevel {
            tcb: Tcb {
                sgxtcbcomponents: components(sgx),
                pcesvn,
                tdxtcbcomponents: components(tdx),
            },
            tcb_date: date.to_owned(),
            tcb_status: status.to_owned(),
            advisory_ids: advisories.iter().map(|id| (*id).to_owned()).collect(),
        };
        // With a module version, components 0 and 1 belong to the module's identity.
        let mut tdx = tee_tcb_svn;
        tdx[1] = 0;
        let mut older_tdx = tdx;
        older_tdx[2] = older_tdx[2].saturating_sub(1);
        let module = tee_tcb_svn[1];
        Self {
            id: "TDX".to_owned(),
            version: 3,
            issue_date: rfc3339(now.saturating_sub(DAY)),
            next_update: rfc3339(now + 29 * DAY),
            fmspc: hex::encode(platform.fmspc),
            pce_id: hex::encode(platform.pce_id),
            tcb_type: 0,
            tcb_evaluation_data_number: 20,
            tdx_module: Some(TdxModule::default()),
            tdx_module_identities: vec![TdxModuleIdentity {
                id: format!("TDX_{module:02X}"),
                module: TdxModule::default(),
                tcb_levels: vec![
                    IsvLevel::new(u16::from(tee_tcb_svn[0]), RECENT, "UpToDate", &[]),
                    IsvLevel::new(1, OLD, "OutOfDate", &["FAKE-SA-00001"]),
                ],
            }],
            tcb_levels: vec![
                level(
                    platform.sgx_tcb_components,
                    platform.pce_svn,
                    tdx,
                    RECENT,
                    "UpToDate",
                    &[],
                ),
                level(
                    older_sgx,
                    platform.pce_svn - 1,
                    older_tdx,
                    OLD,
                    "OutOfDate",
                    &["FAKE-SA-00002", "FAKE-SA-00003"],
                ),
            ],
        }
    }

    /// Gives every platform level this status and these advisories.
    pub fn set_platform_status(&mut self, status: &str, advisories: &[&str]) {
        for level in &mut self.tcb_levels {
            level.tcb_status = status.to_owned();
            level.advisory_ids = advisories.iter().map(|id| (*id).to_owned()).collect();
        }
    }

    /// The same for every TDX module level.
    pub fn set_module_status(&mut self, status: &str, advisories: &[&str]) {
        for level in self
            .tdx_module_identities
            .iter_mut()
            .flat_map(|identity| &mut identity.tcb_levels)
        {
            level.tcb_status = status.to_owned();
            level.advisory_ids = advisories.iter().map(|id| (*id).to_owned()).collect();
        }
    }

    /// Moves issue date and next update (seconds since 1970).
    pub fn set_validity(&mut self, issue: u64, next: u64) {
        self.issue_date = rfc3339(issue);
        self.next_update = rfc3339(next);
    }
}

const RECENT: &str = "2025-11-12T00:00:00Z";
const OLD: &str = "2024-03-13T00:00:00Z";

/// Identity of the TD quoting enclave (`/tdx/certification/v4/qe/identity`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct QeIdentity {
    pub id: String,
    pub version: u32,
    pub issue_date: String,
    pub next_update: String,
    pub tcb_evaluation_data_number: u32,
    pub miscselect: String,
    pub miscselect_mask: String,
    pub attributes: String,
    pub attributes_mask: String,
    pub mrsigner: String,
    pub isvprodid: u16,
    pub tcb_levels: Vec<IsvLevel>,
}

impl QeIdentity {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            id: "TD_QE".to_owned(),
            version: 2,
            issue_date: rfc3339(now.saturating_sub(DAY)),
            next_update: rfc3339(now + 29 * DAY),
            tcb_evaluation_data_number: 20,
            miscselect: "0".repeat(8),
            miscselect_mask: "F".repeat(8),
            attributes: format!("11{}", "0".repeat(30)),
            attributes_mask: format!("FB{}{}", "F".repeat(14), "0".repeat(16)),
            mrsigner: hex::encode_upper(label256("QE signer")),
            isvprodid: 2,
            tcb_levels: vec![
                IsvLevel::new(4, RECENT, "UpToDate", &[]),
                IsvLevel::new(1, OLD, "OutOfDate", &["FAKE-SA-00004"]),
            ],
        }
    }

    /// Gives every level this status and these advisories.
    pub fn set_status(&mut self, status: &str, advisories: &[&str]) {
        for level in &mut self.tcb_levels {
            level.tcb_status = status.to_owned();
            level.advisory_ids = advisories.iter().map(|id| (*id).to_owned()).collect();
        }
    }

    /// Moves issue date and next update (seconds since 1970).
    pub fn set_validity(&mut self, issue: u64, next: u64) {
        self.issue_date = rfc3339(issue);
        self.next_update = rfc3339(next);
    }
}

/// Which editions of its documents Intel serves
/// (`/tdx/certification/v4/tcbevaluationdatanumbers`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct EvaluationNumbers {
    pub id: String,
    pub version: u32,
    pub issue_date: String,
    pub next_update: String,
    pub tcb_eval_numbers: Vec<EvaluationNumber>,
}

/// One edition: its number and the day on which Intel disclosed what it is about.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the PCS API")]
pub struct EvaluationNumber {
    pub tcb_evaluation_data_number: u32,
    pub tcb_recovery_event_date: String,
    pub tcb_date: String,
}

impl EvaluationNumbers {
    /// 20 is the standard edition, since a month and more; 21 is early.
    pub(crate) fn new(now: u64) -> Self {
        let mut numbers = Self {
            id: "TDX".to_owned(),
            version: 1,
            issue_date: rfc3339(now.saturating_sub(DAY)),
            next_update: rfc3339(now + 29 * DAY),
            tcb_eval_numbers: Vec::new(),
        };
        for (number, days) in [(21, 200), (20, 400), (19, 600)] {
            numbers.set(number, now.saturating_sub(days * DAY));
        }
        numbers
    }

    /// Says that an edition was disclosed then (seconds since 1970).
    pub fn set(&mut self, number: u32, disclosed: u64) {
        let list = &mut self.tcb_eval_numbers;
        list.retain(|known| known.tcb_evaluation_data_number != number);
        list.push(EvaluationNumber {
            tcb_evaluation_data_number: number,
            tcb_recovery_event_date: rfc3339(disclosed),
            tcb_date: rfc3339(disclosed),
        });
    }

    /// Moves issue date and next update (seconds since 1970).
    pub fn set_validity(&mut self, issue: u64, next: u64) {
        self.issue_date = rfc3339(issue);
        self.next_update = rfc3339(next);
    }
}

/// Everything a verifier needs besides the quote, signed.
#[derive(Debug, Clone)]
pub struct Collateral {
    /// PCK CRL's issuers in DER: platform CA, root.
    pub pck_crl_issuer_chain: Vec<Vec<u8>>,
    /// The root's CRL in DER.
    pub root_ca_crl: Vec<u8>,
    /// The platform CA's CRL in DER.
    pub pck_crl: Vec<u8>,
    /// TCB signer, root.
    pub tcb_info_issuer_chain: Vec<Vec<u8>>,
    /// The exact text that was signed.
    pub tcb_info: String,
    /// r || s.
    pub tcb_info_signature: Vec<u8>,
    /// TCB signer, root.
    pub qe_identity_issuer_chain: Vec<Vec<u8>>,
    /// The exact text that was signed.
    pub qe_identity: String,
    /// r || s.
    pub qe_identity_signature: Vec<u8>,
    /// TCB signer, root.
    pub evaluation_numbers_issuer_chain: Vec<Vec<u8>>,
    /// The exact text that was signed. Not part of `QuoteCollateralV3`.
    pub evaluation_numbers: String,
    /// r || s.
    pub evaluation_numbers_signature: Vec<u8>,
    /// PEM; replaces the chain in the quote when present.
    pub pck_certificate_chain: Option<String>,
}

/// dcap-qvl's `QuoteCollateralV3` as JSON: byte strings are hex.
#[derive(Serialize)]
struct Wire<'a> {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: &'a str,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: &'a str,
    qe_identity_signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pck_certificate_chain: Option<&'a str>,
}

impl Collateral {
    /// The JSON form of dcap-qvl's `QuoteCollateralV3`.
    pub fn to_json(&self) -> Result<String, crate::Error> {
        Ok(serde_json::to_string(&Wire {
            pck_crl_issuer_chain: pem_chain(&self.pck_crl_issuer_chain),
            root_ca_crl: hex::encode(&self.root_ca_crl),
            pck_crl: hex::encode(&self.pck_crl),
            tcb_info_issuer_chain: pem_chain(&self.tcb_info_issuer_chain),
            tcb_info: &self.tcb_info,
            tcb_info_signature: hex::encode(&self.tcb_info_signature),
            qe_identity_issuer_chain: pem_chain(&self.qe_identity_issuer_chain),
            qe_identity: &self.qe_identity,
            qe_identity_signature: hex::encode(&self.qe_identity_signature),
            pck_certificate_chain: self.pck_certificate_chain.as_deref(),
        })?)
    }
}
