//! dcap-qvl accepts the fake's quotes under the fake's root, and nothing else.

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};
use dcap_qvl::{QuoteCollateralV3, QuotePolicy};
use fake_tee::{Built, Challenge, Kms, Pki, QuoteFormat, Spec};

use crate::cases::{ACCEPTED, REFUSED};

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn challenge() -> Challenge {
    Challenge {
        nonce: [0x5a; 32],
        spki_sha256: [0xc3; 32],
    }
}

pub(crate) fn spec() -> Spec {
    Spec::new(NOW).unwrap()
}

struct AwsLc;
struct AwsLcConfig;

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn rustls_pki_types::SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }
    fn sha256(data: &[u8]) -> [u8; 32] {
        fake_tee::hash::sha256(data)
    }
    fn sha384(data: &[u8]) -> [u8; 48] {
        fake_tee::hash::sha384(data)
    }
}

impl Config for AwsLcConfig {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = AwsLc;
}

fn verify_at(built: &Built, root: &[u8], now: u64) -> Result<VerifiedReport, String> {
    let collateral = serde_json::from_str(&built.collateral_json).map_err(|e| e.to_string())?;
    verify_quote(&built.quote, &collateral, root, now)
}

pub(crate) fn verify_quote(
    quote: &[u8],
    collateral: &QuoteCollateralV3,
    root: &[u8],
    now: u64,
) -> Result<VerifiedReport, String> {
    let verifier = QuoteVerifier::<AwsLcConfig>::new_with_config(root.to_vec());
    // The claims parse CRL numbers and dates too.
    verifier
        .verify_with_policy(quote, collateral, now, &QuotePolicy::claims_only(now))
        .map_err(|e| format!("{e:#}"))?;
    verifier
        .verify(quote, collateral, now)
        .map_err(|e| format!("{e:#}"))
}

fn verify(built: &Built) -> Result<VerifiedReport, String> {
    verify_at(built, &built.tdx_root_der, NOW)
}

fn status(change: impl Fn(&mut Spec)) -> (String, String, String, Vec<String>) {
    let mut spec = spec();
    change(&mut spec);
    let report = verify(&spec.forge(&challenge()).unwrap()).unwrap();
    (
        report.status,
        report.platform_status.status.to_string(),
        report.qe_status.status.to_string(),
        report.advisory_ids,
    )
}

#[test]
fn every_tdx_format_is_accepted_under_the_fake_root_only() {
    for format in [
        QuoteFormat::TdxV4,
        QuoteFormat::TdxV5Td10,
        QuoteFormat::TdxV5Td15,
    ] {
        let mut spec = spec();
        spec.quote.format = format;
        let built = spec.forge(&challenge()).unwrap();
        let report = verify(&built).unwrap();
        assert_eq!(report.status, "UpToDate", "{format:?}");
        assert!(report.advisory_ids.is_empty());
        let td = report.report.as_td10().unwrap();
        assert_eq!(td.report_data[32..], [0x5a; 32]);

        let other = Pki::other().unwrap();
        verify_at(&built, other.root_der(), NOW).unwrap_err();
        verify_at(&built, &built.tdx_root_der, NOW + 31 * 86_400).unwrap_err();
        verify_at(&built, &built.tdx_root_der, NOW - 2 * 86_400).unwrap_err();
    }
}

#[test]
fn an_sgx_quote_verifies_as_one() {
    let mut spec = spec();
    spec.quote.format = QuoteFormat::SgxV3;
    spec.tcb_info.id = "SGX".to_owned();
    spec.qe_identity.id = "QE".to_owned();
    let report = verify(&spec.forge(&challenge()).unwrap()).unwrap();
    assert!(report.report.is_sgx());
}

#[test]
fn the_quote_in_the_app_certificate_verifies_too() {
    let built = {
        let mut spec = spec();
        // What is embedded is put in the main quote's place by its own hook.
        let quote = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = quote.clone();
        spec.hooks.app_leaf.push(move |leaf| {
            *seen.lock().unwrap() = leaf.quote.clone().unwrap();
        });
        let mut built = spec.forge(&challenge()).unwrap();
        built.quote = quote.lock().unwrap().clone();
        built
    };
    let report = verify(&built).unwrap();
    assert_eq!(
        report.report.as_td10().unwrap().report_data,
        Kms::shared().unwrap().leaf_report_data()
    );
}

#[test]
fn statuses_can_be_set_apart() {
    let advisory = vec!["FAKE-SA-9".to_owned()];
    let level = |status: &str| status.to_owned();
    assert_eq!(
        status(|s| s.tcb_info.set_platform_status("OutOfDate", &["FAKE-SA-9"])),
        (
            level("OutOfDate"),
            level("OutOfDate"),
            level("UpToDate"),
            advisory.clone()
        )
    );
    assert_eq!(
        status(|s| s.tcb_info.set_module_status("OutOfDate", &["FAKE-SA-9"])).0,
        "OutOfDate"
    );
    assert_eq!(
        status(|s| s.qe_identity.set_status("OutOfDate", &["FAKE-SA-9"])),
        (
            level("OutOfDate"),
            level("UpToDate"),
            level("OutOfDate"),
            advisory
        )
    );
    assert_eq!(
        status(|s| s.tcb_info.set_platform_status("SWHardeningNeeded", &[])).0,
        "SWHardeningNeeded"
    );
    // A TDX module of the old kind, without identities.
    assert_eq!(
        status(|s| {
            s.td.tee_tcb_svn[1] = 0;
            s.tcb_info.tdx_module_identities.clear();
        })
        .0,
        "UpToDate"
    );
}

#[test]
fn single_tamperings_are_refused_where_they_should_be() {
    let mut wrong = Vec::new();
    for (name, change, part) in REFUSED {
        let mut spec = spec();
        change(&mut spec);
        match verify(&spec.forge(&challenge()).unwrap()) {
            Err(error) if error.contains(part) => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn changes_before_signing_stay_valid() {
    for (name, change) in ACCEPTED {
        let mut spec = spec();
        change(&mut spec);
        verify(&spec.forge(&challenge()).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
