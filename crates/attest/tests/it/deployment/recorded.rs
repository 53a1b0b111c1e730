//! The logs of two recorded reports.

use attest::{
    AppraiseDeployment, CanonicalForm, Collateral, Continuity, Deployment, DeploymentRejected,
    Evidence, Nonce, Service, TrustAnchors, UnixTime, appraise_deployment,
};

use crate::recordings::{Recording, judge, near_at, recordings};

fn deployment(
    recording: &Recording,
    nonce: Nonce,
    now: UnixTime,
) -> Result<Deployment, DeploymentRejected> {
    let appraisal = judge(recording, &near_at(recording), recording.at);
    appraise_deployment(&AppraiseDeployment {
        evidence: &Evidence::parse(&recording.report).unwrap(),
        quote: appraisal.verified_quote().unwrap(),
        nonce,
        collateral: &Collateral::from_json(&recording.collateral).unwrap(),
        trust_anchors: &TrustAnchors::intel(),
        now,
    })
}

fn time(text: &str) -> UnixTime {
    UnixTime::from_rfc3339(text).unwrap()
}

/// Service, tag, commit and time of each that is up; the rest of a file is "*".
fn up(deployment: &Deployment) -> Vec<(String, String, String, UnixTime)> {
    deployment
        .up()
        .into_iter()
        .map(|up| {
            assert_eq!(up.source.file, "Qwen3.5-122B.yaml");
            let service = match up.service {
                Service::Named(name) => name,
                Service::Rest { except } => format!("* but {}", except.join(" ")),
            };
            (
                service,
                up.source.tag.clone(),
                up.source.commit.to_string(),
                up.since,
            )
        })
        .collect()
}

fn line(service: &str, tag: &str, commit: &str, since: &str) -> (String, String, String, UnixTime) {
    (
        service.to_owned(),
        tag.to_owned(),
        commit.to_owned(),
        time(since),
    )
}

#[test]
fn both_pass_at_their_own_time_with_their_own_services() {
    let recordings = recordings();
    let [april, june] = recordings.as_slice() else {
        return;
    };
    let log = deployment(april, april.nonce, april.at).unwrap();
    assert_eq!(log.form(), CanonicalForm::DeclaredOrder);
    assert_eq!(log.actions(), 26);
    assert_eq!(log.first(), Some(time("2026-03-12T11:39:24Z")));
    assert_eq!(log.last(), Some(time("2026-04-19T20:41:30Z")));
    assert_eq!(log.manager(), None);
    // The start of vllm-proxy-qwen35-122b failed, since its file does not define
    // it; the log alone cannot say so.
    assert_eq!(
        up(&log),
        [
            line(
                "model-proxy-registrar",
                "v0.0.109",
                "d5414f0701a36bbac579ce9cb9e7a990fc54284b",
                "2026-04-14T16:27:50Z"
            ),
            line(
                "nginx",
                "v0.0.118",
                "c6d19d36d7db41e87447058d665c7fd00fe50455",
                "2026-04-19T20:41:30Z"
            ),
            line(
                "vllm-proxy-qwen35",
                "v0.0.118",
                "c6d19d36d7db41e87447058d665c7fd00fe50455",
                "2026-04-19T20:41:30Z"
            ),
            line(
                "vllm-proxy-qwen35-122b",
                "v0.0.115",
                "912c8a3dec3751671f7d04e44a225a88e02a9671",
                "2026-04-16T14:22:16Z"
            ),
            line(
                "* but model-proxy-registrar nginx vllm-proxy-qwen35 vllm-proxy-qwen35-122b",
                "v0.0.100",
                "fe0cf45d9ad913fcb5c452529d07748c16746347",
                "2026-04-13T07:04:24Z"
            ),
        ]
    );
    let rest = log.up().pop().unwrap();
    assert_eq!(
        rest.source.sha256.to_string(),
        "4d7ac300cbe5f53b26f7f9587bff3cc4353011a631c169b67075ff41fbac12fe"
    );

    let log = deployment(june, june.nonce, june.at).unwrap();
    assert_eq!(log.form(), CanonicalForm::DeclaredOrder);
    assert_eq!(log.actions(), 26);
    assert_eq!(log.first(), Some(time("2026-06-04T08:54:25Z")));
    assert_eq!(log.last(), Some(time("2026-06-08T12:56:47Z")));
    let manager = log.manager().unwrap();
    assert_eq!(
        manager.image,
        "nearaidev/compose-manager@sha256:80bd17cc1dc6064047cbeba43430e6c3f5bc23c8fa5c5115b6affbbe063dab4e"
    );
    assert_eq!(manager.since, time("2026-06-08T12:46:33Z"));
    assert_eq!(
        up(&log),
        [
            line(
                "model-proxy-registrar",
                "v0.0.214",
                "8cb87c4f865bc7945ea3dd7286392c4b6f96b0d5",
                "2026-06-08T12:56:22Z"
            ),
            line(
                "proxy-qwen35",
                "v0.0.214",
                "8cb87c4f865bc7945ea3dd7286392c4b6f96b0d5",
                "2026-06-08T12:56:22Z"
            ),
            line(
                "* but model-proxy-registrar proxy-qwen35",
                "v0.0.203",
                "cda28bbd92e08e7c37eaf5b75de0d20a90ad6d65",
                "2026-06-04T08:54:25Z"
            ),
        ]
    );
    let tags: Vec<_> = log.started().iter().map(|file| file.tag.clone()).collect();
    assert_eq!(
        tags,
        ["v0.0.203", "v0.0.208", "v0.0.211", "v0.0.213", "v0.0.214"]
    );
}

#[test]
fn the_log_was_lost_between_the_two() {
    let recordings = recordings();
    let [april, june] = recordings.as_slice() else {
        return;
    };
    let april = deployment(april, april.nonce, april.at).unwrap();
    let june = deployment(june, june.nonce, june.at).unwrap();
    assert_eq!(june.continuity(&april.seen()), Continuity::Reset);
    assert_eq!(june.continuity(&june.seen()), Continuity::Unchanged);
}

#[test]
fn neither_answers_another_nonce() {
    for recording in recordings() {
        let other = Nonce::from_bytes([7; 32]);
        let rejected = deployment(&recording, other, recording.at).unwrap_err();
        assert_eq!(rejected.code(), "rejected_deployment_nonce");
    }
}

#[test]
fn the_second_quote_is_judged_at_the_time_that_is_given() {
    for recording in recordings() {
        for (at, code) in [
            (
                recording.at.plus(31 * 86_400),
                "rejected_collateral_expired",
            ),
            (UnixTime(0), "rejected_collateral_not_yet_valid"),
        ] {
            match deployment(&recording, recording.nonce, at) {
                Err(DeploymentRejected::Quote { cause }) => assert_eq!(cause.code(), code),
                other => panic!("at {at}: {other:?}"),
            }
        }
    }
}

/// One log's quote proves nothing about another log, machine or request.
#[test]
fn a_recorded_quote_does_not_carry_over_to_the_other_recording() {
    let recordings = recordings();
    let [april, june] = recordings.as_slice() else {
        return;
    };
    let block = |recording: &Recording| {
        let json: serde_json::Value = serde_json::from_slice(&recording.report).unwrap();
        json["compose_manager_attestation"].clone()
    };
    let mut json: serde_json::Value = serde_json::from_slice(&june.report).unwrap();
    json["compose_manager_attestation"] = block(april);
    json["compose_manager_attestation"]["nonce"] = june.nonce.to_string().into();
    let tampered = Recording {
        report: serde_json::to_vec(&json).unwrap(),
        nonce: june.nonce,
        spki: june.spki,
        collateral: june.collateral.clone(),
        at: june.at,
    };
    let rejected = deployment(&tampered, june.nonce, june.at).unwrap_err();
    assert_eq!(
        rejected.code(),
        "rejected_deployment_report_data",
        "{rejected}"
    );
}
