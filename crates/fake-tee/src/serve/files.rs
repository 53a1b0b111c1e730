//! The files that other programs need to meet the fake.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Running;
use crate::Error;
use crate::challenge::Challenge;
use crate::spec::Spec;

/// Trust anchors, policy, and `env.json` with every address.
pub(super) fn write_environment(running: &Running) -> Result<(), Error> {
    let dir = &running.dir;
    fs::create_dir_all(dir)?;
    fs::write(dir.join("tdx-root.der"), &running.tdx_root_der)?;
    fs::write(dir.join("gpu-root.der"), &running.gpu_root_der)?;
    fs::write(dir.join("tls-ca.pem"), &running.tls_ca_pem)?;
    fs::write(dir.join("policy.toml"), &running.policy_toml)?;
    let options = &running.state.options;
    let environment = json!({
        "http_url": running.http_url(),
        "endpoints_url": running.endpoints_url(),
        "pccs_url": running.http_url(),
        "compose_files_url": running.compose_files_url(),
        "compose_tags_url": running.compose_tags_url(),
        "nras_url": running.nras_url(),
        "source_urls": running.sources.iter().map(|at| format!("http://{at}")).collect::<Vec<_>>(),
        "backend": running.backend.to_string(),
        "port_http": running.http.port(),
        "port_backend": running.backend.port(),
        "domain": options.domain,
        "model": options.model,
        "connect_to": running.connect_to(),
        "extra_ca": dir.join("tls-ca.pem"),
        "danger_tdx_root": dir.join("tdx-root.der"),
        "danger_gpu_root": dir.join("gpu-root.der"),
        "policy": dir.join("policy.toml"),
        "spki_sha256": hex::encode(running.spki_sha256()),
        "command": running.command_line(),
    });
    fs::write(
        dir.join("env.json"),
        serde_json::to_string_pretty(&environment)? + "\n",
    )?;
    Ok(())
}

/// Writes one report with all that an offline verification of it needs.
///
/// `valid` is the machine that the policy describes, `played` the one that
/// reports: the same, or a tampered copy.
pub fn write_evidence(
    dir: &Path,
    valid: &Spec,
    played: &Spec,
    challenge: &Challenge,
) -> Result<(), Error> {
    let built = played.forge(challenge)?;
    fs::create_dir_all(dir)?;
    fs::write(dir.join("report.json"), &built.report_bytes)?;
    fs::write(dir.join("collateral.json"), &built.collateral_json)?;
    fs::write(dir.join("nonce.hex"), hex::encode(challenge.nonce))?;
    fs::write(dir.join("spki.hex"), hex::encode(challenge.spki_sha256))?;
    fs::write(dir.join("verify_at_unix"), valid.now.to_string())?;
    fs::write(dir.join("tdx-root.der"), valid.pki.root_der())?;
    fs::write(dir.join("gpu-root.der"), valid.gpu_root_der())?;
    fs::write(dir.join("policy.toml"), valid.policy_toml())?;
    Ok(())
}
