//! What holds for every statement about keys.

use std::sync::OnceLock;

use attest::{Evidence, KeyStatus, OhttpWire, SigningKey, e2ee_key, ohttp_key};
use proptest::prelude::*;
use serde_json::Value;

use super::{ecdsa, report};
use crate::support::spec;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The reports of the valid machine with either key attested, forged once.
fn reports() -> &'static [(Value, SigningKey); 2] {
    static REPORTS: OnceLock<[(Value, SigningKey); 2]> = OnceLock::new();
    REPORTS.get_or_init(|| {
        [spec(), ecdsa()].map(|spec| {
            let report = report(&spec);
            let evidence = Evidence::parse(report.to_string().as_bytes()).unwrap();
            (report, evidence.signing_key().clone())
        })
    })
}

fn is_bounded_and_printable(message: &str) -> bool {
    message.len() < 4096 && message.chars().all(|c| (' '..='~').contains(&c))
}

/// Text that is nearly right, and text that terminals would like to misunderstand.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(0x)?[0-9a-fA-F]{60,132}",
        "0100200[0-9a-f]{40,100}",
        "(\u{1b}\\[2J|\u{202e}|\r\n|\u{1f4a9}){1,400}",
        r#"\{"(signature|signing_key|key_config|signing_algo)":("?[0-9a-f]{0,70}"?|null|\{\})\}"#,
    ]
}

proptest! {
    #![proptest_config(cases(2000))]

    /// Nothing but the signed bytes is bound, and messages stay bounded.
    #[test]
    fn foreign_text_is_never_bound(
        which in 0..2_usize,
        key_config in prop::option::of(text()),
        attestation in prop::option::of(text()),
        public in text(),
    ) {
        let (_, attested) = &reports()[which];
        let wire = OhttpWire {
            key_config: key_config.as_deref(),
            attestation: attestation.as_deref(),
        };
        match ohttp_key(wire, attested) {
            Ok(KeyStatus::Bound(key)) => prop_assert!(false, "{key:?}"),
            Ok(_) => {}
            Err(rejected) => {
                prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
            }
        }
        match e2ee_key(Some(&public), attested) {
            Ok(status) => prop_assert!(false, "{status:?}"),
            Err(rejected) => {
                prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
            }
        }
    }

    /// One change of one byte: what is still bound is the same key.
    #[test]
    fn a_changed_attestation_binds_no_other_key(at in any::<usize>(), byte in any::<u8>()) {
        let (report, attested) = &reports()[0];
        let key_config = report["ohttp_key_config"].as_str().unwrap();
        let mut bytes = report["ohttp_attestation"].to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = String::from_utf8_lossy(&bytes);
        let wire = OhttpWire { key_config: Some(key_config), attestation: Some(&text) };
        if let Ok(KeyStatus::Bound(key)) = ohttp_key(wire, attested) {
            prop_assert_eq!(hex::encode(key.encoded()), key_config);
        }
    }

    /// One other bit of a public key of either kind.
    #[test]
    fn a_changed_public_key_is_refused(which in 0..2_usize, at in any::<usize>(), bit in 0..8_u32) {
        let (report, attested) = &reports()[which];
        let public = report["signing_public_key"].as_str().unwrap();
        let mut bytes = hex::decode(public).unwrap();
        prop_assert!(e2ee_key(Some(public), attested).is_ok());
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(e2ee_key(Some(&hex::encode(bytes)), attested).is_err());
    }
}
