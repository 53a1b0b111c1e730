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
    let changes: [Change; 29] = [
        ("twice the memory", |s| s.vm_config.memory_size = 2 << 40),
        ("8 GiB of memory", |s| s.vm_config.memory_size = 8 << 30),
        ("memory just at the PCI hole", |s| {
            s.vm_config.memory_size = 0xb000_0000
        }),
        ("memory just below the PCI hole", |s| {
            s.vm_config.memory_size = 0xb000_0000 - 4096
        }),
        ("another TDX module", |s| s.td.mr_seam = [0x42; 48]),
        ("a newer TDX module version", |s| s.td.tee_tcb_svn[0] += 1),
        ("another application description", |s| {
            s.app.compose = "{\"another\": 1}".to_owned()
        }),
        ("another instance", |s| s.app.instance_id = vec![0x42; 20]),
        ("another device", |s| s.app.device_id = [0x42; 32]),
        ("an ECDSA signing key", |s| s.signing = Signing::ecdsa()),
        ("a v5 quote of a TD 1.0", |s| {
            s.quote.format = QuoteFormat::TdxV5Td10
        }),
        ("a v5 quote of a TD 1.5", |s| {
            s.quote.format = QuoteFormat::TdxV5Td15
        }),
        ("SWHardeningNeeded", |s| {
            s.tcb_info
                .set_platform_status("SWHardeningNeeded", &["FAKE-SA-00001"]);
        }),
        ("V2 digests", |s| s.digest_form = DigestForm::V2),
        ("the event log as a string", |s| {
            s.event_log_as_string = true
        }),
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
        (
            "a platform that is not dynamic, without SMT and cached keys",
            |s| {
                s.platform.dynamic_platform = false;
                s.platform.cached_keys = false;
                s.platform.smt_enabled = false;
            },
        ),
        ("another platform", |s| s.platform.ppid = [0x42; 16]),
        ("no padding behind the quote", |s| s.quote.trailing.clear()),
        ("unknown fields", |s| {
            s.hooks
                .report
                .push(|report| report["new_field"] = serde_json::json!({"a": [1, {"b": null}]}));
        }),
        ("0x before what the report repeats", |s| {
            s.hooks.report.push(|report| {
                for field in ["app_id", "instance_id", "os_image_hash", "compose_hash"] {
                    let text = report["info"][field].as_str().unwrap();
                    report["info"][field] = format!("0x{text}").into();
                }
            });
        }),
        ("empty copies of what is measured", |s| {
            for field in [
                "/info/app_id",
                "/info/instance_id",
                "/info/os_image_hash",
                "/info/key_provider_info",
            ] {
                super::tampering::set(s, field, serde_json::json!(""));
            }
        }),
        ("no other copies of the report", |s| {
            super::tampering::remove(s, "/all_attestations")
        }),
        (
            "a foreign PCK chain in the collateral, which is left out",
            |s| {
                s.hooks
                    .collateral
                    .push(|c| c.pck_certificate_chain = Some("no certificate".to_owned()));
            },
        ),
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
        assert_eq!(
            code(&appraisal),
            "verified",
            "{what}: {:?}",
            appraisal.report.rejected
        );
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
        issuers: &attest::IssuerCache::new(),
        logs: attest::LogCheck::NotKept("a test"),
        files: attest::FilesCheck::NotFetched("a test"),
        nras: attest::NrasCheck::NotAsked("a test"),
        now: attest::UnixTime(crate::support::NOW),
    });
    assert_eq!(code(&appraisal), "verified");
}

fn extended(more: &str) -> Policy {
    let text = format!("{}{more}", spec().policy_toml());
    Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn judge_under(spec: &Spec, policy: &Policy) -> Appraisal {
    judge_with(
        &spec.forge(&challenge()).unwrap(),
        policy,
        FloorCheck::NotKept("a test"),
    )
}

#[test]
fn out_of_date_passes_only_with_every_advisory_accepted() {
    let mut spec = spec();
    spec.tcb_info
        .set_platform_status("OutOfDate", &["INTEL-SA-00001", "INTEL-SA-00002"]);
    for (rule, expected) in [
        ("OutOfDate:INTEL-SA-00001,INTEL-SA-00002", "verified"),
        (
            "OutOfDate:INTEL-SA-00002,INTEL-SA-00003,INTEL-SA-00001",
            "verified",
        ),
        ("OutOfDate:INTEL-SA-00001", "rejected_tcb_platform"),
        ("OutOfDate:", "rejected_tcb_platform"),
        (
            "ConfigurationNeeded:INTEL-SA-00001,INTEL-SA-00002",
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
        .accepting("OutOfDate:INTEL-SA-00001".parse().unwrap())
        .accepting("OutOfDate:INTEL-SA-00002".parse().unwrap());
    assert_eq!(code(&judge_under(&spec, &halves)), "rejected_tcb_platform");
}

#[test]
fn the_hinted_policy_line_accepts_what_was_refused() {
    let changes: [Change; 9] = [
        ("rejected_os_image", |s| s.td.mr_td = [7; 48]),
        ("rejected_firmware", |s| s.boot.cfv = [7; 48]),
        ("rejected_acpi", |s| s.boot.acpi_tables = [7; 48]),
        ("rejected_app_id", |s| s.app.app_id = vec![7; 20]),
        ("rejected_kms_root", |s| {
            s.kms = fake_tee::Kms::other().unwrap()
        }),
        ("rejected_td_attributes", |s| s.td.td_attributes[3] |= 0x40),
        ("rejected_xfam", |s| s.td.xfam[2] ^= 1),
        ("rejected_tcb_qe", |s| {
            s.qe_identity.set_status("OutOfDate", &["INTEL-SA-00008"]);
        }),
        ("rejected_tcb_module", |s| {
            s.tcb_info
                .set_module_status("OutOfDate", &["INTEL-SA-00009"])
        }),
    ];
    for (expected, change) in changes {
        let mut spec = spec();
        change(&mut spec);
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
        let mut spec = spec();
        change(&mut spec);
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
    spec.boot.acpi_tables = [7; 48];
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
    super::tampering::remove(&mut spec, "/info/app_cert");
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
    spec.boot.acpi_tables = [7; 48];
    let appraisal = judge_under(&spec, &extended("acpi = \"report\"\n"));
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
    assert_eq!(lines.len(), 6, "{seen}");
    for line in lines.iter().map(|line| format!("pins.{line}")).chain([
        format!("pins.mr_kms = [\"{}\"]", hex(&spec.app.mr_kms[0])),
        format!("pins.device_ids = [\"{}\"]", hex(&spec.app.device_id)),
    ]) {
        let judged = judge_under(&spec, &extended(&line));
        assert_eq!(code(&judged), "verified", "{line}");
        let status = judged.report.check(attest::CheckId::Pins).unwrap().status;
        let unmeasured = line.starts_with("pins.device_ids");
        assert_eq!(status == attest::Status::NotProved, unmeasured, "{line}");
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
    let pinned = extended(&format!("pins.mr_kms = [\"{}\"]", hex(&spec.app.mr_kms[0])));
    assert_eq!(code(&judge_under(&without, &pinned)), "rejected_pin");
}

#[test]
fn a_report_names_the_pins_that_somebody_measures() {
    let spec = spec();
    let pins = |policy: &Policy| {
        let report = judge_under(&spec, policy).report;
        let check = report.check(attest::CheckId::Pins).unwrap();
        (check.status, check.detail.clone())
    };
    let device = format!("pins.device_ids = [\"{}\"]\n", hex(&spec.app.device_id));
    let kms = format!("pins.mr_kms = [\"{}\"]\n", hex(&spec.app.mr_kms[0]));
    let (status, detail) = pins(policy());
    assert_eq!(status, attest::Status::NotProved);
    assert_eq!(detail, "the policy pins none");
    let (status, detail) = pins(&extended(&device));
    assert_eq!(status, attest::Status::NotProved);
    assert!(detail.contains("nobody measures it"), "{detail}");
    let (status, detail) = pins(&extended(&format!("{device}{kms}")));
    assert_eq!((status, detail.as_str()), (attest::Status::Pass, "mr_kms"));
}

#[test]
fn the_evaluation_number_has_a_minimum() {
    let spec = spec();
    let number = spec.tcb_info.tcb_evaluation_data_number;
    let at = |number: u32| extended(&format!("tcb.min_evaluation_number = {number}\n"));
    assert_eq!(code(&judge_under(&spec, &at(number))), "verified");
    assert_eq!(
        code(&judge_under(&spec, &at(number + 1))),
        "rejected_tcb_evaluation"
    );
}

fn kept(floors: &Floors, spec: &Spec) -> Appraisal {
    let floor = FloorCheck::Kept {
        floors,
        channel: Channel::Standard,
    };
    judge_with(&spec.forge(&challenge()).unwrap(), policy(), floor)
}

#[test]
fn collateral_never_goes_back() {
    const DAY: u64 = 86_400;
    let base = spec();
    let mut floors = Floors::default();
    let first = kept(&floors, &base);
    assert_eq!(code(&first), "verified");
    let seen = first.floor_seen.unwrap();
    assert!(floors.raise(&seen), "the first sight raises the floor");
    assert!(!floors.raise(&seen), "the second sight does not");
    assert_eq!(code(&kept(&floors, &base)), "verified");

    let lower: [Change; 4] = [
        ("TCB info", |s| s.tcb_info.tcb_evaluation_data_number -= 1),
        ("QE identity", |s| {
            s.qe_identity.tcb_evaluation_data_number -= 1
        }),
        ("PCK CRL", |s| s.crls.pck.this_update -= 7 * DAY + 1),
        ("root CRL", |s| s.crls.root.this_update -= 7 * DAY + 1),
    ];
    for (what, change) in lower {
        let mut spec = spec();
        change(&mut spec);
        assert_eq!(
            code(&kept(&floors, &spec)),
            "rejected_collateral_rollback",
            "{what}"
        );
        // Another channel, another root: other floors.
        let early = FloorCheck::Kept {
            floors: &floors,
            channel: Channel::Early,
        };
        let built = spec.forge(&challenge()).unwrap();
        assert_eq!(
            code(&judge_with(&built, policy(), early)),
            "verified",
            "{what}"
        );
    }
    // Mirrors may lag behind by a week.
    let mut spec = spec();
    spec.crls.pck.this_update -= 7 * DAY;
    spec.crls.root.this_update -= 7 * DAY;
    assert_eq!(code(&kept(&floors, &spec)), "verified");

    let early = FloorCheck::Kept {
        floors: &Floors::default(),
        channel: Channel::Early,
    };
    let built = base.forge(&challenge()).unwrap();
    let seen = judge_with(&built, policy(), early).floor_seen.unwrap();
    assert!(floors.raise(&seen), "another channel, another floor");
    let again = Floors::from_json(floors.to_json().as_bytes()).unwrap();
    assert_eq!(again, floors);
    let intel = FloorKey::new(
        &TrustAnchors::intel(),
        attest::Fmspc::from_bytes(base.platform.fmspc),
        Channel::Standard,
    );
    assert_eq!(floors.get(&intel), Floor::default());
}

/// The edition that refuses a platform is the one that must not be forgotten.
#[test]
fn an_edition_that_refuses_counts_as_seen() {
    const DAY: u64 = 86_400;
    let changes: [Change; 4] = [
        ("rejected_tcb_platform", |s| {
            s.tcb_info.tcb_evaluation_data_number += 1;
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-00001"]);
        }),
        ("rejected_tcb_platform", |s| {
            s.tcb_info.tcb_evaluation_data_number += 1;
            s.tcb_info.set_platform_status("Revoked", &[]);
        }),
        ("rejected_certificate_revoked", |s| {
            s.crls.pck.revoked.push(s.certs.pck.serial.clone());
        }),
        ("rejected_certificate_revoked", |s| {
            s.crls.root.revoked.push(s.certs.platform_ca.serial.clone());
        }),
    ];
    for (expected, change) in changes {
        let mut older = spec();
        older.crls.pck.this_update -= 8 * DAY;
        older.crls.root.this_update -= 8 * DAY;
        let mut newer = spec();
        change(&mut newer);
        let mut floors = Floors::default();
        let before = kept(&floors, &older);
        assert_eq!(code(&before), "verified");
        floors.raise(&before.floor_seen.unwrap());
        let refused = kept(&floors, &newer);
        assert_eq!(code(&refused), expected);
        floors.raise(&refused.floor_seen.unwrap());
        assert_eq!(
            code(&kept(&floors, &older)),
            "rejected_collateral_rollback",
            "{expected}"
        );
    }
}

#[test]
fn what_nobody_signed_raises_no_floor() {
    let changes: [Change; 3] = [
        ("TCB info", |s| {
            s.tcb_info.tcb_evaluation_data_number = 4000;
            s.signers.tcb_info = fake_tee::Signer::Stranger;
        }),
        ("PCK CRL", |s| {
            s.crls.pck.this_update += 60;
            s.signers.pck_crl = fake_tee::Signer::Stranger;
        }),
        ("another root", |s| s.pki = fake_tee::Pki::other().unwrap()),
    ];
    for (what, change) in changes {
        let mut spec = spec();
        change(&mut spec);
        let refused = kept(&Floors::default(), &spec);
        assert_eq!(code(&refused), "rejected_collateral_untrusted", "{what}");
        assert_eq!(refused.floor_seen, None, "{what}");
    }
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
        .replace(&hex(&spec.app.app_id), &"07".repeat(20))
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
            "tcb.accept_advisories = [{{ {component}status = \"OutOfDate\", advisories = [\"INTEL-SA-00001\"] }}]\n"
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
    let none = policy().clone().accepting("OutOfDate:".parse().unwrap());
    assert_eq!(code(&judge_under(&platform, &none)), "verified");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
