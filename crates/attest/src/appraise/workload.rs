//! Step 9: what was deployed into the machine.

use super::Run;
use crate::Rejected;
use crate::compose_file::listed;
use crate::deployment::{
    AppraiseDeployment, ComposeFile, Continuity, Deployment, DeploymentRejected, FilesCheck,
    InstanceLog, LogCheck, appraise_deployment, findings_of_up,
};
use crate::event_log::BootEvents;
use crate::finding::{Finding, Severity};
use crate::policy::Mode;
use crate::quote::VerifiedQuote;
use crate::report::{CheckId, DeploymentShown};
use crate::text::shown;

const DEPLOYMENT_CHECKS: [CheckId; 5] = [
    CheckId::Deployment,
    CheckId::DeploymentRules,
    CheckId::DeploymentTags,
    CheckId::DeploymentFiles,
    CheckId::DeploymentContinuity,
];

/// The names of unknown actions that a finding repeats.
const SHOWN_ACTIONS: usize = 12;

/// The deployment log's honest limit.
const LOG_NOT_PROVED: &str = "the deployment log is written by software inside the machine: who holds the guest agent's socket there can write another one, so it shows honest changes and is no defence against the operator";

pub(super) const NOTHING_STARTED: &str = "the log names nothing that was started";
const STARTED_IN_VAIN: &str =
    "nothing to judge: each start of the log asks for services that its file does not define";

impl Run<'_> {
    pub(super) fn deployment(
        &mut self,
        quote: &VerifiedQuote,
        boot: Option<&BootEvents>,
    ) -> Result<(), Rejected> {
        let request = self.request;
        let rules = &self.rules().deployment;
        self.begin(CheckId::Deployment);
        if rules.mode == Mode::Off {
            self.all_not_proved(
                DEPLOYMENT_CHECKS,
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
                    DEPLOYMENT_CHECKS,
                    "the report has no deployment log, and the policy does not require one",
                );
                return Ok(());
            }
            (Err(rejected), _) => return Err(rejected.into()),
        };
        self.pass(match deployment.last() {
            None => "the log is empty".to_owned(),
            Some(last) => format!(
                "{} actions until {last}, quoted by this machine with our nonce",
                deployment.actions()
            ),
        });

        self.begin(CheckId::DeploymentRules);
        let started = deployment.started();
        if started.is_empty() && rules.mode == Mode::Required {
            return Err(DeploymentRejected::Empty {}.into());
        }
        rules.admit(&started)?;
        if started.is_empty() {
            self.report
                .not_proved(CheckId::DeploymentRules, NOTHING_STARTED);
        } else {
            self.pass(format!(
                "{} files were ever started, each from an accepted tag and commit",
                started.len()
            ));
        }

        let unknown = deployment.unknown();
        if !unknown.is_empty() {
            let names = listed(unknown, SHOWN_ACTIONS);
            self.report.findings.push(Finding {
                severity: Severity::Warning,
                topic: "deployment_unknown_action",
                detail: format!(
                    "the deployment log has actions that are not known here; what they started is not in the list: {names}"
                ),
            });
        }

        self.tags(&started)?;
        self.files(&deployment, &started)?;
        self.continuity(&deployment, boot);
        self.report.limits.push(LOG_NOT_PROVED);
        self.workload.deployment = Some(deployment);
        Ok(())
    }

    /// What the files of the log say, as far as they are at hand.
    fn files(&mut self, deployment: &Deployment, started: &[&ComposeFile]) -> Result<(), Rejected> {
        self.begin(CheckId::DeploymentFiles);
        let rules = &self.rules().deployment.files;
        let files = match self.request.files {
            FilesCheck::NotFetched(reason) => {
                if started.is_empty() {
                    self.report
                        .not_proved(CheckId::DeploymentFiles, NOTHING_STARTED);
                } else {
                    self.lacks(reason.to_owned(), |detail| {
                        DeploymentRejected::FilesUnavailable { detail }
                    });
                }
                let up = deployment.up();
                self.report.deployment = Some(DeploymentShown::of(deployment, &up, None));
                return Ok(());
            }
            FilesCheck::AtHand(files) => files,
        };
        let judged = deployment.judge_files(files, rules)?;
        let up = deployment.up_given(&judged.defined);
        self.report.deployment = Some(DeploymentShown::of(deployment, &up, Some(files)));
        self.report
            .findings
            .extend(findings_of_up(&up, files, rules));
        let at_hand = judged.judged.saturating_add(judged.in_vain);
        if let Some(first) = judged.wanted.first() {
            let detail = format!(
                "{} of {} files were not fetched, such as {} at {}",
                judged.wanted.len(),
                judged.wanted.len().saturating_add(at_hand),
                shown(&first.file),
                first.commit
            );
            self.lacks(detail, |detail| DeploymentRejected::FilesUnavailable {
                detail,
            });
        } else if judged.judged == 0 {
            let why = match (judged.in_vain, self.rules().deployment.mode) {
                (0, _) => NOTHING_STARTED,
                // As a log that names nothing.
                (_, Mode::Required) => return Err(DeploymentRejected::Empty {}.into()),
                _ => STARTED_IN_VAIN,
            };
            self.report.not_proved(CheckId::DeploymentFiles, why);
        } else if judged.in_vain > 0 {
            self.pass(format!(
                "all {at_hand} files; nothing was started of {}, which lack what each start asks for",
                judged.in_vain
            ));
        } else {
            self.pass(format!("all {at_hand} files"));
        }
        self.workload.files_wanted = judged.wanted;
        Ok(())
    }

    fn continuity(&mut self, deployment: &Deployment, boot: Option<&BootEvents>) {
        let check = CheckId::DeploymentContinuity;
        let Some(boot) = boot else {
            self.report
                .not_proved(check, "no boot event names the instance");
            return;
        };
        let seen = InstanceLog::new(&boot.instance_id, deployment.seen());
        match self.request.logs {
            LogCheck::NotKept(reason) => self.report.not_proved(check, reason),
            LogCheck::Kept(logs) => {
                match logs.get(&seen).map(|last| deployment.continuity(&last)) {
                    None => self
                        .report
                        .not_proved(check, "this instance's log was not seen before"),
                    Some(Continuity::Unchanged) => {
                        self.report.pass(check, "the same log as when last seen");
                    }
                    Some(Continuity::Extended { by }) => self.report.pass(
                        check,
                        format!("the log last seen, and {by} actions since: something changed"),
                    ),
                    Some(Continuity::Reset) => self.report.not_proved(
                        check,
                        "log reset: it does not go on from the one last seen, so what was started before is unknown",
                    ),
                }
                self.log_seen = Some(seen);
            }
        }
    }

    pub(super) fn all_not_proved<const N: usize>(&mut self, checks: [CheckId; N], reason: &str) {
        for check in checks {
            self.report.not_proved(check, reason);
        }
    }
}
