//! What an honest operator may change without a new policy, and what a policy
//! of one's own may allow or pin.

use attest::{Appraisal, Channel, Floor, FloorCheck, FloorKey, Floors, Policy, TrustAnchors};
use fake_tee::event_log::DigestForm;
use fake_tee::{QuoteFormat, Signing, Spec};

use crate::support::{anchors, challenge, code, judge, judge_with, policy, spec};

/// One honest change.
type Change = (&'static str, fn(&mut Spec));

#[test]
fn honest_changes_need_no_new_policy() {
    let changes: [Change; 27] = [
        ("twice the memory", |s| s.vm_config.memory_size = 2 << 40),
        ("8 GiB of memory", |s| s.vm_config.memory_size = 8 << 30),
        ("memory just at the PCI hole", |s| s.vm_config.memory_size = 0xb000_0000),
        ("memory just below the PCI hole", |s| s.vm_config.memory_size = 0xb000_0000 - 4096),
        ("another TDX module", |s| s.td.mr_seam = [0x42; 48]),
        ("a newer TDX module version", |s| s.td.tee_tcb_svn[0] += 1),
        ("another application description", |s| s.app.compose = "{\"another\": 1}".to_owned()),
        ("another instance", |s| s.app.instance_id = vec![0x42; 20]),
        ("another device", |s| s.app.device_id = [0x42; 32]),
        ("an ECDSA signing key", |s| s.signing = Signing::ecdsa()),
        ("a v5 quote of a TD 1.0", |s| s.quote.format = QuoteFormat::TdxV5Td10),
        ("a v5 quote of a TD 1.5", |s| s.quote.format = QuoteFormat::TdxV5Td15),
        ("SWHardeningNeeded", |s| {
            s.tcb_info.set_platform_status("SWHardeningNeeded", &["FAKE-SA-00001"]);
        }),
        ("V2 digests", |s| s.digest_form = DigestForm::V2),
        ("the event log as a string", |s| s.event_log_as_string = true),
        ("no storage-fs", |s| s.app.storage_fs = None),
        ("no mr-kms", |s| s.app.mr_kms.clear()),
        ("three contacts with KMS instances", |s| {
            s.app.mr_kms = vec![vec![1; 32], vec![2; 32], vec![1; 32]];
        }),
        ("events of the application", |s| {
            s.app.app_events = vec![("app-id".to_owned(), vec![9; 20]), ("x".to_owned(), vec![])];
        }),
        ("events of the application, noted in the certificate", |s| {
            s.app.app_events = vec![("x".to_owned(), vec![1])];
            s.app.certified_at_ready = false;
        }),
        ("a platform that is not dynamic, without SMT and cached keys", |s| {
            s.platform.dynamic_platform = false;
            s.platform.cached_keys = false;
            s.platform.smt_enabled = false;
        }),
        ("another platform", |s| s.platform.ppid = [0x42; 16]),
        ("no padding behind the quote", |s| s.quote.trailing.clear()),
        ("unknown fields", |s| {
            s.hooks.report.push(|report| report["new_field"] = serde_json::json!({"a": [1, {"b": null}]}));
        }),
        ("no other copies of the report", |s| super::tampering::remove(s, "/all_attestations")),
        ("a foreign PCK chain in the collateral, which is left out", |s| {
            s.hooks.collateral.push(|c| c.pck_certificate_chain = Some("no certificate".to_owned()));
        }),
        ("hex with 0x and in capitals", |s| {
            s.hooks.report.push(|report| {
                let text = report["intel_quote"].as_str().unwrap().to_uppercase();
                report["intel_quote"] = format!("0x{text}").into();
            });
        }),
    ];
    for (what, change) in changes {
        let mut spec = spec();
        change(&mut spec);
        let appraisal = judge(&spec);
        assert_eq!(code(&appraisal), "verified", "{what}: {:?}", appraisal.report.rejected);
    }
}

#[test]
fn a_new_tls_key_is_attested_like_the_old_one() {
    let mut challenge = challenge();
    challenge.spki_sha256 = [0x99; 32];
    let built = spec().forge(&challenge).unwrap();
    let appraisal = judge_with(&built, policy(), FloorCheck::NotKept("a test"));
    // The report is good, but it is about another key than the live one.
    assert_eq!(code(&appraisal), "rejected_spki_mismatch");
    let evidence = attest::Evidence::parse(&built.report_bytes).unwrap();
    let collateral = attest::Collateral::from_json(built.collateral_json.as_bytes()).unwrap();
    let appraisal = attest::appraise(&attest::Appraise {
        evidence: &evidence,
        subject: &crate::support::subject(),
        live_spki: attest::Spki::from_bytes([0x99; 32]),
        nonce: attest::Nonce::from_bytes(crate::support::NONCE),
        collateral: &collateral,
        floor: FloorCheck::NotKept("a test"),
        policy: policy(),
        trust_anchors: &anchors(),
        now: attest::UnixTime(crate::support::NOW),
    });
    assert_eq!(code(&appraisal), "verified");
}

fn extended(more: &str) -> Policy {
    let text = format!("{}{more}", spec().policy_toml());
    Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn judge_under(spec: &Spec, policy: &Policy) -> Appraisal {
    judge_with(&spec.forge(&challenge()).unwrap(), policy, FloorCheck::NotKept("a test"))
}

#[test]
fn out_of_date_passes_only_with_every_advisory_accepted() {
    let mut spec = spec();
    spec.tcb_info.set_platform_status("OutOfDate", &["INTEL-SA-00001", "INTEL-SA-00002"]);
    for (rule, expected) in [
        ("OutOfDate:INTEL-SA-00001,INTEL-SA-00002", "verified"),
        ("OutOfDate:INTEL-SA-00002,INTEL-SA-00003,INTEL-SA-00001", "verified"),
        ("OutOfDate:INTEL-SA-00001", "rejected_tcb_platform"),
        ("OutOfDate:", "rejected_tcb_platform"),
        ("ConfigurationNeeded:INTEL-SA-00001,INTEL-SA-00002", "rejected_tcb_platform"),
    ] {
        let policy = policy().clone().accepting(rule.parse().unwrap());
        assert_eq!(code(&judge_under(&spec, &policy)), expected, "{rule}");
        assert_ne!(policy.digest(), crate::support::policy().digest());
    }
    // Two rules do not add up: one of them has to cover the level.
    let halves = policy()
        .clone()
        .accepting("OutOfDate:INTEL-SA-00001".parse().unwrap())
        .accepting("OutOfDate:INTEL-SA-00002".parse().unwrap());
    assert_eq!(code(&judge_under(&spec, &halves)), "rejected_tcb_platform");
}

#[test]
fn the_hinted_policy_line_accepts_what_was_refused() {
    let changes: [Change; 8] = [
        ("rejected_os_image", |s| s.td.mr_td = [7; 48]),
        ("rejected_firmware", |s| s.boot.cfv = [7; 48]),
        ("rejected_acpi", |s| s.boot.acpi_tables = [7; 48]),
        ("rejected_app_id", |s| s.app.app_id = vec![7; 20]),
        ("rejected_kms_root", |s| s.kms = fake_tee::Kms::other().unwrap()),
        ("rejected_td_attributes", |s| s.td.td_attributes[3] |= 0x40),
        ("rejected_xfam", |s| s.td.xfam[2] ^= 1),
        ("rejected_tcb_module", |s| s.tcb_info.set_module_status("OutOfDate", &["INTEL-SA-00009"])),
    ];
    for (expected, change) in changes {
        let mut spec = spec();
        change(&mut spec);
        let refused = judge(&spec);
        assert_eq!(code(&refused), expected);
        let hint = refused.outcome.unwrap_err().hint();
        let (_, line) = hint.split_once("would accept it: ").expect(&hint);
        let text = format!("name = \"mine\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{line}\n");
        let parsed = Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_ne!(parsed.digest(), Policy::near().digest(), "{expected}");
        // Beside the machine's own values it is just what was missing.
        let own = self::spec().policy_toml();
        let (key, value) = line.split_once(" = ").unwrap();
        let value = value.trim_start_matches('[').trim_end_matches(']');
        let start = own.lines().find(|own| own.starts_with(&format!("{key} = [")));
        let policy = match start {
            Some(own_line) => own.replace(own_line, &format!("{}, {value}]", own_line.trim_end_matches(']'))),
            None => format!("{own}{line}\n"),
        };
        let policy = Policy::from_toml(&policy).unwrap_or_else(|error| panic!("{error}\n{policy}"));
        let accepted = judge_under(&spec, &policy);
        assert_eq!(code(&accepted), "verified", "{:?}", accepted.report.rejected);
    }
}

#[test]
fn a_written_policy_accepts_the_report_it_was_written_from() {
    let mut spec = spec();
    spec.td.mr_td = [7; 48];
    spec.boot.acpi_tables = [7; 48];
    let refused = judge(&spec);
    assert_eq!(code(&refused), "rejected_os_image");
    let written = refused.policy_toml().unwrap();
    let policy = Policy::from_toml(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(code(&judge_under(&spec, &policy)), "verified");
    assert_eq!(code(&judge_under(&self::spec(), &policy)), "rejected_os_image");
    // A quote that does not verify shows nothing.
    spec.hooks.signed_quote.push(|quote| quote.signature[0] ^= 1);
    assert_eq!(judge(&spec).policy_toml(), None);
}

#[test]
fn the_hardware_policy_stops_at_the_measured_boot() {
    let mut spec = spec();
    spec.td.td_attributes = [0, 0, 0, 0x10, 0, 0, 0, 0];
    spec.td.mr_td = [7; 48];
    spec.kms = fake_tee::Kms::other().unwrap();
    super::tampering::remove(&mut spec, "/info/app_cert");
    let appraisal = judge_under(&spec, &Policy::hardware());
    assert_eq!(code(&appraisal), "verified", "{:?}", appraisal.report.rejected);
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
        assert!(check.detail.starts_with("the policy is hardware only"), "{}", check.detail);
    }
}

#[test]
fn acpi_may_be_reported_instead_of_required() {
    let mut spec = spec();
    spec.boot.acpi_tables = [7; 48];
    let appraisal = judge_under(&spec, &extended("acpi = \"report\"\n"));
    assert_eq!(code(&appraisal), "verified");
    let check = appraisal.report.check(attest::CheckId::Acpi).unwrap();
    assert_eq!(check.status, attest::Status::NotProved);
}

#[test]
fn pins_hold_what_they_name_and_nothing_else() {
    let spec = spec();
    let seen = judge(&spec).policy_toml().unwrap();
    let lines: Vec<_> = seen.lines().filter_map(|line| line.strip_prefix("# pins.")).collect();
    assert_eq!(lines.len(), 6, "{seen}");
    for line in lines.iter().map(|line| format!("pins.{line}")).chain([
        format!("pins.mr_kms = [\"{}\"]", hex(&spec.app.mr_kms[0])),
        format!("pins.device_ids = [\"{}\"]", hex(&spec.app.device_id)),
    ]) {
        assert_eq!(code(&judge_under(&spec, &extended(&line))), "verified", "{line}");
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
        assert_eq!(code(&judge_under(&spec, &other)), "rejected_pin", "{key} = {value}");
    }
    let mut without = self::spec();
    without.app.mr_kms.clear();
    let pinned = extended(&format!("pins.mr_kms = [\"{}\"]", hex(&spec.app.mr_kms[0])));
    assert_eq!(code(&judge_under(&without, &pinned)), "rejected_pin");
}

#[test]
fn the_evaluation_number_has_a_minimum() {
    let spec = spec();
    let number = spec.tcb_info.tcb_evaluation_data_number;
    let at = |number: u32| extended(&format!("tcb.min_evaluation_number = {number}\n"));
    assert_eq!(code(&judge_under(&spec, &at(number))), "verified");
    assert_eq!(code(&judge_under(&spec, &at(number + 1))), "rejected_tcb_evaluation");
}

#[test]
fn collateral_never_goes_back() {
    let base = spec();
    let built = base.forge(&challenge()).unwrap();
    let mut floors = Floors::default();
    let kept = |floors: &Floors, built: &fake_tee::Built| {
        let floor = FloorCheck::Kept {
            floors,
            channel: Channel::Standard,
        };
        judge_with(built, policy(), floor)
    };
    let first = kept(&floors, &built);
    let (_, seen) = first.outcome.unwrap();
    assert!(floors.raise(&seen.clone().unwrap()), "the first sight raises the floor");
    assert!(!floors.raise(&seen.unwrap()), "the second sight does not");
    assert_eq!(code(&kept(&floors, &built)), "verified");

    let lower: [Change; 4] = [
        ("TCB info", |s| s.tcb_info.tcb_evaluation_data_number -= 1),
        ("QE identity", |s| s.qe_identity.tcb_evaluation_data_number -= 1),
        ("PCK CRL", |s| s.crls.pck.number -= 1),
        ("root CRL", |s| s.crls.root.number -= 1),
    ];
    for (what, change) in lower {
        let mut spec = spec();
        change(&mut spec);
        let older = spec.forge(&challenge()).unwrap();
        let appraisal = kept(&floors, &older);
        assert_eq!(code(&appraisal), "rejected_collateral_rollback", "{what}");
        // Another channel, another root: other floors.
        let early = FloorCheck::Kept {
            floors: &floors,
            channel: Channel::Early,
        };
        assert_eq!(code(&judge_with(&older, policy(), early)), "verified", "{what}");
    }
    let again = Floors::from_json(floors.to_json().as_bytes()).unwrap();
    assert_eq!(again, floors);
    let intel = FloorKey::new(
        &TrustAnchors::intel(),
        attest::Fmspc::from_bytes(base.platform.fmspc),
        Channel::Standard,
    );
    assert_eq!(floors.get(&intel), Floor::default());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
