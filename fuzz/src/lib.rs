//! What the fuzz targets share: one valid machine, and what it means to say the
//! same as its report.
//!
//! A target changes one part of a valid report. Whatever the change, reading
//! must not panic, and if the result verifies it must mean what the valid
//! report means: the keys behind the valid signatures are in nobody's hands.

pub mod body;
pub mod compose;
pub mod deployment;
pub mod gpu;
pub mod image;
pub mod keys;
#[path = "../../crates/attest/tests/it/report_normal_form.rs"]
mod report_normal_form;
mod memory;
pub mod nras;
pub mod tags;
#[path = "../../crates/sources/src/backend.rs"]
pub mod backend;
#[path = "../../crates/upstream/src/json_member.rs"]
mod json_member;

use std::path::Path;
use std::sync::OnceLock;

use attest::{
    Appraisal, Appraise, CheckId, Collateral, Context, Evidence, Expected, Nonce, Policy, Spki,
    Status, Subject, TrustAnchors, UnixTime, appraise,
};
use fake_tee::{Challenge, QuoteFormat, Spec};
use serde_json::{Value, json};

// Where the proxy's files look for `backend`.
extern crate self as sources;

const NOW: u64 = 1_800_000_000;
const NONCE: [u8; 32] = [7; 32];
const SPKI: [u8; 32] = [9; 32];

/// A valid report with everything it is judged by.
#[derive(Debug)]
pub struct Base {
    /// Without GPUs and deployments, which have targets of their own, without the
    /// copy of itself that nobody reads, and without the second event log.
    pub report: Value,
    /// The same machine's quote in the layout of version 5.
    pub quote_v5: Vec<u8>,
    /// Intel's answers, as `QuoteCollateralV3` JSON.
    pub collateral_json: String,
    tdx_root_der: Vec<u8>,
    policy_toml: String,
    policy: Policy,
    collateral: Collateral,
}

impl Base {
    /// The machine of this process. Its keys are made anew, unless
    /// `VERIFIED_PROXY_FUZZ_BASE` names a file: then it is read from there, or
    /// written to it, so that a corpus stays worth something.
    pub fn get() -> &'static Self {
        static BASE: OnceLock<Base> = OnceLock::new();
        BASE.get_or_init(|| {
            let Some(path) = std::env::var_os("VERIFIED_PROXY_FUZZ_BASE") else {
                return Self::of(&forge());
            };
            let path = Path::new(&path);
            if !path.exists() {
                std::fs::write(path, forge().to_string()).expect("the base can be written");
            }
            let text = std::fs::read(path).expect("the base can be read");
            Self::of(&serde_json::from_slice(&text).expect("the base is JSON"))
        })
    }

    fn of(saved: &Value) -> Self {
        let text = |name: &str| saved[name].as_str().expect("a text").to_owned();
        Self {
            report: saved["report"].clone(),
            quote_v5: hex::decode(text("quote_v5")).expect("hex"),
            policy: Policy::from_toml(&text("policy")).expect("the policy is valid"),
            collateral: Collateral::from_json(text("collateral").as_bytes())
                .expect("the collateral is valid"),
            policy_toml: text("policy"),
            collateral_json: text("collateral"),
            tdx_root_der: hex::decode(text("root")).expect("hex"),
        }
    }

    /// A part of the report.
    pub fn part(&self, pointer: &str) -> &Value {
        self.report
            .pointer(pointer)
            .expect("the report has this part")
    }

    /// A text of the report.
    pub fn text(&self, pointer: &str) -> &str {
        self.part(pointer).as_str().expect("this part is a text")
    }

    /// The report with one part replaced.
    pub fn with(&self, pointer: &str, value: Value) -> Vec<u8> {
        let mut report = self.report.clone();
        *report
            .pointer_mut(pointer)
            .expect("the report has this part") = value;
        report.to_string().into_bytes()
    }

    /// The quote.
    pub fn quote(&self) -> Vec<u8> {
        hex::decode(self.text("/intel_quote")).expect("hex")
    }

    /// Judges a report as this machine's; `None` if it cannot be read.
    pub fn judge(&self, report: &[u8]) -> Option<Appraisal> {
        self.judge_with(report, &self.collateral)
    }

    /// The same with other collateral.
    pub fn judge_with(&self, report: &[u8], collateral: &Collateral) -> Option<Appraisal> {
        let evidence = match Evidence::parse(report) {
            Ok(evidence) => evidence,
            Err(rejected) => {
                must_be_printable(&rejected.to_string());
                return None;
            }
        };
        let appraisal = appraise(&Appraise {
            evidence: &evidence,
            subject: &Subject {
                domain: Expected::NotChecked("a fuzz target dials nobody"),
                models: Expected::Known(vec![self.text("/model_name").to_owned()]),
            },
            live_spki: Spki::from_bytes(SPKI),
            nonce: Nonce::from_bytes(NONCE),
            collateral,
            policy: &self.policy,
            trust_anchors: &TrustAnchors::danger_tdx_root(self.tdx_root_der.clone()),
            context: Context::none("a fuzz target has no memory"),
            now: UnixTime(NOW),
        });
        for check in &appraisal.report.checks {
            must_be_printable(&check.detail);
        }
        Some(appraisal)
    }

    /// True if a report verifies. One that does must mean what the base means.
    pub fn verifies(&self, report: &[u8]) -> bool {
        let Some(appraisal) = self.judge(report) else {
            return false;
        };
        if appraisal.outcome.is_err() {
            return false;
        }
        let mut judged: Value = serde_json::from_slice(report).expect("a verified report is JSON");
        let quote = judged["intel_quote"]
            .as_str()
            .and_then(|text| hex::decode(text.trim_start_matches("0x")).ok());
        if quote.is_some_and(|quote| signed_part(&quote) == signed_part(&self.quote_v5)) {
            judged["intel_quote"] = self.report["intel_quote"].clone();
        }
        let differ = report_normal_form::differences(&self.report, &judged);
        assert!(
            differ.is_empty(),
            "a report verifies that differs in {differ:?}"
        );
        true
    }

    /// The texts that a policy target starts from.
    pub fn policy_toml(&self) -> &str {
        &self.policy_toml
    }
}

fn forge() -> Value {
    let challenge = Challenge {
        nonce: NONCE,
        spki_sha256: SPKI,
    };
    let mut spec = Spec::new(NOW).expect("keys can be made");
    spec.gpus = None;
    spec.compose_manager = None;
    let built = spec.forge(&challenge).expect("the machine can be forged");
    spec.quote.format = QuoteFormat::TdxV5Td15;
    let v5 = spec.forge(&challenge).expect("the machine can be forged");
    let mut report = built.report;
    let top = report.as_object_mut().expect("a report is an object");
    top.remove("all_attestations");
    if let Some(Value::Object(tcb_info)) = report.pointer_mut("/info/tcb_info") {
        tcb_info.remove("event_log");
    }
    json!({
        "report": report,
        "quote_v5": hex::encode(v5.quote),
        "collateral": built.collateral_json,
        "root": hex::encode(built.tdx_root_der),
        "policy": spec.policy_toml() + "gpu.mode = \"off\"\ndeployment.mode = \"off\"\n",
    })
}

/// True if the hardware part of an appraisal holds.
pub fn quote_verified(appraisal: &Appraisal) -> bool {
    let quote = appraisal.report.check(CheckId::Quote);
    quote.is_some_and(|check| check.status == Status::Pass)
}

/// Messages are for terminals and logs, whatever is in the evidence.
pub fn must_be_printable(message: &str) {
    assert!(
        message.len() < 20_000 && message.chars().all(|c| (' '..='~').contains(&c)),
        "a message repeats what it should escape or bound: {message:?}"
    );
}

/// If `VERIFIED_PROXY_FUZZ_SEEDS` names a folder, writes a target's seeds into it
/// and ends the process.
pub fn write_seeds(seeds: impl FnOnce(&'static Base) -> Vec<Vec<u8>>) {
    let base = Base::get();
    assert!(
        base.verifies(base.report.to_string().as_bytes()),
        "the base verifies"
    );
    write_seed_files(|| seeds(base));
}

/// As [`write_seeds`], for a target that needs no report.
pub(crate) fn write_seed_files(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_FUZZ_SEEDS") else {
        return;
    };
    let folder = Path::new(&folder);
    for (index, seed) in seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).expect("a seed can be written");
    }
    std::process::exit(0);
}

/// Header and TD report: what the attestation key signs.
pub fn signed_part(quote: &[u8]) -> &[u8] {
    report_normal_form::signed_part(quote)
}

/// The first certificate of a PEM chain, in base64.
pub fn first_certificate(pem: &str) -> String {
    report_normal_form::first_certificate(pem)
}
