//! Scripts that the guest runs around the containers.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::finding::{Findings, Severity};
use crate::base::hash;
use crate::base::text::quoted;

/// Scripts are measured; the finding tells the reader which script it is.
pub(crate) fn finding(key: &str, value: &RawValue, findings: &mut Findings) {
    let Ok(script) = Cow::<str>::deserialize(value) else {
        findings.add(
            Severity::Warning,
            "app_script",
            format!("{} is not a text", quoted(key)),
        );
        return;
    };
    if script.is_empty() {
        return;
    }
    let digest = hex::encode(hash::sha256(&[script.as_bytes()]));
    findings.add(
        Severity::Notice,
        "app_script",
        format!("{} runs as root, sha256 {digest}", quoted(key)),
    );
    if script.contains(".appkeys.json") {
        findings.add(
            Severity::Warning,
            "app_script_keys",
            format!("{} reads the application's keys", quoted(key)),
        );
    }
}
