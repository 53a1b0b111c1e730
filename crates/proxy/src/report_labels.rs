//! What people call a report's fields. Their names in JSON are for scripts and do not
//! change.

use attest::Group;

/// One kind of fact.
#[derive(Debug)]
pub struct Fact {
    /// The part of an explanation that shows it; none if it is shown apart.
    pub group: Option<Group>,
    /// In JSON.
    pub name: &'static str,
    pub words: &'static str,
}

macro_rules! facts {
    ($($group:expr => { $($name:ident $words:literal;)* })*) => {
        /// In the order of an explanation. Other facts are shown by their name.
        pub const FACTS: &[Fact] = &[$($(Fact {
            group: $group,
            name: stringify!($name),
            words: $words,
        },)*)*];
    };
}

facts! {
    Some(Group::Hardware) => {
        ppid "platform (PPID)";
        piid "platform instance (PIID)";
        fmspc "platform family (FMSPC)";
        pce_id "PCE id";
        cpu_svn "CPU SVN";
        pce_svn "PCE SVN";
        tdx_module "TDX module";
        mrseam "TDX module's measurement (MRSEAM)";
        tee_tcb_svn "TEE TCB SVN";
        tcb_evaluation_number "edition of Intel's documents";
        platform "platform flags";
    }
    Some(Group::Boot) => {
        mrtd "MRTD";
        rtmr0 "RTMR0";
        rtmr1 "RTMR1";
        rtmr2 "RTMR2";
        rtmr3 "RTMR3";
        compose_hash "application description (SHA-256)";
        compose_hash_unmeasured "application description (SHA-256), by unknown software";
        init_script_hashes "scripts that run before the application (SHA-256)";
        init_script_hashes_unmeasured "scripts that run before the application (SHA-256), by unknown software";
        gpu_policy_hash "what the application asks of GPUs (SHA-256)";
        gpu_policy_hash_unmeasured "what the application asks of GPUs (SHA-256), by unknown software";
        gpu_attestation "GPUs, by the operating system's word";
        gpu_attestation_unmeasured "GPUs, by unknown software";
        storage_encrypted "data disk encrypted (1 or 0)";
        storage_encrypted_unmeasured "data disk encrypted (1 or 0), by unknown software";
    }
    Some(Group::Software) => {
        os_image_hash "OS image";
        os_image_hash_unmeasured "OS image, by unknown software";
        machine_unmeasured "machine by its host's word, of which only the memory is measured";
    }
    Some(Group::Identity) => {
        booted "booted";
        app_id "application id";
        instance_id "instance id";
        mr_kms "the KMS that was contacted";
        app_id_unmeasured "application id, by unknown software";
        instance_id_unmeasured "instance id, by unknown software";
        mr_kms_unmeasured "the KMS that was contacted, by unknown software";
        device_id_unmeasured "device id, which is not measured";
        model_name "model";
    }
    Some(Group::Connection) => {
        signing_key "signing key";
    }
    Some(Group::Gpus) => {
        gpus_signed "GPUs that signed our nonce";
        gpu_switches "switches that the GPUs name";
    }
    None => {
        valid_until "valid at most until";
    }
    Some(Group::Connection) => {
        encryption_key "key for end-to-end encryption";
        ohttp_key "keys for OHTTP";
    }
}

/// What people call a fact.
pub fn words(name: &str) -> &str {
    let known = FACTS.iter().find(|fact| fact.name == name);
    known.map_or(name, |fact| fact.words)
}
