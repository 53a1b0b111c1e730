//! What has to be fetched for step 9: the tags of the log's repository, and what
//! becomes of a source that was not given.

use std::collections::HashSet;

use super::Run;
use super::deployment::{NOTHING_STARTED, NotTagged};
use crate::base::finding::Severity;
use crate::base::text::{quoted, shown};
use crate::near::deployment::{
    ComposeFile, Deployment, FilesCheck, MAX_TOLD, SinceBoot, TagsCheck, reaches_secrets, started,
};
use crate::policy::{Sources, Tags, admit_release};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::refusals::deployment::DeploymentRejected;

/// What a list of tags does not say.
const TAGS_NOT_PROVED: &str = "a tag of the repository says neither who reviewed its commit nor that it is on the main branch: that takes the repository's history, which is not fetched";

impl Run<'_> {
    /// Whether what was started is what its repository has under that name.
    pub(super) fn tags(
        &mut self,
        deployment: &Deployment,
        since: &SinceBoot,
        why: &mut NotTagged,
    ) -> Result<(), Rejected> {
        let check = CheckId::DeploymentTags;
        self.begin(check);
        let rule = self.rules().deployment.tags;
        if rule == Tags::Any {
            let any = "the policy admits any (deployment.tags = \"any\")";
            why.because(check, format!("tags were not compared: {any}"));
            self.report
                .not_proved(check, format!("not compared: {any}"));
            return Ok(());
        }
        let all = deployment.started();
        let counted: HashSet<_> = started(&since.actions).map(|(source, _)| source).collect();
        if all.is_empty() || (rule == Tags::Report && counted.is_empty()) {
            self.report.not_proved(check, NOTHING_STARTED);
            return Ok(());
        }
        match self.request.context.tags {
            TagsCheck::NotFetched(reason) => {
                self.workload.tags_wanted = true;
                let detail = format!("not compared: {}", shown(reason));
                why.lacks(check, format!("tags were {detail}"));
                self.lacks(detail, |detail| DeploymentRejected::TagsUnavailable {
                    detail,
                });
            }
            TagsCheck::AtHand(tags) => {
                if rule == Tags::Releases
                    && let Err(rejected) = tags.admit(&all)
                {
                    self.workload.tags_wanted = true;
                    return Err(rejected.into());
                }
                let (count, when) = match rule {
                    Tags::Report => (counted.len(), " that were started since boot"),
                    _ => (all.len(), ""),
                };
                self.pass(format!(
                    "all {count} files{when}, by the {} tags of their repository",
                    tags.len()
                ));
                self.report.limits.push(TAGS_NOT_PROVED);
            }
        }
        if rule == Tags::Report {
            self.untagged(deployment, since, why);
        }
        Ok(())
    }

    /// What is no release, where the policy only reports it.
    fn untagged(&mut self, deployment: &Deployment, since: &SinceBoot, why: &mut NotTagged) {
        let mut texts = Vec::new();
        for (source, at) in started(&since.actions) {
            let Err(rejected) = self.release(source) else {
                continue;
            };
            // A newer list may have it.
            self.workload.tags_wanted |= !matches!(rejected, DeploymentRejected::Tag { .. });
            texts.push(format!("{rejected}, on {at}"));
            // Looking for rights costs a walk along the log, and few are told.
            let words = match texts.len() {
                ..=MAX_TOLD => self.ran(since, source, "an untagged file"),
                _ => format!("an untagged file ran ({})", quoted(&source.file)),
            };
            why.because(CheckId::DeploymentTags, words);
        }
        self.tell(Severity::Warning, "deployment_untagged", texts);
        let counted: HashSet<_> = started(&since.actions).map(|(source, _)| source).collect();
        let all = deployment.started().into_iter();
        let mut older =
            all.filter(|source| !counted.contains(source) && self.release(source).is_err());
        if let Some(first) = older.next() {
            let count = older.count().saturating_add(1);
            let detail = format!(
                "before this boot, {count} files that are no releases were started, such as {} from the tag {}",
                quoted(&first.file),
                quoted(&first.tag)
            );
            self.tell(Severity::Notice, "deployment_before_boot", [detail]);
        }
    }

    /// By the form of its tag, and by the list of tags if that was given; true if it
    /// was compared with that.
    fn release(&self, source: &ComposeFile) -> Result<bool, DeploymentRejected> {
        admit_release(source)?;
        match self.request.context.tags {
            TagsCheck::NotFetched(_) => Ok(false),
            TagsCheck::AtHand(tags) => tags.admit(&[source]).map(|()| true),
        }
    }

    /// The same in a word, for a report.
    pub(super) fn release_of(&self, source: &ComposeFile) -> &'static str {
        match self.release(source) {
            Ok(true) => "release",
            Ok(false) => "not compared",
            Err(DeploymentRejected::TagUnknown { .. }) => "not in its repository",
            Err(DeploymentRejected::TagMoved { .. }) => "another commit in its repository",
            Err(_) => "no release",
        }
    }

    /// That a file ran, when, and with what rights: for a reason.
    pub(super) fn ran(&self, since: &SinceBoot, of: &ComposeFile, what: &str) -> String {
        let access = match self.request.context.files {
            FilesCheck::NotFetched(_) => None,
            FilesCheck::AtHand(files) => {
                reaches_secrets(&since.actions, of, files, &self.rules().deployment.files)
            }
        };
        let access = match access {
            None => " that was not read",
            Some(true) => " with access to keys",
            Some(false) => "",
        };
        let mut starts = started(&since.actions);
        let day = starts
            .find(|(source, _)| *source == of)
            .map(|(_, at)| at.to_string());
        let day = day.as_deref().and_then(|at| at.split('T').next());
        format!(
            "{what}{access} ran on {} ({})",
            day.unwrap_or("a day that is not known"),
            shown(&of.file)
        )
    }

    /// What was not given proves nothing. Where the policy requires it, it refuses,
    /// once all else was looked at: the caller can fetch it for a machine that
    /// nothing speaks against, and appraise anew.
    pub(super) fn lacks(&mut self, detail: String, refusal: fn(String) -> DeploymentRejected) {
        self.report.not_proved(self.current, detail.clone());
        if self.rules().deployment.sources == Sources::Required {
            let first = (self.current, refusal(detail));
            self.workload.lacking.get_or_insert(first);
        }
    }

    pub(super) fn nothing_is_lacking(&mut self) -> Result<(), Rejected> {
        match self.workload.lacking.take() {
            None => Ok(()),
            Some((check, rejected)) => {
                self.begin(check);
                Err(rejected.into())
            }
        }
    }
}
