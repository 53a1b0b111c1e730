//! Findings about the measured application description (`app_compose`).
//!
//! Its hash is in MRCONFIGID and in RTMR3, and it differs between hosts in a label.
//! Findings refuse nothing and prove nothing: the manager that the description starts
//! can start anything else. A description that cannot be read is a finding too.

mod script;
mod services;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::finding::{Finding, Findings, Severity};
use crate::base::json::{self, JsonError, Members};
use crate::base::text::{quoted, shown};
use crate::compose::listed;

/// Recorded descriptions have 4.6 and 8.4 KB.
const MAX_BYTES: usize = 512 * 1024;

/// Containers of a description nest 3 deep.
const LIMITS: json::Limits = json::Limits {
    depth: 16,
    values: 10_000,
    members: json::MEMBERS,
};

/// The file's name in messages.
const FILE: &str = "docker_compose_file";

/// The names of variables that a message repeats; the recordings have 14 to 22.
const SHOWN_ENVS: usize = 64;

/// Flags of all of NEAR AI's hosts, as JSON.
const USUAL: &[(&str, &str)] = &[
    ("runner", "\"docker-compose\""),
    ("kms_enabled", "true"),
    ("gateway_enabled", "true"),
    ("local_key_provider_enabled", "false"),
    ("key_provider_id", "\"\""),
    ("public_logs", "false"),
    ("public_sysinfo", "true"),
    ("no_instance_id", "false"),
    ("secure_time", "false"),
];

/// Keys that are judged elsewhere or need no judgement.
const KNOWN: &[&str] = &[
    "allowed_envs",
    "docker_compose_file",
    "manifest_version",
    "name",
];

/// Findings about an application description, by the bytes that are measured.
#[must_use]
pub fn app_compose_findings(text: &str) -> Vec<Finding> {
    let mut findings = Findings::default();
    match members(text) {
        Ok(members) => of_members(&members, &mut findings),
        Err(detail) => findings.add(
            Severity::Danger,
            "app_compose_unreadable",
            format!("the application description cannot be read: {detail}"),
        ),
    }
    findings.into_vec()
}

fn members(text: &str) -> Result<Members<'_>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes", text.len()));
    }
    json::check(text.as_bytes(), &LIMITS).map_err(|error: JsonError| error.to_string())?;
    json::checked(text)
}

fn of_members(members: &Members<'_>, findings: &mut Findings) {
    let raw = |key: &str| {
        let mut all = members.iter();
        all.find_map(|(name, value)| (name == key).then_some(value))
    };
    for (key, usual) in USUAL {
        let got = raw(key).map_or("nothing", RawValue::get);
        if got != *usual {
            findings.add(
                Severity::Warning,
                "app_flag",
                format!("{key} is {}; NEAR AI's hosts have {usual}", shown(got)),
            );
        }
    }
    for (key, value) in members.iter() {
        let judged = KNOWN.contains(&key) || USUAL.iter().any(|(name, _)| *name == key);
        if key.ends_with("_script") {
            script::finding(key, value, findings);
        } else if !judged {
            findings.add(
                Severity::Notice,
                "app_unknown_key",
                format!("the description has the key {}", quoted(key)),
            );
        }
    }
    let envs = allowed_envs(raw("allowed_envs"), findings);
    match raw("docker_compose_file").map(Cow::<str>::deserialize) {
        Some(Ok(file)) => services::findings(&file, &envs, findings),
        _ => findings.add(
            Severity::Danger,
            "app_compose_unreadable",
            format!("the description has no {FILE} as a text"),
        ),
    }
}

fn allowed_envs(raw: Option<&RawValue>, findings: &mut Findings) -> BTreeSet<String> {
    let Some(raw) = raw else {
        return BTreeSet::new();
    };
    let Ok(envs) = serde_json::from_str::<BTreeSet<String>>(raw.get()) else {
        findings.add(
            Severity::Warning,
            "app_unmeasured_environment",
            "allowed_envs is not a list of names".to_owned(),
        );
        return BTreeSet::new();
    };
    if !envs.is_empty() {
        findings.add(
            Severity::Warning,
            "app_unmeasured_environment",
            format!(
                "{} variables come from the host, outside the measurement: {}",
                envs.len(),
                listed(envs.iter().map(String::as_str), SHOWN_ENVS),
            ),
        );
    }
    envs
}
