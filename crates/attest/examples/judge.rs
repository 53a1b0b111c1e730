//! Judges a report as a client does: `cargo run -p attest --example judge`.
//!
//! fake-tee plays the backend and Intel. A client of NEAR AI has `TrustAnchors::intel()`,
//! `Policy::near()`, a random nonce, the key of its TLS session, and its clock.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "an example")]

use attest::{
    Appraise, Attested, Collateral, Context, Evidence, Expected, GpuAnchors, Nonce, Policy,
    Rejected, Spki, Subject, TrustAnchors, UnixTime, appraise,
};
use fake_tee::{Challenge, Spec};

const NOW: u64 = 1_795_348_800;

pub(crate) fn main() {
    let challenge = Challenge {
        nonce: [7; 32],
        spki_sha256: [9; 32],
    };
    let spec = Spec::new(NOW).expect("keys");
    let backend = spec.forge(&challenge).expect("a report");
    let policy = Policy::from_toml(&spec.policy_toml()).expect("a policy");
    let anchors = TrustAnchors::danger_tdx_root(backend.tdx_root_der.clone())
        .with_gpus(GpuAnchors::danger_gpu_root(spec.gpu_root_der()));
    let judge = |live_spki: [u8; 32]| -> Result<Attested, Rejected> {
        let appraisal = appraise(&Appraise {
            evidence: &Evidence::parse(&backend.report_bytes)?,
            subject: &Subject {
                domain: Expected::Known("fake-llama.completions.near.ai".parse().expect("a name")),
                models: Expected::Known(vec!["fake/llama".to_owned()]),
            },
            live_spki: Spki::from_bytes(live_spki),
            nonce: Nonce::from_bytes(challenge.nonce),
            collateral: &Collateral::from_json(backend.collateral_json.as_bytes())?,
            policy: &policy,
            trust_anchors: &anchors,
            context: Context::none("an example keeps and fetches nothing"),
            now: UnixTime(NOW),
        });
        appraisal.outcome
    };

    let attested = judge(challenge.spki_sha256).expect("the machine is valid");
    println!(
        "proved until {}: {:?}",
        attested.valid_until(),
        attested.levels()
    );

    // The same report on a connection that somebody else's key answers.
    match judge([0; 32]) {
        Err(rejected @ Rejected::SpkiMismatch { .. }) => {
            println!("{}: {rejected}; {}", rejected.code(), rejected.hint());
        }
        other => panic!("another key is refused as such: {other:?}"),
    }
}
