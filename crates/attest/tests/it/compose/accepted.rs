//! What an honest operator may write, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};

use attest::{ComposeDocument, FileRules, ImageDigest, Severity};

use super::{changed, code, deployed, digest, judge, judge_with, with, with_service};

#[test]
fn the_deployed_file_keeps_the_rules_and_has_its_findings() {
    let findings = judge(&deployed()).unwrap();
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for finding in &findings {
        let said = counts.entry((finding.severity, finding.topic));
        *said.or_default() += 1;
    }
    let expected = BTreeMap::from([
        ((Severity::Notice, "compose_outside_address"), 1),
        ((Severity::Notice, "compose_privileged"), 1),
        ((Severity::Notice, "compose_unmeasured_environment"), 3),
        ((Severity::Warning, "compose_helper_not_pinned"), 1),
        ((Severity::Warning, "compose_host_path"), 1),
        ((Severity::Warning, "compose_log_shipper"), 1),
        ((Severity::Warning, "compose_shared_volume"), 2),
        ((Severity::Warning, "compose_sys_admin"), 1),
        ((Severity::Warning, "compose_trust_remote_code"), 2),
        ((Severity::Warning, "compose_unmeasured_address"), 1),
        ((Severity::Warning, "compose_unmeasured_config"), 1),
        ((Severity::Warning, "compose_unpinned_program"), 1),
    ]);
    assert_eq!(counts, expected, "{findings:#?}");
    let says = |topic, part: &str| {
        let mut all = findings.iter();
        all.any(|finding| finding.topic == topic && finding.detail.contains(part))
    };
    assert!(says("compose_unmeasured_address", "WEB_CONTEXT_SEARCH_URL"));
    let outside = "service \"proxy\": its environment names cloud-api.near.ai";
    assert!(findings.iter().any(|finding| finding.detail == outside));
    assert!(says("compose_host_path", "/var/lib/docker/containers"));
    assert!(says(
        "compose_helper_not_pinned",
        "dcgm-exporter:4.5.2-distroless"
    ));
}

#[test]
fn services_come_with_what_they_depend_on() {
    let text = with("otelcol", "links: [\"nginx\"]\nipc: \"service:proxy\"");
    let (document, _) = (
        ComposeDocument::read("prod/model.yaml", text.as_bytes()).unwrap(),
        (),
    );
    assert_eq!(document.file(), "prod/model.yaml");
    let services: BTreeMap<_, _> = document.services().collect();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(services.len(), 8);
    assert_eq!(services["proxy"], names(&["model-1", "model-2"]));
    assert_eq!(services["nginx"], names(&["proxy"]));
    assert_eq!(services["otelcol"], names(&["nginx", "proxy"]));
    assert_eq!(services["model-1"], BTreeSet::new());
    let images: BTreeMap<_, _> = document
        .images()
        .map(|one| (one.service, one.image.unwrap().to_string()))
        .collect();
    let nginx = format!("docker.io/library/nginx@{}", digest('c'));
    assert_eq!(images["nginx"], nginx);
    let engine = format!("docker.io/lmsysorg/sglang:v1-cu129@{}", digest('a'));
    assert_eq!(images["model-2"], engine);
}

#[test]
fn what_an_operator_may_change() {
    for text in [
        // A release, another model, another port.
        deployed().replace(&digest('a'), &digest('0')),
        deployed().replace("org/model", "other/model"),
        changed("8444:443", "443:443"),
        // The same in long words.
        changed(
            "      - certs:/etc/letsencrypt:ro\n    configs",
            "      - {type: volume, source: certs, target: /etc/letsencrypt, read_only: true}\n    configs",
        ),
        changed(
            "- /var/lib/docker/containers:/var/lib/docker/containers:ro",
            "- {type: bind, source: /var/lib/docker/containers, target: /x, read_only: true}",
        ),
        changed("docker.io/nginx@", "nginx@"),
        changed("docker.io/nginx@", "index.docker.io/library/nginx:1.29@"),
        changed("privileged: true", "privileged: \"yes\""),
        // Settings that give nothing.
        with("model-1", "privileged: false"),
        with("model-1", "privileged: \"No\""),
        with(
            "model-1",
            "cap_add: [CAP_SYS_NICE]\nsecurity_opt: [\"no-new-privileges:true\"]",
        ),
        with("model-1", "devices: [\"/dev/nvidia0:/dev/nvidia0\"]"),
        with("model-1", "x-note: {privileged: true}"),
        changed(
            "default: {external: true, name: dstack_default}",
            "default: {external: true, name: dstack_default, driver: , x-note: {a: b}}",
        ),
        with("otelcol", "network_mode: none"),
        with("registrar", "deploy: {replicas: 1}"),
        with(
            "registrar",
            "deploy: {resources: {reservations: {devices: }}}",
        ),
        with("model-1", "ipc: private"),
        with("registrar", "ipc: shareable"),
        changed(
            "  kernel_cache:\n\n",
            "  kernel_cache: {driver: local, driver_opts: , labels: {a: b}, x-note: {a: b}}\n\n",
        ),
        with_service("build: {dockerfile_inline: FROM x, network: none}"),
        with_service("image: alpine:3.20\ncommand: rm -rf /cache/old"),
        changed("\nservices:\n", "\nversion: \"3.9\"\nservices:\n"),
        format!("---\n{}", deployed()),
    ] {
        assert_eq!(code(&text), "accepted", "{text}");
    }
}

#[test]
fn what_weakens_a_statement_is_said() {
    for (text, topic) in [
        (
            with_service(
                "image: patched:local\nruntime: nvidia\nbuild: {dockerfile_inline: \"FROM x\"}",
            ),
            "compose_built_in_machine",
        ),
        (
            changed("--revision 0123456789abcdef0123456789abcdef01234567 ", ""),
            "compose_no_revision",
        ),
        (
            changed("--log-requests-level 0", "--domains ${DOMAINS}"),
            "compose_unmeasured_command",
        ),
        (with("proxy", "env_file: secrets.env"), "compose_env_file"),
        (
            with("registrar", "logging: {driver: syslog}"),
            "compose_log_driver",
        ),
        (with("model-1", "dns: [192.0.2.1]"), "compose_names"),
        (
            changed("proxy_set_header Host $$host;", "${NGINX_EXTRA}"),
            "compose_unmeasured_config",
        ),
        (
            with_service("image: python:3.11-slim\ncommand: uvx something"),
            "compose_unpinned_program",
        ),
    ] {
        let count = |text: &str| {
            let findings = judge(text).unwrap();
            findings.iter().filter(|one| one.topic == topic).count()
        };
        assert!(count(&text) > count(&deployed()), "{topic}: {text}");
    }
    for (build, severity) in [
        ("{dockerfile_inline: FROM x}", Severity::Warning),
        ("{context: .}", Severity::Danger),
    ] {
        let findings = judge(&with_service(&format!("build: {build}\nimage: x"))).unwrap();
        let built: Vec<_> = findings
            .iter()
            .filter(|finding| finding.topic == "compose_built_in_machine")
            .map(|finding| finding.severity)
            .collect();
        assert_eq!(built, [severity], "{build}");
    }
}

/// In a list or a mapping: what has no value, or that of a variable.
#[test]
fn the_names_whose_values_come_from_outside_are_said() {
    let said = |text: &str, name: &str| {
        let findings = judge(text).unwrap();
        findings.iter().any(|finding| {
            finding.topic == "compose_unmeasured_environment" && finding.detail.contains(name)
        })
    };
    for (from, to) in [
        ("    NCCL_DEBUG: WARN", "    NCCL_DEBUG:"),
        ("    NCCL_DEBUG: WARN", "    NCCL_DEBUG: ${X}"),
        ("- MODEL_NAME=org/model", "- MODEL_NAME"),
        ("- MODEL_NAME=org/model", "- MODEL_NAME=${X}"),
    ] {
        let name = from.trim().trim_start_matches("- ");
        let name = name.split([':', '=']).next().unwrap();
        assert!(!said(&deployed(), name), "{name}");
        assert!(said(&changed(from, to), name), "{to}");
    }
}

#[test]
fn a_list_of_digests_allows_these_and_no_others() {
    let mut rules = FileRules::default();
    let list = |letters: &str| {
        let all = letters
            .chars()
            .map(|c| ImageDigest::read(&digest(c)).unwrap());
        Some(all.collect())
    };
    rules.digests = list("abc");
    assert!(judge_with(&deployed(), &rules).is_ok(), "helpers need none");
    for missing in ["ab", "ac", "bc", ""] {
        rules.digests = list(missing);
        let refused = judge_with(&deployed(), &rules).unwrap_err();
        assert_eq!(refused.code(), "rejected_compose_digest", "{missing}");
    }
    rules.digests = list("abc");
    // A built image is not the one whose digest stands beside it.
    for image in ["", "\nimage: nginx@D"] {
        let image = image.replace('D', &digest('c'));
        let built = with_service(&format!("build: {{dockerfile_inline: FROM x}}{image}"));
        let refused = judge_with(&built, &rules).unwrap_err();
        assert_eq!(refused.code(), "rejected_compose_digest", "{image}");
    }
}
