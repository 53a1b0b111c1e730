//! Step 9: what was deployed into the machine.
//!
//! A log that contradicts its quote, its hash, our nonce or the platform is refused.
//! What it says decides a level, and refuses only where the policy asks for more.

use std::collections::{BTreeMap, BTreeSet};

use super::Run;
use crate::base::finding::{Finding, Severity};
use crate::base::levels::DeploymentLevel;
use crate::base::text::shown;
use crate::compose::{FileRules, listed};
use crate::dstack::event_log::BootEvents;
use crate::history::{Change, ChangeKind};
use crate::intel::quote::VerifiedQuote;
use crate::near::deployment::{
    AppraiseDeployment, Continuity, Deployment, FilesAtHand, FilesCheck, FilesJudged, Kind,
    MAX_TOLD, SinceBoot, and_more, appraise_deployment, compare_with, defined, findings_of_up,
    judge, started,
};
use crate::policy::{BrokenFiles, Mode, Tags, ValueRule};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::refusals::deployment::DeploymentRejected;
use crate::report::{DeploymentShown, Status};

const CHECKS: [CheckId; 5] = [
    CheckId::Deployment,
    CheckId::DeploymentRules,
    CheckId::DeploymentTags,
    CheckId::DeploymentFiles,
    CheckId::DeploymentContinuity,
];

/// The names of unknown actions that a finding repeats.
const SHOWN_ACTIONS: usize = 12;

/// The reasons that a check's detail repeats.
const SHOWN_REASONS: usize = 3;

/// The deployment log's honest limit.
const LOG_NOT_PROVED: &str = "the deployment log is written by software inside the machine: who holds the guest agent's socket there can write another one, so it shows honest changes and is no defence against the operator";

pub(super) const NOTHING_STARTED: &str =
    "the log names nothing that was started, or nothing since boot";
const STARTED_IN_VAIN: &str =
    "nothing to judge: each start of the log asks for services that its file does not define";

/// Why a machine is not `tagged`.
#[derive(Debug, Default)]
pub(super) struct NotTagged(Vec<Reason>);

#[derive(Debug)]
struct Reason {
    /// The check that does not hold because of it.
    check: CheckId,
    text: String,
    /// No evidence contradicts the machine: a source did not answer.
    is_lacking: bool,
}

impl NotTagged {
    pub(super) fn because(&mut self, check: CheckId, text: impl Into<String>) {
        self.0.push(Reason {
            check,
            text: text.into(),
            is_lacking: false,
        });
    }

    pub(super) fn lacks(&mut self, check: CheckId, text: impl Into<String>) {
        self.0.push(Reason {
            check,
            text: text.into(),
            is_lacking: true,
        });
    }

    /// The first of some, for a check's detail.
    fn first(&self, of: Option<CheckId>) -> Option<String> {
        let all = self.0.iter();
        let all: Vec<_> = all
            .filter(|reason| of.is_none_or(|check| check == reason.check))
            .map(|reason| reason.text.as_str())
            .collect();
        let more = all.len().saturating_sub(SHOWN_REASONS);
        let first: Vec<_> = all.into_iter().take(SHOWN_REASONS).collect();
        (!first.is_empty()).then(|| first.join("; ") + &and_more(more))
    }
}

impl Run<'_> {
    pub(super) fn deployment(
        &mut self,
        quote: &VerifiedQuote,
        boot: Option<&BootEvents>,
    ) -> Result<(), Rejected> {
        let request = self.request;
        let rules = &self.rules().deployment;
        self.begin(CheckId::Deployment);
        let Some(boot) = boot else {
            self.all_not_proved(CHECKS, "no boot event names the instance");
            return Ok(());
        };
        if rules.mode == Mode::Off {
            self.all_not_proved(
                CHECKS,
                "the policy does not look at it (deployment.mode = \"off\")",
            );
            return Ok(());
        }
        let judged = appraise_deployment(&AppraiseDeployment {
            evidence: request.evidence,
            quote,
            nonce: request.nonce,
            collateral: request.collateral,
            trust_anchors: request.trust_anchors,
            now: request.now,
        });
        let deployment = match (judged, rules.mode) {
            (Ok(deployment), _) => deployment,
            (Err(DeploymentRejected::Missing {}), Mode::IfPresent) => {
                self.all_not_proved(
                    CHECKS,
                    "the report has no deployment log, and the policy does not require one",
                );
                return Ok(());
            }
            (Err(rejected), _) => return Err(rejected.into()),
        };
        let log = match deployment.last() {
            None => "the log is empty".to_owned(),
            Some(last) => format!(
                "{} actions until {last}, quoted by this machine with our nonce",
                deployment.actions()
            ),
        };
        self.pass(log.clone());
        let findings = deployment.findings();
        self.report.findings.extend_from_slice(findings);

        let files = match request.context.files {
            FilesCheck::AtHand(files) => Some(files),
            FilesCheck::NotFetched(_) => None,
        };
        let known = files.map(|files| defined(deployment.log(), files));
        let since = deployment.since_boot(self.workload.booted, &known.clone().unwrap_or_default());
        let mut why = NotTagged::default();
        self.log_rules(&deployment, &since, &mut why)?;
        self.tags(&deployment, &since, &mut why)?;
        let up = deployment.up_given(&known.unwrap_or_default());
        self.report.deployment = Some(DeploymentShown::of(
            &deployment,
            &since,
            &up,
            files,
            |source| self.release_of(source),
        ));
        self.files(&deployment, &since, &up, &mut why)?;
        self.continuity(&deployment, boot, &mut why);

        // A check that passed by what the policy refuses has not passed by what is known.
        for check in CHECKS {
            let passed = self.report.check(check).map(|check| check.status) == Some(Status::Pass);
            if passed && let Some(reasons) = why.first(Some(check)) {
                self.report.not_proved(check, reasons);
            }
        }
        self.report.limits.push(LOG_NOT_PROVED);
        self.workload.deployment = Some(deployment);
        self.level(log, why)
    }

    /// What needs neither tags nor files.
    fn log_rules(
        &mut self,
        deployment: &Deployment,
        since: &SinceBoot,
        why: &mut NotTagged,
    ) -> Result<(), Rejected> {
        let check = CheckId::DeploymentRules;
        let rules = &self.rules().deployment;
        self.begin(check);
        let all = deployment.started();
        if all.is_empty() && rules.mode == Mode::Required {
            return Err(DeploymentRejected::Empty {}.into());
        }
        rules.admit(&all)?;
        let commits: Vec<_> = all.iter().map(|source| source.commit.to_string()).collect();
        self.accepted_values(ValueRule::Commit, commits.iter().map(String::as_str));
        // Which files an image stands in is not looked up: each row is told.
        let images = self.rules().accepted.iter();
        let images = images.filter(|row| row.rule == ValueRule::ServiceImage);
        self.accepted_values(
            ValueRule::ServiceImage,
            images.map(|row| row.value.as_str()),
        );
        if all.is_empty() {
            self.report.not_proved(check, NOTHING_STARTED);
        } else {
            let each = match (rules.tags, rules.pins_commits()) {
                (Tags::Releases, true) => ", each from a release tag and an accepted commit",
                (Tags::Releases, false) => ", each from a release tag",
                (_, true) => ", each from an accepted commit",
                (_, false) => "",
            };
            self.pass(format!(
                "{} files were ever started{each}; no action since is unknown or contradicts another",
                all.len()
            ));
        }
        if started(&since.actions).next().is_none() {
            why.because(check, NOTHING_STARTED);
        }

        let unknown = deployment.unknown();
        if !unknown.is_empty() {
            let names = listed(unknown, SHOWN_ACTIONS);
            let detail = format!(
                "the deployment log has actions that this version does not know, so what they started is not listed: {names}"
            );
            why.because(
                check,
                format!("actions that this version does not know: {names}"),
            );
            self.tell(Severity::Warning, "deployment_unknown_action", [detail]);
        }
        let contradictions = deployment.contradictions();
        for text in &contradictions {
            why.because(check, text.clone());
        }
        self.tell(Severity::Danger, "deployment_contradiction", contradictions);
        self.managers(deployment, since, why);
        if let Some(gap) = &since.gap {
            why.because(check, gap.clone());
        }
        Ok(())
    }

    /// The manager has every right in the machine and writes the log.
    fn managers(&mut self, deployment: &Deployment, since: &SinceBoot, why: &mut NotTagged) {
        let rules = &self.rules().deployment;
        if !rules.names_managers() {
            if since.actions.iter().any(|action| manager(action).is_some()) {
                why.because(
                    CheckId::Deployment,
                    "the policy names no repository of the manager (deployment.managers)",
                );
            }
            return;
        }
        let mut foreign = BTreeMap::new();
        let all = deployment.log().iter();
        for image in all.filter_map(manager) {
            if let Err(text) = rules.manager(image) {
                foreign.insert(image, text);
            }
        }
        let counted = since.actions.iter();
        let counted: BTreeSet<_> = counted.filter_map(manager).collect();
        for (_, text) in foreign
            .iter()
            .filter(|(image, _)| counted.contains(**image))
        {
            why.because(CheckId::DeploymentRules, text.clone());
        }
        self.tell(
            Severity::Danger,
            "deployment_manager",
            foreign.into_values(),
        );
    }

    /// What the files of the log say, as far as they were given.
    fn files(
        &mut self,
        deployment: &Deployment,
        since: &SinceBoot,
        up: &[crate::Up],
        why: &mut NotTagged,
    ) -> Result<(), Rejected> {
        let check = CheckId::DeploymentFiles;
        self.begin(check);
        let rules = &self.rules().deployment;
        let files = match self.request.context.files {
            FilesCheck::NotFetched(reason) => {
                if deployment.started().is_empty() {
                    self.report.not_proved(check, NOTHING_STARTED);
                } else {
                    why.lacks(check, format!("no file was read: {reason}"));
                    self.lacks(reason.to_owned(), |detail| {
                        DeploymentRejected::FilesUnavailable { detail }
                    });
                }
                return Ok(());
            }
            FilesCheck::AtHand(files) => files,
        };
        let judged = match rules.broken_files {
            BrokenFiles::Report => judge(&since.actions, files, &rules.files),
            BrokenFiles::Refuse => {
                let mut judged = judge(deployment.log(), files, &rules.files);
                if !judged.broken.is_empty() {
                    return Err(judged.broken.remove(0).1.into());
                }
                judged
            }
        };
        self.broken(&judged, since, why);
        self.report
            .findings
            .extend(findings_of_up(up, files, &rules.files));
        let FilesJudged {
            judged,
            in_vain,
            wanted,
            broken,
        } = judged;
        let at_hand = judged.saturating_add(in_vain);
        let when = match rules.broken_files {
            BrokenFiles::Report => " that were started since boot",
            BrokenFiles::Refuse => "",
        };
        if let Some(first) = wanted.first() {
            let detail = format!(
                "{} of {} files were not fetched, such as {} at {}",
                wanted.len(),
                wanted.len().saturating_add(at_hand),
                shown(&first.file),
                first.commit
            );
            why.lacks(check, detail.clone());
            self.lacks(detail, |detail| DeploymentRejected::FilesUnavailable {
                detail,
            });
        } else if judged == 0 && broken.is_empty() {
            let reason = match (in_vain, rules.mode) {
                (0, _) => NOTHING_STARTED,
                // As a log that names nothing.
                (_, Mode::Required) if starts_nothing(deployment, files, &rules.files) => {
                    return Err(DeploymentRejected::Empty {}.into());
                }
                _ => STARTED_IN_VAIN,
            };
            why.because(check, reason);
            self.report.not_proved(check, reason);
        } else if in_vain > 0 {
            self.pass(format!(
                "all {at_hand} files{when}; {in_vain} of them started nothing, because they lack the services that each start names"
            ));
        } else {
            self.pass(format!("all {at_hand} files{when}"));
        }
        self.workload.files_wanted = wanted;
        Ok(())
    }

    /// Files that break a rule, where the policy only reports them.
    fn broken(&mut self, judged: &FilesJudged, since: &SinceBoot, why: &mut NotTagged) {
        // As many as are told of: each is looked for in the whole log.
        for (source, rejected) in judged.broken.iter().take(MAX_TOLD) {
            let ran = self.ran(since, source, "a file that breaks a rule");
            why.because(
                CheckId::DeploymentFiles,
                format!("{ran}: {}", rejected.code()),
            );
        }
        let texts = judged
            .broken
            .iter()
            .map(|(_, rejected)| rejected.to_string());
        self.tell(Severity::Danger, "deployment_file", texts);
    }

    /// Whether the log goes on from the one last seen.
    fn continuity(&mut self, deployment: &Deployment, boot: &BootEvents, why: &mut NotTagged) {
        let check = CheckId::DeploymentContinuity;
        let logs = match self.request.context.history.history() {
            Err(reason) => return self.report.not_proved(check, reason),
            Ok(history) => &history.logs,
        };
        let booted = self.workload.booted;
        let compared = compare_with(logs, &boot.instance_id, deployment, booted);
        let mut changes = Vec::new();
        match compared.continuity {
            None => self
                .report
                .not_proved(check, "this instance's log was not seen before"),
            Some(Continuity::Unchanged) => {
                self.report.pass(check, "the same log as when last seen");
            }
            Some(Continuity::Extended { by }) => {
                let actions = if by == 1 { "action" } else { "actions" };
                changes.push(format!("{by} more {actions} in the deployment log"));
                let new = deployment.log().iter().skip(compared.seen_before);
                changes.extend(new.filter_map(change).take(MAX_TOLD));
                self.report.pass(
                    check,
                    format!("the log continues the one last seen, with {by} new {actions}"),
                );
            }
            Some(Continuity::Reset) => {
                let what = "log reset: the log does not continue the one last seen, so what was started before is unknown";
                changes.push(what.to_owned());
                self.report.not_proved(check, what);
            }
        }
        if compared.lost_since_boot {
            why.because(
                check,
                "since this boot, the log did not continue one that was seen before",
            );
        }
        let changes = changes.into_iter();
        let changes = changes.map(|detail| Change::new(ChangeKind::DeploymentLog, detail));
        self.report.changes.extend(changes);
        self.sighting.log = Some(compared.now);
    }

    /// The level, and whether it is enough.
    fn level(&mut self, log: String, why: NotTagged) -> Result<(), Rejected> {
        let least = self.rules().least.deployment;
        let (got, detail) = match why.first(None) {
            None => (DeploymentLevel::Tagged, String::new()),
            Some(reasons) => (DeploymentLevel::Declared, reasons),
        };
        let words = match detail.as_str() {
            "" => format!("{log}; {got}"),
            reasons => format!("{log}; {got}: {reasons}"),
        };
        self.report.pass(CheckId::Deployment, words);
        // What is only not given yet refuses last, as a source that is missing.
        let is_open = got < DeploymentLevel::Tagged && why.0.iter().all(|reason| reason.is_lacking);
        self.workload.deployment_is_open = is_open;
        let may_rise = self.workload.lacking.is_some() && is_open;
        let texts = why.0.into_iter().map(|reason| reason.text);
        self.workload.not_tagged = texts.take(MAX_TOLD).collect();
        self.workload.deployment_level = got;
        if let Some(shown) = &mut self.report.deployment {
            shown.level = got;
            shown.not_tagged.clone_from(&self.workload.not_tagged);
        }
        if got >= least || may_rise {
            return Ok(());
        }
        self.begin(CheckId::DeploymentRules);
        Err(DeploymentRejected::Level { got, least, detail }.into())
    }

    /// As many findings of one kind as a person reads.
    pub(super) fn tell(
        &mut self,
        severity: Severity,
        topic: &'static str,
        texts: impl IntoIterator<Item = String>,
    ) {
        let finding = |detail| Finding::new(severity, topic, detail);
        let mut texts = texts.into_iter();
        let findings = &mut self.report.findings;
        findings.extend(texts.by_ref().take(MAX_TOLD).map(finding));
        match texts.count() {
            0 => {}
            more => findings.push(finding(format!("and {more} more of this kind"))),
        }
    }
}

/// What a new action changed, if that is for people.
fn change(action: &crate::near::deployment::Action) -> Option<String> {
    match &action.kind {
        Kind::Up { source, .. } => Some(format!(
            "started {} from the tag {}",
            shown(&source.file),
            shown(&source.tag)
        )),
        Kind::ManagerStarted { image } => Some(format!("the manager is now {}", shown(image))),
        Kind::Unknown(name) => Some(format!(
            "an action that this version does not know: {}",
            shown(name)
        )),
        Kind::Down { .. } | Kind::AgentStarted | Kind::Inert => None,
    }
}

/// Whether no start of the whole log can have started anything.
fn starts_nothing(deployment: &Deployment, files: &FilesAtHand, rules: &FileRules) -> bool {
    let whole = judge(deployment.log(), files, rules);
    whole.judged == 0 && whole.broken.is_empty() && whole.wanted.is_empty()
}

fn manager(action: &crate::near::deployment::Action) -> Option<&str> {
    match &action.kind {
        Kind::ManagerStarted { image } => Some(image),
        _ => None,
    }
}
