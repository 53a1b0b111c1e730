//! Any bytes as a deployed compose file, and any text as what is measured.

#![no_main]

use attest::{ComposeDocument, FileRules, VmConfig, app_compose_findings, judge_compose};
use attest_fuzz::{must_be_printable, write_seeds};
use libfuzzer_sys::fuzz_target;

const SEED: &str = "x-a: &a {runtime: nvidia, volumes: [c:/c]}\nservices:\n  s:\n    <<: *a\n    \
    image: vllm/vllm-openai:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000\n    \
    environment: {A: \"${B:-c}\"}\n    command: >\n      serve --revision 1\n  n:\n    \
    image: alpine\n    depends_on: [s]\nvolumes: {c: {external: true, name: certs}}\n";

fuzz_target!(
    init: write_seeds(|base| {
        let app = base.text("/info/tcb_info/app_compose");
        vec![SEED.into(), app.into(), base.text("/info/vm_config").into()]
    }),
    |data: &[u8]| {
        match ComposeDocument::read("f", data) {
            Ok(document) => match judge_compose(&document, &FileRules::default()) {
                Ok(findings) => {
                    assert!(document.services().count() > 0, "nothing was judged");
                    findings.iter().for_each(|one| must_be_printable(&one.detail));
                }
                Err(rejected) => must_be_printable(&rejected.to_string()),
            },
            Err(rejected) => must_be_printable(&rejected.to_string()),
        }
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let quoted = serde_json::json!({ "docker_compose_file": text }).to_string();
        for app in [text, quoted.as_str()] {
            for finding in app_compose_findings(app) {
                must_be_printable(&finding.detail);
            }
        }
        if let Err(rejected) = VmConfig::read(text) {
            must_be_printable(&rejected.to_string());
        }
    }
);
