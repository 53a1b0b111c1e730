//! Findings of the measured description and of `vm_config`.

use std::collections::BTreeSet;

use attest::{Finding, Severity, VmConfig, app_compose_findings};
use serde_json::{Value, json};

use crate::recordings::recordings;

fn report(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn app_compose(report: &Value) -> &str {
    report["info"]["tcb_info"]["app_compose"].as_str().unwrap()
}

fn says(findings: &[Finding], severity: Severity, topic: &str, parts: &[&str]) -> bool {
    findings.iter().any(|finding| {
        finding.severity == severity
            && finding.topic == topic
            && parts.iter().all(|part| finding.detail.contains(part))
    })
}

fn topics(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.topic).collect()
}

/// What both recordings say.
#[test]
fn the_recorded_descriptions_say_what_their_hosts_are() {
    use Severity::{Danger, Info, Notice, Warning};
    for recording in recordings() {
        let report = report(&recording.report);
        let findings = app_compose_findings(app_compose(&report));
        for (severity, topic, parts) in [
            (Info, "app_image_pinned", &["datadog-agent", "5556fb80"][..]),
            (Info, "app_image_pinned", &["\"certbot\"", "742dbd2e"]),
            (Info, "app_image_pinned", &["certbot-init", "742dbd2e"]),
            (Danger, "app_docker_socket", &["\"compose-manager\""]),
            (Danger, "app_dstack_socket", &["\"compose-manager\""]),
            (Danger, "app_docker_socket", &["datadog-agent", "read-only"]),
            (
                Warning,
                "app_secrets",
                &["\"compose-manager\"", ".decrypted-env"],
            ),
            (
                Warning,
                "app_log_shipper",
                &["datadog-agent", "all containers"],
            ),
            (
                Danger,
                "app_unmeasured_command",
                &["certbot-init", "CERTBOT_EMAIL", "HOSTNAME"],
            ),
            (Notice, "app_tls_key", &["certbot-init"]),
            (Notice, "app_port", &["\"compose-manager\"", "8080:8080"]),
            (Warning, "app_unmeasured_config", &["CLOUDFLARE_API_TOKEN"]),
            (
                Warning,
                "app_unmeasured_environment",
                &["BEARER_TOKEN", "HOSTNAME"],
            ),
            (Info, "app_min_tag_age", &["\"2\""]),
            (Notice, "app_script", &["pre_launch_script", "sha256"]),
            (Warning, "app_script_keys", &["pre_launch_script"]),
        ] {
            assert!(
                says(&findings, severity, topic, parts),
                "{topic} {parts:?}: {findings:#?}"
            );
        }
        for never in [
            "app_flag",
            "app_unknown_key",
            "app_not_understood",
            "app_compose_unreadable",
            "app_image_not_pinned",
            "app_privileged",
        ] {
            assert!(!topics(&findings).contains(never), "{never}: {findings:#?}");
        }
    }
}

/// In what they differ.
#[test]
fn the_recorded_descriptions_differ() {
    use Severity::{Danger, Info, Warning};
    let all: Vec<_> = recordings()
        .iter()
        .map(|recording| app_compose_findings(app_compose(&report(&recording.report))))
        .collect();
    let [april, june] = all.as_slice() else {
        return;
    };
    assert!(says(
        april,
        Info,
        "app_image_pinned",
        &["compose-manager", "a3c6e223"]
    ));
    assert!(says(
        april,
        Warning,
        "app_unmeasured_environment",
        &["14 variables"]
    ));
    for topic in [
        "app_pid",
        "app_capabilities",
        "app_image_variable",
        "app_replaces_images",
    ] {
        assert!(!topics(april).contains(topic), "{topic}");
    }
    // No variable of allowed_envs names the image: the launcher does.
    let image = [
        "\"compose-manager\"",
        "COMPOSE_MANAGER_IMAGE",
        "44aa2344",
        "another container",
    ];
    assert!(says(june, Warning, "app_image_variable", &image));
    assert!(says(
        june,
        Warning,
        "app_unmeasured_environment",
        &["18 variables"]
    ));
    assert!(says(
        june,
        Info,
        "app_image_pinned",
        &["launcher", "171c1cff"]
    ));
    assert!(says(
        june,
        Danger,
        "app_pid",
        &["\"compose-manager\"", "host"]
    ));
    let rights = ["\"compose-manager\"", "SYS_ADMIN, SYS_PTRACE"];
    assert!(says(june, Danger, "app_capabilities", &rights));
    assert!(says(
        june,
        Danger,
        "app_docker_socket",
        &["compose-manager-launcher"]
    ));
    assert!(says(
        june,
        Danger,
        "app_replaces_images",
        &["compose-manager-launcher", "workflows/.*"]
    ));
    assert!(says(
        june,
        Warning,
        "app_network",
        &["compose-manager-launcher", "host"]
    ));
}

#[test]
fn the_recorded_machines_have_their_shape() {
    for recording in recordings() {
        let report = report(&recording.report);
        let config = VmConfig::read(report["info"]["vm_config"].as_str().unwrap()).unwrap();
        let memory = config.memory_size().unwrap();
        assert!(memory == 1 << 40 || memory == 2 << 40, "{memory}");
        assert_eq!(
            config.to_string(),
            format!(
                "64 CPUs, {memory} bytes of memory, 8 GPUs, 4 NVSwitches, image dstack-nvidia-0.5.5"
            )
        );
    }
}

#[test]
fn a_shape_is_read_as_far_as_it_goes() {
    let words = |text| VmConfig::read(text).map(|config| config.to_string());
    assert_eq!(words("{}").unwrap(), "");
    let odd = r#"{"cpu_count":"64","num_gpus":-1,"memory_size":"a","image":"a\u001b[2J","x":[]}"#;
    assert_eq!(words(odd).unwrap(), "image a\\u{1b}[2J");
    for text in ["", "[]", "null", r#"{"cpu_count":1,"cpu_count":2}"#, "{} x"] {
        assert_eq!(words(text), None, "{text}");
    }
}

/// A description that says nothing but what is usual.
pub(super) fn quiet() -> Value {
    json!({
        "manifest_version": 2,
        "name": "quiet",
        "runner": "docker-compose",
        "kms_enabled": true,
        "gateway_enabled": true,
        "local_key_provider_enabled": false,
        "key_provider_id": "",
        "public_logs": false,
        "public_sysinfo": true,
        "no_instance_id": false,
        "secure_time": false,
        "allowed_envs": [],
        "docker_compose_file": format!(
            "services:\n  a:\n    image: x@{}\n", super::digest('a')
        ),
    })
}

#[test]
fn every_change_of_a_quiet_description_is_said() {
    let of = |value: &Value| app_compose_findings(&value.to_string());
    assert_eq!(topics(&of(&quiet())), BTreeSet::from(["app_image_pinned"]));
    for (key, value, topic) in [
        ("runner", json!("bash"), "app_flag"),
        ("kms_enabled", json!(false), "app_flag"),
        ("public_logs", json!(true), "app_flag"),
        ("key_provider_id", json!("x"), "app_flag"),
        ("secure_time", json!("false"), "app_flag"),
        ("bash_script", json!("rm -rf /"), "app_script"),
        ("init_script", json!("x"), "app_script"),
        ("pre_launch_script", json!(1), "app_script"),
        ("something_new", json!(1), "app_unknown_key"),
        ("allowed_envs", json!(["A"]), "app_unmeasured_environment"),
        ("allowed_envs", json!("A"), "app_unmeasured_environment"),
        ("docker_compose_file", json!(null), "app_compose_unreadable"),
        (
            "docker_compose_file",
            json!("a: b: c"),
            "app_compose_unreadable",
        ),
    ] {
        let mut changed = quiet();
        changed[key] = value;
        assert!(topics(&of(&changed)).contains(topic), "{key} {topic}");
    }
    let mut without = quiet();
    without.as_object_mut().unwrap().remove("public_logs");
    assert!(topics(&of(&without)).contains("app_flag"));
}

#[test]
fn every_change_of_a_quiet_service_is_said() {
    use Severity::{Danger, Notice, Warning};
    for (settings, severity, topic) in [
        ("image: x", Danger, "app_image_not_pinned"),
        ("image: ${X}", Danger, "app_image_variable"),
        ("build: .", Danger, "app_image_built"),
        ("privileged: \"true\"", Danger, "app_privileged"),
        (
            "volumes: [/var/run/docker.sock:/d:ro]",
            Danger,
            "app_docker_socket",
        ),
        ("volumes: [/:/host]", Danger, "app_docker_socket"),
        (
            "volumes: [/run/dstack.sock:/d]",
            Danger,
            "app_dstack_socket",
        ),
        ("volumes: [/dstack/.host-shared:/d]", Warning, "app_secrets"),
        ("volumes: [/srv:/d]", Warning, "app_host_path"),
        ("volumes: [/proc:/d:ro]", Notice, "app_host_path"),
        ("pid: host", Danger, "app_pid"),
        ("network_mode: host", Warning, "app_network"),
        ("cap_add: [CAP_SYS_PTRACE]", Danger, "app_capabilities"),
        (
            "security_opt: [seccomp=unconfined]",
            Warning,
            "app_security_opt",
        ),
        ("devices: [/dev/mem]", Warning, "app_devices"),
        ("command: run $X", Danger, "app_unmeasured_command"),
        ("environment: [A_URL]", Warning, "app_unmeasured_setting"),
        (
            "environment: {A: \"${A:-1}\"}",
            Notice,
            "app_unmeasured_setting",
        ),
        (
            "environment: [MIN_TAG_AGE_HOURS=$A]",
            Warning,
            "app_min_tag_age",
        ),
        ("env_file: x", Warning, "app_env_file"),
        ("use_api_socket: true", Danger, "app_not_understood"),
        (
            "extends: {file: x, service: y}",
            Danger,
            "app_not_understood",
        ),
        ("privileged: $X", Danger, "app_not_understood"),
    ] {
        let image = if settings.starts_with("image") {
            String::new()
        } else {
            format!("\n    image: x@{}", super::digest('a'))
        };
        let mut changed = quiet();
        changed["docker_compose_file"] = format!("services:\n  a:\n    {settings}{image}\n").into();
        let findings = app_compose_findings(&changed.to_string());
        assert!(
            says(&findings, severity, topic, &["\"a\""]),
            "{settings}: {findings:#?}"
        );
    }
}

/// Findings of a quiet description whose one service has other settings.
fn of_service(settings: &str) -> Vec<Finding> {
    let mut app = quiet();
    app["docker_compose_file"] = format!("services: {{a: {{{settings}}}}}").into();
    app_compose_findings(&app.to_string())
}

#[test]
fn ports_are_named_in_both_forms() {
    for (ports, said) in [
        ("\"8444:443\"", "it listens on 8444:443"),
        (
            "{published: \"8444\", target: 443}",
            "it listens on 8444:443",
        ),
        ("{target: 443}", "it listens on ?:443"),
    ] {
        let findings = of_service(&format!("image: x, ports: [{ports}]"));
        assert!(
            says(&findings, Severity::Notice, "app_port", &[said]),
            "{ports}: {findings:#?}"
        );
    }
}

#[test]
fn the_tls_key_is_the_certs_volumes() {
    for (key, holds) in [("certs", true), ("cert", false), ("data", false)] {
        let findings = of_service(&format!("image: x, volumes: [\"{key}:/x\"]"));
        assert_eq!(topics(&findings).contains("app_tls_key"), holds, "{key}");
    }
}

#[test]
fn a_shipper_of_all_output_is_told_from_one_of_some() {
    const ALL: &str = "DD_LOGS_CONFIG_CONTAINER_COLLECT_ALL";
    for (environment, said) in [
        (format!("{ALL}=true"), "the output of all containers"),
        (format!("{ALL}=false"), "logs or metrics"),
        ("DD_APM_ENABLED=true".to_owned(), "logs or metrics"),
    ] {
        let settings = format!("image: datadog/agent, environment: [{environment}]");
        let findings = of_service(&settings);
        assert!(
            says(&findings, Severity::Warning, "app_log_shipper", &[said]),
            "{environment}: {findings:#?}"
        );
    }
}

/// One cause, one finding.
#[test]
fn an_image_that_cannot_be_read_is_said_once() {
    for image in ["[x]", "Nginx", "{a: b}"] {
        let findings = of_service(&format!("image: {image}"));
        let said = findings
            .iter()
            .filter(|finding| finding.topic == "app_not_understood");
        assert_eq!(said.count(), 1, "{image}: {findings:#?}");
    }
}

/// The host may set the variable: then no default counts.
#[test]
fn an_image_that_the_host_may_choose_is_a_danger() {
    let image = format!("${{IMAGE:-x@{}}}", super::digest('a'));
    let mut app = quiet();
    app["docker_compose_file"] = format!("services: {{a: {{image: \"{image}\"}}}}").into();
    let findings = app_compose_findings(&app.to_string());
    assert!(says(
        &findings,
        Severity::Warning,
        "app_image_variable",
        &["by default"]
    ));
    app["allowed_envs"] = json!(["IMAGE"]);
    let findings = app_compose_findings(&app.to_string());
    assert!(says(
        &findings,
        Severity::Danger,
        "app_image_variable",
        &["the host may"]
    ));
}
