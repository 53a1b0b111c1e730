//! Judges a report by a policy of one's own: `cargo run -p attest --example own_policy`.
//!
//! The first policy accepts any software on genuine hardware. What the report showed under
//! it is a policy to review; the last one adds a demand. fake-tee plays the backend.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "an example")]

use attest::{
    Appraise, Collateral, Context, Evidence, Expected, GpuAnchors, Nonce, Policy, Spki, Subject,
    TrustAnchors, UnixTime, appraise,
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
    let evidence = Evidence::parse(&backend.report_bytes).expect("a report");
    let collateral = Collateral::from_json(backend.collateral_json.as_bytes());
    let collateral = collateral.expect("Intel's documents");
    let anchors = TrustAnchors::danger_tdx_root(backend.tdx_root_der)
        .with_gpus(GpuAnchors::danger_gpu_root(spec.gpu_root_der()));
    let judge = |policy: &Policy| {
        appraise(&Appraise {
            evidence: &evidence,
            subject: &Subject {
                domain: Expected::NotChecked("an example dials nobody"),
                models: Expected::NotChecked("an example asks for no model"),
            },
            live_spki: Spki::from_bytes(challenge.spki_sha256),
            nonce: Nonce::from_bytes(challenge.nonce),
            collateral: &collateral,
            policy,
            trust_anchors: &anchors,
            context: Context::none("an example keeps and fetches nothing"),
            now: UnixTime(NOW),
        })
    };

    let hardware = judge(&Policy::hardware());
    let shown = hardware.policy_toml(&evidence).expect("the log replays");
    let own = judge(&Policy::from_toml(&shown).expect("a policy"));
    let attested = own.outcome.expect("a policy that was made of this report");
    println!("{:?}", attested.levels());

    let strict = shown + "\n[gpu]\ncount = 4\n";
    let strict = judge(&Policy::from_toml(&strict).expect("a policy"));
    let rejected = strict.outcome.expect_err("the machine has eight GPUs");
    println!("{}: {rejected} ({:?})", rejected.code(), rejected.blame());
    assert_eq!(rejected.code(), "rejected_gpu_count");
}
