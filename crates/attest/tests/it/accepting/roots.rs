//! Other keys and applications: accepted only with a value from elsewhere.

use super::*;

#[test]
fn what_has_other_keys_is_accepted_only_by_a_value_from_elsewhere() {
    let root = spec_with(|spec| spec.kms = Kms::other().unwrap());
    let app = spec_with(|spec| spec.app.app_id = vec![7; 20]);
    for (spec, code, option) in [
        (&root, "rejected_kms_root", "--expect-root"),
        (&app, "rejected_app_id", "--expect-app-id"),
    ] {
        let policy = policy_text("");
        assert_eq!(verdict(spec, &policy, NOW), code);
        let why = refused(spec, &policy);
        assert_eq!(why.code, Some(code));
        assert!(why.why.contains("not accepted from evidence"), "{why}");
        assert!(why.instead.contains(option), "{why}");
    }
    let typed = |root: Option<String>, app: Option<String>| Terms {
        expect_root: root,
        expect_app_id: app,
        ..terms()
    };
    let key = root.kms.root_spki_hex();
    let id = "07".repeat(20);
    let mut other_key = key.clone();
    other_key.replace_range(181..182, if key.ends_with('0') { "1" } else { "0" });
    let run = |spec: &Spec, terms: Terms| accept_with(spec, &policy_text(""), &terms, &known(spec));
    let why = run(&root, typed(Some(other_key), None)).unwrap_err();
    assert!(
        why.why.contains("not what you were told to expect"),
        "{why}"
    );
    let why = run(&app, typed(None, Some("08".repeat(20)))).unwrap_err();
    assert!(
        why.why.contains("not what you were told to expect"),
        "{why}"
    );
    let why = run(&root, typed(Some(key.clone()), Some(id.clone()))).unwrap_err();
    assert!(
        why.why.contains("--expect-app-id is for rejected_app_id"),
        "{why}"
    );

    for (spec, terms, code) in [
        (
            &root,
            typed(Some(format!("0x{}", key.to_uppercase())), None),
            "rejected_kms_root",
        ),
        (&app, typed(None, Some(id.clone())), "rejected_app_id"),
    ] {
        let accepted = run(spec, terms).unwrap();
        assert_eq!(accepted.code, code);
        assert_eq!(verdict(spec, &accepted.text, NOW), "verified");
        let end = (NOW / DAY + 91) * DAY;
        let policy = Policy::from_toml(&accepted.text).unwrap();
        let outcome = judged(spec, &policy, NOW);
        let sentence = outcome.report.sentence().unwrap();
        let said = " key service (an identity that you accepted until 2027-02-20) accepted.";
        assert!(sentence.contains(said), "{sentence}");
        assert!(
            outcome
                .report
                .findings
                .iter()
                .any(|own| own.topic == "accepted_by_you")
        );
        assert!(outcome.outcome.unwrap().valid_until() <= UnixTime(end));
        // The row is of one root and one application together.
        let both = spec_with(|both| {
            both.kms = Kms::other().unwrap();
            both.app.app_id = vec![7; 20];
        });
        assert_ne!(verdict(&both, &accepted.text, NOW), "verified");
    }
    let both = spec_with(|both| {
        both.kms = root.kms.clone();
        both.app.app_id = vec![7; 20];
    });
    let why = run(&both, typed(Some(key), None)).unwrap_err();
    assert!(why.why.contains("more than one rule"), "{why}");
}

/// The new row ends with the root key that it rests on.
#[test]
fn an_accepted_application_revives_no_root() {
    let app = spec_with(|s| s.app.app_id = vec![7; 20]);
    let key = app.kms.root_spki_hex();
    let policy = policy_text("").replace(
        &format!("kms_root = \"{key}\""),
        &format!("kms_roots = [{{ key = \"{key}\", until = \"2026-11-30\" }}]"),
    );
    let typed = Terms {
        expect_app_id: Some("07".repeat(20)),
        ..terms()
    };
    let accepted = accept_with(&app, &policy, &typed, &known(&app)).unwrap();
    assert_eq!(verdict(&app, &accepted.text, NOW), "verified");
    let after = NOW + 9 * DAY;
    assert_eq!(verdict(&app, &accepted.text, after), "rejected_kms_root");
}
