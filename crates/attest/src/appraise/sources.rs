//! What has to be fetched for step 9: the tags of the log's repository, and what
//! becomes of a source that is not at hand.

use super::Run;
use super::workload::NOTHING_STARTED;
use crate::Rejected;
use crate::deployment::{ComposeFile, DeploymentRejected, TagsCheck};
use crate::policy::{Sources, Tags};
use crate::report::CheckId;
use crate::text::shown;

/// What a list of tags does not say.
const TAGS_NOT_PROVED: &str = "a tag of the repository says neither who reviewed its commit nor that it is on the main branch: that takes the repository's history, which is not fetched";

impl Run<'_> {
    /// Whether what was started is what its repository has under that name.
    pub(super) fn tags(&mut self, started: &[&ComposeFile]) -> Result<(), Rejected> {
        self.begin(CheckId::DeploymentTags);
        if self.rules().deployment.tags == Tags::Any {
            self.report.not_proved(
                CheckId::DeploymentTags,
                "not compared: the policy admits any (deployment.tags = \"any\")",
            );
            return Ok(());
        }
        if started.is_empty() {
            self.report
                .not_proved(CheckId::DeploymentTags, NOTHING_STARTED);
            return Ok(());
        }
        match self.request.tags {
            TagsCheck::NotFetched(reason) => {
                self.workload.tags_wanted = true;
                let detail = format!("not compared: {}", shown(reason));
                self.lacks(detail, |detail| DeploymentRejected::TagsUnavailable {
                    detail,
                });
            }
            TagsCheck::AtHand(tags) => {
                if let Err(rejected) = tags.admit(started) {
                    self.workload.tags_wanted = true;
                    return Err(rejected.into());
                }
                self.pass(format!(
                    "all {} files, by the {} tags of their repository",
                    started.len(),
                    tags.len()
                ));
                self.report.limits.push(TAGS_NOT_PROVED);
            }
        }
        Ok(())
    }

    /// What is not at hand proves nothing. Where the policy requires it, it refuses,
    /// once all else was looked at: whoever appraises can get it for a machine that
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
