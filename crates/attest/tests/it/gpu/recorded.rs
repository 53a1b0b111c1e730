//! Evidence of real GPUs: eight of a backend on two days, and NVIDIA's sample.

use std::collections::BTreeSet;
use std::path::PathBuf;

use attest::{
    Architecture, GpuAnchors, IssuerCache, Nonce, Stated, Topology, UnixTime, appraise_gpus,
};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::recordings::recordings;

/// A payload, and what it answers to.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) payload: Value,
    pub(super) nonce: Nonce,
    pub(super) at: UnixTime,
}

/// The GPUs in the recorded reports, or none with a word about it.
pub(super) fn recorded() -> Vec<Recorded> {
    recordings()
        .into_iter()
        .map(|recording| {
            let report: Value = serde_json::from_slice(&recording.report).unwrap();
            let payload = report["nvidia_payload"].as_str().unwrap();
            Recorded {
                payload: serde_json::from_str(payload).unwrap(),
                nonce: recording.nonce,
                at: recording.at,
            }
        })
        .collect()
}

/// NVIDIA's published sample of one H100, or none with a word about it.
pub(super) fn sample() -> Option<Recorded> {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: VERIFIED_PROXY_SHARED is not set");
        return None;
    };
    let read = |name: &str| std::fs::read(folder.join("nvidia").join(name)).expect(name);
    let evidence = hex::decode(read("hopperAttestationReport.txt")).unwrap();
    let nonce = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
    Some(Recorded {
        payload: json!({
            "arch": "HOPPER",
            "nonce": nonce,
            "evidence_list": [{
                "arch": "HOPPER",
                "certificate": BASE64_STANDARD.encode(read("hopperCertChain.txt")),
                "evidence": BASE64_STANDARD.encode(&evidence),
            }],
        }),
        nonce: nonce.parse().unwrap(),
        at: UnixTime(1_781_000_000),
    })
}

#[test]
fn all_eight_gpus_of_both_recordings_verify() {
    let mut devices = Vec::new();
    for recorded in recorded() {
        let cache = IssuerCache::new();
        let report = appraise_gpus(
            &recorded.payload.to_string(),
            recorded.nonce,
            &GpuAnchors::nvidia(),
            recorded.at,
            &cache,
        )
        .unwrap();
        assert_eq!(report.gpus().len(), 8);
        // Family, provisioner, and eight devices.
        assert_eq!(cache.len(), 10);
        let Topology::SameSwitches(switches) = report.topology() else {
            panic!("{:?}", report.topology());
        };
        assert_eq!(switches.len(), 4);
        for gpu in report.gpus() {
            assert_eq!(gpu.architecture, Architecture::Hopper);
            assert_eq!(gpu.driver_rim_id(), "NV_GPU_DRIVER_GH100_570.172.08");
            assert_eq!(gpu.vbios, "96.00.CF.00.02");
            assert_eq!(
                gpu.vbios_rim_id(),
                Stated::Value("NV_GPU_VBIOS_G520_0280_895_9600CF0002".to_owned())
            );
            assert_eq!(gpu.reported_fwid, Stated::Value(gpu.fwid));
            assert_eq!(gpu.nvdec0, Stated::Value(false));
            assert_eq!(gpu.protected_pcie, Stated::Value(true));
            assert_eq!(
                gpu.feature,
                Stated::Absent("this driver does not report it")
            );
            assert_eq!(
                hex::encode(gpu.record_sha384),
                "f2ded2471d8a7a8c76d882f376ad032b1f8ed9f7bcc751b8130fec355cce8020\
                 8498c107102cd31ad6f58183076a1c85"
            );
            assert_eq!(gpu.valid_until, UnixTime(253_402_300_799));
        }
        devices.push(
            report
                .gpus()
                .iter()
                .map(|gpu| gpu.pdi)
                .collect::<BTreeSet<_>>(),
        );
    }
    for devices in devices {
        assert_eq!(devices.len(), 8);
    }
}

/// NVIDIA's remote service names the same devices, in the order of the list.
#[test]
fn identities_are_those_that_nvidia_names() {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_CAPTURES").map(PathBuf::from) else {
        eprintln!("skipped: VERIFIED_PROXY_CAPTURES is not set");
        return;
    };
    for (recorded, day) in recorded().into_iter().zip(["20260424", "20260610"]) {
        let answer = std::fs::read(folder.join(day).join("nras_response.json")).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let report = appraise_gpus(
            &recorded.payload.to_string(),
            recorded.nonce,
            &GpuAnchors::nvidia(),
            recorded.at,
            &IssuerCache::new(),
        )
        .unwrap();
        for (index, gpu) in report.gpus().iter().enumerate() {
            let token = answer[1][format!("GPU-{index}")].as_str().unwrap();
            let claims = token.split('.').nth(1).unwrap();
            let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["ueid"], gpu.ueid.to_string());
            assert_eq!(claims["x-nvidia-gpu-driver-version"], gpu.driver);
            assert_eq!(claims["x-nvidia-gpu-vbios-version"], gpu.vbios);
        }
    }
}

#[test]
fn nvidias_sample_verifies() {
    let Some(sample) = sample() else { return };
    let report = appraise_gpus(
        &sample.payload.to_string(),
        sample.nonce,
        &GpuAnchors::nvidia(),
        sample.at,
        &IssuerCache::new(),
    )
    .unwrap();
    let [gpu] = report.gpus() else {
        panic!("{report:?}");
    };
    assert_eq!(gpu.driver, "550.90.07");
    assert_eq!(gpu.vbios, "96.00.9F.00.01");
    assert_eq!(gpu.reported_fwid, Stated::Value(gpu.fwid));
    assert_eq!(gpu.protected_pcie, Stated::Value(false));
    let older = "this driver does not report it";
    assert_eq!(gpu.switches, Stated::Absent(older));
    assert_eq!(
        *report.topology(),
        Topology::NotCompared("there is one GPU")
    );
}
