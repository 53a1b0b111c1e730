//! Intel's judgement of a platform's patch level, taken apart.
//!
//! Intel converges three judgements into one word: platform (microcode,
//! firmware, PCE), TDX module and quoting enclave. A policy may want to accept
//! an advisory for one of them and not for another, so the levels are matched
//! here once more and kept apart (Intel PCS API v4, "TCB Info", "Enclave Identity").

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use dcap_qvl::policy::QuoteClaims;
use dcap_qvl::{QeIdentity, TcbInfo, TcbLevel};

use crate::base::exception::Exception;
use crate::base::identifiers::UnixTime;
use crate::base::text::shown;
use crate::policy::AcceptTcb;

/// A status of Intel's TCB info. A word that is not among these is an error.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum TcbStatus {
    /// Fully patched.
    UpToDate,
    /// Patched; software in the TD has to carry mitigations of its own.
    SWHardeningNeeded,
    /// Patched; the platform's configuration may need a change.
    ConfigurationNeeded,
    /// Both of the two above.
    ConfigurationAndSWHardeningNeeded,
    /// A security update is missing.
    OutOfDate,
    /// A security update is missing, and the configuration may need a change.
    OutOfDateConfigurationNeeded,
    /// Keys of this level are compromised. No policy can accept it.
    Revoked,
}

impl TcbStatus {
    const ALL: [Self; 7] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// Intel's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl FromStr for TcbStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
                format!(
                    "{} is no TCB status; known are {}",
                    crate::base::text::quoted(text),
                    known.join(", ")
                )
            })
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// dcap-qvl's statuses of single levels. Its two relaunch words exist in
/// converged verdicts only, which are not used here; were one to appear it
/// would count as out of date.
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

/// Which of the three judgements.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Microcode, firmware, PCE.
    Platform,
    /// The TDX module.
    Module,
    /// The quoting enclave.
    Qe,
}

impl Component {
    /// The word that policies use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Module => "module",
            Self::Qe => "qe",
        }
    }
}

/// The level that a component matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Intel's judgement.
    pub status: TcbStatus,
    /// The advisories that apply at this level.
    pub advisories: Vec<String>,
    /// The date of the level, as Intel writes it.
    pub date: String,
}

impl Level {
    fn new(status: dcap_qvl::TcbStatus, advisories: &[String], date: &str) -> Self {
        Self {
            status: status_of(status),
            advisories: advisories.iter().map(|id| shown(id)).collect(),
            date: shown(date),
        }
    }

    /// What would accept this level until about three months from now.
    pub(crate) fn accept(&self, component: Component, now: UnixTime) -> Accept {
        if self.status == TcbStatus::Revoked {
            return Accept::default();
        }
        let option = format!(
            "{}:{}@{}",
            self.status,
            self.advisories.join(","),
            Exception::proposed_end(now)
        );
        let advisories: Vec<_> = self.advisories.iter().map(|id| format!("{id:?}")).collect();
        Accept {
            // Foreign names that were escaped for people are no advisories.
            option: option.parse::<AcceptTcb>().ok().map(|_| option),
            line: Some(format!(
                "tcb.accept_advisories = [{{ component = \"{}\", status = \"{}\", advisories = [{}], {} }}]",
                component.as_str(),
                self.status,
                advisories.join(", "),
                Exception::proposed(now)
            )),
        }
    }
}

/// What would accept a level, as an option and as a line of a policy; nothing accepts
/// `Revoked`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    pub(crate) option: Option<String>,
    pub(crate) line: Option<String>,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (level of {}", self.status, self.date)?;
        if !self.advisories.is_empty() {
            write!(f, "; {}", self.advisories.join(", "))?;
        }
        f.write_str(")")
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

/// What levels are matched with.
pub(crate) struct Svns<'a> {
    pub(crate) cpu: &'a [u8; 16],
    pub(crate) pce: u16,
    /// `TEE_TCB_SVN`, and `TEE_TCB_SVN2` of a TD 1.5.
    pub(crate) tee: Vec<[u8; 16]>,
}

impl Levels {
    /// Matches once more what dcap-qvl matched and converged.
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
            qe: Level::new(qe.tcb_status, &qe.advisory_ids, &qe.tcb_date),
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
        platform.push(Level::new(
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
            module.push(Level::new(
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
        .map(|level| Level::new(level.tcb_status, &level.advisory_ids, &level.tcb_date))
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
