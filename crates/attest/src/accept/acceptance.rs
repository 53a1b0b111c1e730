//! Of every code, whether what it refuses can be accepted for a while.

use crate::refusals::table::{Blame, Explanation};

/// Whether what a code refuses can be accepted for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// By a row of a policy, where this program can explain the change.
    Row,
    /// By a row, if the user gives the value that is seen, with this option.
    Typed(&'static str),
    /// Never.
    Never {
        /// Why not.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Explanation {
    /// Whether what it refuses can be accepted for a while, and if not, why not.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        let never = |why, instead| Acceptance::Never { why, instead };
        let a_copy = "an attack has the same bytes as an honest change, and this program knows no table that tells them apart";
        match self.code {
            "rejected_tcb_platform"
            | "rejected_tcb_module"
            | "rejected_tcb_qe"
            | "rejected_os_image"
            | "rejected_acpi"
            | "rejected_pin"
            | "rejected_finding"
            | "rejected_gpu_device"
            | "rejected_gpu_no_table"
            | "rejected_deployment_commit"
            | "rejected_compose_digest" => Acceptance::Row,
            "rejected_kms_root" => Acceptance::Typed("--expect-root"),
            "rejected_app_id" => Acceptance::Typed("--expect-app-id"),
            "rejected_td_attributes" | "rejected_xfam" => never(
                "attributes and CPU features decide what the host can do to the virtual machine, and no update changes them by itself",
                "Ask the backend's operator, over another channel than this connection, why the machine is started in another way; then write a policy of your own.",
            ),
            "rejected_firmware" => never(
                "the firmware's configuration is a part of the image, and no table of this program has this one",
                "Measure the release that the operator names, and compare what it gives.",
            ),
            "rejected_level" => never(
                "nothing of it is one value: the evidence shows less than the policy asks for",
                "Wait until the operator runs what the policy asks for, or write a policy of your own that asks for less.",
            ),
            "rejected_went_down" => never(
                "a level or a key is not what it was at this domain, and no line of a policy says what it should be",
                self.remedy,
            ),
            "rejected_gpu_count" => never(
                "the number of GPUs is a number and no list: a policy has one",
                "If machines of this shape serve the model, write a policy of your own with this gpu.count.",
            ),
            "rejected_gpu_measurement" => never(
                "the version is one that the policy has a table for, so another value is no update",
                "If the operator can explain it, add the new reference values to your policy's tables.",
            ),
            "rejected_spki_mismatch" => {
                never("the evidence is not about this connection", self.remedy)
            }
            _ => match self.blame {
                Blame::Machine => never(
                    "the evidence contradicts a signature, a binding or a demand of the policy, or lacks what is demanded: no honest update looks like this",
                    self.remedy,
                ),
                Blame::Unknown => never(a_copy, self.remedy),
                Blame::Age => never(
                    "this program does not understand what it would accept",
                    self.remedy,
                ),
                Blame::Collateral | Blame::Clock | Blame::Sources => never(
                    "it says nothing about the machine: a source or a clock is at fault",
                    self.remedy,
                ),
                Blame::Request => never(
                    "it says nothing about the machine: another one was asked for",
                    self.remedy,
                ),
            },
        }
    }
}
