//! Second quotes: of nobody, of another statement, of another machine.

use fake_tee::QuoteFormat;
use fake_tee::pki::Signer;

use super::{Case, block_of, edit, set, td, transplant};
use crate::support::manager;

pub(super) const CASES: &[Case] = &[
    ("half a quote", "rejected_deployment_quote_format", |s| {
        edit(s, |block| {
            let quote = block["quote"].as_str().unwrap();
            block["quote"] = quote[..quote.len() / 4 * 2].into();
        });
    }),
    ("an empty quote", "rejected_deployment_quote_format", |s| {
        set(s, "quote", "".into());
    }),
    (
        "a byte after the quote",
        "rejected_deployment_quote_format",
        |s| {
            edit(s, |block| {
                block["quote"] = format!("{}01", block["quote"].as_str().unwrap()).into();
            });
        },
    ),
    (
        "64 KiB of padding after the quote",
        "rejected_deployment_quote_format",
        |s| {
            s.hooks
                .manager_signed_quote
                .push(|quote| quote.trailing = vec![0; 64 << 10]);
        },
    ),
    (
        "a quote of an enclave, signed",
        "rejected_deployment_quote_format",
        |s| {
            let enclave = block_of(|other| other.quote.format = QuoteFormat::SgxV4);
            edit(s, move |block| block["quote"] = enclave["quote"].clone());
        },
    ),
    ("a stranger's signature", "rejected_deployment_quote", |s| {
        manager(s).signer = Signer::Stranger;
    }),
    ("a bit of the signature", "rejected_deployment_quote", |s| {
        s.hooks
            .manager_signed_quote
            .push(|quote| quote.signature[5] ^= 1);
    }),
    (
        "a bit of the report data, not signed",
        "rejected_deployment_quote",
        |s| {
            s.hooks
                .manager_signed_quote
                .push(|quote| quote.body[520] ^= 1);
        },
    ),
    (
        "a bit of RTMR3, not signed",
        "rejected_deployment_quote",
        |s| {
            s.hooks
                .manager_signed_quote
                .push(|quote| quote.body[472] ^= 1);
        },
    ),
    ("no certificates", "rejected_deployment_quote", |s| {
        s.hooks
            .manager_signed_quote
            .push(|quote| quote.pck_chain.clear());
    }),
    ("a debug TD, signed", "rejected_deployment_quote", |s| {
        td(s, |td| td.td_attributes[0] |= 1);
    }),
    (
        "the report's own quote",
        "rejected_deployment_report_data",
        |s| {
            s.hooks.report.push(|report| {
                report["compose_manager_attestation"]["quote"] = report["intel_quote"].clone();
            });
        },
    ),
    (
        "nonce and hash swapped, signed",
        "rejected_deployment_report_data",
        |s| {
            td(s, |td| td.report_data.rotate_left(32));
        },
    ),
    (
        "a nonce of zeros in the quote, signed",
        "rejected_deployment_report_data",
        |s| {
            td(s, |td| td.report_data[32..].fill(0));
        },
    ),
    (
        "another platform, signed",
        "rejected_deployment_platform",
        |s| {
            transplant(s, |other| other.platform.ppid = [9; 16]);
        },
    ),
    (
        "an older certificate of the platform, signed",
        "rejected_deployment_levels",
        |s| transplant(s, |other| other.platform.pce_svn -= 1),
    ),
    (
        "an older quoting enclave, signed",
        "rejected_deployment_levels",
        |s| {
            transplant(s, |other| other.qe.isv_svn = 3);
        },
    ),
    ("another MRTD, signed", "rejected_deployment_mrtd", |s| {
        td(s, |td| td.mr_td[47] ^= 1);
    }),
    ("another RTMR0, signed", "rejected_deployment_rtmr", |s| {
        td(s, |td| td.rt_mr[0][0] ^= 1);
    }),
    ("another RTMR1, signed", "rejected_deployment_rtmr", |s| {
        td(s, |td| td.rt_mr[1][0] ^= 1);
    }),
    ("another RTMR2, signed", "rejected_deployment_rtmr", |s| {
        td(s, |td| td.rt_mr[2][0] ^= 1);
    }),
    ("another RTMR3, signed", "rejected_deployment_rtmr", |s| {
        td(s, |td| td.rt_mr[3][47] ^= 1);
    }),
    (
        "another instance, signed",
        "rejected_deployment_rtmr",
        |s| {
            transplant(s, |other| other.app.instance_id = vec![7; 20]);
        },
    ),
    (
        "another MRCONFIGID, signed",
        "rejected_deployment_mr_config_id",
        |s| {
            td(s, |td| td.mr_config_id[1] ^= 1);
        },
    ),
    (
        "another MROWNER, signed",
        "rejected_deployment_td_body",
        |s| {
            td(s, |td| td.mr_owner[0] ^= 1);
        },
    ),
    (
        "another MROWNERCONFIG, signed",
        "rejected_deployment_td_body",
        |s| {
            td(s, |td| td.mr_owner_config[0] ^= 1);
        },
    ),
    (
        "another TDX module, signed",
        "rejected_deployment_td_body",
        |s| {
            td(s, |td| td.mr_seam[0] ^= 1);
        },
    ),
    (
        "other features of the processor, signed",
        "rejected_deployment_td_body",
        |s| {
            td(s, |td| td.xfam[2] ^= 1);
        },
    ),
    (
        "a report of TDX 1.5, signed",
        "rejected_deployment_td_body",
        |s| {
            transplant(s, |other| other.quote.format = QuoteFormat::TdxV5Td15);
        },
    ),
];
