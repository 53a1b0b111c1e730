//! What a refusal says, and the edges of what is taken.

use attest::{GpuAnchors, IssuerCache, Nonce, UnixTime, appraise_gpus};
use fake_tee::gpu::field;
use fake_tee::hash::label;
use fake_tee::rcgen::{BasicConstraints, CustomExtension, IsCa, date_time_ymd};

use super::{Change, anchors, code, forged, spec};
use crate::support::NONCE;

fn switch(name: &str) -> String {
    let mut number: [u8; 8] = label(name);
    number.reverse();
    hex::encode_upper(number)
}

#[test]
fn a_refusal_says_what_was_found_and_what_was_expected() {
    let cases: [(&str, Change); 4] = [
        ("Protected PCIe of GPU 1: off; of GPU 0: on", |g| {
            g.message
                .push(|m| *m.field(field::PROTECTED_PCIE) = vec![0x55])
        }),
        ("the device's certificate of GPU 1: it is not a CA", |g| {
            g.device.push(|ca| ca.is_ca = IsCa::ExplicitNoCa)
        }),
        (
            "the device's certificate of GPU 1: it limits the length of chains",
            |g| {
                g.device
                    .push(|ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)))
            },
        ),
        (
            "the firmware's certificate of GPU 1: an extension is there twice or cannot be read",
            |g| {
                // A second keyUsage: digitalSignature.
                let usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
                g.leaf
                    .push(move |leaf| leaf.custom_extensions.push(usage.clone()))
            },
        ),
    ];
    for (expected, change) in cases {
        let rejected = forged(|spec| change(&mut spec.gpus[1])).unwrap_err();
        assert!(rejected.to_string().contains(expected), "{rejected}");
    }
}

#[test]
fn switches_are_named() {
    let rejected = forged(|spec| {
        spec.gpus[1]
            .message
            .push(|m| m.field(field::SWITCHES).truncate(16))
    })
    .unwrap_err();
    let mut all = [1, 2, 3, 4].map(|n| switch(&format!("NVSwitch {n}")));
    all.sort();
    let expected = format!(
        "the switches of GPU 1: {}; of GPU 0: {}",
        switch("NVSwitch 1"),
        all.join(", ")
    );
    assert_eq!(rejected.to_string(), expected);
}

/// Both ends of a validity belong to it (RFC 5280 §4.1.2.5).
#[test]
fn a_certificate_is_valid_from_its_first_second() {
    let mut spec = spec();
    for gpu in &mut spec.gpus {
        gpu.leaf
            .push(|leaf| leaf.not_before = date_time_ymd(2026, 1, 1));
    }
    let payload = spec.forge(&NONCE).unwrap();
    let first = UnixTime::from_rfc3339("2026-01-01T00:00:00Z").unwrap().0;
    for (now, expected) in [(first - 1, "rejected_gpu_chain"), (first, "verified")] {
        let judged = appraise_gpus(
            &payload,
            Nonce::from_bytes(NONCE),
            &anchors(),
            UnixTime(now),
            &IssuerCache::new(),
        );
        assert_eq!(code(&judged), expected);
    }
}

#[test]
fn other_anchors_are_not_nvidias() {
    assert!(GpuAnchors::nvidia().is_nvidia());
    assert!(!anchors().is_nvidia());
    assert!(!GpuAnchors::danger_gpu_root(Vec::new()).is_nvidia());
}
