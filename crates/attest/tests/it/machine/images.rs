//! Rows of images: forms of their registers, and decisions with a day.

use attest::{Policy, Severity};
use fake_tee::Spec;

use super::judge_under;
use crate::support::{NOW, code, policy_text, spec_with};

const OTHER_FORM: [u8; 48] = [8; 48];

/// The policy's row of the fake image with further members.
fn with_row(more: &str) -> String {
    let text = policy_text("");
    let (before, after) = text.split_once("rtmr1 = ").unwrap();
    format!("{before}{more}, rtmr1 = {after}")
}

fn judge(spec: &Spec, more: &str) -> attest::Appraisal {
    let policy = Policy::from_toml(&with_row(more)).unwrap();
    crate::support::judge_with_tags(spec, &policy)
}

fn on(version: &str, mr_td: Option<[u8; 48]>) -> Spec {
    spec_with(|s| {
        s.vm_config.qemu_version = version.to_owned();
        s.td.mr_td = mr_td.unwrap_or(s.td.mr_td);
    })
}

/// QEMU's version decides the form of MRTD together with the tables.
#[test]
fn each_version_measures_its_own_form() {
    let two_pass = format!("mrtd_two_pass = \"{}\"", hex::encode(OTHER_FORM));
    for (version, form, expected) in [
        ("9.2.1", None, "verified"),
        ("8.2.2", Some(OTHER_FORM), "verified"),
        ("9.2.1", Some(OTHER_FORM), "rejected_qemu_version"),
        ("8.2.2", None, "rejected_qemu_version"),
        ("9.2.1", Some([9; 48]), "rejected_os_image"),
    ] {
        let appraisal = judge(&on(version, form), &two_pass);
        assert_eq!(code(&appraisal), expected, "{version}");
    }
    // A row with one form only does not say which it is.
    assert_eq!(code(&judge_under(&on("8.2.2", None), "")), "verified");
}

/// The kernel's header, which QEMU rewrites up to 10.1.
#[test]
fn a_kernel_has_two_forms() {
    let other = spec_with(|s| s.boot.kernel = [8; 48]);
    let unpatched = fake_tee::event_log::replay(&other.events())[1];
    let row = format!("rtmr1_unpatched = \"{}\"", hex::encode(unpatched));
    for (version, kernel, expected) in [
        ("10.1.0", None, "verified"),
        ("10.2.0", Some([8; 48]), "verified"),
        ("10.2.0", None, "rejected_qemu_version"),
        ("10.1.0", Some([8; 48]), "rejected_qemu_version"),
        ("11.1.0", Some([8; 48]), "verified"),
    ] {
        let spec = spec_with(|s| {
            s.vm_config.qemu_version = version.to_owned();
            s.boot.kernel = kernel.unwrap_or(s.boot.kernel);
        });
        assert_eq!(code(&judge(&spec, &row)), expected, "{version}");
    }
}

/// 2026-11-22 is the day of the tests.
#[test]
fn a_row_is_warned_of_and_then_refused() {
    let spec = spec_with(|_| {});
    let warned = |appraisal: &attest::Appraisal| {
        let mut findings = appraisal.report.findings.iter();
        let found = findings.find(|finding| finding.topic == "image_to_be_replaced");
        found.map(|finding| (finding.severity, finding.detail.clone()))
    };
    let later = judge(
        &spec,
        r#"warn_from = "2026-11-23", refuse_from = "2026-12-01""#,
    );
    assert_eq!((code(&later), warned(&later)), ("verified", None));
    let now = judge(
        &spec,
        r#"warn_from = "2026-11-22", refuse_from = "2026-11-23""#,
    );
    assert_eq!(code(&now), "verified");
    let said = "the policy warns of fake image since 2026-11-22, and refuses it from 2026-11-23 on";
    assert_eq!(warned(&now), Some((Severity::Warning, said.to_owned())));
    let until = now.outcome.unwrap().valid_until();
    assert_eq!(until.0, NOW + 12 * 3600, "the verdict ends with the row");
    let over = judge(&spec, r#"refuse_from = "2026-11-22""#);
    assert_eq!(code(&over), "rejected_os_image_withdrawn");
    for (row, error) in [
        (
            r#"warn_from = "2026-12-01", refuse_from = "2026-12-01""#,
            "is not before refuse_from",
        ),
        (r#"refuse_from = "soon""#, "expected a day such as"),
    ] {
        let refused = Policy::from_toml(&with_row(row)).unwrap_err().to_string();
        assert!(refused.contains(error), "{refused}");
    }
}
