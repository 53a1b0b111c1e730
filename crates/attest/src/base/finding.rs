//! Findings: what a reader should know of a deployment, although no rule refuses it.

use std::fmt;

/// How serious a finding is, the least serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// A fact, for the reader's orientation.
    Info,
    /// Usual, and part of what has to be trusted.
    Notice,
    /// Weakens what the evidence says.
    Warning,
    /// Lets a person or a program undo what the evidence says.
    Danger,
}

impl Severity {
    /// Every one, the least first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Notice, Self::Warning, Self::Danger];

    /// The stable name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Severity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Every kind of finding: a policy that names another one is refused.
pub(crate) const TOPICS: &[&str] = &[
    ACCEPTED_BY_YOU,
    "app_capabilities",
    UNREADABLE,
    "app_devices",
    "app_docker_socket",
    "app_dstack_socket",
    "app_env_file",
    "app_flag",
    "app_host_path",
    "app_image_built",
    "app_image_not_pinned",
    "app_image_pinned",
    "app_image_variable",
    "app_log_shipper",
    "app_min_tag_age",
    "app_network",
    "app_not_understood",
    "app_pid",
    "app_port",
    "app_privileged",
    "app_replaces_images",
    "app_script",
    "app_script_keys",
    "app_secrets",
    "app_security_opt",
    "app_tls_key",
    "app_unknown_key",
    "app_unmeasured_command",
    "app_unmeasured_config",
    "app_unmeasured_environment",
    "app_unmeasured_setting",
    "app_volume",
    "boot_event_unknown",
    "compose_built_in_machine",
    "compose_env_file",
    "compose_front_code",
    "compose_helper_not_pinned",
    "compose_host_path",
    "compose_image_variable",
    "compose_log_driver",
    "compose_log_shipper",
    "compose_logs_prompts",
    "compose_mirror",
    "compose_names",
    "compose_no_revision",
    "compose_outside_address",
    "compose_privileged",
    "compose_shared_volume",
    "compose_sys_admin",
    "compose_telemetry",
    "compose_trust_remote_code",
    "compose_unknown_address",
    "compose_unmeasured_address",
    "compose_unmeasured_command",
    "compose_unmeasured_config",
    "compose_unmeasured_environment",
    "compose_unpinned_program",
    "copy_differs",
    "deployment_before_boot",
    "deployment_contradiction",
    "deployment_copy",
    "deployment_file",
    "deployment_manager",
    "deployment_time",
    "deployment_unknown_action",
    "deployment_untagged",
    "encryption_key_contradicts",
    LEFT_OUT,
    "gpu_copies_differ",
    "gpu_versions_differ",
    IMAGE_ADVISORY,
    "image_to_be_replaced",
    "machine_never_seen",
    "mr_config_id_unset",
    "ohttp_key_contradicts",
];

/// An observation. It proves nothing and refuses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// The stable id of its kind, in snake case.
    pub topic: &'static str,
    /// For a person: printable ASCII, bounded.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(severity: Severity, topic: &'static str, detail: String) -> Self {
        debug_assert!(TOPICS.contains(&topic), "{topic} is not among TOPICS");
        Self {
            severity,
            topic,
            detail,
        }
    }
}

/// The topic of a value that the policy accepts for a while only.
pub(crate) const ACCEPTED_BY_YOU: &str = "accepted_by_you";

/// The topic of an application description that cannot be read.
pub(crate) const UNREADABLE: &str = "app_compose_unreadable";

/// The topic of a known weakness of the OS image.
pub(crate) const IMAGE_ADVISORY: &str = "image_advisory";

/// The topic of findings that a list leaves out because it is full.
pub(crate) const LEFT_OUT: &str = "findings_left_out";

/// The most that are listed of one text, and of all files together: an honest file
/// of 70 services has 300.
const MAX_FINDINGS: usize = 1000;

/// A list of findings that foreign text cannot make long.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    dropped: Option<Severity>,
}

impl Findings {
    pub(crate) fn add(&mut self, severity: Severity, topic: &'static str, detail: String) {
        if self.is_full() {
            self.dropped = self.dropped.max(Some(severity));
        } else {
            self.list.push(Finding::new(severity, topic, detail));
        }
    }

    /// Collects findings about one thing; each finding names it first.
    pub(crate) fn about(&mut self, what: String) -> About<'_> {
        About {
            what,
            findings: self,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_FINDINGS
    }

    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        if let Some(severity) = self.dropped {
            let detail = format!("there are more than {MAX_FINDINGS} findings");
            self.list.push(Finding::new(severity, LEFT_OUT, detail));
        }
        self.list
    }
}

/// The findings about one thing.
pub(crate) struct About<'a> {
    what: String,
    findings: &'a mut Findings,
}

impl About<'_> {
    pub(crate) fn add(&mut self, severity: Severity, topic: &'static str, detail: &str) {
        let detail = format!("{} {detail}", self.what);
        self.findings.add(severity, topic, detail);
    }

    pub(crate) fn notice(&mut self, topic: &'static str, detail: &str) {
        self.add(Severity::Notice, topic, detail);
    }

    pub(crate) fn warning(&mut self, topic: &'static str, detail: &str) {
        self.add(Severity::Warning, topic, detail);
    }

    pub(crate) fn danger(&mut self, topic: &'static str, detail: &str) {
        self.add(Severity::Danger, topic, detail);
    }
}
