//! What an old policy file accepts today and refused then.

/// A sentence of CHANGELOG.md, and what it is about.
pub(super) struct Accepted {
    pub(super) sentence: &'static str,
    pub(super) policies: &'static [&'static str],
    /// The finding that says so.
    pub(super) finding: Option<&'static str>,
    pub(super) changes: &'static [Change],
}

/// A tampering, and one with the real value, which each policy that names software
/// still refuses. None: nobody measures the value, or the proxy does not use it.
pub(super) type Change = (&'static str, Option<&'static str>);

const ALL: &[&str] = &[
    "fake",
    "fake_tags",
    "fake_shown",
    "fake_off",
    "extends_hardware",
];
/// Those that look at software.
const SOFTWARE: &[&str] = &["fake", "fake_tags", "fake_shown", "fake_off"];
/// Those that look at GPUs.
const GPUS: &[&str] = &["fake", "fake_tags", "fake_shown", "extends_hardware"];
/// Those that look at the log.
const LOG: &[&str] = &["fake", "fake_tags", "fake_shown"];

const FOLLOWS_NEAR: &str = "**A policy of yours that extends `near` and says nothing of `deployment.tags` or `deployment.files` follows it**";
const COPIES: &str = "Copies in a report that differ from what is measured, or cannot be read, are findings (`copy_differs`, `gpu_copies_differ`, `deployment_copy`).";
const CUT: Option<&str> = Some("an action taken out of the log afterwards");

/// Beside what [`by_hardware`] accepts.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        sentence: FOLLOWS_NEAR,
        policies: &["fake"],
        finding: Some("deployment_untagged"),
        changes: TAGS,
    },
    Accepted {
        sentence: FOLLOWS_NEAR,
        policies: &["fake", "fake_tags"],
        finding: Some("deployment_file"),
        changes: FILES,
    },
    Accepted {
        sentence: COPIES,
        policies: ALL,
        finding: Some("copy_differs"),
        changes: &[
            (
                "one digit of info.app_id",
                Some("another app-id, with its own certificate, signed"),
            ),
            (
                "one digit of info.instance_id",
                Some("payload of instance-id exchanged, its digest kept"),
            ),
            (
                "one digit of info.os_image_hash",
                Some("another os-image-hash, signed"),
            ),
            (
                "one digit of info.tcb_info.os_image_hash",
                Some("another os-image-hash, signed"),
            ),
            ("one digit of info.device_id", None),
            ("one digit of info.tcb_info.device_id", None),
            (
                "another info.key_provider_info",
                Some("another KMS in RTMR3 than the one that signed, signed"),
            ),
            (
                "one digit of info.tcb_info.mrtd",
                Some("another firmware (MRTD), all labels right, signed"),
            ),
            (
                "one digit of info.tcb_info.rtmr0",
                Some("another firmware volume (CFV), signed"),
            ),
            (
                "one digit of info.tcb_info.rtmr1",
                Some("another kernel (RTMR1), signed"),
            ),
            (
                "one digit of info.tcb_info.rtmr2",
                Some("another command line (RTMR2), signed"),
            ),
            (
                "one digit of info.tcb_info.rtmr3",
                Some("RTMR3 of zeros, signed"),
            ),
            (
                "another info.tcb_info.event_log",
                Some("an event of RTMR3 left out"),
            ),
            (
                "one digit of info.compose_hash",
                Some("another compose-hash event, signed"),
            ),
            (
                "one digit of info.tcb_info.compose_hash",
                Some("another compose-hash event, signed"),
            ),
        ],
    },
    Accepted {
        sentence: COPIES,
        policies: &["extends_hardware"],
        finding: Some("gpu_copies_differ"),
        changes: &[("vm_config.num_gpus is another number", None)],
    },
    Accepted {
        sentence: COPIES,
        policies: &["extends_hardware"],
        finding: Some("gpu_copies_differ"),
        changes: &[("one GPU fewer than vm_config says", None)],
    },
    Accepted {
        sentence: COPIES,
        policies: LOG,
        finding: Some("deployment_copy"),
        changes: &[
            ("other report data beside the log's quote", CUT),
            ("an event fewer beside the log's quote", CUT),
            ("an event log of words beside the log's quote", CUT),
            ("a number for the vm_config beside the log's quote", CUT),
        ],
    },
    Accepted {
        sentence: "`num_gpus` of `vm_config` counts no GPU: the GPUs that signed are counted.",
        policies: &["fake_shown", "fake_off"],
        finding: None,
        changes: &[("vm_config.num_gpus is a text", None)],
    },
    Accepted {
        sentence: "So are GPUs of one machine with different versions,",
        policies: GPUS,
        finding: Some("gpu_versions_differ"),
        changes: &[
            ("one GPU with another driver, signed", None),
            ("one GPU with another VBIOS, signed", None),
        ],
    },
    Accepted {
        sentence: "boot events of a newer dstack,",
        policies: SOFTWARE,
        finding: Some("boot_event_unknown"),
        changes: &[(
            "an unknown event before system-ready, signed",
            Some("an unknown event before app-id, signed"),
        )],
    },
    Accepted {
        sentence: "and MRCONFIGID that a host left empty.",
        policies: SOFTWARE,
        finding: Some("mr_config_id_unset"),
        changes: &[(
            "MRCONFIGID of zeros, signed",
            Some("MRCONFIGID of zeros, and a certificate for another one, signed"),
        )],
    },
    Accepted {
        sentence: "a step back or ahead of the clock in a deployment log,",
        policies: LOG,
        finding: Some("deployment_time"),
        changes: &[
            ("a log whose times go back, signed", CUT),
            ("a log with a time to come, signed", CUT),
        ],
    },
    Accepted {
        sentence: "A deployment log that names one commit with two digests of a file: a finding (`deployment_contradiction`), and `declared`.",
        policies: LOG,
        finding: Some("deployment_contradiction"),
        changes: &[("a log with two digests of one file, signed", CUT)],
    },
    Accepted {
        sentence: KEYS,
        policies: ALL,
        finding: Some("encryption_key_contradicts"),
        changes: &[(
            "one digit of signing_public_key",
            Some("another Ed25519 key in both fields"),
        )],
    },
    Accepted {
        sentence: KEYS,
        policies: ALL,
        finding: Some("ohttp_key_contradicts"),
        changes: &[("ohttp_key_config with another digit", None)],
    },
];

const KEYS: &str = "Keys that the proxy does not use, for end-to-end encryption and OHTTP, refuse no machine; what contradicts itself is a finding (`encryption_key_contradicts`, `ohttp_key_contradicts`).";

/// Tags that are no release, unknown, or at another commit.
pub(super) const TAGS: &[Change] = &[
    ("a file from a branch, signed", None),
    ("a tag that is almost a release, signed", None),
    ("a release that its repository does not have, signed", None),
    (
        "a release of an earlier start, taken back since, signed",
        None,
    ),
    ("a repository without tags, signed", None),
    (
        "a release at another commit than its repository's, signed",
        None,
    ),
    ("a release at two commits in one log, signed", None),
    ("an annotated tag's own object as the commit, signed", None),
];

/// Files that cannot be read, or break a rule.
pub(super) const FILES: &[Change] = &[
    (
        "a file that Compose and this program read otherwise, signed",
        None,
    ),
    ("a file that mounts Docker's socket, signed", None),
    ("a file with an engine of another repository, signed", None),
];

pub(super) const ANY_SOFTWARE: &str = "Policy `hardware` verifies machines of any software. What unknown software states has names that end in `_unmeasured`.";

/// What software says of itself and of its boot, which "hardware" read and then refused.
pub(super) fn by_hardware() -> impl Iterator<Item = &'static str> {
    include_str!("accepted_by_hardware.txt").lines()
}
