//! The quote: layout, signatures, TD.

use fake_tee::pki::Signer;
use fake_tee::{Pki, QuoteFormat};

use super::{Case, case};

pub(super) const CASES: &[Case] = &[
    case(
        "A8",
        "an SGX quote of version 3, signed",
        "rejected_quote_not_tdx",
        |s| {
            s.quote.format = QuoteFormat::SgxV3;
        },
    ),
    case(
        "A8",
        "an SGX quote of version 4, signed",
        "rejected_quote_not_tdx",
        |s| {
            s.quote.format = QuoteFormat::SgxV4;
        },
    ),
    case("A8", "quote version 6", "rejected_quote_format", |s| {
        s.hooks.quote_bytes.push(|bytes| bytes[0] = 6);
    }),
    case(
        "A8",
        "quote version 3 on a TD",
        "rejected_quote_format",
        |s| {
            s.hooks.quote_bytes.push(|bytes| bytes[0] = 3);
        },
    ),
    case("A8", "TEE type 0x82", "rejected_quote_format", |s| {
        s.hooks.quote_bytes.push(|bytes| bytes[4] = 0x82);
    }),
    case("A8", "an empty quote", "rejected_quote_format", |s| {
        s.hooks.quote_bytes.push(|bytes| bytes.clear());
    }),
    case("A8", "a truncated quote", "rejected_quote_format", |s| {
        s.hooks
            .quote_bytes
            .push(|bytes| bytes.truncate(bytes.len() / 2));
    }),
    case(
        "A8",
        "a byte behind the quote",
        "rejected_quote_format",
        |s| {
            s.hooks.quote_bytes.push(|bytes| bytes.push(1));
        },
    ),
    case("A8", "a quote of 70 KB", "rejected_quote_format", |s| {
        s.quote.trailing = vec![0; 70_000]
    }),
    case(
        "A8",
        "certification data of type 4 (a lone PCK certificate)",
        "rejected_quote_format",
        |s| {
            s.quote.certification_type = 4;
        },
    ),
    case(
        "A8",
        "certification data of type 1 (PPID only)",
        "rejected_quote_format",
        |s| {
            s.quote.certification_type = 1;
        },
    ),
    case(
        "A8",
        "outer certification data of type 5",
        "rejected_quote_format",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.outer_certification_type = 5);
        },
    ),
    case(
        "A8",
        "a PCK chain that is no PEM",
        "rejected_quote_format",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.certification_data = Some(b"no certificate".to_vec()));
        },
    ),
    case(
        "A8",
        "attestation key type 3",
        "rejected_quote_untrusted",
        |s| s.quote.attestation_key_type = 3,
    ),
    case(
        "A8",
        "another QE vendor, signed",
        "rejected_quote_untrusted",
        |s| s.quote.qe_vendor_id[0] ^= 1,
    ),
    case(
        "A8",
        "QE authentication data of 31 bytes, signed",
        "rejected_quote_untrusted",
        |s| {
            s.quote.qe_auth_data.truncate(31);
        },
    ),
    case(
        "A8",
        "the quote's signature flipped",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.signed_quote.push(|quote| quote.signature[31] ^= 1);
        },
    ),
    case(
        "A8",
        "the quote signed by another attestation key",
        "rejected_quote_untrusted",
        |s| {
            s.signers.td_report = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the attestation key flipped",
        "rejected_quote_untrusted",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.attestation_key[0] ^= 1);
        },
    ),
    case(
        "A8",
        "the QE report flipped",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.signed_quote.push(|quote| quote.qe_report[0] ^= 1);
        },
    ),
    case(
        "A8",
        "the QE report's signature flipped",
        "rejected_quote_untrusted",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.qe_report_signature[63] ^= 1);
        },
    ),
    case(
        "A8",
        "the QE report signed by another key",
        "rejected_quote_untrusted",
        |s| {
            s.signers.qe_report = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the QE authentication data flipped",
        "rejected_quote_untrusted",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.qe_auth_data[0] ^= 1);
        },
    ),
    case(
        "A8",
        "QE report data for another attestation key, signed",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.qe_report.push(|qe| qe.report_data[0] ^= 1);
        },
    ),
    case(
        "A8",
        "the PCK certificate signed by a stranger",
        "rejected_quote_untrusted",
        |s| {
            s.signers.pck_cert = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "a PCK chain whose second certificate is none",
        "rejected_quote_format",
        |s| {
            s.hooks
                .signed_quote
                .push(|quote| quote.pck_chain[1] = vec![0x30, 0]);
        },
    ),
    case(
        "A8",
        "the PCK chain in reverse order",
        "rejected_quote_format",
        |s| {
            s.hooks.signed_quote.push(|quote| quote.pck_chain.reverse());
        },
    ),
    case(
        "A8",
        "the PCK chain without its CA",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.signed_quote.push(|quote| {
                quote.pck_chain.remove(1);
            });
        },
    ),
    case(
        "A8",
        "everything under another root",
        "rejected_collateral_untrusted",
        |s| {
            s.pki = Pki::other().unwrap();
        },
    ),
    case(
        "A8",
        "another QE signer (MRSIGNER), signed",
        "rejected_quote_untrusted",
        |s| s.qe.mr_signer[0] ^= 1,
    ),
    case(
        "A8",
        "another QE product, signed",
        "rejected_quote_untrusted",
        |s| s.qe.isv_prod_id += 1,
    ),
    case(
        "A8",
        "other QE attributes, signed",
        "rejected_quote_untrusted",
        |s| s.qe.attributes[0] |= 2,
    ),
    case(
        "A8",
        "another QE MISCSELECT, signed",
        "rejected_quote_untrusted",
        |s| s.qe.misc_select = 1,
    ),
    case(
        "A8",
        "the quote's header flipped after signing",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.signed_quote.push(|quote| quote.header[30] ^= 1);
        },
    ),
    case(
        "A8",
        "TEE_TCB_SVN changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 0),
    ),
    case(
        "A8",
        "MRSEAM changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 16),
    ),
    case(
        "A8",
        "MRSIGNERSEAM changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 64),
    ),
    case(
        "A8",
        "SEAMATTRIBUTES changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 112),
    ),
    case(
        "A7",
        "XFAM changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 128),
    ),
    case(
        "A1",
        "MRTD changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 136),
    ),
    case(
        "A5",
        "MRCONFIGID changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 184),
    ),
    case(
        "A8",
        "MROWNER changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 232),
    ),
    case(
        "A8",
        "MROWNERCONFIG changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 280),
    ),
    case(
        "A4",
        "RTMR0 changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 328),
    ),
    case(
        "A4",
        "RTMR1 changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 376),
    ),
    case(
        "A4",
        "RTMR2 changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 424),
    ),
    case(
        "A4",
        "RTMR3 changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 472),
    ),
    case(
        "A10",
        "report_data changed after signing",
        "rejected_quote_untrusted",
        |s| flip_body(s, 520),
    ),
    case(
        "A7",
        "td_attributes changed after signing",
        "rejected_td_debug",
        |s| flip_body(s, 120),
    ),
    case("A7", "a debug TD, signed", "rejected_td_debug", |s| {
        s.td.td_attributes[0] = 1
    }),
    case("A7", "a profiled TD, signed", "rejected_td_debug", |s| {
        s.td.td_attributes[0] = 0x10
    }),
    case(
        "A7",
        "SEPT_VE_DISABLE off, signed",
        "rejected_td_attributes",
        |s| s.td.td_attributes[3] = 0,
    ),
    case(
        "A7",
        "a migratable TD, signed",
        "rejected_td_attributes",
        |s| s.td.td_attributes[3] |= 0x20,
    ),
    case(
        "A7",
        "a reserved attribute bit, signed",
        "rejected_td_attributes",
        |s| s.td.td_attributes[1] = 1,
    ),
    case(
        "A7",
        "protection keys (PKS) on, signed",
        "rejected_td_attributes",
        |s| s.td.td_attributes[3] |= 0x40,
    ),
    case("A7", "PERFMON on, signed", "rejected_td_attributes", |s| {
        s.td.td_attributes[7] |= 0x80
    }),
    case(
        "A7",
        "other CPU features (XFAM), signed",
        "rejected_xfam",
        |s| s.td.xfam[2] ^= 1,
    ),
    case(
        "A8",
        "a TDX module of another signer, signed",
        "rejected_quote_untrusted",
        |s| {
            s.td.mr_signer_seam[0] = 1;
        },
    ),
    case(
        "A8",
        "a TDX module with attributes, signed",
        "rejected_quote_untrusted",
        |s| {
            s.td.seam_attributes[0] = 1;
        },
    ),
    case(
        "A7",
        "rights of service TDs extended (SERVTD_EXT), signed",
        "rejected_service_td",
        |s| {
            s.quote.format = QuoteFormat::TdxV5Td15;
            s.td.td_attributes[2] |= 2;
        },
    ),
    case(
        "A8",
        "a forged signature, with a stray expired certificate in the PCK chain",
        "rejected_quote_untrusted",
        |s| {
            s.hooks.signed_quote.push(|quote| {
                quote.signature[0] ^= 1;
                quote.pck_chain.push(expired_certificate());
            });
        },
    ),
    case(
        "A8",
        "a PCK certificate with a bit flipped in its FMSPC",
        "rejected_quote_untrusted",
        |s| {
            let fmspc = s.platform.fmspc;
            s.hooks.signed_quote.push(move |quote| {
                let leaf = &mut quote.pck_chain[0];
                let at = leaf.windows(6).position(|window| window == fmspc).unwrap();
                leaf[at] ^= 1;
            });
        },
    ),
    case(
        "A7",
        "a TD 1.5 with a service TD, signed",
        "rejected_service_td",
        |s| {
            s.quote.format = QuoteFormat::TdxV5Td15;
            s.td.mr_service_td[0] = 1;
        },
    ),
];

/// A well-formed certificate that nobody vouches for and that has ended.
fn expired_certificate() -> Vec<u8> {
    use fake_tee::rcgen::{CertificateParams, KeyPair, date_time_ymd};
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

fn flip_body(spec: &mut fake_tee::Spec, at: usize) {
    spec.hooks
        .signed_quote
        .push(move |quote| quote.body[at] ^= 1);
}
