//! NVIDIA's second opinion in an appraisal, as the policy weighs it.

use std::sync::Arc;

use attest::{
    Appraisal, Appraise, CheckId, Collateral, Context, Evidence, Fetch, GpuLevel, KeySet,
    NrasCheck, Policy, Status, Subject, TrustAnchors, UnixTime, appraise,
};
use fake_tee::nras::{NrasSpec, SigningKey};

use crate::nras;
use crate::recordings::{edition_at, recordings};
use crate::support::{Beside, NONCE, NOW, anchors, challenge, code, judge_beside, spec};

fn policy(mode: &str) -> Policy {
    Policy::from_toml(&format!("{}gpu.nras = \"{mode}\"\n", spec().policy_toml())).unwrap()
}

/// The valid machine, with what NVIDIA says of it after a change.
fn judge(mode: &str, change: fn(&mut NrasSpec)) -> Appraisal {
    let spec = spec();
    let payload = spec.gpus.as_ref().unwrap().forge(&NONCE).unwrap();
    let mut service = nras::spec();
    change(&mut service);
    let answer = service.answer(&payload).unwrap().to_string();
    let keys = KeySet::parse(service.key_set().unwrap().to_string().as_bytes()).unwrap();
    judge_by(
        mode,
        &payload,
        NrasCheck::Answer {
            answer: answer.as_bytes(),
            keys: &keys,
        },
    )
}

fn judge_by(mode: &str, payload: &str, nras: NrasCheck<'_>) -> Appraisal {
    let mut spec = spec();
    let payload = payload.to_owned();
    spec.hooks
        .report
        .push(move |report| report["nvidia_payload"] = payload.clone().into());
    let built = spec.forge(&challenge()).unwrap();
    let beside = Beside {
        nras,
        trust_anchors: anchors().with_nras(nras::anchors()),
        ..Beside::default()
    };
    judge_beside(&built, &policy(mode), beside)
}

fn line(appraisal: &Appraisal) -> (Status, &str) {
    let check = appraisal.report.check(CheckId::Nras).unwrap();
    (check.status, &check.detail)
}

#[test]
fn a_good_opinion_passes_and_bounds_the_verdict_where_it_is_required() {
    let off = judge("off", |_| ());
    assert_eq!(code(&off), "verified");
    assert_eq!(line(&off).0, Status::NotProved);
    assert!(line(&off).1.starts_with("not asked"), "{}", line(&off).1);
    for mode in ["report", "require"] {
        let appraisal = judge(mode, |_| ());
        assert_eq!(code(&appraisal), "verified", "{:?}", appraisal.report);
        assert_eq!(line(&appraisal).0, Status::Pass);
        let gpu_level = appraisal.gpu_level();
        let until = appraisal.outcome.unwrap().valid_until();
        // Tokens live for an hour, the rest for days.
        assert_eq!(until <= UnixTime(NOW + 3600), mode == "require");
        // What is only reported may end before the verdict does.
        let level = match mode {
            "require" => GpuLevel::Measured,
            _ => GpuLevel::Genuine,
        };
        assert_eq!(gpu_level, level);
    }
}

#[test]
fn a_bad_opinion_or_none_refuses_only_where_it_is_required() {
    let stranger: fn(&mut NrasSpec) = |service| {
        service.overall.claims.push(|claims| {
            claims["iss"] = "https://nras.example".into();
        });
    };
    let failed: fn(&mut NrasSpec) = |service| {
        service.overall.claims.push(|claims| {
            claims["x-nvidia-overall-att-result"] = false.into();
        });
    };
    for (change, expected) in [
        (stranger, "rejected_nras_issuer"),
        (failed, "rejected_nras_failed"),
    ] {
        assert_eq!(code(&judge("require", change)), expected);
        let reported = judge("report", change);
        assert_eq!(code(&reported), "verified");
        assert_eq!(line(&reported).0, Status::NotProved);
        assert!(line(&reported).1.ends_with("the policy only reports it"));
        assert_eq!(code(&judge("off", change)), "verified");
    }
    let payload = spec().gpus.unwrap().forge(&NONCE).unwrap();
    for none in [
        NrasCheck::Unavailable("it did not answer"),
        NrasCheck::NotAsked("offline"),
    ] {
        assert_eq!(
            code(&judge_by("require", &payload, none)),
            "nras_unavailable"
        );
        let reported = judge_by("report", &payload, none);
        assert_eq!(code(&reported), "verified");
        assert_eq!(line(&reported).0, Status::NotProved);
    }
}

#[test]
fn an_unknown_key_is_told_so_that_keys_are_fetched_once_more() {
    let payload = spec().gpus.unwrap().forge(&NONCE).unwrap();
    let answer = nras::spec().answer(&payload).unwrap().to_string();
    let mut other = nras::spec();
    other.key = Arc::new(SigningKey::generate("another").unwrap());
    let other = other.key_set().unwrap();
    let keys = KeySet::parse(other.to_string().as_bytes()).unwrap();
    for (mode, expected) in [
        ("require", "rejected_nras_unknown_key"),
        ("report", "verified"),
    ] {
        let check = NrasCheck::Answer {
            answer: answer.as_bytes(),
            keys: &keys,
        };
        let appraisal = judge_by(mode, &payload, check);
        assert_eq!(code(&appraisal), expected);
        assert_eq!(appraisal.next(Some(Fetch::Opinion)), Some(Fetch::Keys));
    }
    let known = judge("require", |_| ());
    assert_eq!(known.next(Some(Fetch::Opinion)), None);
}

/// As with the machine's log: five minutes.
#[test]
fn a_clock_two_minutes_behind_has_nvidias_opinion() {
    let ahead = |seconds: u64| {
        let payload = spec().gpus.unwrap().forge(&NONCE).unwrap();
        let mut service = nras::spec();
        service.now = NOW + seconds;
        let answer = service.answer(&payload).unwrap().to_string();
        let keys = service.key_set().unwrap().to_string();
        let check = NrasCheck::Answer {
            answer: answer.as_bytes(),
            keys: &KeySet::parse(keys.as_bytes()).unwrap(),
        };
        code(&judge_by("require", &payload, check))
    };
    for (seconds, expected) in [
        (120, "verified"),
        (300, "verified"),
        (301, "rejected_nras_time"),
    ] {
        assert_eq!(ahead(seconds), expected, "{seconds}");
    }
}

/// All of it at its own time: machine, deployment, GPUs, NVIDIA's opinion.
#[test]
fn both_recordings_verify_with_nvidias_opinion_required() {
    for (recording, day) in recordings().iter().zip(["20260424", "20260610"]) {
        let edition = edition_at(recording);
        let policy = Policy::from_toml(&format!(
            "name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\ngpu.nras = \"require\"\ntcb.min_evaluation_number = {edition}\n"
        ))
        .unwrap();
        let folder = std::env::var_os("VERIFIED_PROXY_CAPTURES").unwrap();
        let folder = std::path::PathBuf::from(folder).join(day);
        let answer = std::fs::read(folder.join("nras_response.json")).unwrap();
        let keys = std::fs::read(folder.join("nras_jwks.json")).unwrap();
        let appraisal = appraise(&Appraise {
            evidence: &Evidence::parse(&recording.report).unwrap(),
            subject: &Subject {
                domain: attest::Expected::NotChecked("a recording"),
                models: attest::Expected::NotChecked("a recording"),
            },
            live_spki: recording.spki,
            nonce: recording.nonce,
            collateral: &Collateral::from_json(&recording.collateral).unwrap(),
            policy: &policy,
            trust_anchors: &TrustAnchors::intel(),
            context: Context {
                nras: NrasCheck::Answer {
                    answer: &answer,
                    keys: &KeySet::parse(&keys).unwrap(),
                },
                ..Context::none("a recording")
            },
            now: recording.at,
        });
        assert_eq!(code(&appraisal), "verified", "{:?}", appraisal.report);
        for check in [
            CheckId::Deployment,
            CheckId::DeploymentRules,
            CheckId::Gpus,
            CheckId::GpuShape,
            CheckId::Nras,
        ] {
            let check = appraisal.report.check(check).unwrap();
            assert_eq!(check.status, Status::Pass, "{}", check.detail);
        }
        assert_eq!(appraisal.report.gpus.len(), 8);
        assert_eq!(appraisal.gpu_level(), GpuLevel::Measured);
        for (name, value) in [("gpus_signed", "8"), ("gpu_switches", "4")] {
            let mut facts = appraisal.report.facts.iter();
            let fact = facts.find(|fact| fact.name == name).unwrap();
            assert_eq!(fact.value, value);
        }
        assert!(appraisal.report.findings.len() > 10);
    }
}
