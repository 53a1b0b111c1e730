//! `cargo bench -p attest`: CPU time of one appraisal, and the share of each part.
//!
//! The parts are told apart by refusals: an appraisal that is refused at the
//! TLS key has verified the quote and nothing after it. Ratios within one run
//! count; absolute times depend on the machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on should stop"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use attest::{
    Appraise, Collateral, Context, Evidence, Expected, GpuAnchors, IssuerCache, Nonce, Policy,
    Spki, Subject, TrustAnchors, UnixTime, appraise, compute_rtmr0,
};
use fake_tee::{Challenge, Spec};

const NOW: u64 = 1_795_348_800;
const NONCE: [u8; 32] = [0x5a; 32];
const LIVE: [u8; 32] = [0xc3; 32];
const ROUNDS: usize = 15;
const PER_ROUND: u32 = 20;

/// The budgets, on one core: eight GPUs whose issuers are all new, and the same
/// when they were verified before.
const COLD: Duration = Duration::from_millis(12);
const CACHED: Duration = Duration::from_millis(5);
/// A report full of GPU evidence that costs as much as it can.
const HOSTILE: Duration = Duration::from_millis(50);

const ALONE: &str = "gpu.mode = \"off\"\ndeployment.mode = \"off\"\n";
const DEPLOYED: &str = "gpu.mode = \"off\"\n";

struct Input {
    report: Vec<u8>,
    collateral: Vec<u8>,
    anchors: TrustAnchors,
    policy: Policy,
    /// Refuses the OS image, with everything before it in order.
    other_image: Policy,
    /// Refuses the KMS, with the software in order.
    other_kms: Policy,
    /// Looks neither at what was deployed nor at GPUs.
    alone: Policy,
    /// Looks at what was deployed, and not at GPUs.
    deployed: Policy,
    model: String,
    live: Spki,
    nonce: Nonce,
    now: UnixTime,
}

fn main() {
    let mut inputs = vec![("forged", forged())];
    if let Some(recorded) = recorded() {
        inputs.push(("recorded", recorded));
    }
    let mut slow = false;
    for (name, input) in &inputs {
        slow |= measure(name, input);
    }
    slow |= hostile(&inputs[0].1);
    shapes();
    if slow {
        println!("over the budget: {COLD:?} cold, {CACHED:?} cached, {HOSTILE:?} hostile");
        std::process::exit(1);
    }
}

/// CPU time of this thread, so that a busy machine changes little; where the
/// kernel does not tell, the wall's.
fn now() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    told.and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn judge(
    evidence: &Evidence,
    collateral: &Collateral,
    input: &Input,
    (policy, live): (&Policy, Spki),
    issuers: &IssuerCache,
) -> &'static str {
    let appraisal = appraise(&Appraise {
        evidence,
        subject: &Subject {
            domain: Expected::NotChecked("a benchmark"),
            models: Expected::Known(vec![input.model.clone()]),
        },
        live_spki: live,
        nonce: input.nonce,
        collateral,
        policy,
        trust_anchors: &input.anchors,
        context: Context {
            issuers: Some(issuers),
            ..Context::none("a benchmark")
        },
        now: input.now,
    });
    let code = appraisal
        .outcome
        .as_ref()
        .map_or_else(|r| r.code(), |_| "verified");
    black_box(appraisal);
    code
}

/// Prints the shares; true if it takes longer than it may.
fn measure(name: &str, input: &Input) -> bool {
    let parse = || {
        black_box(Evidence::parse(black_box(&input.report)).unwrap());
    };
    let evidence = Evidence::parse(&input.report).unwrap();
    let collateral = Collateral::from_json(&input.collateral).unwrap();
    let cold = |policy: &Policy, live: Spki, expected: &str| {
        let new = IssuerCache::new();
        let code = judge(&evidence, &collateral, input, (policy, live), &new);
        assert_eq!(code, expected);
    };
    let known = IssuerCache::new();
    let cached = || {
        let of = (&input.policy, input.live);
        assert_eq!(judge(&evidence, &collateral, input, of, &known), "verified");
    };
    let other_key = Spki::from_bytes([0; 32]);
    let steps: [(&str, &dyn Fn()); 8] = [
        ("read the report", &parse),
        ("quote, collateral, TCB, TD", &|| {
            cold(&input.policy, other_key, "rejected_spki_mismatch");
        }),
        ("TLS key, nonce, keys, event log, compose", &|| {
            cold(&input.other_image, input.live, "rejected_os_image");
        }),
        ("image, firmware, memory, ACPI", &|| {
            cold(&input.other_kms, input.live, "rejected_kms_root");
        }),
        ("identity, pins, model, findings", &|| {
            cold(&input.alone, input.live, "verified");
        }),
        ("deployment log and its quote", &|| {
            cold(&input.deployed, input.live, "verified");
        }),
        ("eight GPUs, issuers verified before", &cached),
        ("eight GPUs: their issuers", &|| {
            cold(&input.policy, input.live, "verified");
        }),
    ];
    let mut samples = vec![Vec::new(); steps.len()];
    for _ in 0..ROUNDS {
        // Interleaved, so that noise falls on all steps alike.
        for ((_, step), samples) in steps.iter().zip(&mut samples) {
            let start = now();
            for _ in 0..PER_ROUND {
                step();
            }
            samples.push((now() - start) / PER_ROUND);
        }
    }
    let medians: Vec<Duration> = samples
        .iter_mut()
        .map(|samples| {
            samples.sort_unstable();
            samples[samples.len() / 2]
        })
        .collect();
    let (cached, cold) = (medians[0] + medians[6], medians[0] + medians[7]);
    println!(
        "{name}: {} bytes, {cold:?} cold, {cached:?} with issuers verified before (CPU, median of {ROUNDS} rounds)",
        input.report.len()
    );
    for (index, (what, _)) in steps.iter().enumerate() {
        let own = match index {
            0 | 1 => medians[index],
            _ => medians[index].saturating_sub(medians[index - 1]),
        };
        let share = 100.0 * own.as_secs_f64() / cold.as_secs_f64();
        println!("  {share:5.1} %  {own:>10.1?}  {what}");
    }
    cold > COLD || cached > CACHED
}

/// Sixteen GPUs of which the last one is wrong, in a report as large as is read.
fn hostile(input: &Input) -> bool {
    let mut report: serde_json::Value = serde_json::from_slice(&input.report).unwrap();
    let payload = report["nvidia_payload"].as_str().unwrap();
    let mut payload: serde_json::Value = serde_json::from_str(payload).unwrap();
    let list = payload["evidence_list"].as_array_mut().unwrap();
    let again = list.clone();
    list.extend(again);
    payload["padding"] = "x".repeat(300 << 10).into();
    report["nvidia_payload"] = payload.to_string().into();
    let free = (2 << 20) - report.to_string().len() - 16;
    report["padding"] = "x".repeat(free).into();
    let report = report.to_string();
    let collateral = Collateral::from_json(&input.collateral).unwrap();
    let mut samples: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = now();
            let evidence = Evidence::parse(report.as_bytes()).unwrap();
            let of = (&input.policy, input.live);
            let code = judge(&evidence, &collateral, input, of, &IssuerCache::new());
            assert_eq!(code, "rejected_gpu_duplicate");
            now() - start
        })
        .collect();
    samples.sort_unstable();
    let median = samples[samples.len() / 2];
    println!("hostile: {} bytes, {median:?} (CPU)", report.len());
    median > HOSTILE
}

/// RTMR0 of a machine: of a shape that was not computed before, and once more.
fn shapes() {
    for cpus in [1, 64, 4096] {
        // Another window makes another shape, and the same amount of work.
        let shape = |gib: usize| {
            let hole = (gib + 1) << 30;
            format!(
                r#"{{"cpu_count":{cpus},"memory_size":1099511627776,"qemu_version":"9.2.1","hotplug_off":true,"num_gpus":8,"num_nvswitches":4,"pci_hole64_size":{hole}}}"#
            )
        };
        let median = |own: &dyn Fn(usize) -> String| {
            let mut samples: Vec<_> = (0..ROUNDS)
                .map(|round| {
                    let count = PER_ROUND as usize;
                    let texts: Vec<_> = (0..count).map(|i| own(round * count + i)).collect();
                    let start = now();
                    for text in &texts {
                        black_box(compute_rtmr0(text, None).unwrap());
                    }
                    (now() - start) / PER_ROUND
                })
                .collect();
            samples.sort_unstable();
            samples[samples.len() / 2]
        };
        let new = median(&shape);
        let known = median(&|_| shape(0));
        println!("RTMR0, {cpus} CPUs: {new:?} of a new shape, {known:?} of a known one (CPU)");
    }
}

fn forged() -> Input {
    let spec = Spec::new(NOW).unwrap();
    let built = spec
        .forge(&Challenge {
            nonce: NONCE,
            spki_sha256: LIVE,
        })
        .unwrap();
    let text = spec.policy_toml();
    let other =
        |what: String, instead: String| Policy::from_toml(&text.replace(&what, &instead)).unwrap();
    Input {
        report: built.report_bytes,
        collateral: built.collateral_json.into_bytes(),
        anchors: TrustAnchors::danger_tdx_root(built.tdx_root_der)
            .with_gpus(GpuAnchors::danger_gpu_root(built.gpu_root_der)),
        policy: Policy::from_toml(&text).unwrap(),
        other_image: other(
            format!("mrtd = \"{}", hex(&spec.td.mr_td)),
            format!("mrtd = \"{}", "0".repeat(96)),
        ),
        other_kms: other(spec.kms.root_spki_hex(), "00".to_owned()),
        alone: Policy::from_toml(&format!("{text}{ALONE}")).unwrap(),
        deployed: Policy::from_toml(&format!("{text}{DEPLOYED}")).unwrap(),
        model: spec.model_name,
        live: Spki::from_bytes(LIVE),
        nonce: Nonce::from_bytes(NONCE),
        now: UnixTime(NOW),
    }
}

/// The newest recording, where there is one.
fn recorded() -> Option<Input> {
    let folder = std::env::var_os("VERIFIED_PROXY_CAPTURES")?;
    let folder = std::path::Path::new(&folder).join("20260610");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap().trim().to_owned();
    let report = read("attestation_report.json");
    let json: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let near = Policy::near()
        .to_toml()
        .replace("name = \"near\"", "name = \"bench\"");
    let image = "b24d3b24e9e3c160";
    let kms = json["info"]["key_provider_info"].as_str().unwrap();
    let kms: serde_json::Value = serde_json::from_str(kms).unwrap();
    let kms = kms["id"].as_str().unwrap();
    let other = |what: &str, instead: &str| {
        assert!(near.contains(what));
        Policy::from_toml(&near.replace(what, instead)).unwrap()
    };
    let extending = "name = \"bench\"\nextends = \"near\"\ndate = \"2026-11-22\"\n";
    Some(Input {
        collateral: read("collateral.json"),
        anchors: TrustAnchors::intel(),
        policy: Policy::near(),
        other_image: other(image, "0000000000000000"),
        other_kms: other(kms, "00"),
        alone: Policy::from_toml(&format!("{extending}{ALONE}")).unwrap(),
        deployed: Policy::from_toml(&format!("{extending}{DEPLOYED}")).unwrap(),
        model: json["model_name"].as_str().unwrap().to_owned(),
        live: json["tls_cert_fingerprint"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        nonce: text("nonce.hex").parse().unwrap(),
        now: UnixTime(text("verify_at_unix").parse().unwrap()),
        report,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
