//! Intel's judgement of a platform's patch level, taken apart.
//!
//! Intel converges three judgements into one status: platform (microcode, firmware,
//! PCE), TDX module and quoting enclave. A policy may want to accept an advisory for
//! one of them and not for another, so the levels are matched here once more and kept
//! apart (Intel PCS API v4, "TCB Info", "Enclave Identity").

use std::cmp::Reverse;

use dcap_qvl::policy::QuoteClaims;
use dcap_qvl::{QeIdentity, TcbInfo, TcbLevel};

use crate::base::tcb::{Level, TcbStatus};
use crate::base::text::shown;

/// dcap-qvl's statuses of single levels. Its two statuses for a relaunch exist in
/// converged verdicts only, which are not used here; here they would count as out of
/// date.
fn status_of(status: dcap_qvl::TcbStatus) -> TcbStatus {
    use dcap_qvl::TcbStatus as Theirs;
    match status {
        Theirs::UpToDate => TcbStatus::UpToDate,
        Theirs::SWHardeningNeeded => TcbStatus::SWHardeningNeeded,
        Theirs::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        Theirs::ConfigurationAndSWHardeningNeeded => TcbStatus::ConfigurationAndSWHardeningNeeded,
        Theirs::OutOfDate | Theirs::TDRelaunchAdvised => TcbStatus::OutOfDate,
        Theirs::OutOfDateConfigurationNeeded | Theirs::TDRelaunchAdvisedConfigurationNeeded => {
            TcbStatus::OutOfDateConfigurationNeeded
        }
        Theirs::Revoked => TcbStatus::Revoked,
    }
}

fn level_of(status: dcap_qvl::TcbStatus, advisories: &[String], date: &str) -> Level {
    Level {
        status: status_of(status),
        advisories: advisories.iter().map(|id| shown(id)).collect(),
        date: shown(date),
    }
}

/// The levels of a platform, each kind on its own. A TD 1.5 has two of
/// platform and module: at its launch and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) platform: Vec<Level>,
    /// Empty if the TCB info judges the module together with the platform.
    pub(crate) module: Vec<Level>,
    pub(crate) qe: Level,
}

/// The versions that levels are matched with.
pub(crate) struct Svns<'a> {
    pub(crate) cpu: &'a [u8; 16],
    pub(crate) pce: u16,
    /// `TEE_TCB_SVN`, and `TEE_TCB_SVN2` of a TD 1.5.
    pub(crate) tee: Vec<[u8; 16]>,
}

impl Levels {
    /// Matches the levels again, which dcap-qvl matched and converged.
    pub(crate) fn of(claims: &QuoteClaims, tcb_info: &str) -> Result<Self, String> {
        let td = claims.report.as_td10().ok_or("not a TD report")?;
        let mut tee = vec![td.tee_tcb_svn];
        tee.extend(claims.report.as_td15().map(|td| td.tee_tcb_svn2));
        let pck = &claims.platform.pck;
        let svns = Svns {
            cpu: &pck.cpu_svn,
            pce: pck.pce_svn,
            tee,
        };
        let (platform, module) = platform_and_module(tcb_info, &svns)?;
        let qe = &claims.qe.tcb_level;
        Ok(Self {
            platform,
            module,
            qe: level_of(qe.tcb_status, &qe.advisory_ids, &qe.tcb_date),
        })
    }
}

/// The levels of platform and TDX module for each `TEE_TCB_SVN`.
pub(crate) fn platform_and_module(
    tcb_info: &str,
    svns: &Svns<'_>,
) -> Result<(Vec<Level>, Vec<Level>), String> {
    let mut info: TcbInfo = serde_json::from_str(tcb_info).map_err(|error| error.to_string())?;
    // Intel's QVL sorts the levels, highest first, whatever their order in the JSON.
    info.tcb_levels.sort_by_key(|level| {
        Reverse((
            level.tcb.sgx_components.clone(),
            level.tcb.pce_svn,
            level.tcb.tdx_components.clone(),
        ))
    });
    let mut platform = Vec::new();
    let mut module = Vec::new();
    for tee in &svns.tee {
        let level = first_met(&info.tcb_levels, svns, tee)?;
        platform.push(level_of(
            level.tcb_status,
            &level.advisory_ids,
            &level.tcb_date,
        ));
        let identity = info
            .tdx_module_identity(tee)
            .map_err(|error| error.to_string())?;
        if let Some(identity) = identity {
            let level = identity
                .tcb_levels
                .iter()
                .filter(|level| level.shortfall(tee).is_none())
                .max_by_key(|level| level.tcb.isvsvn)
                .ok_or("no level of the TDX module is met")?;
            module.push(level_of(
                level.tcb_status,
                &level.advisory_ids,
                &level.tcb_date,
            ));
        }
    }
    Ok((platform, module))
}

/// The level of a quoting enclave of this ISV SVN.
pub(crate) fn qe_level(qe_identity: &str, isv_svn: u16) -> Result<Level, String> {
    let identity: QeIdentity =
        serde_json::from_str(qe_identity).map_err(|error| error.to_string())?;
    identity
        .tcb_levels
        .iter()
        .filter(|level| level.tcb.isvsvn <= isv_svn)
        .max_by_key(|level| level.tcb.isvsvn)
        .map(|level| level_of(level.tcb_status, &level.advisory_ids, &level.tcb_date))
        .ok_or_else(|| format!("no level of the quoting enclave is met by its SVN {isv_svn}"))
}

fn first_met<'a>(
    levels: &'a [TcbLevel],
    svns: &Svns<'_>,
    tee: &[u8; 16],
) -> Result<&'a TcbLevel, String> {
    for level in levels {
        let shortfalls = level
            .shortfalls(svns.cpu, svns.pce, Some(tee))
            .map_err(|error| error.to_string())?;
        if shortfalls.is_empty() {
            return Ok(level);
        }
    }
    Err("no TCB level is met".to_owned())
}
