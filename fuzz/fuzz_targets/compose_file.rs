//! Any bytes as a deployed compose file, and any text as what is measured. Much YAML
//! is JSON as well, and then serde_json reads the same.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use attest::{ComposeDocument, FileRules, ImageReference, VmConfig};
use attest_fuzz::compose::{findings, judge, read};
use attest_fuzz::{must_be_printable, write_seeds};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const SEED: &str = "x-a: &a {runtime: nvidia, volumes: [c:/c]}\nservices:\n  s:\n    <<: *a\n    \
    image: vllm/vllm-openai:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000\n    \
    environment: {A: \"${B:-c}\"}\n    command: >\n      serve --revision 1\n  n:\n    \
    image: alpine\n    depends_on: [s]\nvolumes: {c: {}}\n";

/// The same kind of file as JSON, with what only a proxy may have.
fn json_seed() -> Value {
    let image = |name: &str| format!("{name}@sha256:{}", "0".repeat(64));
    json!({
        "services": {
            "p": {
                "image": image("nearaidev/vllm-proxy-rs"),
                "privileged": true,
                "volumes": ["certs:/c:ro", "/var/run/dstack.sock:/var/run/dstack.sock"],
                "environment": ["VLLM_BASE_URL=http://s:8000"],
                "depends_on": { "s": { "condition": "service_healthy" } },
                "ports": ["8000:8000"],
            },
            "s": { "image": image("lmsysorg/sglang"), "cap_add": ["SYS_NICE"], "runtime": "nvidia" },
            "h": { "image": "alpine:3", "command": ["sleep", "1"] },
        },
        "volumes": { "certs": { "external": true, "name": "certs" } },
    })
}

/// What holds for every file that the rules let pass.
fn must_be_allowed(document: &ComposeDocument, rules: &FileRules) {
    let on_the_way = [&rules.fronts, &rules.proxies, &rules.engines];
    let helpers = [&rules.helpers, &rules.gpu_helpers];
    for of in document.images().filter(|of| !of.built) {
        let image = of.image.as_ref().expect("no image and no way to build one");
        let is_in = |sets: &[&BTreeSet<_>]| sets.iter().any(|set| set.contains(&image.repository));
        assert!(
            is_in(&helpers) || (is_in(&on_the_way) && image.digest.is_some()),
            "{image} is allowed"
        );
    }
}

/// Reads the services once more, out of JSON. Texts with a dollar are filled in.
fn must_be_as_in_json(document: &ComposeDocument, file: &Value, rules: Option<&FileRules>) {
    let services = file["services"].as_object().expect("services");
    let images: BTreeMap<_, _> = document
        .images()
        .map(|of| (of.service.clone(), of))
        .collect();
    let names: BTreeSet<_> = images.keys().collect();
    assert_eq!(names, services.keys().collect(), "other services");
    for (name, needs) in document.services() {
        let expected = match &services[&name]["depends_on"] {
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Value::Object(map) => map.keys().cloned().collect(),
            _ => BTreeSet::new(),
        };
        // Links and shared networks are needed, too.
        assert!(expected.is_subset(&needs), "{name} needs {needs:?}");
    }
    for (name, of) in &images {
        let service = &services[name];
        assert_eq!(of.built, !service["build"].is_null(), "{name} is built");
        let image = service["image"].as_str().filter(|text| !text.contains('$'));
        if let (Some(text), Some(image)) = (image, &of.image) {
            assert_eq!(ImageReference::read(text).as_ref(), Some(image));
        }
        let Some(rules) = rules else {
            continue;
        };
        let is_proxy = of
            .image
            .as_ref()
            .is_some_and(|image| rules.proxies.contains(&image.repository));
        let is_privileged = service["privileged"] == true || service["privileged"] == "true";
        assert!(is_proxy || !is_privileged, "{name} is privileged");
        let text = service["volumes"].to_string();
        assert!(!text.contains("/docker.sock"), "{name} mounts {text}");
        assert!(
            is_proxy || !text.contains("/var/run/dstack.sock"),
            "{name} mounts {text}"
        );
        for shared in ["pid", "ipc", "network_mode", "userns_mode"] {
            assert_ne!(service[shared], "host", "{name} shares {shared}");
        }
    }
}

/// A machine's shape, read a second time.
fn must_be_as_said(config: &VmConfig, text: &str) {
    let said: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(config.memory_size(), said["memory_size"].as_u64());
    must_be_printable(&config.to_string());
}

fuzz_target!(
    init: write_seeds(|base| {
        let app = base.text("/info/tcb_info/app_compose");
        let json = json_seed().to_string();
        for text in [SEED, &json] {
            let document = read(text.as_bytes()).expect("a seed can be read");
            let judged = judge(text.len(), &document, &FileRules::default());
            assert!(judged.is_ok(), "{judged:?}");
        }
        vec![SEED.into(), json.into(), app.into(), base.text("/info/vm_config").into()]
    }),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else {
            assert!(read(data).is_err(), "it is no text");
            return;
        };
        let document = read(data).ok();
        if let Some(document) = &document {
            let rules = FileRules::default();
            assert!(document.services().count() > 0, "there is nothing to judge");
            let passes = judge(data.len(), document, &rules).is_ok();
            if passes {
                must_be_allowed(document, &rules);
            }
            if let Ok(file) = serde_json::from_str(text) {
                must_be_as_in_json(document, &file, passes.then_some(&rules));
            }
        }
        findings(text);
        let found = findings(&json!({ "docker_compose_file": text }).to_string());
        let count = |topic: &str| found.iter().filter(|one| one.topic.starts_with(topic)).count();
        // None of the usual flags is there.
        assert_eq!(count("app_flag"), 9);
        if let Some(document) = &document && count("findings_left_out") == 0 {
            assert_eq!(count("app_image_"), document.services().count(), "{found:?}");
            assert_eq!(count("app_not_understood") + count("app_compose_unreadable"), 0);
        }
        if let Some(config) = VmConfig::read(text) {
            must_be_as_said(&config, text);
        }
    }
);
