//! One change of a deployed file, one refusal.

use super::{changed, code, deployed, with, with_service};

/// Every row starts from the accepted file.
fn all(cases: &[(String, &str)]) {
    assert_eq!(code(&deployed()), "accepted");
    for (text, expected) in cases {
        assert_eq!(code(text), *expected, "{text}");
    }
}

#[test]
fn sockets_of_docker_in_every_disguise() {
    const CODE: &str = "rejected_compose_docker_socket";
    let volume = |volume: &str| (with("registrar", &format!("volumes: [{volume}]")), CODE);
    all(&[
        volume("/var/run/docker.sock:/var/run/docker.sock"),
        volume("\"/var/run/docker.sock:/x:ro\""),
        volume("/run/docker.sock:/x"),
        volume("//var/./run/../run//docker.sock:/x"),
        volume("/var/run:/host"),
        volume("/run/:/host:ro"),
        volume("/var:/host"),
        volume("/:/host"),
        volume("/..:/host"),
        volume("/run/containerd/containerd.sock:/x"),
        volume("/mnt/docker.sock:/x"),
        volume("{type: bind, source: /var/run/docker.sock, target: /x, read_only: true}"),
        volume("{type: volume, source: /var/run/docker.sock, target: /x}"),
        volume("{type: bind, src: /, target: /x}"),
        // The proxy may not either.
        (
            changed(
                "- /var/run/dstack.sock:/var/run/dstack.sock",
                "- /var/run:/var/run",
            ),
            CODE,
        ),
        // Through an anchor and a merge key.
        (
            changed(
                "    - kernel_cache:/root/.cache/deep_gemm",
                "    - /var/run/docker.sock:/d",
            ),
            CODE,
        ),
    ]);
}

#[test]
fn the_guest_agents_socket_is_the_proxys_alone() {
    const CODE: &str = "rejected_compose_dstack_socket";
    let socket = "volumes: [\"/var/run/dstack.sock:/s\"]";
    all(&[
        (with("registrar", socket), CODE),
        (with("dcgm-exporter", socket), CODE),
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: /run/dstack.sock, target: /s}]",
            ),
            CODE,
        ),
        (with("registrar", "volumes: [/run/tappd.sock:/s]"), CODE),
        // Who looks like the proxy is not it.
        (
            changed("nearaidev/vllm-proxy-rs@", "evil/vllm-proxy-rs@"),
            CODE,
        ),
        (
            changed(
                "nearaidev/vllm-proxy-rs@",
                "evil.io/nearaidev/vllm-proxy-rs@",
            ),
            CODE,
        ),
        (with("proxy", "build: {dockerfile_inline: FROM evil}"), CODE),
    ]);
}

#[test]
fn the_tls_key_is_for_web_server_and_proxy() {
    const CODE: &str = "rejected_compose_certs";
    all(&[
        (with("registrar", "volumes: [\"certs:/c:ro\"]"), CODE),
        (
            with(
                "registrar",
                "volumes: [{type: volume, source: certs, target: /c}]",
            ),
            CODE,
        ),
        // Under another key, by its name outside the file.
        (
            changed(
                "  kernel_cache:\n\n",
                "  kernel_cache: {external: true, name: certs}\n\n",
            ),
            CODE,
        ),
        (
            changed("  kernel_cache:\n\n", "  kernel_cache: {name: certs}\n\n"),
            CODE,
        ),
        (
            changed(
                "  kernel_cache:\n\n",
                "  kernel_cache: {external: {name: certs}}\n\n",
            ),
            CODE,
        ),
        (changed("docker.io/nginx@", "evil/nginx@"), CODE),
        (changed("docker.io/nginx@", "evil.io/library/nginx@"), CODE),
    ]);
}

#[test]
fn other_paths_and_volumes_of_the_machine() {
    const SOCKET: &str = "rejected_compose_docker_socket";
    const PATH: &str = "rejected_compose_host_path";
    const VOLUME: &str = "rejected_compose_volume";
    let volume = |settings: &str| {
        let to = format!("  kernel_cache: {settings}\n\n");
        (changed("  kernel_cache:\n\n", &to), VOLUME)
    };
    all(&[
        (with("registrar", "volumes: [/dstack:/x]"), PATH),
        (
            with("registrar", "volumes: [\"/var/lib/docker/volumes:/x:ro\"]"),
            PATH,
        ),
        (
            with(
                "registrar",
                "volumes: [\"/var/lib/docker/containers/../volumes:/x:ro\"]",
            ),
            PATH,
        ),
        (with("registrar", "volumes: [/proc:/x]"), PATH),
        (with("registrar", "volumes: [./conf:/x]"), PATH),
        // What Compose takes for a path from the file's folder, and tidies up.
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: a/../../../../run/docker.sock, target: /x}]",
            ),
            SOCKET,
        ),
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: conf, target: /x}]",
            ),
            PATH,
        ),
        (
            with(
                "registrar",
                "volumes: ['\\\\x/../../../../run/docker.sock:/x']",
            ),
            SOCKET,
        ),
        (
            with("registrar", "volumes: ['a/../../../../dstack:/x']"),
            PATH,
        ),
        (with("registrar", "volumes: [~/conf:/x]"), PATH),
        (changed("docker/containers:ro", "docker/containers"), PATH),
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: /var/lib/docker/containers, target: /x, read_only: false}]",
            ),
            PATH,
        ),
        (
            with(
                "registrar",
                "volumes: [{type: bind, source: /var/lib/docker/containers, target: /x}]",
            ),
            PATH,
        ),
        volume("{driver_opts: {type: none, o: bind, device: /var/run/docker.sock}}"),
        volume("{driver: nfs}"),
        volume("{external: true}"),
        // The manager's own: its log lies there.
        volume("{external: true, name: dstack_work}"),
        volume("{name: dstack_work}"),
        // So it does in this one, in a project of that name, which no log has.
        (
            changed("  kernel_cache:\n\n", "  kernel_cache:\n  work:\n\n"),
            "rejected_compose_volume",
        ),
    ]);
}

#[test]
fn rights_over_the_machine() {
    const PRIVILEGED: &str = "rejected_compose_privileged";
    const CAPABILITY: &str = "rejected_compose_capability";
    const NAMESPACE: &str = "rejected_compose_namespace";
    let mut cases = Vec::new();
    for value in [
        "true", "\"true\"", "yes", "\"on\"", "1", "TRUE", "y", "anything",
    ] {
        cases.push((with("model-1", &format!("privileged: {value}")), PRIVILEGED));
    }
    for option in [
        "seccomp=unconfined",
        "apparmor:unconfined",
        "systempaths=unconfined",
    ] {
        let settings = format!("security_opt: [\"{option}\"]");
        cases.push((with("model-1", &settings), PRIVILEGED));
    }
    for name in [
        "SYS_ADMIN",
        "cap_sys_admin",
        "SYS_PTRACE",
        "NET_ADMIN",
        "NET_RAW",
        "ALL",
    ] {
        let settings = format!("cap_add: [{name}]");
        cases.push((with("model-1", &settings), CAPABILITY));
        cases.push((with("registrar", &settings), CAPABILITY));
    }
    cases.push((
        changed("cap_add: [SYS_ADMIN]", "cap_add: [SYS_MODULE]"),
        CAPABILITY,
    ));
    cases.push((
        changed(
            "nvcr.io/nvidia/k8s/dcgm-exporter:",
            "evil.io/dcgm-exporter:",
        ),
        CAPABILITY,
    ));
    for setting in [
        "pid: host",
        "pid: \"service:proxy\"",
        "network_mode: host",
        "network_mode: \"service:proxy\"",
        "network_mode: \"container:proxy\"",
    ] {
        for service in ["registrar", "model-1", "proxy"] {
            cases.push((with(service, setting), NAMESPACE));
        }
    }
    // Engines keep prompts in the memory that their workers share.
    cases.push((with("registrar", "ipc: host"), NAMESPACE));
    cases.push((with("dcgm-exporter", "ipc: host"), NAMESPACE));
    // The machine's network by another name, and while an image is built.
    for network in [
        "default: {external: true, name: host}",
        "host: {external: true}",
        "default: {driver: host}",
        "default: {driver: bridge, driver_opts: {parent: eth0}}",
    ] {
        let from = "default: {external: true, name: dstack_default}";
        cases.push((changed(from, network), "evidence_compose_setting"));
    }
    for network in ["host", "\"container:proxy\""] {
        let settings = format!("build: {{dockerfile_inline: FROM x, network: {network}}}");
        cases.push((with_service(&settings), NAMESPACE));
    }
    cases.push((
        with("registrar", "devices: [/dev/mem]"),
        "rejected_compose_device",
    ));
    let beside = "devices: [\"/dev/nvidia/../mem:/dev/x\"]";
    cases.push((with("registrar", beside), "rejected_compose_device"));
    all(&cases);
}

#[test]
fn programs_on_the_prompts_way() {
    const REPOSITORY: &str = "rejected_compose_repository";
    const NOT_PINNED: &str = "rejected_compose_not_pinned";
    const GPU: &str = "rejected_compose_sidecar_gpu";
    let digest = |letter| format!("@{}", super::digest(letter));
    all(&[
        (changed(&digest('a'), ""), NOT_PINNED),
        (changed(&digest('b'), ":latest"), NOT_PINNED),
        (changed(&digest('c'), ""), NOT_PINNED),
        (changed("lmsysorg/sglang:", "evil/sglang:"), REPOSITORY),
        (changed("curlimages/curl@", "evil/curl@"), REPOSITORY),
        // Nothing marks it: no GPU, no port, no volume.
        (
            with_service(&format!("image: evil/x{}", digest('a'))),
            REPOSITORY,
        ),
        (with("registrar", "runtime: nvidia"), GPU),
        (with("registrar", "gpus: all"), GPU),
        (with("registrar", "devices: [/dev/nvidia0]"), GPU),
        (with("registrar", "devices: [nvidia.com/gpu=all]"), GPU),
        (
            with(
                "registrar",
                "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
            ),
            GPU,
        ),
    ]);
}

#[test]
fn helpers_are_sent_no_prompts() {
    const CODE: &str = "rejected_compose_sidecar_serves";
    all(&[
        (changed("http://proxy:8000", "http://registrar:8000"), CODE),
        (
            changed("http://proxy:8000", "http://Registrar.dstack_default:8000"),
            CODE,
        ),
        (
            changed("http://model-1:8000", "http://registrar:8000"),
            CODE,
        ),
        (changed("http://model-1:8000", "registrar"), CODE),
        // The environment as a mapping.
        (
            with_service(&format!(
                "image: nearaidev/vllm-proxy-rs@{}\nenvironment: {{VLLM_URL: \"http://registrar\"}}",
                super::digest('b')
            )),
            CODE,
        ),
        (
            with("registrar", "container_name: other")
                .replace("http://model-1:8000", "http://other:8000"),
            CODE,
        ),
        // Docker answers to the host name, too.
        (
            with("registrar", "hostname: other")
                .replace("http://model-1:8000", "http://other:8000"),
            CODE,
        ),
        // The name of a container that was given none.
        (
            changed("http://proxy:8000", "http://work-registrar-1:8000"),
            CODE,
        ),
        (
            changed("http://proxy:8000", "http://work_registrar_12:8000"),
            CODE,
        ),
        // A secret of the same key hides no config.
        (
            changed("http://proxy:8000", "http://registrar:8000")
                + "secrets:\n  nginx_conf:\n    content: nothing\n",
            "evidence_compose_setting",
        ),
        // A name of the web server's own for another container.
        (
            with("nginx", "links: [\"registrar:web\"]")
                .replace("http://proxy:8000", "http://web:8000"),
            "evidence_compose_setting",
        ),
    ]);
}
