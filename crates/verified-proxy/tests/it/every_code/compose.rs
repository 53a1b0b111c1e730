//! The same for what the files say that a deployment log names. The file changes
//! where it is published, and so does its hash in the log.

use fake_tee::Spec;
use fake_tee::compose_file::compose_text;

use super::evidence::Row;

/// What the log starts first, and all of it.
const TAG: &str = "v0.0.1";

fn publish(spec: &mut Spec, text: &str) {
    let manager = spec.compose_manager.as_mut().unwrap();
    manager.publish(TAG, text);
}

/// One text replaced, which stands in the file.
fn changed(spec: &mut Spec, from: &str, to: &str) {
    let text = compose_text(TAG);
    assert!(text.contains(from), "{from:?}");
    publish(spec, &text.replacen(from, to, 1));
}

/// A line more at the end of the file.
fn more(spec: &mut Spec, line: &str) {
    publish(spec, &format!("{}{line}\n", compose_text(TAG)));
}

/// A setting more in one service.
fn with(spec: &mut Spec, service: &str, setting: &str) {
    let from = format!("\n  {service}:\n");
    let to = format!("{from}    {setting}\n");
    changed(spec, &from, &to);
}

/// Files that cannot be read, or not be judged.
pub(super) const READ: &[Row] = &[
    ("evidence_compose_too_large", |s| {
        more(s, &format!("# {}", "x".repeat(300 << 10)));
    }),
    ("evidence_compose_not_text", |s| more(s, "#\t")),
    ("evidence_compose_syntax", |s| more(s, "x-a: *nothing")),
    ("evidence_compose_too_complex", |s| {
        more(s, &format!("x-a: [{}]", "a, ".repeat(7_000)));
    }),
    ("evidence_compose_documents", |s| {
        more(s, "---\nservices: {}");
    }),
    ("evidence_compose_tag", |s| {
        changed(s, "privileged: true", "privileged: !reset null");
    }),
    ("evidence_compose_key", |s| more(s, "? [a]\n: b")),
    ("evidence_compose_duplicate_key", |s| {
        with(s, "nginx", "image: evil");
    }),
    ("evidence_compose_alias", |s| {
        with(s, "nginx", "labels: &a [*a]");
    }),
    ("evidence_compose_merge", |s| {
        with(s, "nginx", "<<: privileged");
    }),
    ("evidence_compose_shape", |s| publish(s, "services: [x]\n")),
    ("evidence_compose_elsewhere", |s| {
        more(s, "include: [other.yaml]");
    }),
    ("evidence_compose_setting", |s| {
        with(s, "engine", "use_api_socket: true");
    }),
    ("evidence_compose_variable", |s| {
        with(s, "registrar", "privileged: \"${DEBUG:-false}\"");
    }),
    ("evidence_compose_image", |s| {
        changed(s, "image: nginx@", "image: Nginx@");
    }),
];

/// Files that do what they must not.
pub(super) const JUDGED: &[Row] = &[
    ("rejected_compose_docker_socket", |s| {
        with(s, "registrar", "volumes: [\"/var/run:/host:ro\"]");
    }),
    ("rejected_compose_dstack_socket", |s| {
        with(s, "registrar", "volumes: [\"/var/run/dstack.sock:/s\"]");
    }),
    ("rejected_compose_certs", |s| {
        with(s, "registrar", "volumes: [\"certs:/c:ro\"]");
    }),
    ("rejected_compose_host_path", |s| {
        with(s, "registrar", "volumes: [\"/dstack:/x\"]");
    }),
    ("rejected_compose_volume", |s| {
        changed(
            s,
            "  huggingface_cache:\n\n",
            "  huggingface_cache: {external: true, name: dstack_work}\n\n",
        );
    }),
    ("rejected_compose_privileged", |s| {
        with(s, "engine", "privileged: true");
    }),
    ("rejected_compose_capability", |s| {
        with(s, "registrar", "cap_add: [NET_ADMIN]");
    }),
    ("rejected_compose_namespace", |s| {
        with(s, "registrar", "network_mode: host");
    }),
    ("rejected_compose_device", |s| {
        with(s, "registrar", "devices: [/dev/mem]");
    }),
    ("rejected_compose_repository", |s| {
        changed(s, "lmsysorg/sglang:", "evil/sglang:");
    }),
    ("rejected_compose_sidecar_gpu", |s| {
        with(s, "registrar", "runtime: nvidia");
    }),
    ("rejected_compose_sidecar_serves", |s| {
        changed(s, "http://proxy:8000", "http://registrar:8000");
    }),
    ("rejected_compose_shared_volume", |s| {
        let text = compose_text(TAG);
        let text = text.replace(
            "  registrar:\n",
            "  registrar:\n    volumes: [\"conf:/c\"]\n",
        );
        let front = "- certs:/etc/letsencrypt:ro\n    configs:";
        assert_eq!(text.matches(front).count(), 1);
        let text = text.replace(front, &front.replace("\n", "\n      - conf:/c:ro\n"));
        publish(s, &text);
    }),
    ("rejected_compose_outside", |s| {
        changed(s, "http://proxy:8000", "http://elsewhere.example:8000");
    }),
    ("rejected_compose_not_pinned", |s| {
        let text = compose_text(TAG);
        let (before, after) = text.split_once("nginx@sha256:").unwrap();
        publish(s, &format!("{before}nginx:latest{}", &after[64..]));
    }),
];
