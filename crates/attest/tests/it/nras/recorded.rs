//! Real answers about eight real GPUs, of two days.

use std::collections::BTreeMap;

use attest::{
    GpuAnchors, GpuReport, IssuerCache, KeySet, Nonce, NrasAnchors, NrasOpinion, NrasRejected,
    UnixTime, appraise_gpus, appraise_nras,
};
use serde_json::{Value, json};

use super::code;
use super::unsigned::claims;
use crate::recordings::recordings;

struct Recorded {
    answer: Value,
    answer_bytes: Vec<u8>,
    key_set: Vec<u8>,
    gpus: GpuReport,
    nonce: Nonce,
    at: UnixTime,
}

impl Recorded {
    fn judge(&self, answer: &[u8]) -> Result<NrasOpinion, NrasRejected> {
        self.judge_at(answer, self.nonce, self.at)
    }

    fn judge_at(
        &self,
        answer: &[u8],
        nonce: Nonce,
        at: UnixTime,
    ) -> Result<NrasOpinion, NrasRejected> {
        let keys = KeySet::parse(&self.key_set)?;
        appraise_nras(answer, &keys, &NrasAnchors::nvidia(), nonce, &self.gpus, at)
    }
}

/// April and June, or none with a word about it.
fn recorded() -> Vec<Recorded> {
    recordings()
        .into_iter()
        .zip(["20260424", "20260610"])
        .map(|(recording, day)| {
            let folder = std::env::var_os("VERIFIED_PROXY_CAPTURES").unwrap();
            let folder = std::path::PathBuf::from(folder).join(day);
            let read = |name: &str| std::fs::read(folder.join(name)).expect(name);
            let answer_bytes = read("nras_response.json");
            let payload = String::from_utf8(read("nvidia_payload.json")).unwrap();
            let gpus = appraise_gpus(
                &payload,
                recording.nonce,
                &GpuAnchors::nvidia(),
                recording.at,
                &IssuerCache::new(),
            );
            Recorded {
                answer: serde_json::from_slice(&answer_bytes).unwrap(),
                answer_bytes,
                key_set: read("nras_jwks.json"),
                gpus: gpus.unwrap(),
                nonce: recording.nonce,
                at: recording.at,
            }
        })
        .collect()
}

#[test]
fn both_answers_are_good_opinions() {
    for (recorded, keys) in recorded().iter().zip([32, 36]) {
        assert_eq!(KeySet::parse(&recorded.key_set).unwrap().len(), keys);
        let opinion = recorded.judge(&recorded.answer_bytes).unwrap();
        assert_eq!(opinion.gpus(), 8);
        let claims = claims(recorded.answer[0][1].as_str().unwrap());
        assert_eq!(opinion.issued_at().0, claims["iat"]);
        assert_eq!(opinion.valid_until().0, claims["exp"]);
        assert!(opinion.issued_at() <= recorded.at);
        assert!(recorded.at.0 - opinion.issued_at().0 <= 5);
    }
}

#[test]
fn an_answer_is_good_for_an_hour() {
    for recorded in recorded() {
        let opinion = recorded.judge(&recorded.answer_bytes).unwrap();
        let at = |now: u64| {
            code(&recorded.judge_at(&recorded.answer_bytes, recorded.nonce, UnixTime(now)))
        };
        assert_eq!(at(opinion.valid_until().0 - 1), "verified");
        assert_eq!(at(opinion.valid_until().0), "rejected_nras_time");
        assert_eq!(at(opinion.issued_at().0 - 300), "verified");
        assert_eq!(at(opinion.issued_at().0 - 301), "rejected_nras_time");
        // The key's certificate ends after two days.
        assert_eq!(
            at(recorded.at.0 + 2 * 86_400),
            "rejected_nras_certificate_time"
        );
    }
}

#[test]
fn an_answer_of_another_day_is_refused() {
    let recorded = recorded();
    let [april, june] = &recorded[..] else { return };
    // Today's keys do not know it.
    let outcome = june.judge(&april.answer_bytes);
    assert_eq!(code(&outcome), "rejected_nras_unknown_key");
    assert!(outcome.unwrap_err().is_unknown_kid());
    // With its own keys and at its own time, it answers another nonce,
    let other = Nonce::from_bytes([7; 32]);
    let outcome = april.judge_at(&april.answer_bytes, other, april.at);
    assert_eq!(code(&outcome), "rejected_nras_nonce");
    // and now it is too old.
    let outcome = april.judge_at(&april.answer_bytes, june.nonce, june.at);
    assert_eq!(code(&outcome), "rejected_nras_certificate_time");

    let mut one = june.answer.clone();
    one[1]["GPU-3"] = april.answer[1]["GPU-3"].clone();
    let outcome = june.judge(one.to_string().as_bytes());
    assert_eq!(code(&outcome), "rejected_nras_digest");
}

#[test]
fn tokens_are_one_answer() {
    for recorded in recorded() {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut answer = recorded.answer.clone();
            change(&mut answer);
            code(&recorded.judge(answer.to_string().as_bytes()))
        };
        assert_eq!(refused(&|_| {}), "verified");
        let swapped = refused(&|answer| {
            let first = answer[1]["GPU-0"].take();
            answer[1]["GPU-0"] = answer[1]["GPU-7"].take();
            answer[1]["GPU-7"] = first;
        });
        assert_eq!(swapped, "rejected_nras_digest");
        let missing = refused(&|answer| {
            answer[1].as_object_mut().unwrap().remove("GPU-7");
        });
        assert_eq!(missing, "rejected_nras_gpus");
        let extra = refused(&|answer| answer[1]["GPU-8"] = answer[1]["GPU-7"].clone());
        assert_eq!(extra, "rejected_nras_gpus");
        let edited = refused(&|answer| {
            let token = answer[0][1].as_str().unwrap();
            let mut claims = claims(token);
            claims["exp"] = json!(u64::MAX);
            let payload = claims.to_string();
            let parts: Vec<_> = token.split('.').collect();
            let payload = super::unsigned::encoded(payload.as_bytes());
            answer[0][1] = json!(format!("{}.{payload}.{}", parts[0], parts[2]));
        });
        assert_eq!(edited, "rejected_nras_signature");
    }
}

/// Every key of both sets is its certificate's and NVIDIA's, which a token that
/// names it shows: it is refused for its own signature alone.
#[test]
fn nvidia_vouches_for_every_key() {
    for recorded in recorded() {
        let keys: Value = serde_json::from_slice(&recorded.key_set).unwrap();
        let token = recorded.answer[0][1].as_str().unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let mut verdicts = BTreeMap::new();
        for key in keys["keys"].as_array().unwrap() {
            let header = json!({"kid": key["kid"], "alg": "ES384"}).to_string();
            let header = super::unsigned::encoded(header.as_bytes());
            let mut answer = recorded.answer.clone();
            answer[0][1] = format!("{header}.{}.{}", parts[1], parts[2]).into();
            let verdict = code(&recorded.judge(answer.to_string().as_bytes()));
            *verdicts.entry(verdict).or_insert(0) += 1;
        }
        // The token's own.
        assert_eq!(verdicts.remove("verified"), Some(1));
        // Time is looked at last, after NVIDIA's signature.
        verdicts.remove("rejected_nras_certificate_time");
        let left: Vec<_> = verdicts.keys().copied().collect();
        assert_eq!(left, ["rejected_nras_signature"]);
    }
}
