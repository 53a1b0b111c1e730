//! Two recorded reports of a real backend, with Intel's answers of that moment.
//!
//! The recordings are not part of the project: `VERIFIED_PROXY_CAPTURES` names
//! the folder. Where it must be set, `VERIFIED_PROXY_CAPTURES_REQUIRED` is too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attest::{
    Appraisal, Appraise, CheckId, Collateral, Context, Evidence, Expected, Nonce, Policy, Spki,
    Status, Subject, TagsCheck, TrustAnchors, UnixTime, UpstreamTags, appraise,
};

/// A recorded attestation; everything that an appraisal needs.
pub(crate) struct Recording {
    pub(crate) report: Vec<u8>,
    pub(crate) nonce: Nonce,
    pub(crate) spki: Spki,
    pub(crate) collateral: Vec<u8>,
    pub(crate) at: UnixTime,
}

/// The recordings, or none with a word about it.
pub(crate) fn recordings() -> Vec<Recording> {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_CAPTURES").map(PathBuf::from) else {
        assert!(
            std::env::var_os("VERIFIED_PROXY_CAPTURES_REQUIRED").is_none(),
            "VERIFIED_PROXY_CAPTURES is not set"
        );
        eprintln!("skipped: VERIFIED_PROXY_CAPTURES is not set");
        return Vec::new();
    };
    ["20260424", "20260610"]
        .iter()
        .map(|day| {
            let read = |name: &str| std::fs::read(folder.join(day).join(name)).expect(name);
            let text = |name: &str| String::from_utf8(read(name)).unwrap().trim().to_owned();
            let report = read("attestation_report.json");
            let json: serde_json::Value = serde_json::from_slice(&report).unwrap();
            Recording {
                spki: json["tls_cert_fingerprint"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap(),
                nonce: text("nonce.hex").parse().unwrap(),
                collateral: read("collateral.json"),
                at: UnixTime(text("verify_at_unix").parse().unwrap()),
                report,
            }
        })
        .collect()
}

/// Policy `near` with the least edition of the recording's own time.
pub(crate) fn near_at(recording: &Recording) -> Policy {
    near_with(recording, "")
}

fn near_with(recording: &Recording, more: &str) -> Policy {
    let edition = edition_at(recording);
    Policy::from_toml(&format!(
        "name = \"near then\"\nextends = \"near\"\ndate = \"2026-06-10\"\ntcb.min_evaluation_number = {edition}\n{more}"
    ))
    .unwrap()
}

/// Intel's standard edition at the time of a recording: 18 until May 2026.
pub(crate) fn edition_at(recording: &Recording) -> u32 {
    if recording.at < UnixTime::from_rfc3339("2026-05-20T00:00:00Z").unwrap() {
        18
    } else {
        19
    }
}

pub(crate) fn judge(recording: &Recording, policy: &Policy, at: UnixTime) -> Appraisal {
    judge_by(recording, policy, at, TagsCheck::NotFetched("a recording"))
}

fn judge_by(
    recording: &Recording,
    policy: &Policy,
    at: UnixTime,
    tags: TagsCheck<'_>,
) -> Appraisal {
    let evidence = Evidence::parse(&recording.report).unwrap();
    let collateral = Collateral::from_json(&recording.collateral).unwrap();
    appraise(&Appraise {
        evidence: &evidence,
        subject: &Subject {
            domain: Expected::Known("qwen35-122b.completions.near.ai".parse().unwrap()),
            models: Expected::Known(vec!["Qwen/Qwen3.5-122B-A10B".to_owned()]),
        },
        live_spki: recording.spki,
        nonce: recording.nonce,
        collateral: &collateral,
        policy,
        trust_anchors: &TrustAnchors::intel(),
        context: Context {
            tags,
            ..Context::none("a recording")
        },
        now: at,
    })
}

/// A list of annotated tags, each about the commit that a recorded log has for it: what
/// a repository says that the log does not contradict.
fn own_tags(recording: &Recording) -> String {
    let report: serde_json::Value = serde_json::from_slice(&recording.report).unwrap();
    let actions = report["compose_manager_attestation"]["actions"].as_array();
    let releases: BTreeMap<_, _> = actions
        .unwrap()
        .iter()
        .filter_map(|action| Some((action["tag"].as_str()?, action["commit"].as_str()?)))
        .collect();
    let annotation = "0123".repeat(10);
    releases
        .iter()
        .map(|(tag, commit)| {
            format!("{annotation}\trefs/tags/{tag}\n{commit}\trefs/tags/{tag}^{{}}\n")
        })
        .collect()
}

#[test]
fn their_releases_are_compared_with_their_repository() {
    for recording in recordings() {
        let own = own_tags(&recording);
        let of = |list: &str| {
            let tags = UpstreamTags::from_ls_remote(list.as_bytes()).unwrap();
            let tags = TagsCheck::AtHand(&tags);
            let policy = near_with(&recording, "deployment.tags = \"releases\"\n");
            judge_by(&recording, &policy, recording.at, tags)
        };
        let report = of(&own).report;
        let check = report.check(CheckId::DeploymentTags).unwrap();
        assert_eq!(check.status, Status::Pass, "{}", check.detail);
        // Without what they are about, and without the last one.
        let lines = own.split_inclusive('\n');
        let plain: String = lines.filter(|line| !line.ends_with("^{}\n")).collect();
        let (fewer, _) = own.trim_end().rsplit_once('\n').unwrap();
        let (fewer, _) = fewer.rsplit_once('\n').unwrap();
        for (list, code) in [
            (plain.as_str(), "rejected_deployment_tag_moved"),
            (fewer, "rejected_deployment_tag_unknown"),
        ] {
            assert_eq!(of(list).outcome.unwrap_err().code(), code);
        }
    }
}

#[test]
fn both_verify_under_both_policies_at_their_own_time() {
    for recording in recordings() {
        for policy in [near_at(&recording), Policy::hardware()] {
            let appraisal = judge(&recording, &policy, recording.at);
            assert_eq!(appraisal.report.rejected, None, "{:#?}", appraisal.report);
            let attested = appraisal.outcome.unwrap();
            assert_eq!(attested.spki(), recording.spki);
            assert_eq!(attested.policy(), policy.digest());
            assert!(attested.valid_until() > recording.at);
        }
        let plain = judge(&recording, &Policy::near(), recording.at);
        match plain.outcome {
            Ok(attested) => assert_eq!(attested.policy(), near_at(&recording).digest()),
            Err(rejected) => {
                assert_eq!(rejected.code(), "rejected_tcb_evaluation");
                assert_eq!(edition_at(&recording), 18);
            }
        }
        let report = judge(&recording, &near_at(&recording), recording.at).report;
        // The manager's first action follows the boot within the hour.
        let booted = report.facts.iter().find(|fact| fact.name == "booted");
        let (booted, _) = booted.unwrap().value.split_once(',').unwrap();
        let first = report.deployment.as_ref().unwrap().first.as_deref();
        let seconds = |time: &str| {
            let time = UnixTime::from_rfc3339(time).unwrap();
            time.0
        };
        let since = seconds(first.unwrap()).checked_sub(seconds(booted));
        assert!(since.is_some_and(|since| since < 3600), "{since:?}");
        // In April nobody had signed the key for OHTTP.
        let ohttp = report.check(CheckId::OhttpKey).unwrap().status;
        assert_eq!(ohttp == Status::Pass, recording.at.0 > 1_780_000_000);
        let not_proved: Vec<_> = report
            .checks
            .iter()
            .filter(|check| check.status != Status::Pass && check.id != CheckId::OhttpKey)
            .map(|check| check.id)
            .collect();
        assert_eq!(
            not_proved,
            [
                CheckId::CollateralFloor,
                CheckId::Pins,
                CheckId::DeploymentTags,
                CheckId::DeploymentFiles,
                CheckId::DeploymentContinuity,
                CheckId::Findings,
                CheckId::LastSeen,
                CheckId::GpuMeasurements,
                CheckId::Nras,
                CheckId::CaChain,
            ]
        );
    }
}

/// What "near-strict" refuses of them: known weaknesses of the image, of which "near"
/// tells.
#[test]
fn open_advisories_of_their_image_refuse_under_near_strict_alone() {
    let strict = "name = \"strict\"\nextends = \"near\"\ndate = \"2026-11-30\"\ntcb.min_evaluation_number = 18\nfindings.refuse = [\"image_advisory=danger\"]\n";
    let strict = Policy::from_toml(strict).unwrap();
    let rules = Policy::near_strict().to_toml();
    assert!(
        rules.contains("refuse = [\"image_advisory=danger\"]"),
        "{rules}"
    );
    for recording in recordings() {
        let rejected = judge(&recording, &strict, recording.at)
            .outcome
            .unwrap_err();
        assert_eq!(rejected.code(), "rejected_finding");
        assert!(
            rejected.to_string().contains("dstack 1255 and 1447"),
            "{rejected}"
        );
        let report = judge(&recording, &near_at(&recording), recording.at).report;
        let of_image = report.findings.iter();
        let of_image = of_image.filter(|finding| finding.topic == "image_advisory");
        assert_eq!(of_image.count(), 7);
    }
}

#[test]
fn outside_the_collaterals_validity_they_are_refused_as_such() {
    for recording in recordings() {
        for (at, code) in [
            (
                recording.at.plus(31 * 86_400),
                "rejected_collateral_expired",
            ),
            (
                recording.at.plus(10 * 365 * 86_400),
                "rejected_collateral_expired",
            ),
            (
                UnixTime(recording.at.0 - 31 * 86_400),
                "rejected_collateral_not_yet_valid",
            ),
            (UnixTime(0), "rejected_collateral_not_yet_valid"),
        ] {
            let rejected = judge(&recording, &near_at(&recording), at)
                .outcome
                .unwrap_err();
            assert_eq!(rejected.code(), code, "at {at}: {rejected}");
        }
    }
}
