//! Rules of GPUs and deployments, as a policy file writes them.

use attest::Policy;

use crate::support::{policy_with, spec};

#[test]
fn a_policy_says_what_it_does_not_look_at() {
    let whole = "name = \"x\"\ndate = \"2026-11-22\"\nsoftware = \"any\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\nleast.gpu = \"none\"\n";
    for (more, error) in [
        ("", "least.deployment = \"declared\" is above its cap"),
        (
            "deployment.mode = \"required\"\n",
            "least.deployment = \"declared\" is above its cap",
        ),
        (
            "deployment.mode = \"if-present\"\n",
            "expected deployment.mode = \"off\"",
        ),
        ("deployment.mode = \"off\"\n", ""),
        ("deployment.mode = \"no\"\n", "unknown variant"),
        (
            "deployment.mode = \"off\"\ngpu.count = 0\n",
            "gpu.count = 0",
        ),
        (
            "deployment.mode = \"off\"\ngpu.count = 17\n",
            "gpu.count = 17",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", count = 8 }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", devices = [\"0101010101010101\"] }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", nras = \"report\" }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = {}\n",
            "looks at no GPU",
        ),
        (
            "deployment = { images = [\"sha256:0101010101010101010101010101010101010101010101010101010101010101\"] }\n",
            "deployment.sources = \"required\"",
        ),
        (
            "deployment = { mode = \"off\", images = [\"sha256:0101010101010101010101010101010101010101010101010101010101010101\"] }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"off\", commits = [\"0101010101010101010101010101010101010101\"] }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"off\", sources = \"required\" }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"if-present\", sources = \"required\" }\n",
            "accepts a machine without a log",
        ),
        ("deployment.sources = \"if-present\"\n", "unknown variant"),
        (
            "deployment = { mode = \"off\", sources = \"if-at-hand\" }\n",
            "",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"if-present\", nras = \"require\" }\n",
            "needs GPU evidence",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = {}\n",
            "compare nothing",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = { \"0\" = [] }\n",
            "an index of 1 to 64",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = { \"1\" = [] }\n",
            "index 1 allows nothing",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"nv_gpu_driver_x\"\nsource = \"y\"\nallowed = { \"1\" = [\"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\"] }\n",
            "begins with NV_GPU_DRIVER_ or NV_GPU_VBIOS_",
        ),
        (
            "deployment.mode = \"off\"\ngpu.protected_pcie = \"off\"\n",
            "unknown variant",
        ),
    ] {
        // Tables are compared where GPUs are demanded.
        let tables = more.contains("gpu.measurements") && !more.contains("gpu.mode");
        let base = if tables {
            spec().policy_toml()
        } else {
            whole.to_owned()
        };
        match Policy::from_toml(&format!("{base}{more}")) {
            Ok(_) => assert_eq!(error, "", "{more}"),
            Err(got) => {
                assert!(!error.is_empty(), "{more}: {got}");
                assert!(got.to_string().contains(error), "{more}: {got}");
            }
        }
    }
    // A policy of its own admits no repository that it does not name.
    let own = Policy::from_toml(&format!("{whole}deployment.mode = \"off\"\n")).unwrap();
    let own = own.to_toml();
    for role in ["fronts", "proxies", "engines", "helpers", "gpu_helpers"] {
        assert!(own.contains(&format!("\n{role} = []  #")), "{role}: {own}");
    }
    // What a policy of its own leaves out is required.
    let text = Policy::near().to_toml().replace("  # near", "");
    for line in [
        "[gpu]\nmode = \"required\"\ncount = 8\nprotected_pcie = \"required\"",
        "[deployment]\nmode = \"required\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// What a policy says of deployed files is written as it is read.
#[test]
fn rules_of_files_are_read_again() {
    let digest = "01".repeat(32);
    for line in [
        String::new(),
        format!(
            "deployment = {{ images = [\"sha256:{digest}\"], sources = \"required\", files = \"refuse\" }}"
        ),
        "deployment.tags = \"releases\"".to_owned(),
        "deployment.files = \"refuse\"".to_owned(),
        "deployment.managers = [\"a/manager\"]".to_owned(),
        "least.deployment = \"tagged\"\ndeployment = { managers = [\"a/manager\"], sources = \"required\" }"
            .to_owned(),
        "deployment.read_only_paths = [\"/srv\"]".to_owned(),
        "deployment.tags = \"any\"".to_owned(),
        "deployment.sources = \"required\"".to_owned(),
        "deployment.repositories.fronts = [\"caddy\"]".to_owned(),
        "deployment.repositories.proxies = [\"a/proxy\"]".to_owned(),
        "deployment.repositories.engines = [\"a/engine\"]".to_owned(),
        "deployment.repositories.helpers = [\"a/helper\"]".to_owned(),
        "deployment.repositories.gpu_helpers = [\"a/watcher\"]".to_owned(),
    ] {
        let text = format!("name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{line}\n");
        let policy = Policy::from_toml(&text).unwrap();
        let written = policy.to_toml();
        let again = Policy::from_toml(&written).unwrap();
        assert_eq!(again.digest(), policy.digest(), "{written}");
        assert_eq!(
            line.is_empty(),
            policy.digest() == Policy::near().digest(),
            "{line}"
        );
    }
}

/// Each rule changes the digest, so that no verdict is taken for another's.
#[test]
fn every_rule_counts_in_the_digest() {
    let lines = [
        "",
        "gpu.protected_pcie = \"report\"",
        "gpu.mode = \"off\"",
        "gpu.count = 7",
        "gpu.devices = [\"0101010101010101\"]",
        "deployment.mode = \"if-present\"",
        "deployment.mode = \"off\"",
        "deployment.tags = \"any\"",
        "deployment.tags = \"report\"",
        "deployment.files = \"report\"",
        "deployment.sources = \"required\"",
        "deployment.sources = \"required\"\nleast.deployment = \"tagged\"",
        "deployment.commits = [\"0101010101010101010101010101010101010101\"]",
    ];
    let digests: std::collections::BTreeSet<_> = lines
        .iter()
        .map(|more| policy_with(more).digest())
        .collect();
    assert_eq!(digests.len(), lines.len());
}
