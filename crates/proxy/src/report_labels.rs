//! What a report's facts are called by people. Their names in JSON are for
//! scripts, and stay.

use attest::Group;

/// One kind of fact.
#[derive(Debug)]
pub struct Fact {
    /// Where an explanation shows it; apart from all parts if nowhere.
    pub group: Option<Group>,
    /// In JSON.
    pub name: &'static str,
    pub words: &'static str,
}

impl Fact {
    const fn of(group: Group, name: &'static str, words: &'static str) -> Self {
        Self {
            group: Some(group),
            name,
            words,
        }
    }
}

/// In the order of an explanation. A fact that is not in here is shown by its name.
pub const FACTS: &[Fact] = &[
    Fact::of(Group::Hardware, "ppid", "platform (PPID)"),
    Fact::of(Group::Hardware, "piid", "platform instance (PIID)"),
    Fact::of(Group::Hardware, "fmspc", "platform family (FMSPC)"),
    Fact::of(Group::Hardware, "pce_id", "PCE id"),
    Fact::of(Group::Hardware, "cpu_svn", "CPU SVN"),
    Fact::of(Group::Hardware, "pce_svn", "PCE SVN"),
    Fact::of(Group::Hardware, "tdx_module", "TDX module"),
    Fact::of(
        Group::Hardware,
        "mrseam",
        "TDX module's measurement (MRSEAM)",
    ),
    Fact::of(Group::Hardware, "tee_tcb_svn", "TEE TCB SVN"),
    Fact::of(
        Group::Hardware,
        "tcb_evaluation_number",
        "edition of Intel's documents",
    ),
    Fact::of(Group::Hardware, "platform", "platform flags"),
    Fact::of(Group::Boot, "mrtd", "MRTD"),
    Fact::of(Group::Boot, "rtmr0", "RTMR0"),
    Fact::of(Group::Boot, "rtmr1", "RTMR1"),
    Fact::of(Group::Boot, "rtmr2", "RTMR2"),
    Fact::of(Group::Boot, "rtmr3", "RTMR3"),
    Fact::of(
        Group::Boot,
        "compose_hash",
        "application description (SHA-256)",
    ),
    Fact::of(
        Group::Boot,
        "compose_hash_unmeasured",
        "application description (SHA-256), by unknown software",
    ),
    Fact::of(
        Group::Boot,
        "init_script_hashes",
        "scripts that run before the application (SHA-256)",
    ),
    Fact::of(
        Group::Boot,
        "init_script_hashes_unmeasured",
        "scripts that run before the application (SHA-256), by unknown software",
    ),
    Fact::of(
        Group::Boot,
        "gpu_policy_hash",
        "what the application asks of GPUs (SHA-256)",
    ),
    Fact::of(
        Group::Boot,
        "gpu_policy_hash_unmeasured",
        "what the application asks of GPUs (SHA-256), by unknown software",
    ),
    Fact::of(
        Group::Boot,
        "gpu_attestation",
        "GPUs, by the operating system's word",
    ),
    Fact::of(
        Group::Boot,
        "gpu_attestation_unmeasured",
        "GPUs, by unknown software",
    ),
    Fact::of(
        Group::Boot,
        "storage_encrypted",
        "data disk encrypted (1 or 0)",
    ),
    Fact::of(
        Group::Boot,
        "storage_encrypted_unmeasured",
        "data disk encrypted (1 or 0), by unknown software",
    ),
    Fact::of(Group::Software, "os_image_hash", "OS image"),
    Fact::of(
        Group::Software,
        "os_image_hash_unmeasured",
        "OS image, by unknown software",
    ),
    Fact::of(
        Group::Software,
        "machine_unmeasured",
        "machine by its host's word, of which only the memory is measured",
    ),
    Fact::of(Group::Identity, "booted", "booted"),
    Fact::of(Group::Identity, "app_id", "application id"),
    Fact::of(Group::Identity, "instance_id", "instance id"),
    Fact::of(Group::Identity, "mr_kms", "the KMS that was contacted"),
    Fact::of(
        Group::Identity,
        "app_id_unmeasured",
        "application id, by unknown software",
    ),
    Fact::of(
        Group::Identity,
        "instance_id_unmeasured",
        "instance id, by unknown software",
    ),
    Fact::of(
        Group::Identity,
        "mr_kms_unmeasured",
        "the KMS that was contacted, by unknown software",
    ),
    Fact::of(
        Group::Identity,
        "device_id_unmeasured",
        "device id, which nobody measures",
    ),
    Fact::of(Group::Identity, "model_name", "model"),
    Fact::of(Group::Connection, "signing_key", "signing key"),
    Fact::of(Group::Gpus, "gpus_signed", "GPUs that signed our nonce"),
    Fact::of(Group::Gpus, "gpu_switches", "switches that the GPUs name"),
    Fact {
        group: None,
        name: "valid_until",
        words: "valid at most until",
    },
    Fact::of(
        Group::Connection,
        "encryption_key",
        "key for end-to-end encryption",
    ),
    Fact::of(Group::Connection, "ohttp_key", "keys for OHTTP"),
];

/// What a fact is called.
pub fn words(name: &str) -> &str {
    let known = FACTS.iter().find(|fact| fact.name == name);
    known.map_or(name, |fact| fact.words)
}
