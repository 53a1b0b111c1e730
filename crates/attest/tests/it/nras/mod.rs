//! NVIDIA's second opinion: forged, recorded, and changed.

mod claims;
mod keys;
mod properties;
mod recorded;
mod resigned;
mod unsigned;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use attest::{
    Explanation, GpuReport, KeySet, Nonce, NrasAnchors, NrasOpinion, NrasRejected, Rejected, Spki,
    UnixTime, appraise_nras,
};
use fake_tee::nras::{NrasPki, NrasSpec};

use crate::support::{NONCE, NOW};

/// The GPUs that NVIDIA is asked about.
pub(super) struct Machine {
    pub(super) payload: String,
    pub(super) gpus: GpuReport,
}

impl Machine {
    pub(super) fn with(count: usize) -> Self {
        let mut spec = crate::gpu::spec();
        spec.gpus.truncate(count);
        let payload = spec.forge(&NONCE).unwrap();
        let gpus = crate::gpu::judge(&payload).unwrap();
        Self { payload, gpus }
    }
}

/// Three GPUs.
pub(super) fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| Machine::with(3))
}

/// A service that looks at them three seconds before now: its keys are made once.
pub(crate) fn spec() -> NrasSpec {
    static SPEC: OnceLock<NrasSpec> = OnceLock::new();
    SPEC.get_or_init(|| NrasSpec::new(NOW - 3).unwrap()).clone()
}

pub(crate) fn anchors() -> NrasAnchors {
    let spki = NrasPki::shared().unwrap().intermediate_spki_der();
    NrasAnchors::danger_nras_intermediates([Spki::of_der(&spki)])
}

/// What is said of the bytes of an answer and a key set.
pub(super) fn judge_bytes(
    answer: &[u8],
    key_set: &[u8],
    gpus: &GpuReport,
) -> Result<NrasOpinion, NrasRejected> {
    appraise_nras(
        answer,
        &KeySet::parse(key_set)?,
        &anchors(),
        Nonce::from_bytes(NONCE),
        gpus,
        UnixTime(NOW),
    )
}

/// What is said of a service's answer under its own key set.
pub(super) fn judge(spec: &NrasSpec) -> Result<NrasOpinion, NrasRejected> {
    judge_under(spec, &anchors(), NOW)
}

/// The same under other anchors, at another time.
pub(super) fn judge_under(
    spec: &NrasSpec,
    anchors: &NrasAnchors,
    now: u64,
) -> Result<NrasOpinion, NrasRejected> {
    let answer = spec.answer(&machine().payload).unwrap().to_string();
    let key_set = spec.key_set().unwrap().to_string();
    appraise_nras(
        answer.as_bytes(),
        &KeySet::parse(key_set.as_bytes())?,
        anchors,
        Nonce::from_bytes(NONCE),
        &machine().gpus,
        UnixTime(now),
    )
}

/// The code of a refusal, or "verified".
pub(super) fn code(outcome: &Result<NrasOpinion, NrasRejected>) -> &'static str {
    match outcome {
        Ok(_) => "verified",
        Err(rejected) => rejected.code(),
    }
}

/// What is changed, the code that it leads to, and how.
pub(super) type Row = (&'static str, &'static str, fn(&mut NrasSpec));

pub(super) fn assert_refused(rows: &[Row]) {
    assert_eq!(code(&judge(&spec())), "verified");
    for (name, expected, change) in rows {
        let mut spec = spec();
        change(&mut spec);
        let outcome = judge(&spec);
        assert_eq!(code(&outcome), *expected, "{name}: {outcome:?}");
        assert_printable(&outcome.unwrap_err());
    }
}

pub(super) fn assert_printable(rejected: &NrasRejected) {
    let message = rejected.to_string();
    assert!(message.len() < 4096, "{}", message.len());
    assert!(
        message.chars().all(|c| (' '..='~').contains(&c)),
        "{message:?}"
    );
}

#[test]
fn what_a_sound_service_says_is_an_opinion() {
    let opinion = judge(&spec()).unwrap();
    assert_eq!(opinion.gpus(), 3);
    assert_eq!(opinion.issued_at(), UnixTime(NOW - 3));
    assert_eq!(opinion.valid_until(), UnixTime(NOW - 3 + 3600));
}

#[test]
fn each_code_has_a_tampering() {
    let rows = [
        keys::REFUSED,
        resigned::OVERALL,
        resigned::GPU,
        unsigned::REFUSED,
    ];
    let mut provoked: BTreeSet<_> = rows
        .into_iter()
        .flatten()
        .map(|(_, code, _)| *code)
        .collect();
    // Of sizes: unsigned::sizes_are_bounded.
    provoked.insert("evidence_nras_too_large");
    // Where there is no answer to judge: nras_appraisal.rs.
    provoked.insert("nras_unavailable");
    let known: BTreeSet<_> = NrasRejected::EXPLANATIONS.iter().map(|e| e.code).collect();
    assert_eq!(provoked, known);
    let all: BTreeSet<_> = Explanation::all().map(|e| e.code).collect();
    assert!(known.is_subset(&all));
    let wrapped = Rejected::from(NrasRejected::SecureBoot {
        token: "GPU-0".to_owned(),
    });
    assert_eq!(wrapped.code(), "rejected_nras_secure_boot");
}
