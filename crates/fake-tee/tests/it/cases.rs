//! Tamperings before and after signing, as one table each.

use fake_tee::{Kms, Pki, QuoteFormat, Signer, Spec};

use crate::dcap::{NOW, challenge};

pub(crate) type Change = fn(&mut Spec);

/// A tampering, and a piece of what dcap-qvl says about it.
pub(crate) type Case = (&'static str, Change, &'static str);

pub(crate) const REFUSED: &[Case] = &[
    (
        "another PKI's certificates",
        |s| {
            s.hooks.signed_quote.push(|q| {
                q.pck_chain = Spec::with(
                    NOW,
                    Pki::other().unwrap(),
                    Kms::shared().unwrap(),
                    fake_tee::gpu::GpuSpec::shared().unwrap(),
                )
                .forge(&challenge())
                .unwrap()
                .pck_chain;
            })
        },
        "InvalidSignatureForPublicKey",
    ),
    (
        "platform CA by a stranger",
        |s| s.signers.platform_ca_cert = Signer::Stranger,
        "",
    ),
    (
        "PCK by a stranger",
        |s| s.signers.pck_cert = Signer::Stranger,
        "",
    ),
    (
        "TCB signer by a stranger",
        |s| s.signers.tcb_signer_cert = Signer::Stranger,
        "",
    ),
    (
        "root CRL by a stranger",
        |s| s.signers.root_crl = Signer::Stranger,
        "root CA CRL",
    ),
    (
        "PCK CRL by a stranger",
        |s| s.signers.pck_crl = Signer::Stranger,
        "",
    ),
    (
        "TCB info by a stranger",
        |s| s.signers.tcb_info = Signer::Stranger,
        "invalid for tcb_info",
    ),
    (
        "QE identity by a stranger",
        |s| s.signers.qe_identity = Signer::Stranger,
        "invalid for qe_identity",
    ),
    (
        "QE report by a stranger",
        |s| s.signers.qe_report = Signer::Stranger,
        "invalid for qe_report",
    ),
    (
        "TD report by a stranger",
        |s| s.signers.td_report = Signer::Stranger,
        "report signature is invalid",
    ),
    (
        "PCK revoked",
        |s| s.crls.pck.revoked = vec![s.certs.pck.serial.clone()],
        "Revoked",
    ),
    (
        "platform CA revoked",
        |s| s.crls.root.revoked = vec![s.certs.platform_ca.serial.clone()],
        "Revoked",
    ),
    (
        "TCB signer revoked",
        |s| s.crls.root.revoked = vec![s.certs.tcb_signer.serial.clone()],
        "Revoked",
    ),
    (
        "PCK expired",
        |s| s.certs.pck.not_after = NOW - 1,
        "Expired",
    ),
    (
        "PCK not yet valid",
        |s| s.certs.pck.not_before = NOW + 60,
        "NotValidYet",
    ),
    (
        "PCK CRL expired",
        |s| s.crls.pck.next_update = NOW - 1,
        "CrlExpired",
    ),
    (
        "root CRL expired",
        |s| s.crls.root.next_update = NOW - 1,
        "CrlExpired",
    ),
    (
        "TCB info expired",
        |s| s.tcb_info.set_validity(NOW - 100, NOW - 1),
        "TCBInfo expired",
    ),
    (
        "TCB info of the future",
        |s| s.tcb_info.set_validity(NOW + 1, NOW + 100),
        "in the future",
    ),
    (
        "QE identity expired",
        |s| s.qe_identity.set_validity(NOW - 100, NOW - 1),
        "QE Identity expired",
    ),
    (
        "other FMSPC",
        |s| s.tcb_info.fmspc = "00606a000000".to_owned(),
        "Fmspc mismatch",
    ),
    (
        "platform of another FMSPC",
        |s| s.platform.fmspc[0] ^= 1,
        "Fmspc mismatch",
    ),
    (
        "QE's MRSIGNER",
        |s| s.qe_identity.mrsigner = "00".repeat(32),
        "MRSIGNER",
    ),
    (
        "QE of another signer",
        |s| s.qe.mr_signer[0] ^= 1,
        "MRSIGNER",
    ),
    (
        "QE report data",
        |s| s.hooks.qe_report.push(|qe| qe.report_data[0] ^= 1),
        "QE report hash mismatch",
    ),
    (
        "platform revoked",
        |s| s.tcb_info.set_platform_status("Revoked", &[]),
        "Revoked",
    ),
    (
        "module revoked",
        |s| s.tcb_info.set_module_status("Revoked", &[]),
        "Revoked",
    ),
    (
        "QE revoked",
        |s| s.qe_identity.set_status("Revoked", &[]),
        "Revoked",
    ),
    (
        "unknown platform status",
        |s| s.tcb_info.set_platform_status("Splendid", &[]),
        "decode TcbInfo",
    ),
    (
        "unknown QE status",
        |s| s.qe_identity.set_status("Splendid", &[]),
        "decode QeIdentity",
    ),
    (
        "module version without identity",
        |s| s.td.tee_tcb_svn[1] = 2,
        "No TDX module identity",
    ),
    (
        "module signer",
        |s| s.td.mr_signer_seam[0] = 1,
        "MRSIGNER mismatch",
    ),
    (
        "old CPU",
        |s| s.platform.cpu_svn[0] = 0,
        "No matching TCB level",
    ),
    ("debug TD", |s| s.td.td_attributes[0] |= 1, "Debug"),
    (
        "SEPT_VE_DISABLE off",
        |s| s.td.td_attributes[3] = 0,
        "SEPT_VE_DISABLE",
    ),
    (
        "service TD",
        |s| {
            s.quote.format = QuoteFormat::TdxV5Td15;
            s.td.mr_service_td[0] = 1;
        },
        "service TD",
    ),
    (
        "certification type",
        |s| s.quote.certification_type = 4,
        "PCK cert format",
    ),
    (
        "quote signature",
        |s| s.hooks.signed_quote.push(|q| q.signature[9] ^= 1),
        "report signature is invalid",
    ),
    (
        "QE signature",
        |s| s.hooks.signed_quote.push(|q| q.qe_report_signature[9] ^= 1),
        "invalid for qe_report",
    ),
    (
        "TCB info signature",
        |s| s.hooks.collateral.push(|c| c.tcb_info_signature[9] ^= 1),
        "invalid for tcb_info",
    ),
    (
        "QE identity signature",
        |s| s.hooks.collateral.push(|c| c.qe_identity_signature[9] ^= 1),
        "invalid for qe_identity",
    ),
    (
        "TD report after signing",
        |s| s.hooks.signed_quote.push(|q| q.body[200] ^= 1),
        "report signature is invalid",
    ),
    (
        "TCB info text",
        |s| s.hooks.tcb_info_json.push(|t| t.push(']')),
        "decode TcbInfo",
    ),
    (
        "quote bytes",
        |s| s.hooks.quote_bytes.push(|q| q.truncate(900)),
        "decode quote",
    ),
    ("vendor", |s| s.quote.qe_vendor_id[0] ^= 1, "QE vendor"),
];

/// Changes that a verifier of quotes and TCB has nothing to say against.
pub(crate) const ACCEPTED: &[(&str, Change)] = &[
    ("garbage after the quote", |s| {
        s.quote.trailing = vec![0xee; 9]
    }),
    ("other registers", |s| {
        s.hooks.td_report.push(|td| td.rt_mr[0][0] ^= 1)
    }),
    ("ecdsa", |s| s.signing = fake_tee::Signing::ecdsa()),
    ("more memory", |s| s.vm_config.memory_size <<= 1),
    ("JSON that ends in a blank", |s| {
        s.hooks.tcb_info_json.push(|t| t.push(' '))
    }),
    ("older evaluation", |s| {
        s.tcb_info.tcb_evaluation_data_number = 1
    }),
    ("CRL numbers", |s| s.crls.pck.number = 200),
];
