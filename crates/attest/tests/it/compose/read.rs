//! What cannot be read, or not be judged: one change, one refusal.

use super::{changed, code, deployed, with, with_service};

fn all(cases: &[(String, &str)]) {
    assert_eq!(code(&deployed()), "accepted");
    for (text, expected) in cases {
        assert_eq!(code(text), *expected, "{text}");
    }
}

#[test]
fn texts_that_two_readers_take_differently() {
    const NOT_TEXT: &str = "evidence_compose_not_text";
    let comment = |c: char| {
        // YAML 1.1 ends the comment there, YAML 1.2 does not.
        let to = format!("# One model{c}include: [other.yaml]\n");
        (changed("# One model on eight GPUs.\n", &to), NOT_TEXT)
    };
    all(&[
        comment('\u{2028}'),
        comment('\u{2029}'),
        comment('\u{85}'),
        comment('\r'),
        comment('\u{c}'),
        comment('\0'),
        (format!("\u{feff}{}", deployed()), NOT_TEXT),
    ]);
    let tab = changed("    user: root\n", "    user:\troot\n");
    assert_eq!(code(&tab), NOT_TEXT);
}

#[test]
fn texts_that_are_no_utf8() {
    let mut bytes = deployed().into_bytes();
    bytes.push(0xff);
    let refused = attest::ComposeDocument::read("f", &bytes).unwrap_err();
    assert_eq!(refused.code(), "evidence_compose_not_text");
}

#[test]
fn documents_tags_keys_and_directives() {
    all(&[
        (
            format!("{}---\nservices: {{}}\n", deployed()),
            "evidence_compose_documents",
        ),
        (
            format!("{}...\n---\n{}", deployed(), deployed()),
            "evidence_compose_documents",
        ),
        (
            format!("%YAML 1.1\n---\n{}", deployed()),
            "evidence_compose_syntax",
        ),
        (
            changed("privileged: true", "privileged: !reset null"),
            "evidence_compose_tag",
        ),
        (
            changed("depends_on: [nginx]", "depends_on: !override [nginx]"),
            "evidence_compose_tag",
        ),
        (
            changed("user: root", "user: !!str root"),
            "evidence_compose_tag",
        ),
        (
            with("nginx", "image: evil"),
            "evidence_compose_duplicate_key",
        ),
        (
            with("nginx", "\"image\": evil"),
            "evidence_compose_duplicate_key",
        ),
        (
            with_service("image: alpine").replace("  another:", "  nginx:"),
            "evidence_compose_duplicate_key",
        ),
        (
            with("model-1", "<<: *gpu-common"),
            "evidence_compose_duplicate_key",
        ),
        (with("nginx", "? [a]\n: b"), "evidence_compose_key"),
        (
            with("nginx", "\"<<\": {privileged: true}"),
            "evidence_compose_key",
        ),
        (with("nginx", "&k user: x"), "evidence_compose_key"),
        (with("nginx", ": x"), "evidence_compose_key"),
        (with("nginx", "*logging : x"), "evidence_compose_key"),
        (with("nginx", "<<: privileged"), "evidence_compose_merge"),
        (
            with("nginx", "<<: [[{privileged: true}]]"),
            "evidence_compose_merge",
        ),
        (with("nginx", "<<:"), "evidence_compose_merge"),
        (with("nginx", "labels: &a [*a]"), "evidence_compose_alias"),
        (with("nginx", "labels: *nothing"), "evidence_compose_syntax"),
        ("".to_owned(), "evidence_compose_shape"),
        ("[]".to_owned(), "evidence_compose_shape"),
        ("volumes: {}".to_owned(), "evidence_compose_shape"),
        ("services: [x]".to_owned(), "evidence_compose_shape"),
        ("services: {a: }".to_owned(), "evidence_compose_shape"),
        (deployed() + "secrets: [x]\n", "evidence_compose_shape"),
        (
            changed("  kernel_cache:\n\n", "  kernel_cache: [x]\n\n"),
            "evidence_compose_shape",
        ),
        (
            changed(
                "default: {external: true, name: dstack_default}",
                "default: x",
            ),
            "evidence_compose_shape",
        ),
        (
            "services: {a: {user: x}}".to_owned(),
            "evidence_compose_shape",
        ),
    ]);
}

/// go-yaml ends an anchor's name at other characters, and a text before a comma not
/// at its colon.
#[test]
fn texts_that_go_yaml_reads_otherwise() {
    const SYNTAX: &str = "evidence_compose_syntax";
    let mut cases = Vec::new();
    for value in [
        "&a:b x",
        "&a: x",
        "&a:b [x]",
        "&a?b x",
        "&a%b x",
        "&a@b x",
        "&a`b x",
        "&\u{e9} x",
        "&a.b x",
    ] {
        cases.push((with("nginx", &format!("x-a: {value}")), SYNTAX));
    }
    for flow in [
        "{a:, b: c}",
        "{a:}",
        "{a:,b}",
        "{a :, b: c}",
        "{a\n :, b: c}",
        "[a:, b]",
        "[a:]",
        "{a:[b]}",
        "{a:{b: c}}",
        "{privileged:,}",
    ] {
        cases.push((with("nginx", &format!("x-a: {flow}")), SYNTAX));
    }
    // What both read alike.
    for value in [
        "&a_B-9 x",
        "&a [x]",
        "\"&a:b x\"",
        "done & nginx",
        "{a: , b: c}",
        "{a: b}",
        "{\"a\":, b: c}",
        "{\"a\":}",
        "{a: \"b:,\"}",
        "{a: b:c}",
        "[a, b:c]",
        "a:,b",
        "a:{b}",
        "[http://a, b]",
    ] {
        cases.push((with("nginx", &format!("x-a: {value}")), "accepted"));
    }
    all(&cases);
}

#[test]
fn merge_keys_give_what_docker_takes() {
    const SOCKET: &str = "rejected_compose_docker_socket";
    let bad = "x-bad: &bad {volumes: [\"/var/run/docker.sock:/d\"]}\n";
    let good = "x-good: &good {volumes: []}\n";
    let top = |merge: &str| {
        let text = with("registrar", merge);
        text.replace("\nservices:\n", &format!("\n{bad}{good}\nservices:\n"))
    };
    all(&[
        (top("<<: *bad"), SOCKET),
        (top("<<: [*bad]"), SOCKET),
        // Of several, the first.
        (top("<<: [*bad, *good]"), SOCKET),
        (top("<<: [*good, *bad]"), "accepted"),
        // Its own wins, wherever it stands.
        (top("<<: *bad\nvolumes: []"), "accepted"),
        (top("volumes: []\n<<: *bad"), "accepted"),
        (
            top("volumes: [\"/var/run/docker.sock:/d\"]\n<<: *good"),
            SOCKET,
        ),
        // Merges inside of what is merged.
        (top("<<: {<<: *bad}"), SOCKET),
        (top("<<: {volumes: [], <<: *bad}"), "accepted"),
    ]);
}

#[test]
fn settings_from_outside_of_the_file() {
    const ELSEWHERE: &str = "evidence_compose_elsewhere";
    let config = |settings: &str| {
        let to = format!("\nconfigs:\n  more: {settings}\n");
        (changed("\nconfigs:\n", &to), ELSEWHERE)
    };
    all(&[
        (format!("include: [other.yaml]\n{}", deployed()), ELSEWHERE),
        (with("nginx", "extends: {service: proxy}"), ELSEWHERE),
        (
            with("nginx", "extends: {file: other.yaml, service: x}"),
            ELSEWHERE,
        ),
        config("{file: /var/run/docker.sock}"),
        config("{file: ./nginx.conf}"),
        config("{environment: NGINX_CONF}"),
        config("{external: true}"),
        (
            format!(
                "{}secrets:\n  key: {{file: /dstack/.host-shared/.appkeys.json}}\n",
                deployed()
            ),
            ELSEWHERE,
        ),
    ]);
}

#[test]
fn settings_that_are_not_known() {
    const SETTING: &str = "evidence_compose_setting";
    let mut cases = Vec::new();
    for setting in [
        "use_api_socket: true",
        "volumes_from: [proxy]",
        "post_start: [{command: id, privileged: true}]",
        "pre_stop: [{command: id}]",
        "provider: {type: evil}",
        "device_cgroup_rules: [\"a *:* rwm\"]",
        "cgroup: host",
        "cgroup_parent: /x",
        "userns_mode: host",
        "uts: host",
        "profiles: [debug]",
        "runtime: evil",
        "external_links: [x]",
        "networks: {default: {aliases: [proxy]}}",
        "volumes: [{type: image, source: x, target: /y}]",
        "volumes: [{type: npipe, source: x, target: /y}]",
        "Privileged: true",
        "from_the_future: true",
    ] {
        cases.push((with("registrar", setting), SETTING));
    }
    for build in [
        "privileged: true",
        "entitlements: [security.insecure]",
        "ssh: [default]",
    ] {
        let settings = format!("build: {{dockerfile_inline: FROM x, {build}}}");
        cases.push((with_service(&settings), SETTING));
    }
    cases.push((format!("models: {{}}\n{}", deployed()), SETTING));
    // In the project of the measured application, the volume of the manager's log.
    let log = changed("  kernel_cache:\n\n", "  kernel_cache:\n  work:\n\n");
    for name in ["dstack", "\"dstack\"", "${PROJECT}", "work", ""] {
        cases.push((format!("name: {name}\n{log}"), SETTING));
    }
    all(&cases);
}

#[test]
fn variables_where_rules_look() {
    const VARIABLE: &str = "evidence_compose_variable";
    let digest = super::digest('c');
    let image = format!("docker.io/nginx@{digest}");
    all(&[
        (changed(&image, "\"${IMAGE}\""), VARIABLE),
        (changed(&image, "\"${IMAGE:?nginx}\""), VARIABLE),
        (changed(&image, "\"${IMAGE:-${OTHER:-nginx}}\""), VARIABLE),
        (
            changed(&image, &format!("\"${{IMAGE:-nginx@{digest}}}x\"")),
            VARIABLE,
        ),
        (
            changed(&image, &format!("$REGISTRY/nginx@{digest}")),
            VARIABLE,
        ),
        (changed(&image, "nginx$$x"), VARIABLE),
        (
            with("registrar", "privileged: \"${DEBUG:-false}\""),
            VARIABLE,
        ),
        (with("registrar", "volumes: [\"${DATA}:/data\"]"), VARIABLE),
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: \"$X\", target: /x}]",
            ),
            VARIABLE,
        ),
        (
            with(
                "registrar",
                "volumes: [{type: \"$X\", source: a, target: /x}]",
            ),
            VARIABLE,
        ),
        (with("registrar", "cap_add: [\"$X\"]"), VARIABLE),
        (with("registrar", "pid: \"$X\""), VARIABLE),
        (with("registrar", "network_mode: ${X:-bridge}"), VARIABLE),
        (with("registrar", "security_opt: [$X]"), VARIABLE),
        (with("registrar", "runtime: $X"), VARIABLE),
        (with("registrar", "devices: [$X]"), VARIABLE),
        (with("registrar", "container_name: $X"), VARIABLE),
        (
            changed("  kernel_cache:\n\n", "  kernel_cache: {name: \"$X\"}\n\n"),
            VARIABLE,
        ),
    ]);
}

#[test]
fn images_that_docker_refuses() {
    let image = format!("docker.io/nginx@{}", super::digest('c'));
    for other in [
        "nginx@sha256:00",
        "Nginx",
        "nginx@",
        "\"nginx \"",
        "nginx:a@b",
    ] {
        let text = changed(&image, other);
        assert_eq!(code(&text), "evidence_compose_image", "{other}");
    }
}

/// What stands there instead, in words.
#[test]
fn a_wrong_form_is_named() {
    for (got, words) in [
        ("\"x\"", "got \"x\""),
        ("\"\"", "got \"\""),
        ("\"null\"", "got \"null\""),
        ("[]", "got a list"),
        ("", "got nothing"),
        ("null", "got nothing"),
    ] {
        let text = format!("services:\n  a: {got}\n");
        let refused = attest::ComposeDocument::read("f", text.as_bytes()).unwrap_err();
        assert_eq!(refused.code(), "evidence_compose_shape");
        let message = refused.to_string();
        assert!(message.contains("expected a mapping"), "{message}");
        assert!(message.ends_with(words), "{message}");
    }
    let text = "services: {a: {image: {}}}";
    let refused = attest::ComposeDocument::read("f", text.as_bytes()).unwrap_err();
    assert!(refused.to_string().ends_with("got a mapping"), "{refused}");
}
