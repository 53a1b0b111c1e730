//! The same for what NVIDIA's attestation service says, where the policy requires
//! its opinion.

use fake_tee::nras::NrasSpec;
use fake_tee::pki::Signer;
use rcgen::date_time_ymd;
use serde_json::json;

/// A code, and the change to the service that brings it about.
pub(super) type Row = (&'static str, fn(&mut NrasSpec));

macro_rules! claim {
    ($code:literal, $claim:literal, $value:expr) => {
        ($code, |s| {
            s.gpu(5)
                .claims
                .push(|claims| claims[$claim] = json!($value))
        })
    };
}

/// Answers and keys.
pub(super) const OPINIONS: &[Row] = &[
    ("evidence_nras_too_large", |s| {
        s.answer
            .push(|answer| answer[0][1] = json!("A".repeat(20_000)));
    }),
    ("evidence_nras_answer", |s| {
        s.answer.push(|answer| answer[0][0] = json!("CWT"));
    }),
    ("evidence_nras_token", |s| {
        s.overall.compact.push(|token| token.push('.'));
    }),
    ("evidence_nras_claims", |s| {
        s.overall.claims.push(|claims| claims["exp"] = json!("now"));
    }),
    ("rejected_nras_algorithm", |s| {
        s.overall
            .header
            .push(|header| header["alg"] = json!("none"));
        s.overall.signature.push(Vec::clear);
    }),
    ("rejected_nras_unknown_key", |s| {
        s.overall
            .header
            .push(|header| header["kid"] = json!("nv-eat-kid-prod-1"));
    }),
    ("rejected_nras_authority", |s| {
        s.x5c.push(|chain| chain[1] = chain[0].clone());
    }),
    ("rejected_nras_certificate", |s| {
        s.leaf_signer = Signer::Stranger;
    }),
    ("rejected_nras_certificate_time", |s| {
        s.leaf
            .push(|leaf| leaf.not_after = date_time_ymd(2026, 1, 1));
    }),
    ("rejected_nras_signature", |s| {
        s.overall.signature.push(|signature| signature[0] ^= 1);
    }),
    ("rejected_nras_issuer", |s| {
        s.overall
            .claims
            .push(|claims| claims["iss"] = json!("https://nras.attestation-stg.nvidia.com"));
    }),
    ("rejected_nras_newer_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["x-nvidia-ver"] = json!("3.0"));
    }),
    claim!("rejected_nras_claim", "oemid", "4242"),
    claim!("rejected_nras_time", "exp", 1_700_000_000),
    ("rejected_nras_failed", |s| {
        s.overall
            .claims
            .push(|claims| claims["x-nvidia-overall-att-result"] = json!(false));
    }),
    claim!("rejected_nras_nonce", "eat_nonce", "5b".repeat(32)),
    ("rejected_nras_gpus", |s| {
        s.tokens.push(|tokens| tokens.truncate(7));
    }),
    ("rejected_nras_digest", |s| {
        s.answer
            .push(|answer| answer[1]["GPU-1"] = answer[1]["GPU-0"].clone());
    }),
    ("rejected_nras_device", |s| {
        s.tokens.push(|tokens| tokens.swap(0, 1));
    }),
    claim!("rejected_nras_check", "x-nvidia-gpu-arch-check", false),
    claim!("rejected_nras_measurements", "measres", "fail"),
    claim!("rejected_nras_secure_boot", "secboot", false),
    claim!("rejected_nras_debug", "dbgstat", "enabled"),
    claim!(
        "rejected_nras_warning",
        "x-nvidia-attestation-warning",
        "soon"
    ),
    claim!(
        "rejected_nras_version",
        "x-nvidia-gpu-driver-version",
        "570.172.09"
    ),
];
