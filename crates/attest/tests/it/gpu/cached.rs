//! What is kept of issuers spares work and decides nothing.

use attest::{GpuAnchors, IssuerCache, Nonce, UnixTime, appraise_gpus};
use fake_tee::gpu::GpuPki;
use fake_tee::rcgen::date_time_ymd;
use serde_json::Value;

use super::{anchors, blob, code, set_blob, spec};
use crate::support::{NONCE, NOW};

fn judged(payload: &str, anchors: &GpuAnchors, now: u64, cache: &IssuerCache) -> &'static str {
    let nonce = Nonce::from_bytes(NONCE);
    code(&appraise_gpus(
        payload,
        nonce,
        anchors,
        UnixTime(now),
        cache,
    ))
}

#[test]
fn issuers_are_shared_by_gpus_and_kept() {
    let cache = IssuerCache::new();
    assert!(cache.is_empty());
    let payload = spec().forge(&NONCE).unwrap();
    // Family, provisioner, and the three devices.
    for _ in 0..2 {
        assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
        assert_eq!(cache.len(), 5);
        assert!(!cache.is_empty());
    }
    // Certificates of the devices that are issued anew.
    let payload = spec().forge(&NONCE).unwrap();
    assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
    assert_eq!(cache.len(), 8);
}

#[test]
fn what_is_kept_leads_to_no_other_root() {
    let cache = IssuerCache::new();
    let payload = spec().forge(&NONCE).unwrap();
    assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
    for other in [
        GpuAnchors::nvidia(),
        GpuAnchors::danger_gpu_root(GpuPki::other().unwrap().root_der().to_vec()),
    ] {
        assert_eq!(judged(&payload, &other, NOW, &cache), "rejected_gpu_root");
    }
    assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
}

/// A device that was certified under one root is not one under another, although
/// everything above it in the chain is genuine there.
#[test]
fn what_is_kept_holds_for_its_own_issuer_only() {
    let cache = IssuerCache::new();
    let payload = spec().forge(&NONCE).unwrap();
    assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
    let genuine: Value = serde_json::from_str(&payload).unwrap();

    let mut other = spec();
    other.pki = GpuPki::other().unwrap();
    let root = GpuAnchors::danger_gpu_root(other.pki.root_der().to_vec());
    let mut mixed: Value = serde_json::from_str(&other.forge(&NONCE).unwrap()).unwrap();
    assert_eq!(judged(&mixed.to_string(), &root, NOW, &cache), "verified");
    let end = "-----END CERTIFICATE-----\n";
    for gpu in 0..3 {
        let [known, strange] = [&genuine, &mixed].map(|payload| blob(payload, gpu, "certificate"));
        let [known, strange] = [&known, &strange].map(|pem| std::str::from_utf8(pem).unwrap());
        let below = known.split_inclusive(end).take(2);
        let chain: String = below.chain(strange.split_inclusive(end).skip(2)).collect();
        set_blob(&mut mixed, gpu, "certificate", chain.as_bytes());
    }
    assert_eq!(
        judged(&mixed.to_string(), &root, NOW, &cache),
        "rejected_gpu_chain"
    );
}

#[test]
fn what_is_kept_expires_all_the_same() {
    let mut spec = spec();
    for gpu in &mut spec.gpus {
        gpu.device
            .push(|device| device.not_after = date_time_ymd(2027, 1, 1));
    }
    let payload = spec.forge(&NONCE).unwrap();
    let cache = IssuerCache::new();
    let end = UnixTime::from_rfc3339("2027-01-01T00:00:00Z").unwrap().0;
    assert_eq!(judged(&payload, &anchors(), end, &cache), "verified");
    assert_eq!(
        judged(&payload, &anchors(), end + 1, &cache),
        "rejected_gpu_chain"
    );
    let report = appraise_gpus(
        &payload,
        Nonce::from_bytes(NONCE),
        &anchors(),
        UnixTime(NOW),
        &cache,
    );
    assert_eq!(report.unwrap().valid_until(), UnixTime(end));
}

#[test]
fn what_was_refused_is_not_kept() {
    let mut spec = spec();
    spec.gpus[0].chain.push(|chain| {
        let last = chain[1].len() - 1;
        chain[1][last] ^= 1;
    });
    let payload = spec.forge(&NONCE).unwrap();
    let cache = IssuerCache::new();
    for _ in 0..2 {
        assert_eq!(
            judged(&payload, &anchors(), NOW, &cache),
            "rejected_gpu_chain"
        );
        assert_eq!(cache.len(), 2);
    }
}

#[test]
fn a_root_that_is_none_is_refused() {
    let payload = spec().forge(&NONCE).unwrap();
    let anchors = GpuAnchors::danger_gpu_root(b"not a certificate".to_vec());
    let code = judged(&payload, &anchors, NOW, &IssuerCache::new());
    assert_eq!(code, "rejected_gpu_chain");
}

/// Each forgery has three issuers that were never seen before.
#[test]
fn what_is_kept_is_bounded() {
    let mut spec = spec();
    spec.gpus.truncate(1);
    spec.gpus[0].family.push(|_| {});
    let cache = IssuerCache::new();
    for round in 1..=342 {
        let payload = spec.forge(&NONCE).unwrap();
        assert_eq!(judged(&payload, &anchors(), NOW, &cache), "verified");
        // 1024 fit; the next one finds the cache empty.
        let expected = if round < 342 { 3 * round } else { 2 };
        assert_eq!(cache.len(), expected);
    }
}
