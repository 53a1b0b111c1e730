//! What the KMS signed.

use fake_tee::pki::Signer;
use fake_tee::{CertForm, Kms, Spec};
use serde_json::json;

use super::{Case, case, remove, set};
use crate::support::{DAY, NOW};

const ATTESTATION: &[u64] = &[1, 3, 6, 1, 4, 1, 62_397, 1, 8];
const APP_ID: &[u64] = &[1, 3, 6, 1, 4, 1, 62_397, 1, 3];

pub(super) const CASES: &[Case] = &[
    case("A18", "no app_cert", "rejected_app_cert_missing", |s| {
        remove(s, "/info/app_cert")
    }),
    case(
        "A18",
        "an empty app_cert",
        "rejected_app_cert_missing",
        |s| set(s, "/info/app_cert", json!("")),
    ),
    case(
        "A18",
        "app_cert is null",
        "rejected_app_cert_missing",
        |s| set(s, "/info/app_cert", json!(null)),
    ),
    case("A18", "app_cert is no PEM", "rejected_app_cert", |s| {
        set(s, "/info/app_cert", json!("certificate"))
    }),
    case("A18", "app_cert of 300 KB", "rejected_app_cert", |s| {
        set(s, "/info/app_cert", json!("-".repeat(300_000)));
    }),
    case(
        "A18",
        "a chain without the KMS CA",
        "rejected_app_cert",
        |s| {
            s.hooks.app_chain.push(|chain| {
                chain.pop();
            });
        },
    ),
    case(
        "A18",
        "a chain with the KMS CA twice",
        "rejected_app_cert",
        |s| {
            s.hooks.app_chain.push(|chain| chain.push(chain[2].clone()));
        },
    ),
    case(
        "A18",
        "a chain in another order",
        "rejected_app_cert",
        |s| {
            s.hooks.app_chain.push(|chain| chain.swap(0, 1));
        },
    ),
    case(
        "A18",
        "a whole chain of another KMS, signed",
        "rejected_kms_root",
        |s| s.kms = Kms::other().unwrap(),
    ),
    case(
        "A18",
        "a KMS CA whose key is 150 KB of zeros",
        "rejected_app_cert",
        |s| {
            s.hooks
                .app_chain
                .push(|chain| chain[2] = huge_key(&chain[2]));
        },
    ),
    case(
        "A18",
        "a KMS CA with a key on P-384",
        "rejected_app_cert",
        |s| {
            s.hooks
                .app_chain
                .push(|chain| chain[2] = p384_certificate());
        },
    ),
    case(
        "A18",
        "a length inside the leaf that does not fit, its meaning unchanged",
        "rejected_app_cert",
        |s| s.hooks.app_chain.push(|chain| loose_length(&mut chain[0])),
    ),
    case(
        "A18",
        "a length inside the app CA that does not fit, its meaning unchanged",
        "rejected_app_cert",
        |s| s.hooks.app_chain.push(|chain| loose_length(&mut chain[1])),
    ),
    case(
        "A18",
        "a length inside the KMS CA that does not fit, its meaning unchanged",
        "rejected_app_cert",
        |s| s.hooks.app_chain.push(|chain| loose_length(&mut chain[2])),
    ),
    case(
        "A18",
        "bytes behind the leaf, inside its PEM",
        "rejected_app_cert",
        |s| s.hooks.app_chain.push(|chain| chain[0].push(0)),
    ),
    case(
        "A18",
        "a leaf under its own root",
        "rejected_kms_root",
        |s| {
            s.hooks.app_chain.push(|chain| chain[2] = chain[0].clone());
        },
    ),
    case(
        "A18",
        "the leaf signed by a stranger",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.signer = Signer::Stranger);
        },
    ),
    case(
        "A18",
        "the app CA signed by a stranger",
        "rejected_app_cert",
        |s| {
            s.hooks.app_ca.push(|ca| ca.signer = Signer::Stranger);
        },
    ),
    case(
        "A18",
        "one bit of the leaf flipped",
        "rejected_app_cert",
        |s| {
            s.hooks.app_chain.push(|chain| {
                let last = chain[0].len() - 1;
                chain[0][last] ^= 1;
            });
        },
    ),
    case(
        "A18",
        "the leaf expired, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.not_after = NOW - DAY);
        },
    ),
    case(
        "A18",
        "the leaf not yet valid, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.not_before = NOW + DAY);
        },
    ),
    case(
        "A18",
        "the app CA expired, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_ca.push(|ca| ca.not_after = NOW - DAY);
        },
    ),
    case(
        "A18",
        "the KMS CA expired, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.kms_root.push(|root| root.not_after = NOW - DAY);
        },
    ),
    case(
        "A18",
        "a leaf that is a CA, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.path_length = Some(0));
        },
    ),
    case(
        "A18",
        "an app CA that is none, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_ca.push(|ca| ca.path_length = None);
        },
    ),
    case(
        "A18",
        "a KMS CA that may not have CAs below it, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.kms_root.push(|root| root.path_length = Some(0));
        },
    ),
    case(
        "A18",
        "another app-id in the leaf, signed",
        "rejected_app_id",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.app_id = Some(vec![1; 20]));
        },
    ),
    case(
        "A18",
        "another app-id in the app CA, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_ca.push(|ca| ca.app_id = Some(vec![1; 20]));
        },
    ),
    case(
        "A18",
        "another app-id in both, signed",
        "rejected_app_id",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.app_id = Some(vec![1; 20]));
            s.hooks.app_ca.push(|ca| ca.app_id = Some(vec![1; 20]));
        },
    ),
    case(
        "A18",
        "no app-id in the leaf, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.app_id = None);
        },
    ),
    case(
        "A18",
        "two app-ids in the leaf, signed",
        "rejected_app_cert",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.more_extensions.push((APP_ID.to_vec(), vec![4, 1, 9])));
        },
    ),
    case(
        "A18",
        "an app-id that is no octet string, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| {
                leaf.app_id = None;
                leaf.more_extensions.push((APP_ID.to_vec(), vec![5, 0]));
            });
        },
    ),
    case(
        "A18",
        "a leaf for another usage, signed",
        "rejected_app_cert_usage",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.usage = Some(b"app:ca".to_vec()));
        },
    ),
    case(
        "A18",
        "an app CA for another usage, signed",
        "rejected_app_cert_usage",
        |s| {
            s.hooks
                .app_ca
                .push(|ca| ca.usage = Some(b"kms:rpc".to_vec()));
        },
    ),
    case(
        "A18",
        "no usage in the leaf, signed",
        "rejected_app_cert",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.usage = None);
        },
    ),
    case(
        "A18",
        "issued for a TD that could be debugged, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.td_attributes[0] = 1);
        },
    ),
    case(
        "A18",
        "issued for other CPU features, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.xfam[0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another MRTD, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.mr_td[0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another RTMR0, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.rt_mr[0][0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another RTMR1, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.rt_mr[1][0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another RTMR2, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.rt_mr[2][0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another RTMR3, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.rt_mr[3][0] ^= 1);
        },
    ),
    case(
        "A18",
        "issued for another MRCONFIGID, signed",
        "rejected_app_cert_quote",
        |s| {
            s.hooks.app_td_report.push(|td| td.mr_config_id[1] ^= 1);
        },
    ),
    case(
        "A18",
        "a quote inside that binds another key, signed",
        "rejected_app_cert_report_data",
        |s| {
            s.hooks.app_td_report.push(|td| td.report_data[0] ^= 1);
        },
    ),
    case("A18", "no quote inside, signed", "rejected_app_cert", |s| {
        s.hooks.app_leaf.push(|leaf| leaf.quote = None);
    }),
    case(
        "A18",
        "garbage in place of the quote inside, signed",
        "rejected_app_cert_form",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.quote = Some(vec![4; 700]));
        },
    ),
    case(
        "A18",
        "an attestation (SCALE) for another RTMR3, signed",
        "rejected_app_cert_quote",
        |s| {
            s.cert_form = CertForm::AttestationV0;
            s.hooks.app_td_report.push(|td| td.rt_mr[3][0] ^= 1);
        },
    ),
    case(
        "A18",
        "an attestation (MessagePack) for another RTMR3, signed",
        "rejected_app_cert_quote",
        |s| {
            s.cert_form = CertForm::AttestationV1;
            s.hooks.app_td_report.push(|td| td.rt_mr[3][0] ^= 1);
        },
    ),
    case(
        "A18",
        "an attestation whose quote binds another key, signed",
        "rejected_app_cert_report_data",
        |s| {
            s.cert_form = CertForm::AttestationV1;
            s.hooks.app_td_report.push(|td| td.report_data[0] ^= 1);
        },
    ),
    case(
        "A18",
        "an attestation beside another quote, signed",
        "rejected_app_cert",
        |s| {
            s.cert_form = CertForm::Both;
            // In the signature: both quotes have the same registers.
            s.hooks
                .app_leaf
                .push(|leaf| leaf.quote.as_mut().unwrap()[700] ^= 1);
        },
    ),
    case(
        "A18",
        "two attestations, signed",
        "rejected_app_cert",
        |s| {
            s.cert_form = CertForm::AttestationV0;
            s.hooks.app_leaf.push(|leaf| {
                leaf.more_extensions
                    .push((ATTESTATION.to_vec(), vec![4, 0]))
            });
        },
    ),
    case(
        "A18",
        "an attestation of a newer version, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::AttestationV0, |bytes| bytes[0] = 2),
    ),
    case(
        "A18",
        "an attestation (MessagePack) of version 2, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::AttestationV1, |bytes| bytes[9] = 2),
    ),
    case(
        "A18",
        "an attestation of another kind of TEE, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::AttestationV0, |bytes| bytes[1] = 3),
    ),
    case(
        "A18",
        "an attestation with bytes behind it, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::AttestationV0, |bytes| bytes.push(0)),
    ),
    case(
        "A18",
        "an attestation cut off behind its quote, signed",
        "rejected_app_cert_form",
        |s| {
            attestation(s, CertForm::AttestationV1, |bytes| {
                bytes.pop();
            });
        },
    ),
    case(
        "A18",
        "an empty attestation, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::AttestationV0, Vec::clear),
    ),
    case(
        "A18",
        "an attestation that is no octet string, signed",
        "rejected_app_cert_form",
        |s| {
            s.hooks.app_leaf.push(|leaf| {
                leaf.quote = None;
                leaf.more_extensions
                    .push((ATTESTATION.to_vec(), vec![5, 0]));
            });
        },
    ),
    case(
        "A18",
        "a bare quote where an attestation stands, signed",
        "rejected_app_cert_form",
        |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.attestation = leaf.quote.take());
        },
    ),
    case(
        "A18",
        "an attestation of a newer version beside a quote that holds, signed",
        "rejected_app_cert_form",
        |s| attestation(s, CertForm::Both, |bytes| bytes[0] = 2),
    ),
    case(
        "A18",
        "an attestation of a newer version, by another KMS, signed",
        "rejected_kms_root",
        |s| {
            attestation(s, CertForm::AttestationV0, |bytes| bytes[0] = 2);
            s.kms = Kms::other().unwrap();
        },
    ),
    case(
        "A18",
        "an attestation of a newer version, signed by a stranger",
        "rejected_app_cert",
        |s| {
            attestation(s, CertForm::AttestationV0, |bytes| bytes[0] = 2);
            s.hooks.app_leaf.push(|leaf| leaf.signer = Signer::Stranger);
        },
    ),
    case(
        "A18",
        "an attestation of a newer version, in a certificate for another usage, signed",
        "rejected_app_cert_usage",
        |s| {
            attestation(s, CertForm::AttestationV0, |bytes| bytes[0] = 2);
            s.hooks
                .app_leaf
                .push(|leaf| leaf.usage = Some(b"app:ca".to_vec()));
        },
    ),
];

/// Changes the leaf's attestation before it is signed.
fn attestation(spec: &mut Spec, form: CertForm, change: fn(&mut Vec<u8>)) {
    spec.cert_form = form;
    spec.hooks
        .app_leaf
        .push(move |leaf| change(leaf.attestation.as_mut().unwrap()));
}

/// A certificate whose public key has 150 KB; its signature does not matter.
fn huge_key(certificate: &[u8]) -> Vec<u8> {
    // 0x03 0x42 0x00 0x04: a bit string of an uncompressed point on P-256.
    let at = certificate
        .windows(4)
        .position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04])
        .unwrap();
    let mut out = certificate[..at].to_vec();
    let long = |bytes: &mut Vec<u8>, len: usize| {
        bytes.extend([0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8])
    };
    out.push(0x03);
    long(&mut out, 150_001);
    out.extend(vec![0; 150_001]);
    out.extend(&certificate[at + 68..]);
    out
}

fn p384_certificate() -> Vec<u8> {
    use fake_tee::rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384};
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    certificate.der().to_vec()
}

/// The length of the key's AlgorithmIdentifier, 0x13, becomes 0x1b: x509-cert reads the
/// same certificate.
fn loose_length(der: &mut [u8]) {
    let algorithm = [0x30, 0x59, 0x30, 0x13];
    let at = der.windows(4).position(|window| window == algorithm);
    der[at.unwrap() + 3] = 0x1b;
}
