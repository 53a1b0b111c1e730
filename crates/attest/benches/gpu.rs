//! `cargo bench -p attest --bench gpu`: CPU time of the evidence of eight GPUs,
//! with and without issuers seen before, and of hostile evidence.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on should stop"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use attest::{GpuAnchors, IssuerCache, Nonce, UnixTime, appraise_gpus};
use fake_tee::gpu::GpuSpec;
use serde_json::{Value, json};

const NOW: u64 = 1_795_348_800;
const NONCE: [u8; 32] = [0x5a; 32];
const ROUNDS: usize = 15;
const PER_ROUND: u32 = 10;

/// The budgets on one core: a host never seen, one that was, and the most that
/// a report of 2 MiB may cost.
const COLD: Duration = Duration::from_millis(12);
const CACHED: Duration = Duration::from_millis(5);
const HOSTILE: Duration = Duration::from_millis(50);

struct Input {
    payload: Value,
    anchors: GpuAnchors,
    nonce: Nonce,
    now: UnixTime,
}

impl Input {
    /// Asserts the code, so that nothing else is measured.
    fn judge(&self, payload: &str, cache: &IssuerCache, expected: &str) {
        let outcome = appraise_gpus(payload, self.nonce, &self.anchors, self.now, cache);
        let code = outcome.as_ref().map_or_else(|r| r.code(), |_| "verified");
        assert_eq!(code, expected);
        let _ = black_box(outcome);
    }
}

fn main() {
    let mut inputs = vec![("forged", forged())];
    if let Some(recorded) = recorded() {
        inputs.push(("recorded", recorded));
    }
    let mut slow = false;
    for (name, input) in &inputs {
        println!("{name}: eight GPUs (median of {ROUNDS} rounds)");
        slow |= measure(input);
    }
    if slow {
        println!("over the budget of {COLD:?}, {CACHED:?}, {HOSTILE:?}");
        std::process::exit(1);
    }
}

fn measure(input: &Input) -> bool {
    let text = input.payload.to_string();
    let known = IssuerCache::new();
    input.judge(&text, &known, "verified");

    let mut changed = input.payload.clone();
    changed["evidence_list"][7]["nonce"] = json!("0");
    let unread = changed.to_string();

    // As many as are read, all genuine, so that the last check refuses.
    let mut changed = input.payload.clone();
    let list = input.payload["evidence_list"].as_array().unwrap();
    changed["evidence_list"] = json!([list.clone(), list.clone()].concat());
    let twice = changed.to_string();

    let read = median(|| input.judge(&unread, &IssuerCache::new(), "rejected_gpu_payload_nonce"));
    let cold = median(|| input.judge(&text, &IssuerCache::new(), "verified"));
    let cached = median(|| input.judge(&text, &known, "verified"));
    let hostile = median(|| input.judge(&twice, &IssuerCache::new(), "rejected_gpu_duplicate"));
    let issuers = cold.saturating_sub(cached);
    for (what, time) in [
        ("issuers never seen", cold),
        ("  of which issuers", issuers),
        ("  of which JSON and base64", read),
        (
            "  of which leaves and evidence",
            cached.saturating_sub(read),
        ),
        ("issuers seen before", cached),
        ("sixteen, refused at the end", hostile),
    ] {
        println!("  {time:>10.1?}  {what}");
    }
    cold > COLD || cached > CACHED || hostile > HOSTILE
}

fn median(mut step: impl FnMut()) -> Duration {
    let mut samples: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PER_ROUND {
                step();
            }
            start.elapsed() / PER_ROUND
        })
        .collect();
    samples.sort_unstable();
    samples[ROUNDS / 2]
}

fn forged() -> Input {
    let spec = GpuSpec::new(8).unwrap();
    let payload = spec.forge(&NONCE).unwrap();
    Input {
        payload: serde_json::from_str(&payload).unwrap(),
        anchors: GpuAnchors::danger_gpu_root(spec.pki.root_der().to_vec()),
        nonce: Nonce::from_bytes(NONCE),
        now: UnixTime(NOW),
    }
}

/// The newest recording, where there is one.
fn recorded() -> Option<Input> {
    let folder = std::env::var_os("VERIFIED_PROXY_CAPTURES")?;
    let folder = std::path::Path::new(&folder).join("20260610");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let report: Value = serde_json::from_str(&text("attestation_report.json")).unwrap();
    let payload = report["nvidia_payload"].as_str().unwrap();
    Some(Input {
        payload: serde_json::from_str(payload).unwrap(),
        anchors: GpuAnchors::nvidia(),
        nonce: text("nonce.hex").trim().parse().unwrap(),
        now: UnixTime(text("verify_at_unix").trim().parse().unwrap()),
    })
}
