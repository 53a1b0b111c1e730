//! What a policy of one's own may allow or pin.

use attest::{FloorCheck, Policy};
use fake_tee::Spec;

use super::{Change, extended, judge_under};
use crate::support::{challenge, code, judge, judge_with, policy, spec, spec_with};

#[test]
fn out_of_date_passes_only_with_every_advisory_accepted() {
    let mut spec = spec();
    spec.tcb_info
        .set_platform_status("OutOfDate", &["INTEL-SA-00001", "INTEL-SA-00002"]);
    for (rule, expected) in [
        (
            "OutOfDate:INTEL-SA-00001,INTEL-SA-00002@2027-02-20",
            "verified",
        ),
        (
            "OutOfDate:INTEL-SA-00002,INTEL-SA-00003,INTEL-SA-00001@2027-02-20",
            "verified",
        ),
        (
            "OutOfDate:INTEL-SA-00001@2027-02-20",
            "rejected_tcb_platform",
        ),
        ("OutOfDate:@2027-02-20", "rejected_tcb_platform"),
        (
            "ConfigurationNeeded:INTEL-SA-00001,INTEL-SA-00002@2027-02-20",
            "rejected_tcb_platform",
        ),
    ] {
        let policy = policy().clone().accepting(rule.parse().unwrap());
        assert_eq!(code(&judge_under(&spec, &policy)), expected, "{rule}");
        assert_ne!(policy.digest(), crate::support::policy().digest());
    }
    // Two rules do not add up: one of them has to cover the level.
    let halves = policy()
        .clone()
        .accepting("OutOfDate:INTEL-SA-00001@2027-02-20".parse().unwrap())
        .accepting("OutOfDate:INTEL-SA-00002@2027-02-20".parse().unwrap());
    assert_eq!(code(&judge_under(&spec, &halves)), "rejected_tcb_platform");
}

/// A value that only the evidence shows is no reason to trust it.
#[test]
fn no_line_accepts_what_a_host_chooses() {
    let changes: [Change; 7] = [
        ("rejected_os_image", |s| s.td.mr_td = [7; 48]),
        ("rejected_firmware", |s| s.boot.cfv = [7; 48]),
        ("rejected_acpi", |s| s.boot.acpi_tables = Some([7; 48])),
        ("rejected_td_attributes", |s| s.td.td_attributes[3] |= 0x40),
        ("rejected_xfam", |s| s.td.xfam[2] ^= 1),
        ("rejected_kms_root", |s| {
            s.kms = fake_tee::Kms::other().unwrap()
        }),
        ("rejected_app_id", |s| s.app.app_id = vec![7; 20]),
    ];
    for (expected, change) in changes {
        let refused = judge(&spec_with(change));
        assert_eq!(code(&refused), expected);
        let hint = refused.outcome.unwrap_err().hint();
        assert!(
            !hint.contains("policy line") && !hint.contains(" = ["),
            "{hint}"
        );
    }
}

#[test]
fn the_hinted_policy_line_accepts_what_was_refused() {
    let changes: [Change; 3] = [
        ("rejected_tcb_platform", |s| {
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-00007"]);
        }),
        ("rejected_tcb_qe", |s| {
            s.qe_identity.set_status("OutOfDate", &["INTEL-SA-00008"]);
        }),
        ("rejected_tcb_module", |s| {
            s.tcb_info
                .set_module_status("OutOfDate", &["INTEL-SA-00009"])
        }),
    ];
    for (expected, change) in changes {
        let spec = spec_with(change);
        let refused = judge(&spec);
        assert_eq!(code(&refused), expected);
        let hint = refused.outcome.unwrap_err().hint();
        let (_, line) = hint
            .split_once("policy line that would accept it: ")
            .expect(&hint);
        let text = format!("name = \"mine\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{line}\n");
        let parsed = Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_ne!(parsed.digest(), Policy::near().digest(), "{expected}");
        // Beside the machine's own values it is just what was missing.
        let own = self::spec().policy_toml();
        let (key, value) = line.split_once(" = ").unwrap();
        let value = value.trim_start_matches('[').trim_end_matches(']');
        let start = own
            .lines()
            .find(|own| own.starts_with(&format!("{key} = [")));
        let policy = match start {
            Some(own_line) => own.replace(
                own_line,
                &format!("{}, {value}]", own_line.trim_end_matches(']')),
            ),
            None => format!("{own}{line}\n"),
        };
        let policy = Policy::from_toml(&policy).unwrap_or_else(|error| panic!("{error}\n{policy}"));
        let accepted = judge_under(&spec, &policy);
        assert_eq!(
            code(&accepted),
            "verified",
            "{:?}",
            accepted.report.rejected
        );
    }
}

/// Whoever has those has the keys: no line accepts what the evidence shows of them.
#[test]
fn another_kms_or_application_has_no_ready_made_line() {
    let changes: [Change; 2] = [
        ("rejected_app_id", |s| s.app.app_id = vec![7; 20]),
        ("rejected_kms_root", |s| {
            s.kms = fake_tee::Kms::other().unwrap()
        }),
    ];
    for (expected, change) in changes {
        let rejected = judge(&spec_with(change)).outcome.unwrap_err();
        assert_eq!(rejected.code(), expected);
        assert!(
            !rejected.hint().contains("policy line"),
            "{}",
            rejected.hint()
        );
    }
}

/// The policy that the report of this machine shows.
fn written(spec: &Spec) -> Option<String> {
    let built = spec.forge(&challenge()).unwrap();
    let evidence = attest::Evidence::parse(&built.report_bytes).unwrap();
    judge_with(&built, policy(), FloorCheck::NotKept("a test")).policy_toml(&evidence)
}

/// It is written from what was refused before the event log was looked at, too.
#[test]
fn a_policy_is_written_also_for_other_attributes_and_levels() {
    for (expected, change) in [
        (
            "rejected_xfam",
            (|s: &mut Spec| s.td.xfam[2] ^= 1) as fn(&mut Spec),
        ),
        ("rejected_tcb_platform", |s| s.platform.pce_svn -= 1),
    ] {
        let spec = spec_with(change);
        assert_eq!(code(&judge(&spec)), expected);
        let policy = Policy::from_toml(&written(&spec).unwrap()).unwrap();
        assert_eq!(
            code(&judge_under(&self::spec(), &policy)) == "verified",
            expected == "rejected_tcb_platform"
        );
    }
}

/// Evidence of another machine does not slip in under a verified quote.
#[test]
fn a_policy_is_written_from_the_judged_evidence_only() {
    let judged = judge(&spec());
    let mut other = spec();
    other.boot.kernel = [7; 48];
    let other = other.forge(&challenge()).unwrap();
    let evidence = attest::Evidence::parse(&other.report_bytes).unwrap();
    assert_eq!(judged.policy_toml(&evidence), None);
}

#[test]
fn a_written_policy_accepts_the_report_it_was_written_from() {
    let mut spec = spec();
    spec.td.mr_td = [7; 48];
    spec.boot.acpi_tables = Some([7; 48]);
    let refused = judge(&spec);
    assert_eq!(code(&refused), "rejected_os_image");
    let written = written(&spec).unwrap();
    let policy = Policy::from_toml(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(code(&judge_under(&spec, &policy)), "verified");
    assert_eq!(
        code(&judge_under(&self::spec(), &policy)),
        "rejected_os_image"
    );
    // A quote that does not verify shows nothing.
    spec.hooks
        .signed_quote
        .push(|quote| quote.signature[0] ^= 1);
    assert_eq!(self::written(&spec), None);
}

#[test]
fn the_hardware_policy_stops_at_the_measured_boot() {
    let mut spec = spec();
    spec.td.td_attributes = [0, 0, 0, 0x10, 0, 0, 0, 0];
    spec.td.mr_td = [7; 48];
    spec.kms = fake_tee::Kms::other().unwrap();
    crate::tampering::remove(&mut spec, "/info/app_cert");
    let appraisal = judge_under(&spec, &Policy::hardware());
    assert_eq!(
        code(&appraisal),
        "verified",
        "{:?}",
        appraisal.report.rejected
    );
    assert!(appraisal.report.policy.hardware_only);
    for id in [
        attest::CheckId::OsImage,
        attest::CheckId::Firmware,
        attest::CheckId::TdHob,
        attest::CheckId::Acpi,
        attest::CheckId::Kms,
        attest::CheckId::AppId,
        attest::CheckId::KeyProvider,
    ] {
        let check = appraisal.report.check(id).unwrap();
        assert_eq!(check.status, attest::Status::NotProved);
        assert!(
            check.detail.starts_with("the policy is hardware only"),
            "{}",
            check.detail
        );
    }
}

#[test]
fn acpi_may_be_reported_instead_of_required() {
    let mut spec = spec();
    spec.boot.acpi_tables = Some([7; 48]);
    let appraisal = judge_under(&spec, &extended("acpi = \"report\"\n"));
    assert_eq!(code(&appraisal), "rejected_gpu_places_unknown");
    let more = "acpi = \"report\"\ngpu.places = \"report\"\n";
    let appraisal = judge_under(&spec, &extended(more));
    assert_eq!(code(&appraisal), "verified");
    let check = appraisal.report.check(attest::CheckId::Acpi).unwrap();
    assert_eq!(check.status, attest::Status::NotProved);
}

#[test]
fn pins_hold_what_they_name_and_nothing_else() {
    let spec = spec();
    let seen = written(&spec).unwrap();
    let lines: Vec<_> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("# pins."))
        .collect();
    assert_eq!(lines.len(), 8, "{seen}");
    for line in lines
        .iter()
        .map(|line| format!("pins.{line}"))
        .chain([format!(
            "pins.mr_kms = [\"{}\"]",
            hex::encode(&spec.app.mr_kms[0])
        )])
    {
        let judged = judge_under(&spec, &extended(&line));
        assert_eq!(code(&judged), "verified", "{line}");
        let status = judged.report.check(attest::CheckId::Pins).unwrap().status;
        assert_eq!(status, attest::Status::Pass, "{line}");
        let (key, value) = line.split_once(" = ").unwrap();
        // Another value of the same shape.
        let value: String = value
            .split_once(':')
            .map_or(value, |(_, address)| address)
            .chars()
            .map(|c| if c.is_ascii_hexdigit() { '9' } else { c })
            .collect();
        let value = if key == "pins.signing_keys" {
            format!("[\"ed25519:{}", value.trim_start_matches(['[', '"']))
        } else {
            value
        };
        let other = extended(&format!("{key} = {value}"));
        assert_eq!(
            code(&judge_under(&spec, &other)),
            "rejected_pin",
            "{key} = {value}"
        );
    }
    let mut without = self::spec();
    without.app.mr_kms.clear();
    let pinned = extended(&format!(
        "pins.mr_kms = [\"{}\"]",
        hex::encode(&spec.app.mr_kms[0])
    ));
    assert_eq!(code(&judge_under(&without, &pinned)), "rejected_pin");
    // Nor does a platform without an instance id satisfy a pin on one.
    let mut without = self::spec();
    let piid = without.platform.platform_instance_id.take().unwrap();
    let pinned = extended(&format!("pins.piids = [\"{}\"]", hex::encode(piid)));
    assert_eq!(code(&judge_under(&spec, &pinned)), "verified");
    let refused = judge_under(&without, &pinned);
    assert_eq!(code(&refused), "rejected_pin");
    let said = refused.outcome.unwrap_err().to_string();
    assert!(said.contains("piids") && said.contains("absent"), "{said}");
    let written = written(&without).unwrap();
    assert!(!written.contains("pins.piids"), "{written}");
    assert!(written.contains("pins.fmspcs"), "{written}");
}

#[test]
fn a_report_names_the_pins_that_somebody_measures() {
    let spec = spec();
    let pins = |policy: &Policy| {
        let report = judge_under(&spec, policy).report;
        let check = report.check(attest::CheckId::Pins).unwrap();
        (check.status, check.detail.clone())
    };
    let kms = format!("pins.mr_kms = [\"{}\"]\n", hex::encode(&spec.app.mr_kms[0]));
    let (status, detail) = pins(policy());
    assert_eq!(status, attest::Status::NotProved);
    assert_eq!(detail, "the policy pins none");
    let (status, detail) = pins(&extended(&kms));
    assert_eq!((status, detail.as_str()), (attest::Status::Pass, "mr_kms"));
}

#[test]
fn the_evaluation_number_has_a_minimum() {
    let mut spec = spec();
    let number = spec.tcb_info.tcb_evaluation_data_number;
    let at = |number: u32| extended(&format!("tcb.min_evaluation_number = {number}\n"));
    assert_eq!(code(&judge_under(&spec, &at(number))), "verified");
    assert_eq!(
        code(&judge_under(&spec, &at(number + 1))),
        "rejected_tcb_evaluation"
    );
    // Of both documents.
    spec.tcb_info.tcb_evaluation_data_number = number - 1;
    assert_eq!(
        code(&judge_under(&spec, &at(number))),
        "rejected_tcb_evaluation"
    );
    spec.tcb_info.tcb_evaluation_data_number = number;
    spec.qe_identity.tcb_evaluation_data_number = number - 1;
    assert_eq!(
        code(&judge_under(&spec, &at(number))),
        "rejected_tcb_evaluation"
    );
}

#[test]
fn an_application_counts_under_its_own_kms_only() {
    let spec = spec();
    let own = spec.policy_toml();
    let line = own
        .lines()
        .find(|line| line.starts_with("identity = "))
        .unwrap();
    // This KMS with another app, and this app with another KMS, do not add up.
    let other_app = line
        .replace(&hex::encode(&spec.app.app_id), &"07".repeat(20))
        .replace("identity = [", "");
    let other_kms = fake_tee::Kms::other().unwrap().root_spki_hex();
    let other_kms = line
        .replace(&spec.kms.root_spki_hex(), &other_kms)
        .replace("identity = [", "");
    let both = format!(
        "identity = [{}, {other_kms}",
        other_app.trim_end_matches(']')
    );
    let policy = Policy::from_toml(&own.replace(line, &both)).unwrap();
    assert_eq!(code(&judge_under(&spec, &policy)), "rejected_app_id");
}

#[test]
fn advisories_are_accepted_for_the_component_that_a_rule_names() {
    let mut platform = spec();
    platform
        .tcb_info
        .set_platform_status("OutOfDate", &["INTEL-SA-00001"]);
    let mut qe = spec();
    qe.qe_identity.set_status("OutOfDate", &["INTEL-SA-00001"]);
    let rule = |component: &str| {
        extended(&format!(
            "tcb.accept_advisories = [{{ {component}status = \"OutOfDate\", advisories = [\"INTEL-SA-00001\"], exception = {{ until = \"2027-02-20\", reason = \"a test\", by = \"a test\" }} }}]\n"
        ))
    };
    for (component, of_platform, of_qe) in [
        ("", "verified", "verified"),
        ("component = \"platform\", ", "verified", "rejected_tcb_qe"),
        ("component = \"qe\", ", "rejected_tcb_platform", "verified"),
        (
            "component = \"module\", ",
            "rejected_tcb_platform",
            "rejected_tcb_qe",
        ),
    ] {
        let policy = rule(component);
        assert_eq!(
            code(&judge_under(&platform, &policy)),
            of_platform,
            "{component}"
        );
        assert_eq!(code(&judge_under(&qe, &policy)), of_qe, "{component}");
    }
    // A level without advisories needs a rule without any.
    platform.tcb_info.set_platform_status("OutOfDate", &[]);
    assert_eq!(
        code(&judge_under(&platform, &rule(""))),
        "rejected_tcb_platform"
    );
    let none = policy()
        .clone()
        .accepting("OutOfDate:@2027-02-20".parse().unwrap());
    assert_eq!(code(&judge_under(&platform, &none)), "verified");
}
