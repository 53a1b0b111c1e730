//! The written line in the file of a policy.

use super::*;

/// A list of tables can be written in several ways, and people mix them.
#[test]
fn the_line_fits_however_the_file_is_written() {
    let spec = spec_with(|s| {
        s.tcb_info
            .set_platform_status("OutOfDate", &["INTEL-SA-01036"]);
    });
    let other = "status = \"OutOfDate\", advisories = [\"INTEL-SA-00001\"], exception = { until = \"2027-01-01\", reason = \"x\", by = \"y\" }";
    let block = other
        .replace(", advisories", "\nadvisories")
        .replace(", exception", "\nexception");
    let base = policy_text("");
    for more in [
        "# no end of line".to_owned(),
        "tcb.min_evaluation_number = 3\n".to_owned(),
        "[tcb]\nmin_evaluation_number = 3\n[gpu]\ncount = 8\n".to_owned(),
        "tcb = { min_evaluation_number = 3 }\n".to_owned(),
        format!("tcb.accept_advisories = [{{ {other} }}] # why\n"),
        format!(
            "tcb.accept_advisories = [ # why\n  {{ {other} }},\n  # and\n]\n[gpu]\ncount = 8\n"
        ),
        format!("tcb = {{ accept_advisories = [{{ {other} }}] }}\n"),
        "tcb.accept_advisories = []\n".to_owned(),
        format!("[tcb]\naccept_advisories = [{{ {other} }}]\n"),
        format!("[[tcb.accept_advisories]]\n{block}\n[gpu]\ncount = 8\n"),
    ] {
        let policy = format!("{base}{more}");
        match accept_with(&spec, &policy, &terms(), &known(&spec)) {
            Ok(accepted) => {
                assert_eq!(verdict(&spec, &accepted.text, NOW), "verified");
                // Nothing is gone, and nothing stands elsewhere.
                let mut rest = accepted.text.lines();
                for line in policy.lines() {
                    let line = line.trim().trim_start_matches("tcb.accept_advisories = [");
                    let line = line.trim_start_matches("accept_advisories = [");
                    let line = line.split("accept_advisories = [").last().unwrap().trim();
                    assert!(
                        rest.any(|own| own.contains(line)),
                        "{line}\n{}",
                        accepted.text
                    );
                }
            }
            // An inline table is closed: a person has to open it.
            Err(why) => {
                assert!(more.starts_with("tcb = { min"), "{more}: {why}");
                assert!(
                    why.instead
                        .contains("The line is: tcb.accept_advisories = [{"),
                    "{why}"
                );
            }
        }
    }
    // A level that the file itself asks for is not lowered behind its author's back.
    let strict = format!("{base}least.hardware = \"current\"\n");
    let why = refused(&spec, &strict);
    assert!(
        why.why
            .contains("least.hardware = \"current\" refuses what"),
        "{why}"
    );
}

/// What a row accepts has to be refused without it, and to be of its rule.
#[test]
fn a_row_without_effect_is_refused_when_loaded() {
    let pin = format!("pins.mrseam = [\"{}\"]\n", "ab".repeat(48));
    let row = |rule: &str, value: &str| {
        format!(
            "accepted = [{{ rule = \"{rule}\", value = \"{value}\", exception = {{ until = \"2027-01-01\", reason = \"x\", by = \"y\" }} }}]\n"
        )
    };
    for (more, why) in [
        (row("pins.mrseam", &"ab".repeat(48)), "has no such rule"),
        (
            pin.clone() + &row("pins.mrseam", &"ab".repeat(48)),
            "admits this value already",
        ),
        (
            pin.clone() + &row("pins.mrseam", &"AC".repeat(48)),
            "lower case",
        ),
        (
            pin.clone() + &row("pins.mrseam", "ab"),
            "expected 48 bytes in hex",
        ),
        (pin.clone() + &row("pins.mrseem", "ab"), "unknown variant"),
        (
            pin + &row("pins.mr_kms", &"ab".repeat(32)),
            "unknown variant",
        ),
        (
            row("findings.refuse", "app_script: x"),
            "does not refuse this finding",
        ),
        (
            row("gpu.measurements", "NV_GPU_DRIVER_X"),
            "no table of this kind",
        ),
        (
            format!("{}\n{}", tables(), row("gpu.measurements", "X")),
            "expected an id that begins",
        ),
        (
            format!(
                "{}\n{}",
                tables(),
                row("gpu.measurements", "NV_GPU_DRIVER_GH100_1.2.3")
            ),
            "has a table for this version",
        ),
        (
            row("deployment.images", &format!("sha256:{}", "0".repeat(64))),
            "has no such rule",
        ),
    ] {
        let error = Policy::from_toml(&policy_text(&more))
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}
