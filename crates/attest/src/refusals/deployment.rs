//! The refusals of deployment logs, each with a stable code; a part of
//! [`Rejected`](crate::Rejected).

use crate::base::levels::DeploymentLevel;
use crate::refusals::Rejected;
use crate::refusals::table::rejections;

rejections! {
    /// Why a deployment was refused: one variant a check.
    DeploymentRejected;

    Missing {}
        "deployment_missing" check Deployment blame Machine
        "the report has no deployment log (compose_manager_attestation)"
        means "The backend's report does not say which containers were deployed. It leaves the log out when the manager does not answer it within two seconds."
        remedy "Try again. If the log is still missing, another instance of the backend may have one.";
    MissingField { field: String }
        "evidence_deployment_missing_field" check Deployment blame Unknown
        "the deployment log has no field {field}"
        means "A field that the proof of the deployment needs is missing."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    BadField { field: String, expected: &'static str, got: String }
        "evidence_deployment_bad_field" check Deployment blame Unknown
        "field {field} of the deployment log: expected {expected}, got {got}"
        means "A field of the deployment log does not have the form that the layout defines."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    TooManyActions { count: usize, max: usize }
        "evidence_deployment_too_many_actions" check Deployment blame Machine
        "the deployment log has {count} actions, at most {max} are read"
        means "The deployment log is longer than any honest one; the limit bounds the cost of reading.";
    Action { index: usize, field: &'static str, expected: &'static str, got: String }
        "evidence_deployment_action" check Deployment blame Unknown
        "action {index} of the deployment log: expected {expected} as its {field}, got {got}"
        means "An entry of the deployment log lacks a value that its kind requires, or has another one."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    NonceSource { got: String }
        "rejected_deployment_nonce_source" check Deployment blame Machine
        "the deployment log states that its nonce comes from {got}, expected \"client\""
        means "The deployment log was not made for this request: it may be of any age."
        remedy "Try again: another instance of the backend may answer properly.";
    Nonce { sent: String, got: String }
        "rejected_deployment_nonce" check Deployment blame Machine
        "the deployment log answers the nonce {got}, sent was {sent}"
        means "The deployment log answers another request: it is old, or another client's."
        remedy "Try again. If the refusal persists, report it to the backend's operator.";
    ActionsHash { stated: String, sorted: String, declared: String }
        "rejected_deployment_actions_hash" check Deployment blame Machine
        "actions_hash is {stated}, the actions hash to {sorted} (sorted keys) or {declared} (declared order)"
        means "The listed actions are not those that the manager's quote binds.";
    QuoteFormat { detail: String }
        "rejected_deployment_quote_format" check Deployment blame Unknown
        "the deployment log's quote is not a TDX quote: {detail}"
        means "The proof of the deployment log is not a quote of the expected kind."
        remedy "Look for a newer verified-proxy. If there is none, ask the backend's operator: a newer layout and a forged report look the same here.";
    Quote { cause: Box<Rejected> }
        "rejected_deployment_quote" check Deployment blame Machine
        "the deployment log's quote does not verify: {cause}"
        means "No genuine TDX platform signed the deployment log, although one signed the report.";
    ReportData { expected: String, got: String }
        "rejected_deployment_report_data" check Deployment blame Machine
        "the deployment log's quote binds {got}, expected {expected} (actions_hash, nonce)"
        means "The quote is genuine but is about another log or another request.";
    Platform { got: String, expected: String }
        "rejected_deployment_platform" check Deployment blame Machine
        "the deployment log was quoted on the platform {got}, the report on {expected}"
        means "A machine other than the one that serves you signed the deployment log.";
    Mrtd { got: String, expected: String }
        "rejected_deployment_mrtd" check Deployment blame Machine
        "the deployment log comes from a machine with MRTD {got}, the report from one with {expected}"
        means "A machine with other firmware than the one that serves you made the deployment log.";
    Rtmr { index: usize, got: String, expected: String }
        "rejected_deployment_rtmr" check Deployment blame Machine
        "the deployment log comes from a machine with RTMR{index} {got}, the report from one with {expected}"
        means "A machine in another state than the one that serves you made the deployment log."
        remedy "Try again: a register may have been extended between the two quotes. If the refusal persists, do not use this backend.";
    MrConfigId { got: String, expected: String }
        "rejected_deployment_mr_config_id" check Deployment blame Machine
        "the deployment log comes from a machine with MRCONFIGID {got}, the report from one with {expected}"
        means "A machine with another application description than the one that serves you made the deployment log.";
    TdBody {}
        "rejected_deployment_td_body" check Deployment blame Machine
        "the deployment log's quote differs from the report's in a field of the TD report"
        means "A machine or a TDX module other than the one that serves you made the deployment log.";
    Levels { component: &'static str }
        "rejected_deployment_levels" check Deployment blame Machine
        "the deployment log's quote is at another TCB level ({component}) than the report's"
        means "The two quotes of one moment come from differently patched parts, so a level that was accepted for one is not accepted for the other.";
    Empty {}
        "rejected_deployment_empty" check DeploymentRules|DeploymentFiles blame Machine
        "the deployment log names nothing that was started, or only starts that must have failed"
        means "A machine that answers runs something, so this log leaves it out. A manager that lost its log starts a new one."
        remedy "Try another instance. If all are like this, report it to the backend's operator.";
    Tag { file: String, got: String }
        "rejected_deployment_tag" check DeploymentRules blame Unknown
        "{file} was started from the tag {got}, which is not a release such as v1.2.3"
        means "The operator started a file that is not of a release: a branch or a test, perhaps."
        remedy "Ask the backend's operator what this file is. To accept it as a finding, set deployment.tags = \"report\" in a policy of your own.";
    Commit { file: String, got: String, allowed: usize, accept: String }
        "rejected_deployment_commit" check DeploymentRules blame Unknown
        "{file} was started at the commit {got}, which is not among the {allowed} that the policy names"
        means "The operator started a file at a commit that your policy does not name."
        remedy "Review the commit, then add it to your policy.";
    TagUnknown { file: String, got: String, known: usize }
        "rejected_deployment_tag_unknown" check DeploymentTags blame Unknown
        "{file} was started from the tag {got}, which is none of the {known} tags of its repository"
        means "The log names a release that its operator never published or has removed, or one that is newer than the fetched list of tags."
        remedy "Try again in a minute. If the refusal persists, ask the backend's operator. To accept the file as a finding, set deployment.tags = \"report\" in a policy of your own.";
    TagMoved { file: String, tag: String, got: String, expected: String }
        "rejected_deployment_tag_moved" check DeploymentTags blame Unknown
        "{file} was started from the tag {tag} at the commit {got}, but in its repository that tag is {expected}"
        means "The started file is not the one that its operator publishes under that tag: the log is false, or the operator moved the tag."
        remedy "Compare the two commits, and ask the backend's operator. To accept the file as a finding, set deployment.tags = \"report\" in a policy of your own.";
    Level { got: DeploymentLevel, least: DeploymentLevel, detail: String }
        "rejected_deployment_level" check DeploymentRules blame Unknown
        "what was started is {got}, the policy asks for {least}: {detail}"
        means "The log does not show that every file started since boot is a release of its repository, was read, and keeps the policy's rules. An operator's test or repair looks like this, and so does an attempt to hide a program."
        remedy "Try another instance: one whose log began anew after a restart may reach the level. To accept this instance, set least.deployment = \"declared\" in a policy of your own.";
    TagsUnavailable { detail: String }
        "deployment_tags_unavailable" check DeploymentTags blame Sources
        "the tags of the started files were not compared, and the policy requires it: {detail}"
        means "This program could not look up whether the started files are releases of their repository."
        remedy "Check that the repository can be reached (--compose-tags-url), and try again. To accept it as a finding, set deployment.sources = \"if-at-hand\" in a policy of your own.";
    FilesUnavailable { detail: String }
        "deployment_files_unavailable" check DeploymentFiles blame Sources
        "not all started files were judged, and the policy requires it: {detail}"
        means "This program could not read all started files, so the policy's rules were not applied to all of them."
        remedy "Check that the repository can be reached (--compose-files-url), and try again. To accept it as a finding, set deployment.sources = \"if-at-hand\" in a policy of your own.";
}

impl DeploymentRejected {
    /// The policy line that would accept what was seen, if there is one.
    pub(crate) fn accept(&self) -> Option<String> {
        match self {
            Self::Commit { accept, .. } => Some(accept.clone()),
            _ => None,
        }
    }
}
