//! Writes quotes with this crate's verdict on each, for another implementation
//! to judge: `cargo run --example verdicts -- FILE`. See `scripts/second-opinion`.
//!
//! Quotes come from recordings (`VERIFIED_PROXY_CAPTURES`), from published
//! samples (`VERIFIED_PROXY_SHARED`), and from fake-tee: valid ones, ones that
//! Intel judges badly, and ones with one thing changed before it was signed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test program that cannot go on should stop"
)]

use std::path::{Path, PathBuf};

use attest::{
    Appraisal, Appraise, CheckId, Collateral, Context, Evidence, Expected, Nonce, Policy, Rejected,
    Spki, Status, Subject, TcbStatus, TrustAnchors, UnixTime, appraise,
};
use fake_tee::{Challenge, Pki, QuoteFormat, Signer, Spec};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

/// What a quote is compared in.
#[derive(Clone, Copy)]
enum Scope {
    /// Both implementations look at this: they must agree.
    Both,
    /// The other one does not look at this, for the reason given. Ours refuses.
    OursOnly(&'static str),
}

use Scope::{Both, OursOnly};

type Case = (&'static str, Scope, fn(&mut Spec));

const CRL: &str =
    "it reads serial numbers out of CRLs and checks neither their signatures nor their dates";
const MODULE: &str = "it does not judge TDX modules";
const ENCLAVE: &str =
    "it takes any word for an enclave's status; Intel defines UpToDate, OutOfDate and Revoked";

/// Fakes that verify, whatever a policy then says of their TCB.
const GENUINE: &[Case] = &[
    ("version 4", Both, |_| {}),
    ("version 5, TD 1.0", Both, |s| {
        s.quote.format = QuoteFormat::TdxV5Td10
    }),
    ("version 5, TD 1.5", Both, |s| {
        s.quote.format = QuoteFormat::TdxV5Td15
    }),
    ("platform SWHardeningNeeded", Both, |s| {
        s.tcb_info
            .set_platform_status("SWHardeningNeeded", &["INTEL-SA-00001"])
    }),
    ("platform ConfigurationNeeded", Both, |s| {
        s.tcb_info.set_platform_status("ConfigurationNeeded", &[])
    }),
    ("platform ConfigurationAndSWHardeningNeeded", Both, |s| {
        s.tcb_info.set_platform_status(
            "ConfigurationAndSWHardeningNeeded",
            &["INTEL-SA-00001", "INTEL-SA-00002"],
        );
    }),
    ("platform OutOfDate", Both, |s| {
        s.tcb_info
            .set_platform_status("OutOfDate", &["INTEL-SA-00003"])
    }),
    ("platform OutOfDateConfigurationNeeded", Both, |s| {
        s.tcb_info
            .set_platform_status("OutOfDateConfigurationNeeded", &["INTEL-SA-00004"]);
    }),
    ("quoting enclave OutOfDate", Both, |s| {
        s.qe_identity.set_status("OutOfDate", &["INTEL-SA-00005"])
    }),
    ("platform SWHardeningNeeded, enclave OutOfDate", Both, |s| {
        s.tcb_info
            .set_platform_status("SWHardeningNeeded", &["INTEL-SA-00001"]);
        s.qe_identity
            .set_status("OutOfDate", &["INTEL-SA-00005", "INTEL-SA-00001"]);
    }),
    ("an older level: PCE", Both, |s| {
        s.tcb_info.tcb_levels[1].advisory_ids = vec!["INTEL-SA-00007".to_owned()];
        s.platform.pce_svn -= 1;
    }),
    ("an older level: CPU", Both, |s| {
        s.tcb_info.tcb_levels[1].advisory_ids = vec!["INTEL-SA-00008".to_owned()];
        s.platform.cpu_svn[0] -= 1;
    }),
    ("an older level: TDX component", Both, |s| {
        s.tcb_info.tcb_levels[1].advisory_ids = vec!["INTEL-SA-00009".to_owned()];
        s.td.tee_tcb_svn[2] -= 1;
    }),
    ("an older level: quoting enclave", Both, |s| {
        s.qe_identity.tcb_levels[1].advisory_ids = vec!["INTEL-SA-00010".to_owned()];
        s.qe.isv_svn = 2;
    }),
    ("an older edition of the TCB info", Both, |s| {
        s.tcb_info.tcb_evaluation_data_number = 1
    }),
    ("other registers", Both, |s| {
        s.hooks.td_report.push(|td| td.rt_mr[0][0] ^= 1)
    }),
    ("no padding", Both, |s| s.quote.trailing.clear()),
];

/// Fakes that must not verify.
const FORGED: &[Case] = &[
    ("quote signature", Both, |s| {
        s.hooks.signed_quote.push(|q| q.signature[9] ^= 1)
    }),
    ("QE report signature", Both, |s| {
        s.hooks.signed_quote.push(|q| q.qe_report_signature[9] ^= 1)
    }),
    ("TD report after signing", Both, |s| {
        s.hooks.signed_quote.push(|q| q.body[200] ^= 1)
    }),
    ("TD report signed by a stranger", Both, |s| {
        s.signers.td_report = Signer::Stranger
    }),
    ("QE report signed by a stranger", Both, |s| {
        s.signers.qe_report = Signer::Stranger
    }),
    ("QE report does not bind the attestation key", Both, |s| {
        s.hooks.qe_report.push(|qe| qe.report_data[0] ^= 1)
    }),
    ("enclave of another signer", Both, |s| {
        s.qe.mr_signer[0] ^= 1
    }),
    ("enclave of another product", Both, |s| {
        s.qe_identity.isvprodid += 1
    }),
    ("PCK certificate by a stranger", Both, |s| {
        s.signers.pck_cert = Signer::Stranger
    }),
    ("platform CA by a stranger", Both, |s| {
        s.signers.platform_ca_cert = Signer::Stranger
    }),
    ("TCB signer by a stranger", Both, |s| {
        s.signers.tcb_signer_cert = Signer::Stranger
    }),
    ("certificates of another root", Both, |s| {
        s.pki = Pki::other().unwrap()
    }),
    ("PCK certificate revoked", Both, |s| {
        s.crls.pck.revoked = vec![s.certs.pck.serial.clone()]
    }),
    ("platform CA revoked", Both, |s| {
        s.crls.root.revoked = vec![s.certs.platform_ca.serial.clone()]
    }),
    ("TCB signer revoked", Both, |s| {
        s.crls.root.revoked = vec![s.certs.tcb_signer.serial.clone()]
    }),
    ("PCK certificate expired", Both, |s| {
        s.certs.pck.not_after = NOW - 1
    }),
    ("PCK certificate not yet valid", Both, |s| {
        s.certs.pck.not_before = NOW + 60
    }),
    ("TCB signer expired", Both, |s| {
        s.certs.tcb_signer.not_after = NOW - 1
    }),
    ("TCB info signed by a stranger", Both, |s| {
        s.signers.tcb_info = Signer::Stranger
    }),
    ("TCB info signature", Both, |s| {
        s.hooks.collateral.push(|c| c.tcb_info_signature[9] ^= 1)
    }),
    ("TCB info expired", Both, |s| {
        s.tcb_info.set_validity(NOW - 100, NOW - 1)
    }),
    ("TCB info of the future", Both, |s| {
        s.tcb_info.set_validity(NOW + 60, NOW + 100)
    }),
    ("TCB info of another platform family", Both, |s| {
        s.tcb_info.fmspc = "00606a000000".to_owned()
    }),
    ("TCB info of SGX", Both, |s| {
        s.tcb_info.id = "SGX".to_owned()
    }),
    ("QE identity signed by a stranger", Both, |s| {
        s.signers.qe_identity = Signer::Stranger
    }),
    ("QE identity expired", Both, |s| {
        s.qe_identity.set_validity(NOW - 100, NOW - 1)
    }),
    ("QE identity of SGX", Both, |s| {
        s.qe_identity.id = "QE".to_owned()
    }),
    ("platform Revoked", Both, |s| {
        s.tcb_info.set_platform_status("Revoked", &[])
    }),
    ("quoting enclave Revoked", Both, |s| {
        s.qe_identity.set_status("Revoked", &[])
    }),
    ("platform of an unknown status", Both, |s| {
        s.tcb_info.set_platform_status("Splendid", &[])
    }),
    ("a CPU below every level", Both, |s| {
        s.platform.cpu_svn[0] = 0
    }),
    ("an enclave below every level", Both, |s| s.qe.isv_svn = 0),
    ("a TD that can be debugged", Both, |s| {
        s.td.td_attributes[0] |= 1
    }),
    ("a TD without SEPT_VE_DISABLE", Both, |s| {
        s.td.td_attributes[3] = 0
    }),
    ("a TD of a service TD", Both, |s| {
        s.quote.format = QuoteFormat::TdxV5Td15;
        s.td.mr_service_td[0] = 1;
    }),
    ("certification data of another type", Both, |s| {
        s.quote.certification_type = 4
    }),
    ("truncated", Both, |s| {
        s.hooks.quote_bytes.push(|q| q.truncate(900))
    }),
    ("root CRL signed by a stranger", OursOnly(CRL), |s| {
        s.signers.root_crl = Signer::Stranger
    }),
    ("PCK CRL signed by a stranger", OursOnly(CRL), |s| {
        s.signers.pck_crl = Signer::Stranger
    }),
    ("root CRL expired", OursOnly(CRL), |s| {
        s.crls.root.next_update = NOW - 1
    }),
    ("PCK CRL expired", OursOnly(CRL), |s| {
        s.crls.pck.next_update = NOW - 1
    }),
    ("TDX module Revoked", OursOnly(MODULE), |s| {
        s.tcb_info.set_module_status("Revoked", &[])
    }),
    ("TDX module of an unknown version", OursOnly(MODULE), |s| {
        s.td.tee_tcb_svn[1] = 2
    }),
    ("TDX module of another signer", OursOnly(MODULE), |s| {
        s.td.mr_signer_seam[0] = 1
    }),
    (
        "another vendor's quoting enclave",
        OursOnly("it does not look at the vendor"),
        |s| s.quote.qe_vendor_id[0] ^= 1,
    ),
    ("bytes after the quote", OursOnly("it ignores them"), |s| {
        s.quote.trailing = vec![0xee; 9]
    }),
    (
        "quoting enclave SWHardeningNeeded",
        OursOnly(ENCLAVE),
        |s| {
            s.qe_identity
                .set_status("SWHardeningNeeded", &["INTEL-SA-00006"]);
        },
    ),
    ("an SGX enclave's quote", Both, |s| {
        s.quote.format = QuoteFormat::SgxV4
    }),
];

fn main() {
    let path = std::env::args_os()
        .nth(1)
        .expect("expected a file to write to");
    let mut cases = Vec::new();
    if let Some(folder) = std::env::var_os("VERIFIED_PROXY_CAPTURES").map(PathBuf::from) {
        cases.extend(["20260424", "20260610"].map(|day| recording(&folder.join(day), day)));
    }
    if let Some(folder) = std::env::var_os("VERIFIED_PROXY_SHARED").map(PathBuf::from) {
        for (name, at, scope) in [
            ("tdx_quote", 1_750_809_600, Both),
            ("tdx_quote_outdated", 1_771_977_600, Both),
            (
                "sgx_quote",
                1_750_809_600,
                OursOnly("it judges SGX too; only a TDX quote is evidence here"),
            ),
        ] {
            cases.push(sample(&folder.join("tdx"), name, at, scope));
        }
    }
    for (kind, list) in [("genuine fake", GENUINE), ("forged fake", FORGED)] {
        cases.extend(list.iter().map(|case| fake(kind, case)));
    }
    std::fs::write(&path, Value::from(cases).to_string()).expect("the file can be written");
}

fn recording(folder: &Path, day: &str) -> Value {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let quote = hex::decode(text("quote.hex").trim()).expect("hex");
    let at = text("verify_at_unix").trim().parse().expect("seconds");
    case(
        "recording",
        day,
        Both,
        &quote,
        &text("collateral.json"),
        None,
        at,
    )
}

fn sample(folder: &Path, name: &str, at: u64, scope: Scope) -> Value {
    let quote = std::fs::read(folder.join(name)).expect(name);
    let collateral =
        std::fs::read_to_string(folder.join(format!("{name}_collateral.json"))).expect(name);
    case("sample", name, scope, &quote, &collateral, None, at)
}

fn fake(kind: &str, (name, scope, change): &Case) -> Value {
    let mut spec = Spec::new(NOW).unwrap();
    let root = spec.pki.root_der().to_vec();
    change(&mut spec);
    let built = spec.forge(&challenge()).unwrap();
    case(
        kind,
        name,
        *scope,
        &built.quote,
        &built.collateral_json,
        Some(root),
        NOW,
    )
}

fn challenge() -> Challenge {
    Challenge {
        nonce: [7; 32],
        spki_sha256: [9; 32],
    }
}

fn case(
    kind: &str,
    name: &str,
    scope: Scope,
    quote: &[u8],
    collateral: &str,
    root: Option<Vec<u8>>,
    now: u64,
) -> Value {
    let mut collateral: Value = serde_json::from_str(collateral).expect("collateral is JSON");
    // This crate never reads it: the chain in the quote counts.
    collateral
        .as_object_mut()
        .unwrap()
        .remove("pck_certificate_chain");
    let anchors = root
        .clone()
        .map_or_else(TrustAnchors::intel, TrustAnchors::danger_tdx_root);
    json!({
        "kind": kind,
        "name": name,
        "ours_only": match scope {
            Both => None,
            OursOnly(reason) => Some(reason),
        },
        "quote": hex::encode(quote),
        "collateral": collateral,
        "root": root.map(hex::encode),
        "now": now,
        "ours": verdict(quote, &collateral.to_string(), &anchors, UnixTime(now)),
    })
}

/// The verdict on the quote alone, with the worse status of platform and
/// quoting enclave, and their advisories.
///
/// The crate judges whole reports, so the quote is put into somebody else's
/// report: the checks that concern the quote come first.
fn verdict(quote: &[u8], collateral: &str, anchors: &TrustAnchors, now: UnixTime) -> Value {
    let refused = |rejected: &Rejected| json!({ "accepted": false, "code": rejected.code() });
    let mut report = Spec::new(NOW).unwrap().forge(&challenge()).unwrap().report;
    report["intel_quote"] = hex::encode(quote).into();
    let evidence = match Evidence::parse(report.to_string().as_bytes()) {
        Ok(evidence) => evidence,
        Err(rejected) => return refused(&rejected),
    };
    let collateral = match Collateral::from_json(collateral.as_bytes()) {
        Ok(collateral) => collateral,
        Err(rejected) => return refused(&rejected),
    };
    // Platform, module and enclave may each have a status that the policy does
    // not accept by itself.
    let mut policy = Policy::hardware();
    for _ in 0..=4 {
        let appraisal = appraise(&Appraise {
            evidence: &evidence,
            subject: &Subject {
                domain: Expected::NotChecked("only the quote is judged"),
                models: Expected::NotChecked("only the quote is judged"),
            },
            live_spki: Spki::from_bytes([9; 32]),
            nonce: Nonce::from_bytes([7; 32]),
            collateral: &collateral,
            policy: &policy,
            trust_anchors: anchors,
            context: Context::none("only the quote is judged"),
            now,
        });
        match &appraisal.report.rejected {
            Some(
                Rejected::TcbPlatform { level, .. }
                | Rejected::TcbModule { level, .. }
                | Rejected::TcbQe { level, .. },
            ) if level.status != TcbStatus::Revoked => {
                let rule = format!("{}:{}", level.status, level.advisories.join(","));
                policy = policy.accepting(rule.parse().expect("an advisory of Intel's"));
            }
            _ if passed(&appraisal, CheckId::TcbQe) => return accepted(&appraisal),
            Some(rejected) => return refused(rejected),
            None => return json!({ "accepted": false, "code": "no check of the quote ran" }),
        }
    }
    panic!("the policy does not accept what it was told to");
}

fn passed(appraisal: &Appraisal, check: CheckId) -> bool {
    appraisal
        .report
        .check(check)
        .is_some_and(|check| check.status == Status::Pass)
}

fn accepted(appraisal: &Appraisal) -> Value {
    let levels = [CheckId::TcbPlatform, CheckId::TcbQe].map(|check| {
        let detail = &appraisal
            .report
            .check(check)
            .expect("every check is listed")
            .detail;
        level(detail)
    });
    let worst = levels.iter().map(|(status, _)| *status).max().unwrap();
    let mut advisories: Vec<_> = levels
        .into_iter()
        .flat_map(|(_, advisories)| advisories)
        .collect();
    advisories.sort();
    advisories.dedup();
    json!({ "accepted": true, "status": worst.as_str(), "advisories": advisories })
}

/// Reads `STATUS (level of DATE; ADVISORY, ...)`. A TD 1.5 has two levels; the
/// first is the one at its launch.
fn level(detail: &str) -> (TcbStatus, Vec<String>) {
    let first = detail.split("; now ").next().unwrap_or_default();
    let (status, rest) = first.split_once(" (level of ").expect("a level");
    let advisories = rest
        .trim_end_matches(')')
        .split_once("; ")
        .map_or("", |(_, advisories)| advisories);
    let advisories = advisories
        .split(", ")
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    (status.parse().expect("a status"), advisories)
}
