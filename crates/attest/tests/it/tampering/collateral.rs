//! What Intel says: documents, signatures, dates, levels.

use fake_tee::Spec;
use fake_tee::pki::Signer;

use super::{Case, case};
use crate::support::{DAY, NOW};

pub(super) const CASES: &[Case] = &[
    case(
        "A8",
        "the TCB info's text changed after signing",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks
                .collateral
                .push(|c| c.tcb_info = c.tcb_info.replace("UpToDate\"", "UpToDate\" "));
        },
    ),
    case(
        "A8",
        "the TCB info's signature flipped",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks.collateral.push(|c| c.tcb_info_signature[0] ^= 1);
        },
    ),
    case(
        "A8",
        "the TCB info's signature of 63 bytes",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks
                .collateral
                .push(|c| c.tcb_info_signature.truncate(63));
        },
    ),
    case(
        "A8",
        "the TCB info signed by a stranger",
        "rejected_collateral_untrusted",
        |s| {
            s.signers.tcb_info = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the QE identity's text changed after signing",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks.collateral.push(|c| c.qe_identity.push(' '));
        },
    ),
    case(
        "A8",
        "the QE identity's signature flipped",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks
                .collateral
                .push(|c| c.qe_identity_signature[63] ^= 1);
        },
    ),
    case(
        "A8",
        "the QE identity signed by a stranger",
        "rejected_collateral_untrusted",
        |s| {
            s.signers.qe_identity = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the TCB signer's certificate signed by a stranger",
        "rejected_collateral_untrusted",
        |s| {
            s.signers.tcb_signer_cert = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the root CRL signed by a stranger",
        "rejected_collateral_untrusted",
        |s| {
            s.signers.root_crl = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the PCK CRL signed by a stranger",
        "rejected_collateral_untrusted",
        |s| {
            s.signers.pck_crl = Signer::Stranger;
        },
    ),
    case(
        "A8",
        "the two CRLs exchanged",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks
                .collateral
                .push(|c| std::mem::swap(&mut c.root_ca_crl, &mut c.pck_crl));
        },
    ),
    case(
        "A8",
        "the platform CA's chain in the TCB info's place",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks
                .collateral
                .push(|c| c.tcb_info_issuer_chain = c.pck_crl_issuer_chain.clone());
        },
    ),
    case(
        "A8",
        "the PCK certificate revoked",
        "rejected_certificate_revoked",
        |s| {
            s.crls.pck.revoked.push(s.certs.pck.serial.clone());
        },
    ),
    case(
        "A8",
        "the platform CA revoked",
        "rejected_certificate_revoked",
        |s| {
            s.crls.root.revoked.push(s.certs.platform_ca.serial.clone());
        },
    ),
    case(
        "A8",
        "the TCB signer revoked",
        "rejected_collateral_untrusted",
        |s| {
            s.crls.root.revoked.push(s.certs.tcb_signer.serial.clone());
        },
    ),
    case(
        "A8",
        "TCB info for another FMSPC, signed",
        "rejected_collateral_fmspc",
        |s| {
            s.tcb_info.fmspc = "00606a000000".to_owned();
        },
    ),
    case(
        "A8",
        "TCB info of SGX, signed",
        "rejected_collateral_format",
        |s| s.tcb_info.id = "SGX".to_owned(),
    ),
    case(
        "A8",
        "TCB info of version 2, signed",
        "rejected_collateral_format",
        |s| s.tcb_info.version = 2,
    ),
    case(
        "A8",
        "TCB info with another TDX module signer, signed",
        "rejected_quote_untrusted",
        |s| {
            for identity in &mut s.tcb_info.tdx_module_identities {
                identity.module.mrsigner = "11".repeat(48);
            }
        },
    ),
    case(
        "A8",
        "TCB info without the TDX module in use, signed",
        "rejected_tcb_unknown",
        |s| {
            s.tcb_info.tdx_module_identities.clear();
        },
    ),
    case(
        "A8",
        "QE identity of an SGX enclave, signed",
        "rejected_collateral_format",
        |s| {
            s.qe_identity.id = "QE".to_owned();
        },
    ),
    case(
        "A8",
        "QE identity of version 1, signed",
        "rejected_collateral_format",
        |s| s.qe_identity.version = 1,
    ),
    case(
        "A8",
        "QE identity of another signer, signed",
        "rejected_quote_untrusted",
        |s| {
            s.qe_identity.mrsigner = "11".repeat(32);
        },
    ),
    case(
        "A8",
        "QE identity of another product, signed",
        "rejected_quote_untrusted",
        |s| {
            s.qe_identity.isvprodid = 77;
        },
    ),
    case(
        "A8",
        "TCB info for another PCE, signed",
        "rejected_collateral_fmspc",
        |s| {
            s.tcb_info.pce_id = "0001".to_owned();
        },
    ),
    case(
        "A9",
        "the TCB info expired, signed",
        "rejected_collateral_expired",
        |s| {
            s.tcb_info.set_validity(NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the QE identity expired, signed",
        "rejected_collateral_expired",
        |s| {
            s.qe_identity.set_validity(NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the root CRL expired, signed",
        "rejected_collateral_expired",
        |s| {
            (s.crls.root.this_update, s.crls.root.next_update) = (NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the PCK CRL expired, signed",
        "rejected_collateral_expired",
        |s| {
            (s.crls.pck.this_update, s.crls.pck.next_update) = (NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the PCK certificate expired, signed",
        "rejected_platform_certificate",
        |s| {
            (s.certs.pck.not_before, s.certs.pck.not_after) = (NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the platform CA expired, signed",
        "rejected_platform_certificate",
        |s| {
            (
                s.certs.platform_ca.not_before,
                s.certs.platform_ca.not_after,
            ) = (NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the TCB signer expired, signed",
        "rejected_collateral_expired",
        |s| {
            (s.certs.tcb_signer.not_before, s.certs.tcb_signer.not_after) =
                (NOW - 40 * DAY, NOW - DAY);
        },
    ),
    case(
        "A9",
        "the TCB info issued tomorrow, signed",
        "rejected_collateral_not_yet_valid",
        |s| {
            s.tcb_info.set_validity(NOW + DAY, NOW + 30 * DAY);
        },
    ),
    case(
        "A9",
        "the QE identity issued tomorrow, signed",
        "rejected_collateral_not_yet_valid",
        |s| {
            s.qe_identity.set_validity(NOW + DAY, NOW + 30 * DAY);
        },
    ),
    case(
        "A9",
        "the root CRL issued tomorrow, signed",
        "rejected_collateral_not_yet_valid",
        |s| {
            (s.crls.root.this_update, s.crls.root.next_update) = (NOW + DAY, NOW + 30 * DAY);
        },
    ),
    case(
        "A9",
        "the PCK CRL issued tomorrow, signed",
        "rejected_collateral_not_yet_valid",
        |s| {
            (s.crls.pck.this_update, s.crls.pck.next_update) = (NOW + DAY, NOW + 30 * DAY);
        },
    ),
    case(
        "A9",
        "the PCK certificate issued tomorrow, signed",
        "rejected_platform_certificate",
        |s| {
            (s.certs.pck.not_before, s.certs.pck.not_after) = (NOW + DAY, NOW + 30 * DAY);
        },
    ),
    case(
        "A9",
        "TCB info dates that are none, signed",
        "rejected_collateral_format",
        |s| {
            s.tcb_info.next_update = "tomorrow".to_owned();
        },
    ),
    case(
        "A6",
        "platform OutOfDate, signed",
        "rejected_tcb_platform",
        |s| platform(s, "OutOfDate"),
    ),
    case(
        "A6",
        "platform ConfigurationNeeded, signed",
        "rejected_tcb_platform",
        |s| {
            platform(s, "ConfigurationNeeded");
        },
    ),
    case(
        "A6",
        "platform ConfigurationAndSWHardeningNeeded, signed",
        "rejected_tcb_platform",
        |s| {
            platform(s, "ConfigurationAndSWHardeningNeeded");
        },
    ),
    case(
        "A6",
        "platform OutOfDateConfigurationNeeded, signed",
        "rejected_tcb_platform",
        |s| {
            platform(s, "OutOfDateConfigurationNeeded");
        },
    ),
    case(
        "A6",
        "platform Revoked, signed",
        "rejected_tcb_platform",
        |s| platform(s, "Revoked"),
    ),
    case(
        "A6",
        "a platform status that nobody knows, signed",
        "rejected_collateral_format",
        |s| {
            platform(s, "Splendid");
        },
    ),
    case(
        "A6",
        "the platform's status in small letters, signed",
        "rejected_collateral_format",
        |s| {
            platform(s, "uptodate");
        },
    ),
    case(
        "A6",
        "a platform at an older level",
        "rejected_tcb_platform",
        |s| s.platform.pce_svn -= 1,
    ),
    case(
        "A6",
        "a platform below every level",
        "rejected_tcb_unknown",
        |s| s.platform.pce_svn = 0,
    ),
    case(
        "A6",
        "TDX module OutOfDate, signed",
        "rejected_tcb_module",
        |s| {
            s.tcb_info
                .set_module_status("OutOfDate", &["FAKE-SA-00005"]);
        },
    ),
    case(
        "A6",
        "TDX module Revoked, signed",
        "rejected_tcb_module",
        |s| {
            s.tcb_info.set_module_status("Revoked", &[]);
        },
    ),
    case(
        "A6",
        "a TDX module status that nobody knows, signed",
        "rejected_collateral_format",
        |s| {
            s.tcb_info.set_module_status("Fine", &[]);
        },
    ),
    case(
        "A6",
        "a TDX module below every level, signed",
        "rejected_tcb_unknown",
        |s| s.td.tee_tcb_svn[0] = 0,
    ),
    case(
        "A6",
        "a TD 1.5 whose TDX module of now is below every level, signed",
        "rejected_tcb_unknown",
        |s| {
            s.quote.format = fake_tee::QuoteFormat::TdxV5Td15;
            s.td.tee_tcb_svn2[0] = 0;
        },
    ),
    case(
        "A6",
        "quoting enclave OutOfDate, signed",
        "rejected_tcb_qe",
        |s| {
            s.qe_identity.set_status("OutOfDate", &["FAKE-SA-00006"]);
        },
    ),
    case(
        "A6",
        "quoting enclave at an older level, signed",
        "rejected_tcb_qe",
        |s| s.qe.isv_svn = 1,
    ),
    case(
        "A6",
        "a quoting enclave below every level, signed",
        "rejected_tcb_unknown",
        |s| s.qe.isv_svn = 0,
    ),
    case(
        "A6",
        "a quoting enclave at a revoked level, signed",
        "rejected_tcb_qe",
        |s| {
            s.qe_identity.tcb_levels[1].tcb_status = "Revoked".to_owned();
            s.qe.isv_svn = 1;
        },
    ),
    case(
        "A6",
        "quoting enclave ConfigurationNeeded, signed",
        "rejected_tcb_qe",
        |s| {
            s.qe_identity.set_status("ConfigurationNeeded", &[]);
        },
    ),
    case(
        "A6",
        "quoting enclave Revoked, signed",
        "rejected_tcb_qe",
        |s| {
            s.qe_identity.set_status("Revoked", &[]);
        },
    ),
    case(
        "A6",
        "a quoting enclave's status that nobody knows, signed",
        "rejected_collateral_format",
        |s| {
            s.qe_identity.set_status("", &[]);
        },
    ),
    case(
        "A9",
        "TCB info that is no JSON, signed",
        "rejected_collateral_format",
        |s| {
            s.hooks.tcb_info_json.push(|text| *text = "{".to_owned());
        },
    ),
    case(
        "A9",
        "TCB info with a number that is too large, signed",
        "rejected_collateral_format",
        |s| {
            s.hooks.tcb_info_json.push(|text| {
                *text = text.replace(
                    "\"tcbEvaluationDataNumber\":",
                    "\"tcbEvaluationDataNumber\":99999999999",
                );
            });
        },
    ),
    case(
        "A9",
        "QE identity that is no JSON, signed",
        "rejected_collateral_format",
        |s| {
            s.hooks.qe_identity_json.push(|text| text.clear());
        },
    ),
    case(
        "A9",
        "a root CRL that is none",
        "rejected_collateral_format",
        |s| {
            s.hooks.collateral.push(|c| c.root_ca_crl = vec![0x30, 0]);
        },
    ),
    case(
        "A9",
        "an empty PCK CRL",
        "rejected_collateral_format",
        |s| {
            s.hooks.collateral.push(|c| c.pck_crl.clear());
        },
    ),
    case(
        "A9",
        "an issuer chain of no certificate",
        "rejected_collateral_untrusted",
        |s| {
            s.hooks.collateral.push(|c| c.tcb_info_issuer_chain.clear());
        },
    ),
    case(
        "A9",
        "a PCK CRL of 3 MB",
        "rejected_collateral_format",
        |s| {
            s.hooks.collateral.push(|c| c.pck_crl = vec![0; 3_000_000]);
        },
    ),
];

fn platform(spec: &mut Spec, status: &str) {
    spec.tcb_info
        .set_platform_status(status, &["FAKE-SA-00007"]);
}
