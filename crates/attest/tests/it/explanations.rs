//! What a person reads: the words, not only the verdict.

use attest::{CheckId, Evidence, FloorCheck, Group, PckCa, Policy, Report, Status, TrustAnchors};

use crate::support::{
    challenge, code, judge, judge_with, judge_with_tags, policy_text, policy_with, spec,
};

fn fact(report: &Report, name: &str) -> String {
    let fact = report.facts.iter().find(|fact| fact.name == name);
    fact.unwrap_or_else(|| panic!("no {name}: {:?}", report.facts))
        .value
        .clone()
}

#[test]
fn a_report_names_the_policy_the_root_and_the_time() {
    let report = judge(&spec()).report;
    assert_eq!(report.policy.name, "fake");
    assert!(!report.policy.hardware_only);
    assert!(!report.intel_root);
    assert_eq!(report.at.to_string(), "2026-11-22T12:00:00Z");
    assert!(TrustAnchors::intel().is_intel());
    assert!(TrustAnchors::intel().gpus().is_nvidia());
    assert!(!report.nvidia_root);
    // Intel's SGX root CA, NVIDIA's Device Identity CA and the key of NVIDIA's
    // attestation service's authority, as published and as in both recordings.
    let shown = format!("{:?}", TrustAnchors::intel());
    for digest in [
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
        "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
        "fd32837f954e2c45db073105166dfe6985ae0480bb113fba63b091a75affe896",
    ] {
        assert!(shown.contains(digest), "{shown}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "verified");
    assert_eq!(json["trust_root"], "DANGER: not Intel's");
    assert_eq!(json["code"], serde_json::Value::Null);
    assert_eq!(json["checks"][0]["group"], "Evidence");
    assert_eq!(json["checks"][1]["title"], "a TDX quote, version 4 or 5");
    let status = |json: &serde_json::Value, id: &str| {
        let checks = json["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["id"] == id).unwrap();
        check["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status(&json, "quote"), "pass");
    assert_eq!(status(&json, "pins"), "not_proved");
    let mut debug = spec();
    debug.td.td_attributes[0] = 1;
    let json = serde_json::to_value(judge(&debug).report).unwrap();
    assert_eq!(status(&json, "td_attributes"), "fail");
    assert_eq!(status(&json, "tls_key"), "not_proved");
    for (format, version) in [
        (
            fake_tee::QuoteFormat::TdxV4,
            "version 4, under a DANGEROUS root",
        ),
        (
            fake_tee::QuoteFormat::TdxV5Td15,
            "version 5, under a DANGEROUS root",
        ),
    ] {
        let mut spec = spec();
        spec.quote.format = format;
        let report = judge(&spec).report;
        assert_eq!(report.check(CheckId::Quote).unwrap().detail, version);
    }
}

#[test]
fn every_check_stands_in_the_report_once_and_in_order() {
    let report = judge(&spec()).report;
    let ids: Vec<_> = report.checks.iter().map(|check| check.id).collect();
    assert_eq!(ids, CheckId::ALL);
    let mut groups: Vec<Group> = ids.iter().map(|id| id.group()).collect();
    groups.dedup();
    let titles: Vec<_> = groups.iter().map(|group| group.title()).collect();
    assert_eq!(
        titles,
        [
            "Evidence",
            "Hardware",
            "Channel",
            "Boot chain",
            "Software",
            "Identity",
            "Deployment",
            "GPUs",
            "Beyond this proof"
        ]
    );
    for check in &report.checks {
        assert!(!check.detail.is_empty(), "{:?}", check.id);
    }
    let beyond = report
        .checks
        .iter()
        .filter(|check| check.id.group() == Group::Beyond);
    assert!(
        beyond
            .into_iter()
            .all(|check| check.status == Status::NotProved)
    );
}

#[test]
fn facts_are_what_the_machine_shows() {
    let spec = spec();
    let report = judge(&spec).report;
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(fact(&report, "fmspc"), hex(&spec.platform.fmspc));
    assert_eq!(fact(&report, "ppid"), hex(&spec.platform.ppid));
    let platform = &spec.platform;
    let piid = platform.platform_instance_id.unwrap();
    assert_eq!(fact(&report, "piid"), hex(&piid));
    assert_eq!(fact(&report, "pce_id"), hex(&platform.pce_id));
    assert_eq!(fact(&report, "cpu_svn"), hex(&platform.cpu_svn));
    assert_eq!(fact(&report, "pce_svn"), platform.pce_svn.to_string());
    let [svn, version, ..] = spec.td.tee_tcb_svn;
    let module = format!("TDX_{version:02x}, SVN {svn}");
    assert_eq!(fact(&report, "tdx_module"), module);
    let booted = attest::UnixTime(spec.app.boot_time);
    assert_eq!(
        fact(&report, "booted"),
        format!("{booted}, by the identity certificate")
    );
    assert_eq!(fact(&report, "mrseam"), hex(&spec.td.mr_seam));
    assert_eq!(fact(&report, "mrtd"), hex(&spec.td.mr_td));
    assert_eq!(fact(&report, "tee_tcb_svn"), hex(&spec.td.tee_tcb_svn));
    assert_eq!(fact(&report, "app_id"), hex(&spec.app.app_id));
    assert_eq!(fact(&report, "instance_id"), hex(&spec.app.instance_id));
    assert_eq!(fact(&report, "mr_kms"), hex(&spec.app.mr_kms[0]));
    assert_eq!(fact(&report, "compose_hash"), hex(&spec.app.compose_hash()));
    assert_eq!(
        fact(&report, "machine_unmeasured"),
        "32 CPUs, 1099511627776 bytes of memory, 8 GPUs, 4 NVSwitches, image fake-image-1.0"
    );
    assert_eq!(
        fact(&report, "device_id_unmeasured"),
        hex(&spec.app.device_id)
    );
    assert_eq!(fact(&report, "model_name"), "fake/llama");
    assert_eq!(
        fact(&report, "platform"),
        "dynamic platform: yes, cached keys: yes, SMT: yes"
    );
    assert_eq!(
        fact(&report, "signing_key"),
        format!("ed25519:{}", hex(&spec.signing.address))
    );
    let mut other = spec.clone();
    other.platform.smt_enabled = false;
    other.platform.platform_instance_id = None;
    other.app.mr_kms = vec![vec![1; 32], vec![2; 32]];
    let report = judge(&other).report;
    assert_eq!(
        fact(&report, "platform"),
        "dynamic platform: yes, cached keys: yes, SMT: no"
    );
    assert_eq!(fact(&report, "piid"), "none in the PCK certificate");
    assert_eq!(
        fact(&report, "mr_kms"),
        format!("{} {}", "01".repeat(32), "02".repeat(32))
    );
}

/// A platform may update its TDX module under a running TD; its report then has both.
#[test]
fn a_module_that_was_updated_is_shown_as_both() {
    let mut spec = spec();
    spec.quote.format = fake_tee::QuoteFormat::TdxV5Td15;
    let [svn, version, ..] = spec.td.tee_tcb_svn;
    let same = fact(&judge(&spec).report, "tdx_module");
    assert_eq!(same, format!("TDX_{version:02x}, SVN {svn}"));
    spec.td.tee_tcb_svn2[0] += 1;
    let updated = fact(&judge(&spec).report, "tdx_module");
    assert_eq!(
        updated,
        format!("{same}; now TDX_{version:02x}, SVN {}", svn + 1)
    );
}

/// What is explained of checks and groups, and that none is left out.
#[test]
fn each_group_and_check_says_what_it_is_worth() {
    for group in Group::ALL {
        assert!(CheckId::ALL.iter().any(|id| id.group() == group));
        assert!(group.proves().ends_with('.'), "{group:?}");
    }
    for id in CheckId::ALL {
        assert!(Group::ALL.contains(&id.group()), "{id:?}");
        assert_ne!(id.compared(), id.title(), "{id:?}");
    }
    let mut compared: Vec<_> = CheckId::ALL.iter().map(|id| id.compared()).collect();
    compared.sort_unstable();
    compared.dedup();
    assert_eq!(compared.len(), CheckId::ALL.len());
}

#[test]
fn a_refused_level_says_what_intel_says() {
    let mut spec = spec();
    spec.tcb_info
        .set_platform_status("OutOfDate", &["INTEL-SA-00001", "INTEL-SA-00002"]);
    let rejected = judge(&spec).outcome.unwrap_err();
    assert_eq!(
        rejected.to_string(),
        "the platform's TCB is OutOfDate (level of 2025-11-12T00:00:00Z; INTEL-SA-00001, INTEL-SA-00002), which the policy does not accept"
    );
    assert!(rejected.hint().ends_with(
        "tcb.accept_advisories = [{ component = \"platform\", status = \"OutOfDate\", advisories = [\"INTEL-SA-00001\", \"INTEL-SA-00002\"], exception = { until = \"2027-02-20\", reason = \"say why\", by = \"your name\" } }]"
    ));
    // The option that is named is one, and does what is said of it.
    let hint = rejected.hint();
    let (_, option) = hint.split_once(" --accept-tcb ").unwrap();
    let (option, _) = option.split_once(' ').unwrap();
    assert_eq!(option, "OutOfDate:INTEL-SA-00001,INTEL-SA-00002@2027-02-20");
    let policy = Policy::from_toml(&spec.policy_toml()).unwrap();
    let accepting = policy.accepting(option.parse().unwrap());
    let built = spec.forge(&challenge()).unwrap();
    let judged = judge_with(&built, &accepting, FloorCheck::NotKept("a test"));
    assert!(judged.outcome.is_ok(), "{:?}", judged.outcome);
    spec.tcb_info.set_platform_status("Revoked", &[]);
    let hint = judge(&spec).outcome.unwrap_err().hint();
    for way in ["policy line", "--accept-tcb"] {
        assert!(!hint.contains(way), "{hint}");
    }
    let pass = judge(&self::spec()).report;
    let level = &pass.check(CheckId::TcbPlatform).unwrap().detail;
    assert_eq!(level, "UpToDate (level of 2025-11-12T00:00:00Z)");
}

#[test]
fn evidence_says_what_to_ask_a_pcs_for() {
    let mut spec = spec();
    spec.certs.platform_ca.common_name = "Fake SGX PCK Processor CA".to_owned();
    let built = spec.forge(&challenge()).unwrap();
    let evidence = Evidence::parse(&built.report_bytes).unwrap();
    assert_eq!(evidence.collateral_key().unwrap().ca, PckCa::Processor);
    let spec = self::spec();
    let built = spec.forge(&challenge()).unwrap();
    let evidence = Evidence::parse(&built.report_bytes).unwrap();
    let key = evidence.collateral_key().unwrap();
    assert_eq!(*key.fmspc.as_bytes(), spec.platform.fmspc);
    assert_eq!(key.ca, PckCa::Platform);
    assert_eq!(
        [PckCa::Platform.as_str(), PckCa::Processor.as_str()],
        ["platform", "processor"]
    );
    assert_eq!(evidence.model_name(), "fake/llama");
    assert_eq!(evidence.signing_key().address(), spec.signing.address);
}

#[test]
fn hints_cannot_be_bent_by_evidence() {
    let policy = format!(
        "{}pins.mr_kms = [\"{}\"]\n",
        spec().policy_toml(),
        "00".repeat(32)
    );
    let policy = Policy::from_toml(&policy).unwrap();
    let mut spec = spec();
    // More than any policy line could hold.
    spec.app.mr_kms = vec![vec![7; 65]];
    let built = spec.forge(&challenge()).unwrap();
    let judged = judge_with(&built, &policy, FloorCheck::NotKept("a test"));
    let rejected = judged.outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_pin");
    assert!(
        !rejected.hint().contains("policy line"),
        "{}",
        rejected.hint()
    );
}

/// The longest foreign values that pass every check before they are repeated.
#[test]
fn what_is_repeated_of_evidence_stays_short() {
    let mut spec = spec();
    spec.model_name = "\u{202e}\u{1b}[2J".repeat(80);
    spec.app.instance_id = vec![7; 64];
    spec.app.mr_kms = vec![vec![9; 60_000]; 3];
    crate::tampering::remove(&mut spec, "/info/tcb_info/event_log");
    crate::tampering::remove(&mut spec, "/all_attestations");
    let report = judge(&spec).report;
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.len() < 30_000, "{}", json.len());
    assert!(json.chars().all(|c| (' '..='~').contains(&c)));
}

#[test]
fn unreadable_texts_are_refused_with_the_place_and_the_reason() {
    let said = |report: &str| Evidence::parse(report.as_bytes()).unwrap_err().to_string();
    let text = said("{\"a\": tru}");
    assert!(
        text.contains("expected ident at line 1 column 10"),
        "{text}"
    );
    let text = said("[]");
    assert!(text.contains("expected an object, got \"[]\""), "{text}");
    let mut spec = spec();
    crate::tampering::set(&mut spec, "/info", serde_json::json!({}));
    let text = judge(&spec).report.rejected.unwrap().to_string();
    assert!(
        text.contains("the report has no field info.tcb_info"),
        "{text}"
    );
    let collateral = |json: &str| {
        attest::Collateral::from_json(json.as_bytes())
            .unwrap_err()
            .to_string()
    };
    let text = collateral("{\"tcb_info\":\"\",\"tcb_info\":\"\"}");
    assert!(
        text.contains("the key \"tcb_info\" stands twice in one object"),
        "{text}"
    );
    let text = collateral(&"[".repeat(100));
    assert!(text.contains("more than 16 levels deep"), "{text}");
    let text = collateral("{}");
    assert!(
        text.contains("missing field `pck_crl_issuer_chain`"),
        "{text}"
    );
}

/// An open weakness of an image is a finding, and refuses where the policy says so.
#[test]
fn advisories_of_an_image_are_findings() {
    let advisory = |image: &str, severity: &str| {
        format!(
            "image_advisory = [{{ id = \"X-1\", severity = \"{severity}\", images = [\"{image}\"], fixed = \"1.1\", what = \"it leaks\" }}]\n"
        )
    };
    let refuse = "findings.refuse = [\"image_advisory=danger\"]\n";
    for (severity, under_refuse) in [
        ("danger", "rejected_finding"),
        ("warning", "verified"),
        ("notice", "verified"),
    ] {
        let lines = advisory("fake image", severity);
        let said = judge_with_tags(&spec(), &policy_with(&lines));
        assert_eq!(code(&said), "verified");
        let findings = said.report.findings.iter();
        let told: Vec<_> = findings
            .filter(|finding| finding.topic == "image_advisory")
            .map(|finding| (finding.severity.as_str(), finding.detail.as_str()))
            .collect();
        assert_eq!(
            told,
            [(severity, "fake image: X-1: it leaks; fixed in 1.1")]
        );
        let sentence = said.report.sentence().unwrap();
        let is_told = sentence.contains(
            "cannot read your prompts, except that the owner may use a known weakness of this image.",
        );
        assert_eq!(is_told, severity == "danger", "{sentence}");
        let strict = judge_with_tags(&spec(), &policy_with(&(lines + refuse)));
        assert_eq!(code(&strict), under_refuse, "{severity}");
    }
    // Of another image it says nothing; of one that the policy does not name it is an error.
    let other = judge_with_tags(
        &spec(),
        &policy_with(&(advisory("dstack-nvidia-0.5.5", "danger") + refuse)),
    );
    assert_eq!(code(&other), "verified");
    let unknown = Policy::from_toml(&policy_text(&advisory("unknown", "danger")));
    let error = unknown.unwrap_err().to_string();
    assert!(
        error.contains("image_advisory names \"unknown\""),
        "{error}"
    );
}
